"""What is made from a script: source and release, the same bytes each time; what `kdlab notebooks check` finds."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest

from kdlab.classroom.notebooks import build, differences, find_scripts, generate, orphans
from kdlab.classroom.profile import choose_profile
from kdlab.classroom.script import parse_script
from kdlab.classroom.standalone import HEAD
from kdlab.cli import main
from tests.notebooks.small import GOOD, NAME, ROOT, replaced, write_course

SOURCE = f"solutions/{NAME}/{NAME}.ipynb"
RELEASE = f"course/{NAME}/{NAME}.ipynb"


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def text(cell: dict) -> str:
    return "".join(cell["source"])


def graded(cell: dict) -> dict:
    return cell["metadata"].get("nbgrader", {})


@pytest.fixture
def course(built, tmp_path):
    """A copy of the built course, to be changed."""
    return shutil.copytree(built, tmp_path / "course")


# --- the two notebooks --------------------------------------------------------------------------------------


def test_the_source_holds_the_cells_of_the_script_and_no_outputs(built):
    script = parse_script(GOOD, Path("x"))
    made = [cell for cell in cells(built / SOURCE) if cell["id"] != "test_floor"]  # the quiz's own test
    anew = f"{HEAD}\nfrom builtins import range\n"  # see `standalone`
    assert [text(cell).replace(anew, "") for cell in made] == [cell.source for cell in script.cells]
    assert [cell["cell_type"] == "markdown" for cell in made] == [cell.is_markdown for cell in script.cells]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in made)
    assert [cell["id"] for cell in made if cell["metadata"].get("tags") == ["parameters"]] == [made[1]["id"]]


def test_cells_are_marked_for_nbgrader(built):
    flags = {
        graded(cell)["grade_id"]: tuple(graded(cell)[key] for key in ("grade", "solution", "locked"))
        for cell in cells(built / SOURCE)
        if graded(cell)
    }
    writes, test, essay = (False, True, False), (True, False, True), (True, True, False)
    assert flags == {
        "double": writes,
        "test_double": test,
        "floor": writes,
        "test_floor": test,
        "why": essay,
    }
    points = {
        graded(cell)["grade_id"]: graded(cell).get("points") for cell in cells(built / SOURCE) if graded(cell)
    }
    assert {name: value for name, value in points.items() if value is not None} == {
        "test_double": 2,
        "test_floor": 1,
        "why": 3,
    }
    assert all(graded(cell)["schema_version"] == 3 for cell in cells(built / SOURCE) if graded(cell))


def test_a_student_cannot_change_a_check_or_a_test(built):
    fixed = [cell["id"] for cell in cells(built / RELEASE) if cell["metadata"].get("editable") is False]
    assert fixed == ["check_double", "test_double", "check_floor", "test_floor"]


def test_named_cells_are_called_by_their_name_and_others_by_their_content(built):
    ids = [cell["id"] for cell in cells(built / SOURCE)]
    assert [name for name in ids if not name.isalnum() or name.isalpha()] == [
        "double", "check_double", "test_double", "floor", "check_floor", "test_floor", "why",
    ]  # fmt: skip
    assert ids == [cell["id"] for cell in cells(built / RELEASE)]


def test_equal_cells_have_ids_of_their_own(tmp_path):
    twice = replaced("# %%\nimport math\n", "# %%\nimport math\n\n# %%\nimport math\n")
    made = json.loads(generate(tmp_path, write_course(tmp_path, twice))[SOURCE])["cells"]
    ids = [cell["id"] for cell in made]
    assert ids[3] == f"{ids[2]}-2"
    assert len(set(ids)) == len(ids)


def test_a_quiz_grades_itself_by_the_letter_that_its_solution_names(built):
    (test,) = (text(cell) for cell in cells(built / SOURCE) if cell["id"] == "test_floor")
    for answer, right in (("B", True), (" b", True), ("A", False), (None, False), (2, False)):
        try:
            exec(test, {"answer": answer})
        except AssertionError:
            assert not right, answer
        else:
            assert right, answer


def test_a_quiz_explains_its_choices_and_the_release_does_not_show_them(tmp_path, capsys):
    written = (
        'quiz.show(\n    "floor",\n    answer,\n    {"A": "Too low.", "B": "Just right.", "C": "No."},\n)'
    )
    script = replaced('print("You chose", answer)', f"from kdlab.classroom import quiz\n\n{written}")
    made = generate(tmp_path, write_course(tmp_path, script))
    for notebook in made.values():
        assert b"Just right." not in notebook
    (check,) = (cell for cell in json.loads(made[RELEASE])["cells"] if cell["id"] == "check_floor")
    exec(text(check), {"answer": "B"})
    assert capsys.readouterr().out.startswith("floor\nYour answer, B, is right. Just right.")


def test_the_release_shows_no_solution_and_no_hidden_test(built):
    shown = (built / RELEASE).read_text(encoding="utf-8")
    for secret in (
        "twice = x + x",
        "range(10)",
        'answer = \\"B\\"',
        '== \\"B\\"',
        "Rubric",
        "SOLUTION",
        "HIDDEN",
    ):
        assert secret not in shown, secret
        assert secret in (built / SOURCE).read_text(encoding="utf-8"), secret
    by_id = {cell["id"]: text(cell) for cell in cells(built / RELEASE)}
    stub = (
        '# Write your answer here, in place of the next line.\nraise NotImplementedError("not answered yet")'
    )
    assert by_id["double"] == "def double(x):\n    " + stub.replace("\n", "\n    ")
    assert by_id["floor"] == f'answer = None  # "A", "B" or "C"\n{stub}'
    assert by_id["test_double"] == "assert double(3) == 6"
    assert by_id["why"] == "Why does a student learn from a teacher?\n*Write your answer here.*"


def test_only_what_the_script_names_goes_to_the_students(built):
    files = sorted(file.relative_to(built).as_posix() for file in built.rglob("*") if file.is_file())
    assert files == sorted(
        [
            RELEASE,
            f"course/{NAME}/runs.json",
            "nbgrader_config.py",
            SOURCE,
            *(f"solutions/{NAME}/{name}" for name in (f"{NAME}.py", "helper.py", "runs.json")),
        ]
    )


def test_the_same_script_gives_the_same_bytes_anywhere(built, tmp_path, monkeypatch):
    path = write_course(tmp_path)
    monkeypatch.chdir(tmp_path)
    made = generate(tmp_path, path)
    assert made == {name: (built / name).read_bytes() for name in made}
    assert set(made) == {SOURCE, RELEASE, f"course/{NAME}/runs.json"}
    assert list(tmp_path.glob("*.db")) == []


def test_a_refused_script_leaves_what_is_there(course):
    path = course / "solutions" / NAME / f"{NAME}.py"
    before = (course / RELEASE).read_bytes()
    path.write_text(replaced("minutes=5", "points=5"), encoding="utf-8")
    with pytest.raises(ValueError, match="cell 5: exercise takes minutes, not points"):
        build(course, path)
    assert (course / RELEASE).read_bytes() == before


# --- check --------------------------------------------------------------------------------------------------


def found(course: Path) -> list[str]:
    return list(differences(course, course / "solutions" / NAME / f"{NAME}.py"))


def change(path: Path, number: int, **values: object) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"][number - 1].update(values)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def test_a_built_course_has_no_differences(course):
    (course / "course" / NAME / ".ipynb_checkpoints").mkdir()
    (course / "course" / NAME / ".ipynb_checkpoints" / "a.ipynb").write_text("{}")
    assert found(course) == []


def test_check_names_the_cell_that_differs(course):
    change(course / SOURCE, 5, source="x = 1")
    change(course / RELEASE, 7, outputs=[{"output_type": "stream"}], execution_count=3)
    assert found(course) == [
        f"{SOURCE}: cell 5 (double) differs in source",
        f"{RELEASE}: cell 7 (test_double) differs in execution_count, outputs",
    ]


def test_check_tells_a_changed_script(course):
    path = course / "solutions" / NAME / f"{NAME}.py"
    path.write_text(replaced("assert double(3) == 6", "assert double(4) == 8"), encoding="utf-8")
    assert found(course) == [
        f"{SOURCE}: cell 7 (test_double) differs in source",
        f"{RELEASE}: cell 7 (test_double) differs in metadata, source",
    ]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / RELEASE).unlink(), f"{RELEASE} is missing"),
        (lambda root: (root / RELEASE).write_text("no json"), f"{RELEASE}: it is not what the script makes"),
        (
            lambda root: (root / RELEASE).write_text((root / RELEASE).read_text() + "\n"),
            f"{RELEASE}: the cells are the same, but the metadata or the format is not",
        ),
        (
            lambda root: (root / f"course/{NAME}/runs.json").write_text("{}"),
            f"course/{NAME}/runs.json: it is not what the script makes",
        ),
        (
            lambda root: (root / f"course/{NAME}/helper.py").write_text(""),
            f"course/{NAME}/helper.py is not made from the script, nor one of its release_files",
        ),
    ],
)
def test_check_tells_what_else_differs(course, spoil, message):
    spoil(course)
    assert found(course) == [message]


def test_check_tells_a_cell_that_is_missing_or_too_much(course):
    notebook = json.loads((course / RELEASE).read_text(encoding="utf-8"))
    last = notebook["cells"].pop()
    (course / RELEASE).write_text(json.dumps(notebook), encoding="utf-8")
    notebook["cells"] += [last, {"cell_type": "raw", "id": "more"}]
    (course / SOURCE).write_text(json.dumps(notebook), encoding="utf-8")
    assert found(course)[1] == f"{RELEASE}: cell 12 ({last['id']}) is missing"
    change(course / SOURCE, 1)
    shutil.copy(course / SOURCE, course / RELEASE)
    assert found(course)[1] == f"{RELEASE}: cell 13 (more) is too much"


def test_a_folder_without_a_script_is_told(course):
    (course / "course" / "02_gone").mkdir()
    assert list(orphans(course)) == ["course/02_gone has no script solutions/02_gone/02_gone.py"]


def test_this_repository_s_notebooks_are_what_their_scripts_make():
    assert [line for path in find_scripts(ROOT) for line in differences(ROOT, path)] == []
    assert list(orphans(ROOT)) == []


# --- the command --------------------------------------------------------------------------------------------


def test_the_command_builds_then_checks_then_tells(tmp_path, monkeypatch, capsys):
    for name in (NAME, "02_other"):
        path = write_course(tmp_path, name=name)
    monkeypatch.chdir(tmp_path)
    assert main(["notebooks", "check"]) == 1
    assert f"{RELEASE} is missing\n" in capsys.readouterr().out
    assert main(["notebooks", "build"]) == 0
    assert main(["notebooks", "check"]) == 0
    path.write_text(replaced("Twice is twice", "Two is two"), encoding="utf-8")
    capsys.readouterr()
    assert main(["notebooks", "check"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told[:-1]] == [
        "solutions/02_other/02_other.ipynb",
        "course/02_other/02_other.ipynb",
    ]
    assert told[-1] == "To make them again: make notebooks"
    assert main(["notebooks", "check", NAME]) == 0
    assert main(["notebooks", "build", "03_none"]) == 2
    assert f"NAME: got 03_none, expected {NAME}, 02_other" in capsys.readouterr().err


def test_the_command_tells_where_a_script_breaks_a_rule(tmp_path, monkeypatch, capsys):
    write_course(tmp_path, replaced(" minutes=5", ""))
    monkeypatch.chdir(tmp_path)
    assert main(["notebooks", "build"]) == 2
    place = f"solutions/{NAME}/{NAME}.py, cell 5 (double): minutes=... is missing"
    assert capsys.readouterr().err == f"kdlab notebooks: {place}\n"


def test_the_command_wants_the_root_of_the_course(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["notebooks", "build"]) == 2
    assert "expected the root of the course's repository" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["notebooks", "--help"])
    assert "kdlab notebooks check" in capsys.readouterr().out


# --- borders ------------------------------------------------------------------------------------------------


def imported(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def test_classroom_and_training_part_do_not_know_each_other():
    for path in (ROOT / "kdlab").rglob("*.py"):
        ours = {name for name in imported(path) if name.split(".")[0] == "kdlab"}
        if path.parent.name == "classroom":
            assert all(name.startswith("kdlab.classroom") for name in ours), path
        elif path.parent.name != "commands":
            assert not any(name.startswith("kdlab.classroom") for name in ours), path


@pytest.mark.parametrize("module", ["script", "rules", "notation", "notebooks", "run", "usage", "profile"])
def test_what_reads_a_script_needs_no_other_package_to_be_imported(module):
    tree = ast.parse((ROOT / "kdlab" / "classroom" / f"{module}.py").read_text(encoding="utf-8"))
    at_the_top = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert not at_the_top & {"nbformat", "nbgrader", "papermill", "psutil", "torch", "traitlets"}


def test_auto_is_grade_while_nbgrader_executes(monkeypatch):
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_profile("auto") == "ci"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_profile("auto") == "gpu"
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert choose_profile("auto") == "grade"
    assert choose_profile("cpu") == "cpu"
    with pytest.raises(ValueError, match="profile: got 'tpu', expected one of ci, cpu, gpu, grade or auto"):
        choose_profile("tpu")
