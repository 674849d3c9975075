"""`nbgrader_config.py`, as nbgrader reads it; no kernel is started."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_output
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import OverwriteCells
from nbgrader.utils import determine_grade
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


def graded_cell(config, output):
    """A test of two points with one output, as it is when `SaveAutoGrades` reads it."""
    steps = Autograde(coursedir=CourseDirectory(config=config), config=config).autograde_preprocessors
    names = [step.__name__ for step in steps]
    assert names.index("Execute") < names.index("KeepStderr") < names.index("SaveAutoGrades")
    marks = {"grade": True, "solution": False, "locked": True, "grade_id": "a", "points": 2}
    cell = new_code_cell("assert True", metadata={"nbgrader": marks}, outputs=[output])
    assert determine_grade(cell) == (0, 2)  # what nbgrader alone makes of it
    return steps[names.index("KeepStderr")]().preprocess_cell(cell, {}, 0)[0]


def test_stderr_of_a_graded_cell_costs_nothing_and_stays(config):
    cell = graded_cell(config, new_output("stream", name="stderr", text="UserWarning: not stable yet"))
    assert determine_grade(cell) == (2, 2)
    assert cell.outputs[0].text == "UserWarning: not stable yet"


def test_an_error_still_costs_the_points(config):
    cell = graded_cell(config, new_output("error", ename="AssertionError", evalue="", traceback=[]))
    assert determine_grade(cell) == (0, 2)


def test_a_lost_test_is_put_back_at_grading(config):
    assert OverwriteCells(config=config).add_missing_cells
