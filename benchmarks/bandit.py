"""How many one-step trials per second a classification bandit gives, on one core.

    python -m benchmarks.bandit            # from the repository's root, about 20 seconds
    python -m benchmarks.bandit --quick    # a few seconds, rougher

There is no learner: the answers are fixed. Every face hands out the images of the next trials:

* tensors: `step_tensors`, what DeepAGREL drives;
* vector: `step` of `gymnasium.make_vec`, with `info`;
* VecEnv: the same through `VectorEnvAdapter`, for Stable-Baselines3;
* VecEnv, infos read: and a look at every dict of infos, as its own algorithms do;
* DummyVecEnv, SyncVectorEnv: of scalar environments, Stable-Baselines3's and Gymnasium's own way.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import VectorEnvAdapter
from benchmarks.common.command import exit_code
from benchmarks.common.results import markdown
from benchmarks.inner_loop import cpu_seconds, describe_machine
from credit_envs.envs.bandit import BanditVectorEnv
from meta.command_line import Parser, positive
from meta.recipes import BANDITS

NAME = "bandit"
ENVS = [env_id.split("-")[1] for env_id in BANDITS]
HEADER = ("face", "million trials/s", "µs per step")
Work = Callable[[], object]


@dataclass
class Row:
    """One way to step the environment."""

    name: str
    step: Work
    steps: int
    """Per measurement."""
    trials_per_second: list[float] = field(default_factory=list)

    def run(self) -> None:
        """All steps of a measurement."""
        for _ in range(self.steps):
            self.step()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__)
    add = parser.add_argument
    add("--env", choices=ENVS, default="MNIST", help="images (default: MNIST)")
    add("--batch", type=positive, default=100, metavar="N", help="at a time (default: 100)")
    add("--repeats", type=positive, metavar="N", help="per row (default: 7; quick: 3)")
    add("--quick", action="store_true", help="fewer and shorter measurements")
    arguments = parser.parse_args(argv)
    repeats = arguments.repeats or (3 if arguments.quick else 7)
    env_id = f"ClassificationBandit-{arguments.env}-v0"
    steps = 300 if arguments.quick else 2000
    torch.set_num_threads(1)
    return exit_code(NAME, lambda: race(env_id, arguments.batch, repeats, steps), goes_on=False)


def race(env_id: str, batch: int, repeats: int, steps: int) -> None:
    """Measure all ways in turns, so that a busy machine slows all alike, and print a table."""
    rows = ways(env_id, batch, steps)
    for row in rows:
        row.step()
    for _ in range(repeats):
        for row in rows:
            row.trials_per_second.append(row.steps * batch / cpu_seconds(row.run))

    dataset = gymnasium.make(env_id).get_wrapper_attr("dataset")
    for key, value in describe_machine(dataset).items():
        print(f"{key}: {value}")
    print(f"\n{env_id}, {batch} at a time, by CPU time, median [lowest, highest] of {repeats}\n")
    lines = []
    for row in rows:
        millions = np.array(row.trials_per_second) / 1e6
        median = np.median(millions)
        speed = f"{median:.3g} [{millions.min():.3g}, {millions.max():.3g}]"
        lines.append([row.name, speed, f"{batch / median:.1f}"])
    print(markdown(HEADER, lines))


def ways(env_id: str, batch: int, steps: int) -> list[Row]:
    """Every way to step the environment, after its reset."""

    def vector() -> BanditVectorEnv:
        env = gymnasium.make_vec(env_id, num_envs=batch)
        assert isinstance(env, BanditVectorEnv)
        return env

    tensors, arrays, adapter = vector(), vector(), VectorEnvAdapter(vector())
    scalar = [lambda: gymnasium.make(env_id, disable_env_checker=True).unwrapped] * batch
    dummy = DummyVecEnv(scalar)
    sync = SyncVectorEnv(scalar, autoreset_mode=AutoresetMode.SAME_STEP)
    answers = np.random.default_rng(0).integers(0, arrays.dataset.num_classes, batch)
    in_tensor = torch.from_numpy(answers)
    tensors.reset_tensors(0)
    for env in (arrays, sync):
        env.reset(seed=0)
    for vec_env in (adapter, dummy):
        vec_env.seed(0)
        vec_env.reset()
    few = max(steps // 50, 3)
    return [
        Row("tensors", lambda: tensors.step_tensors(in_tensor), steps),
        Row("vector", lambda: arrays.step(answers), steps),
        Row("VecEnv", lambda: adapter.step(answers), steps),
        Row("VecEnv, infos read", lambda: list(adapter.step(answers)[3]), steps // 5),
        Row("DummyVecEnv", lambda: dummy.step(answers), few),
        Row("SyncVectorEnv", lambda: sync.step(answers), few),
    ]


if __name__ == "__main__":
    sys.exit(main())
