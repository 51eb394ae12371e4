"""Images zoomed, shifted and reflected at random."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

Images = NDArray[np.uint8]

ZOOM = 0.1
"""Largest relative change of size, along both axes alike."""
SHIFT = 0.1
"""Largest shift along each axis, in heights or widths."""


class Augmentation:
    """Changes every image anew: "standard augmentation (zooming, shifting, vertical reflections)".

    The paper (DeepAGREL, Section 3) gives no ranges. Here an image is made larger or smaller by up
    to a tenth, shifted by up to a tenth along each axis, and reflected left to right one time in
    two, all uniformly. Between pixels values are interpolated; beyond the edge the edge goes on.

    Draws depend on the seed and on the images that came before alone, not on how many come at a
    time.
    """

    def __init__(self) -> None:
        self._rng = np.random.default_rng()

    def begin(self, seed: int | None) -> None:
        """Begin the draws of `seed`; of entropy if it is None."""
        # Other draws than those of the order of images, which has the same seed.
        self._rng = np.random.default_rng(None if seed is None else [seed, 1])

    def get_state(self) -> dict[str, Any]:
        """Where the draws are, for `set_state`."""
        return dict(self._rng.bit_generator.state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where `get_state` was called."""
        self._rng.bit_generator.state = state

    def __call__(self, images: Images) -> Images:
        """Changed copies of images `(B, C, H, W)`."""
        drawn = torch.from_numpy(self._rng.random((len(images), 4), dtype=np.float32))
        zoom = 1 + ZOOM * (2 * drawn[:, 0] - 1)
        reflection = torch.where(drawn[:, 1] < 0.5, -1.0, 1.0)
        # From places in the new image to places in the old one, whose edges are at ±1.
        places = torch.zeros(len(images), 2, 3)
        places[:, 0, 0] = reflection / zoom
        places[:, 1, 1] = 1 / zoom
        places[:, :, 2] = 2 * SHIFT * (2 * drawn[:, 2:] - 1)
        grid = functional.affine_grid(places, list(images.shape), align_corners=False)
        pixels = torch.from_numpy(images).float()
        changed = functional.grid_sample(
            pixels, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        result: Images = changed.round_().to(torch.uint8).numpy()
        return result
