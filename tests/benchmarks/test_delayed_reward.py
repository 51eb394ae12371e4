"""Rewards that arrive after several actions: the tasks, and how contenders are chosen and shown."""

import json

import gymnasium
import numpy as np
import pytest

from benchmarks import delayed_reward
from benchmarks.common.delayed_tasks import DIGITS, DelayedReward, environment
from benchmarks.common.results import ResultsFile
from benchmarks.delayed_reward import (
    CONTENDERS,
    Extent,
    cells_of,
    chosen,
    job,
    learned,
    render,
    tuning_jobs,
)


@pytest.mark.parametrize("is_right", [True, False])
def test_the_answer_is_paid_for_after_the_wait(is_right):
    env = DelayedReward(gymnasium.make(DIGITS), (2, 4))
    waits = set()
    image, info = env.reset(seed=0)
    for _ in range(40):
        assert image.any()
        answer = info["label"] if is_right else (info["label"] + 1) % 10
        wait, terminated = -1, False
        while not terminated:
            nothing, reward, terminated, truncated, _ = env.step(answer)
            wait += 1
            assert not nothing.any()
            assert not truncated
            assert terminated or reward == 0
            # Actions while it waits do nothing.
            answer = (answer + 5) % 10
        assert reward == float(is_right)
        waits.add(wait)
        image, info = env.reset()
    assert waits == {2, 3, 4}


def test_rewards_of_cartpole():
    for failure_alone, rewards in ((True, {-1.0, 0.0}), (False, {1.0})):
        env = environment("CartPole", 3, 0, failure_alone)
        env.reset()
        seen = {float(r) for _ in range(40) for r in env.step(np.zeros(3, int))[1]}
        assert seen == rewards


def test_every_job_is_json_and_has_a_key_of_its_own():
    keys = set()
    for task, contenders in CONTENDERS.items():
        for name in contenders:
            for jobs in tuning_jobs(task, name, Extent()):
                for each in jobs:
                    json.dumps(each.settings)
                    assert each.key not in keys
                    keys.add(each.key)


def test_tags_bridge_the_wait():
    """Accuracy of a short run with tags, and of one without, which stays at chance."""
    contender = CONTENDERS["Digits"]["AuGMEnT"]
    settings = {**contender.settings, "learning_rate": 0.2}
    with_tags = learned(
        "Digits", "AuGMEnT", {**settings, "tag_decay": 0.9}, 0, [1_000, 10_000], False
    )
    without = learned("Digits", "AuGMEnT", {**settings, "tag_decay": 0.0}, 0, [10_000], False)
    assert with_tags["scores"][1] > 50
    assert without["scores"][0] < 25
    assert with_tags["learning_seconds"] > 0


def test_a_network_that_diverges_scores_nothing():
    settings = {**CONTENDERS["Digits"]["AuGMEnT"].settings, "learning_rate": 1e9}
    result = learned("Digits", "AuGMEnT", settings, 0, [16, 4_000], False)
    assert result["diverged"]
    assert result["scores"][1] == 0


def test_the_best_point_is_chosen_and_shown(tmp_path):
    file = ResultsFile("delayed_reward", folder=tmp_path)
    extent = Extent(seeds=1, tuning_seeds=1)
    assert chosen(file, "Digits", "DQN", extent) is None
    for score, jobs in zip((1.0, 9.0, 3.0), tuning_jobs("Digits", "DQN", extent), strict=True):
        for each in jobs:
            file.cell(each.key, each.settings, lambda score=score: {"scores": [score] * 5})
    point = CONTENDERS["Digits"]["DQN"].points[1]
    assert chosen(file, "Digits", "DQN", extent) == point
    reported = job("Digits", "DQN", point, 0, extent, True)
    result = {"scores": [1.0, 2.0, 3.0, 4.0, 4.5], "learning_seconds": 7.0}
    file.cell(reported.key, reported.settings, lambda: result)
    assert len(cells_of(file, "Digits", "DQN", extent)) == 1
    assert f"| Digits | DQN | α {point['learning_rate']:g} | 1.00 |" in render(file, extent)


def test_the_command(tmp_path, monkeypatch, capsys):
    def fill(file, jobs, workers):
        for each in jobs:
            file.cell(each.key, each.settings, lambda each=each: each.compute(**each.settings))

    monkeypatch.setattr(ResultsFile, "fill", fill)
    monkeypatch.setattr(
        delayed_reward, "ResultsFile", lambda name, quick: ResultsFile(name, quick, tmp_path)
    )
    monkeypatch.setattr(delayed_reward, "QUICK", Extent(1, 0, (40,)))
    assert delayed_reward.main(["--quick", "--only", "Digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1] for line in lines[2:7]] == list(CONTENDERS["Digits"])
    assert (tmp_path / "delayed_reward-quick.json").exists()
