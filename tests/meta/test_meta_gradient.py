"""Meta-gradients: the step against its definition, exact resumption, and what is refused."""

from dataclasses import replace
from math import cos, pi

import numpy as np
import pytest
import torch

from agents import SharedTDCAPolicy, TDCAPolicy
from meta import MetaGradient
from meta.pgpe import PGPE

DIGITS = "CreditAssign-Digits-v0"
INNER = {
    "num_samples": 60,
    "num_updates": 5,
    "hidden_sizes": (12,),
    "learning_rate": 0.05,
    "loss_on": "held-out",
    "num_held_out": 60,
    "evaluate_test": False,
}
TEACHER = {"hidden_sizes": (12,), "start": "feedback-alignment", "output_scale": 1.0}


def small(inner=None, **kwargs) -> MetaGradient:
    settings = {"seed": 3, "policy_kwargs": TEACHER, **kwargs}
    return MetaGradient("TDCAPolicy", DIGITS, {**INNER, **(inner or {})}, **settings)


def generations(model: MetaGradient, count: int) -> MetaGradient:
    return model.learn(count * model.timesteps_per_generation, reset_num_timesteps=False)


def test_learning_lowers_the_held_out_loss():
    model = generations(small(anneal_over=60, learning_rate=0.02), 60)
    losses = -np.array(model.history)[:, 0]
    assert losses[-15:].mean() < losses[:15].mean() - 0.2
    assert model.num_timesteps == 60 * 2 * 5


def test_a_step_is_adams_on_the_mean_of_clipped_gradients():
    model = small(lives=3, max_grad_norm=0.01)
    before, seeds = model.policy.beta.detach().clone(), model.life_seeds
    (unroll,) = model._unrolls
    expected = torch.zeros_like(before)
    fitness = []
    for seed in seeds:
        beta = before.clone().requires_grad_()
        loss = unroll.losses([seed], beta[None], torch.tensor([0.05])).sum()
        loss.backward()
        fitness.append(-loss.item())
        norm = beta.grad.norm()
        assert norm > 0.01
        expected += beta.grad * 0.01 / norm / 3
    generations(model, 1)
    torch.testing.assert_close(model.policy.beta.grad, expected, rtol=1e-3, atol=1e-7)
    # The first step of Adam is the sign of the gradient.
    sure = expected.abs() > 1e-5
    moved = (model.policy.beta.detach() - before)[sure]
    torch.testing.assert_close(moved, -0.005 * expected[sure].sign(), rtol=1e-2, atol=1e-5)
    np.testing.assert_allclose(model.history[0], [np.mean(fitness), max(fitness), np.std(fitness)])


def test_lives_differentiated_at_once_are_the_same():
    one, both = (generations(small(chunk_size=size), 1).policy.beta for size in (1, 2))
    torch.testing.assert_close(one, both, rtol=1e-3, atol=1e-4)


def test_the_start_is_the_policys_own_with_a_little_of_a_random_one():
    still, moved = small(jitter=0.0).policy, small(jitter=0.1).policy
    difference = moved.beta - still.beta
    random = TDCAPolicy(still.observation_space, still.action_space, hidden_sizes=(12,))
    assert float(difference.detach().std()) == pytest.approx(
        0.1 * float(random.beta.detach().std()), rel=0.1
    )
    assert (still.beta == 0).float().mean() > 0.5


def test_the_rate_falls_along_a_half_cosine():
    model = small(anneal_over=10, anneal_to=0.1, learning_rate=0.02)
    rates = []
    for generation in (0, 3, 10, 12):
        model.generation = generation
        rates.append(model.initial_rate * model._annealing())
    middle = 0.02 * (0.1 + 0.9 * (1 + cos(0.3 * pi)) / 2)
    np.testing.assert_allclose(rates, [0.02, middle, 0.002, 0.002])


def test_the_inner_rate_is_learned_if_asked_for():
    assert generations(small(), 2).inner_learning_rates == (0.05,)
    model = generations(small(learn_rate=True), 2)
    (learned,) = model.inner_learning_rates
    assert model.meta_training == {DIGITS: {**INNER, "learning_rate": learned}}
    assert learned != 0.05
    assert learned == pytest.approx(0.05, rel=0.05)


