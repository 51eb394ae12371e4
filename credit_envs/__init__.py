"""Learning-to-learn as Gymnasium environments; importing this registers them.

A small bottom-up network is trained inside each environment. The observation is its state, the
action is a credit vector, one `step()` is one local update of its weights, and the reward is how
much better it got.
"""

from gymnasium.envs.registration import register

from credit_envs.environment import CreditAssignEnv, CreditAssignVectorEnv

__version__ = "0.1.0"
__all__ = ["CreditAssignEnv", "CreditAssignVectorEnv", "environment_ids"]

_PAGES: dict[str, tuple[str, dict[str, object]]] = {
    "Gaussian": ("surfaces:Gaussian", {}),
    "MultiGaussian": ("surfaces:MultiGaussian", {}),
    "Digits": ("images:Images", {"dataset": "Digits", "hidden_sizes": (32,), "num_samples": 500}),
    "MNIST": ("images:Images", {"dataset": "MNIST"}),
    "FashionMNIST": ("images:Images", {"dataset": "FashionMNIST"}),
    "CIFAR10": ("images:Images", {"dataset": "CIFAR10"}),
    "Images": ("images:Images", {}),
    "CartPole": ("control:CartPole", {}),
    "ReversedCartPole": ("control:ReversedCartPole", {}),
}


def environment_ids() -> list[str]:
    """The ids this package registers."""
    return [f"CreditAssign-{name}-v0" for name in _PAGES]


for _id, (_page, _kwargs) in zip(environment_ids(), _PAGES.values(), strict=True):
    register(
        id=_id,
        entry_point=f"credit_envs.envs.{_page}Env",
        vector_entry_point=f"credit_envs.envs.{_page}VectorEnv",
        kwargs=dict(_kwargs),
    )
