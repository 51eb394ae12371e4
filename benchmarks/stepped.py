"""How many steps agents live through per second in environments that hold one agent each.

One round is one episode of every agent, network and record included, in one process and shared by
worker processes; and, for scale, the same actions played by the bare environment of Gymnasium or
Meta-World. Rounds of the three take turns, so that a busy machine slows all alike, and that they
have the same rewards is checked in every round.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import gymnasium
import metaworld
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.control import circumstances, task_of
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks.metaworld import TASKS

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


def main() -> int:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--agents", type=int, default=72, help="agents at once (default: 72)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default: 7)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: 2)")
    arguments = parser.parse_args()
    if min(arguments.agents, arguments.rounds, arguments.workers) < 1:
        parser.error("--agents, --rounds and --workers take at least 1")
    torch.set_num_threads(1)
    print(circumstances())
    print(f"\nmedian [lowest, highest] of {arguments.rounds} rounds; agent steps per second\n")
    workers = f"{arguments.workers} worker processes"
    print(f"| environment | bare | one process | {workers} | one : bare | {workers} : one |")
    print("|---|---|---|---|---|---|")
    for name in arguments.env:
        speeds = measure(name, arguments.agents, arguments.rounds, arguments.workers)
        cells = [
            f"{median(s):,.0f} [{min(s):,.0f}, {max(s):,.0f}]"
            for s in (speeds.bare, speeds.alone, speeds.shared)
        ]
        ratios = [
            median(a / b for a, b in zip(above, below, strict=True))
            for above, below in ((speeds.alone, speeds.bare), (speeds.shared, speeds.alone))
        ]
        print("| " + " | ".join([name, *cells, *(f"{ratio:.2f}" for ratio in ratios)]) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
