"""Known learning rules as policies that choose credits in classification tasks.

Each gives the output layer the credits of the cross-entropy's gradient, y/p, and the hidden
layers what its rule says; the environment does the rest.

With label smoothing s the target (1 − s)·y + s/k of k classes takes the place of the label y in all
of that. The loss that the environment reports and rewards stays that of y.
"""

from typing import Any, Self

import torch
from gymnasium import spaces
from torch import Tensor

from agents.base import CreditPolicy
from credit_envs import CreditAssignVectorEnv
from credit_envs.checks import require_at_least, require_fraction, require_positive
from credit_envs.tasks import ClassificationTask


class RulePolicy(CreditPolicy):
    """A rule for classification tasks, without anything to evolve.

    Args:
        observation_space: `(n, 2k)`: outputs and one-hot labels.
        action_space: `(n, credits)`, output layer last.
        credit_scale: the environment's, by which credits are divided.
        label_smoothing: s, from 0 to below 1.

    Raises:
        ValueError: the spaces are not those of a classification task, or a setting out of range.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        *,
        credit_scale: float = 10.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(observation_space, action_space)
        shape = observation_space.shape or ()
        if len(shape) != 2 or len(action_space.shape) != 2 or shape[0] != action_space.shape[0]:
            raise ValueError(
                f"{type(self).__name__} is a rule for classification tasks, whose observations "
                f"and actions have a row per sample, not {shape} and {action_space.shape}; "
                'take credit="neurons" there'
            )
        self.num_classes = shape[1] // 2
        self.num_hidden = action_space.shape[1] - self.num_classes
        require_positive("credit_scale", credit_scale)
        require_fraction("label_smoothing", label_smoothing)
        self.credit_scale = credit_scale
        self.label_smoothing = label_smoothing

    def smoothed(self, label_smoothing: float) -> Self:
        """The same rule with another `label_smoothing`."""
        parameters = self._get_constructor_parameters() | {"label_smoothing": label_smoothing}
        return type(self)(**parameters)

    def _split(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and targets, `(B, n, k)` each."""
        outputs, labels = torch.split(observation, self.num_classes, dim=-1)
        if self.label_smoothing:
            s = self.label_smoothing
            labels = (1 - s) * labels + s / self.num_classes
        return outputs, labels

    @staticmethod
    def _output_credit(outputs: Tensor, targets: Tensor) -> Tensor:
        """−∂(cross-entropy)/∂output = y/p."""
        return targets / outputs.clamp(min=torch.finfo(outputs.dtype).tiny)


class BackpropPolicy(RulePolicy):
    """Backpropagation: every credit is −∂(cross-entropy)/∂(activity of its neuron).

    It needs the weights above each neuron, which no observation holds (the problem of weight
    transport), so it reads them from the environment: call `attach(env)` with the vector
    environment first.
    """

    _env: CreditAssignVectorEnv | None = None

    def attach(self, env: CreditAssignVectorEnv) -> None:
        """Read the weights of the networks in `env` from now on."""
        task = env.task
        if not isinstance(task, ClassificationTask) or task.settings.credit != "neurons":
            raise ValueError(
                'BackpropPolicy needs a classification task with credit="neurons": '
                "backpropagation has a credit for every neuron"
            )
        self._env = env

    def act(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:  # noqa: D102
        if self._env is None:
            raise RuntimeError("BackpropPolicy needs the network's weights: call attach(env) first")
        assert isinstance(self._env.task, ClassificationTask)
        _, targets = self._split(observation)
        return self._env.task.backprop_credits(targets) / self.credit_scale


class _RandomFeedbackPolicy(RulePolicy):
    """Hidden credits through a fixed random matrix.

    Args:
        observation_space: see `RulePolicy`.
        action_space: see `RulePolicy`.
        credit_scale: see `RulePolicy`.
        label_smoothing: see `RulePolicy`.
        seed: of the feedback matrix, uniform in ±1/√k.
    """

    feedback: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        *,
        credit_scale: float = 10.0,
        label_smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            credit_scale=credit_scale,
            label_smoothing=label_smoothing,
        )
        require_at_least("seed", seed, 0)
        self.seed = seed
        generator = torch.Generator().manual_seed(seed)
        size = (self.num_classes, self.num_hidden)
        uniform = torch.rand(size, generator=generator) * 2 - 1
        self.register_buffer("feedback", uniform / self.num_classes**0.5)

    def _credits(self, hidden: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        credits = torch.cat([hidden @ self.feedback, self._output_credit(outputs, targets)], dim=-1)
        return credits / self.credit_scale


class DFAPolicy(_RandomFeedbackPolicy):
    """Direct feedback alignment: the output error y − p through a fixed random matrix."""

    def act(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:  # noqa: D102
        outputs, targets = self._split(observation)
        return self._credits(targets - outputs, outputs, targets)


class DRTPPolicy(_RandomFeedbackPolicy):
    """Direct random target projection: the target through a fixed random matrix."""

    def act(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:  # noqa: D102
        outputs, targets = self._split(observation)
        return self._credits(targets, outputs, targets)
