"""How the outer loop converges on each data set (TDCA, Fig. S1).

PGPE with the recipe of each environment, from random parameters and from parameters that already
do feedback alignment, each with a step size that suits it. Every few generations the centre
trains networks as in meta-training, but on images that the outer loop never meets; drawn are their
cross-entropy and accuracy after the last update, on those training images and on test images,
mean ± std over seeds of the outer loop.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from stable_baselines3.common.callbacks import BaseCallback

from agents import TDCAPolicy
from benchmarks.common.figure_methods import dataset_name, environment_id
from benchmarks.common.figures import (
    BLUE,
    GREY,
    RED,
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
from credit_envs.files import atomic_path
from meta import PGPE
from meta.baselines import image_env, image_split, learn
from meta.command_line import natural, positive
from meta.recipes import RECIPES
from meta.report import fresh_lives
from meta.runs import Checkpoint
from meta.tuning import Split

NAME = "figure_s1"
EXAMPLES = """\
  python -m benchmarks.figure_s1                          # about an hour on two cores
  python -m benchmarks.figure_s1 --quick                  # digits, a few generations
  python -m benchmarks.figure_s1 --generations 500        # as long as in the paper
  python -m benchmarks.figure_s1 --data MNIST --seeds 5

Each outer loop keeps its checkpoint in --checkpoints and goes on from there.
"""
DATA = ("MNIST", "FashionMNIST", "CIFAR10", "Digits")
STARTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "random start": {
        "policy_kwargs": {"start": "xavier", "output_scale": 0.1},
        "pgpe_kwargs": {"stdev_init": 0.07, "center_learning_rate": 0.03},
    },
    "start at feedback alignment": {
        "policy_kwargs": {"start": "feedback-alignment", "output_scale": 1.0},
        "pgpe_kwargs": {"stdev_init": 0.02, "center_learning_rate": 0.002},
    },
}
"""What is special to each start: steps that leave chance take feedback alignment apart."""

COLOURS = dict(zip(STARTS, (BLUE, RED), strict=True))
EVERY = 5
"""Generations between measurements."""

_LIVES = 4
_METRICS = ("loss", "test_loss", "accuracy", "test_accuracy")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure."""
    parser = FigureParser(NAME, __doc__, EXAMPLES)
    add_data(parser, DATA)
    add = parser.add_argument
    add(
        "--generations",
        type=positive,
        metavar="N",
        help="of each outer loop, over which its steps shrink too (default: 50; quick: 30)",
    )
    add("--seeds", type=positive, metavar="N", help="outer loops per line (default: 3; quick: 2)")
    add(
        "--workers",
        type=natural,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes; 0: this one alone. Results do not depend on it (default: one per core)",
    )
    add(
        "--checkpoints",
        type=Path,
        default=Path("runs/figure_s1"),
        metavar="DIR",
        help="where unfinished outer loops are kept (default: runs/figure_s1)",
    )
    return run(parser, draw, argv)


