"""A teacher with a context of its own, against the model run on each sequence by hand."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from kdlab.cache import build_cache
from kdlab.context_teacher import ContextTeacher
from kdlab.distributions import TopK
from kdlab.model_io import target_labels
from kdlab.shards import Keep
from kdlab.teachers import CachedTeacher, EnsembleTeacher, LiveTeacher
from kdlab.text.batches import Example, collate
from kdlab.text.causal import collate_for
from tests.unit.test_decoder_only import Words
from tests.unit.tiny_models import EXAMPLES, VOCABULARY, decoder_only, distiller, encoder_decoder

CONTEXTS = [[2, 20, 21], [2, 22], [2, 18, 17, 16, 15, 14, 13], []]
ORDER = [2, 0, 3, 1, 0]


def batch_for(model, order=ORDER):
    return collate_for(model.config, [EXAMPLES[i] for i in order], example_ids=order)


def by_hand(model, source, target):
    """log-probabilities [target, vocabulary] of the model on one sequence without padding."""
    if model.config.is_encoder_decoder:
        ids = torch.tensor([[0, *target[:-1]]])
        return model(input_ids=torch.tensor([source]), decoder_input_ids=ids).logits[0].log_softmax(-1)
    logits = model(input_ids=torch.tensor([source + target])).logits[0]
    return logits[len(source) - 1 : len(source) - 1 + len(target)].log_softmax(-1)


def make(kind, seed=0):
    return encoder_decoder(seed=seed) if kind == "encoder-decoder" else decoder_only(seed=seed)


def check_rows(found, batch, order, expected):
    """Row by row, at the places of the student's labels that count."""
    counted = target_labels(batch) != -100
    for number, index in enumerate(order):
        rows = found[number][counted[number]].log_softmax(-1)
        torch.testing.assert_close(rows, expected(EXAMPLES[index], index), rtol=1e-8, atol=1e-10)


KINDS = ["encoder-decoder", "decoder-only"]


