"""Worker processes: a death is a retry, and repeated deaths are one clear error."""

import contextlib
import os
import signal
import threading
import time

import numpy as np
import pytest

from credit_envs.workers import WorkerError
from meta.pgpe import PGPE
from meta.workers import WorkerPool


def model_and_pool(num_updates: int) -> tuple[PGPE, WorkerPool]:
    model = PGPE(
        "TDCAPolicy",
        "CreditAssign-Gaussian-v0",
        {"num_updates": num_updates},
        population_size=8,
        lives=4,
        chunk_size=2,
        seed=0,
    )
    return model, WorkerPool(model._evaluator_settings(), 2)


def test_a_killed_worker_is_replaced_with_the_same_result():
    model, pool = model_and_pool(num_updates=6000)
    generation = model._next_generation()
    expected = np.concatenate([model._evaluator.losses(generation, chunk) for chunk in range(4)])
    pool.losses(generation, 4, pytest.fail)  # the processes are up
    victim = next(iter(pool._executor._processes))
    threading.Timer(0.2, os.kill, (victim, signal.SIGKILL)).start()
    warnings: list[str] = []
    try:
        losses = pool.losses(generation, 4, warnings.append)
    finally:
        pool.close()
    np.testing.assert_array_equal(losses, expected)
    assert len(warnings) == 1
    assert "a worker process died" in warnings[0]


def test_workers_that_keep_dying_end_in_one_error():
    model, pool = model_and_pool(num_updates=10)
    stop = threading.Event()

    def reaper() -> None:
        while not stop.is_set():
            for pid in list(pool._executor._processes or {}):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    thread = threading.Thread(target=reaper)
    thread.start()
    try:
        with pytest.raises(WorkerError, match="use fewer workers"):
            pool.losses(model._next_generation(), 4, lambda _: None)
    finally:
        stop.set()
        thread.join()
        pool.close()
