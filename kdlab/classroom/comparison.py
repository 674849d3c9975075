"""What differs between a student's answer and the right one, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ROUNDING = 2**-22  # two units in the last place of float32
HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Tolerance:
    """How far a floating point answer may be off: |found - expected| <= absolute + relative * |expected|.

    The default accepts any careful way to compute in float32 and is far below what a wrong formula is off by. What
    float32 loses of the largest value in the answer (`ROUNDING` of it) is added for all: log-probabilities near 0 are
    differences of logits that may be thousands.
    """

    relative: float = 1e-4
    absolute: float = 1e-5


def difference(found: Any, expected: Any, tolerance: Tolerance | None = None) -> str | None:
    """One sentence on the first thing that differs; None where the answer is right.

    A float for a tensor of shape [] is right, as is a wider float, a list for a tuple, and inf or NaN where they
    are expected. Integers, booleans and strings must be equal. A set may come as a list.

    >>> difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]))
    '1 of 2 values differs, the first at [1]: got 2, expected 2.5'
    >>> difference(3.0, torch.tensor(3.0)) is None
    True
    >>> difference(None, torch.tensor(3.0))
    'the answer is None: is there a `return`?'
    """
    tolerance = tolerance or Tolerance()
    if found is None and expected is not None:
        return "the answer is None: is there a `return`?"
    if isinstance(expected, Tensor):
        return _tensors(found, expected, tolerance)
    if isinstance(expected, bool | int | float):
        return _numbers(found, expected, tolerance)
    if isinstance(expected, Mapping):
        return _mappings(found, expected, tolerance)
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        return _sequences(found, expected, tolerance)
    if isinstance(expected, Set):
        return _sets(found, expected)
    if type(found) is not type(expected):
        return _wrong_kind(found, expected)
    return None if found == expected else f"got {found!r}, expected {expected!r}"


def describe(value: Any) -> str:
    """What kind of thing an answer is, in a few words.

    >>> describe(torch.zeros(2, 5)), describe([1, 2]), describe(0.5), describe(None)
    ('a tensor of shape [2, 5]', 'a list of 2', 'a float', 'None')
    """
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    kind = type(value).__name__
    article = "an" if kind[0] in "aeiou" else "a"
    return (
        f"{article} {kind} of {len(value)}" if isinstance(value, list | tuple | dict) else f"{article} {kind}"
    )


def _wrong_kind(found: Any, expected: Any) -> str:
    return f"the answer is {describe(found)}, expected {describe(expected)}"


def _numbers(found: Any, expected: float, tolerance: Tolerance) -> str | None:
    if isinstance(found, Tensor) and found.dim() == 0:
        found = found.item()
    if isinstance(found, bool) != isinstance(expected, bool) or not isinstance(found, int | float):
        return _wrong_kind(found, expected)
    if isinstance(expected, float):
        return _tensors(torch.tensor(found, dtype=torch.float64), torch.tensor(expected), tolerance)
    return None if found == expected else f"got {found}, expected {expected}"


def _mappings(found: Any, expected: Mapping[Any, Any], tolerance: Tolerance) -> str | None:
    if not isinstance(found, Mapping):
        return _wrong_kind(found, expected)
    for key in [*expected, *found]:
        if key not in found or key not in expected:
            return f"the key {key!r} is {'missing' if key in expected else 'not asked for'}"
    return _parts({repr(key): (found[key], expected[key]) for key in expected}, tolerance)


def _sequences(found: Any, expected: Sequence[Any], tolerance: Tolerance) -> str | None:
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) != len(expected):
        return _wrong_kind(found, expected)
    pairs = zip(found, expected, strict=True)
    return _parts({f"part {i} of the answer": pair for i, pair in enumerate(pairs, 1)}, tolerance)


def _sets(found: Any, expected: Set[Any]) -> str | None:
    """How many are wrong, and not which: where a set is asked for, its entries are the answer."""
    if not isinstance(found, Set | list | tuple):
        return _wrong_kind(found, expected)
    missing = sum(entry not in found for entry in expected)
    extra = sum(not isinstance(entry, Hashable) or entry not in expected for entry in found)
    parts = [
        f"{missing} {'is' if missing == 1 else 'are'} missing" if missing else "",
        f"{extra} {'does' if extra == 1 else 'do'} not belong" if extra else "",
    ]
    return ", ".join(filter(None, parts)) or None


def _parts(pairs: Mapping[str, tuple[Any, Any]], tolerance: Tolerance) -> str | None:
    for where, (found, expected) in pairs.items():
        sentence = difference(found, expected, tolerance)
        if sentence:
            return f"{where}: {sentence}"
    return None


def _tensors(found: Any, expected: Tensor, tolerance: Tolerance) -> str | None:
    if isinstance(found, int | float) and not isinstance(found, bool) and expected.dim() == 0:
        found = torch.tensor(found)
    if not isinstance(found, Tensor):
        return _wrong_kind(found, expected)
    if found.shape != expected.shape:
        return f"the shape is {list(found.shape)}, expected {list(expected.shape)}"
    if found.is_complex() or (found.is_floating_point() and expected.dtype == torch.bool):
        return f"the dtype is {found.dtype}, expected {expected.dtype}"
    if found.dtype in HALF and expected.dtype not in HALF and expected.is_floating_point():
        return f"the dtype is {found.dtype}, expected float32: half precision is too coarse"
    return _values(found.detach().cpu(), expected.detach().cpu(), tolerance)


def _values(found: Tensor, expected: Tensor, tolerance: Tolerance) -> str | None:
    exact = not expected.is_floating_point()
    relative, absolute = (0.0, 0.0) if exact else (tolerance.relative, tolerance.absolute)
    if not exact and expected.isfinite().any():
        absolute += ROUNDING * expected[expected.isfinite()].abs().max().item()
    equal = torch.isclose(found.double(), expected.double(), relative, absolute, equal_nan=True)
    if equal.all():
        return None
    where = tuple((~equal).nonzero()[0].tolist())
    got, wanted = (number(tensor[where].item()) for tensor in (found, expected))
    if equal.dim() == 0:
        return f"got {got}, expected {wanted}"
    wrong = int((~equal).sum())
    verb = "differs" if wrong == 1 else "differ"
    return (
        f"{wrong} of {equal.numel()} values {verb}, the first at {list(where)}: got {got}, expected {wanted}"
    )


def number(value: float | bool) -> str:
    """Six digits are enough to see a difference by; NaN and inf are spelt as torch's users know them.

    >>> number(0.1234567), number(math.nan), number(3), number(True)
    ('0.123457', 'NaN', '3', 'True')
    """
    if isinstance(value, bool):
        return str(value)
    return "NaN" if math.isnan(value) else f"{value:.6g}"


def is_right(found: Any, expected: Any, tolerance: Tolerance | None = None) -> bool:
    """Whether nothing differs.

    >>> is_right((1, torch.zeros(2)), [1, torch.zeros(2)]), is_right(1.5, 1)
    (True, False)
    """
    return difference(found, expected, tolerance) is None
