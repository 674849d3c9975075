"""Graders that are tested: every right answer to an exercise passes, every wrong one fails, and its check says why.

`answers/NN_topic.py` holds ANSWERS: exercise -> {"right": {name: code}, "wrong": {name: (code, sentence)}}; the code
stands for the whole exercise cell, and the sentence is what the visible check must say. A notebook's cells run once,
without a kernel; each answer then meets its check and its test in a copy of the names that were there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import linecache
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kdlab.classroom.notebooks import read_script, source_notebook

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((Path(__file__).parent / "answers").glob("*.py"))


def answers_of(file: Path) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location(f"answers_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Any] = module.ANSWERS
    return found


def cases() -> list[Any]:
    return [
        pytest.param(
            file.stem, exercise, code, sentence, id=f"{file.stem}-{exercise}-{name}".replace(" ", "_")
        )
        for file in FILES
        for exercise, kinds in answers_of(file).items()
        for name, code, sentence in (
            *((name, code, None) for name, code in kinds["right"].items()),
            *((name, *wrong) for name, wrong in kinds["wrong"].items()),
        )
    ]


def run(source: str, names: dict[str, Any], cell: str) -> str:
    """What a cell prints; `cell` is what a traceback calls it, and where a check finds the student's line."""
    linecache.cache[cell] = (len(source), None, source.splitlines(keepends=True), cell)
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(compile(source, cell, "exec"), names)
    return told.getvalue()


@cache
def notebook(name: str) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """The code cells of a solution by their ids, and the names that there are before each of them."""
    import matplotlib

    matplotlib.use("agg")
    script = read_script(ROOT, ROOT / "solutions" / name / f"{name}.py")
    cells = {cell.id: cell.source for cell in source_notebook(script).cells if cell.cell_type == "code"}
    names: dict[str, Any] = {"__name__": "__main__"}
    before = {}
    for place, source in cells.items():
        before[place] = dict(names)
        run(source.replace('profile = "auto"', 'profile = "grade"'), names, f"<{place}>")
    return cells, before


@pytest.mark.parametrize(("name", "exercise", "code", "sentence"), cases())
def test_answer(name: str, exercise: str, code: str, sentence: str | None) -> None:
    cells, before = notebook(name)
    names = dict(before[exercise])
    run(code, names, "<answer>")
    said = run(cells[f"check_{exercise}"], names, "<check>")
    if sentence is None:
        assert "not right" not in said
        run(cells[f"test_{exercise}"], names, "<test>")
    else:
        assert sentence in said
        with pytest.raises(Exception):  # noqa: B017, PT011 (whatever it is, it costs the points)
            run(cells[f"test_{exercise}"], names, "<test>")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_exercise_has_two_right_answers_and_four_wrong_ones(file: Path) -> None:
    script = read_script(ROOT, ROOT / "solutions" / file.stem / f"{file.stem}.py")
    found = answers_of(file)
    assert set(found) == {cell.name for cell in script.cells if cell.kind == "exercise"}
    for exercise, kinds in found.items():
        assert len(kinds["right"]) >= 2, exercise
        assert len(kinds["wrong"]) >= 4, exercise
