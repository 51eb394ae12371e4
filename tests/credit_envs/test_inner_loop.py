"""The batched inner loop equals one network at a time by autograd, and plain backpropagation."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents import BackpropPolicy
from benchmarks.common.reference_inner_loop import (
    CREDIT_SCALE,
    TOP_DOWN_HIDDEN,
    difference_from_reference,
    reference_life,
    standardise,
    weights_of,
)
from credit_envs.datasets import Dataset, from_arrays
from credit_envs.environment import CreditAssignVectorEnv
from credit_envs.networks import GramInputs, OwnInputs, SharedInputs
from credit_envs.tasks import ClassificationTask
from credit_envs.tasks.classification import TrainingSettings

NUM_UPDATES = 20
NUM_SAMPLES = 40
NUM_NETWORKS = 3
EXACT = 1e-10
CPU = torch.device("cpu")


def image_like(rng: np.random.Generator) -> Dataset:
    """8 × 8 images: a black frame, a field that few samples enter, and a busy middle."""
    images = np.zeros((120, 1, 8, 8), dtype=np.uint8)
    images[:, :, 2:6, 2:6] = rng.integers(1, 255, (120, 1, 4, 4))
    visitors = rng.random(120) < 0.3
    images[visitors, :, 1, 1:7] = rng.integers(0, 255, (visitors.sum(), 1, 6))
    labels = rng.integers(0, 3, 120)
    images[:, 0, 3, 3] = 80 * labels
    return from_arrays((images[:80], labels[:80], images[80:], labels[80:]))


def dense(rng: np.random.Generator) -> Dataset:
    x, labels = rng.standard_normal((120, 30)), rng.integers(0, 3, 120)
    x[:, 0] += labels
    return from_arrays((x[:80], labels[:80], x[80:], labels[80:]))


DATA = {maker.__name__: maker(np.random.default_rng(1)) for maker in (image_like, dense)}


def make_task(data: str = "image_like", **settings: Any) -> ClassificationTask:
    chosen = TrainingSettings(
        **{"num_samples": NUM_SAMPLES, "hidden_sizes": (16,), "train_range": (0.0, 0.75)} | settings
    )
    return ClassificationTask(DATA[data], chosen, NUM_NETWORKS, CPU, dtype=torch.float64)


def random_betas(task: ClassificationTask) -> Tensor:
    """A top-down network per candidate whose credits are neither tiny nor all clipped."""
    sizes = (task.observation_space.shape[1], *TOP_DOWN_HIDDEN, task.action_space.shape[1])
    length = sum(outputs * (inputs + 1) for inputs, outputs in pairwise(sizes))
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(NUM_NETWORKS, length, generator=generator, dtype=torch.float64)


class PlainEnv(CreditAssignVectorEnv):
    def draw(self, history: object) -> Any:
        raise NotImplementedError


SHARED, OWN = [7, 7, 7], [7, 8, 9]


@pytest.mark.parametrize("max_grad_norm", [0.3, None])
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
@pytest.mark.parametrize("seeds", [SHARED, OWN], ids=["shared", "own"])
@pytest.mark.parametrize("data", list(DATA))
def test_equals_reference(
    data: str, seeds: list[int], optimizer: str, max_grad_norm: float | None
) -> None:
    task = make_task(data, optimizer=optimizer, max_grad_norm=max_grad_norm)
    assert difference_from_reference(task, seeds, random_betas(task), NUM_UPDATES) < EXACT
    gram = optimizer != "adam" and int(np.prod(DATA[data].x_train.shape[1:])) >= NUM_SAMPLES
    shared = GramInputs if gram else SharedInputs
    assert isinstance(task.inputs, shared if seeds == SHARED else OwnInputs)


@pytest.mark.parametrize("max_grad_norm", [0.3, None])
@pytest.mark.parametrize("optimizer", ["momentum", "sgd"])
def test_a_task_goes_from_gram_form_to_own_data_and_back(
    optimizer: str, max_grad_norm: float | None
) -> None:
    task = make_task(optimizer=optimizer, max_grad_norm=max_grad_norm, hidden_sizes=(16, 9))
    betas = random_betas(task)
    assert difference_from_reference(task, SHARED, betas, NUM_UPDATES) < EXACT
    gram_scores = task.final_metrics()
    two_the_same = [*SHARED[:-1], SHARED[0] + 1]
    assert difference_from_reference(task, two_the_same, betas, NUM_UPDATES) < EXACT
    assert isinstance(task.inputs, OwnInputs)
    for name, scores in task.final_metrics().items():
        torch.testing.assert_close(scores[:2], gram_scores[name][:2], rtol=0, atol=EXACT)
    assert difference_from_reference(task, SHARED, betas, NUM_UPDATES) < EXACT
    assert isinstance(task.inputs, GramInputs)


@pytest.mark.parametrize("init", ["zero", "near-zero", "kaiming"])
@pytest.mark.parametrize("hidden_sizes", [(16,), (16, 9, 12)])
@pytest.mark.parametrize("seeds", [SHARED, OWN], ids=["shared", "own"])
def test_equals_reference_from_every_start(
    seeds: list[int], hidden_sizes: tuple[int, ...], init: str
) -> None:
    task = make_task(hidden_sizes=hidden_sizes, init=init)
    assert difference_from_reference(task, seeds, random_betas(task), NUM_UPDATES) < EXACT


@pytest.mark.parametrize("hidden_sizes", [(16,), (16, 36, 16)])
@pytest.mark.parametrize("credit_groups", [4, (2, 2), (4, 2)])
def test_equals_reference_with_credit_groups(
    credit_groups: int | tuple[int, int], hidden_sizes: tuple[int, ...]
) -> None:
    if credit_groups == (4, 2):
        hidden_sizes = (16,)
    task = make_task(
        hidden_sizes=hidden_sizes,
        init="kaiming",
        credit="groups",
        credit_groups=credit_groups,
        diffusion_sigma=1.5,
    )
    assert difference_from_reference(task, SHARED, random_betas(task), NUM_UPDATES) < EXACT


@pytest.mark.parametrize("max_grad_norm", [0.3, None])
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
@pytest.mark.parametrize("seeds", [SHARED, OWN], ids=["shared", "own"])
@pytest.mark.parametrize("init", ["zero", "kaiming"])
def test_weight_decay_is_that_of_adamw(
    init: str, seeds: list[int], optimizer: str, max_grad_norm: float | None
) -> None:
    """On shared, own and Gram inputs; of plain SGD, PyTorch's own decay, which is the same."""
    settings = {"optimizer": optimizer, "max_grad_norm": max_grad_norm, "init": init}
    task = make_task(**settings, weight_decay=5.0)
    betas = random_betas(task)
    assert difference_from_reference(task, seeds, betas, NUM_UPDATES) < EXACT
    if seeds == SHARED and init == "zero":
        assert isinstance(task.inputs, SharedInputs if optimizer == "adam" else GramInputs)

    without = make_task(**settings)
    difference_from_reference(without, seeds, betas, NUM_UPDATES)
    for network in range(NUM_NETWORKS):
        pairs = zip(weights_of(task, network), weights_of(without, network), strict=True)
        for decayed, full in pairs:
            assert (decayed[:, -1] - full[:, -1]).abs().max() > 1e-4
            assert decayed.norm() < 0.9 * full.norm()


