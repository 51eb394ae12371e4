"""Two tasks in which rewards arrive after several actions, and how well each is done."""

from typing import Any, Literal

import gymnasium
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from agents import VectorEnvAdapter

Name = Literal["CartPole", "Digits"]
DELAYS = (2, 4)
"""Steps between an answer to a digit and its reward."""
DIGITS = "ClassificationBandit-Digits-v0"
CARTPOLE = "CartPole-v1"
_EPISODES = 20
_EVALUATION_SEED = 10_000


class DelayedReward(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Pays for an answer some steps later; until then nothing is shown, and actions do nothing.

    While nothing is shown all states look alike, so that the value of a right answer cannot come
    back from state to state: what led to the answer has to be remembered until it is paid for.

    Args:
        env: its episodes have one step.
        delays: the fewest and the most steps between an answer and its reward, drawn anew for
            every answer, so that environments which learn together do not wait in unison.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], delays: tuple[int, int]) -> None:
        super().__init__(env)
        self._delays = delays
        self._to_wait = 0
        self._ending: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Show the next image."""
        self._ending = None
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take the answer, wait, or pay."""
        if self._ending is None:
            self._ending = self.env.step(action)
            fewest, most = self._delays
            self._to_wait = int(self.np_random.integers(fewest, most + 1))
        nothing, reward, *ends = self._ending
        if self._to_wait > 0:
            self._to_wait -= 1
            return nothing, 0.0, False, False, {}
        return nothing, float(reward), *ends


def environment(task: Name, num_envs: int, seed: int, failure_alone: bool) -> VecEnv:
    """To learn in.

    Args:
        task: which.
        num_envs: environments.
        seed: of what happens in them.
        failure_alone: of CartPole: −1 for a failure, and nothing else, instead of 1 a step.
    """
    if task == "CartPole":
        kwargs = {"sutton_barto_reward": failure_alone}
        return make_vec_env(CARTPOLE, num_envs, seed=seed, env_kwargs=kwargs)
    return make_vec_env(lambda: DelayedReward(gymnasium.make(DIGITS), DELAYS), num_envs, seed=seed)


def score(task: Name, model: BaseAlgorithm, seed: int, is_report: bool) -> float:
    """How well it does without exploration: steps until the pole falls, or right answers in %.

    Args:
        task: which.
        model: to be scored.
        seed: of the episodes; no episodes of learning.
        is_report: digits are test images, and otherwise validation images.
    """
    if task == "CartPole":
        # Monitored, so that episodes are counted in full; other seeds than those of learning.
        env = make_vec_env(CARTPOLE, _EPISODES, seed=_EVALUATION_SEED + _EPISODES * seed)
        steps, _ = evaluate_policy(model, env, _EPISODES)
        return float(np.mean(steps))
    split = "test" if is_report else "validation"
    env = VectorEnvAdapter(gymnasium.make_vec(DIGITS, num_envs=100, split=split))
    (count, *_) = env.get_attr("num_images")
    accuracy, _ = evaluate_policy(model, env, count, warn=False)
    return 100 * float(np.mean(accuracy))
