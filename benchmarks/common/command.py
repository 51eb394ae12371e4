"""What commands share: options that choose, and an end in one line that says what went wrong."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable

from credit_envs.memory import keep_freed_memory
from credit_envs.workers import WorkerError
from meta.command_line import DONE, FAILED, INTERRUPTED


def add_choice(
    parser: ArgumentParser, option: str, metavar: str, names: Iterable[str], default: str = "all"
) -> None:
    """An option that takes some of these names, or is None.

    Args:
        parser: that gets it.
        option: as in `--only`.
        metavar: what is named.
        names: to choose from.
        default: what None stands for, in words.
    """
    names = list(names)
    parser.add_argument(
        option,
        nargs="+",
        choices=names,
        metavar=metavar,
        help=f"of {'; '.join(names)} (default: {default})",
    )


def exit_code(name: str, work: Callable[[], object], goes_on: bool = True) -> int:
    """Do the work of a command; returns the exit code.

    Args:
        name: of the command, which begins the one line that says what went wrong.
        work: what it does.
        goes_on: whether it keeps its results, so that it goes on where it was interrupted.
    """
    keep_freed_memory()
    try:
        work()
    except KeyboardInterrupt:
        advice = "; the same command goes on" if goes_on else ""
        print(f"{name}: interrupted{advice}", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, WorkerError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return FAILED
    return DONE
