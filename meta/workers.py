"""Workers that evaluate the chunks of a generation."""

import numpy as np
from numpy.typing import NDArray

from credit_envs.local_workers import LocalWorkerPool
from credit_envs.workers import WorkerPool
from meta.population import Evaluator, EvaluatorSettings, Generation

Losses = NDArray[np.float64]
EvaluatorPool = WorkerPool[Generation, int, Losses]
"""Of a generation and the number of a chunk, they make `Evaluator.losses`."""

OPTION = "n_workers"

_evaluator: Evaluator | None = None


def local_pool(
    settings: EvaluatorSettings, num_workers: int, timeout: float | None = None
) -> EvaluatorPool:
    """Processes of this machine.

    Args:
        settings: what each process needs.
        num_workers: how many, > 0.
        timeout: seconds in which a chunk must be done; None: see `WorkerPool`.
    """
    return LocalWorkerPool(_losses, num_workers, _begin, (settings,), timeout, OPTION)


def _begin(settings: EvaluatorSettings) -> None:
    global _evaluator
    _evaluator = Evaluator(settings)


def _losses(generation: Generation, chunk: int) -> Losses:
    assert _evaluator is not None
    return _evaluator.losses(generation, chunk)
