"""Our vector environments, and Gymnasium's, as Stable-Baselines3 `VecEnv`s."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

import credit_envs
from agents import VectorEnvAdapter

GAUSSIAN = "CreditAssign-Gaussian-v0"
of_every_family = pytest.mark.parametrize("env_id", credit_envs.environment_ids())
every_id = pytest.mark.parametrize("env_id", credit_envs.environment_ids("CreditAssign"))


def assert_infos_equal(ours, theirs):
    theirs = {key: value for key, value in theirs.items() if key != "episode"}
    if "terminal_observation" not in theirs:
        theirs.pop("TimeLimit.truncated", None)  # We say so on the last step only.
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if isinstance(value, float) or key == "terminal_observation":
            np.testing.assert_allclose(ours[key], value, atol=1e-5)
        else:
            np.testing.assert_array_equal(ours[key], value)


@every_id
def test_same_as_stable_baselines_own_vec_env(make_vec, small_settings, env_id):
    """`DummyVecEnv` over scalar environments, step by step, over the ends of lives."""
    ours = VectorEnvAdapter(make_vec(env_id, 3))
    theirs = make_vec_env(
        env_id, n_envs=3, env_kwargs=small_settings(env_id), monitor_kwargs={}, seed=None
    )
    for env in (ours, theirs):
        env.seed(11)
    np.testing.assert_allclose(ours.reset(), theirs.reset(), atol=1e-5)
    for a, b in zip(ours.reset_infos, theirs.reset_infos, strict=True):
        assert_infos_equal(a, b)
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(9):
        actions = rng.uniform(-1, 1, (3, *ours.action_space.shape)).astype(np.float32)
        ours_returned, theirs_returned = ours.step(actions), theirs.step(actions)
        for a, b in zip(ours_returned[:3], theirs_returned[:3], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
            assert a.dtype == b.dtype
        for a, b in zip(ours_returned[3], theirs_returned[3], strict=True):
            assert_infos_equal(a, b)
        for a, b in zip(ours.reset_infos, theirs.reset_infos, strict=True):
            assert_infos_equal(a, b)
        ends += ours_returned[2].sum()
    assert ends


@of_every_family
def test_ppo_learns(make_vec, env_id):
    env = VecMonitor(VectorEnvAdapter(make_vec(env_id, 4)))
    model = PPO("MlpPolicy", env, n_steps=4, batch_size=8, n_epochs=1, device="cpu", seed=0)
    model.learn(32)
    assert model.num_timesteps == 32
    mean, _ = evaluate_policy(model, env, n_eval_episodes=4, warn=False)
    assert np.isfinite(mean)


def test_gymnasiums_vector_environments_too():
    sync = SyncVectorEnv(
        [lambda: gymnasium.make("CartPole-v1", max_episode_steps=6)] * 2,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    env = VectorEnvAdapter(sync)
    env.seed(0)
    env.reset()
    for t in range(1, 13):
        observation, rewards, dones, infos = env.step(np.array([t % 2, t % 2]))
        assert rewards.tolist() == [1.0, 1.0]
        assert dones.tolist() == [t % 6 == 0] * 2
        for info in infos:
            assert ("terminal_observation" in info) == (t % 6 == 0)
            assert info.get("TimeLimit.truncated", False) == (t % 6 == 0)
    assert observation.shape == (2, 4)


class EndsAsTimeIsUp(gymnasium.Env):
    """Its first step is the last, and the last that a limit of one allows."""

    observation_space = action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 1, 0.0, True, False, {}


def test_what_has_ended_was_not_cut_off():
    make = [lambda: gymnasium.wrappers.TimeLimit(EndsAsTimeIsUp(), 1)] * 2
    env = VectorEnvAdapter(SyncVectorEnv(make, autoreset_mode=AutoresetMode.SAME_STEP))
    theirs = DummyVecEnv(make)
    for each in (env, theirs):
        each.reset()
        _, _, dones, infos = each.step(np.array([0, 1]))
        assert dones.all()
        assert [info["TimeLimit.truncated"] for info in infos] == [False, False]


def test_other_autoreset_modes_are_refused():
    env = gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    with pytest.raises(ValueError, match=r"TimeLimit is no vector environment"):
        VectorEnvAdapter(gymnasium.make("CartPole-v1"))
    with pytest.raises(ValueError, match=r"make it with AutoresetMode\.SAME_STEP"):
        VectorEnvAdapter(env)


def test_infos_are_made_once_and_when_looked_at(make_vec, monkeypatch):
    env = VectorEnvAdapter(make_vec(GAUSSIAN, 3))
    env.reset()
    made = []
    build = VectorEnvAdapter._step_infos
    monkeypatch.setattr(
        VectorEnvAdapter, "_step_infos", lambda *args: made.append(1) or build(*args)
    )
    infos = env.step(np.zeros((3, 2)))[3]
    assert not made
    assert infos[0]["diverged"] == False  # noqa: E712 (of NumPy)
    infos[1]["mine"] = 1
    infos[2] = {"other": 2}
    assert [info.get("mine") for info in infos] == [None, 1, None]
    assert list(infos[1:]) == infos.copy()[1:] == list(infos)[1:]
    assert (len(infos), infos[-1], len(made)) == (3, {"other": 2}, 1)
    infos.append({})
    del infos[0]
    assert len(infos) == 3


def test_seeds_and_options_are_used_once(make_vec):
    env = VectorEnvAdapter(make_vec(GAUSSIAN, 2))
    env.seed(5)
    env.set_options({"position": (1.0, 2.0)})
    assert env.reset().tolist() == [[1.0, 2.0]] * 2
    following = env.reset()
    other = make_vec(GAUSSIAN, 2)
    other.reset(seed=[5, 6])
    np.testing.assert_array_equal(following, other.reset()[0])


def test_attributes_methods_and_pictures(make_vec):
    env = VectorEnvAdapter(make_vec(GAUSSIAN, 3, render_mode="rgb_array"))
    env.reset()
    assert env.get_attr("num_updates") == [4, 4, 4]
    assert env.get_attr("num_updates", indices=1) == [4]
    env.set_attr("num_updates", 2)
    assert env.env.num_updates == 2
    assert env.env_method("_following_lives", indices=[0]) == [env.env._following_lives()]
    assert env.env_is_wrapped(VecMonitor) == [False] * 3
    assert len(env.get_images()) == 3
    assert env.render().shape == (640, 1440, 3)
    env.close()


def test_wrappers_of_stable_baselines(make_vec):
    env = VecNormalize(VecMonitor(VectorEnvAdapter(make_vec(GAUSSIAN, 3))))
    env.reset()
    for _ in range(4):
        _, _, dones, infos = env.step(np.zeros((3, 2)))
    assert dones.all()
    assert all(info["episode"]["l"] == 4 for info in infos)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "CreditAssign-Gaussian-v0"])
def test_episode_statistics_of_gymnasiums_wrapper_arrive(env_id):
    if env_id.startswith("Credit"):
        vector = gymnasium.make_vec(env_id, num_envs=4, num_updates=20)
    else:
        make = [lambda: gymnasium.make(env_id)] * 4
        vector = SyncVectorEnv(make, autoreset_mode=AutoresetMode.SAME_STEP)
    wrapped = gymnasium.wrappers.vector.RecordEpisodeStatistics(vector)
    learner = PPO("MlpPolicy", VectorEnvAdapter(wrapped), n_steps=64, batch_size=64).learn(256)
    assert len(learner.ep_info_buffer) == wrapped.episode_count > 0
