"""Spreading the chunks of a generation over processes, with results that do not depend on it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import BaseContext

import numpy as np
import torch
from numpy.typing import NDArray

from meta.population import Evaluator, EvaluatorSettings, Generation

_MAX_RETRIES = 3

_evaluator: Evaluator | None = None


class WorkerError(RuntimeError):
    """Worker processes keep dying."""


class WorkerPool:
    """Processes that evaluate candidates; a chunk whose process died is evaluated again.

    Args:
        settings: what each process needs.
        num_workers: how many processes, > 0.
    """

    def __init__(self, settings: EvaluatorSettings, num_workers: int) -> None:
        self._settings = settings
        self._num_workers = num_workers
        self._executor = self._start()

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
        done: dict[int, NDArray[np.float64]] = {}
        failures = 0
        while len(done) < num_chunks:
            missing = [chunk for chunk in range(num_chunks) if chunk not in done]
            before = len(done)
            try:
                self._run(generation, missing, done)
            except BrokenProcessPool as error:
                self._kill()
                failures = failures + 1 if len(done) == before else 0
                if failures > _MAX_RETRIES:
                    raise WorkerError(
                        f"worker processes died {failures} times in a row (out of memory, or a "
                        "script without `if __name__ == '__main__':`?); use fewer workers, or "
                        "n_workers=0 to see the error itself"
                    ) from error
                on_retry(
                    f"a worker process died; {num_chunks - len(done)} of {num_chunks} chunks are "
                    "evaluated again"
                )
                self._executor = self._start()
        return np.concatenate([done[chunk] for chunk in range(num_chunks)])

    def _run(
        self, generation: Generation, chunks: list[int], done: dict[int, NDArray[np.float64]]
    ) -> None:
        with _born_deaf_to_interrupts():
            futures: dict[Future[NDArray[np.float64]], int] = {
                self._executor.submit(_losses, generation, chunk): chunk for chunk in chunks
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
            mp_context=_context(),
            initializer=_begin_worker,
            initargs=(self._settings,),
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


def _context() -> BaseContext:
    """A server that has imported PyTorch once and forks; a plain fork could inherit locks."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _begin_worker(settings: EvaluatorSettings) -> None:
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


def _losses(generation: Generation, chunk: int) -> NDArray[np.float64]:
    assert _evaluator is not None
    return _evaluator.losses(generation, chunk)
