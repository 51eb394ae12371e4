"""Misuse: one clear error that names the fix."""

import re

import gymnasium
import numpy as np
import pytest
import torch

import credit_envs

of_every_family = pytest.mark.parametrize("env_id", credit_envs.environment_ids())
every_id = pytest.mark.parametrize("env_id", credit_envs.environment_ids("CreditAssign"))

GAUSSIAN, MULTI, CART, PENDULUM, IMAGES = (
    f"CreditAssign-{name}-v0"
    for name in ("Gaussian", "MultiGaussian", "CartPole", "Pendulum", "Images")
)


# --- Making environments


def test_unknown_id_suggests_one():
    with pytest.raises(gymnasium.error.NameNotFound, match="Did you mean: `CreditAssign-MNIST`"):
        gymnasium.make("CreditAssign-MNISTT-v0")


@every_id
@pytest.mark.parametrize("kind", ["scalar", "vector"])
def test_unknown_keyword_suggests_the_nearest(make, make_vec, env_id, kind):
    with pytest.raises(
        TypeError, match=r"keyword argument 'num_update'; did you mean 'num_updates'"
    ):
        make(env_id, num_update=3) if kind == "scalar" else make_vec(env_id, 2, num_update=3)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'xyzzy'(?!; did you mean)"):
        make(env_id, xyzzy=3) if kind == "scalar" else make_vec(env_id, 2, xyzzy=3)


def test_keyword_of_another_kind_of_environment():
    with pytest.raises(TypeError, match="GaussianEnv got an unexpected keyword argument 'horizon'"):
        gymnasium.make(GAUSSIAN, horizon=3)


EVERYWHERE = [
    ("num_updates", 0, "whole number of at least 1"),
    ("num_updates", 2.5, "whole number of at least 1"),
    ("num_updates", True, "whole number of at least 1"),
    ("num_updates", "3", "whole number of at least 1"),
    ("credit_scale", 0, "finite number above 0"),
    ("credit_scale", float("nan"), "finite number above 0"),
    ("credit_scale", "large", "finite number above 0"),
    ("reward", "progres", "'progress', 'final'; did you mean 'progress'?"),
    ("reward", None, "'progress', 'final'"),
    ("device", "gpu", "use 'cpu' or a device PyTorch sees"),
    ("device", "cuda:99", "use 'cpu' or a device PyTorch sees"),
    ("device", 1.5, "use 'cpu' or a device PyTorch sees"),
    # From which nothing can be read back.
    ("device", "meta", "use 'cpu' or a device PyTorch sees"),
]


@every_id
@pytest.mark.parametrize(("name", "value", "message"), EVERYWHERE)
def test_settings_of_all_environments(make, make_vec, env_id, name, value, message):
    pattern = f"{name}={re.escape(repr(value))} .*{re.escape(message)}"
    with pytest.raises(ValueError, match=pattern):
        make(env_id, **{name: value})
    with pytest.raises(ValueError, match=pattern):
        make_vec(env_id, 2, **{name: value})


@of_every_family
def test_number_of_networks(make_vec, env_id):
    with pytest.raises(ValueError, match="num_envs=0 must be a whole number of at least 1"):
        make_vec(env_id, 0)


@of_every_family
def test_render_mode(make_vec, env_id):
    with pytest.raises(ValueError, match="render_mode='rgb' is not one of 'rgb_array'"):
        make_vec(env_id, 2, render_mode="rgb")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("horizon", 0, "whole number of at least 1"),
        ("hidden_sizes", (4, 0), "whole number of at least 1"),
        ("hidden_sizes", "4", "whole number of at least 1"),
        ("init_stdev", -1.0, "finite number above 0"),
        ("weight_decay", 1.0, "at least 0 and below 1"),
        ("reward_scale", 0, "finite number above 0"),
        ("reward_scale", None, "finite number above 0"),
        ("switch_after", 0, "whole number of at least 1"),
        ("switch_after", 2, "take the environment with a reversed motor, or give several"),
    ],
)
@pytest.mark.parametrize("env_id", [CART, PENDULUM])
def test_settings_of_control(make, env_id, name, value, message):
    with pytest.raises(ValueError, match=f"{name}=.*{message}"):
        make(env_id, **{name: value})


@pytest.mark.parametrize("name", ["pole_mass", "pole_length"])
def test_settings_of_cartpole(make, name):
    with pytest.raises(ValueError, match=f"{name}=.*finite number above 0"):
        make(CART, **{name: (0.1, 0.0)})


