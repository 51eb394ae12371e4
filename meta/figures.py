"""Figures of a run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from agents import CreditPolicy
from credit_envs.tasks.surfaces import REGION, Surface
from meta.evaluation import Condition, Curves
from meta.spread import sample_std
from meta.tuning import Score

CONDITION_COLOURS: Mapping[Condition, str] = {
    "normal": "#0072B2",
    "constant": "#E69F00",
    "shuffled": "#009E73",
    "frozen": "#666666",
}
"""Okabe and Ito's, which the colour-blind can tell apart."""


def outer_loop(history: Sequence[Sequence[float]]) -> Figure:
    """Fitness by generation: mean with its spread over candidates, and the best."""
    mean, best, stdev = np.array(history).T
    figure, axes = _figure()
    generation = np.arange(1, len(mean) + 1)
    _band(axes, generation, mean, stdev, "mean of candidates ± std", "tab:blue")
    axes.plot(generation, best, color="tab:red", linewidth=1, label="best candidate")
    axes.set(xlabel="generation", ylabel="fitness", title="outer loop")
    axes.legend()
    return figure


def control_conditions(conditions: Mapping[Condition, Curves], metric: str) -> Figure:
    """One metric by update under every condition, mean ± std over lives."""
    figure, axes = _figure()
    for condition, curves in conditions.items():
        values = curves.per_update[metric]
        update = np.arange(values.shape[1])
        label = f"{condition} credits" if condition != "frozen" else "no credits (frozen)"
        _band(
            axes, update, values.mean(0), sample_std(values, 0), label, CONDITION_COLOURS[condition]
        )
    axes.set(xlabel="update", ylabel=metric.replace("_", " "), title="inner loop, fresh lives")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def accuracy_curves(scores: Sequence[Score]) -> Figure:
    """Training accuracy by update of every method, mean ± std over fresh subsets."""
    figure, axes = _figure()
    for index, score in enumerate(scores):
        update = np.arange(score.curve.shape[1])
        mean, stdev = 100 * score.curve.mean(0), 100 * sample_std(score.curve, 0)
        _band(axes, update, mean, stdev, score.method, f"C{index}")
    axes.set(xlabel="update", ylabel="training accuracy / %", title="inner loop, fresh subsets")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def learning_curves(scores: Mapping[str, Any]) -> Figure:
    """Right answers by epoch of a network that learns from trials, as `meta.trials.scores`."""
    figure, axes = _figure()
    epoch = np.arange(1, scores["stopped_epoch"] + 1)
    for name, label in (
        ("reward_rate", "in learning"),
        ("held_out", "held-out training images"),
        ("test", "test images"),
    ):
        axes.plot(epoch, 100 * np.array(scores[name]), label=label)
    axes.axvline(scores["best_epoch"], color="tab:gray", linewidth=1, label="weights kept")
    axes.set(xlabel="epoch", ylabel="right answers / %", title="learning from trials")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def credit_field(policy: CreditPolicy, surface: Surface, one_hot: Sequence[float]) -> Figure:
    """The policy's credits over a surface, beside the surface's gradient (TDCA, Fig. 2e, f)."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels: list[tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = [
        ("gradient", lambda points: _gradient(surface, points)),
        ("credits", lambda points: _credits(policy, points, one_hot)),
    ]
    line = np.linspace(-REGION, REGION, 81)
    fine = torch.as_tensor(np.stack(np.meshgrid(line, line), axis=-1))
    coarse_line = np.linspace(-REGION, REGION, 21, dtype=np.float32)
    points = torch.as_tensor(np.stack(np.meshgrid(coarse_line, coarse_line), axis=-1))
    for axes, (title, field) in zip(figure.subplots(1, 2), panels, strict=True):
        axes.contourf(line, line, surface.height(fine).numpy(), levels=20, cmap="viridis")
        arrows = field(points.reshape(-1, 2)).reshape(*points.shape).numpy()
        axes.quiver(*points.permute(2, 0, 1).numpy(), *arrows.transpose(2, 0, 1), color="white")
        axes.set(title=title, aspect="equal")
    return figure


def _gradient(surface: Surface, points: torch.Tensor) -> torch.Tensor:
    points = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(surface.height(points).sum(), points)
    return gradient


@torch.no_grad()
def _credits(policy: CreditPolicy, points: torch.Tensor, one_hot: Sequence[float]) -> torch.Tensor:
    ids = torch.tensor(one_hot).expand(len(points), len(one_hot))
    return policy.act(torch.cat([points, ids], dim=1).to(policy.device)).cpu()


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes


def _band(
    axes: Axes,
    x: NDArray[np.int64],
    mean: NDArray[np.float64],
    stdev: NDArray[np.float64],
    label: str,
    colour: str,
) -> None:
    axes.plot(x, mean, color=colour, label=label)
    axes.fill_between(x, mean - stdev, mean + stdev, color=colour, alpha=0.15, linewidth=0)
