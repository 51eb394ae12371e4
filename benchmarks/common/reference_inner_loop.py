"""The inner loop as a textbook would write it: one bottom-up network at a time, by autograd.

Plain on purpose, and `ReferenceNetwork` shares no code with `credit_envs`: what the tests hold
the batched inner loop to, and what `benchmarks/inner_loop.py` races it against.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents import TDCAPolicy
from credit_envs.datasets import Dataset
from credit_envs.tasks import ClassificationTask

CREDIT_SCALE = 10.0
TOP_DOWN_HIDDEN = (8,)

CreditRule = Callable[[Tensor, list[Tensor]], list[Tensor]]
"""From the observation `(n, 2k)` and the activity of every layer `(n, units)` to credits alike."""


class ReferenceNetwork:
    """A tanh perceptron with softmax output whose layers learn from credits alone.

    Args:
        weights: one matrix per layer, `(outputs, inputs + 1)` with the bias in the last column.
        optimizer: "adam", "momentum" or "sgd".
        learning_rate: its step size.
        max_grad_norm: global gradient-norm clip; None switches it off.
        weight_decay: decoupled, as in `torch.optim.AdamW`.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        optimizer: str,
        learning_rate: float,
        max_grad_norm: float | None,
        weight_decay: float = 0.0,
    ) -> None:
        self.layers = [
            (
                weight[:, :-1].clone(memory_format=torch.contiguous_format).requires_grad_(),
                weight[:, -1].clone().requires_grad_(),
            )
            for weight in weights
        ]
        self.parameters = [parameter for layer in self.layers for parameter in layer]
        self.max_grad_norm = max_grad_norm
        self.optimizer = _make_optimizer(optimizer, self.parameters, learning_rate, weight_decay)

    def weights(self) -> list[Tensor]:
        """One matrix per layer as given to `__init__`."""
        return [torch.cat([w, b[:, None]], dim=1).detach() for w, b in self.layers]

    def logits(self, x: Tensor) -> Tensor:
        """Outputs before the softmax, `(n, k)`."""
        for weight, bias in self.layers[:-1]:
            x = torch.nn.functional.linear(x, weight, bias).tanh()
        return torch.nn.functional.linear(x, *self.layers[-1])

    def local_activities(self, x: Tensor) -> list[Tensor]:
        """Every layer's activity, as a function of its own parameters only."""
        activities = []
        last = len(self.layers) - 1
        for index, (weight, bias) in enumerate(self.layers):
            pre = torch.nn.functional.linear(x, weight, bias)
            activities.append(pre.softmax(dim=1) if index == last else pre.tanh())
            x = activities[-1].detach()
        return activities

    def update(self, x: Tensor, one_hot: Tensor, rule: CreditRule) -> None:
        """One update with all samples `(n, features)`; `one_hot` is `(n, k)`.

        Each layer ascends sum(credit · activity) / n, of which autograd takes the gradient.
        """
        activities = self.local_activities(x)
        with torch.no_grad():
            observation = torch.cat([activities[-1], one_hot], dim=1)
            credits = [credit / len(x) for credit in rule(observation, activities)]
        self.optimizer.zero_grad()
        torch.autograd.backward(activities, credits)
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.optimizer.step()


def _make_optimizer(
    name: str, parameters: list[Tensor], learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"lr": learning_rate, "maximize": True, "fused": True}
    if name == "adam":
        return torch.optim.AdamW(parameters, weight_decay=weight_decay, **settings)
    if name == "sgd":
        # Without momentum PyTorch's decay, which joins the gradient, is the decoupled one.
        return torch.optim.SGD(parameters, weight_decay=weight_decay, **settings)
    momentum = torch.optim.SGD(parameters, momentum=0.9, **settings)

    @torch.no_grad()
    def decay(*_: object) -> None:
        for parameter in parameters:
            parameter -= learning_rate * weight_decay * parameter

    if weight_decay:
        momentum.register_step_pre_hook(decay)
    return momentum


def top_down_rule(
    beta: Tensor,
    sizes: Sequence[int],
    credit_sizes: Sequence[int],
    kernels: Sequence[Tensor | None] | None = None,
    output_scale: float = 0.1,
    credit_scale: float = CREDIT_SCALE,
) -> CreditRule:
    """The credits of a feed-forward top-down network.

    Args:
        beta: its parameters, `(d,)`: per layer the weights row by row, then the biases.
        sizes: units per layer, `(2k, …, credits)`.
        credit_sizes: credits per layer of the bottom-up network, hidden layers first.
        kernels: per layer, diffusion from groups to neurons `(neurons, groups)`, or None.
        output_scale: factor on the outputs before they are clipped to ±1.
        credit_scale: factor on them after that.
    """
    layers, start = [], 0
    for inputs, outputs in pairwise(sizes):
        stop = start + outputs * inputs
        layers.append((beta[start:stop].view(outputs, inputs), beta[stop : stop + outputs]))
        start = stop + outputs
    spread = kernels or [None] * len(credit_sizes)

    def rule(observation: Tensor, _: list[Tensor]) -> list[Tensor]:
        x = observation
        for weight, bias in layers[:-1]:
            x = torch.nn.functional.linear(x, weight, bias).tanh_()
        x = torch.nn.functional.linear(x, *layers[-1])
        x = x.mul_(output_scale).clamp_(-1.0, 1.0).mul_(credit_scale)
        credits = torch.split(x, list(credit_sizes), dim=1)
        return [
            credit if kernel is None else credit @ kernel.T
            for credit, kernel in zip(credits, spread, strict=True)
        ]

    return rule


