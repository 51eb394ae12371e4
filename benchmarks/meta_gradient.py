"""What a meta-gradient costs: time on one core, and memory, by the length of a life.

    python -m benchmarks.meta_gradient            # from the repository's root, about a minute
    python -m benchmarks.meta_gradient --quick    # the paper's first column alone

A life of a 784-100-10 perceptron under Adam (MNIST) and its derivative by all parameters of a
20-64-64-110 top-down network, as `meta.MetaGradient` takes them. Memory is the most that the
process held beyond what it held before, on Linux; the first life of a process, which warms up, is
not timed.
"""

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.common.command import exit_code
from benchmarks.common.results import markdown
from benchmarks.inner_loop import cpu_seconds, describe_machine
from credit_envs.datasets import load
from meta import MetaGradient
from meta.command_line import Parser, positive

NAME = "meta_gradient"
HEADER = ("images / updates", "lives at once", "updates are", "seconds per life", "MB")

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Setting:
    """A life, and how it is differentiated."""

    num_samples: int
    num_updates: int
    recompute: bool = False
    last_updates: int | None = None
    lives_at_once: int = 1

    @property
    def kept(self) -> str:
        """What is kept of the updates for the derivative."""
        if self.last_updates is not None:
            return f"the last {self.last_updates} kept"
        return "recomputed" if self.recompute else "kept"


PAPER = ((1000, 20), (10_000, 50))
_WINDOW = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 images and 20 updates alone")
    parser.add_argument(
        "--repeats", type=positive, default=5, metavar="N", help="per row (default: 5)"
    )
    arguments = parser.parse_args(argv)
    sizes = PAPER[:1] if arguments.quick else PAPER
    settings = [Setting(*PAPER[0], lives_at_once=2)]
    for size in sizes:
        settings += [
            Setting(*size),
            Setting(*size, recompute=True),
            Setting(*size, last_updates=_WINDOW),
        ]
    return exit_code(NAME, lambda: race(settings, arguments.repeats), goes_on=False)


def race(settings: Sequence[Setting], repeats: int) -> None:
    """Measure and print a table."""
    for key, value in describe_machine(load("MNIST")).items():
        print(f"{key}: {value}")
    print(f"\nCPU seconds, median [lowest, highest] of {repeats}\n")
    lines = []
    for setting in settings:
        # A process of its own, which has freed nothing that the next could take.
        with get_context("spawn").Pool(1) as pool:
            seconds, megabytes = pool.apply(measure, (setting, repeats))
        size = f"{setting.num_samples:,} / {setting.num_updates}"
        how = [str(setting.lives_at_once), setting.kept]
        lines.append([size, *how, _spread(seconds), f"{megabytes:,.0f}"])
    print(markdown(HEADER, lines))


def measure(setting: Setting, repeats: int) -> tuple[list[float], float]:
    """CPU seconds per life, and the most memory held, in MB."""
    torch.set_num_threads(1)
    lives = setting.lives_at_once
    model = MetaGradient(
        "TDCAPolicy",
        "CreditAssign-MNIST-v0",
        {
            "num_samples": setting.num_samples,
            "num_updates": setting.num_updates,
            "loss_on": "held-out",
            "evaluate_test": False,
        },
        {"hidden_sizes": (64, 64), "start": "feedback-alignment", "output_scale": 1.0},
        lives=lives,
        chunk_size=lives,
        recompute=setting.recompute,
        last_updates=setting.last_updates,
        seed=0,
    )

    def generation() -> None:
        model.learn(model.timesteps_per_generation, reset_num_timesteps=False)

    megabytes = most_memory(generation)
    return [cpu_seconds(generation) / lives for _ in range(repeats)], megabytes


def most_memory(work: Callable[[], object]) -> float:
    """The most memory held during `work` beyond what was held before, in MB."""
    _RESET.write_text("5")
    before = _kilobytes("VmRSS")
    work()
    return (_kilobytes("VmHWM") - before) / 1024


def _kilobytes(key: str) -> int:
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


if __name__ == "__main__":
    sys.exit(main())
