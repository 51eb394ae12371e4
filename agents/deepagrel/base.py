"""What all have in common that learn Q-values by local rules: network, environment, checkpoints."""

import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.checkpoints import Resumable
from agents.deepagrel.policy import DeepAGRELPolicy, require_discrete
from agents.vec_env import VectorEnvAdapter
from credit_envs.checks import check_keywords, require_positive
from credit_envs.specs import spec_of


class LocalLearner(Resumable):
    """Holds a network of Q-values, an environment to learn in, and all that a checkpoint needs.

    How the network learns is up to those that inherit.

    Args:
        policy: name of the policy, of `policy_aliases`, or a `DeepAGRELPolicy` class.
        env: an environment id, of which `num_envs_of_id` are made, or an environment or a vector
            environment of Gymnasium or Stable-Baselines3.
        learning_rate: α, or a function of the remaining progress.
        epsilon: ε, how often the choice is Boltzmann's at first.
        env_kwargs: keyword arguments of the environment, if an id is given.
        policy_kwargs: keyword arguments of the policy.
        seed: of everything drawn; None draws one.
        device: where the network lives.
        tensorboard_log: folder for TensorBoard; None: no log.
        verbose: 1 prints what is logged.

    Raises:
        ValueError: bad arguments, an environment of another kind, or a device that is not there.
    """

    policy: DeepAGRELPolicy

    def __init__(
        self,
        policy: str | type[DeepAGRELPolicy],
        env: str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv | None,
        learning_rate: float | Schedule,
        epsilon: float,
        *,
        env_kwargs: Mapping[str, Any] | None,
        policy_kwargs: dict[str, Any] | None,
        seed: int | None,
        device: torch.device | str,
        tensorboard_log: str | None,
        verbose: int,
        _init_setup_model: bool,
    ) -> None:
        if not callable(learning_rate):
            require_positive("learning_rate", learning_rate)
        if env_kwargs and not isinstance(env, str):
            raise ValueError("env_kwargs are for an environment id; give them to the environment")
        self.env_id = env if isinstance(env, str) else None
        self.env_kwargs = dict(env_kwargs or {})
        if isinstance(env, str):
            env = self.make_env()
        elif isinstance(env, VectorEnv):
            env = VectorEnvAdapter(env)
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            policy_kwargs=policy_kwargs,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
        )
        self.epsilon = epsilon
        self._env_state: Any = None
        if self.env is not None and (seed is not None or self.env_id is not None):
            self.env.seed(self.seed)
        if _init_setup_model:
            self._setup_model()

    @property
    @abstractmethod
    def num_envs_of_id(self) -> int:
        """Environments that are made of an id."""

    def _setup_model(self) -> None:
        if not issubclass(self.policy_class, DeepAGRELPolicy):
            raise ValueError(
                f"{type(self).__name__} learns in a network of its own kind, which "
                f"{self.policy_class.__name__} has not: use {', '.join(self.policy_aliases)} or "
                "another DeepAGRELPolicy"
            )
        assert self.seed is not None
        seeds = np.random.SeedSequence(self.seed).generate_state(2, np.uint32)
        if self.env is not None:
            self._check_env(self.env)
        self._setup_lr_schedule()
        check_keywords(self.policy_class, self.policy_kwargs)
        self.policy = self.policy_class(
            self.observation_space,
            self.action_space,
            **{"epsilon": self.epsilon, **self.policy_kwargs},
        )
        self.policy.initialise(torch.Generator().manual_seed(int(seeds[0])))
        self.policy = self.policy.to(self.device)
        self.policy.set_training_mode(False)
        self.generator = torch.Generator(self.device).manual_seed(int(seeds[1]))

    def make_env(self, num_envs: int | None = None, **kwargs: Any) -> VecEnv:
        """The environment of the id this was made with.

        Args:
            num_envs: at once; None: `num_envs_of_id`.
            kwargs: keyword arguments that differ, such as `split="test"`.

        Raises:
            ValueError: there is no id.
        """
        if self.env_id is None:
            raise ValueError(
                "the environment was not given by its id, so that no other of its kind can be "
                "made; make it yourself"
            )
        num_envs = num_envs or self.num_envs_of_id
        kwargs = {**self.env_kwargs, **kwargs}
        if spec_of(self.env_id).vector_entry_point is not None:
            env = gymnasium.make_vec(self.env_id, num_envs=num_envs, **kwargs)
            if env.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP:
                return VectorEnvAdapter(env)
            env.close()
        return make_vec_env(self.env_id, num_envs, env_kwargs=kwargs)

    def _check_env(self, env: VecEnv) -> None:
        """Raise ValueError where this cannot learn."""
        require_discrete(env.action_space)

    def _make_env_anew(self) -> VecEnv:
        """After loading: the environment of the saved id, where it was."""
        if self.env_id is None:
            raise ValueError("there is no environment to learn in: call set_env() first")
        env = self.make_env()
        if not _restore(env, self._env_state):
            self._last_obs = None
        return env

    def _to_tensor(self, array: NDArray[Any]) -> Tensor:
        # A copy: environments may write the next over these.
        return torch.tensor(array, device=self.device)

    def _record_network(self) -> None:
        """What every log entry tells of speed and weights."""
        record = self.logger.record
        seconds = (time.time_ns() - self.start_time) / 1e9
        record("time/fps", (self.num_timesteps - self._num_timesteps_at_start) / seconds)
        record("train/n_updates", self._n_updates, exclude="tensorboard")
        for number, weight in enumerate(self.policy.q_net.weights, start=1):
            record(f"weights/norm_{number}", weight.norm().item())
        if self.policy.feedback_kind in ("reciprocal", "fixed"):
            for number, angle in enumerate(self.policy.alignment(), start=2):
                record(f"feedback/angle_{number}", angle)

    def _require_finite_weights(self) -> None:
        """Raise FloatingPointError if the network has diverged since the last log entry."""
        # What is not finite shows in the sum.
        if not all(isfinite(weight.sum()) for weight in self.policy.q_net.weights):
            raise self._divergence()

    def _divergence(self) -> FloatingPointError:
        rate = self.lr_schedule(self._current_progress_remaining)
        return FloatingPointError(
            f"the network has diverged at {self.num_timesteps} timesteps with learning_rate="
            f"{rate:g}; use a smaller one"
        )

    # ------------------------------------------------------------------ saving

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "generator", "lr_schedule"]

    def save(  # type: ignore[override] # noqa: D102
        self,
        path: str | Path,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        self._generator_state = self.generator.get_state().numpy()
        if self.env is not None:
            self._env_state = _state_of(self.env)
        super().save(path, exclude, include)

    def _take_up(self, force_reset: bool) -> None:
        """Generator and environment where they were when this was saved."""
        # Generators of other devices have other states; that one begins anew from the seed.
        state = torch.from_numpy(self._generator_state)
        if len(state) == len(self.generator.get_state()):
            self.generator.set_state(state)
        if self.env is not None and not _restore(self.env, self._env_state) and force_reset:
            self._last_obs = None


def _state_of(env: VecEnv | None) -> Any:
    """What a vector environment that can be taken up again needs; None for others."""
    if not isinstance(env, VectorEnvAdapter) or not hasattr(env.env, "get_state"):
        return None
    return env.env.get_state()


def _restore(env: VecEnv | None, state: Any) -> bool:
    """Whether the environment is now where it was."""
    if not isinstance(env, VectorEnvAdapter) or state is None:
        return False
    if not hasattr(env.env, "set_state"):
        return False
    env.env.set_state(state)
    return True
