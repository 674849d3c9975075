"""BLEU statistics, gaps and exact distances against sacrebleu, arithmetic and sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sacrebleu.metrics.bleu import BLEU

from kdlab.evaluation import (
    BleuStatistics,
    distance_to_teacher,
    gap_closed,
    kl_to_truth,
    sequence_scores,
    translation_quality,
)
from kdlab.students import Architecture, new_model
from kdlab.teachers import LiveTeacher, PhrasebookTeacher
from kdlab.text.tokenizers import encode_sources, encode_targets
from tests.unit.small_text import small_text

REFERENCES = [
    "the cat sat on the mat .",
    "a dog runs in the park today",
    "two men talk , and laugh .",
    "he sings",
]
GOOD = ["the cat sat on the mat .", "a dog runs in a park today", "two men talk and laugh .", "he sings"]
BAD = ["cat mat the on sat", "a dog runs in a field", "men talk", "she is singing"]


@pytest.mark.parametrize("hypotheses", [GOOD, BAD, ["", "", "", ""]])
def test_bleu_from_statistics_is_sacrebleus(hypotheses):
    ours = BleuStatistics.of(hypotheses, REFERENCES).bleu()
    assert ours == pytest.approx(BLEU().corpus_score(hypotheses, [REFERENCES]).score, abs=1e-9)


def test_weights_repeat_sentences():
    weights = np.array([2, 0, 1, 1])
    repeated = [i for i, weight in enumerate(weights) for _ in range(weight)]
    expected = BLEU().corpus_score([GOOD[i] for i in repeated], [[REFERENCES[i] for i in repeated]]).score
    assert BleuStatistics.of(GOOD, REFERENCES).bleu(weights) == pytest.approx(expected, abs=1e-9)


def test_interval_holds_the_score_and_names_the_tokenizer():
    quality = translation_quality(GOOD * 20, REFERENCES * 20, resamples=200)
    low, high = quality["bleu_interval"]
    assert low <= quality["bleu"] <= high
    assert low < high
    assert "tok:13a" in quality["signature"]["bleu"]
    assert "case:mixed" in quality["signature"]["bleu"]


def test_gap_closed_at_its_ends():
    lists = [side * 20 for side in (GOOD, BAD, REFERENCES)]
    good, bad, references = lists
    assert gap_closed(good, bad, good, references, resamples=50)["value"] == 1
    assert gap_closed(bad, bad, good, references, resamples=50)["value"] == 0
    assert gap_closed(good, good, bad, references, resamples=50) == {
        "value": None,
        "interval": None,
        "resamples_without_a_gap": 50,
    }


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="hypotheses: got 3, expected 4"):
        BleuStatistics.of(GOOD[:3], REFERENCES)


@pytest.fixture(scope="module")
def setting():
    text = small_text(pairs=30, seed=2)
    return text, new_model(Architecture(16, 1, 1, 32, heads=2), text.tokenizer, 0).eval()


def test_sequence_scores_keep_their_order(setting):
    text, model = setting
    together = sequence_scores(model, text.examples)
    alone = [sequence_scores(model, [example])[0] for example in text.examples]
    assert together == pytest.approx(alone, rel=1e-4)


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


def test_distance_to_oneself_is_nothing(setting):
    text, model = setting
    distance = distance_to_teacher(model, LiveTeacher(model), text.examples)
    assert distance == {"kl_to_teacher": 0.0, "agreement": 1.0}
