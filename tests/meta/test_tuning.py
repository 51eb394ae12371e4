"""Tuning: every setting is chosen on validation images, and no optimum lies beyond the grid."""

from collections.abc import Callable
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest

from agents import BackpropPolicy, DeepAGRELCreditPolicy, DFAPolicy, TDCAPolicy
from meta import tuning
from meta.baselines import RULES, rule_scores, spaces
from meta.evaluation import evaluate
from meta.tuning import LEARNING_RATES, Tuned, score, split_images, tune, tuned_score, validated

DIGITS = "CreditAssign-Digits-v0"
SMALL = {"num_samples": 50, "num_updates": 5, "hidden_sizes": (8,)}
SPLIT = split_images(1297, 50)


def test_split_keeps_fresh_images_apart():
    split = split_images(60000, 1000)
    assert split.meta_range[1] == split.fresh_range[0] == pytest.approx(5 / 6)
    assert split_images(1297, 500).fresh_range == (0.5, 1.0)
    with pytest.raises(ValueError, match="at most 648"):
        split_images(1297, 700)


def test_settings_are_chosen_on_validation_images(monkeypatch):
    """Test images are scored once, with the settings that validation images preferred."""
    seen = []

    def spy(policy, env_id, seeds, env_kwargs, conditions):
        settings = Tuned(
            env_kwargs["learning_rate"], env_kwargs["weight_decay"], policy.label_smoothing
        )
        seen.append((env_kwargs["score_on"], env_kwargs["train_range"], settings, *seeds))
        return evaluate(policy, env_id, seeds, env_kwargs, conditions)

    monkeypatch.setattr(tuning, "evaluate", spy)
    kwargs = {"num_samples": 100, "num_updates": 5}
    policy = DFAPolicy(*spaces(DIGITS, kwargs))
    result = tuned_score("DFA", policy, DIGITS, kwargs, SPLIT, [0, 1], [2, 3, 4], regularise=True)
    chosen = replace(result.tuned, validation_accuracy=None)
    assert {(on, images) for on, images, *_ in seen[:-3]} == {("validation", SPLIT.meta_range)}
    assert len(set(seen)) == len(seen)
    assert {(*tried, 0) in seen and (*tried, 1) in seen for *tried, _ in seen[:-3]} == {True}
    assert {tried.learning_rate for _, _, tried, _ in seen} >= set(LEARNING_RATES["adam"])
    assert seen[-3:] == [("test", SPLIT.fresh_range, chosen, seed) for seed in (2, 3, 4)]
    assert result.test.shape == (3,)
    assert result.curve.shape == (3, 6)
    assert result.test.mean() > 0.4


def pretend(monkeypatch: pytest.MonkeyPatch, accuracy: Callable[..., float]) -> list[Any]:
    """Replace lives by a formula of settings and seed; the lives lived, in order."""
    lived = []

    def final(policy, env_id, env_kwargs, tuned, seeds):
        (seed,) = seeds
        lived.append((tuned, seed))
        return np.zeros((1, 6)), np.array([accuracy(tuned, seed)])

    monkeypatch.setattr(tuning, "_final", final)
    return lived


def rates(lived: list[Any]) -> list[float]:
    return [tuned.learning_rate for tuned, _ in lived]


@pytest.mark.parametrize("best", [1e-4, 0.002, 0.02, 0.1, 0.2, 20.0])
def test_rates_beyond_the_grid_are_tried(monkeypatch, best):
    lived = pretend(monkeypatch, lambda tuned, seed: -abs(log(tuned.learning_rate / best)))
    policy = DFAPolicy(*spaces(DIGITS, SMALL))
    tuned = tune(policy, DIGITS, SMALL, SPLIT, [0])
    assert tuned.learning_rate == best
    assert {best / 2, best * 2} & set(rates(lived))
    assert len(lived) == len(set(lived))


