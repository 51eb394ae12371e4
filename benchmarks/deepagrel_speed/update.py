"""The local rule by hand against the same by autograd.

One trial is: forward pass, max-Boltzmann choice, reward prediction error, update of all weights; on
made-up images, whose content has no part in the speed. The forms:

* autograd: ordinary PyTorch, the gradient of mean ½ (r − q_s)² and its step, either by
  `torch.optim.SGD(fused=True)` or by `torch.autograd.grad` and `torch._foreach_add_`. Layers
  compute their forward pass as ours do (channels-last, local filters as one batched product);
* autograd, our products: the same with oneDNN's matrix products, forward and backward, which
  PyTorch does not take by itself: what autograd alone costs;
* ours: `QNetwork.activities` and `QNetwork.learn`;
* plain: ours without oneDNN's matrix products.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from agents.deepagrel import DeepAGREL, DeepAGRELPolicy
from agents.deepagrel.policy import choose
from benchmarks.deepagrel_speed.race import OURS, Part, Row, race, require_equal, timed
from credit_envs.networks.onednn import product

EPSILON = 0.02
RATE, CHECKED_RATE = 1e-3, 0.5
"""Learning rates of the race, where any would do, and of the check, where weights should move."""
TOLERANCE = {"float64": 1e-12, "float32": 1e-6}
Update = Callable[[Tensor, Tensor], None]
Stepper = Literal["fused", "foreach"]


class Setting(NamedTuple):
    """A network and a batch."""

    policy: str
    shape: tuple[int, int, int]
    batch_size: int

    def __str__(self) -> str:
        return f"{self.policy}, {'×'.join(map(str, self.shape))}, {self.batch_size} at once"


MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
SETTINGS = (
    *(Setting("MlpPolicy", MNIST, batch_size) for batch_size in (1, 10, 100, 1000)),
    *(
        Setting(name, shape, 100)
        for name in ("CnnPolicy", "LocConPolicy")
        for shape in (MNIST, CIFAR)
    ),
)
QUICK = (*SETTINGS[:3], SETTINGS[4], SETTINGS[6])

ORDINARY: dict[Stepper, str] = {"fused": "autograd, fused SGD", "foreach": "autograd, foreach"}
OUR_PRODUCTS = {stepper: f"{title}, our products" for stepper, title in ORDINARY.items()}
LAYERS = "agents.deepagrel.layers"


class UpdatePart(Part):
    """The local rule against autograd."""

    name = "update"
    title = "The local rule against autograd"

    def __init__(self, quick: bool) -> None:
        self._settings = QUICK if quick else SETTINGS

    def check(self) -> dict[str, float]:
        """Of all forms after three updates, in float64, and in float32, which oneDNN is for."""
        names = sorted({setting.policy for setting in self._settings})
        differences: dict[str, float] = {}
        for precision, tolerance in TOLERANCE.items():
            difference = max(largest_difference(name, precision) for name in names)
            what = f"local rule and autograd, {precision}, 3 updates"
            differences |= require_equal(what, difference, tolerance)
        return differences

    def rows(self, repeats: int) -> Iterator[Row]:
        """A network and a batch size each."""
        for setting in self._settings:
            yield measure(setting, repeats)

    def conclusions(self, rows: Sequence[Row]) -> list[str]:
        """Against the faster of both steps, with PyTorch's products and with ours."""

        def times(row: Row, forms: Mapping[Stepper, str]) -> str:
            return f"{row.times(OURS, row.fastest([*forms.values()])):.2f}"

        return [
            f"{row.setting}: {times(row, ORDINARY)} times as fast as ordinary autograd, "
            f"{times(row, OUR_PRODUCTS)} as autograd with our products"
            for row in rows
        ]


def measure(setting: Setting, repeats: int) -> Row:
    """All forms of one setting."""
    updates = {title: form(new_policy(setting), RATE) for title, form in FORMS.items()}
    num_trials = max(setting.batch_size, 300)
    forms = {
        title: timed(repeated(update, setting, num_trials), num_trials)
        for title, update in updates.items()
    }
    return race(str(setting), forms, repeats)


