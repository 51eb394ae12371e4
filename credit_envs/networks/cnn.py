"""Convolutional bottom-up networks, P of them at once (TDCA, "Deep CNN" of Table 2).

A convolution is a product of the filters with image patches. So the images are cut into patches
once per life, and the first layer is one product over all patches: to it, a patch is a sample.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from credit_envs.networks.inputs import Inputs, OwnInputs
from credit_envs.networks.mlp import MLPBatch, pre_activations, through_tanh
from credit_envs.networks.onednn import product, tanh

PATCH_SIDE = 5
STRIDE = 2


def patch_grid(image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Rows and columns of patches in an image; ValueError if it is too small for one.

    Args:
        image_shape: `(channels, height, width)`.
    """
    _, height, width = image_shape
    if min(height, width) < PATCH_SIDE:
        raise ValueError(
            f"images of {height} × {width} pixels are too small for a convolution of "
            f"{PATCH_SIDE} × {PATCH_SIDE}; use larger images or a perceptron"
        )
    return (height - PATCH_SIDE) // STRIDE + 1, (width - PATCH_SIDE) // STRIDE + 1


def image_patches(samples: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Cut images into the patches that a convolution multiplies.

    Args:
        samples: images in columns, `(channels · height · width, N)`.
        image_shape: `(channels, height, width)`.

    Returns:
        Patches in columns, `(channels · 25, positions · N)`; the N images of one position follow
        each other.

    Raises:
        ValueError: the images are smaller than a patch.
    """
    patch_grid(image_shape)
    images = samples.view(*image_shape, -1)
    # (channels, rows, columns, N, height in the patch, width in the patch)
    patches = images.unfold(1, PATCH_SIDE, STRIDE).unfold(2, PATCH_SIDE, STRIDE)
    features = image_shape[0] * PATCH_SIDE**2
    return patches.permute(0, 4, 5, 1, 2, 3).reshape(features, -1)


class SharedPatches(Inputs):
    """The same patches for all networks.

    They are multiplied in full, background included: a patch has so few pixels that skipping it as
    `SharedInputs` does takes longer than the products it saves.

    Args:
        patches: `(features, positions · N)`, see `image_patches`.
    """

    def __init__(self, patches: Tensor) -> None:
        self.num_samples = patches.shape[1]
        self._patches = torch.cat([patches, patches.new_ones(1, self.num_samples)])

    def kept_shape(self, units: int) -> tuple[int, int]:  # noqa: D102
        return units, len(self._patches)

    def forward(self, weight: Tensor) -> Tensor:  # noqa: D102
        rows = weight.view(-1, len(self._patches))
        return product(rows, self._patches).view(*weight.shape[:2], -1)

    def gradient(self, error: Tensor, scale: float, out: Tensor) -> None:  # noqa: D102
        rows = error.view(-1, self.num_samples)
        torch.mul(product(rows, self._patches.T).view_as(out), scale, out=out)

    def natural(self, weight: Tensor) -> Tensor:  # noqa: D102
        return weight

    def kept(self, natural: Tensor) -> Tensor:  # noqa: D102
        return natural


class CNNBatch:
    """P networks of a tanh convolution, tanh hidden layers and a softmax output.

    The convolution has filters of 5 × 5, stride 2, no padding. The paper does not say what a
    neuron is in it. Here its neurons are its filters: one credit c per filter and sample, which
    holds at every position i, so that the local update (see `MLPBatch`) is

        ΔW = η · mean_n( Σᵢ (c ⊙ f′(aᵢ)) xᵢᵀ )

    with patches x and pre-activations a. It takes no more than what is at hand at each position.

    Args:
        num_networks: P.
        image_shape: `(channels, height, width)`, at least 5 × 5 pixels.
        num_classes: outputs.
        device: where the tensors live.
        dtype: float32, or float64 for checks.
        filters: of the convolution.
        hidden_sizes: neurons of the hidden layers above it.

    Raises:
        ValueError: the images are smaller than a filter.

    Attributes:
        weights: one tensor per layer of shape `(P, outputs, inputs + 1)`, the last column being
            the bias; the convolution's inputs are the pixels of a patch, channel by channel.
            Changed in place by the inner optimiser.
    """

    def __init__(
        self,
        num_networks: int,
        image_shape: tuple[int, int, int],
        num_classes: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        *,
        filters: int = 16,
        hidden_sizes: Sequence[int] = (100, 100),
    ) -> None:
        rows, columns = patch_grid(image_shape)
        self.num_networks = num_networks
        self.filters, self.positions = filters, rows * columns
        self.num_units = filters * self.positions
        dense_sizes = (self.num_units, *hidden_sizes, num_classes)
        first_shape = (dense_sizes[1], dense_sizes[0] + 1)
        self._dense = MLPBatch(num_networks, dense_sizes, first_shape, device, dtype)
        pixels = image_shape[0] * PATCH_SIDE**2
        convolution = torch.zeros(num_networks, filters, pixels + 1, device=device, dtype=dtype)
        self.weights = [convolution, *self._dense.weights]
        self._gradient = torch.empty_like(convolution)
        self._num_samples = -1

    @property
    def credit_sizes(self) -> tuple[int, ...]:
        """Credits per layer: filters, neurons of the hidden layers, outputs."""
        return (self.filters, *self._dense.sizes[1:])

    @property
    def probabilities(self) -> Tensor:
        """Of the classes in the last forward pass, `(P, classes, N)`."""
        return self._dense.probabilities

    def _reserve(self, num_samples: int) -> None:
        """Allocate the activations for `num_samples` images once, not in every update."""
        if num_samples == self._num_samples:
            return
        self._num_samples = num_samples
        like = self.weights[0]
        self._activity = OwnInputs(self.num_networks, self.num_units, num_samples, like)
        # The local errors c ⊙ f′.
        self._error = like.new_empty(self.num_networks, self.filters, self.positions * num_samples)

    def forward(self, inputs: Inputs) -> Tensor:
        """Log-probabilities of the classes, shape `(P, classes, N)`.

        Args:
            inputs: `positions · N` patches, see `image_patches`: `SharedPatches`, or `OwnInputs`.
        """
        self._reserve(inputs.num_samples // self.positions)
        post = self._activity.samples
        each = self.weights[0].unbind()
        # One network after the other, so that its pre-activations stay in the cache.
        pre: Iterable[Tensor] = (
            (inputs.forward(filters[None]) for filters in each)
            if isinstance(inputs, SharedPatches)
            else inputs.forward(self.weights[0]).unbind()
        )
        for own_pre, own_post in zip(pre, post.unbind(), strict=True):
            tanh(own_pre.view_as(own_post), out=own_post)
        return self._dense.forward(self._activity)

    def local_gradients(
        self, inputs: Inputs, credits: Sequence[Tensor], scale: float
    ) -> list[Tensor]:
        """Hebbian gradients of the last forward pass, see `MLPBatch.local_gradients`.

        Args:
            inputs: as given to `forward`.
            credits: one per layer: the convolution's `(P, filters, N)`, or with a credit for
                every position `(P, filters · positions, N)`; the others' `(P, units, N)`.
            scale: factor on the gradients.

        Returns:
            One tensor per layer, shaped like the weights; overwritten by the next call.
        """
        filter_credit, *dense_credits = credits
        by_filter = (self.num_networks, self.filters, -1, self._num_samples)
        # Contiguous credits are faster to read at every position.
        through_tanh(
            filter_credit.contiguous().view(by_filter),
            self._activity.samples.view(by_filter),
            out=self._error.view(by_filter),
        )
        inputs.gradient(self._error, scale / self._num_samples, self._gradient)
        return [
            self._gradient,
            *self._dense.local_gradients(self._activity, dense_credits, scale),
        ]

    def predict(self, inputs: Inputs, samples: Tensor) -> Tensor:
        """Log-probabilities on other samples than those it trains on, shape `(P, classes, N)`.

        Args:
            inputs: as given to `forward`.
            samples: patches of N images, see `image_patches`: `(features, positions · N)` for all
                networks, or `(P, features, positions · N)`; P may be 1.
        """
        pre = pre_activations(inputs.natural(self.weights[0]), samples)
        activity = tanh(pre, out=pre).view(self.num_networks, self.num_units, -1)
        return self._dense.predict(self._activity, activity)

    def feedback_credits(self, error: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """Credits of the hidden layers, see `MLPBatch.feedback_credits`.

        Feedback has a credit of its own for every position of a filter.

        Args:
            error: at the outputs' pre-activations, `(P, classes, N)`.
            weights: of the feedback, `(P, units, units below)` for each layer but the convolution.

        Returns:
            One tensor per hidden layer: the convolution's `(P, filters · positions, N)`, the
            others' `(P, units, N)`.
        """
        lowest, *others = weights
        credits, error = self._dense.feed_back(error, others)
        return [product(lowest.transpose(1, 2), error), *credits]
