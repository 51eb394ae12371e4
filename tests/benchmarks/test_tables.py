"""Tables: cells are computed once, resume, and show what they hold."""

import json
import runpy
import sys
from functools import partial

import pytest
import torch

from benchmarks import (
    meta_gradient_table,
    page,
    table_1,
    table_2,
    table_s1,
    table_s2,
    table_s3,
    table_s4,
)
from benchmarks.common import classifiers
from benchmarks.common.classifiers import START, Block, Row, Setting, job, render
from benchmarks.common.results import Job, ResultsFile, markdown, spread
from benchmarks.common.transferred_network import asked_about
from meta import zoo
from meta.baselines import image_env
from meta.tuning import Split, split_images

TABLES = [table_1, table_2, table_s1, table_s2, table_s3]


def doubled(value: int, log: str) -> dict[str, int]:
    with open(log, "a") as file:
        file.write(f"{value}\n")
    if value < 0:
        raise ValueError("negative")
    return {"result": 2 * value}


def jobs(log, *values):
    return [Job(str(value), doubled, {"value": value, "log": str(log)}) for value in values]


def test_cells_are_computed_once_and_kept_at_once(tmp_path):
    log = tmp_path / "log"
    file = ResultsFile("table", folder=tmp_path)
    file.fill(jobs(log, 1, 2), workers=1)
    with pytest.raises(ValueError, match="negative"):
        file.fill(jobs(log, 3, -1), workers=1)
    again = ResultsFile("table", folder=tmp_path)
    again.fill(jobs(log, 1, 2, 3, 4), workers=1)
    assert sorted(log.read_text().split()) == ["-1", "1", "2", "3", "4"]
    assert {key: cell["result"] for key, cell in again.cells.items()} == {
        "1": 2,
        "2": 4,
        "3": 6,
        "4": 8,
    }
    assert {"versions", "hardware", "commit"} <= set(again.cells["1"]["made_by"])


def test_a_cell_of_other_settings_is_computed_again(tmp_path):
    file = ResultsFile("table", folder=tmp_path)
    assert file.cell("a", {"n": (1, 2)}, lambda: {"x": 1})["x"] == 1
    assert file.cell("a", {"n": [1, 2]}, lambda: {"x": 2})["x"] == 1
    assert file.cell("a", {"n": [1, 3]}, lambda: {"x": 2})["x"] == 2


def test_two_commands_may_add_to_one_file(tmp_path):
    one, other = (ResultsFile("table", folder=tmp_path) for _ in range(2))
    one.cell("a", {}, lambda: {"x": 1})
    other.cell("b", {}, lambda: {"x": 2})
    assert set(ResultsFile("table", folder=tmp_path).cells) == {"a", "b"}


def test_quick_results_lie_apart_and_damaged_files_are_refused(tmp_path):
    assert ResultsFile("t", folder=tmp_path).path != ResultsFile("t", True, tmp_path).path
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(ValueError, match="restore it, or delete it"):
        ResultsFile("t", folder=tmp_path)


def test_markdown_and_spread():
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert spread([0.5]) == "50.00"
    assert spread([0.4, 0.6]) == "50.00 ± 14.14"


@pytest.mark.parametrize("table", TABLES)
def test_every_cell_has_one_job_and_its_settings_are_json(table):
    seen = {}
    for block in table.BLOCKS:
        for wanted in block.jobs(None, quick=False):
            settings = json.dumps(wanted.settings, sort_keys=True)
            assert seen.setdefault(wanted.key, settings) == settings
    assert seen


def test_a_table_shows_its_cells_beside_the_papers(tmp_path):
    block = Block(
        "MNIST",
        {"small": Setting("MNIST", 100, 20), "large": Setting("MNIST", 60_000, 150)},
        [Row("BP", "Kaiming BP", {"small": "96 / 88"}), Row("evolved", {"large": "unheard-of"})],
    )
    assert [wanted.settings["method"] for wanted in block.jobs(["small"], quick=True)] == [
        "Kaiming BP"
    ]
    file = ResultsFile("table", folder=tmp_path)
    wanted = job("Kaiming BP", block.columns["small"])
    file.cell(wanted.key, wanted.settings, lambda: {"train": [0.9], "test": [0.8, 0.9]})
    lines = render(file, [block]).splitlines()
    assert lines[2] == "| BP | 90.00 / 85.00 ± 7.07 *(96 / 88)* | – |"
    assert lines[3] == "| evolved | – | – |"


