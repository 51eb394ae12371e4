"""CartPole for many agents at once, equal to Gymnasium's `CartPole-v1` step by step."""

from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.tasks.control import BatchedDynamics

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


class CartPole(BatchedDynamics):
    """Balance a pole on a cart; in some lives the motor may be connected the wrong way round.

    Args:
        variants: "normal", "reversed" or both, from which each life draws one.
    """

    state_size = 4
    num_outputs = 2
    action_size = 1
    state_scale = STATE_SCALE
    gymnasium_id = "CartPole-v1"

    def __init__(self, variants: tuple[str, ...], device: torch.device) -> None:
        self.task_names = variants
        directions = [-1.0 if variant == "reversed" else 1.0 for variant in variants]
        new = torch.zeros(0, dtype=torch.float64, device=device).new_tensor
        self._push = new(directions) * FORCE / TOTAL_MASS
        self._scale = new(STATE_SCALE)[:, None]
        self._limits = new([POSITION_LIMIT, ANGLE_LIMIT])[:, None]
        self._inertia = new(HALF_LENGTH * 4.0 / 3.0)

    def worst_return(self, horizon: int) -> float:  # noqa: D102
        return 0.0

    def draw_start(self, rng: np.random.Generator) -> NDArray[np.float64]:  # noqa: D102
        return rng.uniform(-0.05, 0.05, 4)

    def begin(self, start: Tensor, task_index: Tensor) -> None:  # noqa: D102
        self.state = start.clone()
        self._agents_push = self._push[task_index]
        self._positions, self._velocities = self.state[0::2], self.state[1::2]
        self._accelerations = torch.empty_like(self._velocities)
        self._reward = torch.ones_like(start[0], dtype=torch.float32)

    def see(self, out: Tensor) -> None:  # noqa: D102
        torch.mul(self.state, self._scale, out=out)

    def act(self, outputs: Tensor, out: Tensor) -> None:
        """−1 pushes left, +1 pushes right: whichever of the two outputs is larger."""
        torch.gt(outputs[1], outputs[0], out=out[0])
        out.mul_(2.0).sub_(1.0)

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Gymnasium's equations, with the divisions by constants done beforehand."""
        angle, angular_velocity = self.state[2:]
        acceleration, angular_acceleration = self._accelerations
        cosine, sine = angle.cos(), angle.sin()

        push = self._agents_push * action[0]
        push.addcmul_(angular_velocity.square(), sine, value=POLE_MASS_LENGTH / TOTAL_MASS)
        torque = sine.mul_(GRAVITY).addcmul_(cosine, push, value=-1.0)
        inertia = torch.addcmul(
            self._inertia, cosine, cosine, value=-HALF_LENGTH * POLE_MASS / TOTAL_MASS
        )
        torch.div(torque, inertia, out=angular_acceleration)
        torch.addcmul(
            push,
            angular_acceleration,
            cosine,
            value=-POLE_MASS_LENGTH / TOTAL_MASS,
            out=acceleration,
        )
        self._positions.add_(self._velocities, alpha=TIME_STEP)
        self._velocities.add_(self._accelerations, alpha=TIME_STEP)

        has_left, has_fallen = self._positions.abs() > self._limits
        return self._reward, has_left.logical_or_(has_fallen)

    def gymnasium_action(self, action: NDArray[np.float32], task: int) -> int:  # noqa: D102
        return int((action[0] > 0) != (self.task_names[task] == "reversed"))
