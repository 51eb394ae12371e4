"""What all environments share in which agents learn to act."""

from collections.abc import Sequence

import torch

from credit_envs.checks import require_at_least, require_positive, require_sizes
from credit_envs.environment import CreditAssignVectorEnv, Reward
from credit_envs.tasks.control import ControlTask
from credit_envs.tasks.dynamics import Dynamics


class ControlVectorEnv(CreditAssignVectorEnv):
    """Agents of one control problem; a step is a whole episode of their lives.

    Args:
        dynamics: the control problem.
        num_envs: P.
        num_updates: see `CreditAssignVectorEnv`.
        horizon: see `ControlTask`.
        hidden_sizes: see `ControlTask`.
        init_stdev: see `ControlTask`.
        credit_scale: see `CreditAssignVectorEnv`.
        reward: see `CreditAssignVectorEnv`.
        device: where the tensors live.
        render_mode: see `CreditAssignVectorEnv`.
        reward_scale: see `ControlTask`.
        weight_decay: see `ControlTask`.
        switch_after: see `ControlTask`.

    Raises:
        ValueError: an argument out of its range, or a `switch_after` that no update comes after.
    """

    task: ControlTask

    def __init__(
        self,
        dynamics: Dynamics,
        num_envs: int,
        *,
        num_updates: int,
        horizon: int,
        hidden_sizes: Sequence[int],
        init_stdev: float,
        credit_scale: float,
        reward: Reward,
        device: torch.device,
        render_mode: str | None,
        reward_scale: float = 1.0,
        weight_decay: float = 0.0,
        switch_after: int | None = None,
    ) -> None:
        require_at_least("num_envs", num_envs, 1)
        require_at_least("horizon", horizon, 1)
        require_positive("init_stdev", init_stdev)
        require_positive("reward_scale", reward_scale)
        task = ControlTask(
            dynamics,
            horizon,
            require_sizes("hidden_sizes", hidden_sizes, allow_empty=True),
            init_stdev,
            num_envs,
            device,
            reward_scale,
            weight_decay,
            switch_after,
        )
        super().__init__(
            task,
            num_updates=num_updates,
            credit_scale=credit_scale,
            reward=reward,
            render_mode=render_mode,
        )
        if switch_after is not None and switch_after >= num_updates:
            raise ValueError(
                f"switch_after={switch_after} leaves no update after it, of num_updates="
                f"{num_updates}: lives would never switch; switch sooner, or make num_updates "
                f"{switch_after + 1} or more"
            )
