"""DeepAGREL, against autograd and independent PyTorch networks."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.func import functional_call

from agents import DeepAGREL, DeepAGRELPolicy, EarlyStopping, ErrorBackprop, VectorEnvAdapter
from agents.deepagrel import DeepAGRELCnnPolicy, DeepAGRELLocConPolicy
from agents.deepagrel.policy import choose
from tests.conftest import made_up_images

IMAGES = "ClassificationBandit-Images-v0"
DIGITS = "ClassificationBandit-Digits-v0"
DATA = made_up_images((2, 7, 6), classes=3, train=60, test=31)
SMALL: dict[str, dict[str, Any]] = {
    "MlpPolicy": {"hidden_sizes": (12, 8), "init_range": 0.3},
    "CnnPolicy": {"hidden_sizes": (12, 8), "num_filters": 4, "init_range": 0.3},
    "LocConPolicy": {"hidden_sizes": (12, 8), "num_filters": 4, "init_range": 0.3},
}
POLICIES = list(SMALL)
CLASSES: dict[str, type[DeepAGRELPolicy]] = {
    "MlpPolicy": DeepAGRELPolicy,
    "CnnPolicy": DeepAGRELCnnPolicy,
    "LocConPolicy": DeepAGRELLocConPolicy,
}


def vector_env(num_envs: int = 10, **kwargs: Any) -> Any:
    settings = {"data": DATA, "num_validation": 20} | kwargs
    return gymnasium.make_vec(IMAGES, num_envs=num_envs, **settings)


def model(policy: str = "MlpPolicy", env: Any = None, **kwargs: Any) -> DeepAGREL:
    policy_kwargs = SMALL[policy] | kwargs.pop("policy_kwargs", {})
    settings = {"batch_size": 10, "seed": 0, "device": "cpu", "learning_rate": 0.1} | kwargs
    env = vector_env() if env is None else env
    return DeepAGREL(policy, env, policy_kwargs=policy_kwargs, **settings)


def new_policy(name: str = "MlpPolicy", shape: Any = (2, 7, 6), **kwargs: Any) -> DeepAGRELPolicy:
    space = spaces.Box(0, 255, shape, np.uint8)
    return CLASSES[name](space, spaces.Discrete(4), **SMALL[name] | kwargs)


class Recorder(BaseCallback):
    """Keeps what a learner saw, did and weighed, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[dict[str, Any]] = []

    def weights(self) -> list[np.ndarray]:
        return [p.numpy().copy() for p in self.model.policy.parameters()]

    def _on_training_start(self) -> None:
        self.before = self.weights()
        self.shown = self.model._last_obs.copy()

    def _on_step(self) -> bool:
        step = {"observations": self.shown, "before": self.before, "after": self.weights()}
        self.steps.append(step | {key: self.locals[key] for key in ("actions", "rewards")})
        self.before, self.shown = step["after"], self.model._last_obs.copy()
        return True


