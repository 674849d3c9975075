"""The nine divergences as a textbook prints them, at 60 digits: the oracle of the core's tests.

The oracle takes nothing from kdlab. Values are plain sums over the vocabulary; gradients are central
differences, whose error at this precision is far below float64's.
"""

from __future__ import annotations

import math

import torch
from mpmath import mp
from torch import Tensor

import kdlab

CONTEXT = mp.clone()
CONTEXT.dps = 60
STEP = CONTEXT.mpf(10) ** -20

# Every member with ordinary parameters, at its limits, and close to them.
MEMBERS = [
    ("forward_kl", {}),
    ("reverse_kl", {}),
    *[("generalized_jsd", {"beta": b}) for b in (0.0, 1e-6, 0.1, 0.5, 0.9, 1 - 1e-6, 1.0)],
    *[("generalized_jsd", {"beta": b, "normalized": True}) for b in (0.0, 1e-6, 0.3, 1 - 1e-6, 1.0)],
    *[("skew_forward_kl", {"skew": s}) for s in (0.0, 1e-6, 0.1, 0.9)],
    *[("skew_reverse_kl", {"skew": s}) for s in (0.0, 1e-6, 0.1, 0.9)],
    ("total_variation", {}),
    *[
        ("alpha_divergence", {"alpha": a})
        for a in (-1.5, -0.5, 0.0, 1e-6, 0.3, 0.5, 0.7, 1 - 1e-6, 1.0, 1.5, 2.5)
    ],
    ("squared_hellinger", {}),
    ("chi_square", {}),
]
# One of each, for tests that are the same for all parameters.
DEFAULTS = [
    (name, {})
    for name in (
        "forward_kl",
        "reverse_kl",
        "generalized_jsd",
        "skew_forward_kl",
        "skew_reverse_kl",
        "total_variation",
        "alpha_divergence",
        "squared_hellinger",
        "chi_square",
    )
]


def label(member: object) -> str:
    """A test's name: forward_kl, or generalized_jsd-0.5."""
    if isinstance(member, dict):
        return ",".join(f"{key}={value}" for key, value in member.items()) or "default"
    return str(member)


def _kl(a, b):
    """SUM a log(a / b), with 0 log 0 = 0, and infinite where b = 0 < a."""
    return sum((x * CONTEXT.log(x / y) if y else CONTEXT.inf) for x, y in zip(a, b, strict=True) if x)


def _mix(weight, a, b):
    return [weight * x + (1 - weight) * y for x, y in zip(a, b, strict=True)]


def _jsd(p, q, beta=0.5, normalized=False):
    if beta in (0, 1):
        return _kl(p, q) if beta == 0 else _kl(q, p)
    beta = CONTEXT.mpf(beta)
    m = _mix(beta, p, q)
    return (beta * _kl(p, m) + (1 - beta) * _kl(q, m)) / (beta * (1 - beta) if normalized else 1)


def _alpha(p, q, alpha=0.5):
    if alpha in (0, 1):
        return _kl(p, q) if alpha == 1 else _kl(q, p)
    alpha = CONTEXT.mpf(alpha)
    total = CONTEXT.zero
    for x, y in zip(p, q, strict=True):
        if (not x and not y) or (not x and alpha > 0) or (not y and alpha < 1):
            continue
        total += x**alpha * y ** (1 - alpha) if x and y else CONTEXT.inf
    return (total - 1) / (alpha * (alpha - 1))


TEXTBOOK = {
    "forward_kl": lambda p, q: _kl(p, q),
    "reverse_kl": lambda p, q: _kl(q, p),
    "generalized_jsd": _jsd,
    "skew_forward_kl": lambda p, q, skew=0.1: _kl(p, _mix(CONTEXT.mpf(skew), p, q)),
    "skew_reverse_kl": lambda p, q, skew=0.1: _kl(q, _mix(CONTEXT.mpf(skew), q, p)),
    "total_variation": lambda p, q: sum(abs(x - y) for x, y in zip(p, q, strict=True)) / 2,
    "alpha_divergence": _alpha,
    "squared_hellinger": lambda p, q: (
        sum((CONTEXT.sqrt(x) - CONTEXT.sqrt(y)) ** 2 for x, y in zip(p, q, strict=True)) / 2
    ),
    "chi_square": lambda p, q: sum(
        ((x - y) ** 2 / y if y else CONTEXT.inf) for x, y in zip(p, q, strict=True) if x or y
    ),
}


def _softmax(logits, temperature):
    highest = max(logits)
    weights = [CONTEXT.exp((z - highest) / temperature) for z in logits]
    total = sum(weights)
    return [w / total for w in weights]


def _to_float(x) -> float:
    return math.copysign(math.inf, x) if abs(x) > 1e300 else float(x)


def _rows(logits: Tensor):
    return [[CONTEXT.mpf(z) for z in row] for row in logits.double().reshape(-1, logits.shape[-1]).tolist()]


def divergence(name: str, student: Tensor, teacher: Tensor, temperature: float = 1.0, **parameters) -> Tensor:
    """D(p, q) of every row, [...] float64; the divergence is not multiplied by T^2."""
    temperature = CONTEXT.mpf(temperature)
    values = [
        _to_float(TEXTBOOK[name](_softmax(p, temperature), _softmax(q, temperature), **parameters))
        for p, q in zip(_rows(teacher), _rows(student), strict=True)
    ]
    return torch.tensor(values, dtype=torch.float64).reshape(student.shape[:-1])


def gradient(name: str, student: Tensor, teacher: Tensor, temperature: float = 1.0, **parameters) -> Tensor:
    """dD/dz of every row, [..., vocabulary] float64."""
    temperature = CONTEXT.mpf(temperature)
    rows = []
    for z_teacher, z in zip(_rows(teacher), _rows(student), strict=True):
        p = _softmax(z_teacher, temperature)

        def at(i, step, p=p, z=z):
            moved = [x + step if i == j else x for j, x in enumerate(z)]
            return TEXTBOOK[name](p, _softmax(moved, temperature), **parameters)

        rows.append([_to_float((at(i, STEP) - at(i, -STEP)) / (2 * STEP)) for i in range(len(z))])
    return torch.tensor(rows, dtype=torch.float64).reshape(student.shape)


def value_and_gradient(student: Tensor, teacher: Tensor, labels: Tensor | None = None, **options):
    """The loss of kdlab and its gradient with respect to the student's logits, both as float64."""
    student = student.detach().clone().requires_grad_()
    loss = kdlab.distillation_loss(student, teacher, labels, **options)
    (slope,) = torch.autograd.grad(loss.sum(), student)
    return loss.detach().double(), slope.double()


def random_logits(*shape: int, seed: int = 0, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    """Student's and teacher's logits, float64."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = spread * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return student, teacher


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest error of a row over its own size. Rows are scalars, or the last axis of gradients."""
    size = expected.abs() if expected.dim() < 2 else expected.norm(dim=-1)
    error = (found - expected).abs() if expected.dim() < 2 else (found - expected).norm(dim=-1)
    return float((error / size.clamp_min(1e-300)).max())
