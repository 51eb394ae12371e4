"""What runs are made of: which images they draw from, from where they start, in what lives."""

from dataclasses import replace

import pytest

from meta import configuration, zoo
from meta.arguments import new_run, parse_arguments
from meta.recipes import META_GRADIENT_RECIPES, RECIPES, SHARED_RECIPES, Recipe

DIGITS = "CreditAssign-Digits-v0"
IMAGES = 1297


def config_of(tmp_path, *arguments):
    return new_run(parse_arguments(None, [*arguments, "--logdir", str(tmp_path)])).config


@pytest.mark.parametrize(("asked", "first"), [("50", 5 / 6), ("500", 1 / 2)])
def test_outer_loops_and_scores_have_images_of_their_own(asked, first, tmp_path):
    config = config_of(
        tmp_path,
        *["--agent", "tdca-mlp", "--env", DIGITS, "--env-kwargs", f"num_samples={asked}"],
    )
    recipe = RECIPES[DIGITS]
    met = configuration.meta_kwargs(config, recipe, DIGITS)["train_range"]
    assert met == (0.0, pytest.approx(first))
    assert configuration.fresh_kwargs(config, recipe, DIGITS)["train_range"] == (met[1], 1.0)
    (kwargs,) = configuration.new_outer_loop(config).env_kwargs
    assert kwargs["train_range"] == met


def test_what_the_former_network_has_met_is_not_fresh(tmp_path):
    asked = ["--agent", "tdca-mlp", "--env", DIGITS, "--init-from", "digits-pgpe"]
    former = zoo.find("digits-pgpe").meta_training[DIGITS]["train_range"]
    assert former == [0.0, 0.5]
    config = {**config_of(tmp_path, *asked), "met": {DIGITS: 0.7}}
    # By the number of samples alone half of the images would be fresh.
    config["env_kwargs"] = {"num_samples": 380}
    split = configuration.split(config, RECIPES[DIGITS], DIGITS)
    assert (split.meta_range, split.fresh_range) == ((0.0, 0.7), (0.7, 1.0))
    config["env_kwargs"] = {"num_samples": 390}
    with pytest.raises(ValueError, match="of which 70% have been met before; ask for at most 389"):
        configuration.split(config, RECIPES[DIGITS], DIGITS)
    config["met"] = {DIGITS: 1.0}
    with pytest.raises(ValueError, match="start from another network"):
        configuration.split(config, RECIPES[DIGITS], DIGITS)
    assert config_of(tmp_path, *asked)["met"] == {DIGITS: 0.5}


def test_a_former_network_is_the_only_start(tmp_path):
    assert RECIPES["CreditAssign-Pendulum-v0"].learner_kwargs["starts"] > 1
    asked = ["--agent", "tdca-rnn", "--env", "CreditAssign-Pendulum-v0"]
    assert configuration.new_outer_loop(config_of(tmp_path, *asked)).starts > 1
    model = configuration.new_outer_loop(config_of(tmp_path, *asked, "--init-from", "pendulum"))
    assert model.starts == 1
    assert model.policy.beta.equal(zoo.load("pendulum").beta)


def test_lives_of_the_recipe_are_no_larger_than_the_data(tmp_path, monkeypatch):
    recipe = replace(
        SHARED_RECIPES[DIGITS],
        meta_kwargs={"loss_on": "held-out", "num_held_out": 100, "num_samples": 4000},
    )
    monkeypatch.setitem(SHARED_RECIPES, DIGITS, recipe)  # type: ignore[arg-type]
    asked = ["--agent", "tdca-shared", "--env", DIGITS]
    config = config_of(tmp_path, *asked)
    assert configuration.new_outer_loop(config).env_kwargs[0]["num_samples"] == IMAGES // 2 - 100
    (sentence,) = configuration.fewer_samples(config)
    assert "lives of 548 images, for there are none for 4000" in sentence
    config = config_of(tmp_path, *asked, "--env-kwargs", "num_samples=60")
    assert configuration.new_outer_loop(config).env_kwargs[0]["num_samples"] == 60
    assert configuration.fewer_samples(config) == []


def test_rules_are_scored_as_the_user_asks_and_networks_as_the_recipe_has_it():
    config = {"env_kwargs": {"num_updates": 5}}
    recipe = SHARED_RECIPES[DIGITS]
    assert configuration.scored_kwargs(config, recipe) == {
        "learning_rate": 0.05,
        "weight_decay": 3.0,
        "num_updates": 5,
    }
    assert configuration.scored_kwargs(config, Recipe(generations=0)) == config["env_kwargs"]
    assert not META_GRADIENT_RECIPES[DIGITS].scored_kwargs.get("weight_decay")
