"""Backpropagation with the same advantage: initial weights and a rate learned by meta-gradients.

The zoo's top-down network for MNIST has seen labelled images before it leads a life. Here
backpropagation has, too: its initial weights W₀ and its inner learning rate are what the outer loop
learns (Finn et al., "Model-agnostic meta-learning", 2017, with second derivatives), from Kaiming's
start, on lives of the same images, with the same inner and outer optimiser. The outer rate is the
one of a few that does best on validation images after fifty generations.

What is learned differs in kind. W₀ has a weight for every pixel, so it can be a classifier of these
very classes before the first update; "0 updates" shows how far it is. The top-down network sees
outputs and labels alone, and its networks start from zero.

The outer loop does not settle as that of the top-down network does: the loss on held-out images,
which the results file keeps by generation, is lowest after about a hundred, rises, and only comes
down again with the outer rate. A gentler one may make more of this control.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents import BackpropPolicy, TopDownPolicy
from benchmarks.common.classifiers import FILE, Setting, found
from benchmarks.common.command import exit_code
from benchmarks.common.results import Cell, ResultsFile, makers, markdown, spread
from credit_envs import CreditAssignVectorEnv
from credit_envs.networks import Inputs
from credit_envs.tasks import ClassificationTask
from credit_envs.tasks.classification import Life
from meta import MetaGradient, zoo
from meta.baselines import image_env, image_split, learn
from meta.command_line import Parser, positive
from meta.report import NUM_SUBSETS, fresh_lives, tuning_lives
from meta.runs import Checkpoint
from meta.tuning import Tuned, tune, validated
from meta.unroll import Unroll

NAME = "learned_backprop"
NETWORK = "mnist-mlp"
"""Of the zoo: the top-down network with whose budget backpropagation learns."""
METHOD = "BP, learned start and rate"
OUTER_RATES = (0.0002, 0.001, 0.005, 0.02)
_TRIAL = 50
"""Generations for which each outer rate is tried."""
SETTINGS = {
    "MNIST": Setting("MNIST", 1000, 20),
    "Fashion-MNIST": Setting("FashionMNIST", 1000, 20),
}
_SIZES = (784, 100, 10)


class LearnedStart(BackpropPolicy, TopDownPolicy):
    """Backpropagation of which every life starts from the same, learned weights.

    Args:
        observation_space: see `BackpropPolicy`.
        action_space: see `BackpropPolicy`.
        sizes: units of the bottom-up network by layer, inputs first.
        credit_scale: see `BackpropPolicy`.
        label_smoothing: see `BackpropPolicy`.

    Attributes:
        beta: the initial weights, one vector.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        *,
        sizes: Sequence[int] = _SIZES,
        credit_scale: float = 10.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            credit_scale=credit_scale,
            label_smoothing=label_smoothing,
        )
        self.sizes = tuple(sizes)
        self._start = nn.Parameter(torch.zeros(sum(map(prod, _shapes(self.sizes)))))

    @property
    def beta(self) -> nn.Parameter:  # noqa: D102
        return self._start

    def unpack(self, beta: Tensor) -> list[Tensor]:
        """Weights `(L, units, units below + 1)` of each layer, for vectors `(L, d)`; views."""
        shapes = _shapes(self.sizes)
        parts = torch.split(beta, [prod(shape) for shape in shapes], dim=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]

    def take(self, life: Life) -> None:
        """Start where this life does."""
        with torch.no_grad():
            self._start.copy_(torch.cat([weight.flatten() for weight in life.weights]))

    def smoothed(self, label_smoothing: float) -> "LearnedStart":  # noqa: D102
        policy = super().smoothed(label_smoothing)
        policy.load_state_dict(self.state_dict())
        return policy

    def attach(self, env: CreditAssignVectorEnv) -> None:
        """Let the lives of this environment start from these weights."""
        super().attach(env)
        task = env.task
        assert isinstance(task, ClassificationTask)
        weights = self.unpack(self._start.detach()[None])

        def draw_life(seed: int) -> Life:
            return replace(ClassificationTask.draw_life(task, seed), weights=weights)

        task.draw_life = draw_life  # type: ignore[method-assign]


