"""Outer loops as the recipes of `train.py` have them."""

from collections.abc import Mapping
from typing import Any

from meta.outer_loop import OuterLoop
from meta.recipes import DEFAULT_OUTER, OUTER_LOOPS


def loop_by_recipe(
    policy: str,
    env_id: str,
    outer: str = DEFAULT_OUTER,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    **learner_kwargs: Any,
) -> OuterLoop:
    """The outer loop by an environment's recipe, before its first generation.

    Args:
        policy: class of the top-down network, by name.
        env_id: what it is meta-trained in.
        outer: name of the outer loop on the command line.
        env_kwargs: of the environment, before the recipe's.
        learner_kwargs: of the outer loop, before the recipe's.
    """
    kind = OUTER_LOOPS[outer]
    recipe = kind.recipes[env_id]
    return kind.loop_class(
        policy,
        env_id,
        env_kwargs=recipe.env_kwargs(env_kwargs or {}),
        policy_kwargs=dict(recipe.policy_kwargs),
        **{**recipe.learner_kwargs, **learner_kwargs},
    )
