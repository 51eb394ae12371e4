"""Networks of the zoo: each still scores what its card says."""

import shutil
from math import prod
from typing import Any

import numpy as np
import pytest

import train
from agents import TDCAPolicy
from credit_envs.datasets import load as load_dataset
from meta import load, video, zoo
from meta.climbing import climb
from meta.evaluation import evaluate
from meta.recipes import CONTROL, IMAGES, RECIPES, SURFACES
from meta.report import FRESH_LIFE, NUM_SUBSETS
from meta.runs import Run
from meta.tuning import Tuned, score

DIGITS, BANDIT = "CreditAssign-Digits-v0", "ClassificationBandit-Digits-v0"
TINY = ["--env-kwargs", "num_samples=50", "num_updates=2"]


def networks(envs: tuple[str, ...]) -> list[str]:
    return [name for name in zoo.names() if zoo.card(name)["results"]["config"]["env"] in envs]


@pytest.mark.parametrize("name", networks(SURFACES))
def test_surfaces_are_climbed_as_the_card_says(name):
    results = zoo.card(name)["results"]
    climbs = climb(load(name), results["config"]["env"])
    assert [result.policy for result in climbs] == [s["policy"] for s in results["surfaces"]]
    assert all(result.policy > 0.99 for result in climbs)


LEARNED = {
    "CreditAssign-CartPole-v0": 195,
    "CreditAssign-ReversedCartPole-v0": 195,
    "CreditAssign-Pendulum-v0": -170,
    "CreditAssign-ReversedPendulum-v0": -250,
    "CreditAssign-BipedalWalker-v0": 20,
    "CreditAssign-MetaWorld-v0": 400,
}
"""Mean returns that agents have at least once they have learned."""


def test_every_environment_of_control_has_a_network():
    described = {zoo.card(name)["results"]["config"]["env"] for name in networks(CONTROL)}
    assert described == set(CONTROL)


@pytest.mark.parametrize("name", networks(CONTROL))
def test_agents_learn_as_the_card_says(name):
    results = zoo.card(name)["results"]
    env_id = results["config"]["env"]
    seeds = [FRESH_LIFE + i for i in range(results["lives"])]
    kwargs = RECIPES[env_id].scored_kwargs
    evaluation = evaluate(load(name), env_id, seeds, kwargs, conditions=["normal"])
    now = evaluation.conditions["normal"].per_update["episode_return"].mean(0)
    then = results["conditions"]["normal"]["episode_return"]["mean"]
    # Processors differ in the last bits, and a rod near the top multiplies them.
    np.testing.assert_allclose(now, then, rtol=0.02, atol=2.0)
    assert now[-1] > LEARNED[env_id]


LONG = 1_000_000
"""Images times updates."""


def life_of(name: str) -> dict[str, int]:
    """Arguments that say how large the lives are that its card scores, where it does."""
    asked = zoo.card(name)["results"]["config"].get("env_kwargs", {})
    return {key: asked[key] for key in ("num_samples", "num_updates") if key in asked}


def is_long(name: str) -> bool:
    """Whether those lives take more than seconds."""
    return prod(life_of(name).values()) > LONG


def networks_for_images() -> list[Any]:
    """Names with each of the environments that the network was evolved in."""
    return [
        pytest.param(name, env_id, marks=[pytest.mark.slow] if is_long(name) else [])
        for name in zoo.names()
        for env_id in zoo.card(name)["meta_training"]
        if env_id in IMAGES
    ]


@pytest.mark.parametrize(("name", "env_id"), networks_for_images())
def test_images_are_learned_as_the_card_says(name, env_id):
    description = zoo.card(name)
    results, trained = description["results"], description["meta_training"][env_id]
    results = results.get("environments", {env_id: results})[env_id]
    (row,) = (
        row
        for row in results["rows"]
        if row["method"] == "TDCA" and row["images"] == "fresh subsets"
    )
    try:
        there = load_dataset(env_id.split("-")[1]).name
    except FileNotFoundError:
        there = "nothing"
    if there != results["dataset"]:
        pytest.skip(f"needs {results['dataset']}: set CREDIT_ENVS_DATA")
    kwargs = {**zoo.network_kwargs(name, env_id), **life_of(name)}
    if "num_samples" in row:
        # Fewer than in meta-training, for so many fresh images there are not.
        kwargs["num_samples"] = row["num_samples"]
    fresh = (trained["train_range"][1], 1.0)
    tuned = Tuned(row["learning_rate"], row.get("weight_decay", 0.0))
    seeds = [FRESH_LIFE + i for i in range(NUM_SUBSETS)]
    now = score("TDCA", load(name), env_id, kwargs, fresh, tuned, seeds)
    # Processors differ in the last bits, and training amplifies them.
    assert now.test.mean() == pytest.approx(np.mean(row["test_accuracy"]), abs=0.01)


