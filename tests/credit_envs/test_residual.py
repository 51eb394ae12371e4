"""The batched residual network equals one network at a time by autograd."""

import pytest
import torch
from torch import Tensor

from benchmarks.common.reference_inner_loop import CreditRule, ReferenceNetwork
from credit_envs.networks import (
    GramInputs,
    Inputs,
    OptimizerName,
    OwnInputs,
    SharedInputs,
    forward_weights,
    make_optimizer,
)
from credit_envs.networks.residual import ResidualBatch
from tests.credit_envs.made_up import fill_like_kaiming, random

CPU = torch.device("cpu")
EXACT = 1e-10
NUM_NETWORKS, NUM_SAMPLES, NUM_UPDATES = 3, 12, 6
FEATURES, WIDTH, BLOCKS, CLASSES = 14, 6, 2, 3
CREDIT_SIZES = (WIDTH, WIDTH, WIDTH, CLASSES)
SCALE = 3.0


class ReferenceResidual(ReferenceNetwork):
    """As in the docstring of `ResidualBatch`, with `h.detach()` where credits cut it."""

    def _tanh_layer(self, index: int, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, *self.layers[index]).tanh()

    def _blocks(self, x: Tensor, cut: bool) -> list[Tensor]:
        outputs = [self._tanh_layer(0, x)]
        for layer in range(1, len(self.layers) - 1, 2):
            h = outputs[-1].detach() if cut else outputs[-1]
            outputs.append(h + self._tanh_layer(layer + 1, self._tanh_layer(layer, h)))
        return outputs

    def logits(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(self._blocks(x, cut=False)[-1], *self.layers[-1])

    def local_activities(self, x: Tensor) -> list[Tensor]:
        outputs = self._blocks(x, cut=True)
        logits = torch.nn.functional.linear(outputs[-1].detach(), *self.layers[-1])
        return [*outputs, logits.softmax(1)]


def feedback(network: int) -> Tensor:
    return random(100 + network, 2 * CLASSES, sum(CREDIT_SIZES))


def reference_rule(network: int) -> CreditRule:
    def rule(observation: Tensor, _: list[Tensor]) -> list[Tensor]:
        credits = SCALE * (observation @ feedback(network)).tanh()
        return list(credits.split(CREDIT_SIZES, dim=1))

    return rule


def make_inputs(samples: Tensor, gram: bool = False) -> Inputs:
    """Inputs from samples `(1 or P, features, N)`, the same for all networks or each its own."""
    if len(samples) == 1:
        return GramInputs(samples[0]) if gram else SharedInputs(samples[0])
    own_inputs = OwnInputs(NUM_NETWORKS, FEATURES, NUM_SAMPLES, like=samples)
    for network, own in enumerate(samples):
        own_inputs.samples[network] = own
    return own_inputs


def natural_weights(network: ResidualBatch, inputs: Inputs) -> list[Tensor]:
    return [inputs.natural(network.weights[0]), *network.weights[1:]]


def make_network(init: str, inputs: Inputs) -> ResidualBatch:
    shape = inputs.kept_shape(WIDTH)
    network = ResidualBatch(
        NUM_NETWORKS, CLASSES, shape, CPU, torch.float64, width=WIDTH, blocks=BLOCKS
    )
    if init == "kaiming":
        fill_like_kaiming(network.weights)
    return network


def references(
    network: ResidualBatch, inputs: Inputs, optimizer: str, max_grad_norm: float | None
) -> list[ReferenceResidual]:
    weights = natural_weights(network, inputs)
    return [
        ReferenceResidual([w[index] for w in weights], optimizer, 0.05, max_grad_norm)
        for index in range(NUM_NETWORKS)
    ]


def assert_same_weights(
    network: ResidualBatch, inputs: Inputs, expected: list[ReferenceResidual]
) -> None:
    for index, reference in enumerate(expected):
        pairs = zip(natural_weights(network, inputs), reference.weights(), strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours[index], theirs, rtol=0, atol=EXACT)


def make_life(lives: int) -> tuple[Tensor, Tensor]:
    """Samples `(lives, features, N)` and one-hot labels `(classes, N)`."""
    labels = torch.arange(NUM_SAMPLES) % CLASSES
    return random(9, lives, FEATURES, NUM_SAMPLES), torch.eye(CLASSES, dtype=torch.float64)[
        labels
    ].T


def in_order(inputs: Inputs, columns: Tensor) -> Tensor:
    """Columns in the order in which shared inputs hold the samples."""
    return columns[..., inputs.sample_order] if isinstance(inputs, SharedInputs) else columns


@pytest.mark.parametrize("max_grad_norm", [0.3, None])
@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
@pytest.mark.parametrize("init", ["zero", "kaiming"])
@pytest.mark.parametrize("lives", [1, NUM_NETWORKS], ids=["shared", "own"])
def test_equals_reference(
    lives: int, init: str, optimizer: OptimizerName, max_grad_norm: float | None
) -> None:
    samples, one_hot = make_life(lives)
    gram = init == "zero" and optimizer != "adam"
    inputs = make_inputs(samples, gram)
    network = make_network(init, inputs)
    inner = make_optimizer(optimizer, network.weights, 0.05, max_grad_norm)
    expected = references(network, inputs, optimizer, max_grad_norm)
    samples, one_hot = in_order(inputs, samples), in_order(inputs, one_hot)
    network.forward(inputs)
    labels = one_hot.expand(NUM_NETWORKS, -1, -1)
    all_feedback = torch.stack([feedback(index) for index in range(NUM_NETWORKS)])
    for _ in range(NUM_UPDATES):
        observation = torch.cat([network.probabilities, labels], dim=1)
        credits = (all_feedback.transpose(1, 2) @ observation).tanh()
        split = credits.split(network.credit_sizes, dim=1)
        inner.step(network.local_gradients(inputs, split, SCALE), inputs.norm)
        log_probabilities = network.forward(inputs)
    for index, reference in enumerate(expected):
        x = samples[index % lives].T
        for _ in range(NUM_UPDATES):
            reference.update(x, one_hot.T, reference_rule(index))
        answers = reference.logits(x).log_softmax(1).detach()
        torch.testing.assert_close(log_probabilities[index].T, answers, rtol=0, atol=EXACT)
    assert_same_weights(network, inputs, expected)


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
@pytest.mark.parametrize("lives", [1, NUM_NETWORKS], ids=["shared", "own"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_backprop_credits_are_backpropagation(
    smoothing: float, lives: int, optimizer: OptimizerName
) -> None:
    """One credit per block output is all that backpropagation needs."""
    samples, one_hot = make_life(lives)
    one_hot = (1 - smoothing) * one_hot + smoothing / len(one_hot)
    inputs = make_inputs(samples)
    network = make_network("kaiming", inputs)
    inner = make_optimizer(optimizer, network.weights, 0.05, 1.0)
    expected = references(network, inputs, optimizer, 1.0)
    samples, one_hot = in_order(inputs, samples), in_order(inputs, one_hot)
    for _ in range(NUM_UPDATES):
        network.forward(inputs)
        error = one_hot - network.probabilities
        credits = network.feedback_credits(error, forward_weights(network.weights))
        credits.append(one_hot / network.probabilities)
        assert tuple(credit.shape[1] for credit in credits) == network.credit_sizes
        inner.step(network.local_gradients(inputs, credits, 1.0), inputs.norm)
    for index, reference in enumerate(expected):
        for _ in range(NUM_UPDATES):
            logits = reference.logits(samples[index % lives].T)
            reference.optimizer.zero_grad()
            (-torch.nn.functional.cross_entropy(logits, one_hot.T)).backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters, 1.0)
            reference.optimizer.step()
    assert_same_weights(network, inputs, expected)


@pytest.mark.parametrize("lives", [1, NUM_NETWORKS], ids=["shared", "own"])
def test_predicts_other_samples(lives: int) -> None:
    inputs = make_inputs(make_life(lives)[0])
    network = make_network("kaiming", inputs)
    network.forward(inputs)
    others = random(11, lives, FEATURES, 7)
    predicted = network.predict(inputs, others)
    if lives == 1:
        torch.testing.assert_close(network.predict(inputs, others[0]), predicted)
    for index, reference in enumerate(references(network, inputs, "sgd", None)):
        answers = reference.logits(others[index % lives].T).log_softmax(1).detach()
        torch.testing.assert_close(predicted[index].T, answers, rtol=0, atol=EXACT)


def test_blocks_at_zero_move_their_last_bias_only() -> None:
    samples, _ = make_life(1)
    inputs = make_inputs(samples)
    network = make_network("zero", inputs)
    inner = make_optimizer("adam", network.weights, 0.05, None)
    credits = [random(i, NUM_NETWORKS, units, NUM_SAMPLES) for i, units in enumerate(CREDIT_SIZES)]
    for _ in range(NUM_UPDATES):
        network.forward(inputs)
        inner.step(network.local_gradients(inputs, credits, SCALE))
    first, *blocks, output = network.weights
    assert (first != 0).any()
    assert (output != 0).any()
    for inner_weight, outer_weight in zip(blocks[::2], blocks[1::2], strict=True):
        assert not inner_weight.any()
        assert not outer_weight[:, :, :-1].any()
        assert outer_weight[:, :, -1].all()


def test_sizes() -> None:
    network = ResidualBatch(1, 10, (100, 785), CPU)
    assert network.credit_sizes == (100, 100, 100, 10)
    shapes = [tuple(weight.shape[1:]) for weight in network.weights]
    assert shapes == [(100, 785), *[(100, 101)] * 4, (10, 101)]
