"""Classification bandits in Stable-Baselines3."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from agents import VectorEnvAdapter
from tests.conftest import made_up_images

IMAGES = "ClassificationBandit-Images-v0"
DATA = made_up_images((1, 4, 5), classes=3, train=60, test=31)


class ByPixels:
    """A fixed policy: a class from the sum of an image's pixels."""

    @staticmethod
    def answers(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).sum(1, dtype=np.int64) % 3

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        return self.answers(observation), state


def adapter(num_envs: int, **kwargs: Any) -> VectorEnvAdapter:
    return VectorEnvAdapter(gymnasium.make_vec(IMAGES, num_envs=num_envs, **settings(**kwargs)))


def settings(**kwargs: Any) -> dict[str, Any]:
    return {"data": DATA, "num_validation": 20} | kwargs


@pytest.mark.parametrize("num_envs", [1, 2, 4, 7, 16, 30, 31])
@pytest.mark.parametrize("split", ["test", "validation", "train"])
def test_evaluate_policy_gives_the_exact_accuracy(num_envs, split):
    if split == "validation" and num_envs > 20:
        num_envs = 19
    env = adapter(num_envs, split=split, order="sequential")
    (count,) = set(env.get_attr("num_images"))
    env.reset()
    dataset = env.env.dataset
    if split == "test":
        right = ByPixels.answers(dataset.x_test) == dataset.y_test
        assert count == 31
    else:
        images, info = gymnasium.make_vec(
            IMAGES, num_envs=count, **settings(split=split, order="sequential")
        ).reset()
        np.testing.assert_array_equal(images, dataset.x_train[info["index"]])
        right = ByPixels.answers(images) == dataset.y_train[info["index"]]
    assert 0 < right.mean() < 1
    for _ in range(3):  # It need not begin at the first image.
        mean, std = evaluate_policy(ByPixels(), env, n_eval_episodes=count, warn=False)
        assert (mean, std) == pytest.approx((right.mean(), right.std()))
        rewards, lengths = evaluate_policy(
            ByPixels(), VecMonitor(env), n_eval_episodes=count, return_episode_rewards=True
        )
        assert sum(rewards) == right.sum()
        assert set(lengths) == {1}
        env.step(np.zeros(num_envs, dtype=np.int64))


def test_evaluate_policy_of_the_scalar_environment():
    env = gymnasium.make(IMAGES, **settings(split="test"))
    right = ByPixels.answers(DATA[2]) == DATA[3]
    for _ in range(2):
        mean, _ = evaluate_policy(ByPixels(), env, n_eval_episodes=31, warn=False)
        assert mean == pytest.approx(right.mean())


def test_same_as_stable_baselines_own_vec_env():
    ours = adapter(1)
    theirs = make_vec_env(IMAGES, n_envs=1, env_kwargs=settings())
    for env in (ours, theirs):
        env.seed(11)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    assert ours.reset_infos[0] == theirs.reset_infos[0]
    rng = np.random.default_rng(0)
    for _ in range(50):
        answers = rng.integers(3, size=1)
        a, b = ours.step(answers), theirs.step(answers)
        for mine, other in zip(a[:3], b[:3], strict=True):
            np.testing.assert_array_equal(mine, other)
            assert mine.dtype == other.dtype
        (mine,), (other,) = a[3], b[3]
        other.pop("episode")
        np.testing.assert_array_equal(
            mine.pop("terminal_observation"), other.pop("terminal_observation")
        )
        assert mine == other
        assert ours.reset_infos[0] == theirs.reset_infos[0]


def test_infos_of_many():
    env = adapter(9)
    env.seed(0)
    env.reset()
    for _ in range(12):
        before = env.reset_infos
        infos = env.step(np.zeros(9, dtype=np.int64))[3]
        for info, shown in zip(infos, before, strict=True):
            assert (info["label"], info["index"]) == (shown["label"], shown["index"])
            assert shown["dataset"] == "Images"
            assert not info["terminal_observation"].any()
            assert info["TimeLimit.truncated"] is False
    assert env.reset_infos[0]["index"] == env.env.index[0]


def test_ppo_learns_made_up_images():
    """The classes differ by a brighter stripe."""
    env = adapter(32, num_validation=0)
    model = PPO(
        "MlpPolicy", env, n_steps=8, batch_size=64, learning_rate=3e-3, device="cpu", seed=0
    )
    test = adapter(8, split="test")
    model.learn(2_000)
    mean, _ = evaluate_policy(model, test, n_eval_episodes=31, warn=False)
    assert mean > 0.6


@pytest.mark.parametrize("num_envs", [1, 8])
def test_dqn_stores_what_happened(num_envs):
    env = adapter(num_envs, num_validation=0)
    model = DQN(
        "MlpPolicy", env, buffer_size=200, learning_starts=16, batch_size=8, device="cpu", seed=0
    )
    model.learn(80)
    buffer = model.replay_buffer
    assert buffer is not None
    stored = buffer.pos * num_envs
    assert stored == model.num_timesteps >= 80
    images = buffer.observations[: buffer.pos].reshape(stored, 1, 4, 5)
    label_of = {image.tobytes(): label for image, label in zip(DATA[0], DATA[1], strict=True)}
    labels = np.array([label_of[image.tobytes()] for image in images])
    actions = buffer.actions[: buffer.pos].reshape(stored)
    np.testing.assert_array_equal(
        buffer.rewards[: buffer.pos].reshape(stored), (actions == labels).astype(np.float32)
    )
    assert buffer.dones[: buffer.pos].all()
    assert not buffer.next_observations[: buffer.pos].any()
    assert not buffer.timeouts[: buffer.pos].any()


def test_wrappers():
    env = VecNormalize(VecMonitor(adapter(4)), norm_obs=False)
    env.reset()
    assert all(info["episode"]["l"] == 1 for info in env.step(np.zeros(4, dtype=int))[3])
    counted = RecordEpisodeStatistics(gymnasium.make_vec(IMAGES, num_envs=4, **settings()))
    _, info = counted.reset(seed=0)
    for answer in (info["label"], np.zeros(4, dtype=int)):
        *_, info = counted.step(answer)
        assert info["episode"]["l"].tolist() == [1] * 4
