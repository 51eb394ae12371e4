"""The traveller's table: what is left out is not met, and cells come from where they lie."""

import json

import pytest

from benchmarks import traveller
from benchmarks.common.results import ResultsFile
from benchmarks.traveller import (
    DATASETS,
    KNOWN,
    ROWS,
    SEEDS,
    accuracy,
    known_job,
    network_job,
    network_key,
    places,
    start_job,
    travelled_job,
)


@pytest.mark.parametrize("left_out", [None, *DATASETS])
def test_a_network_does_not_meet_what_is_left_out(left_out):
    job = network_job(left_out, SEEDS[0], quick=False)
    met = set(job.settings["env_kwargs"])
    assert met == {env_id for name, env_id in DATASETS.items() if name != left_out}
    json.dumps(job.settings)


def test_every_cell_has_a_key_of_its_own_and_its_settings_are_json():
    found = places(list(traveller.COLUMNS), list(DATASETS))
    assert ("Digits", "10,000 / 50") not in found
    jobs = [known_job(row, place, quick=False) for place in found.values() for row in KNOWN]
    jobs += [start_job(place, [0.0], quick=False) for place in found.values()]
    jobs += [
        travelled_job(row, place, seed, [0.0], quick=False)
        for place in found.values()
        for row in ROWS[len(KNOWN) + 1 :]
        for seed in SEEDS
    ]
    assert len({job.key for job in jobs}) == len(jobs)
    json.dumps([job.settings for job in jobs])
    # Known rules come from the file of the other tables, but for Digits.
    assert {job.compute is accuracy for job in jobs if job.key.startswith("DFA | MNIST")} == {False}
    assert {job.compute is accuracy for job in jobs if "Digits" in job.key} == {True}


def test_rows_of_a_networks_own_data_need_its_own_network():
    assert traveller.needed(["DFA"], ["MNIST"]) == []
    assert traveller.needed(["traveller", "left out"], ["MNIST"]) == [None, "MNIST"]


def test_the_table_shows_what_there_is_and_pools_outer_loop_seeds(tmp_path):
    file, known = (ResultsFile(name, folder=tmp_path) for name in ("a", "b"))
    (place,) = places(["1,000 / 20"], ["Digits"]).values()
    for seed, train, test in ((SEEDS[0], 1.0, 0.8), (SEEDS[1], 0.9, 0.6)):
        beta = [seed + 0.5]
        file.cell(network_key("Digits", seed), {}, lambda beta=beta: {"beta": beta})
        job = travelled_job("left out", place, seed, beta, quick=False)
        result = {"train": [train], "test": [test]}
        file.cell(job.key, job.settings, lambda result=result: result)
    lines = traveller.render(file, known).splitlines()
    assert lines[2] == (
        "| Digits, traveller, meta-trained on the others | 95.00 ± 7.07 / 70.00 ± 14.14 | – | – |"
    )
    assert lines[3] == ""

    # A network meta-trained anew: what the former one scored is not its score.
    file.cell(network_key("Digits", SEEDS[1]), {"other": 1}, lambda: {"beta": [7.0]})
    line = traveller.render(file, known).splitlines()[2]
    assert line == "| Digits, traveller, meta-trained on the others | 100.00 / 80.00 | – | – |"


def test_the_zoos_card_has_what_its_own_network_scores(tmp_path, monkeypatch):
    kept = {}
    monkeypatch.setattr(traveller.zoo, "keep", lambda *arguments: kept.update(results=arguments[2]))
    file = ResultsFile("a", folder=tmp_path)
    network = network_job(None, SEEDS[0], quick=False)
    size = len(traveller._start())
    trained = {"beta": [0.5] * size, "generations": 60, "learning_seconds": 1.0}
    file.cell(network.key, network.settings, lambda: trained)
    found = places(["1,000 / 20", "10,000 / 50"], ["MNIST"]).values()
    # The larger one is of a network that was there before.
    for place, beta in zip(found, ([0.5] * size, [0.25] * size), strict=True):
        job = travelled_job("traveller", place, SEEDS[0], beta, quick=False)
        scored = {"train": [1.0], "test": [0.9], "tuned": {}, "fresh": True, "dataset": "MNIST"}
        file.cell(job.key, job.settings, lambda scored=scored: scored)
    traveller.keep_in_zoo(file)
    (rows,) = (environment["rows"] for environment in kept["results"]["environments"].values())
    assert [row["images"] for row in rows] == ["fresh subsets"]
