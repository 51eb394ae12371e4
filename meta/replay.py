"""Replaying learned CartPole agents in Gymnasium's own `CartPole-v1`."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from agents import CreditPolicy
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks import ControlTask
from credit_envs.tasks.cartpole import STATE_SCALE

Returns = NDArray[np.float64]


@torch.no_grad()
def replay_in_gymnasium(
    policy: CreditPolicy, env_id: str, env_kwargs: Mapping[str, Any], seeds: Sequence[int]
) -> tuple[Returns, Returns]:
    """Returns of each life's last episode, in the batched environment and in `CartPole-v1`.

    Args:
        policy: chooses the credits.
        env_id: of a CartPole environment.
        env_kwargs: of the environment.
        seeds: lives, dealt to the tasks in turn.
    """
    env = gymnasium.make_vec(env_id, num_envs=len(seeds), **dict(env_kwargs))
    assert isinstance(env, CreditAssignVectorEnv)
    assert isinstance(env.task, ControlTask)
    task = env.task
    options = {"task": np.arange(len(seeds)) % len(task.task_names)}
    observation = env.reset_tensors(seeds, **options)
    for _ in range(env.num_updates):
        observation = env.step_tensors(policy.act(observation)).observation

    layers = [(weight.cpu().numpy(), bias.cpu().numpy()) for weight, bias in task.layers()]
    starts = task.episode_starts().cpu().numpy()
    replayed = [
        _play(
            [(weight[..., life], bias[..., life]) for weight, bias in layers],
            starts[:, life],
            task.task_names[task.task_index[life]] == "reversed",
            task.horizon,
        )
        for life in range(len(seeds))
    ]
    return -env.loss.cpu().numpy().astype(np.float64), np.array(replayed)


def _play(
    layers: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    start: NDArray[np.float64],
    reversed_motor: bool,
    horizon: int,
) -> float:
    env = gymnasium.make("CartPole-v1", max_episode_steps=horizon)
    env.reset()
    env.unwrapped.state = start  # type: ignore[attr-defined]
    state, total, over = start.astype(np.float32), 0.0, False
    scale = np.array(STATE_SCALE, np.float32)
    while not over:
        outputs = state * scale
        for index, (weight, bias) in enumerate(layers):
            outputs = weight @ (np.tanh(outputs) if index else outputs) + bias
        push_right = bool(outputs[1] > outputs[0])
        state, reward, terminated, truncated, _ = env.step(int(push_right != reversed_motor))
        total += float(reward)
        over = terminated or truncated
    return total
