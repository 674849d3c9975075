"""Forward KL straight from logits, with two exponentials an entry, for the CPU.

The general way (`divergences.py`) takes four: two for the normalisers, p, and q / p. Here the student's normaliser
is not taken from its logits but from the ratio. With d = z - z', student's less teacher's logits, and any number c,

    q / p = e^(d - c) / SUM p e^(d - c),    KL(p || q) = log SUM p e^(d - c) - SUM p (d - c).

c = SUM p d is the choice that keeps float32 exact: the sum is e^KL then, never below 1 (Jensen), and near p = q every
exponent is near 0, where expm1 loses nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import vecdot

# An offset between the two sides' logits costs its own size in rounding. The general way has no such loss.
LARGEST_OFFSET = 16.0


class ForwardKLOfLogits(NamedTuple):
    """KL(p || q) of some tokens, [tokens], and q - p = factor * slope, [tokens, 1] * [tokens, vocabulary]."""

    value: Tensor
    slope: Tensor
    factor: Tensor


def forward_kl_of_logits(student: Tensor, teacher: Tensor) -> ForwardKLOfLogits | None:
    """KL(p || q) and its gradient with respect to the student's logits.

    Args:
        student, teacher: [tokens, vocabulary], float32 or float64, divided by the temperature already.

    Returns:
        None where this way would not be exact: a p that underflows or is 0, logits far apart, NaN or infinity.

    >>> found = forward_kl_of_logits(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    >>> found.value, found.factor * found.slope
    (tensor([0.1109]), tensor([[ 0.2311, -0.2311]]))
    """
    p = teacher.softmax(-1)
    # Comparisons that are false for NaN, too.
    if not p.amin() > torch.finfo(p.dtype).tiny:
        return None
    distance = student - teacher
    offset = vecdot(p, distance).unsqueeze(-1)
    if not offset.abs().amax() < LARGEST_OFFSET:
        return None
    distance -= offset
    excess = distance.expm1()
    total = vecdot(p, excess)
    if not total.amax() < torch.finfo(p.dtype).max:
        return None
    # SUM p (d - c) is what rounding left in c.
    value = (total.log1p() - vecdot(p, distance)).clamp_min_(0.0)
    total = total.unsqueeze(-1)
    return ForwardKLOfLogits(value, excess.sub_(total).mul_(p), 1 / (1 + total))
