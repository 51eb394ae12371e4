"""Rewards that arrive after several actions: AuGMEnT's tags against DQN.

CartPole: the pole has to be kept up, for 500 steps at most; shown is for how many. AuGMEnT, whose
network has no biases, gets −1 for a failure and nothing else; DQN whichever is better, that or 1
for every step.

Digits: a digit is named, and 2 to 4 steps later, in which nothing is seen, comes the reward; shown
is the accuracy on test images in %. As all states of waiting look alike, values cannot pass from
one to the next: the answer has to be remembered, by tags or by returns over as many steps.

Two controls tell what tags are for: λ = 0, where only the last action learns, and γ = 0, where
only the reward of the moment counts. Digits need tags. CartPole does not: its states tell all, so
values come back from state to state; and what a network without biases learns of the last moment
before a failure holds for all states that lean the same way, so that even γ = 0 may do at times.

All have the best settings of a grid, by their mean over the first 20,000 steps with another seed
(and on validation images). Scores are without exploration, mean ± standard deviation over seeds;
seconds are CPU seconds of learning, on one thread.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, get_args

import numpy as np
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule

from agents import AuGMEnT
from benchmarks.common.command import exit_code
from benchmarks.common.delayed_tasks import Name, environment, score
from benchmarks.common.results import Cell, Job, ResultsFile, makers, markdown, spread
from meta.command_line import Parser, positive

NAME = "delayed_reward"
EXAMPLES = """\
examples:
  python -m benchmarks.delayed_reward --quick            # a minute: few steps, nothing tuned
  python -m benchmarks.delayed_reward                    # half an hour on two cores
  python -m benchmarks.delayed_reward --only CartPole --seeds 10 --tuning-seeds 3
"""
TASKS: tuple[Name, ...] = get_args(Name)
_TUNING_SEED = 1000
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Extent:
    """How much is computed.

    Attributes:
        seeds: networks per line.
        tuning_seeds: networks per point of a grid; 0: the first point is taken.
        marks: environment steps after which a network is scored; after the last it ends.
        tuning_marks: likewise, of those that are tuned by.
    """

    seeds: int = 3
    tuning_seeds: int = 1
    marks: tuple[int, ...] = (2_000, 5_000, 10_000, 20_000, 50_000)
    tuning_marks: tuple[int, ...] = (2_000, 5_000, 10_000, 20_000)


QUICK = Extent(seeds=2, tuning_seeds=0, marks=(2_000, 5_000))


@dataclass(frozen=True)
class Contender:
    """An algorithm with its settings.

    Attributes:
        algorithm: "AuGMEnT" or "DQN".
        settings: those that are given; `num_envs` and `failure_alone` are for the environment.
        grid: values to choose from.
    """

    algorithm: str
    settings: Settings
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def points(self) -> list[Settings]:
        """What the grid has to choose from."""
        return [
            dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())
        ]

    def with_only(self, **settings: Any) -> "Contender":
        """The same with these settings, not to be chosen any more."""
        grid = {name: values for name, values in self.grid.items() if name not in settings}
        return Contender(self.algorithm, {**self.settings, **settings}, grid)


_AUGMENT: dict[Name, Contender] = {
    "CartPole": Contender(
        "AuGMEnT",
        {
            "num_envs": 4,
            "failure_alone": True,
            "epsilon": (0.3, 0.02, 0.5),
            "policy_kwargs": {"hidden_sizes": [64], "std": [2.4, 2.0, 0.1, 1.0]},
        },
        {"learning_rate": (0.2, 0.1, 0.4), "tag_decay": (0.9, 0.8)},
    ),
    "Digits": Contender(
        "AuGMEnT",
        {
            "num_envs": 8,
            "epsilon": (0.3, 0.02, 0.5),
            "policy_kwargs": {"hidden_sizes": [300]},
        },
        {"learning_rate": (0.2, 0.1, 0.5), "tag_decay": (0.9, 0.8)},
    ),
}
_DQN: dict[Name, Contender] = {
    # As the RL Baselines3 Zoo has it, but for the grid, whose first rate is the Zoo's.
    "CartPole": Contender(
        "DQN",
        {
            "num_envs": 1,
            "batch_size": 64,
            "buffer_size": 100_000,
            "learning_starts": 1000,
            "target_update_interval": 10,
            "train_freq": 256,
            "gradient_steps": 128,
            "exploration_fraction": 0.16,
            "exploration_final_eps": 0.04,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
        {"learning_rate": (2.3e-3, 1e-3, 5e-4), "failure_alone": (False, True)},
    ),
    "Digits": Contender(
        "DQN",
        {
            "num_envs": 8,
            "batch_size": 64,
            "buffer_size": 100_000,
            "learning_starts": 1000,
            "target_update_interval": 500,
            "train_freq": 4,
            "gradient_steps": 8,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.05,
            "policy_kwargs": {"net_arch": [300]},
        },
        {"learning_rate": (1e-3, 2e-3, 5e-4)},
    ),
}
CONTENDERS: dict[Name, dict[str, Contender]] = {
    task: {
        "AuGMEnT": _AUGMENT[task],
        "AuGMEnT, λ = 0": _AUGMENT[task].with_only(tag_decay=0.0),
        "AuGMEnT, γ = 0": _AUGMENT[task].with_only(tag_decay=0.0, gamma=0.0),
        "DQN": _DQN[task],
    }
    for task in TASKS
}
CONTENDERS["Digits"]["DQN, returns over 5 steps"] = _DQN["Digits"].with_only(n_steps=5)


def main(argv: Sequence[str] | None = None) -> int:
    """Compute what is missing, then print the table; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--quick", action="store_true", help="a minute; kept in a file of its own")
    add("--only", nargs="+", choices=TASKS, default=TASKS, help="tasks (default: all)")
    add("--seeds", type=positive, metavar="N", help="per line (default: 3; quick: 2)")
    add(
        "--tuning-seeds",
        type=positive,
        metavar="N",
        help="per point of a grid (default: 1; quick: none, the first point is taken)",
    )
    add("--workers", type=positive, metavar="N", help="processes (default: one per core)")
    arguments = parser.parse_args(argv)
    extent = QUICK if arguments.quick else Extent()
    extent = replace(
        extent,
        seeds=arguments.seeds or extent.seeds,
        tuning_seeds=arguments.tuning_seeds or extent.tuning_seeds,
    )

    def work() -> None:
        file = ResultsFile(NAME, arguments.quick)
        fill(file, arguments.only, extent, arguments.workers)
        print(render(file, extent))

    return exit_code(NAME, work)


