"""Adaptation or drift: the motor is turned round in the middle of a life.

Top-down networks are meta-trained by their recipe: on lives of five updates, in half of which the
motor is connected the wrong way round, but never turned round on the way. Then they lead agents
through lives in which it is, after ten updates. Left to themselves credits go on in the same
direction when all is well, so that parameters grow with age, and undoing them takes as long as it
took to grow them. With a weight decay of 0.2 (on other lives, from 0.1 to 0.5 all serve) parameters
stay bounded, and agents recover within six episodes. A change that is the same for all lives
("constant") and the credits of another life ("shuffled") serve neither before nor after.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from agents import TDCARNNPolicy
from benchmarks.common.by_recipe import loop_by_recipe
from benchmarks.common.figures import FigureParser, letter, rounded, run
from benchmarks.common.results import Cell, Job, ResultsFile, makers, markdown
from meta.evaluation import CONDITIONS, Condition, evaluate
from meta.figures import CONDITION_COLOURS
from meta.recipes import RECIPES
from meta.report import fresh_lives
from meta.spread import sample_std

NAME = "recovery"
EXAMPLES = """\
  python -m benchmarks.recovery
  python -m benchmarks.recovery --quick --output /tmp/figures
"""
ENV_ID = "CreditAssign-ReversedCartPole-v0"
WEIGHT_DECAYS = (0.0, 0.2)
SWITCH_AFTER, EPISODES_AFTER = 10, 12
RECOVERED = 190.0
"""Mean return from which on agents count as recovered."""


@dataclass(frozen=True)
class Extent:
    """Seeds of the outer loop, its generations, and fresh lives."""

    seeds: int = 3
    generations: int = RECIPES[ENV_ID].generations
    lives: int = 256


QUICK = Extent(seeds=1, generations=2, lives=32)

_HEADER = (
    "weight decay",
    "credits",
    "update 0",
    "before the reversal",
    "episode 1 after it",
    "episode 5",
    "episode 10",
    f"episodes to {RECOVERED:.0f}, by seed",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what is missing, then draw and print; returns the exit code."""
    return run(FigureParser(NAME, __doc__, EXAMPLES), draw, argv)


def draw(arguments: argparse.Namespace, results: ResultsFile) -> Figure:
    """The figure; all numbers go through the results file."""
    extent = QUICK if arguments.quick else Extent()
    for job in jobs(extent):
        results.cell(job.key, job.settings, partial(job.compute, **job.settings))
    print(render(results, extent))
    found = cells(results, extent)
    figure = Figure(figsize=(11.5, 4.2), layout="constrained")
    for index, axes in enumerate(figure.subplots(1, len(WEIGHT_DECAYS), sharey=True)):
        panel(axes, WEIGHT_DECAYS[index], found)
        letter(axes, index, f"weight decay {WEIGHT_DECAYS[index]:g}")
    figure.axes[0].legend(loc="upper right", bbox_to_anchor=(1.0, 0.9), fontsize=9)
    return figure


# ---------------------------------------------------------------------- numbers


def jobs(extent: Extent) -> list[Job]:
    """A network per seed, and how agents fare that it leads."""
    settings = {
        "env_id": ENV_ID,
        "generations": extent.generations,
        "weight_decays": WEIGHT_DECAYS,
        "switch_after": SWITCH_AFTER,
        "num_updates": SWITCH_AFTER + EPISODES_AFTER,
        "lives": extent.lives,
    }
    return [
        Job(f"ReversedCartPole, seed {seed}", returns, {**settings, "seed": seed})
        for seed in range(extent.seeds)
    ]


def returns(
    env_id: str,
    seed: int,
    generations: int,
    weight_decays: Sequence[float],
    switch_after: int,
    num_updates: int,
    lives: int,
) -> Mapping[str, Any]:
    """Mean return of fresh lives by update, for every weight decay and condition."""
    policy = meta_trained(env_id, seed, generations)
    life: dict[str, Any] = {"switch_after": switch_after, "num_updates": num_updates}
    curves: dict[str, Any] = {}
    for decay in weight_decays:
        evaluation = evaluate(policy, env_id, fresh_lives(lives), {**life, "weight_decay": decay})
        curves[str(decay)] = {
            condition: rounded(of_condition.per_update["episode_return"].mean(0), 5)
            for condition, of_condition in evaluation.conditions.items()
        }
    return {"returns": curves}


def meta_trained(env_id: str, seed: int, generations: int) -> TDCARNNPolicy:
    """By the environment's recipe."""
    model = loop_by_recipe("TDCARNNPolicy", env_id, seed=seed)
    model.learn(generations * model.timesteps_per_generation)
    assert isinstance(model.policy, TDCARNNPolicy)
    return model.policy


def cells(file: ResultsFile, extent: Extent) -> list[Cell]:
    """Those that have been computed."""
    return file.find_all(jobs(extent))


def curves_of(found: Sequence[Cell], decay: float, condition: Condition) -> NDArray[np.float64]:
    """Returns by seed and update."""
    return np.array([cell["returns"][str(decay)][condition] for cell in found])


def episodes_to_recover(curve: NDArray[np.float64]) -> str:
    """After the reversal, until the mean return is as high as that of agents that can do it."""
    recovered = np.flatnonzero(curve[SWITCH_AFTER + 1 :] >= RECOVERED)
    return str(recovered[0] + 1) if len(recovered) else f"> {EPISODES_AFTER}"


# ---------------------------------------------------------------------- what is shown


def render(file: ResultsFile, extent: Extent = Extent()) -> str:
    """The table in Markdown, with what made it."""
    found = cells(file, extent)
    if not found:
        return markdown(_HEADER, [])
    moments = [0, *(SWITCH_AFTER + after for after in (0, 1, 5, 10))]
    lines = []
    for decay in WEIGHT_DECAYS:
        for condition in CONDITIONS:
            curves = curves_of(found, decay, condition)
            at_moments = [f"{v.mean():.1f} ± {sample_std(v):.1f}" for v in curves[:, moments].T]
            recovery = ", ".join(episodes_to_recover(curve) for curve in curves)
            lines.append([f"{decay:g}", condition, *at_moments, recovery])
    about = (
        f"Mean return of {extent.lives} fresh lives, mean ± standard deviation over {len(found)} "
        f"seeds of the outer loop. Made by {makers(found)}."
    )
    return f"{markdown(_HEADER, lines)}\n\n{about}"


def panel(axes: Axes, decay: float, found: Sequence[Cell]) -> None:
    """Returns by update under every condition, a thin line for each seed."""
    for condition in CONDITIONS:
        curves, colour = curves_of(found, decay, condition), CONDITION_COLOURS[condition]
        update = np.arange(curves.shape[1])
        axes.plot(update, curves.T, color=colour, linewidth=0.7, alpha=0.5)
        axes.plot(update, curves.mean(0), color=colour, label=f"{condition} credits")
    axes.axvline(SWITCH_AFTER + 0.5, color="black", linestyle=":", linewidth=1.2)
    axes.annotate(
        "the motor turns round", (SWITCH_AFTER + 0.3, 110), rotation=90, ha="right", fontsize=9
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="update", ylabel="return per episode", ylim=(0, 208))


if __name__ == "__main__":
    sys.exit(main())
