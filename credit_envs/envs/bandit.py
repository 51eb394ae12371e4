"""`ClassificationBandit-Digits-v0`, `-MNIST-v0`, `-FashionMNIST-v0`, `-CIFAR10-v0`, ….

`BanditVectorEnv` shows B images at once and is the real implementation; `BanditEnv` is the same
thing with one image.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from credit_envs.checks import require_at_least, require_one_of, require_seeds
from credit_envs.datasets import Arrays, Dataset, DatasetName, named_or_given
from credit_envs.datasets.augmentation import Augmentation
from credit_envs.datasets.order import ImageOrder, OrderName, SplitName, split_indices
from credit_envs.environment import KeywordHelp
from credit_envs.rendering import Frame, answered_image, draw_panels

Images = NDArray[np.uint8]
Answers = NDArray[np.int64]


class TensorTrials(NamedTuple):
    """What B answers bring, in tensors."""

    observation: Tensor
    """The next images, uint8 `(B, C, H, W)`; valid until the step after the next."""
    reward: Tensor
    """Of the answers, float32 `(B,)`."""


class BanditVectorEnv(KeywordHelp, VectorEnv[Images, Answers, NDArray[Any]]):
    """An image is shown, a class is named, and the reward says whether it was right.

    ## Description
    Classification as reinforcement learning: direct reward, one step. Nobody is told the right
    class; a wrong answer says only that it was wrong. The task of DeepAGREL ("Attention-Gated
    Brain Propagation").

    ## Action Space
    `Discrete(classes)`: the answer.

    ## Observation Space
    `Box(0, 255, (C, H, W), uint8)`: the image, channels first. Digits, which have 17 levels of
    grey, are spread over the whole range, floor(255·v/16). `env.unwrapped.dataset` holds the
    images as they are shown, with their mean and standard deviation.

    ## Rewards
    1 if the answer is the image's class, else 0. So the mean reward is the accuracy.

    ## Starting State
    The next image of the split, in this `order`:

    | `order` | images |
    |---|---|
    | `"shuffled"` | each once in an epoch, every epoch in another order |
    | `"random"` | drawn with replacement |
    | `"sequential"` | each once, in the order of the data set, then again from the first |

    `reset(seed=…)` begins a sequence of images, which depends on the seed alone (`"sequential"`:
    on nothing); `reset()` goes on with it, and images that were not answered are passed over.

    ## Episode End
    Terminated after one step. The last observation is blank (zeros): nothing is left to be seen.

    ## Information
    `label`, the image's class, and `index`, its place in `dataset.x_train` (`split="test"`: in
    `dataset.x_test`), at reset and at the step, of the image that is or was shown; `dataset` at
    reset: what was really loaded.

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | `split` | `"train"` | or `"validation"`, `"test"` |
    | `num_validation` | 1000 (Digits: 200) | training images held out: `"train"` never has them |
    | `order` | None | `"shuffled"`, `"random"`, `"sequential"`; None: shuffled to train, else \
sequential |
    | `augment` | False | training images are zoomed by up to a tenth, shifted by up to a tenth \
along each axis, and reflected left to right one time in two, anew whenever they are shown |
    | `data_dir` | None | folder with the data; None: see `credit_envs.datasets.load` |
    | `data` | – | `ClassificationBandit-Images-v0` only: `(x_train, y_train, x_test, y_test)`, \
