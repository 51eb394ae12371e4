"""A top-down network that is evolved for one subset of MNIST, as the paper does it.

In the paper a top-down network is evolved on the images that its bottom-up network is then said to
have learned; its 99.8 % are of those. Here PGPE begins with feedback alignment and meets one life
again and again: one subset of 1,000 images and 20 updates from zero weights, for the loss on those
images. "Its own subset" is that one, another for each seed of the outer loop; "fresh subsets" are
five of images that no outer loop has seen, on which the same network leads training. Its learning
rate is 0.015, at which the start of evolution fits the first of the subsets best. Below, known
rules learn the same subsets, tuned as in Table 1. So what evolution adds on its own subset can be
told from what generalises.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from agents import CreditPolicy
from benchmarks.common.by_recipe import loop_by_recipe
from benchmarks.common.classifiers import policy_of, require_whole, tuned_for
from benchmarks.common.command import exit_code
from benchmarks.common.results import Cell, Job, ResultsFile, makers, markdown, spread
from meta import PGPE
from meta.baselines import image_split
from meta.command_line import Parser, positive
from meta.report import NUM_SUBSETS, fresh_lives
from meta.tuning import Tuned, score

NAME = "own_subset"
ENV = "CreditAssign-MNIST-v0"
SETTING = {"num_samples": 1000, "num_updates": 20}
RULES = ("Kaiming BP", "zero BP", "DFA")
EVOLVED = "TDCA, evolved for it"
START = "TDCA, start"
OWN, FRESH = "its own subset", "fresh subsets"
SUBSETS = (OWN, FRESH)
PAPER = "99.8 / 88.61"
GENERATIONS = 300
LEARNING_RATE = 0.015
"""Of the inner optimiser under the top-down network."""
_QUICK = {"num_samples": 100, "num_updates": 5}


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what is missing, then print the table; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="two generations, small lives: shows that it works")
    add("--seeds", type=positive, default=2, metavar="N", help="of the outer loop (default: 2)")
    add("--workers", type=positive, metavar="N", help="processes (default: one per core)")
    arguments = parser.parse_args(argv)

    def work() -> None:
        require_whole(ENV, {})
        file = ResultsFile(NAME, arguments.quick)
        file.fill(jobs(arguments.seeds, arguments.quick), arguments.workers)
        print(render(file, arguments.seeds, arguments.quick))

    return exit_code(NAME, work)


def jobs(seeds: int, quick: bool = False) -> list[Job]:
    """A cell for each outer-loop seed, and one for each rule."""
    setting = _QUICK if quick else SETTING
    settings = {
        "generations": 2 if quick else GENERATIONS,
        "learning_rate": LEARNING_RATE,
        "env_kwargs": setting,
    }
    evolved = [
        Job(f"{EVOLVED}, seed {seed}", evolve, {"seed": seed, **settings}) for seed in range(seeds)
    ]
    rules = [
        Job(rule, known_rule, {"method": rule, "seeds": seeds, "env_kwargs": setting})
        for rule in RULES
    ]
    return evolved + rules


def evolve(
    seed: int, generations: int, learning_rate: float, env_kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Accuracies before and after the evolution for one subset."""
    model = learner(seed, generations, {**env_kwargs, "learning_rate": learning_rate})
    settings = Tuned(learning_rate)
    before = accuracies(START, model.policy, env_kwargs, settings, model.life_seeds)
    model.learn(generations * model.timesteps_per_generation)
    after = accuracies(EVOLVED, model.policy, env_kwargs, settings, model.life_seeds)
    return {"start": before, "evolved": after}


def known_rule(method: str, seeds: int, env_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Accuracies of a rule on the subsets that evolution met, with its tuned settings."""
    policy, kwargs = policy_of(method, ENV, env_kwargs)
    tuned = tuned_for(policy, ENV, kwargs, 3, regularise=True)
    lives = [life for seed in range(seeds) for life in learner(seed, 1, env_kwargs).life_seeds]
    return {"tuned": asdict(tuned), **accuracies(method, policy, kwargs, tuned, lives)}


def learner(seed: int, generations: int, env_kwargs: dict[str, Any]) -> PGPE:
    """The outer loop by its recipe, but for the one subset and the loss on it."""
    images = {"train_range": image_split(ENV, env_kwargs).meta_range, "evaluate_test": False}
    model = loop_by_recipe(
        "TDCAPolicy",
        ENV,
        env_kwargs={**env_kwargs, **images, "loss_on": "train"},
        resample_lives=False,
        seed=seed,
        anneal_over=generations,
    )
    assert isinstance(model, PGPE)
    return model


def accuracies(
    name: str,
    policy: CreditPolicy,
    env_kwargs: dict[str, Any],
    tuned: Tuned,
    own: Sequence[int],
) -> dict[str, Any]:
    """Training and test accuracies after lives on subsets that evolution met, and on fresh ones.

    Args:
        name: of the method.
        policy: it.
        env_kwargs: of the environment.
        tuned: settings of the inner optimiser.
        own: lives that evolution met.
    """
    split = image_split(ENV, env_kwargs)
    subsets = {
        OWN: (split.meta_range, own),
        FRESH: (split.fresh_range, fresh_lives(NUM_SUBSETS)),
    }
    scores = {
        subset: score(name, policy, ENV, env_kwargs, images, tuned, lives)
        for subset, (images, lives) in subsets.items()
    }
    return {
        subset: {"train": lives.train.round(6).tolist(), "test": lives.test.round(6).tolist()}
        for subset, lives in scores.items()
    }


def render(file: ResultsFile, seeds: int = 2, quick: bool = False) -> str:
    """The table in Markdown, with what made it."""
    wanted = jobs(seeds, quick)
    runs = [cell for cell in file.find_all(wanted) if "evolved" in cell]
    entries = [[run["start"] for run in runs], [run["evolved"] for run in runs]]
    rows = []
    for name, cells in zip((START, EVOLVED), entries, strict=True):
        rows.append([name, *(_entry([cell[subset] for cell in cells]) for subset in SUBSETS)])
    for job in wanted[seeds:]:
        cell = file.find(job.key, job.settings)
        rows.append([job.key, *(_entry([cell[s]] if cell else []) for s in SUBSETS)])
    if runs:
        rows[1][1] += f" *({PAPER})*"
    note = (
        "Train / test accuracy in %, mean ± standard deviation over "
        f"{len(runs)} seeds of the outer loop, {wanted[0].settings['generations']} generations "
        "each, and their subsets; in italics what the paper has."
    )
    return f"{markdown(['', *SUBSETS], rows)}\n\n{note} Made by {makers(file.find_all(wanted))}."


def _entry(cells: Sequence[Cell]) -> str:
    """Train / test of all lives of these cells."""
    if not cells:
        return "–"
    pooled = (np.concatenate([cell[split] for cell in cells]) for split in ("train", "test"))
    return " / ".join(spread(values.tolist()) for values in pooled)


if __name__ == "__main__":
    sys.exit(main())
