"""Several processes of one run, as `torchrun` and `accelerate launch` start them; a single one is the usual case.

Training is shared by accelerate. This is for what stands around it: who writes files, and who waits for whom.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

# One process may measure for long while the others wait. One that ends is noticed at once all the same.
PATIENCE = timedelta(hours=12)


class LostProcessError(RuntimeError):
    """Another process of the run has ended."""


def connect() -> None:
    """Find the other processes, if there are any. On a machine without a GPU they talk by gloo.

    >>> connect()  # a single process has nobody to find
    >>> distributed.is_initialized(), count()
    (False, 1)
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def disconnect() -> None:
    """Part from the others at the end of the run.

    >>> disconnect()
    >>> distributed.is_initialized()
    False
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()


def count() -> int:
    """How many processes share the run.

    >>> count()
    1
    """
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this one, from 0.

    >>> rank()
    0
    """
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that writes files and speaks.

    >>> is_main()
    True
    """
    return rank() == 0


def wait_for_all() -> None:
    """Go on when every process has come here.

    Raises:
        LostProcessError: one of them has ended.

    >>> wait_for_all(), count()  # a single process goes on at once
    (None, 1)
    """
    if count() > 1:
        with lost_process_named():
            distributed.barrier()


@contextmanager
def lost_process_named() -> Iterator[None]:
    """Turn what a collective says of a lost connection into a `LostProcessError`.

    >>> with lost_process_named():  # of a single process the error stays what it was
    ...     raise RuntimeError("Connection closed by peer")
    Traceback (most recent call last):
    RuntimeError: Connection closed by peer
    """
    try:
        yield
    except RuntimeError as error:
        if count() > 1 and ("onnection" in str(error) or "socket" in str(error).lower()):
            raise LostProcessError("another process of this run has ended") from error
        raise
