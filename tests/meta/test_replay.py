"""Agents behave in Gymnasium's own CartPole as they did in the batched one."""

import numpy as np
import pytest

from agents import TDCARNNPolicy
from meta.baselines import spaces
from meta.replay import replay_in_gymnasium


@pytest.mark.parametrize("name", ["CartPole", "ReversedCartPole"])
@pytest.mark.parametrize("hidden_sizes", [(), (5,)])
def test_returns_are_the_same(name, hidden_sizes):
    env_id = f"CreditAssign-{name}-v0"
    kwargs = {"hidden_sizes": hidden_sizes, "num_updates": 3, "horizon": 80}
    policy = TDCARNNPolicy(*spaces(env_id, kwargs), hidden_size=4)
    batched, replayed = replay_in_gymnasium(policy, env_id, kwargs, range(40))
    np.testing.assert_array_equal(batched, replayed)
    assert len(set(replayed)) > 5
