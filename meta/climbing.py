"""How well surfaces are climbed: from a grid of starts, beside gradient ascent (TDCA, Fig. 2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents import CreditPolicy
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks.surfaces import REGION, Surface, SurfaceTask
from meta.environment import make_credit_env

GRID = 41
_NEAR = 0.1
_ASCENT_RATE, _ASCENT_STEPS = 0.4, 1000


@dataclass(frozen=True)
class Climb:
    """Success on one surface, as fractions of the starts that end within 0.1 of its summit.

    Attributes:
        surface: its name.
        policy: with the policy's credits.
        gradient_ascent: with steps along the gradient.
        swapped_id: with the policy's credits and the other surface's id, where there are ids.
    """

    surface: str
    policy: float
    gradient_ascent: float
    swapped_id: float | None


@torch.no_grad()
def climb(
    policy: CreditPolicy, env_id: str, env_kwargs: Mapping[str, Any] = MappingProxyType({})
) -> list[Climb]:
    """Climb every surface of the environment from a grid of starts over the whole region.

    Args:
        policy: chooses the credits.
        env_id: of a surface.
        env_kwargs: of the environment.
    """
    line = np.linspace(-REGION, REGION, GRID, dtype=np.float32)
    starts = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    env = make_credit_env(env_id, len(starts), env_kwargs)
    assert isinstance(env.task, SurfaceTask)
    several = len(env.task.surfaces) > 1
    return [
        Climb(
            name,
            _climbed(policy, env, surface, index, starts, swap=False),
            _ascended(surface, torch.from_numpy(starts)),
            _climbed(policy, env, surface, index, starts, swap=True) if several else None,
        )
        for index, (name, surface) in enumerate(
            zip(env.task.task_names, env.task.surfaces, strict=True)
        )
    ]


def _climbed(
    policy: CreditPolicy,
    env: CreditAssignVectorEnv,
    surface: Surface,
    index: int,
    starts: np.ndarray,
    swap: bool,
) -> float:
    observation = env.reset_tensors([0] * len(starts), position=starts, task=index)
    for _ in range(env.num_updates):
        position, task_id = observation[:, :2], observation[:, 2:]
        seen = torch.cat([position, task_id.flip(1)], dim=1) if swap else observation
        observation = env.step_tensors(policy.act(seen)).observation
    return _share_near(observation[:, :2], surface)


def _ascended(surface: Surface, position: Tensor) -> float:
    with torch.enable_grad():
        for _ in range(_ASCENT_STEPS):
            position = position.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(surface.height(position).sum(), position)
            position = position + _ASCENT_RATE * gradient
    return _share_near(position.detach(), surface)


def _share_near(position: Tensor, surface: Surface) -> float:
    summit = surface.global_maximum().to(position)
    return float(((position - summit).norm(dim=1) < _NEAR).float().mean())
