"""What the commands that draw the paper's figures share: command line, files and looks."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray
from torch.utils.tensorboard import SummaryWriter

from benchmarks.common.command import add_choice, exit_code
from benchmarks.common.results import FOLDER, ResultsFile
from credit_envs.files import atomic_path
from meta.command_line import Parser
from meta.spread import sample_std

DOCS = Path(__file__).parents[2] / "docs" / "figures"
QUICK = Path("runs/figures")

Draw = Callable[[argparse.Namespace, ResultsFile], Figure]

BLUE, SKY, GREEN, ORANGE, RED, PURPLE, GREY = (
    "#0072B2",
    "#56B4E9",
    "#009E73",
    "#E69F00",
    "#D55E00",
    "#CC79A7",
    "#666666",
)
"""Okabe and Ito's colours, which the colour-blind can tell apart."""

STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.size": 10,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.titlesize": 13,
}


class FigureParser(Parser):
    """The options that all figures have.

    Args:
        name: of the figure, its files and its module.
        description: of the command, a module's docstring.
        examples: lines that show how it is called.
    """

    def __init__(self, name: str, description: str | None, examples: str) -> None:
        super().__init__(
            name,
            prog=f"python -m benchmarks.{name}",
            description=description,
            epilog=f"examples:\n{examples}",
        )
        add = self.add_argument
        add("--quick", action="store_true", help="rougher, in a minute or two; shows that it works")
        add(
            "--output",
            type=Path,
            metavar="DIR",
            help="where the picture goes (default: docs/figures; with --quick: runs/figures)",
        )
        add(
            "--results",
            type=Path,
            metavar="DIR",
            help="where the numbers are kept, and found by the next call "
            "(default: benchmarks/results; with --quick: --output)",
        )
        add(
            "--logdir",
            type=Path,
            default=Path("runs/tensorboard"),
            metavar="DIR",
            help="TensorBoard folder, where the figure goes too (default: runs/tensorboard)",
        )


def add_data(parser: FigureParser, known: Iterable[str]) -> None:
    """The option of figures that show several data sets."""
    add_choice(parser, "--data", "SET", known, "all but Digits; quick: Digits")


def chosen_data(arguments: argparse.Namespace, known: Iterable[str]) -> list[str]:
    """What `--data` says, or its default."""
    default = ["Digits"] if arguments.quick else [name for name in known if name != "Digits"]
    data: list[str] = arguments.data or default
    return data


def run(
    parser: FigureParser, draw: Draw, argv: Sequence[str] | None, file: str | None = None
) -> int:
    """Run a figure's command line; returns the exit code.

    Args:
        parser: with the figure's own options.
        draw: makes the figure from the options; all it computes goes through the results file.
        argv: the command line; None: the process's own.
        file: name of the results file; None: that of the figure.
    """
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    quick = arguments.quick
    folder = arguments.output or (QUICK if quick else DOCS)
    kept = arguments.results or (folder if quick else FOLDER)
    picture = folder / f"{parser.name}{'-quick' if quick else ''}.png"

    def work() -> None:
        results = ResultsFile(file or parser.name, quick, kept)
        with matplotlib.rc_context(STYLE):
            figure = draw(arguments, results)
            with atomic_path(picture) as unfinished:
                figure.savefig(unfinished, dpi=100)
        with SummaryWriter(str(arguments.logdir / picture.stem)) as writer:
            writer.add_image(f"figures/{parser.name}", imread(picture), dataformats="HWC")
        print(f"figure: {picture}")
        print(f"numbers: {results.path}")
        print(f"TensorBoard: tensorboard --logdir {arguments.logdir}")

    return exit_code(parser.name, work)


# ---------------------------------------------------------------------- numbers in files


def rounded(values: ArrayLike, digits: int = 4) -> Any:
    """As nested lists of few significant digits, to be kept in a results file."""
    array = np.asarray(values, dtype=np.float64)
    flat = [float(f"{value:.{digits}g}") for value in array.ravel()]
    return np.array(flat).reshape(array.shape).tolist()


def mean_and_std(values: NDArray[np.float64]) -> dict[str, list[float]]:
    """Over the first axis."""
    return {"mean": rounded(values.mean(0)), "std": rounded(sample_std(values, 0))}


# ---------------------------------------------------------------------- looks


def band(
    axes: Axes,
    x: ArrayLike,
    curve: dict[str, list[float]],
    colour: str,
    label: str | None = None,
    factor: float = 1.0,
    linestyle: str = "-",
    width: float = 1.0,
) -> None:
    """A mean with its standard deviation around it.

    Args:
        axes: to draw on.
        x: where.
        curve: as `mean_and_std` gives it.
        colour: of the line.
        label: for the legend.
        factor: on the values; 100 for per cent.
        linestyle: of the line.
        width: of the band, in standard deviations to each side.
    """
    mean, std = factor * np.array(curve["mean"]), factor * width * np.array(curve["std"])
    axes.plot(x, mean, color=colour, label=label, linestyle=linestyle)
    axes.fill_between(np.asarray(x), mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)


def path(
    axes: Any, *coordinates: ArrayLike, colour: str, label: str | None = None, **line: Any
) -> None:
    """A trajectory from a circle to a star.

    Args:
        axes: to draw on, of two or three dimensions.
        coordinates: along the trajectory, for each dimension.
        colour: of the line and the star.
        label: for the legend.
        line: how else the line looks.
    """
    points = np.stack([np.asarray(values) for values in coordinates])
    axes.plot(*points, color=colour, label=label, zorder=3, **line)
    axes.plot(*points[:, :1], "o", color="black", markersize=5, zorder=4)
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.7}
    axes.plot(*points[:, -1:], "*", color=colour, markersize=12, zorder=5, **edge)


def letter(axes: Axes, index: int, title: str) -> None:
    """A panel's title after its letter."""
    text = f"{chr(ord('a') + index)}   {title}"
    if hasattr(axes, "get_zlim"):
        axes.set_title(text, loc="left", y=0.98)
    else:
        axes.set_title(text, loc="left")


def logarithmic(axes: Axes) -> None:
    """A logarithmic scale of heights with plain numbers, also where it spans less than a decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
