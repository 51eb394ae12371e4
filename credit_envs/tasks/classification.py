"""Classifying images: the bottom-up network is a multilayer perceptron (TDCA, Fig. 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.datasets import Dataset
from credit_envs.networks import MLPBatch, OptimizerName, diffusion_kernel, make_optimizer
from credit_envs.networks.mlp import Init
from credit_envs.tasks.task import Seeds, Task

ScoreSplit = Literal["test", "validation"]

_SAMPLES_SCORED_AT_ONCE = 2000


@dataclass(frozen=True)
class TrainingSettings:
    """How a bottom-up network is built and trained; the environment's page explains each field."""

    num_samples: int = 1000
    hidden_sizes: tuple[int, ...] = (100,)
    init: Init = "zero"
    optimizer: OptimizerName = "adam"
    learning_rate: float = 0.01
    max_grad_norm: float | None = 1.0
    credit: Literal["neurons", "groups"] = "neurons"
    credit_groups: int | tuple[int, int] = 10
    diffusion_sigma: float = 5.0
    train_range: tuple[float, float] = (0.0, 1.0)
    evaluate_held_out: bool = True
    score_on: ScoreSplit = "test"


class ClassificationTask(Task):
    """P perceptrons, each trained on a subset of the training images.

    Args:
        dataset: what is classified.
        settings: networks and training.
        num_networks: P.
        device: where the tensors live.
        dtype: float32, or float64 for checks.

    Raises:
        ValueError: more samples asked for than there are, or groups that do not tile a layer.
    """

    lives_together = False
    task_names = ("classification",)

    def __init__(
        self,
        dataset: Dataset,
        settings: TrainingSettings,
        num_networks: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dataset = dataset
        self.settings = settings
        super().__init__(num_networks, device)
        self.num_classes = dataset.num_classes
        self.guess_loss = log(dataset.num_classes)
        self._dtype = dtype
        self._pool = self._training_pool()
        self._mean, self._std = _moments(dataset.x_train)

        num_inputs = int(np.prod(dataset.x_train.shape[1:]))
        sizes = (num_inputs, *settings.hidden_sizes, self.num_classes)
        self._sizes = sizes
        self._kernels = self._diffusion_kernels()
        self._credit_sizes = [
            units if kernel is None else kernel.shape[1]
            for units, kernel in zip(sizes[1:], self._kernels, strict=True)
        ]
        n = settings.num_samples
        self.observation_space = Box(0.0, 1.0, (n, 2 * self.num_classes), np.float32)
        self.action_space = Box(-1.0, 1.0, (n, sum(self._credit_sizes)), np.float32)

        self._observation = torch.zeros(
            num_networks, 2 * self.num_classes, n, device=device, dtype=dtype
        )
        self.sample_indices = np.zeros((num_networks, n), dtype=np.int64)
        self._shared_seed: int | None = None
        self._build(num_inputs)
        self._columns = torch.arange(num_inputs + 1, device=device)
        self._copies: Tensor | None = None

    def _build(self, num_columns: int) -> None:
        self.network = MLPBatch(
            self.num_networks, (num_columns, *self._sizes[1:]), self.device, self._dtype
        )
        self.optimizer = make_optimizer(
            self.settings.optimizer,
            self.network.weights,
            self.settings.learning_rate,
            self.settings.max_grad_norm,
        )

    # ------------------------------------------------------------------ lives

    def start(  # noqa: D102
        self, seeds: Seeds, which: NDArray[np.int64] | None, options: Mapping[str, Any]
    ) -> None:
        if which is None and (seeds == seeds[0]).all():
            self._start_together(int(seeds[0]))
        else:
            self._start_apart(seeds, np.arange(self.num_networks) if which is None else which)
        self._forward()

    def _start_together(self, seed: int) -> None:
        """One subset for all: a single copy of it, and one large product for the first layer."""
        rng = np.random.default_rng(seed)
        indices = self._draw_subset(rng)
        if seed != self._shared_seed:
            inputs = self._standardise(self.dataset.x_train[indices])
            self._inputs = _with_ones(inputs)
            self._weighted_inputs = self._inputs
            if self.settings.init == "zero":
                self._merge_equal_inputs(inputs)
            self._shared_seed = seed
            self.sample_indices[:] = indices
            self._observation[:, self.num_classes :] = self._one_hot(indices)
        if self._inputs.shape[0] != self.network.weights[0].shape[2]:
            self._build(self._inputs.shape[0] - 1)
        self._initialise(rng, slice(None))

    def _merge_equal_inputs(self, inputs: Tensor) -> None:
        """Train one weight for all inputs that are equal on every sample.

        From zero such weights take equal steps for ever, so this is exact; of MNIST's pixels a
        quarter is blank on 1,000 images.
        """
        distinct, columns, copies = torch.unique(
            inputs, dim=0, return_inverse=True, return_counts=True
        )
        bias = torch.tensor([len(distinct)], device=self.device)
        self._columns = torch.cat([columns, bias])
        self._copies = torch.cat([copies, copies.new_ones(1)]).to(self._dtype)
        self._inputs = _with_ones(distinct)
        self._weighted_inputs = self._inputs * self._copies[:, None]

    def _start_apart(self, seeds: Seeds, which: NDArray[np.int64]) -> None:
        """Every network its own subset."""
        if self._shared_seed is not None or not hasattr(self, "_inputs"):
            if len(which) < self.num_networks:
                raise RuntimeError("networks on shared data start together: reset all of them")
            num_inputs, n = self._sizes[0], self.settings.num_samples
            self._shared_seed, self._copies = None, None
            self._columns = torch.arange(num_inputs + 1, device=self.device)
            self._inputs = self._observation.new_ones(self.num_networks, num_inputs + 1, n)
            self._weighted_inputs = self._inputs
            self._build(num_inputs)
        for network, seed in zip(which, seeds, strict=True):
            rng = np.random.default_rng(seed)
            indices = self._draw_subset(rng)
            self.sample_indices[network] = indices
            self._inputs[network, :-1] = self._standardise(self.dataset.x_train[indices])
            self._observation[network, self.num_classes :] = self._one_hot(indices)
            self._initialise(rng, slice(network, network + 1))

    def _initialise(self, rng: np.random.Generator, networks: slice) -> None:
        """Zeros, or PyTorch's default for linear layers (Kaiming uniform, a = √5)."""
        for weight in self.network.weights:
            if self.settings.init == "zero":
                weight[networks] = 0.0
            else:
                bound = (weight.shape[2] - 1) ** -0.5
                values = rng.uniform(-bound, bound, tuple(weight.shape[1:]))
                weight[networks] = torch.as_tensor(values, dtype=self._dtype, device=self.device)
        self.optimizer.reset(networks)

    def _training_pool(self) -> NDArray[np.int64]:
        total = len(self.dataset.x_train)
        start, stop = (round(fraction * total) for fraction in self.settings.train_range)
        if self.settings.num_samples > stop - start:
            raise ValueError(
                f"num_samples={self.settings.num_samples} is more than the {stop - start} training "
                f"images of {self.dataset.name} in train_range={self.settings.train_range}; "
                f"ask for at most {stop - start}"
            )
        return np.arange(start, stop)

    def _draw_subset(self, rng: np.random.Generator) -> NDArray[np.int64]:
        if self.settings.num_samples == len(self._pool):
            return self._pool
        return rng.choice(self._pool, self.settings.num_samples, replace=False)

    def _standardise(self, images: NDArray[Any]) -> Tensor:
        """Images as columns with the training set's mean 0 and standard deviation 1."""
        x = torch.as_tensor(np.ascontiguousarray(images), device=self.device).to(self._dtype)
        x = (x - self._mean.to(x)) / self._std.to(x)
        return x.reshape(len(images), -1).T.contiguous()

    def _one_hot(self, indices: NDArray[np.int64]) -> Tensor:
        labels = torch.as_tensor(self.dataset.y_train[indices], device=self.device)
        return torch.nn.functional.one_hot(labels, self.num_classes).T.to(self._dtype)

    # ------------------------------------------------------------------ learning

    def _forward(self) -> None:
        self._log_probabilities = self.network.forward(self._weighted_inputs)
        self._observation[:, : self.num_classes] = self.network.probabilities

    def observe(self) -> Tensor:  # noqa: D102
        return self._observation.transpose(1, 2)

    def update(self, action: Tensor, credit_scale: float) -> None:  # noqa: D102
        credits = action.transpose(1, 2).split(self._credit_sizes, dim=1)
        spread = [
            credit if kernel is None else torch.matmul(kernel, credit)
            for credit, kernel in zip(credits, self._kernels, strict=True)
        ]
        gradients = self.network.local_gradients(self._inputs, spread, credit_scale)
        self.optimizer.step(gradients, self._copies)
        self._forward()

    def _diffusion_kernels(self) -> list[Tensor | None]:
        """One per layer; None where every neuron has a credit of its own, as outputs always do."""
        if self.settings.credit == "neurons":
            return [None] * (len(self._sizes) - 1)
        return [
            diffusion_kernel(self.settings.credit_groups, units, self.settings.diffusion_sigma).to(
                self.device, self._dtype
            )
            for units in self._sizes[1:-1]
        ] + [None]

    def loss(self) -> Tensor:
        """Mean cross-entropy on the training subset in nats, shape `(P,)`."""
        labels = self._observation[:, self.num_classes :]
        return -(self._log_probabilities * labels).sum(1).mean(1)

    def accuracy(self) -> Tensor:
        """Fraction of the training subset classified correctly, shape `(P,)`."""
        labels = self._observation[:, self.num_classes :]
        correct = self._log_probabilities.argmax(1) == labels.argmax(1)
        return correct.to(self._dtype).mean(1)

    def metrics(self) -> dict[str, Tensor]:  # noqa: D102
        return {"loss": self.loss(), "accuracy": self.accuracy()}

    def backprop_credits(self) -> Tensor:
        """The credits that equal backpropagation, shape `(P, num_samples, neurons)`."""
        credits = self.network.backprop_credits(self._observation[:, self.num_classes :])
        return torch.cat(credits, dim=1).transpose(1, 2)

    # ------------------------------------------------------------------ scoring

    def final_metrics(self) -> dict[str, Tensor]:  # noqa: D102
        if not self.settings.evaluate_held_out:
            return {}
        images, labels = self._held_out()
        losses, correct = [], []
        for start in range(0, len(images), _SAMPLES_SCORED_AT_ONCE):
            block = slice(start, start + _SAMPLES_SCORED_AT_ONCE)
            inputs = _with_ones(self._standardise(images[block]))
            answers = torch.as_tensor(labels[block], device=self.device)
            predicted = self.network.predict(inputs, self._columns)
            picked = predicted.gather(1, answers.expand(self.num_networks, 1, -1))
            losses.append(-picked.sum((1, 2)))
            correct.append((predicted.argmax(1) == answers).sum(1))
        split = self.settings.score_on
        return {
            f"{split}_loss": torch.stack(losses).sum(0) / len(images),
            f"{split}_accuracy": torch.stack(correct).sum(0).to(self._dtype) / len(images),
        }

    def _held_out(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        if self.settings.score_on == "test":
            return self.dataset.x_test, self.dataset.y_test
        outside = np.ones(len(self.dataset.x_train), dtype=bool)
        outside[self._pool] = False
        return self.dataset.x_train[outside], self.dataset.y_train[outside]

    def life_info(self) -> dict[str, NDArray[Any]]:  # noqa: D102
        name = np.full(self.num_networks, self.dataset.name, dtype=object)
        return {"sample_indices": self.sample_indices.copy(), "dataset": name}


def _moments(images: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of images, per feature of a table."""
    if images.ndim == 2:
        axes, shape = (0,), (-1,)
    else:
        images = images.reshape(len(images), -1, *images.shape[-2:])
        axes, shape = (0, 2, 3), (-1, 1, 1)
    mean = images.mean(axes, dtype=np.float64)
    std = images.std(axes, dtype=np.float64)
    # A feature that never varies carries nothing: it becomes 0 instead of dividing by 0.
    std[std == 0] = 1.0
    return torch.as_tensor(mean).view(shape), torch.as_tensor(std).view(shape)


def _with_ones(columns: Tensor) -> Tensor:
    """`columns` with a last row of ones, the input of the biases."""
    return torch.cat([columns, columns.new_ones(1, columns.shape[1])])
