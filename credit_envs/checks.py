"""Refusals of bad arguments: one sentence that names the fix."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from inspect import Parameter, getattr_static, signature
from math import isfinite
from numbers import Integral, Real
from typing import Any

import torch


def nearest(word: str, known: Iterable[str]) -> str:
    """A question such as `; did you mean 'x'?` when a known word is close, else nothing."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def require_one_of(name: str, value: Any, known: Sequence[Any]) -> None:
    """Raise ValueError unless `value` is one of `known`."""
    if value not in known:
        options = ", ".join(repr(option) for option in known)
        hint = nearest(value, [str(k) for k in known]) if isinstance(value, str) else ""
        raise ValueError(f"{name}={value!r} is not one of {options}{hint}")


def require_at_least(name: str, value: Any, smallest: int) -> None:
    """Raise ValueError unless `value` is an integer of at least `smallest`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < smallest:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {smallest}")


LARGEST_SEED = 2**63 - 1


def require_seeds(seeds: Any, count: int, of_what: str) -> list[int | None]:
    """A seed or None for each; ValueError unless all are whole numbers from 0 to 2⁶³ − 1.

    Args:
        seeds: one for all, or as many as there are.
        count: how many there are.
        of_what: what there are so many of, in the plural.
    """
    given = list(seeds) if isinstance(seeds, Iterable) else [seeds] * count
    for seed in given:
        is_number = isinstance(seed, Integral) and not isinstance(seed, bool)
        if seed is not None and not (is_number and 0 <= seed <= LARGEST_SEED):
            raise ValueError(f"seed={seed!r} must be a whole number from 0 to 2**63 - 1")
    if len(given) != count:
        raise ValueError(
            f"{len(given)} seeds for {count} {of_what}; give one seed, or one for each"
        )
    return [None if seed is None else int(seed) for seed in given]


def require_positive(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a finite number above 0."""
    if not _is_finite(value) or value <= 0:
        raise ValueError(f"{name}={value!r} must be a finite number above 0")


def require_not_negative(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a finite number of at least 0."""
    if not _is_finite(value) or value < 0:
        raise ValueError(f"{name}={value!r} must be a finite number of at least 0")


def require_fraction(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a number of at least 0 and below 1."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) < 1:
        raise ValueError(f"{name}={value!r} must be a number of at least 0 and below 1")


def require_share(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a number above 0 and at most 1."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) <= 1:
        raise ValueError(f"{name}={value!r} must be a number above 0 and at most 1")


def require_unit(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is a number from 0 to 1."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) <= 1:
        raise ValueError(f"{name}={value!r} must be a number from 0 to 1")


def require_sizes(name: str, sizes: Any, allow_empty: bool) -> tuple[int, ...]:
    """Layer sizes as a tuple; ValueError unless they are whole numbers above 0."""
    values = _one_or_several(sizes)
    if not values and not allow_empty:
        raise ValueError(f"{name}={sizes!r} must name at least one layer, such as (100,)")
    for value in values:
        require_at_least(name, value, 1)
    return tuple(int(value) for value in values)


def require_numbers(name: str, numbers: Any) -> tuple[float, ...]:
    """One number or several as a tuple; ValueError unless they are finite and above 0."""
    values = _one_or_several(numbers)
    if not values:
        raise ValueError(f"{name}={numbers!r} must hold at least one number")
    for value in values:
        require_positive(name, value)
    return tuple(float(value) for value in values)


def require_angles(name: str, angles: Any) -> tuple[float, ...]:
    """One angle or several as a tuple; ValueError unless they are finite numbers."""
    values = _one_or_several(angles)
    if not values:
        raise ValueError(f"{name}={angles!r} must hold at least one angle in degrees")
    if not all(map(_is_finite, values)):
        raise ValueError(f"{name}={angles!r} must be finite numbers, angles in degrees")
    return tuple(float(value) for value in values)


def _one_or_several(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def _is_finite(value: Any) -> bool:
    """Whether it is a finite number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def require_device(name: str) -> torch.device:
    """The device called `name`; ValueError unless tensors can be put there."""
    try:
        device = torch.device(name)
        # Moments and some dynamics are in double precision, and results are read on the CPU.
        torch.empty(0, dtype=torch.float64, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={name!r} cannot be used here ({reason}); use 'cpu' or a device PyTorch sees"
        ) from None
    return device


def known_keywords(callable_class: type) -> list[str]:
    """The keyword arguments a class takes, those its `vector_class` takes included."""
    target: type = getattr(callable_class, "vector_class", callable_class)
    hidden = ("self",) if target is callable_class else ("self", "num_envs")
    return [
        name
        for name, parameter in signature(getattr_static(target, "__init__")).parameters.items()
        if name not in hidden and parameter.kind is not Parameter.VAR_KEYWORD
    ]


def check_keywords(callable_class: type, keywords: Mapping[str, Any]) -> None:
    """Raise TypeError that names the nearest known keyword if one of `keywords` is unknown."""
    known = known_keywords(callable_class)
    for keyword in keywords:
        if keyword not in known:
            raise TypeError(
                f"{callable_class.__name__} got an unexpected keyword argument {keyword!r}"
                f"{nearest(keyword, known)}"
            )
