"""How many steps agents live through per second in environments that hold one agent each.

One round is one episode of every agent, network and record included, in one process and shared by
worker processes; and, for scale, the same actions played by the bare environment of Gymnasium or
Meta-World. Rounds of the three take turns, so that a busy machine slows all alike, and that they
have the same rewards is checked in every round.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import gymnasium
import metaworld
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common.command import exit_code
from benchmarks.common.results import makers, markdown
from benchmarks.control import task_of
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks.metaworld import TASKS
from meta.command_line import Parser, positive
from meta.runs import provenance

NAME = "stepped"
Rows = NDArray[np.float32]


@dataclass
class Speeds:
    """Agent steps per second in each round."""

    bare: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    shared: list[float] = field(default_factory=list)


def walkers(env: CreditAssignVectorEnv) -> Callable[[int], Any]:
    """What makes Gymnasium's environment at an agent's start."""

    def make(agent: int) -> Any:
        judge = gymnasium.make("BipedalWalker-v3").unwrapped
        judge.reset(seed=int(task_of(env).episode_starts()[0, agent]))
        return judge

    return make


def arms(env: CreditAssignVectorEnv) -> Callable[[int], Any]:
    """What puts Meta-World's environments, made once, at an agent's start."""
    make_benchmark: Any = metaworld.MT1
    benchmarks = [make_benchmark(f"{name.lower()}-v3", seed=0) for name in TASKS]
    judges = [next(iter(benchmark.train_classes.values()))() for benchmark in benchmarks]

    def make(agent: int) -> Any:
        task = task_of(env)
        which, start = task.task_index[agent], int(task.episode_starts()[0, agent])
        judges[which].set_task(benchmarks[which].train_tasks[start])
        judges[which].reset()
        return judges[which]

    return make


PROBLEMS: dict[str, tuple[str, Callable[[CreditAssignVectorEnv], Callable[[int], Any]]]] = {
    "bipedal-walker": ("CreditAssign-BipedalWalker-v0", walkers),
    "meta-world": ("CreditAssign-MetaWorld-v0", arms),
}


def measure(name: str, agents: int, rounds: int, workers: int) -> Speeds:
    """Time `rounds` rounds, after one to warm up."""
    env_id, make_judges = PROBLEMS[name]
    alone, shared = (
        gymnasium.make_vec(env_id, num_envs=agents, num_workers=n, num_updates=rounds + 2)
        for n in (0, workers)
    )
    assert isinstance(alone, CreditAssignVectorEnv)
    assert isinstance(shared, CreditAssignVectorEnv)
    judge_at = make_judges(alone)
    alone.reset_tensors(range(agents))
    shared.reset_tensors(range(agents))
    speeds = Speeds()
    credit = torch.zeros(agents, task_of(alone).num_parameters)
    for _ in range(rounds + 1):
        # Small steps, for equal agents would play once.
        credit.uniform_(-1e-3, 1e-3)
        started = time.perf_counter()
        rows = alone.step_tensors(credit).observation.numpy().copy()
        steps, between = float(rows[..., -1].sum()), time.perf_counter()
        speeds.alone.append(steps / (between - started))
        again = shared.step_tensors(credit).observation.numpy()
        speeds.shared.append(steps / (time.perf_counter() - between))
        if not np.array_equal(rows, again):
            raise AssertionError("worker processes changed an episode")
        started = time.perf_counter()
        for agent, record in enumerate(rows):
            play(judge_at(agent), record[record[:, -1] > 0], task_of(alone).reward_scale)
        speeds.bare.append(steps / (time.perf_counter() - started))
    shared.close()
    return Speeds(speeds.bare[1:], speeds.alone[1:], speeds.shared[1:])


def play(judge: Any, rows: Rows, reward_scale: float) -> None:
    """Play recorded actions in the bare environment, and compare the rewards."""
    for row in rows:
        _, reward, *_ = judge.step(row[-6:-2])
        if np.float32(reward_scale * float(reward)) != row[-2]:
            raise AssertionError("an episode is not what the bare environment plays")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__)
    add = parser.add_argument
    add("--env", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), help="which (default: all)")
    add("--agents", type=positive, default=72, help="agents at once (default: 72)")
    add("--rounds", type=positive, default=7, help="timed rounds (default: 7)")
    add("--workers", type=positive, default=2, help="worker processes (default: 2)")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    return exit_code(
        NAME, lambda: race(given.env, given.agents, given.rounds, given.workers), goes_on=False
    )


def race(names: Sequence[str], agents: int, rounds: int, num_workers: int) -> None:
    """Measure, print a table."""
    print(makers([{"made_by": provenance()}]))
    print(f"\nmedian [lowest, highest] of {rounds} rounds; agent steps per second\n")
    workers = f"{num_workers} worker processes"
    header = ("environment", "bare", "one process", workers, "one : bare", f"{workers} : one")
    lines = []
    for name in names:
        speeds = measure(name, agents, rounds, num_workers)
        cells = [
            f"{median(s):,.0f} [{min(s):,.0f}, {max(s):,.0f}]"
            for s in (speeds.bare, speeds.alone, speeds.shared)
        ]
        ratios = [
            median(a / b for a, b in zip(above, below, strict=True))
            for above, below in ((speeds.alone, speeds.bare), (speeds.shared, speeds.alone))
        ]
        lines.append([name, *cells, *(f"{ratio:.2f}" for ratio in ratios)])
    print(markdown(header, lines))


if __name__ == "__main__":
    sys.exit(main())
