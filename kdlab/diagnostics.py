"""diagnose(): why a distillation loss stays high, the cheapest cause first.

A high loss has few usual causes, and most of them are no lack of training. Each check looks for one, on a few batches,
and gives its numbers; nothing that it is given is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch
from torch import nn

from kdlab import diagnostic_inputs as inputs
from kdlab import diagnostic_loss as losses
from kdlab import diagnostic_rows as rows
from kdlab import one_batch as train
from kdlab.diagnostic_case import Case, Finding
from kdlab.diagnostic_mask import check_mask
from kdlab.loss_probe import Loss
from kdlab.model_io import Batch
from kdlab.teachers import Teacher

_LOSS = ("tokenizer",)
_ROWS = ("shift", "dropout", "tokenizer")
_TRAINING = (*_ROWS, "detached", "optimizer")
_ALL_ELSE = (
    *_TRAINING,
    "mask",
    "copy",
    "learning_rate",
    "frozen",
    "mispaired",
    "missing_input",
    "temperature",
)
# In the order in which they are told. With each: the causes that must not be at fault for its answer to mean something.
_CHECKS: dict[str, tuple[Callable[[Case], Finding], tuple[str, ...]]] = {
    "cross_entropy_floor": (losses.check_cross_entropy_floor, _LOSS),
    "mask": (check_mask, ()),
    "shift": (rows.check_shift, ()),
    "dropout": (rows.check_dropout, ()),
    "tokenizer": (rows.check_tokenizer, ("shift", "dropout")),
    "copy": (rows.check_copy, (*_ROWS, "mask")),
    "detached": (train.check_detached, _LOSS),
    "optimizer": (train.check_optimizer, (*_LOSS, "detached")),
    "learning_rate": (train.check_learning_rate, _TRAINING),
    "frozen": (train.check_frozen, (*_ROWS, "detached")),
    "mispaired": (inputs.check_mispaired, _ROWS),
    "missing_input": (inputs.check_missing_input, (*_ROWS, "mispaired")),
    "temperature": (losses.check_temperature, _LOSS),
    "reduction": (losses.check_reduction, _LOSS),
    "undertrained": (train.check_undertrained, _ALL_ELSE),
    "capacity": (train.check_capacity, _ALL_ELSE),
}
CAUSES = tuple(_CHECKS)
# Nobody comes below the floor of an input that is missing, whatever the size of the student.
_SPEAKS_AGAINST = {"missing_input": ("fault", "explains")}


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found, a finding for each cause, in the order in which they were asked.

    `print` shows it: first what is wrong or explains the loss, with its numbers, then the rest in one line each.

    >>> found = Diagnosis((Finding("mask", "clear"), Finding("shift", "fault", {"rows": 1}, "compare row i with i")))
    >>> print(found)
    cause: shift
    <BLANKLINE>
    fault    shift
        compare row i with i
        rows 1
    clear    mask
    >>> found["mask"].verdict
    'clear'
    """

    findings: tuple[Finding, ...]

    @property
    def faults(self) -> list[Finding]:
        """What is wrong."""
        return [finding for finding in self.findings if finding.verdict == "fault"]

    @property
    def cause(self) -> str | None:
        """The first fault, or else the first thing that explains the loss without one; None: nothing was found."""
        found = self.faults or [f for f in self.findings if f.verdict == "explains"]
        return found[0].cause if found else None

    def __getitem__(self, cause: str) -> Finding:
        for finding in self.findings:
            if finding.cause == cause:
                return finding
        raise KeyError(f"cause: got {cause!r}, expected one of {', '.join(f.cause for f in self.findings)}")

    def __str__(self) -> str:
        told = [f for f in self.findings if f.verdict in ("fault", "explains")]
        rest = [f for f in self.findings if f.verdict not in ("fault", "explains")]
        lines = [f"cause: {self.cause or 'none found'}", "", *(str(finding) for finding in told)]
        clear = ", ".join(f.cause for f in rest if f.verdict == "clear")
        lines += [f"clear    {clear}"] if clear else []
        lines += [f"skipped  {f.cause}: {f.advice}" for f in rest if f.verdict == "skipped"]
        return "\n".join(lines)


