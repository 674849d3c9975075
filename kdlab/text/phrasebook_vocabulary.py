"""Every word form of the phrasebook, found by walking the templates."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from kdlab.text.phrasebook_forms import Form
from kdlab.text.phrasebook_grammar import Grammar, Template
from kdlab.text.phrasebook_patterns import PUNCTUATION, Ref, Sequence

Language = Literal["english", "german"]


def word_forms(grammar: Grammar, language: Language) -> set[str]:
    """The word forms without punctuation; a word that can begin a sentence is there with its capital.

    >>> words = word_forms(Grammar(small=True), "english")
    >>> [word in words for word in ("Where", "where", "Schlüssel")]
    [True, True, False]
    """
    words: set[str] = set()
    texts_of = lru_cache(maxsize=None)(
        lambda ref, spec, subject, register: _ref_texts(grammar, language, ref, spec, subject, register)
    )
    for template, sequence, register in _sequences(grammar, language):
        initial, inside = True, False
        for item in sequence.items:
            texts = {item} if isinstance(item, str) else texts_of(*_key(template, item, register))
            for text in texts:
                first, *rest = _words(text) or [""]
                words.update(rest)
                if initial and first:
                    words.add(first[0].upper() + first[1:])
                if inside and first:
                    words.add(first)
            inside = inside or any(texts)
            initial = initial and "" in texts
    return words


def _sequences(grammar: Grammar, language: Language) -> Iterator[tuple[Template, Sequence, int]]:
    for template in grammar.templates:
        groups = (template.english,) if language == "english" else template.german
        for register, sequences in enumerate(groups):
            for sequence in sequences:
                yield template, sequence, register


def _key(template: Template, ref: Ref, register: int) -> tuple[Ref, str, str, int]:
    return ref, template.slots[ref.slot], template.slots.get("s", ""), register


def _words(text: str) -> list[str]:
    stripped = (word.strip("".join(PUNCTUATION)) for word in text.split())
    return [word for word in stripped if word]


def _forms(grammar: Grammar, language: Language, spec: str) -> list[Form]:
    values = grammar.probabilities(spec)
    if language == "english":
        return list(dict.fromkeys(form for value in values for form, _ in value.english))
    return list(dict.fromkeys(form for value in values for form, _ in value.german))


def _ref_texts(
    grammar: Grammar, language: Language, ref: Ref, spec: str, subject_spec: str, register: int
) -> frozenset[str]:
    subjects: list[Form | None] = list(_forms(grammar, language, subject_spec)) if subject_spec else [None]
    if ref.slot == "s":
        subjects = [None]
    texts: set[str] = set()
    for form in _forms(grammar, language, spec):
        if ref.choices:
            texts.add(form.agree(ref.choices, register))
        else:
            texts.update(form.render(ref.args, subject, register) for subject in subjects)
    return frozenset(texts)
