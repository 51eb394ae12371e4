"""`CreditAssign-Digits-v0`, `-MNIST-v0`, `-FashionMNIST-v0`, `-CIFAR10-v0` and `-Images-v0`."""

from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import get_args

from credit_envs.checks import (
    require_at_least,
    require_device,
    require_not_negative,
    require_one_of,
    require_positive,
    require_sizes,
)
from credit_envs.complexity import CreditForm
from credit_envs.datasets import Arrays, DatasetName, named_or_given
from credit_envs.environment import CreditAssignEnv, CreditAssignVectorEnv, Reward
from credit_envs.networks.optimizers import OptimizerName
from credit_envs.rendering import Frame, History, credit_picture, draw_panels, learning_curve
from credit_envs.tasks.classification import (
    Architecture,
    ClassificationTask,
    Init,
    LossSplit,
    ScoreSplit,
    TrainingSettings,
)


class ImagesVectorEnv(CreditAssignVectorEnv):
    """A network learns to classify images, led by a credit for every neuron and sample.

    ## Description
    The bottom-up network has tanh hidden layers and a softmax output (TDCA, Fig. 4). A step
    presents the whole training subset, and every neuron changes its weights by what it has at
    hand: its inputs, its own activity and its credits,

        ΔW = η · mean_n( xᵀ (c ⊙ f′(a)) ),

    with the Jacobian of the softmax for f′ at the output, clipped to `max_grad_norm` over the
    whole network and passed through the inner optimiser. With `weight_decay` λ each update first
    takes every weight towards zero, W −= ηλW: decoupled for every optimiser, as in AdamW, so that
    neither the clip nor the momentum sees it. A bias, being the weight of an input that is always
    one, decays as well. Credits raise what they reward: the
    credits that equal backpropagation are −∂(cross-entropy)/∂(activity).

    Inputs are standardised by the training split's mean and standard deviation (per channel for
    images, per feature for tables).

    For a top-down network that shall serve other data too, lives can be made to differ in more than
    their images. With `permute_classes` each numbers the classes in an order of its own, so that
    nothing can be learned of any one class. With `random_projection=d` each sees d inputs Rx in
    place of the D standardised features x, of its own R with elements from N(0, 1/D): pixels
    and their plain background are gone, distances are kept.

    `architecture` and `hidden_sizes`, which has a number of credits for each entry:

    | `architecture` | `hidden_sizes` | layers |
    |---|---|---|
    | `"mlp"` | `(100,)` | perceptron: neurons per hidden layer |
    | `"cnn"` | `(16, 100, 100)` | filters (5 × 5, stride 2), neurons per dense layer (Table 2) |
    | `"residual"` | `(100, 100, 100)` | a layer, then blocks h + tanh(W₂ tanh(W₁h + b₁) + b₂) |

    A filter has one credit per sample, which holds at all its positions. A residual block has
    one per unit of its output, and its two layers follow the gradient of credit · output with the
    block's input held fixed. From `init="zero"` W₁ and W₂ never move, so that the network stays a
    perceptron with one hidden layer: take another start.

    ## Action Space
    `Box(-1, 1, (n, credits), float32)`: a row per sample, a credit per neuron in units of
    `credit_scale`, **hidden layers first, output last**. Values beyond ±1 are used as they are,
    for backpropagation needs them. With `credit="groups"` each hidden layer has `credit_groups`
    credits, which spread to the neurons of their group as exp(−d²/σ²) (TDCA, Eq. 2); filters of a
    convolution keep one each.

    With `credit="parameters"`, the paper's naive form (Table S4), `Box(-1, 1, (parameters,),
    float32)`: a credit per weight and bias, which times `credit_scale` **is** its gradient; the
    clip and the inner optimiser follow as ever. Their order is that of the observation.

    ## Observation Space
    `Box(0, 1, (n, 2k), float32)`: a row per sample.

    | column | observation |
    |---|---|
    | 0 … k−1 | probability the network gives to each class |
    | k … 2k−1 | one-hot label |

    With `credit="parameters"`, `Box(-inf, inf, (parameters,), float32)`: the parameters of the
    bottom-up network itself, layer by layer from the inputs on, each layer's weights row by row, a
    row per neuron with its bias at the end. 784-100-10 has 79,510 of them, so that a top-down
    network with hidden layers of 30 and 30 has 4,851,070. Nothing of the samples is seen. (A
    `"cnn"` begins with its filters; in a residual block W₁ comes before W₂.)

    ## Rewards
    The loss is the mean cross-entropy on the training subset in nats. With `reward="progress"` a
    step pays the loss before minus the loss after, so that the return (γ = 1) is the total drop;
    with `"final"` the last step pays it all. With `loss_on="held-out"` the loss that pays is
    measured on `num_held_out` other images of each life, so that generalising is what is learned;
    the credits still see the training subset alone.

    ## Starting State
    A subset of `num_samples` training images and initial weights, both drawn from the life's
    seed. `init="zero"`: all weights 0. `"near-zero"`: uniform in ±1e-16, the paper's start for
    backpropagation, which cannot leave 0. `"kaiming"`: PyTorch's default for linear layers.

    ## Episode End
    Terminated after `num_updates` steps: M updates, then the score. A network that is no longer
    finite ends its life at once, with `info["diverged"]` and the loss of guessing, ln k.

    ## Information
    `loss`, `accuracy` (on the training subset) and `diverged` on every step, `held_out_loss` with
    `loss_on="held-out"`; on the last one also
    `test_loss` and `test_accuracy` (or `validation_…`, see `score_on`), unless
    `evaluate_test=False`; at reset `sample_indices` (into the training split, or what `classes`
    leave of it) and `dataset` (what was really loaded).

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | `num_samples` | 1000 | images in a life's training subset, n |
    | `num_updates` | 20 | updates in a life, M |
    | `hidden_sizes` | `(100,)` | neurons per hidden layer |
    | `architecture` | `"mlp"` | kind of bottom-up network; or `"cnn"`, `"residual"` |
    | `init` | `"zero"` | or `"near-zero"`, `"kaiming"` |
    | `optimizer` | `"adam"` | inner optimiser; or `"momentum"` (0.9), `"sgd"` |
    | `learning_rate` | 0.01 | its step size η |
    | `weight_decay` | 0.0 | decoupled decay λ of all weights and biases |
    | `max_grad_norm` | 1.0 | global gradient-norm clip of each network; None: off |
    | `credit` | `"neurons"` | or `"groups"` (diffusion in the hidden layers), `"parameters"` |
    | `credit_groups` | 10 | groups per hidden layer on a line; `(rows, columns)` on a grid |
    | `diffusion_sigma` | 5.0 | σ of the diffusion, in neurons |
    | `credit_scale` | 10.0 | credits are actions times this |
    | `reward` | `"progress"` | or `"final"` |
    | `loss_on` | `"train"` | or `"held-out"`: images whose loss is rewarded |
    | `num_held_out` | 1000 | how many of them, from `train_range` too |
    | `evaluate_test` | True | score the held-out images after the last update |
    | `score_on` | `"test"` | or `"validation"`: training images outside `train_range` |
    | `train_range` | `(0, 1)` | part of the training split from which subsets are drawn |
    | `classes` | None | only these, in this order, such as `(3, 8)`: the first becomes class 0 |
    | `permute_classes` | False | number the classes anew in every life |
    | `random_projection` | None | inputs that features are projected to, anew in every life |
    | `data_dir` | None | folder with the data; None: see `credit_envs.datasets.load` |
    | `data` | – | `CreditAssign-Images-v0` only: `(x_train, y_train, x_test, y_test)` |
    | `device` | `"cpu"` | where the tensors live |
    | `render_mode` | None | `"rgb_array"`: the learning curve and the last credits |

    ## Vectorized environment
    `gymnasium.make_vec(id, num_envs=P)` trains P networks at once in batched tensors; SAME_STEP
    autoreset. In `reset_tensors`, networks with one seed share one copy of the data.

    ## Version History
    * v0: initial version
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        dataset: DatasetName | None = None,
        data: Arrays | None = None,
        data_dir: str | Path | None = None,
        classes: Sequence[int] | None = None,
        permute_classes: bool = False,
        random_projection: int | None = None,
        num_samples: int = 1000,
        num_updates: int = 20,
        hidden_sizes: Sequence[int] = (100,),
        architecture: Architecture = "mlp",
        init: Init = "zero",
        optimizer: OptimizerName = "adam",
        learning_rate: float = 0.01,
        weight_decay: float = 0.0,
        max_grad_norm: float | None = 1.0,
        credit: CreditForm = "neurons",
        credit_groups: int | tuple[int, int] = 10,
        diffusion_sigma: float = 5.0,
        credit_scale: float = 10.0,
        reward: Reward = "progress",
        evaluate_test: bool = True,
        loss_on: LossSplit = "train",
        num_held_out: int = 1000,
        score_on: ScoreSplit = "test",
        train_range: tuple[float, float] = (0.0, 1.0),
        device: str = "cpu",
        render_mode: str | None = None,
    ) -> None:
        require_at_least("num_envs", num_envs, 1)
        require_at_least("num_samples", num_samples, 1)
        require_one_of("architecture", architecture, get_args(Architecture))
        require_one_of("init", init, get_args(Init))
        require_one_of("optimizer", optimizer, get_args(OptimizerName))
        require_positive("learning_rate", learning_rate)
        require_not_negative("weight_decay", weight_decay)
        if max_grad_norm is not None:
            require_positive("max_grad_norm", max_grad_norm)
        require_one_of("credit", credit, get_args(CreditForm))
        require_positive("diffusion_sigma", diffusion_sigma)
        require_one_of("evaluate_test", evaluate_test, (True, False))
        require_one_of("loss_on", loss_on, get_args(LossSplit))
        require_at_least("num_held_out", num_held_out, 1)
        require_one_of("score_on", score_on, get_args(ScoreSplit))
        require_one_of("permute_classes", permute_classes, (True, False))
        if random_projection is not None:
            require_at_least("random_projection", random_projection, 1)
        _check_range(train_range, score_on)
        settings = TrainingSettings(
            num_samples=num_samples,
            hidden_sizes=_hidden_sizes(hidden_sizes, architecture),
            architecture=architecture,
            init=init,
            optimizer=optimizer,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            credit=credit,
            credit_groups=_groups(credit_groups),
            diffusion_sigma=diffusion_sigma,
            train_range=train_range,
            evaluate_held_out=evaluate_test,
            loss_on=loss_on,
            num_held_out=num_held_out,
            permute_classes=permute_classes,
            random_projection=random_projection,
            score_on=score_on,
        )
        loaded = named_or_given(dataset, data, data_dir, "CreditAssign-Images-v0")
        if classes is not None:
            loaded = loaded.only(classes)
        if architecture == "cnn" and loaded.x_train.ndim != 4:
            raise ValueError(
                'architecture="cnn" needs images, (N, H, W) or (N, C, H, W); '
                'for tables take "mlp" or "residual"'
            )
        if architecture == "cnn" and random_projection is not None:
            raise ValueError(
                'random_projection leaves no image for architecture="cnn"; take "mlp" or "residual"'
            )
        task = ClassificationTask(loaded, settings, num_envs, require_device(device))
        super().__init__(
            task,
            num_updates=num_updates,
            credit_scale=credit_scale,
            reward=reward,
            render_mode=render_mode,
        )

    def draw(self, history: History) -> Frame:  # noqa: D102
        return draw_panels(
            learning_curve(history, ["loss", "accuracy"], self.num_updates),
            credit_picture(history),
        )


class ImagesEnv(CreditAssignEnv):  # noqa: D101
    __doc__ = ImagesVectorEnv.__doc__
    vector_class = ImagesVectorEnv


def _hidden_sizes(hidden_sizes: Sequence[int], architecture: Architecture) -> tuple[int, ...]:
    sizes = require_sizes("hidden_sizes", hidden_sizes, allow_empty=False)
    if architecture == "cnn" and len(sizes) < 2:
        raise ValueError(
            f'hidden_sizes={hidden_sizes!r} with architecture="cnn" must be filters and neurons '
            "per dense layer, such as (16, 100, 100)"
        )
    if architecture == "residual" and (len(sizes) < 2 or len(set(sizes)) > 1):
        raise ValueError(
            f'hidden_sizes={hidden_sizes!r} with architecture="residual" must be one size for '
            "the first layer and each block, such as (100, 100, 100)"
        )
    return sizes


def _groups(credit_groups: int | tuple[int, int]) -> int | tuple[int, int]:
    sizes = require_sizes("credit_groups", credit_groups, allow_empty=False)
    if len(sizes) > 2:
        raise ValueError(f"credit_groups={credit_groups!r} must be a number or (rows, columns)")
    return sizes[0] if len(sizes) == 1 else (sizes[0], sizes[1])


def _check_range(train_range: tuple[float, float], score_on: ScoreSplit) -> None:
    pair = isinstance(train_range, list | tuple) and len(train_range) == 2
    numbers = pair and all(isinstance(end, Real) for end in train_range)
    if not numbers or not 0 <= train_range[0] < train_range[1] <= 1:
        raise ValueError(f"train_range={train_range!r} must be (start, stop), 0 ≤ start < stop ≤ 1")
    if score_on == "validation" and tuple(train_range) == (0, 1):
        raise ValueError(
            'score_on="validation" needs training images outside train_range; '
            "leave some out, as in train_range=(0, 0.8)"
        )
