"""The end of a command that resumes: done, interrupted, or one line that says what went wrong."""

import sys
from collections.abc import Callable

from credit_envs.workers import WorkerError
from meta.command_line import DONE, FAILED, INTERRUPTED


def exit_code(name: str, work: Callable[[], object]) -> int:
    """Do the work of a command that goes on where it was interrupted; returns the exit code.

    Args:
        name: of the command, which begins the one line that says what went wrong.
        work: which keeps its results as it goes.
    """
    try:
        work()
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, WorkerError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return FAILED
    return DONE
