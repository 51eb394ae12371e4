"""Table S4 of TDCA, number by number, and the figure of it that does not add up."""

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from agents import TDCAPolicy
from agents.networks import TopDownMLP
from credit_envs.complexity import (
    Complexity,
    CreditForm,
    backprop_complexity,
    backprop_complexity_of,
    num_parameters,
    top_down_complexity,
    top_down_complexity_of,
    top_down_sizes,
)

MNIST, CIFAR10 = (784, 100, 10), (3072, 100, 10)
WIDE_MNIST, WIDE_CIFAR10 = (784, 900, 10), (3072, 900, 10)
TRAINING_IMAGES = {MNIST: 60_000, WIDE_MNIST: 60_000, CIFAR10: 50_000, WIDE_CIFAR10: 50_000}


@pytest.mark.parametrize(
    ("sizes", "credit", "groups", "parameters", "mega_flops"),
    [
        (MNIST, "neurons", 10, 4_970, 576),
        (CIFAR10, "neurons", 10, 4_970, 480),
        (MNIST, "groups", 10, 2_180, 252),
        (CIFAR10, "groups", 10, 2_180, 210),
        (WIDE_MNIST, "groups", 36, 2_986, 345.6),
        (WIDE_CIFAR10, "groups", (6, 6), 2_986, 288),
        (CIFAR10, "parameters", 10, 18_807_870, None),
    ],
)
def test_top_down_rows_of_table_s4(
    sizes: tuple[int, ...],
    credit: CreditForm,
    groups: int | tuple[int, int],
    parameters: int,
    mega_flops: float | None,
) -> None:
    cost = top_down_complexity(sizes, credit, credit_groups=groups)
    assert cost.parameters == parameters
    if mega_flops is not None:
        assert cost.flops * TRAINING_IMAGES[sizes] == mega_flops * 1e6


@pytest.mark.parametrize(
    ("sizes", "parameters", "mega_flops"),
    [
        (MNIST, 1_000, 240),
        (CIFAR10, 1_000, 200),
        (WIDE_MNIST, 9_000, 2_160),
        (WIDE_CIFAR10, 9_000, 1_800),
    ],
)
def test_backprop_rows_of_table_s4(
    sizes: tuple[int, ...], parameters: int, mega_flops: float
) -> None:
    cost = backprop_complexity(sizes)
    assert cost.parameters == parameters
    assert cost.flops * TRAINING_IMAGES[sizes] == mega_flops * 1e6


def test_the_figure_that_does_not_add_up() -> None:
    """The paper's MNIST "credit parameters" counts a bias per input of the hidden layer."""
    inputs, hidden, classes = MNIST
    assert num_parameters(MNIST) == 79_510
    assert top_down_complexity(MNIST, "parameters").parameters == 61 * 79_510 + 960 == 4_851_070
    a_bias_per_input = inputs * hidden + inputs + hidden * classes + classes
    assert a_bias_per_input == 80_194
    assert num_parameters((a_bias_per_input, 30, 30, a_bias_per_input)) == 4_892_794


@pytest.mark.parametrize(
    ("sizes", "flops", "mega_flops"),
    [(MNIST, 9_543_000, 572_580), (CIFAR10, 36_999_000, 1_849_950)],
)
def test_what_the_paper_leaves_out(sizes: tuple[int, ...], flops: int, mega_flops: int) -> None:
    cost = top_down_complexity(sizes, "parameters")
    assert cost.flops == flops
    assert cost.flops * TRAINING_IMAGES[sizes] == mega_flops * 1e6


@pytest.mark.parametrize("credit", ["neurons", "groups"])
def test_counts_are_those_of_real_networks(credit: CreditForm) -> None:
    sizes, hidden = (6, 12, 8, 3), (5,)
    layers = top_down_sizes(sizes, credit, credit_groups=4, hidden_sizes=hidden)
    assert layers == (6, 5, {"neurons": 23, "groups": 11}[credit])
    cost = top_down_complexity(sizes, credit, credit_groups=4, hidden_sizes=hidden)
    assert TopDownMLP(layers, 1.0, 0.1, "clip").beta.numel() == cost.parameters
    perceptron = nn.Sequential(*(nn.Linear(6, 12), nn.Linear(12, 8), nn.Linear(8, 3)))
    assert sum(p.numel() for p in perceptron.parameters()) == num_parameters(sizes)

    weight = torch.zeros(5, 6)
    assert cost.flops == 2 * (weight.numel() + 5 * layers[-1])


