"""DeepAGREL's rule as a policy that chooses credits in classification tasks."""

from typing import Any, Literal, get_args

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from agents.deepagrel.policy import choose
from agents.rules import FeedbackRulePolicy
from credit_envs import CreditAssignVectorEnv
from credit_envs.checks import require_at_least, require_one_of, require_unit
from credit_envs.tasks import ClassificationTask

Feedback = Literal["tied", "fixed"]


class DeepAGRELCreditPolicy(FeedbackRulePolicy):
    """DeepAGREL: credits from reward alone, for the chosen answer and what led to it.

    In every sample the network chooses an answer s by its outputs p (max-Boltzmann, Eq. 5 of
    DeepAGREL). It is told the reward r, 1 if s is the label and else 0; of the label the rule uses
    nothing else, so there is no target to smooth. The output p_s predicts the reward, and
    δ = r − p_s is the error of that prediction. The output s alone gets a credit, δ, and starts the
    feedback, which goes down from layer to layer, gated by f′ (Eq. 13–16). Through the network's
    own weights every credit is −∂(½ δ²)/∂(activity of its neuron), so that the update is a step
    down the gradient of mean ½ (r − p_s)².

    `agents.DeepAGREL` is the whole algorithm, whose linear outputs predict rewards of any size;
    here these are the probabilities of a softmax, whose Jacobian the feedback passes first.

    Draws are made anew from the seed, the life and the update, image by image: a life is the same
    alone and among others, acting twice gives the same, and no global state is touched.

    Args:
        observation_space: see `RulePolicy`.
        action_space: see `RulePolicy`.
        credit_scale: see `RulePolicy`.
        feedback: "tied", through the network's own weights; "fixed", through fixed random
            matrices, see `FAPolicy`.
        epsilon: ε, the probability of a Boltzmann choice; else the highest output wins.
        seed: of the choices, and of the random matrices.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        *,
        credit_scale: float = 10.0,
        feedback: Feedback = "tied",
        epsilon: float = 0.02,
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, credit_scale=credit_scale)
        require_one_of("feedback", feedback, get_args(Feedback))
        require_unit("epsilon", epsilon)
        require_at_least("seed", seed, 0)
        self.feedback: Feedback = feedback
        self.epsilon = epsilon
        self.seed = seed
        if feedback == "fixed":
            self._feedback_seed = seed

    def act(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:  # noqa: D102
        env = self._attached(observation)
        outputs, labels = self._split(observation)
        chosen = self._choose(env, outputs)
        reward = labels.gather(-1, chosen)
        error = reward - outputs.gather(-1, chosen)
        credit = torch.zeros_like(outputs).scatter_(-1, chosen, error)
        # The Jacobian of the softmax.
        at_outputs = outputs * (credit - (outputs * credit).sum(-1, keepdim=True))
        return self._action(*self._feed_back(env, at_outputs), credit)

    def _choose(self, env: CreditAssignVectorEnv, outputs: Tensor) -> Tensor:
        """Answers `(P, n, 1)`."""
        assert isinstance(env.task, ClassificationTask)
        generator = torch.Generator()
        chosen = torch.empty(outputs.shape[:2], dtype=torch.int64)
        lives = zip(env.life_seeds, env.updates, env.task.sample_indices, strict=True)
        for network, (life, update, images) in enumerate(lives):
            entropy = np.random.SeedSequence([self.seed, int(life), int(update)])
            generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
            # The environment may keep the same images in another order.
            order = torch.from_numpy(images.argsort())
            own = outputs[network].cpu()
            chosen[network, order] = choose(own[order], self.epsilon, generator)
        return chosen.unsqueeze(-1).to(outputs.device)
