"""What fills a slot of a template: a `Value` with its English and its German forms, and how each form is
written.

A form is rendered with the arguments of its place in the pattern ("def acc", "inf"), the sentence's subject
(for possessives and verb endings) and the register (0 formal, 1 informal).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from kdlab.text.phrasebook_german import AUXILIARIES, DEFINITE, GENDERS, GermanNoun, GermanVerb, noun_phrase

PlaceWeights = tuple[float, float, float]  # one for each of PLACES
PLACES = ("Berlin", "München", "Wien")
REGISTERS = ("formal", "informal")
CASES = ("nom", "acc", "dat")
MY_YOUR = {"my": ("mein", "mein"), "your": ("Ihr", "dein"), "our": ("unser", "unser"), "no": ("kein", "kein")}


class Form(Protocol):
    """One written form of a slot's value."""

    def render(self, args: tuple[str, ...], subject: Form | None, register: int) -> str: ...
    def agree(self, choices: tuple[str, ...], register: int) -> str: ...


@dataclass(frozen=True, eq=False)
class Value:
    """A meaning with English forms (weights sum to 1) and German forms (weights sum to 1 in each place)."""

    name: str
    english: tuple[tuple[Form, float], ...]
    german: tuple[tuple[Form, PlaceWeights], ...]


@dataclass(frozen=True)
class Phrase:
    """Fixed words; German may differ by register.

    >>> Phrase(("Können Sie", "Kannst du")).render((), None, register=1)
    'Kannst du'
    """

    texts: tuple[str, str]

    def render(self, args: tuple[str, ...], subject: Form | None, register: int) -> str:
        return self.texts[register]

    def agree(self, choices: tuple[str, ...], register: int) -> str:
        raise ValueError(f"a phrase has no number to agree with: {self.texts[0]!r}")


@dataclass(frozen=True)
class EnglishSubject:
    """`person` is 0 for I, 1 for the third person singular, 2 for the rest.

    >>> she = EnglishSubject("she", person=1, possessive="her")
    >>> she.render((), None, 0), she.agree(("am", "is", "are"), 0)
    ('she', 'is')
    """

    text: str
    person: int
    possessive: str

    def render(self, args: tuple[str, ...], subject: Form | None, register: int) -> str:
        return self.text

    def agree(self, choices: tuple[str, ...], register: int) -> str:
        return choices[self.person]


@dataclass(frozen=True)
class GermanSubject:
    """Each field holds the formal and the informal variant; they differ for "you" alone.

    >>> you = GermanSubject(("Sie", "du"), ("Sie", "du"), ("Ihr", "dein"))
    >>> you.render((), None, 0), you.render((), None, 1), you.agree(("komme", "kommst", "kommt", "kommen"), 1)
    ('Sie', 'du', 'kommst')
    """

    texts: tuple[str, str]
    persons: tuple[str, str]
    possessives: tuple[str, str]

    def render(self, args: tuple[str, ...], subject: Form | None, register: int) -> str:
        if args:  # {s haben}, {s sein}
            return AUXILIARIES[args[0]][self.persons[register]]
        return self.texts[register]

    def agree(self, choices: tuple[str, ...], register: int) -> str:
        """Choices are for ich, du, er and the plural."""
        return choices[{"ich": 0, "du": 1, "er": 2}.get(self.persons[register], 3)]


@dataclass(frozen=True)
class EnglishModal:
    """A modal verb, with its forms for I, the third person singular and the rest.

    >>> she = EnglishSubject("she", person=1, possessive="her")
    >>> EnglishModal(("have to", "has to", "have to")).render((), she, 0)
    'has to'
    """

    forms: tuple[str, str, str]

    def render(self, args: tuple[str, ...], subject: Form | None, register: int) -> str:
        assert isinstance(subject, EnglishSubject)
        return subject.agree(self.forms, register)

    def agree(self, choices: tuple[str, ...], register: int) -> str:
        raise ValueError("nothing agrees with a modal verb")


