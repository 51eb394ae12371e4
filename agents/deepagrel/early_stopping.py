"""Stopping where held-out images are no longer answered better."""

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from agents.deepagrel.learner import TrialLearner
from agents.vec_env import VectorEnvAdapter
from credit_envs.checks import require_at_least


class EarlyStopping(BaseCallback):
    """Ends learning after epochs without gain, and restores the best weights (Section 3).

    After every epoch the accuracy on held-out images is measured, without exploration, and logged
    as `eval/accuracy`. When it has not risen for `patience` epochs, or `total_timesteps` are over,
    the weights of the best epoch come back. If something else stops learning, the latest ones
    stay, so that a checkpoint goes on exactly: the accuracies and the best weights are saved with
    the model (name this before callbacks that save it). Epochs learned without this do not count.

    Args:
        eval_env: shows the held-out images; None: the model's environment by id, with
            `split="validation"`.
        patience: epochs without gain after which learning ends.
        epoch_timesteps: trials in an epoch; None: as many as the training environment has images.
        num_eval_trials: trials of a measurement; None: as many as `eval_env` has images.
        test_env: shows test images, which are answered after every epoch too, for the record
            alone; None: none are.

    Raises:
        ValueError: bad arguments, a step that is longer than an epoch, or environments that do not
            tell how many images they have, or would each show the same ones.

    Attributes:
        best_epoch: the first of the highest accuracy, from 1; 0 before the first epoch.
        best_accuracy: there.
        stopped_epoch: the last one measured.
    """

    model: TrialLearner

    def __init__(
        self,
        eval_env: VecEnv | None = None,
        *,
        patience: int = 20,
        epoch_timesteps: int | None = None,
        num_eval_trials: int | None = None,
        test_env: VecEnv | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        require_at_least("patience", patience, 1)
        for name, value in (
            ("epoch_timesteps", epoch_timesteps),
            ("num_eval_trials", num_eval_trials),
        ):
            if value is not None:
                require_at_least(name, value, 1)
        for env in (eval_env, test_env):
            if env is not None:
                _require_shares(env)
        self.patience = patience
        self._eval_env = eval_env
        self._epoch_timesteps = epoch_timesteps
        self._num_eval_trials = num_eval_trials
        self._test_env = test_env

    @property
    def accuracies(self) -> list[float]:
        """On held-out images, after each epoch."""
        return self.model.held_out_accuracies

    @property
    def best_epoch(self) -> int:  # noqa: D102
        return self.accuracies.index(max(self.accuracies)) + 1 if self.accuracies else 0

    @property
    def best_accuracy(self) -> float:  # noqa: D102
        return max(self.accuracies, default=float("nan"))

    @property
    def stopped_epoch(self) -> int:  # noqa: D102
        return len(self.accuracies)

    def _on_training_start(self) -> None:
        if self.model.num_timesteps == 0:
            self.accuracies.clear()
            self.model.test_accuracies.clear()
            self.model.epochs_begin = 0
        if self._eval_env is None:
            self._eval_env = self.model.make_evaluation_env("validation")
        self._num_eval_trials = self._num_eval_trials or _num_images(
            self._eval_env, "num_eval_trials"
        )
        self._epoch_timesteps = self._epoch_timesteps or _num_images(
            self.training_env, "epoch_timesteps"
        )
        if self.training_env.num_envs > self._epoch_timesteps:
            raise ValueError(
                f"a step of {self.training_env.num_envs} trials is longer than an epoch of "
                f"{self._epoch_timesteps}; use fewer environments, or a smaller batch_size"
            )
        if self.model.num_timesteps >= self._epoch_end():
            measured = len(self.accuracies) * self._epoch_timesteps
            self.model.epochs_begin = self.model.num_timesteps - measured

    def _epoch_end(self) -> int:
        """Trials after which the next epoch is over."""
        assert self._epoch_timesteps is not None
        return self.model.epochs_begin + (len(self.accuracies) + 1) * self._epoch_timesteps

    def _on_step(self) -> bool:
        if self.model.num_timesteps < self._epoch_end():
            return True
        self._measure()
        return self.stopped_epoch - self.best_epoch < self.patience

    def _measure(self) -> None:
        assert self._eval_env is not None
        assert self._num_eval_trials is not None
        accuracy = self._accuracy(self._eval_env, self._num_eval_trials)
        if accuracy > max(self.accuracies, default=float("-inf")):
            self.model.keep_best_weights()
        self.accuracies.append(accuracy)
        record = self.logger.record
        record("eval/accuracy", accuracy)
        record("eval/best_accuracy", self.best_accuracy)
        record("eval/best_epoch", self.best_epoch)
        record("eval/epoch", self.stopped_epoch)
        if self._test_env is not None:
            count = _num_images(self._test_env, "another test_env")
            test_accuracy = self._accuracy(self._test_env, count)
            self.model.test_accuracies.append(test_accuracy)
            record("eval/test_accuracy", test_accuracy)

    def _accuracy(self, env: VecEnv, num_trials: int) -> float:
        accuracy, _ = evaluate_policy(self.model, env, n_eval_episodes=num_trials, warn=False)
        assert isinstance(accuracy, float)
        return float(accuracy)

    def _on_training_end(self) -> None:
        patience_is_over = self.stopped_epoch - self.best_epoch >= self.patience
        time_is_over = self.model.num_timesteps >= self.locals["total_timesteps"]
        if self.accuracies and (patience_is_over or time_is_over):
            self.model.restore_best_weights()
            if self.verbose:
                self.logger.info(
                    f"held-out accuracy {self.best_accuracy:.4f} at epoch {self.best_epoch}, "
                    f"stopped at epoch {self.stopped_epoch}"
                )


def _require_shares(env: VecEnv) -> None:
    """Raise ValueError unless the environments share the images of a measurement."""
    is_shared = env.num_envs == 1 or isinstance(env.unwrapped, VectorEnvAdapter)
    if not is_shared and env.has_attr("num_images"):
        raise ValueError(
            f"each of the {env.num_envs} environments would show the same first images; give "
            "EarlyStopping a single one, or VectorEnvAdapter(gymnasium.make_vec(…)), whose "
            "environments share them"
        )


def _num_images(env: VecEnv, argument: str) -> int:
    if not env.has_attr("num_images"):
        raise ValueError(
            f"the environment does not tell how many images it has; give EarlyStopping {argument}"
        )
    count: Any = env.get_attr("num_images")[0]
    return int(count)
