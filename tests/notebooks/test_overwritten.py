"""A student's cell may overwrite any name of the notebook: the hidden test judges as if it had not."""

from __future__ import annotations

import builtins
from types import ModuleType

import pytest

from kdlab.classroom.notebooks import source_notebook
from kdlab.classroom.rules import check_script
from kdlab.classroom.script import HIDDEN_TESTS, parse_script, regions
from kdlab.classroom.standalone import free_names
from tests.notebooks.running import cells, namespaces, run
from tests.notebooks.small import replaced
from tests.notebooks.test_answers import ANSWERS
from tests.notebooks.test_rules import PATH, problems

EXERCISES = [(notebook, exercise) for notebook, exercises in ANSWERS.items() for exercise in exercises]
# Shadowed builtins with which a test would see nothing.
SHADOWS = {"range": lambda *_: (), "abs": lambda _: 0, "all": lambda _: True, "any": lambda _: False}


def judged(notebook: str, exercise: str, code: str, overwritten: dict[str, object]) -> BaseException | None:
    """What the hidden part of the test raises after a student's cell and these other values."""
    namespace = dict(namespaces(notebook)[f"test_{exercise}"])
    run(code, exercise, namespace)
    namespace |= overwritten
    (hidden,) = regions(cells(notebook)[f"test_{exercise}"], HIDDEN_TESTS)
    try:
        run("\n".join(hidden), f"test_{exercise}", namespace)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize(("notebook", "exercise"), EXERCISES)
def test_nothing_that_a_notebook_defines_is_needed(notebook, exercise, capsys):
    """All is overwritten but the answer, and what the answer itself reads."""
    both = ANSWERS[notebook][exercise]
    for code in both["right"].values():
        kept = {exercise, "__builtins__", *free_names(code)}
        others = {name: None for name in namespaces(notebook)[f"test_{exercise}"] if name not in kept}
        error = judged(notebook, exercise, code, others | {k: v for k, v in SHADOWS.items() if k not in kept})
        assert error is None, error
    for code, _ in both["wrong"].values():
        kept = {exercise, "__builtins__", *free_names(code)}
        assert judged(notebook, exercise, code, {k: v for k, v in SHADOWS.items() if k not in kept})


class Yes(ModuleType):
    """A module whose functions all do nothing."""

    def __getattr__(self, name):
        return lambda *_, **__: None


KL_REVERSED = """
def forward_kl(student_logits, teacher_logits):
    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    return (log_q.exp() * (log_q - log_p)).sum(-1)
"""


@pytest.mark.parametrize(
    "overwritten",
    [
        {"checks": Yes("checks")},
        {"partial": lambda *_, **__: lambda student_logits, teacher_logits: 0},
        {"fresh": lambda *_, **__: {"student_logits": 0, "teacher_logits": 0}},
        {"each_place": None, "kdlab": Yes("kdlab"), "torch": Yes("torch")},
    ],
)
def test_a_wrong_answer_stays_wrong(overwritten):
    notebook = "03_general_loss"
    error = judged(notebook, "forward_kl", KL_REVERSED, overwritten)
    assert isinstance(error, AssertionError)
    assert "forward_kl: not right yet" in str(error)


# --- the rule -----------------------------------------------------------------------------------------------

HIDDEN = "for n in range(10):\n    assert double(n) == 2 * n\n"


@pytest.mark.parametrize(
    ("hidden", "unsafe"),
    [
        ("assert double(1) == limit\n", "limit"),
        ("def f(n):\n    return n + limit\n\n\nassert double(1) == f(1)\n", "limit"),
        ("assert [double(n) for n in limit]\n", "limit"),
        ("limit = limit + 1\nassert double(1) < limit\n", "limit"),
        ("limit += 1\nassert double(1) < limit\n", "limit"),
        ("assert double(1) < limit\nlimit = 3\n", "limit"),
        ("assert double(1) == shown(1), twice\n", "shown, twice"),
    ],
)
def test_a_hidden_test_that_reads_what_a_student_may_overwrite_is_refused(hidden, unsafe):
    text = replaced(
        "import math", "import math\nlimit = 2\n\n\ndef shown(x):\n    return 2 * x", replaced(HIDDEN, hidden)
    )
    (found,) = problems(text)
    assert found.startswith(
        f"{PATH}, cell 7 (test_double): its hidden test reads {unsafe}, which a student's cell may"
    )


