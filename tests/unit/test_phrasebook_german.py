"""The phrasebook's German, against tables and sentences written by hand; the patterns' notation."""

import re

import pytest

from kdlab.text.phrasebook import Phrasebook
from kdlab.text.phrasebook_german import GermanNoun, noun_phrase, parse_verb
from kdlab.text.phrasebook_lexicon import Lexicon
from kdlab.text.phrasebook_patterns import flatten


@pytest.fixture(scope="module")
def full() -> Phrasebook:
    return Phrasebook("full")


@pytest.fixture(scope="module")
def full_pairs(full):
    return full.sample(6000, seed=2)


# (nominative, accusative, dative) of article and adjective, by gender; written out, not computed
AGREEMENT = {
    "m": ("der gute", "den guten", "dem guten", "ein guter", "einen guten", "einem guten"),
    "f": ("die gute", "die gute", "der guten", "eine gute", "eine gute", "einer guten"),
    "n": ("das gute", "das gute", "dem guten", "ein gutes", "ein gutes", "einem guten"),
    "p": ("die guten", "die guten", "den guten", "gute", "gute", "guten"),
}
STRONG = {
    "m": ("guter", "guten", "gutem"),
    "f": ("gute", "gute", "guter"),
    "n": ("gutes", "gutes", "gutem"),
    "p": ("gute", "gute", "guten"),
}
NAMES = ("city", "country", "language")
WEAK_NOUNS = {
    "Kollege": "Kollegen",
    "Nachbar": "Nachbarn",
    "Polizist": "Polizisten",
    "Geldautomat": "Geldautomaten",
    "Bankomat": "Bankomaten",
}
# the gender that the end of a word gives (compounds have that of their last part); GOLD_GENDERS goes first
GENDER_BY_ENDING = {
    "f": "rei ei ung ion ie ek in karte stelle burg anlage maschine stube uhr oper",
    "n": "chen erl zimmer bad haus wasser tuch telefon rad gerät buch ment amt portal ett ot",
    "m": "platz saft schein pass garten schirm hof markt fall hafen salon trockner schalter raum parat",
}
GOLD_GENDERS = {
    "f": """
    Kirche Post Bank Bar Wurst Pizza Milch Kamera E-Mail Mail Tür Stadt Hand Mutter Großmutter Oma
    Schwester Schulter Couch Insel Brezel Semmel Botschaft Zeitschrift
    """,
    "m": """
    Turm Dom Brunnen Strand Wald Fluss Knödel Salat Kaffee Tee Kakao Rahm Mantel Rock Schal Koffer
    Rucksack Schlüssel Laptop Becher Polster Tisch Zug Bus Stuhl Sessel Schrank Kasten Fernseher Onkel
    Cousin Arzt Fahrer Kopf Rücken Bauch Magen Fuß Arm Hals Zahn Brief Aufzug Fahrstuhl Lift Zoo See
    Eissalon Kuchen Palast Park Geldautomat Bankomat Bäcker Buchladen Kloß Pfannkuchen Eierkuchen
    Espresso Cappuccino Pullover Pulli Fahrschein Führerschein Geldbeutel Wagen Fauteuil Föhn Bruder Vater Freund
    Kollege Nachbar Polizist Kellner Ober Reiseleiter
    """,
    "n": """
    Schloss Kloster Ufer Tal Restaurant Café Schnitzel Sandwich Bier Obers Hemd Kleid Visum Geschenk
    Souvenir Bild Kissen Auto Boot Bett Sofa Licht Dorf Knie Bein Ohr Fenster Tor Radio Kino Theater
    Museum Beisl Spital Hotel Lokal Croissant Ticket Portemonnaie Handy Andenken Geld Magazin
    """,
}
GOLD_PHRASES = [
    ("Museum", "def", "dat", "alt", "in", "im alten Museum"),
    ("Kirche", "def", "dat", "klein", "zu", "zur kleinen Kirche"),
    ("Café", "def", "acc", "nett", "in", "ins nette Café"),
    ("Kollege", "mein", "acc", "neu", "", "meinen neuen Kollegen"),
    ("Kollege", "def", "dat", "", "von", "vom Kollegen"),
    ("Milch", "zero", "nom", "kalt", "", "kalte Milch"),
    ("Milch", "zero", "dat", "frisch", "mit", "mit frischer Milch"),
    ("Wasser", "zero", "dat", "kalt", "mit", "mit kaltem Wasser"),
    ("Handschuhe", "def", "dat", "warm", "mit", "mit den warmen Handschuhen"),
    ("Socken", "Ihr", "acc", "blau", "", "Ihre blauen Socken"),
    ("Handy", "dein", "nom", "teuer", "", "dein teures Handy"),
    ("Handy", "def", "acc", "teuer", "", "das teure Handy"),
    ("Koffer", "dies", "acc", "rot", "", "diesen roten Koffer"),
    ("Zug", "welch", "nom", "", "", "welcher Zug"),
    ("Eltern", "unser", "dat", "", "", "unseren Eltern"),
    ("Bluse", "kein", "acc", "hell", "", "keine helle Bluse"),
    ("Ufer", "def", "dat", "ruhig", "an", "am ruhigen Ufer"),
    ("Kissen", "indef", "acc", "sauber", "", "ein sauberes Kissen"),
]
GOLD_PLURALS = [
    ("Schlüssel", "die Schlüssel", "den Schlüsseln"),
    ("Wurst", "die Würste", "den Würsten"),
    ("Pizza", "die Pizzen", "den Pizzen"),
    ("Hotel", "die Hotels", "den Hotels"),
    ("Buch", "die Bücher", "den Büchern"),
    ("Nachbar", "die Nachbarn", "den Nachbarn"),
]
# infinitive, er, du, perfect, with zu, du-imperative
GOLD_VERBS = """
besichtigen besichtigt besichtigst besichtigt zu_besichtigen besichtige
besuchen besucht besuchst besucht zu_besuchen besuch
kaufen kauft kaufst gekauft zu_kaufen kauf
verkaufen verkauft verkaufst verkauft zu_verkaufen verkauf
reservieren reserviert reservierst reserviert zu_reservieren reserviere
abholen holt holst abgeholt abzuholen hol
anrufen ruft rufst angerufen anzurufen ruf
einladen lädt lädst eingeladen einzuladen lade
mitbringen bringt bringst mitgebracht mitzubringen bring
anprobieren probiert probierst anprobiert anzuprobieren probiere
umtauschen tauscht tauschst umgetauscht umzutauschen tausch
öffnen öffnet öffnest geöffnet zu_öffnen öffne
schließen schließt schließt geschlossen zu_schließen schließ
warten wartet wartest gewartet zu_warten warte
finden findet findest gefunden zu_finden finde
essen isst isst gegessen zu_essen iss
sehen sieht siehst gesehen zu_sehen sieh
helfen hilft hilfst geholfen zu_helfen hilf
treffen trifft triffst getroffen zu_treffen triff
lesen liest liest gelesen zu_lesen lies
vergessen vergisst vergisst vergessen zu_vergessen vergiss
sprechen spricht sprichst gesprochen zu_sprechen sprich
tragen trägt trägst getragen zu_tragen trag
putzen putzt putzt geputzt zu_putzen putz
reisen reist reist gereist zu_reisen reise
wechseln wechselt wechselst gewechselt zu_wechseln wechsle
übernachten übernachtet übernachtest übernachtet zu_übernachten übernachte
"""