def test_poles_too_short_for_the_time_step(make):
    with pytest.raises(ValueError, match=r"pole_length=\(0.001, 0.5\) must be at least 0.01 m"):
        make(CART, pole_length=(0.001, 0.5))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gravity", 0, "finite number above 0"),
        ("gravity", (10, -1), "finite number above 0"),
        ("gravity", "low", "finite number above 0"),
        ("gravity", (), "at least one number"),
        ("mass", 0, "finite number above 0"),
    ],
)
def test_settings_of_pendulum(make, name, value, message):
    with pytest.raises(ValueError, match=f"{name}=.*{message}"):
        make(PENDULUM, **{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples=0 must be a whole number of at least 1"),
        ({"num_samples": 61}, "more than the 60 training images .* ask for at most 60"),
        ({"train_range": (0.5, 0.501)}, "more than the 0 training images .*; widen train_range"),
        (
            {"num_samples": 31, "train_range": (0, 0.5)},
            r"more than the 30 training images of Images in train_range=\(0, 0.5\)",
        ),
        ({"hidden_sizes": ()}, "must name at least one layer"),
        ({"hidden_sizes": (0,)}, "hidden_sizes=0 must be a whole number of at least 1"),
        ({"architecture": "rnn"}, "architecture='rnn' is not one of 'mlp', 'cnn', 'residual'"),
        ({"init": "zeros"}, "did you mean 'zero'"),
        ({"optimizer": "Adam"}, "did you mean 'adam'"),
        ({"learning_rate": -0.1}, "learning_rate=-0.1 must be a finite number above 0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must be a finite number of at least 0"),
        ({"weight_decay": float("nan")}, "weight_decay=nan must be a finite number of at least 0"),
        ({"weight_decay": "small"}, "weight_decay='small' must be a finite number of at least 0"),
        ({"max_grad_norm": 0}, "max_grad_norm=0 must be a finite number above 0"),
        ({"credit": "group"}, "did you mean 'groups'"),
        ({"credit": "groups", "credit_groups": 0}, "credit_groups=0 must be a whole number"),
        ({"credit": "groups", "credit_groups": (1, 2, 3)}, r"a number or \(rows, columns\)"),
        ({"credit": "groups", "credit_groups": 4}, "4 credit groups do not divide 6 neurons"),
        ({"credit": "groups", "credit_groups": (2, 2)}, "needs a square number of neurons"),
        ({"diffusion_sigma": 0.0}, "diffusion_sigma=0.0 must be a finite number above 0"),
        ({"score_on": "train"}, "score_on='train' is not one of 'test', 'validation'"),
        ({"score_on": "validation"}, "needs training images outside train_range"),
        (
            {"score_on": "validation", "train_range": (0, 0.999)},
            "leaves none of the 60 training images of Images for validation",
        ),
        (
            {"num_samples": 31, "loss_on": "held-out", "num_held_out": 1000},
            "31 beside num_held_out=1000 is more than the 60 .* hold fewer out",
        ),
        ({"evaluate_test": "no"}, "evaluate_test='no' is not one of True, False"),
        ({"train_range": (0.5, 0.2)}, "0 ≤ start < stop ≤ 1"),
        ({"train_range": 0.5}, "0 ≤ start < stop ≤ 1"),
        ({"train_range": ("0", "0.8")}, "0 ≤ start < stop ≤ 1"),
        ({"classes": (0,)}, "two or more different classes of Images, which has 0 to"),
        ({"data": None}, r"needs data=\(x_train, y_train, x_test, y_test\)"),
        ({"data": (1, 2)}, r"data=\(x_train, y_train, x_test, y_test\)"),
    ],
)
def test_settings_of_classification(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(IMAGES, **settings)


def test_built_in_data_take_no_arrays(make, image_arrays):
    with pytest.raises(ValueError, match="only it takes data"):
        make("CreditAssign-Digits-v0", data=image_arrays)


# --- Resetting


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        (GAUSSIAN, {"positon": (0, 0)}, "'positon' is not one of .*did you mean 'position'"),
        (CART, {"position": (0, 0)}, "reset option='position' is not one of 'task'"),
        (GAUSSIAN, {"position": (0, 0, 0)}, r"finite coordinates \(x, y\)"),
        (GAUSSIAN, {"position": (0, np.nan)}, r"finite coordinates \(x, y\)"),
        (GAUSSIAN, {"position": "here"}, r"finite coordinates \(x, y\)"),
        (GAUSSIAN, {"task": 1}, r"an index from 0 to 0 \(gaussian\)"),
        (MULTI, {"task": 2}, r"an index from 0 to 1 \(first, second\)"),
        (MULTI, {"task": -1}, "an index from 0 to 1"),
        (MULTI, {"task": "first"}, "an index from 0 to 1"),
        (MULTI, {"task": [0, 1, 0]}, "an index from 0 to 1"),
        ("CreditAssign-ReversedCartPole-v0", {"task": 2}, r"\(normal, reversed\)"),
        ("CreditAssign-ReversedPendulum-v0", {"task": 2}, r"\(normal, reversed\)"),
        (PENDULUM, {"task": 1}, r"an index from 0 to 0 \(normal\)"),
        (IMAGES, {"task": 1}, r"an index from 0 to 0 \(classification\)"),
    ],
)
def test_reset_options(make, make_vec, env_id, options, message):
    with pytest.raises(ValueError, match=message):
        make(env_id).reset(options=options)
    env = make_vec(env_id, 2)
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
    with pytest.raises(ValueError, match=message):
        env.reset_tensors([0, 1], **options)


