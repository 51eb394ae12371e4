"""Gymnasium vector environments as Stable-Baselines3 `VecEnv`s, without a copy per environment."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

_Array = np.ndarray[Any, Any]


class VectorEnvAdapter(VecEnv):
    """Presents a SAME_STEP Gymnasium `VectorEnv` to Stable-Baselines3.

    Args:
        env: the vector environment.

    Raises:
        ValueError: another autoreset mode, which Stable-Baselines3 would misread.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"Stable-Baselines3 resets within the step that ends an episode; this vector "
                f"environment has autoreset mode {mode}: make it with AutoresetMode.SAME_STEP"
            )
        self.env = env
        self.render_mode = env.render_mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions: _Array | None = None

    def reset(self) -> _Array:
        """Observations of new episodes; seeds and options set before are used once."""
        seeds: list[int | None] | None = (
            None if all(s is None for s in self._seeds) else self._seeds
        )
        options = self._options[0] or None
        # VectorEnv's signature has no seed lists, though every vector environment takes them.
        reset: Callable[..., tuple[_Array, dict[str, Any]]] = self.env.reset
        observation, info = reset(seed=seeds, options=options)
        self.reset_infos = self._infos(info)
        self._reset_seeds()
        self._reset_options()
        return np.asarray(observation)

    def step_async(self, actions: _Array) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Observations, rewards, dones and a dict per environment."""
        observation, rewards, terminated, truncated, info = self.env.step(self._actions)
        dones = terminated | truncated
        infos = self._infos(info)
        for i in np.flatnonzero(dones):
            reset_info = infos[i]
            infos[i] = reset_info.pop("final_info", {}) | {
                "terminal_observation": reset_info.pop("final_obs"),
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
            }
            self.reset_infos[i] = reset_info
        return observation, rewards, dones, infos

    def _infos(self, info: dict[str, Any]) -> list[dict[str, Any]]:
        """A dict per environment from Gymnasium's dict of arrays and masks."""
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for key, values in info.items():
            if key.startswith("_"):
                continue
            rows = self._infos(values) if isinstance(values, dict) else values
            for i in np.flatnonzero(info[f"_{key}"]):
                infos[i][key] = rows[i]
        return infos

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The vector environment's attribute, once per environment asked for."""
        return [getattr(self.env, attr_name)] * len(self._count(indices))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the vector environment's attribute, for all environments at once."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call the vector environment's method; its result once per environment asked for."""
        result = getattr(self.env, method_name)(*args, **kwargs)
        return [result] * len(self._count(indices))

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """False: there are no environments of their own to wrap."""
        return [False] * len(self._count(indices))

    def get_images(self) -> Sequence[_Array | None]:
        """What the vector environment draws."""
        frames = self.env.render()
        return [np.asarray(frame) for frame in frames or ()]

    def _count(self, indices: VecEnvIndices) -> Sequence[int]:
        chosen: Iterable[int] = self._get_indices(indices)
        return list(chosen)
