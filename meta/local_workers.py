"""Worker processes on this machine."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext

import torch

from meta.population import Evaluator, EvaluatorSettings, Generation
from meta.workers import Losses, Worker, WorkerPool

_evaluator: Evaluator | None = None


class LocalWorkerPool(WorkerPool):
    """Processes of this machine that evaluate candidates.

    Args:
        settings: what each process needs.
        num_workers: how many processes, > 0.
        chunk_timeout: seconds in which a chunk must be done; None: see `WorkerPool`.
    """

    deaths = (BrokenProcessPool,)

    def __init__(
        self, settings: EvaluatorSettings, num_workers: int, chunk_timeout: float | None = None
    ) -> None:
        super().__init__(num_workers, chunk_timeout)
        self._settings = settings

    def _start(self) -> Worker:
        return LocalWorker(self._settings)


class LocalWorker(Worker):
    """One process.

    Args:
        settings: what it needs.
    """

    def __init__(self, settings: EvaluatorSettings) -> None:
        # An executor of its own: if one process of an executor dies, all of them are lost.
        self._executor = ProcessPoolExecutor(1, mp_context=_context())
        with _born_deaf_to_interrupts():
            self.ready = self._executor.submit(_begin, settings)
        (self._process,) = self._executor._processes.values()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def submit(self, generation: Generation, chunk: int) -> Future[Losses]:  # noqa: D102
        try:
            return self._executor.submit(_losses, generation, chunk)
        except BrokenProcessPool as error:  # it died while it had nothing to do
            future: Future[Losses] = Future()
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


def _context() -> BaseContext:
    """A server that has imported PyTorch once and forks; a plain fork could inherit locks."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _begin(settings: EvaluatorSettings) -> None:
    global _evaluator
    begin_worker()
    _evaluator = Evaluator(settings)


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


def _losses(generation: Generation, chunk: int) -> Losses:
    assert _evaluator is not None
    return _evaluator.losses(generation, chunk)
