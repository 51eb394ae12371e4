"""Pictures of a life for `render_mode="rgb_array"`; drawn without a display."""

from collections import deque
from collections.abc import Callable, Sequence
from io import BytesIO
from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
_WIDTH, _HEIGHT, _DPI = 720, 320, 80


class History:
    """A network's life so far, as far as it is drawn.

    Args:
        network: which one of its environment.
        num_observations: how many of the latest are kept; None: all. Those of images are large.

    Attributes:
        metrics: by name, after 0, 1, … updates.
        observations: the latest, oldest first.
        action: the last one; None before the first update.
    """

    def __init__(self, network: int, num_observations: int | None) -> None:
        self.network = network
        self.metrics: dict[str, list[float]] = {}
        self.observations: deque[NDArray[np.float32]] = deque(maxlen=num_observations)
        self.action: NDArray[np.float32] | None = None

    def append(
        self,
        metrics: dict[str, float],
        observation: NDArray[np.float32],
        action: NDArray[np.float32] | None,
    ) -> None:
        """Add the state after an update and, but for the initial state, its action."""
        for key, value in metrics.items():
            self.metrics.setdefault(key, []).append(value)
        self.observations.append(observation)
        self.action = None if action is None else action.copy()

    def clear(self) -> None:
        """Forget everything: a new life begins."""
        self.metrics.clear()
        self.observations.clear()
        self.action = None


def draw_panels(*panels: Callable[[Axes], None]) -> Frame:
    """An RGB image `(height, width, 3)` with each panel drawn on axes of its own."""
    figure = Figure(figsize=(_WIDTH / _DPI, _HEIGHT / _DPI), dpi=_DPI, layout="constrained")
    for axes, panel in zip(
        figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True
    ):
        panel(axes)
    pixels = BytesIO()
    # The explicit box keeps the size whatever the user's matplotlibrc says.
    figure.savefig(pixels, format="rgba", dpi=_DPI, bbox_inches=figure.bbox_inches)
    image = np.frombuffer(pixels.getvalue(), dtype=np.uint8).reshape(_HEIGHT, _WIDTH, 4)
    return image[..., :3].copy()


def learning_curve(
    history: History, metrics: Sequence[str], num_updates: int
) -> Callable[[Any], None]:
    """A panel with these metrics after each update."""

    def panel(axes: Axes) -> None:
        for name in metrics:
            axes.plot(history.metrics[name], marker="o", markersize=3, label=name.replace("_", " "))
        axes.set(xlim=(0, num_updates), xlabel="update", title="learning curve")
        axes.grid(alpha=0.3)
        axes.legend()

    return panel


