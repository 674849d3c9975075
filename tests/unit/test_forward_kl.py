"""Forward KL by two exponentials: as exact as float32 allows where it answers, and silent where it would not be."""

import math

import pytest
import torch
from torch import Tensor

from kdlab.divergences import ForwardKL
from kdlab.forward_kl import LARGEST_OFFSET, forward_kl_of_logits
from kdlab.token_divergence import token_divergence

TOKENS, VOCABULARY = 64, 1000


def exact(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p || q) and q - p in float64; the terms p (q/p - 1 - log q/p) do not cancel near p = q."""
    log_p, log_q = teacher.double().log_softmax(-1), student.double().log_softmax(-1)
    u = log_q - log_p
    return (log_p.exp() * (u.expm1() - u)).sum(-1), log_p.exp() * u.expm1()


def logits(distance: float, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    teacher = 3 * torch.randn(TOKENS, VOCABULARY, generator=generator)
    return teacher + distance * torch.randn(TOKENS, VOCABULARY, generator=generator) + offset, teacher


@pytest.mark.parametrize("distance", [5.0, 1.0, 1e-1, 1e-2, 1e-3])
def test_value_and_gradient_are_exact_also_near_equality(distance: float) -> None:
    student, teacher = logits(distance)
    found = forward_kl_of_logits(student, teacher)
    assert found is not None
    value, gradient = exact(student, teacher)
    # The logits' own rounding, 3e-7 each, moves a KL of distance^2 / 2 by this share.
    torch.testing.assert_close(found.value.double(), value, rtol=1e-6 * max(1, 1 / distance), atol=0)
    error = (found.factor * found.slope - gradient).abs().amax(-1)
    assert (error <= 1e-5 * gradient.abs().amax(-1)).all()


@pytest.mark.parametrize("offset", [-15.0, 10.0])
def test_an_offset_of_the_logits_costs_its_rounding_only(offset: float) -> None:
    student, teacher = logits(0.1, offset)
    found = forward_kl_of_logits(student, teacher)
    assert found is not None
    value, gradient = exact(student, teacher)
    torch.testing.assert_close(found.value.double(), value, rtol=1e-4, atol=0)
    torch.testing.assert_close((found.factor * found.slope).double(), gradient, rtol=0, atol=1e-6)


def test_a_student_that_is_the_teacher_scores_0() -> None:
    _, teacher = logits(0.0)
    found = forward_kl_of_logits(teacher.clone(), teacher)
    assert found is not None
    assert (found.value == 0).all()
    assert (found.slope == 0).all()


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ([0.0, 0.0], [0.0, -math.inf]),
        ([0.0, 0.0], [0.0, -89.0]),  # p = 2e-39, which has lost bits
        ([0.0, -math.inf], [0.0, 0.0]),
        ([0.0, math.nan], [0.0, 0.0]),
        ([0.0, 0.0], [math.nan, 0.0]),
        ([LARGEST_OFFSET, LARGEST_OFFSET], [0.0, 0.0]),
        ([-1e4, 1e4], [0.0, 0.0]),
    ],
)
def test_where_it_would_not_be_exact_it_gives_no_answer(student: list[float], teacher: list[float]) -> None:
    assert forward_kl_of_logits(torch.tensor([student]), torch.tensor([teacher])) is None


def test_a_ratio_beyond_float32_gives_no_answer() -> None:
    teacher = torch.tensor([[0.0, -85.0]])
    student = torch.tensor([[-10.0, 90.0]])  # q / p = e^185
    assert forward_kl_of_logits(student, teacher) is None
    torch.testing.assert_close(
        token_divergence(ForwardKL(), student, teacher).double(), exact(student, teacher)[0]
    )


def test_both_ways_meet_in_one_tensor() -> None:
    """A row that only the general way can take, among others: its whole block goes that way."""
    student, teacher = logits(1.0)
    teacher[7, 3] = -math.inf
    student.requires_grad_()
    token_divergence(ForwardKL(), student, teacher).sum().backward()
    assert student.grad is not None
    expected = student.detach().double().softmax(-1) - teacher.double().softmax(-1)
    torch.testing.assert_close(student.grad.double(), expected, rtol=0, atol=1e-6)
