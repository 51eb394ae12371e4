"""Workers: one that dies or hangs is a retry with the same result; again and again, one error."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from credit_envs.local_workers import LocalWorker, LocalWorkerPool
from credit_envs.workers import Worker, WorkerError, _Job
from meta.pgpe import PGPE
from meta.workers import EvaluatorPool, local_pool

NUM_CHUNKS = 4
Fault = Callable[[Any], None]


def make_model(num_updates: int = 100, **kwargs: Any) -> PGPE:
    return PGPE(
        "TDCAPolicy",
        "CreditAssign-Gaussian-v0",
        {"num_updates": num_updates},
        population_size=8,
        lives=4,
        chunk_size=2,
        seed=0,
        **kwargs,
    )


@contextmanager
def pool_for(model: PGPE, **kwargs: Any) -> Iterator[EvaluatorPool]:
    pool = local_pool(model._evaluator_settings(), 2, **kwargs)
    try:
        yield pool
    finally:
        pool.close()


def send(signal_number: int) -> Fault:
    """What sends a signal to the process of a local worker."""
    return lambda worker: os.kill(worker.pid, signal_number)


def at_its_next_chunk(worker: Worker, fault: Fault) -> None:
    submit = worker.submit

    def submit_with_fault(*arguments: Any) -> Any:
        future = submit(*arguments)
        fault(worker)
        return future

    worker.submit = submit_with_fault  # type: ignore[method-assign]


def always(pool: EvaluatorPool, fault: Fault) -> None:
    """Every worker of the pool has a fault at its next chunk."""
    start = pool._start

    def start_with_fault() -> Worker:
        worker = start()
        at_its_next_chunk(worker, fault)
        return worker

    pool._start = start_with_fault  # type: ignore[method-assign]


def one_loss_changes_nothing(model: PGPE, pool: EvaluatorPool, fault: Fault, sentence: str) -> None:
    """A worker that is lost over a chunk is replaced, and the result is that without the fault."""
    generation = model._next_generation()
    warnings: list[str] = []
    pool.map(generation, range(NUM_CHUNKS), pytest.fail)
    before = list(pool.workers)
    at_its_next_chunk(before[0], fault)
    losses = np.concatenate(pool.map(generation, range(NUM_CHUNKS), warnings.append))
    np.testing.assert_array_equal(losses, losses_here(model))
    assert len(warnings) == 1
    assert sentence in warnings[0]
    assert before[0] not in pool.workers
    assert before[1] in pool.workers
    assert len(pool.workers) == 2


def losses_here(model: PGPE) -> np.ndarray:
    generation = model._next_generation()
    chunks = [model._evaluator.losses(generation, chunk) for chunk in range(NUM_CHUNKS)]
    return np.concatenate(chunks)


@pytest.mark.parametrize(
    ("signal_number", "timeout", "sentence"),
    [
        (signal.SIGKILL, None, "a worker died; it is replaced"),
        (signal.SIGSTOP, 3.0, "a worker did not finish within 3 s; it is replaced"),
    ],
)
def test_a_lost_worker_is_replaced_with_the_same_result(signal_number, timeout, sentence):
    model = make_model(num_updates=400)
    with pool_for(model, timeout=timeout) as pool:
        one_loss_changes_nothing(model, pool, send(signal_number), sentence)


def test_a_worker_that_dies_idle_is_replaced():
    model = make_model()
    warnings: list[str] = []
    with pool_for(model) as pool:
        pool.map(model._next_generation(), range(NUM_CHUNKS), pytest.fail)
        for worker in pool.workers:
            worker.ready.result()
            send(signal.SIGKILL)(worker)
        time.sleep(0.2)
        losses = np.concatenate(
            pool.map(model._next_generation(), range(NUM_CHUNKS), warnings.append)
        )
    np.testing.assert_array_equal(losses, losses_here(model))
    assert len(warnings) == 2


def test_the_time_for_a_chunk_follows_the_slowest_so_far():
    model = make_model()
    with pool_for(model) as pool:
        assert pool._limit() is None
        pool.map(model._next_generation(), range(NUM_CHUNKS), pytest.fail)
        assert pool._limit() == 60
        pool._slowest = 30.0
        assert pool._limit() == 300


@pytest.mark.parametrize(
    ("signal_number", "timeout"), [(signal.SIGKILL, None), (signal.SIGSTOP, 0.2)]
)
def test_workers_that_are_lost_over_every_chunk_end_in_one_error(signal_number, timeout):
    model = make_model(num_updates=400)
    with pool_for(model, timeout=timeout) as pool:
        always(pool, send(signal_number))
        with pytest.raises(WorkerError, match=r"4 workers in a row.* over the same work"):
            pool.map(model._next_generation(), range(NUM_CHUNKS), lambda _: None)


def test_workers_that_cannot_start_end_in_one_error():
    model = make_model()
    with pool_for(model) as pool:
        start = pool._start

        def start_and_die() -> Worker:
            worker = start()
            send(signal.SIGKILL)(worker)
            return worker

        pool._start = start_and_die  # type: ignore[method-assign]
        with pytest.raises(WorkerError, match=r"as they started.*use fewer workers"):
            pool.map(model._next_generation(), range(NUM_CHUNKS), lambda _: None)


def hang(marker: Path | None) -> None:
    """For as long as a test may take; with a marker, only the first that comes here."""
    if marker is not None:
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return
    time.sleep(1000)


def difference(shared: int, task: int) -> int:
    return shared - task


def test_a_worker_that_hangs_as_it_starts_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(LocalWorkerPool, "START_LIMIT", 3.0)
    pool: LocalWorkerPool[int, int, int] = LocalWorkerPool(
        difference, 2, hang, (tmp_path / "marker",)
    )
    told: list[str] = []
    try:
        assert pool.map(10, [1], told.append) == [9]
        assert told[0] == "a worker hung for 3 s as it started; another is started"
    finally:
        pool.close()


def test_workers_that_all_hang_as_they_start_end_in_one_error(monkeypatch):
    monkeypatch.setattr(LocalWorkerPool, "START_LIMIT", 0.1)
    pool: LocalWorkerPool[int, int, int] = LocalWorkerPool(
        difference, 2, hang, (None,), timeout=0.2
    )
    with pytest.raises(WorkerError, match=r"4 .* lost as they started, .* hung for 0 s"):
        pool.map(10, [1, 2], lambda _: None)
    assert pool.workers == []


def test_a_worker_may_take_as_long_to_start_as_over_a_task_and_on_ray_for_ever(monkeypatch):
    pool: LocalWorkerPool[int, int, int] = LocalWorkerPool(difference, 2, timeout=1000.0)
    starting, working = _Job(None), _Job(0)
    assert pool._limit_of(starting) == pool._limit_of(working) == 1000
    pool._timeout = 5.0
    assert (pool._limit_of(starting), pool._limit_of(working)) == (LocalWorkerPool.START_LIMIT, 5)
    monkeypatch.setattr(LocalWorkerPool, "START_LIMIT", None)
    assert pool._limit_of(starting) is None


def test_an_error_of_the_evaluation_is_raised_as_it_is_and_all_workers_end():
    model = make_model()
    with pool_for(model) as pool:
        pool.map(model._next_generation(), range(NUM_CHUNKS), pytest.fail)
        workers = pool.workers
        assert len(workers) == 2
        with pytest.raises(RuntimeError, match="must match the existing size"):
            pool.map(model._next_generation(), range(NUM_CHUNKS + 1), pytest.fail)
    for worker in workers:
        assert isinstance(worker, LocalWorker)
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, 0)


class RandomFaults:
    """A fifth of the chunks lose their workers, at any moment after they are handed out."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._rng = np.random.default_rng(0)
        self.count = 0

    def __call__(self, worker: Worker) -> None:
        if self._rng.random() < 0.2:
            self.count += 1
            threading.Timer(self._rng.uniform(0, 0.02), self._fault, [worker]).start()


