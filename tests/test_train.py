"""The command line: what it prints, keeps, refuses and resumes."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from errno import ENOSPC
from pathlib import Path

import pytest
import torch

import train
from agents import DeepAGREL, SharedTDCAPolicy
from credit_envs.tasks.metaworld import TASKS
from meta import MetaGradient, zoo
from meta.baselines import RULES
from meta.evaluation import evaluate
from meta.pgpe import PGPE
from meta.recipes import RECIPES, SHARED_RECIPES

ROOT = Path(train.__file__).parent
DIGITS = "CreditAssign-Digits-v0"
BANDIT = "ClassificationBandit-Digits-v0"
TRIALS = ["--agent", "deepagrel", "--env", BANDIT]
SMALL = ["--policy-kwargs", "hidden_sizes=(20,)", "init_range=0.2"]
QUICK = ["--agent", "tdca-mlp", "--env", "CreditAssign-Gaussian-v0", "--generations"]
REVERSED = ["--agent", "tdca-rnn", "--env", "CreditAssign-ReversedCartPole-v0"]
ROBOT = ["--agent", "tdca-rnn", "--env", "CreditAssign-MetaWorld-v0"]
STARTS = [*REVERSED, "--learner-kwargs", "starts=2"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *arguments]


def with_a_checkpoint(
    logdir: Path, *arguments: str, stderr: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    """A run in a process group of its own, which has just written its first checkpoint."""
    process = subprocess.Popen(
        command(*arguments, "--logdir", str(logdir)),
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    while not list(logdir.glob("*/model.zip")):
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.01)
    return process


def only_run(logdir: Path) -> Path:
    (folder,) = logdir.iterdir()
    return folder


def test_a_run_keeps_everything(tmp_path, capsys):
    assert train.main([*QUICK, "3", "--logdir", str(tmp_path)]) == train.DONE
    folder = only_run(tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.zip", "results.json", "figures", "tensorboard"}
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "field_gaussian.png",
        "outer_loop.png",
    }
    results = json.loads((folder / "results.json").read_text())
    (surface,) = results["surfaces"]
    printed = capsys.readouterr().out
    assert f"{100 * surface['gradient_ascent']:.1f}" in printed
    assert {"versions", "hardware", "commit", "date"} <= set(results["made_by"])
    assert results["config"]["generations"] == 3
    assert any((folder / "tensorboard").glob("events.*"))


def test_timesteps_are_generations_in_other_words(tmp_path):
    per_generation = 32 * 16 * 100
    for length in (["--generations", "3"], ["--timesteps", str(3 * per_generation - 7)]):
        arguments = [*QUICK[:-1], *length, "--logdir", str(tmp_path / length[0])]
        assert train.main(arguments) == train.DONE
    one, other = (only_run(tmp_path / name) for name in ("--generations", "--timesteps"))
    assert torch.equal(final_beta(one), final_beta(other))


@pytest.mark.parametrize("name", ["CartPole", "Pendulum", "ReversedPendulum"])
def test_control_shows_the_four_conditions(name, tmp_path, capsys):
    arguments = ["--agent", "tdca-rnn", "--generations", "1", "--logdir", str(tmp_path)]
    arguments += ["--env", f"CreditAssign-{name}-v0", "--learner-kwargs", "starts=1"]
    assert train.main([*arguments, "--env-kwargs", "num_updates=1", "horizon=20"]) == train.DONE
    printed = capsys.readouterr().out
    for condition in ("normal", "constant", "shuffled", "frozen"):
        assert condition in printed
    results = json.loads((only_run(tmp_path) / "results.json").read_text())
    frozen = results["conditions"]["frozen"]["episode_return"]["mean"]
    assert len(frozen) == 2
    assert results["lives"] == 256
    assert f"Gymnasium's {name.removeprefix('Reversed')}-v1" in printed
    replayed = results["replayed_in_gymnasium"]
    assert replayed["largest_difference"] < 0.001
    assert f"{replayed['mean']:.1f} ± {replayed['std']:.1f} after" in " ".join(printed.split())


@pytest.mark.parametrize(
    ("asked", "starts"), [([], "unseen"), (["starts=validation"], "validation")]
)
def test_agents_in_gymnasiums_environments_need_no_replay(asked, starts, tmp_path, capsys):
    """Each task has its table, with successes; results are on initial states unseen before."""
    arguments = ["--agent", "tdca-rnn", "--generations", "1", "--logdir", str(tmp_path)]
    arguments += ["--env", "CreditAssign-MetaWorld-v0", "--workers", "0"]
    arguments += ["--learner-kwargs", "population_size=2"]
    small = ["--env-kwargs", "num_updates=1", "horizon=2", *asked]
    assert train.main([*arguments, *small]) == train.DONE
    printed = capsys.readouterr().out
    for task in TASKS:
        assert f"{task}: episode return" in printed
    assert "successes, %" in printed
    run = only_run(tmp_path)
    results = json.loads((run / "results.json").read_text())
    assert results["lives"] == 90
    assert results["tasks"].keys() == set(TASKS)
    assert len(results["tasks"]["Dial-turn"]["constant"]["success"]["mean"]) == 2
    assert "replayed_in_gymnasium" not in results
    assert (run / "figures" / "success.png").exists()
    model = PGPE.load(run / "model.zip")
    assert model.env_kwargs[0]["starts"] == "train"
    assert results["env_kwargs"]["starts"] == starts


@pytest.mark.parametrize(("agent", "at_least"), [("dfa", 0.6), ("fa", 0.6), ("deepagrel", 0.3)])
def test_a_rule_and_its_table(tmp_path, capsys, agent, at_least):
    """From the start that suits it: from zero weights, DeepAGREL's rule stays at a tenth."""
    arguments = ["--agent", agent, "--env", DIGITS, "--logdir", str(tmp_path)]
    assert train.main([*arguments, "--env-kwargs", "num_samples=100", "num_updates=10"]) == 0
    (row,) = json.loads((only_run(tmp_path) / "results.json").read_text())["rows"]
    assert len(row["test_accuracy"]) == 5
    assert sum(row["test_accuracy"]) / 5 > at_least
    assert agent in capsys.readouterr().out


