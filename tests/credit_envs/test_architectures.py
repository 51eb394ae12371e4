"""Classification tasks with convolutional and residual networks."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents import BackpropPolicy, TDCAPolicy
from credit_envs.datasets import from_arrays
from credit_envs.environment import CreditAssignVectorEnv
from credit_envs.networks import GramInputs, OwnInputs, SharedInputs, SharedPatches
from credit_envs.tasks import ClassificationTask
from credit_envs.tasks.classification import TrainingSettings
from tests.conftest import MakeVectorEnv, made_up_images

CPU = torch.device("cpu")
EXACT = 1e-10
NUM_NETWORKS, NUM_SAMPLES, NUM_UPDATES = 3, 12, 5
SHAPE, CLASSES = (2, 9, 8), 3
HIDDEN = {"mlp": (6, 5), "cnn": (4, 6, 5), "residual": (6, 6, 6)}
ARCHITECTURES = list(HIDDEN)
SHARED, OWN = [7, 7, 7], [7, 8, 9]


class PlainEnv(CreditAssignVectorEnv):
    def draw(self, history: object) -> Any:
        raise NotImplementedError


def make_env(architecture: str, **settings: Any) -> PlainEnv:
    chosen = {"num_samples": NUM_SAMPLES, "hidden_sizes": HIDDEN[architecture], "init": "kaiming"}
    task = ClassificationTask(
        from_arrays(made_up_images(SHAPE)),
        TrainingSettings(architecture=architecture, **chosen | settings),  # type: ignore[arg-type]
        NUM_NETWORKS,
        CPU,
        dtype=torch.float64,
    )
    return PlainEnv(task, num_updates=NUM_UPDATES, credit_scale=10.0)


def live(env: PlainEnv, seeds: list[int], rule: str) -> dict[str, Tensor]:
    """Losses and held-out scores at the end of a life under a top-down network or backprop."""
    torch.manual_seed(0)
    spaces = env.single_observation_space, env.single_action_space
    policy = TDCAPolicy(*spaces).double() if rule == "tdca" else BackpropPolicy(*spaces)
    policy.attach(env)
    observation = env.reset_tensors(seeds)
    with torch.no_grad():
        for _ in range(NUM_UPDATES):
            observation = env.step_tensors(policy.act(observation)).observation
    return env.task.metrics() | env.task.final_metrics()


@pytest.mark.parametrize("rule", ["tdca", "backprop"])
@pytest.mark.parametrize("loss_on", ["train", "held-out"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_life_is_the_same_on_shared_and_own_data(
    architecture: str, optimizer: str, loss_on: str, rule: str
) -> None:
    env = make_env(architecture, optimizer=optimizer, loss_on=loss_on, num_held_out=9)
    together = live(env, SHARED, rule)
    assert isinstance(env.task, ClassificationTask)
    expected = SharedPatches if architecture == "cnn" else SharedInputs
    assert isinstance(env.task.inputs, expected)
    apart = live(env, OWN, rule)
    assert isinstance(env.task.inputs, OwnInputs)
    assert len(together) == (5 if loss_on == "held-out" else 4)
    for name, values in together.items():
        torch.testing.assert_close(apart[name][0], values[0], rtol=0, atol=EXACT, msg=name)
        torch.testing.assert_close(values, values[:1].expand(NUM_NETWORKS), rtol=0, atol=EXACT)


def test_residual_networks_use_the_gram_form() -> None:
    losses = []
    for seeds in (SHARED, OWN):
        env = make_env("residual", optimizer="sgd", init="zero")
        losses.append(live(env, seeds, "tdca")["test_loss"][0])
        assert isinstance(env.task, ClassificationTask)
        assert isinstance(env.task.inputs, GramInputs if seeds == SHARED else OwnInputs)
    torch.testing.assert_close(*losses, rtol=0, atol=EXACT)


@pytest.mark.parametrize("seeds", [SHARED, OWN], ids=["shared", "own"])
@pytest.mark.parametrize("architecture", ["cnn", "residual"])
def test_backprop_policy_is_backpropagation(architecture: str, seeds: list[int]) -> None:
    """A convolution's has more credits than the action space, and they arrive all the same."""
    env = make_env(architecture, optimizer="sgd", max_grad_norm=None, learning_rate=0.5)
    observation = env.reset_tensors(seeds)
    policy = BackpropPolicy(env.single_observation_space, env.single_action_space)
    policy.attach(env)
    task = env.task
    assert isinstance(task, ClassificationTask)
    assert task.inputs is not None
    for _ in range(NUM_UPDATES):
        probabilities, labels = observation.transpose(1, 2).split(CLASSES, dim=1)
        credits = task.network.feedback_credits(labels - probabilities, task.forward_weights)
        credits.append(labels / probabilities)
        gradients = task.network.local_gradients(task.inputs, credits, 1.0)
        expected = [w + 0.5 * g for w, g in zip(task.network.weights, gradients, strict=True)]
        observation = env.step_tensors(policy.act(observation)).observation
        for weight, wanted in zip(task.network.weights, expected, strict=True):
            torch.testing.assert_close(weight, wanted, rtol=0, atol=EXACT)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_credits_follow_hidden_sizes(architecture: str, make_vec: MakeVectorEnv) -> None:
    hidden = HIDDEN[architecture]
    env = make_vec("CreditAssign-MNIST-v0", 2, architecture=architecture, hidden_sizes=hidden)
    assert env.single_action_space.shape == (12, sum(hidden) + 10)
    env.reset(seed=0)
    observation, *_ = env.step(env.action_space.sample())
    assert np.isfinite(observation).all()


def test_credit_groups_leave_filters_their_own(make_vec: MakeVectorEnv) -> None:
    settings = {"architecture": "cnn", "hidden_sizes": (7, 6), "credit": "groups"}
    env = make_vec("CreditAssign-MNIST-v0", 2, credit_groups=3, **settings)
    assert env.single_action_space.shape == (12, 7 + 3 + 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "rnn"}, "not one of 'mlp', 'cnn', 'residual'"),
        ({"architecture": "cnn"}, r"such as \(16, 100, 100\)"),
        ({"architecture": "residual"}, r"such as \(100, 100, 100\)"),
        ({"architecture": "residual", "hidden_sizes": (6, 5)}, "one size"),
        ({"architecture": "cnn", "hidden_sizes": (4, 5)}, "too small for a convolution"),
        (
            {"architecture": "cnn", "hidden_sizes": (4, 5), "data": made_up_images((30,))},
            "needs images",
        ),
    ],
)
def test_refusals_name_the_fix(
    settings: dict[str, Any], message: str, make_vec: MakeVectorEnv
) -> None:
    with pytest.raises(ValueError, match=message):
        make_vec("CreditAssign-Images-v0", 2, **settings)
