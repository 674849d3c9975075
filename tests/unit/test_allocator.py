"""The C library keeps what is freed: seen in the number of page faults, not in seconds."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from kdlab.allocator import keep_memory
print(keep_memory() if sys.argv[1] == "keep" else "left alone")
for _ in range(3):
    torch.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(argument: str, **environment: str) -> tuple[str, int]:
    command = [sys.executable, "-c", SCRIPT, argument]
    told, faults = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment or None
    ).stdout.split("\n")[:2]
    return told, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the GNU C library")
def test_a_tensor_gets_the_memory_of_the_one_before() -> None:
    """Ten tensors of 32 MiB: without, each of them is paged in anew."""
    told, kept = run("keep")
    assert told == "True"
    # Not more: a system that reclaims idle pages, as some virtual machines do, makes some of them come anew too.
    assert run("leave")[1] > 1.3 * kept


def test_the_user_s_own_settings_are_left_alone() -> None:
    assert run("keep", MALLOC_ARENA_MAX="2")[0] == "False"
