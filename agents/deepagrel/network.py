"""A network that estimates the reward of every action, and learns it by the four-factor rule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from agents.deepagrel.layers import Layer, Shape

Masks = list[Tensor | None]
Feedback = Literal["tied", "reciprocal", "fixed", "direct"]
"""What carries feedback; see `DeepAGRELPolicy`."""


@dataclass(frozen=True)
class Activities:
    """What the units of all layers do in B trials.

    Attributes:
        units: per layer the activities y, standardised inputs first, `(B, *shape)`.
        presynaptic: the same as the synapses of each layer meet them.
        q_values: of the output layer, `(B, actions)`.
    """

    units: list[Tensor]
    presynaptic: list[Tensor]
    q_values: Tensor


class QNetwork(nn.Module):
    """Q-values of all actions from a raw observation.

    Observations are standardised, `(x − mean) / std`; hidden units are ReLU, outputs are linear,
    there are no biases (Eq. 2–4). `forward` is differentiable with respect to weights that
    `torch.func.functional_call` puts in place of its own, which need no gradient.

    Args:
        layers: from the input on; the last one has an output per action.
        dropout: of each hidden layer, the fraction of silent units.
        mean: of the observations, one number, or one for each channel of `(C, H, W)` images or
            feature of vectors.
        std: likewise.
        observation_shape: of one observation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layers: Sequence[Layer],
        dropout: Sequence[float],
        mean: ArrayLike,
        std: ArrayLike,
        observation_shape: Shape,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dropout = tuple(dropout)
        self._is_image = len(observation_shape) == 3
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, _moment(name, value, observation_shape))

    @property
    def weights(self) -> list[Tensor]:
        """Weights w of each layer, from the input on."""
        return [layer.weight for layer in self._layers]

    @property
    def _layers(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    # ------------------------------------------------------------------ forward

    def forward(self, observations: Tensor, masks: Masks | None = None) -> Tensor:
        """Q-values.

        Args:
            observations: raw, uint8 images included, `(B, *observation shape)`.
            masks: from `draw_masks`; None: all units take part.

        Returns:
            `(B, actions)`.
        """
        return self.activities(observations, masks).q_values

    def activities(self, observations: Tensor, masks: Masks | None = None) -> Activities:
        """What all units do; see `forward`."""
        layers = self._layers
        units = [self._standardise(observations)]
        presynaptic = [layers[0].presynaptic(units[0])]
        for i, layer in enumerate(layers[1:]):
            activity = torch.relu_(layers[i].drive(presynaptic[i]))
            mask = masks[i] if masks else None
            units.append(activity if mask is None else activity * mask)
            presynaptic.append(layer.presynaptic(units[-1]))
        return Activities(units, presynaptic, layers[-1].drive(presynaptic[-1]))

    def draw_masks(self, num_trials: int, generator: torch.Generator | None) -> Masks:
        """Factors on the hidden units of each trial: 0 where silent, else 1 / (1 − dropout).

        Returns:
            Per hidden layer `(num_trials, *shape)`; None where all take part.
        """
        return [
            _mask(layer.weight, (num_trials, *layer.output_shape), rate, generator)
            for layer, rate in zip(self._layers[:-1], self.dropout, strict=True)
        ]

    def _standardise(self, observations: Tensor) -> Tensor:
        inputs = observations.to(self.mean.dtype)
        if not self._is_image:
            return (inputs.flatten(1) - self.mean) / self.std
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        return (inputs - self.mean) / self.std

    # ------------------------------------------------------------------ learning

    def learn(
        self,
        activities: Activities,
        actions: Tensor,
        rpe: Tensor,
        feedback: Sequence[Tensor],
        rate: float,
        keep: float = 1.0,
        kind: Feedback = "tied",
    ) -> None:
        """One update of all weights from the rewards of B trials (Eq. 13–16).

        The chosen output units alone start the feedback. The RPE δ is a factor of every update,
        so it is multiplied in there. With w' = w this is a step down the gradient of Σ ½ δ².

        Args:
            activities: see `update`.
            actions: the chosen ones s, `(B,)`.
            rpe: reward prediction errors δ = r − q_s, `(B,)`.
            feedback: see `update`.
            rate: see `update`.
            keep: see `update`.
            kind: see `update`.
        """
        signal = chosen_signal(activities.q_values, actions, rpe)
        self.update(activities, signal, feedback, rate, keep, kind)

    @torch.no_grad()
    def update(
        self,
        activities: Activities,
        signal: Tensor,
        feedback: Sequence[Tensor],
        rate: float,
        keep: float = 1.0,
        kind: Feedback = "tied",
    ) -> None:
        """One update of all weights from a signal of the output units.

        It goes down through w' and is gated by g, which is 1 where a unit was active and 0
        elsewhere. With w' = w and −∂E/∂q as signal this is a step down the gradient of E.

        Args:
            activities: of the trials, in which the weights have not changed since.
            signal: of the output units, `(B, actions)`.
            feedback: w' of each layer but the first, which feeds nobody.
            rate: learning rate over batch size.
            keep: what weight decay leaves, 1 − learning rate · decay.
            kind: "reciprocal" weights w' learn as w do; "direct" ones lead from the output units
                to each hidden layer.
        """
        layers = self._layers
        for i, arriving in self.signals(activities, signal, feedback, kind):
            learning: list[Tensor] = [layers[i].weight]
            if i > 0 and kind == "reciprocal":
                learning.append(feedback[i - 1])
            layers[i].update(learning, activities.presynaptic[i], arriving, rate, keep)

    def signals(
        self,
        activities: Activities,
        signal: Tensor,
        feedback: Sequence[Tensor],
        kind: Feedback = "tied",
    ) -> Iterator[tuple[int, Tensor]]:
        """What arrives at the units above each layer's synapses, from the output layer down.

        A layer's synapses may learn as soon as their signal is there: its feedback has gone
        through already, so that it meets the weights of the trial.

        Args:
            activities: see `update`.
            signal: see `update`.
            feedback: see `update`.
            kind: see `update`.

        Yields:
            The layer's number, and the signal of the units it leads to, `(B, *output_shape)`.
        """
        layers = self._layers
        arriving = signal
        for i in reversed(range(len(layers))):
            if i == 0:
                yield i, arriving
                return
            units = activities.units[i]
            if kind == "direct":
                below = layers[-1].feed_back(signal, feedback[i - 1], units)
            else:
                below = layers[i].feed_back(arriving, feedback[i - 1], units)
            yield i, arriving
            arriving = _gate(below, units, self.dropout[i - 1])

    def select(self, activities: Activities, trials: Tensor) -> Activities:
        """The activities of some trials, by their indices."""
        units = [_rows(y, trials) for y in activities.units]
        presynaptic = [layer.presynaptic(y) for layer, y in zip(self._layers, units, strict=True)]
        return Activities(units, presynaptic, activities.q_values[trials])


def chosen_signal(q_values: Tensor, actions: Tensor, rpe: Tensor) -> Tensor:
    """What DeepAGREL's output units start: δ at the chosen one, nothing elsewhere.

    Args:
        q_values: `(B, actions)`.
        actions: the chosen ones, `(B,)`.
        rpe: δ, `(B,)`.

    Returns:
        `(B, actions)`.
    """
    return torch.zeros_like(q_values).scatter_(1, actions[:, None], rpe[:, None])


def _gate(feedback: Tensor, units: Tensor, dropout: float) -> Tensor:
    """In place: feedback of active units, scaled as dropout scaled their activity; else 0."""
    torch.ops.aten.threshold_backward.grad_input(feedback, units, 0, grad_input=feedback)
    return feedback if dropout == 0 else feedback.mul_(1 / (1 - dropout))


def _mask(
    weight: Tensor, shape: Shape, dropout: float, generator: torch.Generator | None
) -> Tensor | None:
    if dropout == 0:
        return None
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    drawn = torch.empty(shape, dtype=weight.dtype, device=weight.device, memory_format=layout)
    # Two and a half times as fast as `bernoulli_`, which leaves MKL if it is given a generator.
    drawn.uniform_(generator=generator)
    return torch.ge(drawn, dropout, out=drawn).mul_(1 / (1 - dropout))


def _rows(units: Tensor, trials: Tensor) -> Tensor:
    if units.dim() != 4:
        return units[trials]
    # Selecting from a channels-first view would return channels-first memory.
    return units.permute(0, 2, 3, 1)[trials].permute(0, 3, 1, 2)


def _moment(name: str, value: ArrayLike, observation_shape: Shape) -> Tensor:
    """Mean or standard deviation, one per channel of images and one per feature else."""
    count = observation_shape[0]
    given = np.asarray(value, dtype=np.float32)
    if given.size not in (1, count):
        raise ValueError(
            f"{name} has {given.size} values; give one, or one for each of the {count} "
            f"{'channels' if len(observation_shape) == 3 else 'features'}"
        )
    shape = (count, 1, 1) if len(observation_shape) == 3 else (count,)
    moment = np.broadcast_to(given.reshape(-1), count).reshape(shape)
    if not np.isfinite(moment).all() or (name == "std" and not (moment > 0).all()):
        raise ValueError(f"{name}={value!r} must be finite{' and above 0' * (name == 'std')}")
    return torch.tensor(moment)
