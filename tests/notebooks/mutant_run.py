"""Mutants of the course's solutions, graded: how many of those that change an answer does the graded test catch?

Whether a mutant that passes changes anything at all is found out by comparing it with the solution on fresh inputs: all
that the check and the test draw, from many other seeds. Values, gradients, failures and changed inputs count.
A mutant that nothing shows to be the same counts as one that changes the answer.
"""

from __future__ import annotations

import contextlib
import io
import signal
import symtable
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from kdlab.classroom import checks
from kdlab.classroom.attempt import attempt
from kdlab.classroom.comparison import Tolerance, difference
from tests.notebooks.mutation import mutants
from tests.notebooks.running import cells, namespaces, run, script

SECONDS = 5  # for one mutant; the slowest test takes a quarter of a second
SEEDS = range(1000, 1060)
ROUNDING = Tolerance(1e-6, 1e-6)
ROUNDING_OF_GRADIENTS = Tolerance(1e-4, 1e-5)


class Endless(KeyboardInterrupt):
    """What no `except` of a check holds up."""


@dataclass
class Graded:
    """A notebook's mutants, "exercise: `old` -> `new`".

    caught: the answer is another one, and the test says so.
    stopped: it gives no answer: it raises, or it does not end. Caught too, but any test would do.
    survivors: the answer is another one, and the test passes.
    same: no fresh input shows a difference. Not counted, as are:
    broken: the cell itself raises, before anything is graded.
    """

    caught: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Caught, of those that give an answer and another one than the solution."""
        return len(self.caught) / max(1, len(self.caught) + len(self.survivors))


def grade_mutants(notebook: str) -> Graded:
    """Every mutant of every exercise, graded by the exercise's test."""
    graded = Graded()
    for cell in script(notebook).cells:
        if cell.kind == "exercise":
            for told, code in mutants(cell.source).items():
                verdict = _verdict(notebook, cell.name, cell.source, code)
                getattr(graded, verdict).append(f"{cell.name}: {told}")
    return graded


def _verdict(notebook: str, exercise: str, solution: str, mutant: str) -> str:
    test = f"test_{exercise}"
    namespace = dict(namespaces(notebook)[test])
    for name in _defined(solution):  # the mutant's cell must bind it, or it is not there
        namespace.pop(name, None)
    with _quietly():
        try:
            with _limited():
                run(mutant, exercise, namespace)
        except (Exception, Endless):
            return "broken"
        try:
            with _limited():
                run(cells(notebook)[test], test, namespace)
        except AssertionError as error:
            return "stopped" if " stopped: " in str(error) else "caught"
        except (Exception, Endless):
            return "stopped"
        return "same" if _is_same(notebook, exercise, solution, mutant) else "survivors"


def _is_same(notebook: str, exercise: str, solution: str, mutant: str) -> bool:
    """Whether both define the same values, and functions that give the same on every fresh input."""
    values, calls = _observed(notebook, exercise, solution)
    other_values, other_calls = _observed(notebook, exercise, mutant)
    functions = [name for name, value in values.items() if callable(value)]
    if any(difference(other_values.get(name), values[name], ROUNDING) for name in values.keys() - functions):
        return False
    if functions and not calls:
        return False
    return all(
        _same_answers(one, other, inputs)
        for (one, inputs), (other, _) in zip(calls, other_calls, strict=True)
    )


def _observed(
    notebook: str, exercise: str, code: str
) -> tuple[dict[str, Any], list[tuple[Callable[..., Any], Any]]]:
    """What a cell defines, and every function that its check and test compare, with what draws the inputs."""
    calls: list[tuple[Callable[..., Any], Any]] = []

    def record(name: str, answer: Callable[..., Any], right: Any, *inputs: Any, **options: Any) -> None:
        calls.extend((answer, one) for one in inputs)

    namespace = dict(namespaces(notebook)[exercise])
    run(code, exercise, namespace)
    kept = checks.function, checks.gradient
    try:
        checks.function = checks.gradient = record  # type: ignore[assignment]
        for cell in (f"check_{exercise}", f"test_{exercise}"):
            run(cells(notebook)[cell], cell, namespace)
    finally:
        checks.function, checks.gradient = kept
    return {name: namespace[name] for name in _defined(code)}, calls


def _defined(code: str) -> set[str]:
    """What a cell binds: functions, classes, variables."""
    table = symtable.symtable(code, "cell", "exec")
    return {one.get_name() for one in table.get_symbols() if one.is_assigned()}


def _same_answers(one: Callable[..., Any], other: Callable[..., Any], inputs: Any) -> bool:
    drawn = [inputs] if isinstance(inputs, Mapping) else [inputs(seed) for seed in SEEDS]
    for values in drawn:
        with _limited():
            first, second = (attempt(function, values, gradients=True) for function in (one, other))
        if first.failure != second.failure or difference(second.value, first.value, ROUNDING):
            return False
        if any(
            difference(second.gradients.get(name), gradient, ROUNDING_OF_GRADIENTS)
            for name, gradient in first.gradients.items()
        ):
            return False
    return True


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Raises Endless in the block when its time is over."""

    def stop(*_: Any) -> None:
        raise Endless

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
