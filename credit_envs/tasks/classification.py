"""Classifying images: perceptrons (TDCA, Fig. 4), convolutional and residual networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.complexity import CreditForm
from credit_envs.datasets import Dataset
from credit_envs.networks import (
    CNNBatch,
    GramInputs,
    Inputs,
    MLPBatch,
    OptimizerName,
    OwnInputs,
    ResidualBatch,
    SharedInputs,
    SharedPatches,
    diffusion_kernel,
    forward_weights,
    image_patches,
    make_optimizer,
)
from credit_envs.tasks.credits import Credits, Network, NeuronCredits, ParameterCredits
from credit_envs.tasks.task import Seeds, Task

Architecture = Literal["mlp", "cnn", "residual"]
Init = Literal["zero", "near-zero", "kaiming"]
LossSplit = Literal["train", "held-out"]
ScoreSplit = Literal["test", "validation"]

_SAMPLES_SCORED_AT_ONCE = 2000


@dataclass(frozen=True)
class TrainingSettings:
    """How a bottom-up network is built and trained; the environment's page explains each field."""

    num_samples: int = 1000
    hidden_sizes: tuple[int, ...] = (100,)
    architecture: Architecture = "mlp"
    init: Init = "zero"
    optimizer: OptimizerName = "adam"
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    credit: CreditForm = "neurons"
    credit_groups: int | tuple[int, int] = 10
    diffusion_sigma: float = 5.0
    train_range: tuple[float, float] = (0.0, 1.0)
    loss_on: LossSplit = "train"
    num_held_out: int = 1000
    permute_classes: bool = False
    random_projection: int | None = None
    evaluate_held_out: bool = True
    score_on: ScoreSplit = "test"


@dataclass(frozen=True)
class Life:
    """What one network's life has of its own, all of it by the life's seed.

    Attributes:
        indices: of the training images that it learns from, `(num_samples,)`.
        held_out: of those that make up its loss, if others, `(num_held_out,)`; else empty.
        weights: initial ones, a tensor `(1, …)` per layer, inputs in their own order.
        labels: that the data set's classes have, `(classes,)`.
        projection: of standardised features to inputs, `(inputs, features)`; None: they are inputs.
    """

    indices: NDArray[np.int64]
    held_out: NDArray[np.int64]
    weights: list[Tensor]
    labels: NDArray[np.int64]
    projection: Tensor | None


