"""Pendulum for many agents at once, equal to Gymnasium's `Pendulum-v1` step by step."""

from collections.abc import Sequence
from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.tasks.dynamics import BatchedDynamics
from credit_envs.tasks.variants import variants_of

MAX_TORQUE = 2.0
MAX_SPEED = 8.0
TIME_STEP = 0.05
STATE_SCALE = (1.0, 1.0, 0.5)
"""Of cosine and sine of the angle, and angular velocity, which is small where it matters most."""

_WORST_REWARD = -(pi**2 + 0.1 * MAX_SPEED**2 + 0.001 * MAX_TORQUE**2)


class Pendulum(BatchedDynamics):
    """Swing up a rod and hold it there; motor, gravity and mass may differ between lives.

    Args:
        motors: "normal", "reversed" (the motor turns the wrong way round) or both.
        gravities: in m/s².
        masses: of the rod, in kg.
        device: where the tensors live.
    """

    state_size = 3
    num_outputs = 1
    action_size = 1
    state_scale = STATE_SCALE
    gymnasium_id = "Pendulum-v1"

    def __init__(
        self,
        motors: Sequence[str],
        gravities: Sequence[float],
        masses: Sequence[float],
        device: torch.device,
    ) -> None:
        self._variants = variants_of(motors, {"gravity": gravities, "mass": masses})
        self.task_names = tuple(variant.name for variant in self._variants)
        # Float32 times an action has the action's precision, which matters in `step`.
        torques = [variant.direction * MAX_TORQUE for variant in self._variants]
        self._torque = torch.tensor(torques, dtype=torch.float32, device=device)
        new = torch.zeros(0, dtype=torch.float64, device=device).new_tensor
        constants = [variant.constants for variant in self._variants]
        self._pull = 1.5 * new([c["gravity"] for c in constants]) * TIME_STEP
        gains = [3.0 / c["mass"] for c in constants]
        self._gain = torch.tensor(gains, dtype=torch.float32, device=device)

    def worst_return(self, horizon: int) -> float:  # noqa: D102
        return _WORST_REWARD * horizon

    def draw_start(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Angle from the top within ±π, angular velocity within ±1, like Gymnasium's."""
        return rng.uniform(-1.0, 1.0, 2) * (pi, 1.0)

    def begin(self, start: Tensor, task_index: Tensor) -> None:  # noqa: D102
        self.state = start.clone()
        self._angle, self._speed = self.state
        self._sine = self._angle.sin()
        self._agents_torque = self._torque[task_index]
        self._agents_pull = self._pull[task_index]
        self._agents_gain = self._gain[task_index]
        self._never = torch.zeros_like(self._angle, dtype=torch.bool)

    def see(self, out: Tensor) -> None:  # noqa: D102
        torch.cos(self._angle, out=out[0])
        out[1] = self._sine
        torch.mul(self._speed, STATE_SCALE[2], out=out[2])

    def act(self, outputs: Tensor, out: Tensor) -> None:
        """The tanh of the output: −1 and +1 are the largest torques."""
        torch.tanh(outputs, out=out)

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Gymnasium's equations, in its order: the reward is for the state before the step.

        Gymnasium computes 3u/m and 0.001u² in the precision of the action that it is given, and
        float32 is what its action space holds. So they are here, as actions × torque has the
        precision of the actions. In float64 instead, states come up to 3e-3 apart in 200 steps, for
        a rod near the top multiplies differences.
        """
        torque = action[0] * self._agents_torque
        angle = torch.remainder(self._angle + pi, 2 * pi).sub_(pi)
        cost = angle.square_().addcmul_(self._speed, self._speed, value=0.1)
        cost += torque.square().mul_(0.001)

        self._speed.addcmul_(self._agents_pull, self._sine)
        self._speed.add_(torque.mul_(self._agents_gain), alpha=TIME_STEP).clamp_(
            -MAX_SPEED, MAX_SPEED
        )
        self._angle.add_(self._speed, alpha=TIME_STEP)
        torch.sin(self._angle, out=self._sine)
        return cost.neg_(), self._never

    def gymnasium_attributes(self, task: int) -> dict[str, float]:  # noqa: D102
        constants = self._variants[task].constants
        return {"g": constants["gravity"], "m": constants["mass"]}

    def gymnasium_action(  # noqa: D102
        self, action: NDArray[np.float32], task: int
    ) -> NDArray[np.float32]:
        return action * np.float32(self._variants[task].direction * MAX_TORQUE)
