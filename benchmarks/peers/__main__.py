"""Evolving for MNIST side by side with EvoTorch and evosax, in one run.

    pip install -c constraints.txt -e ".[peers]"
    python -m benchmarks.peers                    # from the repository's root, several minutes
    python -m benchmarks.peers --quick            # n = 300 and 3 repeats
    python -m benchmarks.peers --peers evotorch   # without evosax

`CreditAssign-MNIST-v0`: 784-100-10 networks from zero weights, 20 updates with all images at once,
inner Adam at 0.01 with each network's gradient clipped to norm 1, credits by a 20-30-30-110
top-down network, of which PGPE evolves 64 at a time. All meet the same images in every generation.

* ours: `meta.PGPE`; with two cores, two worker processes.
* evotorch: its `PGPE`, inner loop by `torch.func.vmap`; with two cores, two of its actors, see
  `with_evotorch.py`.
* evosax: its `PGPE`, inner loop jitted by JAX, see `with_evosax.py`.

First it checks that all of them give the same final losses for the same candidates, in float64
(1e-8) and float32 (1e-3, relative). Then they race: every contender in a process of its own, pinned
to the cores it may use and told how many threads to take, one generation each in turns, so that
what else the machine does slows all alike. A generation is all there is to it: asking for
candidates, training with them, moving the centre. Compilation and start are not counted.

The peers are no dependencies of the package. If they should not be in its environment, make one
with them and NumPy alone and name its interpreter: `--python /path/to/bin/python`. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.inner_loop import describe_machine, spread
from benchmarks.peers.racer import ROOT, Racer, environment
from benchmarks.peers.with_ours import make_problem
from credit_envs.datasets import load
from meta.command_line import Parser, positive

PACKAGES = {"evotorch": ("evotorch",), "evosax": ("evosax", "jax")}
"""What a peer needs in its environment."""
TOLERANCE = {"float64": 1e-8, "float32": 1e-3}
CHECKED = 8
"""Candidates in the check."""


@dataclass
class Row:
    """Speeds of one contender, in candidates per second."""

    name: str
    cores: int
    compilation: float | None = None
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


class Contender(Racer):
    """A process that evolves one generation in a turn.

    Args:
        name: of the contender.
        cores: how many it may use.
        python: interpreter to run it.
        problem: file with the problem.
        log: file that takes what its libraries have to say.
    """

    def __init__(self, name: str, cores: int, python: str, problem: Path, log: Path) -> None:
        contender = [python, "-m", "benchmarks.peers.contender", name]
        command = [*contender, "race", str(problem), str(cores)]
        super().__init__(f"{name} on {cores} cores", command, cores, log)
        self.row = Row(name, cores, self.first_answer)


def main() -> None:
    """Check, race and print."""
    given = parse_arguments()
    for peer in given.peers:
        require_installed(peer, given.python)
    if (os.cpu_count() or 1) < 2 or not hasattr(os, "sched_setaffinity"):
        sys.exit("this race needs Linux and two cores")
    num_samples, num_updates, population_size = (300 if given.quick else 1000), 20, 64
    repeats = given.repeats or (3 if given.quick else 7)
    dataset = load("MNIST")
    facts = describe_machine(dataset) | {"threads": "see rows"}
    pythons = {"ours": sys.executable} | dict.fromkeys(given.peers, given.python)
    facts |= {peer: versions(peer, given.python) for peer in given.peers}
    for key, value in facts.items():
        print(f"{key:<10} {value}")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "problem.npz"
        make_problem(dataset, num_samples, num_updates, population_size, CHECKED).save(file)
        differences = check(pythons, file)

        print(
            f"\n{num_samples} images, {num_updates} updates, population {population_size}: "
            f"candidates per second, median [lowest, highest] of {repeats}"
        )
        print(
            f"{'contender':<10} {'cores':>5} {'wall clock':>22} {'CPU':>22} {'compiled in, s':>15}"
        )
        rows = []
        for cores in (1, 2):
            for row in race(pythons, cores, file, repeats, population_size):
                compilation = "" if row.compilation is None else f"{row.compilation:.0f}"
                print(
                    f"{row.name:<10} {cores:>5} {spread(row.wall):>22} {spread(row.cpu):>22} "
                    f"{compilation:>15}",
                    flush=True,
                )
                rows.append(row)
    if given.output is not None:
        results = {
            "machine": facts,
            "largest_relative_difference": differences,
            "num_samples": num_samples,
            "num_updates": num_updates,
            "population_size": population_size,
            "rows": [asdict(row) for row in rows],
        }
        given.output.write_text(json.dumps(results, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    """From the command line."""
    parser = Parser("peers", prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="n = 300 only, and 3 repeats")
    parser.add_argument("--repeats", type=positive, help="generations of each (default 7)")
    parser.add_argument(
        "--peers", nargs="+", choices=PACKAGES, default=list(PACKAGES), help="default: all"
    )
    parser.add_argument(
        "--python", default=sys.executable, metavar="PATH", help="interpreter that has the peers"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all timings as JSON")
    return parser.parse_args()


def require_installed(peer: str, python: str) -> None:
    """Leave with status 2 if `python` lacks a peer."""
    code = (
        f"import importlib.util as u; print(*[m for m in {PACKAGES[peer]} if not u.find_spec(m)])"
    )
    try:
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"--python {python} does not run: {error}", file=sys.stderr)
        sys.exit(2)
    if missing := found.stdout.split():
        others = [other for other in PACKAGES if other != peer]
        print(
            f"{peer} is not installed ({', '.join(missing)}): pip install -c constraints.txt -e "
            f'".[peers]", name an interpreter that has it with --python, or leave it out with '
            f"--peers {' '.join(others)}",
            file=sys.stderr,
        )
        sys.exit(2)


def versions(peer: str, python: str) -> str:
    """Of a peer's packages."""
    code = f"from importlib.metadata import version; print(*map(version, {PACKAGES[peer]}))"
    run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    numbers = zip(PACKAGES[peer], run.stdout.split(), strict=True)
    return ", ".join(f"{package} {number}" for package, number in numbers)


