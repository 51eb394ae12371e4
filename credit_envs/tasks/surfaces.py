"""Climbing a surface: the bottom-up network is a point (TDCA, Fig. 2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.tasks.task import ResetOptions, Seeds, Task, unique_lives

REGION = 4.0
"""Points start anywhere in the square [−4, 4]²."""


@dataclass(frozen=True)
class Bump:
    """One Gaussian: `height · exp(−|p − centre|² / (2·width²))`."""

    centre: tuple[float, float]
    width: float
    height: float


@dataclass(frozen=True)
class Surface:
    """A sum of Gaussians of which the first is the highest."""

    bumps: tuple[Bump, ...]

    def height(self, position: Tensor) -> Tensor:
        """Height above each position, shape `(..., 2)` to `(...)`."""
        total = torch.zeros_like(position[..., 0])
        for bump in self.bumps:
            centre = torch.as_tensor(bump.centre, dtype=position.dtype, device=position.device)
            distance = (position - centre).square().sum(-1)
            total = total + bump.height * torch.exp(-distance / (2 * bump.width**2))
        return total

    def global_maximum(self) -> Tensor:
        """Where the surface is highest, shape `(2,)`: Newton's method from the highest bump."""
        point = torch.tensor(self.bumps[0].centre, dtype=torch.float64)
        for _ in range(20):
            gradient = torch.func.grad(self.height)(point)
            hessian = torch.func.hessian(self.height)(point)
            point = point - torch.linalg.solve(hessian, gradient)
        return point


TWO_BUMPS = Surface((Bump((0.0, 0.0), 1.6, 1.0), Bump((2.0, 2.0), 0.8, 0.7)))
"""A broad hill with a narrow lower one on its flank, where gradient ascent gets trapped."""

TWO_BUMPS_ELSEWHERE = Surface((Bump((-2.0, 1.5), 1.4, 1.0), Bump((1.5, -1.5), 1.0, 0.8)))
"""Another hill in another place, for one network that climbs two surfaces."""


class SurfaceTask(Task):
    """P points on one of several surfaces each; a credit is a step.

    Args:
        surfaces: by task name. With more than one, observations end in the task's one-hot id.
        num_networks: P.
        device: where the tensors live.
    """

    guess_loss = 0.0
    lives_together = True
    reset_options = ("task", "position")

    def __init__(
        self, surfaces: Mapping[str, Surface], num_networks: int, device: torch.device
    ) -> None:
        super().__init__(num_networks, device)
        self.task_names = tuple(surfaces)
        self.num_ids = len(surfaces) if len(surfaces) > 1 else 0
        self.surfaces = tuple(surfaces.values())
        self.position = torch.zeros(num_networks, 2, device=device)
        self.task_index = np.zeros(num_networks, dtype=np.int64)
        self.observation_space = Box(-np.inf, np.inf, (2 + self.num_ids,), np.float32)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)

    def start(  # noqa: D102
        self, seeds: Seeds, which: NDArray[np.int64] | None, options: ResetOptions
    ) -> None:
        chosen = np.arange(self.num_networks) if which is None else which
        lives, life = unique_lives(seeds)
        drawn = [self._draw_life(seed) for (seed,) in lives.tolist()]
        positions = np.stack([position for position, _ in drawn])[life]
        tasks = np.array([task for _, task in drawn])[life]
        if "position" in options:
            positions = options["position"][chosen]
        if "task" in options:
            tasks = options["task"][chosen]
        self.position[chosen] = torch.as_tensor(positions, dtype=torch.float32, device=self.device)
        self.task_index[chosen] = tasks
        self._on_surface = torch.tensor(self.task_index, device=self.device)

    def _draw_life(self, seed: int) -> tuple[NDArray[np.float64], int]:
        rng = np.random.default_rng(seed)
        return rng.uniform(-REGION, REGION, 2), int(rng.integers(len(self.surfaces)))

    def _check_option(self, name: str, value: Any) -> NDArray[Any]:
        if name != "position":
            return super()._check_option(name, value)
        position = np.asarray(value)
        right = position.dtype.kind in "iuf" and position.shape in ((2,), (self.num_networks, 2))
        if not right or not np.isfinite(position).all():
            raise ValueError(
                f"reset option position={value!r} must be finite coordinates (x, y), "
                f"or a pair for each of {self.num_networks} points"
            )
        return np.broadcast_to(position, (self.num_networks, 2))

    def observe(self) -> Tensor:  # noqa: D102
        if not self.num_ids:
            return self.position
        one_hot = torch.nn.functional.one_hot(self._on_surface, len(self.surfaces))
        return torch.cat([self.position, one_hot.to(self.position.dtype)], dim=1)

    def update(self, action: Tensor, credit_scale: float) -> None:  # noqa: D102
        action = action.to(self.position.dtype)
        self.position = torch.add(self.position, action, alpha=credit_scale)

    def loss(self) -> Tensor:  # noqa: D102
        heights = torch.stack([surface.height(self.position) for surface in self.surfaces])
        height = heights.gather(0, self._on_surface[None])[0]
        return torch.where(self.position.isfinite().all(1), -height, torch.nan)

    def metrics(self) -> dict[str, Tensor]:  # noqa: D102
        return {"height": -self.loss()}

    def guess_metrics(self) -> dict[str, float]:  # noqa: D102
        return {"height": -self.guess_loss}

    def life_info(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        return {"task": self.task_index.copy()}
