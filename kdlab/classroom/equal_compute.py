"""Whether a run's batches are what another run of so many updates and so many tokens is to be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def broken_rule(value: Any, lengths: Sequence[int], tokens_per_batch: int, updates: int) -> str | None:
    """The first rule that a list of batches breaks, in one sentence; None if it keeps to all.

    The rules: so many batches as updates; in each rows times the longest example at most `tokens_per_batch`; all
    examples once before any comes again, no batch with examples of two epochs; and no batch that has room for the
    first example of the next one in its epoch. Their order is free.

    Args:
        value: what a student returned, lists of indices of examples.
        lengths: of the examples, in tokens.

    >>> broken_rule([[0, 1], [2], [2, 1], [0]], lengths=[3, 2, 2], tokens_per_batch=6, updates=4)
    >>> broken_rule([[0, 1], [2]], lengths=[3, 2, 2], tokens_per_batch=6, updates=4)
    'this is one epoch, 2 batches: the other run makes 4 updates, so begin again'
    """
    if value is None:
        return "the answer is None: is there a `return`?"
    if not isinstance(value, list | tuple) or not all(isinstance(batch, list | tuple) for batch in value):
        return "expected a list of batches, each a list of indices of examples"
    return (
        _strange(value, len(lengths))
        or _too_large(value, lengths, tokens_per_batch)
        or _wrong_number(value, len(lengths), updates)
        or _out_of_order(value, len(lengths))
        or _with_room(value, lengths, tokens_per_batch)
    )


def _strange(batches: Sequence[Sequence[Any]], examples: int) -> str | None:
    for number, batch in enumerate(batches):
        if not batch:
            return f"batch {number} is empty"
        for index in batch:
            if not isinstance(index, int) or not 0 <= index < examples:
                return f"batch {number} holds {index!r}: examples are numbered from 0 to {examples - 1}"
    return None


def _too_large(batches: Sequence[Sequence[int]], lengths: Sequence[int], most: int) -> str | None:
    for number, batch in enumerate(batches):
        padded = _padded(batch, lengths)
        if padded > most:
            real = sum(lengths[index] for index in batch)
            why = " (padding counts too)" if real <= most else ""
            return f"batch {number} takes {padded} tokens{why}, {most} are allowed"
    return None


def _wrong_number(batches: Sequence[Sequence[int]], examples: int, updates: int) -> str | None:
    count = len(batches)
    if count == updates:
        return None
    seen = [index for batch in batches for index in batch]
    if sorted(seen) == list(range(examples)) and count < updates:
        return f"this is one epoch, {count} batches: the other run makes {updates} updates, so begin again"
    if len(seen) == updates * examples:
        return f"this is {updates} epochs: {updates} is the number of updates, one for each batch"
    return f"there are {count} batches, expected {updates}: one for each update"


def _out_of_order(batches: Sequence[Sequence[int]], examples: int) -> str | None:
    seen: set[int] = set()
    for number, batch in enumerate(batches):
        if len(seen) == examples:
            seen = set()
        for index in batch:
            if len(seen) == examples:
                return f"batch {number} holds examples of two epochs"
            if index in seen:
                missing = min(set(range(examples)) - seen)
                return f"example {index} comes again before example {missing} has come once"
            seen.add(index)
    return None


def _with_room(batches: Sequence[Sequence[int]], lengths: Sequence[int], most: int) -> str | None:
    seen = 0
    for number, batch in enumerate(batches[:-1]):
        seen += len(batch)
        follower = batches[number + 1][0]
        ends_epoch = seen % len(lengths) == 0
        if not ends_epoch and _padded([*batch, follower], lengths) <= most:
            return f"batch {number} is not full: example {follower} would have fitted in"
    return None


def _padded(batch: Sequence[int], lengths: Sequence[int]) -> int:
    return len(batch) * max(lengths[index] for index in batch)
