"""The templates compiled, and the parser that finds every derivation of an English sentence.

A derivation is a template, an English pattern of it and a value with an English form in each slot. Its
probability is the product of its choices; different derivations of one sentence are what makes the English
ambiguous.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from kdlab.text.phrasebook_clauses import CLAUSES
from kdlab.text.phrasebook_forms import EnglishModal, EnglishSubject, Form, Value
from kdlab.text.phrasebook_lexicon import Lexicon
from kdlab.text.phrasebook_patterns import TOKEN, Ref, Sequence, flatten
from kdlab.text.phrasebook_templates import THINGS

POSSESSIVES = frozenset(("your", "his", "her", "our", "their"))
ANYONE = EnglishSubject("I", 0, "my")
Binding = tuple[Value, Form]
_Table = dict[str, dict[Value, list[Form]]]


@dataclass(frozen=True, eq=False)
class Template:
    """`english` with weights that sum to 1; `german` for the formal and the informal register."""

    name: str
    probability: float
    slots: dict[str, str]
    english: tuple[Sequence, ...]
    german: tuple[tuple[Sequence, ...], tuple[Sequence, ...]]


@dataclass(frozen=True)
class Derivation:
    """What an English sentence may stand for, with the joint probability of the two."""

    template: Template
    values: dict[str, Value]
    probability: float


@dataclass(eq=False)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    slots: dict[tuple[Ref, str], _Node] = field(default_factory=dict)
    ends: list[tuple[Template, Sequence]] = field(default_factory=list)


def _parse_tokens(text: str) -> list[str]:
    """The words as the parser compares them: lower case, possessives as "my" (rendering tells them apart)."""
    return ["my" if word in POSSESSIVES else word for word in TOKEN.findall(text.lower())]


class Grammar:
    """One size of the phrasebook, compiled.

    >>> grammar = Grammar(small=True)
    >>> [derivation.template.name for derivation in grammar.parse("Have you seen my key?")]
    ['seen']
    >>> grammar.parse("Have you my key seen?")
    []
    """

    def __init__(self, small: bool) -> None:
        self.lexicon = Lexicon(small)
        blocks = [block.splitlines() for block in re.split(r"\n\s*\n", (THINGS + "\n" + CLAUSES).strip())]
        blocks = [block for block in blocks if block[0].startswith("+") or not small]
        total = sum(float(block[0].split()[-1]) for block in blocks)
        self.templates = [_compile(block, total) for block in blocks]
        self._probabilities: dict[str, dict[Value, float]] = {}
        self._tables: dict[tuple[Ref, str], tuple[_Table, list[int]]] = {}

    def parse(self, source: str) -> list[Derivation]:
        """Every derivation of the sentence; none if the grammar does not have it."""
        tokens = _parse_tokens(source)
        derivations = []
        for template, sequence, bindings in self._match(self._root, tokens, 0, {}):
            forms = {slot: form for slot, (_, form) in bindings.items()}
            if sequence.render(forms) != source:
                continue
            probability = template.probability * sequence.weights[0]
            for slot, (value, form) in bindings.items():
                probability *= self.probabilities(template.slots[slot])[value]
                probability *= next(weight for other, weight in value.english if other is form)
            values = {slot: value for slot, (value, _) in bindings.items()}
            derivations.append(Derivation(template, values, probability))
        return derivations

    def probabilities(self, spec: str) -> dict[Value, float]:
        """The distribution over a slot's values."""
        if spec not in self._probabilities:
            self._probabilities[spec] = dict(self.lexicon.distribution(spec))
        return self._probabilities[spec]

    @cached_property
    def _root(self) -> _Node:
        root = _Node()
        for template in self.templates:
            for sequence in template.english:
                node = root
                for item in sequence.items:
                    if isinstance(item, str):
                        for token in _parse_tokens(item):
                            node = node.literals.setdefault(token, _Node())
                    else:
                        node = node.slots.setdefault((item, template.slots[item.slot]), _Node())
                node.ends.append((template, sequence))
        return root

    def _match(
        self, node: _Node, tokens: list[str], start: int, bindings: dict[str, Binding]
    ) -> Iterator[tuple[Template, Sequence, dict[str, Binding]]]:
        if start == len(tokens):
            for template, sequence in node.ends:
                yield from self._bind_the_rest(template, sequence, bindings)
        elif tokens[start] in node.literals:
            yield from self._match(node.literals[tokens[start]], tokens, start + 1, bindings)
        for (ref, spec), child in node.slots.items():
            table, lengths = self._table(ref, spec)
            for length in lengths:
                found = (
                    table.get(" ".join(tokens[start : start + length]))
                    if start + length <= len(tokens)
                    else None
                )
                if found is None:
                    continue
                if ref.choices:  # is/are: tells nothing that rendering does not check
                    yield from self._match(child, tokens, start + length, bindings)
                    continue
                bound = bindings.get(ref.slot)
                for value in found if bound is None else [bound[0]]:
                    for form in found.get(value, ()):
                        if bound is None or form is bound[1]:
                            extended = {**bindings, ref.slot: (value, form)}
                            yield from self._match(child, tokens, start + length, extended)

    def _bind_the_rest(
        self, template: Template, sequence: Sequence, bindings: dict[str, Binding]
    ) -> Iterator[tuple[Template, Sequence, dict[str, Binding]]]:
        """A subject that the English leaves out ("my room") is bound to each of its values."""
        missing = [slot for slot in template.slots if slot not in bindings]
        if not missing:
            yield template, sequence, bindings
            return
        for value in self.probabilities(template.slots[missing[0]]):
            for form, _ in value.english:
                yield from self._bind_the_rest(template, sequence, {**bindings, missing[0]: (value, form)})

    def _table(self, ref: Ref, spec: str) -> tuple[_Table, list[int]]:
        """The English of a slot, with the values and forms behind it; and how many words it may have."""
        key = ref, spec
        if key not in self._tables:
            table: _Table = defaultdict(dict)
            if ref.choices:
                for choice in ref.choices:
                    table[" ".join(_parse_tokens(choice))] = {}
            else:
                for value in self.probabilities(spec):
                    for form, _ in value.english:
                        for text in _texts(form, ref.args):
                            table[" ".join(_parse_tokens(text))].setdefault(value, []).append(form)
            lengths = sorted({len(text.split()) for text in table})
            self._tables[key] = dict(table), lengths
        return self._tables[key]


def _texts(form: Form, args: tuple[str, ...]) -> set[str]:
    if isinstance(form, EnglishModal):
        return set(form.forms)
    return {form.render(args, ANYONE, 0)}


def _compile(block: list[str], total: float) -> Template:
    header, slots, english, german = block
    name, weight = header.lstrip("+ ").split()
    sequences = flatten(english, 0)
    if any(len(set(sequence.weights)) > 1 for sequence in sequences):
        raise ValueError(f"phrasebook template {name}: its English depends on the place: {english!r}")
    return Template(
        name,
        float(weight) / total,
        dict(slot.split(":", 1) for slot in slots.split()),
        tuple(sequences),
        (tuple(flatten(german, 0)), tuple(flatten(german, 1))),
    )
