"""Pendulum: equal to Gymnasium's, and what an episode's record holds."""

import gymnasium
import numpy as np
import pytest
import torch

from credit_envs.tasks.control import ControlTask
from credit_envs.tasks.pendulum import MAX_SPEED, Pendulum

NORMAL, REVERSED = "CreditAssign-Pendulum-v0", "CreditAssign-ReversedPendulum-v0"
HORIZON = 200


def dynamics_of(*variants: str, gravities=(10.0,), masses=(1.0,)) -> Pendulum:
    return Pendulum(variants, gravities, masses, torch.device("cpu"))


def play_batched(dynamics, starts, tasks, actions):
    """States `(T, 2, P)` and rewards `(T, P)`; state t is the one after step t."""
    dynamics.begin(torch.tensor(starts), torch.tensor(tasks))
    states, rewards = [], []
    for action in torch.tensor(actions)[:, None]:
        reward, over = dynamics.step(action)
        assert not over.any()
        states.append(dynamics.state.numpy().copy())
        rewards.append(reward.numpy().copy())
    return np.array(states), np.array(rewards)


def play_gymnasiums(start, torques, gravity=10.0, mass=1.0):
    """States `(T, 2)`, rewards and observations of an episode in `Pendulum-v1`."""
    env = gymnasium.make("Pendulum-v1", g=gravity)
    env.reset(seed=0)
    env.unwrapped.m = mass
    env.unwrapped.state = start.copy()
    states, rewards, seen = [], [], []
    for torque in torques:
        observation, reward, terminated, truncated, _ = env.step(torque[None])
        states.append(env.unwrapped.state.copy())
        rewards.append(reward)
        seen.append(observation)
        assert not terminated
    assert truncated
    return np.array(states), np.array(rewards), np.array(seen)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize(("gravity", "mass"), [(10.0, 1.0), (4.0, 1.0), (10.0, 0.6)])
@pytest.mark.parametrize("variant", ["normal", "reversed"])
def test_dynamics_equal_gymnasiums(variant, gravity, mass, precision):
    """States and rewards of whole episodes with random actions, to 1e-9.

    Some start far outside, turn over many times and reach the largest speed.
    """
    rng = np.random.default_rng(0)
    episodes = 48
    starts = rng.uniform(-1, 1, (2, episodes)) * [[np.pi], [1]] * rng.choice([1, 7], episodes)
    actions = rng.uniform(-1, 1, (HORIZON, episodes)).astype(precision)
    actions[:, :8] = np.sign(actions[:, :8].mean(0))
    dynamics = dynamics_of(variant, gravities=(gravity,), masses=(mass,))
    states, rewards = play_batched(dynamics, starts, [0] * episodes, actions)
    assert np.abs(states[:, 1]).max() == MAX_SPEED
    assert np.abs(states[:, 0]).max() > 4 * np.pi
    for i in range(episodes):
        torques = actions[:, i] * precision(2 if variant == "normal" else -2)
        expected_states, expected_rewards, _ = play_gymnasiums(starts[:, i], torques, gravity, mass)
        np.testing.assert_allclose(states[:, :, i], expected_states, rtol=0, atol=1e-9)
        np.testing.assert_allclose(rewards[:, i], expected_rewards, rtol=0, atol=1e-9)


def test_the_precision_of_actions_is_what_episodes_differ_by():
    """Gymnasium computes 3u in the action's precision: equal torques, different episodes."""
    rng = np.random.default_rng(0)
    torques = rng.uniform(-2, 2, HORIZON).astype(np.float32)
    start = np.array([0.3, 0.0])
    single, _, _ = play_gymnasiums(start, torques)
    double, _, _ = play_gymnasiums(start, torques.astype(np.float64))
    assert 1e-8 < np.abs(single - double).max() < 1e-3


@pytest.mark.parametrize("env_id", [NORMAL, REVERSED])
def test_record_of_an_episode_is_what_gymnasium_plays(env_id):
    """The recorded actions, played in `Pendulum-v1`, give what the record says was seen."""
    num_envs, scale = 12, 0.25
    env = gymnasium.make_vec(env_id, num_envs=num_envs, num_updates=3, reward_scale=scale)
    _, reset_info = env.reset(seed=5)
    task = env.unwrapped.task
    assert isinstance(task, ControlTask)
    for _ in range(2):
        action = np.random.default_rng(0).uniform(-1, 1, env.action_space.shape)
        observation, *_, info = env.step(action.astype(np.float32))
        starts = task.episode_starts().numpy()
        assert (np.abs(starts) <= [[np.pi], [1.0]]).all()
        for i in range(num_envs):
            seen, acted, reward, mask = np.split(observation[i], [3, 4, 5], axis=1)
            sign = -1 if env_id == REVERSED and reset_info["task"][i] else 1
            _, expected_rewards, expected = play_gymnasiums(starts[:, i], 2 * sign * acted[:, 0])
            angle, speed = starts[:, i]
            expected = np.vstack([[np.cos(angle), np.sin(angle), speed], expected[:-1]])
            np.testing.assert_allclose(seen, expected * [1, 1, 0.5], rtol=0, atol=1e-6)
            np.testing.assert_allclose(reward[:, 0] / scale, expected_rewards, rtol=1e-6)
            assert (mask == 1).all()
            assert info["episode_return"][i] == pytest.approx(expected_rewards.sum(), rel=1e-5)


