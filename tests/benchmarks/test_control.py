"""Control: what learners and networks are scored by, and how the tables show it."""

import json
from dataclasses import replace
from types import SimpleNamespace

import gymnasium
import mujoco
import numpy as np
import pytest

from benchmarks import figure_3, table_s5, table_s6
from benchmarks.common import control_networks
from benchmarks.common.control_learners import learned
from benchmarks.common.control_networks import Network, life_of, steps_lived
from benchmarks.common.results import ResultsFile
from benchmarks.table_s5 import TASKS, Extent, life_jobs, long_jobs, needed, render, target
from credit_envs import __version__
from meta import zoo
from meta.evaluation import CONDITIONS, evaluate
from meta.pgpe import PGPE
from meta.report import FRESH_LIFE

SMALL = Extent(seeds=1, tuning_seeds=0, generations=1, marks=(1_000, 2_000))


def test_learners_are_scored_when_they_have_used_their_steps():
    settings = {"n_envs": 2, "n_steps": 16, "batch_size": 32, "learning_rate": "lin_0.001"}
    result = learned("CartPole-v1", 50, "PPO", settings, seed=0, marks=[40, 100])
    # Rollouts have 32 steps: 40 are passed after two of them, 100 after four.
    assert result["steps"] == [0, 64, 128]
    assert len(result["scores"]) == 3
    assert all(8 <= score <= 50 for score in result["scores"])


def test_learning_ends_where_it_is_enough():
    settings = {"learning_starts": 4, "train_freq": 4, "gradient_steps": 1}
    result = learned("CartPole-v1", 20, "DQN", settings, 0, [8, 16, 400], enough=5.0)
    assert result["steps"] == [0, 8]


def test_settings_are_read_as_the_zoo_writes_them():
    """Observations are normalised by what the learner has seen, returns are Gymnasium's."""
    settings = {"n_envs": 2, "n_steps": 8, "batch_size": 16, "normalize": True, "use_sde": True}
    ppo = learned("Pendulum-v1", 10, "PPO", settings, seed=0, marks=[16])
    noisy = {"noise_std": 0.1, "learning_starts": 4, "gradient_steps": 1}
    td3 = learned("Pendulum-v1", 10, "TD3", noisy, seed=0, marks=[8])
    for result in (ppo, td3):
        assert all(-163 < score < 0 for score in result["scores"])


def test_every_job_is_json_and_has_a_key_of_its_own(tmp_path):
    keys = set()
    file = ResultsFile("control", folder=tmp_path)
    for name, task in TASKS.items():
        for index in range(len(task.learners)):
            for each in life_jobs(file, name, index, SMALL) + long_jobs(name, index, Extent()):
                json.dumps(each.settings)
                assert each.key not in keys
                keys.add(each.key)
                gymnasium.spec(each.settings["gymnasium_id"])
    assert keys


def test_reversed_tasks_have_lives_as_long_as_the_plain_ones():
    for name, task in TASKS.items():
        if task.plain:
            lives = [life_of(f"CreditAssign-{one}-v0").steps for one in (name, task.plain)]
            assert lives[0] == lives[1]


def test_steps_of_a_life_are_those_that_were_played():
    """CartPole pays 1 a step, so the steps of a life are the sum of its returns."""
    env_id, policy = "CreditAssign-CartPole-v0", zoo.load("cartpole")
    env = gymnasium.make_vec(env_id, num_envs=64)
    observation, info = env.reset(seed=2**40)
    steps = info["episode_return"].copy()
    for _ in range(env.num_updates):
        observation, _, terminated, _, info = env.step(policy.predict(observation)[0])
        steps += (info["final_info"] if terminated.all() else info)["episode_return"]
    assert steps_lived(Network(env_id, 0), policy) == pytest.approx(steps.mean(), abs=0.1)


def test_steps_until_as_good():
    def cell(*scores):
        return {"steps": [0, 10, 20, 2_000][: len(scores)], "scores": scores}

    assert needed([[cell(9, 1, 2, 3)], [cell(0, 1, 3)]], 3) == "20 to 2,000"
    # The first score is from before learning.
    assert needed([[cell(9, 1)]], 3) == "not within 10"
    assert needed([[cell(0, 1), cell(0, 3)], [cell(0, 1)]], 3) == "10 (1 of 2)"


def network_cell(start, end):
    returns = {"episode_return": {"mean": [start, end]}}
    return {
        "conditions": dict.fromkeys(CONDITIONS, returns),
        "history": [start, end],
        "meta_steps": 1e6,
        "life_steps": 300.0,
        "network_made_by": {"hardware": "", "versions": {}, "commit": ""},
    }


