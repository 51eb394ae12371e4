"""credit="parameters": the parameters are seen, and each one's credit is its gradient."""

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common import env_checker as sb3_env_checker
from torch import Tensor

from agents import (
    BackpropPolicy,
    DeepAGRELCreditPolicy,
    DFAPolicy,
    DRTPPolicy,
    FAPolicy,
    TDCAPolicy,
)
from benchmarks.common.reference_inner_loop import reference_life, weights_of
from credit_envs.complexity import num_parameters, top_down_complexity
from credit_envs.environment import CreditAssignVectorEnv
from credit_envs.networks import OwnInputs, SharedInputs
from credit_envs.tasks import ClassificationTask
from meta import PGPE
from tests.conftest import made_up_images
from tests.credit_envs.test_architectures import HIDDEN, make_env
from tests.credit_envs.test_inner_loop import CREDIT_SCALE, EXACT, OWN, SHARED, PlainEnv, make_task

IMAGES, NUM_UPDATES = "CreditAssign-Images-v0", 6
SIZES = (64, 16, 9, 3)


def life(seeds: list[int], **settings: Any) -> tuple[PlainEnv, ClassificationTask, Tensor]:
    """Three networks of 64-16-9-3 at their start, in float64, and what is seen of them."""
    task = make_task(hidden_sizes=SIZES[1:-1], credit="parameters", init="kaiming", **settings)
    env = PlainEnv(task, num_updates=NUM_UPDATES, credit_scale=CREDIT_SCALE)
    return env, task, env.reset_tensors(seeds)


def cross_entropy(flat: Tensor, x: Tensor, one_hot: Tensor) -> Tensor:
    """Of a perceptron whose parameters are one vector, in the order of the page."""
    begin = 0
    for inputs, outputs in pairwise(SIZES):
        rows = flat[begin : begin + outputs * (inputs + 1)].view(outputs, inputs + 1)
        begin += rows.numel()
        pre = torch.nn.functional.linear(x, rows[:, :-1], rows[:, -1])
        x = pre.tanh()
    assert begin == len(flat)
    return torch.nn.functional.cross_entropy(pre, one_hot.argmax(1))


@pytest.mark.parametrize("seeds", [SHARED, OWN], ids=["shared", "own"])
def test_parameters_are_seen_in_the_order_of_the_page(seeds: list[int]) -> None:
    _, task, observation = life(seeds)
    assert isinstance(task.inputs, SharedInputs if seeds == SHARED else OwnInputs)
    assert observation.shape == (len(seeds), num_parameters(SIZES))
    for network, seen in enumerate(observation):
        expected = torch.cat([w.flatten() for w in weights_of(task, network)])
        assert torch.equal(seen, expected)


@pytest.mark.parametrize("max_grad_norm", [0.3, None])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("seeds", [SHARED, OWN], ids=["shared", "own"])
def test_credits_of_autograd_are_gradient_descent(
    seeds: list[int], optimizer: str, max_grad_norm: float | None
) -> None:
    settings = {"optimizer": optimizer, "max_grad_norm": max_grad_norm, "learning_rate": 0.05}
    env, task, observation = life(seeds, **settings)
    lives = [reference_life(task, network)[1:] for network in range(len(seeds))]
    references = [seen.clone().requires_grad_() for seen in observation]
    make = {
        "sgd": lambda p: torch.optim.SGD(p, 0.05),
        "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, 0.05),
    }[optimizer]
    optimizers = [make([reference]) for reference in references]
    for _ in range(NUM_UPDATES):
        action = torch.empty_like(observation)
        for network, (x, one_hot) in enumerate(lives):
            seen = observation[network].clone().requires_grad_()
            (gradient,) = torch.autograd.grad(cross_entropy(seen, x, one_hot), seen)
            action[network] = -gradient / CREDIT_SCALE
        observation = env.step_tensors(action).observation

        for reference, inner, (x, one_hot) in zip(references, optimizers, lives, strict=True):
            inner.zero_grad()
            cross_entropy(reference, x, one_hot).backward()
            if max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(reference, max_grad_norm)
            inner.step()
        expected = torch.stack(references).detach()
        torch.testing.assert_close(observation, expected, rtol=0, atol=EXACT)
    for network, (reference, (x, one_hot)) in enumerate(zip(references, lives, strict=True)):
        loss = cross_entropy(reference, x, one_hot).item()
        assert env.loss[network].item() == pytest.approx(loss, abs=EXACT)


@pytest.mark.parametrize("seeds", [SHARED, OWN], ids=["shared", "own"])
@pytest.mark.parametrize("architecture", list(HIDDEN))
def test_every_architecture(architecture: str, seeds: list[int]) -> None:
    """The local gradients as credits of parameters train as credits of neurons do."""
    ours = make_env(architecture, credit="parameters")
    theirs = make_env(architecture)
    policy = BackpropPolicy(theirs.single_observation_space, theirs.single_action_space)
    policy.attach(theirs)
    ours.reset_tensors(seeds)
    observation = theirs.reset_tensors(seeds)
    for _ in range(4):
        action = policy.act(observation)
        gradients = local_gradients(theirs, action)
        observation = theirs.step_tensors(action).observation
        ours.step_tensors(gradients / ours.credit_scale)
        torch.testing.assert_close(ours.loss, theirs.loss, rtol=0, atol=EXACT)


