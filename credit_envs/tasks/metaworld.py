"""Three tasks of Meta-World, whose own environments play them."""

import pickle
from collections.abc import Sequence
from copy import copy
from functools import cache
from math import sqrt
from typing import Any, Literal, NamedTuple

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from metaworld.types import Task
from numpy.typing import NDArray

from credit_envs.tasks.stepped import SteppedDynamics
from credit_envs.tasks.variants import variants_of

Starts = Literal["train", "validation", "unseen"]

TASKS = ("Button-press-wall", "Dial-turn", "Door-close")
NUM_INITIAL_STATES = 50
STARTS: dict[Starts, range] = {
    "train": range(3),
    "unseen": range(3, 13),
    "validation": range(13, 23),
}
"""Indices of initial states, of `NUM_INITIAL_STATES` that there are of each task."""

SCALE = 5.0
"""Of differences in metres, which are about 0.1 to 0.7."""


class MetaWorld(SteppedDynamics):
    """A robot arm does one of three tasks, always from the same initial state in a life.

    Args:
        starts: which initial states.
        rotations: of the actuators about the vertical, in degrees counterclockwise seen from above;
            for each there are all three tasks.
        num_workers: processes that play; 0: none but this.
    """

    state_size = 7
    num_outputs = 4
    action_size = 4
    num_ids = len(TASKS)
    longest_episode = SawyerXYZEnv.max_path_length
    worst_metrics = {"success": 0.0}  # noqa: RUF012

    def __init__(self, starts: Starts, rotations: Sequence[float], num_workers: int) -> None:
        super().__init__(num_workers)
        self.initial_states = STARTS[starts]
        variants = variants_of(TASKS, {"rotation": rotations})
        self.task_names = tuple(variant.name for variant in variants)
        self._rotations = [_rotation(variant.constants["rotation"]) for variant in variants]

    def worst_return(self, horizon: int) -> float:
        """No reward at all: Meta-World's are from 0 to 10."""
        return 0.0

    def episode_start(self, seed: int, episode: int) -> NDArray[np.float64]:
        """Index of the initial state of a life, whatever the episode.

        Lives in a row, dealt to the tasks in turn, meet every initial state equally often.
        """
        number = seed // len(self.task_names) % len(self.initial_states)
        return np.array([self.initial_states[number]], dtype=np.float64)

    def begin(  # noqa: D102
        self, start: NDArray[np.float64], task: int
    ) -> tuple["TurnedArm", NDArray[np.float64]]:
        arm = self.arm(task)
        return TurnedArm(arm, self._rotations[task]), arm.begin(int(start[0]))

    def arm(self, task: int) -> "Arm":
        """That plays a task, however it is turned."""
        return the_arm(task % len(TASKS))

    def turned(self, action: NDArray[np.float32], task: int) -> NDArray[np.float32]:
        """What to do in Meta-World's environment for an agent's action, `(4,)`."""
        return _turned(action, self._rotations[task])

    def see(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """Where the object is from the hand, the goal from the object, and the open gripper."""
        # Hand, gripper, object, goal: 3, 1, 3 and 3 numbers.
        seen = np.empty(7)
        np.subtract(observation[4:7], observation[:3], out=seen[:3])
        np.subtract(observation[7:], observation[4:7], out=seen[3:6])
        seen[:6] *= SCALE
        seen[6] = observation[3]
        return seen.astype(np.float32)


class Arm:
    """One of Meta-World's environments, which it plays to the last bit in half the time.

    Left out is what agents do not see (orientations, forces, the former observation), and an
    initial state is simulated once and kept.

    Args:
        name: of the task.

    Attributes:
        env: Meta-World's.
    """

    def __init__(self, name: str) -> None:
        self.name = f"{name.lower()}-v3"
        self.env: SawyerXYZEnv = ALL_V3_ENVIRONMENTS[self.name]()
        body = self.env.model.body
        self._hand, self._right, self._left = (
            body(part).id for part in ("hand", "rightclaw", "leftclaw")
        )
        self._initial: dict[int, _Initial] = {}

    def task(self, index: int) -> Task:
        """What `metaworld.MT1(name, seed=0).train_tasks[index]` is, without a second's work."""
        space = self.env._random_reset_space
        assert space is not None
        rng = np.random.RandomState(0)
        # Meta-World draws twice for each and keeps the second.
        drawn = rng.uniform(space.low, space.high, (NUM_INITIAL_STATES, 2, len(space.low)))
        data = {
            "rand_vec": drawn[index, 1],
            "env_cls": type(self.env),
            "partially_observable": False,
        }
        return Task(env_name=self.name, data=pickle.dumps(data))

    def begin(self, index: int) -> NDArray[np.float64]:
        """Be in an initial state; returns an observation like `step`'s."""
        env = self.env
        if index not in self._initial:
            env.set_task(self.task(index))
            env.reset()
            self._initial[index] = _Initial(env)
        self._initial[index].restore(env)
        return self._observe()[_SEEN]

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """As Meta-World's, but for the observation: hand, gripper, object and goal alone."""
        env, model, data = self.env, self.env.model, self.env.data
        movement = np.minimum(np.maximum(action[:3], -1), 1) * env.action_scale
        hand = data.mocap_pos[0]
        hand[:] = np.minimum(np.maximum(hand + movement, env.mocap_low), env.mocap_high)
        data.ctrl[:] = action[3], -action[3]
        mujoco.mj_step(model, data, nstep=env.frame_skip)  # type: ignore[attr-defined]
        # Places are read from it; and the next step's solver begins with what it finds.
        mujoco.mj_forward(model, data)  # type: ignore[attr-defined]
        env.curr_path_length += 1
        observation = self._observe()
        reward, info = env.evaluate_state(observation, action)
        return observation[_SEEN], reward, False, False, info

    def _observe(self) -> NDArray[np.float64]:
        """Meta-World's observation, 0 in what is left out."""
        places = self.env.data.xpos
        observation = np.zeros(39)
        observation[:3] = places[self._hand]
        apart = places[self._right] - places[self._left]
        observation[3] = min(sqrt(apart.dot(apart)) / 0.1, 1.0)
        observation[4:7] = self.env._get_pos_objects()
        observation[-3:] = self.env._get_pos_goal()
        return observation


_SEEN = [*range(7), -3, -2, -1]


class TurnedArm(NamedTuple):
    """An arm whose movements are turned about the vertical."""

    arm: Arm
    rotation: NDArray[np.float64]
    """`(2, 2)`, of x and y."""

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """As the arm's, for the turned action."""
        return self.arm.step(_turned(action, self.rotation))


def _turned(action: NDArray[np.float32], rotation: NDArray[np.float64]) -> NDArray[np.float32]:
    turned = action.copy()
    turned[:2] = rotation @ action[:2]
    return turned


def _rotation(degrees: float) -> NDArray[np.float64]:
    """The matrix that turns (x, y) counterclockwise."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


class _Initial:
    """All that a reset sets in an environment."""

    def __init__(self, env: SawyerXYZEnv) -> None:
        self._data = copy(env.data)
        self._body_pos, self._site_pos = env.model.body_pos.copy(), env.model.site_pos.copy()
        kept_apart = ("model", "data", "mujoco_renderer")
        self._others = {name: value for name, value in vars(env).items() if name not in kept_apart}

    def restore(self, env: SawyerXYZEnv) -> None:
        env.data = copy(self._data)
        env.model.body_pos[:] = self._body_pos
        env.model.site_pos[:] = self._site_pos
        vars(env).update(self._others)


@cache
def the_arm(task: int) -> Arm:
    """The one environment of a task in this process: it takes a while to make."""
    return Arm(TASKS[task])
