"""Loss landscapes around update trajectories, and angles between rules (TDCA, Fig. S3).

Two rules train a network on the same images. The plane through their trajectories that holds most
of their variance (PCA of the weights after every update of both) is cut through the loss on those
images: contours and the surface, with both trajectories projected on it. (They leave it a little;
the legend tells the loss at their true ends.) The zoo's top-down networks with a credit for every
neuron, evolved by PGPE and trained by meta-gradients, are each set against backpropagation, all
from zero weights or near them; then the latter against the one with credit diffusion, also trained
by meta-gradients, whose networks start from Kaiming's weights: from zero, neurons of a group would
stay alike.

The angles are those between the total displacements of two rules, and between their trajectories'
first principal directions, means over lives. Beside them stands a control: the angle between
a rule and itself in another life, which says how much an angle of 90° means; hidden neurons have
no names, so that two rules (or two feedback matrices) hardly ever move the same ones alike.
"""

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from math import prod
from textwrap import fill
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from benchmarks.common.figure_methods import (
    COLOURS,
    DFA,
    DFA_AGAIN,
    DIFFUSION,
    KAIMING,
    NETWORKS,
    TAUGHT,
    TDCA,
    ZERO,
    Method,
    in_zoo,
    make,
    rule,
    top_down,
    tuned,
)
from benchmarks.common.figures import FigureParser, letter, path, rounded, run
from benchmarks.common.results import Cell, ResultsFile, makers, markdown
from credit_envs.networks import MLPBatch, OwnInputs
from credit_envs.tasks import ClassificationTask
from meta.baselines import image_split, image_task, learn
from meta.command_line import at_least, positive
from meta.report import fresh_lives
from meta.spread import sample_std

NAME = "figure_s3"
EXAMPLES = """\
  python -m benchmarks.figure_s3
  python -m benchmarks.figure_s3 --quick              # digits, rough planes
  python -m benchmarks.figure_s3 --data FashionMNIST --updates 20
"""
PAIRS = ((TDCA, ZERO), (TAUGHT, ZERO), (TAUGHT, DIFFUSION))
"""Rules whose trajectories span a plane."""

RULES = (KAIMING, ZERO, DFA, DFA_AGAIN)
ANGLES = {"displacement": "total displacement", "direction": "first principal direction"}

Array = NDArray[np.float64]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure."""
    parser = FigureParser(NAME, __doc__, EXAMPLES)
    add = parser.add_argument
    add(
        "--data",
        choices=NETWORKS,
        metavar="SET",
        help=f"one of {', '.join(NETWORKS)} (default: MNIST; with --quick: Digits)",
    )
    add("--updates", type=positive, metavar="N", help="in each life (default: 100; quick: 40)")
    add("--lives", type=several, metavar="N", help="for angles (default: 5; quick: 2)")
    add("--grid", type=positive, metavar="N", help="points per side (default: 51; quick: 21)")
    return run(parser, draw, argv)


def several(text: str) -> int:
    """Lives, so many that each has another to be compared with."""
    return at_least(2, text)


def draw(arguments: argparse.Namespace, results: ResultsFile) -> Figure:
    """The figure, and its numbers in the results file."""
    quick = arguments.quick
    data = arguments.data or ("Digits" if quick else "MNIST")
    lives = fresh_lives(arguments.lives or (2 if quick else 5))
    there, missing = in_zoo(data)
    if TDCA not in there:
        raise ValueError(f"the zoo has no network for {data}; see meta.zoo.names()")
    if missing:
        print(f"left out, as the zoo has no such networks: {', '.join(missing)}")
    methods = {name: top_down(name, data) for name in there}
    methods = {name: m for name, m in methods.items() if layers(m) == layers(methods[TDCA])}
    for name in set(there) - set(methods):
        print(f"left out, as its networks have other layers: {NETWORKS[data][name]}")
    methods |= {name: rule(name, data) for name in RULES}
    alike = {name: Learning(m, arguments, results, data) for name, m in methods.items()}
    pairs = [pair for pair in PAIRS if set(pair) <= set(alike)]

    planes = [landscape(alike[one], alike[other], lives[0], results) for one, other in pairs]
    between = angles(alike, lives, data, results)
    print(table(between, list(alike)))
    print(render(results))
    return drawn(pairs, planes, between, list(alike))


def layers(method: Method) -> tuple[str, tuple[int, ...]]:
    """Of the networks that a method trains: only equal ones have weights to compare."""
    settings = image_task(method.env_id, method.env_kwargs).settings
    return settings.architecture, settings.hidden_sizes


# ---------------------------------------------------------------------- trajectories


class Learning:
    """A rule that trains networks; what it needs is computed when it is asked for.

    Args:
        method: the rule.
        arguments: of the command line.
        results: which keeps the rule's learning rate.
        data: name of the data set.
    """

    def __init__(
        self, method: Method, arguments: argparse.Namespace, results: ResultsFile, data: str
    ) -> None:
        self.method, self.data = method, data
        self.updates = arguments.updates or (40 if arguments.quick else 100)
        self.grid = arguments.grid or (21 if arguments.quick else 51)
        self._tuning_lives = 1 if arguments.quick else 3
        self._results = results
        self.settings = {
            **method.settings(),
            "updates": self.updates,
            "tuned_on": self._tuning_lives,
        }

    @functools.cached_property
    def chosen(self) -> Mapping[str, Any]:
        """Inner optimiser and learning rate."""
        cell = self._results.cell(
            f"{self.data}, {self.method.name}", self.settings, lambda: {"tuned": self._tune()}
        )
        chosen: Mapping[str, Any] = cell["tuned"]
        return chosen

    def _tune(self) -> Mapping[str, Any]:
        print(f"tuning {self.method.name} …", flush=True)
        return tuned(self.method, self.updates, self._tuning_lives)

    def live(self, life: int) -> tuple[Array, ClassificationTask]:
        """The weights after every update `(updates + 1, weights)`, and the task at the end."""
        fresh = image_split(self.method.env_id, self.method.env_kwargs).fresh_range
        env = make(self.method, 1, num_updates=self.updates, train_range=fresh, **self.chosen)
        trajectory = [weights(task) for task in learn(self.method.policy, env, [life])]
        assert isinstance(env.task, ClassificationTask)
        return np.stack(trajectory), env.task


def weights(task: ClassificationTask) -> Array:
    """All weights of the task's first network in one vector, layer by layer."""
    assert task.inputs is not None
    first, *others = task.network.weights
    layers = [task.inputs.natural(first), *others]
    return torch.cat([layer[0].flatten() for layer in layers]).double().numpy()


