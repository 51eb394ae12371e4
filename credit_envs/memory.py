"""Memory that tensors leave behind, for the tensors that follow."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of <malloc.h>
_NEVER = -1


def keep_freed_memory() -> None:
    """Keep what freed tensors have held, for this process, until it ends.

    The GNU C library hands blocks above 32 MB back when they are freed, and the system zeroes every
    page of new ones: with 10,000 images and more a good part of an update. Other C libraries are
    left as they are. It is for commands and worker processes; a program that imports the package
    may want its memory back.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_TRIM_THRESHOLD, _NEVER)
    mallopt(_MMAP_MAX, 0)
