"""Spread is that of a sample."""

from statistics import stdev

import numpy as np
import pytest

from meta.spread import sample_std


def test_it_is_the_standard_librarys():
    values = np.random.default_rng(0).normal(size=(4, 3))
    columns = [stdev(column) for column in values.T]
    np.testing.assert_allclose(sample_std(values, 0), columns)
    assert sample_std(values) == pytest.approx(stdev(values.ravel()))
    assert sample_std([2.5]) == 0.0
    np.testing.assert_array_equal(sample_std(values[:1], 0), np.zeros(3))