# ---------------------------------------------------------------------- geometry


class Plane:
    """The plane that holds most of the variance of some points.

    Args:
        points: `(N, D)`.

    Attributes:
        origin: their mean, `(D,)`.
        axes: two orthonormal directions, `(2, D)`.
        explained: share of the variance along each.
    """

    def __init__(self, points: Array) -> None:
        self.origin = points.mean(0)
        _, size, directions = np.linalg.svd(points - self.origin, full_matrices=False)
        self.axes = directions[:2]
        self.explained = size[:2] ** 2 / (size**2).sum()

    def project(self, points: Array) -> Array:
        """Coordinates in the plane, `(..., 2)`."""
        return np.asarray((points - self.origin) @ self.axes.T)

    def point(self, coordinates: Array) -> Array:
        """The points with these coordinates, `(..., D)`."""
        return np.asarray(self.origin + coordinates @ self.axes)


def angle(one: Array, other: Array) -> float:
    """Between two vectors, in degrees."""
    cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def displacement(trajectory: Array) -> Array:
    """From the first point to the last."""
    return np.asarray(trajectory[-1] - trajectory[0])


def first_direction(trajectory: Array) -> Array:
    """The principal direction of most variance, pointing the way the trajectory goes."""
    centred = trajectory - trajectory.mean(0)
    # Of the few points' inner products rather than of the many weights.
    _, vectors = np.linalg.eigh(centred @ centred.T)
    direction = centred.T @ vectors[:, -1]
    return np.asarray(direction * np.sign(direction @ displacement(trajectory)))


# ---------------------------------------------------------------------- numbers


def losses(task: ClassificationTask, points: Array, at_once: int = 32) -> Array:
    """Cross-entropy on the task's training images with each of these weights `(N, D)`, in nats."""
    assert isinstance(task.network, MLPBatch)
    assert task.inputs is not None
    indices = task.sample_indices[0]
    samples = task.standardise(task.dataset.x_train[indices])
    labels = torch.tensor(task.dataset.y_train[indices])
    first, *others = task.network.weights
    shapes = [layer[0].shape for layer in [task.inputs.natural(first[:1]), *others]]
    # Only says that the first weights are kept as they are.
    inputs = OwnInputs(1, len(samples), 1, samples)
    found = []
    for block in torch.split(torch.from_numpy(points).float(), at_once):
        networks = MLPBatch(
            len(block), task.network.sizes, (shapes[0][0], shapes[0][1]), task.device
        )
        parts = torch.split(block, [prod(shape) for shape in shapes], dim=1)
        for weight, part in zip(networks.weights, parts, strict=True):
            weight.copy_(part.view_as(weight))
        predicted = networks.predict(inputs, samples)
        found.append(-predicted[:, labels, torch.arange(len(labels))].mean(1))
    return torch.cat(found).double().numpy()


