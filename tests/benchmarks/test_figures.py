"""The figures' own arithmetic: planes, angles, losses and curves; and that the commands run."""

import json
import re

import numpy as np
import pytest
import torch

from benchmarks import credit_angles, figure_2, figure_s1, figure_s2, figure_s3, recovery
from benchmarks.common.figure_methods import DFA, DIFFUSION, TDCA, ZERO, make, rule, top_down
from benchmarks.common.figures import rounded
from benchmarks.common.results import ResultsFile
from benchmarks.figure_s3 import Plane, angle, displacement, first_direction, losses, weights
from meta import climbing, zoo
from meta.baselines import learn
from meta.report import fresh_lives

SMALL = {"num_samples": 40, "num_updates": 4, "learning_rate": 0.05}


def test_points_of_a_plane_are_rebuilt_from_their_coordinates():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 50)) + rng.normal(size=50)

    plane = Plane(points)

    np.testing.assert_allclose(plane.point(plane.project(points)), points, atol=1e-12)
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-12)
    assert plane.explained.sum() == pytest.approx(1)


def test_what_leaves_the_plane_is_orthogonal_to_it():
    points = np.random.default_rng(1).normal(size=(20, 9))

    plane = Plane(points)
    left = points - plane.point(plane.project(points))

    np.testing.assert_allclose(left @ plane.axes.T, 0, atol=1e-12)
    kept = 1 - (left**2).sum() / ((points - points.mean(0)) ** 2).sum()
    assert plane.explained.sum() == pytest.approx(kept)


def test_angles_of_known_vectors():
    assert angle(np.array([2.0, 0]), np.array([0, 5.0])) == pytest.approx(90)
    assert angle(np.array([1.0, 0]), np.array([3.0, 3.0])) == pytest.approx(45)
    assert angle(np.array([1.0, 2]), np.array([-2.0, -4])) == pytest.approx(180)


def test_first_direction_points_along_the_trajectory():
    step = np.array([3.0, -4.0, 0.0])
    trajectory = np.linspace(0, 1, 7)[:, None] ** 2 * step

    np.testing.assert_allclose(displacement(trajectory), step)
    assert angle(first_direction(trajectory), step) == pytest.approx(0, abs=1e-4)
    assert angle(first_direction(trajectory[::-1]), step) == pytest.approx(180, abs=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
@pytest.mark.parametrize("name", [TDCA, ZERO, DFA])
def test_loss_at_a_trajectorys_ends_is_the_environments(name, optimizer):
    method = top_down(name, "Digits") if name == TDCA else rule(name, "Digits")
    env = make(method, 1, **SMALL | {"optimizer": optimizer})
    told, trajectory = [], []
    for task in learn(method.policy, env, [3]):
        told.append(float(task.training_loss()[0]))
        trajectory.append(weights(task))

    np.testing.assert_allclose(losses(env.task, np.stack(trajectory)), told, rtol=1e-5)


def test_curves_end_as_the_environment_says_at_the_end_of_its_lives():
    method = top_down(TDCA, "Digits")
    chosen = {"optimizer": "adam", "learning_rate": 0.02}
    cell = figure_s2.converge(method, updates=3, lives=2, chosen=chosen)

    split = figure_s2.image_split(method.env_id, method.env_kwargs)
    env = make(method, 2, num_updates=3, train_range=split.fresh_range, **chosen)
    observation, _ = env.reset(seed=fresh_lives(2))
    for _ in range(3):
        with torch.no_grad():
            action = method.policy.act(torch.from_numpy(observation)).numpy()
        observation, *_, info = env.step(action)

    for name in figure_s2.METRICS:
        np.testing.assert_allclose(cell["last"][name], info["final_info"][name], rtol=1e-3)
        assert cell["curves"][name]["mean"][-1] == pytest.approx(
            np.mean(cell["last"][name]), rel=1e-3
        )
        assert len(cell["curves"][name]["std"]) == 4


def test_rounding_keeps_shape_and_significant_digits():
    assert rounded([[1.23456, 0.000123456], [0, -98765.4]]) == [[1.235, 0.0001235], [0, -98770]]
    assert rounded(0.5) == 0.5


def test_top_down_networks_leave_the_images_of_their_meta_training_behind():
    kwargs = top_down(TDCA, "MNIST").env_kwargs
    assert not {"num_samples", "train_range", "learning_rate", "evaluate_test"} & set(kwargs)
    trained = zoo.card("mnist-pgpe")["meta_training"]["CreditAssign-MNIST-v0"]
    assert kwargs.get("optimizer") == trained.get("optimizer")


def test_networks_start_as_they_did_in_meta_training():
    """From zero weights groups of neurons collapse, which `mnist-groups` never met."""
    assert top_down(DIFFUSION, "MNIST").env_kwargs["init"] == "kaiming"


def test_agents_have_recovered_when_they_are_good_again():
    curve = np.full(1 + recovery.SWITCH_AFTER + recovery.EPISODES_AFTER, 200.0)
    curve[recovery.SWITCH_AFTER + 1 :] = 9.0
    assert recovery.episodes_to_recover(curve) == "> 12"
    curve[recovery.SWITCH_AFTER + 4 :] = 190.0
    assert recovery.episodes_to_recover(curve) == "4"


def test_committed_figures_show_the_zoos_networks_as_they_are():
    shown = set()
    for figure in (figure_2, figure_s2, figure_s3, credit_angles):
        for cell in ResultsFile(figure.NAME).cells.values():
            settings = cell["settings"]
            shown |= set(re.findall(r'"([\w-]+ [0-9a-f]{12})"', json.dumps(settings)))
            if figure is credit_angles and "network" in settings:
                shown.add(f"{settings['method']} {settings['network']}")
    assert len(shown) >= 8
    assert shown == {f"{name} {zoo.digest(name)}" for name, _ in map(str.split, shown)}


COMMANDS = {
    "figure_2": (figure_2.main, []),
    "figure_s1": (
        figure_s1.main,
        ["--generations", "2", "--seeds", "1", "--workers", "0", "--checkpoints", "{}/runs"],
    ),
    "figure_s2": (figure_s2.main, ["--updates", "2", "--lives", "2"]),
    "figure_s3": (figure_s3.main, ["--updates", "3", "--lives", "2", "--grid", "4"]),
    "recovery": (recovery.main, []),
}


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.setattr(climbing, "GRID", 5)

    def call(name, *options):
        main, small = COMMANDS[name]
        folders = ["--output", str(tmp_path), "--logdir", str(tmp_path / "tensorboard")]
        own = [option.format(tmp_path) for option in small]
        return main(["--quick", *own, *folders, *options])

    return call


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "figure_2")) for name in COMMANDS],
)
def test_a_command_leaves_picture_numbers_and_tensorboard(name, call, tmp_path, capsys):
    assert call(name) == 0

    assert (tmp_path / f"{name}-quick.png").stat().st_size > 10_000
    assert list((tmp_path / "tensorboard").rglob("events*"))
    numbers = tmp_path / f"{name}-quick.json"
    kept = numbers.read_text()
    assert all("made_by" in cell for cell in json.loads(kept).values())
    capsys.readouterr()

    assert call(name) == 0
    assert numbers.read_text() == kept, "the second call found all numbers"
    assert "…" not in capsys.readouterr().out


