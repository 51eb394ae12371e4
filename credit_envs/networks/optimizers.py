"""Inner optimisers: how a batch of networks turns its Hebbian gradients into weight changes.

They ascend (credits raise what they reward) and follow `torch.optim` to the letter, with the
global gradient-norm clip of `torch.nn.utils.clip_grad_norm_` applied to each network on its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

OptimizerName = Literal["adam", "momentum", "sgd"]


class InnerOptimizer(ABC):
    """Changes the weights of P networks in place, each network independently.

    Args:
        weights: one tensor per layer, shape `(P, outputs, inputs)`; changed in place.
        learning_rate: step size η.
        max_grad_norm: each network's gradient is scaled down to this norm; None switches it off.
    """

    def __init__(
        self, weights: Sequence[Tensor], learning_rate: float, max_grad_norm: float | None
    ) -> None:
        self.weights = list(weights)
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.state = [torch.zeros_like(w) for w in self.weights * self.num_moments]
        # Float64, for 1 − 0.999ᵗ loses four digits in float32 at the first updates.
        self.updates = torch.zeros(
            len(self.weights[0]), dtype=torch.float64, device=self.weights[0].device
        )

    num_moments: int

    def reset(self, networks: slice) -> None:
        """Forget the moments of these networks."""
        for moment in self.state:
            moment[networks] = 0.0
        self.updates[networks] = 0.0

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move the weights up `gradients`, shaped like them, which are overwritten."""
        if self.max_grad_norm is not None:
            self._clip(gradients, self.max_grad_norm)
        self.updates += 1
        self._move(gradients)

    @staticmethod
    def _clip(gradients: Sequence[Tensor], max_norm: float) -> None:
        layers = [torch.linalg.vector_norm(gradient, dim=(1, 2)) for gradient in gradients]
        norm = torch.stack(layers).norm(dim=0)
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
        for weight, gradient, velocity in zip(self.weights, gradients, self.state, strict=True):
            velocity.mul_(self.momentum).add_(gradient)
            weight.add_(velocity, alpha=self.learning_rate)


class Adam(InnerOptimizer):
    """Kingma & Ba's Adam with β₁ = 0.9, β₂ = 0.999, ε = 1e-8, bias-corrected."""

    num_moments = 2
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def _move(self, gradients: Sequence[Tensor]) -> None:
        layers = len(self.weights)
        first_moments, second_moments = self.state[:layers], self.state[layers:]
        # The corrections are folded into the step size and ε, which saves two passes:
        # η·m̂/(√v̂ + ε) = (η·√c₂/c₁) · m/(√v + ε·√c₂), with c = 1 − βᵗ.
        root = (1 - self.beta2**self.updates).sqrt()
        rate = self.learning_rate * root / (1 - self.beta1**self.updates)
        dtype = self.weights[0].dtype
        epsilon = (self.epsilon * root).to(dtype).view(-1, 1, 1)
        rate = rate.to(dtype).view(-1, 1, 1)
        for w, g, m, v in zip(self.weights, gradients, first_moments, second_moments, strict=True):
            m.lerp_(g, 1 - self.beta1)
            v.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
            torch.sqrt(v, out=g).add_(epsilon)
            torch.div(m, g, out=g)
            w.addcmul_(g, rate)


_OPTIMIZERS: dict[str, type[InnerOptimizer]] = {"adam": Adam, "momentum": Momentum, "sgd": SGD}


def make_optimizer(
    name: OptimizerName,
    weights: Sequence[Tensor],
    learning_rate: float,
    max_grad_norm: float | None,
) -> InnerOptimizer:
    """The inner optimiser called `name`, ready to move `weights`."""
    return _OPTIMIZERS[name](weights, learning_rate, max_grad_norm)
