"""What it costs to choose credits: the size of a top-down network and its FLOPs (TDCA, Table S4).

The paper counts two FLOPs (a product and a sum) for every weight of the top-down network, none for
biases and tanh, and multiplies by the images of the training split: 60,000 of MNIST and
Fashion-MNIST, 50,000 of CIFAR-10. Counted so, with hidden layers of 30 and 30, the functions here
give every number of its table but one:

| row | MNIST, parameters | MFLOPs | CIFAR-10, parameters | MFLOPs |
|---|---|---|---|---|
| BP (100 hidden) | 1,000 | 240 | 1,000 | 200 |
| credit parameters | **4,851,070** | – | 18,807,870 | – |
| credit neurons | 4,970 | 576 | 4,970 | 480 |
| credit groups (10) | 2,180 | 252 | 2,180 | 210 |
| BP (900 hidden) | 9,000 | 2,160 | 9,000 | 1,800 |
| credit groups (36) | 2,986 | 345.6 | 2,986 | 288 |

The one is "credit parameters" of MNIST, for which the paper prints 4,892,794. A top-down network
with one input and one output per parameter has 61·d + 960 parameters, so that figure belongs to
d = 80,194, while 784-100-10 has d = 784·100 + 100 + 100·10 + 10 = 79,510. 80,194 is what comes out
with a bias per input instead of per hidden neuron (784 for 100); the CIFAR-10 figure has them right
(d = 308,310 of 3072-100-10; the text's 3048 inputs are a misprint).

The MFLOPs of "credit parameters", which the paper leaves out, depend on how often that network
runs: once per update it takes 9.5 MFLOPs for MNIST and 37 for CIFAR-10, once per update and sample
572,580 and 1,849,950.

`top_down_complexity` and `backprop_complexity` count for perceptrons by their sizes alone, as the
paper does; `top_down_complexity_of` and `backprop_complexity_of` for whatever an environment
trains, in the form of credit that it takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Literal, get_args

from torch import Tensor

from credit_envs.checks import require_one_of, require_sizes

if TYPE_CHECKING:
    from credit_envs.environment import CreditAssignVectorEnv

CreditForm = Literal["neurons", "groups", "parameters"]


@dataclass(frozen=True)
class Complexity:
    """Size and cost of one way of assigning credit."""

    parameters: int
    """Of the top-down network, biases included; of backpropagation, the weights it goes through."""
    flops: int
    """For the credits of one sample, once; times the number of samples for a whole update."""


def top_down_sizes(
    sizes: Sequence[int],
    credit: CreditForm = "neurons",
    *,
    credit_groups: int | tuple[int, int] = 10,
    hidden_sizes: Sequence[int] = (30, 30),
) -> tuple[int, ...]:
    """Units per layer of the top-down network that leads a perceptron.

    Args:
        sizes: units per layer of the bottom-up network, inputs first: `(784, 100, 10)`.
        credit: "parameters": the top-down network reads all parameters and gives each a credit.
            "neurons": it reads outputs and one-hot labels, and gives each neuron a credit.
            "groups": as "neurons", with a credit for each group of neurons of a hidden layer.
        credit_groups: groups per hidden layer, or `(rows, columns)` on a grid; "groups" only.
        hidden_sizes: hidden layers of the top-down network.

    Returns:
        Units per layer, inputs first: `(20, 30, 30, 110)`.

    Raises:
        ValueError: sizes that are not whole numbers above 0, fewer than two of them, or another
            form of credit.
    """
    *below, classes = _layers(sizes)
    hidden = require_sizes("hidden_sizes", hidden_sizes, allow_empty=True)
    require_one_of("credit", credit, get_args(CreditForm))
    if credit == "parameters":
        all_parameters = num_parameters(sizes)
        return (all_parameters, *hidden, all_parameters)
    if credit == "neurons":
        return (2 * classes, *hidden, sum(below[1:]) + classes)
    groups = prod(require_sizes("credit_groups", credit_groups, allow_empty=False))
    return (2 * classes, *hidden, groups * len(below[1:]) + classes)


def top_down_complexity(
    sizes: Sequence[int],
    credit: CreditForm = "neurons",
    *,
    credit_groups: int | tuple[int, int] = 10,
    hidden_sizes: Sequence[int] = (30, 30),
) -> Complexity:
    """Parameters of the top-down network, and FLOPs of one credit assignment per sample.

    With layers of n₀, n₁, … units: Σ nᵢ·nᵢ₊₁ + nᵢ₊₁ parameters, and 2·Σ nᵢ·nᵢ₊₁ FLOPs. The local
    updates cost the same for every source of credits and are left out, as in the paper.

    Args:
        sizes: see `top_down_sizes`.
        credit: see `top_down_sizes`.
        credit_groups: see `top_down_sizes`.
        hidden_sizes: see `top_down_sizes`.

    Raises:
        ValueError: see `top_down_sizes`.
    """
    return _perceptron(
        top_down_sizes(sizes, credit, credit_groups=credit_groups, hidden_sizes=hidden_sizes)
    )


def top_down_complexity_of(
    env: "CreditAssignVectorEnv", hidden_sizes: Sequence[int] = (30, 30)
) -> Complexity:
    """The same of the top-down network that leads an environment's bottom-up networks.

    Whatever their architecture, it reads as many numbers as an observation has (of images: of each
    sample) and gives as many credits as an action has. With credit="parameters" it runs once per
    update, else once per sample.

    Args:
        env: whose spaces tell inputs and outputs, and with them the form of credit.
        hidden_sizes: hidden layers of the top-down network.

    Raises:
        ValueError: hidden sizes that are not whole numbers above 0.
    """
    observation, action = env.single_observation_space, env.single_action_space
    assert observation.shape is not None
    assert action.shape is not None
    hidden = require_sizes("hidden_sizes", hidden_sizes, allow_empty=True)
    return _perceptron((observation.shape[-1], *hidden, action.shape[-1]))


def backprop_complexity(sizes: Sequence[int]) -> Complexity:
    """What backpropagation takes to the same end, as the paper counts it.

    Errors travel down through every weight but the first layer's. Their products with errors are
    2 FLOPs per weight and sample; the paper's rows are 4, without a reason given, and so are these.

    Args:
        sizes: units per layer of the bottom-up network, inputs first.

    Raises:
        ValueError: sizes that are not whole numbers above 0, or fewer than two.
    """
    return _backprop(_num_weights(_layers(sizes)[1:]))


def backprop_complexity_of(env: "CreditAssignVectorEnv") -> Complexity:
    """The same for the bottom-up networks of an environment, by their weights.

    Above a convolution, which is the first layer and so not gone through, every filter has a unit
    at each of its positions. Of a residual block, errors go through both layers; around them they
    go without a product.

    Args:
        env: a classification environment.

    Raises:
        ValueError: what the environment trains are no networks that errors could go down through.
    """
    network = getattr(env.task, "network", None)
    if network is None:
        raise ValueError(
            "backpropagation is counted for classifiers of images, such as CreditAssign-MNIST-v0, "
            f"and not for {type(env).__name__}"
        )
    above: list[Tensor] = network.weights[1:]
    # The last column holds the biases.
    return _backprop(sum(weight[0, :, :-1].numel() for weight in above))


def num_parameters(sizes: Sequence[int]) -> int:
    """Weights and biases of a perceptron with these units per layer, inputs first."""
    return _num_weights(_layers(sizes)) + sum(sizes[1:])


def _perceptron(sizes: Sequence[int]) -> Complexity:
    """Of a top-down network with these units per layer."""
    return Complexity(num_parameters(sizes), 2 * _num_weights(sizes))


def _backprop(weights: int) -> Complexity:
    """Of errors that go down through so many weights."""
    return Complexity(weights, 4 * weights)


def _num_weights(sizes: Sequence[int]) -> int:
    return sum(inputs * outputs for inputs, outputs in pairwise(sizes))


def _layers(sizes: Sequence[int]) -> tuple[int, ...]:
    layers = require_sizes("sizes", sizes, allow_empty=False)
    if len(layers) < 2:
        raise ValueError(f"sizes={sizes!r} must name inputs and outputs, such as (784, 100, 10)")
    return layers
