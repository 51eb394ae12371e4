"""What the algorithm's wrapping in Stable-Baselines3 costs.

`DeepAGREL.learn`, as its users call it, against a loop that only does the work: images in tensors
from the environment, answers, rewards, update. Both answer the same images and end with the same
weights.
"""

import copy
from collections.abc import Iterator, Sequence
from functools import partial

import gymnasium
import torch

from agents.deepagrel import DeepAGREL
from agents.deepagrel.policy import choose
from benchmarks.deepagrel_speed.race import OURS, Part, Row, race, require_equal, timed
from credit_envs.envs.bandit import BanditVectorEnv

ENV_ID = "ClassificationBandit-MNIST-v0"
RATES = {100: 0.5, 1: 0.005}
"""Learning rate by trials at once."""
BARE = "bare loop"


class WrappingPart(Part):
    """`DeepAGREL.learn` against a bare loop."""

    name = "wrapping"
    title = "Stable-Baselines3's wrapping"

    def check(self) -> dict[str, float]:
        """Equal to the last bit, after ten updates."""
        differences: dict[str, float] = {}
        for batch_size in RATES:
            model = new_model(batch_size)
            loop = BareLoop(model)
            model.learn(10 * batch_size)
            loop.learn(10 * batch_size)
            weights = zip(model.policy.q_net.weights, loop.policy.q_net.weights, strict=True)
            difference = max((a - b).abs().max().item() for a, b in weights)
            what = f"learn and bare loop, float32, 10 updates of {batch_size}"
            differences |= require_equal(what, difference, 0.0)
        return differences

    def rows(self, repeats: int) -> Iterator[Row]:
        """The paper's batches, and single trials."""
        for batch_size in RATES:
            model = new_model(batch_size)
            num_trials = 3000 if batch_size > 1 else 500
            bare = partial(BareLoop(model).learn, num_trials)
            ours = partial(model.learn, num_trials, reset_num_timesteps=False)
            forms = {BARE: timed(bare, num_trials), OURS: timed(ours, num_trials)}
            yield race(f"{model.policy_class.__name__}, {batch_size} at once", forms, repeats)

    def conclusions(self, rows: Sequence[Row]) -> list[str]:
        """The time it adds."""
        return [
            f"{row.setting}: wrapping costs {100 * (row.times(BARE, OURS) - 1):.1f} % of the bare "
            "loop's time"
            for row in rows
        ]


class BareLoop:
    """The work of `DeepAGREL.learn`, and nothing else.

    Args:
        model: in an environment by its id, that has not learned yet; where it starts, this starts.
    """

    def __init__(self, model: DeepAGREL) -> None:
        assert model.env_id is not None
        self.policy = copy.deepcopy(model.policy)
        self._epsilon = model.epsilon
        self._learning_rate = model.learning_rate
        self._generator = torch.Generator()
        self._generator.set_state(model.generator.get_state())
        env = gymnasium.make_vec(model.env_id, num_envs=model.batch_size)
        assert isinstance(env, BanditVectorEnv)
        self._env = env
        self._images = env.reset_tensors(model.seed)

    @torch.no_grad()
    def learn(self, num_trials: int) -> None:
        """From so many trials."""
        q_net, feedback = self.policy.q_net, self.policy.feedback
        batch_size = self._env.num_envs
        assert isinstance(self._learning_rate, float)
        for _ in range(num_trials // batch_size):
            masks = q_net.draw_masks(batch_size, self._generator)
            activities = q_net.activities(self._images, masks)
            actions = choose(activities.q_values, self._epsilon, self._generator)
            self._images, rewards = self._env.step_tensors(actions)
            rpe = rewards - activities.q_values.gather(1, actions[:, None])[:, 0]
            q_net.learn(activities, actions, rpe, feedback, self._learning_rate / batch_size)


def new_model(batch_size: int) -> DeepAGREL:
    """With the paper's fully connected network."""
    return DeepAGREL("MlpPolicy", ENV_ID, RATES[batch_size], batch_size, seed=0, device="cpu")
