"""A teacher mixed with the uniform distribution."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlab.losses import forward_kl
from kdlab.smoothed_teacher import SmoothedTeacher
from kdlab.teachers import LiveTeacher

LOGITS = 5 * torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))


class Fixed(LiveTeacher):
    """Gives LOGITS."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(1, 1))

    def __call__(self, batch):
        return LOGITS.clone()


def test_it_is_the_mean_with_the_uniform_distribution():
    mixed = SmoothedTeacher(Fixed(), 0.2)({})
    expected = 0.8 * LOGITS.double().softmax(-1) + 0.2 / 7
    torch.testing.assert_close(mixed.double().exp(), expected, rtol=1e-6, atol=0)
    assert not mixed.requires_grad


def test_the_gradient_is_that_of_label_smoothing_where_the_teacher_is_certain():
    certain = torch.full((1, 1, 7), -torch.inf)
    certain[..., 2] = 0.0

    class Certain(Fixed):
        def __call__(self, batch):
            return certain.clone()

    student = LOGITS[:1, :1].clone().requires_grad_()
    forward_kl(student, SmoothedTeacher(Certain(), 0.1)({})).backward()
    other = LOGITS[:1, :1].clone().requires_grad_()
    nn.functional.cross_entropy(other.flatten(0, 1), torch.tensor([2]), label_smoothing=0.1).backward()
    torch.testing.assert_close(student.grad, other.grad)


def test_its_fingerprint_is_its_own():
    teacher = Fixed()
    prints = {SmoothedTeacher(teacher, share).fingerprint() for share in (0.1, 0.2)} | {teacher.fingerprint()}
    assert len(prints) == 3


def test_a_student_that_is_the_teacher_is_refused():
    teacher = Fixed()
    with pytest.raises(ValueError, match="shares"):
        SmoothedTeacher(teacher, 0.1).check_apart(teacher.model)


@pytest.mark.parametrize("smoothing", [0.0, 1.0, -0.1])
def test_refuses(smoothing):
    with pytest.raises(ValueError, match="smoothing: got"):
        SmoothedTeacher(Fixed(), smoothing)