def test_images_stand_beside_the_baselines(tmp_path, capsys):
    arguments = ["--agent", "tdca-mlp", "--env", DIGITS, "--workers", "0"]
    small = ["--env-kwargs", "num_samples=50", "num_updates=3", "hidden_sizes=(8,)"]
    assert train.main([*arguments, *small, "--generations", "1", "--logdir", str(tmp_path)]) == 0
    results = json.loads((only_run(tmp_path) / "results.json").read_text())
    assert results["dataset"] == "Digits"
    assert "data: Digits" in capsys.readouterr().out
    for row in results["rows"]:
        assert row["learning_rate"] > 0
        if "BP" not in row["method"]:
            assert row["weight_decay"] == row["label_smoothing"] == 0.0
    methods = [row["method"] for row in results["rows"]]
    assert [m for m in methods if m != "TDCA"] == list(RULES)
    assert "TDCA" in methods


@pytest.mark.filterwarnings("ignore:Using MNIST")
def test_policy_and_outer_loop_as_asked_for_and_several_environments(tmp_path, capsys):
    """Everything of a run in two environments comes twice, and resumes as it was asked for."""
    asked = ["--policy-kwargs", "hidden_sizes=(10,)", "start=feedback-alignment"]
    asked += ["--learner-kwargs", "population_size=4", "resample_lives=False"]
    asked += ["--env-kwargs", "num_samples=50", "num_updates=2", "hidden_sizes=(8,)"]
    arguments = ["--agent", "tdca-mlp", "--env", DIGITS, "CreditAssign-MNIST-v0", *asked]
    arguments += ["--workers", "0", "--generations", "2"]
    assert train.main([*arguments, "--logdir", str(tmp_path)]) == train.DONE
    run = only_run(tmp_path)
    model = PGPE.load(run / "model.zip")
    assert (model.population_size, model.resample_lives, model.generation) == (4, False, 2)
    assert list(model.policy.hidden_sizes) == [10]
    assert len(model._evaluator.envs) == 2
    assert capsys.readouterr().out.count("accuracy after the last update") == 2
    before = json.loads((run / "results.json").read_text())
    own = before["environments"][DIGITS]["rows"][0]
    assert own["images"] == "its own subsets"
    life = [model.policy, DIGITS, model.life_seeds, model.env_kwargs[0], ["normal"]]
    accuracy = evaluate(*life).conditions["normal"].last("accuracy")
    assert own["train_accuracy"] == pytest.approx(accuracy.tolist(), abs=1e-6)
    assert train.main(["--resume", str(run), "--workers", "0"]) == train.DONE
    after = json.loads((run / "results.json").read_text())
    assert before["environments"] == after["environments"]


