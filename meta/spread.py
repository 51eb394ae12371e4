"""Spread over seeds, lives or subsets: one definition for every table and figure."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def sample_std(values: ArrayLike, axis: int | None = None) -> NDArray[Any]:
    """Standard deviation of a sample, the root of Σ(x − x̄)²/(n − 1); of a single value 0.

    Args:
        values: numbers.
        axis: over which; None: over all.
    """
    array = np.asarray(values, dtype=np.float64)
    count = array.size if axis is None else array.shape[axis]
    return np.asarray(array.std(axis, ddof=min(1, count - 1)))
