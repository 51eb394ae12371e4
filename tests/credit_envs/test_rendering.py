"""Pictures: fresh RGB frames that follow the first network's life."""

import gymnasium
import matplotlib
import numpy as np
import pytest

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
def test_vector_environment_draws_its_first_network(make, make_vec, env_id):
    env, vector = (
        make(env_id, render_mode="rgb_array"),
        make_vec(env_id, 2, render_mode="rgb_array"),
    )
    env.reset(seed=4)
    vector.reset(seed=[4, 9])
    for action in np.zeros((2, *vector.action_space.shape), dtype=np.float32):
        env.step(action[0])
        vector.step(action)
    (frame,) = vector.render()
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


def test_size_is_independent_of_the_users_style(make):
    env = make("CreditAssign-Gaussian-v0", render_mode="rgb_array")
    env.reset(seed=0)
    with matplotlib.rc_context({"savefig.bbox": "tight", "savefig.dpi": 30, "figure.dpi": 50}):
        assert env.render().shape == (320, 720, 3)


def test_record_video_wrapper_takes_our_frames(make):
    env = gymnasium.wrappers.RenderCollection(
        make("CreditAssign-CartPole-v0", render_mode="rgb_array")
    )
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert len(env.render()) == 2
