"""Acting in a control problem: the bottom-up network is an agent's policy (TDCA, Fig. 3a)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.checks import require_at_least, require_fraction
from credit_envs.tasks.dynamics import Dynamics, Layers
from credit_envs.tasks.task import ResetOptions, Seeds, Task, unique_lives


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
        weight_decay: share of every parameter that is lost with each update, before the credits
            are added.
        switch_after: updates after which a life goes on with the next task; None: it never does.

    Attributes:
        task_index: of the task that each agent plays now, `(P,)`.

    Raises:
        ValueError: `switch_after` where there is but one task.
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
        weight_decay: float = 0.0,
        switch_after: int | None = None,
    ) -> None:
        require_fraction("weight_decay", weight_decay)
        if switch_after is not None:
            require_at_least("switch_after", switch_after, 1)
            if len(dynamics.task_names) < 2:
                raise ValueError(
                    f"switch_after={switch_after} needs a second task to go on with, and there is "
                    f"only {dynamics.task_names[0]!r}; take the environment with a reversed motor, "
                    "or give several gravities, masses or lengths"
                )
        self.weight_decay = weight_decay
        self.switch_after = switch_after
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

        self.num_ids = dynamics.num_ids
        features = dynamics.state_size + self.num_ids + dynamics.action_size + 2
        self._rows = torch.zeros(horizon, features, num_networks, device=device)
        self._task_columns = slice(dynamics.state_size, dynamics.state_size + self.num_ids)
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
        self._parameters.mul_(1.0 - self.weight_decay).add_(action.T, alpha=credit_scale)
        if self.switch_after is not None:
            switching = self._episode == self.switch_after
            self.task_index[switching] += 1
            self.task_index %= len(self.task_names)
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
        if self.num_ids:
            one_hot = torch.nn.functional.one_hot(tasks % self.num_ids, self.num_ids).T
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
        if self.switch_after is not None:
            measured["task"] = torch.tensor(self.task_index)
        return {"episode_return": self.episode_return.clone(), **measured}

    def guess_metrics(self) -> dict[str, float]:  # noqa: D102
        return {"episode_return": self.worst_return, **self.dynamics.worst_metrics}

    def life_info(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        # A task that changes is among the metrics.
        return {} if self.switch_after is not None else {"task": self.task_index.copy()}

    def close(self) -> None:  # noqa: D102
        self.dynamics.close()
