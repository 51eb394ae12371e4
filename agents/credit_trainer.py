"""Training a PyTorch network of one's own with credits, without a loss function or `backward()`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from agents.base import CreditPolicy, NetworkState
from agents.rules import FeedbackRulePolicy
from agents.shared import SharedTDCAPolicy
from credit_envs.checks import require_at_least, require_positive
from credit_envs.networks.onednn import SMALLEST_PRODUCT, product

_Layer = nn.Linear | nn.Conv2d


_aten = torch.ops.aten

_ERRORS: Mapping[type[nn.Module], Callable[[Any, Tensor, Tensor, Tensor], Tensor]] = {
    nn.Tanh: lambda f, credit, pre, post: _aten.tanh_backward(credit, post),
    nn.Sigmoid: lambda f, credit, pre, post: _aten.sigmoid_backward(credit, post),
    nn.ReLU: lambda f, credit, pre, post: _aten.threshold_backward(credit, post, 0),
    nn.LeakyReLU: lambda f, credit, pre, post: _aten.leaky_relu_backward(
        credit, pre, f.negative_slope, False
    ),
    nn.ELU: lambda f, credit, pre, post: _aten.elu_backward(credit, f.alpha, 1, 1, False, pre),
    nn.SiLU: lambda f, credit, pre, post: _aten.silu_backward(credit, pre),
    nn.GELU: lambda f, credit, pre, post: _aten.gelu_backward(
        credit, pre, approximate=f.approximate
    ),
    nn.Softplus: lambda f, credit, pre, post: _aten.softplus_backward(
        credit, pre, f.beta, f.threshold
    ),
    nn.Identity: lambda f, credit, pre, post: credit,
}
"""Local errors c ⊙ f′(a) of a layer's neurons, in one pass each."""

_OWN = ("forward", "_conv_forward")
"""Methods of a layer that say what it does with its weights."""

_FOLLOWING = (
    "torch.nn.modules.dropout",
    "torch.nn.modules.flatten",
    "torch.nn.modules.padding",
    "torch.nn.modules.pixelshuffle",
    "torch.nn.modules.pooling",
    "torch.nn.modules.upsampling",
)
"""Where the modules live that may stand between layers: they only pass activities on."""


@dataclass
class _Stage:
    """A layer with weights, its neurons, and what follows up to the next layer."""

    layer: _Layer
    activation: nn.Module = field(default_factory=nn.Identity)
    then: list[nn.Module] = field(default_factory=list)

    @property
    def num_credits(self) -> int:
        """Neurons, or filters."""
        is_dense = isinstance(self.layer, nn.Linear)
        return self.layer.out_features if is_dense else self.layer.out_channels  # type: ignore[return-value]