def test_interrupted_outer_loop_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    settings = {
        "env_id": "CreditAssign-Digits-v0",
        "env_kwargs": {"num_samples": 20, "num_updates": 2, "learning_rate": 0.05},
        "policy_kwargs": figure_s1.STARTS["random start"]["policy_kwargs"],
        "pgpe_kwargs": {"population_size": 4, "seed": 0, "anneal_over": 4},
        "generations": 4,
    }
    split = figure_s1.image_split(settings["env_id"], {})
    monkeypatch.setattr(figure_s1, "EVERY", 1)
    whole = figure_s1.evolve(settings, split, tmp_path / "whole", workers=0)

    on_step = figure_s1.Measure._on_step

    def interrupted(measure):
        if measure.model.generation == 3:
            raise KeyboardInterrupt
        return on_step(measure)

    with monkeypatch.context() as context:
        context.setattr(figure_s1.Measure, "_on_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            figure_s1.evolve(settings, split, tmp_path / "parts", workers=0)
    learned = []
    monkeypatch.setattr(
        figure_s1.Measure,
        "_on_step",
        lambda measure: learned.append(measure.model.generation) or on_step(measure),
    )
    parts = figure_s1.evolve(settings, split, tmp_path / "parts", workers=0)

    assert parts == whole
    assert sorted(map(int, parts)) == [0, 1, 2, 3, 4]
    assert learned[-1] == 4
    assert len(learned) < 4


def test_networks_that_are_not_in_the_zoo_are_named(call, monkeypatch, capsys):
    monkeypatch.setattr(zoo, "names", lambda: ["gaussian"])

    assert call("figure_s2", "--data", "Digits") == 1

    said = capsys.readouterr()
    assert "left out, as the zoo has no such networks: digits-pgpe" in said.out
    assert said.err.count("\n") == 1
    assert "the zoo has no network for Digits" in said.err


@pytest.mark.parametrize(
    ("name", "option", "hint"),
    [
        ("figure_s1", ["--generations", "0"], "must be a whole number of at least 1"),
        ("figure_s2", ["--data", "MINST"], "MNIST"),
        ("figure_s3", ["--lives", "1"], "must be a whole number of at least 2"),
    ],
)
def test_misuse_is_refused_in_one_line(name, option, hint, call, capsys):
    with pytest.raises(SystemExit) as stop:
        call(name, *option)

    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith(f"{name}: ")
    assert said.count("\n") == 1
    assert hint in said


def test_damaged_numbers_are_refused_in_one_line(call, tmp_path, capsys):
    (tmp_path / "figure_2-quick.json").write_text("{")

    assert call("figure_2") == 1
    assert capsys.readouterr().err.count("\n") == 1
