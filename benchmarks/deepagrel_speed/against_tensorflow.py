"""Against the rule as its authors train: Keras and TensorFlow, see `with_tensorflow.py`.

TensorFlow is no dependency of the package: it runs in a process of its own, with an interpreter
that has it. Both sides learn from the same made-up images, on the same core, with the paper's
dropout, each from draws of its own; the check has none. Linux only.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.deepagrel import DeepAGRELPolicy
from agents.deepagrel.layers import Layer
from benchmarks.deepagrel_speed.problem import Problem, in_order
from benchmarks.deepagrel_speed.race import OURS, Form, Part, Row, Turn, race, require_equal, timed
from benchmarks.deepagrel_speed.update import (
    CHECKED_RATE,
    MNIST,
    RATE,
    Setting,
    by_hand,
    new_policy,
    repeated,
    trials,
)
from benchmarks.peers.racer import ROOT, Racer, environment, only_cores

SETTINGS = {Setting("MlpPolicy", MNIST, 100): 12_000, Setting("CnnPolicy", MNIST, 100): 3000}
"""And trials in a turn."""
FORMS = {"graph": "Keras, graph", "xla": "Keras, XLA"}
NUM_CHECKED = 3
TOLERANCE = 1e-10
MODULE = "benchmarks.deepagrel_speed.with_tensorflow"


class TensorFlowPart(Part):
    """The local rule against Keras.

    Args:
        python: interpreter that has TensorFlow.
    """

    name = "tensorflow"
    title = "Keras and TensorFlow"

    def __init__(self, python: str) -> None:
        self._python = python

    def version(self) -> str:
        """Of TensorFlow and Keras; leaves with status 2 if the interpreter lacks them."""
        code = "import os; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'; import tensorflow, keras; "
        code += "print(f'tensorflow {tensorflow.__version__}, keras {keras.__version__}')"
        command = [self._python, "-c", code]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(
                f"--tensorflow-python {self._python} does not run TensorFlow ({error}): "
                "name an interpreter after `pip install tensorflow-cpu`, or leave the option out",
                file=sys.stderr,
            )
            sys.exit(2)
        return run.stdout.strip()

    def check(self) -> dict[str, float]:
        """Of both forms in Keras, in float64, after three updates from forced actions."""
        differences: dict[str, float] = {}
        for setting in SETTINGS:
            problem = make_problem(new_policy(setting).double(), setting, CHECKED_RATE)
            ours = learned_weights(setting, problem)
            for form, title in FORMS.items():
                theirs = self._learned_weights(problem, form)
                difference = max(
                    float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)
                )
                what = f"ours and {title}, {setting.policy}, float64, {NUM_CHECKED} updates"
                differences |= require_equal(what, difference, TOLERANCE)
        return differences

    def rows(self, repeats: int) -> Iterator[Row]:
        """The paper's fully connected and convolutional networks."""
        for setting, num_trials in SETTINGS.items():
            policy = new_policy(setting)
            with tempfile.TemporaryDirectory() as name, only_cores(1):
                file = Path(name) / "problem.npz"
                make_problem(policy, setting, RATE).save(file)
                racers: list[Racer] = []
                try:
                    for form in FORMS:
                        command = self._command(form, "race", file, str(num_trials))
                        racers.append(Racer(form, command, 1, Path(name) / f"{form}.log"))
                    forms: dict[str, Form] = {
                        title: in_process(racer, num_trials)
                        for title, racer in zip(FORMS.values(), racers, strict=True)
                    }
                    work = repeated(by_hand(policy, RATE), setting, num_trials)
                    forms[OURS] = timed(work, num_trials)
                    yield race(str(setting), forms, repeats)
                finally:
                    for racer in racers:
                        racer.close()

    def conclusions(self, rows: Sequence[Row]) -> list[str]:
        """Against the faster of both forms."""
        return [
            f"{row.setting}: {row.times(OURS, row.fastest([*FORMS.values()])):.2f} times as fast"
            for row in rows
        ]

    def _learned_weights(self, problem: Problem, form: str) -> list[NDArray[Any]]:
        """By Keras, after the problem's forced actions."""
        with tempfile.TemporaryDirectory() as name:
            file, learned = Path(name) / "problem.npz", Path(name) / "learned.npz"
            problem.save(file)
            run = subprocess.run(
                self._command(form, "check", file, str(learned)),
                cwd=ROOT,
                env=environment(1),
                capture_output=True,
                text=True,
                check=False,
            )
            if run.returncode:
                sys.exit(f"{run.stderr}\n{FORMS[form]} failed its check, see above")
            with np.load(learned) as arrays:
                return in_order(arrays)

    def _command(self, form: str, what: str, problem: Path, argument: str) -> list[str]:
        return [self._python, "-m", MODULE, form, what, str(problem), argument]


def in_process(racer: Racer, num_trials: int) -> Callable[[], Turn]:
    """A form that works in a process of its own."""

    def form() -> Turn:
        wall, cpu = racer.turn()
        return Turn(num_trials, wall, cpu)

    return form


def make_problem(policy: DeepAGRELPolicy, setting: Setting, rate: float) -> Problem:
    """The policy's weights, and made-up trials."""
    images, rewards = trials(setting)
    actions = torch.randint(10, rewards.shape, generator=torch.Generator().manual_seed(2))
    return Problem(
        images=images.flip(2, 3).permute(0, 2, 3, 1).numpy(),
        rewards=rewards.numpy(),
        actions=actions.numpy(),
        weights=turned(policy, setting.shape),
        dropout=policy.dropout,
        rate=rate,
    )


def turned(policy: DeepAGRELPolicy, image_shape: Sequence[int]) -> list[NDArray[Any]]:
    """The weights in the layout of Keras, for images that are turned by 180°."""
    weights: list[NDArray[Any]] = []
    below = tuple(image_shape)
    for layer in policy.q_net.layers:
        assert isinstance(layer, Layer)
        weight = layer.weight.numpy()
        if weight.ndim == 4:
            # (filters, channels, height, width) to (height, width, channels, filters).
            weight = weight[:, :, ::-1, ::-1].transpose(2, 3, 1, 0)
        else:
            if len(below) == 3:
                channels, height, width = below
                by_pixel = weight.reshape(-1, height, width, channels)
                weight = by_pixel[:, ::-1, ::-1].reshape(weight.shape)
            weight = weight.T
        weights.append(weight.copy())
        below = layer.output_shape
    return weights


@torch.no_grad()
def learned_weights(setting: Setting, problem: Problem) -> list[NDArray[Any]]:
    """By our rule, from the problem's forced actions and without dropout."""
    policy = new_policy(setting, dropout=(0.0,) * len(problem.dropout)).double()
    images, rewards = trials(setting)
    actions = torch.from_numpy(problem.actions)
    for _ in range(NUM_CHECKED):
        activities = policy.q_net.activities(images)
        rpe = rewards - activities.q_values.gather(1, actions[:, None])[:, 0]
        rate = problem.rate / len(images)
        policy.q_net.learn(activities, actions, rpe, policy.feedback, rate)
    learned = turned(policy, setting.shape)
    moved = max(float(np.abs(a - b).max()) for a, b in zip(learned, problem.weights, strict=True))
    if not moved > 1e3 * TOLERANCE:
        sys.exit("the weights did not move: equality would say nothing")
    return learned