def test_equals_reference_in_float32() -> None:
    """Float32 takes other products than float64 on some processors."""
    dataset, settings = DATA["image_like"], TrainingSettings(NUM_SAMPLES, (16,), init="kaiming")
    single = ClassificationTask(dataset, settings, NUM_NETWORKS, CPU)
    double = ClassificationTask(dataset, settings, NUM_NETWORKS, CPU, dtype=torch.float64)
    credits = random_credits(single)
    for task in (single, double):
        task.start(np.array(SHARED), None, {})
        for _ in range(5):
            task.update(credits.to(task.observe().dtype), CREDIT_SCALE)
    for narrow, wide in zip(single.network.weights, double.network.weights, strict=True):
        torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=1e-5)


def test_a_network_that_restarts_lives_like_a_fresh_one() -> None:
    """On data of its own, among others that go on; and just as it would on shared data."""
    shared, own = make_task(init="kaiming"), make_task(init="kaiming")
    shared.start(np.array(SHARED), None, {})
    own.start(np.array(OWN), np.arange(NUM_NETWORKS), {})
    own.update(random_credits(own), CREDIT_SCALE)
    own.start(np.array(SHARED[1:]), np.array([1, 2]), {})

    credits = random_credits(shared)
    # Each task has an order of samples of its own.
    by_image = credits[:, np.argsort(shared.sample_indices[1])]
    order_in_own = np.argsort(np.argsort(own.sample_indices[1]))
    assert sorted(own.sample_indices[1]) == sorted(shared.sample_indices[1])
    shared.update(credits, CREDIT_SCALE)
    own.update(by_image[:, order_in_own], CREDIT_SCALE)
    for network in (1, 2):
        for one, other in zip(weights_of(shared, network), weights_of(own, network), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=EXACT)


