"""How a usual mistake is recognised: by computing what it gives on the same input, and comparing.

So no look at the student's code is needed. What a mistake is computed from is the exercise's right function, whose
inputs carry the names of `inputs.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from kdlab.classroom.comparison import is_right


class Call:
    """An exercise's right function on one input: what a mistake distorts.

    >>> call = Call(lambda logits, temperature: logits / temperature, {"logits": 8.0, "temperature": 2.0})
    >>> call.right(), call.right(temperature=4.0), call["temperature"]
    (4.0, 2.0, 2.0)
    """

    def __init__(self, right: Callable[..., Any], inputs: Mapping[str, Any]):
        self._right, self.inputs = right, inputs

    def __getitem__(self, name: str) -> Any:
        if name not in self.inputs:
            raise ValueError(
                f"mistakes: got one that needs an input {name!r}, expected {', '.join(self.inputs)}"
            )
        return self.inputs[name]

    def right(self, **changes: Any) -> Any:
        """The right answer, with some of the inputs changed."""
        for name in changes:
            self[name]  # an input that the exercise does not have cannot be changed
        return self._right(**{**self.inputs, **changes})

    @property
    def logits(self) -> dict[str, Tensor]:
        """All inputs that are logits, float32 at least: a mistake in the formula is not one of rounding."""
        return {
            name: value.to(torch.promote_types(value.dtype, torch.float32))
            for name, value in self.inputs.items()
            if name.endswith("logits")
        }

    @property
    def counted(self) -> Tensor:
        """[batch, length]: which tokens count."""
        labels: Tensor = self["labels"]
        return labels != -100


@dataclass(frozen=True)
class Mistake:
    """A wrong answer with a name.

    sentence: what is said to who makes it; it names the mistake and not the remedy's formula.
    answers: what the mistake gives on an input, in each way that it is made.
    """

    sentence: str
    answers: Callable[[Call], Iterable[Any]]


def mistake(sentence: str) -> Callable[[Callable[[Call], Iterable[Any]]], Mistake]:
    """Make a Mistake of a function that yields its answers.

    >>> @mistake("the sum is doubled")
    ... def doubled(call):
    ...     yield 2 * call.right()
    >>> doubled.sentence, list(doubled.answers(Call(lambda x: x + 1, {"x": 2})))
    ('the sum is doubled', [6])
    """
    return lambda answers: Mistake(sentence, answers)


def explains(one: Mistake, found: Any, call: Call) -> bool:
    """Whether the mistake gives what was found, be it right on this input or not.

    >>> explains(Mistake("doubled", lambda call: [2 * call.right()]), 10, Call(lambda x: x + 1, {"x": 4}))
    True
    """
    return any(is_right(found, wrong) for wrong in _computed(one, call))


def recognise(found: Any, call: Call, mistakes: Iterable[Mistake]) -> list[Mistake]:
    """The mistakes that give what was found; none that gives the right answer on this input is among them.

    >>> doubled, plus_1 = Mistake("doubled", lambda call: [2 * call.right()]), Mistake("plus 1", lambda call: [7])
    >>> [one.sentence for one in recognise(10, Call(lambda x: x + 1, {"x": 4}), [doubled, plus_1])]
    ['doubled']
    """
    right = call.right()
    return [
        one
        for one in mistakes
        if any(is_right(found, wrong) and not is_right(wrong, right) for wrong in _computed(one, call))
    ]


def _computed(one: Mistake, call: Call) -> Iterator[Any]:
    """What a mistake gives, as far as it can be computed: the right function may refuse a distorted input, such as a
    row of nothing but -inf, and then the mistake explains nothing. An author's slip is told.
    """
    try:
        yield from one.answers(call)
    except ValueError as error:
        if str(error).startswith("mistakes:"):
            raise


def indistinct(call: Call, mistakes: Iterable[Mistake]) -> list[tuple[str, str]]:
    """Pairs that cannot be told apart on this input: two mistakes, or a mistake and "right".

    Authors look at it for the input of a check; for a good one it is empty.

    >>> doubled = Mistake("doubled", lambda call: [2 * call.right()])
    >>> indistinct(Call(lambda x: x, {"x": 0}), [doubled]), indistinct(Call(lambda x: x, {"x": 1}), [doubled])
    ([('doubled', 'right')], [])
    """
    answers = {one.sentence: list(one.answers(call)) for one in mistakes}
    answers["right"] = [call.right()]
    return [
        (first, second)
        for first, second in combinations(answers, 2)
        if any(is_right(a, b) for a in answers[first] for b in answers[second])
    ]
