"""Three tasks of Meta-World, whose own environments play them."""

import pickle
from functools import cache
from typing import Any, Literal

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from metaworld.types import Task
from numpy.typing import NDArray

from credit_envs.tasks.stepped import Environment, SteppedDynamics

Starts = Literal["train", "validation", "unseen"]

TASKS = ("Button-press-wall", "Dial-turn", "Door-close")
NUM_INITIAL_STATES = 50
STARTS: dict[Starts, range] = {
    "train": range(3),
    "unseen": range(3, 13),
    "validation": range(13, 23),
}
"""Indices of initial states, of `NUM_INITIAL_STATES` that there are of each task."""

LARGEST_REWARD = 10.0
SCALE = 5.0
"""Of differences in metres, which are about 0.1 to 0.7."""


class MetaWorld(SteppedDynamics):
    """A robot arm does one of three tasks, always from the same initial state in a life.

    Args:
        starts: which initial states.
        num_workers: processes that play; 0: none but this.
    """

    state_size = 7
    num_outputs = 4
    action_size = 4
    task_names = TASKS
    names_task = True
    longest_episode = SawyerXYZEnv.max_path_length
    worst_metrics = {"success": 0.0}  # noqa: RUF012

    def __init__(self, starts: Starts, num_workers: int) -> None:
        super().__init__(num_workers)
        self.initial_states = STARTS[starts]

    def worst_return(self, horizon: int) -> float:
        """No reward at all: Meta-World's are from 0 to 10."""
        return 0.0

    def episode_start(self, seed: int, episode: int) -> NDArray[np.float64]:
        """Index of the initial state of a life, whatever the episode.

        Lives in a row, dealt to the tasks in turn, meet every initial state equally often.
        """
        number = seed // len(TASKS) % len(self.initial_states)
        return np.array([self.initial_states[number]], dtype=np.float64)

    def begin(  # noqa: D102
        self, start: NDArray[np.float64], task: int
    ) -> tuple[Environment, NDArray[Any]]:
        env = environment(task)
        env.set_task(initial_state(task, int(start[0])))
        observation, _ = env.reset()
        return env, observation

    def see(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """Where the object is from the hand, the goal from the object, and the open gripper."""
        hand, gripper, thing, goal = np.split(observation[[*range(7), -3, -2, -1]], [3, 4, 7])
        differences = SCALE * np.concatenate([thing - hand, goal - thing])
        return np.append(differences, gripper).astype(np.float32)


@cache
def environment(task: int) -> SawyerXYZEnv:
    """The one environment of a task in this process: it takes a while to make."""
    return ALL_V3_ENVIRONMENTS[_id(task)]()


@cache
def initial_state(task: int, index: int) -> Task:
    """What `metaworld.MT1(id, seed=0).train_tasks[index]` is, without a second's work for it."""
    space = environment(task)._random_reset_space
    assert space is not None
    rng = np.random.RandomState(0)
    # Meta-World draws twice for each and keeps the second.
    drawn = rng.uniform(space.low, space.high, (NUM_INITIAL_STATES, 2, len(space.low)))[:, 1]
    data = {
        "rand_vec": drawn[index],
        "env_cls": type(environment(task)),
        "partially_observable": False,
    }
    return Task(env_name=_id(task), data=pickle.dumps(data))


def _id(task: int) -> str:
    return f"{TASKS[task].lower()}-v3"
