"""What credits look like beside backpropagation's: the angle between the updates that they make.

In lives on fresh subsets, from zero weights, every update is made by one method's credits, and
beside it stands the update that backpropagation would make of the same network with the same
images. Drawn is the angle between the two for each layer, before clip and inner optimiser, mean ±
std over lives: 0° is backpropagation, 90° has nothing to do with it. While the weights above them
are zero, for two updates, backpropagation gives hidden neurons no credit, and there is no angle.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from agents import BackpropPolicy, CreditPolicy
from benchmarks.common.classifiers import START, Setting, policy_of
from benchmarks.common.figures import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    FigureParser,
    add_data,
    band,
    chosen_data,
    letter,
    rounded,
    run,
)
from benchmarks.common.results import Cell, ResultsFile, makers, markdown
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks import ClassificationTask
from meta import zoo
from meta.baselines import image_env, image_split
from meta.command_line import at_least, positive
from meta.report import fresh_lives
from meta.spread import sample_std

NAME = "credit_angles"
EXAMPLES = """\
  python -m benchmarks.credit_angles
  python -m benchmarks.credit_angles --quick            # digits, two lives
  python -m benchmarks.credit_angles --data MNIST --updates 40
"""
METHODS: Mapping[str, Mapping[str, str]] = {
    "MNIST": {
        "TDCA by meta-gradients": "mnist-mlp",
        "TDCA by PGPE": "mnist-pgpe",
        "TDCA, start": START,
        "DFA": "DFA",
    },
    "FashionMNIST": {
        "TDCA by meta-gradients": "fashion-mlp",
        "TDCA by PGPE": "fashion-pgpe",
        "TDCA, start": START,
        "DFA": "DFA",
    },
    "Digits": {"TDCA by meta-gradients": "digits-mlp", "TDCA by PGPE": "digits-pgpe", "DFA": "DFA"},
}
"""By data set and label, the method: a network of the zoo, a rule or the start of outer loops."""
_COLOURS = {
    "TDCA by meta-gradients": RED,
    "TDCA by PGPE": ORANGE,
    "TDCA, start": BLUE,
    "DFA": GREEN,
}
_LAYERS = ("hidden layer", "output layer")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure."""
    parser = FigureParser(NAME, __doc__, EXAMPLES)
    add_data(parser, METHODS)
    parser.add_argument("--updates", type=partial(at_least, 3), default=20, metavar="N")
    parser.add_argument("--lives", type=positive, metavar="N", help="default: 5; quick: 2")
    return run(parser, draw, argv)


def draw(arguments: argparse.Namespace, results: ResultsFile) -> Figure:
    """The figure, and its numbers in the results file."""
    data = chosen_data(arguments, METHODS)
    updates, lives = arguments.updates, arguments.lives or (2 if arguments.quick else 5)
    figure = Figure(figsize=(10.5, 0.8 + 3.4 * len(data)), layout="constrained")
    panels = figure.subplots(len(data), len(_LAYERS), squeeze=False)
    for row, name in enumerate(data):
        for label, method in METHODS[name].items():
            cell = kept(name, method, updates, lives, results)
            for axes, layer in zip(panels[row], _LAYERS, strict=True):
                curve = cell["angle"][layer]
                first = next(i for i, value in enumerate(curve["mean"]) if value is not None)
                shown = {key: values[first:] for key, values in curve.items()}
                band(axes, range(first + 1, updates + 1), shown, _COLOURS[label], label)
        for column, (axes, layer) in enumerate(zip(panels[row], _LAYERS, strict=True)):
            axes.set(
                xlabel="update",
                ylabel="angle to backpropagation / °",
                ylim=(0, 110),
                xlim=(1, updates),
            )
            letter(axes, row * len(_LAYERS) + column, f"{name}, {layer}")
    panels[0, 0].legend()
    print(render(results))
    return figure


