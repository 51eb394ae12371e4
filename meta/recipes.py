"""Settings that work: which agent fits which environment, and how it is meta-trained there."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agents import (
    BackpropPolicy,
    DeepAGRELCreditPolicy,
    DFAPolicy,
    DRTPPolicy,
    FAPolicy,
    SharedTDCAPolicy,
    TDCAPolicy,
    TDCARNNPolicy,
)
from agents.rules import RulePolicy
from agents.tdca import TopDownPolicy
from credit_envs.tasks.classification import Init
from meta.meta_gradient import MetaGradient
from meta.pgpe import PGPE

SURFACES = ("CreditAssign-Gaussian-v0", "CreditAssign-MultiGaussian-v0")
IMAGES = (
    "CreditAssign-Digits-v0",
    "CreditAssign-MNIST-v0",
    "CreditAssign-FashionMNIST-v0",
    "CreditAssign-CIFAR10-v0",
)
CONTROL = (
    "CreditAssign-CartPole-v0",
    "CreditAssign-ReversedCartPole-v0",
    "CreditAssign-Pendulum-v0",
    "CreditAssign-ReversedPendulum-v0",
    "CreditAssign-BipedalWalker-v0",
    "CreditAssign-MetaWorld-v0",
)
BANDITS = (
    "ClassificationBandit-Digits-v0",
    "ClassificationBandit-MNIST-v0",
    "ClassificationBandit-FashionMNIST-v0",
    "ClassificationBandit-CIFAR10-v0",
    "ClassificationBandit-CIFAR100-v0",
)


SCORED_ALONE = ("starts",)
"""Arguments of environments that the user chooses for scoring, and the recipe for meta-training.

What is there to choose by, or for results, must not be met by the outer loop.
"""


@dataclass(frozen=True)
class Agent:
    """A kind of agent on the command line.

    Attributes:
        policy_class: what chooses the credits, in environments where credits are actions.
        default_env: where it goes if no environment is named.
        envs: where it fits.
        summary: one line of help.
        init: of a rule's bottom-up networks, unless the user says else.
        trial_rule: what learns from trials in `BANDITS`, of `meta.trials.RULES`.
        outer: the only outer loop that meta-trains it; None: any.
    """

    policy_class: type[TopDownPolicy] | type[RulePolicy]
    default_env: str
    envs: tuple[str, ...]
    summary: str
    init: Init = "zero"
    trial_rule: str | None = None
    outer: str | None = None

    @property
    def learns(self) -> bool:
        """Whether the outer loop has something to evolve."""
        return issubclass(self.policy_class, TopDownPolicy)


AGENTS: Mapping[str, Agent] = {
    "tdca-mlp": Agent(
        TDCAPolicy,
        "CreditAssign-MNIST-v0",
        SURFACES + IMAGES,
        "feed-forward top-down network, by PGPE or meta-gradients",
    ),
    "tdca-shared": Agent(
        SharedTDCAPolicy,
        "CreditAssign-MNIST-v0",
        IMAGES,
        "top-down network that all neurons share, for any sizes, by meta-gradients",
        outer="meta-gradient",
    ),
    "tdca-rnn": Agent(
        TDCARNNPolicy,
        "CreditAssign-CartPole-v0",
        CONTROL,
        "recurrent top-down network, by PGPE",
    ),
    "backprop": Agent(
        BackpropPolicy,
        "CreditAssign-MNIST-v0",
        IMAGES + BANDITS,
        "backpropagation, the yardstick",
        init="kaiming",
        trial_rule="Error-BP",
    ),
    "fa": Agent(
        FAPolicy,
        "CreditAssign-MNIST-v0",
        IMAGES + BANDITS,
        "feedback alignment",
        init="kaiming",
        trial_rule="FA",
    ),
    "dfa": Agent(
        DFAPolicy,
        "CreditAssign-MNIST-v0",
        IMAGES + BANDITS,
        "direct feedback alignment",
        trial_rule="DFA",
    ),
    "drtp": Agent(DRTPPolicy, "CreditAssign-MNIST-v0", IMAGES, "direct random target projection"),
    "deepagrel": Agent(
        DeepAGRELCreditPolicy,
        "ClassificationBandit-MNIST-v0",
        BANDITS + IMAGES,
        "DeepAGREL: learns from reward alone, by a local rule",
        init="kaiming",
        trial_rule="DeepAGREL",
    ),
}
"""Agents by their name on the command line."""


@dataclass(frozen=True)
class Recipe:
    """How a top-down network is meta-trained in one environment.

    Attributes:
        generations: how long; annealing, where there is any, takes as long.
        anneal: whether the outer loop's rate (and PGPE's σ) falls over the generations.
        policy_kwargs: of the top-down network.
        learner_kwargs: of the outer loop.
        meta_kwargs: of the environment during meta-training alone; the result is always scored
            in the environment as the user asked for it.
        scored_kwargs: of the environment in meta-training and scoring, unless the user says else.
        all_cores: whether a process per core is worth its start.
        num_lives: on which the result is scored in control.
    """

    generations: int
    anneal: bool = True
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict)
    learner_kwargs: Mapping[str, Any] = field(default_factory=dict)
    meta_kwargs: Mapping[str, Any] = field(default_factory=dict)
    scored_kwargs: Mapping[str, Any] = field(default_factory=dict)
    all_cores: bool = False
    num_lives: int = 256

    def env_kwargs(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Of the environment in meta-training: the recipe's, but the user's word counts.

        Except where it is about the lives in which the result is scored.
        """
        heard = {name: value for name, value in asked.items() if name not in SCORED_ALONE}
        return {**self.scored_kwargs, **self.meta_kwargs, **heard}


