"""Videos: what is recorded is what happened, and the command refuses in one line."""

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.error import DependencyNotInstalled

from agents import TDCARNNPolicy
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks import ControlTask
from meta import video
from meta.video import Episode, LifeReplay, live, record

SHORT = {"num_updates": 1, "horizon": 8}


def policy_for(env: CreditAssignVectorEnv) -> TDCARNNPolicy:
    policy = TDCARNNPolicy(env.single_observation_space, env.single_action_space)
    generator = torch.Generator().manual_seed(0)
    beta = torch.randn(policy.beta.shape, generator=generator)
    torch.nn.utils.vector_to_parameters(beta, policy.parameters())
    return policy


@pytest.mark.parametrize(
    ("name", "task", "kwargs"),
    [
        ("CartPole", 0, {}),
        ("ReversedCartPole", 1, {}),
        ("Pendulum", 0, {}),
        ("ReversedPendulum", 1, {}),
        ("ReversedPendulum", 0, {"switch_after": 1}),
        ("BipedalWalker", 0, {}),
    ],
)
def test_episodes_happen_again_in_gymnasium(name, task, kwargs):
    replay, episodes, returns = a_life(name, task, kwargs)
    for episode, expected in zip(episodes, returns, strict=True):
        replay.reset()
        before = replay.render()
        rewards = [replay.step(action)[1] for action in episode.actions]
        assert sum(rewards) == pytest.approx(expected, rel=1e-4)
        assert before.dtype == np.uint8
        assert (replay.render() != before).any()
    replay.close()


@torch.no_grad()
def a_life(name, task, kwargs) -> tuple[LifeReplay, list[Episode], list[float]]:
    """A replay of a life, its episodes, and their returns as they were when it was lived."""
    kwargs = {"num_updates": 2, "horizon": 30, **kwargs}
    env = gymnasium.make_vec(f"CreditAssign-{name}-v0", num_envs=1, **kwargs)
    policy = policy_for(env)
    assert isinstance(env.task, ControlTask)
    observation = env.reset_tensors([3], task=np.array([task]))
    returns = [env.task.episode_return.item()]
    for _ in range(2):
        observation = env.step_tensors(policy.act(observation)).observation
        returns.append(env.task.episode_return.item())
    episodes = live(policy, env, 3, task)
    return LifeReplay(env.task, episodes), episodes, returns


@pytest.mark.parametrize("task", [0, 1, 2, 4])
def test_episodes_happen_again_in_meta_world(task):
    """Without pictures, which take OpenGL; the last one with an arm that is turned."""
    replay, episodes, returns = a_life("MetaWorld", task, {"horizon": 120, "rotation": (0, 50)})
    for episode, expected in zip(episodes, returns, strict=True):
        replay.reset()
        rewards = [replay.step(action)[1] for action in episode.actions]
        assert sum(rewards) == pytest.approx(expected, rel=1e-5)
    assert max(returns) > 5, "or else nothing is shown here"
    replay.close()


@pytest.mark.parametrize(
    "error",
    [
        mujoco.FatalError("an OpenGL platform library has not been loaded"),
        AttributeError("'NoneType' object has no attribute 'glGetError'"),
    ],
)
def test_without_opengl_the_error_names_the_fix(monkeypatch, capsys, tmp_path, error):
    def no_opengl(self):
        raise error

    monkeypatch.setattr("gymnasium.envs.mujoco.MujocoEnv.render", no_opengl)
    replay, _, _ = a_life("MetaWorld", 0, {"horizon": 2})
    with pytest.raises(OSError, match="set MUJOCO_GL=egl, or MUJOCO_GL=osmesa"):
        replay.render()
    replay.close()
    pytest.importorskip("moviepy")
    assert video.main(["meta-world", "--folder", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "MUJOCO_GL=egl" in line


def test_videos_of_the_first_and_the_last_episode(tmp_path):
    env = gymnasium.make_vec("CreditAssign-Pendulum-v0", num_envs=1, **SHORT)
    videos = record(policy_for(env), "CreditAssign-Pendulum-v0", tmp_path, SHORT)
    assert [path.stem.rsplit("-", 1)[1] for path in videos] == ["0", "1"]
    assert all(path.stat().st_size > 0 for path in videos)


def test_our_environments_can_be_recorded(tmp_path):
    env = gymnasium.make("CreditAssign-CartPole-v0", render_mode="rgb_array", **SHORT)
    recorder = gymnasium.wrappers.RecordVideo(env, str(tmp_path / "videos"))
    recorder.reset(seed=0)
    recorder.step(np.zeros(env.action_space.shape, dtype=np.float32))
    recorder.close()
    assert (tmp_path / "videos" / "rl-video-episode-0.mp4").stat().st_size > 0


@pytest.mark.parametrize(
    ("env_id", "kwargs", "said"),
    [
        ("CreditAssign-Gaussian-v0", {}, "name a control environment"),
        ("CreditAssign-CartPole-v0", {"updates": [6]}, "has 5"),
        ("CreditAssign-CartPole-v0", {"task": 1}, "has 1"),
    ],
)
def test_what_cannot_be_recorded_is_refused(env_id, kwargs, said, tmp_path):
    env = gymnasium.make_vec("CreditAssign-CartPole-v0", num_envs=1)
    with pytest.raises(ValueError, match=said):
        record(policy_for(env), env_id, tmp_path, **kwargs)


def test_the_command(monkeypatch, capsys):
    def missing(*args, **kwargs):
        raise DependencyNotInstalled("MoviePy is not installed")

    monkeypatch.setattr(video, "RecordVideo", missing)
    assert video.main(["cartpole"]) == 1
    assert video.main(["cart-pole"]) == 1
    assert video.main(["traveller"]) == 1
    missing_said, unknown_said, several_said = capsys.readouterr().err.strip().splitlines()
    assert "pip install" in missing_said
    assert "'cartpole'" in unknown_said
    assert "trained in several environments" in several_said
