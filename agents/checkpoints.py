"""What algorithms have in common that are saved: whole or not at all, and taken up or refused."""

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from agents.vec_env import VectorEnvAdapter
from credit_envs import __version__
from credit_envs.checks import require_at_least, require_device, require_one_of
from credit_envs.files import atomic_path

LARGEST_SEED = 2**32 - 1
"""That all generators take, with room for those that count on from it."""


class Resumable(BaseAlgorithm):
    """An algorithm that goes on exactly where it was saved.

    Args:
        policy: a policy class, or the name of one, of `policy_aliases`.
        env: a vector environment; None if there is none yet.
        seed: of everything drawn; None draws one.
        device: where the networks live.
        kwargs: the other arguments of `BaseAlgorithm`.

    Raises:
        ValueError: a bad seed, an unknown policy, or a device that is not there.
    """

    default_device: ClassVar[str] = "auto"
    """Where `load` puts networks, unless it is told."""

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: gymnasium.Env[Any, Any] | VecEnv | None,
        *,
        seed: int | None,
        device: torch.device | str,
        **kwargs: Any,
    ) -> None:
        if seed is not None:
            require_at_least("seed", seed, 0)
            if seed > LARGEST_SEED:
                raise ValueError(f"seed={seed!r} must be at most 2**32 - 1")
        if str(device) != "auto":
            # Stable-Baselines3 would take the processor without a word.
            require_device(str(device))
        super().__init__(
            policy,
            env=env,
            support_multi_env=True,
            seed=int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed,
            device=device,
            **kwargs,
        )
        self.version = __version__
        self.algorithm = type(self).__name__

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        require_one_of("policy", policy_name, list(self.policy_aliases))
        return self.policy_aliases[policy_name]

    def set_env(
        self,
        env: VectorEnv[Any, Any, Any] | VecEnv | gymnasium.Env[Any, Any],
        force_reset: bool = True,
    ) -> None:
        """Go on in another environment with the same spaces and as many copies.

        Args:
            env: the environment; one of Gymnasium's vector environments is adapted.
            force_reset: see `BaseAlgorithm.set_env`.
        """
        adapted = VectorEnvAdapter(env) if isinstance(env, VectorEnv) else env
        super().set_env(adapted, force_reset)

    def save(  # type: ignore[override]
        self,
        path: str | Path,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Save all that learning needs to go on; a file that was there is replaced at the end.

        Args:
            path: of the file; `.zip` is added if it has no ending.
            exclude: further attributes to leave out.
            include: attributes to keep that would be left out.
        """
        with atomic_path(zip_path(path)) as unfinished:
            super().save(unfinished, exclude, include)

    @classmethod
    def load(  # type: ignore[override]
        cls,
        path: str | Path,
        env: VectorEnv[Any, Any, Any] | VecEnv | gymnasium.Env[Any, Any] | None = None,
        device: torch.device | str | None = None,
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Self:
        """A saved algorithm that goes on, with `learn(…, reset_num_timesteps=False)`.

        It goes on exactly where it stopped if the environment can: a vector environment of this
        package takes up its sequence again, others are reset.

        Args:
            path: of the file.
            env: the environment to go on in; None makes that of a saved id anew.
            device: where the networks live; None: `default_device`.
            custom_objects: see `BaseAlgorithm.load`.
            print_system_info: print versions, here and when it was saved.
            force_reset: False trusts that `env` is just where it was.
            kwargs: attributes to change, such as `tensorboard_log`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is incomplete, of another version or of another environment.
        """
        target = zip_path(path)
        if isinstance(env, VectorEnv):
            env = VectorEnvAdapter(env)
        device = device or cls.default_device
        with continuable(target):
            model = super().load(
                target, env, device, custom_objects, print_system_info, False, **kwargs
            )
            require_version(model.version)
            if model.algorithm != cls.__name__:
                raise ValueError(f"saved by {model.algorithm}, this is {cls.__name__}")
            model._take_up(force_reset)
            return model

    def _take_up(self, force_reset: bool) -> None:
        """Be where this was when it was saved; see `load`."""


def zip_path(path: str | Path) -> Path:
    """The file, with `.zip` added if it has no ending."""
    target = Path(path)
    return target if target.suffix else target.with_suffix(".zip")


@contextmanager
def continuable(target: Path) -> Iterator[None]:
    """A block that takes up an algorithm from a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is incomplete, of another version or of another environment.
    """
    if not target.is_file():
        raise FileNotFoundError(f"there is no file {target}; name one that save() has written")
    try:
        yield
    except (
        zipfile.BadZipFile,
        # Stable-Baselines3's, where the name of an entry is damaged.
        AssertionError,
        AttributeError,
        EOFError,
        KeyError,
        ValueError,
        RuntimeError,
    ) as error:
        raise ValueError(
            f"{target} cannot be continued here ({error}): it is incomplete, or of another "
            "version or environment; use another checkpoint, or start again"
        ) from error


def require_version(version: str) -> None:
    """Raise ValueError if another version of this package saved an algorithm."""
    if version != __version__:
        raise ValueError(f"saved by version {version}, this is {__version__}")
