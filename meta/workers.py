"""Spreading the chunks of a generation over processes, with results that do not depend on it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from credit_envs import workers
from credit_envs.workers import begin_worker
from meta.population import Evaluator, EvaluatorSettings, Generation

_evaluator: Evaluator | None = None


class WorkerPool(workers.WorkerPool[tuple[Generation, int], NDArray[np.float64]]):
    """Processes that evaluate candidates; a chunk whose process died is evaluated again.

    Args:
        settings: what each process needs.
        num_workers: how many processes, > 0.
    """

    def __init__(self, settings: EvaluatorSettings, num_workers: int) -> None:
        super().__init__(_losses, num_workers, _begin, (settings,), option="n_workers")

    def losses(
        self, generation: Generation, num_chunks: int, on_retry: Callable[[str], None]
    ) -> NDArray[np.float64]:
        """Losses of all candidates, `(population_size, lives)`.

        Args:
            generation: candidates and lives.
            num_chunks: how many chunks there are.
            on_retry: told in a sentence when processes died and are replaced.

        Raises:
            WorkerError: processes died again and again without finishing a chunk.
        """
        return np.concatenate(
            self.map([(generation, chunk) for chunk in range(num_chunks)], on_retry)
        )


def _begin(settings: EvaluatorSettings) -> None:
    global _evaluator
    begin_worker()
    _evaluator = Evaluator(settings)


def _losses(task: tuple[Generation, int]) -> NDArray[np.float64]:
    assert _evaluator is not None
    return _evaluator.losses(*task)
