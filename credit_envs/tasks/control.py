"""Acting in a control problem: the bottom-up network is an agent's policy (TDCA, Fig. 3a)."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.tasks.task import Seeds, Task, unique_lives

_STEPS_BETWEEN_CHECKS = 10


class Dynamics(ABC):
    """A control problem played by P agents at once; tensors are `(features, P)`.

    Attributes:
        state_size: numbers the agent sees.
        num_outputs: outputs of the agent's network.
        action_size: numbers that describe an action in the observation's rows.
        task_names: variants of the problem.
        worst_return: the return of an agent whose parameters are no longer finite.
    """

    state_size: int
    num_outputs: int
    action_size: int
    task_names: tuple[str, ...]
    worst_return: float

    @abstractmethod
    def draw_start(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """The state in which one episode starts."""

    @abstractmethod
    def begin(self, start: Tensor, task_index: Tensor) -> None:
        """Put every agent at its start, `(state, P)`, in its variant of the problem, `(P,)`."""

    @abstractmethod
    def see(self) -> Tensor:
        """What the agents see, scaled to about [−1, 1], float32 `(state_size, P)`."""

    @abstractmethod
    def act(self, outputs: Tensor) -> Tensor:
        """Actions for the agents' outputs `(num_outputs, P)`, float32 `(action_size, P)`."""

    @abstractmethod
    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Play the actions; float32 rewards and boolean terminations, `(P,)` each."""


class ControlTask(Task):
    """P agents that play whole episodes; a credit moves an agent's parameters.

    Args:
        dynamics: the control problem.
        horizon: most steps in an episode, T.
        hidden_sizes: tanh hidden layers of the agent; none makes it linear.
        init_stdev: standard deviation of the initial parameters.
        num_networks: P.
        device: where the tensors live.
    """

    lives_together = True

    def __init__(
        self,
        dynamics: Dynamics,
        horizon: int,
        hidden_sizes: Sequence[int],
        init_stdev: float,
        num_networks: int,
        device: torch.device,
    ) -> None:
        self.dynamics = dynamics
        self.horizon = horizon
        super().__init__(num_networks, device)
        self.task_names = dynamics.task_names
        self.guess_loss = -dynamics.worst_return
        self.init_stdev = init_stdev
        sizes = (dynamics.state_size, *hidden_sizes, dynamics.num_outputs)
        self._shapes = [(outputs, inputs + 1) for inputs, outputs in pairwise(sizes)]
        self.num_parameters = sum(rows * columns for rows, columns in self._shapes)
        self._parameters = torch.zeros(self.num_parameters, num_networks, device=device)

        features = dynamics.state_size + dynamics.action_size + 2
        self._rows = torch.zeros(horizon, features, num_networks, device=device)
        self.episode_return = torch.zeros(num_networks, device=device)
        self.episode_length = torch.zeros(num_networks, device=device)
        self.task_index = np.zeros(num_networks, dtype=np.int64)
        self._seeds = np.zeros(num_networks, dtype=np.int64)
        self._episode = np.zeros(num_networks, dtype=np.int64)
        self.observation_space = Box(-np.inf, np.inf, (horizon, features), np.float32)
        self.action_space = Box(-1.0, 1.0, (self.num_parameters,), np.float32)

    @property
    def parameters(self) -> Tensor:
        """The agents' parameters, `(P, num_parameters)`: per layer the rows `[weights, bias]`."""
        return self._parameters.T

    def start(  # noqa: D102
        self, seeds: Seeds, which: NDArray[np.int64] | None, options: Mapping[str, Any]
    ) -> None:
        chosen = np.arange(self.num_networks) if which is None else which
        self._seeds[chosen] = seeds
        self._episode[chosen] = 0
        lives, life = unique_lives(seeds)
        drawn = [self._draw_life(int(seed)) for (seed,) in lives]
        parameters = np.stack([values for values, _ in drawn])[life]
        self._parameters[:, chosen] = torch.as_tensor(
            parameters.T, dtype=torch.float32, device=self.device
        )
        self.task_index[chosen] = options.get("task", np.array([task for _, task in drawn])[life])
        self._play(chosen)

    def _draw_life(self, seed: int) -> tuple[NDArray[np.float64], int]:
        rng = np.random.default_rng(seed)
        parameters = self.init_stdev * rng.standard_normal(self.num_parameters)
        return parameters, int(rng.integers(len(self.task_names)))

    def observe(self) -> Tensor:  # noqa: D102
        return self._rows.permute(2, 0, 1)

    def update(self, action: Tensor, credit_scale: float) -> None:  # noqa: D102
        self._parameters.add_(action.T, alpha=credit_scale)
        self._episode += 1
        self._play(None)

    def _play(self, which: NDArray[np.int64] | None) -> None:
        """One episode of every agent; those not in `which` keep the record of their last one."""
        kept = None if which is None or len(which) == self.num_networks else self._record()
        starts = self._draw_starts()
        self.dynamics.begin(starts, torch.as_tensor(self.task_index, device=self.device))
        self._run_episode()
        if kept is not None:
            others = np.setdiff1d(np.arange(self.num_networks), which)
            for tensor, old in zip(self._record(copy=False), kept, strict=True):
                tensor[..., others] = old[..., others]

    def _record(self, copy: bool = True) -> list[Tensor]:
        tensors = [self._rows, self.episode_return, self.episode_length]
        return [tensor.clone() for tensor in tensors] if copy else tensors

    def _draw_starts(self) -> Tensor:
        """Where this episode of each life starts, `(state, P)`; a function of life and episode."""
        rows, row = unique_lives(self._seeds, self._episode)
        starts = [
            self.dynamics.draw_start(np.random.default_rng([1, seed, episode]))
            for seed, episode in rows.tolist()
        ]
        return torch.as_tensor(np.stack(starts)[row].T.copy(), device=self.device)

    def _run_episode(self) -> None:
        dynamics, rows = self.dynamics, self._rows
        seen, acted = dynamics.state_size, dynamics.state_size + dynamics.action_size
        alive = torch.ones_like(self.episode_return)
        self.episode_return.zero_()
        rows.zero_()
        for t in range(self.horizon):
            row = rows[t]
            state = dynamics.see()
            action = dynamics.act(self._outputs(state))
            reward, terminated = dynamics.step(action)
            torch.mul(state, alive, out=row[:seen])
            torch.mul(action, alive, out=row[seen:acted])
            torch.mul(reward, alive, out=row[-2])
            row[-1] = alive
            self.episode_return += row[-2]
            alive.masked_fill_(terminated, 0.0)
            if t % _STEPS_BETWEEN_CHECKS == 0 and not alive.any():
                break
        self.episode_length = rows[:, -1].sum(0)

    def _outputs(self, state: Tensor) -> Tensor:
        """The agents' outputs, `(num_outputs, P)`: every agent its own perceptron."""
        hidden, first = state, 0
        for layer, (outputs, inputs) in enumerate(self._shapes):
            weight = self._parameters[first : first + outputs * inputs].view(outputs, inputs, -1)
            first += outputs * inputs
            if layer:
                hidden = hidden.tanh()
            hidden = (weight[:, :-1] * hidden).sum(1).add_(weight[:, -1])
        return hidden

    def loss(self) -> Tensor:  # noqa: D102
        return torch.where(self._parameters.isfinite().all(0), -self.episode_return, torch.nan)

    def metrics(self) -> dict[str, Tensor]:  # noqa: D102
        return {"episode_return": self.episode_return.clone()}

    def life_info(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        return {"task": self.task_index.copy()}
