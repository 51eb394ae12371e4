#!/usr/bin/env python
"""The results in the README: every recipe, several seeds, as one Markdown table.

Each cell comes from a run of train.py of its own, whose folder stays in --logdir. A run that is
there already is not run again, so an interrupted table goes on where it stopped.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.results import makers
from credit_envs.files import atomic_path
from meta.spread import sample_std

TRAIN = Path(__file__).parent.parent / "train.py"
Results = Mapping[str, Any]
Values = Sequence[float]


@dataclass(frozen=True)
class Row:
    """One line of the table: a run, and the numbers to quote from its results."""

    agent: str
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
    Row("tdca-mlp", "CreditAssign-Gaussian-v0", _SURFACE),
    Row(
        "tdca-mlp",
        "CreditAssign-MultiGaussian-v0",
        {
            "first summit, %": climbed(0, "policy"),
            "second summit, %": climbed(1, "policy"),
            "swapped id, %": climbed(0, "swapped_id"),
            "swapped id (second), %": climbed(1, "swapped_id"),
        },
    ),
    Row("tdca-rnn", "CreditAssign-CartPole-v0", _CONTROL),
    Row("tdca-rnn", "CreditAssign-ReversedCartPole-v0", _CONTROL),
    Row("tdca-rnn", "CreditAssign-Pendulum-v0", _CONTROL),
    Row("tdca-rnn", "CreditAssign-ReversedPendulum-v0", _CONTROL),
    Row("tdca-mlp", "CreditAssign-Digits-v0", _IMAGES),
    Row("tdca-mlp", "CreditAssign-MNIST-v0", _IMAGES),
)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs per recipe")
    parser.add_argument("--logdir", type=Path, default=Path("runs/headline"), metavar="DIR")
    parser.add_argument(
        "--only", nargs="+", metavar="ID", help="environments to run (default: all of the table)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two generations each: shows that it works"
    )
    arguments = parser.parse_args()
    rows = [row for row in ROWS if not arguments.only or row.env_id in arguments.only]
    print("| environment | agent | mean ± std | learning, s | in all, s |")
    print("|---|---|---|---|---|")
    made = []
    for row in rows:
        runs = [
            run(row, seed, arguments.logdir, arguments.quick) for seed in range(arguments.seeds)
        ]
        print(line(row, runs), flush=True)
        made += runs
    print(
        f"\nOver {arguments.seeds} seeds of the outer loop; test accuracies over their 5 fresh "
        f"subsets too. Made by {makers(made)}."
    )


def run(row: Row, seed: int, logdir: Path, quick: bool) -> Results:
    """Results of one run with its seconds, run now unless they are there."""
    kept = logdir / f"{row.agent}_{row.env_id}_seed{seed}{'_quick' if quick else ''}.json"
    if not kept.exists():
        folder = logdir / kept.stem
        command = [sys.executable, str(TRAIN), "--agent", row.agent, "--env", row.env_id]
        command += ["--seed", str(seed), "--logdir", str(folder)]
        command += ["--generations", "2", "--learner-kwargs", "starts=1"] if quick else []
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        newest = max(folder.glob("*/results.json"), key=lambda path: path.stat().st_mtime)
        results = json.loads(newest.read_text()) | {"seconds": seconds}
        if not results.get("dataset_is_complete", True):
            sys.exit(f"{results['dataset']} is no whole data set; set CREDIT_ENVS_DATA to one")
        with atomic_path(kept) as unfinished:
            unfinished.write_text(json.dumps(results, indent=2) + "\n")
    content: Results = json.loads(kept.read_text())
    return content


def line(row: Row, runs: Sequence[Results]) -> str:
    """One line of Markdown."""
    cells = []
    for name, measure in row.measures.items():
        values = np.concatenate([measure(results) for results in runs])
        cells.append(f"{name} {values.mean():.1f} ± {sample_std(values):.1f}")
    learning, total = (
        f"{np.mean([results[key] for results in runs]):.0f}"
        for key in ("learning_seconds", "seconds")
    )
    return f"| {row.env_id} | {row.agent} | {'; '.join(cells)} | {learning} | {total} |"


if __name__ == "__main__":
    main()
