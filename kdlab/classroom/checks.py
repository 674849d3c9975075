"""Checks: what a student sees after an exercise, and, with graded=True, what a hidden test raises.

A check says in one sentence that an answer is right, or what is wrong with it, by name where it is one of the
usual mistakes. It raises nothing that a student's function did: that is told in a sentence, with its line.

    checks.function("entropy", entropy, kdlab.distributions.entropy, fresh("logits", "temperature"),
                    mistakes=[mistakes.softmax_twice, mistakes.log_base_2], unit="nats")

The right function is what an answer is compared with on the same input. If it is one of kdlab's, it is `forbidden`
while the student's runs; wrapped in a lambda it is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kdlab.classroom.attempt import IN_PLACE, NOT_WRITTEN, Answer, attempt
from kdlab.classroom.comparison import Tolerance, difference, is_right
from kdlab.classroom.explanation import ELSEWHERE, HARD_CODED, Trial, explain, try_out
from kdlab.classroom.forbidden import forbidden, full_name
from kdlab.classroom.inputs import Inputs, Maker, fresh
from kdlab.classroom.recognition import Call, Mistake, recognise

__all__ = ["Tolerance", "changes", "equal", "forbidden", "fresh", "function", "gradient", "rule"]

GRADIENT_TOLERANCE = Tolerance(1e-4, 1e-6)
SMALL = 24  # entries of a tensor that can still be read


def function(
    name: str,
    answer: Callable[..., Any],
    right: Callable[..., Any],
    *inputs: Inputs | Maker,
    mistakes: Iterable[Mistake] = (),
    unit: str = "",
    seeds: Sequence[int] = (1, 2, 3),
    gradient_to: Sequence[str] = (),
    forbid: Iterable[str] = (),
    tolerance: Tolerance | None = None,
    graded: bool = False,
) -> None:
    """Compare a student's function with the right one on the same inputs, and print one sentence.

    Args:
        name: of the exercise, as the sentence begins.
        answer: the student's function. It gets the inputs in their order, or by name where it takes them
            by name only.
        right: the right function. It gets the inputs by their names.
        inputs: name -> value, an example that stands in the notebook; or what makes such input from a
            seed, see `fresh`.
        mistakes: those that the exercise invites, the likeliest first.
        unit: of the answer, "nats".
        seeds: for fresh input. A hidden test takes others than the visible check.
        gradient_to: inputs whose gradients are compared too. None may arrive at the other inputs.
        forbid: more functions of kdlab that the answer may not call.
        graded: print nothing, and raise where the answer is not right.

    Raises:
        AssertionError: graded, with the sentence. NotImplementedError: graded, not written yet.

    >>> from kdlab.classroom import mistakes
    >>> wrong = lambda logits: -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1) / 0.6931472
    >>> from kdlab.distributions import entropy
    >>> function("entropy", wrong, entropy, fresh("logits"), mistakes=[mistakes.log_base_2])
    entropy: not right yet: log base 2, not natural
    >>> function("entropy", lambda x: torch.distributions.Categorical(logits=x).entropy(), entropy,
    ...          fresh("logits"), unit="nats")
    entropy: right, shape [2, 3], in nats
    """
    own = full_name(right)
    forbid = [*forbid, own] if own else list(forbid)
    trials = [
        try_out(
            answer,
            Call(right, one),
            is_example=is_example,
            gradient_to=gradient_to,
            forbid=forbid,
            tolerance=tolerance,
        )
        for is_example, one in _all_inputs(inputs, seeds)
    ]
    failed = next((trial for trial in trials if trial.problem), None)
    if failed is None:
        return _tell(name, None, graded, praise=_praise(trials[0].expected, unit))
    sentence = explain(trials, list(mistakes))
    unnamed = sentence in (failed.problem, HARD_CODED)
    _tell(name, sentence, graded, details=_show(failed) if unnamed else "")


def rule(
    name: str,
    answer: Callable[..., Any],
    broken: Callable[..., str | None],
    *inputs: Inputs | Maker,
    seeds: Sequence[int] = (1, 2, 3),
    forbid: Iterable[str] = (),
    graded: bool = False,
) -> None:
    """Judge a student's function where there is more than one right answer, and print one sentence.

    Args:
        answer: the student's function, see `function`.
        broken: (what it returned, the inputs by name) -> one sentence on the rule that is broken, None if none is.
        inputs, seeds, forbid, graded: see `function`.

    Raises:
        AssertionError, NotImplementedError: as `function`.

    >>> def broken(value, n):
    ...     return None if value % n == 0 else f"{value} is no multiple of {n}"
    >>> rule("multiple", lambda n: 3 * n, broken, {"n": 2}), rule("multiple", lambda n: 8, broken, {"n": 2}, {"n": 3})
    multiple: right
    multiple: not right yet: 8 is no multiple of 3
    (None, None)
    """
    passed_example = False
    sentence: str | None = None
    for is_example, one in _all_inputs(inputs, seeds):
        got = attempt(answer, one, forbid=forbid)
        sentence = got.failure or broken(got.value, **one)
        if sentence:
            if passed_example and not is_example and sentence not in (NOT_WRITTEN, IN_PLACE):
                sentence = f"{ELSEWHERE}{sentence}"
            break
        passed_example = passed_example or is_example
    _tell(name, sentence, graded, praise="right")


def gradient(
    name: str,
    closed_form: Callable[..., Any],
    loss: Callable[..., Tensor],
    *inputs: Inputs | Maker,
    wrt: str = "student_logits",
    tolerance: Tolerance = GRADIENT_TOLERANCE,
    **options: Any,
) -> None:
    """Compare a student's formula for a gradient with what autograd finds, in float64.

    Args:
        closed_form: the student's; takes the inputs, returns d loss / d `wrt`, of the shape of `wrt`.
        loss: what is differentiated, summed up if it is more than one number; takes the inputs by name.
        wrt: with respect to which of the inputs.
        options: mistakes, seeds, forbid, unit, graded: see `function`.

    >>> from kdlab.classroom import mistakes
    >>> kl = lambda student_logits, teacher_logits: torch.nn.functional.kl_div(
    ...     student_logits.log_softmax(-1), teacher_logits.softmax(-1), reduction="sum")
    >>> gradient("d KL", lambda z_s, z_t: z_t.softmax(-1) - z_s.softmax(-1), kl,
    ...          fresh("student_logits", "teacher_logits", shape=(5,)), mistakes=[mistakes.sign_flipped])
    d KL: not right yet: the sign is the other way round
    """

    def autograd(**values: Any) -> Tensor:
        with torch.enable_grad():
            leaf = values[wrt].detach().requires_grad_()
            found: Tensor = torch.autograd.grad(loss(**{**values, wrt: leaf}).sum(), leaf)[0]
        return found

    wide = [_in_float64(one) for one in inputs]
    function(name, closed_form, autograd, *wide, tolerance=tolerance, **options)


def changes(
    name: str,
    answer: Callable[..., Any],
    case: Callable[[int], tuple[Inputs, Callable[[], str | None]]],
    *,
    seeds: Sequence[int] = (1, 2, 3),
    forbid: Iterable[str] = (),
    graded: bool = False,
) -> None:
    """Call a student's function whose work is to change what it is given, such as models, and print one sentence.

    Args:
        answer: the student's function. It gets the inputs themselves, no copies; what it returns does not count.
        case: seed -> inputs, made anew at each call, and a judge. Called afterwards without arguments, the judge looks
            at these inputs and returns one sentence on what is wrong, or None.
        seeds, forbid, graded: see `function`.

    Raises:
        AssertionError: graded, with the sentence. NotImplementedError: graded, not written yet.

    >>> def case(seed):
    ...     row = [seed, 0]
    ...     return {"row": row}, lambda: None if row == [0, seed] else f"the row is {row}"
    >>> changes("turn", lambda row: row.reverse(), case)
    turn: right
    >>> changes("turn", lambda row: row[::-1], case)
    turn: not right yet: the row is [1, 0]
    """
    forbid = list(forbid)
    for seed in seeds:
        inputs, judge = case(seed)
        failure = attempt(answer, inputs, forbid=forbid, copies=False).failure
        sentence = failure or judge()
        if sentence:
            return _tell(name, sentence, graded)
    return _tell(name, None, graded, praise="right")


def equal(
    name: str,
    answer: Any,
    expected: Any,
    *,
    mistakes: Mapping[str, Any] | None = None,
    unit: str = "",
    tolerance: Tolerance | None = None,
    graded: bool = False,
) -> None:
    """Compare one value with the right one, and print one sentence, in which the right one does not stand.

    Of a set, or a list in its place, it says how many entries are missing and how many do not belong.

    Args:
        answer: the value; or a function without arguments that returns it, for a value that is not there before the
            exercise is done: `lambda: parameters`.
        expected: what it should be.
        mistakes: sentence -> the value that the mistake gives. One that equals `expected` accuses nobody.
        unit, tolerance, graded: see `function`.

    >>> equal("parameters", 1200, 1000, mistakes={"the embeddings are counted twice": 1200})
    parameters: not right yet: the embeddings are counted twice
    >>> equal("parameters", 7, 1000)
    parameters: not right yet: got 7
    >>> equal("bounded", {"kl", "jsd"}, {"jsd", "tv"})
    bounded: not right yet: 1 is missing, 1 does not belong
    >>> equal("floor", lambda: no_such_name, 0.5)
    floor: not written yet
    """
    got = attempt(answer, {}) if callable(answer) else Answer(answer)
    failure = got.failure
    if callable(answer) and "NameError" in failure:
        failure = NOT_WRITTEN
    problem = failure or difference(got.value, expected, tolerance)
    if not problem:
        return _tell(name, None, graded, praise=_praise(expected, unit))
    known = [
        Mistake(sentence, lambda _, value=value: [value])  # type: ignore[misc]
        for sentence, value in (mistakes or {}).items()
    ]
    named = [] if failure else recognise(got.value, Call(lambda: expected, {}), known)
    untold = re.sub(r"(\bgot .*), expected .*", r"\1", problem, flags=re.DOTALL)
    _tell(name, named[0].sentence if named else failure or untold, graded)


def _all_inputs(inputs: Iterable[Inputs | Maker], seeds: Sequence[int]) -> Iterator[tuple[bool, Inputs]]:
    """The examples first: what a student can see is what a sentence should be about, if it is wrong there."""
    inputs = list(inputs)
    if not inputs:
        raise ValueError("inputs: got none, expected an example, or what makes fresh input")
    yield from ((True, one) for one in inputs if isinstance(one, Mapping))
    yield from ((False, one(seed)) for one in inputs if not isinstance(one, Mapping) for seed in seeds)


def _in_float64(inputs: Inputs | Maker) -> Inputs | Maker:
    if not isinstance(inputs, Mapping):
        return lambda seed: _widened(inputs(seed))
    return _widened(inputs)


def _widened(inputs: Inputs) -> Inputs:
    return {
        name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in inputs.items()
    }


def _praise(expected: Any, unit: str) -> str:
    shape = f", shape {list(expected.shape)}" if isinstance(expected, Tensor) and expected.dim() else ""
    return f"right{shape}" + (f", in {unit}" if unit else "")


def _show(trial: Trial) -> str:
    """The answer and what was expected, and the input if it was drawn: nobody has seen that."""
    if trial.answer.failure or is_right(trial.answer.value, trial.expected):
        return ""  # where a gradient alone is wrong there are no two values to compare
    pair = _pair(trial.answer.value, trial.expected)
    if not pair or trial.is_example or not all(_is_small(value) for value in trial.call.inputs.values()):
        return pair
    return pair + "".join(f"\n{name} = {_text(value)}" for name, value in trial.call.inputs.items())


def _pair(found: Any, expected: Any) -> str:
    if not (isinstance(found, Tensor) and _is_small(found) and _is_small(expected)):
        return ""
    return f"your answer = {_text(found)}\nexpected = {_text(expected)}"


def _is_small(value: Any) -> bool:
    return not isinstance(value, Tensor) or value.numel() <= SMALL


def _text(value: Any) -> str:
    return repr(value.detach()) if isinstance(value, Tensor) else repr(value)


def _tell(name: str, sentence: str | None, graded: bool, praise: str = "", details: str = "") -> None:
    """Print the verdict; or, graded, raise it."""
    if sentence is None:
        if not graded:
            print(f"{name}: {praise}")
        return
    verdict = f"{name}: {sentence}" if sentence == NOT_WRITTEN else f"{name}: not right yet: {sentence}"
    if graded:
        raise (NotImplementedError if sentence == NOT_WRITTEN else AssertionError)(verdict)
    print("\n".join(filter(None, [verdict, details])))
