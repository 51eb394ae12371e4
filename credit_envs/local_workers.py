"""Workers that are processes on this machine."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext
from typing import Any

import torch

from credit_envs.memory import keep_freed_memory
from credit_envs.workers import Result, Shared, Task, Worker, WorkerPool


class LocalWorkerPool(WorkerPool[Shared, Task, Result]):
    """Processes of this machine that call a function.

    Args:
        function: of what tasks have in common and of a task; importable by its name.
        num_workers: how many processes, > 0.
        begin: called by every process at its start.
        arguments: of `begin`.
        timeout: seconds in which a task must be done; None: see `WorkerPool`.
        option: name of the setting that means `num_workers` to the user, for errors.
    """

    deaths = (BrokenProcessPool,)
    # A process that reads its data from a slow disk beside many others takes a minute.
    START_LIMIT = 300.0

    def __init__(
        self,
        function: Callable[[Shared, Task], Result],
        num_workers: int,
        begin: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
        timeout: float | None = None,
        option: str = "num_workers",
    ) -> None:
        super().__init__(num_workers, timeout, option)
        self._function = function
        self._begin = begin
        self._arguments = arguments

    def _start(self) -> Worker:
        return LocalWorker(self._function, self._begin, self._arguments)


class LocalWorker(Worker):
    """One process.

    Args:
        function: which it calls.
        begin: called at its start.
        arguments: of `begin`.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        begin: Callable[..., None] | None,
        arguments: tuple[Any, ...],
    ) -> None:
        self._function = function
        # An executor of its own: if one process of an executor dies, all of them are lost.
        self._executor = ProcessPoolExecutor(1, mp_context=_context(function.__module__))
        with _born_deaf_to_interrupts():
            self.ready = self._executor.submit(_begin, begin, arguments)
        (self._process,) = self._executor._processes.values()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def submit(self, shared: Any, task: Any) -> Future[Any]:  # noqa: D102
        try:
            return self._executor.submit(self._function, shared, task)
        except BrokenProcessPool as error:  # it died while it had nothing to do
            future: Future[Any] = Future()
            future.set_exception(error)
            return future

    def kill(self) -> None:  # noqa: D102
        self._process.kill()
        self._executor.shutdown(cancel_futures=True)


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


def _begin(begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    begin_worker()
    if begin is not None:
        begin(*arguments)


def begin_worker() -> None:
    """What every worker process needs: one thread, and an end with the main process.

    Also when that ends without a word, as by `kill -9`.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
