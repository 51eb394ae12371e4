"""Credit diffusion: one credit for a group of neurons, fading with distance (TDCA, Eq. 2)."""

import torch
from torch import Tensor


def diffusion_kernel(groups: int | tuple[int, int], neurons: int, sigma: float) -> Tensor:
    """How much of each group's credit reaches each neuron of a layer.

    The neurons of a layer lie on a line, or on a square grid, at integer coordinates. The layer
    is cut into equal groups (grid: tiles). A credit is released at the centre of its group and
    reaches a neuron at distance d within the same group as C · exp(−d²/σ²) (TDCA, Eq. 2).

    Args:
        groups: number of groups on a line, or (rows, columns) of tiles on a square grid.
        neurons: number of neurons in the layer; a square number for a grid.
        sigma: diffusion distance σ in neurons, > 0.

    Returns:
        Float64 tensor of shape `(neurons, number of groups)`; neuron credits are
        `kernel @ group credits`.

    Raises:
        ValueError: the groups do not tile the layer.
    """
    if isinstance(groups, int):
        return _line(groups, neurons, sigma)
    side = round(neurons**0.5)
    if side * side != neurons:
        raise ValueError(
            f"a grid of credit groups needs a square number of neurons, not {neurons}; "
            f"use {side * side} neurons or groups on a line (an integer)"
        )
    # On a grid d² = dx² + dy², so the kernel is the product of one per axis.
    rows, columns = (_line(count, side, sigma) for count in groups)
    return torch.kron(rows, columns)


def _line(groups: int, neurons: int, sigma: float) -> Tensor:
    if groups < 1 or neurons % groups:
        raise ValueError(
            f"{groups} credit groups do not divide {neurons} neurons; "
            f"choose a number of groups that divides it"
        )
    size = neurons // groups
    position = torch.arange(neurons, dtype=torch.float64)
    group = torch.arange(groups, dtype=torch.float64)
    centre = group * size + (size - 1) / 2
    strength = torch.exp(-((position[:, None] - centre) ** 2) / sigma**2)
    same_group = (position // size)[:, None] == group
    return strength * same_group
