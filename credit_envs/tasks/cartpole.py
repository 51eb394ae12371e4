"""CartPole for many agents at once, equal to Gymnasium's `CartPole-v1` step by step."""

from collections.abc import Sequence
from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.tasks.dynamics import BatchedDynamics
from credit_envs.tasks.variants import variants_of

GRAVITY = 9.8
CART_MASS = 1.0
FORCE = 10.0
TIME_STEP = 0.02
POSITION_LIMIT = 2.4
ANGLE_LIMIT = 12 * 2 * pi / 360
SHORTEST_POLE = 0.01
"""Half of it, in m; with poles ten times as short Euler's steps run away to infinity."""

STATE_SCALE = (1 / 2.4, 1 / 2.0, 1 / 0.21, 1 / 2.0)
"""Brings position, velocity, angle and angular velocity to about [−1, 1]."""


class CartPole(BatchedDynamics):
    """Balance a pole on a cart; motor, mass and length of the pole may differ between lives.

    Args:
        motors: "normal", "reversed" (the cart is pushed the wrong way) or both.
        pole_masses: in kg.
        pole_lengths: half the pole's length, as in Gymnasium, in m.
        device: where the tensors live.
    """

    state_size = 4
    num_outputs = 2
    action_size = 1
    state_scale = STATE_SCALE
    gymnasium_id = "CartPole-v1"

    def __init__(
        self,
        motors: Sequence[str],
        pole_masses: Sequence[float],
        pole_lengths: Sequence[float],
        device: torch.device,
    ) -> None:
        constants = {"pole mass": pole_masses, "pole length": pole_lengths}
        self._variants = variants_of(motors, constants)
        self.task_names = tuple(variant.name for variant in self._variants)
        new = torch.zeros(0, dtype=torch.float64, device=device).new_tensor
        mass, length = (new([v.constants[name] for v in self._variants]) for name in constants)
        total_mass = mass + CART_MASS
        self._push = new([v.direction for v in self._variants]) * FORCE / total_mass
        self._lever = mass * length / total_mass
        self._inertia = length * 4.0 / 3.0
        self._scale = new(STATE_SCALE)[:, None]
        self._limits = new([POSITION_LIMIT, ANGLE_LIMIT])[:, None]

    def worst_return(self, horizon: int) -> float:  # noqa: D102
        return 0.0

    def draw_start(self, rng: np.random.Generator) -> NDArray[np.float64]:  # noqa: D102
        return rng.uniform(-0.05, 0.05, 4)

    def begin(self, start: Tensor, task_index: Tensor) -> None:  # noqa: D102
        self.state = start.clone()
        self._agents_push = self._push[task_index]
        self._agents_lever = self._lever[task_index]
        self._agents_inertia = self._inertia[task_index]
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
        push.addcmul_(angular_velocity.square().mul_(self._agents_lever), sine)
        torque = sine.mul_(GRAVITY).addcmul_(cosine, push, value=-1.0)
        lever = cosine * self._agents_lever
        inertia = torch.addcmul(self._agents_inertia, lever, cosine, value=-1.0)
        torch.div(torque, inertia, out=angular_acceleration)
        torch.addcmul(push, angular_acceleration, lever, value=-1.0, out=acceleration)
        self._positions.add_(self._velocities, alpha=TIME_STEP)
        self._velocities.add_(self._accelerations, alpha=TIME_STEP)

        has_left, has_fallen = self._positions.abs() > self._limits
        return self._reward, has_left.logical_or_(has_fallen)

    def gymnasium_attributes(self, task: int) -> dict[str, float]:  # noqa: D102
        constants = self._variants[task].constants
        mass, length = constants["pole mass"], constants["pole length"]
        return {
            "masspole": mass,
            "length": length,
            "total_mass": mass + CART_MASS,
            "polemass_length": mass * length,
        }

    def gymnasium_action(self, action: NDArray[np.float32], task: int) -> int:  # noqa: D102
        return int(action[0] * self._variants[task].direction > 0)