def repeated(update: Update, setting: Setting, num_trials: int) -> Callable[[], None]:
    """Updates from the same made-up batch until so many trials are learned from."""
    images, rewards = trials(setting)

    def work() -> None:
        for _ in range(num_trials // setting.batch_size):
            update(images, rewards)

    return work


def by_hand(policy: DeepAGRELPolicy, rate: float) -> Update:
    """The local rule."""
    q_net, generator = policy.q_net, torch.Generator().manual_seed(0)

    @torch.no_grad()
    def update(images: Tensor, rewards: Tensor) -> None:
        activities = q_net.activities(images, q_net.draw_masks(len(images), generator))
        actions = choose(activities.q_values, EPSILON, generator)
        rpe = rewards - activities.q_values.gather(1, actions[:, None])[:, 0]
        q_net.learn(activities, actions, rpe, policy.feedback, rate / len(images))

    return update


def plain(update: Update) -> Update:
    """The same with the matrix products that PyTorch takes by itself."""

    def add_product(
        targets: Iterable[Tensor], a: Tensor, b: Tensor, alpha: float, beta: float
    ) -> None:
        for target in targets:
            target.addmm_(a, b, alpha=alpha, beta=beta)

    def patched(images: Tensor, rewards: Tensor) -> None:
        with patch(f"{LAYERS}.product", torch.mm), patch(f"{LAYERS}.add_product", add_product):
            update(images, rewards)

    return patched


def by_autograd(policy: DeepAGRELPolicy, rate: float, stepper: Stepper) -> Update:
    """Gradient descent on ½ (r − q_s)², by ordinary PyTorch."""
    q_net, generator = policy.q_net, torch.Generator().manual_seed(0)
    weights = q_net.weights
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.SGD(weights, lr=rate, fused=True)

    def update(images: Tensor, rewards: Tensor) -> None:
        q_values = q_net(images, q_net.draw_masks(len(images), generator))
        actions = choose(q_values.detach(), EPSILON, generator)
        chosen = q_values.gather(1, actions[:, None])[:, 0]
        loss = 0.5 * (rewards - chosen).square().mean()
        if stepper == "foreach":
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                torch._foreach_add_(weights, gradients, alpha=-rate)
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return update


def with_our_products(update: Update) -> Update:
    """The same with oneDNN's matrix products, forward and backward."""

    def patched(images: Tensor, rewards: Tensor) -> None:
        with patch(f"{LAYERS}.product", _Product.apply):
            update(images, rewards)

    return patched


class _Product(torch.autograd.Function):
    """`product`, which refuses tensors that need a gradient."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return product(a.detach(), b.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = (x.detach() for x in ctx.saved_tensors)
        of_a = product(gradient, b.t()) if ctx.needs_input_grad[0] else None
        # Transposed, so that it lies in memory as the weights do.
        of_b = product(gradient.t(), a).t() if ctx.needs_input_grad[1] else None
        return of_a, of_b


FORMS: dict[str, Callable[[DeepAGRELPolicy, float], Update]] = {
    ORDINARY["fused"]: lambda policy, rate: by_autograd(policy, rate, "fused"),
    ORDINARY["foreach"]: lambda policy, rate: by_autograd(policy, rate, "foreach"),
    OUR_PRODUCTS["fused"]: lambda policy, rate: with_our_products(
        by_autograd(policy, rate, "fused")
    ),
    OUR_PRODUCTS["foreach"]: lambda policy, rate: with_our_products(
        by_autograd(policy, rate, "foreach")
    ),
    "plain": lambda policy, rate: plain(by_hand(policy, rate)),
    OURS: by_hand,
}
"""What makes the update of each form, from a policy and a learning rate."""


def largest_difference(policy_name: str, precision: str) -> float:
    """Between the weights of all forms after three updates."""
    setting = Setting(policy_name, (2, 9, 8), 40)
    dtype = getattr(torch, precision)
    images, rewards = trials(setting)
    policies: dict[str, DeepAGRELPolicy] = {}
    for title, form in FORMS.items():
        policies[title] = new_policy(setting).to(dtype)
        update = form(policies[title], CHECKED_RATE)
        for _ in range(3):
            update(images, rewards.to(dtype))
    hand = policies.pop(OURS)
    start = new_policy(setting).to(dtype)
    moved = max(
        (w - s).abs().max().item()
        for w, s in zip(hand.q_net.weights, start.q_net.weights, strict=True)
    )
    if not moved > 100 * TOLERANCE[precision]:
        sys.exit(f"the weights moved by {moved:.0e}: equality would say nothing")
    return max(
        (w - o).abs().max().item()
        for other in policies.values()
        for w, o in zip(hand.q_net.weights, other.q_net.weights, strict=True)
    )


def new_policy(setting: Setting, dropout: Sequence[float] | None = None) -> DeepAGRELPolicy:
    """The paper's network, always with the same weights; None: with its dropout."""
    policy_class = DeepAGREL.policy_aliases[setting.policy]
    policy = policy_class(
        spaces.Box(0, 255, setting.shape, np.uint8), spaces.Discrete(10), dropout=dropout
    )
    assert isinstance(policy, DeepAGRELPolicy)
    policy.initialise(torch.Generator().manual_seed(0))
    return policy


def trials(setting: Setting) -> tuple[Tensor, Tensor]:
    """Images and rewards, whatever the answers."""
    generator = torch.Generator().manual_seed(1)
    shape = (setting.batch_size, *setting.shape)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    return images, torch.randint(2, shape[:1], generator=generator).float()
