"""The checks of `diagnose` that train: a copy of the student on one batch, then on all of them.

Whatever is trained is a deep copy. A reference comes first: all parameters trained, Adam, the first of a few
learning rates that works. Only what the reference can do is asked of the run's own optimizer, with ten times the
updates; so a threshold in steps or nats does not have to be guessed for each model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from kdlab.diagnostic_batches import model_logits
from kdlab.diagnostic_case import MATTERS, Case, Finding, check
from kdlab.distributions import TopK
from kdlab.fitting import (
    WARMUP,
    Fit,
    MakeOptimizer,
    Optimizer,
    Task,
    adam,
    adam_on_all,
    copy_of,
    fit,
    train_all,
)
from kdlab.model_io import Batch

T = TypeVar("T")

SENTENCES = 8  # of the first batch; fewer are fitted sooner
UPDATES = 250  # that a reference gets, at each learning rate
PATIENCE = 10  # times the updates of the reference: a learning rate ten times too small is still found out
LARGEST_PATIENCE = 600  # updates
# A usual rate for a transformer of a million parameters, then larger and smaller ones. For small models all but the
# last work, for large ones the last alone.
LEARNING_RATES = (3e-3, 1e-2, 1e-4)


@check
def check_detached(case: Case) -> Finding:
    """A loss must send a gradient back to the parameters."""
    student = copy_of(case.student)
    with torch.enable_grad():
        answer = case.answers[0]
        value = case.loss(model_logits(student, answer.batch), answer.target, answer.labels)
        if isinstance(value, Tensor) and value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
    trainable = [p for p in student.parameters() if p.requires_grad]
    moved = [p for p in trainable if p.grad is not None and bool((p.grad != 0).any())]
    evidence = {"trainable_tensors": len(trainable), "of_them_with_a_gradient": len(moved)}
    if trainable and not moved:
        return Finding(
            "detached",
            "fault",
            evidence,
            "no parameter of the student gets a gradient: look for .detach(), .item(), torch.no_grad() or argmax "
            "between the student's logits and the loss",
        )
    return Finding("detached", "clear", evidence)


@check
def check_optimizer(case: Case) -> Finding:
    """The optimizer must hold the parameters of this student."""
    trainable = {id(p): p.numel() for p in case.student.parameters() if p.requires_grad}
    if not trainable:
        return Finding("optimizer", "skipped", {}, "all parameters are frozen")
    if not isinstance(case.training, Optimizer):
        return Finding("optimizer", "skipped", {}, "no optimizer was given (training=)")
    held = {id(p) for group in case.training.param_groups for p in group["params"]}
    inside = sum(size for key, size in trainable.items() if key in held)
    foreign = len(held - {id(p) for p in case.student.parameters()})
    evidence = {
        "trainable_parameters": sum(trainable.values()),
        "of_them_in_the_optimizer": inside,
        "tensors_of_something_else_in_the_optimizer": foreign,
    }
    if inside == 0:
        return Finding(
            "optimizer",
            "fault",
            evidence,
            "the optimizer holds no trainable parameter of this student: make it after the student is made, loaded and "
            "moved, from student.parameters()",
        )
    if inside < sum(trainable.values()) and _own_fails(case) and _all_trained(case).reached:
        return Finding(
            "optimizer",
            "fault",
            evidence,
            "parameters that the optimizer does not hold keep one batch from being fitted: give it all of them",
        )
    return Finding("optimizer", "clear", evidence)


@check
def check_learning_rate(case: Case) -> Finding:
    """A copy of the student must be able to learn one batch by heart with the run's own optimizer."""
    if case.training is None:
        return Finding("learning_rate", "skipped", {}, "no optimizer or learning rate was given (training=)")
    rates = _rates(case.training)
    evidence = {"learning_rate": max(rates)}
    if max(rates) == 0:
        return Finding("learning_rate", "fault", evidence, "the learning rate is 0: nothing moves")
    if not case.is_high:
        return Finding("learning_rate", "clear", evidence | _standing(case), "the student has learnt")
    reference, own = _case_fit(case).reference, _case_fit(case).own
    if not reference.reached or own is None:
        return Finding("learning_rate", "skipped", evidence, "no learning rate that was tried fits one batch")
    evidence |= {
        "loss_on_one_batch_before": own.start,
        f"after_{own.updates}_updates": own.end,
        "goal": _case_fit(case).task.goal,
        "reference_learning_rate": reference.learning_rate,
        "updates_of_the_reference": reference.updates,
    }
    if own.reached:
        return Finding("learning_rate", "clear", evidence)
    if not _all_trained(case).reached:
        lower, higher = (_scaled(case, factor, 2 * reference.updates) for factor in (0.1, 10.0))
        evidence |= {"with_a_tenth_of_it": lower.end, "with_ten_times_it": higher.end}
        word = "too high" if lower.end < higher.end else "too low"
        return Finding(
            "learning_rate",
            "fault",
            evidence,
            f"the learning rate is {word}: one batch is not learnt in {own.updates} updates, and Adam at "
            f"{reference.learning_rate:g} learns it in {reference.updates}",
        )
    return Finding("learning_rate", "clear", evidence, "with all parameters trained it fits one batch")


