"""The graded tests catch small slips in an answer; and the run that says so can say otherwise."""

from __future__ import annotations

import pytest

from kdlab.classroom.script import HIDDEN_TESTS, without_regions
from kdlab.files import read_json
from tests.notebooks import mutant_run
from tests.notebooks.mutant_run import grade_mutants
from tests.notebooks.mutation import mutants
from tests.notebooks.running import ROOT, cells, notebooks
from tests.notebooks.survivors import SURVIVORS

AGAIN = "run `python -m tests.bench mutants`"


@pytest.mark.slow
@pytest.mark.parametrize("notebook", notebooks())
def test_the_graded_tests_catch_small_slips(notebook):
    graded = grade_mutants(notebook)
    assert graded.rate >= 0.95, graded.survivors
    assert set(graded.survivors) == set(SURVIVORS.get(notebook, {})), "tests/notebooks/survivors.py"
    record = (read_json(ROOT / "results" / "mutants.json") or {}).get("notebooks", {})
    assert notebook in record, AGAIN
    counts = {kind: len(found) for kind, found in vars(graded).items()}
    there = {**record[notebook], **{kind: len(record[notebook][kind]) for kind in ("survivors", "same")}}
    assert counts == {kind: there[kind] for kind in counts}, AGAIN


def test_no_survivor_is_listed_for_a_notebook_that_is_gone():
    assert set(SURVIVORS) <= set(notebooks())
    assert all(reason.strip() for known in SURVIVORS.values() for reason in known.values())


WELCOME, COUNT = "00_welcome", "count_words"


@pytest.fixture
def one_exercise(monkeypatch):
    """Grades given mutants of the welcome notebook's exercise, with its hidden tests or without."""

    def grade(*codes: str, hidden: bool = True):
        kept = dict(cells(WELCOME))
        if not hidden:
            kept[f"test_{COUNT}"] = without_regions(kept[f"test_{COUNT}"], HIDDEN_TESTS)
        monkeypatch.setattr(mutant_run, "cells", lambda _: kept)
        monkeypatch.setattr(mutant_run, "mutants", lambda _: dict(enumerate(codes)))
        return grade_mutants(WELCOME)

    return grade


HEAD = f"def {COUNT}(sentence):\n"


def test_a_weak_test_has_survivors(one_exercise):
    always_four = HEAD + "    return 4"
    assert one_exercise(always_four, hidden=False).survivors == ["count_words: 0"]
    assert one_exercise(always_four, hidden=False).rate == 0
    assert one_exercise(always_four).caught == ["count_words: 0"]


def test_a_mutant_that_does_not_end_is_stopped(one_exercise, monkeypatch):
    monkeypatch.setattr(mutant_run, "SECONDS", 0.2)
    body = "    while True:\n        try:\n            sentence = 'x'\n        except Exception:\n            pass"
    assert one_exercise(HEAD + body).stopped == ["count_words: 0"]


def test_one_that_raises_is_stopped_and_one_that_cannot_be_defined_is_not_counted(one_exercise):
    graded = one_exercise(HEAD + "    return 1 / 0", "1 / 0")
    assert (graded.stopped, graded.broken) == (["count_words: 0"], ["count_words: 1"])


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ("return scaled - scaled", "return 0.0 + scaled - scaled", "same"),
        ("scaled.max(-1, keepdim=True).values", "scaled.amax(-1, keepdim=True)", "same"),
        ("logits.float() / temperature", "1.00002 * logits.float() / temperature", "survivors"),
        ("logits.float() / temperature", "logits.detach().float() / temperature", "survivors"),
        ("logits.float() / temperature", "logits.float() * temperature", "caught"),
    ],
)
def test_whether_a_slip_changes_anything_is_found_out(old, new, verdict):
    """The test of log_softmax asks for four digits and no gradient; the comparison for more."""
    notebook = "01_teacher_distribution"
    source = cells(notebook)["log_softmax"]
    assert source.count(old) == 1
    mutant = source.replace(old, new)
    assert mutant_run._verdict(notebook, "log_softmax", source, mutant) == verdict


def test_a_slip_stands_in_the_solution_and_nowhere_else():
    source = "x = 1 + 2\n### BEGIN SOLUTION\nx = {'a', 'b'} if x else x[1:]\n### END SOLUTION\ny = 3 * x"
    found = mutants(source)
    assert "`x = {'a', 'b'} if x else x[1:]` -> `x = {'b'} if x else x[1:]`" in found
    assert "`x = {'a', 'b'} if x else x[1:]` -> `x = {'a', 'b'} if not x else x[1:]`" in found
    assert all("x = 1 + 2\n" in code and code.endswith("\ny = 3 * x") for code in found.values())
    assert len(set(found.values())) == len(found)