def assert_same_weights(a: DeepAGREL, b: DeepAGREL) -> None:
    for ours, theirs in zip(a.policy.parameters(), b.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# ---------------------------------------------------------------------- the rule


def loss_of(q_net: nn.Module, weights: Any, x: Tensor, actions: Tensor, r: Tensor, *masks: Any):
    q_values = functional_call(q_net, weights, (x, *masks))
    return (0.5 * (r - q_values.gather(1, actions[:, None])[:, 0]) ** 2).mean()


@pytest.mark.parametrize("num_trials", [1, 7, 40])
@pytest.mark.parametrize("shape", [(2, 7, 6), (1, 8, 8)])
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("name", POLICIES)
def test_update_is_a_step_down_the_gradient(name, dtype, tolerance, dropout, shape, num_trials):
    torch.manual_seed(0)
    policy = new_policy(name, shape, mean=30.0, std=70.0)
    if not dropout:
        policy = new_policy(name, shape, dropout=[0.0] * len(policy.dropout))
    q_net = policy.to(dtype).q_net
    x = torch.randint(256, (num_trials, *shape), dtype=torch.uint8)
    actions, rewards = torch.randint(4, (num_trials,)), torch.rand(num_trials, dtype=dtype)
    masks = q_net.draw_masks(num_trials, None)
    weights = {key: w.clone().requires_grad_() for key, w in q_net.named_parameters()}
    loss_of(q_net, weights, x, actions, rewards, masks).backward()

    activities = q_net.activities(x, masks)
    rpe = rewards - activities.q_values.gather(1, actions[:, None])[:, 0]
    q_net.learn(activities, actions, rpe, policy.feedback, rate=0.7 / num_trials)
    for key, after in q_net.named_parameters():
        step = 0.7 * weights[key].grad
        assert num_trials == 1 or step.abs().max() > 1e-5
        torch.testing.assert_close(after, weights[key].detach() - step, rtol=0, atol=tolerance)


class Independent(nn.Module):
    """The paper's networks from PyTorch's layers, with the weights of ours."""

    def __init__(self, policy: DeepAGRELPolicy, name: str) -> None:
        super().__init__()
        self.name = name
        self.weights = nn.ParameterList(w.clone() for w in policy.q_net.weights)

    def forward(self, x: Tensor) -> Tensor:
        weights = list(self.weights)
        x = x.to(weights[0].dtype) / 255
        if self.name == "CnnPolicy":
            x = nn.functional.conv2d(x, weights.pop(0)).relu()
        elif self.name == "LocConPolicy":
            w = weights.pop(0)
            rows, columns = x.shape[2] - 2, x.shape[3] - 2
            places = [
                torch.einsum(
                    "byxc,yxcf->bf",
                    x[:, :, i : i + 3, j : j + 3].permute(0, 2, 3, 1),
                    w[i * columns + j].view(3, 3, x.shape[1], -1),
                )
                for i in range(rows)
                for j in range(columns)
            ]
            x = torch.stack(places, 2).unflatten(2, (rows, columns)).relu()
        if self.name != "MlpPolicy":
            x = nn.functional.conv2d(x, weights.pop(0), stride=2, padding=1).relu()
        x = x.permute(0, 2, 3, 1).flatten(1)
        for w in weights[:-1]:
            x = nn.functional.linear(x, w).relu()
        return nn.functional.linear(x, weights[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", POLICIES)
def test_learning_from_outside(name, dtype):
    """Every update of a run, from what a callback saw, against another implementation."""
    learner = model(name, policy_kwargs={"dropout": [0.0] * (2 if name == "MlpPolicy" else 4)})
    learner.policy.to(dtype)
    recorder = Recorder()
    learner.learn(60, recorder)
    assert len(recorder.steps) == 6
    for step in recorder.steps:
        twin = Independent(learner.policy, name)
        for weight, before in zip(twin.weights, step["before"], strict=True):
            weight.data = torch.from_numpy(before)
        twin.requires_grad_()
        q_values = twin(torch.from_numpy(step["observations"]))
        q_chosen = q_values.gather(1, torch.from_numpy(step["actions"])[:, None])[:, 0]
        (0.5 * (torch.from_numpy(step["rewards"]) - q_chosen) ** 2).mean().backward()
        tolerance = 1e-12 if dtype is torch.float64 else 1e-6
        for weight, after in zip(twin.weights, step["after"], strict=True):
            expected = (weight - 0.1 * weight.grad).detach().numpy()
            np.testing.assert_allclose(after, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", POLICIES)
def test_dropped_units_neither_act_nor_learn(name):
    q_net = new_policy(name, dropout=[0.5] * (2 if name == "MlpPolicy" else 4)).q_net
    masks = q_net.draw_masks(3000, torch.Generator().manual_seed(0))
    for mask in masks:
        assert set(mask.unique().tolist()) == {0.0, 2.0}
        assert (mask == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    x = torch.randint(256, (3000, 2, 7, 6), dtype=torch.uint8)
    activities = q_net.activities(x, masks)
    for units, mask in zip(activities.units[1:], masks, strict=True):
        assert not units[mask == 0].any()
    silent = next(iter(q_net.draw_masks(1, None)))
    assert silent.shape[1:] == q_net.layers[0].output_shape


def test_dropout_of_the_paper():
    policy = new_policy("CnnPolicy", (1, 28, 28), hidden_sizes=None, num_filters=32)
    assert policy.dropout == (0.0, 0.8, 0.0, 0.3)
    sizes = [int(np.prod(layer.output_shape)) for layer in policy.q_net.layers]
    assert sizes == [21632, 5408, 1000, 500, 4]
    masks = policy.q_net.draw_masks(20, torch.Generator().manual_seed(0))
    assert masks[0] is masks[2] is None
    assert (masks[1] == 0).float().mean().item() == pytest.approx(0.8, abs=0.01)
    cifar = new_policy("LocConPolicy", (3, 32, 32), hidden_sizes=None, num_filters=32)
    sizes = [int(np.prod(layer.output_shape)) for layer in cifar.q_net.layers]
    assert sizes == [28800, 7200, 1000, 500, 4]


def test_defaults_of_the_paper():
    mlp = DeepAGREL("MlpPolicy", vector_env(), batch_size=10, device="cpu", seed=0)
    assert [w.shape[0] for w in mlp.policy.q_net.weights] == [1500, 1000, 500, 3]
    for w in mlp.policy.q_net.weights:
        assert 0.049 < w.abs().max() <= 0.05
    cnn = DeepAGREL("CnnPolicy", vector_env(), batch_size=10, device="cpu", seed=0)
    for w in cnn.policy.q_net.weights[1:]:
        assert 0.0195 < w.abs().max() <= 0.02
    assert not any(p.requires_grad for p in mlp.policy.q_net.parameters())


def test_weight_decay_and_skipping():
    """Trials with a small RPE count as nothing, but the batch stays as large."""
    learner = model(weight_decay=0.3, skip_below=0.4)
    learner.policy.double()
    recorder = Recorder()
    learner.learn(50, recorder)
    left_out = 0
    for step in recorder.steps:
        weights = {
            key: torch.from_numpy(w).requires_grad_()
            for (key, _), w in zip(
                learner.policy.q_net.named_parameters(), step["before"], strict=True
            )
        }
        actions, r = torch.from_numpy(step["actions"]), torch.from_numpy(step["rewards"])
        q_values = functional_call(
            learner.policy.q_net, weights, (torch.from_numpy(step["observations"]),)
        )
        rpe = r - q_values.gather(1, actions[:, None])[:, 0]
        learned = rpe.abs() > 0.4
        left_out += (~learned).sum()
        (0.5 * rpe**2 * learned).mean().backward()
        for w, after in zip(weights.values(), step["after"], strict=True):
            expected = (1 - 0.1 * 0.3) * w.detach() - 0.1 * w.grad
            np.testing.assert_allclose(after, expected, rtol=0, atol=1e-12)
    assert 0 < left_out < 50


@pytest.mark.parametrize("name", POLICIES)
def test_a_batch_without_anything_to_learn(name):
    learner = model(name, skip_below=100.0, weight_decay=0.5)
    before = [w.clone() for w in learner.policy.q_net.weights]
    learner.learn(20)
    for w, start in zip(learner.policy.q_net.weights, before, strict=True):
        torch.testing.assert_close(w, start * 0.95**2)


# ---------------------------------------------------------------------- feedback


@pytest.mark.parametrize("name", POLICIES)
def test_reciprocal_weights_keep_their_difference_but_for_decay(name):
    learner = model(name, weight_decay=0.2, policy_kwargs={"feedback": "reciprocal"})
    learner.policy.double()
    policy = learner.policy

    def difference() -> list[Tensor]:
        pairs = zip(policy.q_net.weights[1:], policy.feedback, strict=True)
        return [w - b for w, b in pairs]

    start = difference()
    weights = [w.clone() for w in policy.feedback]
    angles = policy.alignment()
    assert all(60 < angle < 120 for angle in angles)
    learner.learn(200)
    for w, before in zip(policy.feedback, weights, strict=True):
        assert (w - before * 0.98**20).abs().max() > 1e-4
    for now, before in zip(difference(), start, strict=True):
        torch.testing.assert_close(now, before * (1 - 0.1 * 0.2) ** 20, rtol=0, atol=1e-12)


def test_fixed_feedback_is_not_learned_but_carries():
    learner = model(policy_kwargs={"feedback": "fixed"})
    start = [w.clone() for w in learner.policy.feedback]
    first = learner.policy.q_net.weights[0].clone()
    learner.learn(100)
    for now, before in zip(learner.policy.feedback, start, strict=True):
        assert torch.equal(now, before)
    assert not torch.equal(learner.policy.q_net.weights[0], first)


def test_feedback_alignment_against_its_equations():
    """Eq. 6, 7 and 10 with w' of their own, trial by trial."""
    torch.manual_seed(0)
    policy = new_policy(feedback="fixed").double()
    u, v, w = (weight.clone() for weight in policy.q_net.weights)
    v_back, w_back = policy.feedback
    x = torch.randint(256, (5, 2, 7, 6), dtype=torch.uint8)
    actions, rpe = torch.randint(4, (5,)), torch.randn(5).double()
    activities = policy.q_net.activities(x)
    policy.q_net.learn(activities, actions, rpe, policy.feedback, rate=0.3)
    for trial in range(5):
        image = x[trial].permute(1, 2, 0).flatten().double() / 255
        s, delta = actions[trial], rpe[trial]
        y1 = (policy_u := activities.units[1][trial]).clamp(min=0)
        y2 = activities.units[2][trial]
        fb2 = w_back[s]
        fb1 = v_back.T @ ((y2 > 0) * fb2)
        w[s] += 0.3 * delta * y2
        v += 0.3 * delta * torch.outer((y2 > 0) * fb2, y1)
        u += 0.3 * delta * torch.outer((policy_u > 0) * fb1, image)
    for ours, theirs in zip(policy.q_net.weights, (u, v, w), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_tied_feedback_is_the_same_weights():
    policy = new_policy()
    pairs = zip(policy.feedback, policy.q_net.weights[1:], strict=True)
    assert all(b is w for b, w in pairs)
    assert policy.alignment() == [0.0, 0.0]


def test_alignment_is_the_angle():
    policy = new_policy(feedback="reciprocal")
    with torch.no_grad():
        policy.feedback[0].copy_(policy.q_net.weights[1])
        policy.feedback[1].copy_(-policy.q_net.weights[2])
    assert policy.alignment() == pytest.approx([0.0, 180.0], abs=0.1)


# ---------------------------------------------------------------------- choices


def test_max_boltzmann_frequencies():
    q_values = torch.tensor([0.5, 2.0, -1.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    count = 200_000
    chosen = choose(q_values.expand(count, 4), 0.3, generator)
    frequencies = torch.bincount(chosen, minlength=4) / count
    expected = 0.3 * q_values.softmax(0)
    expected[1] += 0.7
    torch.testing.assert_close(frequencies, expected, rtol=0, atol=0.005)
    assert (choose(q_values.expand(1000, 4), 0.0, generator) == 1).all()


def test_predict_is_greedy_if_asked():
    learner = model(epsilon=1.0)
    images, _ = vector_env(10, split="test").reset(seed=0)
    with torch.no_grad():
        best = learner.policy.q_net(torch.from_numpy(images)).argmax(1).numpy()
    for _ in range(5):
        np.testing.assert_array_equal(learner.predict(images, deterministic=True)[0], best)
    answers = {tuple(learner.predict(images)[0]) for _ in range(20)}
    assert len(answers) > 1
    assert learner.predict(images[0], deterministic=True)[0] == best[0]


# ---------------------------------------------------------------------- learning


def test_digits():
    """64-100-50-10 from reward alone; chance is 10 %."""
    learner = DeepAGREL(
        "MlpPolicy",
        DIGITS,
        learning_rate=1.0,
        batch_size=20,
        seed=0,
        device="cpu",
        policy_kwargs={"hidden_sizes": (100, 50), "init_range": 0.2},
    )
    learner.learn(20_000)
    test = learner.make_env(split="test")
    (count, *_) = test.get_attr("num_images")
    accuracy, _ = evaluate_policy(learner, test, n_eval_episodes=count, warn=False)
    assert accuracy > 0.9


@pytest.mark.parametrize("feedback", ["reciprocal", "fixed"])
def test_feedback_of_its_own_learns(feedback):
    learner = model(env=vector_env(), policy_kwargs={"feedback": feedback, "hidden_sizes": (40,)})
    learner.learn(6000)
    test = VectorEnvAdapter(vector_env(8, split="test"))
    accuracy, _ = evaluate_policy(learner, test, n_eval_episodes=31, warn=False)
    assert accuracy > 0.6


@pytest.mark.parametrize("name", ["CnnPolicy", "LocConPolicy"])
def test_convolutions_learn(name):
    kwargs = {"num_filters": 8, "hidden_sizes": (40, 20)}
    learner = model(name, policy_kwargs=kwargs | {"dropout": (0.0, 0.2, 0.0, 0.1)})
    learner.learn(8000)
    test = VectorEnvAdapter(vector_env(8, split="test"))
    accuracy, _ = evaluate_policy(learner, test, n_eval_episodes=31, warn=False)
    assert accuracy > 0.9


def test_single_trials_learn():
    learner = model(env=vector_env(1), batch_size=1, learning_rate=0.02)
    learner.learn(3000)
    assert learner.history[-1][1] > 0.6


def test_same_seed_same_weights_whatever_the_global_state():
    torch.manual_seed(1)
    a = model().learn(100)
    torch.manual_seed(2)
    b = model().learn(100)
    c = model(seed=1).learn(100)
    assert_same_weights(a, b)
    assert not torch.equal(a.policy.q_net.weights[0], c.policy.q_net.weights[0])


def test_few_environments_fill_a_batch():
    """Five steps of two environments make one update, with the weights of its beginning."""
    learner = model(env=vector_env(2), policy_kwargs={"dropout": (0.5, 0.0)})
    learner.policy.double()
    recorder = Recorder()
    learner.learn(35, recorder)
    assert learner.num_timesteps == 40
    assert learner._n_updates == 4
    changed = [not np.array_equal(step["before"][0], step["after"][0]) for step in recorder.steps]
    assert changed == [False, False, False, False, True] * 4


def test_accumulated_batch_equals_autograd():
    learner = model(env=vector_env(2), batch_size=6)
    learner.policy.double()
    recorder = Recorder()
    learner.learn(6, recorder)
    first, *_, last = recorder.steps
    weights = {
        key: torch.from_numpy(w).requires_grad_()
        for (key, _), w in zip(
            learner.policy.q_net.named_parameters(), first["before"], strict=True
        )
    }
    x, actions, r = (
        torch.from_numpy(np.concatenate([step[key] for step in recorder.steps]))
        for key in ("observations", "actions", "rewards")
    )
    loss_of(learner.policy.q_net, weights, x, actions, r).backward()
    for w, after in zip(weights.values(), last["after"], strict=True):
        expected = (w - 0.1 * w.grad).detach().numpy()
        np.testing.assert_allclose(after, expected, rtol=0, atol=1e-12)


class Features(gymnasium.Env[np.ndarray, Any]):
    """A bandit of somebody else: float features, two actions, rewards of −1 and 2."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.seen = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return self.seen, {}

    def step(self, action: Any) -> Any:
        reward = 2.0 if (self.seen[0] > 0) == bool(action) else -1.0
        return np.zeros(3, np.float32), reward, True, False, {}


@pytest.mark.parametrize("num_envs", [1, 5])
def test_other_bandits(num_envs):
    env = Features() if num_envs == 1 else DummyVecEnv([Features] * num_envs)
    learner = model(env=env, policy_kwargs={"hidden_sizes": (20,), "init_range": 0.5})
    learner.learn(4000)
    x = np.random.default_rng(0).uniform(-1, 1, (200, 3)).astype(np.float32)
    answers = learner.predict(x, deterministic=True)[0]
    assert ((x[:, 0] > 0) == answers).mean() > 0.9


def test_environment_of_an_id_without_vector_form():
    learner = DeepAGREL(
        "MlpPolicy",
        "CartPole-v1",
        batch_size=4,
        device="cpu",
        env_kwargs={"max_episode_steps": 1},
        policy_kwargs=SMALL["MlpPolicy"],
    )
    assert isinstance(learner.env, VecEnv)
    assert learner.n_envs == 4


def test_log(tmp_path):
    learner = model(tensorboard_log=str(tmp_path), policy_kwargs={"feedback": "reciprocal"})
    recorder = Recorder()
    learner.learn(300, recorder, log_interval=10)
    assert len(learner.history) == 3
    rewards = np.concatenate([step["rewards"] for step in recorder.steps])
    for i, (timesteps, reward_rate, accuracy, rpe) in enumerate(learner.history):
        assert timesteps == 100 * (i + 1)
        assert reward_rate == pytest.approx(rewards[100 * i : 100 * (i + 1)].mean())
        assert 0 <= accuracy <= 1
        assert 0 < rpe < 3
    events = EventAccumulator(str(tmp_path / "DeepAGREL_1")).Reload()
    tags = set(events.Tags()["scalars"])
    assert {
        "rollout/ep_rew_mean",
        "train/accuracy",
        "train/mean_abs_rpe",
        "train/learned",
        "weights/norm_1",
        "feedback/angle_2",
    } <= tags


def test_false_stops_and_progress_bar_runs(capsys):
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 4

    learner = model().learn(1000, Stop(), progress_bar=True)
    assert learner.num_timesteps == 40


# ---------------------------------------------------------------------- early stopping


def test_early_stopping_restores_the_best(monkeypatch):
    learner = DeepAGREL(
        "CnnPolicy",
        IMAGES,
        batch_size=10,
        learning_rate=0.1,
        seed=0,
        device="cpu",
        env_kwargs={"data": DATA, "num_validation": 20},
        policy_kwargs=SMALL["CnnPolicy"],
    )
    accuracies = iter([0.1, 0.3, 0.3, 0.2, 0.1, 0.9])
    kept: list[list[Tensor]] = []

    def measure(*_: Any, **kwargs: Any) -> tuple[float, float]:
        assert kwargs["n_eval_episodes"] == 20
        kept.append([w.clone() for w in learner.policy.q_net.weights])
        return next(accuracies), 0.0

    monkeypatch.setattr("agents.deepagrel.early_stopping.evaluate_policy", measure)
    stopping = EarlyStopping(patience=3)
    learner.learn(10_000, stopping)
    assert (stopping.best_epoch, stopping.stopped_epoch) == (2, 5)
    assert stopping.best_accuracy == 0.3
    assert learner.num_timesteps == 5 * 40
    for w, best in zip(learner.policy.q_net.weights, kept[1], strict=True):
        assert torch.equal(w, best)
        assert w.stride() == best.stride()
    learner.learn(80, reset_num_timesteps=False)
    assert not torch.equal(learner.policy.q_net.weights[0], kept[1][0])


def test_early_stopping_measures_held_out_images():
    env = VectorEnvAdapter(vector_env(4, split="validation"))
    learner = model()
    stopping = EarlyStopping(env)
    learner.learn(120, stopping)
    assert len(stopping.accuracies) == 3
    learner.restore_best_weights()
    images, info = vector_env(20, split="validation").reset()
    answers = learner.predict(images, deterministic=True)[0]
    assert stopping.best_accuracy == pytest.approx((answers == info["label"]).mean())


def of_an_id(batch_size: int = 10, **kwargs: Any) -> DeepAGREL:
    """Forty training images are an epoch, twenty are held out."""
    return DeepAGREL(
        "MlpPolicy",
        IMAGES,
        batch_size=batch_size,
        learning_rate=0.1,
        seed=0,
        device="cpu",
        env_kwargs={"data": DATA, "num_validation": 20} | kwargs,
        policy_kwargs=SMALL["MlpPolicy"],
    )


class StopAt(BaseCallback):
    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps

    def _on_step(self) -> bool:
        return self.num_timesteps < self.timesteps


@pytest.mark.parametrize("before", [0, 130])
def test_early_stopping_goes_on_after_loading(before, tmp_path):
    def begun() -> DeepAGREL:
        return of_an_id().learn(before)

    def learn(learner: DeepAGREL, *callbacks: BaseCallback) -> DeepAGREL:
        timesteps = before + 400 - learner.num_timesteps
        stopping = EarlyStopping(patience=50)
        return learner.learn(timesteps, [stopping, *callbacks], reset_num_timesteps=False)

    whole = learn(begun())
    # Within the first epoch, then within the fourth.
    learn(begun(), StopAt(before + 20)).save(tmp_path / "model")
    learn(DeepAGREL.load(tmp_path / "model", device="cpu"), StopAt(before + 130)).save(
        tmp_path / "model"
    )
    second = learn(DeepAGREL.load(tmp_path / "model", device="cpu"))
    assert second.held_out_accuracies == whole.held_out_accuracies
    assert len(whole.held_out_accuracies) == 10
    assert_same_weights(second, whole)


def test_early_stopping_counts_the_epochs_that_it_attends(monkeypatch):
    learner = of_an_id()
    measured = []

    def measure(*_: Any, **__: Any) -> tuple[float, float]:
        measured.append(learner.num_timesteps)
        return 0.5, 0.0

    monkeypatch.setattr("agents.deepagrel.early_stopping.evaluate_policy", measure)
    learner.learn(800)
    stopping = EarlyStopping(patience=5)
    learner.learn(100, stopping, reset_num_timesteps=False)
    learner.learn(200, reset_num_timesteps=False)
    learner.learn(800, stopping, reset_num_timesteps=False)
    assert measured == [840, 880, 1140, 1180, 1220, 1260]
    assert (stopping.best_epoch, stopping.stopped_epoch) == (1, 6)
    learner.learn(80, EarlyStopping())
    assert measured[6:] == [40, 80]


def test_early_stopping_refuses_environments_that_show_the_same_images():
    def make() -> Any:
        kwargs = {"data": DATA, "num_validation": 20, "split": "validation"}
        return gymnasium.make(IMAGES, disable_env_checker=True, **kwargs)

    several = DummyVecEnv([make] * 4)
    for given in ({"eval_env": several}, {"test_env": VecMonitor(several)}):
        with pytest.raises(ValueError, match=r"VectorEnvAdapter\(gymnasium.make_vec"):
            EarlyStopping(**given)
    learner, alone = of_an_id(), EarlyStopping(DummyVecEnv([make]))
    learner.learn(40, alone)
    images, info = vector_env(20, split="validation").reset()
    answers = learner.predict(images, deterministic=True)[0]
    assert alone.accuracies == [pytest.approx((answers == info["label"]).mean())]


@pytest.mark.parametrize(("batch_size", "order"), [(30, "shuffled"), (7, "random"), (40, None)])
def test_held_out_images_are_each_shown_once(batch_size, order):
    """Whatever the order in learning, and fewer than a batch though they be."""
    learner = of_an_id(batch_size, order=order)
    stopping = EarlyStopping()
    learner.learn(40, stopping)
    images, info = vector_env(20, split="validation").reset()
    answers = learner.predict(images, deterministic=True)[0]
    assert stopping.accuracies[0] == pytest.approx((answers == info["label"]).mean())
    shown: list[int] = []
    env = learner.make_evaluation_env("test")

    def look(found: dict[str, Any], _: dict[str, Any]) -> None:
        shown.append(found["info"]["index"])

    evaluate_policy(learner, env, n_eval_episodes=31, callback=look, warn=False)
    assert sorted(shown) == list(range(31))


def test_a_step_is_no_longer_than_an_epoch():
    with pytest.raises(ValueError, match=r"longer than an epoch of 40; use .* smaller batch_size"):
        of_an_id(50).learn(100, EarlyStopping())


# ---------------------------------------------------------------------- saving


@pytest.mark.parametrize("feedback", ["tied", "reciprocal"])
@pytest.mark.parametrize("name", POLICIES)
def test_goes_on_bit_for_bit(tmp_path, name, feedback):
    def new() -> DeepAGREL:
        return model(name, policy_kwargs={"feedback": feedback}, epsilon=0.3, weight_decay=0.01)

    whole = new().learn(500, log_interval=7)
    first = new().learn(230, log_interval=7)
    first.save(tmp_path / "model")
    torch.manual_seed(99)
    second = DeepAGREL.load(tmp_path / "model", env=vector_env(), device="cpu")
    assert_same_weights(second, first)
    second.learn(270, log_interval=7, reset_num_timesteps=False)
    assert second.num_timesteps == whole.num_timesteps == 500
    assert_same_weights(second, whole)
    assert second.history == whole.history


def test_a_checkpoint_within_a_batch_goes_on_bit_for_bit(tmp_path):
    def new() -> DeepAGREL:
        return model("CnnPolicy", vector_env(2), batch_size=10)

    whole = new().learn(100)
    new().learn(100, CheckpointCallback(23, str(tmp_path), "at"))
    second = DeepAGREL.load(tmp_path / "at_46_steps", env=vector_env(2), device="cpu")
    assert len(second._unlearned) == 3
    second.learn(54, reset_num_timesteps=False)
    assert_same_weights(second, whole)


def test_state_of_a_bandit_is_for_its_equal():
    env = vector_env(4)
    env.reset(seed=3)
    env.step(np.zeros(4, dtype=np.int64))
    state = env.get_state()
    going_on = vector_env(4)
    going_on.set_state(state)
    for _ in range(40):
        answers = np.zeros(4, dtype=np.int64)
        for ours, theirs in zip(env.step(answers)[:2], going_on.step(answers)[:2], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="with num_envs=4, and this one has num_envs=5"):
        vector_env(5).set_state(state)


def test_environment_that_cannot_be_taken_up_is_reset(tmp_path):
    learner = model(env=DummyVecEnv([Features] * 2)).learn(20)
    learner.save(tmp_path / "model.zip")
    again = DeepAGREL.load(tmp_path / "model", env=DummyVecEnv([Features] * 2), device="cpu")
    assert again._last_obs is None
    again.learn(20, reset_num_timesteps=False)
    assert again.num_timesteps == 40


def test_loaded_without_environment_predicts(tmp_path):
    learner = model("LocConPolicy").learn(20)
    learner.save(tmp_path / "model")
    again = DeepAGREL.load(tmp_path / "model", device="cpu")
    images = DATA[2]
    np.testing.assert_array_equal(
        learner.predict(images, deterministic=True)[0], again.predict(images, deterministic=True)[0]
    )
    with pytest.raises(ValueError, match="set_env"):
        again.learn(10)
    again.set_env(vector_env())
    assert again.learn(10).num_timesteps == 10


def test_nothing_is_answered_to_nan():
    policy = model().policy
    with pytest.raises(ValueError, match="look for NaN in the observation"):
        policy.predict(np.full(DATA[2].shape, np.nan, np.float32))


@pytest.mark.parametrize("name", POLICIES)
def test_policy_alone_saves_and_loads(tmp_path, name):
    policy = new_policy(name, feedback="reciprocal", mean=(20.0, 30.0), std=4.0, epsilon=0.4)
    policy.save(str(tmp_path / "policy"))
    again = CLASSES[name].load(str(tmp_path / "policy"), device="cpu")
    for ours, theirs in zip(policy.state_dict().items(), again.state_dict().items(), strict=True):
        assert ours[0] == theirs[0]
        assert torch.equal(ours[1], theirs[1])
    assert (again.epsilon, again.feedback_kind) == (0.4, "reciprocal")
    vector = policy.parameters_to_vector()
    again.load_from_vector(0 * vector)
    assert not again.parameters_to_vector().any()
    again.load_from_vector(vector)
    np.testing.assert_array_equal(again.parameters_to_vector(), vector)


def test_broken_file(tmp_path):
    (tmp_path / "model.zip").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be continued here"):
        DeepAGREL.load(tmp_path / "model", device="cpu")
    with pytest.raises(FileNotFoundError):
        DeepAGREL.load(tmp_path / "none", device="cpu")


# ---------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be a finite number above 0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 must be"),
        ({"batch_size": 0}, "batch_size=0 must be a whole number of at least 1"),
        ({"batch_size": 15}, "batch_size=15 is not a multiple of the 10 environments"),
        ({"epsilon": 1.5}, "epsilon=1.5 must be a number from 0 to 1"),
        ({"epsilon": float("nan")}, "epsilon=nan must be"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must be"),
        ({"skip_below": -0.1}, "skip_below=-0.1 must be"),
        ({"seed": -1}, "seed=-1 must be"),
        ({"device": "cuda:99"}, "device='cuda:99' cannot be used here"),
        ({"env_kwargs": {"split": "train"}}, "env_kwargs are for an environment id"),
        ({"policy_kwargs": {"feedback": "none"}}, "feedback='none' is not one of 'tied'"),
        ({"policy_kwargs": {"hidden_sizes": ()}}, "must name at least one layer"),
        ({"policy_kwargs": {"hidden_sizes": (0,)}}, "must be a whole number"),
        ({"policy_kwargs": {"dropout": (0.5,)}}, "must be a tuple of 2"),
        ({"policy_kwargs": {"dropout": (0.5, 1.0)}}, "dropout=1.0 must be"),
        ({"policy_kwargs": {"init_range": 0}}, "init_range=0 must be"),
        ({"policy_kwargs": {"std": 0}}, "std=0 must be finite and above 0"),
        ({"policy_kwargs": {"mean": (1, 2, 3)}}, "mean has 3 values; give one"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message) as error:
        model(**kwargs)
    assert "\n" not in str(error.value)


def test_bad_policies_and_environments():
    with pytest.raises(ValueError, match="'MlpPolicy', 'CnnPolicy', 'LocConPolicy'"):
        DeepAGREL("MlpPolcy", vector_env(), batch_size=10)
    with pytest.raises(ValueError, match="network of its own kind"):
        DeepAGREL(PPO.policy_aliases["MlpPolicy"], vector_env(), batch_size=10)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="did you mean 'hidden_sizes'"):
        model(policy_kwargs={"hiden_sizes": (3,)})
    with pytest.raises(ValueError, match="must be a Discrete that starts at 0"):
        model(env="Pendulum-v1")
    with pytest.raises(ValueError, match="at least 3 × 3 pixels"):
        new_policy("CnnPolicy", (1, 2, 9))
    with pytest.raises(ValueError, match="use MlpPolicy"):
        new_policy("LocConPolicy", (5,))
    with pytest.raises(ValueError, match="must be odd"):
        new_policy("CnnPolicy", filter_size=2)
    with pytest.raises(ValueError, match="not a multiple of the 10 environments"):
        DeepAGREL("MlpPolicy", vector_env(), batch_size=5)


def test_an_id_with_its_module():
    learner = DeepAGREL(
        "MlpPolicy",
        "credit_envs:ClassificationBandit-Digits-v0",
        batch_size=5,
        policy_kwargs={"hidden_sizes": (4,)},
    )
    assert learner.learn(10).n_envs == 5


def test_longer_episodes_are_refused():
    learner = model(env="CartPole-v1")
    with pytest.raises(ValueError, match="every step must end its episode"):
        learner.learn(10)
    short = make_vec_env(lambda: TimeLimit(gymnasium.make("CartPole-v1"), 1), n_envs=10)
    assert model(env=short).learn(20).num_timesteps == 20


@pytest.mark.parametrize("log_interval", [1, 1000])
def test_divergence_is_reported(log_interval):
    learner = model(learning_rate=1e6)
    with pytest.raises(FloatingPointError, match=r"diverged at .* use a smaller one"):
        learner.learn(1000, log_interval=log_interval)


def test_early_stopping_without_knowing_how_long():
    with pytest.raises(ValueError, match="not given by its id"):
        model().learn(10, EarlyStopping())
    with pytest.raises(ValueError, match="patience=0"):
        EarlyStopping(patience=0)
    features = DummyVecEnv([Features] * 10)
    with pytest.raises(ValueError, match="give EarlyStopping num_eval_trials"):
        model(env=features).learn(10, EarlyStopping(features))


def test_the_rate_of_a_last_batch_beyond_the_total_is_not_negative():
    rates = []

    def schedule(progress):
        rates.append(0.1 * progress)
        return rates[-1]

    model(env=DummyVecEnv([Features]), learning_rate=schedule).learn(11)
    assert len(rates) > 1
    assert min(rates) >= 0


def test_another_learner_is_not_taken_up(tmp_path):
    model().save(tmp_path / "model")
    with pytest.raises(ValueError, match="saved by DeepAGREL, this is ErrorBackprop"):
        ErrorBackprop.load(tmp_path / "model", device="cpu")


def test_what_learns_over_several_steps_keeps_what_was_shown():
    def weights(copy):
        env = SyncVectorEnv(
            [lambda: gymnasium.make("ClassificationBandit-Digits-v0")] * 2,
            copy=copy,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        return model(env=env, batch_size=4).learn(40).policy.q_net.weights[0]

    assert torch.equal(weights(copy=True), weights(copy=False))
