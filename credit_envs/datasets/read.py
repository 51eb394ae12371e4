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

# Of a CIFAR image; a record ends with them, and the label comes before.
_PIXELS = 3 * 32 * 32


class CorruptDataError(ValueError):
    """A file is not what was published: cut short, damaged or changed."""


def read_split(located: Located, files: Sequence[SourceFile]) -> Split:
    """Read one split.

    Args:
        located: the data set and where its files are.
        files: those of the split: idx images and idx labels, or CIFAR binary batches.

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
    images = np.ascontiguousarray(records[:, -_PIXELS:]).reshape(-1, 3, 32, 32)
    classes = records[:, -_PIXELS - 1].astype(np.int64)
    # Where no checksum is published, this tells a file of another format.
    num_classes, largest = located.source_set.num_classes, classes.max()
    if largest >= num_classes:
        reason = f"it holds the label {largest}, though there are {num_classes} classes"
        raise _corrupt(located.paths[files[0]], files[0], reason)
    return images, classes


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
    if file.checksum is not None:
        algorithm, expected = file.checksum.split(":")
        if hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() != expected:
            reason = f"its {algorithm} sum differs from that of the published file"
            raise _corrupt(path, file, reason)
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
