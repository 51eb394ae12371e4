"""Optimisers of the search distribution's centre."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

CenterOptimizerName = Literal["adam", "sgd", "clipup"]


class ClipUp(torch.optim.Optimizer):
    """ClipUp (Toklu, Liskowski and Srivastava, 2020): normalised momentum with a speed limit.

    v ← clip(0.9·v + lr·g/|g|) to the length 2·lr, then x ← x − v.

    Args:
        params: what is optimised.
        lr: step size.
    """

    momentum, speed_limit = 0.9, 2.0

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                velocity = state.setdefault("velocity", torch.zeros_like(parameter))
                gradient = parameter.grad
                velocity.mul_(self.momentum)
                velocity.add_(gradient / gradient.norm().clamp(min=1e-12), alpha=group["lr"])
                limit = self.speed_limit * group["lr"]
                velocity.mul_((limit / velocity.norm().clamp(min=1e-12)).clamp(max=1.0))
                parameter.sub_(velocity)


def make_center_optimizer(
    name: CenterOptimizerName, center: nn.Parameter, learning_rate: float
) -> torch.optim.Optimizer:
    """The optimiser called `name` for the centre."""
    if name == "adam":
        return torch.optim.Adam([center], lr=learning_rate)
    if name == "sgd":
        return torch.optim.SGD([center], lr=learning_rate, momentum=0.9)
    return ClipUp([center], lr=learning_rate)
