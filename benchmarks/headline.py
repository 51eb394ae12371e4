"""The results in the README: every recipe, several seeds, as one Markdown table.

Each cell comes from runs of train.py, one for each seed, whose folders stay in --logdir. Those that
the same recipe has finished are not run again, so an interrupted table goes on where it stopped;
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
from benchmarks.common.results import ResultsFile, makers, markdown
from meta.command_line import Parser, positive
from meta.spread import sample_std

NAME = "headline"
LOGDIR = Path("runs") / NAME
HEADER = ("environment", "agent", "mean ± std", "learning, s", "in all, s")
_QUICK_GENERATIONS = 2
Results = Mapping[str, Any]
Values = Sequence[float]


@dataclass(frozen=True)
class Row:
    """One line of the table: where networks are meta-trained, and what to quote of the results."""

    env_id: str
    measures: Mapping[str, Callable[[Results], Values]]


def climbed(surface: int, key: str) -> Callable[[Results], Values]:
    """Per cent of the grid that reaches the summit of a surface."""
    return lambda results: [100 * results["surfaces"][surface][key]]


def episode_return(condition: str, update: int) -> Callable[[Results], Values]:
    """Mean return of the fresh lives under a condition."""
    return lambda results: [results["conditions"][condition]["episode_return"]["mean"][update]]


def accuracy(method: str, split: str) -> Callable[[Results], Values]:
    """Per cent, of each fresh subset."""

    def measure(results: Results) -> Values:
        (row,) = (
            row
            for row in results["rows"]
            if row["method"] == method and row["images"] == "fresh subsets"
        )
        return [100 * value for value in row[f"{split}_accuracy"]]

    return measure


_SURFACE = {
    "summit reached, %": climbed(0, "policy"),
    "by gradient ascent, %": climbed(0, "gradient_ascent"),
}
_CONTROL = {
    "return at update 0": episode_return("normal", 0),
    "after the last": episode_return("normal", -1),
    "constant credits": episode_return("constant", -1),
    "shuffled credits": episode_return("shuffled", -1),
    "frozen": episode_return("frozen", -1),
}
_IMAGES = {
    "TDCA test, %": accuracy("TDCA", "test"),
    **{method: accuracy(method, "test") for method in ("Kaiming BP", "zero BP", "DFA", "DRTP")},
}
ROWS = (
    Row("CreditAssign-Gaussian-v0", _SURFACE),
    Row(
        "CreditAssign-MultiGaussian-v0",
        {
            "first summit, %": climbed(0, "policy"),
            "second summit, %": climbed(1, "policy"),
            "swapped id, %": climbed(0, "swapped_id"),
            "swapped id (second), %": climbed(1, "swapped_id"),
        },
    ),
    Row("CreditAssign-CartPole-v0", _CONTROL),
    Row("CreditAssign-ReversedCartPole-v0", _CONTROL),
    Row("CreditAssign-Pendulum-v0", _CONTROL),
    Row("CreditAssign-ReversedPendulum-v0", _CONTROL),
    Row("CreditAssign-Digits-v0", _IMAGES),
    Row("CreditAssign-MNIST-v0", _IMAGES),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the table; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__)
    add = parser.add_argument
    add("--seeds", type=positive, default=3, metavar="N", help="runs per recipe (default: 3)")
    add("--logdir", type=Path, default=LOGDIR, metavar="DIR", help=f"default: {LOGDIR}")
    env_ids = [row.env_id for row in ROWS]
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
        lines, made = [], []
        for row in ROWS:
            if row.env_id not in arguments.only:
                continue
            networks = [Network(row.env_id, seed, generations) for seed in range(arguments.seeds)]
            runs = [results_of(network, file, arguments.logdir) for network in networks]
            lines.append([row.env_id, networks[0].agent, *cells(row, runs)])
            made += runs
        print(
            f"{markdown(HEADER, lines)}\n\nOver {arguments.seeds} seeds of the outer loop; test "
            f"accuracies over their 5 fresh subsets too. Made by {makers(made)}."
        )

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


def cells(row: Row, runs: Sequence[Results]) -> list[str]:
    """What a line of the table says of runs."""
    said = []
    for name, measure in row.measures.items():
        values = np.concatenate([measure(results) for results in runs])
        spread = f" ± {sample_std(values):.1f}" if len(values) > 1 else ""
        said.append(f"{name} {values.mean():.1f}{spread}")
    seconds = [
        f"{np.mean([results[key] for results in runs]):.0f}"
        for key in ("learning_seconds", "seconds")
    ]
    return ["; ".join(said), *seconds]


if __name__ == "__main__":
    sys.exit(main())
