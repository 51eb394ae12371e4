"""Training samples as the first layer sees them: its product with weights, and with errors.

The first layer is nearly all of the work. Where all networks see the same samples, its P products
become one large one; and of images with a plain background only the part that differs from it is
multiplied.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from credit_envs.networks.onednn import product
from credit_envs.networks.optimizers import frobenius_norm


class Inputs(ABC):
    """N samples in columns, for P networks, and how the first weights W that read them are kept.

    Attributes:
        num_samples: N.
    """

    num_samples: int

    @abstractmethod
    def kept_shape(self, units: int) -> tuple[int, int]:
        """Shape, for each network, of the tensor that stands for W `(units, features + 1)`."""

    @abstractmethod
    def forward(self, weight: Tensor) -> Tensor:
        """`W @ [x; 1]`, shape `(P, units, N)`; valid until W moves."""

    @abstractmethod
    def gradient(self, error: Tensor, scale: float, out: Tensor) -> None:
        """`scale · error @ [x; 1]ᵀ`, for errors `(P, units, N)`, in the form in which W is kept."""

    def norm(self, gradient: Tensor) -> Tensor:
        """Frobenius norm of each network's gradient, shape `(P,)`."""
        return frobenius_norm(gradient)

    @abstractmethod
    def natural(self, weight: Tensor) -> Tensor:
        """W itself, `(P, units, features + 1)`, features in their own order and the bias last."""

    @abstractmethod
    def kept(self, natural: Tensor) -> Tensor:
        """The form in which W is kept."""


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
        self._samples = like.new_ones(num_networks, num_features + 1, num_samples)

    def kept_shape(self, units: int) -> tuple[int, int]:  # noqa: D102
        return units, self._samples.shape[1]

    @property
    def samples(self) -> Tensor:
        """`(P, features, N)`, a view to be written in place."""
        return self._samples[:, :-1]

    def forward(self, weight: Tensor) -> Tensor:  # noqa: D102
        return product(weight, self._samples)

    def gradient(self, error: Tensor, scale: float, out: Tensor) -> None:  # noqa: D102
        torch.mul(product(error, self._samples.transpose(1, 2)), scale, out=out)

    def natural(self, weight: Tensor) -> Tensor:  # noqa: D102
        return weight

    def kept(self, natural: Tensor) -> Tensor:  # noqa: D102
        return natural


class GramInputs(Inputs):
    """The same samples for all networks, known by their inner products alone.

    First weights that start at zero and move by SGD or momentum are always a combination of the
    samples, W = A·Xᵀ with X = [x; 1]. So their coefficients A and the pre-activations W·X = A·K
    are kept, with the Gram matrix K = XᵀX, and W is never written down. Both move linearly:

        gradient of A: D,   of A·K: D·K,   |D·Xᵀ|² = sum( D ∘ (D·K) ),

    which is one product of N columns per update in place of two of all features: the faster the
    fewer the samples. Exact for SGD and momentum, clipped or not; not for Adam, which rescales
    every weight on its own.

    Args:
        samples: `(features, N)`.
    """

    def __init__(self, samples: Tensor) -> None:
        self.num_samples = samples.shape[1]
        self._samples = torch.cat([samples, samples.new_ones(1, self.num_samples)])
        self._gram = self._samples.T @ self._samples

    def kept_shape(self, units: int) -> tuple[int, int]:
        """The coefficients above the pre-activations."""
        return 2 * units, self.num_samples

    def forward(self, weight: Tensor) -> Tensor:  # noqa: D102
        _, pre_activations = weight.chunk(2, dim=1)
        return pre_activations

    def gradient(self, error: Tensor, scale: float, out: Tensor) -> None:  # noqa: D102
        coefficients, pre_activations = out.chunk(2, dim=1)
        torch.mul(error, scale, out=coefficients)
        through = product(error.view(-1, self.num_samples), self._gram).view_as(error)
        torch.mul(through, scale, out=pre_activations)

    def norm(self, gradient: Tensor) -> Tensor:  # noqa: D102
        coefficients, pre_activations = (half.flatten(1) for half in gradient.chunk(2, dim=1))
        squared: Tensor = torch.linalg.vecdot(coefficients, pre_activations)
        # Rounding can leave a vanishing norm below zero.
        return squared.clamp(min=0).sqrt()

    def natural(self, weight: Tensor) -> Tensor:  # noqa: D102
        coefficients, _ = weight.chunk(2, dim=1)
        return coefficients @ self._samples.T

    def kept(self, natural: Tensor) -> Tensor:
        """Zeros; no other weights are combinations of the samples."""
        assert not natural.any()
        return natural.new_zeros(len(natural), *self.kept_shape(natural.shape[1]))


class _Step(NamedTuple):
    """Successive features that leave their background in the first few samples only."""

    features: slice
    samples: slice
    difference: Tensor
    """x − b, `(features, samples)`."""