@overload
def diagnose(student: str | Path) -> Diagnosis: ...
@overload
def diagnose(
    student: nn.Module,
    teacher: Teacher,
    batches: Batch | Sequence[Batch],
    *,
    loss: Loss | None = None,
    training: torch.optim.Optimizer | float | None = None,
) -> Diagnosis: ...
def diagnose(
    student: nn.Module | str | Path,
    teacher: Teacher | None = None,
    batches: Batch | Sequence[Batch] | None = None,
    *,
    loss: Loss | None = None,
    training: torch.optim.Optimizer | float | None = None,
) -> Diagnosis:
    """Say why the loss of a student stays high, with the evidence for each cause.

    Args:
        student: the model that is trained; or, alone, the folder of a run as `kdlab distill --out` leaves it.
        teacher: any `Teacher`.
        batches: one batch, or a few, as the training gets them, of either kind (see `kdlab.model_io`); a decoder-only
            row is a prompt, which may be its start token alone, and a completion. Some twenty sentences say more than
            two: most verdicts need to be surer than chance. Fields beside the usual ones are taken to be read by the
            teacher alone (its context).
        loss: `loss(student_logits, teacher_logits, labels)`, as it is trained; it is asked, not read, so it may be
            anybody's. Default: forward KL at temperature 1. It gets the rows of the targets, each beside its label:
            what is shifted for a decoder-only model is shifted already.
        training: the run's optimizer, or its learning rate (for AdamW). None: learning rates are not judged.

    Returns:
        A `Diagnosis`. Values are in nats a token, unless a name says otherwise. Verdicts: "fault", "explains" (high,
        and nothing is broken: cross-entropy on its floor), "clear", "skipped".

    Raises:
        ValueError: batches without labels that count, a teacher with answers of another shape.

    Weights, gradients, modes and random states are left as they were; what is trained is a copy, so there must be room
    for one, its gradients and its optimizer.

    >>> from types import SimpleNamespace
    >>> class Table(nn.Module):  # a student with one distribution for each word that it reads
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.rows = nn.Embedding.from_pretrained(torch.zeros(5, 5), freeze=False)
    ...     def forward(self, decoder_input_ids, **inputs):
    ...         return SimpleNamespace(logits=self.rows(decoder_input_ids))
    >>> labels = torch.tensor([[1, 2, 3, 4, 0]] * 4)
    >>> batch = {"input_ids": labels, "labels": labels, "decoder_input_ids": labels.roll(1, 1)}
    >>> truth = 4 * nn.functional.one_hot(labels, 5).float()
    >>> diagnose(Table(), lambda batch: truth, batch, training=0.0).cause
    'learning_rate'
    """
    if isinstance(student, str | Path):
        from kdlab.runs import diagnose_run

        return diagnose_run(Path(student))
    if teacher is None or batches is None:
        raise ValueError(
            "teacher and batches: got none, expected both, unless student is the folder of a run"
        )
    return examine(Case(student, teacher, batches, loss=loss, training=training))


def examine(case: Case) -> Diagnosis:
    """Ask every check; one whose answer would mean nothing is skipped.

    >>> from types import SimpleNamespace
    >>> class Table(nn.Module):  # a student with one distribution for each word that it reads
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.rows = nn.Embedding.from_pretrained(torch.zeros(5, 5), freeze=True)
    ...     def forward(self, decoder_input_ids, **inputs):
    ...         return SimpleNamespace(logits=self.rows(decoder_input_ids))
    >>> labels = torch.tensor([[1, 2, 3, 4, 0]] * 4)
    >>> batch = {"input_ids": labels, "labels": labels, "decoder_input_ids": labels.roll(1, 1)}
    >>> truth = 4 * nn.functional.one_hot(labels, 5).float()
    >>> examine(Case(Table(), lambda batch: truth, batch)).cause
    'frozen'
    """
    found: dict[str, Finding] = {}

    def ask(cause: str) -> Finding:
        if cause not in found:
            check, needs = _CHECKS[cause]
            wrong = [need for need in needs if ask(need).verdict in _SPEAKS_AGAINST.get(need, ("fault",))]
            found[cause] = (
                Finding(cause, "skipped", {}, f"says nothing while there is {wrong[0]}")
                if wrong
                else check(case)
            )
        return found[cause]

    return Diagnosis(tuple(ask(cause) for cause in CAUSES))
