"""What a data set is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from credit_envs.datasets.catalogue import PARTIAL_NAMES


# No generated __eq__: comparing arrays with == has no single truth value.
@dataclass(frozen=True, eq=False)
class Dataset:
    """Images (or feature vectors) with their labels, in a training and a test split.

    The four arrays become read-only, because every environment of a process shares them.

    Attributes:
        name: what was really used: ``"Digits"``, ``"MNIST"``, ``"FashionMNIST"``, ``"CIFAR10"``,
            ``"CIFAR100"``, ``"MNIST-subset-5000"`` (400 + 100 images per class),
            ``"CIFAR10-test-1000"`` (all training images, the first 1,000 test images), or the name
            given to `from_arrays`; with what `only` has left of it.
        x_train: training images. uint8 of shape (N, C, H, W) for the built-in sets, with values
            in 0..255 (Digits: 0..16); the user's own arrays may also be (N, features).
        y_train: training labels, int64 of shape (N,), in 0..num_classes - 1.
        x_test: test images, like `x_train`.
        y_test: test labels, like `y_train`.
        num_classes: number of classes.
        source: where the data were read from.
    """

    name: str
    x_train: NDArray[Any]
    y_train: NDArray[np.int64]
    x_test: NDArray[Any]
    y_test: NDArray[np.int64]
    num_classes: int
    source: str

    def __post_init__(self) -> None:
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            array.setflags(write=False)

    @property
    def is_complete(self) -> bool:
        """False where only a part of the published data set was at hand."""
        return not any(self.name.startswith(name) for name in PARTIAL_NAMES)

    def only(self, classes: Sequence[int]) -> "Dataset":
        """The images of some classes alone.

        Args:
            classes: at least two, each once; the first becomes class 0, and so on, so that all
                classes in another order are a permutation of the labels.

        Raises:
            ValueError: fewer classes, one twice, one that there is not, or no test image of any.
        """
        numbers = list(classes) if isinstance(classes, list | tuple) else []
        known = all(type(number) is int and 0 <= number < self.num_classes for number in numbers)
        if not known or len(set(numbers)) < max(2, len(numbers)):
            raise ValueError(
                f"classes={classes!r} must be two or more different classes of {self.name}, "
                f"which has 0 to {self.num_classes - 1}, such as (0, 1)"
            )
        new = np.full(self.num_classes, -1)
        new[numbers] = range(len(numbers))
        split = {}
        for part in ("train", "test"):
            labels = new[getattr(self, f"y_{part}")]
            kept = np.flatnonzero(labels >= 0)
            if not len(kept):
                raise ValueError(
                    f"classes={classes!r} leave none of the {part} images of {self.name}; choose "
                    "classes that both splits have"
                )
            split[f"x_{part}"] = getattr(self, f"x_{part}")[kept]
            split[f"y_{part}"] = labels[kept]
        name = f"{self.name}, classes {' '.join(map(str, numbers))}"
        return replace(self, name=name, num_classes=len(numbers), **split)

    @cached_property
    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of the training split, to broadcast over a sample.

        Per channel of images, per feature of a table. A feature that never varies has the
        standard deviation 1, so that standardising makes it 0.
        """
        x = self.x_train
        per_channel = x.ndim == 4
        if x.dtype == np.uint8 and per_channel:
            mean, std = _moments_of_bytes(x)
        else:
            axes = (0, 2, 3) if per_channel else (0,)
            mean, std = x.mean(axes, dtype=np.float64), x.std(axes, dtype=np.float64)
            # The deviation of equal floats is of the size of their rounding, not 0.
            std[x.min(axes) == x.max(axes)] = 0.0
        std = np.where(std == 0, 1.0, std)
        shape = (-1, 1, 1) if per_channel else (-1,)
        return mean.reshape(shape), std.reshape(shape)


def _moments_of_bytes(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per channel, from histograms: exact, and without a copy of the images in float64."""
    channels = [images[:, c].reshape(-1) for c in range(images.shape[1])]
    counts = np.stack([np.bincount(channel, minlength=256) for channel in channels])
    values, total = np.arange(256), counts.sum(1)
    mean = counts @ values / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / total
    return mean, np.sqrt(variance)