class CreditTrainer:
    """Trains a `torch.nn.Sequential` batch by batch with the credits that a policy chooses.

    In every step the network answers a batch; the policy sees the probabilities p = softmax(output)
    and the labels, a row per sample, and gives every neuron a credit c. Each layer then learns from
    what it has at hand, its input x, its pre-activations a and its credits:

        ΔW ∝ mean_n( xᵀ (c ⊙ f′(a)) )          (TDCA, Fig. 4b; softmax Jacobian at the output)

    which an optimiser of PyTorch's turns into a step. A filter of a convolution has one credit,
    which holds at every position. No loss is computed and nothing is propagated backwards.

    Args:
        model: of Linear and Conv2d layers, each directly followed by its activation function or by
            none, with modules without parameters in between (Flatten, pooling, Dropout). The last
            layer is a Linear without activation. It is trained in place, but for parameters that
            need no gradient (`requires_grad=False`).
        policy: chooses the credits: a top-down network, such as `meta.load("mnist-mlp")`, or a
            rule that needs outputs and labels alone, such as `DFAPolicy`. It has to give as many
            credits as the model has neurons, hidden layers first. `SharedTDCAPolicy`, such as
            `meta.load("traveller")`, gives as many as there are, whatever its spaces; it reads
            activities in ±1 and so takes models whose hidden layers are Linear with Tanh.
        optimizer: of the model's parameters; None: `torch.optim.Adam` at the rate 0.01. Schedules
            of `torch.optim.lr_scheduler` work with it.
        num_updates: steps that will be taken in all, epochs · batches. `SharedTDCAPolicy` needs it,
            for it sees how far training is; to it, steps beyond are all the last one. Others do not
            look.
        credit_scale: the environment's in which the policy learned.
        max_grad_norm: the change that goes to the optimiser is scaled down to this norm; None
            switches that off. The environments have 1.

    Attributes:
        updates: steps taken; set it where training goes on from a checkpoint.

    Raises:
        ValueError: the policy cannot serve this model; the message says why.
    """

    def __init__(
        self,
        model: nn.Sequential,
        policy: CreditPolicy,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        num_updates: int | None = None,
        credit_scale: float = 10.0,
        max_grad_norm: float | None = 1.0,
    ) -> None:
        if num_updates is not None:
            require_at_least("num_updates", num_updates, 1)
        require_positive("credit_scale", credit_scale)
        if max_grad_norm is not None:
            require_positive("max_grad_norm", max_grad_norm)
        if not isinstance(policy, CreditPolicy):
            raise ValueError(
                f"the policy is a {type(policy).__name__}; take one that chooses credits, such as "
                'meta.load("mnist-mlp")'
            )
        if isinstance(optimizer, torch.optim.LBFGS):
            raise ValueError("LBFGS asks for the loss, and there is none; take another optimizer")
        self.model = model
        self.policy = policy
        self.num_updates = num_updates
        self.updates = 0
        self.credit_scale = credit_scale
        self.max_grad_norm = max_grad_norm
        self._first, self._stages = _stages(model)
        self._sizes = [stage.num_credits for stage in self._stages]
        self.num_classes = self._sizes[-1]
        if isinstance(policy, SharedTDCAPolicy):
            _check_perceptron(self._stages[:-1], self._stages[-1], num_updates)
        else:
            _check_policy(policy, self._sizes)
        _check_devices(model, policy)
        self._parameters = list(model.parameters())
        self.optimizer = (
            torch.optim.Adam(model.parameters(), lr=0.01) if optimizer is None else optimizer
        )
        optimised = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        if not optimised & {id(p) for p in self._parameters if p.requires_grad}:
            raise ValueError(
                "the optimizer has none of the model's parameters that are not frozen; make it "
                "with model.parameters(), and leave requires_grad=True where it is to learn"
            )

    @torch.no_grad()
    def step(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """One local update of all layers from a batch.

        Args:
            inputs: `(B, …)`, as the model takes them.
            labels: classes `(B,)`, int64.

        Returns:
            Probabilities of the classes before the update, `(B, classes)`.

        Raises:
            ValueError: labels that are no classes, or inputs that are not finite or of another
                shape or dtype than the model takes.
        """
        self._check_type(inputs)
        self._check_labels(labels, len(inputs))
        passed, outputs = self._forward(inputs)
        probabilities = torch.softmax(outputs, 1)
        # What is not finite shows in the sum.
        if not isfinite(probabilities.sum()):
            raise ValueError(
                "the outputs are not finite: inputs hold NaN, or the network has diverged; look at "
                "the data, or use a smaller learning rate"
            )
        one_hot = torch.zeros_like(probabilities).scatter_(1, labels[:, None], 1.0)
        rows = torch.cat([probabilities, one_hot], 1).float()
        action = self._act(rows[None], [post for _, _, post in passed[:-1]])[0]
        # An optimiser descends, and the mean over samples is linear in the credits.
        credits = action.to(outputs.dtype) * (-self.credit_scale / len(inputs))
        *hidden, last = torch.split(credits, self._sizes, 1)
        jacobian = probabilities * (last - (probabilities * last).sum(1, keepdim=True))
        errors = [
            _error(stage, credit, pre, post)
            for stage, credit, (_, pre, post) in zip(
                self._stages[:-1], hidden, passed[:-1], strict=True
            )
        ]
        # Of layers that are frozen now the optimiser would go on with what they had.
        for parameter in self._parameters:
            parameter.grad = None
        for stage, kept, error in zip(self._stages, passed, [*errors, jacobian], strict=True):
            _set_gradient(stage.layer, kept[0], error)
        if self.max_grad_norm is not None:
            changing = [p for p in self._parameters if p.grad is not None]
            norm = nn.utils.clip_grad_norm_(changing, self.max_grad_norm)
            if not isfinite(norm):
                raise ValueError(
                    "the change is not finite: inputs hold infinity, or the policy gave NaN; "
                    "nothing was learned from this batch"
                )
        self.optimizer.step()
        self.updates += 1
        return probabilities

    def _act(self, rows: Tensor, activities: list[Tensor]) -> Tensor:
        """The policy's action for observations `(1, B, 2k)` and activities of hidden layers."""
        if not isinstance(self.policy, SharedTDCAPolicy):
            return self.policy.act(rows)
        assert self.num_updates is not None
        hidden = [activity.T[None].to(rows) for activity in activities]
        above = [stage.layer.weight[None].to(rows) for stage in self._stages[1:]]
        progress = torch.tensor(min(self.updates, self.num_updates - 1) / self.num_updates)
        state = NetworkState(hidden, above, progress, self.num_updates)
        return self.policy.act_on(rows, None, state)

    def _forward(self, inputs: Tensor) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor]:
        """Per layer its input, pre-activations and activities; and the model's outputs."""
        passed = []
        below = inputs
        for module in self._first:
            below = _answer(module, below)
        for stage in self._stages:
            _check_input(stage.layer, below)
            pre = _pre_activations(stage.layer, below)
            post = _answer(stage.activation, pre)
            passed.append((below, pre, post))
            below = post
            for module in stage.then:
                below = _answer(module, below)
        return passed, below

    def _check_type(self, inputs: Tensor) -> None:
        wanted = self._stages[0].layer.weight.dtype
        if not isinstance(inputs, Tensor) or inputs.dtype != wanted:
            kind = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
            raise ValueError(f"inputs of type {kind} must be a tensor of {wanted}, as the model is")

    def _check_labels(self, labels: Tensor, count: int) -> None:
        if not isinstance(labels, Tensor):
            raise ValueError(f"labels are a {type(labels).__name__}, not a torch.int64 tensor")
        if labels.shape != (count,) or labels.dtype != torch.int64 or not count:
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} and type {labels.dtype} must be whole "
                f"numbers (torch.int64) of shape ({count},), one at least"
            )
        lowest, highest = (int(bound) for bound in labels.aminmax())
        if not 0 <= lowest <= highest < self.num_classes:
            raise ValueError(
                f"labels from {lowest} to {highest} must be classes from 0 to "
                f"{self.num_classes - 1}: the model has {self.num_classes} outputs"
            )


