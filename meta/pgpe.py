"""PGPE: evolving top-down networks by parameter-exploring policy gradients.

Sehnke et al., "Parameter-exploring policy gradients", Neural Networks 23 (2010), with symmetric
sampling; TDCA, supplement, Eq. 3–7.
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib import import_module
from math import ceil
from types import ModuleType
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents import TopDownPolicy, VectorEnvAdapter
from credit_envs import CreditAssignVectorEnv
from credit_envs.checks import (
    require_at_least,
    require_fraction,
    require_not_negative,
    require_one_of,
    require_positive,
    require_share,
)
from meta.optimizers import CenterOptimizerName, make_center_optimizer
from meta.outer_loop import OuterLoop, ids_of
from meta.population import Evaluator, EvaluatorSettings, Generation
from meta.workers import EvaluatorPool, local_pool

TaskFitness = Literal["mean", "worst", "ranks"]


JUDGED_BY = 10
"""Generations whose mean fitness tells how good a start is, fewer where a start has fewer."""


class _Start(NamedTuple):
    """Where a start of evolution has come to."""

    fitness: float
    beta: Tensor
    stdev: Tensor
    optimizer: dict[str, Any]


class PGPE(OuterLoop):
    """Evolves the parameters β of a top-down network so that what it trains learns well.

    Each generation places antithetic pairs of candidates β ± σε around the centre (Eq. 3). Every
    candidate trains fresh bottom-up networks for a whole life, all of them on the same lives, and
    its fitness is minus their final loss. Fitnesses are replaced by centred ranks u in
    [−½, ½], the centre follows the estimated gradient (Eq. 7)

        ∇β = 1/σ · mean_i( ε_i · (u_i⁺ − u_i⁻)/2 )

    through an optimiser, and σ follows (Sehnke et al., Eq. 12)

        ∇σ = mean_i( (ε_i² − 1) · σ · (u_i⁺ + u_i⁻)/2 ).

    One "timestep" is one update of one bottom-up network; `learn(total_timesteps)` counts those
    of all candidates and stops after the generation that reaches the number. One generation is
    one call of a callback's `on_step`.

    Args:
        policy: `TDCAPolicy`, `TDCARNNPolicy`, one of their names, or a `TopDownPolicy` subclass.
        env: an environment id, from which a vector environment is made, or such an environment;
            or several ids, in all of which every candidate lives (TDCA, Table S2, "All").
        env_kwargs: keyword arguments of the environment, if an id is given; for several ids the
            same for all, or a sequence with those of each.
        policy_kwargs: keyword arguments of the policy.
        population_size: candidates per generation; even.
        lives: lives each candidate is tried on in each environment, dealt to its tasks in turn; at
            least as many as it has tasks.
        resample_lives: draw new lives every generation; otherwise always the same.
        task_fitness: over several tasks or environments, fitness is the "mean" or that of the
            "worst"; or candidates are compared by the mean of their "ranks" in each, so that
            tasks count alike whatever the scale of their losses.
        worst_lives: share of each task's lives that count, the worst of them; 1.0 counts all. Less
            leads out of rules that serve most lives well and the others not at all.
        stdev_init: initial standard deviation σ of every parameter.
        stdev_learning_rate: rate of σ's adaptation; 0 keeps it fixed.
        stdev_max_change: most that σ changes in a generation, as a fraction of it below 1.
        center_learning_rate: step size of the centre's optimiser.
        optimizer: of the centre: "adam", "sgd" (momentum 0.9) or "clipup".
        anneal_over: number of generations over which centre rate and σ fall linearly; None: never.
        anneal_to: fraction of themselves to which they fall, above 0.
        starts: random starts of evolution, each tried for `generations_per_start`; it goes on from
            the one with the best mean fitness in its last `JUDGED_BY` generations. Where there
            are local optima, a bad one is left so. Each start anneals from the beginning. Learning
            that would end before it goes on from the best is refused; if a callback stops it
            before, the policy is that of the start it was at.
        generations_per_start: see there.
        chunk_size: candidates evaluated at once, whatever the number of processes; None: 16,
            fewer of many samples, all on a GPU. An environment that is given decides itself.
        n_workers: processes that share the work, at most one for each chunk; 0: none but this, or
            with `ray` one for each CPU of the cluster. Results are the same.
        ray: address of a Ray cluster whose actors share the work instead of processes; "auto": one
            that is running, or else one that is started here (needs the extra `ray`; see
            `meta.ray_workers.RayWorkerPool`).
        chunk_timeout: seconds after which a worker that has not finished its chunk is replaced and
            the chunk evaluated again; None: ten times those of the slowest so far, at least 60.
        seed: of everything drawn; None draws one.
        device: where the networks live; workers need "cpu".
        tensorboard_log: folder for TensorBoard; None: no log.
        verbose: 1 prints what is logged.

    Attributes:
        policy: the policy whose parameters are the centre.
        stdev: σ, shape `(d,)`.
        generation: generations done.
        seconds: that they took.
        history: per generation the mean, best and standard deviation of fitness.
    """

    def __init__(
        self,
        policy: str | type[TopDownPolicy],
        env: str | Sequence[str] | CreditAssignVectorEnv | VectorEnvAdapter | None,
        env_kwargs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        *,
        population_size: int = 64,
        lives: int = 1,
        resample_lives: bool = True,
        task_fitness: TaskFitness = "mean",
        worst_lives: float = 1.0,
        stdev_init: float = 0.1,
        stdev_learning_rate: float = 0.1,
        stdev_max_change: float = 0.2,
        center_learning_rate: float = 0.05,
        optimizer: CenterOptimizerName = "adam",
        anneal_over: int | None = None,
        anneal_to: float = 0.1,
        starts: int = 1,
        generations_per_start: int = 60,
        chunk_size: int | None = None,
        n_workers: int = 0,
        ray: str | None = None,
        chunk_timeout: float | None = None,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        tensorboard_log: str | None = None,
        verbose: int = 0,
        _init_setup_model: bool = True,
    ) -> None:
        require_at_least("population_size", population_size, 2)
        if population_size % 2:
            raise ValueError(
                f"population_size={population_size} must be even: candidates come in pairs"
            )
        require_one_of("task_fitness", task_fitness, get_args(TaskFitness))
        require_share("worst_lives", worst_lives)
        require_positive("stdev_init", stdev_init)
        require_not_negative("stdev_learning_rate", stdev_learning_rate)
        require_fraction("stdev_max_change", stdev_max_change)
        require_positive("center_learning_rate", center_learning_rate)
        # Of σ = 0 there is no gradient.
        require_share("anneal_to", anneal_to)
        require_one_of("optimizer", optimizer, get_args(CenterOptimizerName))
        require_at_least("n_workers", n_workers, 0)
        if anneal_over is not None:
            require_at_least("anneal_over", anneal_over, 1)
        require_at_least("starts", starts, 1)
        require_at_least("generations_per_start", generations_per_start, 1)
        if anneal_over is not None and anneal_over <= _taken_by(starts, generations_per_start):
            raise ValueError(
                f"anneal_over={anneal_over} leaves no generation after starts={starts} of "
                f"generations_per_start={generations_per_start}: make it "
                f"{_taken_by(starts, generations_per_start) + 1} or more, or take fewer starts"
            )
        if chunk_size is not None:
            require_at_least("chunk_size", chunk_size, 1)
        if chunk_timeout is not None:
            require_positive("chunk_timeout", chunk_timeout)
        if ray is not None:
            ray_workers()
        if isinstance(env, CreditAssignVectorEnv):
            env = VectorEnvAdapter(env)
        given = env if isinstance(env, VectorEnvAdapter) else None
        if given and (n_workers or ray):
            raise ValueError("worker processes make their own environments: give an id as env")
        if given and env_kwargs:
            raise ValueError(
                f"env_kwargs={env_kwargs!r} are for environments made by their ids: make the one "
                "that is given with them, or give an id as env"
            )
        super().__init__(
            policy,
            given,
            () if given or env is None else ids_of(env),
            env_kwargs,
            learning_rate=center_learning_rate,
            policy_kwargs=policy_kwargs,
            lives=lives,
            resample_lives=resample_lives,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
        )
        if (n_workers or ray) and self.device.type != "cpu":
            raise ValueError(
                f"workers are processors, and device={str(device)!r} is none: leave out n_workers "
                'and ray, or take device="cpu"'
            )
        self.population_size = population_size
        self.task_fitness: TaskFitness = task_fitness
        self.worst_lives = worst_lives
        self.stdev_init = stdev_init
        self.stdev_learning_rate = stdev_learning_rate
        self.stdev_max_change = stdev_max_change
        self.center_learning_rate = center_learning_rate
        self.optimizer_name: CenterOptimizerName = optimizer
        self.anneal_over = anneal_over
        self.anneal_to = anneal_to
        self.starts = starts
        self.generations_per_start = generations_per_start
        self._best_start: _Start | None = None
        self.chunk_size = chunk_size
        self.n_workers = n_workers
        self.ray = ray
        self.chunk_timeout = chunk_timeout
        self._pool: EvaluatorPool | None = None
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._require_environment()
        given = self.env.env if isinstance(self.env, VectorEnvAdapter) else None
        assert self.seed is not None
        assert isinstance(given, CreditAssignVectorEnv | None)
        settings = self._evaluator_settings()
        self._evaluator = Evaluator(settings, env=given)
        self.policy = self._evaluator.policy
        self._take_spaces(self._evaluator.envs[0])
        self._begin_anew(self.seed)

    def _begin_anew(self, seed: int) -> None:
        """The search distribution at its start."""
        self.policy.initialise(torch.Generator().manual_seed(seed))
        self.stdev = torch.full_like(self.policy.beta.data, self.stdev_init)
        self.optimizer = make_center_optimizer(
            self.optimizer_name, self.policy.beta, self.center_learning_rate
        )

    def _evaluator_settings(self) -> EvaluatorSettings:
        assert issubclass(self.policy_class, TopDownPolicy)
        device = {} if str(self.device) == "cpu" else {"device": str(self.device)}
        return EvaluatorSettings(
            env_ids=tuple(self.env_ids),
            env_kwargs=tuple({**device, **kwargs} for kwargs in self.env_kwargs),
            policy_class=self.policy_class,
            policy_kwargs=self.policy_kwargs,
            population_size=self.population_size,
            lives=self.lives,
            chunk_size=self.chunk_size,
        )

    # ------------------------------------------------------------------ learning

    @property
    def timesteps_per_generation(self) -> int:
        """Updates of bottom-up networks in one generation."""
        return self.population_size * self.lives * self._evaluator.num_updates

    @property
    def fewest_generations(self) -> int:
        """Generations until the first that goes on from the best start."""
        return _taken_by(self.starts, self.generations_per_start) + 1

    def _check_end(self, generation: int) -> None:
        # The centre is that of the last start, whose end nobody has compared with the others'.
        if generation < self.fewest_generations:
            raise ValueError(
                f"learning would end after generation {generation}, and go on from the best of "
                f"{self.starts} starts in generation {self.fewest_generations}: learn for as many "
                f"× timesteps_per_generation ({self.timesteps_per_generation}), or take fewer "
                "starts"
            )

    def _begin(self) -> None:
        settings = self._evaluator_settings()
        if self.ray is not None:
            pool = ray_workers().RayWorkerPool
            self._pool = pool(settings, self.n_workers, self.ray, self.chunk_timeout)
        elif self.n_workers:
            self._pool = local_pool(settings, self.n_workers, self.chunk_timeout)

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _advance(self) -> NDArray[np.float64]:
        """One generation: place candidates, train with them, move the centre and σ."""
        started = time.perf_counter()
        self._change_starts()
        generation = self._next_generation()
        num_chunks = self._evaluator.num_chunks
        if self._pool is None:
            chunks = [self._evaluator.losses(generation, chunk) for chunk in range(num_chunks)]
        else:
            chunks = self._pool.map(generation, range(num_chunks), _warn)
        losses = np.concatenate(chunks)
        by_task = self._by_task(losses, self._evaluator.tasks)
        fitness = self._fitness(by_task)
        self._update(generation, mean_ranks(by_task) if self.task_fitness == "ranks" else fitness)
        self._log(time.perf_counter() - started)
        return fitness

    def _next_generation(self) -> Generation:
        assert self.seed is not None
        return Generation(
            center=self.policy.beta.detach().cpu().clone(),
            stdev=self._annealing() * self.stdev.cpu(),
            noise_seed=(self.seed, 0, self.generation),
            num_directions=self.population_size // 2,
            life_seeds=self.life_seeds,
        )

    def _change_starts(self) -> None:
        """When a start has been tried for long enough, begin the next, or go on from the best."""
        tried, rest = divmod(self.generation, self.generations_per_start)
        if self.starts == 1 or rest or not 0 < tried <= self.starts:
            return
        judged = self.history[-min(JUDGED_BY, self.generations_per_start) :]
        fitness = float(np.mean([mean for mean, *_ in judged]))
        if self._best_start is None or fitness > self._best_start.fitness:
            beta = self.policy.beta.detach().clone()
            optimizer = deepcopy(self.optimizer.state_dict())
            self._best_start = _Start(fitness, beta, self.stdev.clone(), optimizer)
        if tried < self.starts:
            assert self.seed is not None
            self._begin_anew(
                int(np.random.SeedSequence([self.seed, 2, tried]).generate_state(1)[0])
            )
            return
        best, self._best_start = self._best_start, None
        self.policy.beta.data.copy_(best.beta)
        self.stdev = best.stdev
        self.optimizer.load_state_dict(best.optimizer)

    def _annealing(self) -> float:
        if self.anneal_over is None:
            return 1.0
        # The starts but one are no part of the way from the beginning to the end.
        tried = min(self.generation // self.generations_per_start, self.starts - 1)
        age = self.generation - tried * self.generations_per_start
        span = self.anneal_over - (self.starts - 1) * self.generations_per_start
        return 1.0 + (self.anneal_to - 1.0) * min(age / span, 1.0)

    def _by_task(
        self, losses: NDArray[np.float64], tasks: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.float64]:
        """Fitness `(tasks, candidates)`, those of the first environment first.

        Args:
            losses: `(candidates, environments · lives)`.
            tasks: of each environment, the index of each life's task, `(lives,)`.
        """
        of_each = np.split(-losses, len(tasks), axis=1)
        return np.stack(
            [
                self._of_lives(fitness[:, dealt == task])
                for fitness, dealt in zip(of_each, tasks, strict=True)
                for task in np.unique(dealt)
            ]
        )

    def _fitness(self, by_task: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fitness of each candidate from that in each task, `(tasks, candidates)`."""
        worst = self.task_fitness == "worst"
        fitness: NDArray[np.float64] = by_task.min(0) if worst else by_task.mean(0)
        return fitness

    def _of_lives(self, fitness: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fitness of each candidate in one task from that of each life, `(candidates, lives)`."""
        count = ceil(self.worst_lives * fitness.shape[1])
        worst: NDArray[np.float64] = np.sort(fitness, axis=1)[:, :count].mean(1)
        return worst

    def _update(self, generation: Generation, fitness: NDArray[np.float64]) -> None:
        utility = torch.from_numpy(centred_ranks(fitness)).float()
        directions = generation.directions()
        plus, minus = utility.chunk(2)
        stdev = generation.stdev
        center_gradient = (directions * ((plus - minus) / 2)[:, None]).mean(0) / stdev
        stdev_gradient = ((directions**2 - 1) * ((plus + minus) / 2)[:, None]).mean(0) * stdev

        for group in self.optimizer.param_groups:
            group["lr"] = self._annealing() * self.center_learning_rate
        self.policy.beta.grad = -center_gradient.to(self.policy.beta)
        self.optimizer.step()
        limit = self.stdev_max_change * self.stdev
        change = (self.stdev_learning_rate * stdev_gradient).to(self.stdev)
        self.stdev = self.stdev + change.clamp(-limit, limit)
        if not self.policy.beta.isfinite().all():
            raise FloatingPointError(
                f"parameters are not finite after generation {self.generation + 1}: take a smaller "
                "center_learning_rate or stdev_learning_rate"
            )

    def _log(self, seconds: float) -> None:
        record = self.logger.record
        record("pgpe/center_norm", self.policy.beta.detach().norm().item())
        record("pgpe/stdev", self._annealing() * self.stdev.mean().item())
        record("time/candidates_per_second", self.population_size / seconds)

    # ------------------------------------------------------------------ saving

    def _excluded_save_params(self) -> list[str]:
        derived = ["_evaluator", "_pool", "optimizer", "stdev"]
        return [*super()._excluded_save_params(), *derived]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "optimizer"], ["stdev"]


def _taken_by(starts: int, generations_per_start: int) -> int:
    """Generations in which starts are tried; a single one goes on anyway."""
    return starts * generations_per_start if starts > 1 else 0


def ray_workers() -> ModuleType:
    """The module that needs Ray, which is optional and slow to import."""
    return import_module("meta.ray_workers")


def _warn(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=2)


def centred_ranks(fitness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from −½ (worst) to ½ (best); equal fitnesses share the mean of their ranks."""
    _, inverse, counts = np.unique(fitness, return_inverse=True, return_counts=True)
    last = counts.cumsum() - 1
    mean_rank = last - (counts - 1) / 2
    return mean_rank[inverse] / (len(fitness) - 1) - 0.5


def mean_ranks(by_task: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each candidate's centred ranks in all tasks, from fitness `(tasks, candidates)`."""
    ranks: NDArray[np.float64] = np.stack([centred_ranks(task) for task in by_task]).mean(0)
    return ranks
