"""Known rules in the same environment, each at its own best learning rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from agents import BackpropPolicy, CreditPolicy, DFAPolicy, DRTPPolicy
from agents.rules import RulePolicy
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks import ClassificationTask
from meta.evaluation import evaluate

LEARNING_RATES: Mapping[str, tuple[float, ...]] = {
    "adam": (0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
    "momentum": (0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
    "sgd": (0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
}
"""Rates that are tried, by inner optimiser."""


@dataclass(frozen=True)
class Rule:
    """A known rule and the initial weights it starts from."""

    policy_class: type[RulePolicy]
    init: str


RULES: Mapping[str, Rule] = {
    "Kaiming BP": Rule(BackpropPolicy, "kaiming"),
    "zero BP": Rule(BackpropPolicy, "near-zero"),
    "DFA": Rule(DFAPolicy, "zero"),
    "DRTP": Rule(DRTPPolicy, "zero"),
}
"""The baselines of classification tasks."""


@dataclass(frozen=True)
class Split:
    """Which images serve what. No image that selects anything is scored in a result.

    Attributes:
        meta_range: part of the training split that the outer loop draws from.
        fresh_range: the rest: fresh subsets in results, validation images in tuning.
    """

    meta_range: tuple[float, float]
    fresh_range: tuple[float, float]


@dataclass(frozen=True)
class Score:
    """Accuracies of one method, one entry per life.

    Attributes:
        method: its name.
        learning_rate: the one that did best on validation images.
        curve: accuracy on the life's own training subset from update 0 on, `(lives, M + 1)`.
        test: accuracy on the test images, `(lives,)`.
    """

    method: str
    learning_rate: float
    curve: NDArray[np.float64]
    test: NDArray[np.float64]

    @property
    def train(self) -> NDArray[np.float64]:
        """Accuracy on the training subset after the last update, `(lives,)`."""
        return self.curve[:, -1]


def split_images(num_train: int, num_samples: int) -> Split:
    """A sixth of the training images for fresh subsets, or half if a sixth is too few.

    Raises:
        ValueError: half of the training images are fewer than `num_samples`.
    """
    for fraction in (1 / 6, 1 / 2):
        if num_samples <= round(fraction * num_train):
            return Split((0.0, 1 - fraction), (1 - fraction, 1.0))
    raise ValueError(
        f"num_samples={num_samples} leaves no fresh images among {num_train}; "
        f"ask for at most {num_train // 2}"
    )


def tuned_score(
    method: str,
    policy: CreditPolicy,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    split: Split,
    tuning_seeds: Sequence[int],
    seeds: Sequence[int],
) -> Score:
    """Accuracies on fresh subsets, at the learning rate that does best on validation images.

    The rate is chosen on subsets of the meta-training images by the accuracy on those outside;
    then subsets of the outside are trained on and the test images scored.

    Args:
        method: name for the table.
        policy: chooses the credits.
        env_id: of a classification environment.
        env_kwargs: of the environment; those that concern the split and the rate are overridden.
        split: which images serve what.
        tuning_seeds: lives for choosing the rate.
        seeds: lives for the result.
    """
    rates = LEARNING_RATES[env_kwargs.get("optimizer", "adam")]
    tuning = {"train_range": split.meta_range, "score_on": "validation", "evaluate_test": True}
    accuracy = [
        _final(policy, env_id, {**env_kwargs, **tuning, "learning_rate": rate}, tuning_seeds)[1]
        for rate in rates
    ]
    best = rates[int(np.argmax([values.mean() for values in accuracy]))]
    return score(method, policy, env_id, env_kwargs, split.fresh_range, best, seeds)


def score(
    method: str,
    policy: CreditPolicy,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    train_range: tuple[float, float],
    learning_rate: float,
    seeds: Sequence[int],
) -> Score:
    """Training and test accuracy after training on subsets from `train_range`."""
    scoring = {"train_range": train_range, "score_on": "test", "evaluate_test": True}
    kwargs = {**env_kwargs, **scoring, "learning_rate": learning_rate}
    return Score(method, learning_rate, *_final(policy, env_id, kwargs, seeds))


def rule_scores(
    env_id: str,
    env_kwargs: Mapping[str, Any],
    split: Split,
    tuning_seeds: Sequence[int],
    seeds: Sequence[int],
) -> list[Score]:
    """The score of every known rule, each tuned on its own.

    All with the environment's inner optimiser, and backpropagation with Adam as well, which suits
    it best.
    """
    scores = []
    backprop = {m: rule for m, rule in RULES.items() if rule.policy_class is BackpropPolicy}
    variants: list[tuple[str, Rule, dict[str, str]]] = [
        (method, rule, {}) for method, rule in RULES.items()
    ]
    if env_kwargs.get("optimizer", "adam") != "adam":
        variants += [(f"{m}, Adam", rule, {"optimizer": "adam"}) for m, rule in backprop.items()]
    for method, rule, changes in variants:
        kwargs = {**env_kwargs, **changes, "init": rule.init}
        policy = rule.policy_class(*spaces(env_id, kwargs))
        scores.append(tuned_score(method, policy, env_id, kwargs, split, tuning_seeds, seeds))
    return scores


def spaces(env_id: str, env_kwargs: Mapping[str, Any]) -> tuple[Box, Box]:
    """Observation and action space of an environment."""
    env = gymnasium.make(env_id, disable_env_checker=True, **dict(env_kwargs))
    assert isinstance(env.observation_space, Box)
    assert isinstance(env.action_space, Box)
    return env.observation_space, env.action_space


def image_task(env_id: str, env_kwargs: Mapping[str, Any]) -> ClassificationTask:
    """The task of a classification environment, to look up what data it really has."""
    env = gymnasium.make_vec(env_id, num_envs=1, **dict(env_kwargs))
    assert isinstance(env, CreditAssignVectorEnv)
    assert isinstance(env.task, ClassificationTask)
    return env.task


def _final(
    policy: CreditPolicy, env_id: str, env_kwargs: Mapping[str, Any], seeds: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy on the training subset by update, and on the images held out."""
    held_out = f"{env_kwargs['score_on']}_accuracy"
    runs = [
        evaluate(policy, env_id, [seed], env_kwargs, conditions=["normal"]).conditions["normal"]
        for seed in seeds
    ]
    curve = np.concatenate([run.per_update["accuracy"] for run in runs])
    return curve, np.concatenate([run.final[held_out] for run in runs])
