"""The user's own arrays as a data set."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from credit_envs.datasets.dataset import Dataset


def from_arrays(
    data: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], name: str = "Images"
) -> Dataset:
    """Make a data set of your own arrays. They are copied, and keep their dtype.

    Args:
        data: ``(x_train, y_train, x_test, y_test)``. Images are finite numbers, integer or
            float, of shape (N, features), (N, H, W) or (N, C, H, W); (N, H, W) becomes
            (N, 1, H, W). Labels are integers of shape (N,) in 0..K-1, where each of the K >= 2
            classes occurs in the training split.
        name: how results call the data set.

    Returns:
        The data set, with `num_classes` = K.

    Raises:
        ValueError: if the arrays are not as described; the message names the fix.
    """
    if not isinstance(data, (tuple, list)) or len(data) != 4:
        raise ValueError("data must be four arrays: pass data=(x_train, y_train, x_test, y_test).")
    x_train, x_test = _images(data[0], "x_train"), _images(data[2], "x_test")
    y_train = _labels(data[1], "y_train", len(x_train))
    y_test = _labels(data[3], "y_test", len(x_test))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"An image of x_train has shape {x_train.shape[1:]}, one of x_test {x_test.shape[1:]}: "
            "reshape or resize them to the same shape."
        )
    num_classes = _num_classes(y_train, y_test)
    source = "arrays given by the user"
    dataset = Dataset(name, x_train, y_train, x_test, y_test, num_classes, source)
    with np.errstate(over="ignore", invalid="ignore"):
        if not all(np.isfinite(moment).all() for moment in dataset.moments):
            raise ValueError(
                "x_train holds numbers so large that their mean or standard deviation is not "
                "finite: rescale x_train and x_test, for example to thousandths."
            )
    return dataset


def _images(values: ArrayLike, name: str) -> NDArray[Any]:
    x = np.asarray(values)
    # Longer floats than float64 are not for PyTorch.
    if x.dtype.kind not in "iuf" or x.dtype.itemsize > 8:
        raise ValueError(
            f"{name} has dtype {x.dtype}: convert it to integers or floats, "
            f"for example {name}.astype(np.float32)."
        )
    if x.ndim not in (2, 3, 4):
        raise ValueError(
            f"{name} has shape {x.shape}: reshape it to (N, features), (N, H, W) or (N, C, H, W)."
        )
    if x.size == 0:
        raise ValueError(f"{name} has shape {x.shape}, so it is empty: pass at least one image.")
    if not np.isfinite(x).all():
        raise ValueError(
            f"{name} holds NaN or infinite values: remove or replace them, "
            f"for example with np.nan_to_num({name})."
        )
    if x.ndim == 3:
        x = x[:, np.newaxis]
    # Native byte order and C order, because torch accepts no other byte order or negative strides.
    return np.array(x, dtype=x.dtype.newbyteorder("="), order="C", copy=True)


def _labels(values: ArrayLike, name: str, num_images: int) -> NDArray[np.int64]:
    y = np.asarray(values)
    if y.ndim != 1:
        raise ValueError(
            f"{name} has shape {y.shape} instead of (N,): pass class numbers, "
            f"for one-hot labels {name}.argmax(axis=1)."
        )
    if len(y) != num_images:
        raise ValueError(
            f"{name} has {len(y)} labels for {num_images} images: pass one label per image."
        )
    if y.dtype.kind not in "iu":
        raise ValueError(
            f"{name} has dtype {y.dtype}: convert it to integers, for example "
            f"with np.unique({name}, return_inverse=True)[1]."
        )
    return y.astype(np.int64)


def _num_classes(y_train: NDArray[np.int64], y_test: NDArray[np.int64]) -> int:
    classes = np.unique(y_train)
    if len(classes) < 2:
        raise ValueError("y_train holds one class only: pass images of at least two classes.")
    if not np.array_equal(classes, np.arange(len(classes))):
        raise ValueError(
            f"y_train holds {len(classes)} classes from {classes[0]} to {classes[-1]}: number them "
            "0..K-1 without gaps, for example with np.unique(y_train, return_inverse=True)[1]."
        )
    strangers = np.setdiff1d(y_test, classes)
    if len(strangers):
        raise ValueError(
            f"y_test holds the class {strangers[0]}, which y_train does not: number both splits "
            "alike and remove test images of other classes."
        )
    return len(classes)
