"""Known rules in the same environment, each with the settings that suit it best."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import torch
from gymnasium.spaces import Box

from agents import (
    BackpropPolicy,
    CreditPolicy,
    DeepAGRELCreditPolicy,
    DFAPolicy,
    DRTPPolicy,
    FAPolicy,
)
from agents.rules import RulePolicy
from credit_envs import CreditAssignVectorEnv
from credit_envs.tasks import ClassificationTask
from credit_envs.tasks.classification import Init
from meta.tuning import Score, Split, split_images, tuned_score


@dataclass(frozen=True)
class Rule:
    """A known rule and the initial weights it starts from.

    Attributes:
        policy_class: the rule.
        init: of the bottom-up network.
        policy_kwargs: of the rule.
    """

    policy_class: type[RulePolicy]
    init: Init
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def policy(self, env_id: str, env_kwargs: Mapping[str, Any]) -> RulePolicy:
        """The rule for an environment."""
        scale = env_kwargs.get("credit_scale", 10.0)
        return self.policy_class(
            *spaces(env_id, env_kwargs), credit_scale=scale, **self.policy_kwargs
        )


RULES: Mapping[str, Rule] = {
    "Kaiming BP": Rule(BackpropPolicy, "kaiming"),
    "zero BP": Rule(BackpropPolicy, "near-zero"),
    # From zero weights it is DFA where there is one hidden layer, and does worse with more.
    "FA": Rule(FAPolicy, "kaiming"),
    "DFA": Rule(DFAPolicy, "zero"),
    "DRTP": Rule(DRTPPolicy, "zero"),
    # From near zero all answers stay alike for too long, and zero it cannot leave.
    "DeepAGREL": Rule(DeepAGRELCreditPolicy, "kaiming"),
    # In few updates, classes that are never tried are never learned.
    "DeepAGREL, ε = 1": Rule(DeepAGRELCreditPolicy, "kaiming", {"epsilon": 1.0}),
}
"""The baselines of classification tasks."""


def rule_scores(
    env_id: str,
    env_kwargs: Mapping[str, Any],
    split: Split,
    tuning_seeds: Sequence[int],
    seeds: Sequence[int],
) -> list[Score]:
    """The score of every known rule, each tuned on its own.

    All with the environment's inner optimiser, and backpropagation with Adam as well, which suits
    it best. Backpropagation, the yardstick, is regularised too: weight decay and label smoothing
    are tuned as the learning rate is. Every rule gives each neuron a credit of its own, whatever
    form of credit the environment has.
    """
    backprop = {m: rule for m, rule in RULES.items() if rule.policy_class is BackpropPolicy}
    variants: list[tuple[str, Rule, dict[str, str]]] = [
        (method, rule, {}) for method, rule in RULES.items()
    ]
    if env_kwargs.get("optimizer", "adam") != "adam":
        variants += [(f"{m}, Adam", rule, {"optimizer": "adam"}) for m, rule in backprop.items()]
    scores = []
    for method, rule, changes in variants:
        kwargs = {**env_kwargs, **changes, "init": rule.init, "credit": "neurons"}
        policy = rule.policy(env_id, kwargs)
        regularise = rule.policy_class is BackpropPolicy
        scores.append(
            tuned_score(
                method, policy, env_id, kwargs, split, tuning_seeds, seeds, regularise=regularise
            )
        )
    return scores


def spaces(env_id: str, env_kwargs: Mapping[str, Any]) -> tuple[Box, Box]:
    """Observation and action space of an environment."""
    env = gymnasium.make(env_id, disable_env_checker=True, **dict(env_kwargs))
    assert isinstance(env.observation_space, Box)
    assert isinstance(env.action_space, Box)
    return env.observation_space, env.action_space


def image_split(env_id: str, env_kwargs: Mapping[str, Any], met: float = 0.0) -> Split:
    """Which images of an environment serve what; see `split_images`."""
    task = image_task(env_id, env_kwargs)
    return split_images(len(task.dataset.x_train), task.settings.num_samples, met)


def image_env(
    env_id: str, env_kwargs: Mapping[str, Any], num_envs: int = 1
) -> tuple[CreditAssignVectorEnv, ClassificationTask]:
    """A classification environment and its task."""
    env = gymnasium.make_vec(env_id, num_envs=num_envs, **dict(env_kwargs))
    assert isinstance(env, CreditAssignVectorEnv)
    assert isinstance(env.task, ClassificationTask)
    return env, env.task


def image_task(env_id: str, env_kwargs: Mapping[str, Any]) -> ClassificationTask:
    """The task of a classification environment, to look up what data it really has."""
    return image_env(env_id, env_kwargs)[1]


@torch.no_grad()
def learn(
    policy: CreditPolicy, env: CreditAssignVectorEnv, seeds: Sequence[int]
) -> Iterator[ClassificationTask]:
    """Train a network in each life; gives the task after every update, from update 0 on."""
    assert isinstance(env.task, ClassificationTask)
    policy.attach(env)
    observation = env.reset_tensors(seeds)
    yield env.task
    for _ in range(env.num_updates):
        observation = env.step_tensors(policy.act(observation)).observation
        yield env.task
