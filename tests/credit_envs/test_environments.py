"""Every registered environment: contracts of Gymnasium and SB3; lives, rewards, divergence."""

import copy
import json
import pickle
import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common import env_checker as sb3_env_checker

import credit_envs
from credit_envs.environment import CreditAssignEnv, CreditAssignVectorEnv

of_every_family = pytest.mark.parametrize("env_id", credit_envs.environment_ids())
every_id = pytest.mark.parametrize("env_id", credit_envs.environment_ids("CreditAssign"))
every_reward = pytest.mark.parametrize("reward", ["progress", "final"])


def assert_equal(a: Any, b: Any, exact: bool = False) -> None:
    """Equality of what environments return; of floats up to the order of summation."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = tuple(a.values()), tuple(b[key] for key in a)
    if isinstance(a, tuple):
        for one, other in zip(a, b, strict=True):
            assert_equal(one, other, exact)
        return
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind == "f" and not exact:
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(a, b)


def row(info: dict[str, Any], i: int) -> dict[str, Any]:
    """The info of environment i, by Gymnasium's convention of arrays and masks."""
    return {
        key: row(values, i) if isinstance(values, dict) else values[i]
        for key, values in info.items()
        if not key.startswith("_") and info[f"_{key}"][i]
    }


def actions_for(env: CreditAssignVectorEnv, steps: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (steps, *env.action_space.shape)).astype(np.float32)


# --- The contracts of others


