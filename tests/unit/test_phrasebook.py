"""The phrasebook's probabilities, against brute force, counts and sums; its sizes, samples and errors."""

import math
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import product

import pytest

from kdlab.text.phrasebook import PLACES, REGISTERS, Context, Phrasebook


@pytest.fixture(scope="module")
def small() -> Phrasebook:
    return Phrasebook("small")


@pytest.fixture(scope="module")
def full() -> Phrasebook:
    return Phrasebook("full")


@pytest.fixture(scope="module")
def small_pairs(small):
    return small.sample(6000, seed=1)


@pytest.fixture(scope="module")
def full_vocabulary(full):
    return full.vocabulary()


@pytest.fixture(scope="module")
def full_pairs(full):
    return full.sample(6000, seed=2)


# ---------------------------------------------------------------- probabilities


def brute_force(
    phrasebook: Phrasebook, templates, wanted: set[str]
) -> dict[str, dict[Context, dict[str, float]]]:
    """Pr(y | c, x) from the joint probability of every derivation, with no parser and no cache."""
    grammar = phrasebook._grammar
    joint = defaultdict(lambda: defaultdict(lambda: defaultdict(float)))
    for template in templates:
        spaces = [
            [
                (slot, value, p * w, form)
                for value, p in grammar.lexicon.distribution(spec)
                for form, w in value.english
            ]
            for slot, spec in template.slots.items()
        ]
        for combination in product(*spaces):
            english = {slot: form for slot, _, _, form in combination}
            sources = [(s.render(english), s.weights[0]) for s in template.english]
            if not any(source in wanted for source, _ in sources):
                continue
            prior = template.probability * math.prod(p for _, _, p, _ in combination)
            for (source, weight), context in product(sources, phrasebook.contexts):
                place, register = PLACES.index(context.place), REGISTERS.index(context.register)
                for german in product(*(value.german for _, value, _, _ in combination)):
                    forms = {c[0]: form for c, (form, _) in zip(combination, german, strict=True)}
                    chance = prior * weight * math.prod(w[place] for _, w in german)
                    for sequence in template.german[register]:
                        target = sequence.render(forms, register)
                        joint[source][context][target] += chance * sequence.weights[place]
    return joint


def assert_matches(phrasebook: Phrasebook, joint, sources) -> None:
    for source in sources:
        evidence = {context: sum(row.values()) for context, row in joint[source].items()}
        assert max(evidence.values()) == pytest.approx(min(evidence.values()))  # x tells nothing about c
        for context, row in joint[source].items():
            expected = {y: p / evidence[context] for y, p in row.items() if p > 0}
            made = phrasebook.translations(source, register=context.register, place=context.place)
            assert made == pytest.approx(expected)
        mixed = defaultdict(float)
        for context, prior in phrasebook.contexts.items():
            for y, p in joint[source][context].items():
                mixed[y] += prior * p / evidence[context]
        assert phrasebook.translations(source) == pytest.approx({y: p for y, p in mixed.items() if p > 0})


def test_translations_against_brute_force_on_the_whole_small_grammar(small: Phrasebook, small_pairs) -> None:
    wanted = {pair.source for pair in small_pairs[:150]} | {"Where is the bank?", "Where is the big bank?"}
    joint = brute_force(small, small._grammar.templates, wanted)
    assert wanted <= set(joint)
    assert_matches(small, joint, sorted(wanted))


