"""Each rule refuses a script that is good but for one place, and names file, cell and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlab.classroom.notebooks import build, generate
from kdlab.classroom.rules import check_script, find_leaks
from kdlab.classroom.script import parse_script
from tests.notebooks.small import GOOD, NAME, replaced, write_course

PATH = Path("solutions/01_small/01_small.py")
HIDDEN = """### BEGIN HIDDEN TESTS
for n in range(10):
    assert double(n) == 2 * n
### END HIDDEN TESTS"""
CHECK = """# %% check="double"
print("right" if double(2) == 4 else "not yet")

"""
EXERCISE = GOOD[GOOD.index('# %% exercise="double"') : GOOD.index('# %% check="double"')]


def problems(text: str) -> list[str]:
    try:
        check_script(parse_script(text, PATH))
    except ValueError as error:
        return str(error).splitlines()
    return []


def test_the_good_script_is_taken():
    assert problems(GOOD) == []


CASES = {
    "no hidden test": (HIDDEN, "", 5, "double", 'no cell test="double" with a hidden test'),
    "no check before the test": (CHECK, "", 6, "test_double", 'no check="double" before it'),
    "no check of the quiz": (
        '# %% check="floor"', "# %%", 8, "floor", 'no check="floor" after it',
    ),
    "a check of nothing": ('check="floor"', 'check="flour"', 9, "check_flour", 'no exercise="flour" or'),
    "a test before its exercise": (EXERCISE, "", 5, "check_double", 'no exercise="double" or'),
    "a name used twice": ('quiz="floor"', 'quiz="double"', 5, "double", "the name is used 2 times"),
    "no points of a test": ('test="double" points=2', 'test="double"', 7, "test_double", "points=... is missing"),
    "no points of a quiz": ('quiz="floor" points=1', 'quiz="floor"', 8, "floor", "points=... is missing"),
    "no points of an essay": ('essay="why" points=3', 'essay="why"', 10, "why", "points=... is missing"),
    "no minutes": ('exercise="double" minutes=5', 'exercise="double"', 5, "double", "minutes=... is missing"),
    "a bare value after the tests": (
        "### END HIDDEN TESTS\n", "### END HIDDEN TESTS\n-5\n", 7, "test_double", "ends in a bare expression",
    ),
    "a bare value in the hidden tests": (
        "    assert double(n) == 2 * n\n", "    assert double(n) == 2 * n\ndouble(0)\n", 7, "test_double",
        "it ends in a bare expression, whose value would be the mark: double(0)",
    ),
    "a bare value once the hidden tests are gone": (
        "assert double(3) == 6", "assert double(3) == 6\ndouble(1)", 7, "test_double", "mark: double(1)",
    ),
    "markdown image": ("![A line that goes up]", "![ ]", 1, "", "an image has no alt text: ![ ]"),
    "html image": ("![A line that goes up](line.png)", "<img src='a.png'>", 1, "", "an image has no alt text"),
    "html image, empty alt": (
        "![A line that goes up](line.png)", '<img alt=" " src="a.png">', 1, "", "an image has no alt text",
    ),
    "unknown letter": ("p_t \\log p_t", "q \\log p_t", 4, "", "the notation q is not defined"),
    "unknown macro": ("H(P_t)", "\\mathbb{H}(P_t)", 4, "", "the notation \\mathbb is not defined"),
    "no solution": ('### BEGIN SOLUTION\nanswer = "B"\n### END SOLUTION', "", 8, "floor", "BEGIN SOLUTION' is missing"),
    "a quiz that is not cleared": ("answer = None", "answer = answer", 8, "floor", "a quiz is `answer = None`"),
    "a quiz with a sum": ('answer = "B"', 'answer = "A" + "B"', 8, "floor", "a quiz is `answer = None`"),
    "a question in a comment": (
        'answer = None  # "A", "B" or "C"', '# How small?\nanswer = None', 8, "floor", "its question is a comment",
    ),
    "a quiz without choices in prose": (
        "\n# - **A** below 0\n# - **B** 0", "", 8, "floor", "has no choices, '- **A** ...'",
    ),
    "a choice that is not explained": (
        'print("You chose", answer)', 'quiz.show("floor", answer, {"A": "No.", "B": "Yes."})', 8, "floor",
        "the prose before it has the choices A, B, C, its check explains A, B",
    ),
    "a solution in a plain cell": (
        "import math", "### BEGIN SOLUTION\nimport math\n### END SOLUTION", 3, "", "does not belong here",
    ),
    "a hidden test in a check": (
        'print("You chose", answer)', "### BEGIN HIDDEN TESTS\nx = 1\n### END HIDDEN TESTS", 9, "check_floor",
        "does not belong here",
    ),
    "a region without end": ("    return twice\n    ### END SOLUTION", "", 5, "double", "has no '### END SOLUTION'"),
    "no Python": ("import math", "%matplotlib inline", 3, "", "this is not Python"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "number", "name", "reason"), CASES.values(), ids=CASES)