def kept(data: str, method: str, updates: int, lives: int, results: ResultsFile) -> Cell:
    """A method's angles, from the results file if they are there."""
    settings = {"data": data, "method": method, "updates": updates, "lives": lives}
    if method in zoo.names():
        settings["network"] = zoo.digest(method)
    return results.cell(
        f"{data}, {method}", settings, lambda: measured(data, method, updates, lives)
    )


def measured(data: str, method: str, updates: int, lives: int) -> dict[str, Any]:
    """Angles in degrees by layer and update, mean and std over lives."""
    setting = Setting(data, 1000, updates)
    # Digits' rate and number of images are the environment's own.
    kwargs = {"num_updates": updates} if data == "Digits" else setting.kwargs
    kwargs = {**kwargs, "learning_rate": 0.05 if data == "Digits" else 0.01}
    fresh = image_split(setting.env_id, kwargs).fresh_range
    policy, kwargs = policy_of(method, setting.env_id, {**kwargs, "train_range": fresh})
    env, task = image_env(setting.env_id, {**kwargs, "evaluate_test": False})
    by_life = np.stack([angles(policy, env, task, seed) for seed in fresh_lives(lives)])
    mean, std = by_life.mean(0), sample_std(by_life, 0)
    return {
        "angle": {
            name: {"mean": _without_gaps(mean[:, i]), "std": _without_gaps(std[:, i])}
            for i, name in enumerate(_LAYERS)
        },
        "dataset": task.dataset.name,
    }


@torch.no_grad()
def angles(
    policy: CreditPolicy, env: CreditAssignVectorEnv, task: ClassificationTask, seed: int
) -> NDArray[np.float64]:
    """Degrees between the updates, `(updates, layers)`; NaN where one of them is zero."""
    backprop = BackpropPolicy(env.single_observation_space, env.single_action_space)  # type: ignore[arg-type]
    backprop.attach(env)
    policy.attach(env)
    observation = env.reset_tensors([seed])
    found = []
    for _ in range(env.num_updates):
        action = policy.act(observation)
        pairs = zip(
            updates_of(env, task, action),
            updates_of(env, task, backprop.act(observation)),
            strict=True,
        )
        found.append([_degrees(own, other) for own, other in pairs])
        observation = env.step_tensors(action).observation
    return np.array(found)


def updates_of(
    env: CreditAssignVectorEnv, task: ClassificationTask, action: Tensor
) -> list[Tensor]:
    """What the credits would add to each layer's weights, before clip and inner optimiser."""
    assert task.inputs is not None
    units = [*task.settings.hidden_sizes, task.num_classes]
    credits = torch.split(action.transpose(1, 2), units, dim=1)
    gradients = task.network.local_gradients(task.inputs, credits, env.credit_scale)
    return [gradient.double().flatten() for gradient in gradients]


def _degrees(one: Tensor, other: Tensor) -> float:
    cosine = torch.dot(one, other) / (one.norm() * other.norm())
    return float(cosine.clamp(-1.0, 1.0).arccos().rad2deg())


def _without_gaps(values: NDArray[np.float64]) -> list[float | None]:
    """As JSON, which has no NaN."""
    return [None if np.isnan(value) else rounded(value) for value in values]


def render(file: ResultsFile) -> str:
    """Mean angles at the third update, halfway and at the last, in Markdown."""
    rows = []
    for key, cell in sorted(file.cells.items()):
        line = [key]
        for layer in _LAYERS:
            curve = cell["angle"][layer]["mean"]
            places = (curve[place - 1] for place in (3, len(curve) // 2, len(curve)))
            line += ["–" if value is None else f"{value:.0f}°" for value in places]
        rows.append(line)
    if not rows:
        return "–"
    last = next(iter(file.cells.values()))["settings"]["updates"]
    header = ["data, method"]
    header += [f"{layer}, update {place}" for layer in _LAYERS for place in (3, last // 2, last)]
    return f"{markdown(header, rows)}\n\nMade by {makers(file.cells.values())}."


if __name__ == "__main__":
    sys.exit(main())