@check
def check_frozen(case: Case) -> Finding:
    """Frozen parameters are no fault unless they keep one batch from being fitted."""
    frozen = _left_out({name: p for name, p in case.student.named_parameters() if not p.requires_grad})
    total = sum(p.numel() for p in case.student.parameters())
    evidence: dict[str, float] = {"frozen_parameters": sum(frozen.values()), "parameters": total}
    if not any(p.requires_grad for p in case.student.parameters()):
        return Finding("frozen", "fault", evidence, "all parameters are frozen: call requires_grad_(True)")
    if not frozen or not case.is_high:
        return Finding("frozen", "clear", evidence)
    reference, kept = _case_fit(case).reference, _fit_reference_with_frozen(case)
    evidence |= {
        "loss_on_one_batch_before": reference.start,
        "after_training_all": reference.end,
        "after_training_the_rest": kept.end,
        "goal": _case_fit(case).task.goal,
    }
    if reference.reached and not kept.reached:
        return Finding(
            "frozen",
            "fault",
            evidence,
            f"one batch cannot be fitted while {_shortened(frozen)} stay frozen, and can when they train",
        )
    return Finding("frozen", "clear", evidence)


@check
def check_undertrained(case: Case) -> Finding:
    """The same student goes on to learn these batches: it had too few updates, or it never saw them."""
    return _by_training_on("undertrained", case)


@check
def check_capacity(case: Case) -> Finding:
    """A student that cannot even learn these batches by heart is too small. Asked last: other causes look the same."""
    return _by_training_on("capacity", case)


@dataclass(frozen=True)
class OneBatch:
    """What came of fitting one batch: by the reference, and by the run's own optimizer."""

    task: Task
    reference: Fit
    own: Fit | None


def _case_fit(case: Case) -> OneBatch:
    """Fit the first sentences of the first batch; kept with the case."""
    return _kept(case, "one_batch", lambda: _fit_one_batch(case))


def _fit_one_batch(case: Case) -> OneBatch:
    batch = {name: value[:SENTENCES] for name, value in case.batches[0].items()}
    task = _task(case, [batch])
    reference = _reference(case.student, task, UPDATES)
    if not reference.reached or case.training is None:
        return OneBatch(task, reference, None)
    own = fit(case.student, task, _own_optimizer(case), _patience(reference))
    return OneBatch(task, reference, own)


def _task(case: Case, batches: list[Batch]) -> Task:
    """Batches with the teacher's answers, the student to be left with a tenth of what it can still learn of them."""
    part = Case(case.student, case.teacher, batches, loss=case.loss)
    # The labels alone can be learnt by heart, down to 0; a distribution down to what the teacher itself scores.
    labels_alone = case.kind.name is None and case.kind.ce_factor > 0
    floor = 0.0 if labels_alone else part.value_of_best
    return Task(_answers(part), case.loss, floor + MATTERS * max(part.value - floor, 0.0))


def _answers(case: Case) -> list[tuple[Batch, Tensor | TopK]]:
    return [(answer.batch, answer.target) for answer in case.answers]


def _standing(case: Case) -> dict[str, float]:
    return {
        "loss": case.value,
        "loss_of_the_teacher": case.value_of_teacher,
        "loss_of_a_constant_guess": case.value_of_constant,
    }


def _reference(student: nn.Module, task: Task, updates: int) -> Fit:
    """All parameters trained, with the first learning rate that reaches the goal, or else the best."""
    fits = []
    for rate in LEARNING_RATES:
        fits.append(fit(student, task, adam_on_all(rate), updates))
        if fits[-1].reached:
            break
    return min(fits, key=lambda found: (not found.reached, found.end))


def _fit_reference_with_frozen(case: Case) -> Fit:
    def run() -> Fit:
        one = _case_fit(case)
        return fit(
            case.student,
            one.task,
            lambda model: adam(model.parameters(), one.reference.learning_rate),
            _patience(one.reference),
        )

    return _kept(case, "with_frozen", run)


def _own_fails(case: Case) -> bool:
    own = _case_fit(case).own if case.is_high else None
    return own is not None and not own.reached


