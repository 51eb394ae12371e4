"""What all policies that choose credits have in common."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks import ClassificationTask


@dataclass(frozen=True)
class NetworkState:
    """What is known of perceptrons in training beside their outputs and labels.

    Attributes:
        hidden: activities of each hidden layer, `(B, units, n)`.
        above: weights, without biases, from each hidden layer to the next or the outputs,
            `(B, units above, units)`.
        progress: updates done by each network, as a fraction of those in its life, `(B,)` or `()`.
        num_updates: updates in a life.
    """

    hidden: Sequence[Tensor]
    above: Sequence[Tensor]
    progress: Tensor
    num_updates: int

    @classmethod
    def of(cls, env: CreditAssignVectorEnv) -> Self:
        """The state of the perceptrons in a classification environment."""
        assert isinstance(env.task, ClassificationTask)
        progress = torch.from_numpy(env.updates / env.num_updates).to(env.task.device)
        return cls(env.task.activities, env.task.forward_weights, progress, env.num_updates)


def require_networks(env: object) -> None:
    """Raise ValueError unless `env` is a vector environment whose networks can be read."""
    if not isinstance(env, CreditAssignVectorEnv):
        raise ValueError(
            f"in a {type(env).__name__} there are no networks to read: attach the vector "
            "environment that gymnasium.make_vec(id, num_envs=…) makes of a CreditAssign id"
        )


class CreditPolicy(BasePolicy):
    """A policy that chooses credits, for one bottom-up network or a batch of them.

    A Stable-Baselines3 policy whose `predict` is enough to run it. Unlike `BasePolicy.predict`,
    it does not clip: known rules need credits of any size, and evolved ones clip themselves.

    Args:
        observation_space: of the environment.
        action_space: of the environment, a Box.

    Raises:
        ValueError: the action space is not a Box.
    """

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Box) -> None:
        super().__init__(observation_space, action_space)
        if not isinstance(action_space, spaces.Box):
            raise ValueError(
                f"{type(self).__name__} chooses credits, so the action space must be a Box, "
                f"not {action_space}"
            )

    @abstractmethod
    def act(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:
        """Actions for a batch of observations, in tensors.

        Args:
            observation: `(B, *observation shape)`.
            beta: parameters of C candidates, `(C, d)`, each acting on B/C successive
                observations; None: the policy's own. Rules without parameters ignore it.

        Returns:
            `(B, *action shape)`.
        """

    def attach(self, env: CreditAssignVectorEnv) -> None:
        """Be told which environment comes next; rules that read more than observations need it."""

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """What `load` builds the policy from: every argument is kept under its own name."""
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    def _dtype(self) -> torch.dtype:
        """Of what it computes with."""
        held = chain(self.parameters(), self.buffers())
        return next((t.dtype for t in held if t.is_floating_point()), torch.float32)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        assert isinstance(observation, Tensor)
        return self.act(observation)

    def predict(
        self,
        observation: np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]],
        state: tuple[np.ndarray[Any, Any], ...] | None = None,
        episode_start: np.ndarray[Any, Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray[Any, Any], tuple[np.ndarray[Any, Any], ...] | None]:
        """The action for one observation, or actions for a batch; `state` goes through unused."""
        self.set_training_mode(False)
        tensor, vectorized = self.obs_to_tensor(observation)
        if isinstance(tensor, Tensor) and tensor.dtype == torch.float64:
            tensor = tensor.to(self._dtype())
        with torch.no_grad():
            actions = self._predict(tensor).cpu().numpy()
        return (actions if vectorized else actions[0]), state
