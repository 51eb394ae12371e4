"""Worker processes and Ray's actors: the same results, how fast, and with workers killed.

One generation of the outer loop is evaluated in turns by this process alone, by 1 and 2 worker
processes and by 1 and 2 actors of a Ray cluster that is started here, after a check that all of
them give the same losses, bit for bit. Shown are seconds of wall-clock time, median [lowest,
highest], on which other work on the machine has a hand; and CPU seconds of this process and of the
workers, on which it has hardly any. Ray's own processes are not counted among those. Some processes
take longer than others for the same, as long as they live: so all workers are made anew several
times.

Then a run is repeated in which every worker is killed with a chance of one in five in every
generation, at any moment of it: the centre of the search and its standard deviation must end bit
for bit as they do without workers.

Last, what a generation costs beside the evaluation: bytes per chunk, CPU seconds of this process
per chunk, the time from handing out a chunk to its result, and what PGPE itself takes. It is
measured with a top-down network of the paper's size in lives that are over at once.

Without Ray (`pip install -c constraints.txt ".[ray]"`) its lines are left out.
"""

import contextlib
import os
import pickle
import signal
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from agents import TDCAPolicy
from benchmarks.common.command import exit_code
from benchmarks.common.results import Cell, ResultsFile, makers, markdown
from credit_envs.local_workers import LocalWorker
from credit_envs.workers import Worker
from meta import zoo
from meta.command_line import Parser, positive
from meta.pgpe import PGPE, ray_workers
from meta.population import Evaluator, EvaluatorSettings, Generation
from meta.recipes import RECIPES
from meta.workers import EvaluatorPool, local_pool

NAME = "cluster"
EXAMPLES = """\
examples:
  python -m benchmarks.cluster --quick       # a minute
  python -m benchmarks.cluster --pools 15
"""
HAS_RAY = find_spec("ray") is not None
CONTENDERS = (
    ("none", 0),
    ("processes", 1),
    ("processes", 2),
    *((("Ray", 1), ("Ray", 2)) if HAS_RAY else ()),
)
"""Kinds and numbers of workers; Ray's last, for it is started with them."""
CHANCE = 0.2


@dataclass(frozen=True)
class Problem:
    """A generation to evaluate.

    Attributes:
        env_id: where.
        network: of the zoo, around which the candidates lie.
        population_size: candidates.
        chunk_size: candidates at once.
    """

    env_id: str
    network: str
    population_size: int
    chunk_size: int