def _all_trained(case: Case) -> Fit:
    """The run's own kind of optimizer and learning rate, on every parameter."""
    one = _case_fit(case)
    if one.own is not None and _trains_all(case):
        return one.own
    return _kept(case, "all_trained", lambda: _scaled(case, 1.0, _patience(one.reference)))


def _trains_all(case: Case) -> bool:
    """Whether the run leaves nothing out that the reference trains."""
    trained = {id(p) for p in case.student.parameters() if p.requires_grad}
    if isinstance(case.training, Optimizer):
        trained &= {id(p) for group in case.training.param_groups for p in group["params"]}
    return not _left_out({name: p for name, p in case.student.named_parameters() if id(p) not in trained})


def _scaled(case: Case, factor: float, updates: int) -> Fit:
    """The same at another learning rate."""
    one = _case_fit(case)
    rate = factor * max(_rates(case.training))

    def make(model: nn.Module) -> Optimizer:
        parameters = list(train_all(model))
        if not isinstance(case.training, Optimizer):
            return adam(parameters, rate)
        group = case.training.param_groups[0]
        return type(case.training)(parameters, **_options(case.training, group) | {"lr": rate})

    return fit(case.student, one.task, make, updates)


def _own_optimizer(case: Case) -> MakeOptimizer:
    """Makes the run's optimizer anew for a copy of the student: its class, groups and options; not its state."""
    training = case.training
    if not isinstance(training, Optimizer):
        rate = float(training or 0.0)
        return lambda model: adam(model.parameters(), rate)
    names = {id(p): name for name, p in case.student.named_parameters()}

    def make(model: nn.Module) -> Optimizer:
        parameters = dict(model.named_parameters())
        groups = [
            _options(training, group)
            | {"params": [parameters[names[id(p)]] for p in group["params"] if id(p) in names]}
            for group in training.param_groups
        ]
        return type(training)([group for group in groups if group["params"]])  # type: ignore[call-arg]

    return make


def _options(optimizer: Optimizer, group: dict[str, Any]) -> dict[str, Any]:
    """Of a group, at the learning rate that a schedule started from: at the end of one, `lr` is 0."""
    options = {name: group[name] for name in optimizer.defaults if name in group}
    return options | {"lr": float(group.get("initial_lr", group["lr"]))}


def _rates(training: Optimizer | float | None) -> list[float]:
    if isinstance(training, Optimizer):
        return [float(group.get("initial_lr", group["lr"])) for group in training.param_groups] or [0.0]
    return [float(training or 0.0)]


def _by_training_on(cause: str, case: Case) -> Finding:
    """Both verdicts come from one fit: of all batches if one can be fitted."""
    if not case.is_high:
        return Finding(cause, "clear", _standing(case), "the student has learnt nine tenths of what there is")
    one = _case_fit(case).reference
    both = _kept(case, "all_batches", lambda: _fit_all(case, one)) if one.reached else one
    evidence = _standing(case) | {
        "parameters": sum(p.numel() for p in case.student.parameters()),
        f"after_{both.updates}_updates_on_{'all' if one.reached else 'one'}": both.end,
    }
    if both.reached:
        advice = (
            "the student learns these batches when it trains on them alone: train longer, or on more data"
        )
        return Finding(cause, "explains" if cause == "undertrained" else "clear", evidence, advice)
    advice = (
        "nothing else was found, and the student cannot learn these batches even by heart: make it larger"
    )
    return Finding(cause, "explains" if cause == "capacity" else "clear", evidence, advice)


def _fit_all(case: Case, one: Fit) -> Fit:
    updates = min(PATIENCE * one.updates * len(case.batches), LARGEST_PATIENCE)
    return fit(
        case.student,
        Task(_answers(case), case.loss, case.tolerable),
        adam_on_all(one.learning_rate),
        updates,
    )


def _patience(reference: Fit) -> int:
    return min(max(PATIENCE * reference.updates, 10 * WARMUP), LARGEST_PATIENCE)


def _left_out(parameters: dict[str, nn.Parameter]) -> dict[str, int]:
    """Sizes of these, without the sinusoidal positions, which are parameters that nobody trains."""
    return {name: p.numel() for name, p in parameters.items() if not name.endswith("embed_positions.weight")}


def _shortened(frozen: dict[str, int]) -> str:
    names = sorted(frozen, key=lambda name: -frozen[name])
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _kept(case: Case, name: str, make: Callable[[], T]) -> T:
    """Computed once for a case."""
    if name not in case.kept:
        case.kept[name] = make()
    return cast(T, case.kept[name])
