"""BipedalWalker and Meta-World: episodes are those of Gymnasium's environments, whoever plays."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import gymnasium
import metaworld
import numpy as np
import pytest
import torch

from credit_envs.tasks.control import ControlTask
from credit_envs.tasks.metaworld import STARTS, TASKS, Arm
from credit_envs.workers import WorkerError

WALKER, ROBOT = "CreditAssign-BipedalWalker-v0", "CreditAssign-MetaWorld-v0"
both = pytest.mark.parametrize("env_id", [WALKER, ROBOT])


def task_of(env) -> ControlTask:
    assert isinstance(env.unwrapped.task, ControlTask)
    return env.unwrapped.task


def some_credits(env, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, env.action_space.shape).astype(np.float32)


# --- BipedalWalker


def test_record_of_an_episode_is_what_bipedal_walker_plays():
    """Recorded actions, played in `BipedalWalker-v3` from the same seed, give the same to the bit.

    The second episodes count: by then environments have been used.
    """
    env = gymnasium.make_vec(WALKER, num_envs=8, horizon=150, reward_scale=1.0)
    env.reset(seed=3)
    observation, *_, info = env.step(some_credits(env))
    starts = task_of(env).episode_starts().numpy()[0]
    assert len(set(starts)) == 8
    lengths = observation[:, :, -1].sum(1).astype(int)
    assert lengths.min() < 150
    for rows, start, length, episode_return in zip(
        observation, starts, lengths, info["episode_return"], strict=True
    ):
        judge = gymnasium.make("BipedalWalker-v3")
        seen, _ = judge.reset(seed=int(start))
        assert not rows[length:].any()
        total = 0.0
        for row in rows[:length]:
            np.testing.assert_array_equal(row[:24], seen)
            seen, reward, terminated, _, _ = judge.step(row[24:28])
            assert row[28] == np.float32(reward)
            total += reward
        assert terminated == (length < 150)
        assert episode_return == pytest.approx(total, rel=1e-4, abs=1e-3)


def test_a_used_bipedal_walker_remembers():
    """Why every episode has a new environment; if this fails, that is no longer needed."""
    used = gymnasium.make("BipedalWalker-v3").unwrapped
    actions = np.random.default_rng(0).uniform(-1, 1, (300, 4)).astype(np.float32)

    def rewards(env, seed: int) -> list[float]:
        env.reset(seed=seed)
        played = []
        for action in actions:
            _, reward, terminated, _, _ = env.step(action)
            played.append(reward)
            if terminated:
                break
        return played

    fresh = [rewards(gymnasium.make("BipedalWalker-v3").unwrapped, seed) for seed in range(8)]
    assert [rewards(used, seed) for seed in range(8)] != fresh


# --- Meta-World


@pytest.mark.parametrize("task", range(3))
def test_record_of_an_episode_is_what_meta_world_plays(task):
    """Recorded actions, played in Meta-World's own benchmark, give the same rewards to the bit."""
    env = gymnasium.make_vec(ROBOT, num_envs=4, horizon=60, reward_scale=1.0, init_stdev=1.0)
    env.reset(seed=[0, 3, 6, 0], options={"task": task})
    observation, *_, info = env.step(some_credits(env))
    starts = task_of(env).episode_starts().numpy()[0]
    assert starts.tolist() == [0, 1, 2, 0]
    benchmark = metaworld.MT1(f"{TASKS[task].lower()}-v3", seed=0)
    for rows, start, success in zip(observation, starts, info["success"], strict=True):
        judge = next(iter(benchmark.train_classes.values()))()
        judge.set_task(benchmark.train_tasks[int(start)])
        seen, _ = judge.reset()
        succeeded = 0.0
        for row in rows:
            hand, gripper, thing, goal = seen[:3], seen[3], seen[4:7], seen[-3:]
            np.testing.assert_allclose(row[:3], 5 * (thing - hand), rtol=1e-6, atol=1e-7)
            np.testing.assert_allclose(row[3:6], 5 * (goal - thing), rtol=1e-6, atol=1e-7)
            assert row[6] == np.float32(gripper)
            assert row[7:10].tolist() == np.eye(3)[task].tolist()
            seen, reward, *_, judged = judge.step(row[10:14])
            assert row[14] == np.float32(reward)
            succeeded = max(succeeded, judged["success"])
        assert success == succeeded


ROTATIONS = (0.0, 180.0, -30.0)


