"""How many steps control agents live through per second, on one core.

One round is all that the outer loop does between two updates of a life: the recurrent top-down
network (16 units, each candidate its own parameters) reads every agent's last episode and moves
the agent's parameters, then every agent plays an episode, which is recorded. Counted are the
steps that agents lived through, not the padding after their ends. CartPole's agents are a
controller that balances, with noise on its parameters, so that most episodes last to the horizon;
Pendulum's are random, for there all do.

Before anything is timed, the dynamics are compared with Gymnasium's. For scale, the last column is
Gymnasium's own vector environment with the same agents, without record and top-down network:
vectorised for CartPole, of which there is such a one; one after the other for Pendulum.
"""

import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import credit_envs
from agents import TDCARNNPolicy
from benchmarks.common.command import exit_code
from benchmarks.common.results import makers, markdown
from credit_envs.tasks.control import ControlTask
from credit_envs.tasks.dynamics import BatchedDynamics, perceptron
from credit_envs.tasks.pendulum import MAX_TORQUE
from meta.command_line import Parser, positive
from meta.runs import provenance

NAME = "control"
LARGEST_DIFFERENCE = 1e-9
"""From Gymnasium's states and rewards, with which speeds are worth telling."""
HEADER = (
    "agents",
    "lives",
    "mean episode",
    "median",
    "min – max",
    "top-down network",
    "Gymnasium",
)
LIVES_PER_CANDIDATE = 16
HIDDEN_SIZE = 16
BALANCING = (0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.8, 3.0, 2.0, 0.0)
"""Parameters of a linear CartPole agent that balances: `[weights, bias]` of either output."""


@dataclass(frozen=True)
class Problem:
    """A control problem to measure.

    Attributes:
        env_id: our environment.
        center: parameters of the agents but for noise.
        noise: its standard deviation.
        vectorization: of Gymnasium's environment.
        most: agents in Gymnasium's environment.
        to_gymnasium: all agents' actions `(action_size, P)` as Gymnasium's take them.
    """

    env_id: str
    center: tuple[float, ...]
    noise: float
    vectorization: str
    most: int
    to_gymnasium: Callable[[Tensor], NDArray[Any]]


PROBLEMS = {
    "cartpole": Problem(
        "CreditAssign-CartPole-v0",
        BALANCING,
        0.2,
        "vector_entry_point",
        8192,
        lambda action: (action[0] > 0).long().numpy(),
    ),
    "pendulum": Problem(
        "CreditAssign-Pendulum-v0",
        (0.0,) * 41,
        0.2,
        "sync",
        64,
        lambda action: MAX_TORQUE * action.T.numpy(),
    ),
}


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
    """Agent steps per second of Gymnasium's vector environment."""


def make_env(problem: Problem, lives: int, **kwargs: Any) -> credit_envs.CreditAssignVectorEnv:
    """Our environment."""
    env = gymnasium.make_vec(problem.env_id, num_envs=lives, **kwargs)
    assert isinstance(env, credit_envs.CreditAssignVectorEnv)
    return env


def task_of(env: credit_envs.CreditAssignVectorEnv) -> ControlTask:
    """Its task."""
    assert isinstance(env.task, ControlTask)
    return env.task


def dynamics_of(task: ControlTask) -> BatchedDynamics:
    """Its dynamics."""
    assert isinstance(task.dynamics, BatchedDynamics)
    return task.dynamics


