"""What all tests share: one thread, no network, and small environments."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv, VectorEnv

from credit_envs import datasets
from credit_envs.datasets import Dataset, download

MakeEnv = Callable[..., gymnasium.Env[Any, Any]]
MakeVectorEnv = Callable[..., VectorEnv[Any, Any, Any]]

SHAPES = {
    "MNIST": (1, 28, 28),
    "FashionMNIST": (1, 28, 28),
    "CIFAR10": (3, 32, 32),
    "CIFAR100": (3, 32, 32),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(download, "fetch", refuse)


def made_up_images(
    shape: tuple[int, ...] = (2, 3), classes: int = 3, train: int = 60, test: int = 30
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bytes with a brighter stripe for each class, as `data=` takes them."""
    rng = np.random.default_rng(0)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(count) % classes
        x = rng.integers(0, 128, (count, *shape), dtype=np.uint8)
        flat = x.reshape(count, -1)
        for label in range(classes):
            flat[y == label, label::classes] += 100
        return x, y

    return *split(train), *split(test)


@pytest.fixture
def image_arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return made_up_images()


@pytest.fixture
def small_settings(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Keyword arguments that make any environment small, and stand-ins for downloaded data."""
    real_load = datasets.load

    def load(name: Any, data_dir: Any = None) -> Dataset:
        if name not in SHAPES:
            return real_load(name, data_dir)
        classes = 100 if name == "CIFAR100" else 10
        arrays = made_up_images(SHAPES[name], classes, 6 * classes, 3 * classes)
        return Dataset(name, *arrays, classes, "made up")

    monkeypatch.setattr(datasets, "load", load)

    def settings(env_id: str) -> dict[str, Any]:
        family, name, _ = env_id.split("-")
        if family == "ClassificationBandit":
            small_bandit: dict[str, Any] = {"num_validation": 20}
            data = {"data": made_up_images((3, 4, 5))} if name == "Images" else {}
            return small_bandit | data
        if name.endswith("Gaussian"):
            return {"num_updates": 4}
        if name in ("BipedalWalker", "MetaWorld"):
            return {"num_updates": 3, "horizon": 8}
        if name.endswith(("CartPole", "Pendulum")):
            return {"num_updates": 3, "horizon": 30}
        small: dict[str, Any] = {"num_samples": 12, "num_updates": 3, "hidden_sizes": (6,)}
        return small | ({"data": made_up_images()} if name == "Images" else {})

    return settings


@pytest.fixture
def make(small_settings: Callable[[str], dict[str, Any]]) -> MakeEnv:
    """`gymnasium.make` with small settings, which keyword arguments override."""

    def make_small(env_id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
        return gymnasium.make(env_id, **small_settings(env_id) | kwargs)

    return make_small


@pytest.fixture
def make_vec(small_settings: Callable[[str], dict[str, Any]]) -> MakeVectorEnv:
    """`gymnasium.make_vec` with small settings, which keyword arguments override."""

    def make_small(env_id: str, num_envs: int, **kwargs: Any) -> VectorEnv[Any, Any, Any]:
        settings = small_settings(env_id) | kwargs
        env = gymnasium.make_vec(env_id, num_envs=num_envs, **settings)
        assert not isinstance(env, SyncVectorEnv)
        return env

    return make_small
