"""Results files: every number of a table or figure, with what made it; interrupted ones go on.

A file holds cells. A cell is computed once, kept at once, and taken from the file from then on, as
long as its settings are the same. So an interrupted command goes on where it stopped, and the
pages of the documentation are made from the files.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from credit_envs.files import atomic_path
from meta.runs import provenance

FOLDER = Path(__file__).parent / "results"
Cell = Mapping[str, Any]


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
        self.cells: dict[str, Any] = {}
        if self.path.exists():
            try:
                self.cells = json.loads(self.path.read_text())
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{self.path} is damaged ({error}); restore it, or delete it to start again"
                ) from error

    def cell(
        self, key: str, settings: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]
    ) -> Cell:
        """The cell `key`, computed now unless it is there with the same settings.

        Args:
            key: its place in the table, to be read by people.
            settings: all that the result depends on, as JSON.
            compute: gives the result, as JSON.
        """
        settings = json.loads(json.dumps(settings))
        kept = self.cells.get(key)
        if kept is not None and kept["settings"] == settings:
            return dict(kept)
        started = time.perf_counter()
        result = compute()
        seconds = round(time.perf_counter() - started, 1)
        self.cells[key] = {
            "settings": settings,
            **result,
            "seconds": seconds,
            "made_by": provenance(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path) as unfinished:
            unfinished.write_text(json.dumps(self.cells, indent=1, sort_keys=True) + "\n")
        return dict(self.cells[key])

    def makers(self) -> str:
        """Hardware, versions and commits of all cells, in a sentence."""
        made_by = [cell["made_by"] for cell in self.cells.values()]
        hardware = sorted({maker["hardware"] for maker in made_by})
        versions = sorted(
            {", ".join(f"{n} {v}" for n, v in maker["versions"].items()) for maker in made_by}
        )
        commits = sorted({maker["commit"] for maker in made_by})
        return f"{'; '.join(hardware)}; {'; '.join(versions)}; commit {', '.join(commits)}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], factor: float = 100.0) -> str:
    """Mean ± standard deviation in per cent; the value alone where there is one."""
    scaled = factor * np.asarray(values)
    if len(scaled) == 1:
        return f"{scaled[0]:.2f}"
    return f"{scaled.mean():.2f} ± {scaled.std():.2f}"
