"""Speed of DeepAGREL's learning: its rule, its wrapping, and others that learn the same task.

    python -m benchmarks.deepagrel_speed            # from the repository's root, several minutes
    python -m benchmarks.deepagrel_speed --quick    # fewer settings and repeats
    python -m benchmarks.deepagrel_speed --parts update wrapping

    python -m venv tensorflow && tensorflow/bin/pip install tensorflow-cpu
    python -m benchmarks.deepagrel_speed --tensorflow-python tensorflow/bin/python

On one thread, with the paper's networks, in parts:

* update: the local rule by hand against the same by autograd, see `update.py`;
* wrapping: `DeepAGREL.learn` on MNIST against a bare loop that does the work, see `wrapping.py`;
* dqn: `DeepAGREL.learn` on MNIST against Stable-Baselines3's DQN, see `dqn.py`;
* tensorflow: the local rule against the same in Keras, see `with_tensorflow.py`. TensorFlow is no
  dependency of the package: the interpreter that has it is named.

First it checks that forms that should learn the same end with the same weights. Then it times them
in turns, so that what else the machine does slows all alike. Ratios are of CPU seconds.
"""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.deepagrel_speed.against_tensorflow import TensorFlowPart
from benchmarks.deepagrel_speed.dqn import DQNPart
from benchmarks.deepagrel_speed.race import Part, Row, table
from benchmarks.deepagrel_speed.update import UpdatePart
from benchmarks.deepagrel_speed.wrapping import WrappingPart
from benchmarks.inner_loop import describe_machine
from credit_envs.datasets import load
from meta.command_line import Parser, positive

PARTS = ("update", "wrapping", "dqn", "tensorflow")


def main() -> None:
    """Check, time and print."""
    given = parse_arguments()
    repeats = given.repeats or (3 if given.quick else 7)
    torch.set_num_threads(1)
    parts: list[Part] = [UpdatePart(given.quick), WrappingPart(), DQNPart()]
    facts = describe_machine(load("MNIST")) | {
        "load": f"{os.getloadavg()[0]:.2f} of {os.cpu_count()} cores",
    }
    if given.tensorflow_python is not None:
        in_keras = TensorFlowPart(given.tensorflow_python)
        facts["tensorflow"] = in_keras.version()
        parts.append(in_keras)
    elif "tensorflow" in given.parts:
        print("without --tensorflow-python, the part tensorflow is left out\n")
    for key, value in facts.items():
        print(f"{key:<10} {value}")
    print()

    parts = [part for part in parts if part.name in given.parts]
    differences: dict[str, float] = {}
    for part in parts:
        differences |= part.check()
    measured = {part.name: report(part, repeats) for part in parts}
    if given.output is not None:
        results = {
            "machine": facts,
            "largest_differences": differences,
            "parts": {name: [asdict(row) for row in rows] for name, rows in measured.items()},
        }
        given.output.write_text(json.dumps(results, indent=2) + "\n")


def report(part: Part, repeats: int) -> list[Row]:
    """Measure and print a part."""
    print(f"\n## {part.title}\n\nMedian [lowest, highest] of {repeats}\n", flush=True)
    rows = list(part.rows(repeats))
    print(f"{table(rows)}\n")
    for conclusion in part.conclusions(rows):
        print(f"* {conclusion}", flush=True)
    return rows


def parse_arguments() -> argparse.Namespace:
    """From the command line."""
    parser = Parser(
        "deepagrel_speed", prog="python -m benchmarks.deepagrel_speed", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="fewer settings, and 3 repeats")
    parser.add_argument("--repeats", type=positive, help="turns of each form (default 7)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument(
        "--tensorflow-python", metavar="PATH", help="interpreter that has TensorFlow"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all timings as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