def a_fifth_lost_changes_nothing(faulty: PGPE, fault: Fault, generations: int = 10) -> None:
    """A run in which a fifth of the workers are killed ends bit for bit as one without workers."""
    whole = make_model(num_updates=200)
    whole.learn(generations * whole.timesteps_per_generation)
    faults = RandomFaults(fault)
    begin = faulty._begin

    def begin_with_faults() -> None:
        begin()
        assert faulty._pool is not None
        always(faulty._pool, faults)

    faulty._begin = begin_with_faults  # type: ignore[method-assign]
    with pytest.warns(RuntimeWarning, match="its work is done again"):
        faulty.learn(generations * faulty.timesteps_per_generation)
    assert faults.count >= generations * NUM_CHUNKS // 10
    assert torch.equal(faulty.policy.beta, whole.policy.beta)
    assert torch.equal(faulty.stdev, whole.stdev)


def test_a_run_that_loses_a_fifth_of_its_workers_ends_the_same():
    faulty = make_model(num_updates=200, n_workers=2)
    a_fifth_lost_changes_nothing(faulty, send(signal.SIGKILL))


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), "soon"])
def test_a_timeout_is_a_time(timeout):
    with pytest.raises(ValueError, match="chunk_timeout"):
        make_model(chunk_timeout=timeout)