def draw(arguments: argparse.Namespace, results: ResultsFile) -> Figure:
    """The figure, and its numbers in the results file."""
    quick = arguments.quick
    data = chosen_data(arguments, DATA)
    generations = arguments.generations or (30 if quick else 50)
    seeds = range(arguments.seeds or (2 if quick else 3))
    cells: dict[tuple[str, str], list[Cell]] = {}
    for name in data:
        for start in STARTS:
            for seed in seeds:
                cell = converge(name, start, seed, generations, arguments, results)
                cells.setdefault((name, start), []).append(cell)
                print(
                    f"{name}, {start}, seed {seed}: test accuracy "
                    f"{100 * cell['curves']['test_accuracy'][-1]:.1f} % "
                    f"after {generations} generations",
                    flush=True,
                )
    print(render(results))

    figure = Figure(figsize=(max(4.2 * len(data), 6.0), 6.8), layout="constrained")
    panels = figure.subplots(2, len(data), squeeze=False, sharex=True, sharey="row")
    for column, name in enumerate(data):
        loss, accuracy = panels[:, column]
        for start in STARTS:
            curves = [cell["curves"] for cell in cells[name, start]]
            generation = cells[name, start][0]["generation"]
            for metric in _METRICS:
                axes, factor = (loss, 1.0) if metric.endswith("loss") else (accuracy, 100.0)
                values = np.array([curve[metric] for curve in curves])
                style = "--" if metric.startswith("test") else "-"
                band(axes, generation, mean_and_std(values), COLOURS[start], None, factor, style)
        letter(loss, column, cells[name, start][0]["dataset"])
        letter(accuracy, len(data) + column, cells[name, start][0]["dataset"])
        accuracy.set(xlabel="generation of the outer loop", xlim=(0, generations))
    panels[0, 0].set_ylabel("cross-entropy / nats")
    logarithmic(panels[0, 0])
    panels[1, 0].set(ylabel="accuracy / %", ylim=(0, 103))
    handles = [Line2D([], [], color=COLOURS[start], label=start) for start in STARTS]
    handles.append(Line2D([], [], color=GREY, label="training images"))
    handles.append(Line2D([], [], color=GREY, linestyle="--", label="test images"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4 if len(data) > 1 else 2)
    return figure


def render(file: ResultsFile) -> str:
    """Test accuracy at the start, half-way and at the end in Markdown, with what made it."""
    rows, used = [], []
    for data in DATA:
        for start in STARTS:
            group = [c for key, c in file.cells.items() if key.startswith(_key(data, start, ""))]
            if not group:
                continue
            used += group
            accuracy = [cell["curves"]["test_accuracy"] for cell in group]
            moments = (0, len(accuracy[0]) // 2, -1)
            spreads = [spread([values[moment] for values in accuracy]) for moment in moments]
            generations = str(group[0]["settings"]["generations"])
            rows.append([group[0]["dataset"], start, generations, str(len(group)), *spreads])
    header = ["data", "start", "generations", "seeds", "test at first, %", "half-way", "at the end"]
    return f"{markdown(header, rows)}\n\nMade by {makers(used)}."


def _key(data: str, start: str, seed: int | str) -> str:
    return f"{data}, {start}, seed {seed}"


# ---------------------------------------------------------------------- the outer loop


def converge(
    data: str,
    start: str,
    seed: int,
    generations: int,
    arguments: argparse.Namespace,
    results: ResultsFile,
) -> Cell:
    """One outer loop's measurements, from the results file if they are there."""
    env_id = environment_id(data)
    recipe = RECIPES[env_id]
    kwargs = {**recipe.scored_kwargs, **recipe.meta_kwargs}
    split, dataset = image_split(env_id, recipe.scored_kwargs), dataset_name(env_id)
    settings = {
        "env_id": env_id,
        "dataset": dataset,
        "env_kwargs": kwargs,
        "policy_kwargs": {**recipe.policy_kwargs, **STARTS[start]["policy_kwargs"]},
        "pgpe_kwargs": {
            **recipe.learner_kwargs,
            **STARTS[start]["pgpe_kwargs"],
            "anneal_over": generations if recipe.anneal else None,
            "seed": seed,
        },
        "generations": generations,
        "every": EVERY,
        "lives": _LIVES,
    }

    def compute() -> dict[str, Any]:
        name = f"{data}_{start.replace(' ', '-')}_seed{seed}_{generations}generations"
        measurements = evolve(settings, split, arguments.checkpoints / name, arguments.workers)
        generation = sorted(map(int, measurements))
        curves = {
            metric: [measurements[str(moment)][metric] for moment in generation]
            for metric in _METRICS
        }
        return {"dataset": dataset, "generation": generation, "curves": curves}

    return results.cell(_key(data, start, seed), settings, compute)


def evolve(
    settings: Mapping[str, Any], split: Split, folder: Path, workers: int
) -> Mapping[str, Mapping[str, float]]:
    """Evolve, from the checkpoint in `folder` if there is one; measurements by generation."""
    checkpoint = folder / "model.zip"
    measure = Measure(folder / "measured.json", settings, split)
    if checkpoint.exists() and measure.resumed:
        model = PGPE.load(checkpoint, n_workers=workers)
    else:
        kwargs = {**settings["env_kwargs"], "train_range": split.meta_range, "evaluate_test": False}
        model = PGPE(
            TDCAPolicy,
            settings["env_id"],
            env_kwargs=kwargs,
            policy_kwargs=dict(settings["policy_kwargs"]),
            n_workers=workers,
            **settings["pgpe_kwargs"],
        )
    total = settings["generations"] * model.timesteps_per_generation
    if model.num_timesteps < total:
        # Measured before the checkpoint, so that none is missing after an interruption.
        model.learn(
            total - model.num_timesteps,
            callback=[measure, Checkpoint(checkpoint)],
            reset_num_timesteps=False,
        )
    return measure.measurements


class Measure(BaseCallback):
    """Lets the centre train networks on fresh images every few generations.

    Args:
        path: of the file that keeps the measurements.
        settings: of the outer loop; a file with other ones is not gone on with.
        split: which images are fresh.

    Attributes:
        resumed: whether there were measurements of these settings.
        measurements: by generation.
    """

    model: PGPE

    def __init__(self, path: Path, settings: Mapping[str, Any], split: Split) -> None:
        super().__init__()
        self._path = path
        self._settings = json.loads(json.dumps(settings))
        self._split = split
        kept = json.loads(path.read_text()) if path.exists() else {}
        self.resumed = kept.get("settings") == self._settings
        self.measurements: dict[str, dict[str, float]] = (
            kept["measurements"] if self.resumed else {}
        )

    def _on_training_start(self) -> None:
        kwargs = {**self._settings["env_kwargs"], "train_range": self._split.fresh_range}
        self._env, _ = image_env(self._settings["env_id"], kwargs, _LIVES)
        if self.model.generation == 0:
            self._measure()

    def _on_step(self) -> bool:
        last = self.model.generation == self._settings["generations"]
        if self.model.generation % EVERY == 0 or last:
            self._measure()
        return True

    def _measure(self) -> None:
        *_, task = learn(self.model.policy, self._env, fresh_lives(_LIVES))
        metrics = {**task.metrics(), **task.final_metrics()}
        self.measurements[str(self.model.generation)] = {
            name: rounded(metrics[name].mean()) for name in _METRICS
        }
        content = {"settings": self._settings, "measurements": self.measurements}
        with atomic_path(self._path) as unfinished:
            unfinished.write_text(json.dumps(content))


if __name__ == "__main__":
    sys.exit(main())