def german_nouns() -> dict[str, GermanNoun]:
    return {noun.lemma: noun for entry in Lexicon(small=False).nouns for noun, _ in entry.german}


@pytest.mark.parametrize("noun", list(german_nouns().values()), ids=lambda noun: noun.lemma)
def test_article_adjective_and_noun_agree(noun: GermanNoun) -> None:
    oblique = WEAK_NOUNS.get(noun.lemma, noun.lemma)
    plural = noun.lemma if noun.gender == "p" else ""
    plural_dative = plural if plural.endswith(("n", "s")) else plural + "n"
    nouns = (plural, plural, plural_dative) if plural else (noun.lemma, oblique, oblique)
    table = AGREEMENT[noun.gender]
    for case, definite, indefinite, strong, form in zip(
        ("nom", "acc", "dat"), table[:3], table[3:], STRONG[noun.gender], nouns, strict=True
    ):
        assert noun_phrase(noun, "def", case, "gut") == f"{definite} {form}"
        assert noun_phrase(noun, "indef", case, "gut") == f"{indefinite} {form}"
        assert noun_phrase(noun, "zero", case, "gut") == f"{strong} {form}"


def expected_gender(lemma: str) -> str | None:
    gold = {noun: gender for gender, nouns in GOLD_GENDERS.items() for noun in nouns.split()}
    if lemma in gold:
        return gold[lemma]
    for gender, endings in GENDER_BY_ENDING.items():
        if lemma.lower().endswith(tuple(endings.split())):
            return gender
    return "f" if lemma.endswith("e") else None


