"""How many steps CartPole agents live through per second, on one core.

One round is all that the outer loop does between two updates of a life: the recurrent top-down
network (16 units, each candidate its own parameters) reads every agent's last episode and moves
the agent's parameters, then every agent plays an episode, which is recorded. Counted are the
steps that agents lived through, not the padding after their ends. The agents are a controller that
balances, with noise on its parameters, so that most episodes last to the horizon.

Before anything is timed, the dynamics are compared with Gymnasium's `CartPole-v1`. For scale, the
last column is Gymnasium's own vectorised CartPole with the same agents, without record and
top-down network.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import gymnasium
import numpy as np
import torch

import credit_envs
from agents import TDCARNNPolicy
from credit_envs.tasks.cartpole import STATE_SCALE, CartPole
from credit_envs.tasks.control import ControlTask

LIVES_PER_CANDIDATE = 16
HIDDEN_SIZE = 16
BALANCING = (0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.8, 3.0, 2.0, 0.0)
"""Parameters of a linear agent that balances: `[weights, bias]` of either output."""


@dataclass
class Measurement:
    """Of one number of lives."""

    lives: int
    episode_length: float
    rounds: list[float]
    """Agent steps per second in each round."""
    share_of_top_down: float
    """Of the time, what the top-down network takes."""
    gymnasium: float
    """Agent steps per second of Gymnasium's vectorised CartPole."""


def check_equality(episodes: int = 50) -> float:
    """Play random actions here and in `CartPole-v1`; the largest difference between states."""
    rng = np.random.default_rng(0)
    starts = rng.uniform(-0.05, 0.05, (4, episodes))
    actions = rng.integers(2, size=(200, episodes))
    dynamics = CartPole(("normal",), torch.device("cpu"))
    dynamics.begin(torch.tensor(starts), torch.zeros(episodes, dtype=torch.long))
    states, over = [], []
    for action in actions:
        _, terminated = dynamics.step(torch.tensor(2.0 * action - 1.0)[None])
        states.append(dynamics.state.numpy().copy())
        over.append(terminated.numpy().copy())

    difference = 0.0
    env = gymnasium.make("CartPole-v1").unwrapped
    for i in range(episodes):
        env.reset(seed=0)
        env.state = tuple(starts[:, i])  # type: ignore[attr-defined]
        for t, action in enumerate(actions[:, i]):
            _, _, ended, _, _ = env.step(int(action))
            state = np.array(env.state)  # type: ignore[attr-defined]
            difference = max(difference, float(np.abs(states[t][:, i] - state).max()))
            if ended != over[t][i]:
                raise AssertionError(f"episode {i} ends at step {t} in one of the two only")
            if ended:
                break
    return difference


def noisy_controllers(count: int) -> torch.Tensor:
    """Parameters of `count` agents, most of which balance to the horizon."""
    noise = torch.randn(count, len(BALANCING), generator=torch.Generator().manual_seed(0))
    return torch.tensor(BALANCING) + 0.2 * noise


@torch.no_grad()
def measure(lives: int, rounds: int) -> Measurement:
    """Time `rounds` rounds, after two to warm up."""
    env = gymnasium.make_vec(
        "CreditAssign-CartPole-v0", num_envs=lives, num_updates=rounds + 3, credit_scale=1e-6
    )
    assert isinstance(env, credit_envs.CreditAssignVectorEnv)
    assert isinstance(env.task, ControlTask)
    task = env.task
    policy = TDCARNNPolicy(task.observation_space, task.action_space, hidden_size=HIDDEN_SIZE)
    candidates = lives // LIVES_PER_CANDIDATE
    beta = 0.1 * torch.randn(
        candidates, policy.beta.numel(), generator=torch.Generator().manual_seed(1)
    )
    env.reset_tensors(list(range(LIVES_PER_CANDIDATE)) * candidates)
    task.parameters.copy_(noisy_controllers(lives))
    observation = env.step_tensors(torch.zeros(lives, len(BALANCING))).observation

    speeds, steps, shares = [], [], []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        action = policy.act(observation, beta)
        acted = time.perf_counter()
        observation = env.step_tensors(action).observation
        end = time.perf_counter()
        steps.append(float(task.episode_return.sum()))
        speeds.append(steps[-1] / (end - start))
        shares.append((acted - start) / (end - start))
    return Measurement(
        lives, steps[-1] / lives, speeds[2:], median(shares[2:]), gymnasium_speed(lives)
    )


def gymnasium_speed(lives: int, steps: int = 400) -> float:
    """Agent steps per second of Gymnasium's vectorised CartPole with the same agents."""
    env = gymnasium.make_vec("CartPole-v1", num_envs=lives, vectorization_mode="vector_entry_point")
    parameters = noisy_controllers(lives).numpy().reshape(lives, 2, 5).transpose(1, 2, 0)
    weights, biases = parameters[:, :4].copy(), parameters[:, 4].copy()
    scale = np.array(STATE_SCALE, dtype=np.float32)[:, None]
    observation, _ = env.reset(seed=0)
    start = time.perf_counter()
    for _ in range(steps):
        outputs = (weights * (observation.T * scale)).sum(1) + biases
        observation, *_ = env.step((outputs[1] > outputs[0]).astype(np.int64))
    return lives * steps / (time.perf_counter() - start)


def circumstances() -> str:
    """Processor, versions and commit, in a line."""
    folder = Path(__file__).parent
    git = ["git", "-C", str(folder)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changes = subprocess.run(
        [*git, "status", "--porcelain", "--", "../credit_envs", "../agents"],
        capture_output=True,
        text=True,
    )
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(": ")[2] if names else processor
    versions = ", ".join(
        f"{name} {version}"
        for name, version in {
            "Python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "gymnasium": gymnasium.__version__,
            "credit-envs": credit_envs.__version__,
        }.items()
    )
    state = commit.stdout.strip() or "unknown"
    state += " with uncommitted changes" if changes.stdout.strip() else ""
    return f"{processor}, {os.cpu_count()} cores, 1 used; {versions}; commit {state}"


def main() -> int:
    """Check, measure, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--lives",
        type=int,
        nargs="+",
        default=[512, 2048, 8192],
        help=f"lives at once, multiples of {LIVES_PER_CANDIDATE} (default: 512 2048 8192)",
    )
    parser.add_argument("--rounds", type=int, default=20, help="timed rounds (default: 20)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 512 lives")
    arguments = parser.parse_args()
    lives, rounds = ([512], 3) if arguments.quick else (arguments.lives, arguments.rounds)
    if rounds < 1 or any(n < 1 or n % LIVES_PER_CANDIDATE for n in lives):
        parser.error(f"--lives takes multiples of {LIVES_PER_CANDIDATE}, --rounds at least 1")

    torch.set_num_threads(1)
    difference = check_equality()
    print(f"Largest difference from Gymnasium's CartPole-v1: {difference:.1e}")
    if difference > 1e-9:
        print("That is more than 1e-9: nothing was timed.", file=sys.stderr)
        return 1
    print(circumstances())
    print(f"\n{rounds} rounds of episodes of at most 200 steps; million agent steps per second\n")
    print("| lives | mean episode | median | min – max | top-down network | Gymnasium, no record |")
    print("|---|---|---|---|---|---|")
    for number in lives:
        m = measure(number, rounds)
        low, middle, high = (f(m.rounds) / 1e6 for f in (min, median, max))
        print(
            f"| {number} | {m.episode_length:.1f} | **{middle:.2f}** | {low:.2f} – {high:.2f} "
            f"| {m.share_of_top_down:.0%} of the time | {m.gymnasium / 1e6:.2f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