class ClassificationTask(Task):
    """P networks, each trained on a subset of the training images.

    Args:
        dataset: what is classified.
        settings: networks and training.
        num_networks: P.
        device: where the tensors live.
        dtype: float32, or float64 for checks.

    Raises:
        ValueError: more samples asked for than there are, or groups that do not tile a layer.

    Attributes:
        columns_per_image: 1, or with a convolution the number of its positions.
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
        self._moments = [torch.as_tensor(moment, device=device) for moment in dataset.moments]

        # Of a single image: a convolution sees its patches, each in a column.
        self._num_features, self.columns_per_image = self.standardise(dataset.x_train[:1]).shape
        self._num_inputs = settings.random_projection or self._num_features
        self._layers = (*settings.hidden_sizes, self.num_classes)
        n = settings.num_samples
        # Outputs above one-hot labels.
        self._answers = torch.zeros(
            num_networks, 2 * self.num_classes, n, device=device, dtype=dtype
        )
        self.sample_indices = np.zeros((num_networks, n), dtype=np.int64)
        self.inputs: Inputs | None = None
        # By network; where all share a life, once.
        self._lives: list[Life | None] = [None] * num_networks
        self._shared_life: int | None = None
        self._build((self._layers[0], self._num_inputs + 1))
        self._credits = self._make_credits()
        self.observation_space = self._credits.observation_space
        self.action_space = self._credits.action_space

    def _build(self, first_shape: tuple[int, int]) -> None:
        self.network = self._make_network(first_shape)
        self.optimizer = make_optimizer(
            self.settings.optimizer,
            self.network.weights,
            self.settings.learning_rate,
            self.settings.max_grad_norm,
            self.settings.weight_decay,
        )

    def _make_network(self, first_shape: tuple[int, int]) -> Network:
        P, k, device, dtype = self.num_networks, self.num_classes, self.device, self._dtype
        first, *others = self.settings.hidden_sizes
        if self.settings.architecture == "cnn":
            shape = self.dataset.x_train.shape[1:]
            return CNNBatch(P, shape, k, device, dtype, filters=first, hidden_sizes=others)
        if self.settings.architecture == "residual":
            blocks = len(others)
            return ResidualBatch(P, k, first_shape, device, dtype, width=first, blocks=blocks)
        sizes = (self._num_inputs, *self._layers)
        return MLPBatch(P, sizes, first_shape, device, dtype)

    def _make_credits(self) -> Credits:
        if self.settings.credit == "parameters":
            return ParameterCredits([tuple(w.shape[1:]) for w in self.network.weights])
        kernels = self._diffusion_kernels()
        return NeuronCredits(self.settings.num_samples, self._layers, kernels)

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
        """One subset, and one copy of it, for all networks."""
        life = self.draw_life(seed)
        # The candidates of a generation come in several batches, all with the same life.
        if seed != self._shared_life:
            indices = life.indices
            samples = self.inputs_of(life, indices)
            if self.settings.architecture == "cnn":
                self._take(SharedPatches(samples))
            elif self._gram_pays():
                self._take(GramInputs(samples))
            else:
                inputs = SharedInputs(samples)
                indices = indices[inputs.sample_order.cpu().numpy()]
                self._take(inputs)
            self._shared_life = seed
            self._lives = [_without_weights(life)]
            self._set_samples(slice(None), indices, life)
        self._initialise(life.weights, slice(None))

    def _start_apart(self, seeds: Seeds, which: NDArray[np.int64]) -> None:
        """Every network its own subset."""
        inputs = self.inputs
        if not isinstance(inputs, OwnInputs):
            if len(which) < self.num_networks:
                raise RuntimeError("networks on shared data start together: reset all of them")
            columns = self.columns_per_image * self.settings.num_samples
            inputs = OwnInputs(self.num_networks, self._num_inputs, columns, self._answers)
            self._take(inputs)
            self._shared_life = None
            self._lives = [None] * self.num_networks
        for network, seed in zip(which, seeds, strict=True):
            life, place = self.draw_life(int(seed)), slice(network, network + 1)
            inputs.samples[network] = self.inputs_of(life, life.indices)
            self._lives[network] = _without_weights(life)
            self._set_samples(place, life.indices, life)
            self._initialise(life.weights, place)

    def _gram_pays(self) -> bool:
        """Whether the Gram form is exact here, and has fewer columns to multiply."""
        linear = self.settings.optimizer in ("sgd", "momentum") and self.settings.init == "zero"
        # Credits of single parameters lead out of what the samples span.
        linear = linear and self.settings.credit != "parameters"
        return linear and self.settings.num_samples <= self._num_inputs

    def _take(self, inputs: Inputs) -> None:
        self.inputs = inputs
        first_shape = inputs.kept_shape(self._layers[0])
        if first_shape != self.network.weights[0].shape[1:]:
            self._build(first_shape)

    def _set_samples(self, networks: slice, indices: NDArray[np.int64], life: Life) -> None:
        self.sample_indices[networks] = indices
        one_hot = torch.nn.functional.one_hot(self.labels_of(life, indices), self.num_classes)
        self._answers[networks, self.num_classes :] = one_hot.T.to(self._dtype)

    def _initialise(self, weights: Sequence[Tensor], networks: slice) -> None:
        assert self.inputs is not None
        first, *others = weights
        values = [self.inputs.kept(first), *others]
        for weight, value in zip(self.network.weights, values, strict=True):
            weight[networks] = value
        self.optimizer.reset(networks)

    def draw_life(self, seed: int) -> Life:
        """What the life of this seed begins with, in whichever network it is lived."""
        rng = np.random.default_rng(seed)
        indices, held_out = self._draw_subset(rng)
        first_shape = (self._layers[0], self._num_inputs + 1)
        shapes = [first_shape, *(weight.shape[1:] for weight in self.network.weights[1:])]
        draw = _INITIALISERS[self.settings.init]
        weights = [
            torch.as_tensor(draw(rng, (1, *shape)), dtype=self._dtype, device=self.device)
            for shape in shapes
        ]
        labels = np.arange(self.num_classes)
        if self.settings.permute_classes:
            labels = rng.permutation(labels)
        return Life(indices, held_out, weights, labels, self._draw_projection(rng))

    def _draw_projection(self, rng: np.random.Generator) -> Tensor | None:
        if self.settings.random_projection is None:
            return None
        # Inputs then vary as much as the features do in the mean.
        drawn = rng.normal(0, self._num_features**-0.5, (self._num_inputs, self._num_features))
        return torch.as_tensor(drawn, dtype=self._dtype, device=self.device)

    def _training_pool(self) -> NDArray[np.int64]:
        total = len(self.dataset.x_train)
        start, stop = (round(fraction * total) for fraction in self.settings.train_range)
        held_out = self._num_held_out
        if self.settings.num_samples + held_out > stop - start:
            beside = f" beside num_held_out={held_out}" if held_out else ""
            room = stop - start - held_out
            fewer = "hold fewer out" if held_out else "widen train_range"
            advice = f"ask for at most {room}" if room > 0 else fewer
            raise ValueError(
                f"num_samples={self.settings.num_samples}{beside} is more than the {stop - start} "
                f"training images of {self.dataset.name} in train_range="
                f"{self.settings.train_range}; {advice}"
            )
        if self.settings.score_on == "validation" and stop - start == total:
            raise ValueError(
                f"train_range={self.settings.train_range} leaves none of the {total} training "
                f"images of {self.dataset.name} for validation; leave more out"
            )
        return np.arange(start, stop)

    @property
    def _num_held_out(self) -> int:
        """Images of each life that are not trained on but make up its loss."""
        return self.settings.num_held_out if self.settings.loss_on == "held-out" else 0

    def _draw_subset(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Images to train on, and other ones to hold out."""
        n, held_out = self.settings.num_samples, self._num_held_out
        if n == len(self._pool):
            return self._pool, self._pool[:0]
        drawn = rng.choice(self._pool, n + held_out, replace=False)
        return drawn[:n], drawn[n:]

    def inputs_of(self, life: Life, indices: NDArray[np.int64]) -> Tensor:
        """Training images as a network in this life sees them, `(inputs, n)`, see `standardise`."""
        return self._projected(life, self.standardise(self.dataset.x_train[indices]))

    def labels_of(self, life: Life, indices: NDArray[np.int64]) -> Tensor:
        """Labels of training images in this life, `(n,)`."""
        return torch.tensor(life.labels[self.dataset.y_train[indices]], device=self.device)

    def standardise(self, images: NDArray[Any]) -> Tensor:
        """Images `(n, …)` as columns with the training set's mean 0 and standard deviation 1.

        For a convolution, their patches, see `image_patches`.
        """
        # A user's features may lie far from 0, where single precision has few digits left; bytes
        # do not, and need half of the time so.
        is_exact = np.can_cast(images.dtype, np.float32)
        exact = self._dtype if is_exact else torch.float64
        mean, std = (moment.to(exact) for moment in self._moments)
        x = torch.tensor(images, dtype=exact, device=self.device)
        x = ((x - mean) / std).to(self._dtype)
        samples = x.reshape(len(images), -1).T.contiguous()
        if self.settings.architecture != "cnn":
            return samples
        return image_patches(samples, images.shape[1:])

    @staticmethod
    def _projected(life: Life, features: Tensor) -> Tensor:
        return features if life.projection is None else life.projection @ features

    # ------------------------------------------------------------------ learning

    def _forward(self) -> None:
        assert self.inputs is not None
        self._log_probabilities = self.network.forward(self.inputs)
        self._answers[:, : self.num_classes] = self.network.probabilities

    def observe(self) -> Tensor:  # noqa: D102
        assert self.inputs is not None
        return self._credits.observe(self.network, self.inputs, self._answers)

    def update(self, action: Tensor, credit_scale: float) -> None:  # noqa: D102
        assert self.inputs is not None
        credits = action.to(self._dtype)
        gradients = self._credits.gradients(self.network, self.inputs, credits, credit_scale)
        self.optimizer.step(gradients, self.inputs.norm)
        self._forward()

    def _diffusion_kernels(self) -> list[Tensor | None]:
        """One per layer; None where every neuron has a credit of its own.

        As outputs always do, and filters, which have no neighbours.
        """
        if self.settings.credit == "neurons":
            return [None] * len(self._layers)
        groups, sigma = self.settings.credit_groups, self.settings.diffusion_sigma
        filters = self.settings.architecture == "cnn"
        return [
            None
            if filters and layer == 0
            else diffusion_kernel(groups, units, sigma).to(self.device, self._dtype)
            for layer, units in enumerate(self.settings.hidden_sizes)
        ] + [None]

    def loss(self) -> Tensor:
        """Mean cross-entropy in nats on the training subset, or the held-out one, shape `(P,)`."""
        return self.held_out_loss() if self._num_held_out else self.training_loss()

    def training_loss(self) -> Tensor:
        """Mean cross-entropy on the training subset in nats, shape `(P,)`."""
        labels = self._answers[:, self.num_classes :]
        return -(self._log_probabilities * labels).sum(1).mean(1)

    def held_out_loss(self) -> Tensor:
        """Mean cross-entropy on the images held out in each life in nats, shape `(P,)`."""
        assert self.inputs is not None
        pairs = [(life, life.held_out) for life in self._begun()]
        samples = torch.stack([self.inputs_of(*pair) for pair in pairs])
        labels = torch.stack([self.labels_of(*pair) for pair in pairs])
        predicted = self.network.predict(self.inputs, samples)
        picked = predicted.gather(1, labels[:, None].expand(self.num_networks, -1, -1))
        return -picked.mean((1, 2))

    def _begun(self) -> list[Life]:
        """The networks' lives, or the one that all share."""
        return [life for life in self._lives if life is not None]

    def accuracy(self) -> Tensor:
        """Fraction of the training subset classified correctly, shape `(P,)`."""
        labels = self._answers[:, self.num_classes :]
        correct = self._log_probabilities.argmax(1) == labels.argmax(1)
        return correct.to(self._dtype).mean(1)

    def metrics(self) -> dict[str, Tensor]:  # noqa: D102
        metrics = {"loss": self.training_loss(), "accuracy": self.accuracy()}
        return metrics | ({"held_out_loss": self.held_out_loss()} if self._num_held_out else {})

    def guess_metrics(self) -> dict[str, float]:  # noqa: D102
        losses = ["loss", *(["held_out_loss"] if self._num_held_out else [])]
        accuracies = ["accuracy"]
        if self.settings.evaluate_held_out:
            losses.append(f"{self.settings.score_on}_loss")
            accuracies.append(f"{self.settings.score_on}_accuracy")
        chance = 1 / self.num_classes
        return dict.fromkeys(losses, self.guess_loss) | dict.fromkeys(accuracies, chance)

    @property
    def activities(self) -> list[Tensor]:
        """Of each hidden layer of perceptrons, `(P, units, n)`; views, valid until the next update.

        Raises:
            ValueError: the networks are no perceptrons.
        """
        if not isinstance(self.network, MLPBatch):
            raise ValueError('activities are those of perceptrons: use architecture="mlp"')
        return self.network.activities

    @property
    def forward_weights(self) -> list[Tensor]:
        """Weights without biases of each layer but the first, `(P, units, units below)`; views."""
        return forward_weights(self.network.weights)

    def neuron_credits(self, action: Tensor) -> list[Tensor]:
        """Credits of each layer's neurons, `(P, units, n)`: those of groups are spread to them.

        Raises:
            ValueError: credits are of parameters.
        """
        if not isinstance(self._credits, NeuronCredits):
            raise ValueError('neurons have no credits with credit="parameters"')
        return self._credits.spread(action)

    def feedback_credits(self, error: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """Credits of each hidden layer, by feedback from layer to layer.

        The error of a layer goes down through feedback weights, which gives the credits of the
        layer below, and on down once it is gated by f′ there. Through the network's own weights,
        an error −∂L/∂(pre-activations) of any loss L gives credits −∂L/∂(activity).

        Args:
            error: at the outputs' pre-activations, `(P, num_samples, classes)`.
            weights: of the feedback, shaped as `forward_weights`.

        Returns:
            One view `(P, num_samples, units)` per layer; of a convolution, with a credit for every
            position of a filter.
        """
        credits = self.network.feedback_credits(error.transpose(1, 2), weights)
        return [credit.transpose(1, 2) for credit in credits]

    # ------------------------------------------------------------------ scoring

    def final_metrics(self) -> dict[str, Tensor]:  # noqa: D102
        if not self.settings.evaluate_held_out:
            return {}
        assert self.inputs is not None
        images, classes = self._held_out()
        lives = self._begun()
        if not self.settings.permute_classes and self.settings.random_projection is None:
            # All see the same, whatever they were trained on.
            lives = lives[:1]
        losses, correct = [], []
        for start in range(0, len(images), _SAMPLES_SCORED_AT_ONCE):
            block = slice(start, start + _SAMPLES_SCORED_AT_ONCE)
            features = self.standardise(images[block])
            samples = torch.stack([self._projected(life, features) for life in lives])
            labels = np.stack([life.labels[classes[block]] for life in lives])
            answers = torch.tensor(labels, device=self.device)
            predicted = self.network.predict(self.inputs, samples)
            picked = predicted.gather(1, answers[:, None].expand(self.num_networks, -1, -1))
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


def _without_weights(life: Life) -> Life:
    """What is needed of it once it has begun."""
    return replace(life, weights=[])


def _zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.zeros(shape)


def _near_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Uniform in ±1e-16, as close to zero as backpropagation can start (TDCA, Table 1)."""
    return rng.uniform(-1e-16, 1e-16, shape)


def _kaiming(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """PyTorch's default for linear layers: Kaiming uniform with a = √5, biases alike."""
    bound = (shape[-1] - 1) ** -0.5
    return rng.uniform(-bound, bound, shape)


_INITIALISERS = {"zero": _zeros, "near-zero": _near_zero, "kaiming": _kaiming}
