"""Climbing surfaces: heights, gradients, steps, reset options."""

import gymnasium
import numpy as np
import pytest
import torch

from credit_envs.tasks.surfaces import REGION, TWO_BUMPS, TWO_BUMPS_ELSEWHERE

IDS = ["CreditAssign-Gaussian-v0", "CreditAssign-MultiGaussian-v0"]


def test_surface_of_two_bumps():
    """exp(−r²/(2·1.6²)) + 0.7·exp(−|p − (2, 2)|²/(2·0.8²)) and its maxima."""
    rng = np.random.default_rng(0)
    p = rng.uniform(-4, 4, (100, 2))
    expected = np.exp(-(p**2).sum(1) / (2 * 1.6**2))
    expected += 0.7 * np.exp(-((p - 2) ** 2).sum(1) / (2 * 0.8**2))
    np.testing.assert_allclose(TWO_BUMPS.height(torch.tensor(p)), expected, rtol=1e-12)
    peaks = torch.tensor([[1.81, 1.81], [0.012, 0.012]], dtype=torch.float64)
    np.testing.assert_allclose(TWO_BUMPS.height(peaks), [0.940, 1.001], atol=1e-3)


@pytest.mark.parametrize("surface", [TWO_BUMPS, TWO_BUMPS_ELSEWHERE])
def test_global_maximum_is_highest(surface):
    peak = surface.global_maximum()
    line = torch.linspace(-REGION, REGION, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    assert surface.height(peak) >= surface.height(grid).max()
    np.testing.assert_allclose(torch.func.grad(surface.height)(peak), 0, atol=1e-12)


@pytest.mark.parametrize("env_id", IDS)
def test_points_move_by_their_credits(env_id):
    env = gymnasium.make_vec(env_id, num_envs=5, credit_scale=0.3)
    before, _ = env.reset(seed=1)
    action = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    after, reward, *_, info = env.step(action)
    np.testing.assert_allclose(after[:, :2], before[:, :2] + 0.3 * action, rtol=1e-5)
    np.testing.assert_array_equal(after[:, 2:], before[:, 2:])
    surfaces = env.unwrapped.task.surfaces
    which = before[:, 2:].argmax(1) if env_id == IDS[1] else np.zeros(5, dtype=int)

    def heights(observation):
        positions = torch.tensor(observation[:, :2])
        return np.array([surfaces[k].height(p) for k, p in zip(which, positions, strict=True)])

    np.testing.assert_allclose(info["height"], heights(after), rtol=1e-5)
    np.testing.assert_allclose(reward, heights(after) - heights(before), atol=1e-6)


@pytest.mark.parametrize("env_id", IDS)
def test_starts_fill_the_region(env_id):
    env = gymnasium.make_vec(env_id, num_envs=400)
    positions = env.reset(seed=0)[0][:, :2]
    assert np.abs(positions).max() <= REGION
    assert positions.min(0).max() < -3.9
    assert positions.max(0).min() > 3.9


def test_both_surfaces_are_drawn_and_named():
    env = gymnasium.make_vec(IDS[1], num_envs=400)
    observation, info = env.reset(seed=0)
    assert 150 < info["task"].sum() < 250
    np.testing.assert_array_equal(observation[:, 2:], np.eye(2)[info["task"]])


def test_options_set_position_and_task():
    env = gymnasium.make_vec(IDS[1], num_envs=3)
    observation, info = env.reset(seed=0, options={"position": (1.5, -2), "task": 1})
    np.testing.assert_array_equal(observation, [[1.5, -2, 0, 1]] * 3)
    assert info["task"].tolist() == [1, 1, 1]
    positions = np.arange(6).reshape(3, 2)
    observation, info = env.reset(options={"position": positions, "task": [1, 0, 1]})
    np.testing.assert_array_equal(observation[:, :2], positions)
    assert info["task"].tolist() == [1, 0, 1]
    tensors = env.unwrapped.reset_tensors([0, 0, 0], position=positions, task=[1, 0, 1])
    np.testing.assert_array_equal(tensors, observation)


def test_options_hold_for_one_life():
    env = gymnasium.make(IDS[0], num_updates=1)
    env.reset(seed=3, options={"position": (0, 0)})
    env.step(np.zeros(2, dtype=np.float32))
    free = gymnasium.make(IDS[0], num_updates=1)
    free.reset(seed=3)
    np.testing.assert_array_equal(env.reset()[0], free.reset()[0])


def test_gradient_ascent_is_trapped_by_the_lower_hill():
    """Why credits other than the gradient pay: about a fifth of the starts miss the top."""
    line = torch.linspace(-REGION, REGION, 41, dtype=torch.float64)
    p = torch.cartesian_prod(line, line)
    for _ in range(1000):
        p = p + 0.4 * torch.func.grad(lambda q: TWO_BUMPS.height(q).sum())(p)
    missed = (p - TWO_BUMPS.global_maximum()).norm(dim=1) > 0.1
    assert 0.15 < missed.double().mean() < 0.25
