"""CartPole: equal to Gymnasium's, and what an episode's record holds."""

import gymnasium
import numpy as np
import pytest
import torch

from credit_envs.tasks.cartpole import STATE_SCALE, CartPole
from credit_envs.tasks.control import ControlTask

NORMAL, REVERSED = "CreditAssign-CartPole-v0", "CreditAssign-ReversedCartPole-v0"
BALANCING = np.array([0, 0, 0, 0, 0, 0.3, 0.8, 3, 2, 0], dtype=np.float32)
"""Parameters of a linear agent that pushes where the pole falls."""


def gymnasium_cartpole(start, pole_mass=0.1, pole_length=0.5):
    env = gymnasium.make("CartPole-v1", max_episode_steps=10_000)
    env.reset(seed=0)
    cart_pole = env.unwrapped
    cart_pole.state = tuple(start)
    cart_pole.masspole, cart_pole.length = pole_mass, pole_length
    cart_pole.total_mass = cart_pole.masscart + pole_mass
    cart_pole.polemass_length = pole_mass * pole_length
    return env


@pytest.mark.parametrize("variant", ["normal", "reversed"])
@pytest.mark.parametrize(("pole_mass", "pole_length"), [(0.1, 0.5), (0.7, 0.3), (0.02, 1.5)])
def test_dynamics_equal_gymnasiums(variant, pole_mass, pole_length):
    """States and ends of episodes with random actions, to 1e-9."""
    rng = np.random.default_rng(0)
    episodes = 64
    starts = rng.uniform(-0.05, 0.05, (4, episodes)) * 4
    dynamics = CartPole((variant,), (9.0, pole_mass), (pole_length,), torch.device("cpu"))
    dynamics.begin(torch.tensor(starts), torch.ones(episodes, dtype=torch.long))
    actions = rng.integers(2, size=(300, episodes))
    states, ended = [], []
    for action in actions:
        reward, over = dynamics.step(torch.tensor(action * 2.0 - 1.0)[None])
        states.append(dynamics.state.clone())
        ended.append(over.clone())
        assert reward.tolist() == [1.0] * episodes
    for i in range(episodes):
        env = gymnasium_cartpole(starts[:, i], pole_mass, pole_length)
        for t, action in enumerate(actions[:, i]):
            push = int(action) if variant == "normal" else 1 - int(action)
            _, reward, terminated, _, _ = env.step(push)
            assert reward == 1.0
            np.testing.assert_allclose(states[t][:, i], env.unwrapped.state, rtol=0, atol=1e-9)
            assert terminated == bool(ended[t][i])
            if terminated:
                break
        assert terminated


def play_in_gymnasium(parameters, start, horizon, reverse):
    """An agent's episode in `CartPole-v1`: what it saw, what it did, and its return."""
    weights = parameters.reshape(2, 5)
    env = gymnasium_cartpole(start)
    state, seen, acted = np.array(start), [], []
    for _ in range(horizon):
        sight = (state * STATE_SCALE).astype(np.float32)
        outputs = weights[:, :4] @ sight + weights[:, 4]
        action = int(outputs[1] > outputs[0])
        seen.append(sight)
        acted.append(2 * action - 1)
        _, _, terminated, _, _ = env.step(1 - action if reverse else action)
        state = np.array(env.unwrapped.state)
        if terminated:
            break
    return np.array(seen), np.array(acted), float(len(acted))


