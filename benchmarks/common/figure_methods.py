"""Learning rules beside each other in one environment, watched after every update.

Each rule runs at the learning rate that does best on validation images after its last update, and
the known ones with the inner optimiser that does best there too: the environment's or Adam. A
top-down network keeps the optimiser that it was meta-trained with.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agents import CreditPolicy
from benchmarks.common.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY
from credit_envs import CreditAssignVectorEnv
from meta import zoo
from meta.baselines import RULES, Rule, image_env, image_split, image_task
from meta.report import tuning_lives
from meta.tuning import tune

TDCA, TAUGHT, DIFFUSION = "TDCA by PGPE", "TDCA by meta-gradients", "TDCA, credit diffusion"
KAIMING, ZERO, DFA, DFA_AGAIN = "BP, Kaiming start", "BP, zero start", "DFA", "DFA, other feedback"

NETWORKS: Mapping[str, Mapping[str, str]] = {
    "MNIST": {TDCA: "mnist-pgpe", TAUGHT: "mnist-mlp", DIFFUSION: "mnist-groups"},
    "FashionMNIST": {TDCA: "fashion-pgpe", TAUGHT: "fashion-mlp"},
    "CIFAR10": {TDCA: "cifar10-pgpe", TAUGHT: "cifar10-mlp"},
    "Digits": {TDCA: "digits-pgpe", TAUGHT: "digits-mlp"},
}
"""The zoo's networks for each data set: with a credit per neuron, evolved as in the paper or taught
by meta-gradients, and with credits that diffuse from groups, by meta-gradients."""

COLOURS: Mapping[str, str] = {
    TDCA: ORANGE,
    TAUGHT: RED,
    DIFFUSION: PURPLE,
    KAIMING: BLUE,
    ZERO: SKY,
    DFA: GREEN,
    DFA_AGAIN: GREY,
}
"""In the order in which figures and tables show them."""

_RULES: Mapping[str, Rule] = {
    KAIMING: RULES["Kaiming BP"],
    ZERO: RULES["zero BP"],
    DFA: RULES["DFA"],
    DFA_AGAIN: replace(RULES["DFA"], policy_kwargs={"seed": 1}),
}
_UPDATES = 20
"""In a life, unless a card says else: the environments' default."""


@dataclass(frozen=True)
class Method:
    """A rule, or a top-down network, in an environment.

    Attributes:
        name: in legends and tables.
        env_id: of the environment.
        policy: chooses the credits.
        env_kwargs: of the environment.
        optimizers: inner ones to choose from.
        made_of: what tells it from others of its name, for results files.
        meta_updates: updates in the lives of its meta-training; None: it had none.
    """

    name: str
    env_id: str
    policy: CreditPolicy = field(repr=False)
    env_kwargs: Mapping[str, Any]
    optimizers: tuple[str, ...]
    made_of: str
    meta_updates: int | None = None

    def settings(self) -> dict[str, Any]:
        """All that a result depends on."""
        return {
            "env_id": self.env_id,
            "env_kwargs": dict(self.env_kwargs),
            "optimizers": list(self.optimizers),
            "made_of": self.made_of,
            "meta_updates": self.meta_updates,
        }


def top_down(name: str, data: str) -> Method:
    """The zoo's network of this name for a data set.

    Raises:
        ValueError: it is not in the zoo.
    """
    env_id, network = environment_id(data), NETWORKS[data][name]
    kwargs = zoo.network_kwargs(network, env_id)
    policy, made_of = zoo.load(network), f"{network} {zoo.digest(network)}"
    optimizers = (kwargs.get("optimizer", "adam"),)
    updates = zoo.card(network)["meta_training"][env_id].get("num_updates", _UPDATES)
    return Method(name, env_id, policy, kwargs, optimizers, made_of, updates)


def rule(name: str, data: str) -> Method:
    """A known rule on the networks that the data set's dense top-down network trains.

    But for their initial weights, which are those that suit the rule.

    Raises:
        ValueError: that network is not in the zoo.
    """
    env_id, known = environment_id(data), _RULES[name]
    kwargs = {**zoo.network_kwargs(NETWORKS[data][TDCA], env_id), "init": known.init}
    optimizers = tuple(dict.fromkeys((kwargs.get("optimizer", "adam"), "adam")))
    return Method(name, env_id, known.policy(env_id, kwargs), kwargs, optimizers, name)


def in_zoo(
    data: str, names: Iterable[str] = (TDCA, TAUGHT, DIFFUSION)
) -> tuple[list[str], list[str]]:
    """Which of these top-down networks there are for a data set, and the names of those missing."""
    wanted = {name: NETWORKS[data][name] for name in names if name in NETWORKS[data]}
    known = zoo.names()
    there = [name for name, network in wanted.items() if network in known]
    return there, [network for network in wanted.values() if network not in known]


def environment_id(data: str) -> str:
    """Of the environment with this data set."""
    return f"CreditAssign-{data}-v0"


def dataset_name(env_id: str) -> str:
    """What data an environment really has."""
    return image_task(env_id, {}).dataset.name


# ---------------------------------------------------------------------- learning


def make(method: Method, num_envs: int, **kwargs: Any) -> CreditAssignVectorEnv:
    """The method's environment, with further arguments."""
    env, _ = image_env(method.env_id, {**method.env_kwargs, "score_on": "test", **kwargs}, num_envs)
    return env


def tuned(method: Method, num_updates: int, lives: int) -> dict[str, Any]:
    """Inner optimiser and learning rate that do best on validation images.

    Args:
        method: to tune.
        num_updates: after which the accuracy counts.
        lives: to choose by, on subsets of the images that outer loops may meet.

    Returns:
        Environment arguments.
    """
    split = image_split(method.env_id, method.env_kwargs)
    choices = {
        optimizer: tune(
            method.policy,
            method.env_id,
            {**method.env_kwargs, "num_updates": num_updates, "optimizer": optimizer},
            split,
            tuning_lives(lives),
        )
        for optimizer in method.optimizers
    }
    best = max(choices, key=lambda optimizer: choices[optimizer].validation_accuracy or 0.0)
    return {"optimizer": best, "learning_rate": choices[best].learning_rate}
