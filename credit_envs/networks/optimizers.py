"""Inner optimisers: how a batch of networks turns its Hebbian gradients into weight changes.

They ascend (credits raise what they reward) and follow `torch.optim` to the letter, with the
global gradient-norm clip of `torch.nn.utils.clip_grad_norm_` applied to each network on its own.

Weight decay is decoupled for all of them, momentum too: as in `torch.optim.AdamW` and unlike that
of `torch.optim.SGD`, it does not join the gradient. First weights that are kept as coefficients and
pre-activations (`GramInputs`) decay in both, which is the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

OptimizerName = Literal["adam", "momentum", "sgd"]


def frobenius_norm(gradient: Tensor) -> Tensor:
    """Of each network's gradient `(P, outputs, inputs)`, shape `(P,)`."""
    norm: Tensor = torch.linalg.vector_norm(gradient, dim=(1, 2))
    return norm


class InnerOptimizer(ABC):
    """Changes the weights of P networks in place, each network independently.

    Args:
        weights: one tensor per layer, shape `(P, outputs, inputs)`; changed in place.
        learning_rate: step size η.
        max_grad_norm: each network's gradient is scaled down to this norm; None switches it off.
        weight_decay: λ; before each move w −= η·λ·w, biases included.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        learning_rate: float,
        max_grad_norm: float | None,
        weight_decay: float = 0.0,
    ) -> None:
        self.weights = list(weights)
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.weight_decay = weight_decay
        self.state = [torch.zeros_like(w) for w in self.weights * self.num_moments]

    num_moments: int

    def reset(self, networks: slice) -> None:
        """Forget the moments of these networks."""
        for moment in self.state:
            moment[networks] = 0.0

    def step(
        self,
        gradients: Sequence[Tensor],
        first_norm: Callable[[Tensor], Tensor] = frobenius_norm,
    ) -> None:
        """Move the weights up `gradients`.

        Args:
            gradients: shaped like the weights; overwritten.
            first_norm: the norms `(P,)` of the first layer's gradients, which may be kept in
                another form than that of the weights (see `Inputs.norm`).
        """
        if self.max_grad_norm is not None:
            self._clip(gradients, first_norm(gradients[0]), self.max_grad_norm)
        if self.weight_decay:
            for weight in self.weights:
                weight.mul_(1 - self.learning_rate * self.weight_decay)
        self._move(gradients)

    @staticmethod
    def _clip(gradients: Sequence[Tensor], first: Tensor, max_norm: float) -> None:
        others = [frobenius_norm(gradient) for gradient in gradients[1:]]
        norm = torch.stack([first, *others]).norm(dim=0)
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, 1, 1))

    @abstractmethod
    def _move(self, gradients: Sequence[Tensor]) -> None: ...


class SGD(InnerOptimizer):
    """w += η·g."""

    num_moments = 0

    def _move(self, gradients: Sequence[Tensor]) -> None:
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.add_(gradient, alpha=self.learning_rate)


class Momentum(InnerOptimizer):
    """v = 0.9·v + g; w += η·v."""

    num_moments = 1
    momentum = 0.9

    def _move(self, gradients: Sequence[Tensor]) -> None:
        sgd(
            self.weights,
            list(gradients),
            list(self.state),
            fused=True,
            weight_decay=0.0,
            momentum=self.momentum,
            lr=self.learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=True,
        )


class Adam(InnerOptimizer):
    """Kingma & Ba's Adam with β₁ = 0.9, β₂ = 0.999, ε = 1e-8, bias-corrected."""

    num_moments = 2

    def __init__(
        self,
        weights: Sequence[Tensor],
        learning_rate: float,
        max_grad_norm: float | None,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(weights, learning_rate, max_grad_norm, weight_decay)
        self._updates = torch.zeros(
            len(self.weights), len(self.weights[0]), device=self.weights[0].device
        )
        self._view()

    def _view(self) -> None:
        # A parameter for each network and layer, because each network counts its own updates.
        self._parameters = _one_by_one(self.weights)
        self._first_moments = _one_by_one(self.state[: len(self.weights)])
        self._second_moments = _one_by_one(self.state[len(self.weights) :])

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Pickles copy a view and what it is of apart, so that steps would be lost."""
        self.__dict__.update(state)
        self._view()

    def reset(self, networks: slice) -> None:  # noqa: D102
        super().reset(networks)
        self._updates[:, networks] = 0.0

    def _move(self, gradients: Sequence[Tensor]) -> None:
        # Fused: one pass over each tensor instead of seven.
        adam(
            self._parameters,
            _one_by_one(gradients),
            self._first_moments,
            self._second_moments,
            [],
            _one_by_one(self._updates),
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=True,
        )


def _one_by_one(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Views of the rows of each tensor."""
    return [row for tensor in tensors for row in tensor.unbind()]


_OPTIMIZERS: dict[str, type[InnerOptimizer]] = {"adam": Adam, "momentum": Momentum, "sgd": SGD}


def make_optimizer(
    name: OptimizerName,
    weights: Sequence[Tensor],
    learning_rate: float,
    max_grad_norm: float | None,
    weight_decay: float = 0.0,
) -> InnerOptimizer:
    """The inner optimiser called `name`, ready to move `weights`."""
    return _OPTIMIZERS[name](weights, learning_rate, max_grad_norm, weight_decay)