def _check_input(layer: _Layer, below: Tensor) -> None:
    """A row, or an image, for each sample and no more, for credits to find their neurons."""
    rows = isinstance(layer, nn.Linear)
    if below.dim() != (2 if rows else 4):
        wanted = (
            "(B, features): put a Flatten before it" if rows else "(B, channels, height, width)"
        )
        raise ValueError(f"{layer} was given inputs of shape {tuple(below.shape)}, not {wanted}")
    columns = layer.in_features if rows else layer.in_channels
    if below.shape[1] != columns:
        raise ValueError(
            f"{layer} was given inputs of shape {tuple(below.shape)}: {below.shape[1]} "
            f"{'features' if rows else 'channels'} instead of {columns}"
        )


def _pre_activations(layer: _Layer, below: Tensor) -> Tensor:
    """What the layer makes of its input; of large Linear layers by the faster product."""
    hooked = layer._forward_hooks or layer._forward_pre_hooks
    if type(layer) is not nn.Linear or hooked or not _is_large(layer, below):
        return layer(below)  # type: ignore[no-any-return]
    pre = product(below, layer.weight.detach().T)
    return pre if layer.bias is None else pre.add_(layer.bias)


def _is_large(layer: _Layer, below: Tensor) -> bool:
    """Whether products of its weights' size, forwards and of the gradient, are worth oneDNN's."""
    return layer.weight.numel() * len(below) >= SMALLEST_PRODUCT


def _answer(module: nn.Module, below: Tensor) -> Tensor:
    """The module's, which in place would write over what f′ needs."""
    answer: Tensor = module(below.clone() if getattr(module, "inplace", False) else below)
    return answer


def _error(stage: _Stage, credit: Tensor, pre: Tensor, post: Tensor) -> Tensor:
    """C ⊙ f′(a), where a filter's credit holds at every position."""
    everywhere = credit.view(*credit.shape, *[1] * (pre.dim() - 2)).expand_as(pre)
    return _ERRORS[type(stage.activation)](stage.activation, everywhere, pre, post)


