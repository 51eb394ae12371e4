"""Climbing surfaces with credits and by gradient ascent (TDCA, Fig. 2).

Points start on a hill with a lower one on its flank. Gradient ascent gets stuck on the lower one;
the zoo's top-down network `gaussian` leads every point to the summit, and `multi-gaussian` climbs
two surfaces, told by a one-hot id which one. Drawn are trajectories from the same starts, in three
dimensions and over contours, and the steps that either takes anywhere. The numbers are the shares
of a grid of starts that reach the summit.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from agents import CreditPolicy
from benchmarks.common.figures import BLUE, GREY, RED, FigureParser, letter, path, run
from benchmarks.common.results import ResultsFile, makers, markdown
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks.surfaces import REGION, Surface, SurfaceTask
from meta import zoo
from meta.climbing import GRID, climb

NAME = "figure_2"
EXAMPLES = """\
  python -m benchmarks.figure_2
  python -m benchmarks.figure_2 --quick --output /tmp/figures
"""
NETWORKS = {
    "gaussian": "CreditAssign-Gaussian-v0",
    "multi-gaussian": "CreditAssign-MultiGaussian-v0",
}
"""Networks of the zoo and where they climb."""

STARTS = np.array(
    [[3.4, 3.4], [1.2, 3.6], [3.7, 1.4], [-3.2, 2.8], [-3.4, -1.6], [2.8, -1.8]], dtype=np.float32
)
# As in meta.climbing.
_ASCENT_RATE, _ASCENT_STEPS = 0.4, 1000
_ASCENT, _TDCA = BLUE, RED
_ARROWS = 15


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure."""
    return run(FigureParser(NAME, __doc__, EXAMPLES), draw, argv)


def draw(arguments: argparse.Namespace, results: ResultsFile) -> Figure:
    """The figure, and its numbers in the results file."""
    one, two = (zoo.load(network) for network in NETWORKS)
    shares = {network: climbed(network, results) for network in NETWORKS}
    print(render(results))

    (surface,) = surfaces(NETWORKS["gaussian"])
    by_ascent = ascended(surface, STARTS)
    by_credits = led(one, NETWORKS["gaussian"], STARTS)

    figure = Figure(figsize=(15.5, 8.0), layout="constrained")
    grid = figure.add_gridspec(2, 4)
    for index, (title, paths, colour) in enumerate(
        [("gradient ascent", by_ascent, _ASCENT), ("TDCA", by_credits, _TDCA)]
    ):
        solid = figure.add_subplot(grid[0, index], projection="3d", computed_zorder=False)
        hill(solid, surface, paths, colour)
        letter(solid, index, title)
    axes = figure.add_subplot(grid[0, 2])
    contours(axes, surface)
    for paths, colour, label in [
        (by_ascent, _ASCENT, "gradient ascent"),
        (by_credits, _TDCA, "TDCA"),
    ]:
        trajectories(axes, paths, colour, label)
    axes.legend(loc="lower center", ncols=2)
    letter(axes, 2, "from the same starts")
    axes = figure.add_subplot(grid[0, 3])
    bars(axes, shares)
    letter(axes, 3, "starts that reach the summit")

    axes = figure.add_subplot(grid[1, 0])
    contours(axes, surface)
    field(axes, partial(gradient, surface), _ASCENT)
    letter(axes, 4, "steps along the gradient")
    axes = figure.add_subplot(grid[1, 1])
    contours(axes, surface)
    field(axes, partial(credits, one, one_hot=[]), _TDCA)
    letter(axes, 5, "steps by TDCA")
    ids = ([1, 0], [0, 1])
    for index, other in enumerate(surfaces(NETWORKS["multi-gaussian"])):
        axes = figure.add_subplot(grid[1, 2 + index])
        contours(axes, other)
        field(axes, partial(credits, two, one_hot=ids[index]), _TDCA)
        letter(axes, 6 + index, f"one network, surface {index + 1}, id {ids[index]}")
    return figure


# ---------------------------------------------------------------------- numbers


def climbed(network: str, results: ResultsFile) -> list[Mapping[str, Any]]:
    """Share of a grid of starts that reaches each summit, kept in the results file."""
    policy, env_id = zoo.load(network), NETWORKS[network]
    cell = results.cell(
        network,
        {
            "env_id": env_id,
            "network": f"{network} {zoo.digest(network)}",
            "starts": f"{GRID}×{GRID}",
        },
        lambda: {"surfaces": [vars(result) for result in climb(policy, env_id)]},
    )
    climbs: list[Mapping[str, Any]] = cell["surfaces"]
    return climbs


def render(file: ResultsFile) -> str:
    """The shares in Markdown, with what made them."""
    cells = {network: file.cells[network] for network in NETWORKS if network in file.cells}
    rows = [
        [
            f"`{network}`",
            row["surface"],
            *("–" if row[key] is None else f"{100 * row[key]:.1f}" for key in _BARS),
        ]
        for network, cell in cells.items()
        for row in cell["surfaces"]
    ]
    header = ["network", "surface", *(f"{label}, %" for label in _BARS.values())]
    note = f"Of {GRID} × {GRID} starts, those that reach the summit."
    return f"{markdown(header, rows)}\n\n{note} Made by {makers(cells.values())}."


def surfaces(env_id: str) -> tuple[Surface, ...]:
    """Of an environment."""
    env = gymnasium.make_vec(env_id, num_envs=1)
    assert isinstance(env, CreditAssignVectorEnv)
    assert isinstance(env.task, SurfaceTask)
    return env.task.surfaces


