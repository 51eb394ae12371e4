"""Speed of DeepAGREL's update: the local rule by hand against the same by autograd.

    python -m benchmarks.agrel_update            # from the repository's root, about two minutes
    python -m benchmarks.agrel_update --quick    # half a minute, rougher

One trial is: forward pass, max-Boltzmann choice, reward prediction error, update of all weights; on
one thread, with the paper's networks and made-up images. First it checks that both forms give the
same weights (float64, 1e-12). Then it times them in turns:

* autograd: ordinary PyTorch, the gradient of mean ½ (r − q_s)² and its step, in the faster of two
  forms: `torch.optim.SGD(fused=True)`, or `torch.autograd.grad` and `torch._foreach_add_`. Layers
  compute their forward pass as ours do (channels-last, local filters as one batched product);
* ours: `QNetwork.activities` and `QNetwork.learn`;
* plain: ours without oneDNN's matrix products, which PyTorch does not take by itself.

Trials per second are counted in CPU seconds of the one thread, so that other processes disturb
little.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from agents.deepagrel import DeepAGREL, DeepAGRELPolicy
from agents.deepagrel.policy import choose
from benchmarks.inner_loop import cpu_seconds, describe_machine, spread
from credit_envs.datasets import Dataset, from_arrays

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


@dataclass
class Row:
    """Trials per CPU second of one setting."""

    setting: Setting
    speeds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def autograd(self) -> list[float]:
        """Of the faster of both forms."""
        return max((self.speeds[name] for name in ("fused", "foreach")), key=statistics.median)

    def ratio(self, name: str) -> float:
        """How many times faster than autograd, by the medians."""
        return statistics.median(self.speeds[name]) / statistics.median(self.autograd)


def main() -> None:
    """Check, time and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.agrel_update",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer settings, and 3 repeats")
    parser.add_argument("--repeats", type=int, help="timings of each (default 7)")
    given = parser.parse_args()
    repeats = given.repeats or (3 if given.quick else 7)
    if repeats < 1:
        parser.error(f"--repeats must be at least 1, not {repeats}")
    torch.set_num_threads(1)
    for key, value in describe_machine(made_up()).items():
        print(f"{key:<10} {value}")

    settings = QUICK if given.quick else SETTINGS
    difference = max(largest_difference(name) for name in {s.policy for s in settings})
    print(f"\nlargest difference of a weight after 3 updates: {difference:.1e}")
    if not difference < EXACT:
        sys.exit(f"the two forms disagree by more than {EXACT}: timing them would say nothing")

    print(f"\ntrials per CPU second, median [lowest, highest] of {repeats}\n")
    print("| policy | image | batch | autograd | plain | ratio | ours | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for setting in settings:
        row = measure(setting, repeats)
        print(
            f"| {setting.policy} | {'×'.join(map(str, setting.shape))} | {setting.batch_size} "
            f"| {spread(row.autograd)} | {spread(row.speeds['plain'])} | {row.ratio('plain'):.2f} "
            f"| {spread(row.speeds['ours'])} | {row.ratio('ours'):.2f} |",
            flush=True,
        )


def measure(setting: Setting, repeats: int) -> Row:
    """All forms in turns, so that a busy machine slows all alike."""
    updates = {
        "ours": by_hand(new_policy(setting)),
        "plain": plain(by_hand(new_policy(setting))),
        "fused": by_autograd(new_policy(setting), "fused"),
        "foreach": by_autograd(new_policy(setting), "foreach"),
    }
    images, rewards = trials(setting)
    count = max(1, 300 // setting.batch_size)
    row = Row(setting, {name: [] for name in updates})
    for turn in range(repeats + 1):
        for name, update in updates.items():

            def several(update: Update = update) -> None:
                for _ in range(count):
                    update(images, rewards)

            seconds = cpu_seconds(several)
            if turn > 0:
                row.speeds[name].append(count * setting.batch_size / seconds)
    return row


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


def new_policy(setting: Setting) -> DeepAGRELPolicy:
    """The paper's network, always with the same weights."""
    policy_class = DeepAGREL.policy_aliases[setting.policy]
    policy = policy_class(spaces.Box(0, 255, setting.shape, np.uint8), spaces.Discrete(10))
    assert isinstance(policy, DeepAGRELPolicy)
    policy.initialise(torch.Generator().manual_seed(0))
    return policy


def made_up() -> Dataset:
    """Stands for the images, whose content has no part in the speed."""
    x, y = np.zeros((2, *MNIST), np.uint8), np.arange(2)
    return from_arrays((x, y, x, y), name="made up")


def trials(setting: Setting) -> tuple[Tensor, Tensor]:
    """Images and rewards, whatever the answers."""
    generator = torch.Generator().manual_seed(1)
    shape = (setting.batch_size, *setting.shape)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    return images, torch.randint(2, shape[:1], generator=generator).float()


if __name__ == "__main__":
    main()
