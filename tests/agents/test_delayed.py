"""AuGMEnT, against SARSA(λ) by autograd and against DeepAGREL."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from agents import AuGMEnT, DeepAGREL, DeepAGRELPolicy
from agents.deepagrel.learner import Trials

SMALL: dict[str, Any] = {"hidden_sizes": (9, 7), "init_range": 0.4}


class Noise(gymnasium.Env[np.ndarray, Any]):
    """Made-up states and rewards; episodes end, or are cut, at random."""

    observation_space = spaces.Box(-10, 10, (4,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, ends: float = 0.2, cuts: float = 0.0) -> None:
        self.ends, self.cuts = ends, cuts

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._state(), {}

    def step(self, action: Any) -> Any:
        reward = self.np_random.normal() + 0.5 * int(action)
        ends, cut = self.np_random.random() < self.ends, self.np_random.random() < self.cuts
        return self._state(), reward, ends, cut, {}

    def _state(self) -> np.ndarray:
        return self.np_random.normal(size=4).astype(np.float32)


class Corridor(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Six places in a row, with a reward at the right end alone; it can be taken up again."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 4, limit: int = 12) -> None:
        self.num_envs, self.limit = num_envs, limit
        self.single_observation_space = spaces.Box(0, 1, (6,), np.float32)
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = spaces.Box(0, 1, (num_envs, 6), np.float32)
        self.action_space = spaces.MultiDiscrete([2] * num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.generator = np.random.default_rng(seed[0] if isinstance(seed, list) else seed)
        self.place = self.generator.integers(1, 4, self.num_envs)
        self.time = np.zeros(self.num_envs, int)
        return self._seen(), {}

    def step(self, actions: np.ndarray) -> Any:
        self.place = self.place + 2 * actions - 1
        self.time = self.time + 1
        ends = (self.place == 0) | (self.place == 5)
        cut = (self.time == self.limit) & ~ends
        reward, done, last = (self.place == 5).astype(float), ends | cut, self._seen()
        self.place[done] = self.generator.integers(1, 4, done.sum())
        self.time[done] = 0
        infos = {"final_obs": last, "_final_obs": done} if done.any() else {}
        return self._seen(), reward, ends, cut, infos

    def _seen(self) -> np.ndarray:
        return np.eye(6, dtype=np.float32)[self.place]

    def get_state(self) -> Any:
        return self.place.copy(), self.time.copy(), self.generator.bit_generator.state

    def set_state(self, state: Any) -> None:
        self.reset()
        self.place, self.time = state[0].copy(), state[1].copy()
        self.generator.bit_generator.state = state[2]


def noise(num_envs: int = 3, **kwargs: Any) -> DummyVecEnv:
    return DummyVecEnv([lambda: Noise(**kwargs)] * num_envs)


def model(env: Any = None, **kwargs: Any) -> AuGMEnT:
    policy_kwargs = SMALL | kwargs.pop("policy_kwargs", {})
    settings = {"seed": 0, "device": "cpu", "learning_rate": 0.1, "epsilon": 0.5} | kwargs
    env = noise() if env is None else env
    return AuGMEnT("MlpPolicy", env, policy_kwargs=policy_kwargs, **settings)


class Recorder(BaseCallback):
    """Keeps what a learner saw, did and weighed, step by step."""

    model: AuGMEnT

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[dict[str, Any]] = []

    def _on_training_start(self) -> None:
        self.shown = self.model._last_obs.copy()

    def _on_step(self) -> bool:
        step = {key: self.locals[key] for key in ("actions", "rewards", "dones", "infos")}
        weights = [w.clone() for w in self.model.policy.q_net.weights]
        next_actions = self.model._next_actions.copy()
        self.steps.append(
            step | {"shown": self.shown, "next_actions": next_actions, "weights": weights}
        )
        self.shown = self.model._last_obs.copy()
        self.steps[-1]["next"] = self.shown
        return True


def q_values(weights: list[Tensor], state: np.ndarray) -> Tensor:
    """The network from PyTorch's functions alone, of one state."""
    x = torch.from_numpy(state).to(weights[0].dtype)
    for w in weights[:-1]:
        x = nn.functional.linear(x, w).relu()
    return nn.functional.linear(x, weights[-1])


