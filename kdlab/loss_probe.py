"""What a loss computes, found out by asking it: divergence, temperatures, cross-entropy, factor, mask, shift.

A loss is a function of logits. A few random logits, chosen so that the answers differ, tell what it is without a
look at its code, for anybody's loss and not for ours alone. No model runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kdlab.distributions import TopK, entropy
from kdlab.divergences import FAMILY, make_divergence
from kdlab.losses import DistillationLoss
from kdlab.token_divergence import token_divergence

Loss = Callable[[Tensor, Tensor | TopK, Tensor], Tensor]

# Primes, so that a factor of rows, of length and of both cannot be taken for one another.
ROWS, LENGTH = 3, 7
IGNORED = -100
# A value is a sum of some 1e4 terms in float32: sqrt(1e4) * 6e-8 is 6e-6 of it. A hundred times that still tells
# apart any two members of the family, which differ by per cents on these logits.
TOLERANCE = 1e-3
SOFT_CROSS_ENTROPY = "cross_entropy"
# Beyond T = 20, or below 1/20, logits of a usual width make nearly uniform or nearly certain distributions, on which
# all divergences look alike.
LARGEST_LOG_TEMPERATURE = 3.0


@dataclass(frozen=True)
class LossKind:
    """What a loss computes: factor * (divergence or soft cross-entropy) + ce_factor * CE(labels), per counted token.

    Attributes:
        name: of the divergence, "cross_entropy" for H(p) + KL(p || q), None where it is neither, or none is there.
        temperature: of the teacher's softmax.
        student_temperature: of the student's. A distillation loss has one temperature.
        factor: what a mean over tokens is multiplied by: T^2 where a loss scales so, 1 in nats a token.
        factor_name: what that factor is, in words.
        ce_factor: the same for cross-entropy with the labels, at T = 1.
        shift: the loss compares the student's row i with the teacher's row (or the label) i + shift.
        counts_padding: positions whose label is -100 change the value.
        attached: a gradient comes back to the student's logits.
        parameters: of the divergence (beta, skew ...), where it was tried with some.

    >>> import kdlab
    >>> kind = identify_loss(kdlab.DistillationLoss("reverse_kl", ce_weight=0.5, temperature=2.0))
    >>> kind.name, round(kind.temperature, 2), round(kind.factor, 3), round(kind.ce_factor, 3), kind.has_cross_entropy
    ('reverse_kl', 2.0, 2.0, 0.5, True)
    """

    name: str | None
    temperature: float
    student_temperature: float
    factor: float
    factor_name: str
    ce_factor: float
    shift: int
    counts_padding: bool
    attached: bool
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_cross_entropy(self) -> bool:
        """Whether the loss stays above 0 for a student that is its teacher."""
        return self.name == SOFT_CROSS_ENTROPY or self.ce_factor > 0

    def soft_value(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """The soft part of each token in nats, unscaled, both softmaxes at `temperature`; needs a name."""
        assert self.name is not None
        return _soft_value(self.name, self.parameters, student, teacher, temperature)


def identify_loss(loss: Loss, vocabulary: int = 101) -> LossKind:
    """Find out what `loss(student_logits, teacher_logits, labels)` computes.

    Args:
        loss: returns a scalar. Logits are [batch, length, vocabulary], labels [batch, length] with -100 where a token
            does not count. A `DistillationLoss` is tried with its own parameters (beta, skew ...), any other with
            the defaults of each divergence.
        vocabulary: of the logits that it is asked about.

    >>> kind = identify_loss(lambda s, t, labels: 4 * DistillationLoss(temperature=2.0)(s, t, labels) / 4)
    >>> kind.name, round(kind.temperature, 2), kind.factor_name
    ('forward_kl', 2.0, 'temperature^2')
    """
    probe = _Probe(loss, vocabulary)
    ce_factor = probe.ce_factor()
    shift = probe.shift()
    name, temperature, ratio, factor = probe.soft_part(ce_factor) if shift == 0 else (None, 1.0, 1.0, 1.0)
    return LossKind(
        name,
        temperature,
        ratio * temperature,
        factor,
        _factor_name(
            name,
            factor / (1 - ce_factor) if name and 0 < ce_factor < 1 else factor if name else ce_factor or 1.0,
            temperature,
            vocabulary,
        ),
        ce_factor,
        shift,
        probe.counts_padding(),
        probe.attached(),
        dict(probe.candidates()).get(name or "", {}),
    )


class _Probe:
    """Random logits, and the answers of one loss to them."""

    def __init__(self, loss: Loss, vocabulary: int):
        self.loss, self.vocabulary = loss, vocabulary
        generator = torch.Generator().manual_seed(0)
        shape = (ROWS, LENGTH, vocabulary)
        self.student, self.teacher, self.noise = (torch.randn(shape, generator=generator) for _ in range(3))
        self.labels, self.others = (
            torch.randint(vocabulary, (ROWS, LENGTH), generator=generator) for _ in range(2)
        )

    def ask(self, student: Tensor, teacher: Tensor, labels: Tensor) -> float:
        with torch.no_grad():
            return float(self.loss(student.clone(), teacher.clone(), labels.clone()))

    def ce_factor(self) -> float:
        """The loss is linear in the log-probability of the labels: other labels show its slope."""
        change = self.ask(self.student, self.teacher, self.labels) - self.ask(
            self.student, self.teacher, self.others
        )
        expected = _label_loss(self.student, self.labels) - _label_loss(self.student, self.others)
        factor = change / expected
        return factor if abs(factor) > TOLERANCE else 0.0

    def soft(self, student: Tensor, teacher: Tensor, ce_factor: float) -> float:
        """The loss without its cross-entropy with the labels."""
        whole = self.ask(student, teacher, self.labels)
        return whole - ce_factor * _label_loss(student, self.labels) if ce_factor else whole

    def shift(self) -> int:
        """Where a student that is sure of one word a position scores best when it is moved along: beside a teacher that
        is sure of the same words, and beside labels that are."""
        sure, other = (
            20.0 * functional.one_hot(x, self.vocabulary).float() for x in (self.labels, self.others)
        )
        for student, teacher in ((other, other), (sure, torch.zeros_like(sure))):
            values = {k: self.ask(student.roll(k, 1), teacher, self.labels) for k in (0, -1, 1)}
            best = min(values, key=values.__getitem__)
            if (
                values[best] < 0.9 * values[0]
            ):  # of LENGTH rows all fit instead of hardly any: far more than a tenth
                return -best
        return 0

    def soft_part(self, ce_factor: float) -> tuple[str | None, float, float, float]:
        """Name, teacher's temperature, ratio of the student's temperature to it, factor."""
        teacher = 3.0 * self.teacher
        if abs(self.soft(self.student, teacher, ce_factor)) < TOLERANCE:
            return None, 1.0, 1.0, 1.0
        # A student whose logits are a times the teacher's has the teacher's distribution where a is the ratio of the
        # temperatures: there a divergence is 0 and soft cross-entropy is at its lowest.
        ratio = math.exp(
            _lowest(lambda a: self.soft(math.exp(a) * teacher, teacher, ce_factor), LARGEST_LOG_TEMPERATURE)
        )
        ratio = 1.0 if abs(math.log(ratio)) < 0.02 else ratio
        # What the value is at four widths of the logits is the loss's own curve of temperature. At the right name and
        # temperature its quotient with ours is the same at all widths, and that quotient is the factor.
        pairs = [(width * self.student, width * self.teacher) for width in (0.5, 1.0, 2.0, 4.0)]
        found = [self.soft(ratio * student, teacher, ce_factor) for student, teacher in pairs]
        for name, parameters in self.candidates():

            def spread(log_t: float, name: str = name, parameters: Mapping[str, Any] = parameters) -> float:
                return _spread(_quotients(name, parameters, pairs, found, math.exp(log_t)))

            log_t = _lowest(spread, LARGEST_LOG_TEMPERATURE)
            quotients = _quotients(name, parameters, pairs, found, math.exp(log_t))
            if _spread(quotients) < TOLERANCE and abs(log_t) < 0.95 * LARGEST_LOG_TEMPERATURE:
                return name, math.exp(log_t), ratio, sum(quotients) / len(quotients)
        return None, 1.0, ratio, 1.0

    def candidates(self) -> list[tuple[str, Mapping[str, Any]]]:
        if isinstance(self.loss, DistillationLoss):
            options = self.loss.options
            name = options["divergence"]
            own = {k: v for k, v in options.items() if k in ("beta", "normalized", "skew", "alpha")}
            return [(name, own)]
        # alpha = 1/2 is four times the squared Hellinger distance, which is to be named first.
        names = sorted(FAMILY, key=lambda name: name == "alpha_divergence")
        return [(name, {}) for name in (SOFT_CROSS_ENTROPY, *names)]

    def counts_padding(self) -> bool:
        """Whether what stands at positions that do not count, or their number, changes the value."""
        labels = self.labels.clone()
        labels[0, -2:] = IGNORED
        plain = self.ask(self.student, self.teacher, labels)
        changed = torch.where((labels == IGNORED)[..., None], 3 * self.noise, self.student)
        longer = [torch.cat([x, self.noise], 1) for x in (self.student, self.teacher)]
        more = torch.cat([labels, torch.full_like(labels, IGNORED)], 1)
        values = (self.ask(changed, self.teacher, labels), self.ask(longer[0], longer[1], more))
        return not all(math.isclose(value, plain, rel_tol=TOLERANCE) for value in values)

    def attached(self) -> bool:
        student = self.student.clone().requires_grad_()
        with torch.enable_grad():
            value = self.loss(student, self.teacher.clone(), self.labels)
        if not (isinstance(value, Tensor) and value.requires_grad):
            return False
        (gradient,) = torch.autograd.grad(value, student, allow_unused=True)
        return gradient is not None and bool(gradient.abs().max() > 0)


def _soft_value(
    name: str, parameters: Mapping[str, Any], student: Tensor, teacher: Tensor, temperature: float
) -> Tensor:
    if name == SOFT_CROSS_ENTROPY:
        return entropy(teacher, temperature) + _soft_value("forward_kl", {}, student, teacher, temperature)
    return token_divergence(make_divergence(name, **parameters), student, teacher, temperature)


def _quotients(
    name: str,
    parameters: Mapping[str, Any],
    pairs: list[tuple[Tensor, Tensor]],
    found: list[float],
    temperature: float,
) -> list[float]:
    ours = [float(_soft_value(name, parameters, *pair, temperature).mean()) for pair in pairs]
    return [value / own if own else math.inf for value, own in zip(found, ours, strict=True)]


def _spread(values: list[float]) -> float:
    """Largest relative difference of neighbours."""
    if not all(0 < value < math.inf for value in values):
        return math.inf
    return max(abs(math.log(a / b)) for a, b in pairwise(values))


def _lowest(function: Callable[[float], float], bound: float) -> float:
    """Where a function of one valley is lowest between -bound and bound: a grid, then golden sections."""
    grid = [bound * step / 8 for step in range(-8, 9)]
    low = min(grid, key=function)
    left, right = low - bound / 8, low + bound / 8
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(22):  # 0.62^22: to 1e-5 of a temperature
        inner = right - golden * (right - left), left + golden * (right - left)
        if function(inner[0]) < function(inner[1]):
            right = inner[1]
        else:
            left = inner[0]
    return (left + right) / 2


def _label_loss(student: Tensor, labels: Tensor) -> float:
    return float(functional.cross_entropy(student.flatten(0, 1), labels.flatten()))


def _factor_name(name: str | None, factor: float, temperature: float, vocabulary: int) -> str:
    power = make_divergence(name).temperature_power if name in FAMILY else 2
    tokens = ROWS * LENGTH
    known = {
        "none": 1.0,
        f"temperature^{power}": temperature**power,
        "a sum over tokens": tokens,
        "a sum over the length (divided by the batch alone)": LENGTH,
        "a mean over entries of the vocabulary": 1 / vocabulary,
        "the number of tokens divided by twice": 1 / tokens,
        "1 / length": 1 / LENGTH,
        "1 / batch": 1 / ROWS,
        "1 / temperature^2": temperature**-2,
        "bits instead of nats": 1 / math.log(2),
    }
    for words, value in known.items():
        if math.isclose(factor, value, rel_tol=10 * TOLERANCE):
            return words
    return f"{factor:.4g}"