_CLIMB = {"hidden_sizes": (16,), "input_scale": 0.25, "output_scale": 1.0, "squash": "tanh"}
# Annealing lets the centre settle within a tenth of the summit; smaller steps than these leave
# one of two surfaces unclimbed for some seeds.
_CLIMBING = Recipe(
    generations=150,
    policy_kwargs=_CLIMB,
    learner_kwargs={
        "population_size": 32,
        "lives": 16,
        "stdev_init": 0.3,
        "stdev_learning_rate": 0.0,
        "center_learning_rate": 0.15,
    },
)
_BALANCE = {
    "population_size": 32,
    "lives": 16,
    "stdev_init": 0.1,
    "stdev_learning_rate": 0.0,
    "center_learning_rate": 0.1,
}
# One batch of all candidates: the networks are so small that its overhead counts.
_SWING = _BALANCE | {"population_size": 64, "chunk_size": 64}
# Few candidates and lives, for steps are slow.
_PLAYED = _BALANCE | {"population_size": 24}
_CLASSIFYING = {"stdev_init": 0.07, "stdev_learning_rate": 0.0, "center_learning_rate": 0.03}
# From feedback alignment with small steps, and for the loss on images that were not trained on:
# generations are few beside the thousands that a random start takes to come as far.
_CLASSIFY = Recipe(
    generations=100,
    policy_kwargs={"start": "feedback-alignment", "output_scale": 1.0},
    learner_kwargs={
        "population_size": 64,
        "stdev_init": 0.02,
        "stdev_learning_rate": 0.0,
        "center_learning_rate": 0.002,
    },
    meta_kwargs={"loss_on": "held-out"},
    all_cores=True,
)

RECIPES: Mapping[str, Recipe] = {
    "CreditAssign-Gaussian-v0": _CLIMBING,
    "CreditAssign-MultiGaussian-v0": _CLIMBING,
    "CreditAssign-Digits-v0": Recipe(
        generations=400,
        learner_kwargs=_CLASSIFYING | {"population_size": 40},
        scored_kwargs={"learning_rate": 0.05},
        all_cores=True,
    ),
    "CreditAssign-MNIST-v0": _CLASSIFY,
    "CreditAssign-FashionMNIST-v0": _CLASSIFY,
    "CreditAssign-CIFAR10-v0": _CLASSIFY,
    "CreditAssign-CartPole-v0": Recipe(
        generations=40,
        anneal=False,
        policy_kwargs={"hidden_size": 16},
        learner_kwargs=_BALANCE,
    ),
    "CreditAssign-ReversedCartPole-v0": Recipe(
        generations=100,
        anneal=False,
        # What actions do to the state has to be seen before it can be acted on.
        policy_kwargs={"hidden_size": 8, "state_size": 4},
        learner_kwargs=_BALANCE | {"task_fitness": "worst"},
    ),
    "CreditAssign-Pendulum-v0": Recipe(
        generations=800,
        # Where σ shrinks the landscape is rough, and what was found is lost again.
        anneal=False,
        policy_kwargs={"hidden_size": 8},
        # A constant torque swings up half of all starts; counting the others leads out of it, but
        # not always, and often to swinging up over one side alone. One start in a few finds both.
        learner_kwargs=_SWING
        | {
            "lives": 32,
            "worst_lives": 0.5,
            "stdev_init": 0.05,
            "center_learning_rate": 0.05,
            "starts": 8,
        },
        # Six updates are few; twice as large, they lead further.
        scored_kwargs={"credit_scale": 1.0},
    ),
    "CreditAssign-ReversedPendulum-v0": Recipe(
        # Fitness stands still for hundreds of generations before both motors are told apart, later
        # than a rate that falls would allow.
        generations=1200,
        anneal=False,
        policy_kwargs={"hidden_size": 16, "state_size": 3},
        learner_kwargs=_SWING
        | {"task_fitness": "worst", "center_learning_rate": 0.05, "starts": 6},
        # Finding out how the motor turns takes a large first change.
        scored_kwargs={"credit_scale": 3.0, "init_stdev": 0.2},
    ),
    "CreditAssign-BipedalWalker-v0": Recipe(
        generations=60,
        policy_kwargs={"hidden_size": 8},
        learner_kwargs=_PLAYED | {"lives": 2},
        all_cores=True,
        num_lives=32,
    ),
    "CreditAssign-MetaWorld-v0": Recipe(
        generations=250,
        # With ids of 1 beside all else hidden states differ little by task, and agents end as much
        # the same in all three: the dial is seldom turned. Columns: state, id, action, reward.
        policy_kwargs={
            "hidden_size": 8,
            "input_scales": (*(1.0,) * 7, *(4.0,) * 3, *(1.0,) * 4, 1.0),
        },
        # Returns in one task are several times those in another. All weights into a credit move
        # it together, so that larger steps of the centre would lead out of what its candidates,
        # few for three tasks, have seen.
        learner_kwargs=_PLAYED
        | {
            "lives": 3,
            "task_fitness": "ranks",
            "stdev_init": 0.06,
            "center_learning_rate": 0.01,
        },
        meta_kwargs={"starts": "train"},
        scored_kwargs={"starts": "unseen"},
        all_cores=True,
        num_lives=90,
    ),
}
"""Recipes of PGPE by environment."""