SMALL_DIGITS = ["num_samples=50", "num_held_out=50", "num_updates=3", "hidden_sizes=(8,)"]
TEACH = ["--agent", "tdca-mlp", "--outer", "meta-gradient", "--env", DIGITS]
TEACH += ["--env-kwargs", *SMALL_DIGITS, "--generations"]


def test_meta_gradients_end_the_same_if_interrupted_and_pgpe_goes_on(tmp_path, capsys, monkeypatch):
    whole, stopped, fine = (tmp_path / name for name in ("whole", "stopped", "fine"))
    assert train.main([*TEACH, "6", "--logdir", str(whole)]) == train.DONE
    results = json.loads((only_run(whole) / "results.json").read_text())
    assert [row["method"] for row in results["rows"]][2:] == list(RULES)
    assert "accuracy after the last update" in capsys.readouterr().out

    monkeypatch.setattr(train.Interruption, "_on_step", lambda self: self.model.generation < 4)
    monkeypatch.setattr(train.Interruption, "came", True)
    assert train.main([*TEACH, "6", "--logdir", str(stopped)]) == train.INTERRUPTED
    monkeypatch.undo()
    folder = only_run(stopped)
    assert MetaGradient.load(folder / "model.zip").generation == 4
    assert train.main(["--resume", str(folder)]) == train.DONE
    ends = [MetaGradient.load(only_run(run) / "model.zip") for run in (whole, stopped)]
    assert torch.equal(*(model.policy.beta for model in ends))

    evolve = ["--agent", "tdca-mlp", "--env", DIGITS, "--env-kwargs", *SMALL_DIGITS]
    evolve += ["--init-from", str(folder), "--workers", "0", "--generations", "1"]
    tiny = ["--learner-kwargs", "population_size=2", "center_learning_rate=1e-6"]
    assert train.main([*evolve, *tiny, "--logdir", str(fine)]) == train.DONE
    evolved = PGPE.load(only_run(fine) / "model.zip")
    assert evolved.policy_kwargs == ends[0].policy_kwargs
    torch.testing.assert_close(evolved.policy.beta, ends[0].policy.beta, rtol=0, atol=1e-5)


def test_the_shared_network_learns_in_lives_of_its_recipe(tmp_path, monkeypatch):
    # Two subsets to score instead of eight.
    monkeypatch.setattr("meta.report.NUM_SUBSETS", 1)
    monkeypatch.setattr("meta.report._NUM_TUNING_SUBSETS", 1)
    asked = ["--agent", "tdca-shared", "--env", DIGITS, "--generations", "2"]
    asked += ["--env-kwargs", "num_samples=60", "num_updates=4", "hidden_sizes=(8,)"]
    assert train.main([*asked, "--logdir", str(tmp_path)]) == train.DONE
    model = MetaGradient.load(only_run(tmp_path) / "model.zip")
    assert isinstance(model.policy, SharedTDCAPolicy)
    recipe = SHARED_RECIPES[DIGITS]
    assert (model.shortest, model.generation) == (recipe.learner_kwargs["shortest"], 2)
    assert model.env_kwargs[0]["num_held_out"] == recipe.meta_kwargs["num_held_out"]
    rows = json.loads((only_run(tmp_path) / "results.json").read_text())["rows"]
    decays = {row["method"]: row["weight_decay"] for row in rows}
    assert decays["TDCA"] == recipe.scored_kwargs["weight_decay"]
    assert decays["FA"] == decays["DFA"] == decays["DeepAGREL"] == 0.0