def credit_picture(history: History, max_samples: int = 100) -> Callable[[Any], None]:
    """A panel with the last credits: a row per sample, a column per neuron.

    Credits of parameters, which have no samples, fill a square row after row.
    """

    def panel(axes: Axes) -> None:
        of_samples = history.observations[-1].ndim == 2
        action = history.action
        if action is not None:
            image = action[:max_samples] if of_samples else _in_square(action)
            drawn = axes.imshow(image, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
            axes.figure.colorbar(drawn, ax=axes, label="action (credit / credit_scale)")
        axes.set(title="last credits")
        if of_samples:
            axes.set(xlabel="neuron, output layer last", ylabel="sample")
        else:
            axes.set(xlabel="parameter, row after row")

    return panel


def _in_square(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """All values row by row, and NaN after them."""
    side = ceil(len(values) ** 0.5)
    square = np.full((ceil(len(values) / side), side), np.nan, dtype=np.float32)
    square.flat[: len(values)] = values
    return square


def surface_path(
    history: History, height: Callable[[NDArray[np.float64]], NDArray[np.float64]], region: float
) -> Callable[[Any], None]:
    """A panel with the surface's contours and the point's path."""

    def panel(axes: Axes) -> None:
        line = np.linspace(-region, region, 81)
        grid = np.stack(np.meshgrid(line, line), axis=-1)
        axes.contourf(line, line, height(grid), levels=20, cmap="viridis")
        path = np.array(history.observations)[:, :2]
        axes.plot(*path.T, color="white", marker=".", markersize=3, linewidth=1)
        axes.plot(*path[-1], color="red", marker="o")
        axes.set(xlim=(-region, region), ylim=(-region, region), title="surface and path")
        axes.set_aspect("equal")

    return panel


def answered_image(
    image: NDArray[np.uint8], label: int, answer: int | None
) -> Callable[[Any], None]:
    """A panel with an image `(C, H, W)`, its label, and the answer if there is one."""

    def panel(axes: Axes) -> None:
        pixels = image.transpose(1, 2, 0)
        if pixels.shape[-1] == 3:
            axes.imshow(pixels)
        else:
            axes.imshow(pixels.mean(-1), cmap="gray", vmin=0, vmax=255)
        title, color = f"label {label}", "black"
        if answer is not None:
            verdict, color = ("right", "green") if answer == label else ("wrong", "red")
            title += f", answer {answer}: {verdict}"
        axes.set_title(title, color=color)
        axes.set_axis_off()

    return panel


def cart_pole_strobe(history: History, scale: Sequence[float]) -> Callable[[Any], None]:
    """A panel with the cart and pole at moments of the last episode, the latest darkest."""

    def panel(axes: Axes) -> None:
        rows = history.observations[-1]
        rows = rows[rows[:, -1] > 0]
        for moment in np.unique(np.linspace(0, len(rows) - 1, 8).astype(int)):
            position, angle = rows[moment, 0] / scale[0], rows[moment, 2] / scale[2]
            alpha = 0.2 + 0.8 * (moment / max(len(rows) - 1, 1))
            axes.add_patch(Rectangle((position - 0.25, 0), 0.5, 0.3, color="black", alpha=alpha))
            tip = position + np.sin(angle), 0.3 + np.cos(angle)
            axes.plot([position, tip[0]], [0.3, tip[1]], color="tab:orange", lw=4, alpha=alpha)
        axes.axhline(0, color="gray", linewidth=1)
        axes.set(xlim=(-2.6, 2.6), ylim=(-0.5, 2.0), title=f"last episode: {len(rows)} steps")
        axes.set_aspect("equal")

    return panel


def pendulum_strobe(history: History) -> Callable[[Any], None]:
    """A panel with the rod at moments of the last episode, the latest darkest."""

    def panel(axes: Axes) -> None:
        rows = history.observations[-1]
        for moment in np.unique(np.linspace(0, len(rows) - 1, 12).astype(int)):
            cosine, sine = rows[moment, :2]
            alpha = 0.1 + 0.9 * (moment / max(len(rows) - 1, 1))
            axes.plot([0, -sine], [0, cosine], color="tab:orange", lw=5, alpha=alpha)
        axes.plot(0, 0, color="black", marker="o")
        episode_return = history.metrics["episode_return"][-1]
        title = f"last episode: return {episode_return:.0f}"
        axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), title=title)
        axes.set_aspect("equal")

    return panel


def hand_path(history: History, scale: float) -> Callable[[Any], None]:
    """A panel with the hand's and the object's way to the goal in the last episode.

    Args:
        history: of observations whose rows begin with object − hand and goal − object.
        scale: factor on these differences.
    """

    def panel(axes: Axes) -> None:
        rows = history.observations[-1]
        thing = -rows[:, 3:6] / scale
        hand = thing - rows[:, 0:3] / scale
        axes.plot(hand[:, 1], hand[:, 2], color="tab:blue", label="hand")
        axes.plot(*hand[-1, 1:], color="tab:blue", marker="o")
        axes.plot(thing[:, 1], thing[:, 2], color="tab:orange", lw=3, label="object")
        axes.plot(*thing[-1, 1:], color="tab:orange", marker="s")
        axes.plot(0, 0, color="tab:green", marker="*", markersize=12, linestyle="", label="goal")
        success = "done" if history.metrics["success"][-1] else "not done"
        axes.set(
            xlim=(-0.8, 0.4),
            ylim=(-0.3, 0.5),
            xlabel="y from the goal, m",
            ylabel="height above goal, m",
            title=f"last episode: {success}",
        )
        axes.legend()

    return panel
