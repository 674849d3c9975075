"""The family of divergences between a teacher's p and a student's q, token by token.

Every member is an f-divergence: D(p, q) = SUM_v q_v f(p_v / q_v), f convex, f(1) = 0 (Csiszar 1967). So one
definition gives them all, and with it one closed form of the gradient with respect to the student's logits z,
q = softmax(z / T):

    dD/dz_v = (s_v - q_v SUM_w s_w) / T     where  s_v = q_v * d(q_v f(p_v / q_v))/dq_v

`generator` is f, as it stands in a book. `terms` and `slope` are q f(p/q) and s, rewritten so that they hold
in float32 for any logits: they work on log p and log q, and no member subtracts numbers that nearly cancel.
`slope` is known up to a multiple of q, which the gradient's second term takes away again.

Where the true value is infinite, or beyond float32, the value is inf and the gradient holds +-inf: never NaN.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor


class LogPair:
    """log p and log q of some tokens, [tokens, vocabulary], and what the divergences share of them.

    >>> pair = LogPair(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log())
    >>> pair.log_ratio.exp(), pair.mixture(0.5)
    (tensor([[2.0000, 0.6667]]), tensor([[0.3750, 0.6250]]))
    """

    def __init__(self, log_p: Tensor, log_q: Tensor):
        self.log_p, self.log_q = log_p, log_q
        self._to_mixture: dict[float, tuple[Tensor, Tensor]] = {}

    @cached_property
    def p(self) -> Tensor:
        return self.log_p.exp()

    @cached_property
    def q(self) -> Tensor:
        return self.log_q.exp()

    @cached_property
    def log_ratio(self) -> Tensor:
        """log(p / q); NaN where both are 0, which every user of it masks by p or q."""
        return self.log_p - self.log_q

    @cached_property
    def excess(self) -> Tensor:
        """q / p - 1, exact near p = q."""
        return (self.log_q - self.log_p).expm1_()

    @cached_property
    def p_underflows(self) -> bool:
        """Whether a p is too small to be multiplied by q / p."""
        return may_hold(~(self.p.amin() > torch.finfo(self.p.dtype).tiny))  # not <=, which would miss NaN

    def to_mixture(self, weight: float) -> tuple[Tensor, Tensor]:
        """log(m / p) and log(m / q) for m = weight p + (1 - weight) q, exact near p = q."""
        if weight not in self._to_mixture:
            self._to_mixture[weight] = (
                _log_mixture(-self.log_ratio, 1 - weight),
                _log_mixture(self.log_ratio, weight),
            )
        return self._to_mixture[weight]

    def mixture(self, weight: float) -> Tensor:
        """m = weight p + (1 - weight) q."""
        return weight * self.p + (1 - weight) * self.q

    def swapped(self) -> LogPair:
        """The same pair with teacher and student exchanged."""
        return LogPair(self.log_q, self.log_p)


class Divergence(ABC):
    """One f-divergence. A subclass gives f, and its two numerically safe forms.

    The value is the sum of the terms, and D = SUM q f(p / q):

    >>> pair = LogPair(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log())
    >>> member = TotalVariation()
    >>> member.value(pair), (pair.q * member.generator(pair.p / pair.q)).sum(-1)
    (tensor([0.2500]), tensor([0.2500]))
    >>> ForwardKL().logit_gradient(pair)  # q - p
    tensor([[-0.2500,  0.2500]])
    """

    #: The gradient falls as 1 / T**power at high temperature T: what temperature scaling multiplies by.
    temperature_power: ClassVar[int] = 2

    @abstractmethod
    def generator(self, t: Tensor) -> Tensor:
        """f(t) at t = p / q > 0, as the literature prints it. What the other two are tested against."""

    @abstractmethod
    def terms(self, pair: LogPair) -> Tensor:
        """q f(p / q) up to terms that sum to 0 over the vocabulary, chosen so that none is negative."""

    @abstractmethod
    def slope(self, pair: LogPair) -> Tensor:
        """s = q * d(q f(p / q))/dq, up to a multiple of q."""

    def value(self, pair: LogPair) -> Tensor:
        """D(p, q) in nats a token, [tokens]."""
        return self.terms(pair).sum(-1)

    def logit_gradient(self, pair: LogPair) -> Tensor:
        """T * dD/dz, [tokens, vocabulary]: the closed form at the top of this file."""
        slope = self.slope(pair)
        total = slope.sum(-1, keepdim=True)
        pull = torch.where(pair.q > 0, pair.q * total, 0.0)  # 0 * inf is NaN; a zero entry feels no pull
        return torch.where(slope.isinf(), slope, slope - pull)


@dataclass(frozen=True)
class ForwardKL(Divergence):
    """KL(p || q) = SUM p log(p / q).

    >>> pair = LogPair(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log())
    >>> ForwardKL().value(pair)  # 0.5 log 2 + 0.5 log 2/3
    tensor([0.1438])
    """

    def generator(self, t: Tensor) -> Tensor:
        return t * t.log()

    def terms(self, pair: LogPair) -> Tensor:
        if pair.p_underflows:
            return _kl_terms(pair.p, -pair.log_ratio, pair.q)
        # What q/p - 1 + log(p/q) cancels near p = q is less than log(p/q) has lost already, as a difference of
        # rounded logarithms.
        return (pair.excess + pair.log_ratio).clamp_min_(0.0).mul_(pair.p)

    def slope(self, pair: LogPair) -> Tensor:
        return -pair.p

    def logit_gradient(self, pair: LogPair) -> Tensor:
        return pair.q - pair.p if pair.p_underflows else pair.excess * pair.p


@dataclass(frozen=True)
class ReverseKL(Divergence):
    """KL(q || p) = SUM q log(q / p).

    >>> pair = LogPair(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log())
    >>> ReverseKL().value(pair)  # 0.25 log 1/2 + 0.75 log 3/2
    tensor([0.1308])
    """

    def generator(self, t: Tensor) -> Tensor:
        return -t.log()

    def terms(self, pair: LogPair) -> Tensor:
        return _kl_terms(pair.q, pair.log_ratio, pair.p)

    def slope(self, pair: LogPair) -> Tensor:
        slope = torch.where(pair.q > 0, -pair.q * pair.log_ratio, 0.0)
        return torch.where(pair.log_ratio == -math.inf, math.inf, slope)


@dataclass(frozen=True)
class GeneralizedJSD(Divergence):
    """beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q (Agarwal et al. 2024).

    >>> apart = LogPair(torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log())
    >>> GeneralizedJSD(beta=0.5).value(apart)  # log 2, as far apart as two can be
    tensor([0.6931])
    """

    beta: float = 0.5
    normalized: bool = False

    def __post_init__(self) -> None:
        _check_between("beta", self.beta, 0.0, 1.0)

    def generator(self, t: Tensor) -> Tensor:
        m = self.beta * t + (1 - self.beta)
        return (self.beta * t * (t / m).log() - (1 - self.beta) * m.log()) * self._scale

    @property
    def _scale(self) -> float:
        return 1 / (self.beta * (1 - self.beta)) if self.normalized else 1.0

    def terms(self, pair: LogPair) -> Tensor:
        over_p, over_q = pair.to_mixture(self.beta)
        m = pair.mixture(self.beta)
        teacher_part = _kl_terms(pair.p, over_p, m)
        student_part = _kl_terms(pair.q, over_q, m)
        return (self.beta * teacher_part + (1 - self.beta) * student_part) * self._scale

    def slope(self, pair: LogPair) -> Tensor:
        over_q = pair.to_mixture(self.beta)[1]
        return torch.where(pair.q > 0, -(1 - self.beta) * self._scale * pair.q * over_q, 0.0)


@dataclass(frozen=True)
class SkewForwardKL(Divergence):
    """KL(p || skew p + (1 - skew) q) (Ko et al. 2024).

    >>> apart = LogPair(torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log())
    >>> SkewForwardKL(skew=0.5).value(apart), ForwardKL().value(apart)  # -log skew
    (tensor([0.6931]), tensor([inf]))
    """

    skew: float = 0.1

    def __post_init__(self) -> None:
        _check_between("skew", self.skew, 0.0, 1.0, open_above=True)

    def generator(self, t: Tensor) -> Tensor:
        return t * (t / (self.skew * t + 1 - self.skew)).log()

    def terms(self, pair: LogPair) -> Tensor:
        return _kl_terms(pair.p, pair.to_mixture(self.skew)[0], pair.mixture(self.skew))

    def slope(self, pair: LogPair) -> Tensor:
        # p q / m less q, a multiple that does not count: q (p / m - 1) does not cancel near p = q
        over_p = pair.to_mixture(self.skew)[0]
        return torch.where(pair.q > 0, -(1 - self.skew) * pair.q * torch.expm1(-over_p), 0.0)


@dataclass(frozen=True)
class SkewReverseKL(Divergence):
    """KL(q || (1 - skew) p + skew q) (Ko et al. 2024).

    >>> apart = LogPair(torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log())
    >>> SkewReverseKL(skew=0.5).value(apart), ReverseKL().value(apart)  # -log skew
    (tensor([0.6931]), tensor([inf]))
    """

    skew: float = 0.1

    def __post_init__(self) -> None:
        _check_between("skew", self.skew, 0.0, 1.0, open_above=True)

    def generator(self, t: Tensor) -> Tensor:
        return -((1 - self.skew) * t + self.skew).log()

    def terms(self, pair: LogPair) -> Tensor:
        return _kl_terms(pair.q, pair.to_mixture(1 - self.skew)[1], pair.mixture(1 - self.skew))

    def slope(self, pair: LogPair) -> Tensor:
        over_q = pair.to_mixture(1 - self.skew)[1]
        share = self.skew * torch.expm1(-over_q)  # skew (q / m - 1): the 1 is a multiple that does not count
        return torch.where(pair.q > 0, -pair.q * (over_q + share), 0.0)


@dataclass(frozen=True)
class TotalVariation(Divergence):
    """1/2 SUM |p - q|.

    >>> pair = LogPair(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log())
    >>> TotalVariation().value(pair), TotalVariation().temperature_power
    (tensor([0.2500]), 1)
    """

    temperature_power: ClassVar[int] = 1

    def generator(self, t: Tensor) -> Tensor:
        return (t - 1).abs() / 2

    def terms(self, pair: LogPair) -> Tensor:
        return _larger(pair) * -torch.expm1(-_distance(pair)) / 2

    def slope(self, pair: LogPair) -> Tensor:
        return torch.where(pair.q > 0, -pair.q * pair.log_ratio.sign() / 2, 0.0)


@dataclass(frozen=True)
class AlphaDivergence(Divergence):
    """(SUM p^alpha q^(1 - alpha) - 1) / (alpha (alpha - 1)) (Amari 1985); alpha is neither 0 nor 1 here.

    >>> pair = LogPair(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log())
    >>> AlphaDivergence(alpha=2.0).value(pair), ChiSquare().value(pair) / 2
    (tensor([0.1667]), tensor([0.1667]))
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        _check_between("alpha", self.alpha, -math.inf, math.inf)

    def generator(self, t: Tensor) -> Tensor:
        return (t**self.alpha - 1) / (self.alpha * (self.alpha - 1))

    def terms(self, pair: LogPair) -> Tensor:
        # D_alpha(p, q) = D_(1 - alpha)(q, p): the side with alpha <= 1/2 does not cancel near alpha = 1.
        if self.alpha > 0.5:
            return AlphaDivergence(1 - self.alpha).terms(pair.swapped())
        u, alpha = pair.log_ratio, self.alpha
        near = pair.q * (_exp_minus_linear(u) - _exp_minus_linear(alpha * u) / alpha)
        far = pair.p - pair.q - _power_difference(pair, alpha)
        return (torch.where(u.abs() < 1, near, far) / (1 - alpha)).clamp_min(0.0)

    def slope(self, pair: LogPair) -> Tensor:
        return -_power_difference(pair, self.alpha)


