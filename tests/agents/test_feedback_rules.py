"""Rules with feedback from layer to layer equal autograd on networks written anew."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from agents import BackpropPolicy, DeepAGRELCreditPolicy, DFAPolicy, FAPolicy
from agents.rules import FeedbackRulePolicy
from benchmarks.common.reference_inner_loop import weights_of
from credit_envs.datasets import from_arrays
from credit_envs.environment import CreditAssignVectorEnv
from credit_envs.tasks import ClassificationTask
from credit_envs.tasks.classification import TrainingSettings
from tests.conftest import made_up_images

EXACT = 1e-12
NUM_SAMPLES, NUM_UPDATES, RATE = 12, 5, 0.5
SHAPE, CLASSES = (2, 9, 8), 3
SHARED, OWN = [7, 7, 7], [7, 8, 9]
NETWORKS = [
    ("mlp", (6,)),
    ("mlp", (6, 5)),
    ("mlp", (4, 6, 5, 7)),
    ("cnn", (4, 6, 5)),
    ("residual", (6, 6, 6)),
]
every_network = pytest.mark.parametrize(("architecture", "hidden_sizes"), NETWORKS)
# In a residual block the environment's own update takes feedback through the block's weights.
every_exact_network = pytest.mark.parametrize(("architecture", "hidden_sizes"), NETWORKS[:-1])
shared_or_own = pytest.mark.parametrize("seeds", [SHARED, OWN], ids=["shared", "own"])
RULES: list[tuple[type[FeedbackRulePolicy], dict[str, Any]]] = [
    (BackpropPolicy, {}),
    (BackpropPolicy, {"label_smoothing": 0.2}),
    (BackpropPolicy, {"loss": "squared-error", "label_smoothing": 0.1}),
    (FAPolicy, {"seed": 3}),
    (FAPolicy, {"label_smoothing": 0.2}),
    (DeepAGRELCreditPolicy, {"epsilon": 1.0}),
    (DeepAGRELCreditPolicy, {"epsilon": 0.3, "feedback": "fixed", "seed": 3}),
]
every_rule = pytest.mark.parametrize(("policy_class", "arguments"), RULES)


class PlainEnv(CreditAssignVectorEnv):
    def draw(self, history: object) -> Any:
        raise NotImplementedError


def make_env(
    architecture: str = "mlp", hidden_sizes: tuple[int, ...] = (6, 5), num_networks: int = 3
) -> PlainEnv:
    settings = TrainingSettings(
        num_samples=NUM_SAMPLES,
        hidden_sizes=hidden_sizes,
        architecture=architecture,  # type: ignore[arg-type]
        init="kaiming",
        optimizer="sgd",
        learning_rate=RATE,
        max_grad_norm=None,
    )
    data = from_arrays(made_up_images(SHAPE))
    task = ClassificationTask(data, settings, num_networks, torch.device("cpu"), torch.float64)
    return PlainEnv(task, num_updates=NUM_UPDATES, credit_scale=10.0)


def attached(
    policy_class: type[FeedbackRulePolicy], env: PlainEnv, **arguments: Any
) -> FeedbackRulePolicy:
    policy = policy_class(env.single_observation_space, env.single_action_space, **arguments)
    policy.attach(env)
    return policy


class Layer(torch.autograd.Function):
    """A linear layer that sends errors down through weights `back` in place of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(x, back)
        return x @ weight[:, :-1].T + weight[:, -1]

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        x, back = ctx.saved_tensors
        ones = torch.ones_like(x[:, :1])
        return error @ back, error.T @ torch.cat([x, ones], 1), None


