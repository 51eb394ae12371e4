"""What the paper's control experiments would cost on a cluster: a model, not a measurement.

Measured here: environment steps per second of one core (Gymnasium's BipedalWalker-v3 and the three
tasks of Meta-World with random actions, in CPU time; our own batched CartPole and Pendulum, 32
agents at once, with record and top-down network), seconds of a reset, and the overheads that
`python -m benchmarks.cluster` finds per chunk and per generation on Ray. Everything else follows
from the paper's settings: 3,000 generations, 200 updates in a life, episodes of full length. The
paper does not give the population; 32 candidates, one life each, is assumed (nine lives in
Meta-World: 3 tasks × 3 initial states).

With N chunks (one candidate each, with all its lives) on P cores, a generation takes

    T(P) = ⌈N / P⌉ · t + N · o + r + u,    t = lives · (200 + 1) · (horizon / v + t_reset),

where v is steps per second, o this process's CPU time per chunk, r a round trip and u PGPE's own
time. The efficiency is N · t / (P · T(P)). Left out are agents and top-down networks of the tasks
that step Gymnasium's environments (small beside physics), stragglers, faults, and the network
between machines.

What bounds it: the updates of a life follow each other, and only candidates (and lives) go on side
by side. So no more than N cores are of use to one run, however many there are; more serve more
seeds, or larger populations. "Split by life" is what it would be if the lives of a candidate went
to different cores too, which the outer loop does not do.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import gymnasium
import numpy as np
import torch

from benchmarks import cluster
from benchmarks.common.command import exit_code
from benchmarks.common.results import Cell, ResultsFile, makers, markdown
from benchmarks.control import PROBLEMS, measure
from meta.command_line import Parser

NAME = "cluster_cost"
EXAMPLES = """\
examples:
  python -m benchmarks.cluster                # overheads, on which the model rests
  python -m benchmarks.cluster_cost           # speeds, and the model
"""
GENERATIONS, UPDATES, POPULATION = 3000, 200, 32
CORES = (1, 16, 32, 128, 1024)
META_WORLD = ("button-press-wall-v3", "dial-turn-v3", "door-close-v3")


@dataclass(frozen=True)
class Experiment:
    """One of the paper's, and its speed.

    Attributes:
        name: of the row.
        horizon: steps of an episode.
        lives: of each candidate.
        speeds: keys of the speeds measured; lives are dealt to them in turn.
        batched: whether one core plays all agents at once, so that more cores are of no use.
    """

    name: str
    horizon: int
    lives: int
    speeds: tuple[str, ...]
    batched: bool = False

    @property
    def steps(self) -> float:
        """Environment steps in all."""
        return float(GENERATIONS * POPULATION * self.lives * (UPDATES + 1) * self.horizon)


EXPERIMENTS = (
    Experiment("CartPole", 200, 1, ("cartpole",), batched=True),
    Experiment("Pendulum", 200, 1, ("pendulum",), batched=True),
    Experiment("BipedalWalker", 1600, 1, ("BipedalWalker-v3",)),
    Experiment("Meta-World", 500, 9, META_WORLD),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure speeds that are missing, then print the model; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__, epilog=EXAMPLES)
    parser.add_argument("--quick", action="store_true", help="short measurements; kept apart")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)

    def work() -> None:
        measured = ResultsFile(cluster.NAME, arguments.quick)
        overhead_cell(measured)
        file = ResultsFile(NAME, arguments.quick)
        fill(file, 200 if arguments.quick else 8000)
        print(render(file, measured))

    return exit_code(NAME, work)


# ---------------------------------------------------------------------- speeds


def fill(file: ResultsFile, steps: int) -> None:
    """Measure the speeds that are missing."""
    for name in ("cartpole", "pendulum"):
        settings: dict[str, Any] = {"problem": name, "agents": POPULATION, "steps": steps}
        file.cell(name, settings, lambda name=name: batched_speed(name, steps))  # type: ignore[misc]
    makers_of_envs: dict[str, Callable[[], gymnasium.Env[Any, Any]]] = {
        "BipedalWalker-v3": lambda: gymnasium.make("BipedalWalker-v3"),
        **{name: lambda name=name: meta_world(name) for name in META_WORLD},  # type: ignore[misc]
    }
    for name, make in makers_of_envs.items():
        settings = {"environment": name, "steps": steps}
        file.cell(name, settings, lambda make=make: single_speed(make(), steps))  # type: ignore[misc]


def meta_world(name: str) -> gymnasium.Env[Any, Any]:
    """One task of Meta-World, always from the same initial state."""
    import metaworld  # MuJoCo takes seconds to import, which `--help` need not

    task = metaworld.MT1(name, seed=0)  # type: ignore[no-untyped-call]
    env = task.train_classes[name]()
    env.set_task(task.train_tasks[0])
    return env


def batched_speed(name: str, steps: int) -> dict[str, Any]:
    """Of agents of ours that one core plays all at once, with everything that an update takes."""
    measurement = measure(PROBLEMS[name], POPULATION, rounds=max(steps // 400, 3))
    return {"steps_per_second": statistics.median(measurement.rounds), "reset_seconds": 0.0}


def single_speed(env: gymnasium.Env[Any, Any], steps: int) -> dict[str, Any]:
    """Of an environment with random actions, in CPU time; resets are timed apart."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(steps)]
    env.reset(seed=0)
    stepping = 0.0
    resets: list[float] = []
    for action in actions:
        before = time.process_time()
        _, _, terminated, truncated, _ = env.step(action)
        stepping += time.process_time() - before
        if terminated or truncated:
            before = time.process_time()
            env.reset()
            resets.append(time.process_time() - before)
    if not resets:
        before = time.process_time()
        env.reset()
        resets.append(time.process_time() - before)
    return {
        "steps_per_second": steps / stepping,
        "reset_seconds": statistics.mean(resets),
        "resets": len(resets),
    }


