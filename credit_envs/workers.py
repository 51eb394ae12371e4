"""Spreading tasks over workers, with results that do not depend on it.

What all kinds of workers share: who gets which task, and what happens when one dies or hangs.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, ClassVar, Generic, TypeVar

from credit_envs.checks import require_at_least, require_positive

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")

_MAX_RETRIES = 3
_PATIENCE = 10.0
_SHORTEST_TIMEOUT = 60.0


class WorkerError(RuntimeError):
    """Workers keep dying, or there are none to be had."""


class Worker(ABC):
    """One that does tasks elsewhere, one at a time.

    Attributes:
        ready: done when it can begin; fails as a task does.
    """

    ready: Future[Any]

    @abstractmethod
    def submit(self, shared: Any, task: Any) -> Future[Any]:
        """Begin a task; what tasks have in common is as the pool shares it."""

    @abstractmethod
    def kill(self) -> None:
        """End at once, even if it hangs."""


@dataclass
class _Job:
    """What a worker has to do.

    Attributes:
        index: of the task; None: it is getting ready.
        failures: how many workers were lost over it before.
        worker: who does it.
        since: when it began, in seconds.
    """

    index: int | None
    failures: int = 0
    worker: Worker | None = None
    since: float = 0.0


class WorkerPool(ABC, Generic[Shared, Task, Result]):
    """Workers that do tasks.

    Each has one at a time. A worker that dies, or is at a task for too long, is replaced, and its
    task done again.

    Args:
        num_workers: how many, > 0; there are never more than tasks.
        timeout: seconds in which a task must be done, > 0; None: ten times those of the slowest so
            far, at least 60. Until one is done there is no such limit. To get ready a worker has
            `START_LIMIT` seconds, or as long as for a task if that is longer.
        option: name of the setting that means `num_workers` to the user, for errors.
    """

    deaths: ClassVar[tuple[type[Exception], ...]]
    """What a future raises whose worker died."""

    START_LIMIT: ClassVar[float | None]
    """Seconds in which a worker must be ready; None: it may have to wait for its place."""

    def __init__(self, num_workers: int, timeout: float | None, option: str) -> None:
        require_at_least(option, num_workers, 1)
        if timeout is not None:
            require_positive("timeout", timeout)
        self._num_workers = num_workers
        self._timeout = timeout
        self._option = option
        self._slowest = 0.0
        self._idle: list[Worker] = []
        self._jobs: dict[Future[Any], _Job] = {}
        self._ended: SimpleQueue[Future[Any]] = SimpleQueue()

    @abstractmethod
    def _start(self) -> Worker:
        """A new worker."""

    def _share(self, shared: Shared) -> Any:
        """What tasks have in common, as workers are told it."""
        return shared

    def _error(self, future: Future[Any]) -> BaseException | None:
        """What went wrong in a future that is done: one of `deaths`, or the task's own."""
        return future.exception()

    @property
    def workers(self) -> list[Worker]:
        """All there are now."""
        return [*self._idle, *(job.worker for job in self._jobs.values() if job.worker)]

    def map(
        self, shared: Shared, tasks: Sequence[Task], on_retry: Callable[[str], None]
    ) -> list[Result]:
        """Results of all tasks, in their order.

        Args:
            shared: what tasks have in common.
            tasks: what to do.
            on_retry: told in a sentence when a worker was lost and is replaced.

        Raises:
            WorkerError: workers were lost again and again over the same task, or as they began.
        """
        while len(self.workers) < min(self._num_workers, len(tasks)):
            self._add_worker()
        try:
            return self._map(self._share(shared), tasks, on_retry)
        except BaseException:
            # The other workers are still at tasks of which nobody will ask.
            self.close()
            raise

    def _map(
        self, shared: Any, tasks: Sequence[Task], on_retry: Callable[[str], None]
    ) -> list[Result]:
        waiting = deque(_Job(index) for index in range(len(tasks)))
        done: dict[int, Result] = {}
        while len(done) < len(tasks):
            while waiting and self._idle:
                self._hand_out(waiting.popleft(), shared, tasks)
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
            if job.index is not None:
                self._slowest = max(self._slowest, time.monotonic() - job.since)
                done[job.index] = future.result()
        return [done[index] for index in range(len(tasks))]

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.kill()
        self._idle.clear()
        self._jobs.clear()

    def _add_worker(self, failures: int = 0) -> None:
        worker = self._start()
        self._follow(worker.ready, _Job(None, failures, worker, time.monotonic()))

    def _hand_out(self, job: _Job, shared: Any, tasks: Sequence[Task]) -> None:
        assert job.index is not None
        job.worker = self._idle.pop()
        job.since = time.monotonic()
        self._follow(job.worker.submit(shared, tasks[job.index]), job)

    def _follow(self, future: Future[Any], job: _Job) -> None:
        self._jobs[future] = job
        future.add_done_callback(self._ended.put)

    def _wait(self) -> Future[Any] | None:
        """A future that is done; None: a worker takes longer than it may."""
        limits = ((job.since, self._limit_of(job)) for job in self._jobs.values())
        ends = [since + limit for since, limit in limits if limit is not None]
        if not ends:
            return self._ended.get()
        try:
            return self._ended.get(timeout=max(min(ends) - time.monotonic(), 0.0))
        except Empty:
            return None

    def _limit_of(self, job: _Job) -> float | None:
        """Seconds that a job may take; None: as long as it will."""
        if job.index is not None:
            return self._limit()
        return None if self.START_LIMIT is None else max(self.START_LIMIT, self._limit() or 0.0)

    def _limit(self) -> float | None:
        """Seconds that a task may take; None: nothing is known yet."""
        if self._timeout is not None:
            return self._timeout
        return max(_PATIENCE * self._slowest, _SHORTEST_TIMEOUT) if self._slowest else None

    def _give_up_late_ones(self, on_retry: Callable[[str], None]) -> list[_Job]:
        """Replace the workers that take too long; the tasks they were at, to do again."""
        now = time.monotonic()
        again: list[_Job] = []
        for future, job in list(self._jobs.items()):
            limit = self._limit_of(job)
            if limit is None or now - job.since < limit:
                continue
            del self._jobs[future]
            what = "hung for" if job.index is None else "did not finish within"
            again += self._replace(job, f"{what} {limit:.0f} s", on_retry)
        return again

    def _replace(
        self,
        job: _Job,
        what: str,
        on_retry: Callable[[str], None],
        error: BaseException | None = None,
    ) -> list[_Job]:
        """Start a worker in place of the lost one; the job to do again, if it was a task."""
        assert job.worker is not None
        job.worker.kill()
        failures = job.failures + 1
        if failures > _MAX_RETRIES:
            where = "as they started" if job.index is None else "over the same work"
            raise WorkerError(
                f"{failures} workers in a row were lost {where}, the last of which {what} (out of "
                "memory, a timeout that is too short, or a script without `if __name__ == "
                f"'__main__':`?); use fewer workers, or {self._option}=0 to see the error itself"
            ) from error
        if job.index is None:
            on_retry(f"a worker {what} as it started; another is started")
            self._add_worker(failures)
            return []
        on_retry(f"a worker {what}; it is replaced, and its work is done again")
        self._add_worker()
        return [_Job(job.index, failures)]
