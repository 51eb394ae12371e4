"""`CreditAssign-BipedalWalker-v0`."""

from typing import Any

from matplotlib.axes import Axes

from credit_envs.checks import require_device
from credit_envs.environment import CreditAssignEnv, Reward
from credit_envs.envs.control import ControlVectorEnv
from credit_envs.rendering import Frame, History, draw_panels, learning_curve
from credit_envs.tasks.bipedal_walker import BipedalWalker


class BipedalWalkerVectorEnv(ControlVectorEnv):
    """An agent learns to walk on two legs: one step is one whole episode of its life.

    ## Description
    The bottom-up network is the agent's policy, by default linear with 100 parameters. A step
    moves the parameters by the credits, then the agent plays an episode of BipedalWalker on fresh
    ground, and the record of that episode is the observation (TDCA, Fig. 3a). Episodes are played
    by Gymnasium's own `BipedalWalker-v3`; the torques are the tanh of the network's outputs.

    ## Action Space
    `Box(-1, 1, (n_params,), float32)`: how each parameter of the agent moves, in units of
    `credit_scale`. Parameters are ordered by layer, each layer by output: its weights, then its
    bias. Values beyond ±1 are used as they are.

    ## Observation Space
    `Box(-inf, inf, (horizon, 30), float32)`: the last episode, a row per step.

    | column | observation |
    |---|---|
    | 0–23 | state the agent saw, as Gymnasium gives it: hull, joints, contacts, lidar |
    | 24–27 | actions: torques of hips and knees, in [−1, 1] |
    | 28 | reward × `reward_scale`: for moving forward, less for torque, −100 for falling |
    | 29 | mask: 1 for steps of the episode, all other columns being 0 after its end |

    ## Rewards
    The loss is minus the episode's return, times `reward_scale`. With `reward="progress"` a step
    pays the return gained over the previous episode; with `"final"` the last step pays the whole
    gain of the life. Gymnasium calls its environment solved at a return of 300 within 1,600 steps.

    ## Starting State
    Parameters drawn from N(0, `init_stdev`²), after which the agent has played one episode. Ground
    and first push of every episode follow from the life's seed.

    ## Episode End
    Terminated after `num_updates` steps. An agent whose parameters are no longer finite ends its
    life at once, with `info["diverged"]` and the return of falling after full torque throughout.

    ## Information
    `episode_return`, in Gymnasium's units, and `diverged` on every step; `task` (0) at reset.

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | `num_updates` | 2 | episodes after the first, each with an update before it |
    | `horizon` | 400 | most steps in an episode; Gymnasium's own limit, 1,600, costs four times as
      much, and it takes about that long to reach the end of the ground |
    | `hidden_sizes` | `()` | tanh hidden layers of the agent; none makes it linear |
    | `init_stdev` | 0.1 | standard deviation of its initial parameters |
    | `credit_scale` | 1.0 | largest change of a parameter per update |
    | `reward_scale` | 0.1 | factor on the rewards, in the observation and of a step |
    | `num_workers` | 0 | processes that play the episodes of a vector environment; 0: this one |
    | `reward` | `"progress"` | or `"final"` |
    | `device` | `"cpu"` | where the tensors live; episodes are played by the processor |
    | `render_mode` | None | `"rgb_array"`: the end of the last episode, and the learning curve |

    ## Vectorized environment
    `gymnasium.make_vec(id, num_envs=P)` has P agents, which play one after the other, or spread
    over worker processes, with the same results; SAME_STEP autoreset. `close()` ends the processes.

    ## Version History
    * v0: initial version
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_updates: int = 2,
        horizon: int = 400,
        hidden_sizes: tuple[int, ...] = (),
        init_stdev: float = 0.1,
        credit_scale: float = 1.0,
        reward_scale: float = 0.1,
        num_workers: int = 0,
        reward: Reward = "progress",
        device: str = "cpu",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            BipedalWalker(num_workers),
            num_envs,
            num_updates=num_updates,
            horizon=horizon,
            hidden_sizes=hidden_sizes,
            init_stdev=init_stdev,
            credit_scale=credit_scale,
            reward=reward,
            device=require_device(device),
            render_mode=render_mode,
            reward_scale=reward_scale,
        )

    def draw(self, history: History) -> Frame:  # noqa: D102
        def last_moment(axes: Axes) -> None:
            axes.imshow(self._last_frame(history))
            axes.set_axis_off()
            axes.set_title(f"last episode: return {history.metrics['episode_return'][-1]:.0f}")

        return draw_panels(
            last_moment, learning_curve(history, ["episode_return"], self.num_updates)
        )

    def _last_frame(self, history: History) -> Any:
        assert isinstance(self.task.dynamics, BipedalWalker)
        rows = history.observations[-1]
        actions = rows[rows[:, -1] > 0, 24:28]
        start = self.task.episode_starts()[:, history.network].cpu().numpy()
        return self.task.dynamics.last_frame(start, actions)


class BipedalWalkerEnv(CreditAssignEnv):  # noqa: D101
    __doc__ = BipedalWalkerVectorEnv.__doc__
    vector_class = BipedalWalkerVectorEnv
