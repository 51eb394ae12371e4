"""`CreditAssign-Pendulum-v0` and `CreditAssign-ReversedPendulum-v0`."""

from collections.abc import Sequence
from typing import ClassVar

from credit_envs.checks import require_device, require_numbers
from credit_envs.environment import CreditAssignEnv, Reward
from credit_envs.envs.control import ControlVectorEnv
from credit_envs.rendering import Frame, History, draw_panels, learning_curve, pendulum_strobe
from credit_envs.tasks.pendulum import Pendulum


class PendulumVectorEnv(ControlVectorEnv):
    """An agent learns to swing up a rod and hold it: one step is one whole episode of its life.

    ## Description
    The bottom-up network is the agent's policy, by default 3-8-1 with 41 parameters. A step moves
    the parameters by the credits, then the agent plays an episode of Pendulum from a fresh start,
    and the record of that episode is the observation (TDCA, Fig. 3a). The dynamics are those of
    Gymnasium's `Pendulum-v1`, batched. The agent sees cosine and sine of the angle from the top
    and half the angular velocity; its torque is 2·tanh(output).

    ## Action Space
    `Box(-1, 1, (n_params,), float32)`: how each parameter of the agent moves, in units of
    `credit_scale`. Parameters are ordered by layer, each layer by output: its weights, then its
    bias. Values beyond ±1 are used as they are.

    ## Observation Space
    `Box(-inf, inf, (horizon, 6), float32)`: the last episode, a row per step.

    | column | observation |
    |---|---|
    | 0–2 | state the agent saw (cosine, sine, half the angular velocity) |
    | 3 | action: torque / 2, in [−1, 1] |
    | 4 | reward × `reward_scale`: −(θ² + 0.1·θ̇² + 0.001·u²), for θ in [−π, π] |
    | 5 | mask: 1 in every row, for no episode ends before the horizon |

    ## Rewards
    The loss is minus the episode's return, times `reward_scale`. With `reward="progress"` a step
    pays the return gained over the previous episode; with `"final"` the last step pays the whole
    gain of the life.

    ## Starting State
    Parameters drawn from N(0, `init_stdev`²), after which the agent has played one episode. Every
    episode starts uniformly within ±π from the top and ±1 rad/s, like Gymnasium's; the starts
    follow from the life's seed. Of several tasks each life draws one, by its seed;
    `reset(options={"task": i})` picks the i-th.

    ## Episode End
    Terminated after `num_updates` steps. An agent whose parameters are no longer finite ends its
    life at once, with `info["diverged"]` and the worst return there is, −16.27 a step.

    ## Information
    `episode_return`, in Gymnasium's units, and `diverged` on every step; `task` at reset and, with
    `switch_after`, on every step.

    With `switch_after=k` the episodes up to that after update k are played in the life's first
    task, the others in the next one (after the last comes the first).

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | `num_updates` | 6 | episodes after the first, each with an update before it |
    | `horizon` | 200 | steps in an episode |
    | `hidden_sizes` | `(8,)` | tanh hidden layers of the agent |
    | `init_stdev` | 0.1 | standard deviation of its initial parameters |
    | `credit_scale` | 0.5 | largest change of a parameter per update |
    | `gravity` | 10.0 | in m/s²; several, such as `(5, 10, 15)`, make a task of each |
    | `mass` | 1.0 | of the rod, in kg; one or several |
    | `weight_decay` | 0.0 | share of every parameter that is lost with each update |
    | `switch_after` | None | updates after which a life goes on with the next task |
    | `reward_scale` | 0.1 | factor on the rewards, in the observation and of a step |
    | `reward` | `"progress"` | or `"final"` |
    | `device` | `"cpu"` | where the tensors live |
    | `render_mode` | None | `"rgb_array"`: the rod in its last episode, and the learning curve |

    ## Vectorized environment
    `gymnasium.make_vec(id, num_envs=P)` lets P agents play at once; SAME_STEP autoreset.

    ## Version History
    * v0: initial version
    """

    motors: ClassVar[tuple[str, ...]] = ("normal",)

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_updates: int = 6,
        horizon: int = 200,
        hidden_sizes: tuple[int, ...] = (8,),
        init_stdev: float = 0.1,
        credit_scale: float = 0.5,
        gravity: float | Sequence[float] = 10.0,
        mass: float | Sequence[float] = 1.0,
        weight_decay: float = 0.0,
        switch_after: int | None = None,
        reward_scale: float = 0.1,
        reward: Reward = "progress",
        device: str = "cpu",
        render_mode: str | None = None,
    ) -> None:
        on = require_device(device)
        super().__init__(
            Pendulum(
                self.motors,
                require_numbers("gravity", gravity),
                require_numbers("mass", mass),
                on,
            ),
            num_envs,
            num_updates=num_updates,
            horizon=horizon,
            hidden_sizes=hidden_sizes,
            init_stdev=init_stdev,
            credit_scale=credit_scale,
            reward=reward,
            device=on,
            render_mode=render_mode,
            reward_scale=reward_scale,
            weight_decay=weight_decay,
            switch_after=switch_after,
        )

    def draw(self, history: History) -> Frame:  # noqa: D102
        return draw_panels(
            pendulum_strobe(history),
            learning_curve(history, ["episode_return"], self.num_updates),
        )


class ReversedPendulumVectorEnv(PendulumVectorEnv):
    """Pendulum whose motor turns the wrong way round in half of the lives.

    ## Description
    As `CreditAssign-Pendulum-v0`, but in every second life, by chance, the torque is −2·tanh of
    the agent's output. Nothing in the observation names the variant: it has to be read from how
    the rod moved. An agent that holds the rod up in one variant pushes it over in the other, so
    only a rule that adapts to what it sees solves this task. With `switch_after` the motor of
    every life turns round in the middle of it.

    ## Action Space
    As in `CreditAssign-Pendulum-v0`.

    ## Observation Space
    As in `CreditAssign-Pendulum-v0`, column 3 holding the agent's action, whatever the motor makes
    of it; no task id.

    ## Rewards
    As in `CreditAssign-Pendulum-v0`.

    ## Starting State
    As in `CreditAssign-Pendulum-v0`; `reset(options={"task": 0 or 1})` picks the motor (0
    normal, 1 reversed). With several gravities or masses there is a task for either motor with
    each, motors changing fastest.

    ## Episode End
    As in `CreditAssign-Pendulum-v0`.

    ## Information
    As in `CreditAssign-Pendulum-v0`; `task` at reset tells observers the variant.

    ## Arguments
    As in `CreditAssign-Pendulum-v0`.

    ## Vectorized environment
    As in `CreditAssign-Pendulum-v0`.

    ## Version History
    * v0: initial version
    """

    motors: ClassVar[tuple[str, ...]] = ("normal", "reversed")


class PendulumEnv(CreditAssignEnv):  # noqa: D101
    __doc__ = PendulumVectorEnv.__doc__
    vector_class = PendulumVectorEnv


class ReversedPendulumEnv(CreditAssignEnv):  # noqa: D101
    __doc__ = ReversedPendulumVectorEnv.__doc__
    vector_class = ReversedPendulumVectorEnv
