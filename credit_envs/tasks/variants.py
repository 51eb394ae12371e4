"""Variants of a control problem, each a task of its own."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple


class Variant(NamedTuple):
    """One task of a control problem."""

    name: str
    direction: float
    """1, or −1 where the motor turns the wrong way round."""
    constants: Mapping[str, float]
    """Of the dynamics, in SI units; angles in degrees."""


def variants_of(
    kinds: Sequence[str], constants: Mapping[str, Sequence[float]]
) -> tuple[Variant, ...]:
    """Every kind with every combination of the constants; kinds change fastest.

    Args:
        kinds: of the motor, "normal", "reversed" or both; or names of tasks.
        constants: values of each; those that have several stand in the names.
    """
    several = [name for name, values in constants.items() if len(values) > 1]
    variants = []
    for values in product(*constants.values()):
        chosen = dict(zip(constants, values, strict=True))
        labels = [f"{name} {chosen[name]:g}" for name in several]
        variants += [
            Variant(", ".join([kind, *labels]), -1.0 if kind == "reversed" else 1.0, chosen)
            for kind in kinds
        ]
    return tuple(variants)
