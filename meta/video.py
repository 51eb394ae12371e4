"""Videos of a life in control, by Gymnasium's recorder: how the agent acts before and after.

An agent's episodes are played again, action by action, in Gymnasium's own environment and recorded
there. It takes MoviePy: `pip install -c constraints.txt -e ".[video]"`. Meta-World's pictures take
OpenGL: without a screen set MUJOCO_GL=egl (or osmesa), and without a graphics card in addition
LIBGL_ALWAYS_SOFTWARE=1 and EGL_PLATFORM=surfaceless.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
import torch
from gymnasium.error import DependencyNotInstalled
from gymnasium.wrappers import RecordVideo
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from numpy.typing import NDArray

from agents import CreditPolicy
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks import ControlTask
from credit_envs.tasks.bipedal_walker import BipedalWalker
from credit_envs.tasks.dynamics import BatchedDynamics
from credit_envs.tasks.metaworld import MetaWorld
from meta import zoo
from meta.command_line import DONE, FAILED, Parser, natural
from meta.replay import gymnasium_env
from meta.report import FRESH_LIFE

NAME = "video"
EXAMPLES = """\
examples:
  python -m meta.video reversed-cartpole                 # a network of the zoo
  python -m meta.video reversed-cartpole --task 1        # the motor the wrong way round
  python -m meta.video runs/tdca-rnn_CreditAssign-Pendulum-v0_seed0_… --updates 0 1 2 6
"""
_CAMERA = "corner2"


class Episode(NamedTuple):
    """What it takes to play an agent's episode again."""

    start: NDArray[np.float64]
    """As `ControlTask.episode_starts` has it."""
    actions: NDArray[np.float32]
    """`(steps, action_size)`, as the record of the episode has them."""
    task: int
    """Its index, which changes within a life that has a `switch_after`."""


class LifeReplay(gymnasium.Env[Any, Any]):
    """The episodes of a life, one after the other, in Gymnasium's own environment.

    `reset` begins the next episode where the agent began it, and `step` is that environment's.

    Args:
        task: with one agent.
        episodes: of the life.
    """

    render_mode = "rgb_array"

    def __init__(self, task: ControlTask, episodes: Sequence[Episode]) -> None:
        self._task = task
        self._episodes = iter(episodes)
        self._episode = episodes[0]
        self._env = self._begin()
        self.metadata = self._env.metadata
        self.action_space = self._env.action_space
        self.observation_space = self._env.observation_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode; `seed` and `options` have no part in it."""
        self._env.close()
        self._episode = next(self._episodes)
        self._env = self._begin()
        return None, {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Gymnasium's step for an action as the record has it."""
        dynamics = self._task.dynamics
        if isinstance(dynamics, BatchedDynamics):
            action = dynamics.gymnasium_action(action, self._episode.task)
        elif isinstance(dynamics, MetaWorld):
            action = dynamics.turned(action, self._episode.task)
        return self._env.step(action)

    def render(self) -> Any:
        """Gymnasium's picture.

        Raises:
            OSError: Meta-World's takes OpenGL, and there is none.
        """
        try:
            frame: Any = self._env.render()
        except (mujoco.FatalError, ImportError, AttributeError) as error:  # type: ignore[attr-defined]
            # Two of these are PyOpenGL's, where MUJOCO_GL names a library that is not there.
            if not isinstance(self._task.dynamics, MetaWorld):
                raise
            raise OSError(
                f"Meta-World's pictures take OpenGL, and there is none here ({error}): without a "
                "screen set MUJOCO_GL=egl, or MUJOCO_GL=osmesa"
            ) from error
        # Meta-World's camera hangs upside down.
        return np.rot90(frame, 2) if isinstance(self._task.dynamics, MetaWorld) else frame

    def close(self) -> None:
        """Close Gymnasium's environment."""
        self._env.close()

    def _begin(self) -> gymnasium.Env[Any, Any]:
        dynamics, episode = self._task.dynamics, self._episode
        if isinstance(dynamics, BatchedDynamics):
            return gymnasium_env(
                dynamics, episode.task, episode.start, self._task.horizon, render_mode="rgb_array"
            )
        if isinstance(dynamics, BipedalWalker):
            env = gymnasium.make("BipedalWalker-v3", render_mode="rgb_array")
            env.reset(seed=int(episode.start[0]))
            return env
        assert isinstance(dynamics, MetaWorld)
        arm = dynamics.arm(episode.task)
        watched: Any = ALL_V3_ENVIRONMENTS[arm.name](render_mode="rgb_array", camera_name=_CAMERA)
        watched.set_task(arm.task(int(episode.start[0])))
        watched.reset()
        return watched  # type: ignore[no-any-return]


