"""Calibration: whether a model that is 70% sure of its next token is right seven times out of ten.

Source of the bins and the error: Guo, Pleiss, Sun and Weinberger 2017, On Calibration of Modern Neural Networks
(arXiv:1706.04599), section 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kdlab.distributions import log_probabilities
from kdlab.evaluation import evaluation_batches, model_logits
from kdlab.model_io import target_labels
from kdlab.text.batches import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Bin = tuple[float, float, int]  # mean confidence, accuracy, tokens
BINS = 15


@torch.no_grad()
def calibration(model: PreTrainedModel, examples: Sequence[Example], bins: int = BINS) -> dict[str, Any]:
    """How well the confidence in the next token agrees with how often it is the reference's.

    Args:
        model: encoder-decoder or decoder-only, put into eval mode. Its confidence after a reference prefix is the
            probability of its most probable token.
        examples: sources and references; eos counts as a token.
        bins: of equal width.

    Returns:
        `error`, the expected calibration error, from 0 to 1, and `bins`, as `reliability_bins` gives them. A model
        that gives NaN (a training that diverged) has the error NaN and no bins.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> model = MarianMTModel(marian_config(Architecture(8, 1, 1, 8), vocabulary=20))
    >>> _ = model.model.shared.weight.data.zero_()  # every token has probability 1/20; the first, 0, is its choice
    >>> found = calibration(model, [Example([5, 1], [7, 8, 1])])
    >>> round(found["error"], 4), found["bins"][0][1:]  # never right
    (0.05, (0.0, 3))
    """
    model.eval()
    confidence, correct = [], []
    for batch in evaluation_batches(model, examples):
        labels = target_labels(batch)
        counted = labels != -100
        highest, token = log_probabilities(model_logits(model, batch)[counted]).max(-1)
        confidence.append(highest.exp().cpu())
        correct.append((token == labels[counted]).cpu())
    sure = torch.cat(confidence)
    if sure.isnan().any():
        return {"error": math.nan, "bins": []}
    found = reliability_bins(sure, torch.cat(correct), bins)
    return {"error": expected_calibration_error(found), "bins": found}


def reliability_bins(confidence: Tensor, correct: Tensor, bins: int = BINS) -> list[Bin]:
    """What `kdlab.plots.reliability` draws: predictions sorted by confidence into bins of equal width.

    Args:
        confidence: [predictions], probabilities.
        correct: [predictions], boolean: whether each prediction is right.
        bins: bin m of M holds the confidences in ((m - 1) / M, m / M].

    Returns:
        (mean confidence, accuracy, predictions) of each bin that is not empty, the least sure first.

    Raises:
        ValueError: no predictions, shapes that differ, a confidence outside 0 to 1 (or NaN), or less than one bin.

    >>> reliability_bins(torch.tensor([0.25, 0.75, 1.0]), torch.tensor([True, False, True]), bins=2)
    [(0.25, 1.0, 1), (0.875, 0.5, 2)]
    """
    if bins < 1:
        raise ValueError(f"bins: got {bins}, expected at least 1")
    if correct.shape != confidence.shape or confidence.dim() != 1 or not len(confidence):
        raise ValueError(
            f"confidence: got shape {tuple(confidence.shape)} with correct {tuple(correct.shape)}, expected "
            "[predictions] for both, at least one"
        )
    if not ((confidence >= 0) & (confidence <= 1.0001)).all():  # a float32 softmax may round to above 1
        raise ValueError(
            f"confidence: got {confidence.min().item():g} to {confidence.max().item():g}, expected 0 to 1"
        )
    confidence = confidence.double().clamp(max=1)
    place = (confidence * bins).ceil().long().clamp(min=1) - 1  # 0 belongs to the first bin
    tokens = torch.bincount(place, minlength=bins)
    sure = torch.bincount(place, confidence, minlength=bins)
    right = torch.bincount(place, correct.double(), minlength=bins)
    rows = zip(sure.tolist(), right.tolist(), tokens.tolist(), strict=True)
    return [(s / n, r / n, n) for s, r, n in rows if n > 0]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """SUM_m |B_m| / n |accuracy(B_m) - confidence(B_m)|, over bins of n predictions in all.

    Args:
        bins: (mean confidence, accuracy, predictions) of each; empty ones count for nothing.

    Raises:
        ValueError: no predictions in any bin.

    >>> round(expected_calibration_error([(0.5, 0.4, 10), (0.9, 0.9, 30)]), 6)
    0.025
    """
    total = sum(count for *_, count in bins)
    if total == 0:
        raise ValueError("bins: got no predictions, expected at least one")
    return math.fsum(n * abs(accuracy - confidence) for confidence, accuracy, n in bins if n > 0) / total
