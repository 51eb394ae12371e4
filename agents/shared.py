"""A top-down network that all neurons share: for any number of classes, neurons and images."""

from math import log
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from agents.base import NetworkState, require_networks
from agents.networks import TopDownNetwork
from agents.rules import uniform_feedback
from agents.tdca import TopDownPolicy
from credit_envs import CreditAssignVectorEnv
from credit_envs.checks import require_at_least, require_positive
from credit_envs.networks.mlp import through_tanh
from credit_envs.tasks import ClassificationTask

_CONTEXT = 5
_OUTPUT_TERMS, _SIGNAL_TERMS, _NEURON_TERMS = 5, 4, 11
# So large that the environments' clip of the gradient sets the size of most steps.
_GAIN = 10.0
# Of reciprocal feedback, beside fixed feedback of entries up to 1/√k.
_RECIPROCAL_GAIN = 2.0
# So that neither 1/p nor its derivative overflows.
_SMALLEST = 1e-18
# What the perceptron makes of sizes must not run on beyond those of meta-training.
_MOST_SAMPLES_SEEN, _MOST_UPDATES_SEEN = 2000, 40


class SharedNetwork(TopDownNetwork):
    """Credits from a few terms per neuron, weighed by a perceptron that sees how learning goes.

    A tanh perceptron maps a context, which is the same for all neurons of a layer, to the weights
    of the terms. Context and terms hold no index of a class or neuron, so that one parameter
    vector serves networks of any width and depth and any number of classes; what tells neurons
    apart are fixed random matrices, as in feedback alignment.

    Args:
        hidden_size: tanh units of the perceptron.
    """

    def __init__(self, hidden_size: int) -> None:
        terms = _OUTPUT_TERMS + _SIGNAL_TERMS + _NEURON_TERMS + 2
        shapes = [(hidden_size, _CONTEXT), (hidden_size,), (terms, hidden_size), (terms,)]
        super().__init__(shapes, output_scale=1.0, squash="clip")
        self.hidden_size = hidden_size

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Random context units whose outputs are 0: feedback, and nothing else."""
        weight, bias, *outputs = self.unpack(self.beta[None])
        weight.normal_(std=_CONTEXT**-0.5, generator=generator)
        bias.normal_(std=0.5, generator=generator)
        for part in outputs:
            part.zero_()

    def weights(self, context: Tensor, beta: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Weights of the terms of output credits, of the signal, and of hidden credits.

        Args:
            context: `(B, 5)`.
            beta: `(C, d)`, or None; see `TopDownNetwork.forward`.

        Returns:
            `(B, terms, 1, 1)` each. The last weight of outputs and hidden neurons is the logarithm
            of a gain.
        """
        first, bias, second, start = self.unpack(self.beta[None] if beta is None else beta)
        grouped = context.view(len(first), -1, _CONTEXT).transpose(1, 2)
        units = torch.tanh(torch.baddbmm(bias[..., None], first, grouped)) / self.hidden_size**0.5
        terms = torch.baddbmm(start[..., None], second, units)
        terms = terms.transpose(1, 2).reshape(len(context), -1, 1, 1)
        output, signal, hidden = torch.split(
            terms, [_OUTPUT_TERMS + 1, _SIGNAL_TERMS, _NEURON_TERMS + 1], dim=1
        )
        return output, signal, hidden

    def forward(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:
        """Not to be had from observations alone; see `SharedTDCAPolicy.act_on`."""
        raise NotImplementedError("credits take the state of the networks: use SharedTDCAPolicy")


class SharedTDCAPolicy(TopDownPolicy):
    """One top-down network for perceptrons of any width and depth, classes, images and updates.

    The TDCA network of the paper has an input for every class and an output for every neuron, so
    it learns how the classes of its own data set relate, and fits no network of other sizes. Here
    all neurons share the same few parameters. The credits of output k and of hidden neuron j for a
    sample with outputs p and one-hot label y are

        c_k = g · Σ_i w_i φ_i(p_k, y_k),    c_j = g_l · Σ_i v_i ψ_i(u_j, a_j, s_j, t_j),

    with a_j the neuron's own activity, u = b·Bᵀe + 2r·Rᵀe the feedback of a signal e of the
    outputs, which starts as y − p, and s = Cᵀy, t = Cᵀp the label and the outputs on a random half
    of the classes: with them, a neuron can learn from some classes alone. B (uniform in ±1/√k) and
    C (±1) are fixed and random; b fades from 1 to 0 over the first half of a life. Rᵀe is
    reciprocal feedback, from layer to layer and gated by f′, through the network's own weights. To
    learn R without transport of weights, it is enough that R begins at zero, as networks do here
    unless told otherwise, and changes as these weights do (Kolen & Pollack, "Backpropagation
    without weight transport", 1994). So the first updates, in which weights of zero would feed
    nothing back, are direct feedback alignment, and the last are near to backpropagation.

    The weights w, v and gains g, and those of b and r, come from a tanh perceptron that sees how
    far training is, how many updates (up to 40) and samples (up to 2,000) there are, the loss
    relative to that of guessing, and the mean squared activity of the layer. To begin with, the
    outputs' credit is that of the squared error and hidden credits are u, all times 10.

    The terms φ of outputs are y − p, the credit of the squared error; y/p, that of cross-entropy;
    y/√p; −log p; and 1/(kp), that of label smoothing. The signal e is made of y − p, that through
    the Jacobian of the softmax, y − 1/k, and (y − p)·p of the right class. The terms ψ of neurons
    are u, ua², u/(1.05 − a²), a, a³, a less its mean over samples, us, ut, ust and ut².

    It reads activities, weights and progress, which no observation holds, from the environment:
    call `attach(env)` with the vector environment first, and let it act on what that environment
    shows. To networks of one's own `CreditTrainer` shows it theirs.

    Args:
        observation_space: `(n, 2k)`: outputs and one-hot labels.
        action_space: `(n, credits)`, output layer last.
        hidden_size: tanh units of the perceptron.
        credit_scale: the environment's, by which credits are divided.
        seed: of the random matrices.

    Raises:
        ValueError: the spaces are not those of a classification task.
    """

    any_columns = True
    network: SharedNetwork

    def __init__(
        self,
        observation_space: spaces.Space[object],
        action_space: spaces.Box,
        *,
        hidden_size: int = 12,
        credit_scale: float = 10.0,
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space)
        seen, acted = observation_space.shape or (), action_space.shape
        if len(seen) != 2 or len(acted) != 2 or seen[0] != acted[0] or seen[1] % 2:
            raise ValueError(
                "SharedTDCAPolicy is for classification tasks, whose observations and actions "
                f'have a row per sample, not {seen} and {acted}; take credit="neurons" there'
            )
        require_at_least("hidden_size", hidden_size, 1)
        require_positive("credit_scale", credit_scale)
        require_at_least("seed", seed, 0)
        self.hidden_size = hidden_size
        self.credit_scale = credit_scale
        self.seed = seed
        self.network = SharedNetwork(hidden_size)
        self.initialise()
        self._env: CreditAssignVectorEnv | None = None
        self._matrices: dict[tuple[Any, ...], tuple[list[Tensor], list[Tensor]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A copy would read a copy of the environment, whose networks nobody trains.
        return {**self.__dict__, "_env": None}

    # ------------------------------------------------------------------ what it sees

    def attach(self, env: CreditAssignVectorEnv) -> None:
        """Read the networks in `env` from now on.

        Raises:
            ValueError: there are none, or no perceptrons with a credit for each neuron.
        """
        require_networks(env)
        task = env.task
        fits = isinstance(task, ClassificationTask) and (
            task.settings.architecture == "mlp" and task.settings.credit == "neurons"
        )
        if not fits:
            raise ValueError(
                "SharedTDCAPolicy teaches image classifiers with "
                'architecture="mlp" and credit="neurons", whose activities it reads'
            )
        self._env = env

    def act(self, observation: Tensor, beta: Tensor | None = None) -> Tensor:  # noqa: D102
        if self._env is None:
            raise RuntimeError(
                "SharedTDCAPolicy needs the networks' activities: call attach(env) first"
            )
        if len(observation) != self._env.num_envs:
            raise ValueError(
                f"{len(observation)} observations for the {self._env.num_envs} networks of the "
                "environment; call attach(env) with the one that they are from"
            )
        return self.act_on(observation, beta, NetworkState.of(self._env))

    # ------------------------------------------------------------------ what it does

    def act_on(self, observation: Tensor, beta: Tensor | None, state: NetworkState) -> Tensor:  # noqa: D102
        outputs, labels = observation.transpose(1, 2).chunk(2, dim=1)
        # In the label's place −log 1 = 0 is added, so p is cut off alone.
        outputs = outputs.clamp(min=_SMALLEST)
        error, right = labels - outputs, (labels * outputs).sum(1, keepdim=True)
        context = _Context(right, outputs.shape[1], state)
        feedback, groups = self._projections(outputs, state)
        fixed_share = (1.0 - 2.0 * state.progress).clamp(min=0.0).to(outputs).view(-1, 1, 1)
        credits: list[Tensor] = []
        for layer in reversed(range(len(state.hidden))):
            activity = state.hidden[layer]
            # Five times as fast as `activity**2`.
            square = activity * activity
            output_weights, weights, terms = self.network.weights(context.of(square), beta)
            signal = (
                (1 + weights[:, 0]) * error
                + 3.0 * weights[:, 1] * _through_softmax(outputs, error)
                + 0.3 * weights[:, 2] * (labels - 1.0 / outputs.shape[1])
                + weights[:, 3] * error * right
            )
            if not credits:
                # Outputs have the context of the last hidden layer.
                credits.append(_output_terms(output_weights, outputs, labels))
                error_above = signal
            fixed = fixed_share * torch.matmul(feedback[layer].T, signal)
            reciprocal = torch.matmul(state.above[layer].transpose(1, 2), error_above)
            if layer:
                error_above = through_tanh(reciprocal, activity)
            own, given = (torch.matmul(groups[layer].T, part) for part in (labels, outputs))
            credits.append(_neuron_terms(terms, fixed, reciprocal, activity, square, own, given))
        return torch.cat(credits[::-1], dim=1).transpose(1, 2) / self.credit_scale

    def _projections(self, like: Tensor, state: NetworkState) -> tuple[list[Tensor], list[Tensor]]:
        """B and C, `(k, units)` for each hidden layer."""
        units = [activity.shape[1] for activity in state.hidden]
        key = (like.shape[1], *units, like.dtype, like.device)
        if key not in self._matrices:
            generator = torch.Generator().manual_seed(self.seed)
            feedback = uniform_feedback(like.shape[1], sum(units), generator)
            groups = torch.randint(0, 2, feedback.shape, generator=generator) * 2.0 - 1.0
            self._matrices[key] = (
                list(torch.split(feedback.to(like), units, dim=1)),
                list(torch.split(groups.to(like), units, dim=1)),
            )
        return self._matrices[key]


class _Context:
    """What the perceptron sees, each about in ±1.

    Args:
        right: outputs of the right classes, `(B, 1, n)`.
        num_classes: k.
        state: of the networks.
    """

    def __init__(self, right: Tensor, num_classes: int, state: NetworkState) -> None:
        loss = -right.log().mean((1, 2)) / log(num_classes)
        self._seen = [
            (2.0 * state.progress - 1.0).to(loss).expand_as(loss),
            loss.new_full(loss.shape, log(min(state.num_updates, _MOST_UPDATES_SEEN) / 20)),
            loss.new_full(loss.shape, log(min(right.shape[2], _MOST_SAMPLES_SEEN) / 1000) / 2),
            2.0 * loss.clamp(max=2.0) - 1.0,
        ]

    def of(self, square: Tensor) -> Tensor:
        """For the neurons of a layer with these squared activities, or those above it, `(B, 5)`."""
        return torch.stack([*self._seen, 2.0 * square.mean((1, 2)) - 1.0], dim=1)


def _output_terms(weights: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
    """Credits `(B, k, n)` of the output layer."""
    w = weights.unbind(1)
    credit = (1 + w[0]) * (labels - outputs)
    credit = credit + 0.3 * w[1] * labels / outputs
    credit = credit + 0.3 * w[2] * labels * outputs.rsqrt()
    credit = credit - 0.1 * w[3] * outputs.log()
    credit = credit + 0.1 * w[4] / (outputs.shape[1] * outputs)
    return _GAIN * w[5].exp() * credit


def _neuron_terms(
    weights: Tensor,
    fixed: Tensor,
    reciprocal: Tensor,
    activity: Tensor,
    square: Tensor,
    own: Tensor,
    given: Tensor,
) -> Tensor:
    """Credits `(B, units, n)` of a hidden layer."""
    v = weights.unbind(1)
    factor = 1 + v[1] * square + v[2] / (1.05 - square)
    factor = factor + v[6] * own + given * (v[7] + v[8] * own + v[9] * given)
    projected = (1 + v[0]) * fixed + _RECIPROCAL_GAIN * (1 + v[10]) * reciprocal
    centred = activity - activity.mean(2, keepdim=True)
    drive = 0.1 * (activity * (v[3] + v[4] * square) + v[5] * centred)
    return _GAIN * v[11].exp() * (projected * factor + drive)


def _through_softmax(outputs: Tensor, credit: Tensor) -> Tensor:
    """The local error at the outputs' pre-activations that these credits give."""
    return outputs * (credit - (outputs * credit).sum(1, keepdim=True))