def test_meta_gradients_go_on_from_the_zoo(tmp_path):
    asked = ["--agent", "tdca-mlp", "--outer", "meta-gradient", "--env", DIGITS]
    asked += ["--init-from", "digits-mlp", "--generations", "1"]
    asked += ["--env-kwargs", "num_samples=50", "num_updates=2", "--no-baselines"]
    assert train.main([*asked, "--logdir", str(tmp_path)]) == train.DONE
    model = MetaGradient.load(only_run(tmp_path) / "model.zip")
    torch.testing.assert_close(model.policy.beta, zoo.load("digits-mlp").beta, rtol=0, atol=0.011)


def test_scores_without_baselines_are_those_with_them_and_stay_so_when_resumed(tmp_path):
    asked = [*TEACH, "1", "--logdir"]
    assert train.main([*asked, str(tmp_path / "both")]) == train.DONE
    assert train.main([*asked, str(tmp_path / "alone"), "--no-baselines"]) == train.DONE
    paths = [only_run(tmp_path / name) / "results.json" for name in ("both", "alone")]
    both, alone = (json.loads(path.read_text())["rows"] for path in paths)
    assert [row["images"] for row in alone] == ["meta-training images", "fresh subsets"]
    assert {row["method"] for row in alone} == {"TDCA"}
    assert alone == both[:2]
    assert len(both) > 2
    paths[1].unlink()
    assert train.main(["--resume", str(paths[1].parent)]) == train.DONE
    assert json.loads(paths[1].read_text())["rows"] == alone