def random_credits(task: ClassificationTask) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (NUM_NETWORKS, *task.action_space.shape)
    return 0.3 * torch.randn(shape, generator=generator, dtype=task.network.weights[0].dtype)


@pytest.mark.parametrize("hidden_sizes", [(16,), (16, 9, 12)])
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
@pytest.mark.parametrize("seeds", [SHARED, OWN], ids=["shared", "own"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_backprop_policy_is_backpropagation(
    label_smoothing: float, seeds: list[int], optimizer: str, hidden_sizes: tuple[int, ...]
) -> None:
    """Through the environment: weights, loss, accuracy and held-out scores of plain training.

    Smoothed labels are learned from, but the loss that is reported and paid stays the plain one.
    """
    task = make_task(
        optimizer=optimizer, init="kaiming", hidden_sizes=hidden_sizes, learning_rate=0.05
    )
    env = PlainEnv(task, num_updates=NUM_UPDATES, credit_scale=CREDIT_SCALE)
    spaces = env.single_observation_space, env.single_action_space
    policy = BackpropPolicy(*spaces, label_smoothing=label_smoothing)
    policy.attach(env)
    observation = env.reset_tensors(seeds)
    starts = [reference_life(task, network) for network in range(NUM_NETWORKS)]
    start_loss = env.loss
    total = torch.zeros_like(start_loss)
    for _ in range(NUM_UPDATES):
        observation, reward, terminated = env.step_tensors(policy.act(observation))
        total += reward
    assert terminated
    scores = task.final_metrics()
    for network, (reference, x, one_hot) in enumerate(starts):
        for _ in range(NUM_UPDATES):
            loss = torch.nn.functional.cross_entropy(
                reference.logits(x), one_hot.argmax(1), label_smoothing=label_smoothing
            )
            reference.optimizer.zero_grad()
            (-loss).backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters, 1.0)
            reference.optimizer.step()
        for ours, theirs in zip(weights_of(task, network), reference.weights(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=EXACT)

        loss, accuracy = score(reference.logits(x), one_hot.argmax(1))
        test_loss, test_accuracy = score(
            reference.logits(torch.tensor(standardise(task.dataset, task.dataset.x_test))),
            torch.tensor(task.dataset.y_test),
        )
        measured = {**task.metrics(), **scores}
        expected = {
            "loss": loss,
            "accuracy": accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
        }
        for name, value in expected.items():
            assert measured[name][network].item() == pytest.approx(value, abs=EXACT), name
        assert total[network].item() == pytest.approx(start_loss[network].item() - loss, abs=EXACT)
        probabilities = reference.logits(x).softmax(1).detach()
        torch.testing.assert_close(
            observation[network], torch.cat([probabilities, one_hot], 1), rtol=0, atol=EXACT
        )


def score(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    probabilities = logits.detach().exp() / logits.detach().exp().sum(1, keepdim=True)
    picked = probabilities[torch.arange(len(labels)), labels]
    return -picked.log().mean().item(), (logits.argmax(1) == labels).double().mean().item()


def test_validation_scores_use_the_images_outside_the_range() -> None:
    task = make_task(score_on="validation", init="kaiming")
    task.start(np.array(OWN), None, {})
    scores = task.final_metrics()
    for network in range(NUM_NETWORKS):
        reference, *_ = reference_life(task, network)
        x = torch.tensor(standardise(task.dataset, task.dataset.x_train[60:]))
        loss, accuracy = score(reference.logits(x), torch.tensor(task.dataset.y_train[60:]))
        assert scores["validation_loss"][network].item() == pytest.approx(loss, abs=EXACT)
        assert scores["validation_accuracy"][network].item() == pytest.approx(accuracy)
    assert task.sample_indices.max() < 60


def samples_by_name() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    constant = normal(6, 1).expand(6, 9).contiguous()
    stairs = normal(6, 1).expand(6, 9).clone()
    for feature in range(6):
        stairs[feature, 8 - feature :] += normal(feature + 1)
    touched = normal(6, 1).expand(6, 9).clone()
    touched[torch.arange(9) % 6, torch.arange(9)] += 1.0
    return {
        "all constant": constant,
        "all dense": normal(6, 9),
        "one sample": normal(6, 1),
        "one feature": normal(1, 9),
        "one constant feature": torch.full((1, 9), 0.7, dtype=torch.float64),
        "one of each": torch.full((1, 1), 0.7, dtype=torch.float64),
        "every sample touched": touched,
        "stairs": stairs,
        "zeros": torch.zeros(6, 9, dtype=torch.float64),
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", list(samples_by_name()))
def test_shared_inputs_equal_the_dense_product(name: str, dtype: torch.dtype) -> None:
    samples = samples_by_name()[name].to(dtype)
    features, n = samples.shape
    inputs = SharedInputs(samples)
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(2, 5, features + 1, generator=generator, dtype=dtype)
    error = torch.randn(2, 5, n, generator=generator, dtype=dtype)
    ordered = torch.cat([samples[:, inputs.sample_order], samples.new_ones(1, n)])

    tolerance = EXACT if dtype == torch.float64 else 1e-4
    kept = inputs.kept(weight)
    assert torch.equal(inputs.natural(kept), weight)
    pre = inputs.forward(kept)
    torch.testing.assert_close(pre, weight @ ordered, rtol=0, atol=tolerance)
    assert torch.equal(inputs.natural(kept), weight)
    gradient = torch.full_like(weight, torch.nan)
    inputs.gradient(error, 0.3, gradient)
    expected = 0.3 * error @ ordered.T
    torch.testing.assert_close(inputs.natural(gradient), expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(inputs.norm(gradient), expected.flatten(1).norm(dim=1))
    assert sorted(inputs.sample_order.tolist()) == list(range(n))


def test_shared_inputs_skip_the_background() -> None:
    """The point of it: on images with a frame, far fewer products than the dense form."""
    x = torch.tensor(standardise(DATA["image_like"], DATA["image_like"].x_train)).T
    assert SharedInputs(x.contiguous()).fraction_multiplied < 0.5
    assert SharedInputs(torch.randn(30, 80)).fraction_multiplied == 1.0


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
@pytest.mark.parametrize("seeds", [SHARED, OWN], ids=["shared", "own"])
def test_held_out_loss_is_that_of_other_images(seeds: list[int], optimizer: str) -> None:
    """With loss_on="held-out": disjoint from the subset, within the range, scored by autograd."""
    task = make_task(
        num_samples=30, optimizer=optimizer, loss_on="held-out", num_held_out=20, init="zero"
    )
    betas = random_betas(task)
    difference_from_reference(task, seeds, betas, 5)
    dataset = task.dataset
    for network in range(NUM_NETWORKS):
        held_out = task.draw_life(seeds[network]).held_out
        assert len(set(held_out) | set(task.sample_indices[network])) == 50
        assert held_out.max() < 60
        hidden = torch.tensor(standardise(dataset, dataset.x_train[held_out]))
        first, last = weights_of(task, network)
        post = torch.tanh(torch.nn.functional.linear(hidden, first[:, :-1], first[:, -1]))
        outputs = torch.nn.functional.linear(post, last[:, :-1], last[:, -1])
        labels = torch.tensor(dataset.y_train[held_out])
        expected = torch.nn.functional.cross_entropy(outputs, labels)
        torch.testing.assert_close(task.loss()[network], expected, rtol=0, atol=EXACT)
    assert not torch.equal(task.loss(), task.training_loss())


def test_held_out_images_need_room() -> None:
    with pytest.raises(ValueError, match="ask for at most 20"):
        make_task(num_samples=30, loss_on="held-out", num_held_out=40)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint32])
def test_features_far_from_zero_keep_their_digits(dtype):
    rng = np.random.default_rng(0)
    x, labels = (1000 + 100 * rng.standard_normal((60, 4))).astype(dtype), np.arange(60) % 3
    standardised = []
    for offset in (0, 10**8):
        moved = x + dtype(offset)
        data = from_arrays((moved[:40], labels[:40], moved[40:], labels[40:]))
        task = ClassificationTask(data, TrainingSettings(num_samples=20), 1, CPU)
        standardised.append(task.standardise(data.x_test))
    torch.testing.assert_close(*standardised, rtol=0.0, atol=1e-6)