@every_id
def test_seeds(make_vec, env_id):
    env = make_vec(env_id, 2)
    for reset in (lambda seed: env.reset(seed=seed), env.reset_tensors):
        with pytest.raises(ValueError, match="3 seeds for 2 networks; give one seed, or one for"):
            reset([1, 2, 3])
        for seeds in (-1, [0, -1], [0, 2**63], [0.5, 1.0], ["a", "b"], 1.5, True, [[1], [2]]):
            with pytest.raises(ValueError, match=r"a whole number from 0 to 2\*\*63 - 1"):
                reset(seeds)


# --- Stepping


@every_id
def test_action_of_another_shape(make, make_vec, env_id):
    env, vector = make(env_id).unwrapped, make_vec(env_id, 2)
    env.reset(seed=0)
    vector.reset(seed=0)
    shape = env.action_space.shape
    with pytest.raises(ValueError, match=rf"shape \(3,\); make it {re.escape(str(shape))}"):
        env.step(np.zeros(3, dtype=np.float32))
    for wrong in (shape, (1, *shape)):
        message = re.escape(f"shape {wrong}; make it {(2, *shape)}")
        with pytest.raises(ValueError, match=message):
            vector.step(np.zeros(wrong, dtype=np.float32))
        with pytest.raises(ValueError, match=message):
            vector.step_tensors(torch.zeros(wrong))


@every_id
def test_credits_in_double_precision_are_those_in_single(make_vec, env_id):
    env = make_vec(env_id, 2)
    steps = []
    for dtype in (torch.float32, torch.float64):
        env.reset_tensors([0, 1])
        step = env.step_tensors(torch.full(env.action_space.shape, 0.5, dtype=dtype))
        steps.append([step.observation.clone(), step.reward])
    for single, double in zip(*steps, strict=True):
        assert single.dtype == double.dtype
        assert torch.equal(single, double)


@every_id
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_action_that_is_not_finite(make, make_vec, env_id, value):
    env, vector = make(env_id).unwrapped, make_vec(env_id, 2)
    env.reset(seed=0)
    before, _ = vector.reset(seed=0)
    action = np.zeros(vector.action_space.shape, dtype=np.float32)
    action[1].flat[0] = value
    with pytest.raises(ValueError, match="NaN or infinite values; make every credit finite"):
        env.step(action[1])
    with pytest.raises(ValueError, match="NaN or infinite values; make every credit finite"):
        vector.step(action)
    np.testing.assert_array_equal(vector.task.observe(), before)


@every_id
def test_step_before_reset(make, make_vec, env_id):
    env, vector = make(env_id).unwrapped, make_vec(env_id, 2)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        env.step(env.action_space.sample())
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        vector.step(vector.action_space.sample())
    with pytest.raises(RuntimeError, match=r"call reset_tensors\(\) before step_tensors\(\)"):
        vector.step_tensors(torch.zeros(vector.action_space.shape))


@every_id
def test_step_after_the_end(make, make_vec, env_id):
    env, vector = make(env_id).unwrapped, make_vec(env_id, 2)
    env.reset(seed=0)
    vector.reset_tensors([0, 1])
    for _ in range(vector.num_updates):
        env.step(env.action_space.sample())
        vector.step_tensors(torch.zeros(vector.action_space.shape))
    with pytest.raises(RuntimeError, match=r"this life is over: call reset\(\)"):
        env.step(env.action_space.sample())
    with pytest.raises(RuntimeError, match=r"call reset_tensors\(\) before step_tensors\(\)"):
        vector.step_tensors(torch.zeros(vector.action_space.shape))