def test_a_cell_of_other_settings_is_not_shown(tmp_path):
    block = Block("", {"small": Setting("MNIST", 100, 20)}, [Row("taught", "mnist-mlp")])
    file = ResultsFile("table", folder=tmp_path)
    wanted = job("mnist-mlp", block.columns["small"])
    assert wanted.settings["network"] == zoo.digest("mnist-mlp")
    former = {**wanted.settings, "network": "0123456789ab"}
    file.cell(wanted.key, former, lambda: {"train": [0.9], "test": [0.8]})
    assert render(file, [block]).splitlines()[2] == "| taught | – |"
    file.cell(wanted.key, wanted.settings, lambda: {"train": [0.7], "test": [0.6]})
    assert render(file, [block]).splitlines()[2] == "| taught | 70.00 / 60.00 |"


def test_all_images_and_the_same_credits_are_one_life():
    everything, some = Setting("MNIST", 60_000, 150), Setting("MNIST", 1000, 20)
    all_fresh, half_fresh = Setting("MNIST", 10_000, 50), Setting("CIFAR10", 10_000, 50)
    assert job(START, everything).settings["num_seeds"] == 1
    assert job("Kaiming BP", everything).settings["num_seeds"] == 3
    random_start = Setting("MNIST", 60_000, 150, {"init": "kaiming"})
    assert job(START, random_start).settings["num_seeds"] == 3
    assert job(START, all_fresh).settings["num_seeds"] == 1
    assert job("Kaiming BP", all_fresh).settings["num_seeds"] == 5
    assert job(START, half_fresh).settings["num_seeds"] == 5
    assert job(START, some).settings["num_seeds"] == 5
    assert Setting("CIFAR10", 60_000, 150).kwargs["num_samples"] == 50_000


@pytest.mark.parametrize("table", [*TABLES, meta_gradient_table])
def test_quick_tables_have_columns_of_the_smallest_size(table, monkeypatch):
    calls = []
    monkeypatch.setattr(classifiers, "main", lambda *args, quick: calls.append((args, quick)) or 0)
    monkeypatch.delitem(sys.modules, table.__name__)
    with pytest.raises(SystemExit):
        runpy.run_module(table.__name__, run_name="__main__")
    ((_, _, blocks), columns) = calls[0]
    quick = [wanted for block in blocks for wanted in block.jobs(columns, quick=True)]
    assert quick
    assert {wanted.settings["env_kwargs"]["num_samples"] for wanted in quick} == {1000}


def test_table_s4_takes_quick_as_every_table(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["table_s4", "--quick"])
    table_s4.main()
    assert "Credit groups" in capsys.readouterr().out


@pytest.mark.parametrize("name", classifiers.DATASETS)
def test_table_s3_has_the_papers_figures_beside_evolved_networks(name, tmp_path):
    block = table_s3.block(name, 60_000, 150, paper=True)
    start, evolved, *_ = block.rows
    assert not start.paper
    assert tuple(evolved.paper.values()) == table_s3.PAPER[name]
    file = ResultsFile("table", folder=tmp_path)
    shown = f"– *({table_s3.PAPER[name][1]})*"
    assert shown in render(file, [block]).splitlines()[3]


@pytest.fixture
def lives(monkeypatch):
    """What lives would have been asked for, by what they serve; none is lived."""
    asked = {}

    def tune(policy, env_id, env_kwargs, split, tuning_seeds, **arguments):
        asked["tuning"] = (env_kwargs["num_samples"], split)

    def scores(name, policy, env_id, env_kwargs, num_seeds, tuned):
        asked["scoring"] = env_kwargs["num_samples"]

    def split_for(env_id, env_kwargs):
        total = classifiers.FULL_TRAIN[env_id.split("-")[1]]
        return total, split_images(total, min(env_kwargs["num_samples"], 10_000))

    monkeypatch.setattr(classifiers, "require_whole", lambda *arguments: None)
    for name in (tune, scores, split_for):
        monkeypatch.setattr(classifiers, name.__name__, name)
    return asked


def test_settings_may_be_chosen_with_fewer_images_than_scored(lives):
    block = table_s3.block("MNIST", 60_000, 150, paper=True)
    tuned_on = []
    for column in block.columns:
        classifiers.accuracy(**block.jobs([column], quick=False)[0].settings)
        assert lives["scoring"] == 60_000
        tuned_on.append(lives["tuning"][0])
    assert tuned_on == [50_000, 50_000, 10_000, 10_000, 10_000, 50_000]


def test_there_are_fewer_settings_to_choose_from_where_lives_are_long():
    def is_long(num_samples, **env_kwargs):
        setting = Setting("MNIST", num_samples, 50, env_kwargs)
        return "few_choices" in job("Kaiming BP", setting).settings

    assert not is_long(10_000)
    assert not is_long(1000, architecture="cnn")
    assert is_long(10_000, architecture="cnn")
    assert is_long(10_001)