@dataclass(frozen=True)
class SquaredHellinger(Divergence):
    """1/2 SUM (sqrt p - sqrt q)^2.

    >>> pair = LogPair(torch.tensor([[0.64, 0.36]]).log(), torch.tensor([[0.36, 0.64]]).log())
    >>> SquaredHellinger().value(pair)  # ((0.8 - 0.6)^2 + (0.6 - 0.8)^2) / 2
    tensor([0.0400])
    """

    def generator(self, t: Tensor) -> Tensor:
        return (t.sqrt() - 1) ** 2 / 2

    def terms(self, pair: LogPair) -> Tensor:
        return _larger(pair) * torch.expm1(-_distance(pair) / 2) ** 2 / 2

    def slope(self, pair: LogPair) -> Tensor:
        return -((pair.log_p + pair.log_q) / 2).exp() / 2


@dataclass(frozen=True)
class ChiSquare(Divergence):
    """SUM (p - q)^2 / q (Pearson). Beyond float32 soon: log(p / q) = 90 is enough.

    >>> pair = LogPair(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log())
    >>> ChiSquare().value(pair)  # 0.25^2 / 0.25 + 0.25^2 / 0.75
    tensor([0.3333])
    """

    def generator(self, t: Tensor) -> Tensor:
        return (t - 1) ** 2

    def terms(self, pair: LogPair) -> Tensor:
        # (p - q)^2 / q = M (1 - e^-|log p/q|)^2 with M = p^2 / q where p > q, and q elsewhere
        scale = torch.where(pair.log_ratio > 0, self._square_over_q(pair), pair.q)
        return scale * torch.expm1(-_distance(pair)) ** 2

    def slope(self, pair: LogPair) -> Tensor:
        return -self._square_over_q(pair)

    @staticmethod
    def _square_over_q(pair: LogPair) -> Tensor:
        return torch.where(pair.log_p == -math.inf, 0.0, (2 * pair.log_p - pair.log_q).exp())


