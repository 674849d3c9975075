"""What the kernels of this process take, with all that they start: memory at most, and time of the processor."""

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


class Usage:
    """Watches every process that this one starts while it is open, and theirs.

    Of a kernel the resident memory counts, and of the processes that it has started what they share with nobody: the
    pages of a fork are its parent's until it writes to them. Where the system keeps the highest value of a single
    process (Linux) no peak between two looks is missed.

    Attributes:
        peak_bytes: the most memory at one time.
        cpu_seconds: of the processor, up to the last look.

    >>> import subprocess, sys
    >>> with Usage() as usage:
    ...     _ = subprocess.run([sys.executable, "-c", "held = bytearray(b'1') * 100_000_000; sum(range(10**7))"])
    >>> 100e6 < usage.peak_bytes < 200e6, 0 < usage.cpu_seconds
    (True, True)
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.cpu_seconds = 0.0
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
        seconds: dict[int, float] = {}  # of each kernel
        while not self._closed.wait(INTERVAL):
            held = 0
            for kernel in self._here.children():
                if kernel.pid not in self._before:
                    memory, cpu = _with_descendants(kernel)
                    held += memory
                    seconds[kernel.pid] = max(cpu, seconds.get(kernel.pid, 0.0))
            self.peak_bytes = max(self.peak_bytes, held)
            self.cpu_seconds = sum(seconds.values())


def _with_descendants(kernel: Process) -> tuple[int, float]:
    """Bytes and seconds of a process and all below it."""
    from psutil import Error

    memory, cpu = 0, 0.0
    with contextlib.suppress(Error):  # it has ended
        descendants = kernel.children(recursive=True)
        memory, cpu = kernel.memory_info().rss, sum(kernel.cpu_times()[:4])  # of ended children too
        for process in descendants:
            with contextlib.suppress(Error):
                cpu += sum(process.cpu_times()[:4])
                memory += process.memory_full_info().uss
    return max(memory, _highest(kernel.pid)), cpu


def _highest(pid: int) -> int:
    """The most that one process has ever held, where Linux tells; else 0."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0
