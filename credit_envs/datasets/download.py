"""Bring a data set into the user's cache."""

import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pooch.core import retrieve
from pooch.downloaders import HTTPDownloader

from credit_envs.datasets.catalogue import SourceSet
from credit_envs.files import atomic_path

#: Seconds after which a server that has not answered counts as out of reach.
PATIENCE = 6.0

# pooch has no types here.
_http: Callable[..., Any] = HTTPDownloader


def fetch(source_set: SourceSet, cache_dir: Path) -> None:
    """Download the files of `source_set` that `cache_dir` lacks, with progress bars on stderr.

    Raises:
        OSError: if the server cannot be reached within `PATIENCE` seconds, sends something else
            than what is published, or the cache cannot be written.
    """
    _check_reachable(source_set.files[0].url)
    downloader = _http(progressbar=True, chunk_size=2**16, timeout=PATIENCE)
    paths = {(file.url, file.url_checksum): file.path for file in source_set.files}
    for (url, checksum), path in paths.items():
        is_archive = url.endswith(".tar.gz")
        target = cache_dir / (Path(url).name if is_archive else f"{path}.gz")
        # Made here because pooch's own attempt fails when two processes make it at once.
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            retrieve(url, checksum, fname=target.name, path=target.parent, downloader=downloader)
        except ValueError as error:  # what pooch raises for a wrong checksum
            raise OSError(f"{url} is not what was published") from error
        if is_archive:
            _unpack(target, source_set, cache_dir)


def _check_reachable(url: str) -> None:
    """Raise OSError unless the server has `url` and says so within `PATIENCE` seconds.

    The question is asked in a thread of its own: looking up the name of a server has no time
    limit that could be set, and each of a server's addresses gets the whole time to connect.
    """
    outcome: list[Exception | bool] = []

    def ask() -> None:
        try:
            outcome.append(_http(timeout=PATIENCE)(url, None, None, check_only=True))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not outcome:
        raise OSError(f"no answer within {PATIENCE:g} seconds from {url}")
    answer = outcome[0]
    if isinstance(answer, Exception):
        raise OSError(f"cannot connect to {url} ({type(answer).__name__})") from answer
    if not answer:
        raise OSError(f"{url} is not there any more")


def _unpack(archive: Path, source_set: SourceSet, cache_dir: Path) -> None:
    with tarfile.open(archive) as tar:
        for file in source_set.files:
            member = tar.extractfile(file.path)
            assert member is not None, "the archive had the right checksum"
            with atomic_path(cache_dir / file.path) as unfinished:
                unfinished.write_bytes(member.read())
    archive.unlink()
