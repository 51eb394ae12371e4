"""What is seen of bottom-up networks, and how the credits that answer become gradients."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from credit_envs.networks import CNNBatch, Inputs, MLPBatch, ResidualBatch

Network = MLPBatch | CNNBatch | ResidualBatch


class Credits(ABC):
    """One form of credit.

    Attributes:
        observation_space: of one network.
        action_space: of one network.
    """

    observation_space: Box
    action_space: Box

    @abstractmethod
    def observe(self, network: Network, inputs: Inputs, answers: Tensor) -> Tensor:
        """Observations of all networks, `(P, *observation_space.shape)`.

        Args:
            network: the networks.
            inputs: what they learn from.
            answers: their outputs and the one-hot labels, `(P, 2k, n)`.
        """

    @abstractmethod
    def gradients(
        self, network: Network, inputs: Inputs, action: Tensor, scale: float
    ) -> Sequence[Tensor]:
        """Gradients by the credits `action · scale`, shaped like the weights; may be overwritten.

        Args:
            network: the networks, after a forward pass.
            inputs: what they learn from.
            action: `(P, *action_space.shape)`.
            scale: of the credits.
        """


class NeuronCredits(Credits):
    """A row of credits per sample: one for each neuron, or for each group of neurons.

    Args:
        num_samples: n.
        units: neurons per layer, hidden layers first.
        kernels: per layer, the diffusion from groups to neurons `(neurons, groups)`; None where
            every neuron has a credit of its own.
    """

    def __init__(
        self, num_samples: int, units: Sequence[int], kernels: Sequence[Tensor | None]
    ) -> None:
        self._kernels = kernels
        self._sizes = [
            neurons if kernel is None else kernel.shape[1]
            for neurons, kernel in zip(units, kernels, strict=True)
        ]
        self.observation_space = Box(0.0, 1.0, (num_samples, 2 * units[-1]), np.float32)
        self.action_space = Box(-1.0, 1.0, (num_samples, sum(self._sizes)), np.float32)

    def observe(self, network: Network, inputs: Inputs, answers: Tensor) -> Tensor:
        """Outputs and one-hot labels, `(P, n, 2k)`; a view."""
        return answers.transpose(1, 2)

    def gradients(  # noqa: D102
        self, network: Network, inputs: Inputs, action: Tensor, scale: float
    ) -> Sequence[Tensor]:
        return network.local_gradients(inputs, self.spread(action), scale)

    def spread(self, action: Tensor) -> list[Tensor]:
        """Credits of each layer's neurons, `(P, units, n)`, of actions `(P, n, credits)`."""
        # Backpropagation gives a convolution more credits than one per filter.
        first = action.shape[2] - sum(self._sizes[1:])
        credits = torch.split(action.transpose(1, 2), [first, *self._sizes[1:]], dim=1)
        return [
            credit if kernel is None else torch.matmul(kernel, credit)
            for credit, kernel in zip(credits, self._kernels, strict=True)
        ]


class ParameterCredits(Credits):
    """A credit per parameter, which is its gradient; seen are the parameters themselves.

    Args:
        shapes: of each layer's weights, `(outputs, inputs + 1)` with the biases in the last column.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self._shapes = shapes
        self._lengths = [prod(shape) for shape in shapes]
        shape = (sum(self._lengths),)
        self.observation_space = Box(-np.inf, np.inf, shape, np.float32)
        self.action_space = Box(-1.0, 1.0, shape, np.float32)

    def observe(self, network: Network, inputs: Inputs, answers: Tensor) -> Tensor:
        """All parameters, `(P, parameters)`, layer by layer and row by row."""
        first, *others = network.weights
        return torch.cat([w.flatten(1) for w in (inputs.natural(first), *others)], dim=1)

    def gradients(  # noqa: D102
        self, network: Network, inputs: Inputs, action: Tensor, scale: float
    ) -> Sequence[Tensor]:
        parts = torch.split(action, self._lengths, dim=1)
        # Fused optimisers need gradients without gaps.
        first, *others = (
            (scale * part).contiguous().view(-1, *shape)
            for part, shape in zip(parts, self._shapes, strict=True)
        )
        return [inputs.kept(first), *others]