@pytest.mark.parametrize("task", range(9))
def test_a_turned_action_is_what_a_turned_arm_plays(task):
    """Meta-World's own environment, given recorded actions turned, pays what the record says."""
    env = gymnasium.make_vec(
        ROBOT, num_envs=2, horizon=40, reward_scale=1.0, init_stdev=1.0, rotation=ROTATIONS
    )
    env.reset(seed=[9, 9], options={"task": task})
    observation, *_ = env.step(some_credits(env))
    name, angle = TASKS[task % 3], np.deg2rad(ROTATIONS[task // 3])
    assert task_of(env).task_names[task] == f"{name}, rotation {ROTATIONS[task // 3]:g}"
    start = int(task_of(env).episode_starts()[0, 0])
    benchmark = metaworld.MT1(f"{name.lower()}-v3", seed=0)
    for rows in observation:
        judge = next(iter(benchmark.train_classes.values()))()
        judge.set_task(benchmark.train_tasks[start])
        seen, _ = judge.reset()
        assert np.ptp(rows[:, :3], axis=0).max() > 0.1
        for row in rows:
            np.testing.assert_allclose(row[:3], 5 * (seen[4:7] - seen[:3]), rtol=1e-4, atol=1e-4)
            assert row[7:10].tolist() == np.eye(3)[task % 3].tolist()
            turned = complex(*row[10:12]) * np.exp(1j * angle)
            seen, reward, *_ = judge.step(np.array([turned.real, turned.imag, *row[12:14]]))
            assert row[14] == pytest.approx(reward, rel=1e-3, abs=1e-4)


def test_lives_are_turned_or_not_and_nothing_says_so():
    """Of a life with the same agent and initial state, only what its actions do is another."""
    env = gymnasium.make_vec(ROBOT, num_envs=6, horizon=10, rotation=(0, 180))
    observation, info = env.reset(seed=[0] * 6, options={"task": np.arange(6)})
    assert env.single_observation_space.shape == (10, 16)
    assert info["task"].tolist() == list(range(6))
    for straight, turned in zip(observation[:3], observation[3:], strict=True):
        np.testing.assert_array_equal(straight[0, :14], turned[0, :14])
        np.testing.assert_array_equal(straight[:, 7:10], turned[:, 7:10])
        assert np.abs(straight[-1, :3] - turned[-1, :3]).max() > 0.01
    plain, _ = gymnasium.make_vec(ROBOT, num_envs=3, horizon=10).reset(
        seed=[0] * 3, options={"task": np.arange(3)}
    )
    np.testing.assert_array_equal(observation[:3], plain)
    always, _ = gymnasium.make_vec(ROBOT, num_envs=3, horizon=10, rotation=180.0).reset(
        seed=[0] * 3, options={"task": np.arange(3)}
    )
    np.testing.assert_array_equal(observation[3:], always)


def test_agents_can_succeed_and_it_is_noticed():
    """A hand that is told the way closes the door."""
    env = gymnasium.make_vec(ROBOT, num_envs=1, init_stdev=1e-6)
    env.reset(seed=0, options={"task": TASKS.index("Door-close")})
    layer = np.zeros((4, 8), dtype=np.float32)
    # Go behind the open door, which is seen in how far its handle still has to go, and push.
    layer[:3, :3] = 2 * np.eye(3)
    layer[:3, 3:6] = 1.5 * np.eye(3)
    *_, info = env.step(layer.reshape(1, -1))
    assert info["success"].tolist() == [1.0]
    assert info["episode_return"][0] > 500


def test_initial_states_for_training_choice_and_results_are_apart():
    assert [len(STARTS[name]) for name in ("train", "validation", "unseen")] == [3, 10, 10]
    used = [index for starts in STARTS.values() for index in starts]
    assert len(set(used)) == len(used)


@pytest.mark.parametrize(("starts", "count"), [("train", 3), ("unseen", 10), ("validation", 10)])
@pytest.mark.parametrize(("rotation", "num_tasks"), [(0.0, 3), ((0, 180), 6)])
def test_lives_in_a_row_meet_every_initial_state(starts, count, rotation, num_tasks):
    num_envs = num_tasks * count
    env = gymnasium.make_vec(ROBOT, num_envs=num_envs, horizon=1, starts=starts, rotation=rotation)
    _, info = env.reset(seed=2**40, options={"task": np.arange(num_envs) % num_tasks})
    for episode in range(2):
        met = task_of(env).episode_starts().numpy()[0].astype(int)
        for task in range(num_tasks):
            assert sorted(met[info["task"] == task]) == list(STARTS[starts])
        if episode == 0:
            env.step(some_credits(env))


def test_an_arm_forgets():
    """An episode depends on nothing that the same environment played before."""
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 4)).astype(np.float32)

    def played(arm: Arm, index: int) -> list[float]:
        first = arm.begin(index).tolist()
        return [*first, *(arm.step(action)[1] for action in actions)]

    used = Arm("Dial-turn")
    twice = [[played(used, index) for index in (0, 1, 2)] for _ in range(2)]
    assert twice[0] == twice[1]
    assert played(Arm("Dial-turn"), 2) == twice[0][2]


# --- Agents


@both
def test_agents_act_as_their_networks_say(env_id):
    env = gymnasium.make_vec(env_id, num_envs=2, hidden_sizes=(3,), horizon=12, init_stdev=0.5)
    observation, _ = env.reset(seed=1)
    task = task_of(env)
    size, acted = task.dynamics.state_size, slice(-6, -2)
    for i in range(2):
        hidden, out = (
            part.view(rows, -1)
            for part, rows in zip(
                torch.split(task.parameters[i], [3 * (size + 1), 16]), [3, 4], strict=True
            )
        )
        state = torch.tensor(observation[i, :, :size])
        inner = torch.tanh(state @ hidden[:, :-1].T + hidden[:, -1])
        action = torch.tanh(inner @ out[:, :-1].T + out[:, -1])
        mask = observation[i, :, -1:] == 1
        np.testing.assert_allclose(observation[i, :, acted] * mask, action * mask, atol=1e-5)


