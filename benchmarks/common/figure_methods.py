"""Learning rules beside each other in one environment, watched after every update.

Each rule runs at the learning rate that does best on validation images after its last update, and
the known ones with the inner optimiser that does best there too: the environment's or Adam. A
top-down network keeps the optimiser that it was meta-trained with.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agents import CreditPolicy, DFAPolicy
from benchmarks.common.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY
from credit_envs import CreditAssignVectorEnv
from meta import zoo
from meta.baselines import RULES, image_env, image_split, image_task, spaces
from meta.recipes import RECIPES
from meta.report import tuning_lives
from meta.tuning import tune

TDCA, DIFFUSION = "TDCA", "TDCA, credit diffusion"
KAIMING, ZERO, DFA, DFA_AGAIN = "BP, Kaiming start", "BP, zero start", "DFA", "DFA, other feedback"

NETWORKS: Mapping[str, Mapping[str, str]] = {
    "MNIST": {TDCA: "mnist-pgpe", DIFFUSION: "mnist-groups"},
    "FashionMNIST": {TDCA: "fashion-pgpe", DIFFUSION: "fashion-groups"},
    "CIFAR10": {TDCA: "cifar10-pgpe", DIFFUSION: "cifar10-groups"},
    "Digits": {TDCA: "digits-pgpe"},
}
"""The zoo's network, evolved as in the paper, for each data set and way of giving credit."""

COLOURS: Mapping[str, str] = {
    TDCA: RED,
    DIFFUSION: ORANGE,
    KAIMING: BLUE,
    ZERO: SKY,
    DFA: GREEN,
    DFA_AGAIN: PURPLE,
}

_BASELINES = {KAIMING: "Kaiming BP", ZERO: "zero BP", DFA: "DFA"}
# What of its meta-training a network keeps: the kind of bottom-up network, not the images.
_KEPT = (
    "architecture",
    "credit",
    "credit_groups",
    "credit_scale",
    "diffusion_sigma",
    "hidden_sizes",
    "max_grad_norm",
    "optimizer",
    "weight_decay",
)
_UPDATES = 20
"""In a life, unless a card says else: the environments' default."""

_KEPT_BY_RULES = ("architecture", "hidden_sizes", "max_grad_norm", "optimizer")


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
    trained: Mapping[str, Any] = zoo.card(network)["meta_training"][env_id]
    kwargs = {key: trained[key] for key in _KEPT if key in trained}
    policy = zoo.load(network)
    digest = hashlib.sha1(policy.beta.detach().numpy().tobytes()).hexdigest()[:12]
    optimizer = kwargs.get("optimizer", "adam")
    updates = trained.get("num_updates", _UPDATES)
    return Method(name, env_id, policy, kwargs, (optimizer,), f"{network} {digest}", updates)


def rule(name: str, data: str) -> Method:
    """A known rule on the kind of network that the data set's dense top-down network trains."""
    env_id = environment_id(data)
    dense = {**RECIPES[env_id].scored_kwargs}
    if NETWORKS[data][TDCA] in zoo.names():
        dense = dict(top_down(TDCA, data).env_kwargs)
    kwargs = {key: dense[key] for key in _KEPT_BY_RULES if key in dense}
    optimizers = tuple(dict.fromkeys((kwargs.get("optimizer", "adam"), "adam")))
    policy: CreditPolicy
    if name == DFA_AGAIN:
        kwargs["init"] = RULES["DFA"].init
        policy = DFAPolicy(*spaces(env_id, kwargs), seed=1)
    else:
        baseline = RULES[_BASELINES[name]]
        kwargs["init"] = baseline.init
        policy = baseline.policy_class(*spaces(env_id, kwargs))
    return Method(name, env_id, policy, kwargs, optimizers, name)


def in_zoo(data: str, names: Iterable[str] = (TDCA, DIFFUSION)) -> tuple[list[str], list[str]]:
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
