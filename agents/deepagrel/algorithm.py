"""DeepAGREL: learning from reward and feedback of the chosen action.

"DeepAGREL: biologically plausible deep learning via direct reinforcement", 2019.
"""

from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from agents.deepagrel.learner import TrialLearner
from agents.deepagrel.network import chosen_signal


class DeepAGREL(TrialLearner):
    """Learns Q-values of immediate rewards by a local rule with four factors.

    In a trial the network sees an observation, chooses action s (max-Boltzmann, Eq. 5) and gets
    the reward r. The reward prediction error δ = r − q_s reaches all synapses; feedback starts
    at the chosen output unit alone and is gated by the activity g of the units it passes. Every
    weight from unit i to unit j changes by

        Δw_ij = α · y_i · g_j · fb_j · δ        (Eq. 1, 13 and 16)

    averaged over a batch of trials. With tied feedback weights this is gradient descent on
    ½ (r − q_s)²; no autograd is involved.

    Arguments, attributes and log are those of `TrialLearner`. The paper has `learning_rate` 0.5 for
    "MlpPolicy" and 1 for the others; single trials need about 0.005. `skip_below` compares |δ|.
    """

    signal_name = "rpe"

    def _output_signal(
        self, q_values: Tensor, actions: Tensor, rewards: Tensor, labels: NDArray[Any] | None
    ) -> Tensor:
        rpe = rewards - q_values.gather(1, actions[:, None])[:, 0]
        return chosen_signal(q_values, actions, rpe)
