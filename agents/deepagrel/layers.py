"""Layers with a local forward pass, feedback and update; no autograd, no biases.

Everywhere, B trials are rows, images are `(B, channels, height, width)` in channels-last memory,
and a unit's *signal* is what stands behind the presynaptic activity in the four-factor rule (Eq. 13
and 16): RPE δ times gate g times feedback fb of the postsynaptic unit.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from credit_envs.networks.onednn import add_product, product

Shape = tuple[int, ...]


class Layer(nn.Module, ABC):
    """Synapses from the units of one layer to those of the next.

    Args:
        weight: uninitialised, in the layer's own shape and memory format.
        output_shape: of the next layer's units, without the batch.

    Attributes:
        weight: w; never has a gradient.
    """

    weight: nn.Parameter

    def __init__(self, weight: Tensor, output_shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.output_shape = output_shape

    def forward(self, units: Tensor) -> Tensor:
        """Activations a = Σ w · y of the next layer, before its ReLU; differentiable.

        Args:
            units: activities y of this layer, `(B, *shape)`.

        Returns:
            `(B, *output_shape)`.
        """
        return self.drive(self.presynaptic(units))

    def presynaptic(self, units: Tensor) -> Tensor:
        """Activities as the synapses meet them, for `drive` and `update`."""
        return units

    @abstractmethod
    def drive(self, presynaptic: Tensor) -> Tensor:
        """Activations of the next layer, `(B, *output_shape)`."""

    @abstractmethod
    def feed_back(self, signal: Tensor, feedback: Tensor, units: Tensor) -> Tensor:
        """What the feedback weights w' bring down to the units: Σ w' · signal (Eq. 14).

        Args:
            signal: of the next layer, `(B, *output_shape)`.
            feedback: w', in the shape of `weight`.
            units: for their shape alone, `(B, *shape)`.

        Returns:
            `(B, *shape)`, memory of its own.
        """

    @abstractmethod
    def update(
        self,
        weights: Iterable[Tensor],
        presynaptic: Tensor,
        signal: Tensor,
        rate: float,
        keep: float,
    ) -> None:
        """Learn: w ← keep · w + rate · Σ presynaptic · signal, summed over trials (Eq. 16).

        Synapses that share a weight add up what each has learned.

        Args:
            weights: all that learn the same: `weight`, and w' where feedback is reciprocal.
            presynaptic: activities, from `presynaptic`.
            signal: of the next layer, `(B, *output_shape)`.
            rate: learning rate over batch size.
            keep: what weight decay leaves, 1 − learning rate · decay.
        """


class Dense(Layer):
    """All to all. Images are flattened as they lie in memory: height, width, channels.

    Weights are `(outputs, inputs)`.
    """

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__(torch.empty(num_outputs, num_inputs), (num_outputs,))

    def presynaptic(self, units: Tensor) -> Tensor:  # noqa: D102
        return units.permute(0, 2, 3, 1).flatten(1) if units.dim() == 4 else units

    def drive(self, presynaptic: Tensor) -> Tensor:  # noqa: D102
        return _product(presynaptic, self.weight.t())

    def feed_back(self, signal: Tensor, feedback: Tensor, units: Tensor) -> Tensor:  # noqa: D102
        below = _product(signal, feedback)
        if units.dim() == 2:
            return below
        channels, height, width = units.shape[1:]
        return below.view(-1, height, width, channels).permute(0, 3, 1, 2)

    def update(  # noqa: D102
        self,
        weights: Iterable[Tensor],
        presynaptic: Tensor,
        signal: Tensor,
        rate: float,
        keep: float,
    ) -> None:
        add_product(weights, signal.t(), presynaptic, rate, keep)


def _product(a: Tensor, b: Tensor) -> Tensor:
    # For a single trial, which waits for the weights alone, oneDNN's start does not pay.
    return torch.mm(a, b) if len(a) == 1 else product(a, b)


class Convolution(Layer):
    """Shared square filters.

    Stride 1 is "valid"; stride 2 pads half a filter on all sides ("same").
    Weights are `(filters, channels, size, size)`.
    """

    def __init__(self, input_shape: Shape, num_filters: int, size: int, stride: int) -> None:
        channels, height, width = input_shape
        self.padding = size // 2 if stride > 1 else 0
        self.stride = stride
        height, width = (
            (length + 2 * self.padding - size) // stride + 1 for length in (height, width)
        )
        # Strides that say channels-last even where one channel leaves it open.
        weight = torch.empty(num_filters, channels, size, size, memory_format=torch.channels_last)
        super().__init__(weight, (num_filters, height, width))

    def drive(self, presynaptic: Tensor) -> Tensor:  # noqa: D102
        return functional.conv2d(presynaptic, self.weight, stride=self.stride, padding=self.padding)

    def feed_back(self, signal: Tensor, feedback: Tensor, units: Tensor) -> Tensor:  # noqa: D102
        below, _, _ = self._backward(signal, units, feedback, [True, False, False])
        return below

    def update(  # noqa: D102
        self,
        weights: Iterable[Tensor],
        presynaptic: Tensor,
        signal: Tensor,
        rate: float,
        keep: float,
    ) -> None:
        _, change, _ = self._backward(signal, presynaptic, self.weight, [False, True, False])
        for weight in weights:
            if keep != 1.0:
                weight.mul_(keep)
            weight.add_(change, alpha=rate)

    def _backward(
        self, signal: Tensor, units: Tensor, weight: Tensor, mask: list[bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        stride, padding = [self.stride] * 2, [self.padding] * 2
        result: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
            signal, units, weight, None, stride, padding, [1, 1], False, [0, 0], 1, mask
        )
        return result


class LocallyConnected(Layer):
    """Square filters of which every place has its own; stride 1, "valid".

    Weights are `(places, size · size · channels, filters)`.
    """

    def __init__(self, input_shape: Shape, num_filters: int, size: int) -> None:
        channels, height, width = (*input_shape[:1], *(n - size + 1 for n in input_shape[1:]))
        super().__init__(
            torch.empty(height * width, size * size * channels, num_filters),
            (num_filters, height, width),
        )
        self.size = size

    def presynaptic(self, units: Tensor) -> Tensor:
        """The patch that each place sees, `(places, B, size · size · channels)`."""
        _, height, width = self.output_shape
        places_last = units.permute(2, 3, 0, 1)
        shifted = [
            places_last[y : y + height, x : x + width]
            for y in range(self.size)
            for x in range(self.size)
        ]
        return torch.cat(shifted, 3).flatten(0, 1)

    def drive(self, presynaptic: Tensor) -> Tensor:  # noqa: D102
        activation = torch.bmm(presynaptic, self.weight)
        # In one step to channels-last the copy would take six times as long.
        by_trial = activation.transpose(0, 1).contiguous()
        filters, height, width = self.output_shape
        return by_trial.view(-1, height, width, filters).permute(0, 3, 1, 2)

    def feed_back(self, signal: Tensor, feedback: Tensor, units: Tensor) -> Tensor:  # noqa: D102
        patches = torch.bmm(self._by_place(signal), feedback.transpose(1, 2))
        # (places, B, size², channels) to the columns that `fold` adds up.
        channels = units.shape[1]
        by_pixel = patches.view(*patches.shape[:2], -1, channels)
        columns = by_pixel.permute(1, 3, 2, 0).flatten(1, 2)
        below: Tensor = functional.fold(columns, units.shape[2:], self.size)
        return below.contiguous(memory_format=torch.channels_last)

    def update(  # noqa: D102
        self,
        weights: Iterable[Tensor],
        presynaptic: Tensor,
        signal: Tensor,
        rate: float,
        keep: float,
    ) -> None:
        for weight in weights:
            weight.baddbmm_(
                presynaptic.transpose(1, 2), self._by_place(signal), alpha=rate, beta=keep
            )

    @staticmethod
    def _by_place(signal: Tensor) -> Tensor:
        """`(places, B, filters)`, a view of channels-last memory."""
        return signal.permute(2, 3, 0, 1).flatten(0, 1)
