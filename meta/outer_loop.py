"""What outer loops share: learning generation by generation, and saving all that it needs."""

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback

from agents import SharedTDCAPolicy, TDCAPolicy, TDCARNNPolicy, TopDownPolicy, VectorEnvAdapter
from agents.checkpoints import Resumable
from credit_envs import CreditAssignVectorEnv
from credit_envs.checks import require_at_least, require_one_of
from meta.progress import GenerationProgress


class OuterLoop(Resumable):
    """An algorithm that improves a top-down network from generation to generation.

    One "timestep" is one update of one bottom-up network. A generation counts those of all the
    lives in it, and is one call of a callback's `on_step`.

    Args:
        policy: a `TopDownPolicy` subclass, or the name of one.
        env: a vector environment; None if it is made from `env_ids`.
        env_ids: ids of the environments, if none is given.
        env_kwargs: keyword arguments of the environments; for all the same, or those of each.
        learning_rate: of the outer loop.
        policy_kwargs: keyword arguments of the policy.
        lives: per generation, in each environment.
        resample_lives: draw new lives every generation; otherwise always the same.
        seed: of everything drawn; None draws one.
        device: where the networks live.
        tensorboard_log: folder for TensorBoard; None: no log.
        verbose: 1 prints what is logged.

    Raises:
        ValueError: bad arguments, or a device that is not there.

    Attributes:
        policy: the policy that is improved.
        generation: generations done.
        seconds: that they took.
        history: per generation the mean, best and standard deviation of fitness, which is minus a
            final loss.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "TDCAPolicy": TDCAPolicy,
        "TDCARNNPolicy": TDCARNNPolicy,
        "SharedTDCAPolicy": SharedTDCAPolicy,
    }
    policy: TopDownPolicy
    default_device = "cpu"

    def __init__(
        self,
        policy: str | type[TopDownPolicy],
        env: VectorEnvAdapter | None,
        env_ids: tuple[str, ...],
        env_kwargs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None,
        *,
        learning_rate: float,
        policy_kwargs: dict[str, Any] | None,
        lives: int,
        resample_lives: bool,
        seed: int | None,
        device: torch.device | str,
        tensorboard_log: str | None,
        verbose: int,
    ) -> None:
        require_at_least("lives", lives, 1)
        require_one_of("resample_lives", resample_lives, (True, False))
        self.env_ids = env_ids
        self.env_kwargs = _kwargs_of_each(env_kwargs, env_ids)
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
        if not issubclass(self.policy_class, TopDownPolicy):
            raise ValueError(
                f"{type(self).__name__} trains top-down networks, and "
                f"{self.policy_class.__name__} has none: use TDCAPolicy, TDCARNNPolicy or another "
                "TopDownPolicy"
            )
        self.lives = lives
        self.resample_lives = resample_lives
        self.generation = 0
        self.seconds = 0.0
        self.history: list[list[float]] = []

    def _require_environment(self) -> None:
        """Raise ValueError if there is neither an environment nor an id to make one from."""
        if not self.env_ids and self.env is None:
            raise ValueError(
                "the outer loop has no environment: give one, or its id, as env; one that was "
                "given before is not saved, and load takes it again as env"
            )

    def set_env(self, env: object, force_reset: bool = True) -> None:
        """Refused with ValueError: the network is of the environments it began in."""
        raise ValueError(
            "an outer loop stays in the environments it was made for: make another one, or load "
            "it with env=…"
        )

    def _take_spaces(self, env: CreditAssignVectorEnv) -> None:
        """Be in this environment, as Stable-Baselines3 knows it."""
        self.env = VectorEnvAdapter(env)
        self.n_envs = self.env.num_envs
        self.observation_space = self.env.observation_space
        self.action_space = self.env.action_space

    @property
    def meta_training(self) -> dict[str, Mapping[str, Any]]:
        """Keyword arguments with which networks were trained, by environment id.

        Raises:
            ValueError: an id was given twice, with other arguments each time.
        """
        trained = dict(zip(self.env_ids, self.env_kwargs, strict=True))
        for env_id, kwargs in zip(self.env_ids, self.env_kwargs, strict=True):
            if kwargs != trained[env_id]:
                raise ValueError(
                    f"{env_id} was met with {kwargs} and with {trained[env_id]}, so that no single "
                    "arguments are those of meta-training; read env_ids and env_kwargs"
                )
        return trained

    # ------------------------------------------------------------------ learning

    @property
    def life_seeds(self) -> tuple[int, ...]:
        """The lives that the next generation meets."""
        assert self.seed is not None
        generation = self.generation if self.resample_lives else 0
        lives = np.random.SeedSequence([self.seed, 1, generation]).generate_state(self.lives)
        return tuple(int(seed) for seed in lives)

    @property
    @abstractmethod
    def timesteps_per_generation(self) -> int:
        """Updates of bottom-up networks in one generation."""

    @abstractmethod
    def _advance(self) -> NDArray[np.float64]:
        """One generation; the fitnesses in it, one or more."""

    def _check_end(self, generation: int) -> None:
        """Raise ValueError if learning must not end after so many generations."""

    def _begin(self) -> None:
        """Prepare what learning needs while it lasts."""

    def _end(self) -> None:
        """Let go of it."""

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn for `total_timesteps` updates of bottom-up networks.

        Args:
            total_timesteps: updates in all lives together; the generation that reaches the number
                is the last.
            callback: called once per generation; returning False stops.
            log_interval: generations between log entries.
            tb_log_name: name of the TensorBoard run; None: the algorithm's.
            reset_num_timesteps: count from 0; False goes on from where learning stopped.
            progress_bar: show one, by generations.

        Returns:
            This.

        Raises:
            ValueError: a bad `log_interval`, or learning must not end so soon.
        """
        require_at_least("log_interval", log_interval, 1)
        total_timesteps, callbacks = self._setup_learn(
            total_timesteps,
            GenerationProgress.join(callback) if progress_bar else callback,
            reset_num_timesteps,
            tb_log_name or type(self).__name__,
        )
        if (left := total_timesteps - self.num_timesteps) > 0:
            self._check_end(self.generation - (-left // self.timesteps_per_generation))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            self._begin()
            callbacks.on_training_start(locals(), globals())
            while self.num_timesteps < total_timesteps:
                self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
                self._live_generation()
                if self.generation % log_interval == 0:
                    self.logger.dump(self.num_timesteps)
                callbacks.update_locals(locals())
                if not callbacks.on_step():
                    break
            callbacks.on_training_end()
        finally:
            torch.set_num_threads(threads)
            self._end()
        return self

    def _live_generation(self) -> None:
        started = time.perf_counter()
        fitness = self._advance()
        self.generation += 1
        self.num_timesteps += self.timesteps_per_generation
        self.seconds += time.perf_counter() - started
        mean, best, stdev = (float(f) for f in (fitness.mean(), fitness.max(), fitness.std()))
        self.history.append([mean, best, stdev])
        self.logger.record("fitness/mean", mean)
        self.logger.record("fitness/best", best)
        self.logger.record("fitness/stdev", stdev)
        self.logger.record("time/generation", self.generation)

    # ------------------------------------------------------------------ saving

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_last_obs", "_last_episode_starts"]


def ids_of(env: object) -> tuple[str, ...]:
    """Environment ids, one or several.

    Raises:
        ValueError: it is something else.
    """
    ids = (env,) if isinstance(env, str) else env
    if not isinstance(ids, list | tuple) or not ids or not all(isinstance(i, str) for i in ids):
        raise ValueError(
            f"the outer loop trains in a credit-assignment vector environment, by its id or in "
            f"several by their ids, not in a {type(env).__name__}; use "
            "gymnasium.make_vec(id, num_envs=…)"
        )
    return tuple(ids)


def _kwargs_of_each(
    env_kwargs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None, ids: tuple[str, ...]
) -> tuple[Mapping[str, Any], ...]:
    """Keyword arguments for each of the environments."""
    if env_kwargs is None or isinstance(env_kwargs, Mapping):
        return tuple(dict(env_kwargs or {}) for _ in ids)
    if len(env_kwargs) != len(ids):
        raise ValueError(
            f"env_kwargs has {len(env_kwargs)} entries for {len(ids)} environments; give one "
            "mapping for all, or one for each"
        )
    return tuple(dict(kwargs) for kwargs in env_kwargs)
