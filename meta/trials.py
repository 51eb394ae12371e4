"""Learning from trials to the stopping point: by which rule, for how long, and how well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from agents import DeepAGREL, EarlyStopping, ErrorBackprop
from agents.deepagrel import Feedback, TrialLearner
from meta.runs import Checkpoint


@dataclass(frozen=True)
class TrialRule:
    """What learns, and what carries its feedback.

    Attributes:
        learner_class: what learns.
        feedback: of its policy, unless the user says else.
        rates: learning rates by policy, unless the user says else: DeepAGREL's are the paper's, the
            others have the highest accuracy on held-out images of MNIST in
            `benchmarks.deepagrel_table_1` (for fixed feedback there with "MlpPolicy" alone).
    """

    learner_class: type[TrialLearner]
    feedback: Feedback
    rates: Mapping[str, float]


_REWARDED = {"MlpPolicy": 0.5, "CnnPolicy": 1.0, "LocConPolicy": 1.0}
_TOLD = {"MlpPolicy": 0.3, "CnnPolicy": 0.3, "LocConPolicy": 1.0}
_BY_FIXED_FEEDBACK = dict.fromkeys(_REWARDED, 0.1)

RULES: Mapping[str, TrialRule] = {
    "DeepAGREL": TrialRule(DeepAGREL, "tied", _REWARDED),
    "Error-BP": TrialRule(ErrorBackprop, "tied", _TOLD),
    "FA": TrialRule(ErrorBackprop, "fixed", _BY_FIXED_FEEDBACK),
    "DFA": TrialRule(ErrorBackprop, "direct", _BY_FIXED_FEEDBACK),
}
"""Rules by their name in tables; all but the first are told the labels."""

_ENTRIES_PER_EPOCH = 10


@dataclass(frozen=True)
class Plan:
    """One network that learns.

    Attributes:
        rule: of `RULES`.
        env_id: a bandit.
        policy: "MlpPolicy", "CnnPolicy" or "LocConPolicy".
        epochs: at most.
        patience: epochs without gain on held-out images after which learning ends.
        seed: of everything drawn.
        env_kwargs: of the environment.
        policy_kwargs: of the policy.
        learner_kwargs: of the learner; `learning_rate` and `batch_size` among them.
    """

    rule: str
    env_id: str
    policy: str = "MlpPolicy"
    epochs: int = 200
    patience: int = 20
    seed: int = 0
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict)
    learner_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def begin(self, device: str = "cpu", tensorboard_log: str | None = None) -> TrialLearner:
        """A network that has learned nothing yet."""
        rule = RULES[self.rule]
        return rule.learner_class(
            self.policy,
            self.env_id,
            env_kwargs=self.env_kwargs,
            policy_kwargs={"feedback": rule.feedback, **self.policy_kwargs},
            seed=self.seed,
            device=device,
            tensorboard_log=tensorboard_log,
            **{"learning_rate": rule.rates[self.policy], **self.learner_kwargs},
        )

    def go_on(self, checkpoint: Path, device: str = "cpu") -> TrialLearner:
        """The network of a checkpoint.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        return RULES[self.rule].learner_class.load(checkpoint, device=device)


def learn(
    model: TrialLearner,
    plan: Plan,
    checkpoint: Path,
    callbacks: Sequence[BaseCallback] = (),
    progress_bar: bool = False,
) -> None:
    """Learn to the stopping point, from wherever the model is.

    Args:
        model: from `Plan.begin` or `Plan.go_on`.
        plan: its plan.
        checkpoint: where it is saved as it learns.
        callbacks: called besides.
        progress_bar: show one.
    """
    if is_over(model, plan):
        return
    num_images: int = model.make_env(1).get_attr("num_images")[0]
    test_env = model.make_evaluation_env("test")
    stopping = EarlyStopping(patience=plan.patience, test_env=test_env)
    model.learn(
        plan.epochs * num_images - model.num_timesteps,
        callback=[stopping, Checkpoint(checkpoint), *callbacks],
        log_interval=max(1, num_images // model.batch_size // _ENTRIES_PER_EPOCH),
        reset_num_timesteps=model.num_timesteps == 0,
        progress_bar=progress_bar,
    )


def is_over(model: TrialLearner, plan: Plan) -> bool:
    """Whether the stopping point has been reached."""
    accuracies = model.held_out_accuracies
    best = int(np.argmax(accuracies)) + 1 if accuracies else 0
    return len(accuracies) - best >= plan.patience or len(accuracies) >= plan.epochs


def scores(model: TrialLearner) -> dict[str, Any]:
    """What a network has reached, as JSON.

    Returns:
        `held_out` and `test` accuracies and `reward_rate` by epoch; `best_epoch`, from 1, and
        `stopped_epoch`; `test_accuracy` of the best epoch, whose weights are kept;
        `learning_seconds` of CPU, without measurements.
    """
    held_out, test = model.held_out_accuracies, model.test_accuracies
    best_epoch = int(np.argmax(held_out)) + 1
    timesteps, reward_rate = np.array(model.history)[:, :2].T
    # Whole numbers, rounded up: what ends with an epoch belongs to it.
    epoch = -(-timesteps.astype(int) * len(held_out) // model.num_timesteps)
    rates = [float(reward_rate[epoch == e].mean()) for e in range(1, len(held_out) + 1)]
    return {
        "held_out": [round(value, 6) for value in held_out],
        "test": [round(value, 6) for value in test],
        "reward_rate": [round(value, 6) for value in rates],
        "best_epoch": best_epoch,
        "stopped_epoch": len(held_out),
        "test_accuracy": round(test[best_epoch - 1], 6),
        "learning_seconds": round(model.learning_seconds, 3),
    }
