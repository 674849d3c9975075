"""What several commands need."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def quiet() -> None:
    """Leave the terminal to our own progress bars: transformers reports each file that it reads or writes."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def program() -> list[str]:
    """`kdlab` as it was called, for a command to go on with: after `make` it is not on the PATH."""
    called = sys.argv[0]
    return [called] if Path(called).stem == "kdlab" else [sys.executable, "-m", "kdlab.cli"]


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected 1 or more")
    return value


def seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"got {text}, expected 0 or more")
    return value