@of_every_family
def test_gymnasium_check(make, env_id):
    env = make(env_id)
    with warnings.catch_warnings():
        # Unbounded observations are meant; warnings in other words are errors.
        warnings.filterwarnings("error", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*Box observation space m.*imum value is.*")
        check_env(env.unwrapped)


@of_every_family
def test_stable_baselines3_check(make, env_id):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*unconventional shape.*")
        warnings.filterwarnings("ignore", message=".*minimal resolution for an image is 36x36.*")
        sb3_env_checker.check_env(make(env_id).unwrapped)


@of_every_family
def test_spec_goes_through_json_and_pickle(make, env_id):
    spec = make(env_id).spec
    if "data" not in spec.kwargs:
        again = EnvSpec.from_json(spec.to_json())
        assert json.loads(again.to_json()) == json.loads(spec.to_json())
        gymnasium.make(again).reset(seed=0)
    gymnasium.make(pickle.loads(pickle.dumps(spec))).reset(seed=0)


@of_every_family
def test_page_has_every_section(env_id):
    spec = gymnasium.spec(env_id)
    for entry_point in (spec.entry_point, spec.vector_entry_point):
        page = gymnasium.envs.registration.load_env_creator(entry_point).__doc__
        for section in [
            "Description",
            "Action Space",
            "Observation Space",
            "Rewards",
            "Starting State",
            "Episode End",
            "Information",
            "Arguments",
            "Vectorized environment",
            "Version History",
        ]:
            assert f"## {section}\n" in page


def test_ids_by_family():
    ids = credit_envs.environment_ids()
    assert len(set(ids)) == len(ids)
    for family in ("CreditAssign", "ClassificationBandit"):
        assert credit_envs.environment_ids(family) == [i for i in ids if i.startswith(family)]
    with pytest.raises(ValueError, match="did you mean 'ClassificationBandit'"):
        credit_envs.environment_ids("Classification")


def test_made_without_prior_import():
    code = (
        "import gymnasium\n"
        "env = gymnasium.make('credit_envs:CreditAssign-Gaussian-v0')\n"
        "print(env.reset(seed=0)[0].shape)\n"
        "envs = gymnasium.make_vec('credit_envs:CreditAssign-CartPole-v0', num_envs=2)\n"
        "print(envs.reset(seed=0)[0].shape)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["(2,)", "(2, 200, 7)"]


@of_every_family
def test_make_vec_makes_ours_or_gymnasiums(make_vec, small_settings, env_id):
    assert make_vec(env_id, 2).metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    sync = gymnasium.make_vec(
        env_id, num_envs=2, vectorization_mode="sync", **small_settings(env_id)
    )
    assert isinstance(sync, SyncVectorEnv)
    sync.reset(seed=0)
    sync.step(sync.action_space.sample())


# --- Lives


@every_id
def test_same_seed_same_everything(make_vec, env_id):
    first, second = make_vec(env_id, 3), make_vec(env_id, 3)
    second.reset(seed=99)
    second.step(second.action_space.sample())
    assert_equal(first.reset(seed=5), second.reset(seed=5), exact=True)
    for action in actions_for(first, 8):
        assert_equal(first.step(action), second.step(action), exact=True)


@every_id
def test_one_integer_seed_is_successive_lives(make_vec, env_id):
    a, b = make_vec(env_id, 3), make_vec(env_id, 3)
    np.testing.assert_array_equal(a.reset(seed=7)[0], b.reset(seed=[7, 8, 9])[0])


@every_id
def test_lives_follow_each_other(make_vec, env_id):
    """Without a seed: entropy at first, then the life that follows; in lists None alike."""
    env, other = make_vec(env_id, 2), make_vec(env_id, 2)
    env.reset(seed=[3, 4])
    other.reset(seed=[3, 11])
    np.testing.assert_array_equal(env.reset()[0][0], other.reset(seed=[None, 1])[0][0])
    lives = [make_vec(env_id, 1).reset_tensors([0]) for _ in range(2)]
    assert torch.equal(*lives)
    assert not np.array_equal(make_vec(env_id, 1)._check_seeds(None), env._check_seeds(None)[:1])


@every_id
def test_scalar_environment_is_a_row_of_the_vector_environment(make, make_vec, env_id):
    seeds = [8, 31, 5]
    env, vector = make(env_id).unwrapped, make_vec(env_id, 3)
    observation, info = env.reset(seed=31)
    observations, infos = vector.reset(seed=seeds)
    assert_equal(observation, observations[1])
    assert_equal(info, row(infos, 1))
    lives = 0
    for actions in actions_for(vector, 3 * vector.num_updates):
        observation, reward, terminated, _, info = env.step(actions[1])
        observations, rewards, terminations, _, infos = vector.step(actions)
        assert_equal(reward, rewards[1])
        assert terminated == terminations[1]
        if terminated:
            assert_equal(observation, infos["final_obs"][1])
            assert_equal(info, row(infos, 1)["final_info"])
            lives += 1
            observation, info = env.reset()
        assert_equal(observation, observations[1])
        assert_equal(info, {k: v for k, v in row(infos, 1).items() if not k.startswith("final")})
    assert lives == 3


@every_id
def test_tensors_agree_with_numpy(make_vec, env_id):
    """`reset_tensors` and `step_tensors` on shared or separate lives are the same training."""
    env, reference = make_vec(env_id, 2), make_vec(env_id, 2)
    for seeds in ([4, 4], [4, 9]):
        reference.reset(seed=seeds)
        env.reset_tensors(seeds)
        for action in actions_for(env, env.num_updates)[:-1]:
            if "Images" in type(env).__name__:
                action[:] = action[0, 0]  # Shared samples come in another order.
            step = env.step_tensors(torch.as_tensor(action))
            _, rewards, *_ = reference.step(action)
            assert_equal(step.reward, rewards)
            assert not step.terminated
            assert_equal(env.loss, reference.loss)
        assert env.step_tensors(torch.zeros(env.action_space.shape)).terminated


@every_id
def test_credits_that_require_gradients_are_taken_like_others(make_vec, env_id):
    env, reference = make_vec(env_id, 2), make_vec(env_id, 2)
    credits = torch.as_tensor(actions_for(env, 1)[0])
    env.reset_tensors([4, 9])
    reference.reset_tensors([4, 9])
    step = env.step_tensors(credits.clone().requires_grad_())
    expected = reference.step_tensors(credits)
    assert torch.equal(step.observation, expected.observation)
    assert torch.equal(step.reward, expected.reward)
    assert not step.observation.requires_grad
    assert not step.reward.requires_grad


@every_id
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_go_on_alike(make_vec, env_id, copied):
    env = make_vec(env_id, 2)
    env.reset(seed=3)
    actions = actions_for(env, 2)
    env.step(actions[0])
    twin = copied(env)
    assert_equal(twin.step(actions[1]), env.step(actions[1]))
    for one in (env, twin):
        one.close()


@every_id
def test_same_step_autoreset_is_gymnasiums(make_vec, small_settings, env_id):
    vector = make_vec(env_id, 2)
    sync = SyncVectorEnv(
        [lambda: gymnasium.make(env_id, **small_settings(env_id)) for _ in range(2)],
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    ours, theirs = vector.reset(seed=[21, 4]), sync.reset(seed=[21, 4])
    actions = actions_for(vector, 2 * vector.num_updates)
    for t in range(len(actions) + 1):
        assert_equal(ours[0], theirs[0])
        for i in range(2):
            assert_equal(row(ours[-1], i), row(theirs[-1], i))
        if t < len(actions):
            ours, theirs = vector.step(actions[t]), sync.step(actions[t])
            assert_equal(ours[1:4], theirs[1:4])
            over = (t + 1) % vector.num_updates == 0
            assert ours[2].tolist() == [over, over]
            assert ("final_obs" in ours[-1]) == over


@every_id
def test_returned_arrays_are_copies(make_vec, env_id):
    env = make_vec(env_id, 2)

    def arrays(values: Any) -> list[np.ndarray]:
        if isinstance(values, dict):
            return [array for value in values.values() for array in arrays(value)]
        if isinstance(values, tuple):
            return [array for value in values for array in arrays(value)]
        return [values]

    returned = arrays(env.reset(seed=0))
    kept = [array.copy() for array in returned]
    for action in actions_for(env, env.num_updates + 1):
        new = arrays(env.step(action))
        assert not any(np.shares_memory(a, b) for a in new for b in returned)
        returned += new
        kept += [array.copy() for array in new]
    for array, was in zip(returned, kept, strict=True):
        np.testing.assert_array_equal(array, was)
    for array in returned:
        if array.dtype.kind == "f":
            array.fill(-3)  # Scribbling on what was returned changes nothing.
    twin = make_vec(env_id, 2)
    twin.reset(seed=0)
    for action in actions_for(env, env.num_updates + 1):
        twin.step(action)
    assert_equal(env.step(action)[0], twin.step(action)[0])


# --- Rewards


@every_id
def test_progress_telescopes_and_final_is_its_sum(make_vec, env_id):
    totals = {}
    for reward in ("progress", "final"):
        env = make_vec(env_id, 3, reward=reward)
        env.reset(seed=0)
        first = env.loss.clone()
        paid = []
        for t, action in enumerate(actions_for(env, env.num_updates)):
            if t == env.num_updates - 1:
                env._autoreset = lambda which: None  # Keep the last loss to look at.
            paid.append(env.step(action)[1])
        totals[reward] = np.sum(paid, axis=0, dtype=np.float64)
        np.testing.assert_allclose(totals[reward], (first - env.loss).numpy(), atol=1e-5)
        if reward == "final":
            assert not np.any(paid[:-1])
    np.testing.assert_allclose(totals["progress"], totals["final"], atol=1e-5)
    assert np.any(totals["progress"])


# --- Divergence


@every_id
@every_reward
def test_divergence_ends_one_life_and_leaves_the_others(make_vec, env_id, reward):
    env, calm = (make_vec(env_id, 3, credit_scale=1e3, reward=reward) for _ in range(2))
    before, _ = env.reset(seed=2)
    calm.reset(seed=2)
    first = env.loss.clone()
    action = np.zeros(env.action_space.shape, dtype=np.float32)
    others_only = calm.step(action)
    action[0] = np.finfo(np.float32).max
    if "Images" in type(env).__name__:
        action[0, :, ::2] = 0  # Equal credits for all outputs cancel in the softmax.
    observation, rewards, terminated, _, info = env.step(action)

    assert terminated.tolist() == [True, False, False]
    final = row(info, 0)["final_info"]
    assert final["diverged"]
    guess = env.task.guess_loss
    assert rewards[0] == pytest.approx(float(first[0]) - guess, abs=1e-5)
    guesses = env.task.guess_metrics()
    guesses = {key: guess for key, guess in guesses.items() if not key.startswith("test_")}
    assert {key: final[key] for key in guesses} == pytest.approx(guesses)
    assert not any(key.startswith("test_") for key in final)
    assert all(np.isfinite(value) for value in final.values())
    last_seen = info["final_obs"][0]
    assert env.single_observation_space.contains(last_seen)

    assert_equal(observation[1:], others_only[0][1:])
    assert_equal(rewards[1:], others_only[1][1:])
    assert not info["diverged"].any()
    assert env.observation_space.contains(observation)
    assert not np.array_equal(observation[0], before[0])
    for _ in range(env.num_updates - 1):
        _, _, terminated, _, info = env.step(np.zeros_like(action))
    assert terminated.tolist() == [False, True, True]
    assert not info["final_info"]["diverged"][1:].any()


@every_id
def test_divergence_of_a_single_network(make, env_id):
    env = make(env_id, credit_scale=1e3)
    env.reset(seed=0)
    action = np.full(env.action_space.shape, np.finfo(np.float32).max)
    action[..., 1::2] = 0
    observation, reward, terminated, truncated, info = env.step(action)
    assert (terminated, truncated) == (True, False)
    assert info["diverged"] is True
    assert np.isfinite(reward)
    assert env.observation_space.contains(observation)
    assert env.reset()[1]["diverged"] is False


@every_id
def test_divergence_in_the_last_update_scores_as_guessing(make, env_id):
    env = make(env_id, num_updates=1, credit_scale=1e3)
    env.reset(seed=0)
    action = np.full(env.action_space.shape, np.finfo(np.float32).max)
    action[..., 1::2] = 0
    info = env.step(action)[-1]
    guesses = env.unwrapped.vector.task.guess_metrics()
    assert {key: info[key] for key in guesses} == pytest.approx(guesses)


@every_id
def test_divergence_in_tensors_lasts(make_vec, env_id):
    env = make_vec(env_id, 2, credit_scale=1e3)
    env.reset_tensors([1, 2])
    action = torch.zeros(env.action_space.shape)
    action[0] = torch.finfo().max
    action[0, ..., 1::2] = 0
    for _ in range(env.num_updates):
        env.step_tensors(action)
        action.zero_()
        assert env.diverged.tolist() == [True, False]
        assert env.loss[0].item() == pytest.approx(env.task.guess_loss)
    env.reset_tensors([1, 2])
    assert not env.diverged.any()
    assert env.loss.isfinite().all()


# --- Types


@every_id
def test_classes_and_types(make, env_id):
    env = make(env_id)
    assert isinstance(env.unwrapped, CreditAssignEnv)
    _, info = env.reset(seed=0)
    for value in info.values():
        assert isinstance(value, bool | int | float | str | np.ndarray)
    _, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert type(reward) is float
    assert (type(terminated), type(truncated)) == (bool, bool)
    assert all(isinstance(value, bool | float) for value in info.values())
