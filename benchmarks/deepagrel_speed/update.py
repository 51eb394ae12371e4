"""The local rule by hand against the same by autograd.

One trial is: forward pass, max-Boltzmann choice, reward prediction error, update of all weights; on
made-up images, whose content has no part in the speed. The forms:

* autograd: ordinary PyTorch, the gradient of mean ½ (r − q_s)² and its step, either by
  `torch.optim.SGD(fused=True)` or by `torch.autograd.grad` and `torch._foreach_add_`. Layers
  compute their forward pass as ours do (channels-last, local filters as one batched product);
* ours: `QNetwork.activities` and `QNetwork.learn`;
* plain: ours without oneDNN's matrix products, which PyTorch does not take by itself.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from agents.deepagrel import DeepAGREL, DeepAGRELPolicy
from agents.deepagrel.policy import choose
from benchmarks.deepagrel_speed.race import OURS, Part, Row, race, require_equal, timed

EPSILON = 0.02
RATE = 1e-3
EXACT = 1e-12
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


AUTOGRAD = {"fused": "autograd, fused SGD", "foreach": "autograd, foreach"}


class UpdatePart(Part):
    """The local rule against autograd."""

    name = "update"
    title = "The local rule against autograd"

    def __init__(self, quick: bool) -> None:
        self._settings = QUICK if quick else SETTINGS

    def check(self) -> dict[str, float]:
        """Of all forms, in float64, after three updates."""
        names = sorted({setting.policy for setting in self._settings})
        difference = max(largest_difference(name) for name in names)
        return require_equal("local rule and autograd, float64, 3 updates", difference, EXACT)

    def rows(self, repeats: int) -> Iterator[Row]:
        """A network and a batch size each."""
        for setting in self._settings:
            yield measure(setting, repeats)

    def conclusions(self, rows: Sequence[Row]) -> list[str]:
        """Against the faster of both forms of autograd."""
        return [
            f"{row.setting}: {row.times(OURS, row.fastest([*AUTOGRAD.values()])):.2f} times as fast"
            for row in rows
        ]


def measure(setting: Setting, repeats: int) -> Row:
    """All forms of one setting."""
    updates = {
        AUTOGRAD["fused"]: by_autograd(new_policy(setting), "fused"),
        AUTOGRAD["foreach"]: by_autograd(new_policy(setting), "foreach"),
        "plain": plain(by_hand(new_policy(setting))),
        OURS: by_hand(new_policy(setting)),
    }
    num_trials = max(setting.batch_size, 300)
    forms = {
        name: timed(repeated(update, setting, num_trials), num_trials)
        for name, update in updates.items()
    }
    return race(str(setting), forms, repeats)


def repeated(update: Update, setting: Setting, num_trials: int) -> Callable[[], None]:
    """Updates from the same made-up batch until so many trials are learned from."""
    images, rewards = trials(setting)

    def work() -> None:
        for _ in range(num_trials // setting.batch_size):
            update(images, rewards)

    return work


def by_hand(policy: DeepAGRELPolicy) -> Update:
    """The local rule."""
    q_net, generator = policy.q_net, torch.Generator().manual_seed(0)

    @torch.no_grad()
    def update(images: Tensor, rewards: Tensor) -> None:
        activities = q_net.activities(images, q_net.draw_masks(len(images), generator))
        actions = choose(activities.q_values, EPSILON, generator)
        rpe = rewards - activities.q_values.gather(1, actions[:, None])[:, 0]
        q_net.learn(activities, actions, rpe, policy.feedback, RATE / len(images))

    return update


def plain(update: Update) -> Update:
    """The same with the matrix products that PyTorch takes by itself."""

    def add_product(
        targets: Iterable[Tensor], a: Tensor, b: Tensor, alpha: float, beta: float
    ) -> None:
        for target in targets:
            target.addmm_(a, b, alpha=alpha, beta=beta)

    def patched(images: Tensor, rewards: Tensor) -> None:
        layers = "agents.deepagrel.layers"
        with patch(f"{layers}.product", torch.mm), patch(f"{layers}.add_product", add_product):
            update(images, rewards)

    return patched


def by_autograd(policy: DeepAGRELPolicy, stepper: Stepper) -> Update:
    """Gradient descent on ½ (r − q_s)², by ordinary PyTorch."""
    q_net, generator = policy.q_net, torch.Generator().manual_seed(0)
    weights = q_net.weights
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.SGD(weights, lr=RATE, fused=True)

    def update(images: Tensor, rewards: Tensor) -> None:
        q_values = q_net(images, q_net.draw_masks(len(images), generator))
        actions = choose(q_values.detach(), EPSILON, generator)
        chosen = q_values.gather(1, actions[:, None])[:, 0]
        loss = 0.5 * (rewards - chosen).square().mean()
        if stepper == "foreach":
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                torch._foreach_add_(weights, gradients, alpha=-RATE)
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return update


def largest_difference(policy_name: str) -> float:
    """Between the weights of all forms, in float64, after three updates."""
    setting = Setting(policy_name, (2, 9, 8), 40)
    images, rewards = trials(setting)
    policies = []
    for form in (by_hand, lambda p: by_autograd(p, "fused"), lambda p: by_autograd(p, "foreach")):
        policy = new_policy(setting).double()
        update = form(policy)
        for _ in range(3):
            update(images, rewards.double())
        policies.append(policy)
    hand, *others = policies
    start = new_policy(setting).double()
    moved = max(
        (w - s).abs().max().item()
        for w, s in zip(hand.q_net.weights, start.q_net.weights, strict=True)
    )
    if not moved > 1e3 * EXACT:
        sys.exit("the weights did not move: equality would say nothing")
    return max(
        (w - o).abs().max().item()
        for other in others
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
