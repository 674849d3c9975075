"""A teacher mixed with the uniform distribution."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlab.batch_rows import read_rows
from kdlab.losses import DistillationLoss, forward_kl
from kdlab.model_io import target_labels
from kdlab.on_policy import OnPolicy
from kdlab.smoothed_teacher import SmoothedTeacher
from kdlab.teachers import LiveTeacher
from kdlab.text.causal import collate_causal
from tests.unit.tiny_models import EXAMPLES, VOCABULARY, decoder_only, distiller

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


def mixed_alone(teacher, example):
    """[completion, vocabulary], from the sequence without padding: 0.8 of the row before each token, 0.2 uniform."""
    ids = torch.tensor([example.source_ids + example.target_ids])
    rows = teacher(input_ids=ids).logits[0, len(example.source_ids) - 1 : -1]
    return 0.8 * rows.softmax(-1) + 0.2 / rows.shape[-1]


@pytest.mark.parametrize("family", ["Llama", "GPT2"])
@pytest.mark.parametrize("vocabulary", [VOCABULARY, VOCABULARY + 9], ids=["same", "larger"])
def test_a_decoder_only_teacher_is_mixed_over_its_own_vocabulary_beside_the_tokens_it_predicts(
    family, vocabulary
):
    teacher = decoder_only(family, 1, vocab_size=vocabulary)
    batch = collate_causal(EXAMPLES, pad_token_id=0)
    found = SmoothedTeacher(LiveTeacher(teacher), 0.2)(batch)
    assert found.shape == (*target_labels(batch).shape, vocabulary)
    assert not found.requires_grad
    for rows, labels, example in zip(found, target_labels(batch), EXAMPLES, strict=True):
        torch.testing.assert_close(rows[labels != -100].exp(), mixed_alone(teacher, example))


@pytest.mark.parametrize("vocabulary", [VOCABULARY, VOCABULARY + 9], ids=["same", "larger"])
@pytest.mark.parametrize("own_samples", [False, True])
def test_a_decoder_only_student_learns_from_the_mixture(vocabulary, own_samples, tmp_path):
    """From logits: a mixture of distributions has no hidden states, and where they are wanted it is refused."""
    student, teacher = decoder_only(), decoder_only(seed=1, vocab_size=vocabulary)
    options = {
        "teacher": SmoothedTeacher(LiveTeacher(teacher), 0.2),
        "loss": DistillationLoss(vocabulary="same" if vocabulary == VOCABULARY else "common"),
        "on_policy": OnPolicy(lmbda=1.0, max_length=5) if own_samples else None,
    }
    with pytest.raises(
        ValueError, match=r"fused: got True.* got a SmoothedTeacher, expected one that gives hid"
    ):
        distiller(student, tmp_path, fused=True, **options)
    trainer = distiller(student, tmp_path, **options)
    assert trainer.fused_step is None
    batch = collate_causal(EXAMPLES, pad_token_id=0)
    (batch,), items = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
    found = trainer.compute_loss(student, batch, num_items_in_batch=items)
    total, tokens = 0.0, 0
    for row in read_rows(batch):
        p = mixed_alone(teacher, row.example)[:, :VOCABULARY]
        p = p / p.sum(-1, keepdim=True)  # of the entries that both have
        ids = torch.tensor([row.example.source_ids + row.example.target_ids])
        log_q = student(input_ids=ids).logits[0, len(row.example.source_ids) - 1 : -1].log_softmax(-1)
        total += (p * (p.log() - log_q)).sum()
        tokens += len(p)
    assert (tokens == sum(len(example.target_ids) for example in EXAMPLES)) != own_samples
    torch.testing.assert_close(found, total / tokens, rtol=1e-10, atol=0)


@pytest.mark.parametrize("smoothing", [0.0, 1.0, -0.1])
def test_refuses(smoothing):
    with pytest.raises(ValueError, match="smoothing: got"):
        SmoothedTeacher(Fixed(), smoothing)
