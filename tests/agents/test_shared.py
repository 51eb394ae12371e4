"""The top-down network that all neurons share: its start, its symmetries, and what it refuses."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from agents import DFAPolicy, NetworkState, SharedTDCAPolicy
from credit_envs.networks import MLPBatch

CLASSES, UNITS, SAMPLES = 4, (6, 5), 7


def spaces(classes: int = CLASSES, units: tuple[int, ...] = UNITS) -> tuple[Box, Box]:
    rows = (SAMPLES, 2 * classes), (SAMPLES, sum(units) + classes)
    return Box(0, 1, rows[0]), Box(-1, 1, rows[1])


def situation(batch: int = 1, classes: int = CLASSES) -> tuple[torch.Tensor, NetworkState]:
    """Outputs and labels, and networks that gave them."""
    generator = torch.Generator().manual_seed(2)
    outputs = torch.randn(batch, SAMPLES, classes, generator=generator).softmax(2)
    labels = torch.eye(classes)[torch.arange(SAMPLES) % classes].expand(batch, -1, -1)
    hidden = [torch.randn(batch, units, SAMPLES, generator=generator).tanh() for units in UNITS]
    sizes = zip((*UNITS[1:], classes), UNITS, strict=True)
    above = [torch.randn(batch, *size, generator=generator) for size in sizes]
    return torch.cat([outputs, labels], 2), NetworkState(hidden, above, torch.tensor(0.25), 20)


def grown(policy: SharedTDCAPolicy, count: int = 1) -> torch.Tensor:
    """Parameters `(count, d)` with which every term counts."""
    generator = torch.Generator().manual_seed(1)
    return 0.5 * torch.randn(count, len(policy.beta), generator=generator)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 1.0), (0.25, 0.5)])
def test_starts_as_direct_feedback_alignment_of_ten_squared_errors(progress, share):
    """While the weights are zero, with which nothing is fed back through them."""
    policy, rule = SharedTDCAPolicy(*spaces(), seed=5), DFAPolicy(*spaces(), seed=5)
    observation, state = situation()
    above = [torch.zeros_like(weights) for weights in state.above]
    state = replace(state, above=above, progress=torch.tensor(progress))
    actions = policy.act_on(observation, None, state)
    hidden = sum(UNITS)
    fixed = share * rule.act(observation)[..., :hidden]
    torch.testing.assert_close(actions[..., :hidden], 10 * fixed)
    outputs, labels = observation.chunk(2, dim=2)
    torch.testing.assert_close(10 * actions[..., hidden:], 10 * (labels - outputs))


def test_goes_on_as_backpropagation_of_twenty_cross_entropies_to_hidden_layers():
    """By autograd, in the second half of a life."""
    generator = torch.Generator().manual_seed(3)
    first = torch.randn(1, UNITS[0], SAMPLES, generator=generator).tanh().requires_grad_()
    above = [
        torch.randn(1, UNITS[1], UNITS[0], generator=generator),
        torch.randn(1, CLASSES, UNITS[1], generator=generator),
    ]
    second = torch.tanh(above[0] @ first)
    second.retain_grad()
    logits = (above[1] @ second).transpose(1, 2)
    classes = torch.arange(SAMPLES) % CLASSES
    torch.nn.functional.cross_entropy(logits[0], classes, reduction="sum").backward()
    observation = torch.cat([logits.softmax(2), torch.eye(CLASSES)[classes][None]], 2).detach()
    hidden = [first.detach(), second.detach()]
    state = NetworkState(hidden, above, torch.tensor(0.5), 20)
    credits = 10 * SharedTDCAPolicy(*spaces()).act_on(observation, None, state)
    expected = torch.cat([first.grad, second.grad], 1).transpose(1, 2)
    torch.testing.assert_close(credits[..., : sum(UNITS)], -20 * expected)


@pytest.mark.parametrize(("samples", "num_updates"), [(SAMPLES, 20), (2100, 60)])
def test_credits_are_the_terms_of_the_page_weighed_by_the_context(samples, num_updates):
    """Written out neuron by neuron, with the scale of each term that the zoo's networks know."""
    generator = torch.Generator().manual_seed(2)
    outputs = torch.randn(1, samples, CLASSES, generator=generator).softmax(2)
    labels = torch.eye(CLASSES)[torch.arange(samples) % CLASSES][None]
    hidden = [torch.randn(1, units, samples, generator=generator).tanh() for units in UNITS]
    above = situation()[1].above
    policy = SharedTDCAPolicy(*spaces(), seed=5)
    beta = grown(policy)
    state = NetworkState(hidden, above, torch.tensor(0.25), num_updates)
    action = policy.act_on(torch.cat([outputs, labels], 2), beta, state)[0].double().numpy()

    first, bias, second, start = (part[0].double().numpy() for part in policy.network.unpack(beta))
    ((feedback, groups),) = policy._matrices.values()
    p, y = outputs[0].double().numpy(), labels[0].numpy()
    right = (p * y).sum(1, keepdims=True)
    loss = -np.log(right).mean() / np.log(CLASSES)
    expected = []
    for layer in reversed(range(len(UNITS))):
        activity = hidden[layer][0].double().numpy()
        context = [
            2 * 0.25 - 1,
            np.log(min(num_updates, 40) / 20),
            np.log(min(samples, 2000) / 1000) / 2,
            2 * min(loss, 2) - 1,
            2 * (activity**2).mean() - 1,
        ]
        seen = np.tanh(first @ context + bias) / len(bias) ** 0.5
        w, x, v = np.split(second @ seen + start, [6, 10])
        jacobian = p * (y - p - (p * (y - p)).sum(1, keepdims=True))
        e = (1 + x[0]) * (y - p) + 3 * x[1] * jacobian
        e = e + 0.3 * x[2] * (y - 1 / CLASSES) + x[3] * (y - p) * right
        if not expected:
            error, output_weights = e.T, w
        reciprocal = above[layer][0].double().numpy().T @ error
        error = reciprocal * (1 - activity**2)
        own_credits = []
        for j in range(UNITS[layer]):
            column, half = (m[layer][:, j].numpy() for m in (feedback, groups))
            # At a quarter of the life, half of the fixed feedback is left.
            u = (1 + v[0]) * 0.5 * (e @ column) + 2 * (1 + v[10]) * reciprocal[j]
            own, given, a = y @ half, p @ half, activity[j]
            terms = [u * a**2, u / (1.05 - a**2), 0.1 * a, 0.1 * a**3, 0.1 * (a - a.mean())]
            terms += [u * own, u * given, u * own * given, u * given**2]
            own_credits.append(10 * np.exp(v[11]) * (u + v[1:10] @ terms))
        expected = own_credits + expected
    w = output_weights
    for k in range(CLASSES):
        q, t = p[:, k], y[:, k]
        terms = [t - q, 0.3 * t / q, 0.3 * t / q**0.5, -0.1 * np.log(q), 0.1 / (CLASSES * q)]
        expected.append(10 * np.exp(w[5]) * (t - q + w[:5] @ terms))
    np.testing.assert_allclose(10 * action, np.stack(expected, 1), rtol=2e-3, atol=2e-3)