FAMILY: dict[str, type[Divergence]] = {
    "forward_kl": ForwardKL,
    "reverse_kl": ReverseKL,
    "generalized_jsd": GeneralizedJSD,
    "skew_forward_kl": SkewForwardKL,
    "skew_reverse_kl": SkewReverseKL,
    "total_variation": TotalVariation,
    "alpha_divergence": AlphaDivergence,
    "squared_hellinger": SquaredHellinger,
    "chi_square": ChiSquare,
}


def make_divergence(name: str, **parameters: Any) -> Divergence:
    """The member of the family called `name`, at its limit where the parameters sit on one.

    beta = 0 is forward KL and beta = 1 is reverse KL, as in TRL; alpha = 1 is forward KL and alpha = 0 is
    reverse KL; skew = 0 is the plain KL.

    >>> make_divergence("generalized_jsd", beta=0.0)
    ForwardKL()
    """
    if name not in FAMILY:
        raise ValueError(f"divergence: got {name!r}, expected one of {', '.join(FAMILY)}")
    try:
        divergence = FAMILY[name](**parameters)
    except TypeError:
        known = ", ".join(getattr(FAMILY[name], "__dataclass_fields__", {})) or "none"
        raise ValueError(
            f"divergence {name!r}: got parameters {sorted(parameters)}, it has: {known}"
        ) from None
    match divergence:
        case GeneralizedJSD(beta=0) | AlphaDivergence(alpha=1) | SkewForwardKL(skew=0):
            return ForwardKL()
        case GeneralizedJSD(beta=1) | AlphaDivergence(alpha=0) | SkewReverseKL(skew=0):
            return ReverseKL()
    return divergence


