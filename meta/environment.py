"""Making the environments that top-down networks are trained and scored in, by their ids."""

from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator

from credit_envs import CreditAssignVectorEnv
from credit_envs.specs import spec_of


def make_credit_env(
    env_id: str, num_envs: int, env_kwargs: Mapping[str, Any]
) -> CreditAssignVectorEnv:
    """A credit-assignment vector environment.

    Args:
        env_id: its id, as `gymnasium.make_vec` takes it.
        num_envs: networks in it.
        env_kwargs: its keyword arguments.

    Raises:
        ValueError: the id is that of another kind of environment.
    """
    entry_point: Any = spec_of(env_id).vector_entry_point
    made = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    if not (isinstance(made, type) and issubclass(made, CreditAssignVectorEnv)):
        raise ValueError(
            f"actions in {env_id} are no credits: name a credit-assignment environment, one of "
            'credit_envs.environment_ids("CreditAssign")'
        )
    env = gymnasium.make_vec(env_id, num_envs=num_envs, **env_kwargs)
    assert isinstance(env, CreditAssignVectorEnv)
    return env
