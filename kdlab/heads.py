"""From a model's last hidden states to its logits, some tokens at a time, and back to the gradients.

logits = soft_cap(scale * (hidden @ weight.T + bias)), in float32 at least: they are not rounded to half precision in
between, as those that a model returns are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.distributions import wide_dtype


@dataclass(frozen=True)
class Head:
    """A model's last hidden states and what makes logits of them.

    >>> hidden, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    >>> head = Head.of(hidden, weight, torch.tensor([0.5, 0.0, 0.0]), scale=2.0, soft_cap=None, vocabulary=2)
    >>> head.logits(slice(None))
    tensor([[3., 4.]])
    >>> totals = [torch.zeros(1, 2), torch.zeros(2, 2), torch.zeros(2)]
    >>> head.pull_back(slice(None), head.logits(slice(None)), torch.tensor([[1.0, 0.0]]), totals)
    >>> [total.tolist() for total in totals]
    [[[2.0, 0.0]], [[2.0, 4.0], [0.0, 0.0]], [2.0, 0.0]]
    """

    hidden: Tensor  # [tokens, hidden]
    weight: Tensor  # [vocabulary, hidden]
    bias: Tensor | None
    scale: float
    soft_cap: float | None

    @classmethod
    def of(
        cls,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: float,
        soft_cap: float | None,
        vocabulary: int,
    ) -> Head:
        """Flat, cut to the first entries of the vocabulary, and cast once instead of once a chunk."""
        hidden, weight = hidden.reshape(-1, hidden.shape[-1]), weight[:vocabulary]
        bias = None if bias is None else bias[:vocabulary]
        if not _multiply_as_they_are(hidden, weight):
            weight = weight.to(wide_dtype(hidden, weight, bias))
        return cls(hidden, weight, bias, scale, soft_cap)

    def logits(self, rows: slice | Tensor) -> Tensor:
        """[rows, vocabulary], float32 at least."""
        logits = _product(self.hidden[rows], self.weight.T)
        if self.bias is not None:
            logits.add_(self.bias)
        if self.scale != 1:
            logits.mul_(self.scale)
        if self.soft_cap is not None:
            logits.div_(self.soft_cap).tanh_().mul_(self.soft_cap)
        return logits

    def pull_back(
        self, rows: slice | Tensor, logits: Tensor, slope: Tensor, totals: list[Tensor | None]
    ) -> None:
        """Add a chunk's gradients to those of hidden, weight and bias. Overwrites the logits and their slope."""
        if self.soft_cap is not None:
            slope.mul_(logits.div_(self.soft_cap).square_().neg_().add_(1))  # d tanh = 1 - tanh^2
        if self.scale != 1:
            slope.mul_(self.scale)
        of_hidden, of_weight, of_bias = totals
        if of_bias is not None:
            of_bias[: slope.shape[-1]] += slope.sum(0)
        if self.weight.dtype == torch.bfloat16:
            slope = slope.bfloat16()
        if of_hidden is not None:
            of_hidden[rows] = _product(slope, self.weight)
        if of_weight is not None:
            _add_product(of_weight[: slope.shape[-1]], slope.T, self.hidden[rows])


def _multiply_as_they_are(a: Tensor, b: Tensor) -> bool:
    """Whether a matrix product can take 16-bit factors and give float32 (torch 2.8 and later, on CUDA)."""
    return a.is_cuda and a.dtype == b.dtype and a.dtype.itemsize == 2 and hasattr(torch.ops.aten.mm, "dtype")


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, added up in float32 at least."""
    if _multiply_as_they_are(a, b):
        return torch.mm(a, b, out_dtype=torch.float32)
    dtype = wide_dtype(a, b)
    return a.to(dtype) @ b.to(dtype)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, in one pass where the types allow it."""
    if _multiply_as_they_are(a, b):
        total.add_(_product(a, b))
    else:
        total.addmm_(a.to(total.dtype), b.to(total.dtype))
