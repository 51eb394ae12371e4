"""What all control environments share: lives that change in the middle, parameters that fade."""

import gymnasium
import numpy as np
import pytest

REVERSED = ("CreditAssign-ReversedCartPole-v0", "CreditAssign-ReversedPendulum-v0")
of_either = pytest.mark.parametrize("env_id", REVERSED)
UPDATES = 5


def actions_for(env):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (UPDATES, *env.action_space.shape)).astype(np.float32)


def lives(env, tasks):
    """Observations and infos of a life of every network, from update 0 on."""
    moments = [env.reset(seed=[3, 4, 5, 6], options={"task": tasks})]
    for action in actions_for(env)[:-1]:
        observation, *_, info = env.step(action)
        moments.append((observation, info))
    return [list(column) for column in zip(*moments, strict=True)]


@of_either
@pytest.mark.parametrize("switch_after", [1, 3])
def test_a_life_goes_on_in_the_next_task(env_id, switch_after):
    """Until then its episodes are those of lives in its first task, then those of the next."""
    tasks = np.array([0, 1, 0, 1])
    settings = {"num_envs": 4, "num_updates": UPDATES}
    env = gymnasium.make_vec(env_id, **settings, switch_after=switch_after)
    switched, infos = lives(env, tasks)
    steady = gymnasium.make_vec(env_id, **settings)
    first, _ = lives(steady, tasks)
    other, _ = lives(steady, 1 - tasks)
    for update, (observation, info) in enumerate(zip(switched, infos, strict=True)):
        before = update <= switch_after
        np.testing.assert_array_equal(observation, (first if before else other)[update])
        assert not np.array_equal(first[update], other[update])
        assert info["task"].tolist() == (tasks if before else 1 - tasks).tolist()
        assert info["_task"].all()


@of_either
@pytest.mark.parametrize("switch_after", [UPDATES, UPDATES + 3])
def test_a_switch_that_no_update_comes_after_is_refused(env_id, switch_after):
    settings = {"num_updates": UPDATES, "switch_after": switch_after}
    with pytest.raises(ValueError, match=rf"never switch; .* num_updates {switch_after + 1} or"):
        gymnasium.make_vec(env_id, num_envs=2, **settings)


@of_either
def test_a_scalar_environment_switches_like_a_row_of_the_vector_one(env_id):
    settings = {"num_updates": UPDATES, "switch_after": 2}
    vector = gymnasium.make_vec(env_id, num_envs=1, **settings)
    scalar = gymnasium.make(env_id, **settings)
    of_vector, of_scalar = vector.reset(seed=[9]), scalar.reset(seed=9)
    tasks = [of_scalar[1]["task"]]
    np.testing.assert_allclose(of_scalar[0], of_vector[0][0], rtol=1e-5)
    for action in actions_for(vector)[:-1]:
        observation, *_, vector_info = vector.step(action)
        row, *_, info = scalar.step(action[0])
        np.testing.assert_allclose(row, observation[0], rtol=1e-5)
        assert info["task"] == vector_info["task"][0]
        tasks.append(info["task"])
    assert tasks == [tasks[0]] * 3 + [1 - tasks[0]] * 2


def test_the_next_life_begins_in_its_own_task():
    env = gymnasium.make_vec(REVERSED[0], num_envs=4, num_updates=UPDATES, switch_after=2)
    env.reset(seed=0)
    for action in actions_for(env):
        *_, info = env.step(action)
    assert info["_final_info"].all()
    plain = gymnasium.make_vec(REVERSED[0], num_envs=4)
    _, fresh = plain.reset(seed=env.unwrapped.life_seeds.tolist())
    assert info["task"].tolist() == fresh["task"].tolist()
    assert len(set(info["task"])) == 2


def test_of_three_tasks_the_last_is_followed_by_the_first():
    settings = {"gravity": (5, 10, 15), "switch_after": 1}
    env = gymnasium.make_vec("CreditAssign-Pendulum-v0", num_envs=3, **settings)
    env.reset(seed=0, options={"task": [0, 1, 2]})
    nothing = np.zeros(env.action_space.shape, dtype=np.float32)
    assert env.step(nothing)[4]["task"].tolist() == [0, 1, 2]
    assert env.step(nothing)[4]["task"].tolist() == [1, 2, 0]


@of_either
def test_parameters_fade_by_the_weight_decay(env_id):
    env = gymnasium.make_vec(env_id, num_envs=4, weight_decay=0.3, credit_scale=0.5)
    env.reset(seed=0)
    before = env.unwrapped.task.parameters.clone()
    action = actions_for(env)[0]
    env.step(action)
    expected = 0.7 * before.numpy() + 0.5 * action
    np.testing.assert_allclose(env.unwrapped.task.parameters, expected, atol=1e-6)
