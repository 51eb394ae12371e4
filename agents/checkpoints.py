"""What saved algorithms have in common: where they lie, and what is said of those that are bad."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from credit_envs import __version__


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
