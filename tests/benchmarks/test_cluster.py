"""Workers measured, and the cost model: what it adds up to, and what it refuses."""

import heapq
import time
from types import SimpleNamespace

import pytest

from benchmarks import cluster, cluster_cost
from benchmarks.cluster_cost import (
    CORES,
    EXPERIMENTS,
    Overhead,
    seconds_of_candidate,
    seconds_of_generation,
    single_speed,
)
from benchmarks.common.results import ResultsFile


def test_processes_are_timed_once_they_agree_and_killed_ones_change_nothing(tmp_path, monkeypatch):
    small = cluster.Problem("CreditAssign-ReversedCartPole-v0", "reversed-cartpole", 4, 2)
    monkeypatch.setitem(cluster.PROBLEMS, "ReversedCartPole", small)
    monkeypatch.setattr(cluster, "HAS_RAY", False)
    monkeypatch.setattr(cluster, "CONTENDERS", (("none", 0), ("processes", 1), ("processes", 2)))
    file = ResultsFile("cluster", folder=tmp_path)
    cluster.fill(file, ["ReversedCartPole"], pools=2, rounds=1, generations=3)
    cell = file.cells["throughput: ReversedCartPole"]
    assert {who: len(wall) for who, wall in cell["wall"].items()} == {
        "this process": 2,
        "1 process": 2,
        "2 processes": 2,
    }
    assert {who: len(costs[0]) for who, costs in cell["cpu"].items()} == {
        "this process": 1,
        "1 process": 2,
        "2 processes": 3,
    }
    assert file.cells["faults: processes"]["killed"] > 0
    assert file.cells["faults: processes"]["same"]
    assert 40_000 < file.cells["overhead: processes"]["bytes_out"] < 50_000
    assert "bit for bit" in cluster.render(ResultsFile("cluster", folder=tmp_path))


def test_the_steps_are_those_of_the_papers_settings():
    steps = {experiment.name: experiment.steps for experiment in EXPERIMENTS}
    # Without the episode before the first update, 3.07e10 and 8.64e10.
    assert steps["BipedalWalker"] == pytest.approx(3000 * 32 * 201 * 1600)
    assert steps["Meta-World"] == pytest.approx(3000 * 32 * 201 * 500 * 9)


@pytest.mark.parametrize("cores", CORES)
@pytest.mark.parametrize("chunks", [1, 32, 33, 288])
def test_a_generation_takes_as_long_as_its_chunks_played_out_on_the_cores(chunks, cores):
    free_at = [0.0] * cores
    for _ in range(chunks):
        heapq.heappush(free_at, heapq.heappop(free_at) + 2.5)
    modelled = seconds_of_generation(2.5, chunks, cores, Overhead(0.0, 0.0))
    assert modelled == pytest.approx(max(free_at))
    with_overhead = seconds_of_generation(2.5, chunks, cores, Overhead(0.01, 0.3))
    assert with_overhead == pytest.approx(modelled + 0.01 * chunks + 0.3)


def test_a_candidate_lives_through_every_task_and_reset():
    meta_world = next(e for e in EXPERIMENTS if e.name == "Meta-World")
    speeds = {
        name: {"steps_per_second": speed, "reset_seconds": 0.01}
        for name, speed in zip(meta_world.speeds, (1000.0, 2000.0, 4000.0), strict=True)
    }
    of_three = 201 * (500 / 1000 + 500 / 2000 + 500 / 4000 + 3 * 0.01)
    assert seconds_of_candidate(meta_world, speeds) == pytest.approx(3 * of_three)


def test_speed_is_that_of_steps_alone():
    def busy(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    class Env:
        action_space = SimpleNamespace(seed=lambda _: None, sample=lambda: 0)
        steps = 0

        def reset(self, seed: int | None = None) -> None:
            busy(0.01)

        def step(self, action: int) -> tuple[None, float, bool, bool, dict[str, None]]:
            busy(0.001)
            self.steps += 1
            return None, 0.0, self.steps % 10 == 0, False, {}

    measured = single_speed(Env(), 50)  # type: ignore[arg-type]
    assert measured["steps_per_second"] == pytest.approx(1000, rel=0.2)
    assert measured["reset_seconds"] == pytest.approx(0.01, rel=0.2)
    assert measured["resets"] == 5


def test_the_model_rests_on_measured_overheads(tmp_path):
    nothing = ResultsFile("cluster", folder=tmp_path)
    with pytest.raises(ValueError, match=r"benchmarks.cluster` first"):
        cluster_cost.render(ResultsFile(cluster_cost.NAME), nothing)


def test_without_overheads_no_speed_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        cluster_cost, "ResultsFile", lambda name, quick: ResultsFile(name, quick, tmp_path)
    )
    monkeypatch.setattr(cluster_cost, "fill", lambda *_: pytest.fail("it was measured"))
    assert cluster_cost.main(["--quick"]) == 1
    assert "`python -m benchmarks.cluster --quick` first" in capsys.readouterr().err
