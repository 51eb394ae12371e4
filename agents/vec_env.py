"""Gymnasium vector environments as Stable-Baselines3 `VecEnv`s, without a copy per environment."""

from collections.abc import Callable, Iterable, MutableSequence, Sequence
from functools import cached_property
from typing import Any, SupportsIndex, cast

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

_Array = np.ndarray[Any, Any]
_Info = dict[str, Any]


class LazyInfos(MutableSequence[_Info]):
    """A list of infos, a dict per environment, that is made when somebody looks into it.

    Args:
        make: makes the list; called once at most.
    """

    def __init__(self, make: Callable[[], list[_Info]]) -> None:
        self._make = make

    @cached_property
    def _infos(self) -> list[_Info]:
        return self._make()

    def __getitem__(self, index: Any) -> Any:
        return self._infos[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._infos[index] = value

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        del self._infos[index]

    def __len__(self) -> int:
        return len(self._infos)

    def insert(self, index: int, value: _Info) -> None:
        """Insert before `index`."""
        self._infos.insert(index, value)

    def copy(self) -> list[_Info]:
        """A list with the same dicts."""
        return self._infos.copy()

    def __repr__(self) -> str:
        return repr(self._infos)


class VectorEnvAdapter(VecEnv):
    """Presents a SAME_STEP Gymnasium `VectorEnv` to Stable-Baselines3.

    The dicts of infos, which cost more than many a step, are made when somebody looks at them.

    Args:
        env: the vector environment.

    Raises:
        ValueError: it is no vector environment, or of another autoreset mode, which
            Stable-Baselines3 would misread.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        if not isinstance(env, VectorEnv):
            raise ValueError(
                f"a {type(env).__name__} is no vector environment of Gymnasium's: make one with "
                "gymnasium.make_vec(id, num_envs=…)"
            )
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
        infos = LazyInfos(lambda: self._step_infos(info, terminated, truncated))
        if dones.all():
            reset_infos = LazyInfos(lambda: self._infos(_without_final(info)))
            self.reset_infos = cast(list[_Info], reset_infos)
        elif dones.any():
            reset_rows = self._infos(_without_final(info))
            for i in np.flatnonzero(dones):
                self.reset_infos[i] = reset_rows[i]
        return observation, rewards, dones, cast(list[_Info], infos)

    def _step_infos(self, info: _Info, terminated: _Array, truncated: _Array) -> list[_Info]:
        """A dict per environment; of an episode that ended, its last info and observation."""
        ended = np.flatnonzero(terminated | truncated)
        some_go_on = len(ended) < self.num_envs
        infos = self._infos(_without_final(info) if some_go_on else {})
        last_infos = self._infos(info.get("final_info", {}))
        # What RecordEpisodeStatistics says of the episodes that ended.
        statistics = self._infos({key: info[key] for key in ("episode", "_episode") if key in info})
        time_is_up = (truncated & ~terminated).tolist()
        for i in ended.tolist():
            infos[i] = {**last_infos[i], **statistics[i]}
            infos[i]["terminal_observation"] = info["final_obs"][i]
            infos[i]["TimeLimit.truncated"] = time_is_up[i]
        return infos

    def _infos(self, info: _Info) -> list[_Info]:
        """A dict per environment from Gymnasium's dict of arrays and masks."""
        infos: list[_Info] = [{} for _ in range(self.num_envs)]
        everywhere = np.ones(self.num_envs, dtype=bool)
        for key, values in info.items():
            if key.startswith("_"):
                continue
            rows = self._infos(values) if isinstance(values, dict) else values
            # Wrappers leave out the masks of what a dict with a mask holds.
            is_known = info.get(f"_{key}", everywhere).tolist()
            for row, value, is_there in zip(infos, rows, is_known, strict=True):
                if is_there:
                    row[key] = value
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


def _without_final(info: _Info) -> _Info:
    """What `info` says of the episodes that go on or have just begun."""
    final = ("final_obs", "_final_obs", "final_info", "_final_info")
    return {key: value for key, value in info.items() if key not in final}