class SharedInputs(Inputs):
    """The same samples for all networks, without their background.

    Write b for the median of a feature. A feature that never leaves b, or does so only in the first
    few samples, needs no full product:

        w·x = w·b + w·(x − b),   x − b = 0 but for those samples,

    and w·b joins the bias. So the features are sorted by how rarely they leave b, and the samples
    by how rare the features are that leave it in them. What differs from the background then lies
    under a staircase of a few steps, placed to skip most; the features after them are multiplied
    in full. It is exact, and skips two fifths of MNIST's products.

    Args:
        samples: `(features, N)`.

    Attributes:
        sample_order: the sample that each column holds.
        fraction_multiplied: of the products of features and samples.
    """

    def __init__(self, samples: Tensor) -> None:
        num_features, self.num_samples = samples.shape
        background = samples.median(dim=1).values
        varies = samples != background[:, None]
        self._feature_order = varies.sum(1).argsort(stable=True)
        # A sample comes the earlier, the rarer a feature leaves the background in it.
        varies = varies[self._feature_order]
        never = torch.full((1, self.num_samples), True, device=samples.device)
        first = torch.cat([varies, never]).to(torch.int8).argmax(0)
        self.sample_order = first.argsort(stable=True)
        # touched[r]: samples that leave the background in any of the r rarest features.
        counts = torch.arange(num_features + 1, device=samples.device)
        touched = torch.searchsorted(first[self.sample_order], counts)

        ordered = samples[self._feature_order][:, self.sample_order]
        background = background[self._feature_order]
        self._steps = []
        begin = multiplied = 0
        for end in _place_steps(touched.tolist(), self.num_samples):
            width = -(-int(touched[end]) // _WIDTHS) * _WIDTHS
            features, columns = slice(begin, end), slice(0, min(width, self.num_samples))
            if columns.stop:
                difference = ordered[features, columns] - background[features, None]
                self._steps.append(_Step(features, columns, difference.contiguous()))
            multiplied += (end - begin) * columns.stop
            begin = end
        self._background = background[:begin]
        ones = samples.new_ones(1, self.num_samples)
        self._common = torch.cat([ordered[begin:], ones]).contiguous()
        multiplied += (num_features - begin) * self.num_samples
        self.fraction_multiplied = multiplied / samples.numel()

    def kept_shape(self, units: int) -> tuple[int, int]:  # noqa: D102
        return units, len(self._feature_order) + 1

    def forward(self, weight: Tensor) -> Tensor:  # noqa: D102
        rows = weight.view(-1, weight.shape[-1])
        common = rows[:, len(self._background) :]
        # The column of biases holds w·b + bias for the time of the product.
        bias = common[:, -1].clone()
        common[:, -1].addmv_(rows[:, : len(self._background)], self._background)
        out = product(common, self._common)
        common[:, -1] = bias
        for step in self._steps:
            out[:, step.samples].add_(product(rows[:, step.features], step.difference))
        return out.view(*weight.shape[:2], -1)

    def gradient(self, error: Tensor, scale: float, out: Tensor) -> None:  # noqa: D102
        rows, out = error.view(-1, self.num_samples), out.view(-1, out.shape[-1])
        rare, common = out[:, : len(self._background)], out[:, len(self._background) :]
        torch.mul(product(rows, self._common.T), scale, out=common)
        torch.mul(common[:, -1:], self._background, out=rare)
        for step in self._steps:
            change = product(rows[:, step.samples], step.difference.T)
            rare[:, step.features].add_(change, alpha=scale)

    def natural(self, weight: Tensor) -> Tensor:  # noqa: D102
        natural = weight.clone()
        natural[:, :, self._feature_order] = weight[:, :, :-1]
        return natural

    def kept(self, natural: Tensor) -> Tensor:  # noqa: D102
        return torch.cat([natural[:, :, self._feature_order], natural[:, :, -1:]], dim=2)


_MOST_STEPS = 3
_STEP_COST = 0.01
"""What a step costs besides its products, as a fraction of all products."""
_CORNERS = 25
_WIDTHS = 64
"""Steps are as wide as a multiple of this, and there are few corners, so that lives share their
sizes: oneDNN keeps a megabyte for every size of product that it has met."""


def _place_steps(touched: list[int], num_samples: int) -> list[int]:
    """Where the steps end: the counts of rarest features that save most.

    Args:
        touched: samples that leave the background in any of the r rarest features, for every r.
        num_samples: N.
    """
    num_features = len(touched) - 1
    cost = _STEP_COST * num_features * num_samples
    # More corners than these gain little, and the search takes their square.
    stride = -(-num_features // _CORNERS)
    corners = sorted({*range(0, num_features, stride), num_features})

    def with_step(placement: tuple[float, list[int]], end: int) -> tuple[float, list[int]]:
        saved, ends = placement
        features = end - (ends[-1] if ends else 0)
        return saved + features * (num_samples - touched[end]) - cost, [*ends, end]

    # By corner, the best placement of which the last step ends there.
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for _ in range(_MOST_STEPS):
        longer = {
            end: max(with_step(best[begin], end) for begin in best if begin < end)
            for end in corners[1:]
        }
        best |= longer
    return max(best.values())[1]
