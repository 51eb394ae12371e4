"""What every task offers to the environment: a batch of bottom-up networks that can be trained."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.checks import require_one_of

Seeds = NDArray[np.int64]
ResetOptions = Mapping[str, NDArray[Any]]


class Task(ABC):
    """P bottom-up networks, each living its own life; everything in torch tensors.

    A life is identified by an integer seed, from which the task draws all it needs (data, initial
    weights, starting states). Equal seeds are equal lives, whatever network lives them, and that
    is how candidates are compared on common random numbers.

    Args:
        num_networks: P.
        device: where the tensors live.

    Attributes:
        observation_space: of one network.
        action_space: of one network, Box(−1, 1).
        task_names: the tasks that lives are drawn from; most have one.
        guess_loss: the loss of guessing, given to a network that diverges.
        num_ids: length of the one-hot id by which observations name the task; 0: they do not. Task
            i has the id i mod `num_ids`, so that variants of a task have the same.
        lives_together: whether networks with different lives are best trained in one batch.
        reset_options: names of the options that `start` understands.
    """

    observation_space: Box
    action_space: Box
    task_names: tuple[str, ...]
    guess_loss: float
    lives_together: bool
    num_ids = 0
    reset_options: ClassVar[tuple[str, ...]] = ("task",)

    def __init__(self, num_networks: int, device: torch.device) -> None:
        self.num_networks = num_networks
        self.device = device

    def new_losses(self) -> Tensor:
        """Zeros, one per network."""
        return torch.zeros(self.num_networks, device=self.device)

    @abstractmethod
    def start(self, seeds: Seeds, which: NDArray[np.int64] | None, options: ResetOptions) -> None:
        """Begin new lives.

        Args:
            seeds: one life seed per network that starts.
            which: indices of those networks; None for all.
            options: the options of the environment's `reset`, as `check_options` returns them.
        """

    def check_options(self, options: Mapping[str, Any]) -> ResetOptions:
        """The options of a reset with a row per network; ValueError if they are none of ours."""
        for name in options:
            require_one_of("reset option", name, self.reset_options)
        return {name: self._check_option(name, value) for name, value in options.items()}

    def _check_option(self, name: str, value: Any) -> NDArray[Any]:
        """The option "task", an index for all networks or one for each."""
        index = np.asarray(value)
        count = len(self.task_names)
        right = index.dtype.kind in "iu" and index.shape in ((), (self.num_networks,))
        if not right or index.min() < 0 or index.max() >= count:
            raise ValueError(
                f"reset option task={value!r} must be an index from 0 to {count - 1} "
                f"({', '.join(self.task_names)}), or one for each of {self.num_networks} networks"
            )
        return np.broadcast_to(index, (self.num_networks,))

    @abstractmethod
    def observe(self) -> Tensor:
        """Observations of all networks, `(P, *observation_space.shape)`; valid until updated."""

    @abstractmethod
    def update(self, action: Tensor, credit_scale: float) -> None:
        """One local update of every network by the credits `action · credit_scale`."""

    @abstractmethod
    def loss(self) -> Tensor:
        """How badly each network does now, shape `(P,)`; not finite once it has diverged."""

    @abstractmethod
    def metrics(self) -> dict[str, Tensor]:
        """What `info` reports after every update, each of shape `(P,)`."""

    def guess_metrics(self) -> dict[str, float]:
        """What `info` reports instead about a network that diverged, where it is not finite."""
        return {"loss": self.guess_loss}

    def final_metrics(self) -> dict[str, Tensor]:
        """What `info` reports besides on the last update, each of shape `(P,)`."""
        return {}

    @abstractmethod
    def life_info(self) -> dict[str, NDArray[Any]]:
        """What `info` reports at reset about each network's life, each with P rows."""

    def close(self) -> None:  # noqa: B027
        """Free what the garbage collector would not."""


def unique_lives(*columns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows of these columns and, for each row, which of them it is."""
    rows, inverse = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return rows, inverse.reshape(-1)
