"""The small course, built once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdlab.classroom.notebooks import build
from tests.notebooks.small import write_course

# Kernels work in folders of their own, and must find this kdlab there, whichever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])
)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a built course, which no test may change."""
    root = tmp_path_factory.mktemp("course")
    build(root, write_course(root))
    return root
