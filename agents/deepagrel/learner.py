"""What all have in common that learn from trials of one step: batches, log, checkpoints."""

import time
import zipfile
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.deepagrel.network import Activities, Masks
from agents.deepagrel.policy import (
    DeepAGRELCnnPolicy,
    DeepAGRELLocConPolicy,
    DeepAGRELPolicy,
    choose,
    require_discrete,
    require_epsilon,
)
from agents.vec_env import VectorEnvAdapter
from credit_envs import __version__
from credit_envs.checks import (
    check_keywords,
    require_at_least,
    require_not_negative,
    require_one_of,
    require_positive,
)
from credit_envs.files import atomic_path

_Array = NDArray[Any]


class Trials(NamedTuple):
    """What is needed to learn from B trials.

    Attributes:
        observations: `(B, *shape)`.
        masks: dropout, see `QNetwork.draw_masks`.
        actions: the answers, `(B,)`.
        rewards: `(B,)`.
        labels: right answers, of learners that are told them, `(B,)`.
    """

    observations: _Array
    masks: Masks
    actions: _Array
    rewards: _Array
    labels: _Array | None = None


class TrialLearner(BaseAlgorithm):
    """Learns to answer in trials of one step, by updates that are local.

    What the output units start from a batch is up to the rule, `_output_signal`; the rest is here.
    Every step of the environment must end its episode. A batch is one step of `batch_size`
    environments, one update and one call of a callback's `on_step`. Fewer environments take
    several steps to fill a batch.

    | logged | meaning, over the updates since the last entry |
    |---|---|
    | `rollout/ep_rew_mean` | reward rate |
    | `train/accuracy` | reward rate of the answers with the highest output, before the update |
    | `train/mean_abs_…` | mean of the largest absolute output signal, `rpe` or `error` |
    | `train/learned` | fraction of trials that were learned from (see `skip_below`) |
    | `weights/norm_…` | norm of w by layer |
    | `feedback/angle_…` | angle between w and w' by layer, degrees; if w' has the shape of w |
    | `time/fps` | trials per second since `learn` began |
    | `eval/…` | see `EarlyStopping` |

    Args:
        policy: "MlpPolicy", "CnnPolicy", "LocConPolicy", or a `DeepAGRELPolicy` class.
        env: an environment id, of which `batch_size` are made, or an environment or a vector
            environment of Gymnasium or Stable-Baselines3.
        learning_rate: α, or a function of the remaining progress.
        batch_size: trials per update; a multiple of the number of environments.
        epsilon: ε, how often the choice is Boltzmann's.
        weight_decay: d in w ← (1 − α d) w + Δw, of w and of reciprocal w'.
        skip_below: trials whose output signal is at most this are left out of the update, which
            saves their feedback; 0 leaves none out.
        env_kwargs: keyword arguments of the environment, if an id is given.
        policy_kwargs: keyword arguments of the policy.
        seed: of everything drawn; None draws one.
        device: where the network lives.
        tensorboard_log: folder for TensorBoard; None: no log.
        verbose: 1 prints what is logged.

    Attributes:
        policy: with `q_net`, a module from raw observations to outputs, and `feedback` weights.
        history: per log entry timesteps, reward rate, accuracy and mean output signal.
        held_out_accuracies: after each epoch, by `EarlyStopping`.
        test_accuracies: likewise, if it is given test images.
        best_weights: those of the highest of them, in a row, `(d,)`.
        learning_seconds: CPU seconds spent in learning, without callbacks.

    Raises:
        ValueError: bad arguments, or an environment of another kind.
    """

    signal_name: ClassVar[str]
    """In the log, after `train/mean_abs_`."""
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": DeepAGRELPolicy,
        "CnnPolicy": DeepAGRELCnnPolicy,
        "LocConPolicy": DeepAGRELLocConPolicy,
    }
    policy: DeepAGRELPolicy

    def __init__(
        self,
        policy: str | type[DeepAGRELPolicy],
        env: str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv | None,
        learning_rate: float | Schedule = 0.5,
        batch_size: int = 100,
        epsilon: float = 0.02,
        *,
        weight_decay: float = 0.0,
        skip_below: float = 0.0,
        env_kwargs: Mapping[str, Any] | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        seed: int | None = None,
        device: torch.device | str = "auto",
        tensorboard_log: str | None = None,
        verbose: int = 0,
        _init_setup_model: bool = True,
    ) -> None:
        if not callable(learning_rate):
            require_positive("learning_rate", learning_rate)
        require_at_least("batch_size", batch_size, 1)
        require_epsilon(epsilon)
        require_not_negative("weight_decay", weight_decay)
        require_not_negative("skip_below", skip_below)
        if seed is not None:
            require_at_least("seed", seed, 0)
        if env_kwargs and not isinstance(env, str):
            raise ValueError("env_kwargs are for an environment id; give them to the environment")
        self.env_id = env if isinstance(env, str) else None
        self.env_kwargs = dict(env_kwargs or {})
        self.batch_size = batch_size
        if isinstance(env, str):
            env = self.make_env()
        elif isinstance(env, VectorEnv):
            env = VectorEnvAdapter(env)
        super().__init__(
            policy,
            env=env,
            learning_rate=learning_rate,
            policy_kwargs=policy_kwargs,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed,
        )
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.skip_below = skip_below
        self.version = __version__
        self.history: list[list[float]] = []
        self.held_out_accuracies: list[float] = []
        self.test_accuracies: list[float] = []
        self.learning_seconds = 0.0
        self._unlearned: list[Trials] = []
        self._uncounted: list[tuple[Tensor, Tensor, Tensor]] = []
        self._sums = [0.0] * _NUM_SUMS
        self._env_state: Any = None
        if self.env is not None and (seed is not None or self.env_id is not None):
            self.env.seed(self.seed)
        if _init_setup_model:
            self._setup_model()

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        require_one_of("policy", policy_name, list(self.policy_aliases))
        return self.policy_aliases[policy_name]

    def _setup_model(self) -> None:
        if not issubclass(self.policy_class, DeepAGRELPolicy):
            raise ValueError(
                f"{type(self).__name__} learns in a network of its own kind, which "
                f"{self.policy_class.__name__} has not: use MlpPolicy, CnnPolicy, LocConPolicy or "
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
        self.best_weights = torch.empty(0)

    def make_env(self, **kwargs: Any) -> VecEnv:
        """The environment of the id this was made with, `batch_size` at once.

        Args:
            kwargs: keyword arguments that differ, such as `split="test"`.

        Raises:
            ValueError: there is no id.
        """
        if self.env_id is None:
            raise ValueError(
                "the environment was not given by its id, so that no other of its kind can be "
                "made; make it yourself"
            )
        kwargs = {**self.env_kwargs, **kwargs}
        if gymnasium.spec(self.env_id).vector_entry_point is not None:
            env = gymnasium.make_vec(self.env_id, num_envs=self.batch_size, **kwargs)
            if env.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP:
                return VectorEnvAdapter(env)
            env.close()
        return make_vec_env(self.env_id, self.batch_size, env_kwargs=kwargs)

    def _check_env(self, env: VecEnv) -> None:
        require_discrete(env.action_space)
        if self.batch_size % env.num_envs:
            raise ValueError(
                f"batch_size={self.batch_size} is not a multiple of the {env.num_envs} "
                f"environments; use batch_size={env.num_envs}"
            )

    # ------------------------------------------------------------------ learning

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn from `total_timesteps` trials, or as many more as complete a batch.

        Args:
            total_timesteps: trials.
            callback: called after every step of the environment; returning False stops.
            log_interval: updates between log entries.
            tb_log_name: name of the TensorBoard run; None: that of the class.
            reset_num_timesteps: count from 0; False goes on from where learning stopped.
            progress_bar: show one, by trials.

        Returns:
            This.

        Raises:
            ValueError: the environment is no bandit.
            FloatingPointError: the network has diverged.
        """
        require_at_least("log_interval", log_interval, 1)
        require_at_least("total_timesteps", total_timesteps, 0)
        if self.env is None:
            self.env = self._make_env_anew()
        env = self.env
        if reset_num_timesteps:
            self._unlearned.clear()
            self._uncounted.clear()
            self._sums = [0.0] * _NUM_SUMS
            self.history.clear()
            self.learning_seconds = 0.0
        total_timesteps, callbacks = self._setup_learn(
            total_timesteps,
            callback,
            reset_num_timesteps,
            tb_log_name or type(self).__name__,
            progress_bar,
        )
        callbacks.on_training_start(locals(), globals())
        started = time.process_time()
        while self.num_timesteps < total_timesteps or self._unlearned:
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            activities, masks, chosen = self._answer()
            actions = chosen.cpu().numpy()
            labels = self._labels(env)
            observation, rewards, dones, infos = env.step(actions)
            if not dones.all():
                raise ValueError(
                    f"{type(self).__name__} learns from single steps, so every step must end its "
                    "episode; wrap the environment in gymnasium.wrappers.TimeLimit(env, 1)"
                )
            assert isinstance(self._last_obs, np.ndarray)
            trials = Trials(self._last_obs, masks, actions, rewards, labels)
            assert isinstance(observation, np.ndarray)
            self._last_obs = observation
            self.num_timesteps += env.num_envs
            self._learn_from(trials, activities)
            if self._unlearned == [] and self._n_updates % log_interval == 0:
                self._log()
            self.learning_seconds += time.process_time() - started
            callbacks.update_locals(locals())
            if not callbacks.on_step():
                break
            started = time.process_time()
        callbacks.on_training_end()
        return self

    def _make_env_anew(self) -> VecEnv:
        """After loading: the environment of the saved id, where it was."""
        if self.env_id is None:
            raise ValueError("there is no environment to learn in: call set_env() first")
        env = self.make_env()
        if not _restore(env, self._env_state):
            self._last_obs = None
        return env

    @torch.no_grad()
    def _answer(self) -> tuple[Activities, Masks, Tensor]:
        """The network's activities for the last observations, and its choices `(n_envs,)`."""
        assert isinstance(self._last_obs, np.ndarray)
        q_net = self.policy.q_net
        masks = q_net.draw_masks(len(self._last_obs), self.generator)
        activities = q_net.activities(self._to_tensor(self._last_obs), masks)
        return activities, masks, choose(activities.q_values, self.epsilon, self.generator)

    @torch.no_grad()
    def _learn_from(self, trials: Trials, activities: Activities) -> None:
        """Update the network if these trials complete a batch; otherwise keep them for it."""
        if len(trials.actions) < self.batch_size:
            self._unlearned.append(_kept(trials))
            if sum(len(kept.actions) for kept in self._unlearned) < self.batch_size:
                return
            trials = _joined(self._unlearned)
            self._unlearned = []
            masks = [None if m is None else m.to(self.device) for m in trials.masks]
            observations = self._to_tensor(trials.observations)
            # All at once, with the weights and masks with which the actions were chosen.
            activities = self.policy.q_net.activities(observations, masks)
        self._update(activities, trials)

    def _update(self, activities: Activities, trials: Trials) -> None:
        """One update of all weights from a batch."""
        q_values = activities.q_values
        actions = self._to_tensor(trials.actions)
        rewards = self._to_tensor(trials.rewards).to(q_values.dtype)
        signal = self._output_signal(q_values, actions, rewards, trials.labels)
        size = signal.abs().amax(1)
        self._add_up(rewards, size, actions == q_values.argmax(1))
        learning_rate = self.lr_schedule(self._current_progress_remaining)
        if self.skip_below > 0:
            chosen = (size > self.skip_below).nonzero()[:, 0]
            activities, signal = self.policy.q_net.select(activities, chosen), signal[chosen]
        self.policy.q_net.update(
            activities,
            signal,
            self.policy.feedback,
            rate=learning_rate / self.batch_size,
            keep=1.0 - learning_rate * self.weight_decay,
            kind=self.policy.feedback_kind,
        )
        self._n_updates += 1

    @abstractmethod
    def _output_signal(
        self, q_values: Tensor, actions: Tensor, rewards: Tensor, labels: _Array | None
    ) -> Tensor:
        """What the output units start, `(B, actions)`: −∂E/∂q of what the rule lowers."""

    def _labels(self, env: VecEnv) -> _Array | None:
        """Right answers to the last observations, `(n_envs,)`; None: the rule needs none."""
        return None

    def _to_tensor(self, array: _Array) -> Tensor:
        # A copy: environments may write the next trials over these.
        return torch.tensor(array, device=self.device)

    # ------------------------------------------------------------------ logging

    def _add_up(self, rewards: Tensor, size: Tensor, is_greedy: Tensor) -> None:
        """Count a batch for the next log entry; later, for sums cost more than single trials."""
        self._uncounted.append((rewards, size, is_greedy))
        if len(self._uncounted) == _MOST_UNCOUNTED:
            self._count()

    def _count(self) -> None:
        """Add what is uncounted to the sums of the next log entry, batch by batch."""
        if not self._uncounted:
            return
        parts = zip(*self._uncounted, strict=True)
        rewards, size, greedy = (torch.stack(part).double() for part in parts)
        self._uncounted.clear()
        learning = (size > self.skip_below).double()
        trials = torch.ones_like(rewards)
        sums = torch.stack((rewards, size, learning, greedy, greedy * rewards, trials)).sum(2)
        # One after the other, so that it does not matter how many were counted at once.
        for batch in sums.T.tolist():
            self._sums = [total + added for total, added in zip(self._sums, batch, strict=True)]

    def _log(self) -> None:
        self._count()
        reward, size, learned, greedy, greedy_reward, trials = self._sums
        self._sums = [0.0] * _NUM_SUMS
        if not np.isfinite(size):
            raise FloatingPointError(
                f"the network has diverged at {self.num_timesteps} trials with learning_rate="
                f"{self.lr_schedule(self._current_progress_remaining):g}; use a smaller one"
            )
        accuracy = greedy_reward / max(greedy, 1)
        self.history.append([self.num_timesteps, reward / trials, accuracy, size / trials])
        record = self.logger.record
        record("rollout/ep_rew_mean", reward / trials)
        record("train/accuracy", accuracy)
        record(f"train/mean_abs_{self.signal_name}", size / trials)
        record("train/learned", learned / trials)
        seconds = (time.time_ns() - self.start_time) / 1e9
        record("time/fps", (self.num_timesteps - self._num_timesteps_at_start) / seconds)
        record("train/n_updates", self._n_updates, exclude="tensorboard")
        for number, weight in enumerate(self.policy.q_net.weights, start=1):
            record(f"weights/norm_{number}", weight.norm().item())
        if self.policy.feedback_kind in ("reciprocal", "fixed"):
            for number, angle in enumerate(self.policy.alignment(), start=2):
                record(f"feedback/angle_{number}", angle)
        self.logger.dump(self.num_timesteps)

    # ------------------------------------------------------------------ saving

    def keep_best_weights(self) -> None:
        """Keep a copy of all weights, which is saved with the rest."""
        self.best_weights = torch.from_numpy(self.policy.parameters_to_vector())

    def restore_best_weights(self) -> None:
        """Go back to the copy."""
        self.policy.load_from_vector(self.best_weights.cpu().numpy())

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "generator", "lr_schedule"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy"], ["best_weights"]

    def save(  # type: ignore[override]
        self,
        path: str | Path,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Save all that learning needs to go on; a file that was there is replaced at the end.

        Args:
            path: of the file; `.zip` is added if it has no ending.
            exclude: further attributes to leave out.
            include: attributes to keep that would be left out.
        """
        self._count()
        self._generator_state = self.generator.get_state().numpy()
        if self.env is not None:
            self._env_state = _state_of(self.env)
        with atomic_path(_zip_path(path)) as unfinished:
            super().save(unfinished, exclude, include)

    @classmethod
    def load(  # type: ignore[override]
        cls,
        path: str | Path,
        env: VectorEnv[Any, Any, Any] | VecEnv | gymnasium.Env[Any, Any] | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Self:
        """A saved learner that goes on, with `learn(…, reset_num_timesteps=False)`.

        It goes on exactly where it stopped if the environment can: a vector environment of this
        package takes up its sequence of images again, others are reset.

        Args:
            path: of the file.
            env: the environment to go on in; None makes that of a saved id anew.
            device: where the network lives.
            custom_objects: see `BaseAlgorithm.load`.
            print_system_info: print versions, here and when it was saved.
            force_reset: False trusts that `env` is just where it was.
            kwargs: attributes to change, such as `tensorboard_log`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is incomplete, of another version or of another environment.
        """
        target = _zip_path(path)
        if isinstance(env, VectorEnv):
            env = VectorEnvAdapter(env)
        try:
            model = super().load(
                target, env, device, custom_objects, print_system_info, False, **kwargs
            )
            if model.version != __version__:
                raise ValueError(f"saved by version {model.version}, this is {__version__}")
            model._take_up(force_reset)
            return model
        except (zipfile.BadZipFile, EOFError, KeyError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{target} cannot be continued here ({error}): it is incomplete, or of another "
                "version or environment; use another checkpoint, or start again"
            ) from error

    def _take_up(self, force_reset: bool) -> None:
        """Generator and environment where they were when this was saved."""
        self.generator.set_state(torch.from_numpy(self._generator_state))
        if self.env is not None and not _restore(self.env, self._env_state) and force_reset:
            self._last_obs = None


_NUM_SUMS = 6
_MOST_UNCOUNTED = 100
"""Batches that are kept to be counted at once."""


def _kept(trials: Trials) -> Trials:
    """The trials in memory of their own, which can be saved anywhere."""
    masks = [None if mask is None else mask.cpu() for mask in trials.masks]
    return trials._replace(
        observations=trials.observations.copy(), masks=masks, rewards=trials.rewards.copy()
    )


def _joined(parts: list[Trials]) -> Trials:
    observations, masks, actions, rewards, labels = zip(*parts, strict=True)
    return Trials(
        np.concatenate(observations),
        [None if layer[0] is None else torch.cat(layer) for layer in zip(*masks, strict=True)],
        np.concatenate(actions),
        np.concatenate(rewards),
        None if labels[0] is None else np.concatenate(labels),
    )


def _zip_path(path: str | Path) -> Path:
    target = Path(path)
    return target if target.suffix else target.with_suffix(".zip")


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
