"""The training objective as a loop of a few lines: what the Distiller does, without the Trainer around it.

    theta_hat = argmin_theta SUM over x' in D' of Loss(Pr^t(.|.), Pr_theta^s(.|.), x')

The sum is cut into batches, argmin into updates. For a run that must be resumed, shared by several processes or kept
on disk take `kdlab.training.train`; this is for reading, for small runs and for experiments with a step of one's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from kdlab.distributions import TopK
from kdlab.loss_probe import Loss
from kdlab.model_io import Batch, target_logits
from kdlab.text.batches import BatchSchedule, Example, collate, example_lengths

#: What a teacher does, and a student: a batch goes in, logits [batch, length, vocabulary] come out.
Asked = Callable[[Batch], Tensor | TopK]


class OnBatches(nn.Module):
    """A model that is asked as a `Teacher` is: `student(batch)` gives its logits beside the batch's labels.

    Args:
        model: encoder-decoder or decoder-only; its parameters and its mode are those of this module.

    >>> from kdlab.students import Architecture, marian_config
    >>> from transformers import MarianMTModel
    >>> student = OnBatches(MarianMTModel(marian_config(Architecture(8, 1, 1, 8), vocabulary=20)))
    >>> batch = collate([Example([5, 1], [7, 8, 1])], pad_token_id=0, decoder_start_token_id=0)
    >>> student(batch).shape
    torch.Size([1, 3, 20])
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return target_logits(self.model, batch)


def training_step(
    student: nn.Module,
    teacher: Asked,
    batch: Batch,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    max_norm: float,
) -> float:
    """One update of the student on one batch.

    Args:
        student: called with the batch, gives logits [batch, length, vocabulary]; put into train mode.
        teacher: the same, asked without gradient. Its mode is its own business: see `LiveTeacher`.
        batch: holds `labels` [batch, length], -100 where a token does not count.
        loss: `loss(student_logits, teacher_logits, labels)`, a scalar.
        optimizer: of the student's parameters.
        max_norm: the longest gradient, all parameters together, that the optimizer gets.

    Returns:
        The loss before the update.

    >>> class Table(nn.Module):  # logits for each word that is read
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.rows = nn.Embedding.from_pretrained(torch.zeros(2, 2), freeze=False)
    ...     def forward(self, batch):
    ...         return self.rows(batch["labels"])
    >>> from kdlab.losses import DistillationLoss
    >>> student, labels = Table(), torch.tensor([[0, 1]])
    >>> optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
    >>> def step():
    ...     sure = torch.tensor([[[4.0, 0.0], [0.0, 4.0]]])
    ...     return training_step(student, lambda batch: sure, {"labels": labels}, DistillationLoss(), optimizer, 1.0)
    >>> round(step(), 3), round(step(), 3)
    (0.603, 0.399)
    """
    student.train()
    with torch.no_grad():
        teacher_logits = teacher(batch)
    value = loss(student(batch), teacher_logits, batch["labels"])
    optimizer.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(student.parameters(), max_norm)
    optimizer.step()
    return float(value.detach())


def training_loop(
    step: Callable[[Batch], float],
    epoch: Callable[[int], Iterable[Batch]],
    updates: int,
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[int], float],
) -> list[float]:
    """So many updates, epoch after epoch.

    Args:
        step: makes an update of one batch, returns its loss.
        epoch: n -> the batches of epoch n = 0, 1, 2 ...: all of D' once.
        updates: how many steps are made, wherever in an epoch that ends.
        optimizer: whose learning rate is set, in every group of parameters.
        learning_rate: i -> that of update i = 0, 1, 2 ...

    Returns:
        The loss of each update.

    Raises:
        ValueError: an epoch without batches.

    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.0)
    >>> def step(batch):
    ...     return batch * optimizer.param_groups[0]["lr"]
    >>> training_loop(step, lambda n: [1.0 + n, 2.0 + n], 3, optimizer, lambda i: 10.0**i)
    [1.0, 20.0, 200.0]
    """
    losses: list[float] = []
    number = 0
    while len(losses) < updates:
        before = len(losses)
        for batch in epoch(number):
            if len(losses) == updates:
                break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(len(losses))
            losses.append(step(batch))
        if len(losses) == before:
            raise ValueError(f"epoch: got no batch for epoch {number}, expected at least one")
        number += 1
    return losses


def warm_up_and_down(peak: float, warmup: int, updates: int) -> Callable[[int], float]:
    """A learning rate for `training_loop`: a straight line up to `peak` over `warmup` updates, and one down to 0.

    >>> rate = warm_up_and_down(peak=1.0, warmup=2, updates=6)
    >>> [rate(i) for i in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    return lambda i: peak * min((i + 1) / max(warmup, 1), (updates - i) / max(updates - warmup, 1), 1.0)


def epochs_of(
    examples: Sequence[Example], *, tokens_per_batch: int, seed: int, pad_token_id: int
) -> Callable[[int], list[dict[str, Tensor]]]:
    """n -> the batches of epoch n, for `training_loop`, as `BatchSchedule` lays them out.

    Args:
        examples: D', or labelled pairs; for an encoder-decoder model.
        tokens_per_batch: padded tokens of a batch: rows times the longest side.
        seed: of the order.
        pad_token_id: also the start token, as in Marian.

    >>> epoch = epochs_of([Example([5, 1], [7, 1])] * 3, tokens_per_batch=4, seed=0, pad_token_id=0)
    >>> [len(batch["labels"]) for batch in epoch(0)]
    [2, 1]
    """
    lengths = example_lengths(examples)
    per_epoch = BatchSchedule(
        lengths, tokens_per_batch=tokens_per_batch, updates=1, seed=seed
    ).batches_per_epoch

    def epoch(number: int) -> list[dict[str, Tensor]]:
        end = (number + 1) * per_epoch
        schedule = BatchSchedule(lengths, tokens_per_batch=tokens_per_batch, updates=end, seed=seed)
        return [
            collate(
                [examples[index] for index in schedule[update]],
                pad_token_id=pad_token_id,
                decoder_start_token_id=pad_token_id,
            )
            for update in range(end - per_epoch, end)
        ]

    return epoch


def above_floor(loss: Loss, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """How far a loss is above what a student scores that gives the teacher's own distribution.

    Args:
        loss: `loss(student_logits, teacher_logits, labels)`.
        student_logits, teacher_logits: [batch, length, vocabulary].
        labels: [batch, length].

    For cross-entropy on soft labels the floor is the teacher's entropy, for a divergence it is 0.

    >>> from kdlab.losses import forward_kl
    >>> def soft(student_logits, teacher_logits, labels):  # cross-entropy on soft labels
    ...     return -(teacher_logits.softmax(-1) * student_logits.log_softmax(-1)).sum(-1).mean()
    >>> z_s, z_t, labels = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[1.0, 0.0]]]), torch.tensor([[0]])
    >>> round(float(above_floor(soft, z_s, z_t, labels)), 4), round(float(forward_kl(z_s, z_t)), 4)
    (0.1109, 0.1109)
    """
    return loss(student_logits, teacher_logits, labels) - loss(teacher_logits, teacher_logits, labels)
