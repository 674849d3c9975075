"""What the losses refuse, and in which words: the argument, what came, what was expected."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from kdlab.distributions import TopK, check_labels_range, check_labels_shape, check_logits

Reduction = Literal["token_mean", "batchmean", "sum", "none"]
Vocabulary = Literal["same", "common"]


def check_inputs(student: Tensor, teacher: Tensor | TopK, labels: Tensor | None) -> None:
    """Refuse tensors of the wrong type or shape, and a teacher that requires grad."""
    check_logits("student_logits", student)
    if isinstance(teacher, TopK):
        shape, requires_grad = teacher.indices.shape, teacher.log_probabilities.requires_grad
    else:
        check_logits("teacher_logits", teacher)
        shape, requires_grad = teacher.shape, teacher.requires_grad
    if shape[:-1] != student.shape[:-1]:
        raise ValueError(
            f"teacher_logits: got shape {tuple(shape)}, expected {tuple(student.shape[:-1])} rows, as the "
            "student's logits have"
        )
    if requires_grad:
        raise ValueError(
            "teacher_logits: got a tensor that requires grad, expected none: run the teacher under "
            "torch.no_grad(), or detach what it returns"
        )
    if labels is not None:
        check_labels_shape(labels, student)


def check_options(
    ce_weight: float,
    labels: Tensor | None,
    reduction: str,
    num_items_in_batch: int | Tensor | None,
    vocabulary: str,
) -> None:
    """Refuse options outside their range, or that contradict each other."""
    if not (isinstance(ce_weight, int | float) and 0 <= ce_weight <= 1):
        raise ValueError(f"ce_weight: got {ce_weight!r}, expected 0 to 1")
    if ce_weight > 0 and labels is None:
        raise ValueError(f"labels: got None, expected the references, since ce_weight is {ce_weight}")
    if reduction not in ("token_mean", "batchmean", "sum", "none"):
        raise ValueError(f"reduction: got {reduction!r}, expected 'token_mean', 'batchmean', 'sum' or 'none'")
    if vocabulary not in ("same", "common"):
        raise ValueError(f"vocabulary: got {vocabulary!r}, expected 'same' or 'common'")
    if num_items_in_batch is not None and reduction in ("sum", "none"):
        raise ValueError(
            f"num_items_in_batch: got a value with reduction={reduction!r}, expected 'token_mean'"
        )
    if not (num_items_in_batch is None or isinstance(num_items_in_batch, Tensor)) and not (
        isinstance(num_items_in_batch, int | float) and 0 <= num_items_in_batch < math.inf
    ):
        raise ValueError(f"num_items_in_batch: got {num_items_in_batch!r}, expected a count of tokens")


def check_result(
    loss: Tensor, student: Tensor, teacher: Tensor | TopK, labels: Tensor | None, counted: Tensor | None
) -> None:
    """Look at the result alone, once; only when it is NaN is the cause looked for, on whatever device.

    NaN logits make the result NaN and so does a label out of range, so nothing is missed, and a healthy step
    pays for one number.
    """
    if torch.compiler.is_compiling() or not torch.isnan(loss.detach()).any():
        return
    events = teacher.events() if isinstance(teacher, TopK) else teacher
    if labels is not None and counted is not None:
        check_labels_range(labels[counted], student.shape[-1])
        student, events = student[counted], events[counted]
    for name, logits in (("student_logits", student), ("teacher_logits", events)):
        bad = (logits.isnan() | (logits == torch.inf)).any(-1) | (logits == -torch.inf).all(-1)
        if bad.any():
            raise ValueError(
                f"{name}: got NaN, +inf or nothing but -inf in {int(bad.sum())} of {bad.numel()} counted "
                f"rows, first in row {int(bad.reshape(-1).nonzero()[0])}; expected finite logits, or -inf "
                "for an entry of probability 0"
            )


def check_vocabularies(student: Tensor, teacher: Tensor | TopK, vocabulary: Vocabulary) -> None:
    """Refuse vocabularies of different length, unless the caller has said what to do with them."""
    sizes = student.shape[-1], teacher.vocabulary if isinstance(teacher, TopK) else teacher.shape[-1]
    if sizes[0] == sizes[1]:
        return
    if vocabulary == "same":
        raise ValueError(
            f"teacher_logits: got a vocabulary of {sizes[1]}, expected the student's {sizes[0]}; "
            "vocabulary='common' compares the entries that both have"
        )
    if isinstance(teacher, TopK):
        raise ValueError(
            "vocabulary: got 'common' with a TopK teacher, whose tail cannot be cut; expected 'same'"
        )


def check_same_temperature(temperature: float, teacher: TopK) -> None:
    """Refuse another temperature than the teacher's: the tail does not say how it is made up."""
    if teacher.temperature != temperature:
        raise ValueError(
            f"temperature: got {temperature}, expected {teacher.temperature}, at which the teacher's "
            "top-k probabilities were taken"
        )
