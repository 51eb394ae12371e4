"""How the reward rate rises while a network learns (DeepAGREL, Fig. 3).

The fraction of right answers to the training images of each epoch, as they were given in learning:
DeepAGREL's rewards, exploration included, and one minus the error of its twins that are told the
labels. Mean ± 2σ over seeds, up to the epoch in which the first of them stops.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.common import deepagrel
from benchmarks.common.deepagrel import FILE
from benchmarks.common.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    FigureParser,
    band,
    letter,
    mean_and_std,
    run,
)
from benchmarks.common.results import ResultsFile, makers

NAME = "deepagrel_figure_3"
DEFAULT = ("MNIST Full", "MNIST Conv", "MNIST LocCon")
EXAMPLES = """\
  python -m benchmarks.deepagrel_figure_3                 # what the table has computed, or will
  python -m benchmarks.deepagrel_figure_3 --quick
  python -m benchmarks.deepagrel_figure_3 --only "CIFAR10 Conv" "CIFAR100 Conv" --seeds 10
"""
COLOURS = {
    "DeepAGREL": BLUE,
    deepagrel.TUNED: SKY,
    deepagrel.LARGER: PURPLE,
    deepagrel.TUNED_LARGER: "black",
    "Error-BP": RED,
    deepagrel.LARGER_TWIN: ORANGE,
    "FA": GREEN,
    "DFA": GREY,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure."""
    parser = FigureParser(NAME, __doc__, EXAMPLES)
    deepagrel.add_options(parser, DEFAULT)
    return run(parser, draw, argv, FILE)


def draw(arguments: argparse.Namespace, results: ResultsFile) -> Figure:
    """The figure, from networks that learn now unless they have."""
    networks, extent = deepagrel.networks_of(arguments), deepagrel.extent_of(arguments)
    deepagrel.fill(results, networks, arguments.methods, extent, arguments.workers)
    figure = Figure(figsize=(4.2 * len(networks), 3.6), layout="constrained")
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    for index, (axes, network) in enumerate(zip(panels, networks, strict=True)):
        for method in arguments.methods:
            cells = deepagrel.cells(results, network, method, extent)
            if not cells:
                continue
            epochs = min(len(cell["reward_rate"]) for cell in cells)
            rates = np.array([cell["reward_rate"][:epochs] for cell in cells])
            label = f"{method}, {len(cells)} seed{'s' * (len(cells) > 1)}"
            epoch = np.arange(1, epochs + 1)
            band(axes, epoch, mean_and_std(rates), COLOURS[method], label, 100, width=2)
        letter(axes, index, network.name)
        axes.set(xlabel="epoch", xscale="log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(loc="lower right")
    panels[0].set_ylabel("right answers in learning / %")
    return figure


def render(file: ResultsFile) -> str:
    """What made the curves."""
    cells = [
        cell
        for network in deepagrel.NETWORKS
        if network.name in DEFAULT
        for method in deepagrel.DEFAULT_METHODS
        for cell in deepagrel.cells(file, network, method, deepagrel.Extent())
    ]
    return f"Made by {makers(cells)}."


if __name__ == "__main__":
    sys.exit(main())
