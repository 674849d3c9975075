"""What a script must keep to before a notebook is made from it, and what a release must not show."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kdlab.classroom.notation import formulas, undefined
from kdlab.classroom.script import (
    HIDDEN_TESTS,
    NUMBER_OF,
    SOLUTION,
    Cell,
    Script,
    regions,
    where,
    without_regions,
)
from kdlab.classroom.standalone import unsafe_names

OBJECTIVES = "## You will be able to"
SUMMARY = "## Summary"
ANSWERED = ("exercise", "quiz", "essay")  # the kinds that a student writes into
_REGION_OF = {"exercise": SOLUTION, "quiz": SOLUTION, "essay": SOLUTION, "test": HIDDEN_TESTS}
_IMAGE = re.compile(r"!\[(?P<markdown>[^\]]*)\]|<img\b(?P<html>[^>]*)>", re.IGNORECASE)
_CHOICE = re.compile(r"^- \*\*([A-Z])\*\* \S", re.MULTILINE)
_ALT = re.compile(r"\balt\s*=\s*(\"[^\"]*[^\"\s][^\"]*\"|'[^']*[^'\s][^']*')", re.IGNORECASE)

Problem = tuple[Cell | None, str]  # None: the notebook as a whole


def check_script(script: Script) -> None:
    """Refuse a script that breaks a rule.

    Raises:
        ValueError: every broken rule on a line of its own: "FILE, cell N (name): reason".
    """
    # A region that never ends, or code that is none, would make the other rules say nonsense.
    problems = [*_regions(script), *_python(script)] or [
        problem for rule in RULES for problem in rule(script)
    ]
    if problems:
        raise ValueError("\n".join(_told(script.path, cell, reason) for cell, reason in problems))


def _told(path: Path, cell: Cell | None, reason: str) -> str:
    place = where(path, cell.number, cell.grade_id) if cell else path.as_posix()
    return f"{place}: {reason}"


# --- the script ---------------------------------------------------------------------------------------------


def _regions(script: Script) -> Iterator[Problem]:
    for cell in script.cells:
        for kind in (SOLUTION, HIDDEN_TESTS):
            try:
                found = regions(cell.source, kind)
            except ValueError as error:
                yield cell, str(error)
                continue
            if found and _REGION_OF.get(cell.kind) != kind:
                yield cell, f"a region '### BEGIN {kind}' does not belong here"
            elif kind == HIDDEN_TESTS and re.search(rf"^[^#\n]+### BEGIN {kind}", cell.source, re.MULTILINE):
                yield cell, "a hidden test stands at the left margin, outside any block"


def _python(script: Script) -> Iterator[Problem]:
    for cell in script.cells:
        if not cell.is_markdown:
            try:
                ast.parse(cell.source)
            except SyntaxError as error:
                yield cell, f"this is not Python: {error.msg} in line {error.lineno}"


def _names(script: Script) -> Iterator[Problem]:
    times = Counter(cell.grade_id for cell in script.cells if cell.name)
    for cell in script.cells:
        if times[cell.grade_id] > 1:
            yield cell, f"the name is used {times[cell.grade_id]} times"


def _numbers(script: Script) -> Iterator[Problem]:
    for cell in script.cells:
        if cell.value is None and NUMBER_OF.get(cell.kind):
            yield cell, f"{NUMBER_OF[cell.kind]}=... is missing"


def _solutions(script: Script) -> Iterator[Problem]:
    for cell in script.cells:
        if cell.kind in ANSWERED and not regions(cell.source, SOLUTION):
            yield cell, f"'### BEGIN {SOLUTION}' is missing"
        elif cell.kind == "quiz" and quiz_key(cell) is None:
            yield (
                cell,
                'a quiz is `answer = None`, and in its solution region `answer = "B"`, one capital letter',
            )


def _questions(script: Script) -> Iterator[Problem]:
    """A quiz asks in prose: it wraps on a narrow screen, has formulas, and is read aloud as text. Comments do not."""
    prose = ""
    for cell in script.cells:
        if cell.kind == "markdown":
            prose = cell.source
        elif cell.kind == "quiz":
            lines = without_regions(cell.source, SOLUTION).splitlines()
            if any(line.startswith("#") for line in lines):
                yield cell, "its question is a comment, expected it in the prose before"
            asked = _CHOICE.findall(prose)
            if len(asked) < 2:
                yield cell, "the prose before it has no choices, '- **A** ...' and so on, one a line"
            explained = [
                letters
                for check in script.cells
                if check.kind == "check" and check.name == cell.name
                for letters in _explained(check.source)
            ]
            yield from (
                (
                    cell,
                    f"the prose before it has the choices {', '.join(asked)}, its check explains {', '.join(one)}",
                )
                for one in explained
                if one != asked
            )


def _explained(check: str) -> Iterator[list[str]]:
    """The choices of every `quiz.show(name, answer, {"A": ..., ...})`."""
    for call in ast.walk(ast.parse(check)):
        match call:
            case ast.Call(func=ast.Attribute(attr="show"), args=[_, _, ast.Dict(keys=keys), *_]):
                yield [
                    key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
                ]


def _tests(script: Script) -> Iterator[Problem]:
    tests = {cell.name: cell for cell in script.cells if cell.kind == "test"}
    for cell in script.cells:
        if cell.kind == "exercise":
            test = tests.get(cell.name)
            if test is None or not regions(test.source, HIDDEN_TESTS):
                yield cell, f'no cell test="{cell.name}" with a hidden test'
        elif cell.kind == "test":
            for kept in (cell.source, without_regions(cell.source, HIDDEN_TESTS)):
                body = ast.parse(kept).body
                if body and isinstance(body[-1], ast.Expr):
                    yield (
                        cell,
                        f"it ends in a bare expression, whose value would be the mark: {ast.unparse(body[-1])}",
                    )
                    break


def _standalone(script: Script) -> Iterator[Problem]:
    """A hidden test relies on no name that a student could have overwritten."""
    for cell in script.cells:
        if cell.kind == "test":
            unsafe = unsafe_names(script, cell)
            if unsafe:
                yield (
                    cell,
                    f"its hidden test reads {', '.join(unsafe)}, which a student's cell may have overwritten: "
                    "define it in the check or in the hidden test, or import it there",
                )


def _order(script: Script) -> Iterator[Problem]:
    """An answer, its check, its test."""
    answers: set[str] = set()
    checks: set[str] = set()
    for cell in script.cells:
        if cell.kind in ("exercise", "quiz"):
            answers.add(cell.name)
        elif cell.kind in ("check", "test") and cell.name not in answers:
            yield cell, f'no exercise="{cell.name}" or quiz="{cell.name}" before it'
        elif cell.kind == "check":
            checks.add(cell.name)
        elif cell.kind == "test" and cell.name not in checks:
            yield cell, f'no check="{cell.name}" before it'
    for cell in script.cells:
        if cell.kind == "quiz" and cell.name not in checks:
            yield cell, f'no check="{cell.name}" after it, which explains the choices and is graded'


def _sections(script: Script) -> Iterator[Problem]:
    headings = [
        (cell.number, line)
        for cell in script.cells
        if cell.kind == "markdown"
        for line in cell.source.splitlines()
    ]
    named = [cell.number for cell in script.cells if cell.name] or [len(script.cells)]
    if not any(line.startswith("# ") for number, line in headings if number == 1):
        yield None, "the first cell has no title, a line '# ...' of prose"
    if not any(line.startswith(OBJECTIVES) for number, line in headings if number < named[0]):
        yield None, f"no '{OBJECTIVES}' before the first exercise"
    if not any(line.startswith(SUMMARY) for number, line in headings if number >= named[-1]):
        yield None, f"no '{SUMMARY}' after the last exercise"


def _images(script: Script) -> Iterator[Problem]:
    for cell in script.cells:
        for image in _IMAGE.finditer(cell.source) if cell.is_markdown else ():
            has_alt = _ALT.search(image["html"]) if image["html"] is not None else image["markdown"].strip()
            if not has_alt:
                yield cell, f"an image has no alt text: {image[0]}"


def _notation(script: Script) -> Iterator[Problem]:
    for cell in script.cells:
        for formula in formulas(cell.source) if cell.is_markdown else ():
            unknown = undefined(formula)
            if unknown:
                yield (
                    cell,
                    f"the notation {', '.join(unknown)} is not defined (kdlab.classroom.notation): ${formula}$",
                )


RULES: tuple[Callable[[Script], Iterable[Problem]], ...] = (
    _names,
    _numbers,
    _solutions,
    _questions,
    _tests,
    _standalone,
    _order,
    _sections,
    _images,
    _notation,
)


def quiz_key(cell: Cell) -> str | None:
    """The letter in a quiz's solution region, None where the cell does not read as a quiz.

    >>> text = 'answer = None\\n### BEGIN SOLUTION\\nanswer = "B"\\n### END SOLUTION'
    >>> quiz_key(Cell(1, "quiz", "inputs", text, 1))
    'B'
    """
    solution = "\n".join(line for region in regions(cell.source, SOLUTION) for line in region)
    key = re.fullmatch(r'\s*answer = "([A-Z])"\s*', solution)
    # Without it the answer of the quiz before would be graded where this one is left open.
    cleared = [ast.unparse(line) for line in ast.parse(without_regions(cell.source, SOLUTION)).body]
    return key[1] if key and cleared == ["answer = None"] else None


# --- the release --------------------------------------------------------------------------------------------


def find_leaks(script: Script, texts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """What a release shows that it must not: `texts` are its cells and files, each with its place.

    A leak is a region's marker, a whole solution, a whole hidden test, or one line of a hidden test that asserts.
    Space does not count.

    >>> source = "answer = 0\\n### BEGIN SOLUTION\\nanswer = 42\\n### END SOLUTION"
    >>> script = Script(Path("a.py"), (Cell(1, "exercise", "ask", source, 5),), ())
    >>> list(find_leaks(script, [("cell 1", "answer = 0"), ("cell 2", "answer=42")]))
    ['cell 2: it leaks the solution of ask (cell 1 of the script)']
    """
    secrets = [
        (cell, secret) for cell in script.cells if cell.kind in _REGION_OF for secret in _secrets(cell)
    ]
    for place, text in texts:
        if re.search(rf"(BEGIN|END) ({SOLUTION}|{HIDDEN_TESTS})", text):
            yield f"{place}: a marker of a solution or a hidden test is left"
        lines = _lines(text)
        for cell, secret in secrets:
            if any(lines[i : i + len(secret)] == secret for i in range(len(lines))):
                what = "hidden test" if cell.kind == "test" else "solution"
                yield f"{place}: it leaks the {what} of {cell.name} (cell {cell.number} of the script)"
                break


def _secrets(cell: Cell) -> Iterator[list[str]]:
    for region in regions(cell.source, _REGION_OF[cell.kind]):
        lines = _lines("\n".join(region))
        if lines:
            yield lines
        if cell.kind == "test":
            yield from ([line] for line in lines if line.startswith("assert"))


def _lines(text: str) -> list[str]:
    """The lines that say something, without their space and without comments."""
    squeezed = ("".join(line.split()) for line in text.splitlines())
    return [line for line in squeezed if line and not line.startswith("#")]
