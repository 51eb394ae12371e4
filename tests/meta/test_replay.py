"""Agents behave in Gymnasium's own environments as they did in the batched ones."""

from typing import Any

import numpy as np
import pytest
import torch

from agents import TDCARNNPolicy
from meta.baselines import spaces
from meta.replay import replay_in_gymnasium


def seeded_policy(env_id: str, kwargs: dict[str, Any]) -> TDCARNNPolicy:
    policy = TDCARNNPolicy(*spaces(env_id, kwargs), hidden_size=4)
    policy.initialise(torch.Generator().manual_seed(0))
    return policy


@pytest.mark.parametrize("name", ["CartPole", "ReversedCartPole"])
@pytest.mark.parametrize("hidden_sizes", [(), (5,)])
def test_returns_in_cartpole_are_the_same(name, hidden_sizes):
    env_id = f"CreditAssign-{name}-v0"
    kwargs = {"hidden_sizes": hidden_sizes, "num_updates": 3, "horizon": 80}
    policy = seeded_policy(env_id, kwargs)
    replay = replay_in_gymnasium(policy, env_id, kwargs, range(40))
    assert replay.gymnasium_id == "CartPole-v1"
    np.testing.assert_array_equal(replay.batched, replay.replayed)
    assert replay.largest_difference == 0.0
    assert len(set(replay.replayed)) > 5


@pytest.mark.parametrize("name", ["Pendulum", "ReversedPendulum"])
@pytest.mark.parametrize("settings", [{}, {"hidden_sizes": (), "gravity": (6.0, 12.0)}])
def test_returns_in_pendulum_are_the_same(name, settings):
    env_id = f"CreditAssign-{name}-v0"
    kwargs = {"num_updates": 2, "horizon": 120, "reward_scale": 0.02, **settings}
    policy = seeded_policy(env_id, kwargs)
    replay = replay_in_gymnasium(policy, env_id, kwargs, range(12))
    assert replay.gymnasium_id == "Pendulum-v1"
    np.testing.assert_allclose(replay.batched, replay.replayed, rtol=1e-5)
    assert replay.largest_difference < 0.01
    assert len(set(replay.replayed)) == 12


@pytest.mark.parametrize("name", ["BipedalWalker", "MetaWorld"])
def test_gymnasiums_own_episodes_are_not_played_again(name):
    env_id = f"CreditAssign-{name}-v0"
    policy = seeded_policy(env_id, {"horizon": 2})
    with pytest.raises(ValueError, match="needs no replay: its episodes are played in Gymnasium's"):
        replay_in_gymnasium(policy, env_id, {"horizon": 2}, range(3))
