"""Against the phrasebook's own distribution: sums by hand, and students of which everything is known."""

from __future__ import annotations

import math
import re

import pytest
import torch

from kdlab.students import Architecture, new_model
from kdlab.teachers import PhrasebookTeacher
from kdlab.text.tokenizers import MAX_LENGTH, encode_sources, encode_targets
from kdlab.truth import compare_with_truth, kl_to_truth, mode_coverage
from tests.unit.small_text import small_text
from tests.unit.tabular import Tabular


@pytest.fixture(scope="module")
def setting():
    text = small_text(pairs=30, seed=2)
    return text, new_model(Architecture(16, 1, 1, 32, heads=2), text.tokenizer, 0).eval()


@pytest.fixture(scope="module")
def truth(setting):
    text, _ = setting
    return PhrasebookTeacher(text.phrasebook, text.tokenizer)


@pytest.fixture(scope="module")
def sources(setting, truth):
    """Two sentences with four translations or more each."""
    text, _ = setting
    lines = dict.fromkeys(pair.source for pair in text.pairs)
    return [line for line in lines if len(truth.translations(line)) >= 4][:2]


def student(truth, table):
    """A tabular student that knows each source of `table` by its text."""
    ids = {line: tuple(encode_sources(truth.tokenizer, [line], MAX_LENGTH)[0]) for line in table}
    return Tabular(truth.vocabulary, {ids[line]: known for line, known in table.items()})


# --- KL to the truth ----------------------------------------------------------------------------------------


def test_kl_to_truth_is_the_sum_over_translations(setting):
    text, model = setting
    phrasebook, tokenizer, source = text.phrasebook, text.tokenizer, text.pairs[0].source
    expected = 0.0
    for target, p in phrasebook.translations(source).items():
        x = torch.tensor(encode_sources(tokenizer, [source], 64))
        y = torch.tensor(encode_targets(tokenizer, [target], 64))
        start = torch.cat([torch.tensor([[0]]), y[:, :-1]], dim=1)
        with torch.no_grad():
            log_q = model(input_ids=x, decoder_input_ids=start).logits.double().log_softmax(-1)
        expected += p * (math.log(p) - log_q[0].gather(-1, y[0, :, None]).sum().item())
    assert kl_to_truth(model, PhrasebookTeacher(phrasebook, tokenizer), [source])[
        "nats_a_sentence"
    ] == pytest.approx(expected, rel=1e-4)


def test_the_truth_of_several_sentences_is_their_mean_and_a_token_s_share_of_the_expected_length(setting):
    text, model = setting
    truth = PhrasebookTeacher(text.phrasebook, text.tokenizer)
    dropout = new_model(Architecture(16, 1, 1, 32, heads=2, dropout=0.5), text.tokenizer, 0).train()
    sources = [pair.source for pair in text.pairs[:3]]
    found = kl_to_truth(dropout, truth, sources)
    alone = [kl_to_truth(model, truth, [source])["nats_a_sentence"] for source in sources]
    assert found["nats_a_sentence"] == pytest.approx(sum(alone) / 3, rel=1e-5)
    expected_length = sum(p * len(ids) for source in sources for ids, p in truth.translations(source))
    assert expected_length != sum(len(ids) for source in sources for ids, _ in truth.translations(source))
    assert found["nats_a_token"] == pytest.approx(sum(alone) / expected_length, rel=1e-5)


# --- modes covered ------------------------------------------------------------------------------------------


def test_the_truth_covers_itself_and_says_nothing_else(truth, sources):
    itself = student(truth, {line: truth.translations(line) for line in sources})
    assert mode_coverage(itself, truth, sources) == pytest.approx({"recall": 1, "precision": 1}, abs=1e-5)
    assert kl_to_truth(itself, truth, sources)["nats_a_sentence"] == pytest.approx(0, abs=1e-5)


def test_coverage_and_precision_are_those_by_hand(truth, sources):
    """Of the first source: a translation just above a tenth of its probability, one just below, one with too much,
    none of the others, and the rest on a wrong one. Of the second source the best translation alone."""
    first, second = (truth.translations(line) for line in sources)
    (a, p_a), (b, p_b), (c, p_c) = first[:3]
    wrong = [*a[:-1], a[0], a[-1]]
    assert wrong not in [ids for ids, _ in first]
    known = [(a, 0.101 * p_a), (b, 0.099 * p_b), (c, min(1.5 * p_c, 0.7))]
    known.append((wrong, 1 - sum(q for _, q in known)))
    best, p_best = max(second, key=lambda row: row[1])
    model = student(truth, {sources[0]: known, sources[1]: [(best, 1.0)]})
    assert mode_coverage(model, truth, sources) == pytest.approx(
        {"recall": (p_a + p_c + p_best) / 2, "precision": (sum(q for _, q in known[:3]) + 1) / 2}, abs=1e-5
    )
    assert mode_coverage(model, truth, sources[1:]) == pytest.approx({"recall": p_best, "precision": 1})
    both = {"kl_to_truth": kl_to_truth(model, truth, sources[:1])}
    both["mode_coverage"] = mode_coverage(model, truth, sources[:1])
    assert compare_with_truth(model, truth, sources[:1]) == both
    stricter = mode_coverage(model, truth, sources[:1], at_least=0.5)["recall"]
    assert stricter == pytest.approx(p_c)
    looser = mode_coverage(model, truth, sources[:1], at_least=0.05)["recall"]
    assert looser == pytest.approx(p_a + p_b + p_c)


def test_a_uniform_student_s_precision_is_a_power_of_the_vocabulary_for_each_translation(truth, sources):
    (line, *_) = sources
    found = mode_coverage(student(truth, {}), truth, [line])
    expected = sum(truth.vocabulary ** -len(ids) for ids, _ in truth.translations(line))
    assert found == {"recall": 0, "precision": pytest.approx(expected, rel=1e-4, abs=0)}


def test_a_source_is_covered_at_most_as_far_as_precision_allows(truth, sources):
    """Every right translation gets the same small share of its probability; the recall jumps where that is enough."""
    (line, *_) = sources
    right = truth.translations(line)
    wrong = [*right[0][0][:-1], right[0][0][0], right[0][0][-1]]
    for share, recall in ((0.09, 0.0), (0.11, 1.0)):
        known = [*((ids, share * p) for ids, p in right), (wrong, 1 - share)]
        found = mode_coverage(student(truth, {line: known}), truth, [line])
        assert found == pytest.approx({"recall": recall, "precision": share}, abs=1e-5)
        assert found["recall"] <= found["precision"] / 0.1


def test_dropout_does_not_count(setting, truth, sources):
    text, model = setting
    dropout = new_model(Architecture(16, 1, 1, 32, heads=2, dropout=0.5), text.tokenizer, 0).train()
    expected = mode_coverage(model, truth, sources)  # untrained: next to nothing
    assert mode_coverage(dropout, truth, sources) == pytest.approx(expected, rel=1e-4, abs=0)


@pytest.mark.parametrize("at_least", [0, 1.5, math.nan])
def test_a_threshold_is_a_share(truth, at_least):
    message = re.escape(f"at_least: got {at_least}, expected more than 0 and at most 1")
    with pytest.raises(ValueError, match=message):
        mode_coverage(student(truth, {}), truth, ["Hello!"], at_least)


@pytest.mark.parametrize("figure", [kl_to_truth, mode_coverage])
def test_no_sources(truth, figure):
    with pytest.raises(ValueError, match="sources: got none, expected at least one"):
        figure(student(truth, {}), truth, [])