@pytest.mark.parametrize("env_id", [NORMAL, REVERSED])
def test_record_of_an_episode_is_what_gymnasium_plays(env_id):
    num_envs, horizon = 32, 120
    env = gymnasium.make_vec(env_id, num_envs=num_envs, horizon=horizon, num_updates=3)
    _, reset_info = env.reset(seed=5)
    task = env.unwrapped.task
    assert isinstance(task, ControlTask)
    for _ in range(2):
        action = BALANCING + np.random.default_rng(0).normal(0, 1, (num_envs, 10))
        observation, *_, info = env.step(action.astype(np.float32))
        starts = task.episode_starts().numpy()
        returns = []
        for i in range(num_envs):
            reverse = bool(reset_info["task"][i]) and env_id == REVERSED
            seen, acted, episode_return = play_in_gymnasium(
                task.parameters[i].numpy(), starts[:, i], horizon, reverse
            )
            length = len(acted)
            rows = observation[i]
            np.testing.assert_allclose(rows[:length, :4], seen, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(rows[:length, 4], acted)
            np.testing.assert_array_equal(rows[:length, 5:], 1.0)
            assert not rows[length:].any()
            assert info["episode_return"][i] == episode_return
            returns.append(episode_return)
        assert min(returns) < horizon
        assert max(returns) == horizon or env_id == REVERSED


def test_credits_move_parameters():
    env = gymnasium.make_vec(NORMAL, num_envs=3, credit_scale=0.25, hidden_sizes=(3,))
    env.reset(seed=0)
    task = env.unwrapped.task
    before = task.parameters.clone()
    assert task.num_parameters == 5 * 3 + 4 * 2
    action = np.random.default_rng(0).uniform(-1, 1, env.action_space.shape).astype(np.float32)
    env.step(action)
    np.testing.assert_allclose(task.parameters, before + 0.25 * torch.tensor(action), atol=1e-6)


@pytest.mark.parametrize("env_id", [NORMAL, REVERSED])
def test_reward_scale_leaves_returns_alone(env_id):
    action = np.full((3, 10), 0.5, dtype=np.float32)
    seen = []
    for scale in (1.0, 0.25):
        env = gymnasium.make_vec(env_id, num_envs=3, reward_scale=scale)
        env.reset(seed=0)
        observation, reward, *_, info = env.step(action)
        seen.append((reward, info["episode_return"], observation))
    (reward, returns, record), (scaled_reward, same_returns, scaled_record) = seen
    np.testing.assert_array_equal(scaled_reward, 0.25 * reward)
    np.testing.assert_array_equal(same_returns, returns)
    np.testing.assert_array_equal(scaled_record[..., 5], 0.25 * record[..., 5])
    np.testing.assert_array_equal(np.delete(scaled_record, 5, 2), np.delete(record, 5, 2))
    assert reward.any()


def test_agents_with_hidden_layers():
    """Parameters are ordered by layer, each by output: its weights, then its bias."""
    env = gymnasium.make_vec(NORMAL, num_envs=2, hidden_sizes=(3, 4), horizon=15)
    env.reset(seed=1)
    task = env.unwrapped.task
    for i in range(2):
        sizes = [(4, 3), (3, 4), (4, 2)]
        layers, parts = [], torch.split(task.parameters[i], [15, 16, 10])
        for (inputs, outputs), part in zip(sizes, parts, strict=True):
            linear = torch.nn.Linear(inputs, outputs)
            matrix = part.view(outputs, inputs + 1)
            linear.weight.data, linear.bias.data = matrix[:, :-1], matrix[:, -1]
            layers += [linear, torch.nn.Tanh()]
        rows = task.observe()[i]
        rows = rows[rows[:, -1] > 0]
        outputs = torch.nn.Sequential(*layers[:-1])(rows[:, :4])
        np.testing.assert_array_equal(rows[:, 4], outputs.argmax(1) * 2 - 1)


def test_episodes_start_afresh_and_follow_from_the_life():
    env = gymnasium.make_vec(NORMAL, num_envs=3)
    first, _ = env.reset(seed=[1, 1, 2])
    second, *_ = env.step(np.zeros((3, 10), dtype=np.float32))
    for observation in (first, second):
        np.testing.assert_array_equal(observation[0], observation[1])
        assert not np.array_equal(observation[0, 0], observation[2, 0])
        starts = observation[:, 0, :4] / np.array(STATE_SCALE)
        assert np.abs(starts).max() <= 0.05 + 1e-6
    assert not np.array_equal(first[0, 0], second[0, 0])


def test_option_task_picks_the_variant():
    env = gymnasium.make_vec(REVERSED, num_envs=4)
    assert 0 < env.reset(seed=0)[1]["task"].mean() < 1
    normal, info = env.reset(seed=0, options={"task": 0})
    assert info["task"].tolist() == [0] * 4
    backward, info = env.reset(seed=0, options={"task": [1, 1, 0, 0]})
    assert info["task"].tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(normal[2:], backward[2:])
    np.testing.assert_array_equal(normal[:, 0, :5], backward[:, 0, :5])  # Equal until pushed.
    assert not np.array_equal(normal[0, 1], backward[0, 1])


@pytest.mark.parametrize("variant", [0, 1])
def test_credits_that_fit_the_variant_make_agents_balance(variant):
    """One fixed change of parameters serves one variant only."""
    env = gymnasium.make_vec(REVERSED, num_envs=8, num_updates=8, credit_scale=1.0, init_stdev=0.01)
    _, info = env.reset(seed=0, options={"task": variant})
    for _ in range(7):
        *_, info = env.step(np.tile(BALANCING / 4, (8, 1)))
    if variant == 0:
        assert info["episode_return"].tolist() == [200.0] * 8
    else:
        assert info["episode_return"].max() < 20


@pytest.mark.parametrize("num_updates", [1, 2, 6])
def test_lives_last_num_updates_episodes(num_updates):
    env = gymnasium.make(NORMAL, num_updates=num_updates)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2] for _ in range(num_updates)]
    assert ends == [False] * (num_updates - 1) + [True]


def test_others_keep_their_episode_when_one_life_starts():
    env = gymnasium.make_vec(NORMAL, num_envs=3, credit_scale=1e3)
    before, _ = env.reset(seed=0)
    task = env.unwrapped.task
    returns = task.episode_return.clone()
    task.start(np.array([77]), np.array([1]), {})
    after = task.observe()
    np.testing.assert_array_equal(before[[0, 2]], after[[0, 2]])
    assert torch.equal(returns[[0, 2]], task.episode_return[[0, 2]])
    alone, _ = gymnasium.make(NORMAL).reset(seed=77)
    np.testing.assert_array_equal(after[1], alone)


def test_long_after_the_end_all_is_finite():
    """Agents whose episode is over are stepped on for as long as one of them plays."""
    env = gymnasium.make_vec(NORMAL, num_envs=2, horizon=6000)
    env.reset(seed=0)
    action = np.zeros((2, 10), dtype=np.float32)
    action[0] = 8 * BALANCING
    observation, *_, info = env.step(action)
    assert np.isfinite(observation).all()
    assert info["episode_return"][1] < 200
