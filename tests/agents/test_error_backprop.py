"""The supervised twins of DeepAGREL, against autograd and their equations."""

from typing import Any

import gymnasium
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from agents import DeepAGREL, ErrorBackprop
from tests.agents.test_deepagrel import (
    DIGITS,
    POLICIES,
    SMALL,
    Features,
    assert_same_weights,
    new_policy,
    vector_env,
)


def model(policy: str = "MlpPolicy", env: Any = None, **kwargs: Any) -> ErrorBackprop:
    policy_kwargs = SMALL[policy] | kwargs.pop("policy_kwargs", {})
    settings = {"batch_size": 10, "seed": 0, "device": "cpu"} | kwargs
    env = vector_env() if env is None else env
    return ErrorBackprop(policy, env, policy_kwargs=policy_kwargs, **settings)


class StopsAt(BaseCallback):
    """Ends learning at this trial."""

    def __init__(self, trial: int) -> None:
        super().__init__()
        self.trial = trial

    def _on_step(self) -> bool:
        return self.num_timesteps < self.trial


@pytest.mark.parametrize("num_envs", [2, 10])
@pytest.mark.parametrize("name", POLICIES)
def test_learning_is_gradient_descent_on_cross_entropy(name: str, num_envs: int) -> None:
    """Labels are those of the images seen, also where several steps fill a batch."""
    learner = model(name, vector_env(num_envs), learning_rate=0.3, policy_kwargs={"dropout": None})
    policy = learner.policy.double()
    masks: list[list[Any]] = []
    draw = policy.q_net.draw_masks

    def recorded(*args: Any) -> list[Any]:
        masks.append(draw(*args))
        return masks[-1]

    policy.q_net.draw_masks = recorded  # type: ignore[method-assign]
    weights = {key: w.clone().requires_grad_() for key, w in policy.q_net.named_parameters()}
    learner.learn(10)
    trials = vector_env(10)
    images, info = trials.reset(seed=learner.seed)
    joined = [None if m[0] is None else torch.cat(m) for m in zip(*masks, strict=True)]
    q_values = functional_call(policy.q_net, weights, (torch.from_numpy(images), joined))
    cross_entropy(q_values, torch.tensor(info["label"])).backward()
    for key, after in policy.q_net.named_parameters():
        gradient = weights[key].grad
        assert gradient is not None
        assert gradient.abs().max() > 1e-6
        expected = weights[key].detach() - 0.3 * gradient
        torch.testing.assert_close(after, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["fixed", "direct"])
def test_random_feedback_against_its_equations(kind: Any) -> None:
    torch.manual_seed(0)
    policy = new_policy(feedback=kind).double()
    u, v, w = (weight.clone() for weight in policy.q_net.weights)
    first, second = policy.feedback
    x = torch.randint(256, (5, 2, 7, 6), dtype=torch.uint8)
    error = torch.randn(5, 4).double()
    activities = policy.q_net.activities(x)
    y1, y2 = activities.units[1:]
    policy.q_net.update(activities, error, policy.feedback, rate=0.3, kind=kind)
    below2 = (error @ second) * (y2 > 0)
    below1 = ((below2 if kind == "fixed" else error) @ first) * (y1 > 0)
    inputs = x.permute(0, 2, 3, 1).flatten(1).double() / 255
    expected = u + 0.3 * below1.T @ inputs, v + 0.3 * below2.T @ y1, w + 0.3 * error.T @ y2
    for ours, theirs in zip(policy.q_net.weights, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_direct_feedback_reaches_convolutions_as_it_would_reach_vectors() -> None:
    torch.manual_seed(0)
    policy = new_policy("CnnPolicy", feedback="direct", dropout=[0.0] * 4).double()
    x = torch.randint(256, (5, 2, 7, 6), dtype=torch.uint8)
    error = torch.randn(5, 4).double()
    activities = policy.q_net.activities(x)
    y1, filters = activities.units[1], policy.q_net.weights[0].clone()
    policy.q_net.update(activities, error, policy.feedback, rate=0.3, kind="direct")
    # Direct weights lie as the units do in memory: height, width, channels.
    channels, height, width = y1.shape[1:]
    below = (error @ policy.feedback[0]).view(5, height, width, channels).permute(0, 3, 1, 2)
    change = torch.nn.grad.conv2d_weight(x.double() / 255, filters.shape, below * (y1 > 0))
    torch.testing.assert_close(policy.q_net.weights[0], filters + 0.3 * change)


@pytest.mark.parametrize("feedback", ["tied", "fixed", "direct"])
def test_digits(feedback: str) -> None:
    learner = ErrorBackprop(
        "MlpPolicy",
        DIGITS,
        policy_kwargs={"hidden_sizes": (100, 50), "feedback": feedback, "init_range": 0.15},
        seed=0,
        device="cpu",
    ).learn(40_000)
    env = learner.make_env(split="validation")
    accuracy, _ = evaluate_policy(learner, env, n_eval_episodes=200, warn=False)
    assert isinstance(accuracy, float)
    assert accuracy > (0.94 if feedback == "tied" else 0.85)


def test_direct_feedback_carries_rewards_too() -> None:
    learner = DeepAGREL(
        "MlpPolicy",
        vector_env(),
        batch_size=10,
        policy_kwargs=SMALL["MlpPolicy"] | {"feedback": "direct"},
        seed=0,
        device="cpu",
    )
    first = learner.policy.q_net.weights[0].clone()
    learner.learn(50)
    assert not torch.equal(learner.policy.q_net.weights[0], first)
    with pytest.raises(ValueError, match="not parallel to any forward weights"):
        learner.policy.alignment()


def test_goes_on_bit_for_bit_within_a_batch(tmp_path) -> None:
    whole = model("CnnPolicy", vector_env(2)).learn(60)
    part = model("CnnPolicy", vector_env(2))
    part.learn(60, StopsAt(26))
    assert part.num_timesteps == 26
    part.save(tmp_path / "part")
    again = ErrorBackprop.load(tmp_path / "part", env=vector_env(2), device="cpu")
    again.learn(60 - again.num_timesteps, reset_num_timesteps=False)
    assert_same_weights(whole, again)  # type: ignore[arg-type]


def test_environments_without_labels_are_refused() -> None:
    for env in (Features(), DummyVecEnv([lambda: gymnasium.make(DIGITS)])):
        with pytest.raises(ValueError, match=r"learns from labels.*or learn with DeepAGREL"):
            ErrorBackprop("MlpPolicy", env, batch_size=1)


def test_it_never_explores() -> None:
    learner = model()
    assert learner.epsilon == 0
    with pytest.raises(TypeError, match=r"takes no epsilon: .* leave it out"):
        ErrorBackprop("MlpPolicy", vector_env(), epsilon=0.1)
