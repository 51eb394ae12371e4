"""Leaving out of the update what was predicted well: accuracy, and the time that it saves.

DeepAGREL on MNIST, 1500-1000-500, with `skip_below`: trials whose |RPE| is at most that are
answered but not learned from. Accuracies are on test images after the last epoch; seconds are CPU
seconds of learning, answers included; mean (standard deviation) over seeds.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from benchmarks.common.command import exit_code
from benchmarks.common.deepagrel import learned
from benchmarks.common.results import Cell, Job, ResultsFile, makers, markdown
from benchmarks.deepagrel_table_1 import mean, values
from meta.command_line import Parser, positive
from meta.trials import Plan

NAME = "deepagrel_skipping"
MNIST = "ClassificationBandit-MNIST-v0"
THRESHOLDS = (0.0, 0.1)
HEADER = ("left out up to", "accuracy, %", "seconds", "time saved, %")


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what is missing, then print the table; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="two epochs, two seeds; kept in a file of its own")
    add("--seeds", type=positive, metavar="N", help="per threshold (default: 3; quick: 2)")
    add("--epochs", type=positive, metavar="N", help="of learning (default: 20; quick: 2)")
    add("--workers", type=positive, metavar="N", help="processes (default: one per core)")
    arguments = parser.parse_args(argv)
    seeds = arguments.seeds or (2 if arguments.quick else 3)
    epochs = arguments.epochs or (2 if arguments.quick else 20)

    def work() -> None:
        file = ResultsFile(NAME, arguments.quick)
        file.fill([each for t in THRESHOLDS for each in jobs(t, seeds, epochs)], arguments.workers)
        print(render(file, seeds, epochs))

    return exit_code(NAME, work)


def jobs(threshold: float, seeds: int, epochs: int) -> list[Job]:
    """A network per seed, that learns to the last epoch."""
    return [
        Job(
            f"skip below {threshold:g}, seed {seed}, {epochs} epochs",
            learned,
            asdict(plan(threshold, seed, epochs)),
        )
        for seed in range(seeds)
    ]


def plan(threshold: float, seed: int, epochs: int) -> Plan:
    """As in the paper's table, but for the threshold and the end."""
    kwargs = {"skip_below": threshold} if threshold else {}
    return Plan(
        "DeepAGREL", MNIST, epochs=epochs, patience=epochs, seed=seed, learner_kwargs=kwargs
    )


def cells(file: ResultsFile, threshold: float, seeds: int, epochs: int) -> list[Cell]:
    """Those that have been computed."""
    return file.find_all(jobs(threshold, seeds, epochs))


def render(file: ResultsFile, seeds: int = 3, epochs: int = 20) -> str:
    """The table in Markdown, with what made it."""
    found = {t: cells(file, t, seeds, epochs) for t in THRESHOLDS}
    whole = values(found[0.0], "learning_seconds")
    lines = []
    for threshold, each in found.items():
        seconds = values(each, "learning_seconds")
        saved = f"{100 * (1 - seconds.mean() / whole.mean()):.0f}" if each and len(whole) else "–"
        accuracy = np.array([cell["test"][-1] for cell in each])
        row = (mean(100 * accuracy, 2), mean(seconds, 0), saved)
        lines.append([f"{threshold:g}" if threshold else "none", *row])
    used = [cell for each in found.values() for cell in each]
    made_by = f"{len(whole)} seeds, {epochs} epochs. Made by {makers(used)}." if used else ""
    return f"{markdown(HEADER, lines)}\n\n{made_by}"


if __name__ == "__main__":
    sys.exit(main())