def test_genders() -> None:
    """Every noun has the gender of the hand-made list, or else of the rule for its ending."""
    nouns = [
        noun for entry in Lexicon(small=False).nouns for noun, _ in entry.german if entry.kind not in NAMES
    ]
    wrong = [
        (noun.lemma, noun.gender, expected_gender(noun.lemma))
        for noun in nouns
        if noun.gender != "p" and noun.lemma != "Cola" and noun.gender != expected_gender(noun.lemma)
    ]
    assert not wrong
    assert {noun.gender for noun in nouns if noun.lemma == "Cola"} == {"f", "n"}  # die in Berlin, das in Wien


@pytest.mark.parametrize(("noun", "determiner", "case", "adjective", "preposition", "expected"), GOLD_PHRASES)
def test_noun_phrases(noun, determiner, case, adjective, preposition, expected) -> None:
    made = noun_phrase(german_nouns()[noun], determiner, case, adjective, preposition=preposition)
    assert made == expected


@pytest.mark.parametrize(("noun", "nominative", "dative"), GOLD_PLURALS)
def test_plurals(noun: str, nominative: str, dative: str) -> None:
    entry = german_nouns()[noun]
    assert noun_phrase(entry, "def", "nom", plural=True) == nominative
    assert noun_phrase(entry, "def", "dat", plural=True) == dative


def test_verbs() -> None:
    verbs = {verb.infinitive: verb for entry in Lexicon(small=False).verbs for verb, _ in entry.german}
    for line in GOLD_VERBS.strip().splitlines():
        infinitive, er, du, participle, zu, imperative = line.replace("zu_", "zu~").split()
        verb = verbs[infinitive]
        made = (verb.present("er"), verb.present("du"), verb.participle, verb.zu_infinitive, verb.imperative)
        assert made == (er, du, participle, zu.replace("~", " "), imperative)
    sein = {verb.infinitive for verb in verbs.values() if verb.auxiliary == "sein"}
    assert sein == {
        "gehen",
        "fahren",
        "fliegen",
        "reisen",
        "losfahren",
        "abreisen",
        "zurückkommen",
        "schwimmen",
    }


def test_a_verb_without_a_table_entry_is_regular() -> None:
    assert parse_verb("aus|suchen").participle == "ausgesucht"


