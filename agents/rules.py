"""Known learning rules as policies that choose credits in classification tasks.

The environment does the rest. Rules that learn from labels give the output layer the credits of
the cross-entropy's gradient, y/p, and the hidden layers what the rule says. With label smoothing s
the target (1 − s)·y + s/k of k classes takes the place of the label y in all of that; the loss that
the environment reports and rewards stays that of y.
"""

from typing import Any, Literal, Self, get_args

import torch
from gymnasium import spaces
from torch import Tensor

from agents.base import CreditPolicy, require_networks
from credit_envs import CreditAssignVectorEnv
from credit_envs.checks import (
    require_at_least,
    require_fraction,
    require_one_of,
    require_positive,
)
from credit_envs.tasks import ClassificationTask

RuleLoss = Literal["cross-entropy", "squared-error"]


class RulePolicy(CreditPolicy):
    """A rule for classification tasks, without anything to evolve.

    Args:
        observation_space: `(n, 2k)`: outputs and one-hot labels.
        action_space: `(n, credits)`, output layer last.
        credit_scale: the environment's, by which credits are divided.

    Raises:
        ValueError: the spaces are not those of a classification task, or a setting out of range.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        *,
        credit_scale: float = 10.0,
    ) -> None:
        super().__init__(observation_space, action_space)
        shape = observation_space.shape or ()
        acted = action_space.shape
        fits = len(shape) == len(acted) == 2 and shape[0] == acted[0]
        if not fits or shape[1] % 2 or not 2 <= shape[1] <= 2 * acted[1]:
            raise ValueError(
                f"{type(self).__name__} is a rule for classification tasks, whose observations "
                f"and actions have a row per sample, not {shape} and {acted}; "
                'take credit="neurons" there'
            )
        self.num_classes = shape[1] // 2
        self.num_hidden = action_space.shape[1] - self.num_classes
        require_positive("credit_scale", credit_scale)
        self.credit_scale = credit_scale

    def _split(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and labels, `(B, n, k)` each."""
        outputs, labels = torch.split(observation, self.num_classes, dim=-1)
        return outputs, labels

    def _action(self, *credits: Tensor) -> Tensor:
        """Credits of hidden layers and outputs, `(B, n, units)` each, as an action."""
        # Laid out as the environment needs it, with the samples last: large ones take long to
        # transpose.
        action = torch.cat([credit.transpose(1, 2) for credit in credits], dim=1)
        return action.div_(self.credit_scale).transpose(1, 2)


