"""What a percent script says is what its cells become."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlab.classroom.script import HIDDEN_TESTS, parse_script, regions, without_regions
from tests.notebooks.small import GOOD, replaced

PATH = Path("solutions/01_small/01_small.py")


def test_every_cell_is_read_as_its_header_says():
    script = parse_script(GOOD, PATH)
    assert [(cell.number, cell.kind, cell.name, cell.value) for cell in script.cells] == [
        (1, "markdown", "", None),
        (2, "parameters", "", None),
        (3, "code", "", None),
        (4, "markdown", "", None),
        (5, "exercise", "double", 5),
        (6, "check", "double", None),
        (7, "test", "double", 2),
        (8, "quiz", "floor", 1),
        (9, "check", "floor", None),
        (10, "essay", "why", 3),
        (11, "markdown", "", None),
    ]
    assert script.release_files == ("runs.json",)


def test_nothing_of_the_cells_is_lost():
    """Cells written out again under their headers are the script, but for the space between cells."""
    lines = [line for line in GOOD.splitlines() if line.startswith("# %%")]
    script = parse_script(GOOD, PATH)
    written = "".join(
        f"{header}\n"
        + "".join(
            f"{'# ' + line if cell.is_markdown else line}".rstrip() + "\n"
            for line in cell.source.splitlines()
        )
        for header, cell in zip(lines, script.cells, strict=True)
    )
    cells = GOOD[GOOD.index("# %%") :]
    assert [line for line in written.splitlines() if line] == [line for line in cells.splitlines() if line]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('exercise="double" minutes=5', 'exercize="double" minutes=5', "cell 5: the header"),
        ("# %% parameters", "# %% parameter", "cell 2: the header '# %% parameter' is none of"),
        ('check="floor"', 'check="floor" points=1', "cell 9: check takes no number, not points"),
        ('quiz="floor" points=1', 'quiz="floor" points=one', "cell 8: points is 'one', not a whole number"),
        ('quiz="floor" points=1', 'quiz="floor" points=-1', "cell 8: points is '-1', not a whole number"),
        ('quiz="floor" points=1', 'quiz="The floor" points=1', "cell 8: the name 'The floor' is not of"),
        ('quiz="floor" points=1', 'quiz="floor" test="floor" points=1', "cell 8: the header"),
        ('[markdown] essay="why"', 'essay="why"', r"cell 10: essay needs \[markdown\]"),
        ('quiz="floor"', '[markdown] quiz="floor"', r"cell 8: quiz goes without \[markdown\]"),
        ("# Twice is twice.", "Twice is twice.", "cell 11: a line of prose does not start with '#': 'Twice"),
        (
            '["runs.json"]',
            '["../runs.json"]',
            r"before the first cell stands release_files = \['../runs.json'\]",
        ),
        (
            '["runs.json"]',
            '"runs.json"',
            "before the first cell stands release_files = 'runs.json', expected",
        ),
        ("release_files", "release", "before the first cell stands release = "),
    ],
)
def test_a_header_that_says_nothing_known_is_refused(old, new, message):
    with pytest.raises(ValueError, match=rf"^solutions/01_small/01_small\.py.*{message}"):
        parse_script(replaced(old, new), PATH)


def test_a_script_without_a_head_releases_no_files():
    assert parse_script(GOOD[GOOD.index("# %%") :], PATH).release_files == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("### BEGIN HIDDEN TESTS\nassert x", "has no '### END HIDDEN TESTS'"),
        ("### END HIDDEN TESTS", "stands outside a region"),
        ("### BEGIN HIDDEN TESTS\n### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS", "stands inside a region"),
    ],
)
def test_regions_open_and_close(text, message):
    with pytest.raises(ValueError, match=message):
        regions(text, HIDDEN_TESTS)


def test_regions_are_found_and_taken_out():
    region = "### BEGIN HIDDEN TESTS\nb\n### END HIDDEN TESTS\n"
    text = f"a\n{region}c\n{region}"
    assert regions(text, HIDDEN_TESTS) == [["b"], ["b"]]
    assert without_regions(text, HIDDEN_TESTS) == "a\nc"