class Reference:
    """A single network, with PyTorch's operations and autograd.

    Without biases, `backs` are the weights of feedback for each layer but the first.
    """

    def __init__(self, env: PlainEnv, index: int, backs: list[Tensor] | None) -> None:
        assert isinstance(env.task, ClassificationTask)
        task, data = env.task, env.task.dataset
        self.weights = [w.clone().requires_grad_() for w in weights_of(task, index)]
        self._backs, self._architecture = backs, task.settings.architecture
        mean, std = (torch.as_tensor(moment, dtype=torch.float64) for moment in data.moments)
        chosen = task.sample_indices[index]
        self._images = (torch.tensor(data.x_train[chosen], dtype=torch.float64) - mean) / std
        self.labels = torch.tensor(data.y_train[chosen])

    def forward(self) -> list[Tensor]:
        """Activities that have credits, and the logits."""
        x, first = self._images, self.weights[0]
        if self._architecture == "cnn":
            filters = first[:, :-1].view(len(first), SHAPE[0], 5, 5)
            pre = functional.conv2d(x, filters, first[:, -1], stride=2).flatten(1)
        else:
            pre = functional.linear(x.flatten(1), first[:, :-1], first[:, -1])
        activities = [pre.tanh()]
        own = [w[:, :-1].detach() for w in self.weights[1:]]
        pairs = list(zip(self.weights[1:], self._backs or own, strict=True))
        while len(pairs) > 1:
            h = activities[-1]
            above = Layer.apply(h, *pairs.pop(0)).tanh()
            if self._architecture == "residual":
                above = h + Layer.apply(above, *pairs.pop(0)).tanh()
            activities.append(above)
        return [*activities, Layer.apply(activities[-1], *pairs[0])]

    def update(self, loss: Tensor) -> None:
        for weight, gradient in zip(
            self.weights, torch.autograd.grad(loss, self.weights), strict=True
        ):
            weight.data -= RATE * gradient


def loss_of(policy: FeedbackRulePolicy, logits: Tensor, labels: Tensor, action: Tensor) -> Tensor:
    """What a rule descends; of DeepAGREL's choices, which its output credits tell."""
    if not isinstance(policy, DeepAGRELCreditPolicy):
        assert isinstance(policy, BackpropPolicy | FAPolicy)
        if isinstance(policy, BackpropPolicy) and policy.loss == "squared-error":
            s = policy.label_smoothing
            targets = (1 - s) * functional.one_hot(labels, CLASSES).double() + s / CLASSES
            return 5 * (targets - logits.softmax(1)).square().sum(1).mean()
        return functional.cross_entropy(logits, labels, label_smoothing=policy.label_smoothing)
    credits = action[:, -CLASSES:]
    assert ((credits != 0).sum(1) == 1).all()
    chosen = credits.abs().argmax(1)
    predicted = logits.softmax(1)[torch.arange(len(labels)), chosen]
    return 0.5 * ((chosen == labels).double() - predicted).square().mean()


def fixed_weights(policy: FeedbackRulePolicy) -> list[Tensor] | None:
    """The first network's; all have the same."""
    if policy._fixed_weights is None:
        return None
    for weight in policy._fixed_weights:
        assert (weight == weight[:1]).all()
    return [weight[0] for weight in policy._fixed_weights]


@every_rule
@shared_or_own
@every_network
def test_credits_are_gradients_of_activities(
    architecture: str,
    hidden_sizes: tuple[int, ...],
    seeds: list[int],
    policy_class: type[FeedbackRulePolicy],
    arguments: dict[str, Any],
) -> None:
    env = make_env(architecture, hidden_sizes)
    policy = attached(policy_class, env, **arguments)
    observation = env.reset_tensors(seeds)
    for _ in range(2):
        actions = policy.act(observation)
        for index, action in enumerate(actions):
            reference = Reference(env, index, fixed_weights(policy))
            *activities, logits = reference.forward()
            loss = loss_of(policy, logits, reference.labels, action)
            gradients = torch.autograd.grad(loss, activities)
            hidden = -NUM_SAMPLES * torch.cat(gradients, dim=1)
            assert hidden.abs().max() > 1e-3
            credits = policy.credit_scale * action[:, :-CLASSES]
            torch.testing.assert_close(credits, hidden, rtol=0, atol=EXACT)
        observation = env.step_tensors(actions).observation


