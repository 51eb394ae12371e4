"""Lives within autograd's graph: the environment's own losses, and derivatives of these."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from scipy.optimize import minimize_scalar

from agents import SharedTDCAPolicy, TDCAPolicy
from credit_envs.datasets import Dataset
from credit_envs.tasks import ClassificationTask
from credit_envs.tasks.classification import TrainingSettings
from meta.unroll import Unroll, _Adam, _direction
from tests.conftest import made_up_images

RATES = {"adam": 0.02, "momentum": 0.3, "sgd": 1.0}
SEEDS = [3, 8]
UPDATES, SCALE = 6, 10.0


def small_task(lives: int, **settings) -> ClassificationTask:
    shape = (2, 9, 7) if settings.get("architecture") == "cnn" else (6,)
    dataset = Dataset("MadeUp", *made_up_images(shape), 3, "made up")
    chosen = {
        "num_samples": 20,
        "hidden_sizes": (5,),
        "loss_on": "held-out",
        "num_held_out": 15,
        "learning_rate": RATES[settings.get("optimizer", "adam")],
        **settings,
    }
    return ClassificationTask(
        dataset, TrainingSettings(**chosen), lives, torch.device("cpu"), torch.float64
    )


def teachers(task: ClassificationTask, lives: int) -> tuple[TDCAPolicy, torch.Tensor]:
    """A policy and random parameters for each life, float64."""
    assert isinstance(task.action_space, Box)
    policy = TDCAPolicy(task.observation_space, task.action_space, hidden_sizes=(4,))
    generator = torch.Generator().manual_seed(0)
    size = (lives, len(policy.beta))
    return policy, torch.randn(size, generator=generator, dtype=torch.float64)


def environment_losses(task: ClassificationTask, policy: TDCAPolicy, beta: torch.Tensor):
    task.start(np.array(SEEDS[: len(beta)]), None, {})
    with torch.no_grad():
        for _ in range(UPDATES):
            task.update(policy.act(task.observe(), beta), SCALE)
        return task.loss()


def unroll_of(task: ClassificationTask, policy: TDCAPolicy, **kwargs) -> Unroll:
    return Unroll(task, policy.act_on, UPDATES, SCALE, **kwargs)


def rates_of(task: ClassificationTask, lives: int) -> torch.Tensor:
    return torch.full((lives,), task.settings.learning_rate, dtype=torch.float64)


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
@pytest.mark.parametrize("lives", [1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss_on": "train"},
        {"init": "kaiming", "hidden_sizes": (5, 4), "weight_decay": 0.1},
        {"max_grad_norm": None},
        {"max_grad_norm": 0.1, "init": "kaiming"},
        {"credit": "groups", "credit_groups": 2, "hidden_sizes": (6, 4), "init": "kaiming"},
        {"architecture": "cnn", "hidden_sizes": (2, 5), "init": "kaiming"},
        {"permute_classes": True},
        {"random_projection": 4, "init": "kaiming"},
    ],
)
def test_losses_are_the_environments(optimizer, lives, settings):
    task = small_task(lives, optimizer=optimizer, **settings)
    policy, beta = teachers(task, lives)
    expected = environment_losses(task, policy, beta)
    losses = unroll_of(task, policy).losses(SEEDS[:lives], beta, rates_of(task, lives))
    assert lives == 1 or expected[0] != expected[1]
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
@pytest.mark.parametrize("lives", [1, 2])
def test_what_a_policy_sees_is_what_it_sees_in_the_environment(optimizer, lives):
    kwargs = {"optimizer": optimizer, "learning_rate": RATES[optimizer], "num_samples": 40}
    kwargs |= {"loss_on": "held-out", "num_held_out": 50, "evaluate_test": False}
    kwargs |= {"hidden_sizes": (8, 6), "num_updates": UPDATES, "init": "kaiming"}
    env = gymnasium.make_vec("CreditAssign-Digits-v0", num_envs=lives, **kwargs)
    policy = SharedTDCAPolicy(env.single_observation_space, env.single_action_space)
    policy.attach(env)
    generator = torch.Generator().manual_seed(0)
    beta = 0.2 * torch.randn(lives, len(policy.beta), generator=generator)
    unroll = Unroll(env.task, policy.act_on, env.num_updates, env.credit_scale)
    losses = unroll.losses(SEEDS[:lives], beta, torch.full((lives,), RATES[optimizer]))
    with torch.no_grad():
        observation = env.reset_tensors(SEEDS[:lives])
        start = env.loss
        for _ in range(env.num_updates):
            observation = env.step_tensors(policy.act(observation, beta)).observation
    assert (env.loss - start).abs().max() > 0.005
    torch.testing.assert_close(losses, env.loss, rtol=0.0, atol=5e-4)


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
def test_losses_are_the_environments_in_single_precision(optimizer):
    # Were a class a tenth of the samples, its first gradient would be 0 but for rounding, of which
    # Adam makes a whole step.
    kwargs = {"optimizer": optimizer, "learning_rate": RATES[optimizer], "num_samples": 201}
    kwargs |= {"loss_on": "held-out", "num_held_out": 100, "evaluate_test": False}
    env = gymnasium.make_vec("CreditAssign-Digits-v0", num_envs=1, **kwargs)
    policy = TDCAPolicy(
        env.single_observation_space, env.single_action_space, start="feedback-alignment"
    )
    policy.initialise(torch.Generator().manual_seed(0))
    beta = policy.beta.detach()[None]
    unroll = Unroll(env.task, policy.act_on, env.num_updates, env.credit_scale)
    (loss,) = unroll.losses([4], beta, torch.tensor([RATES[optimizer]]))
    observation, _ = env.reset(seed=[4])
    for _ in range(env.num_updates):
        observation, *_, info = env.step(policy.predict(observation)[0])
    assert float(loss) == pytest.approx(info["final_info"]["held_out_loss"][0], rel=1e-4)
    assert float(loss) < 1.5


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"init": "kaiming", "hidden_sizes": (5, 4)},
        {"architecture": "cnn", "hidden_sizes": (2, 4), "init": "kaiming"},
        {
            "architecture": "cnn",
            "hidden_sizes": (2, 4),
            "credit": "groups",
            "credit_groups": 2,
            "init": "kaiming",
        },
    ],
)
def test_gradients_are_finite_differences(optimizer, settings, monkeypatch):
    task = small_task(2, optimizer=optimizer, weight_decay=0.1, **settings)
    policy, beta = teachers(task, 2)
    # Where neither ε nor what smooths the derivative plays a part.
    monkeypatch.setattr("meta.unroll._EPSILON", 1e-12)
    unroll = unroll_of(task, policy, smoothing=1e-26)

    def losses(learned: torch.Tensor) -> torch.Tensor:
        return unroll.losses(SEEDS, learned[:, :-1], learned[:, -1].exp())

    learned = torch.cat([beta, rates_of(task, 2).log()[:, None]], dim=1).requires_grad_()
    (gradient,) = torch.autograd.grad(losses(learned).sum(), learned)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        direction = torch.randn(learned.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            ahead, behind = (losses(learned + step * direction) for step in (1e-6, -1e-6))
        slopes = (gradient * direction).sum(1)
        torch.testing.assert_close((ahead - behind) / 2e-6, slopes, rtol=1e-5, atol=1e-7)
    assert gradient[:, -1].abs().min() > 0


def test_recomputing_changes_nothing():
    task = small_task(1)
    policy, beta = teachers(task, 1)
    gradients = []
    for recompute in (False, True):
        own = beta.clone().requires_grad_()
        unroll = unroll_of(task, policy, recompute=recompute)
        unroll.losses(SEEDS[:1], own, rates_of(task, 1)).sum().backward()
        gradients.append(own.grad)
    assert torch.equal(*gradients)


def test_adam_is_differentiated_with_a_smooth_turn():
    """Autograd's derivative of m̂/√(v̂ + s), where gradients are small and large."""
    generator = torch.Generator().manual_seed(0)
    shape, smoothing, number = (2, 3, 4), 1e-2, 3

    def draw(scale: float) -> torch.Tensor:
        drawn = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        return drawn.requires_grad_()

    weight, gradient, first = draw(1.0), draw(0.1), draw(0.1)
    second = (draw(0.1) ** 2).detach().requires_grad_()
    rate = torch.rand(2, 1, 1, generator=generator, dtype=torch.float64).requires_grad_()
    given = (weight, gradient, first, second, rate)
    sensitivities = [draw(1.0).detach() for _ in range(3)]

    ours = _Adam.apply(*given, number, smoothing)
    m = 0.9 * first + 0.1 * gradient
    v = 0.999 * second + 0.001 * gradient**2
    m_hat, v_hat = m / (1 - 0.9**number), v / (1 - 0.999**number)
    smooth = (weight + rate * m_hat / (v_hat + smoothing).sqrt(), m, v)
    found = torch.autograd.grad(ours, given, sensitivities)
    expected = torch.autograd.grad(smooth, given, sensitivities)
    for one, other in zip(found[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(one, other)
    step = _direction(m, v, 1 - 0.9**number, 1 - 0.999**number)
    torch.testing.assert_close(found[-1], (sensitivities[0] * step).sum((1, 2), keepdim=True))
    torch.testing.assert_close(ours[0], weight + rate * m_hat / (v_hat.sqrt() + 1e-8))


def best_loss(logits, labels):
    """The smallest cross-entropy at any temperature, by SciPy."""

    def loss(log_scale):
        log_probabilities = torch.log_softmax(np.exp(log_scale) * logits, dim=0)
        return -(log_probabilities * labels).sum(0).mean().item()

    return minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").fun


@pytest.mark.parametrize("sureness", [0.5, 1.0, 5.0])
def test_calibrated_losses_are_those_at_the_best_temperature(sureness):
    task = small_task(2)
    unroll = unroll_of(task, teachers(task, 2)[0], calibrated=True)
    generator = torch.Generator().manual_seed(0)
    labels = torch.eye(4, dtype=torch.float64)[torch.arange(40) % 4].T.expand(2, 4, 40)
    noise = torch.randn(labels.shape, generator=generator, dtype=torch.float64)
    logits = (sureness * (2 * labels + noise)).requires_grad_()
    losses = unroll._loss(torch.log_softmax(logits, dim=1), labels)
    (slopes,) = torch.autograd.grad(losses.sum(), logits)
    for life in range(2):
        given, direction = logits[life].detach(), noise[life]
        expected = best_loss(given, labels[life])
        assert float(losses[life].detach()) == pytest.approx(expected, rel=2e-3)
        ahead, behind = (best_loss(given + s * direction, labels[life]) for s in (1e-3, -1e-3))
        slope = float((slopes[life] * direction).sum())
        assert slope == pytest.approx((ahead - behind) / 2e-3, rel=0.1)
