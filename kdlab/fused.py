"""The losses from hidden states: chunks of tokens, so that the [tokens, vocabulary] logits never exist at once.

logits = soft_cap(scale * (hidden @ weight.T + bias)), for student and teacher. For each chunk of tokens both are
made, compared, and turned at once into the gradients of the student's hidden states, weight and bias; then they are
dropped. What stays until backward are these gradients, as large as what they belong to.

The mathematics is that of `losses.py`: `token_divergence.value_and_gradient` works through each chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdlab.arguments import (
    Reduction,
    Vocabulary,
    check_chunk_tokens,
    check_head,
    check_head_options,
    check_options,
    check_teacher_head,
    check_vocabulary_sizes,
    is_healthy,
    refuse_rows,
    unusable_rows,
)
from kdlab.distributions import (
    check_labels_range,
    check_labels_shape,
    check_temperature,
    log_probabilities,
    wide_dtype,
)
from kdlab.divergences import Divergence, make_divergence
from kdlab.heads import Head
from kdlab.losses import token_weight
from kdlab.token_divergence import room_for_gradient, rows_in_block, value_and_gradient, weighed

# Size of one side's logits of a chunk. Smaller, and reading the weights again for each chunk takes longer than
# multiplying by them; larger, and a chunk leaves a CPU's last cache while nothing is gained.
CHUNK_BYTES = {"cpu": 2**25, "other": 2**29}


def fused_linear_distillation_loss(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    labels: Tensor | None = None,
    student_bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    *,
    divergence: str = "forward_kl",
    ce_weight: float = 0.0,
    temperature: float = 1.0,
    temperature_scaling: bool = True,
    reduction: Reduction = "token_mean",
    ignore_index: int = -100,
    num_items_in_batch: int | Tensor | None = None,
    vocabulary: Vocabulary = "same",
    student_scale: float = 1.0,
    teacher_scale: float = 1.0,
    student_soft_cap: float | None = None,
    teacher_soft_cap: float | None = None,
    chunk_tokens: int | None = None,
    **parameters: Any,
) -> Tensor:
    """`distillation_loss` of the logits soft_cap(scale * (hidden @ weight.T + bias)), which never exist at once.

    Args:
        student_hidden: [batch, length, hidden] or [tokens, hidden], what goes into the student's last layer.
        student_weight: [vocabulary, hidden], that layer's weight, as `nn.Linear` keeps it.
        teacher_hidden: the same tokens; the teacher's own hidden size. Without grad, as all of the teacher.
        teacher_weight: [vocabulary, the teacher's hidden].
        labels: [batch, length] or [tokens]; nothing is computed where they are `ignore_index`. None: all count.
        student_bias, teacher_bias: [vocabulary], or None.
        divergence, ce_weight, temperature, temperature_scaling, reduction, ignore_index, num_items_in_batch,
            vocabulary: see `distillation_loss` and `LossOptions`.
        student_scale, teacher_scale: > 0; the logits are multiplied by it (Cohere's logit_scale, one over
            Granite's logits_scaling).
        student_soft_cap, teacher_soft_cap: > 0; logits become cap * tanh(logits / cap), after the scale (Gemma 2,
            arXiv 2408.00118, final_logit_softcapping). None: no cap.
        chunk_tokens: tokens in a chunk. None: as many as keep a chunk's logits within `CHUNK_BYTES`.
        **parameters: the divergence's own: beta, normalized, skew, alpha.

    Returns:
        A scalar in nats per token ([batch, length] with reduction="none"), float32 at least.

    Gradients are made in the forward pass, for the student's tensors that require grad and in their dtypes, and wait
    for backward; reduction="none" works them out in backward instead, where it learns what each token is weighed
    by. Half precision is multiplied and added up in float32, also under autocast, which is switched off here: the
    logits are not rounded in between, as those of a model are. On CUDA, bf16 or fp16 hidden states and weights are
    multiplied as they are (float32 ones would take the slow path), with float32 sums; bf16 also rounds the gradient
    of the logits to bf16, as a model's backward does.

    An infinite gradient of the logits (reverse KL where the teacher rules out a word that the student does not)
    makes infinite and NaN gradients here, as it does in any matrix product.

    Raises:
        ValueError: names the argument, what came and what was expected.

    >>> import kdlab
    >>> hidden, weight = torch.ones(1, 2, 3), torch.eye(4, 3, requires_grad=True)
    >>> teacher_hidden, teacher_weight = torch.ones(1, 2, 1), torch.tensor([[2.0], [0.0], [0.0], [1.0]])
    >>> labels = torch.tensor([[0, -100]])
    >>> loss = fused_linear_distillation_loss(hidden, weight, teacher_hidden, teacher_weight, labels)
    >>> same = kdlab.distillation_loss(hidden @ weight.T, teacher_hidden @ teacher_weight.T, labels)
    >>> round(loss.item(), 4) == round(same.item(), 4)
    True
    """
    member = make_divergence(divergence, **parameters)
    check_head("student", student_hidden, student_weight, student_bias)
    check_head("teacher", teacher_hidden, teacher_weight, teacher_bias)
    check_teacher_head(student_hidden, teacher_hidden, teacher_weight, teacher_bias)
    check_head_options("student", student_scale, student_soft_cap)
    check_head_options("teacher", teacher_scale, teacher_soft_cap)
    if labels is not None:
        check_labels_shape(labels, student_hidden)
    check_options(ce_weight, labels, reduction, num_items_in_batch, vocabulary)
    check_temperature(temperature)
    check_chunk_tokens(chunk_tokens)

    counted = None if labels is None else labels != ignore_index
    weight = token_weight(student_hidden, counted, reduction, num_items_in_batch)
    longest = student_weight.shape[0]
    shared, teacher = longest, None
    if ce_weight < 1:
        check_vocabulary_sizes("teacher_weight", longest, teacher_weight.shape[0], vocabulary)
        shared = min(longest, teacher_weight.shape[0])
        teacher = Head.of(
            teacher_hidden, teacher_weight, teacher_bias, teacher_scale, teacher_soft_cap, shared
        )
    work = _Work(
        divergence=member,
        temperature=temperature,
        teacher=teacher,
        labels=None if labels is None else labels.reshape(-1),
        counted=None if counted is None else counted.reshape(-1),
        shared=shared,
        longest=longest,
        student_scale=student_scale,
        student_soft_cap=student_soft_cap,
        soft=(1 - ce_weight)
        * temperature ** (member.temperature_power if temperature_scaling else 0)
        * weight,
        hard=ce_weight * weight if ce_weight > 0 else None,
        chunk_tokens=chunk_tokens,
    )
    sides: tuple[Tensor | None, ...] = (student_hidden, student_weight, student_bias)
    if not torch.is_grad_enabled():  # a weight requires grad then too, but nobody will ask for its gradient
        sides = tuple(None if side is None else side.detach() for side in sides)
    loss: Tensor
    if reduction == "none":
        loss = _EachToken.apply(*sides, work).view(student_hidden.shape[:-1])  # type: ignore[no-untyped-call]
    else:
        loss = _Sum.apply(*sides, work)  # type: ignore[no-untyped-call]
    if not is_healthy(loss):
        work.refuse_values(student_hidden, student_weight, student_bias)
    return loss


class FusedLinearDistillationLoss(nn.Module):
    """`fused_linear_distillation_loss` with its options kept, for where a module is expected.

    >>> loss = FusedLinearDistillationLoss(divergence="generalized_jsd", beta=0.1, temperature=2.0)
    >>> loss(torch.ones(3, 2), torch.zeros(5, 2), torch.ones(3, 4), torch.zeros(5, 4)).item()
    0.0
    """

    def __init__(self, divergence: str = "forward_kl", ce_weight: float = 0.0, **options: Any):
        super().__init__()
        known = fused_linear_distillation_loss.__kwdefaults__ or {}
        # A misspelt name is refused here, not at the first batch.
        make_divergence(divergence, **{name: value for name, value in options.items() if name not in known})
        self.options: dict[str, Any] = {"divergence": divergence, "ce_weight": ce_weight, **options}

    def forward(
        self,
        student_hidden: Tensor,
        student_weight: Tensor,
        teacher_hidden: Tensor,
        teacher_weight: Tensor,
        labels: Tensor | None = None,
        student_bias: Tensor | None = None,
        teacher_bias: Tensor | None = None,
        num_items_in_batch: int | Tensor | None = None,
    ) -> Tensor:
        """See `fused_linear_distillation_loss`."""
        return fused_linear_distillation_loss(
            student_hidden,
            student_weight,
            teacher_hidden,
            teacher_weight,
            labels,
            student_bias,
            teacher_bias,
            **{"num_items_in_batch": num_items_in_batch, **self.options},
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


@dataclass(frozen=True)
class _Work:
    """All that a loss needs besides the student's tensors."""

    divergence: Divergence
    temperature: float
    teacher: Head | None  # None: cross-entropy alone
    labels: Tensor | None  # [tokens]
    counted: Tensor | None  # [tokens]
    shared: int  # entries of the vocabulary that both sides have
    longest: int  # entries of the student's
    student_scale: float
    student_soft_cap: float | None
    soft: float | Tensor  # what a token's divergence is multiplied by
    hard: float | Tensor | None  # and its cross-entropy; None: there is none
    chunk_tokens: int | None

    def student(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Head:
        vocabulary = self.shared if self.hard is None else self.longest
        return Head.of(hidden, weight, bias, self.student_scale, self.student_soft_cap, vocabulary)

    def compute(
        self, sides: tuple[Tensor, Tensor, Tensor | None], wanted: tuple[bool, ...], upstream: Tensor | None
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Every token's loss, [tokens], and the gradients of those sides of which it is wanted, float32 at least."""
        student, dtype = self.student(*sides), wide_dtype(*sides)
        value = torch.zeros(len(student.hidden), dtype=dtype, device=student.hidden.device)
        totals = [
            torch.zeros_like(side, dtype=dtype, memory_format=torch.contiguous_format)
            if side is not None and want
            else None
            for side, want in zip((student.hidden, *sides[1:]), wanted, strict=True)
        ]
        with torch.autocast(student.hidden.device.type, enabled=False):
            for rows in self.chunks(student):
                logits = student.logits(rows)
                value[rows], slope = self.chunk(logits, rows, any(wanted))
                if slope is None:
                    continue
                if upstream is not None:
                    weight = upstream[rows].unsqueeze(-1)
                    # A token that weighs nothing sends nothing back, even where its own gradient is infinite.
                    slope.mul_(weight).masked_fill_(weight == 0, 0.0)
                student.pull_back(rows, logits, slope, totals)
        if self.labels is not None and self.counted is not None:
            # NaN shows a label out of range without a wait; `refuse_values` then explains it.
            wrong = self.counted & ((self.labels < 0) | (self.labels >= self.longest))
            value.masked_fill_(wrong, math.nan)
        if totals[0] is not None:
            totals[0] = totals[0].view_as(sides[0])
        return value, totals

    def chunk(self, logits: Tensor, rows: slice | Tensor, with_slope: bool) -> tuple[Tensor, Tensor | None]:
        """The loss of each token of a chunk, and its gradient with respect to the student's logits."""
        value, slope = logits.new_zeros(len(logits)), None
        if self.teacher is None:
            slope = torch.zeros_like(logits) if with_slope else None
        else:
            student, teacher = logits[:, : self.shared], self.teacher.logits(rows)
            if with_slope:
                reuse = teacher if self.shared == logits.shape[-1] else None
                slope = room_for_gradient(logits, reuse)
                slope[:, self.shared :] = 0.0
            into = None if slope is None else slope[:, : self.shared]
            value = value_and_gradient(
                self.divergence, student, teacher, self.temperature, None, self.soft, into
            )
        if self.hard is not None and self.labels is not None:
            labels = self.labels[rows].clamp(0, self.longest - 1).long()
            _add_cross_entropy(value, slope, logits, labels, self.hard)
        return value, slope

    def chunks(self, student: Head) -> list[slice] | list[Tensor]:
        """The rows that count, some at a time, all chunks of about the same size."""
        number, rows = len(student.hidden), None
        if self.counted is not None:
            rows = self.counted.nonzero().squeeze(-1)
            rows, number = (None, number) if len(rows) == number else (rows, len(rows))
        size = self.chunk_tokens
        if size is None:
            itemsize = wide_dtype(student.hidden, student.weight).itemsize
            budget = CHUNK_BYTES["cpu" if student.hidden.device.type == "cpu" else "other"]
            most = max(1, budget // (len(student.weight) * itemsize))
            size = math.ceil(number / max(1, math.ceil(number / most)))
        starts = range(0, number, max(1, size))
        if rows is None:
            return [slice(start, start + size) for start in starts]
        return [rows[start : start + size] for start in starts]

    @torch.no_grad()
    def refuse_values(self, *sides: Any) -> None:
        """Look for the cause of a NaN, in the labels and in the logits of both sides."""
        if self.labels is not None and self.counted is not None:
            check_labels_range(self.labels[self.counted], self.longest)
        student = self.student(*sides)
        for name, head in (("student", student), ("teacher", self.teacher)):
            if head is not None:
                bad = [unusable_rows(head.logits(rows)) for rows in self.chunks(student)]
                refuse_rows(f"{name}_hidden, {name}_weight: logits", torch.cat(bad))


class _Sum(torch.autograd.Function):
    """The sum over all tokens. Its gradients need only be multiplied in backward, so they are made in forward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, work: _Work) -> Tensor:
        sides = (hidden, weight, bias)
        value, gradients = work.compute(sides, ctx.needs_input_grad[:3], None)
        ctx.dtypes = [None if side is None else side.dtype for side in sides]
        # fp16 would flush small entries before a loss scale lifts them: float32 until then.
        kept = [
            gradient if gradient is None or dtype == torch.float16 else gradient.to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        ctx.save_for_backward(*kept)
        return value.sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (
            None if gradient is None else weighed(gradient, upstream, dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return (*gradients, None)


class _EachToken(torch.autograd.Function):
    """Each token on its own, [tokens]. Backward works through the chunks again, with each token's weight."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, work: _Work) -> Tensor:
        ctx.save_for_backward(hidden, weight, bias)
        ctx.work = work
        return work.compute((hidden, weight, bias), (False, False, False), None)[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        sides = ctx.saved_tensors
        gradients = ctx.work.compute(sides, ctx.needs_input_grad[:3], upstream)[1]
        return (
            *(None if g is None else g.to(side.dtype) for g, side in zip(gradients, sides, strict=True)),
            None,
        )


def _add_cross_entropy(
    value: Tensor, slope: Tensor | None, logits: Tensor, labels: Tensor, factor: float | Tensor
) -> None:
    """value += factor * CE(labels, q at T = 1) and slope += factor * (q - 1 at the label), some rows at a time."""
    size = rows_in_block(logits)
    for start in range(0, len(logits), size):
        rows = slice(start, start + size)
        log_q, label = log_probabilities(logits[rows]), labels[rows].unsqueeze(-1)
        value[rows] -= factor * log_q.gather(-1, label).squeeze(-1)
        if slope is not None:
            q = log_q.exp_()
            slope[rows] += q.scatter_add_(-1, label, q.new_full((), -1.0).expand_as(label)).mul_(factor)
