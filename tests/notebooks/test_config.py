"""`nbgrader_config.py`, as nbgrader reads it."""

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import Execute, OverwriteCells
from nbgrader.utils import determine_grade
from nbgrader.validator import Validator
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from tests.notebooks.small import NAME, ROOT


@pytest.fixture(scope="module")
def config():
    return PyFileConfigLoader("nbgrader_config.py", path=str(ROOT)).load_config()


def test_the_folders_are_ours(config):
    course = CourseDirectory(config=config)
    assert (course.source_directory, course.release_directory) == ("solutions", "course")


def test_what_lies_beside_a_script_is_ignored_unless_it_is_released(built):
    config = PyFileConfigLoader("nbgrader_config.py", path=str(built)).load_config()
    ignored = CourseDirectory(config=config).ignore
    assert {"helper.py", f"{NAME}.py", "__pycache__"} <= set(ignored)
    assert "runs.json" not in ignored


def executed(config, cell):
    """A cell as nbgrader's own step leaves it, for `determine_grade` to read."""
    return Execute(config=config).preprocess(new_notebook(cells=[cell]), {})[0].cells[0]


def graded(source):
    marks = {"grade": True, "solution": False, "locked": True, "grade_id": "a", "points": 2}
    marks |= {"task": False, "schema_version": 3, "cell_type": "code"}
    return new_code_cell(source, metadata={"nbgrader": marks})


WARNS = """import logging
import sys
import warnings
import torch

warnings.warn("from warnings")
logging.getLogger().warning("from logging")
print("from print", file=sys.stderr)
assert torch.get_num_threads() == 1"""


def test_stderr_of_a_graded_cell_costs_nothing_and_stays(config, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    cell = executed(config, graded(WARNS))
    assert determine_grade(cell) == (2, 2)
    for said in ("from warnings", "from logging", "from print"):
        assert any(said in output.text for output in cell.outputs), said
    assert determine_grade(executed(Config(), graded(WARNS)))[0] == 0  # what nbgrader alone makes of it


def test_an_error_still_costs_the_points(config):
    assert determine_grade(executed(config, graded("assert False"))) == (0, 2)


def test_a_student_finds_no_name_that_the_start_has_left(config):
    assert determine_grade(executed(config, graded("os.getcwd()"))) == (0, 2)
    assert determine_grade(executed(config, graded("sys.path"))) == (0, 2)


def test_validate_passes_a_test_that_writes_to_stderr(config, tmp_path):
    """The button in JupyterLab does the same, with the configuration of the folder that it was started in."""
    for name, source, wanted in (("good", WARNS, set()), ("bad", "assert False", {"failed"})):
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=[graded(source)]), path)
        assert set(Validator(config=config).validate(str(path))) == wanted, name


def test_a_lost_test_is_put_back_at_grading(config):
    assert OverwriteCells(config=config).add_missing_cells