@pytest.mark.parametrize(
    ("start", "tried"),
    [
        (0.02, [0.02, 0.01, 0.05]),
        (0.019, [0.02, 0.01, 0.05]),
        (0.05, [0.05, 0.02, 0.1, 0.01]),
        (0.005, [0.005, 0.002, 0.01, 0.02, 0.05]),
    ],
)
def test_a_start_saves_lives(monkeypatch, start, tried):
    lived = pretend(monkeypatch, lambda tuned, seed: -abs(log(tuned.learning_rate / 0.02)))
    policy = DFAPolicy(*spaces(DIGITS, SMALL))
    assert tune(policy, DIGITS, SMALL, SPLIT, [0], start=start).learning_rate == 0.02
    assert rates(lived) == tried


def test_a_plateau_ends_the_climb(monkeypatch):
    lived = pretend(monkeypatch, lambda tuned, seed: 0.1)
    policy = DFAPolicy(*spaces(DIGITS, SMALL))
    assert tune(policy, DIGITS, SMALL, SPLIT, [0], start=1.0).learning_rate == 1.0
    assert rates(lived) == [1.0, 0.5, 2.0]


def quadratic(tuned: Tuned, seed: int) -> float:
    """Best at a rate of 0.05, with a decay of 0.01 and smoothing of 0.1 where the rate is 0.1."""
    regularised = 2 * (tuned.weight_decay == 0.01) + (tuned.label_smoothing == 0.1)
    return regularised - abs(log(tuned.learning_rate / (0.1 if regularised == 3 else 0.05)))


def test_regularisation_is_chosen_after_the_rate_and_the_rate_again(monkeypatch):
    lived = pretend(monkeypatch, quadratic)
    policy = BackpropPolicy(*spaces(DIGITS, SMALL))
    tuned = tune(policy, DIGITS, SMALL, SPLIT, [0, 1, 2], regularise=True)
    assert tuned == Tuned(0.1, 0.01, 0.1, 3.0)
    # The third life is for rates, and for the last word.
    assert {settings for settings, seed in lived if seed == 2} == {
        *(Tuned(rate) for rate in LEARNING_RATES["adam"]),
        Tuned(0.1, 0.01, 0.1),
    }


def test_regularisation_that_does_worse_on_all_lives_is_dropped(monkeypatch):
    def accuracy(tuned: Tuned, seed: int) -> float:
        return quadratic(tuned, seed) - 10 * (seed == 2) * (tuned.weight_decay > 0)

    pretend(monkeypatch, accuracy)
    policy = BackpropPolicy(*spaces(DIGITS, SMALL))
    tuned = tune(policy, DIGITS, SMALL, SPLIT, [0, 1, 2], regularise=True)
    assert tuned == Tuned(0.05, validation_accuracy=0.0)


@pytest.mark.parametrize(("best", "tried"), [(0.1, [0, 0.1, 1]), (3.0, [0, 0.1, 1, 3, 10])])
def test_where_the_largest_decay_is_best_larger_ones_are_tried(monkeypatch, best, tried):
    lived = pretend(monkeypatch, lambda tuned, seed: -abs(log((tuned.weight_decay + 0.01) / best)))
    policy = BackpropPolicy(*spaces(DIGITS, SMALL))
    choices = {"weight_decays": (0.0, 0.1, 1.0), "label_smoothings": (0.0,)}
    tuned = tune(policy, DIGITS, SMALL, SPLIT, [0], regularise=True, **choices)
    assert tuned.weight_decay == best
    assert sorted({settings.weight_decay for settings, _ in lived}) == tried


def test_given_regularisation_is_kept_and_reported(monkeypatch):
    pretend(monkeypatch, quadratic)
    policy = BackpropPolicy(*spaces(DIGITS, SMALL), label_smoothing=0.1)
    tuned = tune(policy, DIGITS, {**SMALL, "weight_decay": 0.01}, SPLIT, [0])
    assert tuned == Tuned(0.1, 0.01, 0.1, 3.0)