PROBLEMS = {
    "ReversedCartPole": Problem("CreditAssign-ReversedCartPole-v0", "reversed-cartpole", 256, 32),
    "MNIST": Problem("CreditAssign-MNIST-v0", "mnist-mlp", 64, 8),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, then print it; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--quick", action="store_true", help="2 rounds, ReversedCartPole alone; kept apart")
    add("--pools", type=positive, metavar="N", help="workers made anew (default: 7; quick: 1)")
    add("--rounds", type=positive, metavar="N", help="timings of each (default: 3; quick: 2)")
    add(
        "--generations", type=positive, metavar="N", help="of the faulty run (default: 30; quick 5)"
    )
    arguments = parser.parse_args(argv)
    pools = arguments.pools or (1 if arguments.quick else 7)
    rounds = arguments.rounds or (2 if arguments.quick else 3)
    generations = arguments.generations or (5 if arguments.quick else 30)
    names = ["ReversedCartPole"] if arguments.quick else list(PROBLEMS)
    torch.set_num_threads(1)

    def work() -> None:
        file = ResultsFile(NAME, arguments.quick)
        with cluster():
            fill(file, names, pools, rounds, generations)
        print(render(file))

    return exit_code(NAME, work)


def fill(
    file: ResultsFile, names: Sequence[str], pools: int, rounds: int, generations: int
) -> None:
    """Measure what is missing."""
    kinds = ["processes", *(["Ray"] if HAS_RAY else [])]
    contenders = [list(contender) for contender in CONTENDERS]
    for name in names:
        turns = {"problem": name, "pools": pools, "rounds": rounds}
        file.cell(
            f"throughput: {name}",
            {**turns, "contenders": contenders},
            lambda name=name: throughput(name, pools, rounds),  # type: ignore[misc]
        )
    for kind in kinds:
        fault = {"kind": kind, "generations": generations, "chance": CHANCE}
        file.cell(f"faults: {kind}", fault, lambda kind=kind: faults(kind, generations))  # type: ignore[misc]
        file.cell(f"overhead: {kind}", {"kind": kind}, lambda kind=kind: overhead(kind))  # type: ignore[misc]


@contextmanager
def cluster() -> Iterator[None]:
    """A Ray cluster on this machine, where there is Ray."""
    if not HAS_RAY:
        print(f"{NAME}: Ray is not installed, so its lines are left out", file=sys.stderr)
        yield
        return
    ray = ray_workers().ray
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def make_pool(kind: str, settings: EvaluatorSettings, number: int) -> EvaluatorPool:
    """Workers of this kind."""
    pools = {"processes": local_pool}
    if kind == "Ray":
        pools["Ray"] = ray_workers().RayWorkerPool
    return pools[kind](settings, number)


# ---------------------------------------------------------------------- throughput


def throughput(name: str, pools: int, rounds: int) -> dict[str, Any]:
    """Time all contenders in turns, with workers that are made anew so many times."""
    problem = PROBLEMS[name]
    names = [label(*contender) for contender in CONTENDERS]
    wall: dict[str, list[float]] = {who: [] for who in names}
    cpu: dict[str, list[list[float]]] = {who: [] for who in names}
    for _ in range(pools):
        for round_ in take_turns(problem, rounds):
            for who, timing in zip(names, round_, strict=True):
                wall[who].append(timing.wall)
                cpu[who].append(timing.cpu)
    return {
        "candidates": problem.population_size,
        "num_chunks": -(-problem.population_size // problem.chunk_size),
        "load_average": os.getloadavg()[0],
        "wall": wall,
        "cpu": cpu,
    }


class Turn(NamedTuple):
    """Seconds of wall-clock time; CPU seconds of this process and of each worker."""

    wall: float
    cpu: list[float]


def take_turns(problem: Problem, rounds: int) -> list[list[Turn]]:
    """By round, what a generation takes each of `CONTENDERS`, after a check that they agree."""
    settings, generation = generation_of(problem)
    num_chunks = -(-problem.population_size // problem.chunk_size)
    evaluator = Evaluator(settings)

    def here() -> NDArray[np.float64]:
        return np.concatenate([evaluator.losses(generation, c) for c in range(num_chunks)])

    pools = [make_pool(kind, settings, number) for kind, number in CONTENDERS if number]
    ways = [here]
    ways += [partial(losses_of, pool, generation, num_chunks) for pool in pools]
    try:
        expected = here()
        for way in ways[1:]:
            # Twice, because the first time a worker that starts early may do all of it.
            for _ in range(2):
                if not np.array_equal(way(), expected):
                    raise ValueError("workers give other losses than this process: not timed")
        pids = [[], *([pid_of(worker) for worker in pool.workers] for pool in pools)]
        return [
            [turn(way, workers) for way, workers in zip(ways, pids, strict=True)]
            for _ in range(rounds)
        ]
    finally:
        for pool in pools:
            pool.close()


def turn(way: Callable[[], object], workers: Sequence[int]) -> Turn:
    """Time a generation that is evaluated with the help of these processes."""
    before = cpu_seconds(workers)
    started = time.perf_counter()
    way()
    wall = time.perf_counter() - started
    return Turn(wall, [b - a for a, b in zip(before, cpu_seconds(workers), strict=True)])


def refuse(sentence: str) -> None:
    """No worker may be lost where time is taken."""
    raise ValueError(f"{sentence}: not timed")


def label(kind: str, number: int) -> str:
    """Of a contender."""
    names = {"none": "this process", "processes": f"{number} process{'es' * (number > 1)}"}
    return names.get(kind, f"{number} actor{'s' * (number > 1)} of {kind}")


def generation_of(problem: Problem) -> tuple[EvaluatorSettings, Generation]:
    """A generation around a trained network, as the recipe has it."""
    policy = zoo.load(problem.network)
    recipe = RECIPES[problem.env_id]
    lives = recipe.learner_kwargs.get("lives", 1)
    env_kwargs = {**recipe.scored_kwargs, **recipe.meta_kwargs}
    if "MNIST" in problem.env_id:
        env_kwargs["evaluate_test"] = False
    settings = EvaluatorSettings(
        env_ids=(problem.env_id,),
        env_kwargs=(env_kwargs,),
        policy_class=type(policy),
        policy_kwargs=zoo.card(problem.network)["policy_kwargs"],
        population_size=problem.population_size,
        lives=lives,
        chunk_size=problem.chunk_size,
    )
    center = policy.beta.detach().clone()
    return settings, Generation(
        center=center,
        stdev=torch.full_like(center, 0.02),
        noise_seed=(0,),
        num_directions=problem.population_size // 2,
        life_seeds=tuple(range(lives)),
    )


def losses_of(pool: EvaluatorPool, generation: Generation, num_chunks: int) -> NDArray[np.float64]:
    """Losses of all candidates, by workers none of which is lost."""
    return np.concatenate(pool.map(generation, range(num_chunks), refuse))


def pid_of(worker: Worker) -> int:
    """Of a worker on this machine."""
    if isinstance(worker, LocalWorker):
        return worker.pid
    ray = ray_workers().ray
    pid: int = ray.get(worker.actor.__ray_call__.remote(lambda _: os.getpid()))  # type: ignore[attr-defined]
    return pid


def cpu_seconds(pids: Sequence[int]) -> list[float]:
    """That this process and these have taken so far."""
    # The clock that clock_getcpuclockid(3) gives for a process.
    return [time.process_time(), *(time.clock_gettime(~pid << 3 | 2) for pid in pids)]


# ---------------------------------------------------------------------- faults


class Assassin(BaseCallback):
    """Kills every worker with a chance of one in five per generation, at any moment of it."""

    def __init__(self) -> None:
        super().__init__()
        self._rng = np.random.default_rng(0)
        self.killed = self.chances = 0

    def _on_step(self) -> bool:
        assert isinstance(self.model, PGPE)
        assert self.model._pool is not None
        length = self.model.seconds / self.model.generation
        for worker in self.model._pool.workers:
            self.chances += 1
            if self._rng.random() < CHANCE:
                self.killed += 1
                threading.Timer(self._rng.uniform(0, length), kill, [worker]).start()
        return True


def kill(worker: Worker) -> None:
    """As a crash or another's hand would."""
    if isinstance(worker, LocalWorker):
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)
    else:
        worker.kill()


def faults(kind: str, generations: int) -> dict[str, Any]:
    """A run whose workers are killed, and one without workers: do they end the same?"""
    ends: list[PGPE] = []
    assassin, sentences = Assassin(), 0
    for n_workers in (0, 2):
        model = PGPE(
            "TDCARNNPolicy",
            "CreditAssign-ReversedCartPole-v0",
            policy_kwargs=dict(RECIPES["CreditAssign-ReversedCartPole-v0"].policy_kwargs),
            population_size=32,
            lives=16,
            chunk_size=4,
            task_fitness="worst",
            n_workers=n_workers,
            ray="auto" if n_workers and kind == "Ray" else None,
            seed=0,
        )
        with warnings.catch_warnings(record=True) as log:
            warnings.simplefilter("always", RuntimeWarning)
            model.learn(
                generations * model.timesteps_per_generation, assassin if n_workers else None
            )
            sentences = sum("is replaced" in str(entry.message) for entry in log)
        ends.append(model)
    here, there = ends
    same = torch.equal(here.policy.beta, there.policy.beta) and torch.equal(here.stdev, there.stdev)
    if not same:
        raise ValueError(f"{kind}: a run whose workers are killed ends with another centre")
    return {
        "generations": generations,
        "killed": assassin.killed,
        "chances": assassin.chances,
        "told": sentences,
        "same": same,
    }


# ---------------------------------------------------------------------- overhead


def overhead(kind: str, chunks: int = 32, rounds: int = 20) -> dict[str, Any]:
    """What chunks cost beside their evaluation, in the median of the rounds."""
    settings = EvaluatorSettings(
        env_ids=("CreditAssign-Gaussian-v0",),
        env_kwargs=({"num_updates": 1},),
        policy_class=TDCAPolicy,
        # About as many parameters as the paper's 4,970.
        policy_kwargs={"hidden_sizes": (68, 68)},
        population_size=chunks,
        lives=1,
        chunk_size=1,
    )
    model = PGPE(
        TDCAPolicy,
        settings.env_ids[0],
        settings.env_kwargs[0],
        dict(settings.policy_kwargs),
        population_size=chunks,
        chunk_size=1,
        seed=0,
    )
    generation = model._next_generation()
    evaluator = Evaluator(settings)
    pool = make_pool(kind, settings, 1)
    try:
        for _ in range(3):
            losses = losses_of(pool, generation, chunks)
        evaluation = timed(lambda: evaluator.losses(generation, 0), 5 * rounds)
        together = timed(lambda: pool.map(generation, range(chunks), refuse), rounds)
    finally:
        pool.close()
    fitness = model._fitness(model._by_task(losses, evaluator.tasks))
    return {
        "parameters": generation.center.numel(),
        "bytes_out": len(pickle.dumps((generation, 0))),
        "bytes_back": len(pickle.dumps(losses[:1])),
        "driver_cpu_per_chunk": together.cpu / chunks,
        "round_trip": (together.wall / chunks) - evaluation.wall,
        "pgpe_cpu": timed(lambda: model._update(generation, fitness), rounds).cpu,
        "chunks": chunks,
    }


@dataclass(frozen=True)
class Timing:
    """Seconds: CPU of this process, in the median; wall-clock, the shortest of all.

    The shortest, because the machine may be busy with other work.
    """

    cpu: float
    wall: float


def timed(work: Callable[[], object], rounds: int) -> Timing:
    """Do it so many times."""
    cpu, wall = [], []
    for _ in range(rounds):
        before, started = time.process_time(), time.perf_counter()
        work()
        cpu.append(time.process_time() - before)
        wall.append(time.perf_counter() - started)
    return Timing(statistics.median(cpu), min(wall))


# ---------------------------------------------------------------------- the page


def render(file: ResultsFile) -> str:
    """All tables in Markdown."""
    cells = file.cells
    by_part: dict[str, dict[str, Cell]] = {"throughput": {}, "faults": {}, "overhead": {}}
    for key, cell in sorted(cells.items()):
        part, _, name = key.partition(": ")
        by_part[part][name] = cell
    parts = [
        render_throughput(by_part["throughput"]),
        render_faults(by_part["faults"]),
        render_overhead(by_part["overhead"]),
        f"Made by {makers(cells.values())}.",
    ]
    return "\n\n".join(parts)


def render_throughput(cells: Mapping[str, Cell]) -> str:
    """Seconds per generation."""
    header = [
        "environment",
        "who",
        "seconds",
        "CPU seconds",
        "two to one",
        "two to one, CPU",
        "Ray to processes",
        "Ray to processes, CPU",
    ]
    rows = []
    for name, cell in cells.items():
        wall = cell["wall"]
        cpu = {who: critical(costs) for who, costs in cell["cpu"].items()}
        for kind, number in cell["settings"]["contenders"]:
            who, one, same = (label(*c) for c in ((kind, number), (kind, 1), ("processes", number)))
            low, middle, high = (f(wall[who]) for f in (min, statistics.median, max))
            of_one = [ratio(times, one, who) for times in (wall, cpu)] if number == 2 else []
            of_same = [ratio(times, same, who) for times in (wall, cpu)] if kind == "Ray" else []
            rows.append(
                [
                    f"{name}, {cell['candidates']} candidates",
                    who,
                    f"{middle:.2f} [{low:.2f}, {high:.2f}]",
                    f"{statistics.median(cpu[who]):.2f}",
                    *([f"{value:.2f}" for value in of_one] or ["", ""]),
                    *([f"{value:.2f}" for value in of_same] or ["", ""]),
                ]
            )
    loads = ", ".join(f"{cell['load_average']:.0f}" for cell in cells.values())
    turns = {
        f"{cell['settings']['pools']} × {cell['settings']['rounds']}" for cell in cells.values()
    }
    about = (
        f"Per generation, of {' or '.join(sorted(turns))} rounds in turns, the first number that "
        "of workers made anew; ratios are medians over rounds, above 1 is faster. CPU seconds: of "
        "this process and of the worker that has most, one after the other, which is what an "
        "otherwise idle machine would need. Load average of the machine, these included: "
        f"{loads} on {os.cpu_count()} cores."
    )
    return f"{markdown(header, rows)}\n\n{about}"


def critical(costs: Sequence[Sequence[float]]) -> list[float]:
    """By round, CPU seconds of this process and of the worker that has most."""
    return [here + max(workers, default=0.0) for here, *workers in costs]


def ratio(times: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """How many times faster the other is, in the median over rounds."""
    pairs = zip(times[one], times[other], strict=True)
    return statistics.median(a / b for a, b in pairs)


def render_faults(cells: Mapping[str, Cell]) -> str:
    """Killed workers."""
    rows = [
        [
            kind,
            str(cell["generations"]),
            f"{cell['killed']} of {cell['chances']}",
            "the same, bit for bit" if cell["same"] else "another",
        ]
        for kind, cell in cells.items()
    ]
    return markdown(["2 workers", "generations", "killed", "final centre and stdev"], rows)


def render_overhead(cells: Mapping[str, Cell]) -> str:
    """Per chunk."""
    header = [
        "workers",
        "bytes out",
        "bytes back",
        "CPU ms here per chunk",
        "round trip, ms",
        "PGPE per generation, CPU ms",
    ]
    rows = [
        [
            kind,
            f"{cell['bytes_out']:,}",
            f"{cell['bytes_back']:,}",
            f"{1e3 * cell['driver_cpu_per_chunk']:.2f}",
            f"{1e3 * cell['round_trip']:.2f}",
            f"{1e3 * cell['pgpe_cpu']:.2f}",
        ]
        for kind, cell in cells.items()
    ]
    return markdown(header, rows)


if __name__ == "__main__":
    sys.exit(main())