@every_rule
@shared_or_own
@every_exact_network
def test_a_life_is_descent(
    architecture: str,
    hidden_sizes: tuple[int, ...],
    seeds: list[int],
    policy_class: type[FeedbackRulePolicy],
    arguments: dict[str, Any],
) -> None:
    """Through the environment: the weights of gradient descent, with the same feedback."""
    env = make_env(architecture, hidden_sizes)
    policy = attached(policy_class, env, **arguments)
    observation = env.reset_tensors(seeds)
    references = [Reference(env, index, fixed_weights(policy)) for index in range(len(seeds))]
    starts = [[w.detach().clone() for w in reference.weights] for reference in references]
    for _ in range(NUM_UPDATES):
        actions = policy.act(observation)
        for reference, action in zip(references, actions, strict=True):
            logits = reference.forward()[-1]
            reference.update(loss_of(policy, logits, reference.labels, action))
        observation = env.step_tensors(actions).observation
    assert isinstance(env.task, ClassificationTask)
    for index, (reference, start) in enumerate(zip(references, starts, strict=True)):
        ours = weights_of(env.task, index)
        for weight, expected, before in zip(ours, reference.weights, start, strict=True):
            torch.testing.assert_close(weight, expected.detach(), rtol=0, atol=EXACT)
            assert (weight - before).abs().max() > 1e-3


@every_network
def test_fixed_feedback_that_is_the_networks_own_is_backpropagation(
    architecture: str, hidden_sizes: tuple[int, ...]
) -> None:
    env = make_env(architecture, hidden_sizes)
    observation = env.reset_tensors(OWN)
    policy, backprop = attached(FAPolicy, env), attached(BackpropPolicy, env)
    assert not torch.allclose(policy.act(observation), backprop.act(observation))
    assert isinstance(env.task, ClassificationTask)
    policy._fixed_weights = env.task.forward_weights
    assert torch.equal(policy.act(observation), backprop.act(observation))


@shared_or_own
def test_with_one_hidden_layer_feedback_alignment_is_direct(seeds: list[int]) -> None:
    for hidden_sizes, same in [((6,), True), ((6, 5), False)]:
        env = make_env("mlp", hidden_sizes)
        observation = env.reset_tensors(seeds)
        settings = {"label_smoothing": 0.1, "seed": 4, "credit_scale": 5.0}
        action = attached(FAPolicy, env, **settings).act(observation)
        spaces = env.single_observation_space, env.single_action_space
        direct = DFAPolicy(*spaces, **settings).double().act(observation)
        assert torch.allclose(action, direct, rtol=0, atol=EXACT) == same


@every_network
def test_fixed_feedback_is_drawn_from_the_seed(
    architecture: str, hidden_sizes: tuple[int, ...]
) -> None:
    env = make_env(architecture, hidden_sizes)
    env.reset_tensors(OWN)
    assert isinstance(env.task, ClassificationTask)
    before = torch.get_rng_state()
    one, same, other = (
        attached(FAPolicy, env, seed=seed)._fixed_weights or [] for seed in (1, 1, 2)
    )
    rewarded = attached(DeepAGRELCreditPolicy, env, seed=1, feedback="fixed")._fixed_weights
    assert rewarded is not None
    assert all(map(torch.equal, rewarded, one))
    assert torch.equal(before, torch.get_rng_state())
    for first, second, third, own in zip(one, same, other, env.task.forward_weights, strict=True):
        assert torch.equal(first, second)
        assert not torch.equal(first, third)
        assert first.shape == own.shape
        assert 0.5 < first.abs().max() * own.shape[1] ** 0.5 <= 1


# --- DeepAGREL's choices


def choices(action: Tensor) -> Tensor:
    return action[..., -CLASSES:].abs().argmax(-1)


@pytest.mark.parametrize("feedback", ["tied", "fixed"])
def test_deepagrel_learns_from_reward_alone(feedback: str) -> None:
    """Which answer would have been right, when the chosen one was wrong, makes no difference."""
    env = make_env()
    observation = env.reset_tensors(OWN).clone()
    policy = attached(DeepAGRELCreditPolicy, env, feedback=feedback, epsilon=1.0)
    action = policy.act(observation)
    labels = observation[..., CLASSES:].argmax(-1)
    chosen = choices(action)
    wrong = chosen != labels
    assert wrong.any()
    assert not wrong.all()
    others = torch.where(wrong, 3 - chosen - labels, labels)
    observation[..., CLASSES:] = functional.one_hot(others, CLASSES)
    assert (others != labels).any()
    assert torch.equal(policy.act(observation), action)
    rewarded = action[..., -CLASSES:].sum(-1) > 0
    assert torch.equal(rewarded, ~wrong)
    observation[..., CLASSES:] = functional.one_hot(chosen, CLASSES)
    assert not torch.equal(policy.act(observation), action)


