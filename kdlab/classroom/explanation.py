"""One sentence on a wrong answer: by its name where it is a usual mistake, else by its arithmetic or its values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdlab.classroom.attempt import IN_PLACE, NOT_WRITTEN, Answer, attempt, gradients_of
from kdlab.classroom.comparison import HALF, Tolerance, difference, is_right
from kdlab.classroom.recognition import Call, Mistake, explains, recognise

HARD_CODED = "right on the visible example, and not on another input: does it use all that it is given?"
ELSEWHERE = "right on the visible example; on another, "
HALF_PRECISION = "float16 arithmetic: compute in float32"
NOT_DETACHED = "the teacher is not detached: the loss has a gradient with respect to its logits"
CUT_OFF = (
    "the value is right, but no gradient arrives at {name}: .detach(), .item() or no_grad() has cut it off"
)
ZERO_TIMES_INFINITY = "NaN where a logit is -inf: 0 times -inf is NaN, and an entry of probability 0 adds 0"
OVERFLOW = (
    "inf or NaN for large logits: exp() has left the range of float32, or a probability became 0 and its "
    "logarithm -inf"
)


@dataclass(frozen=True)
class Trial:
    """An answer on one input. An example stands in the notebook, other inputs are drawn.

    problem: one sentence on what is wrong, whatever the cause; None where the answer is right.
    """

    call: Call
    is_example: bool
    answer: Answer
    expected: Any
    problem: str | None


def try_out(
    function: Callable[..., Any],
    call: Call,
    *,
    is_example: bool = False,
    gradient_to: Sequence[str] = (),
    forbid: Iterable[str] = (),
    tolerance: Tolerance | None = None,
) -> Trial:
    """Run a student's function on one input, and compare. The arguments are those of `checks.function`.

    >>> try_out(lambda x: x + x, Call(lambda x: x * x, {"x": 3})).problem
    'got 6, expected 9'
    """
    answer = attempt(function, call.inputs, gradients=bool(gradient_to), forbid=forbid)
    leaves = {name: call[name].detach().clone().requires_grad_() for name in gradient_to}
    expected = call.right(**leaves)
    problem = answer.failure or difference(answer.value, expected, tolerance)
    if not problem and gradient_to:
        problem = _gradient_problem(answer.gradients, gradients_of(expected, leaves))
    return Trial(call, is_example, answer, expected, problem or None)


def _gradient_problem(
    found: Mapping[str, Tensor | None], expected: Mapping[str, Tensor | None]
) -> str | None:
    for name, value in found.items():
        wanted = expected.get(name)
        if wanted is None:
            if value is not None and value.any():
                other = f"a gradient arrives at {name}, and none should"
                return NOT_DETACHED if name.startswith("teacher") else other
        elif value is None:
            return CUT_OFF.format(name=name)
        else:
            problem = difference(value, wanted, Tolerance(1e-3, 1e-5))
            if problem:
                return f"the value is right, its gradient with respect to {name} is not: {problem}"
    return None


def explain(trials: Sequence[Trial], mistakes: Iterable[Mistake]) -> str:
    """One sentence on the first trial that has a problem; one of them has.

    A mistake is named only if it explains all wrong answers: on one input a number can be any mistake's by chance.

    >>> squared = Mistake("squared", lambda call: [call["x"] ** 2])
    >>> trials = [try_out(lambda x: x * x, Call(lambda x: x + x, {"x": x})) for x in (2, 3, 4)]
    >>> explain(trials, [squared]), explain(trials, [])
    ('squared', 'got 9, expected 6')
    """
    first = next(trial for trial in trials if trial.problem)
    assert first.problem is not None
    passed_example = any(trial.is_example and not trial.problem for trial in trials)
    if first.answer.failure:
        elsewhere = passed_example and first.answer.failure not in (NOT_WRITTEN, IN_PLACE)
        return f"{ELSEWHERE}{first.problem}" if elsewhere else first.problem
    if first.answer.gradients and is_right(first.answer.value, first.expected):
        return first.problem
    comparable = [trial for trial in trials if _is_finite(trial.answer)]
    candidates = [
        one
        for one in recognise(first.answer.value, first.call, mistakes)
        if all(explains(one, trial.answer.value, trial.call) for trial in comparable if trial.problem)
    ]
    if candidates:  # of several, the one that knows best where the answer is right
        return max(candidates, key=lambda one: _explained(one, comparable)).sentence
    if passed_example and not first.is_example:
        return _numerical(first) or HARD_CODED
    return _numerical(first) or first.problem


def _explained(one: Mistake, trials: Iterable[Trial]) -> int:
    return sum(explains(one, trial.answer.value, trial.call) for trial in trials)


def _is_finite(answer: Answer) -> bool:
    """Where an answer overflows, a mistake in its formula cannot be seen any more."""
    value = answer.value
    return not answer.failure and not (isinstance(value, Tensor) and not value.isfinite().all())


def _numerical(trial: Trial) -> str | None:
    """What is wrong with the arithmetic, where the formula may well be right."""
    found, expected = trial.answer.value, trial.expected
    both = isinstance(found, Tensor) and isinstance(expected, Tensor)
    if not both or found.shape != expected.shape or not found.is_floating_point():
        return None
    found, expected = found.detach(), expected.detach()
    tensors = [value for value in trial.call.inputs.values() if isinstance(value, Tensor)]
    not_finite = ~found.isfinite() & expected.isfinite()
    if not_finite.any():
        return _why_not_finite(tensors) if is_right(found[~not_finite], expected[~not_finite]) else None
    rounded = any(torch.equal(found.double(), found.to(half).double()) for half in HALF)
    if found.any() and (rounded or any(value.dtype in HALF for value in tensors)):
        nearly = is_right(found.double(), expected.double(), Tolerance(3e-2, 3e-3))
        return HALF_PRECISION if nearly else None
    return None


def _why_not_finite(tensors: Sequence[Tensor]) -> str | None:
    if any((value == -torch.inf).any() for value in tensors):
        return ZERO_TIMES_INFINITY
    return OVERFLOW if any((value.abs() > 50).any() for value in tensors) else None
