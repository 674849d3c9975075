"""The small course, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlab.classroom.notebooks import build
from tests.notebooks.small import write_course


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a built course, which no test may change."""
    root = tmp_path_factory.mktemp("course")
    build(root, write_course(root))
    return root
