"""What all policies that choose credits have in common."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from credit_envs import CreditAssignVectorEnv


class CreditPolicy(BasePolicy):
    """A policy that chooses credits, for one bottom-up network or a batch of them.

    A Stable-Baselines3 policy whose `predict` is enough to run it. Unlike `BasePolicy.predict`,
    it does not clip: known rules need credits of any size, and evolved ones clip themselves.

    Args:
        observation_space: of the environment.
        action_space: of the environment, a Box.
    """

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Box) -> None:
        super().__init__(observation_space, action_space)
        self.action_shape = action_space.shape

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

    def attach(self, env: CreditAssignVectorEnv) -> None:  # noqa: B027
        """Be told which environment comes next; rules that read more than observations need it."""

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
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
        with torch.no_grad():
            actions = self.act(tensor).cpu().numpy()  # type: ignore[arg-type]
        return (actions if vectorized else actions[0]), state
