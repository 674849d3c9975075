"""Calibration against a hand computation in numpy, and against models of which the error is known."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from kdlab.calibration import calibration, expected_calibration_error, reliability_bins
from kdlab.students import Architecture, new_model
from kdlab.text.batches import Example, collate
from tests.unit.small_text import small_text
from tests.unit.tabular import Tabular


def by_hand(confidence, correct, bins):
    """As the paper writes it down, one bin after another, in float64."""
    found, error = [], 0.0
    for m in range(1, bins + 1):
        inside = [i for i, c in enumerate(confidence) if (m - 1) / bins < c <= m / bins]
        if inside:
            sure, right = np.mean(confidence[inside]), np.mean(correct[inside])
            found.append((sure, right, len(inside)))
            error += len(inside) / len(confidence) * abs(right - sure)
    return found, error


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_bins_and_error_are_those_by_hand(bins):
    generator = np.random.default_rng(0)
    confidence = generator.beta(3, 1, 400)  # few below a fifth: with 15 bins some are empty
    correct = generator.random(400) < 0.6 * confidence
    expected, error = by_hand(confidence, correct, bins)
    found = reliability_bins(torch.tensor(confidence), torch.tensor(correct), bins)
    assert np.array(found) == pytest.approx(np.array(expected), rel=1e-12)
    assert expected_calibration_error(found) == pytest.approx(error, rel=1e-12)
    assert error > 0.2


def test_a_bin_holds_its_upper_edge():
    confidence = torch.tensor([0.0, 0.25, 0.250001, 0.5, 0.75, 1.0])
    tokens = [(round(c, 3), n) for c, _, n in reliability_bins(confidence, torch.ones(6).bool(), bins=4)]
    assert tokens == [(0.125, 2), (0.375, 2), (0.75, 1), (1.0, 1)]


def test_a_softmax_that_rounds_to_above_one_is_in_the_last_bin():
    assert reliability_bins(torch.tensor([1.0000001]), torch.tensor([True])) == [(1.0, 1.0, 1)]


def test_who_is_right_as_often_as_sure_has_no_error_in_the_limit():
    """E|error| of a calibrated model is about sqrt(2 c (1 - c) / (pi n)) a bin of n: it falls as 1 / sqrt(n)."""
    generator = torch.Generator().manual_seed(0)
    errors = []
    for count in (300, 30_000, 3_000_000):
        confidence = torch.rand(count, generator=generator)
        correct = torch.rand(count, generator=generator) < confidence
        errors.append(expected_calibration_error(reliability_bins(confidence, correct)))
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 0.002


# Of the source (2, 1) there are two translations, of two tokens with eos; the second token is certain.
TRANSLATIONS = [[3, 1], [4, 1]]


@pytest.mark.parametrize("sure", [0.75, 0.9, 0.6])
def test_the_error_of_a_model_with_other_probabilities_than_the_data_is_their_difference(sure):
    """Three references of four are the first translation. Half of the tokens, the eos, are certain and right."""
    references = [Example([2, 1], TRANSLATIONS[i]) for i in (0, 0, 1, 0)]
    model = Tabular(6, {(2, 1): list(zip(TRANSLATIONS, (sure, 1 - sure), strict=True))})
    found = calibration(model, references)
    assert found["error"] == pytest.approx(abs(sure - 0.75) / 2, abs=1e-6)
    first, second = found["bins"]
    assert first == pytest.approx((sure, 0.75, 4))
    assert second == pytest.approx((1.0, 1.0, 4))


def test_calibration_is_of_the_tokens_of_the_references_without_dropout():
    text = small_text(pairs=30, seed=2)
    model = new_model(Architecture(16, 1, 1, 32, heads=2, dropout=0.3), text.tokenizer, 1)
    eos = text.examples[0].target_ids[-1]
    model.final_logits_bias[0, eos] = 7.0  # right now and then, and sure to some degree
    confidence, correct = [], []
    for example in text.examples:
        batch = collate([example], pad_token_id=0, decoder_start_token_id=0)
        labels = batch.pop("labels")[0]
        with torch.no_grad():
            probabilities = model.eval()(**batch).logits[0].double().softmax(-1).numpy()
        confidence += list(probabilities.max(-1))
        correct += list(probabilities.argmax(-1) == labels.numpy())
    expected, error = by_hand(np.array(confidence), np.array(correct), 15)
    found = calibration(model.train(), text.examples)
    assert np.array(found["bins"]) == pytest.approx(np.array(expected), rel=1e-5)
    assert found["error"] == pytest.approx(error, rel=1e-5)
    assert sum(n for *_, n in found["bins"]) == sum(len(e.target_ids) for e in text.examples)
    assert 0 < sum(correct) < len(correct)
    assert calibration(model, text.examples, bins=1)["bins"][0][1] == pytest.approx(np.mean(correct))


def test_a_model_that_diverged_has_no_error_to_tell():
    text = small_text(pairs=5, seed=2)
    model = new_model(Architecture(16, 1, 1, 32, heads=2), text.tokenizer, 1)
    model.final_logits_bias.fill_(math.nan)
    found = calibration(model, text.examples)
    assert math.isnan(found["error"])
    assert found["bins"] == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reliability_bins(torch.tensor([0.5]), torch.tensor([True]), bins=0), "bins: got 0"),
        (
            lambda: reliability_bins(torch.tensor([0.5]), torch.tensor([True, False])),
            "confidence: got shape (1,) with correct (2,), expected [predictions] for both",
        ),
        (lambda: reliability_bins(torch.zeros(0), torch.zeros(0).bool()), "expected [predictions] for both"),
        (
            lambda: reliability_bins(torch.tensor([0.5, 1.5]), torch.tensor([True, True])),
            "confidence: got 0.5 to 1.5, expected 0 to 1",
        ),
        (lambda: reliability_bins(torch.tensor([math.nan]), torch.tensor([True])), "expected 0 to 1"),
        (lambda: expected_calibration_error([(0.5, 0.5, 0)]), "bins: got no predictions"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