def local_gradients(env: CreditAssignVectorEnv, action: Tensor) -> Tensor:
    """Of each network, as one vector in the order of the page."""
    task = env.task
    assert isinstance(task, ClassificationTask)
    assert task.inputs is not None
    sizes = [action.shape[2] - sum(task.settings.hidden_sizes[1:]) - task.num_classes]
    sizes += [*task.settings.hidden_sizes[1:], task.num_classes]
    credits = torch.split(action.transpose(1, 2), sizes, dim=1)
    first, *others = task.network.local_gradients(task.inputs, credits, env.credit_scale)
    return torch.cat([g.flatten(1) for g in (task.inputs.natural(first), *others)], dim=1)


# --- The size of the top-down network (TDCA, Table S4)


@pytest.mark.parametrize(
    ("env_id", "settings", "sizes", "parameters"),
    [
        (IMAGES, {"hidden_sizes": (6, 5)}, (6, 6, 5, 3), None),
        ("CreditAssign-MNIST-v0", {"hidden_sizes": (100,)}, (784, 100, 10), 4_851_070),
        ("CreditAssign-CIFAR10-v0", {"hidden_sizes": (100,)}, (3072, 100, 10), 18_807_870),
    ],
)
def test_top_down_networks_have_the_size_of_the_table(make, env_id, settings, sizes, parameters):
    env = make(env_id, credit="parameters", **settings)
    policy = TDCAPolicy(env.observation_space, env.action_space)
    expected = top_down_complexity(sizes, "parameters").parameters
    assert policy.beta.numel() == expected == (parameters or expected)


# --- The environment


def test_checks_of_gymnasium_and_stable_baselines3(make):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*Box observation space m.*imum value is.*")
        check_env(make(IMAGES, credit="parameters").unwrapped)
        sb3_env_checker.check_env(make(IMAGES, credit="parameters").unwrapped)


def test_scalar_environment_is_a_row_of_the_vector_environment(make, make_vec):
    settings = {"credit": "parameters", "init": "kaiming", "weight_decay": 0.5}
    env, vector = make(IMAGES, **settings), make_vec(IMAGES, 3, **settings)
    observation, _ = env.reset(seed=5)
    observations, _ = vector.reset(seed=[8, 5, 31])
    rng = np.random.default_rng(0)
    for _ in range(vector.num_updates - 1):
        np.testing.assert_allclose(observation, observations[1], atol=1e-6)
        actions = rng.uniform(-1, 1, vector.action_space.shape).astype(np.float32)
        kept = actions.copy()
        observation, reward, *_ = env.step(actions[1])
        observations, rewards, *_ = vector.step(actions)
        np.testing.assert_array_equal(actions, kept)
        assert reward == pytest.approx(rewards[1], abs=1e-5)


def test_divergence_leaves_an_observation_in_the_space(make):
    env = make(IMAGES, credit="parameters", optimizer="sgd", max_grad_norm=None, credit_scale=1e3)
    env.reset(seed=0)
    action = np.full(env.action_space.shape, np.finfo(np.float32).max)
    observation, _, terminated, _, info = env.step(action)
    assert terminated
    assert info["diverged"]
    assert env.observation_space.contains(observation)


def test_pictures(make):
    env = make(IMAGES, credit="parameters", render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    env.step(env.action_space.sample())
    assert env.render().shape == first.shape == (320, 720, 3)
    assert not np.array_equal(env.render(), first)


@pytest.mark.parametrize(
    "policy_class", [BackpropPolicy, DFAPolicy, DRTPPolicy, FAPolicy, DeepAGRELCreditPolicy]
)
def test_rules_refuse(make, policy_class):
    env = make(IMAGES, credit="parameters")
    with pytest.raises(ValueError, match=r'a row per sample, .* take credit="neurons"'):
        policy_class(env.observation_space, env.action_space)


@pytest.mark.parametrize("policy_class", [BackpropPolicy, FAPolicy, DeepAGRELCreditPolicy])
def test_feedback_refuses_an_environment_of_parameters(make, make_vec, policy_class):
    neurons = make(IMAGES)
    policy = policy_class(neurons.observation_space, neurons.action_space)
    with pytest.raises(ValueError, match='credit="neurons"'):
        policy.attach(make_vec(IMAGES, 2, credit="parameters"))


def test_a_top_down_network_evolves_on_one_life():
    env_kwargs = {
        "data": made_up_images(),
        "credit": "parameters",
        "init": "kaiming",
        "num_samples": 30,
        "num_updates": 5,
        "hidden_sizes": (6,),
        "learning_rate": 0.05,
    }
    model = PGPE(
        "TDCAPolicy",
        IMAGES,
        env_kwargs=env_kwargs,
        policy_kwargs={"hidden_sizes": (4,)},
        population_size=20,
        resample_lives=False,
        seed=0,
    )
    model.learn(20 * model.timesteps_per_generation)
    (first, *_), *_, (last, *_) = model.history
    assert last > first + 0.3
