"""CartPole for many agents at once, equal to Gymnasium's `CartPole-v1` step by step."""

from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.tasks.control import Dynamics

GRAVITY = 9.8
POLE_MASS = 0.1
TOTAL_MASS = 1.1
HALF_LENGTH = 0.5
POLE_MASS_LENGTH = POLE_MASS * HALF_LENGTH
FORCE = 10.0
TIME_STEP = 0.02
POSITION_LIMIT = 2.4
ANGLE_LIMIT = 12 * 2 * pi / 360

STATE_SCALE = (1 / 2.4, 1 / 2.0, 1 / 0.21, 1 / 2.0)
"""Brings position, velocity, angle and angular velocity to about [−1, 1]."""


class CartPole(Dynamics):
    """Balance a pole on a cart; in some lives the motor may be connected the wrong way round.

    Args:
        variants: "normal", "reversed" or both, from which each life draws one.
    """

    state_size = 4
    num_outputs = 2
    action_size = 1
    worst_return = 0.0

    def __init__(self, variants: tuple[str, ...], device: torch.device) -> None:
        self.task_names = variants
        self._direction = torch.tensor([-1.0 if v == "reversed" else 1.0 for v in variants])
        self._direction = self._direction.to(device)
        self._scale = torch.tensor(STATE_SCALE, device=device)[:, None]
        self.state = torch.zeros(4, 0, dtype=torch.float64, device=device)
        self._force = torch.zeros(0, device=device)

    def draw_start(self, rng: np.random.Generator) -> NDArray[np.float64]:  # noqa: D102
        return rng.uniform(-0.05, 0.05, 4)

    def begin(self, start: Tensor, task_index: Tensor) -> None:  # noqa: D102
        self.state = start.clone()
        self._force = (FORCE * self._direction[task_index]).to(self.state.dtype)

    def see(self) -> Tensor:  # noqa: D102
        return self.state.to(torch.float32) * self._scale

    def act(self, outputs: Tensor) -> Tensor:
        """−1 pushes left, +1 pushes right: whichever of the two outputs is larger."""
        return (outputs[1:] > outputs[:1]).to(torch.float32).mul_(2).sub_(1)

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        position, velocity, angle, angular_velocity = self.state
        force = self._force * action[0]
        cosine, sine = angle.cos(), angle.sin()
        push = (force + POLE_MASS_LENGTH * angular_velocity.square() * sine) / TOTAL_MASS
        angular_acceleration = (GRAVITY * sine - cosine * push) / (
            HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * cosine.square() / TOTAL_MASS)
        )
        acceleration = push - POLE_MASS_LENGTH * angular_acceleration * cosine / TOTAL_MASS
        change = torch.stack([velocity, acceleration, angular_velocity, angular_acceleration])
        self.state = self.state.add(change, alpha=TIME_STEP)
        out = (self.state[0].abs() > POSITION_LIMIT) | (self.state[2].abs() > ANGLE_LIMIT)
        return torch.ones_like(action[0]), out