# Zero weights of a feedback alignment that a perturbation has woken are the best start known: from
# random parameters Adam inside saturates, and gradients explode.
_TEACH = Recipe(
    generations=800,
    policy_kwargs={
        "hidden_sizes": (64, 64),
        "start": "feedback-alignment",
        "output_scale": 1.0,
    },
    meta_kwargs={"loss_on": "held-out"},
)
# At the environments' rate lives are chaotic here: gradients of a hundred, no two of them alike.
_TEACH_SLOWLY = replace(_TEACH, generations=600, learner_kwargs={"learning_rate": 0.003})
META_GRADIENT_RECIPES: Mapping[str, Recipe] = {
    # So few images that more generations learn them by heart.
    "CreditAssign-Digits-v0": replace(
        _TEACH_SLOWLY,
        generations=100,
        meta_kwargs={"loss_on": "held-out", "num_held_out": 100},
        scored_kwargs={"learning_rate": 0.02},
    ),
    "CreditAssign-MNIST-v0": _TEACH,
    "CreditAssign-FashionMNIST-v0": replace(_TEACH_SLOWLY, scored_kwargs={"learning_rate": 0.005}),
    "CreditAssign-CIFAR10-v0": replace(
        _TEACH_SLOWLY, generations=300, scored_kwargs={"learning_rate": 0.002}
    ),
}
"""Recipes of meta-gradients by environment."""


# Lives of many sizes, for the network shall serve all; through the whole of long ones gradients
# explode.
_TRAVEL = Recipe(
    generations=60,
    learner_kwargs={
        "lives": 2,
        "learning_rate": 0.003,
        "last_updates": 10,
        "shortest": 0.2,
        "relative_loss": True,
        "calibrated_loss": True,
        "smoothing": 1e-3,
    },
    meta_kwargs={"loss_on": "held-out", "num_samples": 4000, "num_updates": 50},
    scored_kwargs={"weight_decay": 3.0},
)
SHARED_RECIPES: Mapping[str, Recipe] = {
    "CreditAssign-Digits-v0": replace(
        _TRAVEL,
        meta_kwargs={"loss_on": "held-out", "num_held_out": 100, "num_updates": 40},
        scored_kwargs={"learning_rate": 0.05, "weight_decay": 3.0},
    ),
    "CreditAssign-MNIST-v0": _TRAVEL,
    "CreditAssign-FashionMNIST-v0": _TRAVEL,
    # The first step of Adam moves a neuron the further, the more inputs it has.
    "CreditAssign-CIFAR10-v0": replace(
        _TRAVEL,
        meta_kwargs={"loss_on": "held-out", "num_samples": 2000, "num_updates": 30},
        scored_kwargs={"learning_rate": 0.005, "weight_decay": 3.0},
    ),
}
"""Recipes of meta-gradients for the network that all neurons share, by environment."""


@dataclass(frozen=True)
class Outer:
    """An outer loop on the command line.

    Attributes:
        loop_class: the algorithm.
        recipes: of the environments it fits.
        shares_work: whether it takes worker processes.
    """

    loop_class: type[PGPE] | type[MetaGradient]
    recipes: Mapping[str, Recipe]
    shares_work: bool


OUTER_LOOPS: Mapping[str, Outer] = {
    "pgpe": Outer(PGPE, RECIPES, shares_work=True),
    "meta-gradient": Outer(MetaGradient, META_GRADIENT_RECIPES, shares_work=False),
}
"""Outer loops by their name on the command line."""
DEFAULT_OUTER = "pgpe"


def outer_loop(config: Mapping[str, Any]) -> Outer:
    """The outer loop of a run with this configuration."""
    agent = AGENTS[config["agent"]]
    outer = OUTER_LOOPS[config.get("outer") or agent.outer or DEFAULT_OUTER]
    if issubclass(agent.policy_class, SharedTDCAPolicy):
        return replace(outer, recipes=SHARED_RECIPES)
    return outer
