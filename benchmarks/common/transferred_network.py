"""TrFC (Table 1): a network that backpropagation trained on MNIST, asked about other images."""

from collections.abc import Mapping
from typing import Any

import torch

from agents import BackpropPolicy
from credit_envs.tasks import ClassificationTask
from meta.baselines import image_env, image_task, learn, spaces
from meta.report import fresh_lives, tuning_lives
from meta.tuning import split_images, tune

SOURCE = "CreditAssign-MNIST-v0"


@torch.no_grad()
def transferred_network(
    env_id: str, env_kwargs: Mapping[str, Any], num_seeds: int, start: float | None
) -> dict[str, Any]:
    """Accuracy on the training subset and on the test images of the other data set.

    The network is trained by backpropagation from Kaiming's initialisation, at the rate that does
    best on validation images of MNIST. Each data set is standardised by its own moments.
    """
    kwargs = {**env_kwargs, "init": "kaiming"}
    total = len(image_task(SOURCE, {**kwargs, "num_samples": 1}).dataset.x_train)
    small = {**kwargs, "num_samples": min(kwargs["num_samples"], 10_000)}
    split = split_images(total, small["num_samples"])
    policy = BackpropPolicy(*spaces(SOURCE, small))
    tuned = tune(policy, SOURCE, small, split, tuning_lives(1), start=start)
    kwargs |= {"learning_rate": tuned.learning_rate, "weight_decay": tuned.weight_decay}
    train, test = [], []
    for seed in fresh_lives(num_seeds):
        task = asked_about(env_id, kwargs, trained(policy, kwargs, seed), seed)
        train.append(task.accuracy().item())
        test.append(task.final_metrics()["test_accuracy"].item())
    return {"train": train, "test": test}


def trained(policy: BackpropPolicy, env_kwargs: Mapping[str, Any], seed: int) -> ClassificationTask:
    """The task of MNIST after a life."""
    env, _ = image_env(SOURCE, env_kwargs)
    *_, task = learn(policy, env, [seed])
    return task


def asked_about(
    env_id: str, env_kwargs: Mapping[str, Any], source: ClassificationTask, seed: int
) -> ClassificationTask:
    """The task of other data with the source's network."""
    # Adam leaves weights where they are when it is given credits of zero.
    env, task = image_env(env_id, {**env_kwargs, "num_updates": 1, "weight_decay": 0.0})
    env.reset_tensors([seed])
    assert source.inputs is not None
    assert task.inputs is not None
    first, *others = source.network.weights
    task.network.weights[0].copy_(task.inputs.kept(source.inputs.natural(first)))
    for weight, learned in zip(task.network.weights[1:], others, strict=True):
        weight.copy_(learned)
    shape = env.single_action_space.shape
    assert shape is not None
    env.step_tensors(torch.zeros(1, *shape))
    return task
