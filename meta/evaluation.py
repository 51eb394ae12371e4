"""Evaluating a policy on fresh lives, with the controls that show why it works."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents import CreditPolicy, TopDownPolicy
from agents.rules import FeedbackRulePolicy
from credit_envs import CreditAssignVectorEnv
from credit_envs.checks import require_one_of
from meta.environment import make_credit_env
from meta.spread import sample_std

Condition = Literal["normal", "constant", "shuffled", "frozen"]
CONDITIONS: tuple[Condition, ...] = ("normal", "constant", "shuffled", "frozen")


@dataclass(frozen=True)
class Curves:
    """How the networks of one condition did.

    Attributes:
        per_update: each metric from update 0 on, `(lives, num_updates + 1)`.
        final: metrics of the last update alone, such as test accuracy, `(lives,)`.
    """

    per_update: Mapping[str, NDArray[np.float64]]
    final: Mapping[str, NDArray[np.float64]]

    def of(self, lives: NDArray[np.bool_]) -> "Curves":
        """The same of some of the lives, a mask `(lives,)`."""
        return Curves(
            {name: values[lives] for name, values in self.per_update.items()},
            {name: values[lives] for name, values in self.final.items()},
        )

    def last(self, metric: str) -> NDArray[np.float64]:
        """A metric after the last update, `(lives,)`."""
        return self.final[metric] if metric in self.final else self.per_update[metric][:, -1]


@dataclass(frozen=True)
class Evaluation:
    """Curves under each condition, on the same lives.

    Attributes:
        env_id: where.
        seeds: the lives.
        tasks: task index of each life.
        conditions: curves by condition.
    """

    env_id: str
    seeds: tuple[int, ...]
    tasks: NDArray[np.int64]
    conditions: Mapping[Condition, Curves] = field(repr=False)

    def of_task(self, task: int) -> "Evaluation":
        """The same of the lives in one task alone."""
        mine = self.tasks == task
        seeds = tuple(seed for seed, own in zip(self.seeds, mine, strict=True) if own)
        conditions = {name: curves.of(mine) for name, curves in self.conditions.items()}
        return Evaluation(self.env_id, seeds, self.tasks[mine], conditions)

    def to_json(self) -> dict[str, Any]:
        """Mean and standard deviation over lives of every metric, for results files."""
        return {
            condition: {
                metric: {
                    "mean": curve.mean(0).round(6).tolist(),
                    "std": sample_std(curve, 0).round(6).tolist(),
                }
                for metric, curve in {**curves.per_update, **curves.final}.items()
            }
            for condition, curves in self.conditions.items()
        }


@torch.no_grad()
def evaluate(
    policy: CreditPolicy,
    env_id: str,
    seeds: Sequence[int],
    env_kwargs: Mapping[str, Any] | None = None,
    conditions: Sequence[Condition] = CONDITIONS,
    options: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Train a network in each of the given lives with the policy's credits.

    The controls tell adaptation from drift. They change the credits on their way to the networks:

    - "normal": each network gets its own credits;
    - "constant": all get the mean of the credits over lives, so that nothing depends on the life;
    - "shuffled": each gets those of another life, drawn anew at every update;
    - "frozen": none.

    Where observations name the task, the mean is over the lives of a task, and the exchange among
    them: constant credits then know the task, and nothing else of the life.

    A network that is no longer finite counts as one that guesses, as in `info`.

    Args:
        policy: chooses the credits.
        env_id: of the environment.
        seeds: lives, at least two; give lives that the outer loop has not seen.
        env_kwargs: of the environment.
        conditions: which of the four to run.
        options: reset options; by default lives are dealt to the tasks in turn.

    Returns:
        Curves per update with every life apart.

    Raises:
        ValueError: an unknown condition; fewer than two lives (of a task, where it is named) for a
            control that mixes them; another kind of environment, or a policy that does not fit it.
    """
    for condition in conditions:
        require_one_of("condition", condition, CONDITIONS)
    # Nobody is paid here, and every update is measured.
    env = make_credit_env(env_id, len(seeds), {**(env_kwargs or {}), "reward": "progress"})
    _check_network(policy, env, env_id)
    policy.attach(env)
    reset_options: dict[str, Any] = dict(options or {})
    num_tasks = len(env.task.task_names)
    if num_tasks > 1:
        reset_options.setdefault("task", np.arange(len(seeds)) % num_tasks)
    tasks = np.broadcast_to(np.asarray(reset_options.get("task", 0)), len(seeds)).astype(np.int64)
    alike = tasks % (env.task.num_ids or 1)
    fewest = np.unique(alike, return_counts=True)[1].min()
    if fewest < 2 and {"constant", "shuffled"} & set(conditions):
        raise ValueError(
            "the constant and shuffled controls mix lives: give at least two seeds"
            + (" for each task" if env.task.num_ids else "")
        )
    curves = {
        condition: _run(policy, env, seeds, reset_options, condition, alike)
        for condition in conditions
    }
    return Evaluation(env_id, tuple(int(seed) for seed in seeds), tasks, curves)


