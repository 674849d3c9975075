"""The mean of several teachers, against probabilities averaged in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from kdlab.distributions import TopK
from kdlab.students import Architecture, new_model
from kdlab.teachers import EnsembleTeacher, LiveTeacher, PhrasebookTeacher, place_teacher
from kdlab.text.batches import collate
from tests.unit.small_text import small_text

TINY = Architecture(d_model=16, encoder_layers=1, decoder_layers=1, ffn=32, heads=2, dropout=0.1)


class Says:
    """A teacher that always gives the same logits."""

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, batch):
        return self.logits


def logits(*shape, seed=0, scale=3.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def text():
    return small_text(pairs=20, vocabulary=320)


@pytest.fixture(scope="module")
def phrasebook(text):
    return text.phrasebook


@pytest.fixture(scope="module")
def tokenizer(text):
    return text.tokenizer


@pytest.fixture
def batch(text):
    return collate(text.examples[:6], pad_token_id=0, decoder_start_token_id=0)


@pytest.mark.parametrize("weights", [None, [1, 1, 1], [3.0, 0.5, 1.5], [1e-30, 1.0, 1e30]])
def test_probabilities_are_averaged(weights):
    members = [logits(2, 3, 9, seed=seed) for seed in range(3)]
    found = EnsembleTeacher([Says(x) for x in members], weights)({})
    share = torch.tensor(weights or [1.0] * 3, dtype=torch.float64)
    share /= share.sum()
    expected = sum(w * x.double().softmax(-1) for w, x in zip(share, members, strict=True))
    torch.testing.assert_close(found.double().exp(), expected, rtol=1e-5, atol=1e-12)
    # Not the mean of log-probabilities, which is another distribution.
    assert not torch.allclose(found, sum(x.log_softmax(-1) for x in members) / 3, atol=1e-2)


def test_what_one_member_rules_out_another_may_hold():
    one, other = torch.tensor([[0.0, -math.inf, -math.inf]]), torch.tensor([[-math.inf, 0.0, -math.inf]])
    assert EnsembleTeacher([Says(one), Says(other)], [1, 3])({}).exp().tolist() == [[0.25, 0.75, 0.0]]


def test_far_below_float32s_smallest_number():
    """Log space: e^-500 is 0 in float32, and still has a logarithm in the mean."""
    one, other = torch.tensor([[0.0, -500.0]]), torch.tensor([[0.0, -502.0]])
    found = EnsembleTeacher([Says(one), Says(other)])({})[0, 1].item()
    assert found == pytest.approx(-500 + math.log((1 + math.exp(-2)) / 2), rel=1e-6)


def test_half_precision_is_averaged_in_float32():
    members = [logits(4, 50, seed=seed).to(torch.bfloat16) for seed in range(2)]
    found = EnsembleTeacher([Says(x) for x in members])({})
    assert found.dtype == torch.float32
    expected = sum(x.double().softmax(-1) for x in members) / 2
    torch.testing.assert_close(found.double().exp(), expected, rtol=1e-5, atol=1e-12)


def test_members_tensors_are_left_as_they_were():
    """A loss may write over what the ensemble gives, but a member may still need what it gave."""
    member = Says(logits(1, 3, 5).log_softmax(-1))
    before = member.logits.clone()
    EnsembleTeacher([member])({}).zero_()
    assert torch.equal(member.logits, before)


def test_models_are_frozen_and_in_eval_mode(tokenizer, batch):
    models = [new_model(TINY, tokenizer, seed).train() for seed in (0, 1)]
    teacher = EnsembleTeacher([LiveTeacher(model) for model in models])
    models[1].train()
    first, second = teacher(batch), teacher(batch)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert not any(parameter.requires_grad for model in models for parameter in model.parameters())


def test_a_student_that_is_a_member_is_refused(tokenizer):
    models = [new_model(TINY, tokenizer, seed) for seed in (0, 1)]
    teacher = EnsembleTeacher([LiveTeacher(model) for model in models])
    with pytest.raises(ValueError, match=r"student: .* shares \d+ parameters"):
        place_teacher(teacher, models[1], torch.device("cpu"))
    place_teacher(teacher, copy.deepcopy(models[1]), torch.device("cpu"))


def test_every_member_that_is_a_model_is_moved(tokenizer, phrasebook):
    models = [new_model(TINY, tokenizer, seed) for seed in (0, 1)]
    members = [
        LiveTeacher(models[0]),
        PhrasebookTeacher(phrasebook, tokenizer),
        EnsembleTeacher([LiveTeacher(models[1])]),
    ]
    place_teacher(EnsembleTeacher(members), nn.Linear(2, 2), torch.device("meta"))
    assert {parameter.device.type for model in models for parameter in model.parameters()} == {"meta"}


def test_a_model_and_the_truth(tokenizer, phrasebook, batch):
    model = LiveTeacher(new_model(TINY, tokenizer, 0))
    truth = PhrasebookTeacher(phrasebook, tokenizer)
    found = EnsembleTeacher([model, truth], weights=[1, 1])(batch)
    expected = (model(batch).double().softmax(-1) + truth(batch).double().exp()) / 2
    torch.testing.assert_close(found.double().exp(), expected, rtol=1e-4, atol=1e-9)


def test_the_distiller_trains_on_the_mean(tokenizer, batch, tmp_path):
    from transformers import Seq2SeqTrainingArguments

    from kdlab.distiller import Distiller

    args = Seq2SeqTrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    student = new_model(TINY, tokenizer, 5).eval()
    members = [LiveTeacher(new_model(TINY, tokenizer, seed)) for seed in (0, 1)]
    trainer = Distiller(student, args, teacher=EnsembleTeacher(members, [3, 1]))
    mean = (
        0.75 * members[0](batch).double().softmax(-1) + 0.25 * members[1](batch).double().softmax(-1)
    ).log()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    log_q = student(**inputs).logits.double().log_softmax(-1)
    counted = batch["labels"] != -100
    expected = (mean.exp() * (mean - log_q)).sum(-1)[counted].mean()
    assert trainer.compute_loss(student, batch).item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_fingerprint_is_of_members_and_weights(tokenizer):
    def teacher(*seeds, weights=None):
        return EnsembleTeacher([LiveTeacher(new_model(TINY, tokenizer, s)) for s in seeds], weights)

    assert teacher(0, 1).fingerprint() == teacher(0, 1, weights=[2, 2]).fingerprint()
    names = {
        t.fingerprint() for t in (teacher(0, 1), teacher(0, 2), teacher(0, 1, weights=[1, 2]), teacher(0))
    }
    assert len(names) == 4
    with pytest.raises(ValueError, match=r"members: number 0 is a Says, expected one that has a fingerprint"):
        EnsembleTeacher([Says(logits(1, 3))]).fingerprint()


@pytest.mark.parametrize(
    "weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf], [1.0, 1.0, 1.0], []]
)
def test_weights_that_do_not_fit(weights):
    with pytest.raises(ValueError, match=r"weights: got \[.*\], expected 2 positive numbers"):
        EnsembleTeacher([Says(logits(1, 3)), Says(logits(1, 3))], weights)


def test_members_that_do_not_fit():
    with pytest.raises(ValueError, match="members: got none"):
        EnsembleTeacher([])
    with pytest.raises(ValueError, match=r"members: number 1 gave shape \(1, 4\), expected \(1, 3\)"):
        EnsembleTeacher([Says(logits(1, 3)), Says(logits(1, 4))])({})
    with pytest.raises(ValueError, match=r"members: number 1 gave a top-k signal"):
        EnsembleTeacher([Says(logits(1, 3)), Says(TopK.from_logits(logits(1, 3), 2))])({})
