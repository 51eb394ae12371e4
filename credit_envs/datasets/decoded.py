"""Decoded copies of splits that take long to decode."""

import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from credit_envs.datasets.read import Split
from credit_envs.files import atomic_path

# What numpy and zipfile raise for a damaged file; zipfile compares the checksums it keeps.
_DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, TypeError, zipfile.BadZipFile)


def keep_decoded(copy: Path, sources: Iterable[Path], decode: Callable[[], Split]) -> Split:
    """The split kept at `copy` if it was made from `sources` as they are now, else a new one.

    A copy that is out of date or damaged is made anew; one that cannot be written is done without.

    Args:
        copy: an ``.npz`` file, which need not exist.
        sources: the files that `decode` reads. Their paths, sizes and times of change tell
            whether the copy still stands for them.
        decode: makes the split.

    Returns:
        Images, uint8 of shape (N, C, H, W), and labels, int64 of shape (N,).
    """
    stamp = "\n".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in sources)
    with suppress(*_DAMAGED), np.load(copy) as kept:
        if str(kept["stamp"]) == stamp:
            return kept["x"], kept["y"]
    x, y = decode()
    with suppress(OSError), atomic_path(copy) as unfinished:
        np.savez(unfinished, stamp=stamp, x=x, y=y)
    return x, y