def test_translations_against_brute_force_on_templates_of_the_full_grammar(full: Phrasebook) -> None:
    names = {
        "hurts",
        "timetable",
        "too_hard",
        "there_is_no",
        "broken",
        "how_are",
        "lives_in",
        "right_train",
        "farewell",
    }
    templates = [template for template in full._grammar.templates if template.name in names]
    assert len(templates) == len(names)
    for template in templates:
        space = [list(full._grammar.lexicon.distribution(spec)) for spec in template.slots.values()]
        english = [
            {s: v.english[0][0] for s, (v, _) in zip(template.slots, c, strict=True)} for c in product(*space)
        ]
        wanted = {template.english[0].render(forms) for forms in english[:: max(1, len(english) // 15)]}
        assert_matches(full, brute_force(full, [template], wanted), sorted(wanted))


def test_ambiguity_by_hand(small: Phrasebook) -> None:
    """Two kinds of bank, equally likely; "big" is one of 3 adjectives of the one and of 4 of the other."""
    assert small.log_probability("Wo ist die Bank?", "Where is the bank?") == pytest.approx(math.log(4 / 14))
    assert small.log_probability("Wo ist das Ufer?", "Where is the bank?") == pytest.approx(math.log(4 / 14))
    big = small.translations("Where is the big bank?")
    banks = sum(p for y, p in big.items() if "Bank" in y)
    assert banks == pytest.approx((1 / 3) / (1 / 3 + 1 / 4))
    castles = small.translations("Where is the castle?", place="Wien")
    assert sum(p for y, p in castles.items() if "Burg" in y) == pytest.approx(2 / 5)


def test_probabilities_sum_to_one_and_come_in_order(full: Phrasebook, full_pairs) -> None:
    for pair in full_pairs[:1500]:
        context = pair.context
        for known in (
            {},
            {"register": context.register},
            {"register": context.register, "place": context.place},
        ):
            made = full.translations(pair.source, **known)
            values = list(made.values())
            assert math.fsum(values) == pytest.approx(1.0, abs=1e-12)
            assert values == sorted(values, reverse=True)
            assert min(values) > 0
            assert pair.target in made


@pytest.mark.parametrize("known", [(), ("register",), ("place",), ("register", "place")])
def test_samples_follow_the_distribution(full: Phrasebook, known: tuple[str, ...]) -> None:
    """The targets' mean surprise is the entropy; the most probable one comes as often as it should."""
    surprise = variance = top = expected_top = top_variance = 0.0
    for pair in full.sample(12000, seed=7):
        made = full.translations(pair.source, **{name: getattr(pair.context, name) for name in known})
        mean = -sum(p * math.log(p) for p in made.values())
        surprise += -math.log(made[pair.target]) - mean
        variance += sum(p * math.log(p) ** 2 for p in made.values()) - mean**2
        first, p = next(iter(made.items()))
        top, expected_top, top_variance = (
            top + (pair.target == first),
            expected_top + p,
            top_variance + p * (1 - p),
        )
    assert abs(surprise) < 4 * math.sqrt(variance)
    assert abs(top - expected_top) < 4 * math.sqrt(top_variance)


def test_every_translation_comes_as_often_as_it_should(full: Phrasebook) -> None:
    """Chi-square: where targets fall in the order of their probabilities, spread at random within their share,
    is uniform if and only if each comes with its own probability."""
    rng, bins = random.Random(0), [0] * 20
    for pair in full.sample(20_000, seed=9):
        below = 0.0
        for target, probability in full.translations(pair.source).items():
            if target == pair.target:
                bins[int((below + probability * rng.random()) * 20)] += 1
            below += probability
    expected = 20_000 / 20
    assert sum((count - expected) ** 2 / expected for count in bins) < 45  # 19 degrees of freedom: p = 0.0007


def test_contexts_are_drawn_from_the_prior_whatever_the_source(full: Phrasebook) -> None:
    pairs = full.sample(12000, seed=3)
    assert math.fsum(full.contexts.values()) == pytest.approx(1)
    for group in (pairs, [pair for pair in pairs if "you" in pair.source.lower()]):
        for context, prior in full.contexts.items():
            share = sum(pair.context == context for pair in group)
            assert abs(share - prior * len(group)) < 4 * math.sqrt(len(group) * prior * (1 - prior))


@pytest.mark.parametrize("known", [{}, {"register": "informal", "place": "Wien"}])
def test_chain_rule(full: Phrasebook, full_pairs, known) -> None:
    for pair in full_pairs[:200]:
        for target in full.translations(pair.source, **known):
            words, total = target.split(" "), 0.0
            for i in range(len(words) + 1):
                after = full.next_word_distribution(pair.source, words[:i], **known)
                assert math.fsum(after.values()) == pytest.approx(1)
                total += math.log(after[words[i] if i < len(words) else ""])
            assert total == pytest.approx(full.log_probability(target, pair.source, **known))


def test_entropy_against_the_sum(full: Phrasebook, full_pairs) -> None:
    for pair in full_pairs[:300]:
        for known in ({}, {"register": "formal"}, {"place": "Berlin"}):
            made = full.translations(pair.source, **known)
            expected = sum(-p * full.log_probability(y, pair.source, **known) for y, p in made.items())
            assert full.entropy(pair.source, **known) == pytest.approx(expected)


@pytest.mark.parametrize("flags", list(product((False, True), repeat=2)))
def test_context_information_is_the_mean_divergence(full: Phrasebook, full_pairs, flags) -> None:
    register, place = flags
    positive = 0
    for pair in full_pairs[:300]:
        expected = 0.0
        for context, prior in full.contexts.items():
            sharp = full.translations(pair.source, register=context.register, place=context.place)
            told = {
                "register": context.register if register else None,
                "place": context.place if place else None,
            }
            blurred = full.translations(pair.source, **told)
            expected += prior * sum(p * math.log(p / blurred[y]) for y, p in sharp.items())
        made = full.context_information(pair.source, register=register, place=place)
        assert made == pytest.approx(expected, abs=1e-9)
        positive += made > 1e-6
    assert (positive > 0) == (not (register and place))


def test_a_known_register_is_worth_its_own_entropy(full: Phrasebook) -> None:
    """Every target of a sentence to "you" tells the register, and with the place known nothing else is left."""
    register_entropy = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    made = full.context_information("Have you seen my umbrella?", place=True)
    assert made == pytest.approx(register_entropy)
    assert full.context_information("Have you seen my umbrella?", register=True) == pytest.approx(
        0, abs=1e-12
    )


def test_log_probability_of_a_wrong_translation(small: Phrasebook) -> None:
    assert small.log_probability("Wo ist der Hotel?", "Where is the hotel?") == -math.inf
    assert small.log_probability("Wo ist das Hotel?", "Where is the hotel?") == pytest.approx(math.log(4 / 7))


# ---------------------------------------------------------------- sizes and samples


def test_the_grammar_is_as_large_as_it_should_be(
    small: Phrasebook, full: Phrasebook, full_vocabulary
) -> None:
    words = full._grammar.lexicon
    places = ("city", "country", "language", "money")
    assert len({n.english[0][0].singular for n in words.nouns if n.kind not in places}) >= 120
    assert len({name.partition("#")[0] for name in words.adjectives}) >= 40
    assert len({verb.english for verb in words.verbs}) >= 40
    assert len(full._grammar.templates) >= 60
    assert len({template.name for template in full._grammar.templates}) == len(full._grammar.templates)
    english, german = full_vocabulary
    assert 500 <= len({word.lower() for word in english}) <= 900
    assert len({word.lower() for word in german}) <= 1500
    assert len({n.english[0][0].singular for n in small._grammar.lexicon.nouns}) <= 40
    assert len(small._grammar.templates) <= 15


def test_the_number_of_translations_is_bounded(full: Phrasebook, small: Phrasebook, full_pairs) -> None:
    counts = sorted(len(full.translations(pair.source)) for pair in full_pairs)
    assert 4 <= counts[len(counts) // 2] <= 12
    assert counts[-1] <= 96
    for phrasebook in (small, full):  # the values with the most German forms, in every template
        for template in phrasebook._grammar.templates:
            forms = {}
            for slot, spec in template.slots.items():
                values = [value for value, _ in phrasebook._grammar.lexicon.distribution(spec)]
                forms[slot] = max(values, key=lambda value: len(value.german)).english[0][0]
            source = template.english[0].render(forms)
            assert len(phrasebook.translations(source)) <= 96, source


def test_lengths(full_pairs) -> None:
    lengths = [len(text.split()) for pair in full_pairs for text in (pair.source, pair.target)]
    assert min(lengths) >= 3
    assert max(lengths) <= 17
    assert sum(length <= 14 for length in lengths) > 0.98 * len(lengths)


def test_sources_are_distinct_and_excluded_ones_are_left_out(small: Phrasebook) -> None:
    first = small.sample(3000, seed=11)
    assert len({pair.source for pair in first}) == 3000
    excluded = [pair.source for pair in first]
    again = small.sample(3000, seed=11, exclude=excluded)
    assert not {pair.source for pair in again} & set(excluded)
    assert small.sample(0, seed=1) == []


def test_repeats_come_as_often_as_the_grammar_makes_them(small: Phrasebook) -> None:
    """In 6,000 draws the commonest source comes some 30 times, and its translations in their true shares."""
    pairs = small.sample(6000, seed=4, repeats=True)
    counts = Counter(pair.source for pair in pairs)
    assert len(counts) < 5000
    source, times = counts.most_common(1)[0]
    targets = Counter(pair.target for pair in pairs if pair.source == source)
    for target, probability in small.translations(source).items():
        error = math.sqrt(times * probability * (1 - probability))
        assert abs(targets[target] - times * probability) <= 4 * error + 1e-9
    left = small.sample(6000, seed=4, exclude=[source], repeats=True)
    assert source not in {pair.source for pair in left}


def test_there_are_enough_sources_for_thirty_thousand(small: Phrasebook) -> None:
    assert len({pair.source for pair in small.sample(30_000, seed=0)}) == 30_000


@pytest.mark.slow
def test_the_full_grammar_has_two_hundred_thousand_sources(full: Phrasebook) -> None:
    assert len({pair.source for pair in full.sample(200_000, seed=0)}) == 200_000


def test_small_is_a_part_of_full(small: Phrasebook, full: Phrasebook, full_vocabulary, small_pairs) -> None:
    for pair in small_pairs[:700]:
        assert full.contains(pair.source), pair.source
        assert set(small.translations(pair.source)) <= set(full.translations(pair.source)), pair.source
    assert small.vocabulary()[0] < full_vocabulary[0]
    assert small.vocabulary()[1] < full_vocabulary[1]


def test_vocabulary_holds_every_sampled_word(full_vocabulary, full_pairs) -> None:
    english, german = full_vocabulary
    for pair in full_pairs:
        assert {word.strip(".,?") for word in pair.source.split()} <= english, pair.source
        assert {word.strip(".,?") for word in pair.target.split()} <= german, pair.target


def test_vocabulary_holds_no_word_that_cannot_occur(small: Phrasebook) -> None:
    pairs = small.sample(15_000, seed=5)
    for vocabulary, texts in zip(
        small.vocabulary(),
        ([p.source for p in pairs], [y for p in pairs for y in small.translations(p.source)]),
        strict=True,
    ):
        assert vocabulary <= {word.strip(".,?") for text in texts for word in text.split()}


def test_samples_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "from kdlab.text.phrasebook import Phrasebook; p = Phrasebook('full'); pairs = p.sample(300, 5);"
        "print(pairs); print([p.translations(x.source) for x in pairs])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_the_seed_decides_the_sample(small: Phrasebook) -> None:
    assert small.sample(50, seed=1) == small.sample(50, seed=1)
    assert small.sample(50, seed=1) != small.sample(50, seed=2)


def test_importing_the_phrasebook_needs_no_torch() -> None:
    code = "import sys, kdlab.text.phrasebook; assert 'torch' not in sys.modules"
    package = subprocess.run([sys.executable, "-c", "import sys, kdlab; assert 'torch' not in sys.modules"])
    if package.returncode == 0:
        subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- bad input


def test_unknown_source(small: Phrasebook) -> None:
    for source in (
        "",
        "Where is the hotel",
        "where is the hotel?",
        "Where is a hotel?",
        "Where is the zebra?",
    ):
        assert not small.contains(source)
        with pytest.raises(ValueError, match="source: expected a sentence of the small phrasebook"):
            small.translations(source)
    assert small.contains("Where is the hotel?")


def test_unknown_context(small: Phrasebook) -> None:
    with pytest.raises(ValueError, match=r"register: expected one of .*, got 'polite'"):
        small.translations("Where is the hotel?", register="polite")
    with pytest.raises(ValueError, match=r"place: expected one of .*, got 'Bern'"):
        small.entropy("Where is the hotel?", place="Bern")


def test_impossible_prefix(small: Phrasebook) -> None:
    with pytest.raises(
        ValueError, match="prefix_words: no translation of 'Where is the hotel\\?' begins with"
    ):
        small.next_word_distribution("Where is the hotel?", ["Wo", "sind"])


def test_bad_size_and_count(small: Phrasebook, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="size: expected 'small' or 'full', got 'huge'"):
        Phrasebook("huge")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="count: expected 0 or more, got -1"):
        small.sample(-1, seed=0)
    monkeypatch.setattr("kdlab.text.phrasebook.PATIENCE", 20)
    with pytest.raises(ValueError, match="count: expected no more than the small phrasebook has"):
        small.sample(200_000, seed=0)
