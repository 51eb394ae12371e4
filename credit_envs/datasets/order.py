"""Which images of a data set are shown, and in which order."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from credit_envs.checks import require_at_least, require_one_of
from credit_envs.datasets.dataset import Dataset

SplitName = Literal["train", "validation", "test"]
OrderName = Literal["shuffled", "random", "sequential"]
Indices = NDArray[np.int64]

# Every process, run and version holds out the same images.
_VALIDATION_SEED = 0


def split_indices(dataset: Dataset, split: SplitName, num_validation: int) -> Indices:
    """Where the images of a split are, in ascending order.

    Args:
        dataset: the data set.
        split: "validation" is `num_validation` images of `x_train`, always the same ones, and a
            larger number includes those of a smaller one; "train" is the others; "test" is all of
            `x_test`.
        num_validation: how many training images are held out.

    Returns:
        Indices into `x_test` for "test", else into `x_train`.

    Raises:
        ValueError: an unknown split, or one without any image.
    """
    require_one_of("split", split, get_args(SplitName))
    require_at_least("num_validation", num_validation, 0)
    count = len(dataset.x_train)
    if split == "test":
        return np.arange(len(dataset.x_test))
    if num_validation >= count:
        raise ValueError(
            f"num_validation={num_validation} leaves none of the {count} training images of "
            f"{dataset.name} to learn from; hold out at most {count - 1}"
        )
    if split == "validation" and num_validation == 0:
        raise ValueError(
            'split="validation" has no images with num_validation=0; hold out at least 1'
        )
    shuffled = np.random.default_rng(_VALIDATION_SEED).permutation(count)
    chosen = shuffled[:num_validation] if split == "validation" else shuffled[num_validation:]
    return np.sort(chosen)


class ImageOrder:
    """An endless sequence of images, `batch_size` of them at a time.

    Shuffled or random, the sequence depends on the seed alone: batches cut it into pieces, and
    where an epoch does not fill its last batch, the next epoch does. Sequential, each place of the
    batch has a share of the images, which it goes through again and again; the shares are those
    that Stable-Baselines3's `evaluate_policy` asks of each environment.

    Args:
        indices: of the images to be shown, shape `(N,)`.
        order: "shuffled": each image once in an epoch, every epoch in an order of its own;
            "random": drawn with replacement; "sequential": as given.
        batch_size: images shown at a time.

    Raises:
        ValueError: an unknown order, or a sequential one of fewer images than places.
    """

    def __init__(self, indices: Indices, order: OrderName, batch_size: int) -> None:
        require_one_of("order", order, get_args(OrderName))
        if order == "sequential" and batch_size > len(indices):
            raise ValueError(
                f'num_envs={batch_size} with order="sequential" is more than the {len(indices)} '
                f"images of the split; make it at most {len(indices)}"
            )
        self._indices = indices
        self._order = order
        self._batch_size = batch_size
        self._share = (len(indices) + np.arange(batch_size)) // batch_size
        self._share_start = np.cumsum(self._share) - self._share
        self._rng: np.random.Generator | None = None
        self._next_round = 0
        self._drawn = np.empty(0, dtype=np.int64)
        self._position = 0

    @property
    def has_begun(self) -> bool:
        """Whether `begin` has been called."""
        return self._rng is not None

    def begin(self, seed: int | None) -> None:
        """Begin the sequence of `seed`; of entropy if it is None."""
        self._rng = np.random.default_rng(seed)
        self._next_round = 0
        self._drawn = np.empty(0, dtype=np.int64)
        self._position = 0

    def get_state(self) -> dict[str, Any]:
        """Where the sequence is, for `set_state`."""
        return {
            "rng": None if self._rng is None else self._rng.bit_generator.state,
            "next_round": self._next_round,
            "drawn": self._drawn[self._position :],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where `get_state` was called, of this or of an equal order."""
        self.begin(None)
        assert self._rng is not None
        if state["rng"] is None:
            self._rng = None
        else:
            self._rng.bit_generator.state = state["rng"]
        self._next_round = state["next_round"]
        self._drawn = state["drawn"].copy()
        self._drawn.setflags(write=False)

    def next_batch(self) -> Indices:
        """Indices of the next images, read-only, shape `(batch_size,)`."""
        if self._order == "sequential":
            batch: Indices = self._indices[self._share_start + self._next_round % self._share]
            self._next_round += 1
            batch.setflags(write=False)
            return batch
        end = self._position + self._batch_size
        if end > len(self._drawn):
            self._draw()
            end = self._batch_size
        batch = self._drawn[self._position : end]
        self._position = end
        return batch

    def _draw(self) -> None:
        """Draw as many epochs as the next batch needs; never changes what was handed out."""
        assert self._rng is not None, "begin() comes first"
        drawn = [self._drawn[self._position :]]
        while sum(map(len, drawn)) < self._batch_size:
            if self._order == "shuffled":
                drawn.append(self._rng.permutation(self._indices))
            else:
                drawn.append(self._rng.choice(self._indices, len(self._indices)))
        self._drawn = np.concatenate(drawn)
        self._drawn.setflags(write=False)
        self._position = 0