@both
def test_agents_that_diverge_get_the_worst_return(env_id):
    env = gymnasium.make(env_id, credit_scale=1e38, horizon=50)
    env.reset(seed=0)
    *_, terminated, _, info = env.step(np.full(env.action_space.shape, 100, dtype=np.float32))
    assert terminated
    assert info["diverged"]
    worst = -(100 + 50 * 4 * 0.00035 * 80) if env_id == WALKER else 0.0
    assert info["episode_return"] == pytest.approx(worst)
    assert info.get("success", 0.0) == 0.0


# --- Worker processes


@both
def test_workers_change_nothing_and_end_with_close(env_id):
    settings = {"num_envs": 5, "horizon": 20}
    alone = gymnasium.make_vec(env_id, **settings)
    shared = gymnasium.make_vec(env_id, num_workers=2, **settings)
    np.testing.assert_array_equal(alone.reset(seed=4)[0], shared.reset(seed=4)[0])
    credit = some_credits(alone)
    observation, reward, *_, info = alone.step(credit)
    observation_again, reward_again, *_, info_again = shared.step(credit)
    np.testing.assert_array_equal(observation, observation_again)
    np.testing.assert_array_equal(reward, reward_again)
    for key, values in info.items():
        np.testing.assert_array_equal(values, info_again[key])
    workers = worker_processes(shared)
    assert len(workers) == 2
    shared.close()
    assert not any(is_running(pid) for pid in workers)


def worker_processes(env) -> list[int]:
    return [worker.pid for worker in task_of(env).dynamics._pool.workers]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_killed_worker_is_replaced_with_the_same_result():
    settings = {"num_envs": 4, "horizon": 20}
    alone = gymnasium.make_vec(WALKER, **settings)
    shared = gymnasium.make_vec(WALKER, num_workers=2, **settings)
    alone.reset(seed=0)
    shared.reset(seed=0)
    os.kill(worker_processes(shared)[0], signal.SIGKILL)
    credit = some_credits(alone)
    with pytest.warns(UserWarning, match="a worker died; it is replaced"):
        again = shared.step(credit)[0]
    np.testing.assert_array_equal(again, alone.step(credit)[0])
    shared.close()


def test_workers_end_with_a_main_process_that_is_killed(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent(
            """
            import time
            import gymnasium
            import credit_envs

            if __name__ == "__main__":
                env = gymnasium.make_vec(
                    "CreditAssign-BipedalWalker-v0", num_envs=2, num_workers=2, horizon=2
                )
                env.reset(seed=0)
                pool = env.unwrapped.task.dynamics._pool
                print(*[worker.pid for worker in pool.workers], flush=True)
                time.sleep(60)
            """
        )
    )
    command = [sys.executable, "-W", "ignore", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as main:
        workers = [int(pid) for pid in main.stdout.readline().split()]
        assert len(workers) == 2
        main.kill()
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in workers)


def test_workers_that_keep_dying_end_in_one_error(monkeypatch):
    env = gymnasium.make_vec(WALKER, num_envs=2, num_workers=2, horizon=2)
    monkeypatch.setattr("credit_envs.tasks.stepped.play_episodes", die)
    with (
        pytest.warns(UserWarning, match="a worker died"),
        pytest.raises(WorkerError, match="use fewer workers, or num_workers=0"),
    ):
        env.reset(seed=0)


def die(*_: object) -> None:
    os._exit(1)


# --- Misuse


@pytest.mark.parametrize(
    ("env_id", "settings", "message"),
    [
        (ROBOT, {"starts": "test"}, "starts='test' is not one of 'train', 'validation', 'unseen'"),
        (ROBOT, {"rotation": "left"}, "rotation='left' must be finite numbers, angles in degrees"),
        (ROBOT, {"rotation": (0, float("nan"))}, "must be finite numbers, angles in degrees"),
        (ROBOT, {"rotation": True}, "rotation=True must be finite numbers, angles in degrees"),
        (ROBOT, {"rotation": ()}, "must hold at least one angle in degrees"),
        (ROBOT, {"horizon": 501}, "horizon=501 is longer than .* ask for at most 500"),
        (ROBOT, {"num_workers": -1}, "num_workers=-1 must be a whole number of at least 0"),
        (WALKER, {"num_workers": 1.5}, "num_workers=1.5 must be a whole number of at least 0"),
        (WALKER, {"reward_scale": 0}, "reward_scale=0 must be a finite number above 0"),
    ],
)
def test_settings(env_id, settings, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make_vec(env_id, num_envs=2, **settings)


def test_imports_are_not_slowed_down():
    """Simulators are imported by the environments that need them."""
    code = "import sys, credit_envs, meta, agents; print({'metaworld', 'Box2D'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
