"""Forms of the same work in turns, and their speeds as a table."""

import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.common.results import markdown
from benchmarks.inner_loop import spread

OURS = "ours"
HEADER = ("setting", "form", "trials per CPU second", "trials per second", "ours is faster by")


class Turn(NamedTuple):
    """What a form did in its turn, and the seconds it took."""

    trials: int
    wall: float
    cpu: float


Form = Callable[[], Turn]
"""Works for a turn."""


@dataclass
class Speeds:
    """Trials per second of one form, a number for each turn."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


@dataclass
class Row:
    """Speeds of all forms in one setting."""

    setting: str
    speeds: dict[str, Speeds]

    def times(self, form: str, other: str) -> float:
        """How many times as fast as the other by CPU time, by the medians."""
        return statistics.median(self.speeds[form].cpu) / statistics.median(self.speeds[other].cpu)

    def fastest(self, forms: Sequence[str]) -> str:
        """Of these forms, by the median."""
        return max(forms, key=lambda form: self.times(form, OURS))

    def lines(self) -> list[list[str]]:
        """Of the table, in the order of `HEADER`."""
        return [
            [
                self.setting,
                form,
                spread(speeds.cpu),
                spread(speeds.wall),
                "" if form == OURS else f"{self.times(OURS, form):.2f}",
            ]
            for form, speeds in self.speeds.items()
        ]


class Part(ABC):
    """A question that the benchmark answers."""

    name: str
    title: str

    def check(self) -> dict[str, float]:
        """Leave if the forms disagree; else the largest differences, by what was compared."""
        return {}

    @abstractmethod
    def rows(self, repeats: int) -> Iterator[Row]:
        """Measure, setting after setting."""

    @abstractmethod
    def conclusions(self, rows: Sequence[Row]) -> list[str]:
        """What was asked, in a line for each answer."""


def race(setting: str, forms: Mapping[str, Form], repeats: int) -> Row:
    """All forms in turns, so that a busy machine slows all alike, after one that does not count."""
    row = Row(setting, {name: Speeds() for name in forms})
    for repeat in range(repeats + 1):
        for name, form in forms.items():
            turn = form()
            if repeat:
                row.speeds[name].cpu.append(turn.trials / turn.cpu)
                row.speeds[name].wall.append(turn.trials / turn.wall)
    return row


def timed(work: Callable[[], object], trials: int) -> Form:
    """A form that works in this process."""

    def form() -> Turn:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        return Turn(trials, time.perf_counter() - wall, time.process_time() - cpu)

    return form


def require_equal(what: str, difference: float, tolerance: float) -> dict[str, float]:
    """Say how large the difference of weights is, and leave if it is too large."""
    print(f"{what}: largest difference of a weight {difference:.1e}", flush=True)
    if not difference <= tolerance:
        sys.exit(f"they disagree by more than {tolerance}: timing them would say nothing")
    return {what: difference}


def table(rows: Sequence[Row]) -> str:
    """As Markdown."""
    return markdown(HEADER, [line for row in rows for line in row.lines()])
