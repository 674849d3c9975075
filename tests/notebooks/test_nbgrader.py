"""nbgrader's own commands on the course's folders: the same release, full marks for the solution, none for the release.

They run kernels, and so they are slow.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.notebooks.small import NAME, ROOT, replaced, write_course

pytestmark = pytest.mark.slow
NOTEBOOK = f"{NAME}/{NAME}.ipynb"
# A warning in a graded cell: nbgrader alone gives such a cell no points.
WARNS = replaced(
    "assert double(3) == 6", 'import warnings\n\nwarnings.warn("not stable yet")\nassert double(3) == 6'
)


@pytest.fixture(scope="module", autouse=True)
def path_to_alembic():
    """nbgrader calls `alembic`, which lies beside the Python that runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A built course."""
    root = tmp_path_factory.mktemp("graded")
    write_course(root, WARNS)
    run_module(root, "-m", "kdlab.cli", "notebooks", "build")
    return root


@pytest.fixture(scope="module")
def scores(root) -> dict[str, dict[str, float]]:
    """Points of each graded cell, by student: one hands in the solution, one the release, one has lost a test."""
    run_module(root, "-m", "nbgrader", "generate_assignment", NAME, "--force")
    for student, folder in (("right", "solutions"), ("empty", "course"), ("lost", "solutions")):
        (root / "submitted" / student / NAME).mkdir(parents=True)
        shutil.copy(root / folder / NOTEBOOK, root / "submitted" / student / NOTEBOOK)
    lost = root / "submitted" / "lost" / NOTEBOOK
    notebook = json.loads(lost.read_text(encoding="utf-8"))
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"] != "test_double"]
    lost.write_text(json.dumps(notebook), encoding="utf-8")
    run_module(root, "-m", "nbgrader", "autograde", NAME)
    return {student: points(root, student) for student in ("right", "empty", "lost")}


def run_module(root: Path, *arguments: str) -> None:
    """Run a module in the root of a course."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *arguments], cwd=root, env=environment, check=True)


def points(root: Path, student: str) -> dict[str, float]:
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{root / 'gradebook.db'}") as gradebook:
        submission = gradebook.find_submission_notebook(NAME, NAME, student)
        return {grade.name: grade.auto_score for grade in submission.grades}


def test_nbgrader_makes_the_same_release_and_copies_nothing_else(root, scores):
    built = {path: path.read_bytes() for path in (root / "course").rglob("*") if path.is_file()}
    run_module(root, "-m", "kdlab.cli", "notebooks", "check")
    assert sorted(path.name for path in built) == [f"{NAME}.ipynb", "runs.json"]


def test_the_solution_has_full_marks_and_a_warning_costs_none(root, scores):
    assert scores["right"] == {"test_double": 2, "test_floor": 1, "why": None}  # an essay waits for a person
    feedback = json.loads((root / "autograded" / "right" / NOTEBOOK).read_text(encoding="utf-8"))
    (test,) = (cell for cell in feedback["cells"] if cell["id"] == "test_double")
    assert "not stable yet" in json.dumps(test["outputs"])
    assert not (root / "autograded" / "right" / NAME / "helper.py").exists()


def test_the_release_has_none(scores):
    assert scores["empty"] == {"test_double": 0, "test_floor": 0, "why": 0}


def test_a_lost_test_is_put_back(scores):
    assert scores["lost"]["test_double"] == 2
