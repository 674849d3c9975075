"""FEATURES.md: every cell of ours is covered by a test, and every word on another project has a pinned link.

A cell of ours names functions and tests. A test covers a function if the function's name stands in the test itself or
in what the test uses of tests/: fixtures, helpers, tables of cases, scripts for another process. Docstrings, comments
and variables of the same name do not count, nor does what is only reached through kdlab.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "FEATURES.md").read_text(encoding="utf-8")
REPOSITORIES = {
    "TRL": "huggingface/trl",
    "torchdistill": "yoshitomo-matsubara/torchdistill",
    "Liger-Kernel": "linkedin/Liger-Kernel",
    "DistillKit": "arcee-ai/DistillKit",
    "TextBrewer": "airaria/TextBrewer",
}
OURS = re.compile(
    r'\[`(?P<function>\w+)`\]\((?P<file>kdlab/[\w/]+\.py)\)|\[test\]\((?P<test>[\w/]+\.py) "(?P<name>\w+)"\)'
)
THEIRS = re.compile(r"(?:no|\[(?:yes|part)\]\[(?P<link>[\w-]+)\])(?:\[\^(?P<note>[\w-]+)\])?")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


ROWS = [cells(line) for line in TEXT.splitlines() if line.startswith("| ") and len(cells(line)) == 7]
HEADS = [row for row in ROWS if row[0] == "" and row[1] == "kdlab"]
FEATURES = [row for row in ROWS if row not in HEADS and set(row[0]) != {"-"}]
LINKS = dict(re.findall(r"^\[([\w-]+)\]: (\S+)$", TEXT, flags=re.MULTILINE))
NOTES = re.findall(r"^\[\^([\w-]+)\]: \S", TEXT, flags=re.MULTILINE)
VERSIONS = {
    row[0]: row[1] for row in map(cells, TEXT.splitlines()) if len(row) == 3 and row[0] in REPOSITORIES
}
EACH = pytest.mark.parametrize("row", FEATURES, ids=lambda row: row[0])


# --- what a test makes use of -------------------------------------------------------------------------------


@cache
def module(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def definitions(path: Path) -> dict[str, ast.AST]:
    """The functions, classes and values that a file defines at its top."""
    found: dict[str, ast.AST] = {}
    for node in module(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {
                name.id: node
                for goal in node.targets
                for name in ast.walk(goal)
                if isinstance(name, ast.Name)
            }
    return found


@cache
def imports(path: Path) -> dict[str, tuple[Path, str]]:
    """What a file takes from other files of tests/: its name here -> the file and the name there."""
    found = {}
    for node in ast.walk(module(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
            source = ROOT / (node.module.replace(".", "/") + ".py")
            found |= {
                alias.asname or alias.name: (source, alias.name) for alias in node.names if source.exists()
            }
    return found


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything in a tree but its docstrings."""
    body = getattr(tree, "body", None)
    documented = isinstance(body, list) and body and isinstance(body[0], ast.Expr)
    for child in ast.iter_child_nodes(tree):
        if not (documented and child is body[0] and isinstance(body[0].value, ast.Constant)):
            yield child
            yield from nodes(child)


def words(tree: ast.AST) -> set[str]:
    """The names in a piece of code, its texts as a whole, and the names in a text that is a script."""
    found = set()
    for node in (tree, *nodes(tree)):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.alias(name=word):
                found.add(word)
            case ast.Constant(value=str(word)):
                found.add(word)
                if "import " in word:
                    found |= words(script(word))
    return found


def own(tree: ast.AST) -> set[str]:
    """The names that a definition gives to values of its own: its arguments and variables."""
    stored = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return stored | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}


def script(text: str) -> ast.AST:
    """A text as code, its fields for str.format filled with 0; no code if it is none."""
    try:
        return ast.parse(re.sub(r"\{\w+(!r)?\}", "0", text))
    except SyntaxError:
        return ast.Module([], [])


def uses(path: Path, name: str, seen: set[tuple[Path, str]] | None = None) -> set[str]:
    """The words in a definition, and in all that it uses of tests/: in its file and in those that this imports from."""
    seen = set() if seen is None else seen
    seen.add((path, name))
    tree = definitions(path)[name]
    named = words(tree)
    found = named - own(tree)
    for word in sorted(named):
        source = imports(path).get(word, (path, word))
        if source[1] in definitions(source[0]) and source not in seen:
            found |= uses(*source, seen)
    return found


