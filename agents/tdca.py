"""Top-down credit assignment: policies that are top-down networks (TDCA)."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, ClassVar, get_args

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from agents.base import CreditPolicy, NetworkState
from agents.networks import Readout, Squash, Start, TopDownMLP, TopDownNetwork, TopDownRNN
from credit_envs.checks import (
    require_at_least,
    require_numbers,
    require_one_of,
    require_positive,
    require_sizes,
)


class TopDownPolicy(CreditPolicy):
    """A policy that is a top-down network; the outer loop evolves its `beta`.

    Attributes:
        network: the top-down network.
        any_columns: whether it fits rows of any length, of observations and actions.
    """

    any_columns: ClassVar[bool] = False
    network: TopDownNetwork

    @property
    def beta(self) -> nn.Parameter:
        """All parameters, shape `(d,)`."""
        return self.network.beta

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Parameters from which evolution starts."""
        self.network.initialise(generator)

    def act_on(self, observation: Tensor, beta: Tensor | None, state: NetworkState) -> Tensor:
        """`act` where the state of the bottom-up networks is at hand, which most do not look at.

        Args:
            observation: see `act`.
            beta: see `act`.
            state: of perceptrons.
        """
        return self.act(observation, beta)


class TDCAPolicy(TopDownPolicy):
    """A feed-forward top-down network, applied to each row of the observation on its own.

    On classification tasks a row is a sample: output and label go in, one credit per neuron comes
    out (TDCA, Fig. 4a). The defaults are the paper's 20-30-30-110 on `CreditAssign-MNIST-v0`.

    Args:
        observation_space: `(rows, features)`, or `(features,)` for a single row.
        action_space: `(rows, credits)`, or `(credits,)`.
        hidden_sizes: tanh hidden layers.
        input_scale: factor on the observation.
        output_scale: factor on the outputs; with 0.1 and `credit_scale` 10 the network's outputs
            are the credits.
        squash: outputs are clipped to [−1, 1], or go through "tanh".
        start: where evolution starts: "xavier" (random), or "feedback-alignment", with which the
            network already does direct feedback alignment in classification tasks.

    Raises:
        ValueError: the spaces have no rows in common, or hidden layers are too narrow to start
            with.
    """

    network: TopDownMLP

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        *,
        hidden_sizes: Sequence[int] = (30, 30),
        input_scale: float = 1.0,
        output_scale: float = 0.1,
        squash: Squash = "clip",
        start: Start = "xavier",
    ) -> None:
        super().__init__(observation_space, action_space)
        features, credits = _row_sizes(observation_space, action_space)
        self.hidden_sizes = require_sizes("hidden_sizes", hidden_sizes, allow_empty=True)
        require_positive("input_scale", input_scale)
        require_positive("output_scale", output_scale)
        require_one_of("squash", squash, get_args(Squash))
        self.input_scale = input_scale
        self.output_scale = output_scale
        require_one_of("start", start, get_args(Start))
        self.squash: Squash = squash
        self.start: Start = start
        self.network = TopDownMLP(
            (features, *self.hidden_sizes, credits), input_scale, output_scale, squash
        )
        self.initialise()

    def initialise(self, generator: torch.Generator | None = None) -> None:  # noqa: D102
        if self.start == "feedback-alignment":
            if len(self.observation_space.shape or ()) != 2:
                raise ValueError(
                    'start="feedback-alignment" is for classification tasks, whose observations '
                    f"have a row per sample, not {self.observation_space.shape}"
                )
            self.network.align_feedback(generator)
        else:
            super().initialise(generator)

    def act(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:  # noqa: D102
        rows = observation[:, None] if observation.dim() == 2 else observation
        actions: Tensor = self.network(rows, beta)
        return actions[:, 0] if observation.dim() == 2 else actions


class TDCARNNPolicy(TopDownPolicy):
    """A recurrent top-down network that reads a whole episode and gives one credit vector.

    For control tasks (TDCA, Fig. 3a): rows are steps, the last column is the mask.

    Args:
        observation_space: `(T, features)`.
        action_space: `(credits,)`.
        hidden_size: recurrent units.
        readout: credits from the "last" state or the "mean" of all.
        state_size: if given, how many leading columns are the agent's state; the network then
            also sees action × change of state. None: state, action and reward alone, as in the
            paper.
        change_scale: factor on those products.
        input_scales: factor on each column of the observation but the mask, so that what matters
            is heard: with that of the task's id at 1, hidden states and so credits can be much the
            same in all tasks. None: all 1.
        output_scale: factor on the outputs.
        squash: outputs go through "tanh", or are clipped to [−1, 1].

    Raises:
        ValueError: spaces of other shapes.
    """

    network: TopDownRNN

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        *,
        hidden_size: int = 16,
        readout: Readout = "mean",
        state_size: int | None = None,
        change_scale: float = 5.0,
        input_scales: Sequence[float] | None = None,
        output_scale: float = 1.0,
        squash: Squash = "tanh",
    ) -> None:
        super().__init__(observation_space, action_space)
        shape = observation_space.shape or ()
        if len(shape) != 2 or len(action_space.shape) != 1:
            raise ValueError(
                "TDCARNNPolicy reads an episode of rows and gives one credit vector: observations "
                f"(T, features) and actions (credits,), not {shape} and {action_space.shape}; "
                "use TDCAPolicy where every row has credits of its own"
            )
        require_at_least("hidden_size", hidden_size, 1)
        require_one_of("readout", readout, get_args(Readout))
        if state_size is not None:
            _check_state_size(state_size, shape[1])
        require_positive("change_scale", change_scale)
        if input_scales is not None:
            input_scales = require_numbers("input_scales", input_scales)
            if len(input_scales) != shape[1] - 1:
                raise ValueError(
                    f"input_scales has {len(input_scales)} factors, and episodes have "
                    f"{shape[1] - 1} columns but the mask"
                )
        require_positive("output_scale", output_scale)
        require_one_of("squash", squash, get_args(Squash))
        self.hidden_size = hidden_size
        self.readout: Readout = readout
        self.state_size = state_size
        self.change_scale = change_scale
        self.input_scales = input_scales
        self.output_scale = output_scale
        self.squash: Squash = squash
        self.network = TopDownRNN(
            shape[1],
            hidden_size,
            action_space.shape[0],
            readout,
            state_size,
            change_scale,
            input_scales,
            output_scale,
            squash,
        )
        self.network.initialise()

    def act(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:  # noqa: D102
        actions: Tensor = self.network(observation, beta)
        return actions


class TDCAActorCriticPolicy(ActorCriticPolicy):
    """The same feed-forward top-down network as an actor for PPO and A2C.

    The actor's mean is `TDCAPolicy`'s network, with one standard deviation per credit; the critic
    is a small perceptron on the observation's mean over rows.

    Args:
        observation_space: `(rows, features)`, or `(features,)`.
        action_space: `(rows, credits)`, or `(credits,)`.
        lr_schedule: learning rate as a function of the remaining progress.
        hidden_sizes: tanh hidden layers of actor and critic.
        log_std_init: initial log standard deviation of the actions.
        use_sde: False; state-dependent exploration, which Stable-Baselines3 offers every policy, is
            refused.
        optimizer_class: of PyTorch.
        optimizer_kwargs: of the optimiser, but for the learning rate.

    Raises:
        ValueError: the spaces have no rows in common, or state-dependent exploration.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        lr_schedule: Schedule,
        *,
        hidden_sizes: Sequence[int] = (30, 30),
        log_std_init: float = -2.0,
        use_sde: bool = False,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.hidden_sizes = require_sizes("hidden_sizes", hidden_sizes, allow_empty=True)
        self._sizes = _row_sizes(observation_space, action_space)
        self._action_shape = action_space.shape
        if use_sde:
            raise ValueError(
                "TDCAActorCriticPolicy explores by a standard deviation for each credit; leave "
                "out use_sde"
            )
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=[],
            log_std_init=log_std_init,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        features, credits = self._sizes
        self.network = TopDownMLP((features, *self.hidden_sizes, credits), 1.0, 0.1, "clip")
        self.network.initialise()
        layers: list[nn.Module] = []
        width = features
        for size in self.hidden_sizes:
            layers += [nn.Linear(width, size), nn.Tanh()]
            width = size
        self.critic = nn.Sequential(*layers, nn.Linear(width, 1))
        self.log_std = nn.Parameter(torch.full((credits,), self.log_std_init))
        make_optimizer: Callable[..., torch.optim.Optimizer] = self.optimizer_class
        self.optimizer = make_optimizer(
            self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters() | {"hidden_sizes": self.hidden_sizes}
        return {name: parameters[name] for name in signature(type(self)).parameters}

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, values and log-probabilities for a batch of observations."""
        distribution = self.get_distribution(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        return actions.reshape(-1, *self._action_shape), self.predict_values(obs), log_prob

    def evaluate_actions(
        self, obs: PyTorchObs, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values, log-probabilities of `actions` and entropy."""
        distribution = self.get_distribution(obs)
        log_prob = distribution.log_prob(actions.flatten(1))
        return self.predict_values(obs), log_prob, distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        """Gaussians around the top-down network's credits."""
        assert isinstance(obs, Tensor)
        mean = self.network(self._rows(obs))
        log_std = self.log_std.expand(mean.shape[1:]).flatten()
        distribution = DiagGaussianDistribution(mean[0].numel())
        return distribution.proba_distribution(mean.flatten(1), log_std)

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """The critic's estimate of the return, `(B, 1)`."""
        assert isinstance(obs, Tensor)
        values: Tensor = self.critic(self._rows(obs).mean(1))
        return values

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        actions = self.get_distribution(observation).get_actions(deterministic=deterministic)
        return actions.reshape(-1, *self._action_shape)

    @staticmethod
    def _rows(observation: Tensor) -> Tensor:
        observation = observation.float()
        return observation[:, None] if observation.dim() == 2 else observation


def _check_state_size(state_size: int, num_features: int) -> None:
    """Room must be left for an action, the reward and the mask."""
    require_at_least("state_size", state_size, 1)
    if state_size > num_features - 3:
        raise ValueError(
            f"state_size={state_size} leaves no action, reward and mask among the {num_features} "
            f"features of a row; use at most {num_features - 3}"
        )


def _row_sizes(observation_space: spaces.Space[Any], action_space: spaces.Box) -> tuple[int, int]:
    """Features and credits of a row."""
    seen, acted = observation_space.shape or (), action_space.shape
    if len(seen) not in (1, 2) or len(seen) != len(acted) or seen[:-1] != acted[:-1]:
        raise ValueError(
            "a feed-forward top-down network gives every row credits of its own: observations "
            f"(rows, features) and actions (rows, credits), not {seen} and {acted}; "
            "use TDCARNNPolicy for one credit vector per episode"
        )
    return seen[-1], acted[-1]
