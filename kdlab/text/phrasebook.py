"""An English-German travel phrasebook with exact probabilities, written for the course.

A context c (register and place) is drawn, then, independently of it, what is said and its English x, then its
German y. English leaves open what German must choose: Sie or du, Brötchen or Semmel, Bank or Ufer. So

    Pr(y | c, x) = SUM over the derivations d of x: Pr(d | x) Pr(y | d, c),      Pr(c | x) = Pr(c)

is a true distribution over a few translations, known exactly: a teacher without error.
Words are what is between spaces; punctuation belongs to the word before it.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, product
from typing import Literal, TypeVar

from kdlab.text.phrasebook_forms import PLACES, REGISTERS, Form, PlaceWeights, Value
from kdlab.text.phrasebook_grammar import Derivation, Grammar, Template
from kdlab.text.phrasebook_vocabulary import word_forms

T = TypeVar("T")
REGISTER_PRIOR = (0.6, 0.4)
PLACE_PRIOR = (0.4, 0.3, 0.3)
PATIENCE = 100_000  # draws in a row without a new source before `sample` gives up


@dataclass(frozen=True)
class Context:
    """What the translator may be told: a register of REGISTERS and a place of PLACES."""

    register: str
    place: str


@dataclass(frozen=True)
class Pair:
    """A source, one right translation of it, and the context that it was drawn in."""

    source: str
    target: str
    context: Context


ALL_CONTEXTS = tuple(Context(register, place) for register in REGISTERS for place in PLACES)
CONTEXT_PRIOR = tuple(r * p for r in REGISTER_PRIOR for p in PLACE_PRIOR)
# translation -> Pr(y | c, x) for each of ALL_CONTEXTS
_Table = Mapping[str, tuple[float, ...]]


class Phrasebook:
    """The grammar in one of two sizes; everything in "small" is in "full" too.

    >>> phrasebook = Phrasebook("small")
    >>> pair = phrasebook.sample(1, seed=0)[0]
    >>> pair.target in phrasebook.translations(pair.source)
    True
    >>> list(phrasebook.translations("Where is the hotel?"))
    ['Wo ist das Hotel?', 'Wo liegt das Hotel?', 'Wo befindet sich das Hotel?']
    """

    def __init__(self, size: Literal["small", "full"] = "full") -> None:
        if size not in ("small", "full"):
            raise ValueError(f"size: expected 'small' or 'full', got {size!r}")
        self.size = size
        self.contexts = dict(zip(ALL_CONTEXTS, CONTEXT_PRIOR, strict=True))
        self._grammar = Grammar(size == "small")
        self._samplers = [_TemplateSampler(template, self._grammar) for template in self._grammar.templates]
        self._template_sums = list(accumulate(template.probability for template in self._grammar.templates))
        self._table = lru_cache(maxsize=65536)(self._translate)

    def sample(
        self, count: int, seed: int, *, exclude: Collection[str] = (), repeats: bool = False
    ) -> list[Pair]:
        """`count` pairs, none of their sources in `exclude`: the same for the same seed.

        All sources are different. With `repeats`, they come as often as the grammar makes them, as in real text: a
        frequent source then shows its other translations too, and short templates are not used up.
        Given its source, each pair's target and context follow the grammar's distribution exactly.
        Raises ValueError if the grammar has too few sources.
        """
        if count < 0:
            raise ValueError(f"count: expected 0 or more, got {count}")
        rng = random.Random(seed)
        seen, misses = set(exclude), 0
        pairs: list[Pair] = []
        context_sums = list(accumulate(CONTEXT_PRIOR))
        while len(pairs) < count:
            context = ALL_CONTEXTS[_draw(rng, context_sums)]
            source, target = self._samplers[_draw(rng, self._template_sums)].draw(rng, context)
            if source in seen:
                misses += 1
                if misses > PATIENCE:
                    raise ValueError(
                        f"count: expected no more than the {self.size} phrasebook has sources outside "
                        f"`exclude`, got {count} (only {len(pairs)} found)"
                    )
                continue
            misses = 0
            if not repeats:
                seen.add(source)
            pairs.append(Pair(source, target, context))
        return pairs

    def translations(
        self, source: str, *, register: str | None = None, place: str | None = None
    ) -> dict[str, float]:
        """Pr(y | x, what is known of c) for every translation y, the most probable first.

        Raises ValueError for a source that the grammar does not have, or an unknown register or place.
        """
        weights = _posterior(register, place)
        mixed = {
            target: sum(w * p for w, p in zip(weights, probabilities, strict=True))
            for target, probabilities in self._table(source).items()
        }
        return dict(sorted(((y, p) for y, p in mixed.items() if p > 0), key=lambda pair: (-pair[1], pair[0])))

    def log_probability(
        self, target: str, source: str, *, register: str | None = None, place: str | None = None
    ) -> float:
        """log Pr(y | x, what is known of c) in nats; -inf where the target is no translation."""
        probability = self.translations(source, register=register, place=place).get(target, 0.0)
        return math.log(probability) if probability else -math.inf

    def entropy(self, source: str, *, register: str | None = None, place: str | None = None) -> float:
        """The entropy of Pr(. | x, what is known of c), in nats a sentence."""
        return _entropy(self.translations(source, register=register, place=place).values())

    def context_information(self, source: str, *, register: bool = False, place: bool = False) -> float:
        """I(C; Y | C', X = x) in nats a sentence, where C' is what the flags say the student is told.

        This is the mean over c of KL(Pr(. | c, x) || Pr(. | c', x)), below which no student can come that
        sees c' and not c, while its teacher sees c: the floor of context distillation.
        """
        known_registers = REGISTERS if register else (None,)
        known_places = PLACES if place else (None,)
        blurred = sum(
            self._share(r, p) * self.entropy(source, register=r, place=p)
            for r, p in product(known_registers, known_places)
        )
        sharp = sum(
            p * self.entropy(source, register=c.register, place=c.place) for c, p in self.contexts.items()
        )
        return max(blurred - sharp, 0.0)

    def next_word_distribution(
        self,
        source: str,
        prefix_words: Sequence[str],
        *,
        register: str | None = None,
        place: str | None = None,
    ) -> dict[str, float]:
        """Pr(next word | prefix, x, what is known of c); "" is the end of the sentence.

        Raises ValueError where no translation begins with the prefix.
        """
        prefix = list(prefix_words)
        masses: dict[str, float] = defaultdict(float)
        for target, probability in self.translations(source, register=register, place=place).items():
            words = target.split(" ")
            if words[: len(prefix)] == prefix:
                masses[words[len(prefix)] if len(words) > len(prefix) else ""] += probability
        total = sum(masses.values())
        if not total:
            raise ValueError(f"prefix_words: no translation of {source!r} begins with {prefix}")
        return {word: mass / total for word, mass in masses.items()}

    def contains(self, source: str) -> bool:
        """Whether the grammar has this English sentence."""
        return bool(self._grammar.parse(source))

    def vocabulary(self) -> tuple[set[str], set[str]]:
        """The English and the German word forms, without punctuation, as they can stand in a sentence."""
        return word_forms(self._grammar, "english"), word_forms(self._grammar, "german")

    def _share(self, register: str | None, place: str | None) -> float:
        return sum(
            p for c, p in self.contexts.items() if register in (None, c.register) and place in (None, c.place)
        )

    def _translate(self, source: str) -> _Table:
        derivations = self._grammar.parse(source)
        if not derivations:
            raise ValueError(f"source: expected a sentence of the {self.size} phrasebook, got {source!r}")
        evidence = sum(derivation.probability for derivation in derivations)
        table: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(ALL_CONTEXTS))
        for derivation in derivations:
            _add_german(table, derivation, derivation.probability / evidence)
        return {target: tuple(probabilities) for target, probabilities in table.items()}


def _add_german(table: dict[str, list[float]], derivation: Derivation, share: float) -> None:
    """Adds share * Pr(y | derivation, c) for every way to say it."""
    slots = list(derivation.values)
    choices = list(product(*(value.german for value in derivation.values.values())))
    for register, sequences in enumerate(derivation.template.german):
        for choice in choices:
            forms = {slot: form for slot, (form, _) in zip(slots, choice, strict=True)}
            weights = [share * math.prod(w[place] for _, w in choice) for place in range(len(PLACES))]
            for sequence in sequences:
                joint = [w * s for w, s in zip(weights, sequence.weights, strict=True)]
                if any(joint):
                    row = table[sequence.render(forms, register)]
                    for place, weight in enumerate(joint):
                        row[register * len(PLACES) + place] += weight


def _posterior(register: str | None, place: str | None) -> list[float]:
    """Pr(c | what is known of c)."""
    for name, value, allowed in (("register", register, REGISTERS), ("place", place, PLACES)):
        if value is not None and value not in allowed:
            raise ValueError(f"{name}: expected one of {allowed} or None, got {value!r}")
    weights = [
        prior if register in (None, c.register) and place in (None, c.place) else 0.0
        for c, prior in zip(ALL_CONTEXTS, CONTEXT_PRIOR, strict=True)
    ]
    total = sum(weights)
    return [weight / total for weight in weights]


def _entropy(probabilities: Collection[float]) -> float:
    return -math.fsum(p * math.log(p) for p in probabilities if p > 0)


def _draw(rng: random.Random, sums: list[float]) -> int:
    """An index, with probability in proportion to its step in the running sums."""
    return min(bisect_right(sums, rng.random() * sums[-1]), len(sums) - 1)


class _TemplateSampler:
    """Draws sentences of one template."""

    def __init__(self, template: Template, grammar: Grammar) -> None:
        self.template = template
        self.english_sums = list(accumulate(sequence.weights[0] for sequence in template.english))
        self.slots: list[tuple[str, list[Value], list[float]]] = []
        for slot, spec in template.slots.items():
            probabilities = grammar.probabilities(spec)
            self.slots.append((slot, list(probabilities), list(accumulate(probabilities.values()))))

    def draw(self, rng: random.Random, context: Context) -> tuple[str, str]:
        place, register = PLACES.index(context.place), REGISTERS.index(context.register)
        english: dict[str, Form] = {}
        german: dict[str, Form] = {}
        for slot, values, sums in self.slots:
            value = values[_draw(rng, sums)]
            english[slot] = _draw_english(rng, value)
            german[slot] = _draw_german(rng, value.german, place)
        source = self.template.english[_draw(rng, self.english_sums)]
        target = _draw_german(rng, tuple((s, s.weights) for s in self.template.german[register]), place)
        return source.render(english), target.render(german, register)


def _draw_english(rng: random.Random, value: Value) -> Form:
    if len(value.english) == 1:
        return value.english[0][0]
    return value.english[_draw(rng, list(accumulate(weight for _, weight in value.english)))][0]


def _draw_german(rng: random.Random, options: Sequence[tuple[T, PlaceWeights]], place: int) -> T:
    if len(options) == 1:
        return options[0][0]
    return options[_draw(rng, list(accumulate(weights[place] for _, weights in options)))][0]
