"""Learning-to-learn as Gymnasium environments; importing this registers them.

A small bottom-up network is trained inside each `CreditAssign` environment. The observation is its
state, the action is a credit vector, one `step()` is one local update of its weights, and the
reward is how much better it got. In a `ClassificationBandit` environment nothing learns: it shows
images to a learner outside, which is told only whether its answer was right.
"""

from typing import Literal, get_args

from gymnasium.envs.registration import register

from credit_envs.checks import require_one_of
from credit_envs.environment import CreditAssignEnv, CreditAssignVectorEnv

__version__ = "0.1.0"
__all__ = ["CreditAssignEnv", "CreditAssignVectorEnv", "Family", "environment_ids"]

Family = Literal["CreditAssign", "ClassificationBandit"]

_PAGES: dict[Family, dict[str, tuple[str, dict[str, object]]]] = {
    "CreditAssign": {
        "Gaussian": ("surfaces:Gaussian", {}),
        "MultiGaussian": ("surfaces:MultiGaussian", {}),
        "Digits": (
            "images:Images",
            {"dataset": "Digits", "hidden_sizes": (32,), "num_samples": 500},
        ),
        "MNIST": ("images:Images", {"dataset": "MNIST"}),
        "FashionMNIST": ("images:Images", {"dataset": "FashionMNIST"}),
        "CIFAR10": ("images:Images", {"dataset": "CIFAR10"}),
        "Images": ("images:Images", {}),
        "CartPole": ("cartpole:CartPole", {}),
        "ReversedCartPole": ("cartpole:ReversedCartPole", {}),
        "Pendulum": ("pendulum:Pendulum", {}),
        "ReversedPendulum": ("pendulum:ReversedPendulum", {}),
        "BipedalWalker": ("bipedal_walker:BipedalWalker", {}),
        "MetaWorld": ("metaworld:MetaWorld", {}),
    },
    "ClassificationBandit": {
        "Digits": ("bandit:Bandit", {"dataset": "Digits", "num_validation": 200}),
        "MNIST": ("bandit:Bandit", {"dataset": "MNIST"}),
        "FashionMNIST": ("bandit:Bandit", {"dataset": "FashionMNIST"}),
        "CIFAR10": ("bandit:Bandit", {"dataset": "CIFAR10"}),
        "CIFAR100": ("bandit:Bandit", {"dataset": "CIFAR100"}),
        "Images": ("bandit:Bandit", {}),
    },
}


def environment_ids(family: Family | None = None) -> list[str]:
    """The ids this package registers, all or those of a family.

    Raises:
        ValueError: an unknown family.
    """
    if family is not None:
        require_one_of("family", family, get_args(Family))
    return [
        f"{prefix}-{name}-v0"
        for prefix, pages in _PAGES.items()
        for name in pages
        if family in (None, prefix)
    ]


for _prefix, _pages in _PAGES.items():
    for _name, (_page, _kwargs) in _pages.items():
        register(
            id=f"{_prefix}-{_name}-v0",
            entry_point=f"credit_envs.envs.{_page}Env",
            vector_entry_point=f"credit_envs.envs.{_page}VectorEnv",
            kwargs=dict(_kwargs),
        )
