"""Top-down networks: from what is seen of a bottom-up network to its credits.

All parameters of a network are one vector β, as the outer loop sees them. `forward` takes either
the network's own β or a whole population of them, one per candidate, so that one candidate and
many run through the same lines.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from credit_envs.networks.onednn import tanh_layer

Squash = Literal["clip", "tanh"]
Start = Literal["xavier", "feedback-alignment"]
Readout = Literal["last", "mean"]


class TopDownNetwork(nn.Module, ABC):
    """A network whose parameters are one vector.

    Args:
        shapes: of its weight matrices and bias vectors, in the order in which β holds them.
        output_scale: factor on the outputs before they are squashed; 0.1 makes the network's own
            outputs credits in the paper's units where `credit_scale` is 10.
        squash: how outputs are brought into [−1, 1].

    Attributes:
        beta: the parameters, shape `(d,)`.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, ...]], output_scale: float, squash: Squash
    ) -> None:
        super().__init__()
        self._shapes = list(shapes)
        self._lengths = [prod(shape) for shape in shapes]
        self.output_scale = output_scale
        self.squash: Squash = squash
        self.beta = nn.Parameter(torch.zeros(sum(self._lengths)))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Xavier-uniform weights, zero biases."""
        for part in self.unpack(self.beta[None]):
            if part.dim() == 3:
                nn.init.xavier_uniform_(part[0], generator=generator)
            else:
                part.zero_()

    def unpack(self, beta: Tensor) -> list[Tensor]:
        """Views into `(C, d)` parameters, one of shape `(C, *shape)` per weight or bias."""
        if beta.dim() != 2 or beta.shape[1] != sum(self._lengths):
            raise ValueError(
                f"beta of shape {tuple(beta.shape)} must be (candidates, {sum(self._lengths)}), "
                "the parameters of each"
            )
        return [
            part.view(-1, *shape)
            for part, shape in zip(
                torch.split(beta, self._lengths, dim=1), self._shapes, strict=True
            )
        ]

    def _squash(self, outputs: Tensor) -> Tensor:
        return outputs.tanh_() if self.squash == "tanh" else outputs.clamp_(-1.0, 1.0)

    @abstractmethod
    def forward(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:
        """Credits for a batch of observations.

        Args:
            observation: `(B, rows, features)`.
            beta: one parameter vector per candidate, `(C, d)`; candidate c sees the observations
                c·B/C to (c+1)·B/C − 1. None: the network's own.

        Returns:
            Actions in [−1, 1].
        """


class TopDownMLP(TopDownNetwork):
    """A tanh perceptron applied to each row of the observation on its own (TDCA, Fig. 4a).

    Args:
        sizes: units per layer, inputs first; the paper's is `(20, 30, 30, 110)`.
        input_scale: factor on the observation.
        output_scale: see `TopDownNetwork`.
        squash: see `TopDownNetwork`.
    """

    def __init__(
        self, sizes: Sequence[int], input_scale: float, output_scale: float, squash: Squash
    ) -> None:
        shapes: list[tuple[int, ...]] = []
        for inputs, outputs in pairwise(sizes):
            shapes += [(outputs, inputs), (outputs,)]
        super().__init__(shapes, output_scale, squash)
        self.input_scale = input_scale

    def forward(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:
        """Credits `(B, rows, credits)` for observations `(B, rows, features)`."""
        parts = self.unpack(self.beta[None] if beta is None else beta)
        candidates, (batch, rows, features) = len(parts[0]), observation.shape
        if batch % candidates:
            raise ValueError(
                f"{batch} observations cannot be shared out to {candidates} candidates: give as "
                "many for each"
            )
        # Samples along the last axis, where the environment's own layout has them.
        if candidates == batch:
            x = observation.transpose(1, 2)
        else:
            x = observation.reshape(candidates, -1, features).transpose(1, 2)
        if self.input_scale != 1.0:
            x = x * self.input_scale
        *hidden, (last_weight, last_bias) = zip(parts[::2], parts[1::2], strict=True)
        for layer, (weight, bias) in enumerate(hidden):
            x = tanh_layer(bias[..., None], weight, x, layer)
        scale = self.output_scale
        x = torch.baddbmm(last_bias[..., None], last_weight, x, beta=scale, alpha=scale)
        return self._squash(x).transpose(1, 2).reshape(batch, rows, -1)

    @torch.no_grad()
    def align_feedback(self, generator: torch.Generator | None = None) -> None:
        """Parameters with which the network does direct feedback alignment.

        For observations `[p, y]` of k classes: a unit per class in each hidden layer hands on
        tanh(y − p), output credits are 10 times that, hidden credits a random projection of it.
        All other parameters are 0.

        Args:
            generator: of the random projection.

        Raises:
            ValueError: not the sizes of a classification task, no hidden layer, or one narrower
                than the classes.
        """
        weights = [part[0] for part in self.unpack(self.beta[None])[::2]]
        classes, odd = divmod(weights[0].shape[1], 2)
        if odd or len(weights[-1]) <= classes:
            raise ValueError(
                'start="feedback-alignment" is for classification tasks, whose rows are outputs '
                "and one-hot labels, with a credit for each output and hidden neuron"
            )
        if len(weights) < 2 or min(len(weight) for weight in weights) < classes:
            raise ValueError(
                f'start="feedback-alignment" needs hidden layers of at least {classes} units, one '
                "per class; widen hidden_sizes"
            )
        self.beta.zero_()
        identity = torch.eye(classes)
        weights[0][:classes] = torch.cat([-identity, identity], dim=1) / self.input_scale
        for weight in weights[1:-1]:
            weight[:classes, :classes] = identity
        gain = 1.0 / self.output_scale
        hidden, output = weights[-1][:-classes], weights[-1][-classes:]
        uniform = torch.rand(len(hidden), classes, generator=generator) * 2 - 1
        hidden[:, :classes] = gain * uniform / classes**0.5
        output[:, :classes] = gain * identity


class TopDownRNN(TopDownNetwork):
    """An Elman network that reads an episode row by row and gives one credit vector for it.

    `h_t = tanh(Wx·x_t + Wh·h_{t−1} + b)`, `action = squash(s·(Wo·h + bo))` where h is the last
    state or the mean of all (TDCA, section "Reinforcement Learning"). The last column of the
    observation is the mask of rows that count.

    Args:
        num_features: columns of the observation, mask included.
        hidden_size: units.
        num_credits: outputs.
        readout: "last" or "mean".
        state_size: how many leading columns are the agent's state. If given, the network also
            sees the product of every column between state and reward with the change of every
            column of the state, which tells what actions do. Where observations name the task, its
            one-hot id is among those columns: its products are the change of state by task.
        change_scale: factor on those products.
        input_scales: factor on each column of the observation but the mask; None: 1.
        output_scale: see `TopDownNetwork`.
        squash: see `TopDownNetwork`.
    """

    scales: Tensor

    def __init__(
        self,
        num_features: int,
        hidden_size: int,
        num_credits: int,
        readout: Readout,
        state_size: int | None,
        change_scale: float,
        input_scales: Sequence[float] | None,
        output_scale: float,
        squash: Squash,
    ) -> None:
        inputs = num_features - 1
        if state_size is not None:
            inputs += state_size * (num_features - 2 - state_size)
        scales = torch.ones(inputs)
        if input_scales is not None:
            scales[: num_features - 1] = torch.tensor(input_scales)
        super().__init__(
            [
                (hidden_size, inputs),
                (hidden_size, hidden_size),
                (hidden_size,),
                (num_credits, hidden_size),
                (num_credits,),
            ],
            output_scale,
            squash,
        )
        self.readout: Readout = readout
        self.state_size = state_size
        self.change_scale = change_scale
        self.register_buffer("scales", scales, persistent=False)

    def forward(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:
        """Credits `(B, credits)` for episodes `(B, T, features)`."""
        parts = self.unpack(self.beta[None] if beta is None else beta)
        input_weight, recurrent_weight, bias, output_weight, output_bias = parts
        input_weight = input_weight * self.scales
        batch, length, features = observation.shape
        # (T, candidates, columns, lives), cut to the longest episode.
        rows = observation.reshape(len(bias), -1, length, features).permute(2, 0, 3, 1)
        rows = rows[: int(rows[:, :, -1].sum(0).max())]
        mask = rows[:, :, -1:]

        # The states are kept as s = (h + 1)/2, because a sigmoid takes a tenth of the time of
        # the tanh: tanh(a) = 2·sigmoid(2a) − 1. The weights absorb the difference.
        weight = torch.cat([2.0 * input_weight, 4.0 * recurrent_weight], dim=2)
        bias = 2.0 * (bias - recurrent_weight.sum(2))[..., None]
        s = bias.new_full((*bias.shape[:2], rows.shape[3]), 0.5)
        total = torch.zeros_like(s)
        for x, m in zip(self._inputs(rows).unbind(), mask.unbind(), strict=True):
            new = torch.baddbmm(bias, weight, torch.cat([x, s], dim=1)).sigmoid_()
            if self.readout == "mean":
                s = new
                total = total.addcmul(s, m)
            else:
                s = torch.lerp(s, new, m)
        h = 2.0 * s - 1.0
        if self.readout == "mean":
            count = mask.sum(0)
            h = (2.0 * total - count) / count.clamp(min=1.0)
        scale = self.output_scale
        outputs = torch.baddbmm(output_bias[..., None], output_weight, h, beta=scale, alpha=scale)
        return self._squash(outputs).transpose(1, 2).reshape(batch, -1)

    def _inputs(self, rows: Tensor) -> Tensor:
        """All columns but the mask, and the products of action and change of state if wanted."""
        inputs = rows[:, :, :-1]
        if self.state_size is None:
            return inputs
        state, action = rows[:, :, : self.state_size], rows[:, :, self.state_size : -2]
        # After the last row there is no next state, and so no change.
        change = (state[1:] - state[:-1]) * rows[1:, :, -1:]
        change = torch.cat([change, torch.zeros_like(state[:1])])
        products = (action[:, :, :, None] * change[:, :, None]).flatten(2, 3)
        return torch.cat([inputs, self.change_scale * products], dim=2)
