"""Stable-Baselines3's DQN on the same bandit, with a network of the same layers.

Nothing is equal here: DQN replays trials of the past, and optimises them with Adam. The forms:

* defaults: one environment, a step on 32 replayed trials after every fourth trial;
* every trial: one environment, a step on 100 replayed trials after every trial;
* 100 at once: a step on 100 replayed trials after 100 new ones, as DeepAGREL has it, through
  `VectorEnvAdapter`, by SGD, which is faster than Adam, and without entries in the log.

All act greedily but for 2 % of the trials from the start on, for random answers would cost no
forward pass. They see images in uint8: float32 was no faster.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import gymnasium
import torch
from stable_baselines3 import DQN

from agents import VectorEnvAdapter
from benchmarks.deepagrel_speed.race import OURS, Form, Part, Row, race, timed
from benchmarks.deepagrel_speed.wrapping import ENV_ID, new_model

BATCH_SIZE = 100
LAYERS = [1500, 1000, 500]
DEFAULTS, EVERY_TRIAL, AT_ONCE = "DQN, defaults", "DQN, every trial", "DQN, 100 at once"
NEVER = 2**62


class DQNPart(Part):
    """`DeepAGREL.learn` against `DQN.learn`."""

    name = "dqn"
    title = "Stable-Baselines3's DQN"

    def rows(self, repeats: int) -> Iterator[Row]:
        """All of it in one setting."""
        ours = new_model(BATCH_SIZE)
        forms: dict[str, Form] = {
            DEFAULTS: learning(new_dqn(ENV_ID), 160),
            EVERY_TRIAL: learning(new_dqn(ENV_ID, batch_size=BATCH_SIZE, train_freq=1), 40),
            AT_ONCE: learning(many_at_once(), 2000, log_interval=NEVER),
            OURS: timed(partial(ours.learn, 6000, reset_num_timesteps=False), 6000),
        }
        yield race("MlpPolicy", forms, repeats)

    def conclusions(self, rows: Sequence[Row]) -> list[str]:
        """Against each."""
        (row,) = rows
        return [
            f"{form}: {row.times(OURS, form):.1f} times as fast"
            for form in (DEFAULTS, EVERY_TRIAL, AT_ONCE)
        ]


def learning(model: DQN, num_trials: int, log_interval: int = 4) -> Form:
    """So many trials of `learn`, from the moment on when every update is done."""
    model.learn(model.learning_starts + 1, log_interval=log_interval)
    learn = partial(model.learn, num_trials, log_interval=log_interval, reset_num_timesteps=False)
    return timed(learn, num_trials)


def many_at_once() -> DQN:
    """In 100 environments at once."""
    return new_dqn(
        VectorEnvAdapter(gymnasium.make_vec(ENV_ID, num_envs=BATCH_SIZE)),
        batch_size=BATCH_SIZE,
        train_freq=1,
        gradient_steps=1,
        optimizer={"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {"fused": True}},
    )


def new_dqn(
    env: str | VectorEnvAdapter, optimizer: dict[str, Any] | None = None, **kwargs: Any
) -> DQN:
    """With layers of as many units as the paper's."""
    return DQN(
        "MlpPolicy",
        env,
        buffer_size=10_000,
        learning_starts=BATCH_SIZE,
        exploration_initial_eps=0.02,
        exploration_final_eps=0.02,
        policy_kwargs={"net_arch": LAYERS, **(optimizer or {})},
        seed=0,
        device="cpu",
        **kwargs,
    )
