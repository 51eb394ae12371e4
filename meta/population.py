"""Evaluating a population: every candidate top-down network trains networks of its own.

All candidates of a generation meet the same lives (common random numbers). They are evaluated in
chunks of a fixed size, whoever evaluates them, so that results do not depend on how the chunks
are spread over processes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from agents import TopDownPolicy
from credit_envs import CreditAssignVectorEnv
from meta.environment import make_credit_env

# Enough candidates to fill the processor, few enough that their tensors stay in its cache.
_CANDIDATES_AT_ONCE = 16
_SAMPLES_AT_ONCE = 16_000


@dataclass(frozen=True)
class Generation:
    """All that defines the candidates of one generation and the lives they meet.

    Attributes:
        center: mean of the search distribution, shape `(d,)`.
        stdev: its standard deviations, shape `(d,)`.
        noise_seed: of the directions in which candidates are placed.
        num_directions: antithetic pairs; there are twice as many candidates.
        life_seeds: the lives, the same in every environment.
    """

    center: Tensor
    stdev: Tensor
    noise_seed: tuple[int, ...]
    num_directions: int
    life_seeds: tuple[int, ...]

    def directions(self) -> Tensor:
        """Standard normal directions ε, shape `(num_directions, d)`, the same wherever drawn."""
        rng = np.random.default_rng(self.noise_seed)
        size = (self.num_directions, len(self.center))
        return torch.from_numpy(rng.standard_normal(size, dtype=np.float32))

    def candidates(self) -> Tensor:
        """Parameters `(2·num_directions, d)`: center + σε for all pairs, then center − σε."""
        steps = self.stdev * self.directions()
        return torch.cat([self.center + steps, self.center - steps])


@dataclass(frozen=True)
class EvaluatorSettings:
    """What a process needs to evaluate candidates on its own."""

    env_ids: tuple[str, ...]
    env_kwargs: tuple[Mapping[str, Any], ...]
    policy_class: type[TopDownPolicy]
    policy_kwargs: Mapping[str, Any]
    population_size: int
    lives: int
    chunk_size: int | None


class Evaluator:
    """Trains networks with candidates, a chunk of them at a time.

    Args:
        settings: environments, policy and sizes.
        env: a vector environment to use instead of making any.

    Raises:
        ValueError: an environment has more tasks than lives, so that some would never be met.

    Attributes:
        envs: one per environment id, each for a chunk of candidates.
        tasks: of each environment, the index of the task of each life, `(lives,)`.
        policy: made for the first of them.
    """

    def __init__(
        self,
        settings: EvaluatorSettings,
        env: CreditAssignVectorEnv | None = None,
    ) -> None:
        self.lives = settings.lives
        self.envs = [env] if env is not None else make_envs(settings)
        self.tasks = [dealt_tasks(env, self.lives) for env in self.envs]
        self.chunk_size, *others = {self._candidates_in(env) for env in self.envs}
        assert not others
        self.num_chunks = -(-settings.population_size // self.chunk_size)
        first = self.envs[0]
        self.policy = settings.policy_class(
            first.single_observation_space,
            first.single_action_space,  # type: ignore[arg-type]
            **settings.policy_kwargs,
        )
        self.policy.to(first.task.device)

    @property
    def num_updates(self) -> int:
        """Updates that a candidate makes in one life in each environment."""
        return sum(env.num_updates for env in self.envs)

    def _candidates_in(self, env: CreditAssignVectorEnv) -> int:
        together = env.task.lives_together
        if together and env.num_envs % self.lives:
            raise ValueError(
                f"the vector environment has {env.num_envs} networks, which is no multiple "
                f"of lives={self.lives}; make it with a multiple of {self.lives}"
            )
        return env.num_envs // self.lives if together else env.num_envs

    @torch.no_grad()
    def losses(self, generation: Generation, chunk: int) -> NDArray[np.float64]:
        """Loss after the last update of each candidate of a chunk in each life.

        Shape `(c, environments · lives)`, all lives of the first environment first.
        """
        candidates = generation.candidates()
        mine = candidates[chunk * self.chunk_size : (chunk + 1) * self.chunk_size]
        # A short last chunk is filled up, for the environment has a fixed number of networks.
        padded = torch.cat([mine, mine[-1:].expand(self.chunk_size - len(mine), -1)])
        beta = padded.to(self.envs[0].task.device)
        places = zip(self.envs, self.tasks, strict=True)
        seeds = list(generation.life_seeds)
        losses = torch.cat(
            [self._losses_in(env, beta, seeds, tasks.tolist()) for env, tasks in places], dim=1
        )
        return losses[: len(mine)].cpu().numpy().astype(np.float64)

    def _losses_in(
        self, env: CreditAssignVectorEnv, beta: Tensor, seeds: list[int], tasks: list[int]
    ) -> Tensor:
        self.policy.attach(env)
        if env.task.lives_together:
            return self._train(env, beta, seeds, tasks)
        lives = zip(seeds, tasks, strict=True)
        return torch.cat([self._train(env, beta, [seed], [task]) for seed, task in lives], dim=1)

    def _train(
        self, env: CreditAssignVectorEnv, beta: Tensor, seeds: list[int], tasks: list[int]
    ) -> Tensor:
        """Final losses `(c, len(seeds))` of each candidate in each of these lives."""
        options = {}
        if len(env.task.task_names) > 1:
            options["task"] = np.array(tasks * len(beta))
        observation = env.reset_tensors(seeds * len(beta), **options)
        for _ in range(env.num_updates):
            observation = env.step_tensors(self.policy.act(observation, beta)).observation
        return env.loss.view(len(beta), len(seeds))


def dealt_tasks(env: CreditAssignVectorEnv, lives: int) -> NDArray[np.int64]:
    """The index of the task of each life in an environment, `(lives,)`: its tasks in turn.

    Raises:
        ValueError: there are more tasks than lives.
    """
    names = env.task.task_names
    if lives < len(names):
        raise ValueError(
            f"lives={lives} would never meet some of the {len(names)} tasks ({'; '.join(names)}): "
            f"ask for lives={len(names)} or more"
        )
    return np.arange(lives) % len(names)


def make_envs(settings: EvaluatorSettings) -> list[CreditAssignVectorEnv]:
    """The vector environments for a chunk of candidates.

    Raises:
        ValueError: their rows have not the same columns, so that no one network fits all.
    """
    kinds = [
        (env_id, {"reward": "final", **kwargs})
        for env_id, kwargs in zip(settings.env_ids, settings.env_kwargs, strict=True)
    ]
    probes = [make_credit_env(env_id, 1, kwargs) for env_id, kwargs in kinds]
    rows, on_gpu = max(map(_rows, probes)), probes[0].task.device.type != "cpu"
    chunk_size = settings.chunk_size or usual_chunk_size(settings.population_size, rows, on_gpu)
    chunk_size = min(chunk_size, settings.population_size)
    envs = [
        make_credit_env(
            env_id, chunk_size * (settings.lives if probe.task.lives_together else 1), kwargs
        )
        for (env_id, kwargs), probe in zip(kinds, probes, strict=True)
    ]
    check_columns(settings.policy_class, settings.env_ids, envs)
    return envs


def check_columns(
    policy_class: type[BasePolicy], env_ids: Sequence[str], envs: Sequence[CreditAssignVectorEnv]
) -> None:
    """One top-down network must fit all of these environments.

    Raises:
        ValueError: their rows have not the same columns.
    """
    if issubclass(policy_class, TopDownPolicy) and policy_class.any_columns:
        return
    columns = [_columns(env) for env in envs]
    if len(set(columns)) > 1:
        by_id = dict(zip(env_ids, columns, strict=True))
        raise ValueError(
            "one top-down network serves environments whose observations and actions have rows "
            f"of the same length only, not {by_id}; choose others, or their hidden_sizes"
        )


def _columns(env: CreditAssignVectorEnv) -> tuple[int, int]:
    """Length of a row of the observation and of the action."""
    assert env.single_observation_space.shape
    assert env.single_action_space.shape
    return env.single_observation_space.shape[-1], env.single_action_space.shape[-1]


def _rows(env: CreditAssignVectorEnv) -> int:
    """Samples that each candidate holds; few matter where lives go together."""
    shape = env.single_observation_space.shape or ()
    return 1 if env.task.lives_together else prod(shape[:-1])


def usual_chunk_size(population_size: int, rows: int, on_gpu: bool = False) -> int:
    """All on a GPU; else at most 16, fewer of many samples, in chunks of one size.

    An even number of chunks, so that two processes share them.

    Args:
        population_size: candidates.
        rows: samples that each holds.
        on_gpu: where memory is wide and small chunks would leave it idle.
    """
    if on_gpu:
        return population_size
    at_once = min(max(_SAMPLES_AT_ONCE // rows, 1), _CANDIDATES_AT_ONCE)
    chunks = -(-population_size // at_once)
    chunks += chunks % 2 if chunks > 1 else 0
    return -(-population_size // chunks)