def check(pythons: dict[str, str], problem: Path) -> dict[str, float]:
    """Largest relative difference from our final losses, by precision; leaves if it is large."""
    largest = {}
    for precision, tolerance in TOLERANCE.items():
        losses = {
            name: losses_of(name, python, problem, precision) for name, python in pythons.items()
        }
        largest[precision] = largest_difference(losses)
        print(f"largest relative difference of a final loss, {precision}: {largest[precision]:.1e}")
        if not largest[precision] < tolerance:
            sys.exit(f"they disagree by more than {tolerance}: racing would say nothing\n{losses}")
    return largest


def losses_of(name: str, python: str, problem: Path, precision: str) -> list[float]:
    """A contender's final losses of the problem's candidates."""
    command = [python, "-m", "benchmarks.peers.contender", name, "check", str(problem), precision]
    run = subprocess.run(
        command, cwd=ROOT, env=environment(1), capture_output=True, text=True, check=False
    )
    if run.returncode:
        sys.exit(f"{run.stderr}\n{name} failed its check, see above")
    losses: list[float] = json.loads(run.stdout)
    return losses


def largest_difference(losses: dict[str, Sequence[float]] | dict[str, list[float]]) -> float:
    """Largest relative difference of any contender's losses from those of the first."""
    first, *others = (np.array(values) for values in losses.values())
    return max(
        (float(np.max(np.abs(other - first) / np.abs(first))) for other in others), default=0.0
    )


def race(
    pythons: dict[str, str], cores: int, problem: Path, repeats: int, population_size: int
) -> list[Row]:
    """All contenders in turns, a generation each, after one that does not count."""
    contenders = [
        Contender(name, cores, python, problem, problem.with_name(f"{name}{cores}.log"))
        for name, python in pythons.items()
    ]
    try:
        for repeat in range(repeats + 1):
            for contender in contenders:
                wall, cpu = contender.turn()
                if repeat:
                    contender.row.wall.append(population_size / wall)
                    contender.row.cpu.append(population_size / cpu)
    finally:
        for contender in contenders:
            contender.close()
    return [contender.row for contender in contenders]


if __name__ == "__main__":
    main()
