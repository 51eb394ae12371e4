"""Acting in a control problem: the bottom-up network is an agent's policy (TDCA, Fig. 3a)."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.tasks.task import ResetOptions, Seeds, Task, unique_lives

_STEPS_BETWEEN_CHECKS = 10

Layers = Sequence[tuple[Tensor, Tensor]]
"""Weights `(outputs, inputs, P)` and biases `(outputs, P)` of P networks, layer by layer."""


class Dynamics(ABC):
    """A control problem that P agents play, whole episodes at a time.

    Attributes:
        state_size: numbers the agent sees.
        num_outputs: outputs of the agent's network.
        action_size: numbers that describe an action in the observation's rows.
        task_names: variants of the problem.
        names_task: whether rows hold the one-hot id of the variant.
        worst_metrics: what `play` measures, each with its value for an agent that diverged.
    """

    state_size: int
    num_outputs: int
    action_size: int
    task_names: tuple[str, ...]
    names_task = False
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
        """Put every agent at its start, `(state, P)`, in its variant of the problem, `(P,)`."""

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

    def gymnasium_kwargs(self, task: int) -> dict[str, Any]:
        """Arguments of Gymnasium's environment for this task."""
        return {}

    @abstractmethod
    def gymnasium_action(self, action: NDArray[np.float32], task: int) -> Any:
        """What to do in Gymnasium's environment for the action `(action_size,)` of an agent."""


class ControlTask(Task):
    """P agents that play whole episodes; a credit moves an agent's parameters.

    Args:
        dynamics: the control problem.
        horizon: most steps in an episode, T.
        hidden_sizes: tanh hidden layers of the agent; none makes it linear.
        init_stdev: standard deviation of the initial parameters.
        num_networks: P.
        device: where the tensors live.
        reward_scale: factor on the rewards, in the record and in the loss.
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
        reward_scale: float = 1.0,
    ) -> None:
        self.dynamics = dynamics
        self.horizon = horizon
        super().__init__(num_networks, device)
        self.task_names = dynamics.task_names
        self.reward_scale = reward_scale
        self.worst_return = dynamics.worst_return(horizon)
        self.guess_loss = -reward_scale * self.worst_return
        self.init_stdev = init_stdev
        sizes = (dynamics.state_size, *hidden_sizes, dynamics.num_outputs)
        self._shapes = [(outputs, inputs + 1) for inputs, outputs in pairwise(sizes)]
        self.num_parameters = sum(rows * columns for rows, columns in self._shapes)
        self._parameters = torch.zeros(self.num_parameters, num_networks, device=device)

        self.names_task = dynamics.names_task
        num_ids = len(self.task_names) if self.names_task else 0
        features = dynamics.state_size + num_ids + dynamics.action_size + 2
        self._rows = torch.zeros(horizon, features, num_networks, device=device)
        self._task_columns = slice(dynamics.state_size, dynamics.state_size + num_ids)
        self.episode_return = torch.zeros(num_networks, device=device)
        self._measured = {name: self.new_losses() for name in dynamics.worst_metrics}
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
        self, seeds: Seeds, which: NDArray[np.int64] | None, options: ResetOptions
    ) -> None:
        chosen = np.arange(self.num_networks) if which is None else which
        self._seeds[chosen] = seeds
        self._episode[chosen] = 0
        lives, life = unique_lives(seeds)
        drawn = [self._draw_life(seed) for (seed,) in lives.tolist()]
        parameters = np.stack([values for values, _ in drawn])[life]
        self._parameters[:, chosen] = torch.as_tensor(
            parameters.T, dtype=torch.float32, device=self.device
        )
        tasks = np.array([task for _, task in drawn])[life]
        self.task_index[chosen] = options["task"][chosen] if "task" in options else tasks
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
        self._play(np.arange(self.num_networks))

    def _play(self, which: NDArray[np.int64]) -> None:
        """One episode of these agents; the others keep the record of their last one."""
        tasks = torch.as_tensor(self.task_index, device=self.device)
        measured = self.dynamics.play(
            self.layers(), self.episode_starts(), tasks, which, self._rows, self.reward_scale
        )
        for name, values in measured.items():
            self._measured[name][which] = values.to(self.device)
        if self.names_task:
            one_hot = torch.nn.functional.one_hot(tasks, len(self.task_names)).T
            self._rows[:, self._task_columns] = one_hot * self._rows[:, -1:]
        self.episode_return = self._rows[:, -2].sum(0) / self.reward_scale

    def episode_starts(self) -> Tensor:
        """Where this episode of each life starts, `(numbers, P)`, by life and episode alone."""
        rows, row = unique_lives(self._seeds, self._episode)
        starts = [self.dynamics.episode_start(seed, episode) for seed, episode in rows.tolist()]
        return torch.as_tensor(np.stack(starts)[row].T.copy(), device=self.device)

    def layers(self) -> Layers:
        """Of the agents' networks."""
        lengths = [outputs * inputs for outputs, inputs in self._shapes]
        parts = zip(torch.split(self._parameters, lengths), self._shapes, strict=True)
        layers = [part.view(*shape, self.num_networks) for part, shape in parts]
        return [(layer[:, :-1], layer[:, -1]) for layer in layers]

    def loss(self) -> Tensor:  # noqa: D102
        scaled = -self.reward_scale * self.episode_return
        return torch.where(self._parameters.isfinite().all(0), scaled, torch.nan)

    def metrics(self) -> dict[str, Tensor]:  # noqa: D102
        measured = {name: values.clone() for name, values in self._measured.items()}
        return {"episode_return": self.episode_return.clone(), **measured}

    def guess_metrics(self) -> dict[str, float]:  # noqa: D102
        return {"episode_return": self.worst_return, **self.dynamics.worst_metrics}

    def life_info(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        return {"task": self.task_index.copy()}

    def close(self) -> None:  # noqa: D102
        self.dynamics.close()


def perceptron(layers: Layers, state: Tensor) -> Tensor:
    """Outputs `(num_outputs, P)` of every agent's own network for its own state."""
    *hidden_layers, (last_weight, last_bias) = layers
    for weight, bias in hidden_layers:
        state = (weight * state).sum(1).add_(bias).tanh_()
    return (last_weight * state).sum(1).add_(last_bias)
