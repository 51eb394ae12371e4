"""The batched convolutional network equals one network at a time by autograd."""

import pytest
import torch
from torch import Tensor

from benchmarks.common.reference_inner_loop import CreditRule, ReferenceNetwork
from credit_envs.networks import Inputs, OptimizerName, OwnInputs, forward_weights, make_optimizer
from credit_envs.networks.cnn import CNNBatch, SharedPatches, image_patches
from tests.credit_envs.made_up import fill_like_kaiming, random

CPU = torch.device("cpu")
EXACT = 1e-10
NUM_NETWORKS, NUM_SAMPLES, NUM_UPDATES = 3, 12, 6
SHAPE, FILTERS, HIDDEN, CLASSES = (2, 9, 8), 4, (6, 5), 3
POSITIONS = 3 * 2
CREDIT_SIZES = (FILTERS, *HIDDEN, CLASSES)
SCALE = 3.0


class ReferenceCNN(ReferenceNetwork):
    """A convolution by `torch.nn.functional.conv2d` below a perceptron; x is `(n, C, H, W)`."""

    def _convolve(self, x: Tensor) -> Tensor:
        weight, bias = self.layers[0]
        kernels = weight.view(-1, SHAPE[0], 5, 5)
        return torch.nn.functional.conv2d(x, kernels, bias, stride=2).tanh()

    def logits(self, x: Tensor) -> Tensor:
        x = self._convolve(x).flatten(1)
        for weight, bias in self.layers[1:-1]:
            x = torch.nn.functional.linear(x, weight, bias).tanh()
        return torch.nn.functional.linear(x, *self.layers[-1])

    def local_activities(self, x: Tensor) -> list[Tensor]:
        activities = [self._convolve(x)]
        for layer in self.layers[1:]:
            below = activities[-1].detach().flatten(1)
            activities.append(torch.nn.functional.linear(below, *layer))
            last = len(activities) == len(self.layers)
            activities[-1] = activities[-1].softmax(1) if last else activities[-1].tanh()
        return activities


def feedback(network: int) -> Tensor:
    return random(100 + network, 2 * CLASSES, sum(CREDIT_SIZES))


def reference_rule(network: int) -> CreditRule:
    def rule(observation: Tensor, activities: list[Tensor]) -> list[Tensor]:
        credits = SCALE * (observation @ feedback(network)).tanh()
        by_filter, *others = credits.split(CREDIT_SIZES, dim=1)
        return [by_filter[:, :, None, None].expand_as(activities[0]), *others]

    return rule


def make_network(init: str, hidden_sizes: tuple[int, ...] = HIDDEN) -> CNNBatch:
    network = CNNBatch(
        NUM_NETWORKS,
        SHAPE,
        CLASSES,
        CPU,
        torch.float64,
        filters=FILTERS,
        hidden_sizes=hidden_sizes,
    )
    if init == "kaiming":
        fill_like_kaiming(network.weights)
    return network


def make_inputs(images: Tensor) -> Inputs:
    """Inputs from images `(1 or P, N, C, H, W)`, the same for all networks or each its own."""
    columns = [image_patches(own.flatten(1).T.contiguous(), SHAPE) for own in images]
    if len(columns) == 1:
        return SharedPatches(columns[0])
    own_inputs = OwnInputs(NUM_NETWORKS, *columns[0].shape, like=images)
    for network, patches in enumerate(columns):
        own_inputs.samples[network] = patches
    return own_inputs


def one_hot_labels() -> Tensor:
    return torch.eye(CLASSES, dtype=torch.float64)[torch.arange(NUM_SAMPLES) % CLASSES]


def references(
    network: CNNBatch, optimizer: str, max_grad_norm: float | None
) -> list[ReferenceCNN]:
    return [
        ReferenceCNN([w[index] for w in network.weights], optimizer, 0.05, max_grad_norm)
        for index in range(NUM_NETWORKS)
    ]


def assert_same_weights(network: CNNBatch, expected: list[ReferenceCNN]) -> None:
    for index, reference in enumerate(expected):
        for ours, theirs in zip(network.weights, reference.weights(), strict=True):
            torch.testing.assert_close(ours[index], theirs, rtol=0, atol=EXACT)


