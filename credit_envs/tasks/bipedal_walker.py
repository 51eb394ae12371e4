"""Gymnasium's `BipedalWalker-v3`, as it is."""

from typing import Any

import numpy as np
from gymnasium.envs.box2d import BipedalWalker as GymnasiumsBipedalWalker
from gymnasium.envs.box2d.bipedal_walker import MOTORS_TORQUE
from numpy.typing import NDArray

from credit_envs.tasks.stepped import Environment, SteppedDynamics

_FALL = -100.0
_COST_OF_TORQUE = -0.00035 * MOTORS_TORQUE
_NUM_JOINTS = 4


class BipedalWalker(SteppedDynamics):
    """Walk over slightly uneven ground, which the seed of an episode draws."""

    state_size = 24
    num_outputs = _NUM_JOINTS
    action_size = _NUM_JOINTS
    task_names = ("bipedal-walker",)

    def worst_return(self, horizon: int) -> float:
        """Of falling, after full torque in every joint and step."""
        return _FALL + _NUM_JOINTS * _COST_OF_TORQUE * horizon

    def episode_start(self, seed: int, episode: int) -> NDArray[np.float64]:
        """A seed of Gymnasium's `reset`."""
        rng = np.random.default_rng([1, seed, episode])
        return rng.integers(2**31, size=1).astype(np.float64)

    def begin(  # noqa: D102
        self, start: NDArray[np.float64], task: int
    ) -> tuple[Environment, NDArray[Any]]:
        # A new one for every episode, at the price of half a step: in a used one Box2D remembers,
        # and the same seed and actions give other rewards.
        env = GymnasiumsBipedalWalker()
        observation, _ = env.reset(seed=int(start[0]))
        return env, observation

    def see(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """All of the observation."""
        return observation

    def last_frame(
        self, start: NDArray[np.float64], actions: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Gymnasium's picture of the moment after these actions, RGB."""
        env: Any = GymnasiumsBipedalWalker(render_mode="rgb_array")
        env.reset(seed=int(start[0]))
        for action in actions:
            env.step(action)
        frame: NDArray[np.uint8] = env.render()
        env.close()
        return frame
