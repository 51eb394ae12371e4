"""Residual bottom-up networks, P of them at once: one credit per unit of a block's output."""

from collections.abc import Sequence

import torch
from torch import Tensor

from credit_envs.networks.inputs import Inputs, OwnInputs
from credit_envs.networks.mlp import MLPBatch, pre_activations, through_tanh
from credit_envs.networks.onednn import product, tanh


class ResidualBatch:
    """P networks of a tanh layer, residual blocks and a softmax output.

    A block adds two tanh layers to what it sees, `width` units each:

        u = tanh(W₁h + b₁),   v = tanh(W₂u + b₂),   h' = h + v.

    It has one credit c per unit of h'. Its update stays within the block: it is the gradient of
    c·h' with h held fixed, so W₂ learns from the error e = c ⊙ (1 − v²) and W₁ from
    (W₂ᵀe) ⊙ (1 − u²). Nothing passes from block to block.

    Blocks that start at zero only ever move b₂, whatever the credits: W₂ needs activity u, which
    needs W₁, which needs W₂. Such a network stays a perceptron with one hidden layer.

    Args:
        num_networks: P.
        num_classes: outputs.
        first_shape: shape in which the first weights are kept, see `Inputs.kept_shape`.
        device: where the tensors live.
        dtype: float32, or float64 for checks.
        width: tanh units of the first layer and of both layers of each block.
        blocks: how many, at least 1.

    Attributes:
        weights: one tensor per layer, changed in place by the inner optimiser: the first layer's,
            W₁ and W₂ of each block, the output's. Of shape `(P, outputs, inputs + 1)`, the last
            column being the bias, but for the first, which is as its `Inputs` keep it.
    """

    def __init__(
        self,
        num_networks: int,
        num_classes: int,
        first_shape: tuple[int, int],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        *,
        width: int = 100,
        blocks: int = 2,
    ) -> None:
        self.num_networks, self.width, self.blocks = num_networks, width, blocks
        self._readout = MLPBatch(
            num_networks, (width, num_classes), (num_classes, width + 1), device, dtype
        )
        shapes = [first_shape] + [(width, width + 1)] * (2 * blocks)
        below = [torch.zeros(num_networks, *shape, device=device, dtype=dtype) for shape in shapes]
        self.weights = [*below, *self._readout.weights]
        self._gradients = [torch.empty_like(w) for w in below]
        self._num_samples = -1

    @property
    def credit_sizes(self) -> tuple[int, ...]:
        """Credits per layer: first layer, outputs of the blocks, outputs of the network."""
        return (*(self.width,) * (1 + self.blocks), self._readout.sizes[-1])

    @property
    def probabilities(self) -> Tensor:
        """Of the classes in the last forward pass, `(P, classes, N)`."""
        return self._readout.probabilities

    def _reserve(self, num_samples: int) -> None:
        """Allocate the activations for `num_samples` samples once, not in every update."""
        if num_samples == self._num_samples:
            return
        self._num_samples = num_samples
        like = self.weights[0]

        def layers(count: int, units: int) -> list[Tensor]:
            shape = (self.num_networks, units, num_samples)
            return [like.new_ones(shape) for _ in range(count)]

        # What goes into the blocks (h), between their layers (u), each with a row of ones that
        # feeds the biases above; and what they add (v).
        self._states = layers(self.blocks, self.width + 1)
        self._inner = layers(self.blocks, self.width + 1)
        self._added = layers(self.blocks, self.width)
        self._top = OwnInputs(self.num_networks, self.width, num_samples, like)
        # The local errors of the layer at work.
        self._outer_error, self._inner_error = layers(2, self.width)

    def forward(self, inputs: Inputs) -> Tensor:
        """Log-probabilities of the classes on these samples, shape `(P, classes, N)`."""
        self._reserve(inputs.num_samples)
        outputs = [*(state[:, :-1] for state in self._states), self._top.samples]
        tanh(inputs.forward(self.weights[0]), out=outputs[0])
        for block, (h, u, v) in enumerate(zip(self._states, self._inner, self._added, strict=True)):
            first, second = self.weights[1 + 2 * block : 3 + 2 * block]
            tanh(product(first, h), out=u[:, :-1])
            tanh(product(second, u), out=v)
            torch.add(h[:, :-1], v, out=outputs[block + 1])
        return self._readout.forward(self._top)

    def local_gradients(
        self, inputs: Inputs, credits: Sequence[Tensor], scale: float
    ) -> list[Tensor]:
        """Gradients of the last forward pass, `scale · mean_n` of each block's own.

        Args:
            inputs: as given to `forward`.
            credits: one per entry of `credit_sizes`, shape `(P, units, N)`.
            scale: factor on the gradients.

        Returns:
            One tensor per layer, shaped like the weights; overwritten by the next call.
        """
        first_credit, *block_credits, output_credit = credits
        readout = self._readout.local_gradients(self._top, [output_credit], scale)
        scale = scale / self._num_samples
        error, inner_error = self._outer_error, self._inner_error
        through_tanh(first_credit, self._states[0][:, :-1], out=error)
        inputs.gradient(error, scale, self._gradients[0])
        for block, (h, u, v, credit) in enumerate(
            zip(self._states, self._inner, self._added, block_credits, strict=True)
        ):
            first, second = self._gradients[1 + 2 * block : 3 + 2 * block]
            through_tanh(credit, v, out=error)
            torch.mul(product(error, u.transpose(1, 2)), scale, out=second)
            weight = self.weights[2 + 2 * block][:, :, :-1]
            credit_inside = product(weight.transpose(1, 2), error)
            through_tanh(credit_inside, u[:, :-1], out=inner_error)
            torch.mul(product(inner_error, h.transpose(1, 2)), scale, out=first)
        return [*self._gradients, *readout]

    def predict(self, inputs: Inputs, samples: Tensor) -> Tensor:
        """Log-probabilities on other samples than those it trains on, shape `(P, classes, N)`.

        Args:
            inputs: as given to `forward`.
            samples: `(features, N)` for all networks, or `(P, features, N)`; P may be 1.
        """
        h = pre_activations(inputs.natural(self.weights[0]), samples).tanh_()
        inside = self.weights[1:-1]
        for first, second in zip(inside[::2], inside[1::2], strict=True):
            u = torch.baddbmm(first[:, :, -1:], first[:, :, :-1], h).tanh_()
            h += torch.baddbmm(second[:, :, -1:], second[:, :, :-1], u).tanh_()
        return self._readout.predict(self._top, h)

    def feedback_credits(self, error: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """Credits of the first layer and the blocks' outputs, see `MLPBatch.feedback_credits`.

        Feedback passes a block through both of its layers, and around them as it is.

        Args:
            error: at the outputs' pre-activations, `(P, classes, N)`.
            weights: of the feedback, `(P, units, units below)`: through W₁ and W₂ of each block,
                and from the outputs.

        Returns:
            One tensor per entry of `credit_sizes` but the last, shape `(P, units, N)`.
        """

        def back(layer: int, error: Tensor) -> Tensor:
            return product(weights[layer].transpose(1, 2), error)

        credit = back(-1, error)
        credits = [credit]
        for block in reversed(range(self.blocks)):
            u, v = self._inner[block][:, :-1], self._added[block]
            inside = back(1 + 2 * block, through_tanh(credit, v))
            credit = credit + back(2 * block, through_tanh(inside, u))
            credits.insert(0, credit)
        return credits
