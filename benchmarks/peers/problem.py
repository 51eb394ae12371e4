"""What all contenders evolve in: one life on given images, known by NumPy arrays alone.

Knows neither credit_envs nor PyTorch, so that a peer's environment needs no more than the peer.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SIZES = (784, 100, 10)
"""Units per layer of the bottom-up network."""
TOP_DOWN_SIZES = (20, 30, 30, 110)
"""Units per layer of the top-down network."""
LEARNING_RATE = 0.01
MAX_GRAD_NORM = 1.0
MAX_CREDIT = 10.0
"""Credits are clipped to ±10: an action within ±1 times the environment's `credit_scale`."""

SEED = 0
STDEV_INIT = 0.1
STDEV_LEARNING_RATE = 0.1
STDEV_MAX_CHANGE = 0.2
CENTER_LEARNING_RATE = 0.05


@dataclass
class Problem:
    """One life, the candidates to check, and how many to evolve.

    Attributes:
        x: standardised images, `(n, 784)`, float64.
        labels: their classes, `(n,)`.
        betas: parameters of a few top-down networks, `(c, d)`, float64: per layer the weights row
            by row, then the biases.
        num_updates: updates in the life.
        population_size: candidates per generation.
    """

    x: NDArray[np.float64]
    labels: NDArray[np.int64]
    betas: NDArray[np.float64]
    num_updates: int
    population_size: int

    @property
    def one_hot(self) -> NDArray[np.float64]:
        """Labels as `(n, 10)`."""
        return np.eye(SIZES[-1])[self.labels]

    def save(self, file: Path) -> None:
        """Write it all as .npz."""
        np.savez(file, **asdict(self))

    @classmethod
    def load(cls, file: Path) -> Self:
        """What `save` wrote."""
        with np.load(file) as arrays:
            scalars = {name: int(arrays[name]) for name in ("num_updates", "population_size")}
            return cls(x=arrays["x"], labels=arrays["labels"], betas=arrays["betas"], **scalars)


def random_betas(count: int) -> NDArray[np.float64]:
    """Parameters of random top-down networks, `(count, d)`."""
    return 0.3 * np.random.default_rng(SEED).standard_normal((count, num_parameters()))


def num_parameters() -> int:
    """d, of the top-down network."""
    return sum(above * (below + 1) for below, above in pairwise(TOP_DOWN_SIZES))


def unpack(beta: Any) -> list[tuple[Any, Any]]:
    """Per layer of the top-down network its weights `(outputs, inputs)` and biases `(outputs, 1)`.

    Args:
        beta: `(d,)`, an array or tensor of whichever library.
    """
    layers, start = [], 0
    for inputs, outputs in pairwise(TOP_DOWN_SIZES):
        stop = start + outputs * inputs
        weight = beta[start:stop].reshape(outputs, inputs)
        layers.append((weight, beta[stop : stop + outputs].reshape(outputs, 1)))
        start = stop + outputs
    return layers