def test_one_broken_place_is_named(old, new, number, name, reason):
    found = problems(replaced(old, new))
    place = f"{PATH}, cell {number} ({name}): " if name else f"{PATH}, cell {number}: "
    assert [line for line in found if line.startswith(place) and reason in line], found


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("# # 01", "# 01", "the first cell has no title"),
        ("## You will be able to", "## Aims", "no '## You will be able to' before the first exercise"),
        ("## Summary", "## End", "no '## Summary' after the last exercise"),
    ],
)
def test_a_notebook_has_title_objectives_and_summary(old, new, reason):
    (found,) = problems(replaced(old, new))
    assert found.startswith(f"{PATH}: {reason}")


def test_all_that_is_wrong_is_told_at_once():
    assert len(problems(replaced("minutes=5", "", replaced("![A line that goes up]", "![]")))) == 2


@pytest.mark.parametrize("alt", ["<img src='a.png' alt='A line'>", '<IMG\n# ALT = "A line" src="a.png">'])
def test_an_image_with_alt_text_is_taken(alt):
    assert problems(replaced("![A line that goes up](line.png)", alt)) == []


# --- the release --------------------------------------------------------------------------------------------


def test_each_leak_is_named():
    script = parse_script(GOOD, PATH)
    texts = [
        ("fine", "twice = x + x\nprint(twice)"),
        ("fine", "for n in range(10):\n    pass"),
        ("marker", "### END SOLUTION"),
        ("solution", "def double(x):\n        twice = x+x\n\n        # so\n        return twice"),
        ("test", "assert double(n) == 2*n"),
        ("quiz", 'answer = "B"'),
        ("essay", "Because a distribution says more than a word. *Rubric:* 3 points for that."),
    ]
    assert list(find_leaks(script, texts)) == [
        "marker: a marker of a solution or a hidden test is left",
        "solution: it leaks the solution of double (cell 5 of the script)",
        "test: it leaks the hidden test of double (cell 7 of the script)",
        "quiz: it leaks the solution of floor (cell 8 of the script)",
        "essay: it leaks the solution of why (cell 10 of the script)",
    ]


@pytest.mark.parametrize(
    ("old", "new", "place", "what"),
    [
        ("import math", "def f(x):\n    twice = x + x\n    return twice", "cell 3", "solution of double"),
        ('print("You chose", answer)', 'answer = "B"', "cell 9 (check_floor)", "solution of floor"),
        (
            "# Twice is twice.",
            "# `f`:\n#\n#     assert double(n) == 2 * n",
            "cell 12 (",
            "hidden test of double",
        ),
    ],
)
def test_a_release_that_leaks_is_refused(tmp_path, old, new, place, what):
    path = write_course(tmp_path, replaced(old, new))
    with pytest.raises(ValueError, match="it leaks the") as refusal:
        build(tmp_path, path)
    (line,) = str(refusal.value).splitlines()
    assert line.startswith(f"course/{NAME}/{NAME}.ipynb, {place}")
    assert what in line
    assert not (tmp_path / "course").exists()


def test_a_released_file_that_leaks_is_refused(tmp_path):
    path = write_course(tmp_path)
    path.with_name("runs.json").write_text("twice = x + x\nreturn twice\n")
    with pytest.raises(ValueError, match=rf"course/{NAME}/runs\.json: it leaks the solution of double"):
        generate(tmp_path, path)


@pytest.mark.parametrize("name", ["nothing.json", f"{NAME}.py", f"{NAME}.ipynb"])
def test_a_release_file_is_there_and_no_notebook(tmp_path, name):
    path = write_course(tmp_path, replaced("runs.json", name))
    path.with_suffix(".ipynb").write_text("{}")
    with pytest.raises(ValueError, match=f"release_files names '{name}'"):
        generate(tmp_path, path)


def test_a_name_that_another_notebook_releases_is_refused(tmp_path):
    path = write_course(tmp_path)
    (tmp_path / "course" / "02_other").mkdir(parents=True)
    (tmp_path / "course" / "02_other" / "helper.py").touch()
    with pytest.raises(
        ValueError, match=r"helper\.py stays beside the script, but 02_other releases a file of"
    ):
        generate(tmp_path, path)
