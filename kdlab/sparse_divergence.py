"""The divergence from a top-k teacher: of two distributions over k + 1 events, its k entries and all the rest.

The tail's logit is a logsumexp over nearly the whole vocabulary, and its gradient the softmax within the tail:

    tail = logsumexp(z_v / T, v in the tail)        d tail / d z_v = softmax(z / T within the tail)_v / T

So the gradient is made beside the value, block by block: the logits are read once, the gradient is written once.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kdlab.distributions import TopK, at_least_float32, wide_dtype
from kdlab.divergences import Divergence, LogPair, may_hold
from kdlab.token_divergence import room_for_gradient, rows_in_block, weighed

# A block of rows that is worked through at once is so many times as large as that of whole distributions: most steps
# are over k + 1 events alone, and would be over before they are under way.
BLOCKS = 4
# log-probability of an event that there is not: the same on both sides it adds nothing to any divergence, and it is
# no 0, which takes the longer way.
NO_EVENT = -100 * math.log(2)


def sparse_divergence(
    divergence: Divergence,
    student_logits: Tensor,
    teacher: TopK,
    counted: Tensor | None = None,
    scale: float | Tensor = 1.0,
) -> Tensor:
    """scale * D(p, q) of every token over the events of `teacher`, at its temperature.

    Args:
        divergence: a member of the family, see `make_divergence`.
        student_logits: [..., vocabulary]; the gradient comes back in their dtype.
        teacher: its rows stand beside those of the student. An empty place is an event of probability 0 on both
            sides.
        counted: [...], boolean; where it is false the value and the gradient are 0, whatever the logits are.
            None: all count.
        scale: a number or a scalar tensor without grad.

    Returns:
        [...] in nats a token, float32 (float64 for float64 logits). Never above the divergence of the whole
        distributions (data processing inequality).

    >>> from kdlab.divergences import ForwardKL
    >>> p, q = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.25, 0.25, 0.5]])
    >>> sparse_divergence(ForwardKL(), q.log(), TopK.from_logits(p.log(), k=1))  # of (0.5, 0.5) and (0.25, 0.75)
    tensor([0.1438])
    """
    value: Tensor = _SparseDivergence.apply(student_logits, teacher, divergence, counted, scale)  # type: ignore[no-untyped-call]
    return value


class _SparseDivergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student_logits: Tensor,
        teacher: TopK,
        divergence: Divergence,
        counted: Tensor | None,
        scale: float | Tensor,
    ) -> Tensor:
        logits, places, log_p = (_rows(x) for x in (student_logits, teacher.indices, teacher.events()))
        temperature = teacher.temperature
        value = torch.empty(len(logits), dtype=wide_dtype(logits), device=logits.device)
        gradient = room_for_gradient(logits) if ctx.needs_input_grad[0] else None
        size = BLOCKS * rows_in_block(logits)
        for start in range(0, len(logits), size):
            rows = slice(start, start + size)
            events = _Events(logits[rows], places[rows], temperature)
            pair = LogPair(events.filled(log_p[rows].to(value.dtype)).log_softmax(1), events.log_softmax())
            value[rows] = divergence.value(pair) * scale
            if gradient is not None:
                events.back(divergence.logit_gradient(pair) * (scale / temperature), gradient[rows])
        if counted is not None:
            left_out = (~counted).reshape(-1).nonzero().squeeze(1)
            value.index_fill_(0, left_out, 0.0)
            if gradient is not None:
                gradient.index_fill_(0, left_out, 0.0)
        if gradient is not None:
            ctx.save_for_backward(gradient.view_as(student_logits))
            ctx.student_dtype = student_logits.dtype
        return value.view(student_logits.shape[:-1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return weighed(gradient, upstream, ctx.student_dtype), None, None, None, None


class _Events:
    """The student's logits over the events of some rows, and the way back from them to the vocabulary.

    Attributes:
        logits: [rows, k + 1], the entries and the tail, up to a number for each row.
        rest, total: share of each entry of the vocabulary in the tail is rest / total, [rows, vocabulary] and
            [rows, 1]; rest is 0 at the k entries.
    """

    def __init__(self, logits: Tensor, places: Tensor, temperature: float):
        scaled = at_least_float32(logits)
        if temperature != 1.0:
            scaled = scaled / temperature
        self.empty = places < 0
        # An empty place points to its row's first entry, which the tail lacks anyway.
        self.places = torch.where(self.empty, places[:, :1], places)
        entries = scaled.gather(1, self.places)
        if not (scaled.is_cpu and self._from_probabilities(scaled, entries)):
            self._from_the_rest(scaled)
        self.logits = torch.cat([entries.masked_fill_(self.empty, -math.inf), self.tail], dim=1)

    def log_softmax(self) -> Tensor:
        """The student's log-probabilities of the events."""
        return self.filled(self.logits.log_softmax(1))

    def filled(self, log_probabilities: Tensor) -> Tensor:
        """[rows, k + 1] with something in the empty places that is the same on both sides."""
        log_probabilities[:, :-1].masked_fill_(self.empty, NO_EVENT)
        return log_probabilities

    def _from_probabilities(self, scaled: Tensor, entries: Tensor) -> bool:
        """With one softmax, of the whole vocabulary; False where its underflow would show."""
        self.rest = scaled.softmax(1)
        largest = self.rest.gather(1, self.places).amax(1, keepdim=True)
        self.total = self.rest.scatter_(1, self.places, 0.0).sum(1, keepdim=True)
        # log q = z - (z_i - log q_i) for any i.
        self.tail = self.total.log() + (entries.amax(1, keepdim=True) - largest.log())
        # A comparison that is false for NaN, too. The root leaves room for what is divided by the total.
        return bool(torch.minimum(largest, self.total).amin() > torch.finfo(scaled.dtype).tiny ** 0.5)

    def _from_the_rest(self, scaled: Tensor) -> None:
        """With a softmax of the tail alone, which nothing beside it can push below float32."""
        # Not -inf but the lowest number: a tail that has nothing stays free of NaN.
        lowest = torch.finfo(scaled.dtype).min
        rest = scaled.scatter(1, self.places, lowest)
        # The largest share is 1 / SUM exp(z - max z): no second pass for the logsumexp.
        self.rest = rest.softmax(1)
        tail = rest.amax(1, keepdim=True) - self.rest.amax(1, keepdim=True).log()
        self.tail, self.total = tail.masked_fill_(tail < lowest / 2, -math.inf), torch.ones_like(tail)

    def back(self, slope: Tensor, gradient: Tensor) -> None:
        """Gradient with respect to the events' logits -> to the vocabulary's, written to `gradient`."""
        entries, tail = slope[:, :-1].masked_fill(self.empty, 0.0), slope[:, -1:] / self.total
        if gradient.dtype == tail.dtype:
            torch.mul(self.rest, tail, out=gradient)
        else:
            gradient.copy_(self.rest * tail)
        if may_hold(tail.isinf()):
            gradient.masked_fill_(self.rest == 0, 0.0)  # 0 * inf is NaN
        gradient.scatter_(1, self.places, 0.0).scatter_add_(1, self.places, entries.to(gradient.dtype))


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])
