"""What a step of `CreditTrainer` costs beside one of backpropagation.

    python -m benchmarks.credit_trainer            # from the repository's root, a minute
    python -m benchmarks.credit_trainer --quick

The same network of PyTorch's layers, batch, Adam and gradient clip; credits of the zoo's
`mnist-pgpe`, a perceptron, and `traveller`, the network that all neurons share; backpropagation of
the cross-entropy by autograd. CPU seconds of one thread, in turns. Where processors have AVX-512
the trainer takes large products from oneDNN (`credit_envs.networks.onednn`), and autograd its own.
"""

import argparse
import statistics

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from agents import CreditTrainer
from benchmarks.common.results import markdown
from benchmarks.inner_loop import cpu_seconds, describe_machine, spread
from credit_envs.datasets import load as load_dataset
from meta import load
from meta.command_line import Parser, positive

NETWORKS = ("mnist-pgpe", "traveller")
HEADER = ("batch", "credits of", "credits, steps/s", "backpropagation, steps/s", "costs")


def main() -> None:
    """Measure and print."""
    parser = Parser(
        "credit_trainer", prog="python -m benchmarks.credit_trainer", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--repeats", type=positive, help="timings of each (default 9, quick 3)")
    arguments: argparse.Namespace = parser.parse_args()
    repeats = arguments.repeats or (3 if arguments.quick else 9)
    torch.set_num_threads(1)
    dataset = load_dataset("MNIST")
    for key, value in describe_machine(dataset).items():
        print(f"{key:<10} {value}")
    lines = []
    for batch in (100, 1000):
        images = torch.tensor(dataset.x_train[:batch]).float() / 255
        labels = torch.tensor(dataset.y_train[:batch])
        for name in NETWORKS:
            credits, backprop = race(name, images, labels, repeats)
            ratio = statistics.median(backprop) / statistics.median(credits)
            lines.append([str(batch), name, spread(credits), spread(backprop), f"{ratio:.2f}"])
    print(f"\nmedian [lowest, highest] of {repeats}\n\n{markdown(HEADER, lines)}")


def race(
    name: str, images: Tensor, labels: Tensor, repeats: int
) -> tuple[list[float], list[float]]:
    """Steps per second of both, in turns, with credits of a network of the zoo."""
    steps = max(10, 20_000 // len(images))
    trainer = CreditTrainer(network(), load(name), num_updates=(repeats + 1) * steps)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def with_credits() -> None:
        for _ in range(steps):
            trainer.step(images, labels)

    def with_backprop() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    speeds: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for work, kept in zip((with_credits, with_backprop), speeds, strict=True):
            seconds = cpu_seconds(work)
            if turn:
                kept.append(steps / seconds)
    return speeds


def network() -> nn.Sequential:
    """784-100-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.Tanh(), nn.Linear(100, 10))


if __name__ == "__main__":
    main()