def test_the_table_shows_what_is_there(tmp_path):
    file = ResultsFile("control", folder=tmp_path)
    assert target(file, "CartPole", SMALL) is None
    assert "Nothing" in render(file, SMALL)
    (network,) = table_s5.networks("CartPole", SMALL)
    file.cell(network.key, network.settings, lambda: network_cell(20.0, 120.0))
    assert target(file, "CartPole", SMALL) == pytest.approx(119.0)
    for jobs in (life_jobs(file, "CartPole", 0, SMALL), long_jobs("CartPole", 0, SMALL)):
        for each in jobs:
            scores = {"steps": [0, 1_280], "scores": [20.0, 150.0]}
            file.cell(each.key, each.settings, lambda scores=scores: scores)
    lines = render(file, SMALL).splitlines()
    assert lines[2].startswith("| TDCA | 20.0 | 120.0 (300) |")
    assert lines[4] == ("| PPO | 20.0 | 150.0 (1,280) | 150.0 (1,280) | 1,280 | none | 199 |")


def test_runs_are_begun_resumed_and_found(tmp_path, monkeypatch):
    network = Network("CreditAssign-CartPole-v0", 0, generations=1)
    asked = []

    def train(self, options):
        asked.append(options[0])
        run = self._folder(tmp_path) / "run"
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.json").write_text(json.dumps({"version": __version__}))
        if len(asked) == 1:
            raise OSError("train.py ended with exit code 130")
        (run / "results.json").write_text("{}")

    monkeypatch.setattr(Network, "_train", train)
    with pytest.raises(OSError, match="130"):
        network.run(tmp_path)
    assert network.run(tmp_path).folder.name == "run"
    network.run(tmp_path)
    assert asked == ["--agent", "--resume"]


def test_another_recipe_is_another_run(tmp_path, monkeypatch):
    network = Network("CreditAssign-CartPole-v0", 0)
    before = network._folder(tmp_path)
    recipe = control_networks.RECIPES[network.env_id]
    changed = {network.env_id: type(recipe)(generations=recipe.generations + 1)}
    monkeypatch.setattr(control_networks, "RECIPES", changed)
    assert network._folder(tmp_path) != before
    assert network.settings["recipe"] == {"generations": recipe.generations + 1}


def test_a_variant_has_runs_and_lines_of_its_own(tmp_path):
    file = ResultsFile("control", folder=tmp_path)
    recipe, variant = (
        Network("CreditAssign-ReversedCartPole-v0", 0, variant=which)
        for which in (None, table_s5.TASKS["ReversedCartPole"].variant)
    )
    options = variant._anew(tmp_path)
    for option in ("--generations", "--policy-kwargs", "--env-kwargs"):
        assert option in options
        assert option not in recipe._anew(tmp_path)
    assert {"state_size=None", "credit_scale=1.0"} < set(options)
    assert variant.env_kwargs["credit_scale"] == 1.0
    # Several starts take longer than a run that is cut short.
    assert variant.variant is not None
    whole = {f"starts={variant.variant.learner_kwargs['starts']}", str(variant.variant.generations)}
    assert whole < set(options)
    for short in (replace(recipe, generations=3), replace(variant, generations=3)):
        assert {"starts=1", "3"} < set(short._anew(tmp_path))
        assert not whole & set(short._anew(tmp_path))
    assert variant._folder(tmp_path) != recipe._folder(tmp_path)
    assert "variant" not in recipe.settings
    for network, end in ((recipe, 120.0), (variant, 110.0)):
        file.cell(network.key, network.settings, lambda end=end: network_cell(20.0, end))
    lines = render(file, Extent(seeds=1)).splitlines()
    assert next(line for line in lines if "state, action" in line).startswith(
        "| TDCA, state, action and reward alone | 20.0 | 110.0 (300) |"
    )
    assert target(file, "ReversedCartPole", Extent(seeds=1)) == pytest.approx(119.0)
    # Networks that were cut short are others.
    assert target(file, "ReversedCartPole", SMALL) is None


def test_the_figure_is_drawn_from_the_results(tmp_path, monkeypatch, capsys):
    def learn(network, file, logdir):
        cell = network_cell(20.0, 100.0 + network.seed)
        return file.cell(network.key, network.settings, lambda: cell)

    monkeypatch.setattr(Network, "learn", learn)
    monkeypatch.setattr(figure_3, "picture", lambda env_id: np.zeros((8, 9, 3), np.uint8))
    folders = ["--output", str(tmp_path), "--logdir", str(tmp_path / "tensorboard")]
    assert figure_3.main(["--quick", "--only", "CartPole", "Pendulum", *folders]) == 0
    assert (tmp_path / "figure_3-quick.png").stat().st_size > 10_000
    assert len(ResultsFile(control_networks.FILE, True, tmp_path).cells) == 4


