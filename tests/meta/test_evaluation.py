"""Evaluation: the four conditions do to the credits what they say."""

import json

import gymnasium
import numpy as np
import pytest
import torch

from agents import CreditPolicy, DFAPolicy, TDCAPolicy, TDCARNNPolicy
from meta.baselines import spaces
from meta.climbing import climb
from meta.evaluation import evaluate
from meta.pgpe import PGPE

GAUSSIAN = "CreditAssign-Gaussian-v0"


class TowardsOrigin(CreditPolicy):
    """Steps against the position, so that every life has credits of its own."""

    def act(self, observation, beta=None):
        return -observation


def steps(condition: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions before and after the one update of each life."""
    policy = TowardsOrigin(*spaces(GAUSSIAN, {}))
    seen = []
    act = policy.act
    policy.act = lambda observation, beta=None: seen.append(observation.clone()) or act(observation)
    evaluation = evaluate(
        policy, GAUSSIAN, range(5), {"num_updates": 2, "credit_scale": 1.0}, [condition]
    )
    assert evaluation.conditions[condition].per_update["height"].shape == (5, 3)
    return seen[0].numpy(), seen[1].numpy()


def test_normal_credits_reach_their_own_network():
    before, after = steps("normal")
    np.testing.assert_allclose(after, 0 * before, atol=1e-6)


def test_constant_credits_are_the_mean_over_lives():
    before, after = steps("constant")
    np.testing.assert_allclose(after - before, np.tile(-before.mean(0), (5, 1)), atol=1e-6)


def test_shuffled_credits_are_all_somebody_elses():
    before, after = steps("shuffled")
    distance = np.abs((after - before)[:, None] + before[None]).max(-1)
    assert sorted(distance.argmin(1)) == list(range(5))
    assert (distance.argmin(1) != np.arange(5)).all()
    assert distance.min(1).max() < 1e-6


def test_frozen_networks_stay():
    before, after = steps("frozen")
    np.testing.assert_array_equal(before, after)


def test_where_the_task_is_named_only_its_lives_mix():
    env_id, kwargs = "CreditAssign-MultiGaussian-v0", {"num_updates": 1, "credit_scale": 1.0}
    policy = ByTask(*spaces(env_id, {}))
    for condition in ("constant", "shuffled"):
        evaluation = evaluate(policy, env_id, range(6), kwargs, [condition])
        assert evaluation.tasks.tolist() == [0, 1] * 3
        env = gymnasium.make_vec(env_id, num_envs=6, **kwargs)
        observation = env.reset_tensors(range(6), task=evaluation.tasks)
        env.step_tensors(policy.act(observation))
        height = env.task.metrics()["height"].numpy()
        np.testing.assert_allclose(evaluation.conditions[condition].last("height"), height)
    with pytest.raises(ValueError, match="at least two seeds for each task"):
        evaluate(policy, env_id, range(3), kwargs, ["constant"])


class ByTask(CreditPolicy):
    """Credits that follow from the task alone."""

    def act(self, observation, beta=None):
        return observation[:, 2:]


def test_an_evaluation_of_one_task_has_its_lives():
    env_id = "CreditAssign-ReversedCartPole-v0"
    kwargs = {"num_updates": 1, "horizon": 20}
    policy = TDCARNNPolicy(*spaces(env_id, kwargs), hidden_size=2)
    whole = evaluate(policy, env_id, range(5), kwargs, ["normal"])
    part = whole.of_task(1)
    assert part.seeds == (1, 3)
    assert part.tasks.tolist() == [1, 1]
    np.testing.assert_array_equal(
        part.conditions["normal"].per_update["episode_return"],
        whole.conditions["normal"].per_update["episode_return"][1::2],
    )


def test_curves_equal_the_numpy_environment():
    env_id, kwargs = "CreditAssign-CartPole-v0", {"num_updates": 2, "horizon": 30}
    env = gymnasium.make(env_id, **kwargs)
    policy = TDCARNNPolicy(env.observation_space, env.action_space, hidden_size=4)
    curves = evaluate(policy, env_id, [5, 6], kwargs, ["normal"]).conditions["normal"]
    for life, seed in enumerate([5, 6]):
        observation, info = env.reset(seed=seed)
        returns = [info["episode_return"]]
        for _ in range(2):
            observation, *_, info = env.step(policy.predict(observation)[0])
            returns.append(info["episode_return"])
        np.testing.assert_allclose(curves.per_update["episode_return"][life], returns)


def test_variants_of_a_named_task_mix():
    """Constant credits know the task that is named, and not how the arm is turned."""
    env_id, kwargs = "CreditAssign-MetaWorld-v0", {"num_updates": 1, "horizon": 2}
    policy = TDCARNNPolicy(*spaces(env_id, kwargs), hidden_size=2)
    turned = {**kwargs, "rotation": (0, 90)}
    evaluation = evaluate(policy, env_id, range(6), turned, ["constant"])
    assert evaluation.tasks.tolist() == list(range(6))
    with pytest.raises(ValueError, match="at least two seeds for each task"):
        evaluate(policy, env_id, range(5), turned, ["constant"])


def test_tasks_are_dealt_in_turn():
    policy = TDCAPolicy(*spaces("CreditAssign-MultiGaussian-v0", {}))
    evaluation = evaluate(policy, "CreditAssign-MultiGaussian-v0", range(4), {"num_updates": 1})
    assert evaluation.tasks.tolist() == [0, 1, 0, 1]


def test_mixing_controls_need_two_lives():
    with pytest.raises(ValueError, match="at least two seeds"):
        evaluate(TowardsOrigin(*spaces(GAUSSIAN, {})), GAUSSIAN, [0])


@pytest.mark.parametrize("conditions", [["nromal"], "normal"])
def test_unknown_conditions_are_refused(conditions):
    policy = TowardsOrigin(*spaces(GAUSSIAN, {}))
    with pytest.raises(ValueError, match="is not one of 'normal', 'constant'"):
        evaluate(policy, GAUSSIAN, range(2), conditions=conditions)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "ClassificationBandit-Digits-v0"])
def test_other_environments_are_refused(env_id):
    with pytest.raises(ValueError, match="name a credit-assignment environment"):
        evaluate(TowardsOrigin(*spaces(GAUSSIAN, {})), env_id, range(2))
    with pytest.raises(ValueError, match="name a credit-assignment environment"):
        PGPE("TDCAPolicy", env_id)


def test_a_network_for_other_rows_is_refused():
    policy = TDCAPolicy(*spaces(GAUSSIAN, {}))
    with pytest.raises(ValueError, match="evaluate it where it was trained"):
        evaluate(policy, "CreditAssign-MultiGaussian-v0", range(2))


class Single(TowardsOrigin):
    """Forgets that there are several networks, which would all get the first one's credits."""

    def act(self, observation, beta=None):
        return super().act(observation)[:1]


class Double(TowardsOrigin):
    """Of another type."""

    def act(self, observation, beta=None):
        return super().act(observation).double()


@pytest.mark.parametrize("policy_class", [Single, Double])
def test_actions_that_are_no_credits_are_refused(policy_class):
    with pytest.raises(ValueError, match=r"make it torch.float32 of shape \(3, 2\)"):
        evaluate(policy_class(*spaces(GAUSSIAN, {})), GAUSSIAN, range(3))


def test_networks_that_diverge_count_as_guessing():
    env_id = "CreditAssign-Digits-v0"
    kwargs = {"num_samples": 20, "num_updates": 2, "optimizer": "sgd", "max_grad_norm": None}
    kwargs["credit_scale"] = 1e38
    policy = DFAPolicy(*spaces(env_id, kwargs))
    curves = evaluate(policy, env_id, [0], {**kwargs, "learning_rate": 1e38}, ["normal"])
    normal = curves.conditions["normal"]
    np.testing.assert_allclose(normal.per_update["loss"], np.log(10), rtol=1e-5)
    assert normal.last("test_accuracy") == pytest.approx(0.1)
    json.dumps(curves.to_json(), allow_nan=False)


def test_gradient_ascent_is_trapped_where_a_guide_is_not():
    policy = TowardsOrigin(*spaces(GAUSSIAN, {}))
    (result,) = climb(policy, GAUSSIAN)
    assert result.policy == 1.0
    assert result.gradient_ascent == pytest.approx(0.794, abs=0.002)
    assert result.swapped_id is None
    # One step of at most 0.1 along each axis reaches the summit from next to it alone.
    (short,) = climb(policy, GAUSSIAN, {"num_updates": 1})
    assert 0 < short.policy < 0.01


def test_evaluation_leaves_no_gradients_behind():
    policy = TDCAPolicy(*spaces(GAUSSIAN, {}))
    evaluate(policy, GAUSSIAN, range(2), {"num_updates": 1})
    assert torch.is_grad_enabled()
    assert policy.beta.grad is None
