"""Lives that autograd can follow: from a top-down network's parameters to the loss they lead to.

The inner loop of the classification environments written once more, without its in-place updates.
What an update does is the environment's, to rounding; how it is differentiated is chosen for speed
and for use (see `_Adam`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import one_hot
from torch.utils.checkpoint import checkpoint

from agents import NetworkState
from credit_envs.networks import (
    Inputs,
    OwnInputs,
    SharedInputs,
    SharedPatches,
    forward_weights,
)
from credit_envs.networks.onednn import tanh
from credit_envs.tasks import ClassificationTask
from credit_envs.tasks.classification import Life

Act = Callable[[Tensor, Tensor, NetworkState], Tensor]
"""Actions for observations `(L, n, 2k)` by parameters `(L, d)`: a top-down policy's `act_on`."""

_Images = tuple[Life, NDArray[np.int64]]
"""Training images, and the life that they are seen in."""
_MOMENTS = {"sgd": 0, "momentum": 1, "adam": 2}
_MOMENTUM = 0.9
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


class Unroll:
    """Trains L networks, each in a life of its own, within autograd's graph.

    One update, with credits c of the top-down network for the forward pass before it, is

        ΔW = mean_n( (c ⊙ f′(a)) [x; 1]ᵀ ),   ΔW ← ΔW · min(1, max_grad_norm/|ΔW|),

    and the inner optimiser's step. All of it is differentiated (backpropagation through learning:
    Andrychowicz et al., "Learning to learn by gradient descent by gradient descent", 2016).

    Memory grows with the number of updates, by all that an update computes, or with
    `recompute=True` by weights and moments alone; activities are then computed twice. With
    `last_updates` it does not grow with their number at all.

    Args:
        task: a classification task of perceptrons or convolutional networks with a credit for each
            neuron or group of neurons.
        act: the top-down network.
        num_updates: M.
        credit_scale: credits are actions times this.
        recompute: recompute each update when differentiating it (gradient checkpointing).
        last_updates: differentiate so many at the end of a life alone; None: all.
        smoothing: see `_Adam`.
        calibrated: take the final loss at the temperature of the outputs that is best for it.

    Attributes:
        num_samples: n, the task's.
        num_updates: M.
        learning_rate: the task's.
    """

    def __init__(
        self,
        task: ClassificationTask,
        act: Act,
        num_updates: int,
        credit_scale: float,
        *,
        recompute: bool = False,
        last_updates: int | None = None,
        smoothing: float = 1e-8,
        calibrated: bool = False,
    ) -> None:
        self._task = task
        self._act = act
        self.num_samples = task.settings.num_samples
        self.num_updates = num_updates
        self.learning_rate = task.settings.learning_rate
        self._credit_scale = credit_scale
        self._recompute = recompute
        self._last_updates = last_updates
        self._smoothing = smoothing
        self._calibrated = calibrated
        self._num_layers = len(task.network.weights)

    def losses(
        self,
        seeds: Sequence[int],
        beta: Tensor,
        learning_rate: Tensor,
        num_samples: int | None = None,
        num_updates: int | None = None,
    ) -> Tensor:
        """Mean cross-entropy after the last update in each life, in nats, shape `(L,)`.

        On the images held out in the life where the task's loss is on these, else on those that
        are trained on.

        Args:
            seeds: of the lives.
            beta: parameters of the top-down network in each life, `(L, d)`.
            learning_rate: of the inner optimiser in each life, `(L,)`.
            num_samples: to train on the first so many of each life's images alone.
            num_updates: instead of M.
        """
        lives = [self._task.draw_life(seed) for seed in seeds]
        num_updates = num_updates or self.num_updates
        inputs, labels = self._samples(lives, num_samples)
        first, *others = self._initial(lives, beta)
        weights = [inputs.kept(first), *others]
        count = _MOMENTS[self._task.settings.optimizer]
        state = weights + [torch.zeros_like(weight) for weight in weights * count]
        for number in range(1, num_updates + 1):
            given = (inputs, labels, number, num_updates, beta, learning_rate, state)
            if self._last_updates and number <= num_updates - self._last_updates:
                with torch.no_grad():
                    state = self._update(*given)
            elif self._recompute:
                state = checkpoint(self._update, *given, use_reentrant=False)
            else:
                state = self._update(*given)
        weights = state[: len(weights)]
        if not len(lives[0].held_out):
            return self._loss(self._forward(weights, inputs)[1], labels)
        return self._held_out_losses(lives, [inputs.natural(weights[0]), *weights[1:]])

    def _initial(self, lives: Sequence[Life], beta: Tensor) -> list[Tensor]:
        """Weights of each layer at the start, `(L, units, units below + 1)`."""
        return [torch.cat(layer) for layer in zip(*(life.weights for life in lives), strict=True)]

    def _samples(self, lives: Sequence[Life], num_samples: int | None) -> tuple[Inputs, Tensor]:
        """What the lives train on: inputs, and one-hot labels `(L, classes, n)`."""
        if len(lives) > 1:
            return self._own([(life, life.indices[:num_samples]) for life in lives])
        (life,) = lives
        indices = life.indices[:num_samples]
        samples = self._task.inputs_of(life, indices)
        if self._task.settings.architecture == "cnn":
            return SharedPatches(samples), self._labels([(life, indices)])
        inputs = SharedInputs(samples)
        ordered = indices[inputs.sample_order.cpu().numpy()]
        return inputs, self._labels([(life, ordered)])

    def _own(self, images: Sequence[_Images]) -> tuple[OwnInputs, Tensor]:
        """Images of every life, with the inputs in their own order, and one-hot labels."""
        samples = [self._task.inputs_of(life, indices) for life, indices in images]
        features, columns = samples[0].shape
        inputs = OwnInputs(len(samples), features, columns, samples[0])
        for place, own in enumerate(samples):
            inputs.samples[place] = own
        return inputs, self._labels(images)

    def _labels(self, images: Sequence[_Images]) -> Tensor:
        labels = torch.stack([self._task.labels_of(life, indices) for life, indices in images])
        hot = one_hot(labels, self._task.num_classes).transpose(1, 2)
        return hot.to(self._task.network.weights[0].dtype)

    def _held_out_losses(self, lives: Sequence[Life], weights: Sequence[Tensor]) -> Tensor:
        inputs, labels = self._own([(life, life.held_out) for life in lives])
        return self._loss(self._forward(weights, inputs)[1], labels)

    def _forward(self, weights: Sequence[Tensor], inputs: Inputs) -> tuple[list[Tensor], Tensor]:
        """Activities of the hidden layers and log-probabilities, each `(L, units, n)`.

        A convolution has a unit for each position of a filter.
        """
        pre: Tensor = _apply(_Product, weights[0], inputs)
        pre = pre.reshape(len(pre), -1, inputs.num_samples // self._task.columns_per_image)
        hidden = []
        for weight in weights[1:]:
            post: Tensor = _apply(_Tanh, pre)
            hidden.append(post)
            pre = torch.baddbmm(weight[:, :, -1:], weight[:, :, :-1], post)
        return hidden, torch.log_softmax(pre, dim=1)

    def _loss(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        if self._calibrated:
            log_probabilities = _at_best_temperature(log_probabilities, labels)
        return _cross_entropy(log_probabilities, labels)

    def _update(
        self,
        inputs: Inputs,
        labels: Tensor,
        number: int,
        num_updates: int,
        beta: Tensor,
        learning_rate: Tensor,
        state: Sequence[Tensor],
    ) -> list[Tensor]:
        """Weights and moments after update `number` of `num_updates`, counted from 1."""
        weights = list(state[: self._num_layers])
        hidden, log_probabilities = self._forward(weights, inputs)
        probabilities = log_probabilities.exp()
        observation = torch.cat([probabilities, labels], dim=1).transpose(1, 2)
        progress = beta.new_tensor((number - 1) / num_updates)
        seen = NetworkState(hidden, forward_weights(weights), progress, num_updates)
        action = self._act(observation, beta, seen)
        *credits, output_credit = self._task.neuron_credits(action)
        errors = [_gated(credit, post) for credit, post in zip(credits, hidden, strict=True)]
        expected = (probabilities * output_credit).sum(1, keepdim=True)
        errors.append(probabilities * (output_credit - expected))
        gradients = self._gradients(inputs, hidden, errors)
        return self._step(weights, gradients, state[len(weights) :], number, learning_rate)

    def _gradients(
        self, inputs: Inputs, hidden: Sequence[Tensor], errors: Sequence[Tensor]
    ) -> list[Tensor]:
        """Hebbian gradients, clipped; shaped like the weights."""
        scale = self._credit_scale / errors[-1].shape[2]
        # Each position of a filter is a sample to it.
        error = errors[0].reshape(len(errors[0]), -1, inputs.num_samples)
        first: Tensor = _apply(_Gradient, error, inputs, scale)
        gradients = [first]
        for error, below in zip(errors[1:], hidden, strict=True):
            products = [torch.bmm(error, below.transpose(1, 2)), error.sum(2, keepdim=True)]
            gradients.append(torch.cat(products, dim=2) * scale)
        limit = self._task.settings.max_grad_norm
        if limit is None:
            return gradients
        squared = torch.stack([(gradient**2).sum((1, 2)) for gradient in gradients]).sum(0)
        # Without the tiny number, a gradient of 0 would have an infinite derivative.
        norm = (squared + torch.finfo(squared.dtype).tiny).sqrt()
        factor = (limit / (norm + 1e-6)).clamp(max=1.0).view(-1, 1, 1)
        return [gradient * factor for gradient in gradients]

    def _step(
        self,
        weights: Sequence[Tensor],
        gradients: Sequence[Tensor],
        moments: Sequence[Tensor],
        number: int,
        learning_rate: Tensor,
    ) -> list[Tensor]:
        """The inner optimiser's: see `credit_envs.networks.optimizers`."""
        settings = self._task.settings
        rate = learning_rate.view(-1, 1, 1)
        if settings.weight_decay:
            weights = [weight * (1 - rate * settings.weight_decay) for weight in weights]
        if settings.optimizer == "adam":
            firsts, seconds = moments[: len(weights)], moments[len(weights) :]
            layers = zip(weights, gradients, firsts, seconds, strict=True)
            moved = [_apply(_Adam, *layer, rate, number, self._smoothing) for layer in layers]
            return [tensor for kind in zip(*moved, strict=True) for tensor in kind]
        if settings.optimizer == "momentum":
            layers_of_two = zip(moments, gradients, strict=True)
            gradients = [_MOMENTUM * velocity + gradient for velocity, gradient in layers_of_two]
        new = [weight + rate * move for weight, move in zip(weights, gradients, strict=True)]
        return new + (list(gradients) if moments else [])


def _gated(credit: Tensor, post: Tensor) -> Tensor:
    """Local errors c ⊙ f′, `(L, units, n)`; a filter's credit holds at all its positions."""
    positions = post.shape[1] // credit.shape[1]
    everywhere = credit if positions == 1 else credit.repeat_interleave(positions, dim=1)
    return everywhere * (1 - post**2)


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    return function.apply(*arguments)  # type: ignore[no-untyped-call]


def _cross_entropy(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    return -(log_probabilities * labels).sum(1).mean(1)


def _at_best_temperature(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """The log-softmax of z/T of each life at the T with the smallest loss, `(L, classes, n)`.

    T counts as a constant in derivatives, which at the minimum is exact (envelope theorem).
    """
    with torch.no_grad():
        scales = torch.logspace(-1.2, 0.6, 37).to(log_probabilities)
        losses = torch.stack(
            [
                _cross_entropy(torch.log_softmax(scale * log_probabilities, 1), labels)
                for scale in scales
            ]
        )
        best = scales[losses.argmin(0)].view(-1, 1, 1)
    return torch.log_softmax(best * log_probabilities, dim=1)


class _Product(torch.autograd.Function):
    """`W [x; 1]`, by the inputs' own products; its adjoint is their gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, inputs: Inputs) -> Tensor:
        ctx.inputs, ctx.shape = inputs, weight.shape
        # Not detached, for inputs borrow the weights' biases for a while, which would count as a
        # change of what checkpoints have saved.
        return inputs.forward(weight.data)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, None]:
        gradient = error.new_empty(ctx.shape)
        ctx.inputs.gradient(error.contiguous(), 1.0, gradient)
        return gradient, None


class _Gradient(torch.autograd.Function):
    """`scale · error [x; 1]ᵀ`, by the inputs' own products; its adjoint is their forward pass."""

    @staticmethod
    def forward(ctx: Any, error: Tensor, inputs: Inputs, scale: float) -> Tensor:
        ctx.inputs, ctx.scale = inputs, scale
        gradient = error.new_empty(len(error), *inputs.kept_shape(error.shape[1]))
        inputs.gradient(error.detach().contiguous(), scale, gradient)
        return gradient

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.inputs.forward(gradient.contiguous()).mul_(ctx.scale), None, None


class _Tanh(torch.autograd.Function):
    """The faster tanh of `credit_envs.networks.onednn`, which autograd does not know."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = tanh(x.detach())
        ctx.save_for_backward(result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        derivative: Tensor = torch.ops.aten.tanh_backward(gradient, result)
        return derivative


class _Adam(torch.autograd.Function):
    """A step of Adam, and its derivative without the poles.

    The step is m̂/(√v̂ + ε), which turns from −1 to 1 within ε around a gradient of 0, so that
    its derivative there is as large as 1/ε and drowns all others. It is therefore differentiated
    as if it were m̂/√(v̂ + s), which turns within √s: equal where gradients are larger.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        gradient: Tensor,
        first: Tensor,
        second: Tensor,
        rate: Tensor,
        number: int,
        smoothing: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.corrections = 1 - _BETA_1**number, 1 - _BETA_2**number
        ctx.smoothing = smoothing
        first = torch.lerp(first, gradient, 1 - _BETA_1)
        second = (_BETA_2 * second).addcmul_(gradient, gradient, value=1 - _BETA_2)
        ctx.save_for_backward(gradient, first, second, rate)
        direction = _direction(first, second, *ctx.corrections)
        return torch.addcmul(weight, direction, rate), first, second

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor, first: Tensor, second: Tensor) -> tuple[Any, ...]:
        gradient, m, v, rate = ctx.saved_tensors
        correction_1, correction_2 = ctx.corrections
        of_rate = None
        if ctx.needs_input_grad[4]:
            direction = _direction(m, v, correction_1, correction_2)
            of_rate = (weight * direction).sum((1, 2), keepdim=True)
        inverse = (v / correction_2).add_(ctx.smoothing).rsqrt_()
        through = (weight * rate).mul_(inverse).div_(correction_1)
        of_first = first + through
        of_second = torch.addcmul(
            second, through.mul_(m), inverse.square_(), value=-0.5 / correction_2
        )
        of_gradient = (gradient * of_second).mul_(2 * (1 - _BETA_2))
        of_gradient.add_(of_first, alpha=1 - _BETA_1)
        return (
            weight,
            of_gradient,
            of_first.mul_(_BETA_1),
            of_second.mul_(_BETA_2),
            of_rate,
            None,
            None,
        )


def _direction(first: Tensor, second: Tensor, correction_1: float, correction_2: float) -> Tensor:
    """m̂/(√v̂ + ε)."""
    denominator = (second / correction_2).sqrt_().add_(_EPSILON).mul_(correction_1)
    return first / denominator