@pytest.mark.parametrize("agent", ["deepagrel", "backprop", "fa", "dfa"])
def test_learning_from_trials_keeps_everything(agent, tmp_path, capsys):
    arguments = ["--agent", agent, "--env", BANDIT, *SMALL, "--epochs", "3"]
    assert train.main([*arguments, "--logdir", str(tmp_path)]) == train.DONE
    folder = only_run(tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.zip", "results.json", "figures", "tensorboard"}
    assert (folder / "figures" / "learning.png").exists()
    results = json.loads((folder / "results.json").read_text())
    assert results["dataset"] == "Digits"
    assert len(results["held_out"]) == len(results["test"]) == 3
    printed = capsys.readouterr().out
    assert f"{100 * results['test_accuracy']:.2f}" in printed
    assert agent in printed
    before = results["held_out"], results["test"]
    assert train.main(["--resume", str(folder)]) == train.DONE
    again = json.loads((folder / "results.json").read_text())
    assert (again["held_out"], again["test"]) == before


def test_batches_may_be_larger_than_what_is_held_out(tmp_path):
    large = ["--learner-kwargs", "batch_size=600", "--epochs", "2", "--logdir", str(tmp_path)]
    assert train.main([*TRIALS, *SMALL, *large]) == train.DONE
    results = json.loads((only_run(tmp_path) / "results.json").read_text())
    assert len(results["held_out"]) == len(results["test"]) == 2


def test_a_network_of_trials_that_is_killed_ends_the_same(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = [*TRIALS, *SMALL, "--epochs", "40"]
    assert train.main([*arguments, "--logdir", str(whole)]) == 0
    process = with_a_checkpoint(killed, *arguments)
    process.kill()
    process.wait()
    folder = only_run(killed)
    assert DeepAGREL.load(folder / "model.zip").num_timesteps < 40 * 1097
    assert train.main(["--resume", str(folder)]) == 0
    ends = [DeepAGREL.load(only_run(run) / "model.zip").policy for run in (whole, killed)]
    for ours, theirs in zip(*(policy.parameters() for policy in ends), strict=True):
        assert torch.equal(ours, theirs)


def test_ctrl_c_in_trials_stops_after_a_checkpoint(tmp_path):
    forever = [*TRIALS, *SMALL, "--epochs", "10000"]
    process = with_a_checkpoint(tmp_path, *forever, stderr=subprocess.PIPE)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == train.INTERRUPTED
    folder = only_run(tmp_path)
    assert f"--resume {folder}" in error
    assert "Traceback" not in error
    assert DeepAGREL.load(folder / "model.zip").num_timesteps > 0


def test_a_network_of_trials_that_diverges_is_one_line(tmp_path, capsys):
    arguments = [*TRIALS, *SMALL, "--learner-kwargs", "learning_rate=1e6"]
    assert train.main([*arguments, "--logdir", str(tmp_path)]) == train.FAILED
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("train.py: the network has diverged")


def test_deepagrel_chooses_credits_too(tmp_path, capsys):
    arguments = ["--agent", "deepagrel", "--env", DIGITS, "--logdir", str(tmp_path)]
    assert train.main([*arguments, "--env-kwargs", "num_samples=100", "num_updates=10"]) == 0
    (row,) = json.loads((only_run(tmp_path) / "results.json").read_text())["rows"]
    assert sum(row["test_accuracy"]) / 5 > 0.3


def test_list_and_help_teach(capsys):
    assert train.main(["--list"]) == train.DONE
    listed = capsys.readouterr().out
    for name in train.AGENTS:
        assert name in listed
    with pytest.raises(SystemExit) as leave:
        train.main(["--help"])
    assert leave.value.code == 0
    assert "examples:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--agent tdca-rnn"),
        (["--agent", "tdca-rn"], "did you mean 'tdca-rnn'"),
        (["--agent", "tdca-mlp", "--env", "CreditAssign-MINST-v0"], "'CreditAssign-MNIST-v0'"),
        (["--agent", "tdca-mlp", "--env", "CreditAssign-CartPole-v0"], "use --agent tdca-rnn"),
        (["--agent", "tdca-rnn", "--env", DIGITS], "use --agent tdca-mlp"),
        (["--agent", "dfa", "--env", "CreditAssign-Gaussian-v0"], "does not fit"),
        ([*QUICK, "0"], "at least 1"),
        ([*QUICK, "many"], "whole number"),
        ([*QUICK, "1", "--timesteps", "5"], "not allowed with"),
        ([*QUICK, "1", "--env-kwargs", "num_update=5"], "did you mean 'num_updates'"),
        ([*QUICK, "1", "--env-kwargs", "num_updates=0"], "at least 1"),
        ([*QUICK, "1", "--env-kwargs", "reward=progres"], "did you mean 'progress'"),
        ([*QUICK, "1", "--env-kwargs", "num_updates"], "name=value"),
        ([*QUICK, "1", "--policy-kwargs", "hiden_sizes=(3,)"], "did you mean 'hidden_sizes'"),
        ([*QUICK, "1", "--policy-kwargs", "hidden_sizes=(0,)"], "at least 1"),
        ([*QUICK, "1", "--learner-kwargs", "population_size=7"], "even"),
        ([*QUICK, "1", "--learner-kwargs", "seed=7"], "no 'seed'"),
        ([*REVERSED, "--learner-kwargs", "lives=1"], "ask for lives=2 or more"),
        ([*ROBOT, "--env-kwargs", "rotation=(0,180)"], "ask for lives=6 or more"),
        ([*REVERSED, "--learner-kwargs", "starts=2"], "--generations 121 or more"),
        ([*STARTS, "--generations", "120"], "--generations 121 or more"),
        ([*STARTS, "--timesteps", str(120 * 32 * 16 * 5)], "--generations 121 or more"),
        ([*STARTS, "anneal_over=120"], "make it 121 or more"),
        ([*QUICK, "1", "--learner-kwargs", "lives"], "--learner-kwargs takes name=value"),
        (["--agent", "dfa", "--policy-kwargs", "seed=1"], "agents that learn"),
        (["--agent", "dfa", "--outer", "pgpe"], "--outer is for agents that learn"),
        ([*TRIALS, "--outer", "pgpe"], "--outer is for top-down networks"),
        (["--agent", "tdca-mlp", "--outer", "gradient"], "invalid choice: 'gradient'"),
        ([*QUICK, "1", "--outer", "meta-gradient"], "does not fit CreditAssign-Gaussian-v0"),
        (["--agent", "tdca-rnn", "--outer", "meta-gradient"], "leave it out for pgpe"),
        ([*TEACH, "1", "--workers", "2"], "--workers is for pgpe"),
        (["--agent", "tdca-shared", "--env", DIGITS, "--outer", "pgpe"], "takes meta-gradient"),
        ([*TEACH, "1", "--learner-kwargs", "population_size=4"], "no 'population_size'"),
        (
            [*TEACH[:4], "--env", DIGITS, "--env-kwargs", "credit=parameters"],
            'credit="parameters": use PGPE',
        ),
        ([*QUICK, "1", "--init-from", "gausian"], "did you mean 'gaussian'"),
        ([*QUICK, "1", "--init-from", "multi-gaussian"], "other observations or credits"),
        (
            [*QUICK, "1", "--init-from", "gaussian", "--policy-kwargs", "hidden_sizes=(3,)"],
            "leave them out",
        ),
        (["--agent", "dfa", "--env", DIGITS, "CreditAssign-MNIST-v0"], "name one"),
        (["--agent", "tdca-mlp", "--env", DIGITS, DIGITS], "more than once"),
        ([*QUICK, "1", "--device", "toaster"], "toaster"),
        ([*QUICK, "1", "--epochs", "5"], "not allowed with"),
        (["--agent", "dfa", "--epochs", "5"], "--epochs is for learning from trials"),
        ([*QUICK, "1", "--policy", "MlpPolicy"], "--policy is for learning from trials"),
        ([*TRIALS, "--policy", "MplPolicy"], "invalid choice: 'MplPolicy'"),
        ([*TRIALS, "--generations", "5"], "say --epochs"),
        ([*TRIALS, "--timesteps", "5"], "say --epochs"),
        ([*TRIALS, "--workers", "1"], "takes one process"),
        ([*TRIALS, "--env-kwargs", "agument=True"], "did you mean 'augment'"),
        ([*TRIALS, "--env-kwargs", "split=test"], "scored on test images; leave it out"),
        ([*TRIALS, "--env-kwargs", "split=validation"], "split is not to be chosen"),
        ([*TRIALS, "--env-kwargs", "num_validation=0"], "hold out at least 1"),
        ([*TRIALS, "--learner-kwargs", "batch_size=1098"], "make it at most 1097"),
        ([*TRIALS, "--policy-kwargs", "hiden_sizes=(3,)"], "did you mean 'hidden_sizes'"),
        ([*TRIALS, "--learner-kwargs", "lerning_rate=1"], "did you mean 'learning_rate'"),
        ([*TRIALS, "--learner-kwargs", "seed=1"], "no 'seed'"),
        ([*TRIALS, "--learner-kwargs", "learning_rate=0"], "finite number above 0"),
        ([*TRIALS, "--device", "toaster"], "toaster"),
        (
            ["--agent", "backprop", "--env", BANDIT, "--learner-kwargs", "epsilon=0.1"],
            "takes no epsilon",
        ),
        (["--agent", "drtp", "--env", BANDIT], "use --agent backprop or fa or dfa or deepagrel"),
        (["--agent", "dfa", "--env", BANDIT, DIGITS], "name one"),
        (
            ["--agent", "tdca-mlp", "--env", DIGITS, "--env-kwargs", "train_range=(0,0.5)"],
            "train_range is not to be chosen",
        ),
        (["--agent", "dfa", "--env", DIGITS, "--env-kwargs", "learning_rate=0.1"], "leave it out"),
        (["--agent", "dfa", "--env", DIGITS, "--env-kwargs", "num_samples=900"], "at most 648"),
        (["--agent", "dfa", "--env", DIGITS, "--no-baselines"], "--no-baselines is for top-down"),
        (["--agent", "dfa", "--env", DIGITS, "--seed", "1"], "--seed is for agents that learn"),
        (["--agent", "dfa", "--env", DIGITS, "--generations", "1"], "is for agents that learn"),
        (["--agent", "dfa", "--env", DIGITS, "--workers", "1"], "is for agents that learn"),
        (["--agent", "dfa", "--env", DIGITS, "--env-kwargs", "max_episode_steps=3"], "max_episode"),
        (
            [*TEACH, "1", "--env-kwargs", "num_samples=600", "loss_on=held-out", "num_held_out=99"],
            "num_samples=600 beside num_held_out=99 is more than the 648 training images",
        ),
        ([*TEACH, "1", "--env-kwargs", "hidden_sizes=(1000000,1000000)"], "memory"),
        ([*QUICK, "1", "--seed", str(2**32)], "must be at most 2**32 - 1"),
        ([*QUICK, "1", "--init-from", "gaussian", "--learner-kwargs", "starts=2"], "starts=2 are"),
        (
            [
                *["--agent", "tdca-mlp", "--env", DIGITS, "--init-from", "digits-pgpe"],
                *["--env-kwargs", "num_samples=700"],
            ],
            "at most 648",
        ),
        (["--agent", "tdca-rnn", "--no-baselines"], "--no-baselines is for top-down"),
        (["--resume", "somewhere", "--no-baselines"], "leave it out"),
        (["--resume", "somewhere", "--seed", "1"], "leave it out"),
        (["--resume", "somewhere", "--device", "cpu"], "leave it out"),
        (["--resume", "somewhere", "--learner-kwargs", "lives=2"], "leave it out"),
        (
            [
                "--agent",
                "dfa",
                "--env",
                DIGITS,
                "--env-kwargs",
                "num_samples=9999",
            ],
            "at most 1297",
        ),
    ],
)
def test_misuse_is_one_line_that_names_the_fix(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = train.main(arguments)
    except SystemExit as leave:
        code = leave.code
    error = capsys.readouterr().err
    assert code == train.MISUSED
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_failures_are_one_line(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert train.main([*QUICK, "1", "--logdir", str(blocked)]) == train.FAILED
    assert "cannot write" in capsys.readouterr().err
    assert train.main(["--resume", str(tmp_path / "nowhere")]) == train.FAILED
    assert "holds no run" in capsys.readouterr().err


def test_missing_and_damaged_data_are_failures(tmp_path, capsys):
    data = f"data_dir={tmp_path}"
    assert train.main(["--agent", "dfa", "--env-kwargs", data]) == train.FAILED
    assert "train-images-idx3-ubyte" in capsys.readouterr().err
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{part}-ubyte").write_bytes(b"not an image")
    assert train.main(["--agent", "dfa", "--env-kwargs", data]) == train.FAILED
    error = capsys.readouterr().err
    assert str(raw) in error
    assert len(error.strip().splitlines()) == 1


def test_resume_refuses_a_checkpoint_that_is_not_its_own(tmp_path, capsys):
    assert train.main([*QUICK, "1", "--logdir", str(tmp_path)]) == 0
    folder = only_run(tmp_path)
    checkpoint = folder / "model.zip"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:500])
    assert train.main(["--resume", str(folder)]) == train.FAILED
    assert "incomplete" in capsys.readouterr().err
    PGPE("TDCAPolicy", "CreditAssign-MultiGaussian-v0", population_size=2, lives=2).save(checkpoint)
    assert train.main(["--resume", str(folder)]) == train.FAILED
    assert "is a checkpoint of CreditAssign-MultiGaussian-v0" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"[]", b"{}", b"\xff"])
