"""The student's logits over the k + 1 events that a top-k teacher tells apart: its k entries, and all the rest.

The tail's logit is a logsumexp over nearly the whole vocabulary. Its gradient is the softmax within the tail, which
is there already once the value is: one pass over [tokens, vocabulary] forward, one backward.

    d tail / d z_v = softmax(z / T over the tail)_v / T     for v in the tail
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kdlab.distributions import TopK, at_least_float32
from kdlab.token_divergence import BLOCK_ENTRIES


def gather_events(
    student_logits: Tensor, teacher: TopK, temperature: float = 1.0, counted: Tensor | None = None
) -> Tensor:
    """Logits over the events of `teacher`: those of its entries, then the logsumexp of all others.

    Args:
        student_logits: [..., vocabulary]; the gradient comes back in their dtype.
        teacher: whose rows stand beside those of the student.
        temperature: > 0; the logits are divided by it first.
        counted: [...], boolean; where it is false the gradient is 0, whatever the logits are. None: all count.

    Returns:
        [..., k + 1], float32 (float64 for float64 logits); -inf for an empty place, and for a tail that has nothing.

    >>> top = TopK.from_logits(torch.tensor([3.0, 2.0, 1.0, 1.0]), k=2)
    >>> gather_events(torch.tensor([0.1, 0.2, 0.3, 0.4]).log(), top).exp()
    tensor([0.1000, 0.2000, 0.7000])
    """
    events: Tensor = _Events.apply(student_logits, teacher.indices, temperature, counted)  # type: ignore[no-untyped-call]
    return events


class _Events(torch.autograd.Function):
    """Keeps the softmax within the tail, [tokens, vocabulary], for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, student_logits: Tensor, indices: Tensor, temperature: float, counted: Tensor | None
    ) -> Tensor:
        logits, places = _rows(student_logits), _rows(indices)
        empty = places < 0
        # An empty place points to its row's first entry, which the tail lacks anyway.
        places = torch.where(empty, places[:, :1], places)
        entries = _scaled(logits.gather(1, places), temperature).masked_fill(empty, -math.inf)
        tail = entries.new_empty(len(logits))
        # Float32 for fp16, which flushes small shares before a loss scale lifts them.
        share = torch.empty_like(logits, dtype=entries.dtype if logits.dtype == torch.float16 else None)
        # Not -inf but the lowest number: a tail that has nothing stays free of NaN.
        lowest = torch.finfo(entries.dtype).min
        for rows in _blocks(logits):
            rest = _scaled(logits[rows], temperature).scatter(1, places[rows], lowest)
            within = rest.softmax(1)
            share[rows] = within
            tail[rows] = rest.amax(1) - within.amax(1).log()
        tail.masked_fill_(tail < lowest / 2, -math.inf)
        ctx.save_for_backward(share, places, empty, counted)
        ctx.temperature, ctx.shape, ctx.dtype = temperature, student_logits.shape, logits.dtype
        return torch.cat([entries, tail.unsqueeze(1)], dim=1).view(*student_logits.shape[:-1], -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        share, places, empty, counted = ctx.saved_tensors
        upstream = _rows(upstream / ctx.temperature)
        own = upstream[:, :-1].masked_fill(empty, 0.0).to(share.dtype)
        gradient = share * upstream[:, -1:].to(share.dtype)
        gradient.scatter_(1, places, 0.0).scatter_add_(1, places, own)
        if counted is not None:
            gradient.index_fill_(0, (~counted).reshape(-1).nonzero().squeeze(1), 0.0)
        return gradient.view(ctx.shape).to(ctx.dtype), None, None, None


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    logits = at_least_float32(logits)
    return logits if temperature == 1.0 else logits / temperature


def _blocks(logits: Tensor) -> Iterator[slice]:
    """All rows, in blocks that a CPU's cache can hold."""
    size = max(1, BLOCK_ENTRIES["cpu" if logits.device.type == "cpu" else "other"] // logits.shape[-1])
    return (slice(start, start + size) for start in range(0, len(logits), size))
