"""The notation of the templates: what a pattern says, flattened into sequences of words and slots.

(Hello|Good morning*3), where {n:is/are} {n def}?     alternatives with weights, agreement, a noun phrase
<Können Sie|Kannst du> mir helfen?                    formal | informal
(Servus@0,3,3|Hallo@4,1,1)                            weights by place: Berlin, München, Wien
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kdlab.text.phrasebook_forms import Form, PlaceWeights

ONE: PlaceWeights = (1.0, 1.0, 1.0)
TOKEN = re.compile(r"\{[^}]*\}|[.,?!]|[^\s{}.,?!]+")
PUNCTUATION = frozenset(".,?!")


@dataclass(frozen=True)
class Ref:
    """A slot's form in a pattern: {n def acc} has args, {n:is/are} has choices to agree with.

    >>> from kdlab.text.phrasebook_forms import EnglishNP
    >>> forms = {"n": EnglishNP("key", "keys", "pl")}
    >>> Ref("n", ("def",)).render(forms, 0), Ref("n", choices=("is", "are")).render(forms, 0)
    ('the keys', 'are')
    """

    slot: str
    args: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    def render(self, forms: Mapping[str, Form], register: int) -> str:
        form = forms[self.slot]
        if self.choices:
            return form.agree(self.choices, register)
        return form.render(self.args, forms.get("s"), register)


Item = str | Ref


@dataclass(frozen=True)
class Sequence:
    """One flat way to say a pattern, with its weight in each place.

    >>> Sequence(("hello", ",", "you", "?"), ONE).render({})
    'Hello, you?'
    """

    items: tuple[Item, ...]
    weights: PlaceWeights

    def render(self, forms: Mapping[str, Form], register: int = 0) -> str:
        """The sentence as it is written: spaces, punctuation, a capital at the start."""
        text = ""
        for item in self.items:
            part = item if isinstance(item, str) else item.render(forms, register)
            if part:
                text += part if part in PUNCTUATION or not text else f" {part}"
        return text[0].upper() + text[1:]


def weighted(text: str) -> tuple[str, PlaceWeights]:
    """Splits "Semmel@0,5,5" or "Burg*2" into the text and its weights.

    >>> weighted("Burg*2"), weighted("Semmel@0,5,5")
    (('Burg', (2.0, 2.0, 2.0)), ('Semmel', (0.0, 5.0, 5.0)))
    """
    if match := re.search(r"@([\d.]+),([\d.]+),([\d.]+)\s*$", text):
        return text[: match.start()], (float(match[1]), float(match[2]), float(match[3]))
    if match := re.search(r"\*([\d.]+)\s*$", text):
        weight = float(match[1])
        return text[: match.start()], (weight, weight, weight)
    return text, ONE


def normalised(weights: list[PlaceWeights], what: str) -> list[PlaceWeights]:
    """The weights divided by their sum, place by place.

    >>> normalised([(1.0, 1.0, 1.0), (3.0, 1.0, 0.0)], "an example")
    [(0.25, 0.5, 1.0), (0.75, 0.5, 0.0)]
    """
    totals = [sum(w[place] for w in weights) for place in range(3)]
    if not all(totals):
        raise ValueError(f"{what}: needs a form with a positive weight in every place, got {weights}")
    return [(w[0] / totals[0], w[1] / totals[1], w[2] / totals[2]) for w in weights]


def product(left: PlaceWeights, right: PlaceWeights) -> PlaceWeights:
    """The weight in each place of two choices together.

    >>> product((1.0, 0.5, 0.0), (0.5, 0.5, 0.5))
    (0.5, 0.25, 0.0)
    """
    return left[0] * right[0], left[1] * right[1], left[2] * right[2]


def flatten(pattern: str, register: int) -> list[Sequence]:
    """Every way to say the pattern in a register (0 formal, 1 informal); weights sum to 1 in each place.

    >>> [(sequence.render({}), sequence.weights[0]) for sequence in flatten("(hello|good morning*3), <Sie|du>.", 1)]
    [('Hello, du.', 0.25), ('Good morning, du.', 0.75)]
    """
    return [
        Sequence(tuple(_item(token) for token in TOKEN.findall(text)), weights)
        for text, weights in _expand(pattern, register)
    ]


def _item(token: str) -> Item:
    if not token.startswith("{"):
        return token
    name, _, choices = token[1:-1].partition(":")
    if choices:
        return Ref(name, choices=tuple(choices.split("/")))
    slot, *args = name.split()
    return Ref(slot, tuple(args))


def _expand(pattern: str, register: int) -> list[tuple[str, PlaceWeights]]:
    start = next((i for i, char in enumerate(pattern) if char in "(<"), None)
    if start is None:
        return [(pattern, ONE)]
    end, parts = _split_group(pattern, start)
    if pattern[start] == "<":
        options = [(parts[register], ONE)]
    else:
        texts, weights = zip(*(weighted(part) for part in parts), strict=True)
        options = list(zip(texts, normalised(list(weights), pattern), strict=True))
    rest = _expand(pattern[end:], register)
    return [
        (pattern[:start] + inner + tail, product(weight, product(inner_weight, tail_weight)))
        for option, weight in options
        for inner, inner_weight in _expand(option, register)
        for tail, tail_weight in rest
        if any(product(weight, product(inner_weight, tail_weight)))
    ]


def _split_group(pattern: str, start: int) -> tuple[int, list[str]]:
    """The index behind the group that opens at `start`, and the texts between its bars."""
    depth, parts, begin = 0, [], start + 1
    for i in range(start, len(pattern)):
        char = pattern[i]
        depth += (char in "(<") - (char in ")>")
        if depth == 1 and char == "|":
            parts.append(pattern[begin:i])
            begin = i + 1
        if depth == 0:
            return i + 1, [*parts, pattern[begin:i]]
    raise ValueError(f"pattern {pattern!r}: the group that opens at {start} is never closed")
