"""Tags: what synapses keep of past actions until the reward arrives."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.deepagrel.layers import Dense
from agents.deepagrel.network import Activities, Feedback, QNetwork, chosen_signal


class Tags:
    """A tag e for every synapse and environment, which says how the values there depend on it.

    In each step the feedback of the chosen action s, gated as in DeepAGREL, is added to what
    remains of the tag; for the synapse from unit i to unit j

        e_ij ← γλ · e_ij + y_i · g_j · fb_j        (fb_s = 1; y_i g_j fb_j = ∂q_s/∂w_ij if w' = w)

    All of it is at the synapse. The prediction error δ turns tags into changes later.

    Args:
        q_net: fully connected, without dropout.
        num_envs: each has tags of its own.

    Attributes:
        values: e, those of an environment in a row, `(num_envs, synapses)`.

    Raises:
        ValueError: the network is of another kind.
    """

    def __init__(self, q_net: QNetwork, num_envs: int) -> None:
        if not all(isinstance(layer, Dense) for layer in q_net.layers):
            raise ValueError(
                "each synapse needs a tag of its own, and filters that are shared between places "
                "have none: use MlpPolicy"
            )
        if any(q_net.dropout):
            raise ValueError("tags are for networks without dropout: use dropout=None")
        self._q_net = q_net
        self._sizes = [weight.numel() for weight in q_net.weights]
        self.values = q_net.weights[0].new_zeros(num_envs, sum(self._sizes))

    def mark(
        self,
        activities: Activities,
        actions: Tensor,
        feedback: Sequence[Tensor],
        kind: Feedback,
        keep: float,
    ) -> None:
        """Tag the synapses that the chosen actions depend on.

        Args:
            activities: one row per environment.
            actions: the chosen ones s, `(num_envs,)`.
            feedback: w', see `QNetwork.update`.
            kind: see `QNetwork.update`.
            keep: what remains of the tags, γλ.
        """
        num_envs = len(actions)
        start = chosen_signal(activities.q_values, actions, self.values.new_ones(num_envs))
        tags = torch.split(self.values, self._sizes, 1)
        for i, signal in self._q_net.signals(activities, start, feedback, kind):
            of_layer = tags[i].view(num_envs, *self._q_net.weights[i].shape)
            of_layer.baddbmm_(signal[:, :, None], activities.presynaptic[i][:, None], beta=keep)

    def learn(self, rpe: Tensor, feedback: Sequence[Tensor], kind: Feedback, rate: float) -> None:
        """Change all weights: w ← w + rate · Σ δ · e, summed over the environments.

        Args:
            rpe: prediction errors δ, `(num_envs,)`.
            feedback: w', see `QNetwork.update`.
            kind: see `QNetwork.update`; "reciprocal" w' learn as w do.
            rate: learning rate over the number of environments.
        """
        changes = torch.split(torch.mv(self.values.t(), rpe), self._sizes)
        for i, (weight, change) in enumerate(zip(self._q_net.weights, changes, strict=True)):
            weight.add_(change.view_as(weight), alpha=rate)
            if i > 0 and kind == "reciprocal":
                feedback[i - 1].add_(change.view_as(weight), alpha=rate)

    def forget(self, ended: NDArray[Any]) -> None:
        """No tags in environments whose episode has ended, `(num_envs,)` booleans."""
        self.values[torch.from_numpy(ended)] = 0.0
