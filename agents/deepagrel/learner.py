"""What all have in common that learn from trials of one step: batches, log, checkpoints."""

import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.deepagrel.base import LocalLearner
from agents.deepagrel.network import Activities, Masks
from agents.deepagrel.policy import (
    DeepAGRELCnnPolicy,
    DeepAGRELLocConPolicy,
    DeepAGRELPolicy,
    choose,
)
from agents.vec_env import VectorEnvAdapter
from credit_envs.checks import require_at_least, require_not_negative, require_unit

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


class TrialLearner(LocalLearner):
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
        epochs_begin: trial from which `EarlyStopping` counts its epochs.
        best_weights: those of the highest of the held-out accuracies, in a row, `(d,)`.
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
        require_at_least("batch_size", batch_size, 1)
        require_unit("epsilon", epsilon)
        require_not_negative("weight_decay", weight_decay)
        require_not_negative("skip_below", skip_below)
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.skip_below = skip_below
        self.history: list[list[float]] = []
        self.held_out_accuracies: list[float] = []
        self.test_accuracies: list[float] = []
        self.epochs_begin = 0
        self.learning_seconds = 0.0
        self._unlearned: list[Trials] = []
        self._uncounted: list[tuple[Tensor, Tensor, Tensor]] = []
        self._sums = [0.0] * _NUM_SUMS
        super().__init__(
            policy,
            env,
            learning_rate,
            epsilon,
            env_kwargs=env_kwargs,
            policy_kwargs=policy_kwargs,
            seed=seed,
            device=device,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            _init_setup_model=_init_setup_model,
        )

    @property
    def num_envs_of_id(self) -> int:
        """As many as fill a batch."""
        return self.batch_size

    def make_evaluation_env(self, split: str) -> VecEnv:
        """The environment of the id this was made with, to measure the accuracy on a split.

        As many at once as fill a batch, but no more than there are images, each of which is shown
        once, whatever the order in learning.

        Args:
            split: "validation" or "test".

        Raises:
            ValueError: there is no id, or no image in this split.
        """
        kwargs: dict[str, Any] = {"split": split}
        if "order" in self.env_kwargs:
            kwargs["order"] = "sequential"
        env = self.make_env(1, **kwargs)
        if not isinstance(env, VectorEnvAdapter) or not env.has_attr("num_images"):
            return env
        num_images: int = env.get_attr("num_images")[0]
        return self.make_env(min(self.batch_size, num_images), **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        self.best_weights = torch.empty(0)

    def _check_env(self, env: VecEnv) -> None:
        super()._check_env(env)
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
            # The last batch may be filled with trials beyond the total.
            self._current_progress_remaining = max(self._current_progress_remaining, 0.0)
            activities, masks, chosen = self._answer()
            actions = chosen.cpu().numpy()
            labels = self._labels(env)
            shown = self._last_obs
            assert isinstance(shown, np.ndarray)
            if env.num_envs < self.batch_size:
                # To be kept, and environments may write the next images over these.
                shown = shown.copy()
            observation, rewards, dones, infos = env.step(actions)
            if not dones.all():
                raise ValueError(
                    f"{type(self).__name__} learns from single steps, so every step must end its "
                    "episode; wrap the environment in gymnasium.wrappers.TimeLimit(env, 1)"
                )
            trials = Trials(shown, masks, actions, rewards, labels)
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
        self._require_finite_weights()
        callbacks.on_training_end()
        return self

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
            raise self._divergence()
        accuracy = greedy_reward / max(greedy, 1)
        self.history.append([self.num_timesteps, reward / trials, accuracy, size / trials])
        record = self.logger.record
        record("rollout/ep_rew_mean", reward / trials)
        record("train/accuracy", accuracy)
        record(f"train/mean_abs_{self.signal_name}", size / trials)
        record("train/learned", learned / trials)
        self._record_network()
        self.logger.dump(self.num_timesteps)

    # ------------------------------------------------------------------ saving

    def keep_best_weights(self) -> None:
        """Keep a copy of all weights, which is saved with the rest."""
        self.best_weights = torch.from_numpy(self.policy.parameters_to_vector())

    def restore_best_weights(self) -> None:
        """Go back to the copy."""
        self.policy.load_from_vector(self.best_weights.cpu().numpy())

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy"], ["best_weights"]

    def save(  # type: ignore[override] # noqa: D102
        self,
        path: str | Path,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        self._count()
        super().save(path, exclude, include)


_NUM_SUMS = 6
_MOST_UNCOUNTED = 100
"""Batches that are kept to be counted at once."""


def _kept(trials: Trials) -> Trials:
    """The trials in memory of their own, which can be saved anywhere."""
    masks = [None if mask is None else mask.cpu() for mask in trials.masks]
    return trials._replace(masks=masks, rewards=trials.rewards.copy())


def _joined(parts: list[Trials]) -> Trials:
    observations, masks, actions, rewards, labels = zip(*parts, strict=True)
    return Trials(
        np.concatenate(observations),
        [None if layer[0] is None else torch.cat(layer) for layer in zip(*masks, strict=True)],
        np.concatenate(actions),
        np.concatenate(rewards),
        None if labels[0] is None else np.concatenate(labels),
    )