def test_deepagrel_chooses_the_highest_output_unless_it_explores() -> None:
    env = make_env()
    observation = env.reset_tensors(OWN)
    highest = observation[..., :CLASSES].argmax(-1)
    differing = {}
    for epsilon in (0.0, 0.3, 1.0):
        policies = (
            attached(DeepAGRELCreditPolicy, env, epsilon=epsilon, seed=seed) for seed in range(40)
        )
        drawn = torch.stack([choices(policy.act(observation)) for policy in policies])
        differing[epsilon] = (drawn != highest).double().mean().item()
    assert differing[0.0] == 0.0
    # The Boltzmann distribution of probabilities is nearly even: two draws of three differ.
    assert differing[0.3] == pytest.approx(0.3 * 0.6, abs=0.04)
    assert differing[1.0] == pytest.approx(0.6, abs=0.06)


def live(env: PlainEnv, seeds: list[int], **arguments: Any) -> list[dict[int, list[int]]]:
    """By network and image: the answers chosen in a life."""
    policy = attached(DeepAGRELCreditPolicy, env, epsilon=0.5, **arguments)
    observation = env.reset_tensors(seeds)
    assert isinstance(env.task, ClassificationTask)
    chosen = []
    for _ in range(NUM_UPDATES):
        action = policy.act(observation)
        chosen.append(choices(action))
        observation = env.step_tensors(action).observation
    answers = torch.stack(chosen, dim=-1).tolist()
    images = env.task.sample_indices.tolist()
    return [dict(zip(*pair, strict=True)) for pair in zip(images, answers, strict=True)]


def test_a_life_of_deepagrel_is_the_same_alone_and_among_others() -> None:
    before = torch.get_rng_state()
    env = make_env()
    own, shared = live(env, OWN), live(make_env(), SHARED)
    alone = live(make_env(num_networks=1), [7])
    # The case is not trivial: the images come in another order.
    assert list(own[0]) != list(shared[0])
    assert own[0] == shared[0] == shared[1] == shared[2] == alone[0]
    assert own == live(env, OWN)
    assert own[1] == live(make_env(num_networks=1), [8])[0]
    assert own[0] != live(env, OWN, seed=1)[0]
    assert torch.equal(before, torch.get_rng_state())


def test_deepagrel_draws_anew_in_every_life_and_update() -> None:
    env = make_env()
    policy = attached(DeepAGRELCreditPolicy, env, epsilon=1.0)
    assert isinstance(env.task, ClassificationTask)
    observation = env.reset_tensors(OWN)
    # Of networks that answer alike, so that draws alone make a difference.
    observation[..., :CLASSES] = 1 / CLASSES
    first = choices(policy.act(observation))
    assert torch.equal(choices(policy.act(observation)), first)
    images = torch.from_numpy(env.task.sample_indices)
    by_image = first.gather(1, images.argsort(1))
    assert not torch.equal(by_image[0], by_image[1])
    env.step_tensors(torch.zeros(3, *env.single_action_space.shape, dtype=torch.float64))
    observation[..., :CLASSES] = 1 / CLASSES
    assert not torch.equal(choices(policy.act(observation)), first)


# --- Saving


@every_rule
def test_save_and_load(
    policy_class: type[FeedbackRulePolicy], arguments: dict[str, Any], tmp_path: Any
) -> None:
    env = make_env()
    observation = env.reset_tensors(OWN)
    policy = attached(policy_class, env, credit_scale=3.0, **arguments)
    policy.save(tmp_path / "policy")
    again = policy_class.load(tmp_path / "policy", device="cpu")
    again.attach(env)
    assert {name: getattr(again, name) for name in arguments} == arguments
    assert torch.equal(policy.act(observation), again.act(observation))


def test_lives_need_a_reset() -> None:
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        _ = make_env().life_seeds
