"""Replaying learned agents in Gymnasium's own environments, such as `CartPole-v1`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from agents import CreditPolicy
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks import ControlTask
from credit_envs.tasks.dynamics import BatchedDynamics, perceptron

Returns = NDArray[np.float64]


@dataclass(frozen=True)
class Replay:
    """Returns of the last episodes of some lives, `(lives,)` each.

    Attributes:
        gymnasium_id: of Gymnasium's environment.
        batched: in the batched environment.
        replayed: in Gymnasium's.
    """

    gymnasium_id: str
    batched: Returns
    replayed: Returns

    @property
    def largest_difference(self) -> float:
        """Between the returns of any life.

        Last bits of float32 outputs may differ, and a steep policy near the top multiplies them.
        """
        return float(np.abs(self.batched - self.replayed).max())


@torch.no_grad()
def replay_in_gymnasium(
    policy: CreditPolicy, env_id: str, env_kwargs: Mapping[str, Any], seeds: Sequence[int]
) -> Replay:
    """Play each life's last episode again, in Gymnasium's environment.

    Args:
        policy: chooses the credits.
        env_id: of a control environment.
        env_kwargs: of the environment.
        seeds: lives, dealt to the tasks in turn.

    Raises:
        ValueError: episodes are played in Gymnasium's environments anyway.
    """
    env = gymnasium.make_vec(env_id, num_envs=len(seeds), **dict(env_kwargs))
    assert isinstance(env, CreditAssignVectorEnv)
    assert isinstance(env.task, ControlTask)
    task = env.task
    dynamics = task.dynamics
    if not isinstance(dynamics, BatchedDynamics):
        raise ValueError(
            f"{env_id} needs no replay: its episodes are played in Gymnasium's own environments"
        )
    options = {"task": np.arange(len(seeds)) % len(task.task_names)}
    observation = env.reset_tensors(seeds, **options)
    for _ in range(env.num_updates):
        observation = env.step_tensors(policy.act(observation)).observation
    batched = task.episode_return.cpu().numpy().astype(np.float64)
    return Replay(dynamics.gymnasium_id, batched, _play(task, dynamics))


def _play(task: ControlTask, dynamics: BatchedDynamics) -> Returns:
    """Returns of the agents' present episode, acting in Gymnasium's environment.

    The agents act all at once as in the batched environment, so that their outputs are the same to
    the last bit wherever they see the same.
    """
    device = task.device
    starts, tasks = task.episode_starts(), task.task_index.tolist()
    places = zip(tasks, starts.T.cpu().numpy(), strict=True)
    envs = [gymnasium_env(dynamics, index, start, task.horizon) for index, start in places]
    layers, returns = task.layers(), np.zeros(len(envs))
    scale = np.array(dynamics.state_scale, dtype=np.float32)
    state = torch.empty(dynamics.state_size, len(envs), device=device)
    action = torch.empty(dynamics.action_size, len(envs), device=device)
    dynamics.begin(starts, torch.as_tensor(task.task_index, device=device))
    dynamics.see(state)
    playing = set(range(len(envs)))
    while playing:
        dynamics.act(perceptron(layers, state), action)
        for life, chosen in enumerate(action.T.cpu().numpy().copy()):
            if life in playing:
                played = dynamics.gymnasium_action(chosen, tasks[life])
                seen, reward, terminated, truncated, _ = envs[life].step(played)
                state[:, life] = torch.as_tensor(seen * scale, device=device)
                returns[life] += float(reward)
                if terminated or truncated:
                    playing.remove(life)
    return returns


def gymnasium_env(
    dynamics: BatchedDynamics,
    task: int,
    start: NDArray[np.float64],
    horizon: int,
    render_mode: str | None = None,
) -> gymnasium.Env[Any, Any]:
    """Gymnasium's own environment at the start of an episode.

    Args:
        dynamics: of which it is the original.
        task: index of the task.
        start: state of the dynamics, `(state,)`.
        horizon: most steps.
        render_mode: Gymnasium's.
    """
    env = gymnasium.make(
        dynamics.gymnasium_id,
        render_mode=render_mode,
        max_episode_steps=horizon,
        disable_env_checker=True,
    )
    env.reset()
    for name, value in dynamics.gymnasium_attributes(task).items():
        setattr(env.unwrapped, name, value)
    env.unwrapped.state = start.copy()  # type: ignore[attr-defined]
    return env