def test_settings_are_chosen_on_other_images_than_lives_are_scored_on(lives):
    """A sixth of CIFAR-10 would do for 2,000 images, but half is drawn from for 10,000."""
    setting = Setting("CIFAR10", 10_000, 50, tuned_on=2000)
    classifiers.accuracy(**job("Kaiming BP", setting).settings)
    assert lives == {"tuning": (2000, Split((0.0, 0.5), (0.5, 1.0))), "scoring": 10_000}


def test_a_block_of_a_table_can_be_asked_for_alone(monkeypatch):
    filled = []
    monkeypatch.setattr(
        classifiers.ResultsFile, "fill", lambda _, jobs, workers: filled.append(jobs)
    )
    asked = ["table_2", "--block", "Deep CNN", "--only", "MNIST, 1,000 / 20"]
    monkeypatch.setattr(sys, "argv", asked)
    assert classifiers.main("table_2", table_2.__doc__, table_2.BLOCKS, quick=[]) == 0
    kwargs = [wanted.settings["env_kwargs"] for wanted in filled[0]]
    assert kwargs
    assert all(kw == {**table_2.CNN, "num_samples": 1000, "num_updates": 20} for kw in kwargs)


def test_table_s4_is_the_papers_but_for_one_figure():
    lines = table_s4.render().splitlines()[2:8]
    differing = []
    for line in lines:
        for cell in line.split("|")[2:-1]:
            ours, _, paper = cell.strip().partition(" *(")
            if paper.rstrip(")*") not in (ours.replace(",", ""), "-"):
                differing.append(ours)
    assert differing == ["4,851,070"]


def some_credits(env):
    shape = env.single_action_space.shape
    return 0.1 * torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))


def test_a_transferred_network_is_the_same_network(image_arrays):
    """Asked about the data it was trained on, it answers as it did in training."""
    kwargs = {"data": image_arrays, "num_samples": 20, "num_updates": 2, "hidden_sizes": (5,)}
    env, task = image_env("CreditAssign-Images-v0", kwargs)
    env.reset_tensors([3])
    for _ in range(2):
        env.step_tensors(some_credits(env))
    same = asked_about("CreditAssign-Images-v0", kwargs, task, seed=3)
    assert same.accuracy().item() == task.accuracy().item()
    assert same.training_loss().item() == pytest.approx(task.training_loss().item(), rel=1e-5)
    ours, theirs = task.final_metrics(), same.final_metrics()
    assert theirs["test_loss"].item() == pytest.approx(ours["test_loss"].item(), rel=1e-5)


def test_commands_refuse_and_fail_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["table_s1", "--workers", "0"])
    with pytest.raises(SystemExit) as leave:
        classifiers.main("table_s1", table_s1.__doc__, table_s1.BLOCKS, quick=[])
    assert leave.value.code == 2
    assert "at least 1" in capsys.readouterr().err

    (tmp_path / "classifiers.json").write_text("{")
    monkeypatch.setattr(sys, "argv", ["table_s1"])
    monkeypatch.setattr(classifiers, "ResultsFile", partial(ResultsFile, folder=tmp_path))
    assert classifiers.main("table_s1", table_s1.__doc__, table_s1.BLOCKS, quick=[]) == 1
    error = capsys.readouterr().err
    assert error.startswith("table_s1: ")
    assert len(error.strip().splitlines()) == 1


def test_what_another_command_computed_anew_is_kept(tmp_path):
    one = ResultsFile("table", folder=tmp_path)
    one.cell("a", {"n": 1}, lambda: {"x": 1})
    ResultsFile("table", folder=tmp_path).cell("a", {"n": 2}, lambda: {"x": 2})
    one.cell("b", {}, lambda: {"x": 3})
    assert ResultsFile("table", folder=tmp_path).cells["a"]["x"] == 2


@pytest.mark.parametrize("name", page.PAGES)
def test_the_page_is_what_its_command_makes(name):
    made = page.PAGES[name]()
    assert made == (page.DOCS / f"{name}.md").read_text(), "run python -m benchmarks.page"


def test_every_section_says_how_it_was_made():
    """All but Table S4, where nothing is measured, and the tables of a cell each."""
    for make in page.PAGES.values():
        _, *sections = make().split("\n## ")
        for section in sections:
            assert "`python -m benchmarks." in section
            if not section.startswith("Table S4"):
                assert ", commit " in section or "; commit " in section