class FeedbackRulePolicy(RulePolicy):
    """A rule that sends an error down from layer to layer, gated by f′ of each neuron.

    That takes the neurons' activities and the weights above them, which no observation holds. So
    it reads them from the environment: call `attach(env)` with the vector environment first, and
    let it act on what that environment shows.
    """

    _env: CreditAssignVectorEnv | None = None
    _feedback_seed: int | None = None
    """Of fixed random feedback weights; None: feedback goes through the network's own."""
    _fixed_weights: list[Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy would read a copy of the environment, whose networks nobody trains.
        return {**self.__dict__, "_env": None, "_fixed_weights": None}

    def attach(self, env: CreditAssignVectorEnv) -> None:
        """Read the networks in `env` from now on.

        Raises:
            ValueError: there are none, or they have no credit for each neuron.
        """
        require_networks(env)
        task = env.task
        if not isinstance(task, ClassificationTask) or task.settings.credit != "neurons":
            raise ValueError(
                f'{type(self).__name__} needs a classification task with credit="neurons": '
                "it has a credit for every neuron"
            )
        self._env = env
        if self._feedback_seed is not None:
            self._fixed_weights = _random_weights(task, self._feedback_seed)

    def _attached(self, observation: Tensor) -> CreditAssignVectorEnv:
        """The environment that shows this observation."""
        if self._env is None:
            raise RuntimeError(
                f"{type(self).__name__} needs the network's weights: call attach(env) first"
            )
        if len(observation) != self._env.num_envs:
            raise ValueError(
                f"{len(observation)} observations for the {self._env.num_envs} networks of the "
                "environment; call attach(env) with the one that they are from"
            )
        return self._env

    def _feed_back(self, env: CreditAssignVectorEnv, error: Tensor) -> list[Tensor]:
        """Credits of each hidden layer from the error at the outputs' pre-activations."""
        assert isinstance(env.task, ClassificationTask)
        own = self._fixed_weights is None
        weights = env.task.forward_weights if own else self._fixed_weights
        assert weights is not None
        return env.task.feedback_credits(error, weights)


class SupervisedRulePolicy(RulePolicy):
    """A rule that learns from labels.

    Args:
        observation_space: see `RulePolicy`.
        action_space: see `RulePolicy`.
        credit_scale: see `RulePolicy`.
        label_smoothing: s, from 0 to below 1.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        *,
        credit_scale: float = 10.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(observation_space, action_space, credit_scale=credit_scale)
        require_fraction("label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing

    def smoothed(self, label_smoothing: float) -> Self:
        """The same rule with another `label_smoothing`."""
        parameters = self._get_constructor_parameters() | {"label_smoothing": label_smoothing}
        return type(self)(**parameters)

    def _split(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and targets, `(B, n, k)` each."""
        outputs, labels = super()._split(observation)
        if self.label_smoothing:
            s = self.label_smoothing
            labels = (1 - s) * labels + s / self.num_classes
        return outputs, labels

    @staticmethod
    def _output_credit(outputs: Tensor, targets: Tensor) -> Tensor:
        """−∂(cross-entropy)/∂output = y/p."""
        return targets / outputs.clamp(min=torch.finfo(outputs.dtype).tiny)


class _SupervisedFeedbackPolicy(FeedbackRulePolicy, SupervisedRulePolicy):
    """Feedback of the cross-entropy's error at the outputs' pre-activations, y − p."""

    def act(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:
        env = self._attached(observation)
        outputs, targets = self._split(observation)
        hidden = self._feed_back(env, targets - outputs)
        return self._action(*hidden, self._output_credit(outputs, targets))


class BackpropPolicy(_SupervisedFeedbackPolicy):
    """Backpropagation: every credit is −∂(loss)/∂(activity of its neuron).

    Feedback goes through the weights of the network itself, the problem of weight transport.

    Args:
        observation_space: see `RulePolicy`.
        action_space: see `RulePolicy`.
        credit_scale: see `RulePolicy`.
        label_smoothing: see `SupervisedRulePolicy`.
        loss: "cross-entropy", or "squared-error", 5·Σ(y − p)², whose output credits are 10(y − p);
            the loss that the environment reports stays the cross-entropy.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        *,
        credit_scale: float = 10.0,
        label_smoothing: float = 0.0,
        loss: RuleLoss = "cross-entropy",
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            credit_scale=credit_scale,
            label_smoothing=label_smoothing,
        )
        require_one_of("loss", loss, get_args(RuleLoss))
        self.loss: RuleLoss = loss

    def act(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:  # noqa: D102
        if self.loss == "cross-entropy":
            return super().act(observation, beta)
        env = self._attached(observation)
        outputs, targets = self._split(observation)
        credit = 10.0 * (targets - outputs)
        error = outputs * (credit - (outputs * credit).sum(-1, keepdim=True))
        return self._action(*self._feed_back(env, error), credit)


class FAPolicy(_SupervisedFeedbackPolicy):
    """Feedback alignment: backpropagation, but feedback goes through fixed random matrices.

    The credits of layer l are c_l = Bᵀ_{l+1} e_{l+1}, with e_l = c_l ⊙ f′(a_l) in the hidden layers
    and e = y − p at the output, which is the output credit y/p through the Jacobian of the softmax.
    All networks share the matrices B, which have the shapes of their weights (Lillicrap et al.
    2016, Nat. Commun. 7:13276).

    With one hidden layer this is `DFAPolicy`, the same credits for the same seed: DFA sends the
    same error y − p through the same single matrix. With more they differ, for DFA sends y − p to
    every layer straight from the output, not gated by the layers between.

    In residual networks feedback between the blocks goes through random matrices, too; the update
    within a block is the environment's, which takes the block's own weights whatever the rule.

    Args:
        observation_space: see `RulePolicy`.
        action_space: see `RulePolicy`.
        credit_scale: see `RulePolicy`.
        label_smoothing: see `SupervisedRulePolicy`.
        seed: of the matrices, each uniform in ±1/√units for the units that it leads down from.
    """

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
        self.seed = self._feedback_seed = seed


class _DirectFeedbackPolicy(SupervisedRulePolicy):
    """Hidden credits straight from the output, through a fixed random matrix.

    Args:
        observation_space: see `RulePolicy`.
        action_space: see `RulePolicy`.
        credit_scale: see `RulePolicy`.
        label_smoothing: see `SupervisedRulePolicy`.
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
        self.register_buffer(
            "feedback", uniform_feedback(self.num_classes, self.num_hidden, generator)
        )

    def _credits(self, signal: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        hidden = (self.feedback.T @ signal.transpose(1, 2)).transpose(1, 2)
        return self._action(hidden, self._output_credit(outputs, targets))


class DFAPolicy(_DirectFeedbackPolicy):
    """Direct feedback alignment: the output error y − p through a fixed random matrix."""

    def act(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:  # noqa: D102
        outputs, targets = self._split(observation)
        return self._credits(targets - outputs, outputs, targets)


class DRTPPolicy(_DirectFeedbackPolicy):
    """Direct random target projection: the target through a fixed random matrix."""

    def act(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:  # noqa: D102
        outputs, targets = self._split(observation)
        return self._credits(targets, outputs, targets)


def uniform_feedback(above: int, below: int, generator: torch.Generator) -> Tensor:
    """A feedback matrix `(above, below)`, uniform in ±1/√above."""
    matrix: Tensor = (torch.rand((above, below), generator=generator) * 2 - 1) / above**0.5
    return matrix


def _random_weights(task: ClassificationTask, seed: int) -> list[Tensor]:
    """Random feedback matrices, the same for all networks, drawn from the output down."""
    generator = torch.Generator().manual_seed(seed)
    matrices = [
        uniform_feedback(weight.shape[1], weight.shape[2], generator).to(weight).expand_as(weight)
        for weight in reversed(task.forward_weights)
    ]
    return matrices[::-1]
