"""Fitting a copy of a student to a few batches, for the checks of `diagnose`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlab.diagnostic_batches import find_targets, model_logits
from kdlab.distributions import TopK
from kdlab.loss_probe import Loss
from kdlab.model_io import Batch
from kdlab.weak_to_strong import ConfidenceLoss

Optimizer = torch.optim.Optimizer
MakeOptimizer = Callable[[nn.Module], Optimizer]

WARMUP = 10  # updates


@dataclass(frozen=True)
class Task:
    """One batch (or several) to be fitted, with the teacher's answers beside its targets, asked once."""

    batches: list[tuple[Batch, Tensor | TopK]]
    loss: Loss
    goal: float  # nats a token: where MATTERS of what can be learnt is left


@dataclass(frozen=True)
class Fit:
    """A copy of the student after so many updates; it stops at the goal."""

    start: float
    end: float
    updates: int
    reached: bool
    learning_rate: float = math.nan


def fit(student: nn.Module, task: Task, optimizer: MakeOptimizer, updates: int) -> Fit:
    """Train a copy (without dropout) until the goal is reached or the updates are used up.

    >>> from types import SimpleNamespace
    >>> class Table(nn.Module):  # a student with one distribution for each word that it reads
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.rows = nn.Embedding.from_pretrained(torch.zeros(2, 2), freeze=False)
    ...     def forward(self, input_ids, **inputs):
    ...         return SimpleNamespace(logits=self.rows(input_ids))
    >>> from kdlab.losses import reverse_kl
    >>> ids = torch.tensor([[0, 1]])
    >>> pair = {"input_ids": ids, "labels": ids, "decoder_input_ids": ids}, torch.tensor([[[0.9, 0.1]] * 2]).log()
    >>> task = Task([pair], reverse_kl, goal=0.05)
    >>> student = Table()
    >>> found = fit(student, task, adam_on_all(0.1), updates=50)
    >>> round(found.start, 4), found.reached, student.rows.weight.abs().max().item()  # only a copy has learnt
    (0.5108, True, 0.0)
    """
    model = copy_of(student)
    made = optimizer(model)
    peaks = [float(group["lr"]) for group in made.param_groups]
    start = last = math.inf
    recent: list[float] = []
    with torch.enable_grad():
        for update in range(updates + 1):
            batch, target = task.batches[update % len(task.batches)]
            logits, labels = model_logits(model, batch), find_targets(batch).labels
            value = task.loss(logits, target, labels)
            recent = [*recent, _reported(task.loss, value, logits, target, labels)][-len(task.batches) :]
            last = math.fsum(recent) / len(recent)
            start = last if update < len(task.batches) else start
            if not math.isfinite(last):
                return Fit(start, math.inf, update, False, max(peaks))
            if (last <= task.goal and len(recent) == len(task.batches)) or update == updates:
                return Fit(start, last, update, last <= task.goal, max(peaks))
            for group, peak in zip(made.param_groups, peaks, strict=True):
                group["lr"] = peak * min(1.0, (update + 1) / WARMUP)
            made.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            made.step()
    raise AssertionError("the last update returns")


def _reported(loss: Loss, value: Tensor, logits: Tensor, target: Tensor | TopK, labels: Tensor) -> float:
    """The value as it is read: a `ConfidenceLoss` trains on more than it reports."""
    with torch.no_grad():
        return float(loss(logits, target, labels) if isinstance(loss, ConfidenceLoss) else value)


def copy_of(student: nn.Module) -> nn.Module:
    """A copy in eval mode, without gradients; the student stays as it is.

    >>> student = nn.Linear(1, 1)
    >>> copied = copy_of(student)
    >>> copied.training, student.training, copied.weight is student.weight
    (False, True, False)
    """
    model = copy.deepcopy(student).eval()
    model.zero_grad()
    return model


def train_all(model: nn.Module) -> Iterable[nn.Parameter]:
    """Every parameter but fixed positions.

    >>> model = nn.ModuleDict({"embed_positions": nn.Embedding(8, 2), "layer": nn.Linear(2, 2)})
    >>> _ = model.requires_grad_(False)
    >>> [tuple(parameter.shape) for parameter in train_all(model)]
    [(2, 2), (2,)]
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.endswith("embed_positions.weight"))
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def adam(parameters: Iterable[nn.Parameter], learning_rate: float) -> Optimizer:
    """AdamW without weight decay for those of the parameters that train.

    >>> layer = nn.Linear(2, 2)
    >>> _ = layer.bias.requires_grad_(False)
    >>> group = adam(layer.parameters(), 0.01).param_groups[0]
    >>> len(group["params"]), group["lr"], group["weight_decay"]
    (1, 0.01, 0.0)
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.AdamW(trainable, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)


def adam_on_all(learning_rate: float) -> MakeOptimizer:
    """`adam` on every parameter of the model that it is made for.

    >>> layer = nn.Linear(2, 2).requires_grad_(False)
    >>> len(adam_on_all(0.01)(layer).param_groups[0]["params"])
    2
    """
    return lambda model: adam(train_all(model), learning_rate)
