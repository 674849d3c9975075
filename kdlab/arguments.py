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


def check_ce_weight(ce_weight: float) -> None:
    """Refuse what is no share."""
    if not (isinstance(ce_weight, int | float) and 0 <= ce_weight <= 1):
        raise ValueError(f"ce_weight: got {ce_weight!r}, expected 0 to 1")


def check_options(
    ce_weight: float,
    labels: Tensor | None,
    reduction: str,
    num_items_in_batch: int | Tensor | None,
    vocabulary: str,
) -> None:
    """Refuse options outside their range, or that contradict each other."""
    check_ce_weight(ce_weight)
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
    if is_healthy(loss):
        return
    events = teacher.events() if isinstance(teacher, TopK) else teacher
    if labels is not None and counted is not None:
        check_labels_range(labels[counted], student.shape[-1])
        student, events = student[counted], events[counted]
    for name, logits in (("student_logits", student), ("teacher_logits", events)):
        refuse_rows(name, unusable_rows(logits))


def is_healthy(loss: Tensor) -> bool:
    """Whether the result holds no NaN: the one look at values that a step pays for.

    >>> is_healthy(torch.tensor(0.1)), is_healthy(torch.tensor(math.inf)), is_healthy(torch.tensor(math.nan))
    (True, True, False)
    """
    return torch.compiler.is_compiling() or not torch.isnan(loss.detach()).any()


def unusable_rows(logits: Tensor) -> Tensor:
    """Which rows of logits, [...] boolean, are no distribution.

    >>> unusable_rows(torch.tensor([[0.0, -math.inf], [0.0, math.nan], [-math.inf, -math.inf]]))
    tensor([False,  True,  True])
    """
    return (logits.isnan() | (logits == torch.inf)).any(-1) | (logits == -torch.inf).all(-1)


def refuse_rows(name: str, bad: Tensor) -> None:
    """Refuse logits that have unusable rows."""
    if bad.any():
        raise ValueError(
            f"{name}: got NaN, +inf or nothing but -inf in {int(bad.sum())} of {bad.numel()} counted "
            f"rows, first in row {int(bad.reshape(-1).nonzero()[0])}; expected finite logits, or -inf "
            "for an entry of probability 0"
        )


def check_vocabularies(student: Tensor, teacher: Tensor | TopK, vocabulary: Vocabulary) -> None:
    """Refuse vocabularies of different length, unless the caller has said what to do with them."""
    sizes = student.shape[-1], teacher.vocabulary if isinstance(teacher, TopK) else teacher.shape[-1]
    check_vocabulary_sizes("teacher_logits", *sizes, vocabulary)
    if isinstance(teacher, TopK) and sizes[0] != sizes[1]:
        raise ValueError(
            "vocabulary: got 'common' with a TopK teacher, whose tail cannot be cut; expected 'same'"
        )


def check_vocabulary_sizes(name: str, student: int, teacher: int, vocabulary: Vocabulary) -> None:
    """Refuse two different sizes, unless they are to be cut; `name` is the teacher's argument."""
    if student != teacher and vocabulary == "same":
        raise ValueError(
            f"{name}: got a vocabulary of {teacher}, expected the student's {student}; "
            "vocabulary='common' compares the entries that both have"
        )


def check_head(side: str, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Refuse what is not a model's last hidden states and the matrix that makes logits of them."""
    for name, tensor in (("hidden", hidden), ("weight", weight), ("bias", bias)):
        if not isinstance(tensor, Tensor) and not (name == "bias" and tensor is None):
            raise ValueError(f"{side}_{name}: got {type(tensor).__name__}, expected a tensor")
        if tensor is not None and not tensor.is_floating_point():
            raise ValueError(f"{side}_{name}: got dtype {tensor.dtype}, expected floating point numbers")
    if hidden.dim() < 2:
        raise ValueError(
            f"{side}_hidden: got shape {tuple(hidden.shape)}, expected [batch, length, hidden] or [tokens, hidden]"
        )
    if weight.dim() != 2 or weight.shape[0] < 1 or weight.shape[1] != hidden.shape[-1]:
        raise ValueError(
            f"{side}_weight: got shape {tuple(weight.shape)}, expected [vocabulary, {hidden.shape[-1]}], since "
            f"{side}_hidden is {tuple(hidden.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"{side}_bias: got shape {tuple(bias.shape)}, expected {tuple(weight.shape[:1])}, one for each row of "
            f"{side}_weight"
        )


def check_teacher_head(student_hidden: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Refuse a teacher with other tokens than the student's, or one that requires grad."""
    if hidden.shape[:-1] != student_hidden.shape[:-1]:
        raise ValueError(
            f"teacher_hidden: got shape {tuple(hidden.shape)}, expected {tuple(student_hidden.shape[:-1])} rows, "
            "as student_hidden has"
        )
    for name, tensor in (("hidden", hidden), ("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.requires_grad:
            raise ValueError(
                f"teacher_{name}: got a tensor that requires grad, expected none: detach it, or call "
                "requires_grad_(False) on the teacher"
            )


def check_head_options(side: str, scale: float, soft_cap: float | None) -> None:
    """Refuse a scale or a cap that is not a positive finite number."""
    for name, value in (("scale", scale), ("soft_cap", soft_cap)):
        if not (isinstance(value, int | float) and 0 < value < math.inf) and not (
            name == "soft_cap" and value is None
        ):
            raise ValueError(f"{side}_{name}: got {value!r}, expected a finite number > 0")


def check_chunk_tokens(chunk_tokens: int | None) -> None:
    """Refuse a chunk that is not a whole number of tokens."""
    if chunk_tokens is not None and (not isinstance(chunk_tokens, int) or chunk_tokens < 1):
        raise ValueError(
            f"chunk_tokens: got {chunk_tokens!r}, expected a whole number of at least 1, or None"
        )


def check_same_temperature(temperature: float, teacher: TopK) -> None:
    """Refuse another temperature than the teacher's: the tail does not say how it is made up."""
    if teacher.temperature != temperature:
        raise ValueError(
            f"temperature: got {temperature}, expected {teacher.temperature}, at which the teacher's "
            "top-k probabilities were taken"
        )
