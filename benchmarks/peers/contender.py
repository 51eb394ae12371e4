"""A contender's process: it checks or races, as it is told.

    python -m benchmarks.peers.contender evotorch check PROBLEM.npz float64
    python -m benchmarks.peers.contender evotorch race PROBLEM.npz CORES

Answers are lines of JSON on standard output; what a library prints goes to standard error.
"""

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.peers.problem import Problem
from benchmarks.peers.turns import Turns


def main() -> None:
    """Do what the command line says."""
    name, what, file, argument = sys.argv[1:]
    turns = Turns()
    # An imported module, for what is defined in __main__ cannot be compiled in EvoTorch's actors.
    module = import_module(f"benchmarks.peers.with_{name}")
    problem = Problem.load(Path(file))
    if what == "check":
        turns.answer(module.losses(problem, argument).tolist())
    else:
        module.race(problem, int(argument), turns)


if __name__ == "__main__":
    main()
