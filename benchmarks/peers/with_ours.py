"""The contender `meta.PGPE`."""

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from agents import TDCAPolicy
from benchmarks.common.reference_inner_loop import standardise
from benchmarks.peers.problem import (
    CENTER_LEARNING_RATE,
    LEARNING_RATE,
    MAX_CREDIT,
    MAX_GRAD_NORM,
    SEED,
    STDEV_INIT,
    STDEV_LEARNING_RATE,
    STDEV_MAX_CHANGE,
    Problem,
    random_betas,
)
from benchmarks.peers.turns import Precision, Turns
from credit_envs.datasets import Dataset, load
from credit_envs.tasks import ClassificationTask
from credit_envs.tasks.classification import TrainingSettings
from meta import PGPE


def make_problem(
    dataset: Dataset, num_samples: int, num_updates: int, population_size: int, num_checked: int
) -> Problem:
    """The life that `meta.PGPE` meets in every generation of the race."""
    model = make_model(num_samples, num_updates, population_size, 0)
    task = make_task(dataset, num_samples, 1, torch.float64)
    task.start(np.array(model.life_seeds), None, {})
    indices = task.sample_indices[0]
    return Problem(
        x=standardise(dataset, dataset.x_train[indices]),
        labels=dataset.y_train[indices].astype(np.int64),
        betas=random_betas(num_checked),
        num_updates=num_updates,
        population_size=population_size,
    )


def make_model(num_samples: int, num_updates: int, population_size: int, n_workers: int) -> PGPE:
    """Ready to evolve, always in the same life."""
    return PGPE(
        "TDCAPolicy",
        "CreditAssign-MNIST-v0",
        env_kwargs={
            "num_samples": num_samples,
            "num_updates": num_updates,
            "init": "zero",
            "optimizer": "adam",
            "learning_rate": LEARNING_RATE,
            "max_grad_norm": MAX_GRAD_NORM,
            "credit_scale": MAX_CREDIT,
            "evaluate_test": False,
        },
        population_size=population_size,
        resample_lives=False,
        stdev_init=STDEV_INIT,
        stdev_learning_rate=STDEV_LEARNING_RATE,
        stdev_max_change=STDEV_MAX_CHANGE,
        center_learning_rate=CENTER_LEARNING_RATE,
        optimizer="adam",
        n_workers=n_workers,
        seed=SEED,
    )


def make_task(
    dataset: Dataset, num_samples: int, num_networks: int, dtype: torch.dtype
) -> ClassificationTask:
    """What `CreditAssign-MNIST-v0` is made of, in any precision."""
    settings = TrainingSettings(
        num_samples=num_samples,
        init="zero",
        optimizer="adam",
        learning_rate=LEARNING_RATE,
        max_grad_norm=MAX_GRAD_NORM,
    )
    return ClassificationTask(dataset, settings, num_networks, torch.device("cpu"), dtype)


@torch.no_grad()
def losses(problem: Problem, precision: Precision) -> NDArray[np.float64]:
    """Final losses of the problem's candidates, in the life that PGPE draws."""
    num_samples, num_networks = len(problem.x), len(problem.betas)
    dtype = getattr(torch, precision)
    model = make_model(num_samples, problem.num_updates, problem.population_size, 0)
    task = make_task(load("MNIST"), num_samples, num_networks, dtype)
    policy = TDCAPolicy(task.observation_space, task.action_space)
    betas = torch.tensor(problem.betas, dtype=dtype)
    task.start(np.array(model.life_seeds * num_networks), None, {})
    for _ in range(problem.num_updates):
        task.update(policy.act(task.observe(), betas), MAX_CREDIT)
    return task.loss().double().numpy()


def race(problem: Problem, cores: int, turns: Turns) -> None:
    """Evolve; with several cores, in as many worker processes."""
    n_workers = cores if cores > 1 else 0
    model = make_model(len(problem.x), problem.num_updates, problem.population_size, n_workers)
    turns.answer(None)
    if turns.next():
        model.learn(2**62, callback=_EveryGeneration(turns))


class _EveryGeneration(BaseCallback):
    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    def _on_step(self) -> bool:
        return self._turns.next()
