"""German inflection for the phrasebook: articles, adjective endings, nouns and verbs.

Cases are "nom", "acc", "dat" (the phrasebook uses no genitive); genders are "m", "f", "n", and "p" for the
plural. The tables are those of any German grammar, e.g. Duden, Die Grammatik.
"""

from __future__ import annotations

from dataclasses import dataclass

GENDERS = "mfnp"
Endings = dict[str, tuple[str, str, str, str]]  # case -> endings in the order of GENDERS
DEFINITE = {
    "nom": ("der", "die", "das", "die"),
    "acc": ("den", "die", "das", "die"),
    "dat": ("dem", "der", "dem", "den"),
}
# ein, kein, mein, dein, sein, ihr, unser
EIN_ENDINGS = {"nom": ("", "e", "", "e"), "acc": ("en", "e", "", "e"), "dat": ("em", "er", "em", "en")}
# dieser, welcher, jeder; and adjectives without an article
DIES_ENDINGS = {"nom": ("er", "e", "es", "e"), "acc": ("en", "e", "es", "e"), "dat": ("em", "er", "em", "en")}
WEAK_ENDINGS = {"nom": ("e", "e", "e", "en"), "acc": ("en", "e", "e", "en"), "dat": ("en", "en", "en", "en")}
MIXED_ENDINGS = {
    "nom": ("er", "e", "es", "en"),
    "acc": ("en", "e", "es", "en"),
    "dat": ("en", "en", "en", "en"),
}
CONTRACTIONS = {
    "zu dem": "zum",
    "zu der": "zur",
    "in dem": "im",
    "in das": "ins",
    "an dem": "am",
    "an das": "ans",
    "von dem": "vom",
    "bei dem": "beim",
}
ADJECTIVE_STEMS = {"teuer": "teur", "dunkel": "dunkl", "hoch": "hoh", "sauer": "saur"}
INSEPARABLE = ("be", "ver", "er", "ent", "emp", "zer", "miss")


@dataclass(frozen=True)
class GermanNoun:
    """A noun. `weak` ends the oblique singular ("n" in *dem Kollegen*); `preposition` is that of a place."""

    lemma: str
    gender: str
    plural: str = ""
    weak: str = ""
    preposition: str = "in"

    def decline(self, case: str, plural: bool = False) -> str:
        """The noun's own form.

        >>> GermanNoun("Haus", "n", "Häuser").decline("dat", plural=True)
        'Häusern'
        """
        if plural or self.gender == "p":
            form = self.plural or self.lemma
            return form + "n" if case == "dat" and form[-1] not in "ns" else form
        return self.lemma + (self.weak if case != "nom" else "")


def adjective_form(adjective: str, ending: str) -> str:
    """An adjective with its ending: teuer, hoch and the like have a stem of their own.

    >>> adjective_form("teuer", "es"), adjective_form("leise", "er")
    ('teures', 'leiser')
    """
    stem = ADJECTIVE_STEMS.get(adjective, adjective)
    return (stem[:-1] if stem.endswith("e") else stem) + ending


def noun_phrase(
    noun: GermanNoun,
    determiner: str,
    case: str,
    adjective: str = "",
    *,
    plural: bool = False,
    preposition: str = "",
) -> str:
    """Preposition, determiner, adjective and noun in agreement.

    `determiner` is "def", "indef", "zero", "dies", "welch", a numeral ("zwei") after "num:", or the stem of
    an ein-word ("mein", "Ihr", "kein").

    >>> noun_phrase(GermanNoun("Bahnhof", "m"), "def", "dat", "alt", preposition="zu")
    'zum alten Bahnhof'
    """
    gender = GENDERS.index("p" if plural else noun.gender)
    article, endings = _article_and_endings(determiner, case, gender)
    if preposition:
        article = f"{preposition} {article}".strip()
        if determiner == "def":
            article = CONTRACTIONS.get(article, article)
    words = [
        article,
        adjective and adjective_form(adjective, endings[case][gender]),
        noun.decline(case, plural),
    ]
    return " ".join(word for word in words if word)


def _article_and_endings(determiner: str, case: str, gender: int) -> tuple[str, Endings]:
    if determiner == "def":
        return DEFINITE[case][gender], WEAK_ENDINGS
    if determiner in ("dies", "welch"):
        return determiner + DIES_ENDINGS[case][gender], WEAK_ENDINGS
    if determiner == "zero" or (determiner == "indef" and GENDERS[gender] == "p"):
        return "", DIES_ENDINGS
    if determiner.startswith("num:"):
        return determiner[4:], DIES_ENDINGS
    stem = "ein" if determiner == "indef" else determiner
    return stem + EIN_ENDINGS[case][gender], MIXED_ENDINGS


@dataclass(frozen=True)
class GermanVerb:
    """A verb's forms; `prefix` is the separable one, and `infinitive` has it ("abholen").

    >>> verb = parse_verb("ab|holen")
    >>> verb.present("du"), verb.prefix, verb.zu_infinitive
    ('holst', 'ab', 'abzuholen')
    """

    infinitive: str
    ich: str
    du: str
    er: str
    participle: str
    imperative: str
    prefix: str = ""
    auxiliary: str = "haben"

    def present(self, person: str) -> str:
        """The finite form without the separable prefix, for a person of PERSONS."""
        plural = self.infinitive[len(self.prefix) :]
        return {"ich": self.ich, "du": self.du, "er": self.er}.get(person, plural)

    @property
    def zu_infinitive(self) -> str:
        """The infinitive with zu: *zu kaufen*, *abzuholen*."""
        if self.prefix:
            return f"{self.prefix}zu{self.infinitive[len(self.prefix) :]}"
        return f"zu {self.infinitive}"


PERSONS = ("ich", "du", "er", "wir", "sie", "Sie")
AUXILIARIES = {
    "haben": dict(zip(PERSONS, ("habe", "hast", "hat", "haben", "haben", "haben"), strict=True)),
    "sein": dict(zip(PERSONS, ("bin", "bist", "ist", "sind", "sind", "sind"), strict=True)),
}


def parse_verb(text: str) -> GermanVerb:
    """A verb from the lexicon's notation: `ab|holen`, `fahren:fährst,fährt,gefahren(sein)`, du-imperative
    last.

    What is not given is regular.

    >>> parse_verb("ab|holen").participle, parse_verb("reservieren").participle
    ('abgeholt', 'reserviert')
    >>> parse_verb("nehmen:nimmst,nimmt,genommen,nimm").imperative
    'nimm'
    """
    auxiliary = "sein" if text.endswith("(sein)") else "haben"
    head, _, irregular = text.removesuffix("(sein)").partition(":")
    prefix, _, base = head.rpartition("|")
    stem = base[:-2] if base.endswith("en") else base[:-1]
    link = "e" if stem.endswith(("d", "t", "chn", "ffn")) else ""
    du = stem + ("t" if stem.endswith(("s", "ß", "z")) else f"{link}st")
    no_ge = base.endswith("ieren") or base.startswith(INSEPARABLE)
    forms = [du, f"{stem}{link}t", f"{'' if no_ge else 'ge'}{stem}{link}t", stem + link]
    ich = (stem[:-2] + "l" if stem.endswith("el") else stem) + "e"  # ich wechsle
    if stem.endswith(("ier", "ig", "el")):
        forms[3] = ich
    given = irregular.split(",") if irregular else []
    forms[: len(given)] = given
    return GermanVerb(prefix + base, ich, forms[0], forms[1], prefix + forms[2], forms[3], prefix, auxiliary)
