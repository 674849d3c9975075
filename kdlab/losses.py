"""Loss(Pr^t, Pr_theta^s, x): labels, masks, reduction, temperature and the mix with cross-entropy.

Every loss takes the student's logits first. `labels[..., i]` belong to `logits[..., i, :]`: nothing is
shifted here. A decoder-only model's logits and labels go through `distributions.align(..., "causal")` first.
"""

from __future__ import annotations

import math
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdlab.arguments import (
    Reduction,
    Vocabulary,
    check_ce_weight,
    check_inputs,
    check_options,
    check_result,
    check_same_temperature,
    check_vocabularies,
)
from kdlab.distributions import TopK, at_least_float32, check_temperature, wide_dtype
from kdlab.divergences import make_divergence
from kdlab.sparse_divergence import sparse_divergence
from kdlab.token_divergence import token_divergence


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
    overwrite_teacher: allow the gradient to be written where the teacher's logits are, which are then lost: one
        [tokens, vocabulary] tensor less; default False.
    """

    temperature: float
    temperature_scaling: bool
    reduction: Reduction
    ignore_index: int
    num_items_in_batch: int | Tensor | None
    vocabulary: Vocabulary
    overwrite_teacher: bool


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
    overwrite_teacher: bool = False,
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
        temperature, temperature_scaling, reduction, ignore_index, num_items_in_batch, vocabulary,
            overwrite_teacher: see `LossOptions`.
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
    check_inputs(student_logits, teacher_logits, labels)
    check_options(ce_weight, labels, reduction, num_items_in_batch, vocabulary)
    check_temperature(temperature)

    counted = None if labels is None else labels != ignore_index
    weight = token_weight(student_logits, counted, reduction, num_items_in_batch)
    tokens = student_logits.new_zeros(student_logits.shape[:-1], dtype=wide_dtype(student_logits))
    if ce_weight < 1:
        check_vocabularies(student_logits, teacher_logits, vocabulary)
        power = member.temperature_power if temperature_scaling else 0
        scale = (1 - ce_weight) * temperature**power * weight
        if isinstance(teacher_logits, TopK):
            check_same_temperature(temperature, teacher_logits)
            tokens = tokens + sparse_divergence(member, student_logits, teacher_logits, counted, scale)
        else:
            shorter = min(student_logits.shape[-1], teacher_logits.shape[-1])
            pair = student_logits[..., :shorter], teacher_logits[..., :shorter]
            tokens = tokens + token_divergence(member, *pair, temperature, counted, scale, overwrite_teacher)
    if labels is not None and counted is not None:
        if ce_weight > 0:
            tokens = tokens + ce_weight * weight * _cross_entropy(student_logits, labels, counted)
        # NaN shows a label out of range without a wait; `check_result` then explains it.
        wrong = counted & ((labels < 0) | (labels >= student_logits.shape[-1]))
        tokens = tokens.masked_fill(wrong, torch.nan)
    loss = tokens if reduction == "none" else tokens.sum()
    check_result(loss, student_logits, teacher_logits, labels, counted)
    return loss


def forward_kl(
    student_logits: Tensor,
    teacher_logits: Tensor | TopK,
    labels: Tensor | None = None,
    **options: Unpack[LossOptions],
) -> Tensor:
    """KL(p || q) = SUM p log(p / q): the student must cover whatever the teacher finds probable.

    Infinite where q = 0 and p > 0. Gradient with respect to the student's logits: T (q - p), T^2 included.
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
    Gradient with respect to the student's logits: T q (log(q / p) - KL(q || p)), T^2 included.
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
        parameters = {
            name: value for name, value in options.items() if name not in LossOptions.__annotations__
        }
        # What is misspelt or out of range is refused here, not at the first batch.
        make_divergence(divergence, **parameters)
        check_temperature(options.get("temperature", 1.0))
        check_ce_weight(ce_weight)
        self.options: dict[str, Any] = {"divergence": divergence, "ce_weight": ce_weight, **options}

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | TopK,
        labels: Tensor | None = None,
        num_items_in_batch: int | Tensor | None = None,
        overwrite_teacher: bool = False,
    ) -> Tensor:
        """See `distillation_loss`."""
        return distillation_loss(
            student_logits,
            teacher_logits,
            labels,
            num_items_in_batch=num_items_in_batch,
            overwrite_teacher=overwrite_teacher,
            **self.options,
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


def _cross_entropy(student: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """CE(labels, q) at T = 1 of each token, [batch, length]; 0 where a token does not count.

    A label out of range counts as the nearest one in range.
    """
    vocabulary = student.shape[-1]
    chosen = functional.cross_entropy(
        at_least_float32(student[counted]),
        labels[counted].clamp(0, vocabulary - 1).long(),
        reduction="none",
    )
    return chosen.new_zeros(counted.shape).masked_scatter(counted, chosen)


def token_weight(
    student: Tensor, counted: Tensor | None, reduction: Reduction, num_items_in_batch: int | Tensor | None
) -> float | Tensor:
    """What every token is multiplied by before the tokens, student [..., any], are summed up.

    >>> student, counted = torch.zeros(1, 4, 3), torch.tensor([[True, True, False, False]])
    >>> token_weight(student, counted, "token_mean", None), token_weight(student, counted, "token_mean", 8)
    (tensor(0.5000), 0.125)
    """
    if reduction in ("sum", "none"):
        return 1.0
    items = num_items_in_batch
    if items is None:
        items = math.prod(student.shape[:-1]) if counted is None else counted.sum()
    if isinstance(items, Tensor):
        return 1 / items.to(student.device, wide_dtype(student)).clamp_min(1)
    return 1 / max(items, 1)
