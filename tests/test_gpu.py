"""On a GPU networks learn what they learn on the CPU; skipped where there is none."""

import gymnasium
import numpy as np
import pytest
import torch

from agents import TDCAPolicy
from meta import PGPE, MetaGradient

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

DEVICES = ("cpu", "cuda")
DIGITS = "CreditAssign-Digits-v0"
SMALL = {"num_samples": 100, "num_updates": 5, "hidden_sizes": (20,)}
ACCURACY = {"rtol": 1e-3, "atol": 1e-3}
"""Single precision adds up in another order there."""


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
@pytest.mark.parametrize("seeds", [[3, 3, 3], [3, 4, 5]], ids=["shared", "own"])
def test_lives_of_classifiers(seeds, optimizer):
    measured = []
    for device in DEVICES:
        env = gymnasium.make_vec(
            DIGITS,
            num_envs=3,
            device=device,
            optimizer=optimizer,
            loss_on="held-out",
            num_held_out=50,
            **SMALL,
        )
        policy = TDCAPolicy(
            env.single_observation_space, env.single_action_space, start="feedback-alignment"
        )
        policy.initialise(torch.Generator().manual_seed(0))
        policy.to(device)
        observation = env.reset_tensors(seeds)
        assert observation.device.type == device
        with torch.no_grad():
            for _ in range(env.num_updates):
                observation, _, _ = env.step_tensors(policy.act(observation))
        measured.append(env.task.metrics() | env.task.final_metrics())
    cpu, gpu = measured
    for name, values in cpu.items():
        torch.testing.assert_close(gpu[name].cpu(), values, **ACCURACY, msg=name)


@pytest.mark.parametrize("env_id", ["CreditAssign-CartPole-v0", "CreditAssign-Pendulum-v0"])
def test_lives_of_agents_begin_alike(env_id):
    starts = []
    for device in DEVICES:
        env = gymnasium.make_vec(env_id, num_envs=4, device=device)
        starts.append(env.reset_tensors([1, 2, 3, 4]).cpu())
    torch.testing.assert_close(*starts, rtol=1e-5, atol=1e-5)


def test_a_generation_ranks_candidates_alike():
    arguments = {"population_size": 16, "stdev_init": 0.2, "seed": 0}
    inner = {**SMALL, "evaluate_test": False}
    centres = []
    for device in DEVICES:
        model = PGPE("TDCAPolicy", DIGITS, inner, device=device, **arguments)
        model.learn(2 * model.timesteps_per_generation)
        centres.append(model.policy.beta.detach().cpu().numpy())
    assert np.corrcoef(*centres)[0, 1] > 0.999


def test_meta_gradients():
    inner = {**SMALL, "loss_on": "held-out", "num_held_out": 50, "evaluate_test": False}
    teacher = {"start": "feedback-alignment", "output_scale": 1.0}
    gradients = []
    for device in DEVICES:
        model = MetaGradient("TDCAPolicy", DIGITS, inner, teacher, seed=0, device=device)
        model.learn(model.timesteps_per_generation)
        gradients.append(model.policy.beta.grad.cpu())
    torch.testing.assert_close(*gradients, rtol=0.05, atol=1e-3)
