"""Decode the file formats, and check that files are what was published."""

import gzip
import hashlib
import lzma
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from credit_envs.datasets.catalogue import SourceFile
from credit_envs.datasets.locate import Located

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]


class CorruptDataError(ValueError):
    """A file is not what was published: cut short, damaged or changed."""


def read_split(located: Located, files: Sequence[SourceFile]) -> Split:
    """Read one split.

    Args:
        located: the data set and where its files are.
        files: those of the split: idx images and idx labels, or CIFAR-10 binary batches.

    Returns:
        Images, uint8 of shape (N, C, H, W), and labels, int64 of shape (N,).

    Raises:
        CorruptDataError: if a file is not what was published.
    """
    # Threads, because the decoders release the interpreter lock: xz takes seconds per batch.
    with ThreadPoolExecutor(len(files)) as pool:
        arrays = list(pool.map(lambda file: read_file(located.paths[file], file), files))
    if files[0].header:
        images, labels = arrays
        return images[:, np.newaxis], labels.astype(np.int64)
    records = np.concatenate(arrays)
    images = np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32)
    return images, records[:, 0].astype(np.int64)


def read_file(path: Path, file: SourceFile) -> NDArray[np.uint8]:
    """The array in the file at `path`, which may be plain, ``.gz`` or ``.xz``.

    Raises:
        CorruptDataError: if its content is not that of `file`.
    """
    content = _unpacked(path, file)
    if len(content) != file.num_bytes:
        raise _corrupt(path, file, f"it holds {len(content)} bytes instead of {file.num_bytes}")
    if not content.startswith(file.header):
        raise _corrupt(path, file, "it does not begin with the header of its idx format")
    algorithm, expected = file.checksum.split(":")
    if hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() != expected:
        raise _corrupt(path, file, f"its {algorithm} sum differs from that of the published file")
    return np.frombuffer(content, np.uint8, offset=len(file.header)).reshape(file.shape)


def _unpacked(path: Path, file: SourceFile) -> bytes:
    content = path.read_bytes()
    try:
        if path.suffix == ".gz":
            return gzip.decompress(content)
        if path.suffix == ".xz":
            return lzma.decompress(content)
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise _corrupt(path, file, f"it cannot be unpacked ({error})") from error
    return content


def _corrupt(path: Path, file: SourceFile, reason: str) -> CorruptDataError:
    return CorruptDataError(
        f"{path} is damaged: {reason}. Delete it and download it again from {file.url}."
    )
