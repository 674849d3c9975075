"""BLEU statistics, gaps and distances against sacrebleu and arithmetic."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from kdlab.evaluation import (
    BleuStatistics,
    agreement,
    bytes_on_disk,
    distance_to_teacher,
    gap_closed,
    resample_weights,
    sequence_scores,
    translation_quality,
)
from kdlab.students import Architecture, new_model
from kdlab.teachers import LiveTeacher
from kdlab.text.batches import collate
from tests.unit.small_text import small_text

REFERENCES = [
    "the cat sat on the mat .",
    "a dog runs in the park today",
    "two men talk , and laugh .",
    "he sings",
]
GOOD = ["the cat sat on the mat .", "a dog runs in a park today", "two men talk and laugh .", "he sings"]
BAD = ["cat mat the on sat", "a dog runs in a field", "men talk", "she is singing"]
SHOUTED = [line.upper() for line in GOOD[:2]] + GOOD[2:]


@pytest.mark.parametrize("hypotheses", [GOOD, BAD, SHOUTED, ["", "", "", ""]])
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


def test_quality_is_sacrebleus_and_its_interval_that_of_corpora_drawn_anew():
    quality = translation_quality(SHOUTED * 5, REFERENCES * 5, resamples=60, seed=3)
    bleu = BLEU()
    draws = []
    for weights in resample_weights(20, 60, seed=3):
        drawn = [i % 4 for i, weight in enumerate(weights) for _ in range(weight)]
        assert len(drawn) == 20
        draws.append(bleu.corpus_score([SHOUTED[i] for i in drawn], [[REFERENCES[i] for i in drawn]]).score)
    draws.sort()
    # Linear between the neighbours of places 0.025 * 59 and 0.975 * 59.
    low = draws[1] + 0.475 * (draws[2] - draws[1])
    high = draws[57] + 0.525 * (draws[58] - draws[57])
    assert quality["bleu_interval"] == pytest.approx([low, high], abs=0.006)
    assert quality["bleu"] == pytest.approx(bleu.corpus_score(SHOUTED * 5, [REFERENCES * 5]).score, abs=0.006)
    chrf = CHRF()
    assert quality["chrf"] == pytest.approx(chrf.corpus_score(SHOUTED * 5, [REFERENCES * 5]).score, abs=0.006)
    assert "nw:0" in quality["signature"]["chrf"]
    assert (resample_weights(20, 60, seed=3) == resample_weights(20, 60, seed=3)).all()
    assert (resample_weights(20, 60, seed=3) != resample_weights(20, 60, seed=4)).any()


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


def test_the_systems_of_a_gap_are_drawn_together():
    """Paired: a student that is its teacher closes all of the gap in every resample, whatever is drawn."""
    good, bad, references = (side * 20 for side in (GOOD, BAD, REFERENCES))
    assert gap_closed(good, bad, good, references, resamples=50)["interval"] == [1.0, 1.0]
    assert gap_closed(bad, bad, good, references, resamples=50)["interval"] == [0.0, 0.0]
    half = GOOD * 10 + BAD * 10
    found = gap_closed(half, bad, good, references, resamples=50)
    scores = [BLEU().corpus_score(system, [references]).score for system in (half, bad, good)]
    assert found["value"] == pytest.approx((scores[0] - scores[1]) / (scores[2] - scores[1]), abs=0.0006)
    low, high = found["interval"]
    assert 0 < low < found["value"] < high < 1


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


def test_distance_to_oneself_is_nothing(setting):
    text, model = setting
    distance = distance_to_teacher(model, LiveTeacher(model), text.examples)
    assert distance == {"kl_to_teacher": 0.0, "agreement": 1.0}


def test_distance_is_forward_kl_over_the_tokens_of_the_references(setting):
    text, model = setting
    teacher = copy.deepcopy(model)
    architecture = Architecture(16, 1, 1, 32, heads=2, dropout=0.3)
    student = new_model(architecture, text.tokenizer, 1).train()
    # Sharper than untrained ones, and alike enough to agree now and then.
    teacher.final_logits_bias[0, 5:15] = 3.0
    student.final_logits_bias[0, 10:20] = 3.0
    found = distance_to_teacher(student, LiveTeacher(teacher), text.examples)
    divergence = agreed = tokens = 0
    for example in text.examples:
        batch = collate([example], pad_token_id=0, decoder_start_token_id=0)
        tokens += batch.pop("labels").numel()
        with torch.no_grad():
            log_p, log_q = (
                model.eval()(**batch).logits[0].double().log_softmax(-1) for model in (teacher, student)
            )
        divergence += (log_p.exp() * (log_p - log_q)).sum().item()
        agreed += (log_p.argmax(-1) == log_q.argmax(-1)).sum().item()
    assert found["kl_to_teacher"] == pytest.approx(divergence / tokens, rel=1e-5)
    assert found["agreement"] == pytest.approx(agreed / tokens)
    assert 0 < found["agreement"] < 1


def test_agreement_is_the_share_of_the_tokens_that_count():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 50, 4, generator=generator)
    labels = torch.zeros(3, 50, dtype=torch.long)
    labels[0, 10:] = labels[1, 33:] = -100
    counted = [(i, j) for i in range(3) for j in range(50) if labels[i, j] != -100]
    same = sum(int(student[i, j].argmax()) == int(teacher[i, j].argmax()) for i, j in counted)
    assert agreement(student, teacher, labels).item() == pytest.approx(same / len(counted))
    assert agreement(student, student / 3, labels).item() == 1.0


@pytest.mark.parametrize("labels", [torch.zeros(2, 4), torch.zeros(2)])
def test_agreement_refuses_labels_that_do_not_fit(labels):
    with pytest.raises(
        ValueError, match=r"student_logits: got shape \[2, 3, 5\] beside teacher_logits \[2, 3, 5\]"
    ):
        agreement(torch.zeros(2, 3, 5), torch.zeros(2, 3, 5), labels)


def test_bytes_are_those_of_the_weights_that_would_be_loaded(tmp_path):
    def write(**sizes):
        for name, size in sizes.items():
            (tmp_path / name.replace("__", ".")).write_bytes(b"0" * size)

    write(tokenizer__json=1000, training__json=1000, pytorch_model__bin=70)
    assert bytes_on_disk(tmp_path) == 70
    write(model_1__safetensors=5, model_2__safetensors=6)
    assert bytes_on_disk(tmp_path) == 11
