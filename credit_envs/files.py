"""Writing files so that a crash, a full disk or a kill never costs what was there before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to; it replaces `target` once the block has succeeded.

    Raises:
        OSError: the file could not be written, with the fix; `target` is as it was.
    """
    unfinished = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        os.replace(unfinished, target)
    # PyTorch reports a full disk as a RuntimeError.
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(
            f"cannot write {target} ({reason}); free space or choose another folder; a file that "
            "was there before is untouched"
        ) from error
    finally:
        with suppress(OSError):
            unfinished.unlink()
