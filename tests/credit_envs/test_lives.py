"""Lives that differ in more than their images: classes numbered anew, and random projections."""

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import credit_envs  # noqa: F401
from benchmarks.common.reference_inner_loop import standardise, weights_of
from credit_envs.datasets import Dataset
from credit_envs.tasks import ClassificationTask
from credit_envs.tasks.classification import TrainingSettings
from tests.conftest import made_up_images

UPDATES, SCALE = 6, 10.0
DATA = Dataset("MadeUp", *made_up_images((2, 5, 4)), 3, "made up")
SHARED, OWN = [7, 7], [7, 8]
ANEW = [{"permute_classes": True}, {"random_projection": 11}, {"random_projection": 60}]
ANEW.append({"permute_classes": True, "random_projection": 11})


def make_task(dataset: Dataset, lives: int, **settings: Any) -> ClassificationTask:
    chosen = {
        "num_samples": 20,
        "hidden_sizes": (5,),
        "init": "kaiming",
        "train_range": (0.0, 0.8),
        "loss_on": "held-out",
        "num_held_out": 8,
        **settings,
    }
    training = TrainingSettings(**chosen)
    return ClassificationTask(dataset, training, lives, torch.device("cpu"), torch.float64)


def live(task: ClassificationTask, seeds: list[int]) -> list[dict[str, torch.Tensor]]:
    """All that is measured of each life, when credits are the errors and half of them."""
    task.start(np.array(seeds), None, {})
    k = task.num_classes
    for _ in range(UPDATES):
        seen = task.observe()
        errors = seen[..., k:] - seen[..., :k]
        hidden = errors[..., :1].expand(-1, -1, task.action_space.shape[1] - k) / 2
        task.update(torch.cat([hidden, errors], dim=-1), SCALE)
    measured = {**task.metrics(), **task.final_metrics(), "loss paid": task.loss()}
    return [
        {name: values[network] for name, values in measured.items()}
        | {f"weights {i}": w for i, w in enumerate(weights_of(task, network))}
        for network in range(len(seeds))
    ]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("score_on", ["test", "validation"])
@pytest.mark.parametrize("seeds", [SHARED, OWN], ids=["shared", "own"])
@pytest.mark.parametrize("anew", ANEW, ids=str)
def test_a_life_is_one_of_data_that_were_changed_before(anew, seeds, score_on, optimizer):
    """Relabelled and projected by hand, with the life's order and matrix."""
    settings = {"score_on": score_on, "optimizer": optimizer}
    task = make_task(DATA, len(seeds), **settings, **anew)
    for seed, measured in zip(seeds, live(task, seeds), strict=True):
        life = task.draw_life(seed)
        matrix = np.eye(40) if life.projection is None else life.projection.numpy()
        changed = replace(
            DATA,
            x_train=standardise(DATA, DATA.x_train) @ matrix.T,
            x_test=standardise(DATA, DATA.x_test) @ matrix.T,
            y_train=life.labels[DATA.y_train],
            y_test=life.labels[DATA.y_test],
        )
        # Not standardised once more.
        moments = torch.zeros(len(matrix)), torch.ones(len(matrix))
        by_hand = make_task(changed, 1, **settings)
        by_hand._moments = list(moments)
        (expected,) = live(by_hand, [seed])
        assert measured.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(measured[name], value, rtol=0, atol=1e-9, msg=name)


def test_from_zero_weights_too():
    """In the Gram form, which is the shared one of SGD."""
    settings = {"init": "zero", "optimizer": "sgd", "random_projection": 30}
    shared, own = (
        live(make_task(DATA, 2, **settings), seeds)[0] for seeds in (SHARED, [SHARED[0], 99])
    )
    for name, value in own.items():
        torch.testing.assert_close(shared[name], value, rtol=0, atol=1e-9, msg=name)


def test_every_life_numbers_classes_and_projects_anew():
    task = make_task(DATA, 1, permute_classes=True, random_projection=200)
    lives = [task.draw_life(seed) for seed in range(60)]
    orders = [tuple(life.labels) for life in lives]
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2)}
    assert len(set(orders)) == 6
    assert orders == [tuple(task.draw_life(seed).labels) for seed in range(60)]
    drawn = torch.stack([life.projection for life in lives])
    assert drawn.shape == (60, 200, 40)
    assert drawn.mean().item() == pytest.approx(0, abs=0.001)
    assert (40 * drawn.var()).item() == pytest.approx(1, abs=0.01)
    assert len({projection[0, 0].item() for projection in drawn}) == 60
    # Distances are kept, up to a scale.
    x = torch.tensor(standardise(DATA, DATA.x_train[:2]))
    between = (drawn @ (x[0] - x[1])).norm(dim=1)
    expected = (x[0] - x[1]).norm() * (200 / 40) ** 0.5
    torch.testing.assert_close(between.mean(), expected, rtol=0.02, atol=0)


def test_images_and_weights_are_those_of_other_lives():
    plain = make_task(DATA, 1).draw_life(5)
    anew = make_task(DATA, 1, permute_classes=True).draw_life(5)
    assert (plain.indices == anew.indices).all()
    assert (plain.held_out == anew.held_out).all()
    assert all(map(torch.equal, plain.weights, anew.weights))


def test_environments_take_them():
    env = gymnasium.make_vec(
        "CreditAssign-Digits-v0",
        num_envs=2,
        num_samples=50,
        permute_classes=True,
        random_projection=20,
    )
    env.reset(seed=0)
    assert env.task.network.weights[0].shape == (2, 32, 21)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"permute_classes": "yes"}, "permute_classes='yes'"),
        ({"random_projection": 0}, "random_projection=0"),
        ({"random_projection": 2.5}, "random_projection=2.5"),
        (
            {"random_projection": 9, "architecture": "cnn", "hidden_sizes": (2, 5)},
            "leaves no image",
        ),
    ],
)
def test_bad_input_is_one_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make("CreditAssign-Digits-v0", **arguments)