def landscape(one: Learning, other: Learning, life: int, results: ResultsFile) -> Cell:
    """Loss on the plane of two trajectories, kept in the results file."""
    names = (one.method.name, other.method.name)
    settings = {"rules": [one.settings, other.settings], "life": life, "grid": one.grid}

    def compute() -> dict[str, Any]:
        print(f"plane of {names[0]} and {names[1]} …", flush=True)
        (first, task), (second, _) = one.live(life), other.live(life)
        plane = Plane(np.concatenate([first, second]))
        paths = [plane.project(trajectory) for trajectory in (first, second)]
        every = np.concatenate(paths)
        low, high = every.min(0), every.max(0)
        margin = 0.25 * (high - low)
        u, v = (np.linspace(low[i] - margin[i], high[i] + margin[i], one.grid) for i in range(2))
        grid = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
        height = np.concatenate(
            [losses(task, plane.point(block)) for block in np.array_split(grid, one.grid)]
        )
        return {
            "dataset": task.dataset.name,
            "explained": rounded(plane.explained),
            "u": rounded(u),
            "v": rounded(v),
            "loss": rounded(height.reshape(one.grid, one.grid)),
            "paths": [rounded(way, 5) for way in paths],
            "loss_on_paths": [rounded(losses(task, plane.point(way))) for way in paths],
            "loss_at_ends": [rounded(losses(task, t[-1:]))[0] for t in (first, second)],
        }

    return results.cell(_plane_key(one.data, *names), settings, compute)


def angles(
    alike: Mapping[str, Learning], lives: Sequence[int], data: str, results: ResultsFile
) -> Cell:
    """Degrees between every two rules, and of every rule to itself in the next life."""
    settings = {
        "rules": {name: learning.settings for name, learning in alike.items()},
        "lives": list(lives),
    }

    def compute() -> dict[str, Any]:
        vectors: dict[str, list[dict[str, Array]]] = {}
        for name, learning in alike.items():
            print(f"trajectories of {name} …", flush=True)
            trajectories = (learning.live(life)[0] for life in lives)
            vectors[name] = [
                {"displacement": displacement(t), "direction": first_direction(t)}
                for t in trajectories
            ]
        return {
            f"{one} | {other}": {
                kind: rounded(
                    [
                        angle(vectors[one][i][kind], vectors[other][j][kind])
                        for i, j in _matches(len(lives), one == other)
                    ]
                )
                for kind in ANGLES
            }
            for one, other in combinations_with_replacement(alike, 2)
        }

    return results.cell(_angles_key(data), settings, compute)


def render(file: ResultsFile) -> str:
    """What the planes hold, and how far angles spread, in Markdown, with what made them."""
    rows, used, spreads = [], [], []
    for data in NETWORKS:
        for one, other in PAIRS:
            if plane := file.cells.get(_plane_key(data, one, other)):
                used.append(plane)
                share = ", ".join(f"{100 * part:.0f} %" for part in plane["explained"])
                ends = (f"{loss:.2g}" for loss in plane["loss_at_ends"])
                rows.append([plane["dataset"], f"{one}; {other}", share, "; ".join(ends)])
        if between := file.cells.get(_angles_key(data)):
            used.append(between)
            spreads += [
                sample_std(cell[kind])
                for key, cell in between.items()
                if " | " in key
                for kind in ANGLES
            ]
    header = ["data", "rules", "variance in the plane", "loss at the end, nats"]
    note = (
        f"Standard deviations of angles over lives: {np.median(spreads):.1f}° in the median, "
        f"{max(spreads):.1f}° at most."
        if spreads
        else ""
    )
    return f"{markdown(header, rows)}\n\n{note} Made by {makers(used)}."


def _plane_key(data: str, one: str, other: str) -> str:
    return f"{data}, plane of {one} and {other}"


def _angles_key(data: str) -> str:
    return f"{data}, angles"


def _matches(lives: int, with_itself: bool) -> list[tuple[int, int]]:
    """Lives to compare: two rules in the same one, a rule with itself in the next."""
    return [(i, (i + 1) % lives if with_itself else i) for i in range(lives)]


def table(between: Cell, names: Sequence[str]) -> str:
    """Angles in degrees, mean ± std over lives."""
    rows = []
    for one, other in combinations_with_replacement(names, 2):
        cell = between[f"{one} | {other}"]
        who = other if one != other else "itself in another life"
        means = [f"{np.mean(cell[kind]):.1f} ± {sample_std(cell[kind]):.1f}" for kind in ANGLES]
        rows.append([one, who, *means])
    return markdown(["rule", "and", *(f"{title}, °" for title in ANGLES.values())], rows)


# ---------------------------------------------------------------------- panels