def fill(file: ResultsFile, tasks: Sequence[Name], extent: Extent, workers: int | None) -> None:
    """Compute what is missing: first what settings are chosen by, then the table's own."""
    lines = [(task, name) for task in tasks for name in CONTENDERS[task]]
    # DQN, which takes longest, first.
    lines.sort(key=lambda line: not line[1].startswith("DQN"))
    tuning = [job for line in lines for jobs in tuning_jobs(*line, extent) for job in jobs]
    file.fill(tuning, workers)
    file.fill([job for line in lines for job in report_jobs(file, *line, extent)], workers)


def tuning_jobs(task: Name, name: str, extent: Extent) -> list[list[Job]]:
    """By point of the contender's grid."""
    seeds = range(_TUNING_SEED, _TUNING_SEED + extent.tuning_seeds)
    points = CONTENDERS[task][name].points
    return [[job(task, name, point, seed, extent, False) for seed in seeds] for point in points]


def report_jobs(file: ResultsFile, task: Name, name: str, extent: Extent) -> list[Job]:
    """By seed, with the settings that were chosen; none before they are."""
    point = chosen(file, task, name, extent)
    if point is None:
        return []
    return [job(task, name, point, seed, extent, True) for seed in range(extent.seeds)]


def job(task: Name, name: str, point: Settings, seed: int, extent: Extent, is_report: bool) -> Job:
    """One network."""
    contender = CONTENDERS[task][name]
    settings = {
        "task": task,
        "algorithm": contender.algorithm,
        "settings": {**contender.settings, **point},
        "seed": seed,
        "marks": extent.marks if is_report else extent.tuning_marks,
        "is_report": is_report,
    }
    return Job(f"{task}, {name}, {said(point)}, seed {seed}", learned, settings)


