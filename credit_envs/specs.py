"""Specs of environments, as Gymnasium keeps them."""

from importlib import import_module

import gymnasium
from gymnasium.envs.registration import EnvSpec


def spec_of(env_id: str) -> EnvSpec:
    """The spec of an id; of `module:id`, as `gymnasium.make` takes it, too.

    Raises:
        ModuleNotFoundError: there is no such module.
        gymnasium.error.NameNotFound: there is no such id; the nearest is suggested.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        import_module(module)
    return gymnasium.spec(name)
