"""Playing Gymnasium's own environments, which hold one agent each and step one at a time."""

from abc import abstractmethod
from typing import Any, NamedTuple, Protocol, SupportsFloat, cast

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.checks import require_at_least
from credit_envs.local_workers import LocalWorkerPool
from credit_envs.tasks.dynamics import Dynamics, Layers

# Few, for each takes its time to hand out, but enough that no worker waits long for the others.
_SHARES_PER_WORKER = 4

Network = list[tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Weights `(outputs, inputs)` and biases `(outputs,)` of one agent, layer by layer."""


class Environment(Protocol):
    """What is needed of an environment, Gymnasium's or like it."""

    def step(
        self, action: NDArray[np.float32], /
    ) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Play an action: observation, reward, terminated, truncated, info."""


class SteppedDynamics(Dynamics):
    """A Gymnasium environment that agents play one after the other, each a whole episode.

    A step of such an environment takes much longer than an agent's network, so nothing is gained
    by evaluating networks together, and a whole episode is what a worker process is asked for.
    What an episode is like follows from its start and its agent alone, whoever plays it and
    whatever was played before: so the number of workers changes no result.

    Metrics are entries of the environment's `info`: an episode's is the largest of its steps'.

    Args:
        num_workers: processes that play; 0: none but this.
    """

    def __init__(self, num_workers: int) -> None:
        require_at_least("num_workers", num_workers, 0)
        self.num_workers = num_workers
        self._pool: LocalWorkerPool[SteppedDynamics, list[Order], list[Episode]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes play by themselves."""
        return {**vars(self), "_pool": None}

    @abstractmethod
    def begin(self, start: NDArray[np.float64], task: int) -> tuple[Environment, NDArray[Any]]:
        """An environment at this start of a variant, and its first observation."""

    @abstractmethod
    def see(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """What the agent sees of an observation, `(state_size,)`."""

    def play(  # noqa: D102
        self,
        layers: Layers,
        starts: Tensor,
        tasks: Tensor,
        which: NDArray[np.int64],
        rows: Tensor,
        reward_scale: float,
    ) -> dict[str, Tensor]:
        networks = [(weight.cpu().numpy(), bias.cpu().numpy()) for weight, bias in layers]
        starts_of, task_of = starts.cpu().numpy(), tasks.tolist()
        # Equal agents play once: before their first update, those of all candidates in a life are.
        orders: dict[bytes, Order] = {}
        whose = []
        for i in which.tolist():
            network = [(weight[..., i].copy(), bias[..., i].copy()) for weight, bias in networks]
            order = Order(network, starts_of[:, i], task_of[i], len(rows))
            whose.append(order.key())
            orders.setdefault(whose[-1], order)
        played = dict(zip(orders, self._play_all(list(orders.values())), strict=True))
        episodes = [played[key] for key in whose]
        rows[..., which] = 0.0
        for i, episode in zip(which.tolist(), episodes, strict=True):
            length = len(episode.rewards)
            own = rows[:length, :, i]
            own[:, : self.state_size] = torch.from_numpy(episode.states)
            own[:, -2 - self.action_size : -2] = torch.from_numpy(episode.actions)
            own[:, -2] = torch.from_numpy(reward_scale * episode.rewards)
            own[:, -1] = 1.0
        return {
            name: torch.tensor([episode.metrics[name] for episode in episodes])
            for name in self.worst_metrics
        }

    def _play_all(self, orders: list["Order"]) -> list["Episode"]:
        if self.num_workers == 0 or len(orders) == 1:
            return play_episodes(self, orders)
        if self._pool is None:
            self._pool = LocalWorkerPool(play_episodes, self.num_workers)
        count = _SHARES_PER_WORKER * self.num_workers
        shares = [orders[i::count] for i in range(min(count, len(orders)))]
        episodes: list[Episode | None] = [None] * len(orders)
        for i, played in enumerate(self._pool.map(self, shares, gymnasium.logger.warn)):
            episodes[i::count] = played
        return cast(list[Episode], episodes)

    def close(self) -> None:  # noqa: D102
        if self._pool is not None:
            self._pool.close()
            self._pool = None


class Order(NamedTuple):
    """One episode to be played."""

    network: Network
    start: NDArray[np.float64]
    task: int
    horizon: int

    def key(self) -> bytes:
        """The same for equal agents that play the same."""
        parts = [part.tobytes() for layer in self.network for part in layer]
        return b"".join([*parts, self.start.tobytes(), str(self.task).encode()])


class Episode(NamedTuple):
    """One episode of n steps."""

    states: NDArray[np.float32]
    """That the agent saw, `(n, state_size)`."""
    actions: NDArray[np.float32]
    """`(n, action_size)`."""
    rewards: NDArray[np.float64]
    """`(n,)`; the last one is NaN if the agent's outputs were no longer finite."""
    metrics: dict[str, float]


def play_episodes(dynamics: SteppedDynamics, orders: list[Order]) -> list[Episode]:
    """These episodes, one after the other."""
    return [play_episode(dynamics, order) for order in orders]


def play_episode(dynamics: SteppedDynamics, order: Order) -> Episode:
    """Let an agent act until its episode ends, or the horizon comes."""
    env, observation = dynamics.begin(order.start, order.task)
    states = np.empty((order.horizon, dynamics.state_size), dtype=np.float32)
    actions = np.empty((order.horizon, dynamics.action_size), dtype=np.float32)
    rewards = np.empty(order.horizon)
    metrics = dict.fromkeys(dynamics.worst_metrics, 0.0)
    length = 0
    terminated = False
    while length < order.horizon and not terminated:
        states[length] = dynamics.see(observation)
        outputs = forward(order.network, states[length])
        # Not a number would crash the simulation; elsewhere it shows in the return, and here too.
        broken = not np.isfinite(outputs).all()
        actions[length] = 0.0 if broken else np.tanh(outputs)
        if broken:
            rewards[length], terminated = np.nan, True
        else:
            # Some environments keep the action they are given.
            action = actions[length].copy()
            observation, reward, terminated, _, info = env.step(action)
            rewards[length] = reward
            for name in metrics:
                metrics[name] = max(metrics[name], float(info[name]))
        length += 1
    return Episode(states[:length], actions[:length], rewards[:length], metrics)


def forward(network: Network, state: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs of an agent's network, `(num_outputs,)`."""
    *hidden_layers, (last_weight, last_bias) = network
    with np.errstate(over="ignore", invalid="ignore"):
        for weight, bias in hidden_layers:
            state = np.tanh(weight @ state + bias)
        outputs: NDArray[np.float32] = last_weight @ state + last_bias
    return outputs