def test_a_card_tells_networks_from_their_images():
    assert zoo.network_kwargs("mnist-groups", "CreditAssign-MNIST-v0") == {
        "credit": "groups",
        "credit_groups": 10,
        "init": "kaiming",
    }
    assert zoo.network_kwargs("mnist-pgpe", "CreditAssign-MNIST-v0") == {"optimizer": "adam"}
    with pytest.raises(ValueError, match="not meta-trained in CreditAssign-Digits-v0, but in Cr"):
        zoo.network_kwargs("mnist-pgpe", "CreditAssign-Digits-v0")


def test_a_network_of_other_parameters_has_another_digest(tmp_path, monkeypatch):
    for name in ("gaussian", "multi-gaussian"):
        for end in ("json", "safetensors"):
            shutil.copy(zoo.FOLDER / f"{name}.{end}", tmp_path)
    shutil.copy(tmp_path / "gaussian.safetensors", tmp_path / "again.safetensors")
    shutil.copy(tmp_path / "multi-gaussian.json", tmp_path / "again.json")
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    assert zoo.digest("again") == zoo.digest("gaussian") != zoo.digest("multi-gaussian")
    with pytest.raises(ValueError, match="did you mean 'gaussian'"):
        zoo.digest("gausian")


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'gaussian'"):
        load("gausian")


def test_a_finished_run_goes_into_the_zoo(tmp_path, monkeypatch):
    arguments = ["--agent", "tdca-mlp", "--env", "CreditAssign-Gaussian-v0", "--generations", "1"]
    assert train.main([*arguments, "--logdir", str(tmp_path / "runs")]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    zoo.add(Run.open(folder), "fresh", tmp_path)
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    policy = load("fresh")
    assert isinstance(policy, TDCAPolicy)
    assert zoo.names() == ["fresh"]
    modes = {(tmp_path / f"fresh.{end}").stat().st_mode for end in ("json", "safetensors")}
    assert len(modes) == 1
    (folder / "results.json").unlink()
    with pytest.raises(ValueError, match="--resume"):
        zoo.add(Run.open(folder), "again", tmp_path)


@pytest.mark.parametrize(
    "agent", [["deepagrel", "--env", BANDIT, "--epochs", "1"], ["dfa", "--env", DIGITS, *TINY]]
)
def test_a_run_without_top_down_network_is_called_that(agent, tmp_path, capsys):
    """Of an intact run nobody says that it is incomplete."""
    assert train.main(["--agent", *agent, "--logdir", str(tmp_path)]) == train.DONE
    (folder,) = map(str, tmp_path.iterdir())
    capsys.readouterr()
    assert zoo.main([folder, "name"]) == train.FAILED
    assert video.main([folder]) == train.FAILED
    evolve = ["--agent", "tdca-mlp", "--init-from", folder, "--logdir", str(tmp_path)]
    assert train.main(evolve) == train.MISUSED
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 3
    for line in said:
        assert f"a run of {agent[0]} in {agent[2]}, which has no top-down network" in line
        assert "name a run of tdca-mlp, tdca-shared, tdca-rnn" in line


def test_the_command(tmp_path, capsys):
    arguments = ["--agent", "tdca-mlp", "--env", "CreditAssign-Gaussian-v0", "--generations", "1"]
    assert train.main([*arguments, "--logdir", str(tmp_path)]) == train.DONE
    (folder,) = tmp_path.iterdir()
    capsys.readouterr()
    assert zoo.main([str(tmp_path), "name"]) == train.FAILED
    assert zoo.main([str(folder), "../name"]) == train.FAILED
    (folder / "config.json").write_text("{}")
    assert zoo.main([str(folder), "name"]) == train.FAILED
    no_run, no_name, no_version = capsys.readouterr().err.strip().splitlines()
    assert "holds no run" in no_run
    assert "'../name' is no name" in no_name
    assert "a run of version None, and this is" in no_version