class BackpropUnroll(Unroll):
    """Lives of backpropagation under Adam, differentiated by their initial weights.

    Args:
        task: see `Unroll`.
        unpack: initial weights by layer, from vectors `(L, d)`.
        num_updates: see `Unroll`.
        kwargs: see `Unroll`.
    """

    def __init__(
        self,
        task: ClassificationTask,
        unpack: Callable[[Tensor], list[Tensor]],
        num_updates: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(task, _no_policy, num_updates, 1.0, **kwargs)
        self._unpack = unpack

    def _initial(self, lives: Sequence[Life], beta: Tensor) -> list[Tensor]:
        return self._unpack(beta)

    def _update(
        self,
        inputs: Inputs,
        labels: Tensor,
        number: int,
        num_updates: int,
        beta: Tensor,
        learning_rate: Tensor,
        state: Sequence[Tensor],
    ) -> list[Tensor]:
        weights = list(state[: self._num_layers])
        hidden, log_probabilities = self._forward(weights, inputs)
        errors = [labels - log_probabilities.exp()]
        for weight, post in zip(reversed(weights[1:]), reversed(hidden), strict=True):
            credit = torch.bmm(weight[:, :, :-1].transpose(1, 2), errors[0])
            errors.insert(0, credit * (1 - post**2))
        gradients = self._gradients(inputs, hidden, errors)
        return self._step(weights, gradients, state[len(weights) :], number, learning_rate)


class LearnedBackprop(MetaGradient):
    """Meta-gradients by the initial weights of backpropagation in place of a top-down network."""

    policy: LearnedStart

    def _make_policy(self, env: CreditAssignVectorEnv) -> LearnedStart:
        assert self.seed is not None
        assert isinstance(env.task, ClassificationTask)
        policy = LearnedStart(
            env.single_observation_space,
            env.single_action_space,  # type: ignore[arg-type]
            **self.policy_kwargs,
        )
        policy.take(env.task.draw_life(self.seed))
        return policy.to(env.task.device)

    def _unroll(self, env: CreditAssignVectorEnv) -> Unroll:
        assert isinstance(env.task, ClassificationTask)
        return BackpropUnroll(env.task, self.policy.unpack, env.num_updates)


def _no_policy(*_: Any) -> Tensor:
    """Never asked: credits come down through the weights, which no observation holds."""
    raise NotImplementedError


def _shapes(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Of the weights of each layer, the biases in the last column."""
    return [(units, below + 1) for below, units in pairwise(sizes)]


# ---------------------------------------------------------------------- the command


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ten generations, kept apart")
    parser.add_argument(
        "--generations",
        type=positive,
        metavar="N",
        help="of the outer loop (default: those of the top-down network)",
    )
    parser.add_argument(
        "--logdir", type=Path, default=Path("runs/learned_backprop"), help="for checkpoints"
    )
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)

    def work() -> None:
        file = ResultsFile(NAME, arguments.quick)
        quick = 10 if arguments.quick else None
        generations = arguments.generations or quick or zoo.card(NETWORK)["generations"]
        fill(file, generations, arguments.logdir)
        print(render(file))

    return exit_code(NAME, work)


def fill(file: ResultsFile, generations: int, folder: Path) -> None:
    """Compute what is missing.

    Args:
        file: keeps the results.
        generations: of the outer loop.
        folder: of checkpoints, from which an interrupted command goes on.
    """
    trial = min(_TRIAL, generations)

    def tried(rate: float) -> Cell:
        settings = {"outer_rate": rate, "generations": trial, "lives": budget()}
        path = folder / f"rate-{rate:g}-{trial}.zip"
        return file.cell(
            f"outer rate {rate:g}", settings, lambda: validation(trained(rate, trial, path))
        )

    rate = max(OUTER_RATES, key=lambda rate: tried(rate)["validation_accuracy"])
    path = folder / f"whole-{generations}.zip"
    settings = {"outer_rate": rate, "generations": generations, "lives": budget()}
    file.cell(METHOD, settings, lambda: validation(trained(rate, generations, path)))
    for name, setting in SETTINGS.items():
        where = {"env_id": setting.env_id, "env_kwargs": setting.kwargs, **settings}

        def compute(setting: Setting = setting) -> dict[str, Any]:
            return scores(trained(rate, generations, path), setting)

        file.cell(f"{METHOD} | {name}", where, compute)


def trained(rate: float, generations: int, path: Path) -> LearnedBackprop:
    """Initial weights and inner rate learned for this long, from a checkpoint if there is one.

    Args:
        rate: of the outer optimiser.
        generations: of the outer loop.
        path: of the checkpoint.
    """
    model = LearnedBackprop.load(path) if path.exists() else learner(rate, generations, **budget())
    missing = (generations - model.generation) * model.timesteps_per_generation
    if missing > 0:
        started = time.process_time()
        model.learn(missing, [Checkpoint(path)], reset_num_timesteps=False, progress_bar=True)
        print(f"{generations} generations: {time.process_time() - started:.0f} CPU s")
    return model


def budget() -> dict[str, Any]:
    """What the top-down network of the zoo was meta-trained with."""
    (trained_in,) = zoo.card(NETWORK)["meta_training"].items()
    env_id, env_kwargs = trained_in
    return {"env_id": env_id, "env_kwargs": env_kwargs}


def learner(
    rate: float,
    generations: int,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    sizes: Sequence[int] = _SIZES,
    seed: int = 0,
) -> LearnedBackprop:
    """The outer loop at its beginning, in lives that start from Kaiming's weights."""
    return LearnedBackprop(
        LearnedStart,
        env_id,
        {**env_kwargs, "init": "kaiming"},
        {"sizes": tuple(sizes)},
        learning_rate=rate,
        anneal_over=generations,
        learn_rate=True,
        jitter=0.0,
        seed=seed,
    )


def validation(model: LearnedBackprop) -> dict[str, Any]:
    """Accuracy on validation images at the learned rate."""
    (env_id,) = model.env_ids
    split = image_split(env_id, {})
    (rate,) = model.inner_learning_rates
    tuned = validated(model.policy, env_id, _KAIMING, split, Tuned(rate), tuning_lives(3))
    return {
        "validation_accuracy": tuned.validation_accuracy,
        "inner_learning_rate": rate,
        "learned_parameters": len(model.policy.beta) + 1,
        "learning_seconds": round(model.seconds, 1),
        "held_out_loss": [round(-mean, 4) for mean, *_ in model.history],
    }


_KAIMING = {"init": "kaiming"}
"""So that the environment keeps the first weights as they are; the policy then sets them."""


def scores(model: LearnedBackprop, setting: Setting) -> dict[str, Any]:
    """Accuracy on fresh subsets and test images by update, at the settings that validate best.

    The learned rate is one choice; the others are those that every method has.
    """
    env_id, policy = setting.env_id, model.policy
    kwargs = {**setting.kwargs, **_KAIMING}
    split, lives = image_split(env_id, kwargs), tuning_lives(3)
    (rate,) = model.inner_learning_rates
    choices = [
        validated(policy, env_id, kwargs, split, Tuned(rate), lives),
        tune(policy, env_id, kwargs, split, lives, regularise=True),
    ]
    tuned = max(choices, key=lambda choice: choice.validation_accuracy or 0.0)
    kwargs |= {"learning_rate": tuned.learning_rate, "weight_decay": tuned.weight_decay}
    env, _ = image_env(env_id, {**kwargs, "train_range": split.fresh_range, "score_on": "test"})
    train, test = [], []
    for seed in fresh_lives(NUM_SUBSETS):
        moments = [
            (task.accuracy().item(), task.final_metrics()["test_accuracy"].item())
            for task in learn(policy.smoothed(tuned.label_smoothing), env, [seed])
        ]
        own, other = np.array(moments).round(6).T.tolist()
        train.append(own[-1])
        test.append(other)
    return {
        "tuned": asdict(tuned),
        "train": train,
        "test": [curve[-1] for curve in test],
        "test_by_update": test,
    }


def render(file: ResultsFile) -> str:
    """The table in Markdown, beside the top-down network and backpropagation from Kaiming's start.

    These two are taken from the results of table 1.
    """
    others = ResultsFile(FILE)
    learned = file.cells.get(METHOD)
    parameters = f"{learned['learned_parameters']:,}" if learned else "–"
    generations = f"{learned['settings']['generations']:,}" if learned else "–"
    card = zoo.card(NETWORK)
    rows = [["Kaiming BP", "0", "–"], [METHOD, parameters, generations]]
    rows += [["TDCA by meta-gradients", f"{card['parameters']:,}", f"{card['generations']:,}"]]
    used = []
    for row, method in zip(rows, ("Kaiming BP", None, NETWORK), strict=True):
        for data, setting in SETTINGS.items():
            if method is None:
                cell = file.cells.get(f"{METHOD} | {data}")
                row.append(spread([curve[0] for curve in cell["test_by_update"]]) if cell else "–")
            else:
                cell = found(others, method, setting)
                row.append("guessing")
            row.append(spread(cell["test"]) if cell else "–")
            used += [cell] if cell else []
    header = ["", "learned parameters", "generations"]
    header += [f"{data}, {updates} updates" for data in SETTINGS for updates in (0, 20)]
    note = (
        "Test accuracy in %, mean ± standard deviation over five fresh subsets of 1,000 images; "
        "what was learned was learned on MNIST."
    )
    return f"{markdown(header, rows)}\n\n{note} Made by {makers(used)}."


if __name__ == "__main__":
    sys.exit(main())