def test_several_environments():
    inner = [INNER, {**INNER, "num_samples": 40, "num_updates": 3}]
    model = MetaGradient("TDCAPolicy", [DIGITS, DIGITS], inner, TEACHER, seed=3)
    assert model.timesteps_per_generation == 2 * (5 + 3)
    generations(model, 1)
    with pytest.raises(ValueError, match="no single arguments are those of meta-training"):
        _ = model.meta_training
    alone = [MetaGradient("TDCAPolicy", DIGITS, own, TEACHER, seed=3) for own in inner]
    means = [generations(one, 1).history[0][0] for one in alone]
    assert model.history[0][0] == pytest.approx(np.mean(means), rel=1e-5)
    with pytest.raises(ValueError, match="rows of the same length"):
        MetaGradient("TDCAPolicy", [DIGITS, DIGITS], [INNER, {**INNER, "hidden_sizes": (9,)}])


def test_lives_that_grow():
    model = small({"num_updates": 50}, shortest=0.1, lengthen_over=20)
    for generation, most in ((0, 5), (10, 16), (20, 50), (99, 50)):
        model.generation = generation
        updates = [model._sizes(0, seed)[1] for seed in range(300)]
        assert min(updates) == 5
        assert max(updates) == pytest.approx(most, abs=1)
    assert model._sizes(0, 7) == small({"num_updates": 50}, shortest=0.1)._sizes(0, 7)
    with pytest.raises(ValueError, match="nothing to grow from: give a shortest below"):
        small(lengthen_over=5)


def test_the_gradient_of_the_relative_loss_is_that_of_its_logarithm():
    plain, relative = (
        generations(small(lives=1, max_grad_norm=1e6, relative_loss=log), 1)
        for log in (False, True)
    )
    assert relative.history == plain.history
    loss = -plain.history[0][0]
    torch.testing.assert_close(relative.policy.beta.grad * loss, plain.policy.beta.grad)


def test_lives_of_several_sizes():
    model = small(shortest=0.2)
    sizes = [model._sizes(0, seed) for seed in range(400)]
    samples, updates = (np.array(each) for each in zip(*sizes, strict=True))
    assert (samples.min(), samples.max()) == (12, 60)
    assert (updates.min(), updates.max()) == (1, 5)
    # Uniform in the logarithm: half of them below the geometric mean of the ends.
    assert (samples < 60 * 0.2**0.5).mean() == pytest.approx(0.5, abs=0.08)
    assert abs(np.corrcoef(samples, updates)[0, 1]) < 0.15
    assert {small()._sizes(0, seed) for seed in range(5)} == {(60, 5)}
    two = MetaGradient("TDCAPolicy", [DIGITS, DIGITS], INNER, TEACHER, shortest=0.2, seed=0)
    assert [two._sizes(1, seed) for seed in range(20)] != sizes[:20]
    (unroll,) = model._unrolls
    seed = model.life_seeds[0]
    n, updates = model._sizes(0, seed)
    assert n < 60
    life = unroll._task.draw_life(seed)
    short = small({"num_samples": n, "num_updates": updates})._unrolls[0]
    drawn = replace(life, indices=life.indices[:n])
    short._task.draw_life = lambda _: drawn
    rate, beta = torch.tensor([0.05]), model.policy.beta.detach()[None]
    expected = short.losses([seed], beta, rate)
    torch.testing.assert_close(unroll.losses([seed], beta, rate, n, updates), expected)


def test_one_network_for_networks_of_several_widths_and_numbers_of_classes():
    inner = [{**INNER, "init": "kaiming", "hidden_sizes": sizes} for sizes in ((12,), (9, 5))]
    inner[1]["classes"] = (7, 1, 4)
    settings = {"anneal_over": 20, "learning_rate": 0.05, "smoothing": 1e-3, "seed": 3}
    model = MetaGradient(
        "SharedTDCAPolicy", [DIGITS, DIGITS], inner, resample_lives=False, **settings
    )
    losses = -np.array(generations(model, 20).history)[:, 0]
    assert losses[-5:].mean() < losses[:5].mean() - 0.05


@pytest.mark.parametrize("settings", [{"learn_rate": True}, {"recompute": True}, {"shortest": 0.5}])
def test_resuming_is_exact(settings, tmp_path):
    whole = generations(small(anneal_over=6, **settings), 6)
    generations(small(anneal_over=6, **settings), 3).save(tmp_path / "model")
    resumed = generations(MetaGradient.load(tmp_path / "model"), 3)
    assert torch.equal(whole.policy.beta, resumed.policy.beta)
    assert whole.inner_learning_rates == resumed.inner_learning_rates
    assert whole.history == resumed.history
    assert whole.num_timesteps == resumed.num_timesteps