@torch.no_grad()
def led(policy: CreditPolicy, env_id: str, starts: NDArray[np.float32]) -> NDArray[np.float64]:
    """Positions after every step that the policy's credits are, `(steps + 1, starts, 2)`."""
    env = gymnasium.make_vec(env_id, num_envs=len(starts))
    assert isinstance(env, CreditAssignVectorEnv)
    observation = env.reset_tensors([0] * len(starts), position=starts)
    path = [observation[:, :2].clone()]
    for _ in range(env.num_updates):
        observation = env.step_tensors(policy.act(observation)).observation
        path.append(observation[:, :2].clone())
    return torch.stack(path).double().numpy()


def ascended(surface: Surface, starts: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same for steps along the gradient."""
    path = [torch.from_numpy(starts)]
    for _ in range(_ASCENT_STEPS):
        path.append(path[-1] + _ASCENT_RATE * gradient(surface, path[-1]))
    return torch.stack(path).double().numpy()


def gradient(surface: Surface, points: Tensor) -> Tensor:
    """Of the height at each point `(N, 2)`."""
    points = points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(surface.height(points).sum(), points)
    return slope


@torch.no_grad()
def credits(policy: CreditPolicy, points: Tensor, one_hot: Sequence[float]) -> Tensor:
    """At each point `(N, 2)` of the surface with this id."""
    ids = torch.tensor(one_hot).expand(len(points), len(one_hot))
    return policy.act(torch.cat([points, ids], dim=1))


# ---------------------------------------------------------------------- panels

_BARS = {"policy": "TDCA", "gradient_ascent": "gradient ascent", "swapped_id": "TDCA, wrong id"}
_BAR_COLOURS = {"policy": _TDCA, "gradient_ascent": _ASCENT, "swapped_id": GREY}


def bars(axes: Axes, shares: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Shares in per cent, a group for each surface."""
    rows = [
        (title, row)
        for title, row in zip(
            ("one surface", "two surfaces:\nfirst", "two surfaces:\nsecond"),
            [row for climbs in shares.values() for row in climbs],
            strict=True,
        )
    ]
    for offset, (key, label) in enumerate(_BARS.items()):
        there = [(i, 100 * row[key]) for i, (_, row) in enumerate(rows) if row[key] is not None]
        places = [i + 0.27 * (offset - 1) for i, _ in there]
        heights = [share for _, share in there]
        drawn = axes.bar(places, heights, 0.25, color=_BAR_COLOURS[key], label=label)
        axes.bar_label(drawn, fmt="%.0f", fontsize=9, padding=1)
    axes.set_xticks(range(len(rows)), [title for title, _ in rows])
    axes.set(ylim=(0, 135), ylabel="%", yticks=range(0, 101, 25))
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper center", ncols=3, columnspacing=0.7, handlelength=0.8, fontsize=8.5)


def heights(surface: Surface, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A line of coordinates, and the heights over its square."""
    line = np.linspace(-REGION, REGION, count)
    points = torch.as_tensor(np.stack(np.meshgrid(line, line), axis=-1))
    return line, surface.height(points).numpy()


def hill(axes: Any, surface: Surface, paths: NDArray[np.float64], colour: str) -> None:
    """The surface with trajectories on it, on three-dimensional axes, which have few types."""
    line, height = heights(surface, 121)
    x, y = np.meshgrid(line, line)
    axes.plot_surface(
        x,
        y,
        height,
        cmap="Greys",
        alpha=0.9,
        rcount=60,
        ccount=60,
        linewidth=0,
        vmin=-0.25,
        vmax=1.3,
    )
    above = surface.height(torch.from_numpy(paths)).numpy() + 0.02
    for start in range(paths.shape[1]):
        path(axes, *paths[:, start].T, above[:, start], colour=colour)
    axes.view_init(elev=42, azim=62)
    axes.set(xlabel="x", ylabel="y", zticks=[0, 0.5, 1])
    axes.set_box_aspect((1, 1, 0.6), zoom=1.08)


def contours(axes: Axes, surface: Surface) -> None:
    """Heights from above, the summit crossed."""
    line, height = heights(surface, 121)
    axes.contourf(line, line, height, levels=14, cmap="Greys", vmax=1.8)
    axes.contour(line, line, height, levels=14, colors="white", linewidths=0.5)
    axes.plot(*surface.global_maximum().numpy(), "+", color="black", markersize=11, zorder=6)
    axes.set(aspect="equal", xlim=(-REGION, REGION), ylim=(-REGION, REGION))
    axes.set(xlabel="x", ylabel="y", xticks=range(-4, 5, 2), yticks=range(-4, 5, 2))
    axes.grid(visible=False)


def trajectories(axes: Axes, paths: NDArray[np.float64], colour: str, label: str) -> None:
    """Seen from above."""
    for start in range(paths.shape[1]):
        path(axes, *paths[:, start].T, colour=colour, label=None if start else label)


def field(axes: Axes, step: Callable[[Tensor], Tensor], colour: str) -> None:
    """An arrow for the step at each point of a grid, all on one scale."""
    line = np.linspace(-0.95 * REGION, 0.95 * REGION, _ARROWS, dtype=np.float32)
    points = torch.as_tensor(np.stack(np.meshgrid(line, line), axis=-1)).reshape(-1, 2)
    arrows = step(points)
    axes.quiver(*points.T.numpy(), *arrows.T.numpy(), color=colour, pivot="mid", width=0.005)


if __name__ == "__main__":
    sys.exit(main())
