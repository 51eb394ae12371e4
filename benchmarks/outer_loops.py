"""PGPE and meta-gradients on MNIST, by CPU seconds: the same lives, the same validation loss.

Both outer loops begin with feedback alignment and see lives of 1,000 images and 20 updates, scored
by the loss on 1,000 images held out, each with its recipe of `train.py`; meta-gradients in a run as
short as a minute. Now and then, off the clock, the top-down network trains networks whose loss and
accuracy are measured on validation images, which no outer loop meets. In the end both are scored on
the test images, after lives on the five fresh subsets of table 1. All in one process and thread.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.common.by_recipe import loop_by_recipe
from benchmarks.common.classifiers import FILE, Setting, found
from benchmarks.common.figures import BLUE, GREY, RED, FigureParser, letter, run
from benchmarks.common.results import Cell, ResultsFile, makers, markdown, spread
from meta.baselines import image_split
from meta.command_line import positive
from meta.evaluation import evaluate
from meta.outer_loop import OuterLoop
from meta.report import NUM_SUBSETS, fresh_lives, tuning_lives
from meta.tuning import Tuned, score

NAME = "outer_loops"
ENV = "CreditAssign-MNIST-v0"
GENERATIONS = {"meta-gradient": 120, "pgpe": 100}
"""Of PGPE as its recipe has it; of meta-gradients about a minute."""
_MEASURED_EVERY = {"meta-gradient": 8, "pgpe": 5}
_RATE = 0.01
"""Of the inner optimiser, the environment's: nothing is tuned."""
COLOURS = {"meta-gradient": RED, "pgpe": BLUE}
LABELS = {"meta-gradient": "meta-gradients", "pgpe": "PGPE"}
YARDSTICK = "Kaiming BP"
"""The best baseline of table 1."""
EXAMPLES = """\
  python -m benchmarks.outer_loops
  python -m benchmarks.outer_loops --quick        # a few generations of each
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure."""
    parser = FigureParser(NAME, __doc__, EXAMPLES)
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="runs of each")
    return run(parser, draw, argv)


def draw(arguments: argparse.Namespace, results: ResultsFile) -> Figure:
    """The figure, and its numbers in the results file."""
    runs = {}
    for outer, whole in GENERATIONS.items():
        generations = 2 if arguments.quick else whole
        for seed in range(arguments.seeds):
            settings = {"outer": outer, "generations": generations, "seed": seed}
            runs[outer, seed] = results.cell(
                f"{LABELS[outer]}, seed {seed}", settings, partial(race, outer, generations, seed)
            )
    print(render(results))
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, (metric, label, factor) in zip(
        panels,
        (
            ("validation_loss", "validation loss / nats", 1),
            ("validation_accuracy", "validation accuracy / %", 100),
        ),
        strict=True,
    ):
        for (outer, seed), cell in runs.items():
            values = factor * np.array(cell[metric])
            name = LABELS[outer] if seed == 0 else None
            axes.plot(cell["cpu_seconds"], values, color=COLOURS[outer], label=name)
        axes.axvline(60, color=GREY, lw=1, ls=":", label="one minute")
        axes.set(xlabel="CPU seconds", ylabel=label, xscale="symlog", xlim=(0, None))
        letter(axes, int(metric == "validation_accuracy"), "MNIST, 1,000 images, 20 updates")
    panels[0].legend()
    return figure


def race(outer: str, generations: int, seed: int, **env_kwargs: Any) -> dict[str, Any]:
    """One run: CPU seconds of the outer loop, and what its network taught by then.

    Args:
        outer: name of the outer loop on the command line.
        generations: of the run.
        seed: of the run.
        env_kwargs: of the environment; none in the figure.
    """
    split = image_split(ENV, env_kwargs)
    model = learner(outer, generations, seed, split.meta_range, env_kwargs)
    seconds, moments = [0.0], [validation(model, split.meta_range, env_kwargs)]
    every = _MEASURED_EVERY[outer]
    while model.generation < generations:
        count = min(every, generations - model.generation)
        started = time.process_time()
        model.learn(count * model.timesteps_per_generation, reset_num_timesteps=False)
        seconds.append(seconds[-1] + time.process_time() - started)
        moments.append(validation(model, split.meta_range, env_kwargs))
    result = score(
        outer,
        model.policy,
        ENV,
        env_kwargs,
        split.fresh_range,
        Tuned(_RATE),
        fresh_lives(NUM_SUBSETS),
    )
    losses, accuracies = np.transpose(moments).round(6).tolist()
    return {
        "cpu_seconds": np.round(seconds, 4).tolist(),
        "validation_loss": losses,
        "validation_accuracy": accuracies,
        "test": result.test.round(6).tolist(),
    }


def learner(
    outer: str,
    generations: int,
    seed: int,
    meta_range: tuple[float, float],
    env_kwargs: dict[str, Any],
) -> OuterLoop:
    """The outer loop with its recipe, annealed over these generations."""
    images = {"train_range": meta_range, "evaluate_test": False}
    return loop_by_recipe(
        "TDCAPolicy",
        ENV,
        outer,
        env_kwargs={**env_kwargs, **images},
        seed=seed,
        anneal_over=generations,
    )


def validation(
    model: OuterLoop, meta_range: tuple[float, float], env_kwargs: dict[str, Any]
) -> tuple[float, float]:
    """Mean loss in nats and accuracy on the images outside, after lives on those inside."""
    images = {"train_range": meta_range, "score_on": "validation", "evaluate_test": True}
    kwargs = {**env_kwargs, **images, "learning_rate": _RATE}
    lives = [
        evaluate(model.policy, ENV, [seed], kwargs, ["normal"]).conditions["normal"].final
        for seed in tuning_lives(3)
    ]
    loss, accuracy = (
        float(np.mean([life[f"validation_{name}"] for life in lives]))
        for name in ("loss", "accuracy")
    )
    return loss, accuracy


def reached(cell: Cell, loss: float) -> float | None:
    """CPU seconds until the validation loss was as low as this, or None."""
    below = np.flatnonzero(np.array(cell["validation_loss"]) <= loss)
    return float(cell["cpu_seconds"][below[0]]) if len(below) else None


def render(file: ResultsFile) -> str:
    """The table in Markdown, with what made it."""
    if not file.cells:
        return "–"
    goals = [cell["validation_loss"][-1] for key, cell in file.cells.items() if "PGPE" in key]
    goal = float(np.mean(goals)) if goals else float("nan")
    rows = []
    for key, cell in sorted(file.cells.items(), reverse=True):
        seconds = reached(cell, goal)
        rows.append(
            [
                key,
                str(cell["settings"]["generations"]),
                f"{cell['cpu_seconds'][-1]:.0f}",
                f"{cell['validation_loss'][0]:.3f} → {cell['validation_loss'][-1]:.3f}",
                "–" if seconds is None else f"{seconds:.0f}",
                spread(cell["test"]),
            ]
        )
    header = ["outer loop", "generations", "CPU s", "validation loss", "CPU s to PGPE's", "test, %"]
    best = found(ResultsFile(FILE), YARDSTICK, Setting("MNIST", 1000, 20))
    note = (
        "“CPU s to PGPE's”: until the validation loss is that of PGPE in the end, "
        f"{goal:.3f} nats. Test accuracy: mean ± standard deviation over five fresh subsets; the "
        f"best baseline of table 1, {YARDSTICK}, has {spread(best['test']) if best else '–'}."
    )
    return f"{markdown(header, rows)}\n\n{note} Made by {makers(file.cells.values())}."


if __name__ == "__main__":
    sys.exit(main())
