"""Policies that answer by the highest Q-value, with the architectures of the paper."""

from collections.abc import Sequence
from inspect import signature
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from agents.deepagrel.layers import Convolution, Dense, Layer, LocallyConnected, Shape
from agents.deepagrel.network import Feedback, QNetwork
from credit_envs.checks import (
    require_at_least,
    require_fraction,
    require_one_of,
    require_positive,
    require_sizes,
    require_unit,
)


class DeepAGRELPolicy(BasePolicy):
    """A fully connected network of Q-values, 1500-1000-500 (DeepAGREL, Table 1, "Full").

    Weights start uniformly in [−`init_range`, `init_range`].

    Args:
        observation_space: a Box: images `(C, H, W)`, or vectors. Others are flattened.
        action_space: a Discrete.
        hidden_sizes: fully connected hidden layers.
        dropout: fraction of silent units of each hidden layer, convolutions included; None: the
            paper's, which is none here.
        feedback: weights w' that carry feedback: "tied", the same as w; "reciprocal", of their
            own, from another random start but with the same updates; "fixed", random and never
            learned (feedback alignment); "direct", the same from the output units straight to
            each hidden layer (direct feedback alignment).
        init_range: of w, and of w' of their own; None: the paper's, here 0.05.
        epsilon: probability of a Boltzmann choice in `predict(deterministic=False)`.
        mean: what is taken from observations, per channel or feature; None: 0.
        std: by what they are divided then; None: 255 for uint8, which makes pixels [0, 1], and 1
            for others. The paper's learning rates are for such pixels: on images with mean 0 and
            standard deviation 1 they diverge.

    Attributes:
        q_net: a module from raw observations to Q-values, whose parameters need no gradient.

    Raises:
        ValueError: other spaces, or bad arguments.
    """

    default_hidden_sizes: ClassVar[tuple[int, ...]] = (1500, 1000, 500)
    default_init_range: ClassVar[float] = 0.05

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        hidden_sizes: Sequence[int] | None = None,
        dropout: Sequence[float] | None = None,
        feedback: Feedback = "tied",
        init_range: float | None = None,
        epsilon: float = 0.02,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
    ) -> None:
        super().__init__(observation_space, action_space)
        require_one_of("feedback", feedback, get_args(Feedback))
        require_unit("epsilon", epsilon)
        if init_range is not None:
            require_positive("init_range", init_range)
        self.feedback_kind: Feedback = feedback
        self.init_range = self.default_init_range if init_range is None else init_range
        self.epsilon = epsilon
        sizes = self.default_hidden_sizes if hidden_sizes is None else hidden_sizes
        self.hidden_sizes = require_sizes("hidden_sizes", sizes, allow_empty=False)
        num_actions = require_discrete(action_space)
        shape = _observation_shape(observation_space)
        layers = self._first_layers(shape)
        width = int(np.prod(layers[-1].output_shape if layers else shape))
        for size in (*self.hidden_sizes, num_actions):
            layers.append(Dense(width, size))
            width = size
        rates = self._default_dropout(len(layers) - 1) if dropout is None else dropout
        self.dropout = _require_dropout(rates, len(layers) - 1)
        is_uint8 = observation_space.dtype == np.uint8
        self.q_net = QNetwork(
            layers,
            self.dropout,
            0.0 if mean is None else mean,
            (255.0 if is_uint8 else 1.0) if std is None else std,
            shape,
        )
        # The first layer feeds nobody: there are no units below it.
        own = [] if feedback == "tied" else [torch.empty_like(w) for w in self.q_net.weights[1:]]
        if feedback == "direct":
            own = [torch.empty(num_actions, int(np.prod(n.output_shape))) for n in layers[:-1]]
        self._own_feedback = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in own)
        self.initialise()

    @property
    def feedback(self) -> list[Tensor]:
        """Weights w' of each layer but the first, in the shape of w; the very same if tied.

        Direct ones are `(actions, units below the layer)`.
        """
        return self.q_net.weights[1:] if self.feedback_kind == "tied" else [*self._own_feedback]

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew."""
        for weight in (*self.q_net.weights, *self._own_feedback):
            weight.uniform_(-self.init_range, self.init_range, generator=generator)

    def alignment(self) -> list[float]:
        """Angle between w and w' of each layer but the first, in degrees; 0 if tied.

        Raises:
            ValueError: w' are direct, so that no w lies beside them.
        """
        if self.feedback_kind == "direct":
            raise ValueError("direct feedback weights are not parallel to any forward weights")
        pairs = zip(self.q_net.weights[1:], self.feedback, strict=True)
        return [0.0 if w is b else _angle(w, b) for w, b in pairs]

    def parameters_to_vector(self) -> NDArray[Any]:
        """All weights in a row; unlike `BaseModel`'s, also of channels-last convolutions."""
        vector: NDArray[Any] = torch.cat([w.flatten() for w in self.parameters()]).cpu().numpy()
        return vector

    @torch.no_grad()
    def load_from_vector(self, vector: NDArray[Any]) -> None:
        """Take all weights from `parameters_to_vector`."""
        weights = list(self.parameters())
        parts = torch.split(torch.as_tensor(vector), [w.numel() for w in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.copy_(part.view(weight.shape))

    def _first_layers(self, shape: Shape) -> list[Layer]:
        """What comes before the fully connected layers."""
        return []

    def _default_dropout(self, num_layers: int) -> tuple[float, ...]:
        return (0.0,) * num_layers

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        assert isinstance(observation, Tensor)
        values = self.q_net(observation)
        if not values.isfinite().all():
            raise ValueError("Q-values are not finite: look for NaN in the observation")
        return choose(values, 0.0 if deterministic else self.epsilon, None)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """What `load` builds the policy from; mean and std come with the state."""
        rest = ("feedback", "mean", "std")
        names = (name for name in signature(type(self)).parameters if name not in rest)
        return {name: getattr(self, name) for name in names} | {"feedback": self.feedback_kind}


class AuGMEnTPolicy(DeepAGRELPolicy):
    """The same with 64 hidden units: every environment has a tag for each synapse.

    Weights start in ±0.1.
    """

    default_hidden_sizes = (64,)
    default_init_range = 0.1


class DeepAGRELCnnPolicy(DeepAGRELPolicy):
    """Convolutions before the fully connected layers (DeepAGREL, Section 3, a).

    32 filters of 3 × 3, then as many with stride 2, on 28 × 28 pixels 21632-5408-1000-500. Dropout
    0.8 after the second and 0.3 after the last hidden layer; weights start in ±0.02. The paper
    learns with a learning rate of 1.

    Args:
        observation_space: a Box of images `(C, H, W)`.
        action_space: a Discrete.
        num_filters: of both first layers.
        filter_size: their height and width, odd.
        kwargs: arguments of `DeepAGRELPolicy`.
    """

    is_locally_connected: ClassVar[bool] = False
    default_hidden_sizes = (1000, 500)
    default_init_range = 0.02

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        num_filters: int = 32,
        filter_size: int = 3,
        hidden_sizes: Sequence[int] | None = None,
        dropout: Sequence[float] | None = None,
        feedback: Feedback = "tied",
        init_range: float | None = None,
        epsilon: float = 0.02,
        mean: ArrayLike | None = None,
        std: ArrayLike | None = None,
    ) -> None:
        require_at_least("num_filters", num_filters, 1)
        require_at_least("filter_size", filter_size, 1)
        if filter_size % 2 == 0:
            raise ValueError(f"filter_size={filter_size} must be odd, so that padding is even")
        self._filters = num_filters, filter_size
        super().__init__(
            observation_space,
            action_space,
            hidden_sizes=hidden_sizes,
            dropout=dropout,
            feedback=feedback,
            init_range=init_range,
            epsilon=epsilon,
            mean=mean,
            std=std,
        )

    @property
    def num_filters(self) -> int:
        """Of both first layers."""
        return self._filters[0]

    @property
    def filter_size(self) -> int:
        """Height and width of the filters."""
        return self._filters[1]

    def _first_layers(self, shape: Shape) -> list[Layer]:
        name, size = type(self).__name__, self.filter_size
        if len(shape) != 3 or min(shape[1:]) < size:
            raise ValueError(
                f"{name} needs images (channels, height, width) of at least {size} × {size} "
                f"pixels, not observations of shape {shape}; use MlpPolicy"
            )
        first: Layer = (
            LocallyConnected(shape, self.num_filters, size)
            if self.is_locally_connected
            else Convolution(shape, self.num_filters, size, stride=1)
        )
        return [first, Convolution(first.output_shape, self.num_filters, size, stride=2)]

    def _default_dropout(self, num_layers: int) -> tuple[float, ...]:
        return (0.0, 0.8, *(0.0,) * (num_layers - 3), 0.3)


class DeepAGRELLocConPolicy(DeepAGRELCnnPolicy):
    """As `DeepAGRELCnnPolicy`, but every place has first filters of its own (Section 3, b)."""

    is_locally_connected = True


@torch.no_grad()
def choose(q_values: Tensor, epsilon: float, generator: torch.Generator | None) -> Tensor:
    """Max-Boltzmann actions (Eq. 5).

    The highest Q-value wins with probability 1 − ε, else action l with probability
    exp q_l / Σ exp q.

    Args:
        q_values: `(B, actions)`.
        epsilon: ε.
        generator: draws; None: PyTorch's global one.

    Returns:
        `(B,)`.
    """
    if epsilon == 0:
        return q_values.argmax(1)
    # The highest of q + Gumbel noise is a draw from the Boltzmann distribution.
    gumbel = torch.empty_like(q_values).exponential_(generator=generator).log_().neg_()
    explores = torch.empty_like(q_values[:, :1]).uniform_(generator=generator) < epsilon
    return torch.where(explores, q_values + gumbel, q_values).argmax(1)


def require_discrete(action_space: spaces.Space[Any]) -> int:
    """The number of actions; ValueError unless they are 0, 1, …."""
    if not isinstance(action_space, spaces.Discrete) or action_space.start != 0:
        raise ValueError(
            "the network has a Q-value for each action, so the action space must be a Discrete "
            f"that starts at 0, not {action_space}"
        )
    return int(action_space.n)


def _observation_shape(space: spaces.Space[Any]) -> Shape:
    """Images keep their shape; anything else is flattened."""
    if not isinstance(space, spaces.Box):
        raise ValueError(
            f"the network looks at a Box of images or features, not at {space}; "
            "use gymnasium.wrappers.FlattenObservation"
        )
    return space.shape if len(space.shape) == 3 else (int(np.prod(space.shape)),)


def _require_dropout(rates: Sequence[float], num_layers: int) -> tuple[float, ...]:
    if not isinstance(rates, list | tuple) or len(rates) != num_layers:
        raise ValueError(
            f"dropout={rates!r} must be a tuple of {num_layers}, a rate for each hidden layer"
        )
    for rate in rates:
        require_fraction("dropout", rate)
    return tuple(float(rate) for rate in rates)


def _angle(a: Tensor, b: Tensor) -> float:
    """Between two tensors of the same shape and layout, in degrees."""
    cosine = (a * b).sum() / (a.norm() * b.norm())
    return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))).item()
