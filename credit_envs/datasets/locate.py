"""Where a data set lies on this computer."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pooch.utils import os_cache

from credit_envs.datasets.catalogue import SourceFile, SourceSet

ENVIRONMENT_VARIABLE = "CREDIT_ENVS_DATA"
ENDINGS = ("", ".gz", ".xz")


@dataclass(frozen=True)
class Located:
    """A data set all of whose files were found.

    Attributes:
        source_set: which of the possible sets it is.
        folder: the data folder that holds it.
        paths: for each of its files, the path, possibly with ``.gz`` or ``.xz``.
    """

    source_set: SourceSet
    folder: Path
    paths: dict[SourceFile, Path]


def user_cache() -> Path:
    """The folder of this user in which downloads and decoded copies are kept."""
    return Path(os_cache("credit_envs")).expanduser()


def find(folder: Path, source_sets: Iterable[SourceSet]) -> Located | None:
    """The first of `source_sets` that is complete in `folder`."""
    for source_set in source_sets:
        paths = {file: path for file in source_set.files if (path := _path_of(folder, file))}
        if len(paths) == len(source_set.files):
            return Located(source_set, folder, paths)
    return None


def look_up(
    source_sets: tuple[SourceSet, ...],
    data_dir: Path | None,
    environment_dir: Path | None,
    cache_dir: Path,
) -> Located | None:
    """Look in `data_dir` alone if it is given, else in the other two, in this order.

    Returns:
        What was found, or None if neither of the latter two folders has the data set complete.

    Raises:
        FileNotFoundError: if `data_dir` or `environment_dir` is no folder that can be read, if
            `data_dir` lacks the data set, or if either has only some of its files.
    """
    if data_dir is not None:
        _check_folder(data_dir, "data_dir")
        if located := find(data_dir, source_sets):
            return located
        raise _missing(data_dir, source_sets[0])
    if environment_dir is not None:
        _check_folder(environment_dir, ENVIRONMENT_VARIABLE)
        if located := find(environment_dir, source_sets):
            return located
        if any(_path_of(environment_dir, file) for each in source_sets for file in each.files):
            raise _missing(environment_dir, source_sets[0])
    return find(cache_dir, source_sets)


def _path_of(folder: Path, file: SourceFile) -> Path | None:
    candidates = (folder / f"{file.path}{ending}" for ending in ENDINGS)
    # Path.is_file() raises where a folder may not be entered, some computers' cache.
    return next((path for path in candidates if os.path.isfile(path)), None)


def _check_folder(folder: Path, origin: str) -> None:
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"{origin} is {folder}, which is not a folder: create it or correct the path."
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise FileNotFoundError(
            f"{origin} is {folder}, which this user may not read: change its permissions or name "
            "another folder."
        )


def _missing(folder: Path, source_set: SourceSet) -> FileNotFoundError:
    missing = next(file.path for file in source_set.files if not _path_of(folder, file))
    return FileNotFoundError(
        f"{source_set.name} is not complete in {folder}: {missing} is missing. "
        f"{source_set.how_to_get}"
    )