def test_resume_refuses_a_run_that_it_cannot_read(content, tmp_path, capsys):
    (tmp_path / "config.json").write_bytes(content)
    assert train.main(["--resume", str(tmp_path)]) == train.FAILED
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert str(tmp_path) in error[0]


def test_a_device_that_is_not_there_is_misuse(tmp_path, capsys):
    for arguments in (TRIALS, QUICK[:-1]):
        asked = [*arguments, "--device", "cuda:99", "--logdir", str(tmp_path)]
        assert train.main(asked) == train.MISUSED
        assert "device='cuda:99' cannot be used here" in capsys.readouterr().err


def test_going_on_from_a_network_of_another_kind_is_misuse(capsys):
    assert train.main(["--agent", "tdca-rnn", "--init-from", "mnist-mlp"]) == train.MISUSED
    assert "is a TDCAPolicy, and tdca-rnn goes on from a TDCARNNPolicy" in capsys.readouterr().err


def final_beta(folder: Path) -> torch.Tensor:
    return PGPE.load(folder / "model.zip").policy.beta


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*TEACH, "1"], "--ray is for pgpe"),
        (TRIALS, "takes one process"),
        (["--agent", "dfa", "--env", DIGITS], "--ray is for agents that learn"),
    ],
)
def test_ray_is_refused_where_there_is_nothing_to_share(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr("meta.arguments.ray_workers", lambda: None)
    assert train.main([*arguments, "--ray", "auto"]) == train.MISUSED
    assert message in capsys.readouterr().err


def test_where_ray_is_missing_an_error_says_how_to_install_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "meta.ray_workers", raising=False)
    with pytest.raises(SystemExit) as leave:
        train.main([*QUICK, "1", "--ray", "auto"])
    assert leave.value.code == train.MISUSED
    assert 'pip install -c constraints.txt ".[ray]"' in capsys.readouterr().err
    with pytest.raises(ImportError, match=r"\[ray\]"):
        PGPE("TDCAPolicy", "CreditAssign-Gaussian-v0", ray="auto")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_killed_in_mid_generation_ends_the_same(workers, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train.main([*QUICK, "40", "--logdir", str(whole)]) == 0
    process = with_a_checkpoint(killed, *QUICK, "40", "--workers", workers)
    process.kill()
    process.wait()
    assert nobody_is_left(process.pid)
    folder = only_run(killed)
    assert PGPE.load(folder / "model.zip").generation < 40
    assert train.main(["--resume", str(folder), "--workers", "0"]) == 0
    assert torch.equal(final_beta(only_run(whole)), final_beta(folder))


def nobody_is_left(group: int, seconds: int = 5) -> bool:
    """Whether all processes of a group have ended, within so many seconds."""
    for _ in range(100 * seconds):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c_stops_after_a_checkpoint(workers, tmp_path):
    process = with_a_checkpoint(
        tmp_path, *QUICK, "10000", "--workers", workers, stderr=subprocess.PIPE
    )
    # As a terminal does: to the main process and its workers.
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == train.INTERRUPTED
    folder = only_run(tmp_path)
    assert f"--resume {folder}" in error
    assert "Traceback" not in error
    assert PGPE.load(folder / "model.zip").generation > 0


@pytest.mark.parametrize(("device", "workers"), [("cpu", os.cpu_count()), ("cuda", 0)])
def test_a_gpu_takes_the_whole_population_itself(device, workers):
    arguments = argparse.Namespace(workers=None, ray=None)
    recipe = RECIPES["CreditAssign-MNIST-v0"]
    assert train.number_of_workers(arguments, recipe, device) == workers


def test_ctrl_c_while_workers_start_is_no_traceback(tmp_path):
    process = subprocess.Popen(
        command(*QUICK, "10000", "--workers", "2", "--logdir", str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("run folder")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == train.INTERRUPTED
    assert "Traceback" not in error


def test_a_full_disk_names_the_fix(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.writer.SummaryWriter.add_scalar", full)
    arguments = ["--agent", "tdca-mlp", "--env", "CreditAssign-Gaussian-v0", "--generations", "2"]
    assert train.main([*arguments, "--logdir", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.endswith("go on with --resume and the run folder")


def test_what_memory_does_not_hold_is_one_line(tmp_path, capsys):
    crowd = ["--learner-kwargs", f"population_size={10**12}"]
    assert train.main([*QUICK, "1", *crowd, "--logdir", str(tmp_path)]) == train.FAILED
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "train.py: Unable to allocate" in line
    assert line.endswith("ask for smaller sizes")