def literal_diffusion(groups: int | tuple[int, int], neurons: int, sigma: float) -> Tensor:
    """Eq. 2 of TDCA neuron by neuron and group by group, float64 `(neurons, groups)`.

    C · exp(−d²/σ²) from the centre of a group, and nothing to the neurons of other groups.
    """
    line = isinstance(groups, int)
    width = neurons if line else round(neurons**0.5)
    rows, columns = (1, groups) if isinstance(groups, int) else groups
    tile_height, tile_width = (1 if line else width // rows), width // columns
    kernel = torch.zeros(neurons, rows * columns, dtype=torch.float64)
    for neuron in range(neurons):
        y, x = divmod(neuron, width)
        for group in range(rows * columns):
            row, column = divmod(group, columns)
            top, left = row * tile_height, column * tile_width
            inside = top <= y < top + tile_height and left <= x < left + tile_width
            if inside:
                centre_y, centre_x = top + (tile_height - 1) / 2, left + (tile_width - 1) / 2
                squared = (y - centre_y) ** 2 + (x - centre_x) ** 2
                kernel[neuron, group] = torch.exp(
                    torch.tensor(-squared / sigma**2, dtype=torch.float64)
                )
    return kernel


def difference_from_reference(
    task: ClassificationTask, seeds: Sequence[int], betas: Tensor, num_updates: int
) -> float:
    """Train by `ClassificationTask` and by the reference; the largest difference of any weight.

    Args:
        task: in float64, credits by a top-down network with one hidden layer of 8.
        seeds: one life per network.
        betas: parameters of one top-down network per bottom-up network, `(P, d)`.
        num_updates: updates of each.
    """
    policy = TDCAPolicy(task.observation_space, task.action_space, hidden_sizes=TOP_DOWN_HIDDEN)
    task.start(np.asarray(seeds), None, {})
    references = [reference_life(task, network) for network in range(task.num_networks)]
    for _ in range(num_updates):
        task.update(policy.act(task.observe(), betas), CREDIT_SCALE)

    settings = task.settings
    *hidden, classes = (len(weight) for weight in references[0][0].weights())
    kernels: list[Tensor | None] = [None] * len(hidden)
    if settings.credit == "groups":
        kernels = [
            literal_diffusion(settings.credit_groups, units, settings.diffusion_sigma)
            for units in hidden
        ]
    credit_sizes = [
        units if kernel is None else kernel.shape[1]
        for units, kernel in zip(hidden, kernels, strict=True)
    ] + [classes]
    sizes = (2 * classes, *TOP_DOWN_HIDDEN, sum(credit_sizes))
    largest = 0.0
    for network, (reference, x, one_hot) in enumerate(references):
        rule = top_down_rule(betas[network], sizes, credit_sizes, [*kernels, None])
        for _ in range(num_updates):
            reference.update(x, one_hot, rule)
        pairs = zip(weights_of(task, network), reference.weights(), strict=True)
        largest = max([largest, *(float((a - b).abs().max()) for a, b in pairs)])
    return largest


def reference_life(
    task: ClassificationTask, network: int
) -> tuple[ReferenceNetwork, Tensor, Tensor]:
    """A reference network that starts as a task's network has, its samples and one-hot labels."""
    settings, dataset = task.settings, task.dataset
    indices = task.sample_indices[network]
    x = torch.tensor(standardise(dataset, dataset.x_train[indices]))
    one_hot = torch.eye(dataset.num_classes, dtype=torch.float64)[dataset.y_train[indices]]
    reference = ReferenceNetwork(
        weights_of(task, network),
        settings.optimizer,
        settings.learning_rate,
        settings.max_grad_norm,
        settings.weight_decay,
    )
    return reference, x, one_hot


def weights_of(task: ClassificationTask, network: int) -> list[Tensor]:
    """A network's weights with the features in their natural order."""
    assert task.inputs is not None
    first, *others = task.network.weights
    return [weight[network].clone() for weight in (task.inputs.natural(first), *others)]


def standardise(dataset: Dataset, images: NDArray[Any]) -> NDArray[np.float64]:
    """Rows with the training split's mean 0 and standard deviation 1 (per channel of images)."""
    x = dataset.x_train.astype(np.float64)
    axes = (0, 2, 3) if x.ndim == 4 else (0,)
    std = x.std(axes, keepdims=True)
    standardised = (images - x.mean(axes, keepdims=True)) / np.where(std == 0, 1.0, std)
    rows: NDArray[np.float64] = standardised.reshape(len(images), -1)
    return rows
