"""The scripts that made the runs beside a notebook still find all that they call. Nothing is trained here."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.notebooks.running import ROOT

SCRIPTS = [path for path in sorted((ROOT / "solutions").glob("*/*.py")) if path.stem != path.parent.name]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_can_be_loaded(path: Path, monkeypatch):
    monkeypatch.syspath_prepend(path.parent)
    assert callable(runpy.run_path(str(path))["main"])
