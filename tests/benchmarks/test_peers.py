import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from benchmarks.common.reference_inner_loop import ReferenceNetwork, top_down_rule
from benchmarks.peers import __main__ as peers
from benchmarks.peers import problem as problems
from benchmarks.peers.problem import Problem, random_betas, unpack
from benchmarks.peers.turns import cpu_seconds


@pytest.fixture
def problem() -> Problem:
    rng = np.random.default_rng(0)
    return Problem(
        x=rng.standard_normal((40, 784)),
        labels=rng.integers(0, 10, 40),
        betas=random_betas(3),
        num_updates=4,
        population_size=4,
    )


def reference_losses(problem: Problem) -> list[float]:
    x, one_hot = torch.tensor(problem.x), torch.tensor(problem.one_hot)
    losses = []
    for beta in torch.tensor(problem.betas):
        weights = [torch.zeros(o, i + 1).double() for i, o in ((784, 100), (100, 10))]
        network = ReferenceNetwork(weights, "adam", problems.LEARNING_RATE, problems.MAX_GRAD_NORM)
        rule = top_down_rule(beta, problems.TOP_DOWN_SIZES, problems.SIZES[1:])
        for _ in range(problem.num_updates):
            network.update(x, one_hot, rule)
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(network.logits(x), one_hot)
        losses.append(float(loss))
    return losses


def check_peer(module: ModuleType, problem: Problem) -> None:
    assert module.losses(problem, "float64") == pytest.approx(reference_losses(problem), rel=1e-8)


def test_evotorch_trains_as_the_reference_does(problem: Problem) -> None:
    pytest.importorskip("evotorch")
    from benchmarks.peers import with_evotorch

    check_peer(with_evotorch, problem)


def test_evosax_trains_as_the_reference_does(problem: Problem) -> None:
    pytest.importorskip("evosax")
    from benchmarks.peers import with_evosax

    check_peer(with_evosax, problem)


def test_problem_survives_its_file(problem: Problem, tmp_path: Path) -> None:
    problem.save(tmp_path / "problem.npz")
    loaded = Problem.load(tmp_path / "problem.npz")
    for name in ("x", "labels", "betas"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(problem, name))
    assert (loaded.num_updates, loaded.population_size) == (4, 4)


def test_unpacking_uses_every_parameter_once_in_order() -> None:
    beta = np.arange(problems.num_parameters())
    parts = [part.ravel() for layer in unpack(beta) for part in layer]
    np.testing.assert_array_equal(np.concatenate(parts), beta)
    assert [weight.shape for weight, _ in unpack(beta)] == [(30, 20), (30, 30), (110, 30)]


def test_largest_difference_is_relative_and_from_the_first() -> None:
    losses = {"ours": [2.0, 4.0], "a": [2.0, 4.4], "b": [1.9, 4.0]}
    assert peers.largest_difference(losses) == pytest.approx(0.1)


def test_a_missing_peer_ends_in_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(peers.PACKAGES, "evosax", ("no_such_package",))
    with pytest.raises(SystemExit) as end:
        peers.require_installed("evosax", sys.executable)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ".[peers]" in line
    assert "--peers evotorch" in line


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux only")
def test_cpu_seconds_grow_with_work() -> None:
    import os

    before, began = cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() - began < 0.1:
        pass
    assert cpu_seconds(os.getpid()) - before >= 0.08
