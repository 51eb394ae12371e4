"""What command lines share: exit codes, refusals of one line, and numbers."""

import argparse
from typing import Any, NoReturn

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


class Parser(argparse.ArgumentParser):
    """Refuses in one line.

    Args:
        name: of the command, which begins the line.
        kwargs: of `argparse.ArgumentParser`, but for the formatter.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        self.name = name

    def error(self, message: str) -> NoReturn:
        """Exit with the code of misuse."""
        self.exit(MISUSED, f"{self.name}: {message}\n")


def positive(text: str) -> int:
    """A whole number above 0."""
    return at_least(1, text)


def natural(text: str) -> int:
    """A whole number from 0."""
    return at_least(0, text)


def at_least(smallest: int, text: str) -> int:
    """A whole number of at least `smallest`."""
    if not text.isdecimal() or int(text) < smallest:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least {smallest}")
    return int(text)
