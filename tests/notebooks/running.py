"""The cells of the solution notebooks, run without a kernel: once each, and from there on as often as a test likes."""

from __future__ import annotations

import contextlib
from functools import cache
from pathlib import Path
from typing import Any

from kdlab.classroom.notebooks import find_scripts, read_script, source_notebook
from kdlab.classroom.script import Script

ROOT = Path(__file__).parents[2]


def notebooks() -> list[str]:
    """Those that have exercises."""
    names = [path.stem for path in find_scripts(ROOT)]
    return [name for name in names if any(cell.kind == "exercise" for cell in script(name).cells)]


@cache
def script(notebook: str) -> Script:
    return read_script(ROOT, ROOT / "solutions" / notebook / f"{notebook}.py")


@cache
def cells(notebook: str) -> dict[str, str]:
    """Cell id -> code, in order; the id of a cell that has a name is the name."""
    return {
        cell.id: cell.source for cell in source_notebook(script(notebook)).cells if cell.cell_type == "code"
    }


@cache
def namespaces(notebook: str) -> dict[str, dict[str, Any]]:
    """Cell id -> what is defined before it, by the solutions. Nothing is trained: the profile is `grade`."""
    namespace: dict[str, Any] = {"__name__": "notebook", "display": lambda *_: None}
    before = {}
    with contextlib.chdir(ROOT / "solutions" / notebook):  # where its release files are
        for name, code in cells(notebook).items():
            before[name] = dict(namespace)
            if not name.startswith("test_"):
                run(code, name, namespace)
            if code.strip() == 'profile = "auto"':
                namespace["profile"] = "grade"
    return before


def run(code: str, name: str, namespace: dict[str, Any]) -> None:
    exec(compile(code, f"<{name}>", "exec"), namespace)
