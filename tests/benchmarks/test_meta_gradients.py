"""The evidence on meta-gradients: angles, races and the page."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from torch.nn import functional

from agents import BackpropPolicy, DFAPolicy
from benchmarks import credit_angles, outer_loops
from benchmarks.common.results import ResultsFile
from benchmarks.credit_angles import angles, updates_of

SMALL = {"num_samples": 40, "num_updates": 3, "hidden_sizes": (12,), "evaluate_test": False}


def digits(**kwargs):
    env = gymnasium.make_vec("CreditAssign-Digits-v0", num_envs=1, **SMALL, **kwargs)
    return env, (env.single_observation_space, env.single_action_space)


def test_updates_by_backpropagation_are_autograds():
    env, spaces = digits(init="kaiming")
    observation = env.reset_tensors([3])
    task = env.task
    backprop = BackpropPolicy(*spaces)
    backprop.attach(env)
    found = updates_of(env, task, backprop.act(observation))
    inputs = task.inputs
    order = inputs.sample_order.numpy()
    drawn = task.draw_life(3)
    images = task.standardise(task.dataset.x_train[drawn.indices]).T[order]
    labels = torch.tensor(task.dataset.y_train[drawn.indices])[order]
    weights = [weight[0].clone().requires_grad_() for weight in drawn.weights]
    hidden = torch.tanh(functional.pad(images, (0, 1), value=1.0) @ weights[0].T)
    outputs = functional.pad(hidden, (0, 1), value=1.0) @ weights[1].T
    functional.cross_entropy(outputs, labels).backward()
    first = inputs.kept(-weights[0].grad[None])
    for ours, theirs in zip(found, [first, -weights[1].grad], strict=True):
        torch.testing.assert_close(ours.float(), theirs.flatten(), rtol=1e-3, atol=1e-6)


def test_angles_to_backpropagation():
    env, spaces = digits(init="kaiming")
    own = angles(BackpropPolicy(*spaces), env, env.task, 3)
    assert own.shape == (3, 2)
    assert own.max() < 0.1
    random = angles(DFAPolicy(*spaces), env, env.task, 3)
    assert random[:, 1].max() < 0.1
    assert 50 < random[0, 0] < 130
    # From zero weights nothing comes down before the second update has moved those above.
    env, _ = digits()
    start = angles(DFAPolicy(*spaces), env, env.task, 3)
    assert np.isnan(start[:2, 0]).all()
    assert 0 < start[2, 0] < 90


def test_angles_are_kept_without_gaps(tmp_path):
    file = ResultsFile("angles", folder=tmp_path)
    assert credit_angles.render(file) == "–"
    cell = credit_angles.kept("Digits", "DFA", 4, 1, file)
    assert cell["angle"]["hidden layer"]["mean"][:2] == [None, None]
    assert not any(math.isnan(value) for value in cell["angle"]["output layer"]["std"])
    assert "| Digits, DFA |" in credit_angles.render(file)


@pytest.mark.parametrize("outer", ["meta-gradient", "pgpe"])
def test_a_race_measures_from_the_start_on(outer, small_settings, monkeypatch):
    small_settings("CreditAssign-MNIST-v0")
    monkeypatch.setattr(outer_loops, "_MEASURED_EVERY", {outer: 2})
    small = {"num_samples": 8, "num_updates": 2, "hidden_sizes": (6,), "num_held_out": 5}
    result = outer_loops.race(outer, 3, 0, **small)
    assert len(result["cpu_seconds"]) == len(result["validation_loss"]) == 3
    assert result["cpu_seconds"][0] == 0 < result["cpu_seconds"][1] < result["cpu_seconds"][2]
    assert result["validation_loss"][0] != result["validation_loss"][2]
    assert len(result["test"]) == outer_loops.NUM_SUBSETS


def test_when_a_loss_is_reached():
    cell = {"cpu_seconds": [0, 5, 9, 12], "validation_loss": [0.5, 0.4, 0.3, 0.35]}
    assert outer_loops.reached(cell, 0.35) == 9
    assert outer_loops.reached(cell, 0.2) is None
