"""What Keras and we learn from: images and weights in the layout of Keras.

Knows NumPy alone, so that TensorFlow's environment needs no more than TensorFlow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Precision = Literal["float32", "float64"]
EPSILON = 0.02


@dataclass
class Problem:
    """A batch of trials, and where a network starts.

    Images are turned by 180° and so are filters: then `padding="same"`, which at stride 2 pads
    below and right, does what ours does above and left.

    Attributes:
        images: `(B, H, W, C)`, uint8.
        rewards: of whatever answers, `(B,)`.
        actions: answers that the check forces, `(B,)`.
        weights: per layer; filters `(H, W, C, filters)`, dense `(inputs, outputs)`.
        dropout: fraction of silent units of each hidden layer.
        rate: learning rate of the mean over the batch.
    """

    images: NDArray[np.uint8]
    rewards: NDArray[np.float32]
    actions: NDArray[np.int64]
    weights: list[NDArray[Any]]
    dropout: tuple[float, ...]
    rate: float

    def save(self, file: Path) -> None:
        """Write it all as .npz."""
        save(
            file,
            self.weights,
            images=self.images,
            rewards=self.rewards,
            actions=self.actions,
            dropout=np.array(self.dropout),
            rate=np.array(self.rate),
        )

    @classmethod
    def load(cls, file: Path) -> Self:
        """What `save` wrote."""
        with np.load(file) as arrays:
            return cls(
                images=arrays["images"],
                rewards=arrays["rewards"],
                actions=arrays["actions"],
                weights=in_order(arrays),
                dropout=tuple(arrays["dropout"].tolist()),
                rate=float(arrays["rate"]),
            )


def save(file: Path, weights: Sequence[NDArray[Any]], **others: NDArray[Any]) -> None:
    """Write weights, from the first layer on, and others as .npz, for `in_order`."""
    arrays: dict[str, Any] = {f"weight_{i}": weight for i, weight in enumerate(weights)} | others
    np.savez(file, **arrays)


def in_order(arrays: Any) -> list[NDArray[Any]]:
    """The weights that `save` wrote, from the open .npz file."""
    count = sum(name.startswith("weight_") for name in arrays.files)
    return [arrays[f"weight_{i}"] for i in range(count)]