def test_permuting_samples_permutes_credits():
    policy = SharedTDCAPolicy(*spaces())
    beta, (observation, state) = grown(policy), situation()
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(0))
    permuted = replace(state, hidden=[a[:, :, order] for a in state.hidden])
    expected = policy.act_on(observation, beta, state)[:, order]
    assert not torch.allclose(expected, policy.act_on(observation, beta, state))
    torch.testing.assert_close(policy.act_on(observation[:, order], beta, permuted), expected)


def test_permuting_classes_and_neurons_with_their_random_numbers_permutes_credits():
    policy = SharedTDCAPolicy(*spaces())
    beta, (observation, state) = grown(policy), situation()
    before = policy.act_on(observation, beta, state)
    classes = torch.tensor([2, 0, 3, 1])
    neurons = [torch.tensor([5, 3, 1, 0, 2, 4]), torch.tensor([1, 0, 4, 3, 2])]
    ((key, matrices),) = policy._matrices.items()
    policy._matrices[key] = tuple(
        [matrix[classes][:, order] for matrix, order in zip(kind, neurons, strict=True)]
        for kind in matrices
    )
    hidden = [a[:, order] for a, order in zip(state.hidden, neurons, strict=True)]
    above = [
        weights[:, rows][:, :, columns]
        for weights, rows, columns in zip(state.above, [neurons[1], classes], neurons, strict=True)
    ]
    permuted = observation[:, :, torch.cat([classes, CLASSES + classes])]
    after = policy.act_on(permuted, beta, replace(state, hidden=hidden, above=above))
    place = torch.cat([neurons[0], UNITS[0] + neurons[1], sum(UNITS) + classes])
    assert not torch.allclose(after, before, atol=1e-3)
    torch.testing.assert_close(after, before[:, :, place])