def record(
    policy: CreditPolicy,
    env_id: str,
    folder: Path,
    env_kwargs: Mapping[str, Any] | None = None,
    life: int = FRESH_LIFE,
    task: int = 0,
    updates: Sequence[int] | None = None,
) -> list[Path]:
    """Record episodes of an agent that is led by a policy.

    Args:
        policy: chooses the credits.
        env_id: of a control environment.
        folder: where the videos go, in a folder of the environment's name.
        env_kwargs: of the environment.
        life: its seed; by default none of an outer loop's.
        task: its task, by index.
        updates: after how many updates; None: before the first and after the last.

    Returns:
        The videos, one per episode.

    Raises:
        ValueError: this is no control environment, or a life has fewer updates or the environment
            fewer tasks.
        gymnasium.error.DependencyNotInstalled: there is no MoviePy.
        OSError: Meta-World's pictures take OpenGL, and there is none.
    """
    env = gymnasium.make_vec(env_id, num_envs=1, **dict(env_kwargs or {}))
    if not isinstance(env, CreditAssignVectorEnv) or not isinstance(env.task, ControlTask):
        raise ValueError(f"{env_id} has no episodes to record; name a control environment")
    if task >= len(env.task.task_names):
        raise ValueError(f"task={task}: {env_id} has {len(env.task.task_names)}, from 0")
    wanted = sorted(set(updates if updates is not None else (0, env.num_updates)))
    if wanted[-1] > env.num_updates:
        raise ValueError(f"updates={wanted}: a life in {env_id} has {env.num_updates}")

    episodes = live(policy, env, life, task)
    stem = f"{env_id}-task-{task}" if len(env.task.task_names) > 1 else env_id
    prefix = f"life-{life}"
    replay = LifeReplay(env.task, episodes)
    recorder = RecordVideo(replay, str(folder / stem), wanted.__contains__, name_prefix=prefix)
    for episode in episodes:
        recorder.reset()
        for action in episode.actions:
            recorder.step(action)
    recorder.close()  # type: ignore[no-untyped-call]
    env.close()
    return [folder / stem / f"{prefix}-episode-{update}.mp4" for update in wanted]


@torch.no_grad()
def live(
    policy: CreditPolicy, env: CreditAssignVectorEnv, life: int = FRESH_LIFE, task: int = 0
) -> list[Episode]:
    """The episodes of a life that is led by a policy, one more than it has updates.

    Args:
        policy: chooses the credits.
        env: a control environment with one agent.
        life: its seed.
        task: its task, by index.
    """
    assert isinstance(env.task, ControlTask)
    observation = env.reset_tensors([life], task=np.array([task]))
    episodes = [_episode(env.task)]
    for _ in range(env.num_updates):
        observation = env.step_tensors(policy.act(observation)).observation
        episodes.append(_episode(env.task))
    return episodes


def _episode(task: ControlTask) -> Episode:
    """The last one of a task's only agent."""
    rows = task.observe()[0].cpu().numpy()
    actions = rows[rows[:, -1] > 0, -2 - task.dynamics.action_size : -2]
    start = task.episode_starts()[:, 0].cpu().numpy()
    return Episode(start, actions.copy(), int(task.task_index[0]))


def main(argv: Sequence[str] | None = None) -> int:
    """Record a life; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m meta.{NAME}", description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("network", help="of the zoo, by its name, or of a run, by its folder")
    add("--folder", type=Path, default=Path("videos"), metavar="DIR", help="default: videos")
    add(
        "--life",
        type=natural,
        default=FRESH_LIFE,
        metavar="SEED",
        help="of the life (default: none of an outer loop's; in Meta-World it starts in one of the "
        "initial states of meta-training all the same)",
    )
    add("--task", type=natural, default=0, metavar="I", help="of the life (default: the first)")
    add(
        "--updates",
        type=natural,
        nargs="+",
        metavar="N",
        help="the episodes after these updates (default: 0, and the last)",
    )
    arguments = parser.parse_args(argv)
    try:
        found = zoo.find(arguments.network)
        env_id, *others = found.meta_training
        if others:
            raise ValueError(
                f"{arguments.network} was trained in several environments, {env_id} among them; "
                "name a network of one control environment"
            )
        videos = record(
            found.policy,
            env_id,
            arguments.folder,
            found.meta_training[env_id],
            arguments.life,
            arguments.task,
            arguments.updates,
        )
    except DependencyNotInstalled:
        missing = 'no MoviePy here: pip install -c constraints.txt -e ".[video]"'
        sys.stderr.write(f"{NAME}: {missing}\n")
        return FAILED
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{NAME}: {error}\n")
        return FAILED
    sys.stdout.writelines(f"{video}\n" for video in videos)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
