"""The credit-assignment environment: one implementation for all tasks.

`CreditAssignVectorEnv` trains P bottom-up networks at once and is the real implementation;
`CreditAssignEnv` is the same thing with one network. The pages that users read are the subclasses
in `credit_envs.envs`.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar, Literal, NamedTuple, Self, SupportsFloat, get_args

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from credit_envs.checks import (
    check_keywords,
    require_at_least,
    require_one_of,
    require_positive,
    require_seeds,
)
from credit_envs.rendering import History
from credit_envs.tasks.task import ResetOptions, Task

Reward = Literal["progress", "final"]
FloatArray = NDArray[np.float32]


class TensorStep(NamedTuple):
    """What one update of P networks brings, in tensors on the environment's device."""

    observation: Tensor
    """`(P, *observation shape)`; valid until the next update."""
    reward: Tensor
    """`(P,)`"""
    terminated: bool
    """Whether the lives are over."""


class KeywordHelp:
    """Refuses unknown keyword arguments with the nearest known one."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Check the keywords before `__init__` does, which could not name the nearest."""
        check_keywords(cls, kwargs)
        return super().__new__(cls)


class CreditAssignVectorEnv(KeywordHelp, VectorEnv[FloatArray, FloatArray, NDArray[Any]]):
    """P bottom-up networks being trained; one step is one local update of each.

    NumPy users call `reset` and `step`. The outer loop calls `reset_tensors` and `step_tensors`,
    which do the same without copies and without autoreset.

    Args:
        task: the networks and what they learn.
        num_updates: updates in a life, M.
        credit_scale: credits are actions times this.
        reward: "progress" pays loss before minus loss after each update, so that the return with
            γ = 1 is the total drop; "final" pays all of it with the last update.
        render_mode: None or "rgb_array".

    Attributes:
        loss: of each network, `(P,)`; with reward "final", `step_tensors` measures it at the end.
        diverged: which networks were no longer finite when their loss was last measured, `(P,)`.
        updates: that each network has had in its life, `(P,)`.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": ["rgb_array"],
        "render_fps": 5,
    }

    # How many of the latest observations `draw` uses; None: all of the life.
    _num_drawn: ClassVar[int | None] = 1

    def __init__(
        self,
        task: Task,
        *,
        num_updates: int,
        credit_scale: float,
        reward: Reward = "progress",
        render_mode: str | None = None,
    ) -> None:
        require_at_least("num_updates", num_updates, 1)
        require_positive("credit_scale", credit_scale)
        require_one_of("reward", reward, get_args(Reward))
        if render_mode is not None:
            require_one_of("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.task = task
        self.num_updates = num_updates
        self.credit_scale = credit_scale
        self.reward: Reward = reward
        self.render_mode = render_mode
        self.num_envs = task.num_networks
        self.single_observation_space = task.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(task.observation_space, self.num_envs)
        self.action_space = batch_space(task.action_space, self.num_envs)
        self._action_shape = (self.num_envs, *task.action_space.shape)
        self._life_seeds: NDArray[np.int64] | None = None
        self.updates: NDArray[np.int64] = np.zeros(self.num_envs, dtype=np.int64)
        self.loss = task.new_losses()
        self.diverged = torch.zeros_like(self.loss, dtype=torch.bool)
        self._initial_loss = torch.zeros_like(self.loss)
        drawn = range(self.num_envs if render_mode else 0)
        self._histories = [History(network, self._num_drawn) for network in drawn]

    # ------------------------------------------------------------------ tensors

    def reset_tensors(self, seeds: Sequence[int], **options: Any) -> Tensor:
        """Begin a new life of every network.

        Args:
            seeds: one per network; equal seeds are equal lives (common random numbers).
            options: as `reset`'s.

        Returns:
            Observations, shape `(P, *observation shape)`; valid until the next update.
        """
        self._begin(self._check_seeds(seeds), None, self.task.check_options(options))
        for history in self._histories:
            # `step_tensors` records nothing, and a former life is not to be drawn for this one.
            history.clear()
        return self.task.observe()

    @torch.no_grad()
    def step_tensors(self, action: Tensor) -> TensorStep:
        """Update every network by its credits; to be called `num_updates` times after a reset.

        Nothing is recorded for autograd, whether or not credits require gradients: for gradients
        through lives see `train.py --outer meta-gradient`.

        Args:
            action: shape `(P, *action shape)`; used as it is, values beyond ±1 included.

        Raises:
            ValueError: another shape. Credits of images may be more than the space has, as
                backpropagation's of a convolution are, one per position.
            RuntimeError: before the first reset, or after the end.
        """
        if self._life_seeds is None or self.updates[0] >= self.num_updates:
            raise RuntimeError("no lives to update: call reset_tensors() before step_tensors()")
        expected = self._action_shape
        if action.dim() != len(expected) or action.shape[:2] != expected[:2]:
            raise ValueError(f"actions have shape {tuple(action.shape)}; make it {expected}")
        before = self.loss
        self.task.update(action, self.credit_scale)
        self.updates += 1
        over = bool(self.updates[0] >= self.num_updates)
        if self.reward == "final" and not over:
            # Nothing is paid yet, so nothing is measured: the outer loop needs the end alone.
            return TensorStep(self.task.observe(), torch.zeros_like(before), over)
        self._measure()
        paid_since = before if self.reward == "progress" else self._initial_loss
        return TensorStep(self.task.observe(), paid_since - self.loss, over)

    def _begin(
        self, seeds: NDArray[np.int64], which: NDArray[np.int64] | None, options: ResetOptions
    ) -> None:
        if which is None or self._life_seeds is None or len(which) == self.num_envs:
            self._life_seeds = seeds.copy()
            which_or_all: NDArray[np.int64] | slice = slice(None)
        else:
            self._life_seeds[which] = seeds
            which_or_all = which
        self.updates[which_or_all] = 0
        self.diverged[which_or_all] = False
        self.task.start(seeds, which, options)
        self._measure()
        self._initial_loss[which_or_all] = self.loss[which_or_all]

    def _measure(self) -> None:
        """The loss, with the loss of guessing where a network diverged, now or earlier."""
        loss = self.task.loss()
        self.diverged = self.diverged | ~loss.isfinite()
        self.loss = loss.masked_fill(self.diverged, self.task.guess_loss)

    # ------------------------------------------------------------------ NumPy

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Begin a new life of every network.

        Args:
            seed: an integer gives network i the life `seed + i`; a list gives each its own;
                None goes on from the previous lives, or starts from entropy.
            options: `"task"` picks the task by index where there are several; on surfaces,
                `"position"` sets where the points start.

        Returns:
            Observations and `info`.

        Raises:
            ValueError: unknown options or a seed list of another length.
        """
        chosen = self.task.check_options(options or {})
        everyone = np.arange(self.num_envs)
        self._begin(self._check_seeds(seed), everyone, chosen)
        self._begin_pictures(everyone)
        return self._copy_observation(), self._info(np.ones(self.num_envs, dtype=bool))

    def step(
        self, actions: FloatArray
    ) -> tuple[FloatArray, FloatArray, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One local update of every network; a life that ends is followed by the next at once.

        Args:
            actions: shape `(P, *action shape)`, finite; values beyond ±1 are used as they are.

        Returns:
            Observations, rewards, terminations, truncations (never) and `info`, where the last
            observation and info of a life that ended are `final_obs` and `final_info`.

        Raises:
            ValueError: another shape, or NaN or infinite actions.
            RuntimeError: before the first `reset`.
        """
        rewards, ended = self._advance(actions)
        info: dict[str, Any] = {}
        if ended.any():
            info["final_obs"] = self._copy_observation()
            info["_final_obs"] = ended.copy()
            info["final_info"] = self._final_info(ended)
            info["_final_info"] = ended.copy()
            self._autoreset(np.flatnonzero(ended))
        info.update(self._info(ended))
        return self._copy_observation(), rewards, ended, np.zeros_like(ended), info

    def metrics(self) -> dict[str, Tensor]:
        """What `info` reports after every update, each `(P,)`; of guessing where one diverged."""
        return self._guessing(self.task.metrics())

    def final_metrics(self) -> dict[str, Tensor]:
        """What `info` reports besides on the last update, likewise."""
        return self._guessing(self.task.final_metrics())

    def _guessing(self, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        guesses = self.task.guess_metrics()
        return {
            key: values.masked_fill(self.diverged, guesses[key]) if key in guesses else values
            for key, values in metrics.items()
        }

    @property
    def has_started(self) -> bool:
        """Whether `reset` has been called."""
        return self._life_seeds is not None

    @property
    def life_seeds(self) -> NDArray[np.int64]:
        """Seed of each network's life, `(P,)`; RuntimeError before the first reset."""
        if self._life_seeds is None:
            raise RuntimeError("no lives yet: call reset() first")
        return self._life_seeds

    def step_first(self, actions: FloatArray) -> tuple[FloatArray, float, bool, dict[str, Any]]:
        """`step` for the scalar environment: of the first network, and without autoreset."""
        rewards, ended = self._advance(actions)
        info = self._final_info(ended) if ended[0] else self._info(started=ended)
        return self._copy_observation()[0], float(rewards[0]), bool(ended[0]), _of_first(info)

    def _advance(self, actions: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Update every network; rewards and which lives are over."""
        action = self._check_action(actions)
        before = self.loss
        self.task.update(torch.as_tensor(action, device=before.device), self.credit_scale)
        self.updates += 1
        self._measure()
        ended = self.diverged | torch.as_tensor(self.updates >= self.num_updates).to(before.device)
        if self.reward == "progress":
            reward = before - self.loss
        else:
            reward = torch.where(ended, self._initial_loss - self.loss, 0.0)
        self._remember(np.arange(self.num_envs), action)
        return reward.cpu().numpy().astype(np.float32), ended.cpu().numpy()

    def _autoreset(self, which: NDArray[np.int64]) -> None:
        assert self._life_seeds is not None
        seeds = np.array([next_life(seed) for seed in self._life_seeds[which]], dtype=np.int64)
        self._begin(seeds, which, {})
        self._begin_pictures(which)

    def _check_seeds(self, seeds: int | Iterable[int | None] | None) -> NDArray[np.int64]:
        """One life seed per network from what a reset was given."""
        if isinstance(seeds, Integral) and not isinstance(seeds, bool):
            seeds = range(int(seeds), int(seeds) + self.num_envs)
        given = require_seeds(seeds, self.num_envs, "networks")
        if None in given:
            following = self._following_lives()
            given = [
                life if seed is None else seed for seed, life in zip(given, following, strict=True)
            ]
        return np.array(given, dtype=np.int64)

    def _following_lives(self) -> list[int]:
        """The lives that follow the present ones; drawn from entropy if there are none yet."""
        if self._life_seeds is None:
            rng = np.random.default_rng()
            return [int(rng.integers(2**62)) for _ in range(self.num_envs)]
        return [next_life(seed) for seed in self._life_seeds]

    def _check_action(self, actions: FloatArray) -> FloatArray:
        if self._life_seeds is None:
            raise RuntimeError("call reset() before step()")
        action = np.asarray(actions, dtype=np.float32)
        expected = self._action_shape
        if action.shape != expected:
            raise ValueError(f"actions have shape {action.shape}; make it {expected}")
        if not np.isfinite(action).all():
            raise ValueError("actions hold NaN or infinite values; make every credit finite")
        return action

    def _copy_observation(self) -> FloatArray:
        observation = np.array(self.task.observe().to("cpu", torch.float32).numpy(), order="C")
        if self.diverged.any():
            # The last look at a network that broke must still lie in the observation space.
            np.nan_to_num(observation, copy=False)
        return observation

    def _info(self, started: NDArray[np.bool_]) -> dict[str, Any]:
        """Metrics of all networks and the lives of those that have just started."""
        info = self._with_masks(self._metrics(), np.ones(self.num_envs, dtype=bool))
        if started.any():
            info |= self._with_masks(self.task.life_info(), started)
        return info

    def _final_info(self, ended: NDArray[np.bool_]) -> dict[str, Any]:
        over = self.updates >= self.num_updates
        info = self._with_masks(self._metrics(), ended)
        if over.any():
            final = {key: _to_numpy(value) for key, value in self.final_metrics().items()}
            info |= self._with_masks(final, ended & over)
        return info

    def _metrics(self) -> dict[str, NDArray[Any]]:
        metrics = self.metrics() | {"diverged": self.diverged}
        return {key: _to_numpy(value) for key, value in metrics.items()}

    @staticmethod
    def _with_masks(values: Mapping[str, Any], mask: NDArray[np.bool_]) -> dict[str, Any]:
        return {**values, **{f"_{key}": mask.copy() for key in values}}

    def close_extras(self, **kwargs: Any) -> None:
        """Free what the garbage collector would not; Gymnasium calls it once, in `close`."""
        self.task.close()

    # ------------------------------------------------------------------ pictures

    def _begin_pictures(self, which: NDArray[np.int64]) -> None:
        if self._histories:
            for network in which:
                self._histories[network].clear()
            self._remember(which, None)

    def _remember(self, which: NDArray[np.int64], actions: FloatArray | None) -> None:
        if not self._histories:
            return
        metrics, observation = self._metrics(), self.task.observe()
        for network in which:
            self._histories[network].append(
                {key: float(values[network]) for key, values in metrics.items()},
                observation[network].to("cpu", torch.float32).numpy().copy(),
                None if actions is None else actions[network],
            )

    @abstractmethod
    def draw(self, history: History) -> NDArray[np.uint8]:
        """An RGB image of the life of `history.network` so far."""

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Where each network is and how it got there: P RGB images, or None if off."""
        if not self._histories:
            gymnasium.logger.warn('render() draws only with render_mode="rgb_array"')
            return None
        if not all(history.metrics for history in self._histories):
            raise RuntimeError(
                "there is nothing to draw yet: call reset() before render(); "
                "reset_tensors() and step_tensors() record nothing"
            )
        return tuple(self.draw(history) for history in self._histories)


class CreditAssignEnv(KeywordHelp, gymnasium.Env[FloatArray, FloatArray]):
    """One bottom-up network being trained: a `CreditAssignVectorEnv` of one.

    Keyword arguments are those of the vector environment.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array"],
        "render_fps": 5,
    }
    # A subclass of CreditAssignVectorEnv; each has keyword arguments of its own.
    vector_class: ClassVar[type[Any]]

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        self.vector: CreditAssignVectorEnv = self.vector_class(
            num_envs=1, render_mode=render_mode, **kwargs
        )
        self.render_mode = render_mode
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self._over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Begin a new life; see the vector environment's `reset`."""
        super().reset(seed=seed)
        if seed is None and not self.vector.has_started:
            seed = int(self.np_random.integers(2**62))
        observation, info = self.vector.reset(seed=[seed], options=options)
        self._over = False
        return observation[0], _of_first(info)

    def step(
        self, action: FloatArray
    ) -> tuple[FloatArray, SupportsFloat, bool, bool, dict[str, Any]]:
        """One local update; see the vector environment's `step`."""
        if np.shape(action) != self.action_space.shape:
            raise ValueError(
                f"the action has shape {np.shape(action)}; make it {self.action_space.shape}"
            )
        if self._over and self.vector.has_started:
            raise RuntimeError("this life is over: call reset() before the next step()")
        observation, reward, self._over, info = self.vector.step_first(np.asarray(action)[None])
        return observation, reward, self._over, False, info

    def close(self) -> None:
        """Free what the garbage collector would not."""
        self.vector.close()

    def render(self) -> NDArray[np.uint8] | None:
        """Where the network is and how it got there, as one RGB image."""
        frames = self.vector.render()
        return None if frames is None else frames[0]


def next_life(seed: int) -> int:
    """The life that follows a life when no seed is given."""
    return int(np.random.SeedSequence(int(seed)).generate_state(1, np.uint64)[0] >> 2)


def _of_first(info: Mapping[str, Any]) -> dict[str, Any]:
    """A vector environment's info as a scalar environment's: the first row, in Python types."""
    first = {key: value[0] for key, value in info.items() if not key.startswith("_")}
    return {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in first.items()
        if info[f"_{key}"][0]
    }


def _to_numpy(values: Tensor) -> NDArray[Any]:
    return values.to("cpu").numpy().copy()