def chosen(file: ResultsFile, task: Name, name: str, extent: Extent) -> Settings | None:
    """The point of the grid with the highest mean score; None if not all have been computed."""
    points = CONTENDERS[task][name].points
    if extent.tuning_seeds == 0:
        return points[0]
    scores = []
    for jobs in tuning_jobs(task, name, extent):
        if any(job.key not in file.cells for job in jobs):
            return None
        scores.append(np.mean([file.cells[job.key]["scores"] for job in jobs]))
    return points[int(np.argmax(scores))]


# ---------------------------------------------------------------------- one network


def learned(
    task: Name,
    algorithm: str,
    settings: Settings,
    seed: int,
    marks: Sequence[int],
    is_report: bool,
) -> dict[str, Any]:
    """Scores of a network at the marks, and the CPU seconds that its learning took."""
    kwargs = dict(settings)
    env = environment(task, kwargs.pop("num_envs"), seed, kwargs.pop("failure_alone", False))
    # Copied, since DQN writes into them.
    policy_kwargs = dict(kwargs.pop("policy_kwargs"))
    common: dict[str, Any] = {"policy_kwargs": policy_kwargs, "seed": seed, "device": "cpu"}
    model: BaseAlgorithm
    if algorithm == "AuGMEnT":
        epsilon = LinearSchedule(*kwargs.pop("epsilon"))
        model = AuGMEnT("MlpPolicy", env, epsilon=epsilon, **common, **kwargs)
    else:
        model = DQN("MlpPolicy", env, **common, **kwargs)
    measure = Measure(task, seed, marks, is_report)
    started = time.process_time()
    try:
        model.learn(marks[-1], measure)
        diverged = False
    except FloatingPointError:
        diverged = True
    seconds = time.process_time() - started - measure.seconds
    # A network that has diverged does nothing right from then on.
    scores = measure.scores + [0.0] * (len(marks) - len(measure.scores))
    return {"scores": scores, "diverged": diverged, "learning_seconds": round(seconds, 2)}


class Measure(BaseCallback):
    """Scores a network at some marks.

    Args:
        task: what it learns.
        seed: see `score`.
        marks: numbers of environment steps.
        is_report: see `score`.

    Attributes:
        scores: so far.
        seconds: of CPU that they took.
    """

    def __init__(self, task: Name, seed: int, marks: Sequence[int], is_report: bool) -> None:
        super().__init__()
        self._task: Name = task
        self._seed = seed
        self._marks = list(marks)
        self._is_report = is_report
        self.scores: list[float] = []
        self.seconds = 0.0

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._marks[len(self.scores)]:
            started = time.process_time()
            self.scores.append(score(self._task, self.model, self._seed, self._is_report))
            self.seconds += time.process_time() - started
        return len(self.scores) < len(self._marks)


# ---------------------------------------------------------------------- the table


def render(file: ResultsFile, extent: Extent) -> str:
    """The table in Markdown, with what made it."""
    header = ["task", "learner", "chosen", *(f"{mark:,} steps" for mark in extent.marks), "seconds"]
    lines, used = [], []
    for task, contenders in CONTENDERS.items():
        for name in contenders:
            cells = cells_of(file, task, name, extent)
            if cells:
                point = chosen(file, task, name, extent) or {}
                scores = np.array([cell["scores"] for cell in cells])
                seconds = [cell["learning_seconds"] for cell in cells]
                columns = [spread(column, factor=1.0) for column in scores.T]
                lines.append([task, name, said(point), *columns, spread(seconds, factor=1.0)])
                used += cells
    made_by = f"\n\n{extent.seeds} seeds. Made by {makers(used)}." if used else ""
    return f"{markdown(header, lines)}{made_by}"


def cells_of(file: ResultsFile, task: Name, name: str, extent: Extent) -> list[Cell]:
    """Those of a line that have been computed."""
    return file.find_all(report_jobs(file, task, name, extent))


def said(point: Settings) -> str:
    """Settings, to be read by people."""
    names = {"learning_rate": "α", "tag_decay": "λ", "failure_alone": "failure alone"}
    return ", ".join(f"{names[name]} {_value(value)}" for name, value in point.items())


def _value(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value:g}"


if __name__ == "__main__":
    sys.exit(main())
