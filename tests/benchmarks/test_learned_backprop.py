"""Backpropagation with a learned start: the environment's own lives, and exact derivatives."""

import gymnasium
import pytest
import torch
from torch.nn import functional

from agents import BackpropPolicy
from benchmarks import learned_backprop
from benchmarks.common import classifiers
from benchmarks.common.classifiers import Setting
from benchmarks.common.results import ResultsFile
from benchmarks.learned_backprop import (
    BackpropUnroll,
    LearnedBackprop,
    LearnedStart,
    learner,
    scores,
)
from credit_envs.datasets import Dataset
from credit_envs.tasks import ClassificationTask
from credit_envs.tasks.classification import TrainingSettings
from meta.evaluation import evaluate
from tests.conftest import made_up_images

DIGITS = "CreditAssign-Digits-v0"
SIZES = (64, 12, 10)
INNER = {
    "num_samples": 60,
    "num_updates": 5,
    "hidden_sizes": (12,),
    "learning_rate": 0.05,
    "loss_on": "held-out",
    "num_held_out": 60,
    "evaluate_test": False,
}


def start_of(env, seed: int) -> LearnedStart:
    policy = LearnedStart(env.single_observation_space, env.single_action_space, sizes=SIZES)
    policy.take(env.task.draw_life(seed))
    return policy


def test_from_kaimings_start_it_lives_the_lives_of_backpropagation():
    kwargs = {**INNER, "init": "kaiming"}
    env = gymnasium.make_vec(DIGITS, num_envs=1, **kwargs)
    backprop = BackpropPolicy(env.single_observation_space, env.single_action_space)
    expected = evaluate(backprop, DIGITS, [4], kwargs, ["normal"]).conditions["normal"]
    policy = start_of(env, 4)
    found = evaluate(policy, DIGITS, [4], kwargs, ["normal"]).conditions["normal"]
    assert (found.per_update["loss"] == expected.per_update["loss"]).all()
    unroll = BackpropUnroll(env.task, policy.unpack, env.num_updates)
    (loss,) = unroll.losses([4], policy.beta[None], torch.tensor([0.05]))
    assert loss.item() == pytest.approx(expected.last("held_out_loss")[0], rel=1e-4)
    # Another life brings other images, but starts from the same weights.
    both = unroll.losses([4, 5], policy.beta.expand(2, -1), torch.tensor([0.05, 0.05]))
    found = evaluate(policy, DIGITS, [4, 5], kwargs, ["normal"]).conditions["normal"]
    assert both.tolist() == pytest.approx(found.last("held_out_loss"), rel=1e-4)


def test_gradients_are_autograds_through_ordinary_backpropagation(monkeypatch):
    monkeypatch.setattr("meta.unroll._EPSILON", 1e-12)
    settings = TrainingSettings(
        num_samples=20, hidden_sizes=(5, 4), init="kaiming", loss_on="held-out", num_held_out=15
    )
    dataset = Dataset("MadeUp", *made_up_images((6,)), 3, "made up")
    task = ClassificationTask(dataset, settings, 1, torch.device("cpu"), torch.float64)
    policy = LearnedStart(task.observation_space, task.action_space, sizes=(6, 5, 4, 3)).double()
    life = task.draw_life(8)
    policy.take(life)

    def images(indices):
        x = task.standardise(dataset.x_train[indices]).T
        return functional.pad(x, (0, 1), value=1.0), torch.tensor(dataset.y_train[indices])

    def loss_of(weights, x, y):
        for weight in weights[:-1]:
            x = functional.pad(torch.tanh(x @ weight.T), (0, 1), value=1.0)
        return functional.cross_entropy(x @ weights[-1].T, y)

    start = [weight[0].clone().requires_grad_() for weight in life.weights]
    log_rate = torch.tensor(0.03, dtype=torch.float64).log().requires_grad_()
    weights, first, second = start, [0.0] * 3, [0.0] * 3
    for number in range(1, 5):
        loss = loss_of(weights, *images(life.indices))
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        gradients = [gradient * (1 / (norm + 1e-6)).clamp(max=1.0) for gradient in gradients]
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
        second = [0.999 * v + 0.001 * g**2 for v, g in zip(second, gradients, strict=True)]
        weights = [
            weight - log_rate.exp() * (m / (1 - 0.9**number)) / (v / (1 - 0.999**number)).sqrt()
            for weight, m, v in zip(weights, first, second, strict=True)
        ]
    expected_loss = loss_of(weights, *images(life.held_out))
    expected = torch.autograd.grad(expected_loss, [*start, log_rate])

    beta = policy.beta.detach()[None].clone().requires_grad_()
    rate = torch.tensor([0.03], dtype=torch.float64).log().requires_grad_()
    unroll = BackpropUnroll(task, policy.unpack, 4, smoothing=1e-26)
    loss = unroll.losses([8], beta, rate.exp()).sum()
    of_start, of_rate = torch.autograd.grad(loss, [beta, rate])
    torch.testing.assert_close(loss, expected_loss, rtol=1e-9, atol=0)
    flat = torch.cat([gradient.flatten() for gradient in expected[:-1]])
    torch.testing.assert_close(of_start[0], flat, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(of_rate[0], expected[-1], rtol=1e-5, atol=1e-9)


def test_learning_a_start_lowers_the_held_out_loss_and_resumes(tmp_path):
    model = learner(0.01, 20, DIGITS, INNER, SIZES)
    model.learn(10 * model.timesteps_per_generation)
    model.save(tmp_path / "model")
    again = LearnedBackprop.load(tmp_path / "model")
    for each in (model, again):
        each.learn(10 * model.timesteps_per_generation, reset_num_timesteps=False)
    assert torch.equal(model.policy.beta, again.policy.beta)
    losses = [-mean for mean, *_ in model.history]
    assert sum(losses[-4:]) < sum(losses[:4]) - 0.4
    assert model.inner_learning_rates != (0.05,)


def test_scores_begin_before_the_first_update(monkeypatch):
    monkeypatch.setattr(learned_backprop, "NUM_SUBSETS", 2)
    model = learner(0.02, 10, DIGITS, INNER, SIZES)
    model.learn(10 * model.timesteps_per_generation)
    monkeypatch.setattr(classifiers, "FULL_TRAIN", {"Digits": 60})
    setting = Setting("Digits", 60, 5, {"hidden_sizes": (12,)})
    result = scores(model, setting)
    curves = result["test_by_update"]
    assert [len(curve) for curve in curves] == [6, 6]
    # The start is the same in every life; the images that follow are not.
    assert curves[0][0] == curves[1][0]
    assert curves[0][-1] != curves[1][-1]
    assert min(result["test"]) > curves[0][0] + 0.2
    assert result["test"] == [curve[-1] for curve in curves]


def test_the_table_is_there_before_its_results(tmp_path):
    assert "learned start" in learned_backprop.render(ResultsFile("none", folder=tmp_path))
