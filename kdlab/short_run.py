"""A short training run in memory, for demonstrations: no folder, no checkpoints, no validation, as `training` has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import count

import torch
from torch import Tensor, nn

from kdlab.distributions import TopK
from kdlab.fitting import adam
from kdlab.loop import OnBatches, training_loop, training_step
from kdlab.model_io import Batch, target_labels
from kdlab.teachers import Teacher

# Takes student's logits, teacher's logits [batch, targets, vocabulary] and labels [batch, targets].
BatchLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
WARMUP = 0.1  # of the updates


def short_run(
    student: nn.Module, teacher: Teacher, batches: Sequence[Batch], loss: BatchLoss, *, learning_rate: float
) -> list[float]:
    """Train a student in place, one update for each batch, and leave it in eval mode.

    Args:
        student: an encoder-decoder or decoder-only model.
        teacher: gives whole logits, no `TopK`.
        batches: as `kdlab.text.batches.collate` or `kdlab.text.causal.collate_causal` makes them.
        loss: (student's logits, teacher's logits, labels) -> a scalar; rows and labels are aligned already.
        learning_rate: the peak, after a linear warm-up over a tenth of the updates; a cosine leads back to 0.

    Returns:
        The loss of each update, before the update.

    Raises:
        ValueError: no batch, or a loss that is NaN or infinite.

    >>> from transformers import MarianMTModel
    >>> from kdlab import forward_kl
    >>> from kdlab.students import Architecture, marian_config
    >>> from kdlab.teachers import LiveTeacher
    >>> from kdlab.text.batches import Example, collate
    >>> student, teacher = (MarianMTModel(marian_config(Architecture(8, 1, 1, 8), 20)) for _ in range(2))
    >>> batch = collate([Example([5, 1], [7, 8, 1])], pad_token_id=0, decoder_start_token_id=0)
    >>> losses = short_run(student, LiveTeacher(teacher), [batch] * 30, forward_kl, learning_rate=0.01)
    >>> len(losses), losses[-1] < losses[0]
    (30, True)
    """
    if not batches:
        raise ValueError("batches: got none, expected at least one")
    optimizer = adam(student.parameters(), learning_rate)
    asked, warmup, updates = OnBatches(student), math.ceil(WARMUP * len(batches)), count()

    def step(batch: Batch) -> float:
        update = next(updates)

        def aligned(student_logits: Tensor, teacher_logits: Tensor | TopK, _: Tensor) -> Tensor:
            value = loss(student_logits, _whole(teacher_logits), target_labels(batch))
            if not value.isfinite():
                raise ValueError(f"loss: got {value.item()} at update {update}, expected a finite number")
            return value

        return training_step(asked, teacher, batch, aligned, optimizer, max_norm=1.0)

    def rate(update: int) -> float:
        return learning_rate * min(
            (update + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * update / len(batches))
        )

    losses = training_loop(step, lambda _: batches, len(batches), optimizer, rate)
    student.eval()
    return losses


def shuffled_batches(lengths: Sequence[int], rows: int, *, seed: int, alike: bool) -> list[list[int]]:
    """One epoch of example indices, `rows` in a batch (the last may have fewer), in random order.

    Args:
        lengths: of the examples.
        rows: examples in a batch.
        alike: examples of the same length share a batch, which leaves little padding; else any do.

    >>> sorted(shuffled_batches([3, 9, 4, 8], 2, seed=0, alike=True))
    [[0, 2], [3, 1]]
    >>> sorted(index for batch in shuffled_batches([3, 9, 4], 2, seed=0, alike=False) for index in batch)
    [0, 1, 2]
    """
    generator = torch.Generator().manual_seed(seed)
    order: Iterable[int] = torch.randperm(len(lengths), generator=generator).tolist()
    if alike:
        order = sorted(order, key=lengths.__getitem__)
    indices = list(order)
    batches = [indices[start : start + rows] for start in range(0, len(indices), rows)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _whole(signal: object) -> Tensor:
    if not isinstance(signal, Tensor):
        raise ValueError(f"teacher: got a {type(signal).__name__}, expected one that gives whole logits")
    return signal
