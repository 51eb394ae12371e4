"""Agents that learn to act: their tasks, and how they learn (TDCA, Fig. 3).

Above, the end of the last episode of an agent that was led by the zoo's network (Meta-World's
picture takes OpenGL, see `python -m meta.video --help`). In the middle, its return by update in
lives that the outer loop never met, with the agent's own credits and under three controls: the mean
of all agents' credits, those of another agent, and none. Where constant credits do as well as its
own, learning takes no adaptation, only a drift that is good for all. Below, the outer loop: the
mean return of the candidates' agents after their last update (of the lives that count there), by
generation; in Pendulum it is begun anew every 60 generations, eight times, and goes on from the
best start, and in ReversedPendulum six times. Bands are standard deviations over seeds of the outer
loop. The curves are of the networks of Tables S5 and S6; what is missing is meta-trained.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import gymnasium
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from benchmarks.common.command import add_choice
from benchmarks.common.control_networks import FILE, LOGDIR, Network
from benchmarks.common.figures import (
    BLUE,
    FigureParser,
    band,
    letter,
    mean_and_std,
    run,
)
from benchmarks.common.results import Cell, ResultsFile, makers
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks import ControlTask
from meta import zoo
from meta.command_line import positive
from meta.evaluation import CONDITIONS
from meta.figures import CONDITION_COLOURS
from meta.recipes import CONTROL, RECIPES
from meta.video import LifeReplay, live

NAME = "figure_3"
EXAMPLES = """\
  python -m benchmarks.figure_3
  python -m benchmarks.figure_3 --quick                  # hardly any learning
  python -m benchmarks.figure_3 --only CartPole ReversedCartPole
"""
TASKS = [env_id.split("-")[1] for env_id in CONTROL]
_SEEDS = 3
_LABELS = {
    "normal": "own credits",
    "constant": "constant credits",
    "shuffled": "another agent's credits",
    "frozen": "no credits",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure."""
    parser = FigureParser(NAME, __doc__, EXAMPLES)
    add = parser.add_argument
    add_choice(parser, "--only", "TASK", TASKS, "all; quick: CartPole")
    add("--seeds", type=positive, metavar="N", help="of the outer loop (default: 3; quick: 2)")
    add(
        "--runs",
        type=Path,
        default=LOGDIR,
        metavar="DIR",
        help=f"runs of train.py (default: {LOGDIR})",
    )
    return run(parser, draw, argv, file=FILE)


def draw(arguments: argparse.Namespace, results: ResultsFile) -> Figure:
    """The figure, and its numbers in the results file."""
    quick = arguments.quick
    tasks = arguments.only or (["CartPole"] if quick else TASKS)
    seeds = arguments.seeds or (2 if quick else _SEEDS)
    figure = Figure(figsize=(0.6 + 3.7 * len(tasks), 8.4), layout="constrained")
    grid = figure.subplots(3, len(tasks), squeeze=False, height_ratios=(1.1, 1, 1))
    for column, task in enumerate(tasks):
        env_id = f"CreditAssign-{task}-v0"
        networks = [Network(env_id, seed, 3 if quick else None) for seed in range(seeds)]
        cells = [network.learn(results, arguments.runs) for network in networks]
        above, middle, below = grid[:, column]
        above.imshow(picture(env_id))
        above.set_axis_off()
        inner_loop(middle, cells)
        outer_loop(below, cells)
        for row, (axes, title) in enumerate(
            ((above, task), (middle, "a life"), (below, "the outer loop"))
        ):
            letter(axes, row * len(tasks) + column, title)
    handles, labels = grid[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(2 * len(tasks), 4))
    return figure


def render(file: ResultsFile) -> str:
    """What made the curves."""
    networks = [Network(env_id, seed) for env_id in CONTROL for seed in range(_SEEDS)]
    found = [cell for cell in (network.find(file) for network in networks) if cell]
    return f"Made by {makers(found)}."


def picture(env_id: str) -> NDArray[np.uint8]:
    """Gymnasium's picture of the end of a life's last episode, led by the zoo's network."""
    (name,) = (name for name in zoo.names() if env_id in zoo.card(name)["meta_training"])
    env = gymnasium.make_vec(env_id, num_envs=1, **RECIPES[env_id].scored_kwargs)
    assert isinstance(env, CreditAssignVectorEnv)
    assert isinstance(env.task, ControlTask)
    episode = live(zoo.load(name), env)[-1]
    env.close()
    replay = LifeReplay(env.task, [episode])
    replay.reset()
    for action in episode.actions:
        replay.step(action)
    frame: NDArray[np.uint8] = replay.render()
    replay.close()
    return frame


def inner_loop(axes: Axes, cells: Sequence[Cell]) -> None:
    """Return by update under every condition, mean ± std over seeds."""
    for condition in CONDITIONS:
        means = [cell["conditions"][condition]["episode_return"]["mean"] for cell in cells]
        curve = mean_and_std(np.array(means))
        updates = range(len(curve["mean"]))
        band(axes, updates, curve, CONDITION_COLOURS[condition], _LABELS[condition])
    axes.set(xlabel="update", ylabel="return of an episode")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def outer_loop(axes: Axes, cells: Sequence[Cell]) -> None:
    """Candidates' return by generation, mean ± std over seeds."""
    curve = mean_and_std(np.array([cell["history"] for cell in cells]))
    band(axes, range(1, len(curve["mean"]) + 1), curve, BLUE)
    axes.set(xlabel="generation", ylabel="return after the last update")


if __name__ == "__main__":
    sys.exit(main())
