"""How much memory the kernels of this process hold at most, with all that they start."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from psutil import Process

INTERVAL = 0.1  # seconds between two looks


class PeakMemory:
    """Watches every process that this one starts while it is open, and theirs.

    Of a kernel the resident memory counts, and of the processes that it has started what they share with nobody: the
    pages of a fork are its parent's until it writes to them. Where the system keeps the highest value of a single
    process (Linux) no peak between two looks is missed.

    Attributes:
        bytes: the highest value.

    >>> import subprocess, sys
    >>> with PeakMemory() as peak:
    ...     _ = subprocess.run([sys.executable, "-c", "held = bytearray(b'1') * 100_000_000"])
    >>> 100e6 < peak.bytes < 200e6
    True
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._closed = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        from psutil import Process

        self._here = Process()
        self._before = {child.pid for child in self._here.children()}
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(INTERVAL):
            started = [child for child in self._here.children() if child.pid not in self._before]
            self.bytes = max(self.bytes, sum(map(_with_descendants, started)))


def _with_descendants(kernel: Process) -> int:
    from psutil import Error

    total = 0
    with contextlib.suppress(Error):  # it has ended
        descendants = kernel.children(recursive=True)
        total = kernel.memory_info().rss
        for process in descendants:
            with contextlib.suppress(Error):
                total += process.memory_full_info().uss
    return max(total, _highest(kernel.pid))


def _highest(pid: int) -> int:
    """The most that one process has ever held, where Linux tells; else 0."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0
