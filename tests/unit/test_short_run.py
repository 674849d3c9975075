"""A short run trains the student alone, repeats itself exactly, and refuses what cannot train."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import MarianMTModel

from kdlab import forward_kl
from kdlab.distributions import TopK
from kdlab.short_run import short_run, shuffled_batches
from kdlab.students import Architecture, marian_config, seeded
from kdlab.teachers import LiveTeacher
from kdlab.text.batches import Example, collate

BATCH = collate(
    [Example([5, 1], [7, 8, 1]), Example([6, 1], [9, 1])], pad_token_id=0, decoder_start_token_id=0
)


def model(seed: int) -> MarianMTModel:
    with seeded(seed):
        return MarianMTModel(marian_config(Architecture(8, 1, 1, 8, dropout=0.0), 20))


def weights(of: MarianMTModel) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in of.parameters()])


def test_the_student_learns_and_the_teacher_does_not() -> None:
    student, teacher = model(0), model(1)
    before = weights(teacher)
    losses = short_run(student, LiveTeacher(teacher), [BATCH] * 60, forward_kl, learning_rate=0.02)
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(weights(teacher), before)
    assert not student.training


def test_the_same_run_gives_the_same_student() -> None:
    teacher, students = LiveTeacher(model(1)), [model(0), model(0)]
    runs = [short_run(one, teacher, [BATCH] * 5, forward_kl, learning_rate=0.02) for one in students]
    assert runs[0] == runs[1]
    assert torch.equal(weights(students[0]), weights(students[1]))


def test_rows_and_labels_that_the_loss_gets_are_aligned() -> None:
    seen = []

    def loss(student_logits, teacher_logits, labels):
        seen.append((student_logits.shape, teacher_logits.shape, labels.tolist()))
        return forward_kl(student_logits, teacher_logits, labels)

    short_run(model(0), LiveTeacher(model(1)), [BATCH], loss, learning_rate=0.02)
    assert seen == [((2, 3, 20), (2, 3, 20), [[7, 8, 1], [9, 1, -100]])]


def test_what_cannot_train_is_refused() -> None:
    teacher = LiveTeacher(model(1))
    with pytest.raises(ValueError, match="batches: got none"):
        short_run(model(0), teacher, [], forward_kl, learning_rate=0.02)
    with pytest.raises(ValueError, match="loss: got nan at update 0"):
        short_run(model(0), teacher, [BATCH], lambda *_: torch.tensor(math.nan), learning_rate=0.02)
    with pytest.raises(ValueError, match="teacher: got a TopK"):
        short_run(
            model(0),
            lambda batch: TopK.from_logits(teacher(batch), k=2),
            [BATCH],
            forward_kl,
            learning_rate=0.02,
        )


def test_batches_of_like_length_leave_less_padding() -> None:
    lengths = [3 + 7 * i % 20 for i in range(40)]
    padding = {}
    for alike in (True, False):
        batches = shuffled_batches(lengths, 8, seed=1, alike=alike)
        assert sorted(i for batch in batches for i in batch) == list(range(40))
        assert batches == shuffled_batches(lengths, 8, seed=1, alike=alike)
        assert batches != shuffled_batches(lengths, 8, seed=2, alike=alike)
        padding[alike] = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches) - sum(lengths)
    assert padding[True] < 0.5 * padding[False]
