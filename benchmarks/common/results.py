"""Results files: every number of a table or figure, with what made it; interrupted ones go on.

A file holds cells. A cell is computed once, kept at once, and taken from the file from then on, as
long as its settings are the same. So an interrupted command goes on where it stopped, and the
pages of the documentation are made from the files.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich.progress import track

from credit_envs.files import atomic_path
from credit_envs.local_workers import begin_worker
from meta.runs import provenance
from meta.spread import sample_std

FOLDER = Path(__file__).parents[1] / "results"
Cell = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A cell to compute.

    Attributes:
        key: its place in the table, to be read by people.
        compute: a function of a module, which gives the result as JSON.
        settings: its keyword arguments, as JSON; all that the result depends on.
    """

    key: str
    compute: Callable[..., Mapping[str, Any]]
    settings: Mapping[str, Any]


class ResultsFile:
    """The cells of one table or figure.

    Args:
        name: of the file, without its ending.
        quick: keep apart what `--quick` computes.
        folder: where the file lies.

    Raises:
        ValueError: the file is there but is damaged.
    """

    def __init__(self, name: str, quick: bool = False, folder: Path = FOLDER) -> None:
        self.path = folder / f"{name}{'-quick' if quick else ''}.json"
        self.cells = self._read()

    def _read(self) -> dict[str, Any]:
        try:
            cells: dict[str, Any] = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{self.path} is damaged ({error}); restore it, or delete it to start again"
            ) from error
        return cells

    def cell(
        self, key: str, settings: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]
    ) -> Cell:
        """The cell `key`, computed now unless it is there with the same settings.

        Args:
            key: its place in the table, to be read by people.
            settings: all that the result depends on, as JSON.
            compute: gives the result, as JSON.
        """
        if self.find(key, settings) is None:
            started = time.perf_counter()
            result = compute()
            self._keep(key, settings, result, time.perf_counter() - started)
        return dict(self.cells[key])

    def find(self, key: str, settings: Mapping[str, Any]) -> Cell | None:
        """The cell `key`, or None unless it is there with these settings."""
        cell: Cell | None = self.cells.get(key)
        if cell is None or cell["settings"] != json.loads(json.dumps(settings)):
            return None
        return cell

    def find_all(self, jobs: Iterable[Job]) -> list[Cell]:
        """The cells of these jobs that are there with their settings."""
        found = (self.find(job.key, job.settings) for job in jobs)
        return [cell for cell in found if cell is not None]

    def fill(self, jobs: Sequence[Job], workers: int | None = None) -> None:
        """Compute the cells that are missing, each kept as soon as it is there.

        Args:
            jobs: the cells, longest first.
            workers: processes; None: one per core.
        """
        missing = [job for job in jobs if self.find(job.key, job.settings) is None]
        if not missing:
            return
        count = min(workers or os.cpu_count() or 1, len(missing))
        context = get_context("spawn")
        with ProcessPoolExecutor(count, context, begin_worker) as pool:
            jobs_of: dict[Future[tuple[Mapping[str, Any], float]], Job] = {
                pool.submit(_timed, job): job for job in missing
            }
            try:
                for future in track(
                    as_completed(jobs_of), description=self.path.stem, total=len(missing)
                ):
                    job = jobs_of[future]
                    self._keep(job.key, job.settings, *future.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _keep(
        self, key: str, settings: Mapping[str, Any], result: Mapping[str, Any], seconds: float
    ) -> None:
        # Another command may have written to the file since it was read.
        self.cells |= self._read()
        self.cells[key] = {
            "settings": json.loads(json.dumps(settings)),
            **result,
            "seconds": round(seconds, 1),
            "made_by": provenance(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path) as unfinished:
            unfinished.write_text(json.dumps(self.cells, indent=1, sort_keys=True) + "\n")


def makers(cells: Iterable[Cell]) -> str:
    """Hardware, versions and commits of these cells, in a line."""
    made_by = [cell["made_by"] for cell in cells]
    hardware = sorted({maker["hardware"] for maker in made_by})
    versions = sorted(
        {", ".join(f"{n} {v}" for n, v in sorted(maker["versions"].items())) for maker in made_by}
    )
    commits = sorted({maker["commit"] for maker in made_by})
    return f"{'; '.join(hardware)}; {'; '.join(versions)}; commit {', '.join(commits)}"


def _timed(job: Job) -> tuple[Mapping[str, Any], float]:
    started = time.perf_counter()
    return job.compute(**job.settings), time.perf_counter() - started


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: ArrayLike, factor: float = 100.0, digits: int = 2) -> str:
    """Mean ± standard deviation, in per cent unless told; the value alone where there is one."""
    scaled = factor * np.asarray(values)
    mean = f"{scaled.mean():.{digits}f}".replace("-", "−")
    return mean if len(scaled) == 1 else f"{mean} ± {sample_std(scaled):.{digits}f}"
