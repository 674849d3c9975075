"""A divergence of every token, and its closed-form gradient, without [tokens, vocabulary] temporaries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlab.distributions import log_probabilities, scaled_logits, wide_dtype
from kdlab.divergences import Divergence, ForwardKL, LogPair, may_hold
from kdlab.forward_kl import forward_kl_of_logits

# Rows are worked through in blocks of about this many entries, so that a CPU keeps a block's temporaries in
# its cache and the float32 copies of half-precision logits never exist for all tokens at once.
BLOCK_ENTRIES = {"cpu": 2**18, "other": 2**26}


def token_divergence(
    divergence: Divergence,
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    counted: Tensor | None = None,
    scale: float | Tensor = 1.0,
    overwrite_teacher: bool = False,
) -> Tensor:
    """scale * D(p, q) of every token, with the closed-form gradient with respect to the student's logits.

    Args:
        divergence: a member of the family, see `make_divergence`.
        student_logits: [..., vocabulary]; the gradient comes back in their dtype.
        teacher_logits: [..., vocabulary], same shape; no gradient flows into them.
        temperature: > 0; both softmaxes are taken at it. The value is not scaled by it.
        counted: [...], boolean; where it is false the value and the gradient are 0, whatever the logits are.
            None: all count.
        scale: a number or a scalar tensor without grad. Given here, it costs no pass of its own over the gradient.
        overwrite_teacher: the teacher's logits are not needed any more, and the gradient may take their place
            where type and layout allow it: one [tokens, vocabulary] tensor less.

    Returns:
        [...] in nats a token, float32 (float64 for float64 logits).

    >>> student = torch.tensor([[0.25, 0.75]]).log().requires_grad_()
    >>> value = token_divergence(ForwardKL(), student, torch.tensor([[0.5, 0.5]]).log())
    >>> value.sum().backward()
    >>> value.detach(), student.grad  # the gradient is q - p
    (tensor([0.1438]), tensor([[-0.2500,  0.2500]]))
    """
    value: Tensor = _TokenDivergence.apply(  # type: ignore[no-untyped-call]
        student_logits, teacher_logits, divergence, temperature, counted, scale, overwrite_teacher
    )
    return value


class _TokenDivergence(torch.autograd.Function):
    """Computes the gradient beside the value, so that only one [tokens, vocabulary] tensor is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        student_logits: Tensor,
        teacher_logits: Tensor,
        divergence: Divergence,
        temperature: float,
        counted: Tensor | None,
        scale: float | Tensor,
        overwrite_teacher: bool,
    ) -> Tensor:
        vocabulary = student_logits.shape[-1]
        student, teacher = student_logits.reshape(-1, vocabulary), teacher_logits.reshape(-1, vocabulary)
        gradient = None
        if ctx.needs_input_grad[0]:
            gradient = room_for_gradient(student, teacher if overwrite_teacher else None)
        value = value_and_gradient(divergence, student, teacher, temperature, counted, scale, gradient)
        if gradient is not None:
            if student.dtype == torch.float16:
                _saturate(gradient)
            ctx.save_for_backward(gradient.view_as(student_logits))
            ctx.student_dtype = student_logits.dtype
        return value.view(student_logits.shape[:-1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return weighed(gradient, upstream, ctx.student_dtype), None, None, None, None, None, None


def weighed(gradient: Tensor, upstream: Tensor, dtype: torch.dtype) -> Tensor:
    """A gradient that was made in the forward pass, times what comes from above: a number, or one for each row.

    >>> weighed(torch.tensor([[1.0, -1.0], [torch.inf, 0.0]]), torch.tensor([2.0, 0.0]), torch.float32)
    tensor([[ 2., -2.],
            [ 0.,  0.]])
    """
    if may_hold(upstream != 1):  # a sum leaves 1 here, and with it the gradient is as it should be
        gradient = gradient * upstream.unsqueeze(-1)
        # A token that weighs nothing sends nothing back, even where its own gradient is infinite.
        gradient.masked_fill_((upstream == 0).unsqueeze(-1), 0.0)
    return gradient.to(dtype)


def value_and_gradient(
    divergence: Divergence,
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    counted: Tensor | None,
    scale: float | Tensor,
    gradient: Tensor | None,
) -> Tensor:
    """scale * D of every row of [tokens, vocabulary] logits; its gradient is written to `gradient`, if there is one.

    Block by block, a block being read before it is written: `gradient` may be the teacher's logits themselves.

    >>> q, p = torch.tensor([[0.25, 0.75]]), torch.tensor([[0.5, 0.5]])
    >>> room = room_for_gradient(q)
    >>> value_and_gradient(ForwardKL(), q.log(), p.log(), 1.0, None, 10.0, room), room
    (tensor([1.4384]), tensor([[-2.5000,  2.5000]]))
    """
    value = torch.zeros(len(student), dtype=wide_dtype(student), device=student.device)
    blocks, left_out = _blocks(student, counted)
    for rows in blocks:
        of_rows, slope, factor = _of_block(
            divergence,
            scaled_logits(student[rows], temperature),
            scaled_logits(teacher[rows], temperature).to(value.dtype),
            with_slope=gradient is not None,
        )
        value[rows] = of_rows * scale
        if gradient is not None and slope is not None:
            _write(gradient, rows, slope, factor * scale / temperature)
    value[left_out] = 0.0
    if gradient is not None:
        gradient[left_out] = 0.0
    return value


def _of_block(
    divergence: Divergence, student: Tensor, teacher: Tensor, *, with_slope: bool
) -> tuple[Tensor, Tensor | None, float | Tensor]:
    """D of some rows of logits at temperature 1, and slope and factor, whose product is its gradient."""
    if isinstance(divergence, ForwardKL) and student.is_cpu:
        found = forward_kl_of_logits(student, teacher)
        if found is not None:
            return found
    pair = LogPair(log_probabilities(teacher), log_probabilities(student))
    return divergence.value(pair), divergence.logit_gradient(pair) if with_slope else None, 1.0


def room_for_gradient(student: Tensor, teacher: Tensor | None = None) -> Tensor:
    """Where the gradient is written: a tensor of its own, or the teacher's logits if they are given and fit.

    Float32 for fp16, which flushes small entries before a loss scale lifts them.

    >>> student, teacher = torch.zeros(2, 3).half(), torch.zeros(2, 3)
    >>> room_for_gradient(student).dtype, room_for_gradient(student, teacher) is teacher
    (torch.float32, True)
    """
    dtype = torch.float32 if student.dtype == torch.float16 else student.dtype
    if teacher is not None and teacher.dtype == dtype and teacher.is_contiguous():
        return teacher
    return torch.empty_like(student, dtype=dtype)


def _write(gradient: Tensor, rows: slice | Tensor, slope: Tensor, factor: float | Tensor) -> None:
    """gradient[rows] = factor * slope, in one pass where the rows lie together."""
    if isinstance(rows, slice):
        torch.mul(slope, factor, out=gradient[rows])
    else:
        gradient[rows] = slope.mul_(factor).to(gradient.dtype)


def _saturate(gradient: Tensor) -> None:
    """Keep finite what fp16 could not hold. Before the upstream gradient comes in, so that a loss scale that
    is too large still overflows, as GradScaler needs it to."""
    largest = torch.finfo(torch.float16).max
    gradient.copy_(torch.where(gradient.isinf(), gradient, gradient.clamp(-largest, largest)))


def rows_in_block(logits: Tensor) -> int:
    """How many rows of [tokens, vocabulary] logits are worked through at once.

    >>> rows_in_block(torch.zeros(5, 32, device="cpu")), BLOCK_ENTRIES["cpu"] // 32
    (8192, 8192)
    """
    entries = BLOCK_ENTRIES["cpu" if logits.device.type == "cpu" else "other"]
    return max(1, entries // logits.shape[-1])


def _blocks(logits: Tensor, counted: Tensor | None) -> tuple[list[slice] | list[Tensor], slice | Tensor]:
    """Blocks of rows of [tokens, vocabulary] logits that hold all rows that count, and the rows that do not."""
    size = rows_in_block(logits)
    every = [slice(start, start + size) for start in range(0, len(logits), size)]
    if counted is None:
        return every, slice(0)
    rows = counted.reshape(-1).nonzero().squeeze(-1)
    left_out = (~counted).reshape(-1).nonzero().squeeze(-1)
    # To gather the rows that count costs about as much as to work through a third more of them.
    if len(rows) > 0.75 * len(logits):
        return every, left_out
    return [rows[start : start + size] for start in range(0, len(rows), size)], left_out