def check_equality(dynamics: BatchedDynamics, episodes: int = 50, horizon: int = 200) -> float:
    """Play random actions here and in Gymnasium's; the largest difference of states or rewards."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    starts = np.stack([dynamics.draw_start(rng) for _ in range(episodes)], axis=1)
    outputs = torch.randn(horizon, dynamics.num_outputs, episodes, generator=generator)
    actions = torch.empty(horizon, dynamics.action_size, episodes)
    dynamics.begin(torch.tensor(starts), torch.zeros(episodes, dtype=torch.long))
    states, rewards, over = [], [], []
    for output, action in zip(outputs, actions, strict=True):
        dynamics.act(output, action)
        reward, terminated = dynamics.step(action)
        states.append(dynamics.state.numpy().copy())
        rewards.append(reward.numpy().copy())
        over.append(terminated.numpy().copy())

    difference = 0.0
    env: Any = gymnasium.make(dynamics.gymnasium_id).unwrapped
    for i in range(episodes):
        env.reset(seed=0)
        env.state = starts[:, i].copy()
        for t, action in enumerate(actions.numpy()):
            _, reward, ended, _, _ = env.step(dynamics.gymnasium_action(action[:, i], 0))
            of_states = np.abs(states[t][:, i] - np.array(env.state)).max()
            difference = max(difference, float(of_states), abs(float(rewards[t][i] - reward)))
            if ended != over[t][i]:
                raise AssertionError(f"episode {i} ends at step {t} in one of the two only")
            if ended:
                break
    return difference


def agents(problem: Problem, count: int) -> Tensor:
    """Parameters of `count` agents."""
    center = torch.tensor(problem.center)
    noise = torch.randn(count, len(center), generator=torch.Generator().manual_seed(0))
    return center + problem.noise * noise


@torch.no_grad()
def measure(problem: Problem, lives: int, rounds: int) -> Measurement:
    """Time `rounds` rounds, after two to warm up."""
    env = make_env(problem, lives, num_updates=rounds + 3, credit_scale=1e-6)
    task = task_of(env)
    policy = TDCARNNPolicy(task.observation_space, task.action_space, hidden_size=HIDDEN_SIZE)
    candidates = lives // LIVES_PER_CANDIDATE
    beta = 0.1 * torch.randn(
        candidates, policy.beta.numel(), generator=torch.Generator().manual_seed(1)
    )
    env.reset_tensors(list(range(LIVES_PER_CANDIDATE)) * candidates)
    task.parameters.copy_(agents(problem, lives))
    observation = env.step_tensors(torch.zeros(lives, task.num_parameters)).observation

    speeds, steps, shares = [], [], []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        action = policy.act(observation, beta)
        acted = time.perf_counter()
        observation = env.step_tensors(action).observation
        end = time.perf_counter()
        steps.append(float(observation[:, :, -1].sum()))
        speeds.append(steps[-1] / (end - start))
        shares.append((acted - start) / (end - start))
    return Measurement(
        lives, steps[-1] / lives, speeds[2:], median(shares[2:]), gymnasium_speed(problem, lives)
    )


@torch.no_grad()
def gymnasium_speed(problem: Problem, lives: int, steps: int = 400) -> float:
    """Agent steps per second of Gymnasium's own vector environment with the same agents."""
    lives = min(lives, problem.most)
    task = task_of(make_env(problem, lives, horizon=1))
    task.parameters.copy_(agents(problem, lives))
    dynamics, layers = dynamics_of(task), task.layers()
    env = gymnasium.make_vec(
        dynamics.gymnasium_id, num_envs=lives, vectorization_mode=problem.vectorization
    )
    scale = np.array(dynamics.state_scale, dtype=np.float32)[:, None]
    action = torch.empty(dynamics.action_size, lives)
    observation, _ = env.reset(seed=0)
    start = time.perf_counter()
    for _ in range(steps):
        dynamics.act(perceptron(layers, torch.from_numpy(observation.T * scale)), action)
        observation, *_ = env.step(problem.to_gymnasium(action))
    return lives * steps / (time.perf_counter() - start)


def main(argv: Sequence[str] | None = None) -> int:
    """Check, measure, print a table; returns the exit code."""
    parser = Parser(NAME, prog=f"python -m benchmarks.{NAME}", description=__doc__)
    add = parser.add_argument
    add("--env", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), help="which (default: all)")
    add(
        "--lives",
        type=multiple,
        nargs="+",
        default=[512, 2048, 8192],
        help=f"lives at once, multiples of {LIVES_PER_CANDIDATE} (default: 512 2048 8192)",
    )
    add("--rounds", type=positive, default=20, help="timed rounds (default: 20)")
    add("--quick", action="store_true", help="3 rounds of 512 lives")
    arguments = parser.parse_args(argv)
    lives, rounds = ([512], 3) if arguments.quick else (arguments.lives, arguments.rounds)
    torch.set_num_threads(1)
    return exit_code(NAME, lambda: race(arguments.env, lives, rounds), goes_on=False)


def multiple(text: str) -> int:
    """A whole number of candidates, in lives."""
    if positive(text) % LIVES_PER_CANDIDATE:
        raise ArgumentTypeError(f"{text!r} must be a multiple of {LIVES_PER_CANDIDATE}")
    return int(text)


def race(names: Sequence[str], lives: Sequence[int], rounds: int) -> None:
    """Check, measure, print a table.

    Raises:
        ValueError: dynamics differ from Gymnasium's.
    """
    for name in names:
        dynamics = dynamics_of(task_of(make_env(PROBLEMS[name], 1)))
        difference = check_equality(dynamics)
        print(f"Largest difference from Gymnasium's {dynamics.gymnasium_id}: {difference:.1e}")
        if difference > LARGEST_DIFFERENCE:
            raise ValueError(f"that is more than {LARGEST_DIFFERENCE}: nothing was timed")
    print(f"One core of {makers([{'made_by': provenance()}])}")
    print(f"\n{rounds} rounds of episodes of at most 200 steps; million agent steps per second\n")
    lines = []
    for name in names:
        for number in lives:
            m = measure(PROBLEMS[name], number, rounds)
            low, middle, high = (f(m.rounds) / 1e6 for f in (min, median, max))
            lines.append(
                [
                    name,
                    str(number),
                    f"{m.episode_length:.1f}",
                    f"**{middle:.2f}**",
                    f"{low:.2f} – {high:.2f}",
                    f"{m.share_of_top_down:.0%} of the time",
                    f"{m.gymnasium / 1e6:.2f}",
                ]
            )
    print(markdown(HEADER, lines))


if __name__ == "__main__":
    sys.exit(main())