def test_without_opengl_figure_3_says_what_to_do(tmp_path, monkeypatch, capsys):
    def no_opengl(self):
        raise mujoco.FatalError("an OpenGL platform library has not been loaded")

    monkeypatch.setattr(Network, "learn", lambda network, file, logdir: network_cell(20.0, 100.0))
    monkeypatch.setattr("gymnasium.envs.mujoco.MujocoEnv.render", no_opengl)
    folders = ["--output", str(tmp_path), "--logdir", str(tmp_path / "tensorboard")]
    assert figure_3.main(["--quick", "--only", "MetaWorld", *folders]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("figure_3: Meta-World's pictures take OpenGL")


def test_table_s6_pools_the_seeds_of_the_outer_loop(tmp_path):
    file = ResultsFile("control", folder=tmp_path)
    assert "Nothing" in table_s6.render(file)
    for seed, end in enumerate((890.4, 910.4)):
        metrics = {
            "episode_return": {"mean": [10.0, end], "std": [1.0, 20.0]},
            "success": {"mean": [0.0, end / 1000], "std": [0.0, 0.0]},
        }
        tasks = {task: {"normal": metrics, "constant": metrics} for task in table_s6.TASKS}
        settings = table_s6.settings_of(seed, "unseen")
        file.cell(table_s6._key(seed, "unseen"), settings, lambda tasks=tasks: {"tasks": tasks})
    of_another_recipe = {**table_s6.settings_of(2, "unseen"), "lives": 1}
    file.cell(table_s6._key(2, "unseen"), of_another_recipe, lambda: {"tasks": tasks})
    lines = table_s6.render(file).splitlines()
    assert lines[2].count("| 10 ± 0 (0 ± 0 %) ") == 3
    assert "| 900 ± 14 (90 ± 1 %) *(1932.2 (0 %))* |" in lines[3]
    assert "Seeds of the outer loop: 2, 90 lives each" in lines[-1]


def test_table_s6_scores_the_network_of_a_run_and_keeps_the_cell(tmp_path, monkeypatch):
    """Of a network that gives no credits, agents stay as they were, whatever the condition."""
    env_id = table_s6.ENV_ID
    model = PGPE("TDCARNNPolicy", env_id, population_size=2, lives=3, seed=0)
    model.policy.beta.data.zero_()
    model.save(tmp_path / "model.zip")
    asked = []

    def run(network, logdir):
        asked.append((network.seed, logdir))
        return SimpleNamespace(checkpoint=tmp_path / "model.zip")

    monkeypatch.setattr(Network, "run", run)
    file = ResultsFile("control", folder=tmp_path)
    cells = [table_s6.score(file, 5, "unseen", tmp_path, quick=True) for _ in range(2)]
    assert asked == [(5, tmp_path)]
    assert cells[0] == cells[1]
    assert cells[0]["settings"]["env_kwargs"]["starts"] == "unseen"
    for task in table_s6.TASKS:
        by_condition = cells[0]["tasks"][task]
        first, *later = by_condition["normal"]["episode_return"]["mean"]
        assert later == [first] * len(later)
        assert by_condition["constant"] == by_condition["normal"]


def test_the_walker_of_the_zoo_is_followed_over_long_episodes(tmp_path, monkeypatch):
    """Returns of its lives, as many as asked for, and no cell of another network's."""
    short = table_s5.walk("network", horizon=20, lives=2)
    env_id = "CreditAssign-BipedalWalker-v0"
    evaluation = evaluate(
        zoo.load(table_s5.WALKER), env_id, [FRESH_LIFE, FRESH_LIFE + 1], {"horizon": 20}
    )
    for condition, returns in short.items():
        lives = evaluation.conditions[condition].per_update["episode_return"]
        assert returns == pytest.approx(lives[:, -1].tolist(), abs=0.01)
    file = ResultsFile("table", folder=tmp_path)
    job = table_s5.walk_job()
    file.cell(job.key, job.settings, lambda: {"normal": [200.0, 100.0], "constant": [-50.0, 50.0]})
    said = table_s5._farther(file)
    assert "150.0 ± 70.7, 50 % of lives above 150; with constant credits 0.0 ± 70.7, 0 %" in said
    monkeypatch.setattr(zoo, "digest", lambda name: "another")
    assert table_s5._farther(file) == ""
