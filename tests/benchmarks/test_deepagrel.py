"""DeepAGREL's table and figure: rates are chosen on held-out images, cells are what they say."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    deepagrel_figure_3,
    deepagrel_skipping,
    deepagrel_table_1,
)
from benchmarks.common import deepagrel
from benchmarks.common.deepagrel import (
    NETWORKS,
    Extent,
    Network,
    cells,
    jobs,
    tuned_rate,
    tuning_jobs,
)
from benchmarks.common.results import Job, ResultsFile
from credit_envs.datasets import load
from meta.trials import Plan

FULL = NETWORKS[0]
EXTENT = Extent(seeds=2, epochs=7, grid=(0.1, 0.2, 0.4), reward_grid=(0.6, 0.8), tuning_epochs=3)
SMALL = Plan(
    "DeepAGREL",
    "ClassificationBandit-Digits-v0",
    epochs=2,
    policy_kwargs={"hidden_sizes": (20,), "init_range": 0.2},
)


def put(file: ResultsFile, job: Job, **result: Any) -> None:
    file.cell(job.key, job.settings, lambda: result)


def test_the_rate_with_the_highest_held_out_accuracy_is_taken(tmp_path: Path) -> None:
    file = ResultsFile("deepagrel", folder=tmp_path)
    for job, accuracy in zip(tuning_jobs(FULL, "FA", EXTENT), (0.5, 0.9, 0.1), strict=True):
        assert tuned_rate(file, FULL, "FA", EXTENT) is None
        assert jobs(file, FULL, "FA", EXTENT) == []
        put(file, job, held_out=[0.2, accuracy, 0.3], test=[1 - accuracy])
    assert tuned_rate(file, FULL, "FA", EXTENT) == 0.2
    wanted = jobs(file, FULL, "FA", EXTENT)
    assert [job.settings["seed"] for job in wanted] == [0, 1]
    assert {job.settings["learner_kwargs"]["learning_rate"] for job in wanted} == {0.2}
    assert tuned_rate(file, FULL, "DeepAGREL", EXTENT) == 0.5
    assert tuning_jobs(FULL, "DeepAGREL", EXTENT) == []
    tuning = tuning_jobs(FULL, deepagrel.TUNED, EXTENT)
    assert [job.settings["learner_kwargs"]["learning_rate"] for job in tuning] == [0.6, 0.8]
    assert {job.settings["rule"] for job in tuning} == {"DeepAGREL"}


def test_larger_first_weights_are_networks_of_their_own() -> None:
    conv = NETWORKS[1]
    as_published = deepagrel.job(conv, "DeepAGREL", 1.0, 0, 1)
    larger = deepagrel.job(conv, deepagrel.LARGER, 1.0, 0, 1)
    assert as_published.key != larger.key
    for job, most in ((as_published, 0.02), (larger, 0.05)):
        weights = Plan(**job.settings).begin().policy.q_net.weights
        assert max(float(each.abs().max()) for each in weights) == pytest.approx(most, rel=0.01)


def test_every_method_has_a_colour_in_figure_3() -> None:
    assert set(deepagrel_figure_3.COLOURS) == set(deepagrel.METHODS)


def test_every_network_can_be_made_and_has_a_key_of_its_own() -> None:
    keys = set()
    for network in NETWORKS:
        job = deepagrel.job(network, "DeepAGREL", 1.0, 0, 1)
        keys.add(job.key)
        assert job.settings["env_kwargs"] == ({"augment": True} if network.augmented else {})
        assert Plan(**job.settings).policy in ("MlpPolicy", "CnnPolicy", "LocConPolicy")
    assert len(keys) == len(NETWORKS)


def test_a_network_learns_goes_on_and_is_scored(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    first = deepagrel.learned(**asdict(SMALL))
    assert len(first["held_out"]) == 2
    assert first["test_images"] == 500
    (checkpoint,) = tmp_path.glob("runs/deepagrel/*/model.zip")
    written = checkpoint.stat().st_mtime_ns
    assert deepagrel.learned(**asdict(SMALL)) == first
    assert checkpoint.stat().st_mtime_ns == written


def test_divergence_counts_as_guessing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    plan = replace(SMALL, learner_kwargs={"learning_rate": 1e6})
    assert deepagrel.learned(**asdict(plan)) == {"diverged": True, "held_out": [0.1]}


def test_other_images_than_the_papers_are_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deepagrel, "_slug", lambda plan: "some")
    digits = load("Digits")
    data = (digits.x_train, digits.y_train, digits.x_test, digits.y_test)
    mine = {"dataset": None, "data": data}
    own = replace(SMALL, env_id="ClassificationBandit-MNIST-v0", env_kwargs=mine)
    with pytest.raises(ValueError, match="which is not what the paper has"):
        deepagrel.learned(**asdict(own))


def test_the_table_shows_cells_beside_the_papers(tmp_path: Path) -> None:
    file = ResultsFile("deepagrel", folder=tmp_path)
    for job in tuning_jobs(FULL, "Error-BP", EXTENT):
        put(file, job, held_out=[0.5])
    for rule, epochs in (("DeepAGREL", (6, 8)), ("Error-BP", (3, 4))):
        for job, stopped in zip(jobs(file, FULL, rule, EXTENT), epochs, strict=True):
            test = [0.9 + epoch / 100 for epoch in range(stopped)]
            put(file, job, stopped_epoch=stopped, best_epoch=2, test=test, test_accuracy=0.91)
    lines = deepagrel_table_1.render(file, EXTENT).splitlines()
    assert lines[2].split(" | ")[1:] == [
        "DeepAGREL",
        "0.5 *(0.5)*",
        "7 (1) *(130 (54))*",
        "2 (0)",
        "2.0",
        "94.00 (0.00)",
        "–",
        "96.00 (1.41)",
        "91.00 (0.00), 2 *(98.33 (0.09))* |",
    ]
    assert lines[3].split(" | ")[5:7] == ["1.0", "–"]
    assert cells(file, NETWORKS[1], "DeepAGREL", EXTENT) == []


def test_what_diverged_is_no_cell(tmp_path: Path) -> None:
    file = ResultsFile("deepagrel", folder=tmp_path)
    (job, _) = jobs(file, FULL, "DeepAGREL", EXTENT)
    put(file, job, diverged=True, held_out=[0.1])
    assert cells(file, FULL, "DeepAGREL", EXTENT) == []


def test_commands(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    digits = Network("Digits", "Full")
    for module in (deepagrel, deepagrel_table_1):
        monkeypatch.setattr(module, "NETWORKS", [digits])
    monkeypatch.setattr(deepagrel, "QUICK", Extent(1, 1, (0.1,), (0.5,), 1))
    monkeypatch.setattr(deepagrel_table_1, "ResultsFile", lambda *a: ResultsFile(*a, tmp_path))
    assert deepagrel_table_1.main(["--quick", "--workers", "1"]) == 0
    assert "| Digits Full | Error-BP | 0.1 | 1 | 1 |" in capsys.readouterr().out
    figure = ["--quick", "--output", str(tmp_path), "--logdir", str(tmp_path / "logs")]
    assert deepagrel_figure_3.main(figure) == 0
    assert (tmp_path / "deepagrel_figure_3-quick.png").exists()
    with pytest.raises(SystemExit) as leave:
        deepagrel_table_1.main(["--only", "MNIST Fool"])
    assert leave.value.code == 2
    assert "invalid choice: 'MNIST Fool'" in capsys.readouterr().err


def test_what_skipping_saves(tmp_path: Path) -> None:
    file = ResultsFile("skipping", folder=tmp_path)
    for threshold, seconds in ((0.0, (10, 12)), (0.1, (5, 6))):
        for job, each in zip(deepagrel_skipping.jobs(threshold, 2, 3), seconds, strict=True):
            expected = {"skip_below": threshold} if threshold else {}
            assert job.settings["learner_kwargs"] == expected
            put(file, job, test=[0.8, 0.9], learning_seconds=each)
    lines = deepagrel_skipping.render(file, 2, 3).splitlines()
    assert lines[2] == "| none | 90.00 (0.00) | 11 (1) | 0 |"
    assert lines[3] == "| 0.1 | 90.00 (0.00) | 6 (1) | 50 |"


def test_a_damaged_checkpoint_ends_in_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    deepagrel.learned(**asdict(SMALL))
    (checkpoint,) = tmp_path.glob("runs/deepagrel/*/model.zip")
    checkpoint.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"cannot be continued here.*start again"):
        deepagrel.learned(**asdict(SMALL))