MLP = {"hidden_sizes": (100,)}
CNN = {"architecture": "cnn", "hidden_sizes": (16, 100, 100)}
RESIDUAL = {"architecture": "residual", "hidden_sizes": (100, 100, 100)}


def of_mnists_shape(**settings):
    images, labels = np.zeros((12, 28, 28), np.uint8), np.arange(12) % 10
    data = (images, labels, images, labels)
    return gymnasium.make_vec(
        "CreditAssign-Images-v0", num_envs=1, data=data, num_samples=10, **settings
    )


@pytest.mark.parametrize("credit", ["neurons", "groups", "parameters"])
@pytest.mark.parametrize("network", [MLP, CNN, RESIDUAL], ids=["mlp", "cnn", "residual"])
def test_an_environments_top_down_network_is_the_policys(network, credit: CreditForm) -> None:
    env = of_mnists_shape(credit=credit, **network)
    policy = TDCAPolicy(env.single_observation_space, env.single_action_space, hidden_sizes=(7, 5))
    found = top_down_complexity_of(env, (7, 5))
    assert found.parameters == policy.beta.numel()
    biases = 7 + 5 + env.single_action_space.shape[-1]
    assert found.flops == 2 * (policy.beta.numel() - biases)


@pytest.mark.parametrize(
    ("network", "groups", "parameters"),
    [(MLP, 20, 79_510), (CNN, 46, 242_026), (RESIDUAL, 40, 119_910)],
    ids=["mlp", "cnn", "residual"],
)
def test_credits_of_an_environments_networks(network, groups: int, parameters: int) -> None:
    """Of each form so many, and as many FLOPs and parameters: 30·(20 + 30 + k) + 60 + k."""
    for credit, inputs, credits in (
        ("groups", 20, groups),
        ("parameters", parameters, parameters),
    ):
        found = top_down_complexity_of(of_mnists_shape(credit=credit, **network))
        assert found.flops == 60 * (inputs + 30 + credits)
        assert found.parameters == found.flops // 2 + 60 + credits


@pytest.mark.parametrize("credit", ["neurons", "groups", "parameters"])
def test_perceptrons_are_counted_alike_by_sizes_and_by_environment(credit: CreditForm) -> None:
    env = of_mnists_shape(credit=credit, **MLP)
    assert top_down_complexity_of(env) == top_down_complexity(MNIST, credit)
    assert backprop_complexity_of(env) == backprop_complexity(MNIST)


@pytest.mark.parametrize(
    ("network", "weights"),
    [(CNN, 16 * 144 * 100 + 100 * 100 + 100 * 10), (RESIDUAL, 4 * 100 * 100 + 100 * 10)],
    ids=["cnn", "residual"],
)
def test_backpropagation_goes_through_all_layers_but_the_first(network, weights: int) -> None:
    assert backprop_complexity_of(of_mnists_shape(**network)) == Complexity(weights, 4 * weights)


def test_what_is_no_network_has_no_backpropagation() -> None:
    env = gymnasium.make_vec("CreditAssign-Gaussian-v0", num_envs=1)
    assert top_down_complexity_of(env, (16,)).parameters == 2 * 16 + 16 + 16 * 2 + 2
    with pytest.raises(ValueError, match="such as CreditAssign-MNIST-v0, and not for Gaussian"):
        backprop_complexity_of(env)


@pytest.mark.parametrize(
    ("sizes", "settings", "message"),
    [
        ((784,), {}, "must name inputs and outputs"),
        ((784, 0, 10), {}, "at least 1"),
        (MNIST, {"credit": "neuron"}, "did you mean 'neurons'"),
        (MNIST, {"credit": "groups", "credit_groups": 0}, "at least 1"),
    ],
)
def test_refusals_name_the_fix(sizes: tuple[int, ...], settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        top_down_complexity(sizes, **settings)
