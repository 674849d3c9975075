"""From the tables of words to the values of a slot, each with its probability.

A template writes its slots as `name:set`, where the set is a kind of noun or several ("museum+service"),
followed by "?" (an adjective half of the time), "^" (the same, and "next" or "nearest" may be among them:
only after "the") or "!" (always one); "vp-plan", "vp-ask", "vp-past", "vp-where" or "vp-lose" for a verb with
its object; or a list of fixed phrases, subjects or modal verbs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

from kdlab.text import phrasebook_nouns as nouns_data
from kdlab.text import phrasebook_verbs as verbs_data
from kdlab.text import phrasebook_words as words_data
from kdlab.text.phrasebook_forms import (
    EnglishModal,
    EnglishNP,
    EnglishSubject,
    EnglishVP,
    Form,
    GermanModal,
    GermanNP,
    GermanSubject,
    GermanVP,
    Phrase,
    PlaceWeights,
    Value,
)
from kdlab.text.phrasebook_german import GermanNoun, GermanVerb, parse_verb
from kdlab.text.phrasebook_patterns import normalised, product, weighted

ADJECTIVE_SHARE = 0.5  # how often a noun marked "?" has an adjective
Distribution = list[tuple[Value, float]]
_GENDER = {"der": "m", "die": "f", "das": "n", "pl": "p"}


@dataclass(frozen=True)
class _NounEntry:
    kind: str
    english: tuple[tuple[EnglishNP, float], ...]
    german: tuple[tuple[GermanNoun, PlaceWeights], ...]

    @property
    def mass(self) -> bool:
        return self.english[0][0].number == "mass"


@dataclass(frozen=True)
class _AdjectiveEntry:
    name: str
    german: tuple[tuple[str, PlaceWeights], ...]


@dataclass(frozen=True)
class _VerbEntry:
    english: tuple[tuple[str, str], ...]
    german: tuple[tuple[GermanVerb, PlaceWeights], ...]
    frame: str
    objects: tuple[tuple[str, str], ...]  # (kinds, determiner)
    flags: str


def _lines(table: str, small: bool) -> list[str]:
    """The entries of a table; those that belong to the small size too are marked with "+"."""
    lines = [line.strip() for line in table.strip().splitlines() if line.strip()]
    return [line.lstrip("+ ") for line in lines if line.startswith("+") or not small]


def _alternatives(text: str) -> tuple[tuple[str, PlaceWeights], ...]:
    options = [weighted(part.strip()) for part in text.split(" + ")]
    weights = normalised([weight for _, weight in options], text)
    return tuple((option.strip(), weight) for (option, _), weight in zip(options, weights, strict=True))


def english_plural(noun: str) -> str:
    """The regular plural of the noun's last word.

    >>> english_plural("city"), english_plural("church"), english_plural("key")
    ('cities', 'churches', 'keys')
    """
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _parse_noun(kind: str, line: str) -> _NounEntry:
    """`foot>feet (on) | der Fuß/Füße*2 + …`; "=mass" and "=pl" after the English noun give its number."""
    english_text, german_text = line.split(" | ")
    english = []
    for text in english_text.split(" / "):
        match = re.fullmatch(r"([^>=(]+?)(?:>([^>=(]+?))?(?:=(mass|pl))?(?: \((\w+)\))?", text.strip())
        if not match:
            raise ValueError(f"phrasebook noun {line!r}: cannot read {text!r}")
        noun, plural, number, preposition = match.groups()
        plural = noun if number else plural or english_plural(noun)
        english.append(EnglishNP(noun, plural, number or "sg", preposition=preposition or "at"))
    share = 1 / len(english)
    german = tuple((_german_noun(text), weight) for text, weight in _alternatives(german_text))
    return _NounEntry(kind, tuple((form, share) for form in english), german)


def _german_noun(text: str) -> GermanNoun:
    match = re.fullmatch(r"(der|die|das|pl) ([\w-]+)(?:~(\w+))?(?:/([\w-]+))?(?: \((\w+)\))?", text)
    if not match:
        raise ValueError(f"phrasebook noun {text!r}: expected e.g. 'das Haus/Häuser'")
    article, lemma, weak, plural, preposition = match.groups()
    return GermanNoun(lemma, _GENDER[article], plural or "", weak or "", preposition or "in")


def _english_verb(text: str) -> tuple[tuple[str, str], ...]:
    """base/past/participle/ing; regular where not given; a particle stays behind the verb ("pick up")."""
    forms = text.split("/")
    verb, _, particle = forms[0].partition(" ")
    particle = f" {particle}" if particle else ""
    regular = verb + "d" if verb.endswith("e") else re.sub(r"([^aeiou])y$", r"\1i", verb) + "ed"
    past = forms[1] if len(forms) > 1 and forms[1] else regular
    participle = forms[2] if len(forms) > 2 and forms[2] else past
    ing = (
        forms[3]
        if len(forms) > 3
        else (verb[:-1] if verb.endswith("e") and verb[-2] != "e" else verb) + "ing"
    )
    names = ("base", "past", "pp", "ing")
    return tuple(
        (name, form + particle) for name, form in zip(names, (verb, past, participle, ing), strict=True)
    )


def _parse_verb_entry(line: str) -> _VerbEntry:
    """`look for | suchen | acc | gear:poss,def clothing:poss | pa`."""
    english, german, frame, objects, flags = (part.strip() for part in line.split(" | "))
    pairs = [
        (kinds, det)
        for kinds, _, dets in (o.partition(":") for o in objects.split())
        for det in dets.split(",")
    ]
    verbs = tuple((parse_verb(text), weight) for text, weight in _alternatives(german))
    return _VerbEntry(_english_verb(english), verbs, frame, tuple(pairs), flags)


class Lexicon:
    """The words of one size of the phrasebook, and the distributions that its templates draw from.

    >>> lexicon = Lexicon(small=True)
    >>> values = lexicon.distribution("=I/we")
    >>> [(value.name, probability) for value, probability in values]
    [('I', 0.5), ('we', 0.5)]
    """

    def __init__(self, small: bool) -> None:
        self.small = small
        self.nouns = [
            _parse_noun(kind, line)
            for kind, table in nouns_data.NOUNS.items()
            for line in _lines(table, small)
        ]
        self.adjectives = {entry.name: entry for entry in self._adjectives()}
        self.verbs = [_parse_verb_entry(line) for line in _lines(verbs_data.VERBS, small)]
        self._noun_values: dict[tuple[int, str], Value] = {}
        self.distribution = lru_cache(maxsize=None)(self._distribution)

    def _adjectives(self) -> list[_AdjectiveEntry]:
        entries = []
        for line in _lines(words_data.ADJECTIVES, self.small):
            name, german = line.split(" | ")
            entries.append(_AdjectiveEntry(name.strip(), _alternatives(german)))
        return entries

    def adjectives_of(self, kind: str, mark: str) -> list[_AdjectiveEntry]:
        """The adjectives that make sense with every noun of a kind, in this size, under a slot's mark."""
        names = nouns_data.ADJECTIVES_OF[kind].split() if mark else []
        unique = () if mark == "^" else nouns_data.AFTER_THE
        return [self.adjectives[n] for n in names if n in self.adjectives and n not in unique]

    def _distribution(self, spec: str) -> Distribution:
        if spec.startswith("vp-"):
            return self._verb_phrases(spec[3:])
        if spec in words_data.PHRASES:
            return self._phrases(words_data.PHRASES[spec])
        if spec == "modal":
            return self._modals
        if spec.startswith("="):  # a fixed subject
            names = spec[1:].split("/")
            return [(value, 1 / len(names)) for value, _ in self._subjects if value.name in names]
        if spec == "subject":
            return self._subjects
        if spec == "pronoun":
            pronouns = [(value, p) for value, p in self._subjects if " " not in value.name]
            return [(value, p / sum(q for _, q in pronouns)) for value, p in pronouns]
        return self.noun_phrases(spec)

    def noun_phrases(self, spec: str) -> Distribution:
        """Nouns of the kinds, equally likely; then the adjective."""
        mark = spec[-1] if spec[-1] in "?!^" else ""
        kinds = spec.rstrip("?!^").split("+")
        indices = [i for i, entry in enumerate(self.nouns) if entry.kind in kinds]
        unknown = set(kinds) - set(nouns_data.NOUNS)
        if unknown:
            raise ValueError(f"phrasebook slot {spec!r}: no such kind of noun: {sorted(unknown)}")
        if not indices:
            raise ValueError(f"phrasebook slot {spec!r}: no noun of this kind in this size")
        values: Distribution = []
        for i in indices:
            adjectives = self.adjectives_of(self.nouns[i].kind, mark)
            share = (1.0 if mark == "!" else ADJECTIVE_SHARE) if adjectives else 0.0
            if share < 1:
                values.append((self._noun_value(i, ""), (1 - share) / len(indices)))
            values += [
                (self._noun_value(i, a.name), share / len(adjectives) / len(indices)) for a in adjectives
            ]
        return values

    def _noun_value(self, index: int, adjective: str) -> Value:
        key = index, adjective
        if key not in self._noun_values:
            entry = self.nouns[index]
            written = adjective.partition("#")[0]
            english = tuple(
                (EnglishNP(f.singular, f.plural, f.number, written, f.preposition), w)
                for f, w in entry.english
            )
            adjectives = self.adjectives[adjective].german if adjective else (("", (1.0, 1.0, 1.0)),)
            german = tuple(
                (GermanNP(noun, entry.mass, word), product(noun_weight, word_weight))
                for noun, noun_weight in entry.german
                for word, word_weight in adjectives
            )
            self._noun_values[key] = Value(f"{entry.english[0][0].singular} {adjective}", english, german)
        return self._noun_values[key]

    def _verb_phrases(self, flag: str) -> Distribution:
        """Verbs with the flag, equally likely; then kind and determiner of the object; then the object."""
        letter = {"plan": "p", "ask": "a", "past": "x", "where": "w", "lose": "l"}[flag]
        entries = [entry for entry in self.verbs if letter in entry.flags]
        values: Distribution = []
        for entry in entries:
            frames = self._frames(entry)
            values += [(value, p / len(frames) / len(entries)) for frame in frames for value, p in frame]
        return values

    def _frames(self, entry: _VerbEntry) -> list[Distribution]:
        if entry.frame.startswith("="):
            complement = entry.frame[1:]
            english: tuple[tuple[Form, float], ...] = ((EnglishVP(entry.english), 1.0),)
            german = tuple((GermanVP(verb, complement), weight) for verb, weight in entry.german)
            return [[(Value(entry.english[0][1], english, german), 1.0)]]
        present = {noun.kind for noun in self.nouns}
        return [
            self._frame(entry, k, determiner)
            for k, determiner in entry.objects
            if present & set(k.split("+"))
        ]

    def _frame(self, entry: _VerbEntry, kinds: str, determiner: str) -> Distribution:
        noun_args = (determiner, *entry.frame.split())
        values: Distribution = []
        for noun, probability in self.noun_phrases(kinds + ("^" if determiner == "def" else "?")):
            english = tuple(
                (EnglishVP(entry.english, determiner, form), weight)
                for form, weight in noun.english
                if isinstance(form, EnglishNP)
            )
            german = tuple(
                (GermanVP(verb, "", noun_args, form), product(verb_weight, weight))
                for verb, verb_weight in entry.german
                for form, weight in noun.german
                if isinstance(form, GermanNP)
            )
            values.append(
                (Value(f"{entry.english[0][1]} {determiner} {noun.name}", english, german), probability)
            )
        return values

    def _phrases(self, table: str) -> Distribution:
        """`English*3 / English | German + formal <> informal`: lines are equally likely, or weighted."""
        entries = []
        for line in _lines(table, self.small):
            english_text, german_text = (part.strip() for part in line.split("|"))
            english_text, weights = weighted(english_text)
            options = [text.strip() for text in english_text.split(" / ")]
            english = tuple((Phrase(_formal_informal(text)), 1 / len(options)) for text in options)
            german = tuple(
                (Phrase(_formal_informal(text)), weight) for text, weight in _alternatives(german_text)
            )
            entries.append((Value(english_text, english, german), weights[0]))
        total = sum(weight for _, weight in entries)
        return [(value, weight / total) for value, weight in entries]

    @cached_property
    def _subjects(self) -> Distribution:
        """`he | 1 | his | er | er | sein`: English, its person and possessive; the same in German."""
        entries = []
        for line in _lines(words_data.SUBJECTS, self.small):
            text, person, possessive, german, german_person, german_possessive = (
                p.strip() for p in line.split("|")
            )
            text, weights = weighted(text)
            english = EnglishSubject(text, int(person), possessive)
            subject = GermanSubject(
                _formal_informal(german), _formal_informal(german_person), _formal_informal(german_possessive)
            )
            entries.append((Value(text, ((english, 1.0),), ((subject, (1.0, 1.0, 1.0)),)), weights[0]))
        total = sum(weight for _, weight in entries)
        return [(value, weight / total) for value, weight in entries]

    @cached_property
    def _modals(self) -> Distribution:
        """`want to,wants to,want to | will,willst,will,wollen + würde,würdest,würde,würden,gern`."""
        entries = []
        for line in _lines(words_data.MODALS, self.small):
            english_text, german_text = line.split(" | ")
            i, third, others = english_text.strip().split(",")
            german = []
            for text, weight in _alternatives(german_text):
                ich, du, er, plural, *rest = text.split(",")
                german.append((GermanModal((ich, du, er, plural), "".join(rest)), weight))
            entries.append(Value(i, ((EnglishModal((i, third, others)), 1.0),), tuple(german)))
        return [(value, 1 / len(entries)) for value in entries]


def _formal_informal(text: str) -> tuple[str, str]:
    formal, _, informal = text.replace("_", "").partition("<>")
    return formal.strip(), (informal or formal).strip()
