"""Keep freed memory in the process, so that a training step on a CPU does not wait for the system.

The C library of Linux gives a large tensor's memory back to the system as soon as it is freed, and the system fills
it with zeros again before the next tensor gets it: a quarter to a third of a step of a small model.
"""

from __future__ import annotations

import ctypes
import os
import sys

# From malloc.h of the GNU C library.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_memory() -> bool:
    """Tell the C library to keep what is freed, for the rest of this process; returns whether it was told.

    Does nothing without the GNU C library, or where the user has set one of its MALLOC_ variables. The process then
    never shrinks below its peak.

    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, MALLOC_ARENA_MAX="1"):  # the user's own setting stands
    ...     keep_memory()
    False
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 2**26}
    return all(mallopt(name, value) for name, value in settings.items())
