"""Settings of a method that do best on validation images, and what they reach on test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents import CreditPolicy
from agents.rules import SupervisedRulePolicy
from meta.evaluation import evaluate

LEARNING_RATES: Mapping[str, tuple[float, ...]] = {
    "adam": (0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
    "momentum": (0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
    "sgd": (0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
}
"""Rates that are tried first, by inner optimiser; all on the grid 1, 2, 5 · 10ⁱ."""
WEIGHT_DECAYS = (0.0, 1e-2, 1e-1, 1.0, 3.0, 10.0)
LABEL_SMOOTHINGS = (0.0, 0.05, 0.1, 0.2)

_MOST_REGULARISING_SEEDS = 2


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
class Tuned:
    """Settings with which a method trains networks.

    Attributes:
        learning_rate: of the inner optimiser.
        weight_decay: of the inner optimiser.
        label_smoothing: of the labels that a rule learns from.
        validation_accuracy: mean over the tuning lives; None if they were not chosen by it.
    """

    learning_rate: float
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class Score:
    """Accuracies of one method, one entry per life.

    Attributes:
        method: its name.
        tuned: its settings.
        curve: accuracy on the life's own training subset from update 0 on, `(lives, M + 1)`.
        test: accuracy on the test images, `(lives,)`.
    """

    method: str
    tuned: Tuned
    curve: NDArray[np.float64]
    test: NDArray[np.float64]

    @property
    def train(self) -> NDArray[np.float64]:
        """Accuracy on the training subset after the last update, `(lives,)`."""
        return self.curve[:, -1]


def split_images(num_train: int, num_samples: int, met: float = 0.0) -> Split:
    """A sixth of the training images for fresh subsets, or half if a sixth is too few.

    Args:
        num_train: training images.
        num_samples: that a subset needs.
        met: fraction of the training images, from the first on, that are fresh no more.

    Raises:
        ValueError: fewer than `num_samples` can be fresh.
    """
    for fraction in (1 / 6, 1 / 2):
        first = max(1 - fraction, met)
        count = round(first * num_train)
        most = min(count, num_train - count)
        if num_samples <= most:
            return Split((0.0, first), (first, 1.0))
    before = f", of which {met:.0%} have been met before" if met > 1 / 2 else ""
    raise ValueError(
        f"num_samples={num_samples} leaves no fresh images among {num_train}{before}; "
        + (f"ask for at most {most}" if most else "start from another network")
    )


def tuned_score(
    method: str,
    policy: CreditPolicy,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    split: Split,
    tuning_seeds: Sequence[int],
    seeds: Sequence[int],
    *,
    regularise: bool = False,
) -> Score:
    """Accuracies on fresh subsets, with the settings that do best on validation images.

    Subsets of the images outside `split.meta_range` are trained on and the test images scored.

    Args:
        method: name for the table.
        policy: chooses the credits.
        env_id: of a classification environment.
        env_kwargs: see `tune`.
        split: which images serve what.
        tuning_seeds: lives for choosing the settings.
        seeds: lives for the result.
        regularise: see `tune`.
    """
    tuned = tune(policy, env_id, env_kwargs, split, tuning_seeds, regularise=regularise)
    return score(method, policy, env_id, env_kwargs, split.fresh_range, tuned, seeds)


def score(
    method: str,
    policy: CreditPolicy,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    train_range: tuple[float, float],
    tuned: Tuned,
    seeds: Sequence[int],
) -> Score:
    """Training and test accuracy after training on subsets from `train_range`.

    On test images whatever `env_kwargs` say, so nothing may be chosen by it; see `validated`.
    """
    scoring = {"train_range": train_range, "score_on": "test", "evaluate_test": True}
    return Score(method, tuned, *_final(policy, env_id, {**env_kwargs, **scoring}, tuned, seeds))


def tune(
    policy: CreditPolicy,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    split: Split,
    tuning_seeds: Sequence[int],
    *,
    start: float | None = None,
    regularise: bool = False,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    label_smoothings: Sequence[float] = LABEL_SMOOTHINGS,
) -> Tuned:
    """The settings that do best on validation images.

    Networks are trained on subsets of the meta-training images and scored on the images outside.
    First rates are tried, until the best is better than both its neighbours on the grid 1, 2, 5 ·
    10ⁱ. To regularise, the weight decay is then chosen at that rate (where the largest is best,
    larger ones of `WEIGHT_DECAYS` are tried as well), the label smoothing with that decay, and the
    neighbouring rates are tried again; the result is kept if it does better than the rate alone.

    Args:
        policy: chooses the credits.
        env_id: of a classification environment.
        env_kwargs: of the environment; those that concern the split and the rate are overridden.
        split: which images serve what.
        tuning_seeds: lives to choose by; regularisation by the first two alone.
        start: a rate to climb from, which takes three rates if it is the best; None: from all of
            `LEARNING_RATES`.
        regularise: choose weight decay as well and, for rules that learn from labels, label
            smoothing.
        weight_decays: to choose from.
        label_smoothings: to choose from.
    """
    rates = LEARNING_RATES[env_kwargs.get("optimizer", "adam")]
    if start is not None:
        rates = (_rate(_place(start)),)
    given = Tuned(
        rates[0],
        weight_decay=env_kwargs.get("weight_decay", 0.0),
        label_smoothing=policy.label_smoothing if isinstance(policy, SupervisedRulePolicy) else 0.0,
    )
    validation = _Validation(policy, env_id, env_kwargs, split)
    best = validation.climb([replace(given, learning_rate=rate) for rate in rates], tuning_seeds)
    if regularise:
        few = tuning_seeds[:_MOST_REGULARISING_SEEDS]
        regularised = validation.regularise(best, few, weight_decays, label_smoothings)
        best = validation.best([best, regularised], tuning_seeds)
    return replace(best, validation_accuracy=round(validation.accuracy(best, tuning_seeds), 6))


def validated(
    policy: CreditPolicy,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    split: Split,
    tuned: Tuned,
    tuning_seeds: Sequence[int],
) -> Tuned:
    """The same settings with their validation accuracy in this environment, see `tune`."""
    validation = _Validation(policy, env_id, env_kwargs, split)
    accuracy = validation.accuracy(tuned, tuning_seeds)
    return replace(tuned, validation_accuracy=round(accuracy, 6))


class _Validation:
    """Accuracy of settings on validation images, where every life is lived once.

    Args:
        policy: see `tune`.
        env_id: see `tune`.
        env_kwargs: see `tune`.
        split: see `tune`.
    """

    def __init__(
        self, policy: CreditPolicy, env_id: str, env_kwargs: Mapping[str, Any], split: Split
    ) -> None:
        images = {"train_range": split.meta_range, "score_on": "validation", "evaluate_test": True}
        self._policy, self._env_id = policy, env_id
        self._env_kwargs = {**env_kwargs, **images}
        self._lived: dict[tuple[Tuned, int], float] = {}

    def accuracy(self, tuned: Tuned, seeds: Sequence[int]) -> float:
        """Mean over these lives."""
        for seed in seeds:
            if (tuned, seed) not in self._lived:
                _, final = _final(self._policy, self._env_id, self._env_kwargs, tuned, [seed])
                self._lived[tuned, seed] = float(final[0])
        return float(np.mean([self._lived[tuned, seed] for seed in seeds]))

    def best(self, choices: Sequence[Tuned], seeds: Sequence[int]) -> Tuned:
        """The best of these, of equals the first."""
        return max(choices, key=lambda tuned: self.accuracy(tuned, seeds))

    def climb(self, choices: Sequence[Tuned], seeds: Sequence[int]) -> Tuned:
        """The best of these or at rates beyond, once both its neighbours have been tried."""
        tried = list(choices)
        while True:
            best = self.best(tried, seeds)
            place = _place(best.learning_rate)
            neighbours = (replace(best, learning_rate=_rate(place + step)) for step in (-1, 1))
            new = [neighbour for neighbour in neighbours if neighbour not in tried]
            if not new:
                return best
            tried += new

    def regularise(
        self,
        tuned: Tuned,
        seeds: Sequence[int],
        weight_decays: Sequence[float],
        label_smoothings: Sequence[float],
    ) -> Tuned:
        """Weight decay, then label smoothing where there is any, then the rate once more."""
        decays = [tuned.weight_decay, *weight_decays]
        tuned = self.best([replace(tuned, weight_decay=decay) for decay in decays], seeds)
        largest = max(decays)
        # While the largest is best, a larger one may be better still.
        while tuned.weight_decay == largest < max(WEIGHT_DECAYS):
            largest = min(decay for decay in WEIGHT_DECAYS if decay > largest)
            tuned = self.best([tuned, replace(tuned, weight_decay=largest)], seeds)
        if isinstance(self._policy, SupervisedRulePolicy):
            smoothings = (tuned.label_smoothing, *label_smoothings)
            tuned = self.best([replace(tuned, label_smoothing=s) for s in smoothings], seeds)
        return self.climb([tuned], seeds)


def _rate(place: int) -> float:
    """The rate at a place of the grid …, 0.5, 1, 2, 5, 10, …, on which 1 has the place 0."""
    decade, digit = divmod(place, 3)
    return float(f"{(1, 2, 5)[digit]}e{decade}")


def _place(rate: float) -> int:
    """The place of the grid nearest to a rate, on a scale of logarithms."""
    return round(3 * log10(rate))


def _final(
    policy: CreditPolicy,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    tuned: Tuned,
    seeds: Sequence[int],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy on the training subset by update, and on the images held out."""
    rates = {"learning_rate": tuned.learning_rate, "weight_decay": tuned.weight_decay}
    env_kwargs = {**env_kwargs, **rates}
    if isinstance(policy, SupervisedRulePolicy):
        policy = policy.smoothed(tuned.label_smoothing)
    elif tuned.label_smoothing:
        raise ValueError(
            f"label smoothing is for rules that learn from labels, not {type(policy).__name__}; "
            "leave it at 0"
        )
    held_out = f"{env_kwargs['score_on']}_accuracy"
    runs = [
        evaluate(policy, env_id, [seed], env_kwargs, conditions=["normal"]).conditions["normal"]
        for seed in seeds
    ]
    curve = np.concatenate([run.per_update["accuracy"] for run in runs])
    return curve, np.concatenate([run.final[held_out] for run in runs])