def test_agents_act_as_their_networks_say():
    env = gymnasium.make_vec(NORMAL, num_envs=2, hidden_sizes=(4,), horizon=20, init_stdev=1.0)
    observation, _ = env.reset(seed=1)
    task = env.unwrapped.task
    assert task.num_parameters == 4 * 4 + 5
    for i in range(2):
        hidden, out = (
            part.view(rows, -1)
            for part, rows in zip(torch.split(task.parameters[i], [16, 5]), [4, 1], strict=True)
        )
        state = torch.tensor(observation[i, :, :3])
        inner = torch.tanh(state @ hidden[:, :-1].T + hidden[:, -1])
        action = torch.tanh(inner @ out[0, :-1] + out[0, -1])
        np.testing.assert_allclose(observation[i, :, 3], action, atol=1e-6)


def test_default_agent():
    env = gymnasium.make(NORMAL)
    assert env.observation_space.shape == (200, 6)
    assert env.action_space.shape == (3 * 8 + 8 + 8 + 1,)


def test_a_reversed_agent_mirrored_does_the_same():
    """Output weights of the other sign undo the reversal."""
    env = gymnasium.make_vec(REVERSED, num_envs=4, hidden_sizes=())
    env.reset_tensors([3] * 4, task=np.array([0, 0, 1, 1]))
    task = env.unwrapped.task
    mirror = -2.0 * task.parameters.clone()
    mirror[:2] = 0.0
    env.step_tensors(mirror / env.unwrapped.credit_scale)
    returns = task.episode_return
    torch.testing.assert_close(returns[:2], returns[2:])


def test_reward_scale_leaves_returns_alone():
    returns, rewards = [], []
    for scale in (0.1, 1.0):
        env = gymnasium.make_vec(NORMAL, num_envs=3, reward_scale=scale)
        env.reset(seed=0)
        action = np.full(env.action_space.shape, 0.1, dtype=np.float32)
        _, reward, *_, info = env.step(action)
        returns.append(info["episode_return"])
        rewards.append(reward)
    np.testing.assert_allclose(*returns, rtol=1e-5)
    np.testing.assert_allclose(10 * rewards[0], rewards[1], rtol=1e-3)


def test_an_agent_that_diverges_gets_the_worst_return():
    env = gymnasium.make(NORMAL, credit_scale=1e38, horizon=50)
    env.reset(seed=0)
    action = np.full(env.action_space.shape, 100, dtype=np.float32)
    *_, terminated, _, info = env.step(action)
    assert terminated
    assert info["diverged"]
    worst = 50 * (np.pi**2 + 0.1 * 8**2 + 0.001 * 2**2)
    assert info["episode_return"] == pytest.approx(-worst)


def test_several_gravities_and_masses_are_tasks():
    env = gymnasium.make_vec(REVERSED, num_envs=4, gravity=(5, 15.0))
    assert env.unwrapped.task.task_names == (
        "normal, gravity 5",
        "reversed, gravity 5",
        "normal, gravity 15",
        "reversed, gravity 15",
    )
    observation, info = env.reset(seed=[7] * 4, options={"task": [0, 1, 2, 3]})
    assert info["task"].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(observation[0, 0], observation[3, 0])
    assert len({tuple(rows) for rows in observation[:, 1, :3]}) == 4
    one = gymnasium.make_vec(NORMAL, num_envs=1, gravity=15)
    np.testing.assert_array_equal(one.reset(seed=7)[0][0], observation[2])
    both = gymnasium.make_vec(NORMAL, num_envs=4, gravity=(5, 15), mass=(0.5, 1))
    assert both.unwrapped.task.task_names[1] == "normal, gravity 5, mass 1"


def test_episodes_start_afresh_and_follow_from_the_life():
    env = gymnasium.make_vec(NORMAL, num_envs=3)
    first, _ = env.reset(seed=[1, 1, 2])
    second, *_ = env.step(np.zeros(env.action_space.shape, dtype=np.float32))
    for observation in (first, second):
        np.testing.assert_array_equal(observation[0], observation[1])
        assert not np.array_equal(observation[0, 0], observation[2, 0])
    assert not np.array_equal(first[0, 0], second[0, 0])
