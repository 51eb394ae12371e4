"""Spreading calls over processes, with results that do not depend on it."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext
from typing import Any, Generic, TypeVar

import torch

_MAX_RETRIES = 3

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerError(RuntimeError):
    """Worker processes keep dying."""


class WorkerPool(Generic[Task, Result]):
    """Processes that do tasks; one whose process died is done again.

    Args:
        function: of a task, importable by its name.
        num_workers: how many processes, > 0.
        begin: called by every process at its start; it calls `begin_worker`.
        arguments: of `begin`.
        option: name of the setting that means `num_workers` to the user, for errors.
    """

    def __init__(
        self,
        function: Callable[[Task], Result],
        num_workers: int,
        begin: Callable[..., None],
        arguments: tuple[Any, ...] = (),
        option: str = "num_workers",
    ) -> None:
        self._function = function
        self._num_workers = num_workers
        self._begin = begin
        self._arguments = arguments
        self._option = option
        self._executor = self._start()

    def map(self, tasks: Iterable[Task], on_retry: Callable[[str], None]) -> list[Result]:
        """Results of all tasks, in their order.

        Args:
            tasks: what to do.
            on_retry: told in a sentence when processes died and are replaced.

        Raises:
            WorkerError: processes died again and again without finishing a task.
        """
        waiting = dict(enumerate(tasks))
        count = len(waiting)
        done: dict[int, Result] = {}
        failures = 0
        while waiting:
            before = len(done)
            try:
                self._run(waiting, done)
            except BrokenProcessPool as error:
                self._kill()
                failures = failures + 1 if len(done) == before else 0
                if failures > _MAX_RETRIES:
                    raise WorkerError(
                        f"worker processes died {failures} times in a row (out of memory, or a "
                        "script without `if __name__ == '__main__':`?); use fewer workers, or "
                        f"{self._option}=0 to see the error itself"
                    ) from error
                on_retry(
                    f"a worker process died; {count - len(done)} of {count} tasks are done again"
                )
                self._executor = self._start()
            waiting = {index: task for index, task in waiting.items() if index not in done}
        return [done[index] for index in range(count)]

    def _run(self, waiting: dict[int, Task], done: dict[int, Result]) -> None:
        with _born_deaf_to_interrupts():
            futures: dict[Future[Result], int] = {
                self._executor.submit(self._function, task): index
                for index, task in waiting.items()
            }
        pending = set(futures)
        broken: BrokenProcessPool | None = None
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                try:
                    done[futures[future]] = future.result()
                except BrokenProcessPool as error:
                    broken = error
        if broken is not None:
            raise broken

    def close(self) -> None:
        """Stop the processes."""
        self._executor.shutdown(cancel_futures=True)

    def _kill(self) -> None:
        """End the processes of a broken pool.

        It ends them itself, but for one that it was just starting when another died, for which it
        then waits forever.
        """
        processes = dict(self._executor._processes or {})
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in processes.values():
            process.kill()
        self._executor.shutdown()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._num_workers,
            mp_context=_context(self._function.__module__),
            initializer=self._begin,
            initargs=self._arguments,
        )


@contextmanager
def _born_deaf_to_interrupts() -> Iterator[None]:
    """Processes started in this block never see Ctrl-C; here it waits until the block is over.

    It is for the main process alone, which stops after the generation.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _context(module: str) -> BaseContext:
    """A server that has imported this module once and forks; a plain fork could inherit locks."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


def begin_worker() -> None:
    """What every worker process needs: one thread, and an end with the main process.

    Also when that ends without a word, as by `kill -9`.
    """
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