def _set_gradient(layer: _Layer, below: Tensor, error: Tensor) -> None:
    """Σ_n xᵀ error, where an optimiser looks for it."""
    if isinstance(layer, nn.Linear):
        weight = (product if _is_large(layer, below) else torch.mm)(error.T, below)
        bias = error.sum(0)
    else:
        _, weight, bias = _aten.convolution_backward(
            error,
            below,
            layer.weight,
            [layer.out_channels],
            list(layer.stride),
            list(layer.padding),
            list(layer.dilation),
            False,
            [0, 0],
            layer.groups,
            [False, True, True],
        )
    for parameter, gradient in ((layer.weight, weight), (layer.bias, bias)):
        if parameter is not None and parameter.requires_grad:
            parameter.grad = gradient


def _stages(model: nn.Sequential) -> tuple[list[nn.Module], list[_Stage]]:
    """What comes before the first layer, and the layers with what follows each."""
    if not isinstance(model, nn.Sequential):
        raise ValueError(
            f"the model is a {type(model).__name__}; credits are for a torch.nn.Sequential, whose "
            "layers come one after the other"
        )
    known = ", ".join(known.__name__ for known in _ERRORS)
    first: list[nn.Module] = []
    stages: list[_Stage] = []
    for module in _flat(model):
        if isinstance(module, nn.Linear | nn.Conv2d):
            _check_layer(module)
            if any(module is stage.layer for stage in stages):
                raise ValueError(f"{module} stands in the model twice; give each place its own")
            own = {id(parameter) for parameter in module.parameters()}
            if any(id(p) in own for stage in stages for p in stage.layer.parameters()):
                raise ValueError(f"{module} shares its weights with a layer below; give it its own")
            stages.append(_Stage(module))
        elif next(module.parameters(), None) is not None:
            raise ValueError(
                f"{module} has parameters that no credit is for; use Linear and Conv2d alone"
            )
        elif not stages:
            first.append(module)
        elif type(module) in _ERRORS and not stages[-1].then:
            if type(stages[-1].activation) is not nn.Identity:
                raise ValueError(f"{module} follows another activation function; leave one out")
            stages[-1].activation = module
        elif type(module) in _ERRORS:
            raise ValueError(f"{module} must come directly after its layer, before pooling")
        elif type(module).__module__ in _FOLLOWING or _is_softmax(module):
            stages[-1].then.append(module)
        else:
            raise ValueError(
                f"{module} may be an activation function, whose derivative is not known here; use "
                f"{known}, or modules of PyTorch's that pass activities on, such as Flatten, "
                "pooling and Dropout"
            )
    _check_end(stages)
    return first, stages


def _check_end(stages: list[_Stage]) -> None:
    """Whether the model ends with the outputs of classes, and has no softmax before."""
    if not stages:
        raise ValueError("the model has no Linear or Conv2d layer to train")
    last = stages[-1]
    if (
        not isinstance(last.layer, nn.Linear)
        or last.then
        or type(last.activation) is not nn.Identity
    ):
        raise ValueError(
            "the model must end with a Linear layer, whose outputs go through a softmax here; "
            "leave out what follows it"
        )
    if last.num_credits < 2:
        raise ValueError(
            "the model has one output, so that there is nothing to tell apart; end it "
            "with an output for each class, two for a yes or no"
        )
    for module in (module for stage in stages for module in stage.then):
        if _is_softmax(module):
            raise ValueError(f"{module} stands in the middle of the model; leave it out")


def _is_softmax(module: nn.Module) -> bool:
    """At the end of a model it has a message of its own."""
    return isinstance(module, nn.Softmax | nn.LogSoftmax)


def _flat(model: nn.Sequential, is_whole: bool = True) -> list[nn.Module]:
    """Modules in their order, those of nested Sequentials too."""
    hooked = model._forward_hooks or model._forward_pre_hooks
    if type(model).forward is not nn.Sequential.forward or (hooked and not is_whole):
        raise ValueError(
            f"{type(model).__name__} does more than call its layers one after the other, which no "
            "credit is for; use torch.nn.Sequential itself, without hooks"
        )
    return [
        module
        for child in model
        for module in (_flat(child, False) if isinstance(child, nn.Sequential) else [child])
    ]


