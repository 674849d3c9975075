"""Fitting a copy of a student to a few batches, for the checks of `diagnose`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlab.diagnostic_case import model_logits
from kdlab.distributions import TopK
from kdlab.loss_probe import Loss
from kdlab.model_io import Batch

Optimizer = torch.optim.Optimizer
MakeOptimizer = Callable[[nn.Module], Optimizer]

WARMUP = 10  # updates


@dataclass(frozen=True)
class Task:
    """One batch (or several) to be fitted, with the teacher's answers, asked once."""

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
    """Train a copy (without dropout) until the goal is reached or the updates are used up."""
    model = copy_of(student)
    made = optimizer(model)
    peaks = [float(group["lr"]) for group in made.param_groups]
    start = last = math.inf
    recent: list[float] = []
    with torch.enable_grad():
        for update in range(updates + 1):
            batch, target = task.batches[update % len(task.batches)]
            value = task.loss(model_logits(model, batch), target, batch["labels"])
            recent = [*recent, float(value.detach())][-len(task.batches) :]
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


def copy_of(student: nn.Module) -> nn.Module:
    model = copy.deepcopy(student).eval()
    model.zero_grad()
    return model


def train_all(model: nn.Module) -> Iterable[nn.Parameter]:
    """Every parameter but fixed positions."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.endswith("embed_positions.weight"))
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def adam(parameters: Iterable[nn.Parameter], learning_rate: float) -> Optimizer:
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.AdamW(trainable, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)


def adam_on_all(learning_rate: float) -> MakeOptimizer:
    return lambda model: adam(train_all(model), learning_rate)
