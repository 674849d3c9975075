"""The plain loop: it does what the Distiller does, and D' is written by the teacher."""

from __future__ import annotations

import pytest
import torch

from kdlab.distributions import TopK, sequence_log_probability
from kdlab.loop import (
    OnBatches,
    above_floor,
    epochs_of,
    training_loop,
    training_step,
    warm_up_and_down,
)
from kdlab.losses import DistillationLoss, forward_kl
from kdlab.model_io import target_logits
from kdlab.students import Architecture, new_model
from kdlab.teachers import LiveTeacher, PhrasebookTeacher
from kdlab.text.batches import Example
from kdlab.text.phrasebook import Phrasebook
from kdlab.text.tokenizers import train_tokenizer
from kdlab.unlabelled import teacher_samples, write_target

SIZE = Architecture(d_model=16, encoder_layers=1, decoder_layers=1, ffn=16, heads=2, dropout=0.1)
LINES = ["Where is the hotel?", "Where is the bank?", "Where is the station?"]


@pytest.fixture(scope="module")
def tokenizer():
    phrasebook = Phrasebook("small")
    return train_tokenizer([*LINES, *(y for line in LINES for y in phrasebook.translations(line))], 320)


def examples(count):
    return [Example([5 + i, 6, 1][: 2 + i % 2], [7 + i, 8, 9, 1][i % 3 :]) for i in range(count)]


def test_a_step_moves_the_student_and_not_the_teacher(tokenizer):
    student, teacher = (OnBatches(new_model(SIZE, tokenizer, seed)).eval() for seed in (0, 1))
    (batch,) = epochs_of(examples(4), tokens_per_batch=100, seed=0, pad_token_id=0)(0)
    before = [parameter.clone() for parameter in teacher.parameters()]
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    losses = [training_step(student, teacher, batch, DistillationLoss(), optimizer, 1.0) for _ in range(25)]
    assert losses[-1] < losses[0] / 2
    assert student.training
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(map(torch.equal, before, teacher.parameters()))


def test_a_student_on_batches_is_its_model(tokenizer):
    student = OnBatches(new_model(SIZE, tokenizer, seed=0)).eval()
    (batch,) = epochs_of(examples(3), tokens_per_batch=100, seed=0, pad_token_id=0)(0)
    assert torch.equal(student(batch), target_logits(student.model, batch))


def test_an_epoch_holds_every_example_once_and_the_next_in_another_order():
    given = examples(30)
    epoch = epochs_of(given, tokens_per_batch=12, seed=3, pad_token_id=0)
    first, second = (
        [tuple(row) for batch in epoch(n) for row in batch["input_ids"].tolist()] for n in (0, 1)
    )
    assert len(first) == len(second) == len(given)
    assert first != second
    assert [batch["labels"].tolist() for batch in epoch(1)] == [
        batch["labels"].tolist() for batch in epochs_of(given, tokens_per_batch=12, seed=3, pad_token_id=0)(1)
    ]


def test_the_loop_stops_in_the_middle_of_an_epoch():
    seen = []
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)]}, {"params": [torch.ones(1)]}], lr=9.0)

    def step(batch):
        seen.append((batch, *(group["lr"] for group in optimizer.param_groups)))
        return float(len(seen))

    losses = training_loop(step, lambda n: [(n, 0), (n, 1)], 3, optimizer, lambda i: 0.5**i)
    assert losses == [1.0, 2.0, 3.0]
    assert seen == [((0, 0), 1.0, 1.0), ((0, 1), 0.5, 0.5), ((1, 0), 0.25, 0.25)]


def test_an_empty_epoch_is_refused():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    with pytest.raises(ValueError, match="epoch"):
        training_loop(lambda batch: 0.0, lambda n: [], 3, optimizer, lambda i: 1.0)


def test_the_rate_goes_up_and_down():
    rate = warm_up_and_down(peak=2.0, warmup=10, updates=50)
    rates = [rate(i) for i in range(50)]
    assert max(rates) == 2.0
    assert rates.index(2.0) == 9
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] > 0


def test_above_the_floor_is_the_kl_where_the_loss_is_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    z_s, z_t = torch.randn(2, 2, 3, 5, generator=generator)
    labels = torch.tensor([[1, 2, -100], [0, 1, 2]])

    def soft(student_logits, teacher_logits, labels):
        tokens = -(teacher_logits.softmax(-1) * student_logits.log_softmax(-1)).sum(-1)
        return tokens[labels != -100].mean()

    assert above_floor(soft, z_s, z_t, labels).isclose(forward_kl(z_s, z_t, labels), rtol=1e-4)


# D' from unlabelled inputs


def test_a_target_ends_at_the_limit_or_with_its_end():
    p = torch.tensor([0.0, 0.0, 1.0])
    assert write_target(lambda source, prefix: p, [5], lambda p: 2, end=1, most=3) == [2, 2, 2]
    draws = iter([2, 1, 2])
    assert write_target(lambda source, prefix: p, [5], lambda p: next(draws), end=1, most=3) == [2, 1]


def test_samples_are_drawn_from_the_teacher(tokenizer):
    """The exact teacher, token by token: each translation comes as often as its probability says."""
    phrasebook = Phrasebook("small")
    teacher = PhrasebookTeacher(phrasebook, tokenizer)
    drawn = teacher_samples(teacher, tokenizer, LINES[:1] * 200, seed=0)
    texts = [tokenizer.decode(example.target_ids, skip_special_tokens=True) for example in drawn]
    for text, probability in phrasebook.translations(LINES[0]).items():
        assert texts.count(text) / 200 == pytest.approx(probability, abs=0.1)


def test_samples_of_a_model_are_in_the_order_of_the_lines_and_repeatable(tokenizer):
    teacher = LiveTeacher(new_model(SIZE, tokenizer, seed=0))
    once, again = (teacher_samples(teacher, tokenizer, LINES, seed=4) for _ in range(2))
    assert once == again
    sources = [tokenizer.decode(example.source_ids, skip_special_tokens=True) for example in once]
    assert sources == LINES
    assert teacher_samples(teacher, tokenizer, LINES, seed=5) != once


def test_the_slow_way_asks_about_the_whole_prefix(tokenizer):
    """A model that is hidden behind a function is sampled token by token: its samples are likely ones."""
    model = LiveTeacher(new_model(SIZE, tokenizer, seed=0))
    (example,) = teacher_samples(lambda batch: 1000 * model(batch), tokenizer, LINES[:1], seed=0)
    (batch,) = epochs_of([example], tokens_per_batch=1000, seed=0, pad_token_id=0)(0)
    value = sequence_log_probability(1000 * model(batch), batch["labels"], alignment="encoder_decoder")
    assert float(value) > -1.0 * len(example.target_ids)


def test_a_teacher_with_a_few_entries_alone_is_refused(tokenizer):
    model = LiveTeacher(new_model(SIZE, tokenizer, seed=0))
    with pytest.raises(ValueError, match="TopK"):
        teacher_samples(lambda batch: TopK.from_logits(model(batch), k=4), tokenizer, LINES[:1], seed=0)
