"""The results in the README: every recipe, several seeds, as Markdown tables.

Each cell comes from runs of train.py, one for each seed, whose folders stay in --logdir. Those that
the same recipe has finished are not run again, so an interrupted command goes on where it stopped;
the run in which it stopped begins anew, for runs are timed.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.command import exit_code
from benchmarks.common.control_networks import Network
from benchmarks.common.results import ResultsFile, makers, markdown, spread
from meta.command_line import Parser, positive
from meta.recipes import SURFACES

NAME = "headline"
LOGDIR = Path("runs") / NAME
_QUICK_GENERATIONS = 2
Results = Mapping[str, Any]
Measure = Callable[[Results], Sequence[Sequence[float]]]
"""What to quote of a run's results: for each task, the values of one seed."""


def climbed(key: str) -> Measure:
    """Per cent of the grid that reaches the summit, for each surface; none where it has no key."""
    return lambda results: [
        [100 * surface[key]] for surface in results["surfaces"] if surface[key] is not None
    ]


def episode_return(condition: str, update: int) -> Measure:
    """Mean return of the fresh lives under a condition."""
    return lambda results: [[results["conditions"][condition]["episode_return"]["mean"][update]]]


def accuracy(method: str, split: str) -> Measure:
    """Per cent, of each fresh subset."""

    def measure(results: Results) -> Sequence[Sequence[float]]:
        (row,) = (
            row
            for row in results["rows"]
            if row["method"] == method and row["images"] == "fresh subsets"
        )
        return [[100 * value for value in row[f"{split}_accuracy"]]]

    return measure


@dataclass(frozen=True)
class Table:
    """Environments in which the same is measured."""

    env_ids: Sequence[str]
    measures: Mapping[str, Measure]


TABLES = (
    Table(
        SURFACES,
        {
            "summit reached, %": climbed("policy"),
            "by gradient ascent, %": climbed("gradient_ascent"),
            "with the id of the other, %": climbed("swapped_id"),
        },
    ),
    Table(
        (
            "CreditAssign-CartPole-v0",
            "CreditAssign-ReversedCartPole-v0",
            "CreditAssign-Pendulum-v0",
            "CreditAssign-ReversedPendulum-v0",
        ),
        {
            "return at update 0": episode_return("normal", 0),
            "after the last": episode_return("normal", -1),
            "constant credits": episode_return("constant", -1),
            "shuffled credits": episode_return("shuffled", -1),
            "frozen": episode_return("frozen", -1),
        },
    ),
    Table(
        ("CreditAssign-Digits-v0", "CreditAssign-MNIST-v0"),
        {
            f"{method}, test, %": accuracy(method, "test")
            for method in ("TDCA", "Kaiming BP", "zero BP", "DFA", "DRTP")
        },
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the table; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__)
    add = parser.add_argument
    add("--seeds", type=positive, default=3, metavar="N", help="runs per recipe (default: 3)")
    add("--logdir", type=Path, default=LOGDIR, metavar="DIR", help=f"default: {LOGDIR}")
    env_ids = [env_id for table in TABLES for env_id in table.env_ids]
    add(
        "--only",
        nargs="+",
        choices=env_ids,
        default=env_ids,
        metavar="ID",
        help=f"of {', '.join(env_ids)} (default: all)",
    )
    add("--quick", action="store_true", help="two generations each: shows that it works")
    arguments = parser.parse_args(argv)

    def work() -> None:
        file = ResultsFile(NAME, arguments.quick, arguments.logdir)
        generations = _QUICK_GENERATIONS if arguments.quick else None
        parts, made = [], []
        for table in TABLES:
            lines = []
            for env_id in table.env_ids:
                if env_id not in arguments.only:
                    continue
                networks = [Network(env_id, seed, generations) for seed in range(arguments.seeds)]
                runs = [results_of(network, file, arguments.logdir) for network in networks]
                lines.append([env_id, networks[0].agent, *cells(table.measures, runs)])
                made += runs
            if lines:
                header = ("environment", "agent", *table.measures, "learning, s", "in all, s")
                parts.append(markdown(header, lines))
        note = (
            f"Mean ± standard deviation over {arguments.seeds} seeds of the outer loop; test "
            "accuracies over their 5 fresh subsets too; surfaces one after the other. Made by "
            f"{makers(made)}."
        )
        print("\n\n".join([*parts, note]))

    return exit_code(NAME, work)


def results_of(network: Network, file: ResultsFile, logdir: Path) -> Results:
    """Results of a run with its seconds, run now unless they are there.

    Raises:
        OSError: train.py failed.
        ValueError: the data set is not whole.
    """

    def compute() -> Results:
        # A folder that is new, for a run that goes on has not all of its time.
        run = network.run(logdir / time.strftime("%Y%m%d-%H%M%S"))
        results: Results = json.loads((run.folder / "results.json").read_text())
        if not results.get("dataset_is_complete", True):
            raise ValueError(
                f"{results['dataset']} is no whole data set; set CREDIT_ENVS_DATA to one"
            )
        return results

    return file.cell(network.key, network.settings, compute)


def cells(measures: Mapping[str, Measure], runs: Sequence[Results]) -> list[str]:
    """What a line of the table says of runs."""
    return [
        *(quoted([measure(results) for results in runs]) for measure in measures.values()),
        *(
            f"{np.mean([results[key] for results in runs]):.0f}"
            for key in ("learning_seconds", "seconds")
        ),
    ]


def quoted(values: Sequence[Sequence[Sequence[float]]]) -> str:
    """Mean ± standard deviation of each task, of values by run, task and subset."""
    tasks = [np.concatenate(task) for task in zip(*values, strict=True)]
    return " / ".join(spread(task, factor=1.0, digits=1) for task in tasks) or "–"


if __name__ == "__main__":
    sys.exit(main())