def may_hold(condition: Tensor) -> bool:
    """Whether a condition holds somewhere. On a CPU a look saves a pass over large tensors; elsewhere it would mean
    to wait for the device, so the answer is yes.

    >>> may_hold(torch.tensor([False, True])), may_hold(torch.tensor([False, False]))
    (True, False)
    """
    if condition.device.type != "cpu" or torch.compiler.is_compiling():
        return True
    return bool(condition.any())


def _exp_minus_linear(x: Tensor) -> Tensor:
    """e^x - 1 - x >= 0, by its series near 0 where the difference would cancel."""
    series = x * x * (1 / 2 + x * (1 / 6 + x * (1 / 24 + x * (1 / 120 + x * (1 / 720 + x / 5040)))))
    near = 0.25 if x.dtype == torch.float32 else 0.01  # there the series' error is below one rounding
    return torch.where(x.abs() < near, series, torch.expm1(x) - x)


def _kl_terms(a: Tensor, log_b_over_a: Tensor, b: Tensor) -> Tensor:
    """a log(a / b) - a + b, never negative: the terms of KL(a || b), since SUM a = SUM b.

    b - a is what is left of it where a underflows, and inf where a > 0 = b however small a is.
    """
    underflow = torch.where(log_b_over_a == -math.inf, math.inf, (b - a).clamp_min(0.0))
    return torch.where(a > torch.finfo(a.dtype).tiny, a * _exp_minus_linear(log_b_over_a), underflow)


def _log_mixture(u: Tensor, weight: float) -> Tensor:
    """log(weight e^u + 1 - weight): log1p and expm1 where e^u is near 1; elsewhere logaddexp, which does not
    overflow, nor lose 1 - weight where that is tiny."""
    far = torch.logaddexp(u + _log(weight), u.new_tensor(_log(1 - weight)))
    return torch.where(u.abs() < 1, torch.log1p(weight * torch.expm1(u)), far)


def _power_difference(pair: LogPair, alpha: float) -> Tensor:
    """(p^alpha q^(1 - alpha) - q) / alpha, which tends to q log(p / q) at alpha = 0."""
    exponent = alpha * pair.log_ratio
    power = (alpha * pair.log_p + (1 - alpha) * pair.log_q).exp()
    difference = torch.where(exponent.abs() < 1, pair.q * torch.expm1(exponent), power - pair.q) / alpha
    return difference.masked_fill(pair.log_ratio.isnan(), 0.0)


def _larger(pair: LogPair) -> Tensor:
    return torch.maximum(pair.p, pair.q)


def _distance(pair: LogPair) -> Tensor:
    """|log(p / q)|, and 0 where both are 0. Other NaNs stay, so that NaN logits show in the value."""
    return torch.where(pair.log_p == pair.log_q, 0.0, pair.log_ratio.abs())


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _check_between(name: str, value: float, low: float, high: float, *, open_above: bool = False) -> None:
    if not (isinstance(value, int | float) and math.isfinite(value) and low <= value <= high) or (
        open_above and value == high
    ):
        bounds = f"{low} to {high}{' (excluded)' if open_above else ''}"
        raise ValueError(f"{name}: got {value!r}, expected a finite number, {bounds}")