def assert_same_weights(a: AuGMEnT, b: AuGMEnT) -> None:
    for ours, theirs in zip(a.policy.parameters(), b.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# ---------------------------------------------------------------------- the rule


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("tag_decay", [0.0, 0.8, 1.0])
@pytest.mark.parametrize(
    ("env_kwargs", "epsilon"),
    [({"ends": 0.2}, 0.5), ({"ends": 0.1, "cuts": 0.2}, 0.0), ({"ends": 1.0}, 0.5)],
)
def test_a_run_is_sarsa_lambda_by_autograd(env_kwargs, epsilon, tag_decay, num_envs):
    """Forty steps from the first weights on, trace by trace (Sutton and Barto, Section 12.7)."""
    settings = {"epsilon": epsilon, "tag_decay": tag_decay, "gamma": 0.9, "learning_rate": 0.05}
    learner = model(noise(num_envs, **env_kwargs), **settings)
    learner.policy.double()
    start = [w.clone() for w in learner.policy.q_net.weights]
    weights = [w.clone().requires_grad_() for w in learner.policy.q_net.weights]
    recorder = Recorder()
    learner.learn(40 * num_envs, recorder, log_interval=1000)
    traces = [[torch.zeros_like(w) for w in weights] for _ in range(num_envs)]
    cuts, abs_rpe = 0, 0.0
    for step in recorder.steps:
        changes = [torch.zeros_like(w) for w in weights]
        for i in range(num_envs):
            q_chosen = q_values(weights, step["shown"][i])[step["actions"][i]]
            gradients = torch.autograd.grad(q_chosen, weights)
            if not step["dones"][i]:
                next_value = q_values(weights, step["next"][i])[step["next_actions"][i]]
            elif step["infos"][i]["TimeLimit.truncated"]:
                next_value = q_values(weights, step["infos"][i]["terminal_observation"]).max()
                cuts += 1
            else:
                next_value = torch.zeros(())
            rpe = float(step["rewards"][i]) + 0.9 * next_value.item() - q_chosen.item()
            abs_rpe += abs(rpe)
            for trace, gradient, change in zip(traces[i], gradients, changes, strict=True):
                trace.mul_(0.9 * tag_decay).add_(gradient)
                change.add_(trace, alpha=0.05 * rpe / num_envs)
                if step["dones"][i]:
                    trace.zero_()
        with torch.no_grad():
            for w, change, after in zip(weights, changes, step["weights"], strict=True):
                w += change
                torch.testing.assert_close(after, w, rtol=0, atol=1e-12)
    assert all((w - first).abs().max() > 1e-3 for w, first in zip(weights, start, strict=True))
    assert len(recorder.steps) == 40
    assert learner._sums.tolist() == pytest.approx([abs_rpe, 40 * num_envs])
    assert (cuts > 0) == ("cuts" in env_kwargs)


def test_chosen_actions_are_taken():
    learner = model()
    recorder = Recorder()
    learner.learn(60, recorder)
    for before, after in zip(recorder.steps, recorder.steps[1:], strict=False):
        np.testing.assert_array_equal(before["next_actions"], after["actions"])


def test_without_tags_and_in_single_steps_it_is_deepagrel():
    learner = model(noise(ends=1.0), tag_decay=0.0)
    start = [w.clone() for w in learner.policy.q_net.weights]
    recorder = Recorder()
    learner.learn(60, recorder)
    twin = DeepAGREL(
        "MlpPolicy", noise(ends=1.0), 0.1, batch_size=3, seed=0, device="cpu", policy_kwargs=SMALL
    )
    for weight, ours in zip(twin.policy.q_net.weights, start, strict=True):
        assert torch.equal(weight, ours)
    for step in recorder.steps:
        activities = twin.policy.q_net.activities(torch.from_numpy(step["shown"]))
        trials = Trials(step["shown"], [None, None], step["actions"], step["rewards"])
        twin._learn_from(trials, activities)
        for weight, ours in zip(twin.policy.q_net.weights, step["weights"], strict=True):
            assert torch.equal(weight, ours)


@pytest.mark.parametrize("feedback", ["tied", "reciprocal", "fixed", "direct"])
def test_tags_of_single_steps_learn_what_deepagrel_does(feedback):
    pair = [
        model(noise(ends=1.0), tag_decay=decay, policy_kwargs={"feedback": feedback})
        for decay in (0.0, 0.8)
    ]
    for learner in pair:
        learner.policy.double()
        learner.learn(60)
    for a, b in zip(pair[0].policy.parameters(), pair[1].policy.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_reciprocal_weights_learn_alike():
    learner = model(policy_kwargs={"feedback": "reciprocal"})
    learner.policy.double()

    def difference() -> list[Tensor]:
        pairs = zip(learner.policy.q_net.weights[1:], learner.policy.feedback, strict=True)
        return [w - b for w, b in pairs]

    start, weights = difference(), [w.clone() for w in learner.policy.feedback]
    learner.learn(150)
    for before, after in zip(start, difference(), strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=1e-12)
    for before, after in zip(weights, learner.policy.feedback, strict=True):
        assert (before - after).abs().max() > 1e-3


# ---------------------------------------------------------------------- learning


@pytest.mark.parametrize("feedback", ["tied", "fixed"])
def test_values_of_a_corridor(feedback):
    """q of going right from the last place but one is 1, and falls by γ with every place."""
    learner = model(
        Corridor(8),
        learning_rate=0.5,
        epsilon=LinearSchedule(1.0, 0.0, 0.5),
        policy_kwargs={"hidden_sizes": (20,), "feedback": feedback},
        gamma=0.8,
    )
    learner.learn(8000)
    found = learner.policy.q_net(torch.eye(6)[1:5])
    assert (found.argmax(1) == 1).all()
    expected = torch.tensor([0.8**3, 0.8**2, 0.8, 1.0])
    torch.testing.assert_close(found[:, 1], expected, rtol=0, atol=0.05)


def test_cartpole():
    learner = AuGMEnT(
        "MlpPolicy",
        "CartPole-v1",
        env_kwargs={"sutton_barto_reward": True},
        policy_kwargs={"std": (2.4, 2.0, 0.1, 1.0)},
        num_envs=4,
        seed=0,
        device="cpu",
    )
    learner.learn(10_000)
    steps, _ = evaluate_policy(learner, make_vec_env("CartPole-v1", 5, seed=1), 10)
    assert steps > 450


def test_same_seed_same_weights_whatever_the_global_state():
    torch.manual_seed(1)
    a = model().learn(90)
    torch.manual_seed(2)
    assert_same_weights(a, model().learn(90))
    other = model(seed=1).learn(90)
    assert not torch.equal(a.policy.q_net.weights[0], other.policy.q_net.weights[0])


def test_schedules():
    seen: list[tuple[float, float]] = []

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            seen.append((self.model.epsilon, self.model.policy.epsilon))
            return True

    rates: list[float] = []

    def rate(remaining: float) -> float:
        rates.append(remaining)
        return 0.1

    model(epsilon=LinearSchedule(0.6, 0.2, 0.5), learning_rate=rate).learn(30, Watch())
    epsilons = [own for own, _ in seen]
    assert epsilons[:3] == pytest.approx([0.6, 0.52, 0.44])
    assert epsilons[6:] == [0.2] * 4
    assert all(own == of_policy for own, of_policy in seen)
    assert rates[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("monitored", [True, False])
def test_log(tmp_path, monitored):
    env = make_vec_env("CartPole-v1", 4) if monitored else Corridor()
    learner = model(env, tensorboard_log=str(tmp_path), policy_kwargs={"feedback": "reciprocal"})
    recorder = Recorder()
    learner.learn(1200, recorder, log_interval=10, progress_bar=True)
    events = EventAccumulator(str(tmp_path / "AuGMEnT_1")).Reload()
    assert {
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "rollout/exploration_rate",
        "train/mean_abs_rpe",
        "train/learning_rate",
        "weights/norm_1",
        "feedback/angle_2",
        "time/fps",
    } <= set(events.Tags()["scalars"])
    returns, lengths, ended = np.zeros(4), np.zeros(4), []
    for step in recorder.steps:
        returns, lengths = returns + step["rewards"], lengths + 1
        ended += list(zip(returns[step["dones"]], lengths[step["dones"]], strict=True))
        returns[step["dones"]] = lengths[step["dones"]] = 0
    for name, expected in zip(("rew", "len"), np.mean(ended[-100:], axis=0), strict=True):
        last = events.Scalars(f"rollout/ep_{name}_mean")[-1]
        assert last.step == 1200
        assert last.value == pytest.approx(expected, rel=1e-5)


def test_callbacks(tmp_path):
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 4

    evaluate = EvalCallback(noise(2), eval_freq=2, n_eval_episodes=3, verbose=0)
    assert model().learn(1000, [evaluate, Stop()]).num_timesteps == 12
    assert np.isfinite(evaluate.last_mean_reward)


# ---------------------------------------------------------------------- saving


@pytest.mark.parametrize("tag_decay", [0.0, 0.9])
def test_goes_on_bit_for_bit_in_a_restorable_environment(tmp_path, tag_decay):
    def new() -> AuGMEnT:
        return model(Corridor(), tag_decay=tag_decay, epsilon=0.5)

    whole = new().learn(520, log_interval=7)
    first = new().learn(200, log_interval=7)
    first.save(tmp_path / "model")
    torch.manual_seed(99)
    second = AuGMEnT.load(tmp_path / "model", env=Corridor(), device="cpu")
    assert_same_weights(second, first)
    assert torch.equal(second.tags.values, first.tags.values)
    assert second.tags.values.any() == (tag_decay > 0)
    second.learn(320, log_interval=7, reset_num_timesteps=False)
    assert second.num_timesteps == whole.num_timesteps == 520
    assert_same_weights(second, whole)
    assert list(second.ep_info_buffer) == list(whole.ep_info_buffer)
    assert torch.equal(second._sums, whole._sums)


def test_goes_on_bit_for_bit_in_the_very_environment(tmp_path):
    whole = model().learn(300)
    first = model().learn(120)
    first.save(tmp_path / "model")
    second = AuGMEnT.load(tmp_path / "model", env=first.env, device="cpu", force_reset=False)
    assert_same_weights(second.learn(180, reset_num_timesteps=False), whole)


def test_environment_that_cannot_be_taken_up_begins_new_episodes(tmp_path):
    model().learn(60).save(tmp_path / "model")
    second = AuGMEnT.load(tmp_path / "model", env=noise(5), device="cpu")
    second.learn(50, reset_num_timesteps=False)
    assert second.num_timesteps == 110
    assert len(second.tags.values) == 5


def test_loaded_without_environment_predicts(tmp_path):
    learner = model(epsilon=LinearSchedule(1.0, 0.1, 0.5)).learn(60)
    learner.save(tmp_path / "model")
    second = AuGMEnT.load(tmp_path / "model", device="cpu")
    states = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        second.predict(states, deterministic=True)[0],
        learner.predict(states, deterministic=True)[0],
    )
    assert second.exploration(0.75) == learner.exploration(0.75) == 0.55
    with pytest.raises(ValueError, match="set_env"):
        second.learn(10)


def test_environment_of_an_id_is_made_anew(tmp_path):
    settings = {"num_envs": 3, "learning_rate": 0.02, "seed": 0, "device": "cpu"}
    learner = AuGMEnT("MlpPolicy", "CartPole-v1", **settings).learn(30)
    learner.save(tmp_path / "model")
    second = AuGMEnT.load(tmp_path / "model", device="cpu").learn(30, reset_num_timesteps=False)
    assert (second.n_envs, second.num_timesteps) == (3, 60)


# ---------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be a finite number above 0"),
        ({"num_envs": 0}, "num_envs=0 must be a whole number of at least 1"),
        ({"gamma": 1.1}, "gamma=1.1 must be a number from 0 to 1"),
        ({"gamma": float("nan")}, "gamma=nan must be a number from 0 to 1"),
        ({"tag_decay": -0.1}, "tag_decay=-0.1 must be a number from 0 to 1"),
        ({"epsilon": 2}, "epsilon=2 must be a number from 0 to 1"),
        ({"epsilon": "low"}, "epsilon='low' must be a number from 0 to 1"),
        ({"seed": -1}, "seed=-1 must be"),
        ({"env_kwargs": {"limit": 3}}, "env_kwargs are for an environment id"),
        ({"policy_kwargs": {"dropout": (0.5, 0.0)}}, "tags are for networks without dropout"),
        ({"policy_kwargs": {"feedback": "none"}}, "feedback='none' is not one of 'tied'"),
        ({"env": "Pendulum-v1"}, "must be a Discrete that starts at 0"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message) as error:
        model(**kwargs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["CnnPolicy", "LocConPolicy"])
def test_shared_weights_are_refused(name):
    env = gymnasium.make_vec("ClassificationBandit-Digits-v0", num_envs=2)
    with pytest.raises(ValueError, match="shared between places have none: use MlpPolicy"):
        AuGMEnT(name, env, device="cpu")


def test_other_policies_are_refused():
    with pytest.raises(ValueError, match="did you mean 'MlpPolicy'"):
        AuGMEnT("MlpPolcy", noise())
    assert issubclass(AuGMEnT.policy_aliases["MlpPolicy"], DeepAGRELPolicy)


@pytest.mark.parametrize("log_interval", [1, 10_000])
def test_divergence_is_reported(log_interval):
    with pytest.raises(FloatingPointError, match=r"diverged at .* use a smaller one"):
        model(learning_rate=1e9).learn(3000, log_interval=log_interval)
