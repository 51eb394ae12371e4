"""Spreading the chunks of a generation over workers, with results that do not depend on it.

What local processes and Ray's actors share: who gets which chunk, and what happens when a worker
dies or hangs.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from credit_envs.checks import require_at_least, require_positive
from meta.population import Generation

Losses = NDArray[np.float64]

_MAX_RETRIES = 3
_PATIENCE = 10.0
_SHORTEST_TIMEOUT = 60.0


class WorkerError(RuntimeError):
    """Workers keep dying, or there are none to be had."""


class Worker(ABC):
    """One that evaluates chunks, one at a time, elsewhere.

    Attributes:
        ready: done when it can evaluate; fails as a chunk does.
    """

    ready: Future[Any]

    @abstractmethod
    def submit(self, generation: Any, chunk: int) -> Future[Losses]:
        """Begin to evaluate a chunk of a generation, as the pool shares it."""

    @abstractmethod
    def kill(self) -> None:
        """End at once, even if it hangs."""


@dataclass
class _Job:
    """What a worker has to do.

    Attributes:
        chunk: which it evaluates; None: it is getting ready.
        failures: how many workers were lost over it before.
        worker: who does it.
        since: when it began, in seconds.
    """

    chunk: int | None
    failures: int = 0
    worker: Worker | None = None
    since: float = 0.0


class WorkerPool(ABC):
    """Workers that evaluate candidates.

    Each has one chunk at a time. One that dies, or is at a chunk for too long, is replaced, and its
    chunk evaluated again.

    Args:
        num_workers: how many, > 0; there are never more than chunks.
        chunk_timeout: seconds in which a chunk must be done, > 0; None: ten times those of the
            slowest so far, at least 60. Until one is done there is no such limit.
    """

    deaths: ClassVar[tuple[type[Exception], ...]]
    """What a future raises whose worker died."""

    def __init__(self, num_workers: int, chunk_timeout: float | None = None) -> None:
        require_at_least("num_workers", num_workers, 1)
        if chunk_timeout is not None:
            require_positive("chunk_timeout", chunk_timeout)
        self._num_workers = num_workers
        self._chunk_timeout = chunk_timeout
        self._slowest = 0.0
        self._idle: list[Worker] = []
        self._jobs: dict[Future[Any], _Job] = {}
        self._ended: SimpleQueue[Future[Any]] = SimpleQueue()

    @abstractmethod
    def _start(self) -> Worker:
        """A new worker."""

    def _share(self, generation: Generation) -> Any:
        """The generation as workers are told it."""
        return generation

    def _error(self, future: Future[Any]) -> BaseException | None:
        """What went wrong in a future that is done: one of `deaths`, or the evaluation's own."""
        return future.exception()

    @property
    def workers(self) -> list[Worker]:
        """All there are now."""
        return [*self._idle, *(job.worker for job in self._jobs.values() if job.worker)]

    def losses(
        self, generation: Generation, num_chunks: int, on_retry: Callable[[str], None]
    ) -> Losses:
        """Losses of all candidates, `(population_size, lives)`.

        Args:
            generation: candidates and lives.
            num_chunks: how many chunks there are.
            on_retry: told in a sentence when a worker was lost and is replaced.

        Raises:
            WorkerError: workers were lost again and again over the same chunk, or as they began.
        """
        shared = self._share(generation)
        waiting = deque(_Job(chunk) for chunk in range(num_chunks))
        done: dict[int, Losses] = {}
        while len(self.workers) < min(self._num_workers, num_chunks):
            self._add_worker()
        while len(done) < num_chunks:
            while waiting and self._idle:
                self._hand_out(waiting.popleft(), shared)
            future = self._wait()
            if future is None:
                waiting.extendleft(self._give_up_late_ones(on_retry))
                continue
            job = self._jobs.pop(future, None)
            if job is None:  # of a worker that was given up
                continue
            assert job.worker is not None
            error = self._error(future)
            if isinstance(error, self.deaths):
                waiting.extendleft(self._replace(job, "died", on_retry, error))
                continue
            self._idle.append(job.worker)
            if error is not None:
                raise error
            if job.chunk is not None:
                self._slowest = max(self._slowest, time.monotonic() - job.since)
                done[job.chunk] = future.result()
        return np.concatenate([done[chunk] for chunk in range(num_chunks)])

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.kill()
        self._idle.clear()
        self._jobs.clear()

    def _add_worker(self, failures: int = 0) -> None:
        worker = self._start()
        self._follow(worker.ready, _Job(None, failures, worker))

    def _hand_out(self, job: _Job, shared: Any) -> None:
        assert job.chunk is not None
        job.worker = self._idle.pop()
        job.since = time.monotonic()
        self._follow(job.worker.submit(shared, job.chunk), job)

    def _follow(self, future: Future[Any], job: _Job) -> None:
        self._jobs[future] = job
        future.add_done_callback(self._ended.put)

    def _wait(self) -> Future[Any] | None:
        """A future that is done; None: a chunk takes longer than it may."""
        # Jobs stand in the order in which they began.
        oldest = next((job for job in self._jobs.values() if job.chunk is not None), None)
        limit = self._limit()
        if oldest is None or limit is None:
            return self._ended.get()
        try:
            return self._ended.get(timeout=max(oldest.since + limit - time.monotonic(), 0.0))
        except Empty:
            return None

    def _limit(self) -> float | None:
        """Seconds that a chunk may take; None: nothing is known yet."""
        if self._chunk_timeout is not None:
            return self._chunk_timeout
        return max(_PATIENCE * self._slowest, _SHORTEST_TIMEOUT) if self._slowest else None

    def _give_up_late_ones(self, on_retry: Callable[[str], None]) -> list[_Job]:
        """Replace the workers that are at a chunk for too long; their chunks."""
        limit = self._limit()
        assert limit is not None
        now = time.monotonic()
        late = {
            future: job
            for future, job in self._jobs.items()
            if job.chunk is not None and now - job.since >= limit
        }
        again: list[_Job] = []
        for future, job in late.items():
            del self._jobs[future]
            again += self._replace(job, f"did not finish within {limit:.0f} s", on_retry)
        return again

    def _replace(
        self,
        job: _Job,
        what: str,
        on_retry: Callable[[str], None],
        error: BaseException | None = None,
    ) -> list[_Job]:
        """Start a worker in place of the lost one; the job to do again, if it was a chunk."""
        assert job.worker is not None
        job.worker.kill()
        failures = job.failures + 1
        if failures > _MAX_RETRIES:
            where = "as they started" if job.chunk is None else "over the same candidates"
            raise WorkerError(
                f"{failures} workers in a row were lost {where}, the last of which {what} (out of "
                "memory, a chunk_timeout that is too short, or a script without `if __name__ == "
                "'__main__':`?); use fewer workers, or n_workers=0 to see the error itself"
            ) from error
        if job.chunk is None:
            on_retry(f"a worker {what} as it started; another is started")
            self._add_worker(failures)
            return []
        on_retry(f"a worker {what}; it is replaced, and its candidates are evaluated again")
        self._add_worker()
        return [_Job(job.chunk, failures)]