# ---------------------------------------------------------------------- the model


@dataclass(frozen=True)
class Overhead:
    """Seconds beside the evaluation.

    Attributes:
        per_chunk: of this process, one chunk after the other.
        per_generation: a round trip, and PGPE's own time.
    """

    per_chunk: float
    per_generation: float


def seconds_of_candidate(experiment: Experiment, speeds: dict[str, Cell]) -> float:
    """That one core takes for all lives of a candidate."""
    episodes = UPDATES + 1  # one before the first update
    of_life = [
        episodes * (experiment.horizon / cell["steps_per_second"] + cell["reset_seconds"])
        for cell in (speeds[name] for name in experiment.speeds)
    ]
    return experiment.lives * float(np.mean(of_life))


def seconds_of_generation(evaluation: float, chunks: int, cores: int, overhead: Overhead) -> float:
    """On so many cores, of so many chunks that one core evaluates in `evaluation` seconds each."""
    rounds = ceil(chunks / cores)
    return rounds * evaluation + chunks * overhead.per_chunk + overhead.per_generation


def overhead_of(cell: Cell) -> Overhead:
    """From what `benchmarks.cluster` found."""
    return Overhead(cell["driver_cpu_per_chunk"], cell["round_trip"] + cell["pgpe_cpu"])


def overhead_cell(measured: ResultsFile) -> Cell:
    """What `benchmarks.cluster` found.

    Raises:
        ValueError: it has not been run.
    """
    if "overhead: Ray" not in measured.cells:
        quick = " --quick" if measured.path.stem.endswith("-quick") else ""
        raise ValueError(
            "the model rests on overheads of Ray that are not there yet: run "
            f"`python -m benchmarks.cluster{quick}` first, with the extra `ray` installed"
        )
    cell: Cell = measured.cells["overhead: Ray"]
    return cell


def render(file: ResultsFile, measured: ResultsFile) -> str:
    """Speeds and the model in Markdown."""
    speeds, ray = file.cells, overhead_cell(measured)
    overhead = overhead_of(ray)
    lines = [
        [
            name,
            f"{cell['steps_per_second']:,.0f}",
            f"{1e3 * cell['reset_seconds']:.1f}" if cell["reset_seconds"] else "",
        ]
        for name, cell in sorted(speeds.items())
    ]
    parts = [
        markdown(["environment", "steps per second of one core", "ms per reset"], lines),
        "Hours of one seed (efficiency), by the model:",
        markdown(
            ["experiment", "steps", *(f"{cores:,} core{'s' * (cores > 1)}" for cores in CORES)],
            [row for experiment in EXPERIMENTS for row in rows_of(experiment, speeds, overhead)],
        ),
        f"Made by {makers([*speeds.values(), ray])}.",
    ]
    return "\n\n".join(parts)


def rows_of(experiment: Experiment, speeds: dict[str, Cell], overhead: Overhead) -> list[list[str]]:
    """Hours by number of cores; of several lives, split by life too."""
    candidate = seconds_of_candidate(experiment, speeds)
    first = [experiment.name, f"{experiment.steps:.1e}"]
    if experiment.batched:
        # Its speed is that of all candidates at once.
        generation = POPULATION * candidate + overhead.per_generation
        return [[*first, hours(generation), *["one core plays all"] * (len(CORES) - 1)]]
    rows = [[*first, *cells_of(candidate, POPULATION, overhead)]]
    if experiment.lives > 1:
        split = cells_of(candidate / experiment.lives, POPULATION * experiment.lives, overhead)
        rows.append([f"{experiment.name}, split by life", first[1], *split])
    return rows


def cells_of(evaluation: float, chunks: int, overhead: Overhead) -> list[str]:
    """Hours and efficiency, by number of cores."""
    cells = []
    for cores in CORES:
        generation = seconds_of_generation(evaluation, chunks, cores, overhead)
        efficiency = chunks * evaluation / (cores * generation)
        cells.append(f"{hours(generation)} ({100 * efficiency:.0f} %)")
    return cells


def hours(generation: float) -> str:
    """Of all generations."""
    value = GENERATIONS * generation / 3600
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
