"""Numbers that the tests of several architectures share."""

from collections.abc import Sequence

import torch
from torch import Tensor


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def fill_like_kaiming(weights: Sequence[Tensor]) -> None:
    """Values in the range of Kaiming's initialisation."""
    for layer, weight in enumerate(weights):
        bound = (weight.shape[2] - 1) ** -0.5
        weight.copy_(bound * (2 * random(layer, *weight.shape).sigmoid() - 1))
