"""Every notebook of the course as it is run: the solution by papermill, the release by nbclient, both as graded.

A notebook that is new is taken up by itself. The graders' own judgement of the solutions is slow; the rest is not.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.apps import NbGraderAPI
from traitlets.config.loader import PyFileConfigLoader

from kdlab.classroom.notebooks import find_scripts, read_script, source_notebook
from kdlab.classroom.run import run_solution
from kdlab.files import cache_folder
from kdlab.phrasebook_teacher import FOLDER, phrasebook_teacher
from tests.notebooks.execution import errors, execute

ROOT = Path(__file__).parents[2]
SCRIPTS = find_scripts(ROOT)
# Budgets of a notebook with the profile `ci`, and of its grading beyond the imports. The seconds that are checked are
# the processor's, of one thread: the clock's say how much else the machine has to do. `results/course.json` has both.
CI_SECONDS, CI_MEGABYTES, GRADE_SECONDS = 60, 1500, 5
STEPS = 100  # of optimizers: what a test may take for itself; the shortest training of the course takes more

each_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
# Where a cache can be neither found nor made, not even by root.
NO_CACHE = Path(os.devnull) / "cache"


@pytest.fixture(scope="session")
def teacher() -> Path:
    """The teacher in the user's cache, trained once if it is not there: that is nobody's time."""
    phrasebook_teacher(may_train=True)
    return cache_folder() / "teachers" / FOLDER


@pytest.fixture
def cache(teacher, tmp_path) -> Path:
    """A cache with nothing but the teacher."""
    shutil.copytree(teacher, tmp_path / "cache" / "teachers" / FOLDER, ignore=shutil.ignore_patterns("lock"))
    return tmp_path / "cache"


def state(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@each_notebook
def test_a_solution_runs_to_its_end_with_full_marks_and_within_its_budget(script, teacher, tmp_path):
    run = run_solution(ROOT, script, tmp_path, "ci")
    assert run.error is None
    assert run.earned == run.points
    assert run.peak_mb <= CI_MEGABYTES
    assert run.cpu_seconds <= CI_SECONDS


@each_notebook
def test_while_it_is_graded_nothing_is_trained_and_the_cache_only_read(script, cache, tmp_path):
    before = state(cache)
    graded = execute(source_notebook(read_script(ROOT, script)), script, tmp_path / "run", cache)
    assert errors(graded.notebook.cells) == []
    assert state(cache) == before
    assert graded.steps <= STEPS
    assert graded.cpu <= GRADE_SECONDS


@each_notebook
def test_it_is_graded_without_a_cache_too(script, tmp_path):
    graded = execute(source_notebook(read_script(ROOT, script)), script, tmp_path / "run", NO_CACHE)
    assert errors(graded.notebook.cells) == []
    assert graded.cpu <= GRADE_SECONDS


@each_notebook
def test_a_release_only_says_that_it_is_not_answered_and_earns_nothing(script, cache, tmp_path):
    """With the hidden tests put back, as grading does."""
    release = nbformat.read(ROOT / "course" / script.stem / f"{script.stem}.ipynb", as_version=4)
    whole = {cell.id: cell.source for cell in source_notebook(read_script(ROOT, script)).cells}
    graded = [cell for cell in release.cells if cell.metadata.get("nbgrader", {}).get("locked")]
    for cell in graded:
        cell.source = whole[cell.id]
    executed = execute(release, script, tmp_path / "run", cache)
    others = [cell for cell in executed.notebook.cells if cell not in graded]
    assert {error.ename for error in errors(others)} <= {"NotImplementedError"}
    assert [cell.id for cell in graded if cell.metadata.nbgrader.points and not errors([cell])] == []


# --- nbgrader -----------------------------------------------------------------------------------------------


@pytest.fixture
def marks(script, cache, tmp_path, monkeypatch) -> dict[str, dict[str, tuple[float, float | None]]]:
    """Student -> cell -> points in all, and those that nbgrader gave by itself."""
    name, root = script.stem, tmp_path / "root"
    root.mkdir()
    shutil.copy(ROOT / "nbgrader_config.py", root)
    for folder in ("solutions", "course"):
        shutil.copytree(ROOT / folder / name, root / folder / name)
    for student, folder in (("solution", "solutions"), ("release", "course")):
        files = shutil.ignore_patterns("*.py", "__pycache__")
        shutil.copytree(root / folder / name, root / "submitted" / student / name, ignore=files)
    monkeypatch.chdir(root)
    monkeypatch.setenv("KDLAB_CACHE", str(cache))
    monkeypatch.setenv(
        "PATH", str(Path(sys.executable).parent), prepend=os.pathsep
    )  # nbgrader calls `alembic`
    config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
    config.CourseDirectory.root = str(root)
    api = NbGraderAPI(config=config)
    done = [api.generate_assignment(name, force=True)]
    done += [api.autograde(name, student) for student in ("solution", "release")]
    assert all(one["success"] for one in done), done
    with api.gradebook as gradebook:
        return {
            student: {
                grade.name: (grade.max_score, grade.auto_score)
                for grade in gradebook.find_submission_notebook(name, name, student).grades
            }
            for student in ("solution", "release")
        }


@pytest.mark.slow
@each_notebook
def test_nbgrader_gives_the_solution_full_marks_and_the_release_none(script, marks):
    essays = {cell.name for cell in read_script(ROOT, script).cells if cell.kind == "essay"}
    for name, (whole, given) in marks["solution"].items():
        assert given == (None if name in essays else whole), name
    assert [name for name, (_, given) in marks["release"].items() if given] == []
