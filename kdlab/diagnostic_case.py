"""What the checks of `diagnose` share: a student, a teacher, batches, and the answers both give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdlab.diagnostic_batches import find_targets, model_logits
from kdlab.diagnostic_values import dense, kl, label_scores
from kdlab.distributions import TopK, entropy, log_probabilities
from kdlab.loss_probe import Loss, LossKind, identify_loss
from kdlab.losses import DistillationLoss
from kdlab.model_io import Batch, target_labels
from kdlab.teachers import Teacher
from kdlab.weak_to_strong import ConfidenceLoss

Verdict = Literal["fault", "explains", "clear", "skipped"]

# A cause that makes up less than a tenth of what is too much is not why a loss is high.
MATTERS = 0.1


@dataclass(frozen=True)
class Finding:
    """What one check has to say.

    Attributes:
        cause: its name, one of `kdlab.diagnostics.CAUSES`.
        verdict: "fault" - something is wrong; "explains" - the number is high and nothing is broken; "clear";
            "skipped" - could not be asked, and `advice` says why.
        evidence: numbers, their units in their names (nats per token unless a name says otherwise).
        advice: what was seen and what to do about it.
    """

    cause: str
    verdict: Verdict
    evidence: Mapping[str, float] = field(default_factory=dict)
    advice: str = ""

    def __str__(self) -> str:
        numbers = ", ".join(
            f"{name.replace('_', ' ')} {_number(value)}" for name, value in self.evidence.items()
        )
        return "\n    ".join(
            [f"{self.verdict:<8} {self.cause}", *(line for line in (self.advice, numbers) if line)]
        )


@dataclass(frozen=True)
class Answer:
    """Student and teacher on one batch; nats. All but the batch are [batch, longest target, ...], as `Targets` says.

    >>> certain = torch.tensor([[[0.0, -math.inf]] * 2])
    >>> Answer({}, torch.tensor([[0, -100]]), certain, certain, certain, certain).counted
    tensor([[ True, False]])
    """

    batch: Batch
    labels: Tensor
    student: Tensor  # logits
    target: Tensor | TopK  # as the teacher gave it
    log_p: Tensor  # the teacher's log-probabilities, dense
    log_q: Tensor  # the student's

    @property
    def counted(self) -> Tensor:
        """Which tokens count."""
        return self.labels >= 0


class Case:
    """A student, its teacher and a few batches, as `diagnose` takes them; every check can be run on it alone.

    Args and errors: see `kdlab.diagnostics.diagnose`.

    >>> from types import SimpleNamespace
    >>> class Half(nn.Module):  # a student that gives both words probability 1/2, whatever it reads
    ...     def forward(self, input_ids, **inputs):
    ...         return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 2))
    >>> batch = {"input_ids": torch.tensor([[0, 1]]), "labels": torch.tensor([[-100, 1]])}
    >>> case = Case(Half(), lambda batch: torch.tensor([[[0.25, 0.75]]]).log(), batch)
    >>> case.tokens, round(case.kl, 4), round(case.label_loss, 4)  # 0.25 log 1/2 + 0.75 log 3/2; -log 0.75
    (1, 0.1308, 0.2877)
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher,
        batches: Batch | Sequence[Batch],
        *,
        loss: Loss | None = None,
        training: torch.optim.Optimizer | float | None = None,
    ):
        if not isinstance(student, nn.Module):
            raise ValueError(f"student: got {type(student).__name__}, expected an nn.Module")
        if not callable(teacher):
            raise ValueError(f"teacher: got {type(teacher).__name__}, expected a Teacher: teacher(batch)")
        if not (training is None or isinstance(training, torch.optim.Optimizer | int | float)):
            raise ValueError(
                f"training: got {type(training).__name__}, expected a torch optimizer, a learning rate or None"
            )
        self.student, self.teacher = student, teacher
        self.batches = [batches] if isinstance(batches, Mapping) else list(batches)
        if not self.batches:
            raise ValueError("batches: got none, expected at least one")
        for number, batch in enumerate(self.batches):
            missing = [name for name in ("input_ids", "labels") if name not in batch]
            if missing:
                raise ValueError(f"batches: number {number} has no {' and no '.join(missing)}")
            if not (target_labels(batch) >= 0).any():
                raise ValueError(f"batches: number {number} has no label that counts, expected at least one")
        self.loss: Loss = loss or DistillationLoss()
        self.training = training
        self.kept: dict[str, Any] = {}  # what checks have worked out for one another

    def ask_student(self, batch: Batch) -> Tensor:
        """Logits in eval mode; call it from a check, which puts the modes back."""
        self.student.eval()
        return model_logits(self.student, batch)

    def ask_teacher(self, batch: Batch) -> Tensor | TopK:
        """Its answer beside `find_targets(batch).labels`. Raises what the teacher raises."""
        target, labels = self.teacher(batch), target_labels(batch)
        rows = target.shape[:-1] if isinstance(target, Tensor) else target.tail_log_probability.shape
        if rows != labels.shape:
            raise ValueError(
                f"teacher: got an answer for {tuple(rows)} positions, expected one for each of the "
                f"{tuple(labels.shape)} labels that kdlab.model_io.target_labels finds in the batch"
            )
        return find_targets(batch).pick_target(target)

    @cached_property
    def answers(self) -> list[Answer]:
        """Of every batch. Raises what the teacher raises."""
        return [self.answer(batch) for batch in self.batches]

    def answer(self, batch: Batch) -> Answer:
        student, target = self.ask_student(batch), self.ask_teacher(batch)
        log_p = dense(target)
        # Where the vocabularies differ, `check_tokenizer` says so, and the rest looks at what both have.
        shared = min(log_p.shape[-1], student.shape[-1])
        log_p, log_q = (log_probabilities(x[..., :shared]) for x in (log_p, student))
        return Answer(batch, find_targets(batch).labels, student, target, log_p, log_q)

    @cached_property
    def kind(self) -> LossKind:
        """What the loss computes, as it is reported: without a `ConfidenceLoss`'s own term."""
        return identify_loss(self.loss.loss if isinstance(self.loss, ConfidenceLoss) else self.loss)

    @cached_property
    def tokens(self) -> int:
        return sum(int(answer.counted.sum()) for answer in self.answers)

    def mean(self, value: Callable[[Answer], Tensor]) -> float:
        """Of a value [batch, length] over all tokens that count."""
        return math.fsum(float(value(a)[a.counted].sum()) for a in self.answers) / self.tokens

    @cached_property
    def entropy(self) -> float:
        """Of the teacher, in nats a token."""
        return self.mean(lambda answer: entropy(answer.log_p))

    @cached_property
    def kl(self) -> float:
        """KL(teacher || student) at T = 1, in nats a token."""
        return self.mean(lambda answer: kl(answer.log_p, answer.log_q))

    @cached_property
    def label_loss(self) -> float:
        """Of the teacher: minus the log-probability of a label, in nats a token."""
        return -self.mean(lambda answer: label_scores(answer.log_p, answer.labels))

    @cached_property
    def value(self) -> float:
        """The loss of the student, as it reports it."""
        return self.loss_of(lambda answer: answer.student)

    @cached_property
    def value_of_teacher(self) -> float:
        """The loss of a student that gives the teacher's own distribution."""
        return self.loss_of(
            lambda answer: answer.target if isinstance(answer.target, Tensor) else answer.log_p
        )

    @cached_property
    def value_of_best(self) -> float:
        """The loss that training leads to: the teacher's own, but for a `ConfidenceLoss`.

        There the teacher's p and the student's most probable word share a token as 1 - a to a: at T = 1 the gradient of
        (1 - a) KL(p || q) + a CE(q, y) is 0 at that mixture.
        """
        weight = self.loss.weight_now if isinstance(self.loss, ConfidenceLoss) else 0.0
        if weight == 0:
            return self.value_of_teacher

        def mixture(answer: Answer) -> Tensor:
            own = functional.one_hot(answer.log_q.argmax(-1), answer.log_q.shape[-1])
            return ((1 - weight) * answer.log_p.exp() + weight * own).clamp_min(1e-30).log()

        return self.loss_of(mixture)

    @cached_property
    def value_of_constant(self) -> float:
        """The loss of the teacher's mean distribution: what a student scores that reads nothing."""
        constant = torch.cat([a.log_p[a.counted] for a in self.answers]).exp().mean(0)
        # A word that the teacher never says has no logarithm. One token in ten times as many costs next to nothing.
        seldom = 0.1 / (self.tokens * len(constant))
        return self.loss_of(lambda answer: (constant + seldom).log().expand_as(answer.log_p))

    @cached_property
    def tolerable(self) -> float:
        """A tenth of the way from the best score to that of knowing nothing: what is below is not high."""
        return self.value_of_best + MATTERS * (self.value_of_constant - self.value_of_best)

    @cached_property
    def is_high(self) -> bool:
        return not self.value <= self.tolerable

    def loss_of(self, logits: Callable[[Answer], Tensor]) -> float:
        total = math.fsum(
            number(self.loss(logits(a), a.target, a.labels)) * int(a.counted.sum()) for a in self.answers
        )
        return total / self.tokens