# --- our cells ----------------------------------------------------------------------------------------------


def test_the_tables_are_read():
    assert len(HEADS) == TEXT.count("\n## ")
    assert all(head[2:] == list(REPOSITORIES) for head in HEADS)
    assert len(FEATURES) == len({row[0] for row in FEATURES}) > 40
    assert set(VERSIONS) == set(REPOSITORIES)


@EACH
def test_a_cell_of_ours_is_covered(row):
    """Each function stands in one test of its cell at least, and each test is of one function at least."""
    if row[1] in ("no", "being written"):
        return
    parts = list(OURS.finditer(row[1]))
    assert ", ".join(part[0] for part in parts) == row[1], row[1]
    functions, tests = (
        {(part[name], part[file]) for part in parts if part[name]}
        for name, file in (("function", "file"), ("name", "test"))
    )
    assert functions
    assert tests
    for function, file in functions:
        assert (ROOT / file).is_file(), file
        assert isinstance(definitions(ROOT / file).get(function), ast.FunctionDef | ast.ClassDef), (
            f"{file}: {function}"
        )
    used = {}
    for test, file in tests:
        assert file.startswith("tests/unit/test_"), file
        assert (ROOT / file).is_file(), file
        assert test.startswith("test_")
        assert test in definitions(ROOT / file), f"{file}: {test}"
        marks = {word for mark in definitions(ROOT / file)[test].decorator_list for word in words(mark)}
        assert not {"skip", "xfail"} & marks, f"{file}: {test} is not run"
        used[test] = uses(ROOT / file, test)
    names = {function for function, _ in functions}
    assert [name for name in names if not any(name in found for found in used.values())] == []
    assert [test for test, found in used.items() if not names & found] == []


PLANTED = """
from tests.unit.small_text import small_text
CASES = ["in_a_table"]
SCRIPT = "import sys; in_a_script({number!r})"
@pytest.fixture
def model():
    return in_a_fixture()
@pytest.mark.parametrize("case", CASES)
def test_planted(model, case):
    '''in_the_docstring'''
    # in_a_comment
    in_a_variable = 1
    run(SCRIPT, in_a_variable, match="not in_a_message")
    return small_text(model)
def test_another():
    in_another_test()
"""


def test_use_is_what_the_test_runs(tmp_path):
    """The names of the planted test and of what it uses, `small_text` of another file too, and no others."""
    file = tmp_path / "planted.py"
    file.write_text(PLANTED, encoding="utf-8")
    found = uses(file, "test_planted")
    assert {"in_a_table", "in_a_script", "in_a_fixture", "Phrasebook"} <= found
    assert (
        not {"in_the_docstring", "in_a_comment", "in_a_message", "in_a_variable", "in_another_test"} & found
    )


# --- the others' cells --------------------------------------------------------------------------------------


@EACH
def test_a_cell_of_theirs_is_a_word_with_a_pinned_link(row):
    for project, cell in zip(REPOSITORIES, row[2:], strict=True):
        found = THEIRS.fullmatch(cell)
        assert found, f"{project}: {cell}"
        assert not cell.startswith("[part]") or found["note"], f"{project}: {cell} without a note"
        assert found["note"] is None or found["note"] in NOTES, cell
        if found["link"]:
            base = rf"https://github\.com/{REPOSITORIES[project]}/blob/"
            pinned = rf"{base}(?:v{re.escape(VERSIONS[project])}|[0-9a-f]{{40}})/[\w./-]+"
            assert re.fullmatch(pinned, LINKS[found["link"]]), f"{project}: {LINKS[found['link']]}"


def test_no_note_and_no_link_is_left_over():
    used = {name for row in FEATURES for cell in row[2:] for name in re.findall(r"\[\^?([\w-]+)\]", cell)}
    assert used - {"yes", "part"} == set(LINKS) | set(NOTES)
    assert len(LINKS) + len(NOTES) == len(re.findall(r"^\[", TEXT, flags=re.MULTILINE))


def test_the_readme_links_here():
    assert "](FEATURES.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