@pytest.mark.parametrize("max_grad_norm", [0.3, None])
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
@pytest.mark.parametrize("init", ["zero", "kaiming"])
@pytest.mark.parametrize("lives", [1, NUM_NETWORKS], ids=["shared", "own"])
def test_equals_reference(
    lives: int, init: str, optimizer: OptimizerName, max_grad_norm: float | None
) -> None:
    network, images, one_hot = (
        make_network(init),
        random(9, lives, NUM_SAMPLES, *SHAPE),
        one_hot_labels(),
    )
    inner = make_optimizer(optimizer, network.weights, 0.05, max_grad_norm)
    expected = references(network, optimizer, max_grad_norm)
    inputs = make_inputs(images)
    network.forward(inputs)
    labels = one_hot.T.expand(NUM_NETWORKS, -1, -1)
    all_feedback = torch.stack([feedback(index) for index in range(NUM_NETWORKS)])
    for _ in range(NUM_UPDATES):
        observation = torch.cat([network.probabilities, labels], dim=1)
        credits = (all_feedback.transpose(1, 2) @ observation).tanh()
        split = credits.split(network.credit_sizes, dim=1)
        inner.step(network.local_gradients(inputs, split, SCALE))
        log_probabilities = network.forward(inputs)
    for index, reference in enumerate(expected):
        x = images[index % lives]
        for _ in range(NUM_UPDATES):
            reference.update(x, one_hot, reference_rule(index))
        answers = reference.logits(x).log_softmax(1).detach()
        torch.testing.assert_close(log_probabilities[index].T, answers, rtol=0, atol=EXACT)
    assert_same_weights(network, expected)
    assert all((w != 0).any() for w in network.weights)


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
@pytest.mark.parametrize("hidden_sizes", [HIDDEN, ()])
@pytest.mark.parametrize("lives", [1, NUM_NETWORKS], ids=["shared", "own"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_backprop_credits_are_backpropagation(
    smoothing: float, lives: int, hidden_sizes: tuple[int, ...], optimizer: OptimizerName
) -> None:
    network = make_network("kaiming", hidden_sizes)
    images, one_hot = random(9, lives, NUM_SAMPLES, *SHAPE), one_hot_labels()
    one_hot = (1 - smoothing) * one_hot + smoothing / one_hot.shape[1]
    inner = make_optimizer(optimizer, network.weights, 0.05, 1.0)
    expected = references(network, optimizer, 1.0)
    inputs = make_inputs(images)
    for _ in range(NUM_UPDATES):
        network.forward(inputs)
        error = one_hot.T - network.probabilities
        credits = network.feedback_credits(error, forward_weights(network.weights))
        credits.append(one_hot.T / network.probabilities)
        assert credits[0].shape == (NUM_NETWORKS, FILTERS * POSITIONS, NUM_SAMPLES)
        inner.step(network.local_gradients(inputs, credits, 1.0))
    for index, reference in enumerate(expected):
        for _ in range(NUM_UPDATES):
            logits = reference.logits(images[index % lives])
            reference.optimizer.zero_grad()
            (-torch.nn.functional.cross_entropy(logits, one_hot)).backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters, 1.0)
            reference.optimizer.step()
    assert_same_weights(network, expected)


@pytest.mark.parametrize("lives", [1, NUM_NETWORKS], ids=["shared", "own"])
def test_predicts_other_images(lives: int) -> None:
    network = make_network("kaiming")
    inputs = make_inputs(random(9, lives, NUM_SAMPLES, *SHAPE))
    network.forward(inputs)
    others = random(11, lives, 7, *SHAPE)
    columns = torch.stack([image_patches(own.flatten(1).T.contiguous(), SHAPE) for own in others])
    predicted = network.predict(inputs, columns)
    if lives == 1:
        torch.testing.assert_close(network.predict(inputs, columns[0]), predicted)
    for index, reference in enumerate(references(network, "sgd", None)):
        answers = reference.logits(others[index % lives]).log_softmax(1).detach()
        torch.testing.assert_close(predicted[index].T, answers, rtol=0, atol=EXACT)


def test_another_number_of_images() -> None:
    """Buffers follow the data."""
    network = make_network("kaiming")
    for count in (NUM_SAMPLES, 5):
        images = random(count, 1, count, *SHAPE)
        answers = network.forward(make_inputs(images))
        reference = references(network, "sgd", None)[0]
        expected = reference.logits(images[0]).log_softmax(1).detach()
        torch.testing.assert_close(answers[0].T, expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("shape", [SHAPE, (1, 5, 5), (3, 28, 28), (1, 6, 12)])
def test_patches_are_those_of_unfold(shape: tuple[int, int, int]) -> None:
    images = random(0, 4, *shape)
    patches = image_patches(images.flatten(1).T.contiguous(), shape)
    expected = torch.nn.functional.unfold(images, 5, stride=2).permute(1, 2, 0).flatten(1)
    assert torch.equal(patches, expected)


def test_float32_agrees_with_float64() -> None:
    """Float32 takes other products than float64 on some processors."""
    images = random(9, 1, NUM_SAMPLES, *SHAPE)
    double = make_network("kaiming")
    single = CNNBatch(NUM_NETWORKS, SHAPE, CLASSES, CPU, filters=FILTERS, hidden_sizes=HIDDEN)
    for narrow, wide in zip(single.weights, double.weights, strict=True):
        narrow.copy_(wide)
    credits = [random(units, NUM_NETWORKS, units, NUM_SAMPLES) for units in double.credit_sizes]
    results = []
    for network in (single, double):
        dtype = network.weights[0].dtype
        inputs = make_inputs(images.to(dtype))
        network.forward(inputs)
        gradients = network.local_gradients(inputs, [c.to(dtype) for c in credits], 1.0)
        results.append([gradient.double() for gradient in gradients])
    for narrow, wide in zip(*results, strict=True):
        torch.testing.assert_close(narrow, wide, rtol=0, atol=1e-5)


def test_sizes_of_the_paper() -> None:
    network = CNNBatch(1, (1, 28, 28), 10, CPU)
    assert network.credit_sizes == (16, 100, 100, 10)
    assert network.positions == 12 * 12
    shapes = [tuple(weight.shape[1:]) for weight in network.weights]
    assert shapes == [(16, 26), (100, 2305), (100, 101), (10, 101)]


def test_refuses_small_images() -> None:
    with pytest.raises(ValueError, match="4 × 28 pixels are too small for a convolution of 5 × 5"):
        CNNBatch(1, (1, 4, 28), 10, CPU)
