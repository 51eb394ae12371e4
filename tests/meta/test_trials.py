"""Learning from trials to the stopping point."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from agents import DeepAGREL, ErrorBackprop
from agents.deepagrel import TrialLearner
from meta.trials import RULES, Plan, is_over, learn, scores

DIGITS = Plan(
    "DeepAGREL",
    "ClassificationBandit-Digits-v0",
    epochs=6,
    policy_kwargs={"hidden_sizes": (30, 20), "init_range": 0.2},
)


class Interrupts(BaseCallback):
    """As Ctrl-C does, at this trial."""

    def __init__(self, trial: int) -> None:
        super().__init__()
        self.trial = trial

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.trial:
            raise KeyboardInterrupt
        return True


def learned(plan: Plan, checkpoint: Path) -> TrialLearner:
    model = plan.begin()
    learn(model, plan, checkpoint)
    return model


def weights(model: TrialLearner) -> list[torch.Tensor]:
    return list(model.policy.parameters())


def test_rules_are_what_they_are_called() -> None:
    expected = {
        "DeepAGREL": (DeepAGREL, "tied"),
        "Error-BP": (ErrorBackprop, "tied"),
        "FA": (ErrorBackprop, "fixed"),
        "DFA": (ErrorBackprop, "direct"),
    }
    for name in RULES:
        model = replace(DIGITS, rule=name).begin()
        assert (type(model), model.policy.feedback_kind) == expected[name]
    own = replace(DIGITS, rule="DeepAGREL", policy_kwargs={"feedback": "fixed"}).begin()
    assert own.policy.feedback_kind == "fixed"


@pytest.mark.parametrize("rule", RULES)
def test_an_interrupted_network_ends_as_if_it_had_not_been(rule: str, tmp_path: Path) -> None:
    plan = replace(DIGITS, rule=rule)
    whole = learned(plan, tmp_path / "whole.zip")
    checkpoint = tmp_path / "part.zip"
    with pytest.raises(KeyboardInterrupt):
        learn(plan.begin(), plan, checkpoint, [Interrupts(2500)])
    part = plan.go_on(checkpoint)
    assert 0 < part.num_timesteps < 2500
    learn(part, plan, checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(part), strict=True))
    ours, theirs = scores(whole), scores(part)
    assert ours.pop("learning_seconds") > 0
    assert theirs.pop("learning_seconds") > 0
    assert ours == theirs


def test_what_is_over_is_not_learned_on(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.zip"
    plan = replace(DIGITS, epochs=50, patience=1, learner_kwargs={"learning_rate": 1.0})
    model = learned(plan, checkpoint)
    assert is_over(model, plan)
    assert len(model.held_out_accuracies) < 50
    before = [w.clone() for w in weights(model)]
    again = plan.go_on(checkpoint)
    learn(again, plan, checkpoint)
    assert again.num_timesteps == model.num_timesteps
    assert all(torch.equal(a, b) for a, b in zip(weights(again), before, strict=True))


def test_scores_are_those_of_the_best_weights(tmp_path: Path) -> None:
    model = learned(replace(DIGITS, rule="Error-BP", seed=2), tmp_path / "model.zip")
    result = scores(model)
    assert result["best_epoch"] < 6, "no test unless the last epoch is not the best"
    for split, accuracy in (("test", "test_accuracy"), ("validation", None)):
        env = model.make_env(split=split)
        count = env.get_attr("num_images")[0]
        found, _ = evaluate_policy(model, env, n_eval_episodes=count, warn=False)
        expected = result[accuracy] if accuracy else max(result["held_out"])
        assert found == pytest.approx(expected, abs=1e-6)
    assert result["held_out"][result["best_epoch"] - 1] == max(result["held_out"])
    assert result["stopped_epoch"] == len(result["test"]) == len(result["reward_rate"]) == 6
    assert result["reward_rate"][-1] > result["reward_rate"][0]


@pytest.mark.parametrize("epochs", [7, 25, 33])
def test_entries_of_the_log_count_for_their_epoch(epochs: int) -> None:
    """As many images as MNIST has to learn from, ten entries an epoch."""
    model = DIGITS.begin()
    model.held_out_accuracies = model.test_accuracies = [0.5] * epochs
    model.num_timesteps = 59_000 * epochs
    model.history = [
        [5900 * entry, (entry - 1) // 10, 0.0, 0.0] for entry in range(1, 10 * epochs + 1)
    ]
    assert scores(model)["reward_rate"] == list(range(epochs))
