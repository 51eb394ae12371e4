"""The supervised twins of DeepAGREL: error backpropagation and feedback alignment."""

from typing import Any

import gymnasium
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.deepagrel.learner import TrialLearner
from agents.deepagrel.policy import DeepAGRELPolicy


class ErrorBackprop(TrialLearner):
    """Is told the right answer y, and lowers the cross-entropy of softmax(q) with it (Section 3).

    The output units start one-hot(y) − softmax(q); the rest is as in `DeepAGREL`, and so are the
    networks. The policy's `feedback` says what carries the error down: "tied": error
    backpropagation; "fixed": feedback alignment; "direct": direct feedback alignment.

    Args:
        policy: see `TrialLearner`.
        env: see `TrialLearner`; of the `ClassificationBandit` family, which knows the labels.
        learning_rate: α, or a function of the remaining progress. The paper has 0.1 for
            "MlpPolicy", and for the others 0.01 on MNIST and 0.001 on CIFAR.
        batch_size: see `TrialLearner`.
        kwargs: the other arguments of `TrialLearner`, but for `epsilon`: it never explores.

    Raises:
        TypeError: there is no such argument.
        ValueError: bad arguments, or an environment of another kind.
    """

    signal_name = "error"

    def __init__(
        self,
        policy: str | type[DeepAGRELPolicy],
        env: str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv | None,
        learning_rate: float | Schedule = 0.1,
        batch_size: int = 100,
        **kwargs: Any,
    ) -> None:
        if "epsilon" in kwargs:
            raise TypeError(
                "ErrorBackprop takes no epsilon: it is told the right answers and never explores; "
                "leave it out"
            )
        super().__init__(policy, env, learning_rate, batch_size, epsilon=0.0, **kwargs)

    def _check_env(self, env: VecEnv) -> None:
        super()._check_env(env)
        if not env.has_attr("label"):
            raise ValueError(
                "ErrorBackprop learns from labels, and this environment has none to tell; take a "
                "vector environment of the ClassificationBandit family, or learn with DeepAGREL"
            )

    def _labels(self, env: VecEnv) -> NDArray[Any]:
        labels: NDArray[Any] = env.get_attr("label", 0)[0]
        return labels

    def _output_signal(
        self, q_values: Tensor, actions: Tensor, rewards: Tensor, labels: NDArray[Any] | None
    ) -> Tensor:
        assert labels is not None
        is_right = torch.zeros_like(q_values).scatter_(1, self._to_tensor(labels)[:, None], 1.0)
        return is_right - torch.softmax(q_values, dim=1)