def test_a_life_that_diverges_moves_nothing(monkeypatch):
    model = small()
    before = model.policy.beta.detach().clone()
    (unroll,) = model._unrolls
    losses = unroll.losses
    monkeypatch.setattr(unroll, "losses", lambda *given: losses(*given) * float("nan"))
    one = "all 2 lives of generation 1 diverged; lower the environment's learning_rate"
    with pytest.raises(FloatingPointError, match=one):
        generations(model, 1)
    assert torch.equal(model.policy.beta, before)


def test_one_of_two_lives_that_diverges_moves_nothing(monkeypatch):
    model, alone = small(max_grad_norm=1e6), small(max_grad_norm=1e6)
    (unroll,) = model._unrolls
    losses = unroll.losses
    factors = iter([float("nan"), 1.0])
    monkeypatch.setattr(unroll, "losses", lambda *given: losses(*given) * next(factors))
    generations(model, 1)
    expected = alone._gradients(0, alone.life_seeds[1:])[1][0, :-1] / 2
    torch.testing.assert_close(model.policy.beta.grad, expected)


@pytest.mark.parametrize("last", [1, 3, 5, 9])
def test_truncation_differentiates_the_last_updates_alone(last):
    truncated, whole = small(last_updates=last), small()
    (unroll,) = whole._unrolls
    act, frozen = unroll._act, whole.policy.beta.detach()[None]

    def act_frozen_at_first(observation, beta, state):
        early = float(state.progress) * 5 < 5 - last - 0.5
        return act(observation, frozen if early else beta, state)

    unroll._act = act_frozen_at_first
    (loss, gradient), (expected_loss, expected) = (
        model._gradients(0, model.life_seeds[:1]) for model in (truncated, whole)
    )
    assert torch.equal(loss, expected_loss)
    torch.testing.assert_close(gradient[:, :-1], expected[:, :-1])
    same = torch.allclose(gradient, small()._gradients(0, whole.life_seeds[:1])[1])
    assert same == (last >= 5)


def test_memory_does_not_grow_with_a_truncated_life():
    def saved(num_updates, **settings):
        model = small({"num_updates": num_updates}, **settings)
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model._gradients(0, model.life_seeds[:1])
        return total

    assert saved(20, last_updates=2) == saved(4, last_updates=2)
    assert saved(20) > 4 * saved(4)


def test_refuses_a_checkpoint_of_another_outer_loop(tmp_path):
    path = tmp_path / "model.zip"
    PGPE("TDCAPolicy", "CreditAssign-Gaussian-v0", population_size=2).save(path)
    with pytest.raises(ValueError, match="cannot be continued"):
        MetaGradient.load(path)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lives": 0}, "lives"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"anneal_over": 0}, "anneal_over"),
        ({"anneal_to": 2.0}, "anneal_to"),
        ({"max_grad_norm": 0.0}, "max_grad_norm"),
        ({"jitter": -0.1}, "jitter"),
        ({"shortest": 0.0}, "shortest"),
        ({"shortest": 1.5}, "shortest"),
        ({"smoothing": 0.0}, "smoothing"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"last_updates": 0}, "last_updates"),
        ({"lengthen_over": 0}, "lengthen_over"),
        ({"relative_loss": "no"}, "relative_loss='no' is not one of True, False"),
        ({"device": "cuda:99"}, "device='cuda:99' cannot be used here"),
        ({"inner": {"credit": "parameters"}}, 'credit="parameters": use PGPE'),
        ({"inner": {"architecture": "residual", "hidden_sizes": (8, 8)}}, '="residual" and'),
    ],
)
def test_refusals(kwargs, message):
    with pytest.raises(ValueError, match=message):
        small(**kwargs)


def test_refuses_other_tasks_and_policies():
    with pytest.raises(ValueError, match="has another task: use PGPE"):
        MetaGradient("TDCAPolicy", "CreditAssign-Gaussian-v0")
    with pytest.raises(ValueError, match="by its id"):
        MetaGradient("TDCAPolicy", object())
    for inner in ({"credit": "groups"}, {"architecture": "cnn", "hidden_sizes": (2, 8)}):
        with pytest.raises(ValueError, match="whose activities it reads"):
            MetaGradient(SharedTDCAPolicy, DIGITS, {"hidden_sizes": (20,), **inner})
