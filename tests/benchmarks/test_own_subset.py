"""Evolution for one subset: the subset is the one it met, and known rules learn the same ones."""

import gymnasium
import pytest

from agents import DFAPolicy
from benchmarks import own_subset
from benchmarks.common.results import ResultsFile
from benchmarks.own_subset import FRESH, OWN
from meta.command_line import FAILED

SMALL = {"num_samples": 60, "num_updates": 3}
DIGITS = "CreditAssign-Digits-v0"


@pytest.fixture(autouse=True)
def digits(monkeypatch):
    monkeypatch.setattr(own_subset, "ENV", DIGITS)


def taught_by_dfa(seed: int, tuned: dict[str, float], num_samples: int) -> dict[str, float]:
    """Accuracies on the one subset that this seed of the outer loop meets, by hand."""
    rates = {name: tuned[name] for name in ("learning_rate", "weight_decay")}
    # Half of the images make up fresh subsets, see `meta.tuning.split_images`.
    env = gymnasium.make_vec(
        DIGITS, num_envs=1, **SMALL, **rates, train_range=(0.0, 5 / 6), evaluate_test=True
    )
    policy = DFAPolicy(env.single_observation_space, env.single_action_space)
    policy = policy.smoothed(tuned["label_smoothing"])
    policy.attach(env)
    model = own_subset.learner(seed, 1, SMALL)
    (life,) = model.life_seeds
    model.generation = 7
    assert model.life_seeds == (life,)
    observation = env.reset_tensors([life])
    for _ in range(env.num_updates):
        observation, _, _ = env.step_tensors(policy.act(observation))
    final = env.task.metrics() | env.task.final_metrics()
    return {"train": final["accuracy"].item(), "test": final["test_accuracy"].item()}


def test_known_rules_learn_the_subsets_that_evolution_met():
    cell = own_subset.known_rule("DFA", 2, SMALL)
    for seed in range(2):
        expected = taught_by_dfa(seed, cell["tuned"], 60)
        for split, value in expected.items():
            assert cell[OWN][split][seed] == pytest.approx(value, abs=1e-6)
    assert len(cell[FRESH]["test"]) == own_subset.NUM_SUBSETS


def test_evolution_raises_the_accuracy_on_its_subset():
    found = own_subset.evolve(0, 20, 0.01, SMALL)
    assert found["evolved"][OWN]["train"][0] > found["start"][OWN]["train"][0]


@pytest.mark.filterwarnings("ignore:Using MNIST-subset")
def test_part_of_a_data_set_is_refused(monkeypatch, capsys):
    """Of MNIST, where its folder is not set, there is what a dependency carries."""
    monkeypatch.setattr(own_subset, "ENV", "CreditAssign-MNIST-v0")
    monkeypatch.delenv("CREDIT_ENVS_DATA", raising=False)
    assert own_subset.main([]) == FAILED
    (said,) = capsys.readouterr().err.splitlines()
    assert "set CREDIT_ENVS_DATA" in said


def test_the_table_pools_lives(tmp_path, monkeypatch):
    file = ResultsFile("own_subset", folder=tmp_path)
    assert own_subset.render(file).count("| – | – |") == 5

    def entry(*train):
        values = {"train": list(train), "test": [0.5] * len(train)}
        return {OWN: values, FRESH: values}

    for seed, job in enumerate(own_subset.jobs(2)):
        evolved = {"start": entry(0.25), "evolved": entry(0.5 + seed / 4)}
        cell = evolved if seed < 2 else entry(0.1, 0.3)
        file.cell(job.key, job.settings, lambda cell=cell: cell)
    table = own_subset.render(file, 2)
    assert "| TDCA, evolved for it | 62.50 ± 17.68 / 50.00 ± 0.00 *(99.8 / 88.61)* | " in table
    assert "| Kaiming BP | 20.00 ± 14.14 / 50.00 ± 0.00 | 20.00 ± 14.14 / 50.00 ± 0.00 |" in table
    assert "over 2 seeds" in table
