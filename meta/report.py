"""What a run has learned: the table at its end, its numbers for `results.json`, its figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table

from agents import BackpropPolicy, CreditPolicy
from agents.deepagrel import TrialLearner
from credit_envs.tasks import ControlTask
from credit_envs.tasks.dynamics import BatchedDynamics, Dynamics
from credit_envs.tasks.surfaces import SurfaceTask
from meta.baselines import image_task, rule_scores
from meta.climbing import GRID, climb
from meta.evaluation import Evaluation, evaluate
from meta.figures import accuracy_curves, control_conditions, credit_field, learning_curves
from meta.replay import replay_in_gymnasium
from meta.spread import sample_std
from meta.trials import scores
from meta.tuning import Split, Tuned, score, tuned_score

FRESH_LIFE = 2**40
"""Lives from here on are met by no outer loop, whose own life seeds stay below 2³²."""
_TUNING_LIFE = FRESH_LIFE + 1000

NUM_SUBSETS = 5
_NUM_TUNING_SUBSETS = 3


@dataclass(frozen=True)
class Report:
    """A result in three forms.

    Attributes:
        table: for people.
        results: for `results.json`.
        figures: by file name.
    """

    table: RenderableType
    results: Mapping[str, Any]
    figures: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnSubsets:
    """The only subsets that an outer loop met, and how networks were trained on them.

    Attributes:
        env_kwargs: of the environment in meta-training.
        lives: their seeds.
    """

    env_kwargs: Mapping[str, Any]
    lives: Sequence[int]

    def settings(self) -> tuple[Tuned, Sequence[int]]:
        """The learning rate and weight decay of meta-training, and the lives."""
        rate = self.env_kwargs.get("learning_rate", 0.01)
        return Tuned(rate, self.env_kwargs.get("weight_decay", 0.0)), self.lives


def fresh_lives(count: int) -> list[int]:
    """Lives for results, met neither by an outer loop nor in tuning."""
    return [FRESH_LIFE + i for i in range(count)]


def tuning_lives(count: int) -> list[int]:
    """Lives to choose settings by, met neither by an outer loop nor in results."""
    return [_TUNING_LIFE + i for i in range(count)]


def joined(reports: Mapping[str, Report]) -> Report:
    """The reports of several environments as one."""
    figures = {
        f"{env_id}_{name}": figure
        for env_id, report in reports.items()
        for name, figure in report.figures.items()
    }
    results = {env_id: report.results for env_id, report in reports.items()}
    tables = Group(*(report.table for report in reports.values()))
    return Report(tables, {"environments": results}, figures)


def control_report(
    policy: CreditPolicy,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    num_lives: int,
) -> Report:
    """Episodes by update on fresh lives: normal, constant, shuffled and frozen credits.

    Where tasks have names in the observation, each has a table of its own.

    Args:
        policy: chooses the credits.
        env_id: of a control environment.
        env_kwargs: of the environment.
        num_lives: dealt to the tasks in turn.
    """
    seeds = fresh_lives(num_lives)
    evaluation = evaluate(policy, env_id, seeds, env_kwargs)
    dynamics = control_dynamics(env_id, env_kwargs)
    tasks = {"": evaluation}
    if dynamics.num_ids:
        names = enumerate(dynamics.task_names)
        tasks = {name: evaluation.of_task(index) for index, name in names}
    tables = [_control_table(f"{env_id} {name}".strip(), part) for name, part in tasks.items()]
    metrics = ["episode_return", *dynamics.worst_metrics]
    figures = {"controls.png": control_conditions(evaluation.conditions, metrics[0])}
    for metric in metrics[1:]:
        figures[f"{metric}.png"] = control_conditions(evaluation.conditions, metric)
    results = {
        "env_kwargs": dict(env_kwargs),
        "lives": len(seeds),
        "conditions": evaluation.to_json(),
    }
    if dynamics.num_ids:
        results["tasks"] = {name: part.to_json() for name, part in tasks.items()}
    if isinstance(dynamics, BatchedDynamics):
        replay = replay_in_gymnasium(policy, env_id, env_kwargs, seeds)
        tables[-1].caption = (
            f"replayed in Gymnasium's {replay.gymnasium_id}: {_spread(replay.replayed)} after the "
            f"last update, no life's return further than {replay.largest_difference:.1g} from here"
        )
        results["replayed_in_gymnasium"] = {
            "mean": float(replay.replayed.mean()),
            "std": float(sample_std(replay.replayed)),
            "largest_difference": replay.largest_difference,
        }
    return Report(Group(*tables), results, figures)


def control_dynamics(env_id: str, env_kwargs: Mapping[str, Any]) -> Dynamics:
    """What agents play in a control environment."""
    task = gymnasium.make_vec(env_id, num_envs=1, **env_kwargs).task  # type: ignore[attr-defined]
    assert isinstance(task, ControlTask)
    return task.dynamics


def _control_table(title: str, evaluation: Evaluation) -> Table:
    """Episode return by update in every condition, and the share of successes where there are."""
    conditions = evaluation.conditions
    succeeds = "success" in conditions["normal"].per_update
    means = "mean ± std" + (" (successes, %)" if succeeds else "")
    lives = len(evaluation.seeds)
    table = Table(title=f"{title}: episode return\n{means} of {lives} fresh lives")
    for column in ("update", *conditions):
        table.add_column(column, justify="right")
    for update in range(conditions["normal"].per_update["episode_return"].shape[1]):
        cells = []
        for curves in conditions.values():
            cell = _spread(curves.per_update["episode_return"][:, update])
            if succeeds:
                cell += f" ({100 * curves.per_update['success'][:, update].mean():.0f})"
            cells.append(cell)
        table.add_row(str(update), *cells)
    return table


def surface_report(policy: CreditPolicy, env_id: str, env_kwargs: Mapping[str, Any]) -> Report:
    """Share of a grid of starts that reaches the summit, beside gradient ascent.

    Args:
        policy: chooses the credits.
        env_id: of a surface.
        env_kwargs: of the environment.
    """
    climbs = climb(policy, env_id, env_kwargs)
    table = Table(title=f"{env_id}: starts on a {GRID}×{GRID} grid that reach the summit, %")
    for column in ("surface", "credits", "gradient ascent", "credits, swapped id"):
        table.add_column(column, justify="left" if column == "surface" else "right")
    for result in climbs:
        swapped = "–" if result.swapped_id is None else f"{100 * result.swapped_id:.1f}"
        shares = (f"{100 * share:.1f}" for share in (result.policy, result.gradient_ascent))
        table.add_row(result.surface, *shares, swapped)
    figures = {
        f"field_{result.surface}.png": credit_field(policy, surface, one_hot)
        for result, surface, one_hot in zip(climbs, *_surfaces(env_id), strict=True)
    }
    return Report(table, {"surfaces": [vars(result) for result in climbs]}, figures)


def image_report(
    policy: CreditPolicy,
    name: str,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    split: Split,
    meta_trained: bool,
    on_step: Callable[[str], None],
    own: OwnSubsets | None = None,
    baseline_kwargs: Mapping[str, Any] | None = None,
) -> Report:
    """Accuracy on fresh subsets and test images, every method at its best learning rate.

    Backpropagation, as the yardstick, with its best weight decay and label smoothing too.

    Args:
        policy: chooses the credits.
        name: of the method in the table.
        env_id: of a classification environment.
        env_kwargs: of the environment.
        split: which images serve what.
        meta_trained: whether it was, on images of `split.meta_range`; it then gets a row on those
            apart.
        on_step: told what is under way.
        own: gets a row, if the outer loop met no other subsets than these.
        baseline_kwargs: of the environment, for the known rules beside what was meta-trained;
            None: without them.
    """
    seeds, tuning_seeds = fresh_lives(NUM_SUBSETS), tuning_lives(_NUM_TUNING_SUBSETS)
    on_step(f"scoring {name}")
    yardstick = isinstance(policy, BackpropPolicy)
    scores = [
        tuned_score(
            name, policy, env_id, env_kwargs, split, tuning_seeds, seeds, regularise=yardstick
        )
    ]
    rows = [(scores[0], "fresh subsets")]
    if meta_trained:
        tuned = scores[0].tuned
        again = score(name, policy, env_id, env_kwargs, split.meta_range, tuned, seeds)
        rows.insert(0, (again, "meta-training images"))
        if own is not None:
            met = score(name, policy, env_id, own.env_kwargs, split.meta_range, *own.settings())
            rows.insert(0, (met, "its own subsets"))
        if baseline_kwargs is not None:
            on_step("tuning and scoring the baselines")
            scores += rule_scores(env_id, baseline_kwargs, split, tuning_seeds, seeds)
            rows += [(baseline, "fresh subsets") for baseline in scores[1:]]

    dataset = image_task(env_id, env_kwargs).dataset
    table = Table(
        title=f"{env_id}: accuracy after the last update\n%, mean ± std over subsets",
        caption=f"data: {dataset.name}, {NUM_SUBSETS} subsets; the learning rate η is the one that "
        "did best on validation images, as are BP's weight decay λ and label smoothing s",
    )
    for column in ("method", "trained on", "η", "λ", "s", "train", "test"):
        table.add_column(column, justify="left" if column in ("method", "trained on") else "right")
    for row, images in rows:
        chosen = (row.tuned.learning_rate, row.tuned.weight_decay, row.tuned.label_smoothing)
        accuracies = (_spread(100 * row.train), _spread(100 * row.test))
        table.add_row(row.method, images, *(f"{value:g}" for value in chosen), *accuracies)
    results = {
        "dataset": dataset.name,
        "dataset_is_complete": dataset.is_complete,
        "rows": [
            {
                "method": row.method,
                "images": images,
                **asdict(row.tuned),
                "train_accuracy": row.train.round(6).tolist(),
                "test_accuracy": row.test.round(6).tolist(),
            }
            for row, images in rows
        ],
    }
    return Report(table, results, {"accuracy.png": accuracy_curves(scores)})


def trial_report(model: TrialLearner, name: str, env_id: str) -> Report:
    """How a network answers that has learned from trials.

    Args:
        model: has measured itself on held-out and test images after every epoch.
        name: of what learned, in the table.
        env_id: of the bandit.
    """
    result = scores(model)
    dataset = model.make_env().get_attr("dataset")[0]
    table = Table(
        title=f"{env_id}: right answers, %",
        caption=f"data: {dataset.name}; the weights kept are those of the best epoch, by held-out "
        f"training images; learning ended after epoch {result['stopped_epoch']}",
    )
    for column in ("agent", "best epoch", "in learning", "held out", "test"):
        table.add_column(column, justify="left" if column == "agent" else "right")
    best = result["best_epoch"]
    rates = (result["reward_rate"][best - 1], result["held_out"][best - 1], result["test_accuracy"])
    table.add_row(name, str(best), *(f"{100 * rate:.2f}" for rate in rates))
    results = {"dataset": dataset.name, "dataset_is_complete": dataset.is_complete, **result}
    return Report(table, results, {"learning.png": learning_curves(result)})


def _surfaces(env_id: str) -> tuple[Sequence[Any], Sequence[Sequence[float]]]:
    """The surfaces of an environment and the id that its observations give each."""
    task = gymnasium.make_vec(env_id, num_envs=1).task  # type: ignore[attr-defined]
    assert isinstance(task, SurfaceTask)
    count = len(task.surfaces)
    ids = np.eye(count).tolist() if count > 1 else [[]]
    return task.surfaces, ids


def _spread(values: NDArray[np.float64]) -> str:
    decimals = 0 if abs(values.mean()) >= 1000 else 1
    return f"{values.mean():.{decimals}f} ± {sample_std(values):.{decimals}f}"
