"""Training samples as the first layer sees them: its product with weights, and with errors.

The first layer is nearly all of the work. Where all networks see the same samples, its P products
become one large one; and of images with a plain background only the part that differs from it is
multiplied.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Inputs(ABC):
    """N samples in columns, for P networks.

    Attributes:
        num_samples: N.
        feature_order: the feature that each column of the first weights reads.
    """

    num_samples: int
    feature_order: Tensor

    @abstractmethod
    def forward(self, weight: Tensor, out: Tensor) -> None:
        """`out = weight @ [x; 1]`: `(P, units, features + 1)` to `(P, units, N)`."""

    @abstractmethod
    def gradient(self, error: Tensor, scale: float, out: Tensor) -> None:
        """`out = scale · error @ [x; 1]ᵀ`: `(P, units, N)` to `(P, units, features + 1)`."""


class OwnInputs(Inputs):
    """Every network its own samples.

    Args:
        num_networks: P.
        num_features: rows of the samples.
        num_samples: N.
        like: a tensor with the wanted device and dtype.
    """

    def __init__(
        self, num_networks: int, num_features: int, num_samples: int, like: Tensor
    ) -> None:
        self.num_samples = num_samples
        self.feature_order = torch.arange(num_features, device=like.device)
        self._samples = like.new_ones(num_networks, num_features + 1, num_samples)

    def set(self, network: int, samples: Tensor) -> None:
        """Give one network its samples, `(features, N)`."""
        self._samples[network, :-1] = samples

    def forward(self, weight: Tensor, out: Tensor) -> None:  # noqa: D102
        torch.bmm(weight, self._samples, out=out)

    def gradient(self, error: Tensor, scale: float, out: Tensor) -> None:  # noqa: D102
        out.baddbmm_(error, self._samples.transpose(1, 2), beta=0, alpha=scale)


class SharedInputs(Inputs):
    """The same samples for all networks, without their background.

    Write b for the value a feature takes most often. A feature that never leaves b, or does so
    only in the first few samples (once these are sorted to the front), needs no full product:

        w·x = w·b + w·(x − b),   x − b = 0 but for those samples,

    and w·b joins the bias. Features are kept in the order [constant, rare, common]; where the
    split falls is chosen to skip most. It is exact, and skips about a third of MNIST's products.

    Args:
        samples: `(features, N)`.

    Attributes:
        sample_order: the sample that each column holds.
    """

    def __init__(self, samples: Tensor) -> None:
        num_features, self.num_samples = samples.shape
        background = samples.median(dim=1).values
        varies = samples != background[:, None]
        counts = varies.sum(1)
        order = counts.argsort(stable=True)
        # touched[r]: samples that leave the background in any of the r rarest features.
        touched = varies[order].cummax(dim=0).values.sum(1)
        skipped = torch.arange(1, num_features + 1, device=samples.device) * (
            self.num_samples - touched
        )
        best = int(skipped.argmax())
        self._rare_end = best + 1 if skipped[best] > 0 else 0
        self._constant_end = min(int((counts == 0).sum()), self._rare_end)
        touches = varies[order[: self._rare_end]].any(0)
        self._num_touched = int(touches.sum())

        self.feature_order = order
        self.sample_order = (~touches).to(torch.int8).argsort(stable=True)
        ordered = samples[order][:, self.sample_order]
        self._background = background[order[: self._rare_end]]
        rare = slice(self._constant_end, self._rare_end)
        self._rare = (
            ordered[rare, : self._num_touched] - background[order[rare]][:, None]
        ).contiguous()
        self._common = torch.cat(
            [ordered[self._rare_end :], samples.new_ones(1, self.num_samples)]
        ).contiguous()

    def forward(self, weight: Tensor, out: Tensor) -> None:  # noqa: D102
        weight, out = weight.view(-1, weight.shape[-1]), out.view(-1, self.num_samples)
        out.copy_(torch.mv(weight[:, : self._rare_end], self._background)[:, None])
        out.addmm_(weight[:, self._rare_end :], self._common)
        rare = weight[:, self._constant_end : self._rare_end]
        out[:, : self._num_touched].addmm_(rare, self._rare)

    def gradient(self, error: Tensor, scale: float, out: Tensor) -> None:  # noqa: D102
        error, out = error.view(-1, self.num_samples), out.view(-1, out.shape[-1])
        out[:, self._rare_end :].addmm_(error, self._common.T, beta=0, alpha=scale)
        torch.mul(out[:, -1:], self._background, out=out[:, : self._rare_end])
        rare = out[:, self._constant_end : self._rare_end]
        rare.addmm_(error[:, : self._num_touched], self._rare.T, alpha=scale)
