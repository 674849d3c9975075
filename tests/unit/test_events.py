"""The student's logits over a top-k teacher's events, against a matrix that adds probabilities up, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdlab import distillation_loss
from kdlab.distributions import TopK
from kdlab.events import gather_events
from tests.unit.reference import DEFAULTS, label, random_logits, value_and_gradient

EACH = pytest.mark.parametrize(("name", "parameters"), DEFAULTS, ids=label)


def by_hand(logits: Tensor, indices: list[int], temperature: float) -> Tensor:
    """Logits [vocabulary] -> [k + 1], the rest added up by a matrix."""
    sums = functional.one_hot(torch.tensor(indices), logits.shape[-1]).double()
    sums = torch.cat([sums, 1 - sums.sum(0, keepdim=True)])
    return (sums @ (logits / temperature).exp()).log()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_values_and_gradients(k: int, temperature: float) -> None:
    student, teacher = random_logits(2, 4, 6)
    top = TopK.from_logits(teacher, k, temperature)
    weights = torch.randn(2, 4, k + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    one, other = student.clone().requires_grad_(), student.clone().requires_grad_()
    found = gather_events(one, top, temperature)
    expected = torch.stack(
        [
            torch.stack([by_hand(other[b, i], top.indices[b, i].tolist(), temperature) for i in range(4)])
            for b in range(2)
        ]
    )
    torch.testing.assert_close(found, expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(one.grad, other.grad)


def test_rows_that_do_not_count_send_nothing_back_whatever_they_hold() -> None:
    student, teacher = random_logits(3, 6)
    student[1] = math.nan
    student.requires_grad_()
    counted = torch.tensor([True, False, True])
    gather_events(student, TopK.from_logits(teacher, 2), counted=counted)[counted].sum().backward()
    assert student.grad is not None
    assert student.grad[1].tolist() == [0.0] * 6
    assert (student.grad[[0, 2]] > 0).all()


def test_a_tail_that_the_student_rules_out_has_a_finite_gradient() -> None:
    top = TopK.from_logits(torch.tensor([1.0, 2.0, 0.0, -1.0]), k=2)
    student = torch.tensor([0.5, 0.1, -math.inf, -math.inf], requires_grad=True)
    events = gather_events(student, top)
    assert events.tolist()[-1] == -math.inf
    (events[:2].sum() + events[2:].exp().sum()).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


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