@pytest.mark.parametrize("student", KINDS)
@pytest.mark.parametrize("teacher", KINDS)
def test_each_row_is_that_of_the_teacher_with_its_context(student, teacher):
    """The two kinds mixed too: a student that translates, and a teacher that goes on with a text."""
    model, batch = make(teacher), batch_for(make(student))
    found = ContextTeacher(model, CONTEXTS)(batch)
    assert found.shape == (*target_labels(batch).shape, VOCABULARY)
    assert not found.requires_grad
    check_rows(found, batch, ORDER, lambda e, i: by_hand(model, CONTEXTS[i] + e.source_ids, e.target_ids))
    assert not torch.allclose(found, ContextTeacher(model, [[]] * 4)(batch))


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_may_give_any_source(kind):
    """c' need not be the end of c, and no ids are needed."""
    model = make(kind)
    batch = batch_for(model)
    del batch["example_ids"]
    teacher = ContextTeacher(
        model, lambda example, i: Example([2, 19, *example.source_ids[::-1]], example.target_ids)
    )
    check_rows(
        teacher(batch), batch, ORDER, lambda e, i: by_hand(model, [2, 19, *e.source_ids[::-1]], e.target_ids)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_labels_that_are_ignored_in_the_midst(kind):
    """The teacher reads the tokens that are there, whether the student learns them or not."""
    model = make(kind)
    batch = batch_for(model)
    whole = ContextTeacher(model, CONTEXTS)(batch)
    counted = (target_labels(batch) != -100).nonzero()
    row, place = next(
        (r, p) for r, p in counted.tolist() if [r, p + 1] in counted.tolist() and p > 1 and r > 0
    )
    shift = 0 if kind == "encoder-decoder" else 1
    labels = batch["labels"].clone()
    labels[row, place + shift] = -100
    found = ContextTeacher(model, CONTEXTS)({**batch, "labels": labels})
    still = target_labels({**batch, "labels": labels}) != -100
    assert still.sum() == len(counted) - 1
    torch.testing.assert_close(found[still], whole[still])


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_labels_is_no_trouble(kind):
    model = make(kind)
    batch = batch_for(model)
    whole = ContextTeacher(model, CONTEXTS)(batch)
    batch["labels"][1] = -100
    found = ContextTeacher(model, CONTEXTS)(batch)
    assert found.isfinite().all()
    rest = [0, 2, 3, 4]
    counted = (target_labels(batch) != -100)[rest]
    torch.testing.assert_close(found[rest][counted], whole[rest][counted])


def test_students_padding_may_be_on_the_left():
    model = decoder_only()
    batch = batch_for(model)
    whole = ContextTeacher(model, CONTEXTS)(batch)
    shifts = (batch["attention_mask"] == 0).sum(1).tolist()
    left = batch | {
        name: torch.stack([row.roll(by) for row, by in zip(batch[name], shifts, strict=True)])
        for name in ("input_ids", "attention_mask", "labels")
    }
    found = ContextTeacher(model, CONTEXTS)(left)
    torch.testing.assert_close(found[target_labels(left) != -100], whole[target_labels(batch) != -100])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fused", [False, True])
def test_the_distiller_trains_on_it(kind, fused, tmp_path):
    student, model = make(kind), make(kind, seed=1)
    trainer = distiller(student, tmp_path, teacher=ContextTeacher(model, CONTEXTS), fused=fused)
    total, tokens = 0.0, 0
    for index in ORDER:
        source, target = EXAMPLES[index].source_ids, EXAMPLES[index].target_ids
        log_p, log_q = by_hand(model, CONTEXTS[index] + source, target), by_hand(student, source, target)
        total, tokens = total + (log_p.exp() * (log_p - log_q)).sum().item(), tokens + len(target)
    found = trainer.compute_loss(student, batch_for(student))
    assert found.item() == pytest.approx(total / tokens, rel=1e-9)
    assert (trainer.fused_step is not None) == fused


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_context_a_copy_has_no_loss(kind, tmp_path):
    student = make(kind)
    teacher = ContextTeacher(copy.deepcopy(student), [[]] * 4)
    loss = distiller(student, tmp_path, teacher=teacher).compute_loss(student, batch_for(student))
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    teacher = ContextTeacher(copy.deepcopy(student), CONTEXTS)
    loss = distiller(student, tmp_path, teacher=teacher).compute_loss(student, batch_for(student))
    assert loss.item() > 0.01


def test_its_answers_can_be_cached(tmp_path):
    model = decoder_only()
    teacher = ContextTeacher(model, CONTEXTS)
    keep = Keep(k=VOCABULARY, min_probability=0.0)
    options = {"decoder_only": True, "examples_per_shard": 3}
    cache = build_cache(tmp_path / "cache", teacher, Words(), EXAMPLES, keep, **options)
    batch = batch_for(model)
    found = CachedTeacher(cache)(batch)
    live = teacher(batch).log_softmax(-1)
    counted = target_labels(batch) != -100
    dense = torch.zeros_like(live).scatter(-1, found.indices.clamp_min(0), found.log_probabilities.double())
    torch.testing.assert_close(dense[counted].exp(), live[counted].exp(), rtol=0.0, atol=1e-3)
    others = [ContextTeacher(model, CONTEXTS[::-1]), ContextTeacher(decoder_only(seed=1), CONTEXTS)]
    assert len({other.fingerprint() for other in (teacher, *others)}) == 3
    with pytest.raises(ValueError, match=r"add_context: got a function .* expected a list"):
        ContextTeacher(model, lambda example, i: example).fingerprint()


def test_of_an_ensemble():
    models = [decoder_only(seed=seed) for seed in (0, 1)]
    pair = EnsembleTeacher([LiveTeacher(model) for model in models])
    batch = batch_for(models[0])

    def expected(example, index):
        source = CONTEXTS[index] + example.source_ids
        return sum(by_hand(model, source, example.target_ids).exp() / 2 for model in models).log()

    check_rows(ContextTeacher(pair, CONTEXTS, config=models[0].config)(batch), batch, ORDER, expected)
    with pytest.raises(ValueError, match="config: got None with a EnsembleTeacher"):
        ContextTeacher(pair, CONTEXTS)


def test_the_teacher_is_the_students_own_affair(tmp_path):
    student = decoder_only()
    with pytest.raises(ValueError, match=r"student: .* shares \d+ parameters"):
        distiller(student, tmp_path, teacher=ContextTeacher(student, CONTEXTS))
    teacher = ContextTeacher(decoder_only(), CONTEXTS).to(torch.device("meta"))
    assert {p.device.type for p in teacher.teacher.model.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda ids: [*ids[:1], 22, *ids[2:]],
            r"of 3 tokens for row 1, expected the student's 3 .* token 1, 22 instead of 9",
        ),
        (
            lambda ids: ids[:-1],
            r"of 2 tokens for row 1, expected the student's 3 .* token 2, the end instead of 1",
        ),
        (
            lambda ids: [*ids, 5],
            r"of 4 tokens for row 1, expected the student's 3 .* token 3, 5 instead of the end",
        ),
        (lambda ids: [4, *ids], r"of 4 tokens for row 1, .* token 0, 4 instead of 8"),
    ],
)
def test_another_target_is_refused(change, message):
    def add(example, example_id):
        return Example(
            example.source_ids, change(example.target_ids) if example_id == 0 else example.target_ids
        )

    model = decoder_only()
    with pytest.raises(ValueError, match=rf"add_context: got a target {message}"):
        ContextTeacher(model, add)(batch_for(model))


def test_what_is_refused():
    model = decoder_only()
    batch = batch_for(model)
    with pytest.raises(ValueError, match="example_ids: got 2, expected 0 to 1: there are 2 contexts"):
        ContextTeacher(model, CONTEXTS[:2])(batch)
    del batch["example_ids"]
    with pytest.raises(ValueError, match="batch: got no example_ids"):
        ContextTeacher(model, CONTEXTS)(batch)

    def sparse(batch):
        return TopK.from_logits(torch.zeros(*target_labels(batch).shape, VOCABULARY), 2)

    config = SimpleNamespace(is_encoder_decoder=True, pad_token_id=0, decoder_start_token_id=0)
    teacher = ContextTeacher(sparse, CONTEXTS, config=config)
    with pytest.raises(ValueError, match="teacher: got a top-k signal"):
        teacher(collate(EXAMPLES, pad_token_id=0, decoder_start_token_id=0, example_ids=range(4)))
    with pytest.raises(ValueError, match="gives no hidden states"):
        teacher.linear_head()
