"""`CreditAssign-CartPole-v0` and `CreditAssign-ReversedCartPole-v0`."""

from collections.abc import Sequence
from typing import ClassVar

from credit_envs.checks import require_device, require_numbers
from credit_envs.environment import CreditAssignEnv, Reward
from credit_envs.envs.control import ControlVectorEnv
from credit_envs.rendering import Frame, History, cart_pole_strobe, draw_panels, learning_curve
from credit_envs.tasks.cartpole import SHORTEST_POLE, STATE_SCALE, CartPole


class CartPoleVectorEnv(ControlVectorEnv):
    """An agent learns to balance a pole: one step is one whole episode of its life.

    ## Description
    The bottom-up network is the agent's policy, by default linear with 10 parameters. A step
    moves the parameters by the credits, then the agent plays an episode of CartPole from a fresh
    start, and the record of that episode is the observation (TDCA, Fig. 3a). The dynamics are
    those of Gymnasium's `CartPole-v1`, batched. The agent sees position, velocity, angle and
    angular velocity divided by 2.4, 2, 0.21 and 2, and pushes right when its second output is
    the larger.

    ## Action Space
    `Box(-1, 1, (n_params,), float32)`: how each parameter of the agent moves, in units of
    `credit_scale`. Parameters are ordered by layer, each layer by output: its weights, then its
    bias. The linear agent has 10. Values beyond ±1 are used as they are.

    ## Observation Space
    `Box(-inf, inf, (horizon, 7), float32)`: the last episode, a row per step, zeros after its end.

    | column | observation |
    |---|---|
    | 0–3 | state the agent saw (scaled position, velocity, angle, angular velocity) |
    | 4 | action: −1 left, +1 right |
    | 5 | reward × `reward_scale` |
    | 6 | mask: 1 while the episode lasted, then 0 |

    ## Rewards
    The loss is minus the episode's return, times `reward_scale`. With `reward="progress"` a step
    pays the return gained over the previous episode; with `"final"` the last step pays the whole
    gain of the life.

    ## Starting State
    Parameters drawn from N(0, `init_stdev`²), after which the agent has played one episode.
    Every episode starts uniformly in ±0.05, like Gymnasium's; the starts follow from the life's
    seed. Of several tasks each life draws one, by its seed; `reset(options={"task": i})` picks the
    i-th.

    ## Episode End
    Terminated after `num_updates` steps. An agent whose parameters are no longer finite ends its
    life at once, with `info["diverged"]` and the return 0.

    ## Information
    `episode_return`, in Gymnasium's units, and `diverged` on every step; `task` at reset and, with
    `switch_after`, on every step.

    With `switch_after=k` the episodes up to that after update k are played in the life's first
    task, the others in the next one (after the last comes the first).

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | `num_updates` | 5 | episodes after the first, each with an update before it |
    | `horizon` | 200 | most steps in an episode |
    | `hidden_sizes` | `()` | tanh hidden layers of the agent |
    | `init_stdev` | 0.5 | standard deviation of its initial parameters |
    | `credit_scale` | 0.5 | largest change of a parameter per update |
    | `pole_mass` | 0.1 | in kg; several, such as `(0.05, 0.5)`, make a task of each |
    | `pole_length` | 0.5 | of half the pole, in m, at least 0.01; one or several |
    | `weight_decay` | 0.0 | share of every parameter that is lost with each update |
    | `switch_after` | None | updates after which a life goes on with the next task |
    | `reward_scale` | 1.0 | factor on the rewards, in the observation and of a step |
    | `reward` | `"progress"` | or `"final"` |
    | `device` | `"cpu"` | where the tensors live |
    | `render_mode` | None | `"rgb_array"`: the cart in its last episode, and the learning curve |

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
        num_updates: int = 5,
        horizon: int = 200,
        hidden_sizes: tuple[int, ...] = (),
        init_stdev: float = 0.5,
        credit_scale: float = 0.5,
        pole_mass: float | Sequence[float] = 0.1,
        pole_length: float | Sequence[float] = 0.5,
        weight_decay: float = 0.0,
        switch_after: int | None = None,
        reward_scale: float = 1.0,
        reward: Reward = "progress",
        device: str = "cpu",
        render_mode: str | None = None,
    ) -> None:
        on = require_device(device)
        lengths = require_numbers("pole_length", pole_length)
        if min(lengths) < SHORTEST_POLE:
            raise ValueError(
                f"pole_length={pole_length!r} must be at least {SHORTEST_POLE} m: shorter poles "
                "swing faster than the time step of the simulation can follow"
            )
        super().__init__(
            CartPole(self.motors, require_numbers("pole_mass", pole_mass), lengths, on),
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
            cart_pole_strobe(history, STATE_SCALE),
            learning_curve(history, ["episode_return"], self.num_updates),
        )


class ReversedCartPoleVectorEnv(CartPoleVectorEnv):
    """CartPole whose motor is connected the wrong way round in half of the lives.

    ## Description
    As `CreditAssign-CartPole-v0`, but in every second life, by chance, the cart is pushed right
    when the agent pushes left. Nothing in the observation names the variant: it has to be read
    from how the cart moved. One fixed change of parameters cannot serve both variants (at most
    about 105 of 200), so only a rule that adapts to what it sees solves this task. With
    `switch_after` the motor of every life turns round in the middle of it.

    ## Action Space
    As in `CreditAssign-CartPole-v0`.

    ## Observation Space
    As in `CreditAssign-CartPole-v0`; no task id.

    ## Rewards
    As in `CreditAssign-CartPole-v0`.

    ## Starting State
    As in `CreditAssign-CartPole-v0`; `reset(options={"task": 0 or 1})` picks the motor (0 normal,
    1 reversed). With several masses or lengths there is a task for either motor with each, motors
    changing fastest.

    ## Episode End
    As in `CreditAssign-CartPole-v0`.

    ## Information
    As in `CreditAssign-CartPole-v0`; `task` at reset tells observers the variant.

    ## Arguments
    As in `CreditAssign-CartPole-v0`.

    ## Vectorized environment
    As in `CreditAssign-CartPole-v0`.

    ## Version History
    * v0: initial version
    """

    motors: ClassVar[tuple[str, ...]] = ("normal", "reversed")


class CartPoleEnv(CreditAssignEnv):  # noqa: D101
    __doc__ = CartPoleVectorEnv.__doc__
    vector_class = CartPoleVectorEnv


class ReversedCartPoleEnv(CreditAssignEnv):  # noqa: D101
    __doc__ = ReversedCartPoleVectorEnv.__doc__
    vector_class = ReversedCartPoleVectorEnv
