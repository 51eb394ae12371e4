"""Control problems that agents play, whole episodes at a time."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_STEPS_BETWEEN_CHECKS = 10

Layers = Sequence[tuple[Tensor, Tensor]]
"""Weights `(outputs, inputs, P)` and biases `(outputs, P)` of P networks, layer by layer."""


class Dynamics(ABC):
    """A control problem that P agents play, whole episodes at a time.

    Attributes:
        state_size: numbers the agent sees.
        num_outputs: outputs of the agent's network.
        action_size: numbers that describe an action in the observation's rows.
        task_names: of the tasks, which are variants of the problem.
        num_ids: length of the one-hot id of the task in the rows, as in `Task`.
        worst_metrics: what `play` measures, each with its value for an agent that diverged.
    """

    state_size: int
    num_outputs: int
    action_size: int
    task_names: tuple[str, ...]
    num_ids = 0
    worst_metrics: Mapping[str, float] = MappingProxyType({})

    @abstractmethod
    def worst_return(self, horizon: int) -> float:
        """The return given to an agent whose parameters are no longer finite."""

    @abstractmethod
    def episode_start(self, seed: int, episode: int) -> NDArray[np.float64]:
        """Some numbers that define where this episode of this life starts."""

    @abstractmethod
    def play(
        self,
        layers: Layers,
        starts: Tensor,
        tasks: Tensor,
        which: NDArray[np.int64],
        rows: Tensor,
        reward_scale: float,
    ) -> dict[str, Tensor]:
        """One episode of some of the agents.

        Args:
            layers: of the agents' networks.
            starts: from `episode_start`, `(numbers, P)`.
            tasks: variant of the problem, `(P,)`.
            which: indices of those that play.
            rows: `(T, features, P)`; for those that play, the first columns get the state, the last
                ones action, reward and a mask of the steps there were. After them all is 0.
            reward_scale: factor on the rewards in the rows.

        Returns:
            What there is to say about these episodes, `(len(which),)` each.
        """

    def close(self) -> None:  # noqa: B027
        """Free what outlives an episode."""


class BatchedDynamics(Dynamics):
    """Dynamics of all agents at once; tensors are `(features, P)`.

    Agents whose episode is over are stepped on with the others, and nothing of it is recorded; but
    their states must stay finite.

    Attributes:
        state_scale: factors on Gymnasium's observation that bring it to about [−1, 1].
        gymnasium_id: of Gymnasium's own environment with these dynamics.
        state: of the dynamics, float64 `(state, P)`, as Gymnasium's environment holds it.
    """

    state_scale: tuple[float, ...]
    gymnasium_id: str
    state: Tensor

    @abstractmethod
    def draw_start(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """The state in which one episode starts."""

    def episode_start(self, seed: int, episode: int) -> NDArray[np.float64]:  # noqa: D102
        return self.draw_start(np.random.default_rng([1, seed, episode]))

    @abstractmethod
    def begin(self, start: Tensor, task_index: Tensor) -> None:
        """Put every agent at its start, `(state, P)`, in its task, `(P,)`."""

    @abstractmethod
    def see(self, out: Tensor) -> None:
        """Write what the agents see, scaled by `state_scale`, to float32 `(state_size, P)`."""

    @abstractmethod
    def act(self, outputs: Tensor, out: Tensor) -> None:
        """Write the actions for outputs `(num_outputs, P)` to float32 `(action_size, P)`."""

    @abstractmethod
    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Play the actions; rewards and boolean terminations, `(P,)` each."""

    def play(  # noqa: D102
        self,
        layers: Layers,
        starts: Tensor,
        tasks: Tensor,
        which: NDArray[np.int64],
        rows: Tensor,
        reward_scale: float,
    ) -> dict[str, Tensor]:
        others = np.setdiff1d(np.arange(rows.shape[2]), which)
        kept = rows[..., others]
        self.begin(starts, tasks)
        alive = torch.ones_like(rows[0, 0])
        rows[:, -1] = 1.0
        for t, row in enumerate(rows.unbind()):
            if t % _STEPS_BETWEEN_CHECKS == 0 and not alive.any():
                rows[t:] = 0.0
                break
            state, action = row[: self.state_size], row[-2 - self.action_size : -2]
            self.see(state)
            self.act(perceptron(layers, state), action)
            reward, terminated = self.step(action)
            torch.mul(reward, reward_scale, out=row[-2])
            row *= alive
            alive.masked_fill_(terminated, 0.0)
        rows[..., others] = kept
        return {}

    @abstractmethod
    def gymnasium_attributes(self, task: int) -> dict[str, float]:
        """What to set in Gymnasium's environment, unwrapped, to make it this task."""

    @abstractmethod
    def gymnasium_action(self, action: NDArray[np.float32], task: int) -> Any:
        """What to do in Gymnasium's environment for the action `(action_size,)` of an agent."""


def perceptron(layers: Layers, state: Tensor) -> Tensor:
    """Outputs `(num_outputs, P)` of every agent's own network for its own state."""
    *hidden_layers, (last_weight, last_bias) = layers
    for weight, bias in hidden_layers:
        state = (weight * state).sum(1).add_(bias).tanh_()
    return (last_weight * state).sum(1).add_(last_bias)