@dataclass(frozen=True)
class GermanModal:
    """Forms for ich, du, er and the plural; `rest` comes later in the clause ("gern" of *würde gern*).

    >>> i = GermanSubject(("ich", "ich"), ("ich", "ich"), ("mein", "mein"))
    >>> would = GermanModal(("würde", "würdest", "würde", "würden"), "gern")
    >>> would.render((), i, 0), would.render(("rest",), i, 0)
    ('würde', 'gern')
    """

    forms: tuple[str, str, str, str]
    rest: str = ""

    def render(self, args: tuple[str, ...], subject: Form | None, register: int) -> str:
        if args == ("rest",):
            return self.rest
        assert isinstance(subject, GermanSubject)
        return subject.agree(self.forms, register)

    def agree(self, choices: tuple[str, ...], register: int) -> str:
        raise ValueError("nothing agrees with a modal verb")


@dataclass(frozen=True)
class EnglishNP:
    """A noun ("sg", "pl" or "mass") with or without an adjective; `preposition` is that of a place.

    >>> orange = EnglishNP("orange", "oranges", "sg", adjective="fresh", preposition="on")
    >>> [orange.render(place, None, 0) for place in [("indef",), ("indef", "noadj"), ("def", "pl")]]
    ['a fresh orange', 'an orange', 'the fresh oranges']
    """

    singular: str
    plural: str
    number: str
    adjective: str = ""
    preposition: str = "at"

    def render(self, args: tuple[str, ...], subject: Form | None, register: int) -> str:
        if "pred" in args:
            return self.adjective
        plural = "pl" in args or self.number == "pl"
        adjective = "" if "noadj" in args else self.adjective
        core = f"{adjective} {self.plural if plural else self.singular}".strip()
        determiner = self._determiner(args, core, plural, subject)
        place = self.preposition if "at" in args else ""
        return " ".join(word for word in (place, determiner, core) if word)

    def _determiner(self, args: tuple[str, ...], core: str, plural: bool, subject: Form | None) -> str:
        if "def" in args:
            return "the"
        if "indef" in args:
            return "" if plural or self.number == "mass" else ("an" if core[0] in "aeiou" else "a")
        if "this" in args:
            return "these" if plural else "this"
        if "poss" in args:
            assert isinstance(subject, EnglishSubject)
            return subject.possessive
        return next((word for word in ("my", "your", "our", "no", "which", "any") if word in args), "")

    def agree(self, choices: tuple[str, ...], register: int) -> str:
        return choices[self.number == "pl"]


@lru_cache(maxsize=4096)
def _german_np_arguments(args: tuple[str, ...]) -> tuple[str, str, str, bool]:
    """Determiner, case, preposition and plural of a noun phrase's place in a German pattern."""
    case = next((a for a in args if a in CASES), "acc" if "into" in args else "dat")
    preposition = next((a[5:] for a in args if a.startswith("prep=")), "")
    determiners = ("def", "indef", "zero", "this", "which", "poss", *MY_YOUR)
    determiner = next((a for a in args if a in determiners), "zero")
    return determiner, case, preposition, "pl" in args


_noun_phrase = lru_cache(maxsize=65536)(noun_phrase)


@dataclass(frozen=True)
class GermanNP:
    """A noun in any case and with any determiner, with or without an adjective.

    >>> house = GermanNP(GermanNoun("Haus", "n", "Häuser"), adjective="alt")
    >>> places = [("indef", "nom"), ("def", "dat", "pl"), ("at", "def")]
    >>> [house.render(place, None, 0) for place in places]
    ['ein altes Haus', 'den alten Häusern', 'im alten Haus']
    """

    noun: GermanNoun
    mass: bool = False
    adjective: str = ""

    def render(self, args: tuple[str, ...], subject: Form | None, register: int) -> str:
        if "pred" in args:
            return self.adjective
        if "rel" in args:  # the relative pronoun is the article, in the nominative and the accusative
            return DEFINITE[args[1]][GENDERS.index(self.noun.gender)]
        determiner, case, preposition, plural = _german_np_arguments(args)
        if "at" in args or "into" in args:
            preposition = self.noun.preposition
        if determiner == "poss":
            assert isinstance(subject, GermanSubject)
            determiner = subject.possessives[register]
        elif determiner in MY_YOUR:
            determiner = MY_YOUR[determiner][register]
        elif determiner == "indef" and self.mass:
            determiner = "zero"
        determiner = {"this": "dies", "which": "welch"}.get(determiner, determiner)
        adjective = "" if "noadj" in args else self.adjective
        return _noun_phrase(self.noun, determiner, case, adjective, plural=plural, preposition=preposition)

    def agree(self, choices: tuple[str, ...], register: int) -> str:
        return choices[self.noun.gender == "p"]