def test_candidates_act_on_their_own_networks():
    policy = SharedTDCAPolicy(*spaces())
    beta, (observation, state) = grown(policy, 2), situation(batch=4)
    together = policy.act_on(observation, beta, state)
    for network in range(4):
        here = slice(network, network + 1)
        hidden, above = ([a[here] for a in kind] for kind in (state.hidden, state.above))
        own = replace(state, hidden=hidden, above=above)
        alone = policy.act_on(observation[network : network + 1], beta[network // 2 :][:1], own)
        torch.testing.assert_close(together[network : network + 1], alone)


def test_gradients_stay_finite_where_outputs_vanish():
    policy = SharedTDCAPolicy(*spaces())
    beta, (_, state) = grown(policy).requires_grad_(), situation()
    outputs = torch.tensor([1.0, 0.0, 0.0, 1e-30]).expand(1, SAMPLES, -1).clone().requires_grad_()
    labels = torch.eye(CLASSES)[torch.arange(SAMPLES) % CLASSES][None]
    action = policy.act_on(torch.cat([outputs, labels], 2), beta, state)
    local = outputs * (action[..., -CLASSES:] * 0.1)
    gradients = torch.autograd.grad(local.sum() + action[..., :-CLASSES].sum(), (beta, outputs))
    assert all(gradient.isfinite().all() for gradient in gradients)


@torch.no_grad()
def test_serves_networks_of_any_size():
    env = gymnasium.make_vec(
        "CreditAssign-Digits-v0", num_envs=2, num_samples=50, num_updates=3, hidden_sizes=(9, 8)
    )
    policy = SharedTDCAPolicy(*spaces())
    policy.attach(env)
    observation = env.reset_tensors([3, 4])
    losses = [env.loss]
    for _ in range(env.num_updates):
        observation = env.step_tensors(policy.act(observation)).observation
        losses.append(env.loss)
    assert (losses[-1] < losses[0]).all()


def test_sees_progress_activities_and_weights_of_the_environment():
    env = gymnasium.make_vec("CreditAssign-Digits-v0", num_envs=1, num_samples=20, num_updates=4)
    env.reset(seed=[1])
    assert isinstance(env.task.network, MLPBatch)
    actions = np.full(env.action_space.shape, 0.1, dtype=np.float32)
    observation, *_ = env.step(actions)
    state = NetworkState.of(env)
    assert state.progress.tolist() == [0.25]
    assert state.num_updates == 4
    images = env.task.standardise(env.task.dataset.x_train[env.task.sample_indices[0]])
    first = env.task.inputs.natural(env.task.network.weights[0])[0].double()
    expected = torch.tanh(first[:, :-1] @ images.double() + first[:, -1:])
    torch.testing.assert_close(state.hidden[0][0].double(), expected, rtol=1e-4, atol=1e-5)
    (above,) = state.above
    logits = above[0] @ state.hidden[0][0] + env.task.network.weights[1][0, :, -1:]
    outputs = torch.from_numpy(observation[0, :, :10])
    torch.testing.assert_close(logits.T.softmax(1), outputs)


def test_act_before_attach_names_the_fix():
    policy = SharedTDCAPolicy(*spaces())
    with pytest.raises(RuntimeError, match=r"call attach\(env\) first"):
        policy.act(situation()[0])


def test_act_on_other_networks_names_the_fix():
    env = gymnasium.make_vec("CreditAssign-Digits-v0", num_envs=2, num_samples=SAMPLES)
    policy = SharedTDCAPolicy(*spaces())
    policy.attach(env)
    with pytest.raises(ValueError, match=r"1 observations for the 2 networks .* call attach"):
        policy.act(situation()[0])


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("CreditAssign-Digits-v0", {"credit": "groups", "credit_groups": 8}),
        ("CreditAssign-Digits-v0", {"architecture": "residual", "hidden_sizes": (8, 8)}),
        ("CreditAssign-Gaussian-v0", {}),
    ],
)
def test_refuses_other_networks(env_id, kwargs):
    env = gymnasium.make_vec(env_id, num_envs=1, **kwargs)
    with pytest.raises(ValueError, match='architecture="mlp" and credit="neurons"'):
        SharedTDCAPolicy(*spaces()).attach(env)


def test_refuses_other_spaces():
    with pytest.raises(ValueError, match="row per sample"):
        SharedTDCAPolicy(Box(0, 1, (4,)), Box(-1, 1, (4,)))
