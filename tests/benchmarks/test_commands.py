"""Commands that measure: misuse and failure in one line, and no result of another recipe."""

import re
import sys
from dataclasses import replace
from importlib import import_module

import pytest

from benchmarks import bandit, control, headline
from benchmarks.common import control_networks
from benchmarks.common.command import exit_code
from meta.command_line import DONE, FAILED, INTERRUPTED, MISUSED

GAUSSIAN = "CreditAssign-Gaussian-v0"
COMMANDS = (
    "bandit",
    "control",
    "deepagrel_speed.__main__",
    "headline",
    "inner_loop",
    "meta_gradient",
    "page",
    "peers.__main__",
    "stepped",
    "table_s4",
)
MAINS = {
    name.removesuffix(".__main__"): import_module(f"benchmarks.{name}").main for name in COMMANDS
}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("headline --only Foo", f"choose from '{GAUSSIAN}'"),
        ("headline --seeds 0", "at least 1"),
        ("bandit --env Foo", "choose from 'Digits', 'MNIST'"),
        ("bandit --batch 0", "at least 1"),
        ("bandit --repeats -1", "at least 1"),
        ("deepagrel_speed --repeats 0", "at least 1"),
        ("inner_loop --candidates 0", "at least 1"),
        ("peers --repeats -3", "at least 1"),
        ("table_s4 --only", "unrecognized arguments"),
        ("page --quick", "unrecognized arguments"),
        ("meta_gradient --repeats 0", "at least 1"),
        ("control --lives 24", "multiple of 16"),
        ("control --rounds 0", "at least 1"),
        ("stepped --env walker", "choose from 'bipedal-walker'"),
        ("stepped --agents 0", "at least 1"),
    ],
)
def test_misuse_is_one_line(line, message, capsys, monkeypatch):
    name, *_ = line.split()
    monkeypatch.setattr(sys, "argv", line.split())
    with pytest.raises(SystemExit) as leave:
        MAINS[name]()
    assert leave.value.code == MISUSED
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"{name}: ")
    assert message in said


def test_only_what_goes_on_says_so(capsys):
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert exit_code("goes", interrupted) == INTERRUPTED
    assert exit_code("ends", interrupted, goes_on=False) == INTERRUPTED
    said = capsys.readouterr().err.splitlines()
    assert said == ["goes: interrupted; the same command goes on", "ends: interrupted"]


def test_speeds_have_what_made_them(capsys):
    assert bandit.main(["--env", "Digits", "--batch", "3", "--repeats", "1", "--quick"]) == DONE
    printed = capsys.readouterr().out
    assert "torch: " in printed
    assert "| DummyVecEnv | " in printed
    assert control.main(["--env", "cartpole", "--lives", "16", "--rounds", "1"]) == DONE
    printed = capsys.readouterr().out
    assert "torch " in printed
    assert "| cartpole | 16 | " in printed


def test_dynamics_that_differ_are_not_timed(capsys, monkeypatch):
    monkeypatch.setattr(control, "check_equality", lambda _: 0.1)
    assert control.main(["--env", "pendulum", "--quick"]) == FAILED
    assert "nothing was timed" in capsys.readouterr().err


def test_the_headline_is_of_the_recipe_that_there_is(tmp_path, capsys, monkeypatch):
    """Runs are kept; those of another recipe are not taken for them, and say why they fail."""
    asked = ["--quick", "--only", GAUSSIAN, "--seeds", "1", "--logdir", str(tmp_path)]
    assert headline.main(asked) == DONE
    table = capsys.readouterr().out
    assert "| environment | agent | summit reached, % | by gradient ascent, % |" in table
    line = rf"\| {GAUSSIAN} \| tdca-mlp \| [\d.]+ \| 79.4 \| – \| \d+ \| \d+ \|"
    assert re.search(line, table)

    commands = []

    def fail(command, **kwargs):
        commands.append((command, kwargs))
        raise OSError("train.py failed")

    monkeypatch.setattr(control_networks.subprocess, "run", fail)
    assert headline.main(asked) == DONE
    assert capsys.readouterr().out in table
    assert commands == []

    recipes = control_networks.RECIPES
    changed = replace(recipes[GAUSSIAN], policy_kwargs={"hidden_sizes": (3,)})
    monkeypatch.setattr(control_networks, "RECIPES", {**recipes, GAUSSIAN: changed})
    assert headline.main(asked) == FAILED
    assert capsys.readouterr().err == "headline: train.py failed\n"
    ((command, kwargs),) = commands
    assert command[2:6] == ["--agent", "tdca-mlp", "--env", GAUSSIAN]
    assert "stderr" not in kwargs


def test_the_headline_is_of_whole_data_sets(tmp_path, capsys, monkeypatch):
    def partial(self, logdir):
        folder = logdir / "run"
        folder.mkdir(parents=True)
        (folder / "results.json").write_text('{"dataset": "a part", "dataset_is_complete": false}')
        return control_networks.Run(folder, {})

    monkeypatch.setattr(control_networks.Network, "run", partial)
    asked = ["--only", "CreditAssign-MNIST-v0", "--seeds", "1", "--logdir", str(tmp_path)]
    assert headline.main(asked) == FAILED
    assert "a part is no whole data set" in capsys.readouterr().err