images uint8 of shape (N, H, W) or (N, C, H, W) |
    | `render_mode` | None | `"rgb_array"`: the image, the answer and the label |

    The validation images are always the same ones; a larger number includes those of a smaller.

    ## Vectorized environment
    `gymnasium.make_vec(id, num_envs=B)` shows B images at once; SAME_STEP autoreset, so that every
    step is B trials. Shuffled or random, they are the next B of one sequence, the same as with one
    image at a time; of a list of seeds the first counts. Arrays in `info` are read-only.

    In sequential order each of the B has a share of the images, as Stable-Baselines3's
    `evaluate_policy` hands out episodes: with `n_eval_episodes=env.num_images` its mean reward is
    the exact accuracy, whether or not B divides the number of images. Take this vector environment
    for it (`agents.VectorEnvAdapter`) or a single scalar one; of several scalar ones in a
    `DummyVecEnv` each would begin at the first image.

    `reset_tensors` and `step_tensors` are the same trials in tensors, without `info`.

    ## Version History
    * v0: initial version
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": ["rgb_array"],
        "render_fps": 1,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        dataset: DatasetName | None = None,
        data: Arrays | None = None,
        data_dir: str | Path | None = None,
        split: SplitName = "train",
        num_validation: int = 1000,
        order: OrderName | None = None,
        augment: bool = False,
        render_mode: str | None = None,
    ) -> None:
        require_at_least("num_envs", num_envs, 1)
        if render_mode is not None:
            require_one_of("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.dataset = _dataset(dataset, data, data_dir)
        indices = split_indices(self.dataset, split, num_validation)
        if order is None:
            order = "shuffled" if split == "train" else "sequential"
        self._order = ImageOrder(indices, order, num_envs)
        require_one_of("augment", augment, (True, False))
        self._augmentation = Augmentation() if augment and split == "train" else None
        self.num_images = len(indices)
        self._kind = {
            "dataset": self.dataset.name,
            "split": split,
            "images": self.num_images,
            "order": order,
            "augmented": self._augmentation is not None,
            "num_envs": num_envs,
        }
        is_test = split == "test"
        self._images: Images = self.dataset.x_test if is_test else self.dataset.x_train
        self._labels = self.dataset.y_test if is_test else self.dataset.y_train

        shape = self._images.shape[1:]
        self.single_observation_space = Box(0, 255, shape, np.uint8)
        self.single_action_space = Discrete(self.dataset.num_classes)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        self.index = np.empty(0, dtype=np.int64)
        """Of the images that are shown now, read-only, `(B,)`."""
        self.label = np.empty(0, dtype=np.int64)
        """Their classes, read-only, `(B,)`."""
        self._hand_out()
        # Two in turns, so that what was shown is still there when the reward comes.
        self._buffers: list[Tensor] = []
        self._pictures = self._blank
        """Images that are shown now, to be drawn."""
        self._drawn: tuple[Images, NDArray[np.int64], Answers | None] | None = None
        """Images, labels and answers."""

    def _hand_out(self) -> None:
        """Make what every step hands out, which broadcasting makes read-only."""
        blank = np.zeros(self._images.shape[1:], dtype=np.uint8)
        self._blank = np.broadcast_to(blank, (self.num_envs, *blank.shape))
        self._all = np.broadcast_to(np.True_, self.num_envs)
        self._names = np.broadcast_to(np.array(self.dataset.name, dtype=object), self.num_envs)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy, whose arrays would not be read-only."""
        self.__dict__.update(state)
        self._hand_out()
        self._show(self.index)

    # ------------------------------------------------------------------ tensors

    def reset_tensors(self, seed: int | None = None) -> Tensor:
        """Show the next images; see `reset`.

        Returns:
            Images, uint8 `(B, C, H, W)`, valid until the step after the next.
        """
        self._begin(self._first_seed(seed))
        images = self._fill_buffer()
        self._picture(None)
        return images

    def step_tensors(self, answers: Tensor) -> TensorTrials:
        """Answer the images, and show the next ones.

        Args:
            answers: whole numbers, `(B,)`; one that is no class is wrong.

        Raises:
            ValueError: another shape.
            RuntimeError: before the first reset.
        """
        if not self.has_started:
            raise RuntimeError("call reset_tensors() before step_tensors()")
        if answers.shape != (self.num_envs,):
            raise ValueError(
                f"the answers have shape {tuple(answers.shape)}; make it {(self.num_envs,)}"
            )
        rewards = self.answer(answers.cpu().numpy())
        self._show_next()
        return TensorTrials(self._fill_buffer(), torch.from_numpy(rewards))

    def _fill_buffer(self) -> Tensor:
        if not self._buffers:
            self._buffers = [torch.empty(self._blank.shape, dtype=torch.uint8) for _ in range(2)]
        self._buffers.reverse()
        array = self._buffers[0].numpy()
        if self._augmentation or self.render_mode:
            array[...] = self._shown()
        else:
            # mode="raise" would write to a copy first; the indices are known to be right.
            np.take(self._images, self.index, axis=0, out=array, mode="clip")
        return self._buffers[0]

    # ------------------------------------------------------------------ NumPy

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Images, dict[str, Any]]:
        """Show the next images.

        Args:
            seed: begins a sequence of images; of a list the first counts. None goes on, or
                begins from entropy.
            options: there are none.

        Returns:
            Images, `(B, C, H, W)`, and `info`.

        Raises:
            ValueError: options, or bad seeds.
        """
        _refuse_options(options)
        return self.show(self._first_seed(seed)), self._info()

    def step(
        self, actions: Answers
    ) -> tuple[Images, NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Answer the images, and show the next ones.

        Args:
            actions: whole numbers from 0 to classes − 1, `(B,)`.

        Returns:
            The next images, rewards, terminations (all), truncations (none) and `info`, where
            `final_obs` and `final_info` are of the images that were answered.

        Raises:
            ValueError: another shape, or answers that are not classes.
            RuntimeError: before the first `reset`.
        """
        answers = self.check_answers(actions, (self.num_envs,))
        answered = {"label": self.label, "index": self.index}
        rewards = self.answer(answers)
        self._show_next()
        info: dict[str, Any] = {
            "final_obs": self._blank,
            "_final_obs": self._all,
            "final_info": self._with_masks(answered),
            "_final_info": self._all,
        }
        info |= self._info()
        terminated, truncated = np.ones(self.num_envs, np.bool_), np.zeros(self.num_envs, np.bool_)
        return self._shown(), rewards, terminated, truncated, info

    def get_state(self) -> dict[str, Any]:
        """Which images are shown and which will be, for `set_state`; can be pickled."""
        return {
            "kind": self._kind,
            "index": self.index,
            "order": self._order.get_state(),
            "augmentation": self._augmentation.get_state() if self._augmentation else None,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on as the vector environment whose `get_state` this is, without a reset.

        Raises:
            ValueError: that one had begun, and had other images or showed them otherwise.
        """
        if state["order"]["rng"] is not None and state["kind"] != self._kind:
            differing = [key for key in self._kind if state["kind"][key] != self._kind[key]]
            theirs, ours = (
                ", ".join(f"{key}={kind[key]!r}" for key in differing)
                for kind in (state["kind"], self._kind)
            )
            raise ValueError(
                f"the state is of an environment with {theirs}, and this one has {ours}; "
                "make an equal one"
            )
        self._order.set_state(state["order"])
        if self._augmentation and state["augmentation"]:
            self._augmentation.set_state(state["augmentation"])
        self._show(state["index"])
        if self.has_started:
            # As they are in the data set: how they were augmented is not in the state.
            self._pictures = self._images.take(self.index, axis=0)
            self._picture(None)

    @property
    def has_started(self) -> bool:
        """Whether images are shown."""
        return self._order.has_begun

    def check_answers(self, actions: ArrayLike, shape: tuple[int, ...]) -> Answers:
        """The actions as an array.

        Raises:
            ValueError: another shape, or answers that are not classes.
            RuntimeError: before the first `reset`.
        """
        if not self.has_started:
            raise RuntimeError("call reset() before step()")
        answers = np.asarray(actions)
        last = self.dataset.num_classes - 1
        if answers.shape != shape:
            raise ValueError(f"the answers have shape {answers.shape}; make it {shape}")
        if answers.dtype.kind not in "iu":
            raise ValueError(
                f"the answers have dtype {answers.dtype}; make them whole numbers from 0 to {last}"
            )
        answers = answers.astype(np.int64, copy=False)
        # Without a sign, numbers below 0 are large ones.
        wrong = answers.view(np.uint64) > last
        if wrong.any():
            raise ValueError(
                f"the answer {answers[wrong][0]} is not a class; "
                f"make answers whole numbers from 0 to {last}"
            )
        return answers

    def show(self, seed: int | None) -> Images:
        """The next images; with a seed the first of its sequence."""
        self._begin(seed)
        images = self._shown()
        self._picture(None)
        return images

    def _shown(self) -> Images:
        """The images that are shown now; asked for once, because augmentation draws."""
        images = self._images.take(self.index, axis=0)
        if self._augmentation:
            images = self._augmentation(images)
        if self.render_mode:
            self._pictures = images.copy()
        return images

    def _picture(self, answers: Answers | None) -> None:
        """Draw the images that are shown now from here on, with their answers."""
        if self.render_mode:
            self._drawn = self._pictures, self.label, answers

    def answer(self, answers: Answers) -> NDArray[np.float32]:
        """Rewards of these answers, which are not checked; the images stay."""
        self._picture(answers)
        rewards: NDArray[np.float32] = (answers == self.label).astype(np.float32)
        return rewards

    def _begin(self, seed: int | None) -> None:
        if seed is not None or not self.has_started:
            self._order.begin(seed)
            if self._augmentation:
                self._augmentation.begin(seed)
        self._show_next()

    def _show_next(self) -> None:
        self._show(self._order.next_batch())

    def _show(self, index: NDArray[np.int64]) -> None:
        self.index = index
        self.index.setflags(write=False)
        self.label = self._labels.take(self.index)
        # It is handed out, and the next reward depends on it.
        self.label.setflags(write=False)

    def _first_seed(self, seed: int | Sequence[int | None] | None) -> int | None:
        """The seed of the sequence of images."""
        return require_seeds(seed, self.num_envs, "environments")[0]

    def _info(self) -> dict[str, Any]:
        return self._with_masks({"label": self.label, "index": self.index, "dataset": self._names})

    def _with_masks(self, values: dict[str, NDArray[Any]]) -> dict[str, Any]:
        return {**values, **{f"_{key}": self._all for key in values}}

    # ------------------------------------------------------------------ pictures

    def render(self) -> tuple[Frame, ...] | None:
        """The images that were answered last, an RGB image for each; None if off.

        After a reset, those that are shown.
        """
        if not self.render_mode:
            gymnasium.logger.warn('render() draws only with render_mode="rgb_array"')
            return None
        if self._drawn is None:
            raise RuntimeError("there is nothing to draw yet: call reset() before render()")
        images, labels, answers = self._drawn
        answered = [None] * self.num_envs if answers is None else answers.tolist()
        return tuple(
            draw_panels(answered_image(image, label, answer))
            for image, label, answer in zip(images, labels.tolist(), answered, strict=True)
        )


class BanditEnv(KeywordHelp, gymnasium.Env[Images, int | np.int64]):  # noqa: D101
    __doc__ = BanditVectorEnv.__doc__
    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array"],
        "render_fps": 1,
    }
    vector_class = BanditVectorEnv

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        self.vector = BanditVectorEnv(num_envs=1, render_mode=render_mode, **kwargs)
        self.render_mode = render_mode
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self._over = True

    @property
    def dataset(self) -> Dataset:
        """The images as they are shown."""
        return self.vector.dataset

    @property
    def num_images(self) -> int:
        """How many images the split has."""
        return self.vector.num_images

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Images, dict[str, Any]]:
        """Show the next image; see the vector environment's `reset`."""
        _refuse_options(options)
        super().reset(seed=seed)
        if seed is None and not self.vector.has_started:
            seed = int(self.np_random.integers(2**62))
        self._over = False
        return self.vector.show(seed)[0], self._info() | {"dataset": self.dataset.name}

    def step(self, action: int | np.int64) -> tuple[Images, float, bool, bool, dict[str, Any]]:
        """Answer the image; see the vector environment's `step`."""
        answer = self.vector.check_answers(action, ())
        if self._over:
            raise RuntimeError("this trial is over: call reset() before the next step()")
        self._over = True
        reward = float(self.vector.answer(answer[np.newaxis])[0])
        blank = np.zeros_like(self.vector.dataset.x_train[0])
        return blank, reward, True, False, self._info()

    def _info(self) -> dict[str, Any]:
        return {"label": int(self.vector.label[0]), "index": int(self.vector.index[0])}

    def render(self) -> Frame | None:
        """The image, with the answer once there is one, as one RGB image."""
        frames = self.vector.render()
        return None if frames is None else frames[0]


def _refuse_options(options: dict[str, Any] | None) -> None:
    if options:
        names = ", ".join(repr(name) for name in options)
        raise ValueError(f"reset takes no options here; leave out {names}")


def _dataset(name: DatasetName | None, data: Arrays | None, data_dir: str | Path | None) -> Dataset:
    loaded = named_or_given(name, data, data_dir, "ClassificationBandit-Images-v0")
    if data is not None:
        return _require_images(loaded)
    return _spread(loaded) if name == "Digits" else loaded


def _require_images(dataset: Dataset) -> Dataset:
    x = dataset.x_train
    if x.ndim != 4 or not x.dtype == dataset.x_test.dtype == np.uint8:
        raise ValueError(
            f"data holds {x.dtype} of shape {x.shape[1:]} and {dataset.x_test.dtype}; "
            "make the images uint8 of shape (N, H, W) or (N, C, H, W)"
        )
    return dataset


# Cached, so that environments share the images.
@functools.cache
def _spread(digits: Dataset) -> Dataset:
    """Digits with their values 0..16 spread over 0..255."""

    def spread(x: NDArray[Any]) -> Images:
        return (x.astype(np.uint16) * 255 // 16).astype(np.uint8)

    return replace(digits, x_train=spread(digits.x_train), x_test=spread(digits.x_test))