def test_settings_reach_the_network():
    """A score equals that of a rule and an environment made with those settings."""
    settings = Tuned(0.05, weight_decay=0.5, label_smoothing=0.2)
    policy = BackpropPolicy(*spaces(DIGITS, SMALL))
    kwargs = {**SMALL, "init": "kaiming"}
    ours = score("BP", policy, DIGITS, kwargs, SPLIT.fresh_range, settings, [3])
    kwargs |= {"learning_rate": 0.05, "weight_decay": 0.5, "train_range": SPLIT.fresh_range}
    run = evaluate(policy.smoothed(0.2), DIGITS, [3], kwargs, ["normal"]).conditions["normal"]
    np.testing.assert_array_equal(ours.curve, run.per_update["accuracy"])
    np.testing.assert_array_equal(ours.test, run.final["test_accuracy"])
    plain = score("BP", policy, DIGITS, kwargs, SPLIT.fresh_range, Tuned(0.05), [3])
    assert (plain.curve != ours.curve).any()


def test_validated_settings_are_those_of_the_tuner():
    policy = BackpropPolicy(*spaces(DIGITS, SMALL))
    kwargs = {**SMALL, "init": "kaiming", "score_on": "test"}
    tuned = tune(policy, DIGITS, kwargs, SPLIT, [0, 1], start=0.05)
    again = Tuned(tuned.learning_rate)
    assert validated(policy, DIGITS, kwargs, SPLIT, again, [0, 1]) == tuned
    tested = score("BP", policy, DIGITS, kwargs, SPLIT.meta_range, tuned, [0, 1]).test.mean()
    assert tuned.validation_accuracy != pytest.approx(tested, abs=1e-6)


@pytest.mark.parametrize("policy_class", [TDCAPolicy, DeepAGRELCreditPolicy])
def test_only_rules_that_learn_from_labels_take_smoothed_ones(policy_class):
    policy = policy_class(*spaces(DIGITS, SMALL))
    with pytest.raises(ValueError, match=f"not {policy_class.__name__}; leave it at 0"):
        score("some", policy, DIGITS, SMALL, SPLIT.fresh_range, Tuned(0.1, 0.0, 0.1), [0])


def test_no_smoothing_is_tried_without_labels(monkeypatch):
    lived = pretend(monkeypatch, quadratic)
    policy = DeepAGRELCreditPolicy(*spaces(DIGITS, SMALL))
    tuned = tune(policy, DIGITS, SMALL, SPLIT, [0], regularise=True)
    assert tuned == Tuned(0.05, 0.01, validation_accuracy=2.0)
    assert {settings.label_smoothing for settings, _ in lived} == {0.0}


def test_backprop_alone_is_regularised(monkeypatch):
    pretend(monkeypatch, quadratic)
    scores = rule_scores(DIGITS, {**SMALL, "optimizer": "momentum"}, SPLIT, [0], [1])
    assert {s.method: s.tuned.weight_decay for s in scores} == {
        "Kaiming BP": 0.01,
        "zero BP": 0.01,
        "FA": 0.0,
        "DFA": 0.0,
        "DRTP": 0.0,
        "DeepAGREL": 0.0,
        "DeepAGREL, ε = 1": 0.0,
        "Kaiming BP, Adam": 0.01,
        "zero BP, Adam": 0.01,
    }


@pytest.mark.parametrize("credit", ["groups", "parameters"])
def test_rules_keep_to_neurons(monkeypatch, credit):
    """Where top-down networks have another form of credit; and in the environment's units."""
    monkeypatch.setattr(tuning, "LEARNING_RATES", {"sgd": (0.5,), "adam": (0.05,)})
    monkeypatch.setattr(tuning, "WEIGHT_DECAYS", ())
    monkeypatch.setattr(tuning, "LABEL_SMOOTHINGS", ())
    neurons = {**SMALL, "optimizer": "sgd"}
    forms = neurons, {**neurons, "credit": credit, "credit_groups": 4, "credit_scale": 2.0}
    one, other = (rule_scores(DIGITS, kwargs, SPLIT, [0], [1])[: len(RULES)] for kwargs in forms)
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(ours.curve, theirs.curve, atol=0.05)
        assert ours.tuned.learning_rate == theirs.tuned.learning_rate
