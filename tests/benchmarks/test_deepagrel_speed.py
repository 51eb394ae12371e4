import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.deepagrel import DeepAGREL
from benchmarks.deepagrel_speed import against_tensorflow, dqn, update, wrapping
from benchmarks.deepagrel_speed.problem import Problem
from benchmarks.deepagrel_speed.race import OURS, Row, Speeds, Turn, race, require_equal, table


@pytest.fixture
def row() -> Row:
    slow, fast = Speeds([10.0, 11.0, 90.0], [9.0, 9.0, 9.0]), Speeds([20.0, 22.0, 21.0], [8.0] * 3)
    return Row("a setting", {"theirs": slow, OURS: fast})


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy", "LocConPolicy"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_all_forms_of_the_update_learn_the_same(policy: str, precision: str) -> None:
    difference = update.largest_difference(policy, precision)
    assert difference < update.TOLERANCE[precision]


def test_another_rate_in_one_form_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(update.FORMS, "plain", lambda p, rate: update.by_hand(p, 1.01 * rate))
    with pytest.raises(SystemExit, match="they disagree"):
        update.UpdatePart(quick=True).check()


def test_the_bare_loop_does_the_work_of_learn() -> None:
    model = DeepAGREL(
        "MlpPolicy",
        "ClassificationBandit-Digits-v0",
        batch_size=20,
        policy_kwargs={"hidden_sizes": (30,)},
        seed=3,
        device="cpu",
    )
    before = model.policy.q_net.weights[0].clone()
    loop = wrapping.BareLoop(model)
    model.learn(100)
    loop.learn(100)
    for learned, expected in zip(
        loop.policy.q_net.weights, model.policy.q_net.weights, strict=True
    ):
        torch.testing.assert_close(learned, expected, rtol=0, atol=0)
    assert not torch.equal(before, loop.policy.q_net.weights[0])


def test_turned_weights_compute_the_same_as_keras_does_it() -> None:
    setting = update.Setting("CnnPolicy", (1, 12, 12), 3)
    policy = update.new_policy(setting).double()
    problem = against_tensorflow.make_problem(policy, setting, rate=1.0)
    y = torch.from_numpy(problem.images).double() / 255
    for number, array in enumerate(problem.weights):
        y = keras_layer(y, torch.from_numpy(array), number)
        y = y.relu() if number < len(problem.weights) - 1 else y
    images, _ = update.trials(setting)
    torch.testing.assert_close(y, policy.q_net(images), rtol=1e-12, atol=1e-14)


def keras_layer(y: Tensor, weight: Tensor, number: int) -> Tensor:
    """Written from Keras's documentation: channels last; "same" pads the odd row at the end."""
    if weight.dim() == 2:
        return y.flatten(1) @ weight
    size, stride = len(weight), 1 if number == 0 else 2
    height, width = y.shape[1:3]
    if number > 0:
        missing = [(-(-n // stride) - 1) * stride + size - n for n in (height, width)]
        top, left = (m // 2 for m in missing)
        y = torch.nn.functional.pad(y, (0, 0, left, missing[1] - left, top, missing[0] - top))
    patches = y.unfold(1, size, stride).unfold(2, size, stride)
    return torch.einsum("bhwcij,ijcf->bhwf", patches, weight)


def test_problem_survives_its_file(tmp_path: Path) -> None:
    setting = update.Setting("CnnPolicy", (1, 12, 12), 3)
    problem = against_tensorflow.make_problem(update.new_policy(setting), setting, rate=0.25)
    problem.save(tmp_path / "problem.npz")
    loaded = Problem.load(tmp_path / "problem.npz")
    for name in ("images", "rewards", "actions"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(problem, name))
    assert (loaded.dropout, loaded.rate) == (problem.dropout, 0.25)
    for a, b in zip(loaded.weights, problem.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_keras_learns_the_same() -> None:
    pytest.importorskip("tensorflow")
    against_tensorflow.TensorFlowPart(sys.executable).check()


def test_dqn_has_layers_of_the_same_sizes() -> None:
    theirs = dqn.new_dqn("ClassificationBandit-Digits-v0").q_net.parameters()
    ours = update.new_policy(update.Setting("MlpPolicy", (1, 8, 8), 1)).q_net.weights
    assert [p.shape for p in theirs if p.dim() == 2] == [w.shape for w in ours]


def test_a_race_leaves_out_the_first_turn() -> None:
    turns = iter([Turn(10, 5.0, 5.0), Turn(10, 2.0, 1.0), Turn(10, 4.0, 2.0)])
    row = race("a setting", {OURS: lambda: next(turns)}, repeats=2)
    assert row.speeds[OURS] == Speeds(cpu=[10.0, 5.0], wall=[5.0, 2.5])


def test_times_are_of_medians_by_cpu(row: Row) -> None:
    assert row.times(OURS, "theirs") == pytest.approx(21 / 11)
    assert row.fastest(["theirs", OURS]) == OURS


def test_table_has_a_line_for_each_form(row: Row) -> None:
    header, _, theirs, ours = table([row]).splitlines()
    assert header.count("|") == theirs.count("|") == ours.count("|")
    assert theirs == "| a setting | theirs | 11.0 [10.0, 90.0] | 9.0 [9.0, 9.0] | 1.91 |"
    assert ours == "| a setting | ours | 21.0 [20.0, 22.0] | 8.0 [8.0, 8.0] |  |"


@pytest.mark.parametrize("difference", [2.0, float("nan")])
def test_disagreement_ends_the_command(difference: float) -> None:
    with pytest.raises(SystemExit, match="they disagree by more than 1"):
        require_equal("two forms", difference, tolerance=1.0)


def test_a_python_without_tensorflow_ends_in_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        against_tensorflow.TensorFlowPart("/no/such/python").version()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install tensorflow-cpu" in line
