"""Workers on Ray: the same results as here, with and without faults. Needs the extra `ray`."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import train
from credit_envs.workers import WorkerError
from meta.pgpe import PGPE
from tests.meta.test_workers import (
    NUM_CHUNKS,
    a_fifth_lost_changes_nothing,
    always,
    losses_here,
    make_model,
    one_loss_changes_nothing,
)
from tests.test_train import QUICK, final_beta, nobody_is_left, only_run, with_a_checkpoint

ray = pytest.importorskip("ray")
ray_workers = pytest.importorskip("meta.ray_workers")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One that several tests share; to start one takes ten seconds."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@contextmanager
def ray_pool(model: PGPE, num_workers: int = 2, **kwargs: Any) -> Iterator[Any]:
    pool = ray_workers.RayWorkerPool(model._evaluator_settings(), num_workers, **kwargs)
    try:
        yield pool
    finally:
        pool.close()


def kill(worker: Any) -> None:
    ray.kill(worker.actor)


def send(signal_number: int) -> Any:
    """What sends a signal to the process of an actor while the evaluation goes on."""

    def to(worker: Any) -> None:
        os.kill(worker.pid, signal_number)

    return to


@pytest.mark.usefixtures("cluster")
def test_a_killed_actor_is_replaced_with_the_same_result():
    model = make_model(num_updates=400)
    with ray_pool(model) as pool:
        one_loss_changes_nothing(model, pool, kill, "a worker died; it is replaced")


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_hangs_is_replaced_with_the_same_result():
    model = make_model(num_updates=400)
    with ray_pool(model, timeout=5.0) as pool:
        pool.map(model._next_generation(), range(NUM_CHUNKS), pytest.fail)
        for worker in pool.workers:
            worker.pid = ray.get(worker.actor.__ray_call__.remote(lambda _: os.getpid()))
        sentence = "a worker did not finish within 5 s; it is replaced"
        one_loss_changes_nothing(model, pool, send(signal.SIGSTOP), sentence)


@pytest.mark.usefixtures("cluster")
def test_actors_that_are_always_lost_end_in_one_error():
    model = make_model(num_updates=400)
    with ray_pool(model) as pool:
        always(pool, kill)
        with pytest.raises(WorkerError, match="use fewer workers"):
            pool.map(model._next_generation(), range(NUM_CHUNKS), lambda _: None)


@pytest.mark.usefixtures("cluster")
def test_an_error_of_the_evaluation_is_raised_as_it_is():
    model = make_model()
    with ray_pool(model) as pool, pytest.raises(RuntimeError, match="must match the existing size"):
        pool.map(model._next_generation(), range(NUM_CHUNKS + 1), pytest.fail)


@pytest.mark.usefixtures("cluster")
def test_a_run_that_loses_a_fifth_of_its_actors_ends_the_same():
    a_fifth_lost_changes_nothing(make_model(num_updates=200, ray="auto", n_workers=2), kill)


@pytest.mark.usefixtures("cluster")
def test_more_actors_than_cpus_wait_for_room():
    model = make_model()
    with (
        pytest.warns(RuntimeWarning, match="2 CPUs for 4 workers"),
        ray_pool(model, num_workers=4) as pool,
    ):
        losses = np.concatenate(pool.map(model._next_generation(), range(NUM_CHUNKS), pytest.fail))
    np.testing.assert_array_equal(losses, losses_here(model))


@pytest.mark.usefixtures("cluster")
def test_saved_on_ray_goes_on_without_and_the_other_way_round(tmp_path):
    whole = make_model()
    whole.learn(4 * whole.timesteps_per_generation)
    first = make_model(ray="auto")
    first.learn(2 * first.timesteps_per_generation).save(tmp_path / "on_ray")
    here = PGPE.load(tmp_path / "on_ray", ray=None)
    here.learn(here.timesteps_per_generation, reset_num_timesteps=False).save(tmp_path / "here")
    last = PGPE.load(tmp_path / "here", ray="auto", n_workers=2)
    last.learn(last.timesteps_per_generation, reset_num_timesteps=False)
    assert last.generation == 4
    assert torch.equal(last.policy.beta, whole.policy.beta)
    assert torch.equal(last.stdev, whole.stdev)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "here"])
def test_where_no_cluster_is_one_error(address):
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(WorkerError, match=f"no Ray cluster at {address}.* or auto"):
        make_model(ray=address, n_workers=2).learn(1)


def test_a_run_on_ray_that_is_killed_ends_the_same(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train.main([*QUICK, "60", "--logdir", str(whole)]) == 0
    on_ray = ["--ray", "auto", "--workers", "2"]
    process = with_a_checkpoint(killed, *QUICK, "60", *on_ray)
    process.kill()
    process.wait()
    folder = only_run(killed)
    assert PGPE.load(folder / "model.zip").generation < 60
    assert train.main(["--resume", str(folder), *on_ray]) == 0
    assert torch.equal(final_beta(only_run(whole)), final_beta(folder))
    # Ray's own agents look for their cluster for a minute before they end, too.
    assert nobody_is_left(process.pid, seconds=180)


def test_ctrl_c_on_ray_stops_after_a_checkpoint(tmp_path):
    process = with_a_checkpoint(
        tmp_path, *QUICK, "10000", "--ray", "auto", "--workers", "2", stderr=subprocess.PIPE
    )
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == train.INTERRUPTED
    assert f"--resume {only_run(tmp_path)}" in error
    assert "Traceback" not in error
