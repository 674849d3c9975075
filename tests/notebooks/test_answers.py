"""Answers to the exercises, right ones and usual wrong ones: each is checked and graded as a student's would be.

`answers/NN_topic.py` holds ANSWERS: exercise -> {"right": {name: code}, "wrong": {name: (code, sentence)}}, where
`code` stands for the whole exercise cell and the visible check must say `sentence`. Nothing is run in a kernel: the
cells of the source notebook are executed once, up to each exercise, and every answer goes on from there.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kdlab.classroom.notebooks import read_script, source_notebook
from kdlab.classroom.script import HIDDEN_TESTS, without_regions

ROOT = Path(__file__).parents[2]
FILES = {path.stem: path for path in sorted((Path(__file__).parent / "answers").glob("[0-9]*.py"))}
ANSWERS = {notebook: runpy.run_path(str(path))["ANSWERS"] for notebook, path in FILES.items()}


def script(notebook: str):
    return read_script(ROOT, ROOT / "solutions" / notebook / f"{notebook}.py")


@cache
def cells(notebook: str) -> dict[str, str]:
    """Cell id -> code, in order; the id of a cell that has a name is the name."""
    return {
        cell.id: cell.source for cell in source_notebook(script(notebook)).cells if cell.cell_type == "code"
    }


@cache
def namespaces(notebook: str) -> dict[str, dict[str, Any]]:
    """Exercise or quiz -> what is defined when a reader comes to it. Nothing is trained: the profile is `grade`."""
    answered = {cell.name for cell in script(notebook).cells if cell.kind in ("exercise", "quiz")}
    namespace: dict[str, Any] = {"__name__": "notebook", "display": lambda *_: None}
    before = {}
    for name, code in cells(notebook).items():
        if name in answered:
            before[name] = dict(namespace)
        if not name.startswith("test_"):
            with chdir(ROOT / "solutions" / notebook):  # a notebook reads the files that are released with it
                run(code, name, namespace)
        if name == "parameters" or code.strip() == 'profile = "auto"':
            namespace["profile"] = "grade"
    return before


def run(code: str, name: str, namespace: dict[str, Any]) -> None:
    exec(compile(code, f"<{name}>", "exec"), namespace)


def submit(notebook: str, exercise: str, code: str, capsys) -> tuple[str, BaseException | None]:
    """What the visible check prints, and what the test raises."""
    namespace = dict(namespaces(notebook)[exercise])
    capsys.readouterr()
    run(code, exercise, namespace)
    run(cells(notebook)[f"check_{exercise}"], f"check_{exercise}", namespace)
    said = capsys.readouterr().out
    try:
        run(cells(notebook)[f"test_{exercise}"], f"test_{exercise}", namespace)
    except Exception as error:
        return said, error
    return said, None


def answers(kind: str) -> Iterator[Any]:
    for notebook, exercises in ANSWERS.items():
        for exercise, both in exercises.items():
            for name, answer in both[kind].items():
                values = answer if isinstance(answer, tuple) else (answer,)
                yield pytest.param(notebook, exercise, *values, id=f"{notebook}-{exercise}-{name}")


def letters(right: bool) -> Iterator[Any]:
    for notebook in ANSWERS:
        for cell in script(notebook).cells:
            if cell.kind == "quiz":
                key = next(line for line in cell.source.splitlines() if line.startswith('answer = "'))[10]
                for letter in "ABCD":
                    if (letter == key) == right:
                        yield pytest.param(notebook, cell.name, letter, id=f"{notebook}-{cell.name}-{letter}")


@pytest.mark.parametrize(("notebook", "exercise", "code"), list(answers("right")))
def test_a_right_answer_passes(notebook, exercise, code, capsys):
    said, error = submit(notebook, exercise, code, capsys)
    assert error is None, error
    assert "not right" not in said
    assert "not written" not in said


@pytest.mark.parametrize(("notebook", "exercise", "code", "sentence"), list(answers("wrong")))
def test_a_wrong_answer_fails_and_is_named(notebook, exercise, code, sentence, capsys):
    said, error = submit(notebook, exercise, code, capsys)
    assert error is not None, "the test lets it pass"
    assert sentence in said


@pytest.mark.parametrize(("notebook", "name", "letter"), list(letters(right=True)))
def test_the_key_of_a_quiz_passes(notebook, name, letter, capsys):
    said, error = submit(notebook, name, f'answer = "{letter}"', capsys)
    assert error is None, error
    assert f"Your answer, {letter}, is right" in said


@pytest.mark.parametrize(("notebook", "name", "letter"), list(letters(right=False)))
def test_every_other_choice_fails_and_is_explained(notebook, name, letter, capsys):
    said, error = submit(notebook, name, f'answer = "{letter}"', capsys)
    assert isinstance(error, AssertionError)
    assert f"Your answer, {letter}, is not right" in said


@pytest.mark.parametrize("notebook", ANSWERS)
def test_every_exercise_has_its_answers(notebook):
    exercises = {cell.name for cell in script(notebook).cells if cell.kind == "exercise"}
    assert set(ANSWERS[notebook]) == exercises
    for exercise, both in ANSWERS[notebook].items():
        assert len(both["right"]) >= 2, exercise
        assert len(both["wrong"]) >= 4, exercise


@pytest.mark.parametrize("notebook", ANSWERS)
def test_an_exercise_that_is_not_begun_is_no_accident(notebook, capsys):
    """Not in the release either, whose tests have no hidden part."""
    tests = {cell.name: cell for cell in script(notebook).cells if cell.kind == "test"}
    for exercise in ANSWERS[notebook]:
        head = next(line for line in cells(notebook)[exercise].splitlines() if line.strip())
        if not head.startswith("def "):
            continue
        said, error = submit(notebook, exercise, f"{head}\n    raise NotImplementedError", capsys)
        assert "not written yet" in said, exercise
        assert isinstance(error, NotImplementedError), exercise
        visible = without_regions(tests[exercise].source, HIDDEN_TESTS)
        namespace = dict(namespaces(notebook)[exercise])
        run(f"{head}\n    raise NotImplementedError", exercise, namespace)
        run(cells(notebook)[f"check_{exercise}"], f"check_{exercise}", namespace)
        with pytest.raises(NotImplementedError):
            run(visible, f"test_{exercise}", namespace)
