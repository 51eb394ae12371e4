"""Fully connected bottom-up networks, P of them at once: forward pass and local Hebbian gradient.

Everything is laid out `(networks, features, samples)`, so that softmax and the norms run along
contiguous samples, and every bias is a weight from an input that is always one.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from credit_envs.networks.inputs import Inputs
from credit_envs.networks.onednn import product, tanh


class MLPBatch:
    """P networks of tanh hidden layers and a softmax output.

    Args:
        num_networks: P.
        sizes: units per layer, inputs first: `(784, 100, 10)`.
        first_shape: shape in which the first weights are kept, see `Inputs.kept_shape`.
        device: where the tensors live.
        dtype: float32, or float64 for checks.

    Attributes:
        weights: one tensor per layer, changed in place by the inner optimiser. Of shape
            `(P, outputs, inputs + 1)`, the last column being the bias, but for the first, which
            is as its `Inputs` keep it.
    """

    def __init__(
        self,
        num_networks: int,
        sizes: Sequence[int],
        first_shape: tuple[int, int],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.num_networks = num_networks
        self.sizes = tuple(sizes)
        shapes = [first_shape, *((above, below + 1) for below, above in pairwise(sizes[1:]))]
        self.weights = [
            torch.zeros(num_networks, *shape, device=device, dtype=dtype) for shape in shapes
        ]
        self._gradients = [torch.empty_like(w) for w in self.weights]
        self._num_samples = -1

    def _reserve(self, num_samples: int) -> None:
        """Allocate the activations for `num_samples` samples once, not in every update."""
        if num_samples == self._num_samples:
            return
        self._num_samples = num_samples
        new = self.weights[0].new_empty
        # The row of ones below each layer of hidden activations feeds the biases above.
        self._post = [
            new(self.num_networks, units + 1, num_samples).fill_(1.0) for units in self.sizes[1:-1]
        ]
        # Holds the pre-activations on the way up, but for the first layer's, and the local
        # errors on the way down.
        self._scratch = [new(self.num_networks, units, num_samples) for units in self.sizes[1:]]
        self.probabilities = new(self.num_networks, self.sizes[-1], num_samples)

    def forward(self, inputs: Inputs) -> Tensor:
        """Log-probabilities of the classes on these samples, shape `(P, classes, N)`."""
        self._reserve(inputs.num_samples)
        pre = inputs.forward(self.weights[0])
        for layer, post in enumerate(self._post):
            tanh(pre, out=post[:, :-1])
            pre = self._scratch[layer + 1]
            product(self.weights[layer + 1], post, out=pre)
        log_probabilities = torch.log_softmax(pre, dim=1)
        torch.exp(log_probabilities, out=self.probabilities)
        return log_probabilities

    def local_gradients(
        self, inputs: Inputs, credits: Sequence[Tensor], scale: float
    ) -> list[Tensor]:
        """Hebbian gradients of the last forward pass: `scale · mean_n( xᵀ (c ⊙ f′(a)) )`.

        Each layer uses what it has at hand: its input, its own activity and its credits
        (TDCA, Fig. 4b). At the output f′ is the Jacobian of the softmax.

        Args:
            inputs: as given to `forward`.
            credits: one per layer, hidden layers first, shape `(P, units, N)`.
            scale: factor on the gradients.

        Returns:
            One tensor per layer, shaped like the weights; overwritten by the next call.
        """
        scale = scale / self._num_samples
        *hidden_credits, output_credit = credits
        # The scratch no longer needs the pre-activations and holds the local errors c ⊙ f′.
        for post, error, credit in zip(self._post, self._scratch, hidden_credits, strict=False):
            through_tanh(credit, post[:, :-1], out=error)
        # p · (c − Σ p·c) in one pass.
        torch.ops.aten._softmax_backward_data.out(
            output_credit,
            self.probabilities,
            1,
            self.probabilities.dtype,
            grad_input=self._scratch[-1],
        )

        inputs.gradient(self._scratch[0], scale, self._gradients[0])
        for layer, below in enumerate(self._post, start=1):
            gradient = self._gradients[layer]
            product(self._scratch[layer], below.transpose(1, 2), out=gradient).mul_(scale)
        return self._gradients

    @property
    def activities(self) -> list[Tensor]:
        """Of the neurons of each hidden layer, `(P, units, N)`; views of the last forward pass."""
        return [post[:, :-1] for post in self._post]

    def predict(self, inputs: Inputs, samples: Tensor) -> Tensor:
        """Log-probabilities on other samples than those it trains on, shape `(P, classes, N)`.

        Args:
            inputs: as given to `forward`.
            samples: `(features, N)` for all networks, or `(P, features, N)`; P may be 1.
        """
        pre = pre_activations(inputs.natural(self.weights[0]), samples)
        for weight in self.weights[1:]:
            pre = torch.baddbmm(weight[:, :, -1:], weight[:, :, :-1], pre.tanh_())
        return torch.log_softmax(pre, dim=1)

    def feedback_credits(self, error: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """Credits of the hidden layers, by feedback from layer to layer.

        The error of a layer goes down through feedback weights and is the credit of the layer
        below; gated by f′ there, it is the error to go on with. If the feedback weights are the
        network's own and the error is −∂L/∂(pre-activations) of any L, credits are −∂L/∂post.

        Args:
            error: at the outputs' pre-activations, `(P, classes, N)`; for the cross-entropy,
                labels − probabilities.
            weights: of the feedback to the units below each layer but the first, as
                `forward_weights`: `(P, units, units below)`.

        Returns:
            One tensor per hidden layer, shape `(P, units, N)`.
        """
        credits, _ = self.feed_back(error, weights)
        return credits

    def feed_back(self, error: Tensor, weights: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """`feedback_credits`, and the first layer's error `(P, units, N)`, to go on down."""
        credits: list[Tensor] = []
        for weight, post in zip(reversed(weights), reversed(self._post), strict=True):
            credit = product(weight.transpose(1, 2), error)
            error = through_tanh(credit, post[:, :-1])
            credits.insert(0, credit)
        return credits, error


def through_tanh(credit: Tensor, post: Tensor, out: Tensor | None = None) -> Tensor:
    """`c · (1 − post²)` in one pass, into `out` if given; post is the activity of the neurons."""
    result: Tensor = (
        torch.ops.aten.tanh_backward(credit, post)
        if out is None
        else torch.ops.aten.tanh_backward.grad_input(credit, post, grad_input=out)
    )
    return result


def forward_weights(network_weights: Sequence[Tensor]) -> list[Tensor]:
    """Weights without biases of each layer but the first, `(P, units, units below)`; views."""
    return [weight[:, :, :-1] for weight in network_weights[1:]]


def pre_activations(weight: Tensor, samples: Tensor) -> Tensor:
    """`W @ [x; 1]`, shape `(P, units, N)`.

    Args:
        weight: W, `(P, units, features + 1)`.
        samples: `(features, N)` for all networks, or `(P, features, N)`; P may be 1.
    """
    if samples.dim() == 3 and len(samples) == 1:
        samples = samples[0]
    if samples.dim() == 2:
        rows = weight.reshape(-1, weight.shape[-1])
        pre = product(rows[:, :-1], samples).view(*weight.shape[:2], -1)
    else:
        pre = product(weight[:, :, :-1], samples)
    return pre.add_(weight[:, :, -1:])
