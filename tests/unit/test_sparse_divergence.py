"""The divergence from a top-k teacher where rows are uneven, empty or impossible. Values and gradients of even rows
are held against an independent oracle in test_losses.py."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdlab import distillation_loss, sparse_divergence
from kdlab.distributions import TopK
from tests.unit import reference
from tests.unit.reference import DEFAULTS, label, random_logits, value_and_gradient

EACH = pytest.mark.parametrize(("name", "parameters"), DEFAULTS, ids=label)


@EACH
def test_rows_that_do_not_count_send_nothing_back_whatever_they_hold(name, parameters) -> None:
    student, teacher = random_logits(3, 6)
    labels = torch.tensor([0, -100, 5])
    counted = labels != -100
    top = TopK.from_logits(teacher, 2)
    value, slope = value_and_gradient(student, top, labels, divergence=name, **parameters)
    student[1] = math.nan
    found, gradient = value_and_gradient(student, top, labels, divergence=name, **parameters)
    torch.testing.assert_close(found, value)
    torch.testing.assert_close(gradient[counted], slope[counted])
    assert gradient[1].tolist() == [0.0] * 6


def test_an_infinite_divergence_has_no_nan_where_the_student_is_0_as_well() -> None:
    """The teacher rules the tail out, the student holds it possible, and one entry of it underflows."""
    teacher = torch.tensor([[1.0, 2.0, -math.inf, -math.inf]])
    student = torch.tensor([[0.5, 0.1, 0.3, -200.0]])
    value, slope = value_and_gradient(student, TopK.from_logits(teacher, 2), divergence="reverse_kl")
    assert value == math.inf
    assert not slope.isnan().any()
    assert slope[0, 2] == math.inf


def test_many_blocks_are_as_one() -> None:
    """More rows than are worked through at once, against the oracle's sums over events."""
    student, teacher = random_logits(900, 700)
    tokens = distillation_loss(student, TopK.from_logits(teacher, 699), reduction="none")
    # With one entry in the tail, the k + 1 events are the vocabulary.
    rows = [0, 373, 374, 375, 748, 749, 899]
    torch.testing.assert_close(tokens[rows], reference.divergence("forward_kl", student[rows], teacher[rows]))


def ragged(teacher: Tensor, counts: list[int]) -> TopK:
    """The most probable `counts[i]` entries of row i, the other places empty."""
    whole = TopK.from_logits(teacher, max(counts))
    indices, log_p = whole.indices.clone(), whole.log_probabilities.clone()
    tail = torch.stack(
        [TopK.from_logits(row, c).tail_log_probability for row, c in zip(teacher, counts, strict=True)]
    )
    for row, count in enumerate(counts):
        indices[row, count:], log_p[row, count:] = -1, -math.inf
    return TopK(indices, log_p, tail, whole.vocabulary)


@EACH
def test_empty_places_change_nothing(name, parameters) -> None:
    """Rows with fewer entries than others, in one tensor, as against each row on its own."""
    student, teacher = random_logits(4, 6)
    counts = [4, 1, 3, 2]
    value, slope = value_and_gradient(
        student, ragged(teacher, counts), divergence=name, reduction="sum", **parameters
    )
    alone = [
        value_and_gradient(
            student[row : row + 1],
            TopK.from_logits(teacher[row : row + 1], count),
            divergence=name,
            reduction="sum",
            **parameters,
        )
        for row, count in enumerate(counts)
    ]
    torch.testing.assert_close(value, torch.stack([v for v, _ in alone]).sum())
    torch.testing.assert_close(slope, torch.cat([g for _, g in alone]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 1e-2)])
def test_half_precision(dtype: torch.dtype, tolerance: float) -> None:
    student, teacher = random_logits(8, 50)
    top = TopK.from_logits(teacher, 5)
    student = student.to(dtype)
    _, expected = value_and_gradient(student.double(), top)
    leaf = student.clone().requires_grad_()
    distillation_loss(leaf, top).backward()
    assert leaf.grad is not None
    assert leaf.grad.dtype == dtype
    error = (leaf.grad.double() - expected).abs().max() / expected.abs().max()
    assert error < tolerance


@EACH
def test_both_ways_to_the_events_agree(name, parameters, monkeypatch) -> None:
    student, teacher = random_logits(5, 40)
    top = ragged(teacher, [4, 1, 3, 2, 4])
    found = value_and_gradient(student, top, divergence=name, **parameters)
    monkeypatch.setattr(sparse_divergence._Events, "_from_probabilities", lambda *_: False)
    other = value_and_gradient(student, top, divergence=name, **parameters)
    for one, two in zip(found, other, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("far", ["tail", "entries"])
def test_events_that_underflow_beside_the_others_keep_their_distance(far: str) -> None:
    """e^-150 is no float32: the student finds all the tail, or all of the teacher's entries, that improbable."""
    teacher = torch.tensor([[1.0, 0.5, 0.2, 0.1]])
    student = torch.tensor([[0.3, 0.1, -150.0, -150.5]]) * (1 if far == "tail" else -1)
    top = TopK.from_logits(teacher, 2)
    value, slope = value_and_gradient(student, top)
    expected, expected_slope = value_and_gradient(student.double(), top)
    assert 50 < value < 200
    torch.testing.assert_close(value.double(), expected, atol=0, rtol=1e-6)
    torch.testing.assert_close(slope.double(), expected_slope, atol=1e-6, rtol=1e-5)