@pytest.mark.parametrize(
    "hidden",
    [
        "limit = 2\nassert double(1) == limit\n",
        "from fractions import Fraction\nassert double(Fraction(1)) == 2\n",
        "assert double(1) == math.sqrt(4)\n",
        "def f(n):\n    twice = 2 * n\n    return twice\n\n\nassert all(double(n) == f(n) for n in range(3))\n",
        "for n, m in [(1, 2)]:\n    assert double(n) == m\n",
    ],
)
def test_a_hidden_test_that_stands_on_its_own_is_taken(hidden):
    assert problems(replaced(HIDDEN, hidden)) == []


def test_an_import_that_the_notebook_gives_another_value_is_no_import():
    text = replaced(
        "import math", "import math\n\nmath = 3", replaced(HIDDEN, "assert double(1) == math.sqrt(4)\n")
    )
    assert "its hidden test reads math, which" in problems(text)[0]


def test_a_hidden_test_in_a_block_is_refused():
    indented = "if double:\n    ### BEGIN HIDDEN TESTS\n    x = 1\n    ### END HIDDEN TESTS"
    text = replaced("### BEGIN HIDDEN TESTS\n" + HIDDEN + "### END HIDDEN TESTS", indented)
    assert "stands at the left margin" in problems(text)[0]


CHECK = 'print("right" if double(2) == 4 else "not yet")'
HELPERS = (
    f"limit: int = 3\nbound = 2 * limit\n\n\ndef by_us(n):\n    return abs(n) * (bound - 4)\n\n\n{CHECK}"
)


def test_a_helper_that_the_check_defines_is_defined_anew():
    text = replaced(CHECK, HELPERS, replaced(HIDDEN, "assert double(1) == by_us(1)\n"))
    assert problems(text) == []
    source = {cell.id: cell.source for cell in source_notebook(parse_script(text, PATH)).cells}["test_double"]
    namespace = {"double": lambda x: 2 * x, "by_us": None, "bound": 7, "limit": 7, "abs": None}
    run(source, "test", namespace)
    with pytest.raises(AssertionError):
        run("\n".join(regions(source, HIDDEN_TESTS)[0]), "test", namespace | {"double": abs, "by_us": abs})


@pytest.mark.parametrize(
    ("helpers", "unsafe"),
    [
        ("by_us = seen", "seen"),
        ("def by_us(n):\n    return seen", "seen"),
        ("for by_us in [abs]:\n    pass", "by_us"),
        ("by_us += 1", "by_us"),
    ],
)
def test_a_helper_of_the_check_that_reads_what_a_student_may_overwrite_is_refused(helpers, unsafe):
    text = replaced(CHECK, f"{helpers}\n{CHECK}", replaced(HIDDEN, "assert double(1) == by_us(1)\n"))
    assert f"its hidden test reads {unsafe}, which" in problems(text)[0]


def test_what_is_shown_of_a_test_is_free():
    assert problems(replaced("assert double(3) == 6", "assert double(3) == 6 == answer_of_mine")) == []


def test_imports_and_builtins_come_anew():
    text = replaced(HIDDEN, "assert double(1) == abs(math.sqrt(4))\n")
    check_script(parse_script(text, PATH))
    source = {cell.id: cell.source for cell in source_notebook(parse_script(text, PATH)).cells}
    namespace = {"double": lambda x: 2 * x, "math": None, "abs": None}
    run(source["test_double"], "test", namespace)
    assert namespace["abs"] is builtins.abs
    assert "from builtins import str\n" in source["test_floor"]