def drawn(
    pairs: Sequence[tuple[str, str]], planes: Sequence[Cell], between: Cell, names: Sequence[str]
) -> Figure:
    """Contours and surface of each plane, angles below."""
    heights = [*[5.0] * len(pairs), 0.6 + 0.8 * len(names)]
    figure = Figure(figsize=(12.5, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    for row, (pair, plane) in enumerate(zip(pairs, planes, strict=True)):
        axes = figure.add_subplot(grid[row, 0])
        contours(figure, axes, pair, plane)
        letter(axes, 2 * row, f"{plane['dataset']}: {pair[0]} and {pair[1]}")
        solid = figure.add_subplot(grid[row, 1], projection="3d", computed_zorder=False)
        surface(solid, pair, plane)
        letter(solid, 2 * row + 1, "the same, as a surface")
    for column, (kind, title) in enumerate(ANGLES.items()):
        axes = figure.add_subplot(grid[-1, column])
        matrix(axes, between, names, kind)
        letter(axes, 2 * len(pairs) + column, f"angle between {title}s / °")
    return figure


def contours(figure: Figure, axes: Axes, pair: Sequence[str], plane: Cell) -> None:
    """The loss from above, with the trajectories."""
    loss = np.array(plane["loss"])
    levels = np.geomspace(loss.min(), loss.max(), 22)
    filled = axes.contourf(
        plane["u"], plane["v"], loss, levels=levels, norm=LogNorm(), cmap="Greys_r"
    )
    axes.contour(plane["u"], plane["v"], loss, levels=levels, colors="white", linewidths=0.4)
    bar = figure.colorbar(filled, ax=axes, label="cross-entropy / nats", shrink=0.9)
    ticks = [tick for tick in _TICKS if loss.min() <= tick <= loss.max()]
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.ax.minorticks_off()
    for name, way, loss_at_end in zip(pair, plane["paths"], plane["loss_at_ends"], strict=True):
        u, v = np.array(way).T
        label = f"{name}: ends at {loss_at_end:.2g} nats"
        path(axes, u, v, colour=COLOURS[name], label=label, marker=".", markersize=4)
    share = [f"{100 * part:.0f} %" for part in plane["explained"]]
    axes.set(
        xlabel=f"first principal direction ({share[0]} of variance)",
        ylabel=f"second ({share[1]})",
    )
    axes.grid(visible=False)
    axes.legend(loc="best", frameon=True, framealpha=0.9)


_DECADES = [10.0**power for power in range(-5, 3)]
_TICKS = [digit * decade for decade in _DECADES for digit in (1, 2, 5)]


def surface(axes: Any, pair: Sequence[str], plane: Cell) -> None:
    """The loss as a height, on three-dimensional axes, which have few types."""
    u, v = np.meshgrid(plane["u"], plane["v"])
    height = np.log10(plane["loss"])
    axes.plot_surface(u, v, height, cmap="Greys_r", alpha=0.9, rcount=60, ccount=60, linewidth=0)
    for name, way, loss in zip(pair, plane["paths"], plane["loss_on_paths"], strict=True):
        above = np.log10(loss) + 0.01 * np.ptp(height)
        path(axes, *np.array(way).T, above, colour=COLOURS[name], marker=".", markersize=4)
    shown = [tick for tick in _DECADES if height.min() <= np.log10(tick) <= height.max()]
    axes.set_zticks(np.log10(shown), [f"{tick:g}" for tick in shown])
    axes.set(xlabel="first", ylabel="second", zlabel="cross-entropy / nats")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    axes.set_box_aspect((1, 1, 0.7), zoom=0.95)
    # From where the trajectories go to, so that no hill hides them.
    ways = np.array(plane["paths"])
    ahead = (ways[:, -1] - ways[:, 0]).mean(0) / (np.ptp(plane["u"]), np.ptp(plane["v"]))
    axes.view_init(elev=38, azim=np.degrees(np.arctan2(ahead[1], ahead[0])) - 15)


def matrix(axes: Axes, between: Cell, names: Sequence[str], kind: str) -> None:
    """Mean angles of all pairs; on the diagonal, of a rule and itself in another life."""
    mean = np.full((len(names), len(names)), np.nan)
    for (i, one), (j, other) in combinations_with_replacement(enumerate(names), 2):
        mean[j, i] = np.mean(between[f"{one} | {other}"][kind])
    axes.imshow(mean, cmap="Blues_r", vmin=0, vmax=120)
    for row, column in zip(*np.nonzero(~np.isnan(mean)), strict=True):
        value = mean[row, column]
        bold = "bold" if row == column else "normal"
        colour = "white" if value < 50 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, weight=bold)
    lines = [fill(name, 9) for name in names]
    axes.set_xticks(range(len(names)), lines, fontsize=9)
    axes.set_yticks(range(len(names)), lines, fontsize=9)
    axes.grid(visible=False)
    axes.text(
        0.98,
        0.96,
        "bold: a rule and itself\nin another life",
        transform=axes.transAxes,
        ha="right",
        va="top",
        fontsize=9,
    )


if __name__ == "__main__":
    sys.exit(main())
