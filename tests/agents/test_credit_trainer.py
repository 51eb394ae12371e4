"""Networks of one's own, against the environments and autograd."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from agents import BackpropPolicy, CreditTrainer, DFAPolicy, NetworkState, TDCAPolicy, TDCARNNPolicy
from agents.credit_trainer import _ERRORS
from meta import load
from meta.baselines import image_env
from tests.conftest import made_up_images

IMAGES = "CreditAssign-Images-v0"
L, T, C = nn.Linear, nn.Tanh, nn.Conv2d
DATA = made_up_images((2, 9, 8), classes=3, train=60, test=20)


def policy_for(credits: int, classes: int = 3, kind: type = TDCAPolicy, **kwargs: Any) -> Any:
    torch.manual_seed(1)
    spaces = Box(0, 1, (4, 2 * classes)), Box(-1, 1, (4, credits))
    return kind(*spaces, **kwargs)


def with_tied_weights() -> nn.Sequential:
    one, other = L(4, 4), L(4, 4)
    other.weight = one.weight
    return nn.Sequential(one, T(), other, T(), L(4, 3))


# ---------------------------------------------------------------------- equality


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("adam", lambda p: torch.optim.Adam(p, lr=0.01)),
        ("momentum", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9)),
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.01)),
    ],
)
@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_it_reaches_what_the_environment_reaches(architecture: str, name: str, make: Any) -> None:
    """Every update of a life, from the same weights, images and credits."""
    sizes = (6, 5)
    kwargs = {"data": DATA, "num_samples": 20, "num_updates": 4, "init": "kaiming"}
    kwargs |= {"hidden_sizes": sizes, "architecture": architecture, "optimizer": name}
    env, task = image_env(IMAGES, kwargs)
    policy = TDCAPolicy(env.single_observation_space, env.single_action_space, output_scale=1.0)
    policy.initialise(torch.Generator().manual_seed(0))
    observation = env.reset_tensors([3])

    images, labels = samples(task)
    classes = task.num_classes
    if architecture == "mlp":
        model = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 6), nn.Tanh())
    else:
        convolution = nn.Conv2d(images.shape[1], 6, 5, stride=2)
        flat = nn.Flatten()
        model = nn.Sequential(convolution, nn.Tanh(), flat)
    width = model(images).shape[1]
    model.extend([nn.Linear(width, 5), nn.Tanh(), nn.Linear(5, classes)])
    copy_weights(task, model)

    trainer = CreditTrainer(model, policy, make(model.parameters()))
    for _ in range(4):
        shown = trainer.step(images, labels)
        torch.testing.assert_close(shown, observation[0, :, :classes], rtol=0, atol=1e-6)
        with torch.no_grad():
            observation = env.step_tensors(policy.act(observation)).observation
    assert (shown - 1 / classes).abs().max() > 0.05
    last = torch.softmax(model(images), 1)
    torch.testing.assert_close(last, task.network.probabilities[0].T, rtol=0, atol=1e-6)


def samples(task: Any) -> tuple[Tensor, Tensor]:
    """Images and labels of the first network."""
    indices = task.sample_indices[0]
    images = torch.tensor(task.dataset.x_train[indices], dtype=torch.float32)
    mean, std = (torch.as_tensor(moment).float() for moment in task.dataset.moments)
    images = ((images - mean) / std).view(len(images), *task.dataset.x_train.shape[1:])
    return images, torch.tensor(task.dataset.y_train[indices])


@torch.no_grad()
def copy_weights(task: Any, model: nn.Sequential) -> None:
    """Those of the first network."""
    layers = [module for module in model if isinstance(module, nn.Linear | nn.Conv2d)]
    for layer, weight in zip(layers, task.network.weights, strict=True):
        own = task.inputs.natural(weight) if layer is layers[0] else weight
        layer.weight.copy_(own[0, :, :-1].reshape(layer.weight.shape))
        assert layer.bias is not None
        layer.bias.copy_(own[0, :, -1])


@pytest.mark.parametrize(
    ("shape", "classes", "sizes", "count"),
    [((28, 28), 10, (100,), 97), ((9, 8), 3, (17, 9), 40), ((3, 6, 4), 12, (50, 40, 8), 91)],
    ids=str,
)
@torch.no_grad()
def test_the_shared_network_does_what_it_does_in_the_environment(
    shape: tuple[int, ...], classes: int, sizes: tuple[int, ...], count: int
) -> None:
    """A whole life from zero weights, of networks that it was and was not trained for.

    Classes are not of one size: else the first change of the output biases would be 0 but for
    rounding, which Adam blows up, in float64 as well. It does so for a while with other changes,
    since credits that come back through the network's own weights have that rounding, too.
    """
    data = made_up_images(shape, classes=classes, train=count, test=20)
    kwargs = {"data": data, "num_samples": count, "num_updates": 20, "hidden_sizes": sizes}
    env, task = image_env(IMAGES, kwargs)
    policy = load("traveller")
    policy.attach(env)
    observation = env.reset_tensors([3])
    images, labels = samples(task)
    model = nn.Sequential(nn.Flatten())
    below = images[0].numel()
    for units in sizes:
        model.extend([nn.Linear(below, units), nn.Tanh()])
        below = units
    model.append(nn.Linear(below, classes))
    copy_weights(task, model)
    trainer = CreditTrainer(model, load("traveller"), num_updates=20)
    for _ in range(20):
        expected = observation[0, :, :classes].clone()
        shown = trainer.step(images, labels)
        torch.testing.assert_close(shown, expected, rtol=0, atol=5e-6)
        observation = env.step_tensors(policy.act(observation)).observation
    torch.testing.assert_close(shown, expected, rtol=0, atol=1e-6)
    assert (shown - 1 / classes).abs().max() > 0.05


def credits_of(trainer: CreditTrainer, probabilities: Tensor, labels: Tensor) -> list[Tensor]:
    one_hot = nn.functional.one_hot(labels, 3)
    rows = torch.cat([probabilities, one_hot], 1).float()[None]
    credits = trainer.policy.act(rows)[0].detach().double() * trainer.credit_scale
    return list(torch.split(credits, trainer._sizes, 1))


@pytest.mark.parametrize("activation", [*(known() for known in _ERRORS), nn.GELU("tanh")], ids=str)
def test_updates_are_gradients_of_credited_activity(activation: nn.Module) -> None:
    """ΔW of a layer is the gradient of mean Σ c · f(a) by autograd, its input held fixed."""
    torch.manual_seed(0)
    first = nn.Conv2d(2, 4, 3, padding=1, groups=2, dilation=2, bias=False)
    second, third, last = nn.Conv2d(4, 6, 3, stride=2), nn.Linear(24, 5), nn.Linear(5, 3)
    stack = [first, activation, nn.AvgPool2d(2), nn.Sequential(second, activation), nn.Flatten()]
    model = nn.Sequential(*stack, third, activation, nn.Dropout(0.0), last).double()
    layers = [first, second, third, last]
    start = [p.clone() for p in model.parameters()]
    trainer = CreditTrainer(
        model,
        policy_for(4 + 6 + 5 + 3, output_scale=1.0),
        torch.optim.SGD(model.parameters(), lr=0.3),
        max_grad_norm=None,
    )
    images = torch.randn(7, 2, 12, 12, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    inputs: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda m, x, y: inputs.append(x[0])) for layer in layers]
    probabilities = torch.softmax(model(images), 1).detach()
    for hook in hooks:
        hook.remove()
    credits = credits_of(trainer, probabilities, labels)

    told = 0.0
    for layer, below, credit in zip(layers, inputs, credits, strict=True):
        pre = layer(below.detach())
        post = torch.softmax(pre, 1) if layer is last else activation(pre)
        told = told + (credit.view(*credit.shape, *[1] * (post.dim() - 2)) * post).sum() / 7
    expected = torch.autograd.grad(told, list(model.parameters()))
    shown = trainer.step(images, labels)
    torch.testing.assert_close(shown, probabilities)
    for now, before, gradient in zip(model.parameters(), start, expected, strict=True):
        assert gradient.abs().max() > 1e-4
        torch.testing.assert_close(now.detach(), before + 0.3 * gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("module", [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU])
def test_in_place_activations_learn_the_same(module: Any) -> None:
    ends = []
    for inplace in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), module(inplace=inplace), nn.Linear(6, 3))
        trainer = CreditTrainer(model, policy_for(9, output_scale=1.0))
        trainer.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 0]))
        ends.append([p.detach().clone() for p in model.parameters()])
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_what_follows_a_layer_in_place_learns_the_same() -> None:
    ends = []
    for inplace in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5, inplace), nn.Linear(6, 3))
        trainer = CreditTrainer(model, policy_for(9, output_scale=1.0))
        trainer.step(torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 0]))
        ends.append([p.detach().clone() for p in model.parameters()])
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_shared_network_sees_how_far_training_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also past the end that was announced, and where training goes on."""
    policy = load("traveller")
    seen: list[NetworkState] = []
    act_on = policy.act_on

    def spy(observation: Tensor, beta: Tensor | None, state: NetworkState) -> Tensor:
        seen.append(state)
        return act_on(observation, beta, state)

    monkeypatch.setattr(policy, "act_on", spy)
    model = nn.Sequential(L(4, 6), T(), L(6, 5), T(), nn.Dropout(0.5), L(5, 3)).double()
    trainer = CreditTrainer(model, policy, num_updates=4)
    inputs, labels = torch.randn(7, 4).double(), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    first = torch.tanh(model[0](inputs))
    for updates in (0, 1, 3, 4, 5):
        trainer.updates = updates
        trainer.step(inputs, labels)
        assert trainer.updates == updates + 1
    assert [float(state.progress) for state in seen] == [0, 0.25, 0.75, 0.75, 0.75]
    assert {state.num_updates for state in seen} == {4}
    assert [tuple(a.shape) for a in seen[0].hidden] == [(1, 6, 7), (1, 5, 7)]
    assert [tuple(weights.shape) for weights in seen[0].above] == [(1, 5, 6), (1, 3, 5)]
    torch.testing.assert_close(seen[0].hidden[0][0].T, first.float())