def check(function: Callable[[Case], Finding]) -> Callable[[Case], Finding]:
    """Marks a check: it runs without grad, and leaves random states and modes as they were.

    >>> @check
    ... def check_size(case):
    ...     return Finding("size", "clear", {"drawn": torch.rand(1).item(), "grad": torch.is_grad_enabled()})
    >>> case = Case(nn.Linear(1, 1), lambda batch: None, {"input_ids": Tensor(), "labels": torch.tensor([[0, 1]])})
    >>> one, other = check_size(case), check_size(case)  # the first draw leaves the random state as it was
    >>> one.evidence == other.evidence, one.evidence["grad"]
    (True, False)
    """

    @wraps(function)
    def run(case: Case) -> Finding:
        with _undisturbed(case.student), torch.no_grad():
            return function(case)

    return run


@contextmanager
def _undisturbed(student: nn.Module) -> Iterator[None]:
    """Puts back torch's random states, and for each module of the student whether it trains."""
    modes = [(module, module.training) for module in student.modules()]
    devices = list(range(torch.cuda.device_count()))  # empty without a GPU
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def number(value: Tensor | float) -> float:
    """Of a scalar, whether or not it requires grad.

    >>> number(torch.tensor(0.5, requires_grad=True)), number(0.5)
    (0.5, 0.5)
    """
    return float(value.item() if isinstance(value, Tensor) else value)


def ask_or_none(case: Case, batch: Batch) -> Tensor | TopK | None:
    """A teacher that knows the truth refuses a target that is no translation of its source.

    >>> def teacher(batch):
    ...     if batch["labels"].max() > 1:
    ...         raise ValueError("labels: got no translation of this source")
    ...     return torch.zeros(1, 1, 2)
    >>> good, bad = ({"input_ids": torch.tensor([[0, 1]]), "labels": torch.tensor([[-100, k]])} for k in (1, 2))
    >>> case = Case(nn.Linear(1, 1), teacher, good)
    >>> ask_or_none(case, good), ask_or_none(case, bad)
    (tensor([[[0., 0.]]]), None)
    """
    try:
        return case.ask_teacher(batch)
    except ValueError:
        return None


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1 else f"{value:.3g}"
