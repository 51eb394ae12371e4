"""DeepAGREL, Table 1: learning to classify from reward, beside learning from labels.

Epochs are those to the stopping point, 20 of them without gain. Accuracies are on all test images,
mean (standard deviation) over seeds, with the weights of the best epoch before and with the last
ones: the paper does not say which it has. Held-out images are so few that the best epoch is often
an early one by luck.

On CIFAR-10, at the paper's rate of 1 and from its first weights of ±0.02, DeepAGREL's convolutional
network stops 2.5 points below its twin, whose rate is tuned, on 1,000 test images, whose standard
error is 1.5, and 4.2 points on the held-out images; one seed each. It guesses for many epochs
first, and patience ends it at 99. With its rate tuned as the twin's is, to 0.3, and both from ±0.05
(`--epochs 145` and these two methods), it comes nearly as far: over the last ten of 145 DeepAGREL
71.3 held out and 71.6 on test images, the twin 72.5 and 71.9. Neither had stopped; in the last
epoch 70 % of the answers that DeepAGREL learned from were right, of the twin's 86 %.
"""

import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.common import deepagrel
from benchmarks.common.command import exit_code
from benchmarks.common.deepagrel import FILE, NETWORKS, Extent, Network
from benchmarks.common.results import Cell, ResultsFile, makers, markdown
from meta.command_line import Parser
from meta.spread import sample_std

NAME = "deepagrel_table_1"
DEFAULT = ("MNIST Full", "MNIST Conv", "MNIST LocCon")
EXAMPLES = """\
examples:
  python -m benchmarks.deepagrel_table_1 --quick                # two minutes on two cores
  python -m benchmarks.deepagrel_table_1 --only "MNIST Full"    # two hours
  python -m benchmarks.deepagrel_table_1 --only "CIFAR10 Conv" --seeds 1
  python -m benchmarks.deepagrel_table_1 --only "CIFAR10 Conv" --seeds 1 --epochs 145 \\
      --methods "DeepAGREL, tuned, first weights ±0.05" "Error-BP, first weights ±0.05"
  python -m benchmarks.deepagrel_table_1 --only "CIFAR10 Conv, a quarter as wide" \\
      --methods "DeepAGREL, first weights ±0.05" "Error-BP, first weights ±0.05"
  python -m benchmarks.deepagrel_table_1 --only "MNIST Full" --methods "DeepAGREL, tuned" FA DFA
"""
HEADER = (
    "network",
    "method",
    "α",
    "epochs",
    "best epoch",
    "times Error-BP's",
    "after 5",
    "after 20",
    "last epoch",
    "best epoch, %",
)
MARKS = (5, 20)
"""Epochs at which the accuracy is told besides."""


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what is missing, then print the table; returns the exit code."""
    parser = Parser(
        NAME,
        prog=f"python -m benchmarks.{NAME}",
        description=f"{__doc__}\n{deepagrel.__doc__}",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="minutes: MNIST Full, 2 epochs, rates tuned in one; kept in a file of its own",
    )
    deepagrel.add_options(parser, DEFAULT)
    arguments = parser.parse_args(argv)
    extent = deepagrel.extent_of(arguments)

    def work() -> None:
        file = ResultsFile(FILE, arguments.quick)
        networks = deepagrel.networks_of(arguments)
        deepagrel.fill(file, networks, arguments.methods, extent, arguments.workers)
        print(render(file, extent))

    return exit_code(NAME, work)


def render(file: ResultsFile, extent: Extent, networks: Sequence[Network] | None = None) -> str:
    """The table in Markdown, with what made it; of all networks unless told which."""
    lines, used = [], []
    for network in networks or NETWORKS:
        for method in deepagrel.METHODS:
            cells = deepagrel.cells(file, network, method, extent)
            if cells or method in network.paper:
                lines.append(line(file, network, method, extent))
            used += cells
    note = (
        "Mean (standard deviation) over seeds, whose number is behind the accuracy; in italics "
        "what the paper has. CIFAR-10 is scored on the first 1,000 of its test images."
    )
    made_by = f" Made by {makers(used)}." if used else ""
    return f"{markdown(HEADER, lines)}\n\n{note}{made_by}"


def line(file: ResultsFile, network: Network, method: str, extent: Extent) -> list[str]:
    """One method with one network."""
    cells = deepagrel.cells(file, network, method, extent)
    twins = deepagrel.cells(file, network, "Error-BP", extent)
    alpha, epochs, accuracy = network.paper.get(method, ("", "", ""))
    rate = deepagrel.tuned_rate(file, network, method, extent)
    stopped, best = (values(cells, key) for key in ("stopped_epoch", "best_epoch"))
    ratio = (
        values(cells, "stopped_epoch").mean() / values(twins, "stopped_epoch").mean()
        if cells and twins
        else None
    )
    number = f"{mean(100 * values(cells, 'test_accuracy'), 2)}, {len(cells)}" if cells else "–"
    return [
        network.name,
        method,
        beside("–" if rate is None else f"{rate:g}", alpha),
        beside(mean(stopped, 0), epochs),
        mean(best, 0),
        "–" if ratio is None else f"{ratio:.1f}",
        *(mean(100 * at_epoch(cells, epoch), 2) for epoch in MARKS),
        mean(100 * np.array([cell["test"][-1] for cell in cells]), 2),
        beside(number, accuracy),
    ]


def values(cells: Sequence[Cell], key: str) -> np.ndarray:
    """By seed."""
    return np.array([cell[key] for cell in cells], dtype=np.float64)


def at_epoch(cells: Sequence[Cell], epoch: int) -> np.ndarray:
    """Test accuracies after an epoch, of those networks that came so far."""
    return np.array([cell["test"][epoch - 1] for cell in cells if len(cell["test"]) >= epoch])


def mean(numbers: np.ndarray, digits: int) -> str:
    """Mean (standard deviation, of more than one)."""
    if not len(numbers):
        return "–"
    if len(numbers) == 1:
        return f"{numbers[0]:.{digits}f}"
    return f"{numbers.mean():.{digits}f} ({sample_std(numbers):.{digits}f})"


def beside(ours: str, paper: str) -> str:
    """Ours, then the paper's."""
    return f"{ours} *({paper})*" if paper else ours


if __name__ == "__main__":
    sys.exit(main())
