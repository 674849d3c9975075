"""From one script to the instructor's and the student's notebook, byte for byte the same each time."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.classroom.quiz import encode
from kdlab.classroom.rules import check_script, find_leaks, quiz_key
from kdlab.classroom.script import Cell, Script, parse_script, where
from kdlab.classroom.standalone import made_standalone

if TYPE_CHECKING:
    from nbformat import NotebookNode

SOLUTIONS = "solutions"
COURSE = "course"
CONFIG = "nbgrader_config.py"
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# nbgrader's three flags: does it earn points, does the student write it, is it put back when it was changed.
_GRADE_SOLUTION_LOCKED = {
    "exercise": (False, True, False),
    "quiz": (False, True, False),
    "test": (True, False, True),
    "essay": (True, True, False),
}
_QUIZ_TEST = """\
# Graded: the letter that `answer` holds.
### BEGIN HIDDEN TESTS
assert str(answer).strip().upper() == "{key}", "another choice is right"
### END HIDDEN TESTS"""


def find_scripts(root: Path, names: Sequence[str] = ()) -> list[Path]:
    """The scripts under `root`/solutions, of these notebooks or of all.

    Raises:
        ValueError: there is none, or none of that name.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     script = Path(folder) / "solutions" / "01_small" / "01_small.py"
    ...     script.parent.mkdir(parents=True)
    ...     _ = script.write_text("")
    ...     [path.name for path in find_scripts(Path(folder))]
    ['01_small.py']
    """
    scripts = [
        folder / f"{folder.name}.py"
        for folder in sorted((root / SOLUTIONS).glob("*"))
        if (folder / f"{folder.name}.py").exists()
    ]
    known = [script.stem for script in scripts]
    if not known:
        raise ValueError(
            f"no {SOLUTIONS}/NAME/NAME.py in {root}, expected the root of the course's repository"
        )
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"NAME: got {', '.join(unknown)}, expected {', '.join(known)}")
    return [script for script in scripts if not names or script.stem in names]


def read_script(root: Path, path: Path) -> Script:
    """A script that keeps to every rule; what is wrong is told by its path from `root`.

    >>> from kdlab.files import write_text
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     script = Path(folder) / "01_small.py"
    ...     write_text(script, "# %% [markdown]\\n# # 1\\n# ## You will be able to\\n# %% [markdown]\\n# ## Summary\\n")
    ...     [cell.kind for cell in read_script(Path(folder), script).cells]
    ['markdown', 'markdown']
    """
    script = parse_script(path.read_text(encoding="utf-8"), path.relative_to(root))
    check_script(script)
    return script