def _run(
    policy: CreditPolicy,
    env: CreditAssignVectorEnv,
    seeds: Sequence[int],
    options: Mapping[str, Any],
    condition: Condition,
    alike: NDArray[np.int64],
) -> Curves:
    shuffle = np.random.default_rng(len(seeds))
    observation = env.reset_tensors(seeds, **options)
    metrics = [env.metrics()]
    for _ in range(env.num_updates):
        action = policy.act(observation)
        _check_action(action, observation, policy, env)
        observation = env.step_tensors(_control(action, condition, shuffle, alike)).observation
        metrics.append(env.metrics())
    per_update = {
        name: torch.stack([moment[name] for moment in metrics], dim=1).cpu().numpy().astype(float)
        for name in metrics[0]
    }
    final = {
        name: value.cpu().numpy().astype(np.float64) for name, value in env.final_metrics().items()
    }
    return Curves(per_update, final)


def _check_network(policy: CreditPolicy, env: CreditAssignVectorEnv, env_id: str) -> None:
    """Raise ValueError if a top-down network was made for rows of other columns."""
    if not isinstance(policy, TopDownPolicy) or policy.any_columns:
        return
    made_for = policy.observation_space.shape or (), policy.action_space.shape or ()
    here = env.single_observation_space.shape or (), env.single_action_space.shape or ()
    if [(len(shape), shape[-1]) for shape in made_for] != [
        (len(shape), shape[-1]) for shape in here
    ]:
        raise ValueError(
            f"the top-down network was made for observations of shape {made_for[0]} and actions of "
            f"shape {made_for[1]}, and {env_id} has {here[0]} and {here[1]}; evaluate it where it "
            "was trained, or with the same hidden_sizes"
        )


def _check_action(
    action: Tensor, observation: Tensor, policy: CreditPolicy, env: CreditAssignVectorEnv
) -> None:
    """Raise ValueError if these are no credits for all networks, which PyTorch might stretch."""
    expected, shape = env.action_space.shape or (), tuple(action.shape)
    # Feedback to a convolution has a credit for every position.
    any_number = isinstance(policy, FeedbackRulePolicy)
    fits = len(shape) == len(expected) and shape[:-1] == expected[:-1]
    fits = fits and (any_number or shape[-1] == expected[-1])
    if not fits or action.dtype != observation.dtype:
        raise ValueError(
            f"{type(policy).__name__}.act gave {action.dtype} of shape {shape}; make it "
            f"{observation.dtype} of shape {expected}, a first row for each network"
        )


def _control(
    action: Tensor, condition: Condition, shuffle: np.random.Generator, alike: NDArray[np.int64]
) -> Tensor:
    """The credits that reach the networks under a condition; lives with equal `alike` may mix."""
    if condition == "normal":
        return action
    controlled = torch.zeros_like(action)
    if condition == "frozen":
        return controlled
    for group in np.unique(alike):
        lives = torch.from_numpy(np.flatnonzero(alike == group))
        if condition == "constant":
            controlled[lives] = action[lives].mean(0)
        else:
            # A cycle through all lives in random order: nobody keeps their own.
            order = lives[torch.from_numpy(shuffle.permutation(len(lives)))]
            controlled[order] = action[order.roll(1)]
    return controlled
