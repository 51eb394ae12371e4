"""`CreditAssign-MetaWorld-v0`."""

from collections.abc import Sequence
from typing import get_args

from credit_envs.checks import (
    require_angles,
    require_at_least,
    require_device,
    require_one_of,
)
from credit_envs.environment import CreditAssignEnv, Reward
from credit_envs.envs.control import ControlVectorEnv
from credit_envs.rendering import Frame, History, draw_panels, hand_path, learning_curve
from credit_envs.tasks.metaworld import SCALE, MetaWorld, Starts


class MetaWorldVectorEnv(ControlVectorEnv):
    """An agent learns to use a robot arm: one step is one whole episode of its life.

    ## Description
    The bottom-up network is the agent's policy, by default linear with 32 parameters. A step moves
    the parameters by the credits, then the agent plays an episode, and the record of that episode
    is the observation (TDCA, Fig. 3). Each life has one of three tasks of Meta-World, which the
    observation names: pressing a button behind a wall, turning a dial, closing a door. One top-down
    network serves all. Episodes are played by Meta-World's own `button-press-wall-v3`,
    `dial-turn-v3` and `door-close-v3`. The agent sees differences of places, so that its network
    can serve wherever things are; its actions are the tanh of its outputs.

    With several values of `rotation` lives differ in how the arm's actuators are mounted: turned
    about the vertical, so that the same action moves the hand in another direction. Nothing in the
    observation says how; it has to be read from how the hand moved.

    ## Action Space
    `Box(-1, 1, (n_params,), float32)`: how each parameter of the agent moves, in units of
    `credit_scale`. Parameters are ordered by layer, each layer by output: its weights, then its
    bias. Values beyond ±1 are used as they are.

    ## Observation Space
    `Box(-inf, inf, (horizon, 16), float32)`: the last episode, a row per step.

    | column | observation |
    |---|---|
    | 0–2 | state the agent saw: 5 × (object − hand), in metres |
    | 3–5 | state the agent saw: 5 × (goal − object), in metres |
    | 6 | state the agent saw: how far the gripper is open, 0 to 1 |
    | 7–9 | one-hot id of the task, which the agent does not see |
    | 10–13 | actions in [−1, 1]: movement of the hand in three directions, closing the gripper;
      the agent's own, whatever `rotation` makes of them |
    | 14 | reward × `reward_scale`; Meta-World's are from 0 to 10 |
    | 15 | mask: 1 in every row, for no episode ends before the horizon |

    ## Rewards
    The loss is minus the episode's return, times `reward_scale`. With `reward="progress"` a step
    pays the return gained over the previous episode; with `"final"` the last step pays the whole
    gain of the life.

    ## Starting State
    Parameters drawn from N(0, `init_stdev`²), after which the agent has played one episode. All
    episodes of a life start from the same initial state of its task: where button, dial or door
    are. Meta-World's `MT1(…, seed=0)` has 50 of each. Those numbered 0 to 2 are for meta-training,
    13 to 22 for choosing settings, and 3 to 12 for results alone (TDCA, Table S6). `train.py` keeps
    to the first in meta-training and scores in those that `starts` names, by default the last. Each
    life draws its task by its seed; `reset(options={"task": i})` picks the i-th. With several
    rotations there are the three tasks with each, tasks changing fastest. The seed defines the
    initial state as well: lives of successive seeds, dealt to the tasks in turn, have each in turn.

    ## Episode End
    Terminated after `num_updates` steps. An agent whose parameters are no longer finite ends its
    life at once, with `info["diverged"]` and the return 0.

    ## Information
    `episode_return`, in Meta-World's units, `success` (1 if the task was done in any step of the
    episode, by Meta-World's measure, else 0) and `diverged` on every step; `task` at reset.

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | `num_updates` | 2 | episodes after the first, each with an update before it |
    | `horizon` | 120 | steps in an episode, at most Meta-World's 500 |
    | `rotation` | 0.0 | of movements about the vertical, in degrees counterclockwise seen from
      above; several, such as `(0, 180)`, make three tasks of each; cut off at ±1 in x and y |
    | `starts` | `"train"` | initial states: `"train"`, `"validation"` or `"unseen"` |
    | `hidden_sizes` | `()` | tanh hidden layers of the agent; none makes it linear |
    | `init_stdev` | 0.1 | standard deviation of its initial parameters |
    | `credit_scale` | 2.0 | largest change of a parameter per update |
    | `reward_scale` | 0.1 | factor on the rewards, in the observation and of a step |
    | `num_workers` | 0 | processes that play the episodes of a vector environment; 0: this one |
    | `reward` | `"progress"` | or `"final"` |
    | `device` | `"cpu"` | where the tensors live; episodes are played by the processor |
    | `render_mode` | None | `"rgb_array"`: the hand's last path, and the learning curve |

    ## Vectorized environment
    `gymnasium.make_vec(id, num_envs=P)` has P agents, which play one after the other, or spread
    over worker processes, with the same results; SAME_STEP autoreset. `close()` ends the processes.
    Meta-World's environments are made once in a process and shared, so only one thread may step.

    ## Version History
    * v0: initial version
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_updates: int = 2,
        horizon: int = 120,
        rotation: float | Sequence[float] = 0.0,
        starts: Starts = "train",
        hidden_sizes: tuple[int, ...] = (),
        init_stdev: float = 0.1,
        credit_scale: float = 2.0,
        reward_scale: float = 0.1,
        num_workers: int = 0,
        reward: Reward = "progress",
        device: str = "cpu",
        render_mode: str | None = None,
    ) -> None:
        require_at_least("horizon", horizon, 1)
        if horizon > MetaWorld.longest_episode:
            raise ValueError(
                f"horizon={horizon} is longer than Meta-World's episodes; "
                f"ask for at most {MetaWorld.longest_episode}"
            )
        require_one_of("starts", starts, get_args(Starts))
        super().__init__(
            MetaWorld(starts, require_angles("rotation", rotation), num_workers),
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
        return draw_panels(
            hand_path(history, SCALE),
            learning_curve(history, ["episode_return"], self.num_updates),
        )


class MetaWorldEnv(CreditAssignEnv):  # noqa: D101
    __doc__ = MetaWorldVectorEnv.__doc__
    vector_class = MetaWorldVectorEnv