def source_notebook(script: Script) -> NotebookNode:
    """The notebook that nbgrader calls source: answers and all tests, no outputs.

    >>> notebook = source_notebook(Script(Path("a.py"), (Cell(1, "test", "entropy", "assert True", 2),), ()))
    >>> notebook.cells[0].metadata.nbgrader.points, notebook.cells[0].id
    (2, 'test_entropy')
    """
    import nbformat

    keys = {cell.name: quiz_key(cell) for cell in script.cells if cell.kind == "quiz"}
    quizzes = {
        name: key for name, key in keys.items() if key
    }  # all have one: `check_script` has seen to that
    points = {cell.name: cell.value for cell in script.cells if cell.kind == "quiz"}
    cells = []
    for cell in script.cells:
        if cell.kind == "check" and cell.name in quizzes:
            cells.append(replace(cell, source=_encoded(cell.source, cell.name, quizzes[cell.name])))
            test = _QUIZ_TEST.format(key=keys[cell.name])
            graded = Cell(cell.number, "test", cell.name, test, points[cell.name])
            cells.append(replace(graded, source=made_standalone(script, graded)))
        elif cell.kind == "test":
            cells.append(replace(cell, source=made_standalone(script, cell)))
        else:
            cells.append(cell)
    notebook: NotebookNode = nbformat.from_dict(
        {
            "cells": [_notebook_cell(cell, name) for cell, name in zip(cells, _cell_ids(cells), strict=True)],
            "metadata": _METADATA,
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )
    nbformat.validate(notebook)
    return notebook


def generate(root: Path, path: Path) -> dict[str, bytes]:
    """Everything that is made from a script: what each file, named from `root`, is to hold.

    Raises:
        ValueError: the script breaks a rule, a release file is missing, or the release would leak.

    >>> from kdlab.files import write_text
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root, script = Path(folder), Path(folder) / "solutions" / "01_small" / "01_small.py"
    ...     settings = 'source_directory = "solutions"', 'release_directory = "course"'
    ...     write_text(root / CONFIG, "".join(f"get_config().CourseDirectory.{line}\\n" for line in settings))
    ...     write_text(script, "# %% [markdown]\\n# # 1\\n# ## You will be able to\\n# %% [markdown]\\n# ## Summary\\n")
    ...     list(generate(root, script))
    ['solutions/01_small/01_small.ipynb', 'course/01_small/01_small.ipynb']
    """
    import nbformat

    script = read_script(root, path)
    _refuse_shared_names(root, script, path.parent)
    folder = f"{path.stem}/{path.stem}.ipynb"
    source = nbformat.writes(source_notebook(script)) + "\n"
    files = {name: _release_file(script, path.parent, name) for name in script.release_files}
    release = _release(root, path.stem, source)
    _refuse_leaks(script, f"{COURSE}/{folder}", release, files)
    made = {f"{SOLUTIONS}/{folder}": source.encode(), f"{COURSE}/{folder}": release.encode()}
    return made | {f"{COURSE}/{path.stem}/{name}": content for name, content in files.items()}


def build(root: Path, path: Path) -> None:
    """Write what is made from a script; nothing else is left in its folder under `root`/course.

    >>> from kdlab.files import write_text
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root, script = Path(folder), Path(folder) / "solutions" / "01_small" / "01_small.py"
    ...     settings = 'source_directory = "solutions"', 'release_directory = "course"'
    ...     write_text(root / CONFIG, "".join(f"get_config().CourseDirectory.{line}\\n" for line in settings))
    ...     write_text(script, "# %% [markdown]\\n# # 1\\n# ## You will be able to\\n# %% [markdown]\\n# ## Summary\\n")
    ...     build(root, script)
    ...     sorted(path.name for path in root.iterdir())
    ['course', 'nbgrader_config.py', 'solutions']
    """
    made = generate(root, path)
    shutil.rmtree(root / COURSE / path.stem, ignore_errors=True)
    for name, content in made.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def differences(root: Path, path: Path) -> Iterator[str]:
    """Where the files of a notebook are not what its script makes, one sentence each.

    >>> from kdlab.files import write_text
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root, script = Path(folder), Path(folder) / "solutions" / "01_small" / "01_small.py"
    ...     settings = 'source_directory = "solutions"', 'release_directory = "course"'
    ...     write_text(root / CONFIG, "".join(f"get_config().CourseDirectory.{line}\\n" for line in settings))
    ...     write_text(script, "# %% [markdown]\\n# # 1\\n# ## You will be able to\\n# %% [markdown]\\n# ## Summary\\n")
    ...     list(differences(root, script))
    ['solutions/01_small/01_small.ipynb is missing', 'course/01_small/01_small.ipynb is missing']
    """
    made = generate(root, path)
    for name, content in made.items():
        if not (root / name).exists():
            yield f"{name} is missing"
        elif (root / name).read_bytes() != content:
            yield f"{name}: {_first_difference(content, (root / name).read_bytes())}"
    for file in sorted((root / COURSE / path.stem).rglob("*")):
        name = file.relative_to(root).as_posix()
        if file.is_file() and ".ipynb_checkpoints" not in file.parts and name not in made:
            yield f"{name} is not made from the script, nor one of its release_files"


def orphans(root: Path) -> Iterator[str]:
    """Folders of the course that no script stands for.

    >>> from kdlab.files import write_text
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_text(Path(folder) / "solutions" / "01_small" / "01_small.py", "")
    ...     (Path(folder) / "course" / "02_gone").mkdir(parents=True)
    ...     list(orphans(Path(folder)))
    ['course/02_gone has no script solutions/02_gone/02_gone.py']
    """
    known = {path.stem for path in find_scripts(root)}
    for folder in sorted((root / COURSE).glob("*/")):
        if folder.name not in known:
            yield f"{COURSE}/{folder.name} has no script {SOLUTIONS}/{folder.name}/{folder.name}.py"


# --- the source ---------------------------------------------------------------------------------------------


def _notebook_cell(cell: Cell, cell_id: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if cell.kind == "parameters":
        metadata["tags"] = ["parameters"]
    elif cell.kind == "check":
        # Not as one of nbgrader's locked cells: behind one of these nbgrader 0.9.6 cannot put a lost test back.
        metadata |= {"deletable": False, "editable": False}
    elif cell.name:
        grade, solution, locked = _GRADE_SOLUTION_LOCKED[cell.kind]
        metadata["nbgrader"] = {
            "grade": grade,
            "solution": solution,
            "locked": locked,
            "task": False,
            "grade_id": cell.grade_id,
            "schema_version": 3,
            "cell_type": "markdown" if cell.is_markdown else "code",
        }
        if grade:
            metadata["nbgrader"]["points"] = cell.value
    common = {"id": cell_id, "metadata": metadata, "source": cell.source}
    if cell.is_markdown:
        return {"cell_type": "markdown", **common}
    return {"cell_type": "code", "execution_count": None, "outputs": [], **common}


def _encoded(source: str, name: str, key: str) -> str:
    """A quiz's check with its explanations in stored form: of `quiz.show(name, answer, {"A": "...", ...})` the last
    becomes "eNq...". Any other code stays as it is.
    """
    for call in ast.walk(ast.parse(source)):
        match call:
            case ast.Call(func=ast.Attribute(attr="show"), args=[_, _, ast.Dict() as written, *_]):
                segment = ast.get_source_segment(source, written)
                assert segment is not None  # it was parsed from this source
                return source.replace(segment, f'"{encode(name, key, ast.literal_eval(written))}"')
    return source


def _cell_ids(cells: Sequence[Cell]) -> Iterator[str]:
    """A name where there is one, else from the content; the second of two equal cells is told apart by a number."""
    times: Counter[str] = Counter()
    for cell in cells:
        content = hashlib.sha256(f"{cell.kind}\n{cell.source}".encode()).hexdigest()[:12]
        name = cell.grade_id or content
        times[name] += 1
        yield name if times[name] == 1 else f"{name}-{times[name]}"


# --- the release --------------------------------------------------------------------------------------------


def _release(root: Path, name: str, source: str) -> str:
    """What nbgrader's own converter makes of a source notebook, with the settings of the repository.

    It works in a folder of its own and without the gradebook, so that nothing is left behind.
    """
    from nbgrader.converters import GenerateAssignment
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.preprocessors import SaveCells
    from traitlets.config.loader import PyFileConfigLoader

    told = io.StringIO()
    log = logging.Logger("nbgrader")
    log.addHandler(logging.StreamHandler(told))
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder).resolve()
        (here / SOLUTIONS / name).mkdir(parents=True)
        (here / SOLUTIONS / name / f"{name}.ipynb").write_text(source, encoding="utf-8")
        config = PyFileConfigLoader(CONFIG, path=str(root)).load_config()
        config.CourseDirectory.root = str(here)
        config.CourseDirectory.assignment_id = name
        config.GenerateAssignment.no_database = True
        converter = GenerateAssignment(coursedir=CourseDirectory(config=config), config=config, log=log)
        converter.preprocessors.remove(SaveCells)  # all that it does is to write into the gradebook
        try:
            converter.start()
        except NbGraderException:
            raise ValueError(
                f"{SOLUTIONS}/{name}/{name}.py: nbgrader refuses it\n{told.getvalue()}"
            ) from None
        return (here / COURSE / name / f"{name}.ipynb").read_text(encoding="utf-8")


def _release_file(script: Script, folder: Path, name: str) -> bytes:
    if name.endswith(".ipynb") or name == script.path.name or not (folder / name).is_file():
        raise ValueError(
            f"{script.path.as_posix()}: release_files names {name!r}, expected a file beside the script that is "
            "neither the script nor a notebook"
        )
    return (folder / name).read_bytes()


def _refuse_shared_names(root: Path, script: Script, folder: Path) -> None:
    """nbgrader tells what to copy by a file's name alone, whatever its folder (see `nbgrader_config.py`)."""
    kept = {file.name for file in folder.iterdir() if file.suffix != ".ipynb"} - set(script.release_files)
    for other in sorted((root / COURSE).glob("*/*")):
        if other.parent.name != folder.name and other.name in kept:
            raise ValueError(
                f"{script.path.as_posix()}: {other.name} stays beside the script, but {other.parent.name} releases a "
                "file of the same name, expected another name"
            )


def _refuse_leaks(script: Script, name: str, release: str, files: dict[str, bytes]) -> None:
    texts = [
        (where(Path(name), number, _label(cell)), "".join(cell["source"]))
        for number, cell in enumerate(json.loads(release)["cells"], start=1)
    ]
    folder = Path(name).parent.as_posix()
    texts += [(f"{folder}/{file}", content.decode(errors="ignore")) for file, content in files.items()]
    leaks = list(find_leaks(script, texts))
    if leaks:
        raise ValueError("\n".join(leaks))


# --- the comparison -----------------------------------------------------------------------------------------


def _first_difference(made: bytes, found: bytes) -> str:
    """Which cell of a notebook is not as it is made; for any other file only that it is not."""
    try:
        wanted, there = (json.loads(content)["cells"] for content in (made, found))
        pairs = list(enumerate(zip_longest(wanted, there), start=1))
    except (ValueError, KeyError, TypeError):
        return "it is not what the script makes"
    for number, (want, have) in pairs:
        if want is None or have is None:
            return f"cell {number} ({_label(want or have)}) is {'missing' if have is None else 'too much'}"
        keys = sorted(key for key in want.keys() | have.keys() if want.get(key) != have.get(key))
        if keys:
            return f"cell {number} ({_label(want)}) differs in {', '.join(keys)}"
    return "the cells are the same, but the metadata or the format is not"


def _label(cell: dict[str, Any]) -> str:
    """The cell's id, which is its name where it has one."""
    return str(cell.get("id", ""))
