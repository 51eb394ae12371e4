"""A race's end of a contender: a process that works one turn when told to.

The other end is `benchmarks.peers.turns.Turns`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Racer:
    """A process that works one turn when told to.

    Args:
        name: of the contender.
        command: which runs it, from the repository's root.
        cores: how many it may use.
        log: file that takes what its libraries have to say.

    Attributes:
        first_answer: what it said when it was ready.
    """

    def __init__(self, name: str, command: Sequence[str], cores: int, log: Path) -> None:
        self._name = name
        self._log = log
        with log.open("w") as errors, only_cores(cores):
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(cores),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.first_answer = self._answer()

    def turn(self) -> tuple[float, float]:
        """Work one turn; wall-clock and CPU seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("next\n")
        self._process.stdin.flush()
        wall, cpu = self._answer()
        return wall, cpu

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._log.read_text().strip().splitlines()[-15:]
            sys.exit("\n".join([*said, f"{self._name} died, see above"]))
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@contextmanager
def only_cores(cores: int) -> Iterator[None]:
    """This process, and those started in this block, keep to the first `cores` cores."""
    former = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(former)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, former)


def environment(cores: int) -> dict[str, str]:
    """Variables for a contender: threads for as many cores, and no more.

    Spinning at OpenMP's barriers would cost dearly on a machine with other work.
    """
    eigen = "true" if cores > 1 else "false"
    return os.environ | {
        "OMP_NUM_THREADS": str(cores),
        "MKL_NUM_THREADS": str(cores),
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={cores}",
        "JAX_PLATFORMS": "cpu",
    }