def _check_layer(layer: _Layer) -> None:
    plain = nn.Linear if isinstance(layer, nn.Linear) else nn.Conv2d
    if any(getattr(type(layer), f, None) is not getattr(plain, f, None) for f in _OWN):
        raise ValueError(
            f"{layer} is a {type(layer).__name__} with a forward of its own, which no credit is "
            f"for; use {plain.__name__} itself"
        )
    if isinstance(layer.weight, nn.UninitializedParameter):
        raise ValueError(f"{layer} does not know its inputs yet; show the model a batch before")
    if type(layer.weight) is not nn.Parameter:
        raise ValueError(
            f"the weights of {layer} are made from other parameters, as by weight_norm, which no "
            "credit is for; use a plain layer"
        )
    if layer.weight.dtype == torch.float16:
        raise ValueError(
            f"{layer} is in float16, in which gradients overflow; make it float32 or bfloat16"
        )
    if isinstance(layer, nn.Linear):
        return
    if isinstance(layer.padding, str):
        raise ValueError(f'{layer} has padding="{layer.padding}"; say it in numbers')
    if layer.padding_mode != "zeros":
        raise ValueError(f'{layer} has padding_mode="{layer.padding_mode}"; use "zeros"')


def _check_policy(policy: CreditPolicy, sizes: list[int]) -> None:
    """Whether the policy sees as many classes and gives as many credits as the model has."""
    *hidden, classes = sizes
    observation, action = policy.observation_space.shape or (), policy.action_space.shape or ()
    if isinstance(policy, FeedbackRulePolicy):
        raise ValueError(
            f"{type(policy).__name__} reads its networks from an environment; take one for which "
            'outputs and labels are enough, such as meta.load("mnist-mlp")'
        )
    if len(observation) != 2 or len(action) != 2:
        raise ValueError(
            f"{type(policy).__name__} was made for observations of shape {observation}; take one "
            'for classification, such as meta.load("mnist-mlp")'
        )
    if observation[1] != 2 * classes:
        raise ValueError(
            f"the policy knows {observation[1] // 2} classes and the model has {classes} outputs; "
            "take a policy that was evolved for as many, or change the last layer"
        )
    if action[1] != sum(sizes):
        raise ValueError(
            f"the policy has credits for {action[1] - classes} hidden neurons (a filter counts as "
            f"one), and the model has {sum(hidden)} ({' + '.join(map(str, hidden)) or 'none'}); "
            "change the hidden layers, or take a policy that was evolved for as many"
        )


def _check_devices(model: nn.Sequential, policy: CreditPolicy) -> None:
    """Whether model and policy are in one place."""
    held = [*model.parameters(), *policy.parameters(), *policy.buffers()]
    devices = {tensor.device for tensor in held}
    if len(devices) > 1:
        named = " and ".join(sorted(map(str, devices)))
        raise ValueError(f"model and policy lie on {named}; bring all to one device with .to(…)")


def _check_perceptron(hidden: list[_Stage], last: _Stage, num_updates: int | None) -> None:
    """Whether a `SharedTDCAPolicy` is shown what it was made for."""
    if not hidden:
        raise ValueError("SharedTDCAPolicy reads hidden layers, and the model has none; add one")
    for stage in hidden:
        if not isinstance(stage.layer, nn.Linear) or type(stage.activation) is not nn.Tanh:
            raise ValueError(
                "SharedTDCAPolicy reads activities between -1 and 1, one of each neuron: hidden "
                f"layers must be Linear, each followed by Tanh, not {stage.layer} followed by "
                f"{stage.activation}; change the model, or take DFAPolicy, which reads none"
            )
    for below, above in zip(hidden, [*hidden[1:], last], strict=True):
        if below.num_credits != above.layer.weight.shape[1]:
            raise ValueError(
                f"between {below.layer} and {above.layer} something stands that changes how many "
                "activities there are, which SharedTDCAPolicy cannot follow; leave it out"
            )
    if num_updates is None:
        raise ValueError(
            "SharedTDCAPolicy sees how far training is: say how many steps you will take, "
            "num_updates=epochs * len(loader)"
        )
