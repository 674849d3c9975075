"""A student's function run once: what it answered, or one sentence on why there is no answer."""

from __future__ import annotations

import copy
import inspect
import linecache
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kdlab.classroom.comparison import describe
from kdlab.classroom.forbidden import REMINDER, forbidden

IN_PLACE = "your function changed its input in place"
NOT_WRITTEN = "not written yet"


@dataclass(frozen=True)
class Answer:
    """What a function gave.

    value: what it returned.
    failure: a sentence, where it did not come to an answer or spoilt its input; "" where all is well.
    gradients: of the answer with respect to each input that asks for one; None where none arrives.
    """

    value: Any = None
    failure: str = ""
    gradients: Mapping[str, Tensor | None] = field(default_factory=dict)


def attempt(
    function: Callable[..., Any],
    inputs: Mapping[str, Any],
    *,
    gradients: bool = False,
    forbid: Iterable[str] = (),
    copies: bool = True,
) -> Answer:
    """Call a student's function on copies of the inputs. No exception leaves it but Ctrl-C.

    Args:
        function: takes the inputs in their order; by name those that it has as keyword-only parameters.
        inputs: name -> value.
        gradients: ask for the gradient with respect to every floating point tensor among the inputs.
        forbid: functions of kdlab that raise meanwhile, see `forbidden`.
        copies: False hands over the inputs themselves, for a function whose work is to change them.

    >>> attempt(lambda logits: logits.exp().sum(), {"logits": torch.zeros(3)}).value
    tensor(3.)
    >>> attempt(lambda logits: logits.add_(1), {"logits": torch.zeros(3)}).failure
    'your function changed its input in place'
    """
    if not callable(function):
        got = describe(function)
        return Answer(failure=f"got {got}, expected your function, without brackets after its name")
    given = {name: _copy(value, gradients) if copies else value for name, value in inputs.items()}
    called_with = _call_arguments(function, given)
    if isinstance(called_with, str):
        return Answer(failure=called_with)
    try:
        with forbidden(*forbid):
            value = function(*called_with.args, **called_with.kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: exit() in an answer must not end the notebook
        return Answer(failure=_told(error, function))
    if any(_changed(given[name], value) for name, value in inputs.items()):
        return Answer(value, failure=IN_PLACE)
    return Answer(value, gradients=gradients_of(value, given) if gradients else {})


def gradients_of(value: Any, inputs: Mapping[str, Any]) -> dict[str, Tensor | None]:
    """The gradient with respect to every input that requires one; None where none arrives.

    The entries of the answer are weighted differently before they are summed up: a plain sum of, say,
    probabilities is a constant, and its gradient would say nothing.

    >>> x = torch.ones(2, requires_grad=True)
    >>> gradients_of(3 * x, {"x": x}), gradients_of(3 * x.detach(), {"x": x})
    ({'x': tensor([3., 6.])}, {'x': None})
    """
    leaves = {name: x for name, x in inputs.items() if isinstance(x, Tensor) and x.requires_grad}
    if not leaves or not isinstance(value, Tensor) or not value.requires_grad:
        return dict.fromkeys(leaves)
    weights = torch.arange(1, value.numel() + 1, dtype=value.dtype, device=value.device).reshape(value.shape)
    found = torch.autograd.grad((value * weights).sum(), list(leaves.values()), allow_unused=True)
    return dict(zip(leaves, found, strict=True))


def _copy(value: Any, requires_grad: bool) -> Any:
    """So that a student's function cannot change the input that it is judged by."""
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    return value.detach().clone().requires_grad_(requires_grad and value.is_floating_point())


def _changed(given: Any, original: Any) -> bool:
    if not isinstance(original, Tensor):
        return False
    same_kind = given.shape == original.shape and given.dtype == original.dtype
    return not (same_kind and torch.isclose(given, original, rtol=0, atol=0, equal_nan=True).all())


def _call_arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> inspect.BoundArguments | str:
    """How the function is called, or a sentence where it cannot be."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C do not tell
        signature = inspect.signature(lambda *_: None)
    by_name = {
        name for name, one in signature.parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY
    } & given.keys()
    positional = [value for name, value in given.items() if name not in by_name]
    try:
        return signature.bind(*positional, **{name: given[name] for name in by_name})
    except TypeError:
        wanted = ", ".join(given)
        return f"your function takes {signature}, but it is called with ({wanted})"


def _told(error: BaseException, function: Callable[..., Any]) -> str:
    """An exception as a sentence, with the line of the student's code that raised it."""
    message = " ".join(str(error).split())
    if isinstance(error, NotImplementedError):
        return NOT_WRITTEN
    if isinstance(error, AssertionError) and message.startswith(REMINDER):
        return message
    if "leaf Variable that requires grad" in message and "in-place" in message:
        return IN_PLACE
    if re.search(r"index -100 is out of bounds|index out of range|index -100", message) and "-100" in message:
        message = "-100 was used as an index: it marks padding and is no token"
    if "does not require grad" in message:
        message = (
            "autograd is switched off here, or was cut off before this line: the value does not require grad"
        )
        return f"{_where(error, function)} stopped: {message}"
    kind = "" if message.startswith("-100 was") else f"{type(error).__name__}: "
    short = message if len(message) <= 160 else message[:157] + "..."
    return f"{_where(error, function)} stopped: {kind}{short}".rstrip(": ")


def _where(error: BaseException, function: Callable[..., Any]) -> str:
    """The last line that stands in the student's own code; a library's lines below it are of no help."""
    namespace = getattr(inspect.unwrap(function), "__globals__", None)
    own = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals is namespace
    ]
    if not own:
        return "your function"
    file, line = own[-1]
    source = linecache.getline(file, line).strip()
    return f"line {line}, `{source}`," if source else f"line {line}"
