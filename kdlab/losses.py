"""Loss(Pr^t, Pr_theta^s, x): labels, masks, reduction, temperature and the mix with cross-entropy.

Every loss takes the student's logits first. `labels[..., i]` belong to `logits[..., i, :]`: nothing is
shifted here. A decoder-only model's logits and labels go through `distributions.align(..., "causal")` first.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdlab.distributions import (
    TopK,
    at_least_float32,
    check_labels_range,
    check_labels_shape,
    check_logits,
    check_temperature,
)
from kdlab.divergences import make_divergence, token_divergence

Reduction = Literal["token_mean", "batchmean", "sum", "none"]
Vocabulary = Literal["same", "common"]


class LossOptions(TypedDict, total=False):
    """The keyword arguments that all losses share.

    temperature: both softmaxes are taken at it; default 1.0.
    temperature_scaling: multiply the divergence by T^2 (total variation by T), which keeps its gradient the
        same size at any temperature (Hinton et al. 2015); default True. TRL and Liger do not scale.
    reduction: "token_mean" (default) - the sum over the tokens that count, divided by their number;
        "batchmean" - another name for it; "sum"; "none" - [batch, length], 0 where a token does not count.
    ignore_index: the label of tokens that do not count; default -100.
    num_items_in_batch: divide by this instead, with "token_mean": the number of counted tokens in the whole
        accumulated batch, as transformers' Trainer passes it. Micro-batches then add up to the whole batch.
    vocabulary: "same" (default) - the two must be equally long; "common" - the longer one is cut to the
        shorter before the softmax. Cross-entropy always uses the student's own vocabulary.
    """

    temperature: float
    temperature_scaling: bool
    reduction: Reduction
    ignore_index: int
    num_items_in_batch: int | Tensor | None
    vocabulary: Vocabulary


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | TopK,
    labels: Tensor | None = None,
    *,
    divergence: str = "forward_kl",
    ce_weight: float = 0.0,
    temperature: float = 1.0,
    temperature_scaling: bool = True,
    reduction: Reduction = "token_mean",
    ignore_index: int = -100,
    num_items_in_batch: int | Tensor | None = None,
    vocabulary: Vocabulary = "same",
    **parameters: Any,
) -> Tensor:
    """(1 - ce_weight) * scale(T) * D(p, q) + ce_weight * CE(labels, q at T = 1).

    Args:
        student_logits: [batch, length, vocabulary] or [tokens, vocabulary].
        teacher_logits: the same shape, without grad; or a `TopK`, of which the k entries and the tail are
            compared.
        labels: [batch, length] or [tokens]; `ignore_index` where a token does not count. None: all count.
        divergence: a name of the family: forward_kl, reverse_kl, generalized_jsd, skew_forward_kl,
            skew_reverse_kl, total_variation, alpha_divergence, squared_hellinger, chi_square.
        ce_weight: 0 to 1; above 0 `labels` are needed. Both parts are means over the same tokens.
        temperature, temperature_scaling, reduction, ignore_index, num_items_in_batch, vocabulary: see
            `LossOptions`.
        **parameters: the divergence's own: beta, normalized, skew, alpha.

    Returns:
        A scalar in nats per token ([batch, length] with reduction="none"), float32 at least. No token counts:
        0, still part of the graph.

    Raises:
        ValueError: names the argument, what came and what was expected.

    >>> student, teacher = torch.zeros(1, 2, 4, requires_grad=True), torch.tensor([[[2.0, 0, 0, 0]] * 2])
    >>> round(distillation_loss(student, teacher, torch.tensor([[0, -100]])).item(), 4)
    0.468
    """
    member = make_divergence(divergence, **parameters)
    _check_inputs(student_logits, teacher_logits, labels)
    _check_options(ce_weight, labels, reduction, num_items_in_batch, vocabulary)
    check_temperature(temperature)

    counted = None if labels is None else labels != ignore_index
    student, teacher, targets = _select(student_logits, teacher_logits, labels, counted)
    tokens = student.new_zeros(student.shape[:-1], dtype=torch.promote_types(student.dtype, torch.float32))
    if ce_weight < 1:
        scale = temperature**member.temperature_power if temperature_scaling else 1.0
        aligned = _same_events(student, teacher, temperature, vocabulary)
        tokens = tokens + (1 - ce_weight) * scale * token_divergence(member, *aligned)
    if ce_weight > 0:
        assert targets is not None  # checked with the options
        tokens = tokens + ce_weight * _cross_entropy(student, targets)
    if targets is not None:  # NaN shows a label out of range without a wait; `_check_result` then explains it
        tokens = tokens.masked_fill((targets < 0) | (targets >= student.shape[-1]), torch.nan)

    loss = _reduce(tokens, student_logits, counted, reduction, num_items_in_batch)
    _check_result(loss, student, teacher, targets)
    return loss


def forward_kl(
    student_logits: Tensor,
    teacher_logits: Tensor | TopK,
    labels: Tensor | None = None,
    **options: Unpack[LossOptions],
) -> Tensor:
    """KL(p || q) = SUM p log(p / q): the student must cover whatever the teacher finds probable.

    Infinite where q = 0 and p > 0. Gradient with respect to the student's logits: (q - p) / T.
    Arguments: see `distillation_loss` and `LossOptions`.

    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    >>> round(forward_kl(q.log(), p.log()).item(), 4)
    0.1438
    """
    return distillation_loss(student_logits, teacher_logits, labels, divergence="forward_kl", **options)


def reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor | TopK,
    labels: Tensor | None = None,
    **options: Unpack[LossOptions],
) -> Tensor:
    """KL(q || p) = SUM q log(q / p): the student must keep to what the teacher finds probable.

    Infinite where p = 0 and q > 0, so wherever a teacher's logit is -inf.
    Gradient with respect to the student's logits: q (log(q / p) - KL(q || p)) / T.
    Arguments: see `distillation_loss` and `LossOptions`.

    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    >>> round(reverse_kl(q.log(), p.log()).item(), 4)
    0.1308
    """
    return distillation_loss(student_logits, teacher_logits, labels, divergence="reverse_kl", **options)


def generalized_jsd(
    student_logits: Tensor,
    teacher_logits: Tensor | TopK,
    labels: Tensor | None = None,
    *,
    beta: float = 0.5,
    normalized: bool = False,
    **options: Unpack[LossOptions],
) -> Tensor:
    """beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q (Agarwal et al. 2024).

    beta = 0 is forward KL and beta = 1 reverse KL, as in TRL, although the plain formula tends to 0 there.
    `normalized=True` divides by beta (1 - beta) and has the two KLs as its limits. Bounded by log 2 unless
    normalized. Other arguments: see `distillation_loss` and `LossOptions`.

    >>> p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> round(generalized_jsd(q.log(), p.log()).item(), 4)
    0.6931
    """
    return distillation_loss(
        student_logits,
        teacher_logits,
        labels,
        divergence="generalized_jsd",
        beta=beta,
        normalized=normalized,
        **options,
    )


def skew_forward_kl(
    student_logits: Tensor,
    teacher_logits: Tensor | TopK,
    labels: Tensor | None = None,
    *,
    skew: float = 0.1,
    **options: Unpack[LossOptions],
) -> Tensor:
    """KL(p || skew p + (1 - skew) q) (Ko et al. 2024). At most -log(skew); skew = 0 is forward KL.

    Other arguments: see `distillation_loss` and `LossOptions`.

    >>> p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> round(skew_forward_kl(q.log(), p.log(), skew=0.1).item(), 4)
    2.3026
    """
    return distillation_loss(
        student_logits, teacher_logits, labels, divergence="skew_forward_kl", skew=skew, **options
    )


def skew_reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor | TopK,
    labels: Tensor | None = None,
    *,
    skew: float = 0.1,
    **options: Unpack[LossOptions],
) -> Tensor:
    """KL(q || (1 - skew) p + skew q) (Ko et al. 2024). At most -log(skew); skew = 0 is reverse KL.

    Other arguments: see `distillation_loss` and `LossOptions`.

    >>> p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> round(skew_reverse_kl(q.log(), p.log(), skew=0.1).item(), 4)
    2.3026
    """
    return distillation_loss(
        student_logits, teacher_logits, labels, divergence="skew_reverse_kl", skew=skew, **options
    )


def total_variation(
    student_logits: Tensor,
    teacher_logits: Tensor | TopK,
    labels: Tensor | None = None,
    **options: Unpack[LossOptions],
) -> Tensor:
    """1/2 SUM |p - q|, from 0 to 1. Its gradient falls as 1/T, so `temperature_scaling` multiplies by T.

    Arguments: see `distillation_loss` and `LossOptions`.

    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    >>> round(total_variation(q.log(), p.log()).item(), 4)
    0.25
    """
    return distillation_loss(student_logits, teacher_logits, labels, divergence="total_variation", **options)


def alpha_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor | TopK,
    labels: Tensor | None = None,
    *,
    alpha: float = 0.5,
    **options: Unpack[LossOptions],
) -> Tensor:
    """(SUM p^alpha q^(1 - alpha) - 1) / (alpha (alpha - 1)) (Amari 1985).

    alpha -> 1 is forward KL, alpha -> 0 reverse KL, alpha = 1/2 four times the squared Hellinger distance.
    Bounded for 0 < alpha < 1. Other arguments: see `distillation_loss` and `LossOptions`.

    >>> p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> round(alpha_divergence(q.log(), p.log(), alpha=0.5).item(), 4)
    4.0
    """
    return distillation_loss(
        student_logits, teacher_logits, labels, divergence="alpha_divergence", alpha=alpha, **options
    )


def squared_hellinger(
    student_logits: Tensor,
    teacher_logits: Tensor | TopK,
    labels: Tensor | None = None,
    **options: Unpack[LossOptions],
) -> Tensor:
    """1/2 SUM (sqrt p - sqrt q)^2, from 0 to 1. Arguments: see `distillation_loss` and `LossOptions`.

    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    >>> round(squared_hellinger(q.log(), p.log()).item(), 4)
    0.0341
    """
    return distillation_loss(
        student_logits, teacher_logits, labels, divergence="squared_hellinger", **options
    )


def chi_square(
    student_logits: Tensor,
    teacher_logits: Tensor | TopK,
    labels: Tensor | None = None,
    **options: Unpack[LossOptions],
) -> Tensor:
    """SUM (p - q)^2 / q (Pearson). Infinite where q = 0 and p > 0, and beyond float32 soon: then inf.

    Arguments: see `distillation_loss` and `LossOptions`.

    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    >>> round(chi_square(q.log(), p.log()).item(), 4)
    0.3333
    """
    return distillation_loss(student_logits, teacher_logits, labels, divergence="chi_square", **options)


class DistillationLoss(nn.Module):
    """`distillation_loss` with its options kept, for where a module is expected.

    >>> loss = DistillationLoss(divergence="generalized_jsd", beta=0.1, temperature=2.0)
    >>> loss(torch.zeros(3, 5), torch.zeros(3, 5)).item()
    0.0
    """

    def __init__(self, divergence: str = "forward_kl", ce_weight: float = 0.0, **options: Any):
        super().__init__()
        self.options: dict[str, Any] = {"divergence": divergence, "ce_weight": ce_weight, **options}

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | TopK,
        labels: Tensor | None = None,
        num_items_in_batch: int | Tensor | None = None,
    ) -> Tensor:
        """See `distillation_loss`."""
        return distillation_loss(
            student_logits, teacher_logits, labels, num_items_in_batch=num_items_in_batch, **self.options
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


def _select(
    student: Tensor, teacher: Tensor | TopK, labels: Tensor | None, counted: Tensor | None
) -> tuple[Tensor, Tensor | TopK, Tensor | None]:
    """The rows that count, so that whatever stands in the others is never looked at."""
    if labels is None or counted is None or bool(counted.all()):
        return student, teacher, labels
    chosen = teacher.select(counted) if isinstance(teacher, TopK) else teacher[counted]
    return student[counted], chosen, labels[counted]


def _same_events(
    student: Tensor, teacher: Tensor | TopK, temperature: float, vocabulary: Vocabulary
) -> tuple[Tensor, Tensor, float]:
    """Student and teacher logits over the same events, and the temperature that is still to be applied."""
    sizes = student.shape[-1], teacher.vocabulary if isinstance(teacher, TopK) else teacher.shape[-1]
    if sizes[0] != sizes[1] and vocabulary == "same":
        raise ValueError(
            f"teacher_logits: got a vocabulary of {sizes[1]}, expected the student's {sizes[0]}; "
            "vocabulary='common' compares the entries that both have"
        )
    if isinstance(teacher, TopK):
        if sizes[0] != sizes[1]:
            raise ValueError(
                "vocabulary: got 'common' with a TopK teacher, whose tail cannot be cut; expected 'same'"
            )
        if teacher.temperature != temperature:
            raise ValueError(
                f"temperature: got {temperature}, expected {teacher.temperature}, at which the teacher's "
                "top-k probabilities were taken"
            )
        return teacher.gather_events(at_least_float32(student) / temperature), teacher.events(), 1.0
    shorter = min(sizes)
    return student[..., :shorter], teacher[..., :shorter], temperature


def _cross_entropy(student: Tensor, labels: Tensor) -> Tensor:
    """CE(labels, q) at T = 1 of each token. A label out of range counts as the nearest one in range."""
    vocabulary = student.shape[-1]
    flat = functional.cross_entropy(
        at_least_float32(student).reshape(-1, vocabulary),
        labels.clamp(0, vocabulary - 1).reshape(-1).long(),
        reduction="none",
    )
    return flat.view(labels.shape)


def _reduce(
    tokens: Tensor,
    student_logits: Tensor,
    counted: Tensor | None,
    reduction: Reduction,
    num_items_in_batch: int | Tensor | None,
) -> Tensor:
    if reduction == "none":
        if tokens.shape == student_logits.shape[:-1]:
            return tokens
        assert counted is not None  # only a mask makes the two differ
        return tokens.new_zeros(counted.shape).masked_scatter(counted, tokens)
    total = tokens.sum()
    if reduction == "sum":
        return total
    if num_items_in_batch is None:
        return total / max(tokens.numel(), 1)
    if isinstance(num_items_in_batch, Tensor):
        return total / num_items_in_batch.to(total.device).clamp_min(1)
    return total / max(num_items_in_batch, 1)


def _check_inputs(student: Tensor, teacher: Tensor | TopK, labels: Tensor | None) -> None:
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


def _check_options(
    ce_weight: float,
    labels: Tensor | None,
    reduction: str,
    num_items_in_batch: int | Tensor | None,
    vocabulary: str,
) -> None:
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


def _check_result(loss: Tensor, student: Tensor, teacher: Tensor | TopK, labels: Tensor | None) -> None:
    """Look at the result alone, once; only when it is NaN is the cause looked for, on whatever device.

    NaN logits make the result NaN and so does a label out of range, so nothing is missed, and a healthy step
    pays for one number.
    """
    if torch.compiler.is_compiling() or not torch.isnan(loss.detach()).any():
        return
    if labels is not None:
        check_labels_range(labels, student.shape[-1])
    events = teacher.events() if isinstance(teacher, TopK) else teacher
    for name, logits in (("student_logits", student), ("teacher_logits", events)):
        bad = (logits.isnan() | (logits == torch.inf)).any(-1) | (logits == -torch.inf).all(-1)
        if bad.any():
            raise ValueError(
                f"{name}: got NaN, +inf or nothing but -inf in {int(bad.sum())} of {bad.numel()} counted "
                f"rows, first in row {int(bad.reshape(-1).nonzero()[0])}; expected finite logits, or -inf "
                "for an entry of probability 0"
            )