# ---------------------------------------------------------------------- use


def test_the_zoo_trains_digits_in_batches_with_a_schedule() -> None:
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    images, labels = (torch.tensor(a) for a in load_digits(return_X_y=True))
    images = ((images - images.mean(0)) / (images.std(0) + 1e-6)).float()
    data = torch.utils.data.TensorDataset(images[:1400], labels[:1400])
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    trainer = CreditTrainer(model, load("digits-mlp"))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(trainer.optimizer, 5)
    for _ in range(5):
        for batch in torch.utils.data.DataLoader(data, batch_size=100, shuffle=True):
            trainer.step(*batch)
        schedule.step()
    assert (model(images[1400:]).argmax(1) == labels[1400:]).float().mean() > 0.85


def test_rules_that_need_no_weights_serve_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 3))
    trainer = CreditTrainer(model, policy_for(23, kind=DFAPolicy))
    inputs = torch.randn(60, 4)
    labels = inputs[:, :3].argmax(1)
    for _ in range(60):
        trainer.step(inputs, labels)
    assert (model(inputs).argmax(1) == labels).float().mean() > 0.9


# ---------------------------------------------------------------------- misuse


class MyTanh(nn.Tanh):
    """An activation function of one's own, by inheritance."""


class MySine(nn.Module):
    """An activation function of one's own."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (L(4, 3), "is a Linear; credits are for a torch.nn.Sequential"),
        (nn.Sequential(nn.Flatten()), "no Linear or Conv2d"),
        (nn.Sequential(L(4, 6), nn.BatchNorm1d(6), L(6, 3)), "BatchNorm1d.*no credit is for"),
        (nn.Sequential(L(4, 6), nn.PReLU(), L(6, 3)), "PReLU.*parameters"),
        (nn.Sequential(L(4, 6), nn.Softsign(), L(6, 3)), "Softsign.*derivative.*use Tanh"),
        (nn.Sequential(L(4, 6), MyTanh(), L(6, 3)), "MyTanh.*derivative.*use Tanh"),
        (nn.Sequential(L(4, 6), T(), MySine(), L(6, 3)), "MySine.*derivative.*use Tanh"),
        (nn.Sequential(L(4, 6), nn.Softmax(1), L(6, 3)), "in the middle of the model"),
        (nn.Sequential(weight_norm(L(4, 6)), T(), L(6, 3)), "made from other parameters"),
        (nn.Sequential(nn.utils.weight_norm(L(4, 6)), T(), L(6, 3)), "made from other param"),
        (nn.Sequential(nn.utils.spectral_norm(L(4, 6)), T(), L(6, 3)), "made from other param"),
        (nn.Sequential(nn.LazyLinear(6), T(), L(6, 3)), "does not know its inputs yet"),
        (nn.Sequential(L(4, 6), T(), L(6, 3)).to("meta"), "lie on cpu and meta"),
        (nn.Sequential(L(4, 6), T(), T(), L(6, 3)), "follows another activation"),
        (nn.Sequential(C(1, 6, 3), nn.MaxPool2d(2), T(), L(6, 3)), "directly after its layer"),
        (nn.Sequential(L(4, 6), T(), L(6, 3), nn.Softmax(1)), "must end with a Linear"),
        (nn.Sequential(L(4, 6), T(), L(6, 3), T()), "must end with a Linear"),
        (nn.Sequential(C(1, 6, 3), T()), "must end with a Linear"),
        (nn.Sequential(C(1, 6, 3, padding="same"), T(), L(6, 3)), "say it in numbers"),
        (nn.Sequential(C(1, 6, 3, padding_mode="circular"), T(), L(6, 3)), 'use "zeros"'),
        (nn.Sequential(L(4, 6), T(), L(6, 4)), "knows 3 classes and the model has 4 outputs"),
        (nn.Sequential(L(4, 5), T(), L(5, 2), T(), L(2, 3)), r"6 hidden .* has 7 \(5 \+ 2\)"),
        (nn.Sequential(L(4, 6), T(), L(6, 1)), "has one output"),
        (nn.Sequential(one := L(4, 4), T(), one, T(), L(4, 3)), "stands in the model twice"),
        (with_tied_weights(), "shares its weights with a layer below"),
        (nn.Sequential(L(4, 6), T(), L(6, 3)).requires_grad_(False), "leave requires_grad=True"),
        (nn.Sequential(L(4, 3)), r"6 hidden .* has 0 \(none\)"),
    ],
)
def test_models_that_cannot_be_served(model: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CreditTrainer(model, policy_for(9))


def test_half_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        CreditTrainer(nn.Sequential(L(4, 6), T(), L(6, 3)).half(), policy_for(9))


def test_policies_that_cannot_serve() -> None:
    model = nn.Sequential(L(4, 6), T(), L(6, 3))
    with pytest.raises(ValueError, match="BackpropPolicy reads its networks from an environment"):
        CreditTrainer(model, policy_for(9, kind=BackpropPolicy))
    control = TDCARNNPolicy(Box(-1, 1, (8, 5)), Box(-1, 1, (9,)))
    with pytest.raises(ValueError, match="TDCARNNPolicy was made for observations of shape"):
        CreditTrainer(model, control)
    with pytest.raises(ValueError, match="none of the model's parameters"):
        CreditTrainer(model, policy_for(9), torch.optim.Adam(L(1, 1).parameters()))
    for bad in ({"credit_scale": 0}, {"max_grad_norm": -1}):
        with pytest.raises(ValueError, match="finite number above 0"):
            CreditTrainer(model, policy_for(9), **bad)


@pytest.mark.parametrize(
    ("model", "num_updates", "message"),
    [
        (nn.Sequential(L(4, 3)), 9, "the model has none; add one"),
        (nn.Sequential(L(4, 6), nn.ReLU(), L(6, 3)), 9, "followed by Tanh, not.*ReLU.*DFAPolicy"),
        (nn.Sequential(L(4, 6), L(6, 3)), 9, r"not Linear\(.* followed by Identity"),
        (nn.Sequential(C(1, 6, 3), T(), nn.Flatten(), L(6, 3)), 9, r"must be Linear.*not Conv2d"),
        (nn.Sequential(L(4, 6), T(), L(6, 3)), None, r"num_updates=epochs \* len\(loader\)"),
        (nn.Sequential(L(4, 6), T(), L(6, 3)), 0, "num_updates=0 must be a whole number"),
    ],
)
def test_what_the_shared_network_cannot_serve(
    model: nn.Sequential, num_updates: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CreditTrainer(model, load("traveller"), num_updates=num_updates)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1]), "must be whole numbers"),
        (torch.tensor([0.0, 1, 2]), "must be whole numbers"),
        (torch.tensor([0, 1, 3]), "classes from 0 to 2"),
        (torch.tensor([0, -1, 2]), "classes from 0 to 2"),
    ],
)
def test_labels(labels: Tensor, message: str) -> None:
    trainer = CreditTrainer(nn.Sequential(L(4, 6), T(), L(6, 3)), policy_for(9))
    with pytest.raises(ValueError, match=message):
        trainer.step(torch.zeros(3, 4), labels)


def test_inputs_of_other_dimensions_are_refused() -> None:
    trainer = CreditTrainer(nn.Sequential(L(4, 6), T(), L(6, 3)), policy_for(9))
    with pytest.raises(ValueError, match=r"given inputs of shape \(3, 6, 4\), .* put a Flatten"):
        trainer.step(torch.zeros(3, 6, 4), torch.tensor([0, 1, 2]))
    convolution = nn.Sequential(C(1, 6, 3), T(), nn.Flatten(), L(24, 3))
    with pytest.raises(ValueError, match=r"not \(B, channels, height, width\)"):
        CreditTrainer(convolution, policy_for(9)).step(torch.zeros(1, 4, 6), torch.tensor([0]))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(3, 5), r"given inputs of shape \(3, 5\): 5 features instead of 4"),
        (
            torch.zeros(3, 4, dtype=torch.uint8),
            "type torch.uint8 must be a tensor of torch.float32",
        ),
        (torch.zeros(3, 4, dtype=torch.float64), "must be a tensor of torch.float32"),
        (np.zeros((3, 4), np.float32), "type ndarray must be a tensor"),
    ],
)
def test_inputs_that_do_not_fit(inputs: Any, message: str) -> None:
    trainer = CreditTrainer(nn.Sequential(L(4, 6), T(), L(6, 3)), policy_for(9))
    with pytest.raises(ValueError, match=message):
        trainer.step(inputs, torch.tensor([0, 1, 2]))


def test_policies_and_optimizers_that_cannot_serve() -> None:
    model = nn.Sequential(L(4, 6), T(), L(6, 3))
    with pytest.raises(ValueError, match=r"the policy is a str; take one .* meta.load"):
        CreditTrainer(model, "traveller")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LBFGS asks for the loss"):
        CreditTrainer(model, policy_for(9), torch.optim.LBFGS(model.parameters()))


@pytest.mark.parametrize("layer", [0, 3])
def test_frozen_layers_stay(layer: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(C(1, 6, 3), T(), nn.Flatten(), L(24, 5), T(), L(5, 3))
    model[layer].requires_grad_(False)
    trainer = CreditTrainer(model, policy_for(14), max_grad_norm=None)
    before = [p.detach().clone() for p in model.parameters()]
    trainer.step(torch.randn(9, 1, 4, 4), torch.arange(9) % 3)
    for parameter, then in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, then) != parameter.requires_grad


def test_inputs_that_are_not_finite_change_nothing() -> None:
    model = nn.Sequential(L(4, 6), T(), L(6, 3))
    trainer = CreditTrainer(model, policy_for(9))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="not finite"):
        trainer.step(torch.full((3, 4), torch.nan), torch.tensor([0, 1, 2]))
    for now, then in zip(model.parameters(), before, strict=True):
        assert torch.equal(now, then)


def test_layers_frozen_on_the_way_stay_where_they_are() -> None:
    model = nn.Sequential(L(4, 6), T(), L(6, 3))
    trainer = CreditTrainer(model, policy_for(9, kind=DFAPolicy))
    inputs, labels = torch.randn(3, 4), torch.tensor([0, 1, 2])
    trainer.step(inputs, labels)
    model[0].requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    trainer.step(inputs, labels)
    changed = [not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)]
    assert changed == [False, False, True, True]


def test_infinite_inputs_teach_nothing() -> None:
    model = nn.Sequential(L(4, 6), T(), L(6, 3))
    trainer = CreditTrainer(model, policy_for(9, kind=DFAPolicy))
    before = [p.clone() for p in model.parameters()]
    inputs = torch.randn(3, 4)
    inputs[0, 0] = torch.inf
    with pytest.raises(ValueError, match="not finite: inputs hold infinity"):
        trainer.step(inputs, torch.tensor([0, 1, 2]))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


class Residual(nn.Sequential):
    def forward(self, inputs: Tensor) -> Tensor:
        answer: Tensor = inputs + super().forward(inputs)
        return answer


class Scaled(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        return 10 * super().forward(inputs)


def test_a_forward_of_its_own_is_refused() -> None:
    residual = nn.Sequential(L(4, 6), T(), Residual(L(6, 6), T()), L(6, 3))
    with pytest.raises(ValueError, match="Residual does more than call its layers"):
        CreditTrainer(residual, policy_for(15))
    with pytest.raises(ValueError, match="Scaled with a forward of its own"):
        CreditTrainer(nn.Sequential(Scaled(4, 6), T(), L(6, 3)), policy_for(9))
    pooled = nn.Sequential(L(4, 8), T(), nn.AvgPool1d(2), L(4, 3))
    with pytest.raises(ValueError, match="something stands that changes how many"):
        CreditTrainer(pooled, load("traveller"), num_updates=2)