SENTENCES = {
    "Where is the nearest cash machine?": {"Wo ist der nächste Bankomat?", "Wo ist der nächste Geldautomat?"},
    "You want to pick up your sister tomorrow.": {
        "Du willst morgen deine Schwester abholen.",
        "Sie wollen morgen Ihre Schwester abholen.",
        "Morgen möchten Sie Ihre Schwester abholen.",
    },
    "We helped our parents yesterday.": {"Wir haben gestern unseren Eltern geholfen."},
    "They are picking up their aunt tomorrow.": {"Morgen holen sie ihre Tante ab."},
    "He can't come because he has to go to the bank today.": {
        "Er kann nicht kommen, weil er heute zur Bank gehen muss."
    },
    "Don't forget to turn off the light tonight.": {
        "Vergiss nicht, heute Abend das Licht auszumachen.",
        "Vergessen Sie bitte nicht, heute Abend das Licht auszuschalten.",
    },
    "Please call your mother.": {"Ruf bitte deine Mutter an.", "Rufen Sie bitte Ihre Mutter an."},
    "We can't order a pizza today.": {"Wir können heute keine Pizza bestellen."},
    "We can't buy any tomatoes today.": {"Wir können heute keine Paradeiser kaufen."},
    "I can't go to the museum today.": {"Ich kann heute nicht ins Museum gehen."},
    "My feet hurt.": {"Mir tun die Füße weh."},
    "This is the coat that I bought yesterday.": {"Das ist der Mantel, den ich gestern gekauft habe."},
    "I would like three fresh rolls, please.": {"Ich hätte gern drei frische Schrippen, bitte."},
    "Where is the castle?": {"Wo ist die Burg?", "Wo ist das Schloss?"},
    "These trousers are too small for me.": {"Diese Hose ist mir zu klein."},
    "Are these your glasses?": {"Ist das Ihre Brille?", "Sind das deine Gläser?"},
}


@pytest.mark.parametrize("source", list(SENTENCES))
def test_known_translations_are_there(full: Phrasebook, source: str) -> None:
    assert SENTENCES[source] <= set(full.translations(source))


FORMAL = re.compile(r"(?<!^)\b(Sie|Ihnen|Ihr(e|en|em|er|es)?)\b|\b(Entschuldigen|Auf Wieder)")
INFORMAL = re.compile(
    r"\b(du|dich|dir|dein(e|en|em|er|es)?|Tschüss|Servus|Hallo|Entschuldige)\b", re.IGNORECASE
)


def test_formal_and_informal_are_never_mixed(full: Phrasebook, full_pairs) -> None:
    seen = set()
    for pair in full_pairs:
        formal, informal = bool(FORMAL.search(pair.target)), bool(INFORMAL.search(pair.target))
        if pair.context.register == "formal":
            assert not informal, pair
        else:
            assert not formal, pair
        seen.add((formal, informal))
    assert seen == {(False, False), (True, False), (False, True)}


def test_the_register_of_you_is_always_told(full: Phrasebook, full_pairs) -> None:
    """ "Sie" against "du" wherever the English addresses someone: no target serves both registers."""
    addressed = re.compile(r"(?<!hank )\b[Yy]ou(r)?\b")  # "thank you" is the same to everyone
    asked = [p.source for p in full_pairs if addressed.search(p.source)][:300]
    assert len(asked) > 100
    for source in asked:
        formal = set(full.translations(source, register="formal"))
        assert not formal & set(full.translations(source, register="informal")), source


def test_spelling(full_pairs) -> None:
    for pair in full_pairs:
        assert re.fullmatch(r"[A-ZÄÖÜ].*[a-zäöüßé][.?]", pair.target), pair
        assert re.fullmatch(r"[A-Z].*\w[.?]", pair.source), pair
        assert not re.search(r" [ ,.?]", pair.target), pair
        assert pair.source[-1] == pair.target[-1], pair
        assert not re.search(r"[^,] (weil|dass|ob) ", pair.target), pair  # a comma before the clause
        assert not re.search(r"\b(zu dem|zu der|in das|in dem|an dem|an das|von dem)\b", pair.target), pair
        assert not re.search(r"\b(a [aeiou]|an [^aeiou])", pair.source), pair


def test_bad_patterns() -> None:
    with pytest.raises(ValueError, match="never closed"):
        flatten("(a|b", 0)
    with pytest.raises(ValueError, match="positive weight in every place"):
        flatten("(a@1,1,0|b@1,1,0)", 0)


def test_flatten() -> None:
    made = [("".join(map(str, s.items)), s.weights) for s in flatten("<Sie|du> (a*3|b)", 1)]
    assert made == [("dua", (0.75,) * 3), ("dub", (0.25,) * 3)]
