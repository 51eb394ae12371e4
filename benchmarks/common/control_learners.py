"""Stable-Baselines3's learners in Gymnasium's control environments, scored as they learn."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

Algorithm = Literal["PPO", "DQN", "TD3", "SAC"]
_CLASSES: Mapping[Algorithm, type[BaseAlgorithm]] = {
    "PPO": PPO,
    "DQN": DQN,
    "TD3": TD3,
    "SAC": SAC,
}
EPISODES = 100
"""By which a learner is scored."""
_EVALUATION_SEED = 10_000


def learned(
    gymnasium_id: str,
    horizon: int,
    algorithm: Algorithm,
    settings: Mapping[str, Any],
    seed: int,
    marks: Sequence[int],
    enough: float | None = None,
) -> dict[str, Any]:
    """Scores of a learner at some marks.

    Args:
        gymnasium_id: of the environment.
        horizon: most steps in an episode.
        algorithm: what learns.
        settings: as the RL Zoo writes them: `n_envs`, `normalize`, `noise_std` and "lin_…", a
            rate that falls linearly to 0, included.
        seed: of the learner; episodes that score it have other seeds.
        marks: numbers of environment steps, rising; after the last it ends. It is scored when it
            has passed one and has made use of all its steps, which PPO does rollout by rollout.
        enough: a score at which it may end before.

    Returns:
        scores: mean returns of its episodes without exploration, first before learning.
        steps: environment steps it had had by then.
        seconds_of_cpu: of learning.
    """
    env = _environment(gymnasium_id, horizon, settings.get("n_envs", 1), seed)
    judge = _environment(gymnasium_id, horizon, EPISODES, _EVALUATION_SEED + EPISODES * seed)
    if settings.get("normalize"):
        env = VecNormalize(env)
        judge = VecNormalize(judge, training=False, norm_reward=False)
        judge.obs_rms = env.obs_rms
    kwargs = {name: _read(value) for name, value in settings.items()}
    for name in ("n_envs", "normalize"):
        kwargs.pop(name, None)
    if "noise_std" in kwargs:
        shape = env.action_space.shape
        assert shape is not None
        deviation = kwargs.pop("noise_std") * np.ones(shape)
        kwargs["action_noise"] = NormalActionNoise(np.zeros(shape), deviation)
    model = _CLASSES[algorithm]("MlpPolicy", env, seed=seed, device="cpu", **kwargs)
    scoring = _Scoring(judge, marks, enough)
    started = time.process_time()
    model.learn(marks[-1], scoring)
    scoring.finish()
    return {
        "scores": scoring.scores,
        "steps": scoring.steps,
        "seconds_of_cpu": round(time.process_time() - started - scoring.seconds, 1),
    }


class _Scoring(BaseCallback):
    """Scores a learner when it begins to collect steps and has passed a mark.

    Args:
        env: with an episode in each of its environments.
        marks: numbers of environment steps.
        enough: a score at which learning ends; None: it does not.
    """

    def __init__(self, env: VecEnv, marks: Sequence[int], enough: float | None) -> None:
        super().__init__()
        self._env = env
        self._marks = [0, *marks]
        self._enough = np.inf if enough is None else enough
        self.scores: list[float] = []
        self.steps: list[int] = []
        self.seconds = 0.0

    def _on_rollout_start(self) -> None:
        if not self._is_over() and self.model.num_timesteps >= self._marks[0]:
            self._score()

    def _on_step(self) -> bool:
        return not self._is_over()

    def _is_over(self) -> bool:
        # What it could do before it had learned does not count as learned.
        has_enough = len(self.scores) > 1 and self.scores[-1] >= self._enough
        return has_enough or not self._marks

    def finish(self) -> None:
        """The last score, which is due after learning."""
        if not self._is_over():
            self._score()

    def _score(self) -> None:
        started = time.process_time()
        mean, _ = evaluate_policy(self.model, self._env, EPISODES, warn=False)
        assert isinstance(mean, float | np.floating)
        self.scores.append(round(float(mean), 2))
        self.steps.append(self.model.num_timesteps)
        self._marks = [mark for mark in self._marks if mark > self.model.num_timesteps]
        self.seconds += time.process_time() - started


def _environment(gymnasium_id: str, horizon: int, count: int, seed: int) -> VecEnv:
    kwargs = {"max_episode_steps": horizon}
    return make_vec_env(gymnasium_id, count, seed=seed, env_kwargs=kwargs)


def _read(value: Any) -> Any:
    """A setting, schedules made of "lin_…"."""
    if isinstance(value, str) and value.startswith("lin_"):
        return LinearSchedule(float(value.removeprefix("lin_")), 0.0, 1.0)
    return dict(value) if isinstance(value, Mapping) else value
