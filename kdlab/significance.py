"""How sure is sure: what neither chance nor rounding explains, for the checks of `diagnose`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# One-sided, in standard errors: one chance in 2,000 for one test, one in a hundred for the dozen or so that a
# diagnosis makes.
SIGNIFICANT = 3.3


def standard_error(values: Tensor) -> float:
    """Of the mean of independent values; infinite for fewer than two.

    >>> standard_error(torch.tensor([1.0, 3.0])), standard_error(torch.tensor([1.0]))  # sqrt 2 / sqrt 2
    (1.0, inf)
    """
    return float(values.double().std() / math.sqrt(len(values))) if len(values) > 1 else math.inf


def critical(count: int) -> float:
    """The quantile of Student's t with count - 1 degrees of freedom that belongs to SIGNIFICANT.

    By the first terms of its expansion (Abramowitz and Stegun 26.7.5); infinite below four values, where the expansion
    says nothing.

    >>> critical(3), round(critical(20), 2), round(critical(10_000), 2)
    (inf, 3.9, 3.3)
    """
    if count < 4:
        return math.inf
    z, nu = SIGNIFICANT, count - 1
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / nu + second / nu**2 + third / nu**3


def lower_bound(values: Tensor) -> float:
    """What the mean of these values is above, all but certainly; -inf for too few of them.

    >>> lower_bound(torch.tensor([1.0, 1.0, 1.0, 1.0])), lower_bound(torch.tensor([1.0, 1.0]))
    (1.0, -inf)
    """
    reach = critical(len(values))
    return float(values.double().mean()) - reach * standard_error(values) if reach < math.inf else -math.inf


def surely_more(hits: int, trials: int, share: float) -> bool:
    """Whether more than `share` of all are hits, all but certainly, after so many in independent trials.

    >>> surely_more(10, 32, 0.1), surely_more(11, 32, 0.1)
    (False, True)
    """

    def chance(n: int) -> float:  # by logarithms: the binomial coefficient of a thousand trials is no float
        ways = math.lgamma(trials + 1) - math.lgamma(n + 1) - math.lgamma(trials - n + 1)
        return math.exp(ways + n * math.log(share) + (trials - n) * math.log1p(-share))

    return math.fsum(map(chance, range(hits, trials + 1))) < math.erfc(SIGNIFICANT / math.sqrt(2)) / 2


def rounding(logits: Tensor) -> float:
    """The largest KL that rounding alone puts between two computations of these logits.

    No sum in a model is much longer than its vocabulary V, so in float32 an entry is off by about sqrt(V) roundings,
    and by one more of its own type. Two distributions whose logits differ by d at most have a KL of d^2 / 2 at most
    (Hoeffding's lemma).

    >>> logits = torch.tensor([8.0, 0.0])
    >>> rounding(logits) < 1e-6, rounding(logits.bfloat16()) > 1e-3
    (True, True)
    """
    finite = logits[logits.isfinite()]
    size = max(float(finite.abs().max()) if len(finite) else 0.0, 1.0)
    roundings = math.sqrt(logits.shape[-1]) * torch.finfo(torch.float32).eps + torch.finfo(logits.dtype).eps
    return float((size * roundings) ** 2 / 2 + torch.finfo(torch.float32).eps)
