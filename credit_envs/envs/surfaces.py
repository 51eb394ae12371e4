"""`CreditAssign-Gaussian-v0` and `CreditAssign-MultiGaussian-v0`."""

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from credit_envs.checks import require_at_least, require_device
from credit_envs.environment import CreditAssignEnv, CreditAssignVectorEnv, Reward
from credit_envs.rendering import Frame, History, draw_panels, learning_curve, surface_path
from credit_envs.tasks.surfaces import (
    REGION,
    TWO_BUMPS,
    TWO_BUMPS_ELSEWHERE,
    Surface,
    SurfaceTask,
)


class GaussianVectorEnv(CreditAssignVectorEnv):
    """A point climbs a surface of two Gaussian bumps, led by the credits it is given.

    ## Description
    The simplest bottom-up network there is: two parameters, the coordinates of a point (TDCA,
    Fig. 2a). The surface is a broad hill of height 1 at the origin with a lower, narrower one at
    (2, 2). Gradient ascent that starts behind the lower hill ends on it; a top-down network can
    learn to pass it by. What it sees is the position alone, so what it learns is a place, not a
    way to find one: that is the paper's setting, and this page says so.

    ## Action Space
    `Box(-1, 1, (2,), float32)`: the step, in units of `credit_scale`. Values beyond ±1 are used
    as they are.

    ## Observation Space
    `Box(-inf, inf, (2,), float32)`:

    | index | observation |
    |---|---|
    | 0 | x |
    | 1 | y |

    ## Rewards
    The loss is minus the height. With `reward="progress"` a step pays the height it gained, so
    the return (γ = 1) is the height gained in the life; with `"final"` the last step pays it all.

    ## Starting State
    Uniform in the square [−4, 4]². `reset(options={"position": (x, y)})` sets it, for one point
    or, with shape `(P, 2)`, for each.

    ## Episode End
    Terminated after `num_updates` steps. A point whose coordinates are no longer finite ends its
    life at once, with `info["diverged"]` and the height 0.

    ## Information
    `height` and `diverged` on every step; `task` (index of the surface) at reset.

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | `num_updates` | 100 | steps in a life |
    | `credit_scale` | 0.1 | length of the longest step along an axis |
    | `reward` | `"progress"` | or `"final"` |
    | `device` | `"cpu"` | where the tensors live |
    | `render_mode` | None | `"rgb_array"`: the surface with the path, and the learning curve |

    ## Vectorized environment
    `gymnasium.make_vec(id, num_envs=P)` moves P points at once; SAME_STEP autoreset.

    ## Version History
    * v0: initial version
    """

    surfaces: ClassVar[dict[str, Surface]] = {"gaussian": TWO_BUMPS}
    _num_drawn = None

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_updates: int = 100,
        credit_scale: float = 0.1,
        reward: Reward = "progress",
        device: str = "cpu",
        render_mode: str | None = None,
    ) -> None:
        require_at_least("num_envs", num_envs, 1)
        task = SurfaceTask(self.surfaces, num_envs, require_device(device))
        super().__init__(
            task,
            num_updates=num_updates,
            credit_scale=credit_scale,
            reward=reward,
            render_mode=render_mode,
        )

    def draw(self, history: History) -> Frame:  # noqa: D102
        assert isinstance(self.task, SurfaceTask)
        surface = self.task.surfaces[self.task.task_index[history.network]]

        def height(position: NDArray[np.float64]) -> NDArray[np.float64]:
            heights: NDArray[np.float64] = surface.height(torch.as_tensor(position)).numpy()
            return heights

        return draw_panels(
            surface_path(history, height, REGION),
            learning_curve(history, ["height"], self.num_updates),
        )


class MultiGaussianVectorEnv(GaussianVectorEnv):
    """A point climbs one of two surfaces; the observation says which.

    ## Description
    As `CreditAssign-Gaussian-v0`, but each life takes place on one of two surfaces with their
    highest bumps in different places, and the observation ends in the one-hot id of the surface
    (TDCA, Fig. 2g): one top-down network for two tasks.

    ## Action Space
    `Box(-1, 1, (2,), float32)`: the step, in units of `credit_scale`.

    ## Observation Space
    `Box(-inf, inf, (4,), float32)`:

    | index | observation |
    |---|---|
    | 0, 1 | x, y |
    | 2, 3 | one-hot id of the surface |

    ## Rewards
    As in `CreditAssign-Gaussian-v0`.

    ## Starting State
    Uniform in [−4, 4]², on either surface with equal chance;
    `reset(options={"task": 0 or 1, "position": …})` sets them.

    ## Episode End
    As in `CreditAssign-Gaussian-v0`.

    ## Information
    As in `CreditAssign-Gaussian-v0`.

    ## Arguments
    As in `CreditAssign-Gaussian-v0`.

    ## Vectorized environment
    As in `CreditAssign-Gaussian-v0`.

    ## Version History
    * v0: initial version
    """

    surfaces: ClassVar[dict[str, Surface]] = {"first": TWO_BUMPS, "second": TWO_BUMPS_ELSEWHERE}


class GaussianEnv(CreditAssignEnv):  # noqa: D101
    __doc__ = GaussianVectorEnv.__doc__
    vector_class = GaussianVectorEnv


class MultiGaussianEnv(CreditAssignEnv):  # noqa: D101
    __doc__ = MultiGaussianVectorEnv.__doc__
    vector_class = MultiGaussianVectorEnv
