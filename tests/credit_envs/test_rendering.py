"""Pictures: fresh RGB frames that follow each network's life."""

import pickle

import gymnasium
import matplotlib
import numpy as np
import pytest
from gymnasium.wrappers.vector import RecordVideo

import credit_envs

every_id = pytest.mark.parametrize("env_id", credit_envs.environment_ids("CreditAssign"))


@every_id
def test_frames_are_fresh_and_change(make, env_id):
    env = make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    first, again = env.render(), env.render()
    assert (first.dtype, first.shape) == (np.uint8, (320, 720, 3))
    assert not np.shares_memory(first, again)
    np.testing.assert_array_equal(first, again)
    env.step(np.ones(env.action_space.shape, dtype=np.float32))
    assert not np.array_equal(env.render(), first)


@every_id
def test_vector_environment_draws_each_network(make, make_vec, env_id):
    envs = [make(env_id, render_mode="rgb_array") for _ in range(2)]
    vector = make_vec(env_id, 2, render_mode="rgb_array")
    vector.reset(seed=[4, 9])
    for env, seed in zip(envs, (4, 9), strict=True):
        env.reset(seed=seed)
    actions = np.random.default_rng(0).uniform(-1, 1, (2, *vector.action_space.shape))
    for action in actions.astype(np.float32):
        vector.step(action)
        for env, own in zip(envs, action, strict=True):
            env.step(own)
    frames = vector.render()
    assert not np.array_equal(*frames)
    for frame, env in zip(frames, envs, strict=True):
        assert frame.shape == (320, 720, 3)
        assert np.mean(np.abs(frame.astype(int) - env.render())) < 1


def test_a_new_life_begins_a_new_picture(make, make_vec):
    env_id = "CreditAssign-Gaussian-v0"
    vector = make_vec(env_id, 1, num_updates=2, render_mode="rgb_array")
    vector.reset(seed=0)
    for _ in range(2):
        vector.step(np.ones((1, 2), dtype=np.float32))
    env = make(env_id, num_updates=2, render_mode="rgb_array")
    env.reset(seed=0)
    env.reset()
    np.testing.assert_array_equal(vector.render()[0], env.render())


def test_without_render_mode_there_is_a_warning_and_no_frame(make_vec):
    env = make_vec("CreditAssign-Gaussian-v0", 2)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


def test_rendering_before_reset_names_the_fix(make_vec):
    env = make_vec("CreditAssign-Gaussian-v0", 2, render_mode="rgb_array")
    with pytest.raises(RuntimeError, match=r"call reset\(\) before render\(\)"):
        env.render()


@every_id
def test_lives_in_tensors_are_not_recorded(make_vec, env_id):
    """Nor is a former life drawn for them."""
    env = make_vec(env_id, 1, render_mode="rgb_array")
    env.reset(seed=0)
    env.reset_tensors([5])
    with pytest.raises(RuntimeError, match=r"step_tensors\(\) record nothing"):
        env.render()
    env.close()


def test_images_keep_their_last_observation_alone(make_vec):
    """All of a life would be gigabytes."""
    env = make_vec("CreditAssign-Digits-v0", 1, render_mode="rgb_array")
    env.reset(seed=0)
    sizes = []
    for action in np.zeros((3, *env.action_space.shape), dtype=np.float32):
        env.step(action)
        sizes.append(len(pickle.dumps(env)))
    assert sizes[2] - sizes[0] < 1000


@pytest.mark.parametrize("env_id", ["CreditAssign-CartPole-v0", "ClassificationBandit-Digits-v0"])
def test_gymnasiums_vector_wrapper_records_videos(make_vec, env_id, tmp_path):
    env = RecordVideo(
        make_vec(env_id, 3, render_mode="rgb_array"),
        str(tmp_path),
        episode_trigger=lambda episode: episode == 0,
        disable_logger=True,
    )
    env.reset(seed=0)
    for _ in range(3):
        env.step(env.action_space.sample())
    env.close()
    assert [path.suffix for path in tmp_path.iterdir() if path.stat().st_size] == [".mp4"]


def test_size_is_independent_of_the_users_style(make):
    env = make("CreditAssign-Gaussian-v0", render_mode="rgb_array")
    env.reset(seed=0)
    with matplotlib.rc_context({"savefig.bbox": "tight", "savefig.dpi": 30, "figure.dpi": 50}):
        assert env.render().shape == (320, 720, 3)


def test_render_collection_wrapper_takes_our_frames(make):
    env = gymnasium.wrappers.RenderCollection(
        make("CreditAssign-CartPole-v0", render_mode="rgb_array")
    )
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert len(env.render()) == 2