@dataclass(frozen=True)
class EnglishVP:
    """A verb and its object: `verb` maps "base", "past", "pp" and "ing" to words.

    >>> buy = (("base", "buy"), ("past", "bought"), ("pp", "bought"), ("ing", "buying"))
    >>> EnglishVP(buy, "indef", EnglishNP("apple", "apples", "sg")).render(("past",), None, 0)
    'bought an apple'
    """

    verb: tuple[tuple[str, str], ...]
    determiner: str = ""
    noun: EnglishNP | None = None
    forms: dict[str, str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "forms", dict(self.verb))

    def render(self, args: tuple[str, ...], subject: Form | None, register: int) -> str:
        verb = self.forms[args[0]]
        if self.noun is None:
            return verb
        any_ = self.determiner == "indef" and "neg" in args and self.noun.number != "sg"
        determiner = "any" if any_ else self.determiner
        return f"{verb} {self.noun.render((determiner,), subject, register)}"

    def agree(self, choices: tuple[str, ...], register: int) -> str:
        raise ValueError("nothing agrees with a verb phrase")


@dataclass(frozen=True)
class GermanVP:
    """A verb with its object: a noun phrase in `case` (after `preposition`), or a fixed `complement`.

    >>> verb = GermanVerb("kaufen", "kaufe", "kaufst", "kauft", "gekauft", "kauf")
    >>> buy = GermanVP(verb, noun_args=("indef", "acc"), noun=GermanNP(GermanNoun("Apfel", "m", "Äpfel")))
    >>> [buy.render((part,), None, 0) for part in ("obj", "negobj", "part", "zu")]
    ['einen Apfel', 'keinen Apfel', 'gekauft', 'zu kaufen']
    """

    verb: GermanVerb
    complement: str = ""
    noun_args: tuple[str, ...] = ()
    noun: GermanNP | None = None

    def render(self, args: tuple[str, ...], subject: Form | None, register: int) -> str:
        part = args[0]
        if part == "obj":
            return self._object(self.noun_args, subject, register)
        if part == "negobj":
            return self._negated_object(subject, register)
        if part == "imp":
            infinitive = self.verb.present("Sie")
            return (f"{infinitive} Sie", self.verb.imperative)[register]
        if part in ("aux", "pres"):
            assert isinstance(subject, GermanSubject)
            person = subject.persons[register]
            return AUXILIARIES[self.verb.auxiliary][person] if part == "aux" else self.verb.present(person)
        return {
            "inf": self.verb.infinitive,
            "zu": self.verb.zu_infinitive,
            "part": self.verb.participle,
            "prefix": self.verb.prefix,
        }[part]

    def _object(self, noun_args: tuple[str, ...], subject: Form | None, register: int) -> str:
        return self.noun.render(noun_args, subject, register) if self.noun else self.complement

    def _negated_object(self, subject: Form | None, register: int) -> str:
        """kein for an indefinite object; nicht after a definite one, before a preposition or complement."""
        if self.noun and "indef" in self.noun_args and "acc" in self.noun_args and not self._prepositional:
            return self._object(("no", *(a for a in self.noun_args if a != "indef")), subject, register)
        text = self._object(self.noun_args, subject, register)
        if self.noun and not self._prepositional:
            return f"{text} nicht"
        return f"nicht {text}".strip()

    @property
    def _prepositional(self) -> bool:
        return "into" in self.noun_args or any(a.startswith("prep=") for a in self.noun_args)

    def agree(self, choices: tuple[str, ...], register: int) -> str:
        raise ValueError("nothing agrees with a verb phrase")
