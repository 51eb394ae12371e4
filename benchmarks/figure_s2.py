"""How bottom-up networks converge under different rules (TDCA, Fig. S2).

On each data set networks start to learn a subset of the training images that no outer loop has met,
led by backpropagation (from Kaiming's start and from near zero), direct feedback alignment and the
zoo's top-down networks: with a credit for every neuron, evolved by PGPE and trained by
meta-gradients, and with credits that diffuse from groups (by meta-gradients; what they teach starts
from Kaiming's weights, as in their meta-training, the others' from zero). After every update
networks are scored on that subset and on the test images; drawn are mean ± std over lives. Every
rule runs at the learning rate that does best on validation images after the last update; the known
rules choose their inner optimiser in the same way. Where a hundred updates count, the rates of
top-down networks are small, and networks learn slowly that learn in twenty updates at the rates of
Table 1.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.common.figure_methods import (
    COLOURS,
    DFA,
    KAIMING,
    NETWORKS,
    TDCA,
    ZERO,
    Method,
    in_zoo,
    make,
    rule,
    top_down,
    tuned,
)
from benchmarks.common.figures import (
    GREY,
    FigureParser,
    add_data,
    band,
    chosen_data,
    letter,
    logarithmic,
    mean_and_std,
    rounded,
    run,
)
from benchmarks.common.results import Cell, ResultsFile, makers, markdown, spread
from meta.baselines import image_split, learn
from meta.command_line import positive
from meta.report import fresh_lives

NAME = "figure_s2"
EXAMPLES = """\
  python -m benchmarks.figure_s2
  python -m benchmarks.figure_s2 --quick              # digits, few lives
  python -m benchmarks.figure_s2 --data MNIST --updates 20
"""
RULES = (KAIMING, ZERO, DFA)
METRICS: Mapping[str, tuple[str, float]] = {
    "accuracy": ("training accuracy / %", 100.0),
    "test_accuracy": ("test accuracy / %", 100.0),
    "loss": ("training loss / nats", 1.0),
    "test_loss": ("test loss / nats", 1.0),
}
"""What is drawn: its label and the factor on it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure."""
    parser = FigureParser(NAME, __doc__, EXAMPLES)
    add_data(parser, NETWORKS)
    add = parser.add_argument
    add("--updates", type=positive, metavar="N", help="in each life (default: 100; quick: 40)")
    add("--lives", type=positive, metavar="N", help="subsets per line (default: 5; quick: 2)")
    return run(parser, draw, argv)


def draw(arguments: argparse.Namespace, results: ResultsFile) -> Figure:
    """The figure, and its numbers in the results file."""
    quick = arguments.quick
    data = chosen_data(arguments, NETWORKS)
    updates = arguments.updates or (40 if quick else 100)
    lives = arguments.lives or (2 if quick else 5)
    tuning_lives = min(lives, 3)

    rows: dict[str, dict[str, Cell]] = {}
    left_out = []
    for name in data:
        there, missing = in_zoo(name)
        left_out += missing
        if TDCA not in there:
            continue
        methods = [rule(method, name) for method in RULES]
        methods += [top_down(method, name) for method in there]
        rows[name] = {
            method.name: kept(name, method, updates, lives, tuning_lives, results)
            for method in methods
        }
    if left_out:
        print(f"left out, as the zoo has no such networks: {', '.join(left_out)}")
    if not rows:
        raise ValueError(f"the zoo has no network for {', '.join(data)}; see meta.zoo.names()")
    print(render(results))

    figure = Figure(figsize=(15.5, 0.8 + 3.4 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(METRICS), squeeze=False)
    for row, cells in enumerate(rows.values()):
        for column, (metric, (label, factor)) in enumerate(METRICS.items()):
            axes = panels[row, column]
            for method, cell in cells.items():
                curve = cell["curves"][metric]
                band(axes, range(updates + 1), curve, COLOURS[method], method, factor)
            meta_updates = cells[TDCA]["settings"]["meta_updates"]
            axes.axvline(
                meta_updates, color=GREY, lw=1, ls=":", label="length of lives in meta-training"
            )
            axes.set(xlabel="update", ylabel=label, xlim=(0, updates))
            if metric.endswith("loss"):
                logarithmic(axes)
            else:
                means = np.array([cell["curves"][metric]["mean"] for cell in cells.values()])
                # Where the methods part: from the worst at the vertical line on.
                lowest = means[:, min(meta_updates, updates)].min()
                axes.set(ylim=(90 * lowest, 104 * means.max()))
            letter(axes, row * len(METRICS) + column, cells[TDCA]["dataset"])
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
    return figure


def render(file: ResultsFile) -> str:
    """Accuracies after the last update in Markdown, with what made them."""
    cells = {
        (data, method): file.cells[key]
        for data in NETWORKS
        for method in COLOURS
        if (key := _key(data, method)) in file.cells
    }
    rows = [
        [
            cell["dataset"],
            method,
            cell["tuned"]["optimizer"],
            f"{cell['tuned']['learning_rate']:g}",
            spread(cell["last"]["accuracy"]),
            spread(cell["last"]["test_accuracy"]),
        ]
        for (_, method), cell in cells.items()
    ]
    header = ["data", "method", "optimiser", "rate", "training, %", "test, %"]
    counts = sorted({(c["settings"]["updates"], c["settings"]["lives"]) for c in cells.values()})
    lives = " or ".join(f"{updates} updates in {number} lives" for updates, number in counts)
    return f"{markdown(header, rows)}\n\nAfter {lives}. Made by {makers(cells.values())}."


def _key(data: str, method: str) -> str:
    return f"{data}, {method}"


def kept(
    data: str, method: Method, updates: int, lives: int, tuning_lives: int, results: ResultsFile
) -> Cell:
    """A method's curves, from the results file if they are there."""
    settings = {**method.settings(), "updates": updates, "lives": lives, "tuned_on": tuning_lives}

    def compute() -> dict[str, Any]:
        print(f"{data}: {method.name} …", flush=True)
        chosen = tuned(method, updates, tuning_lives)
        return {"tuned": chosen, **converge(method, updates, lives, chosen)}

    return results.cell(_key(data, method.name), settings, compute)


def converge(method: Method, updates: int, lives: int, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """All metrics by update, mean and std over lives, and those after the last of each life."""
    fresh = image_split(method.env_id, method.env_kwargs).fresh_range
    env = make(method, lives, num_updates=updates, train_range=fresh, **chosen)
    moments = []
    for task in learn(method.policy, env, fresh_lives(lives)):
        metrics = {**task.metrics(), **task.final_metrics()}
        moments.append(np.stack([metrics[name].double().numpy() for name in METRICS]))
    by_life = np.stack(moments, axis=2)
    return {
        "dataset": task.dataset.name,
        "curves": {name: mean_and_std(by_life[i].copy()) for i, name in enumerate(METRICS)},
        "last": {name: rounded(by_life[i, :, -1]) for i, name in enumerate(METRICS)},
    }


if __name__ == "__main__":
    sys.exit(main())
