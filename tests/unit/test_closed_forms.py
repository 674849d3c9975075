"""The divergences against formulas that need no oracle: coins, identities, bounds, infinities."""

from __future__ import annotations

import math

import pytest
import torch

import kdlab
from tests.unit.reference import label, random_logits, value_and_gradient


def of(name: str, p: list[float], q: list[float], **parameters) -> float:
    logits = [torch.tensor(x, dtype=torch.float64).log() for x in (q, p)]
    return float(kdlab.distillation_loss(*logits, divergence=name, **parameters))


@pytest.mark.parametrize("a", [0.01, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("b", [0.02, 0.5, 0.9])
def test_two_coins(a: float, b: float) -> None:
    """Bernoulli distributions, where every sum has two terms."""
    p, q = [a, 1 - a], [b, 1 - b]
    kl = a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))
    lk = b * math.log(b / a) + (1 - b) * math.log((1 - b) / (1 - a))
    affinity = math.sqrt(a * b) + math.sqrt((1 - a) * (1 - b))
    expected = {
        "forward_kl": kl,
        "reverse_kl": lk,
        "total_variation": abs(a - b),
        "squared_hellinger": 1 - affinity,
        "alpha_divergence": 4 * (1 - affinity),
        "chi_square": (a - b) ** 2 / (b * (1 - b)),
    }
    for name, value in expected.items():
        assert of(name, p, q) == pytest.approx(value, rel=1e-9, abs=1e-14)
    assert of("total_variation", p, q) <= math.sqrt(kl / 2) + 1e-14  # Pinsker


def test_an_example_by_hand() -> None:
    """p = (1/2, 1/2), q = (1/4, 3/4): the numbers of a pocket calculator."""
    p, q = [0.5, 0.5], [0.25, 0.75]
    assert of("forward_kl", p, q) == pytest.approx(0.5 * math.log(4 / 3))
    assert of("reverse_kl", p, q) == pytest.approx(0.75 * math.log(3) - math.log(2))
    assert of("chi_square", p, q) == pytest.approx(1 / 3)
    assert of("total_variation", p, q) == pytest.approx(1 / 4)
    m = [0.375, 0.625]
    jsd = sum(x / 2 * math.log(x / z) + y / 2 * math.log(y / z) for x, y, z in zip(p, q, m, strict=True))
    assert of("generalized_jsd", p, q) == pytest.approx(jsd)
    assert of("generalized_jsd", p, q, normalized=True) == pytest.approx(4 * jsd)
    assert of("skew_forward_kl", p, q, skew=0.2) == pytest.approx(0.5 * math.log(0.25 / (0.3 * 0.7)))
    m = [0.8 * 0.5 + 0.2 * 0.25, 0.8 * 0.5 + 0.2 * 0.75]
    assert of("skew_reverse_kl", p, q, skew=0.2) == pytest.approx(
        0.25 * math.log(0.25 / m[0]) + 0.75 * math.log(0.75 / m[1])
    )
    assert of("alpha_divergence", p, q, alpha=2.0) == pytest.approx(1 / 6)


@pytest.mark.parametrize("seed", range(5))
def test_identities(seed: int) -> None:
    student, teacher = random_logits(4, 7, seed=seed)

    def d(name, s=student, t=teacher, **parameters):
        return value_and_gradient(s, t, divergence=name, reduction="none", **parameters)

    def same(one, two, factor=1.0, tolerance=1e-10):
        for x, y in zip(one, two, strict=True):
            torch.testing.assert_close(x, factor * y, rtol=tolerance, atol=tolerance)

    same(d("alpha_divergence", alpha=0.5), d("squared_hellinger"), 4)
    same(d("alpha_divergence", alpha=2.0), d("chi_square"), 0.5)
    same(d("alpha_divergence", alpha=1.0), d("forward_kl"))
    same(d("alpha_divergence", alpha=0.0), d("reverse_kl"))
    same(d("generalized_jsd", beta=0.0), d("forward_kl"))
    same(d("generalized_jsd", beta=1.0), d("reverse_kl"))
    same(d("skew_forward_kl", skew=0.0), d("forward_kl"))
    same(d("skew_reverse_kl", skew=0.0), d("reverse_kl"))
    for limit, name in ((1e-9, "forward_kl"), (1 - 1e-9, "reverse_kl")):  # continuous at the ends
        same(d("generalized_jsd", beta=limit, normalized=True), d(name), tolerance=1e-6)
        same(d("alpha_divergence", alpha=1 - limit), d(name), tolerance=1e-6)
    # exchanged roles: the value alone, since the gradient is with respect to the student
    swapped = {"s": teacher, "t": student}
    for one, two in (
        (d("forward_kl"), d("reverse_kl", **swapped)),
        (d("generalized_jsd"), d("generalized_jsd", **swapped)),
        (d("generalized_jsd", beta=0.2), d("generalized_jsd", beta=0.8, **swapped)),
        (d("skew_forward_kl", skew=0.3), d("skew_reverse_kl", skew=0.3, **swapped)),
        (d("alpha_divergence", alpha=0.2), d("alpha_divergence", alpha=0.8, **swapped)),
        (d("total_variation"), d("total_variation", **swapped)),
        (d("squared_hellinger"), d("squared_hellinger", **swapped)),
    ):
        torch.testing.assert_close(one[0], two[0])
    # order: Pinsker, TV <= sqrt(2 H^2), H^2 <= TV, KL <= log(1 + chi^2) <= chi^2
    kl, tv, h2, chi2 = (d(n)[0] for n in ("forward_kl", "total_variation", "squared_hellinger", "chi_square"))
    assert (tv <= (kl / 2).sqrt()).all()
    assert (h2 <= tv).all()
    assert (tv <= (2 * h2).sqrt()).all()
    assert (kl <= chi2.log1p()).all()


def test_cross_entropy_is_entropy_plus_kl() -> None:
    student, teacher = random_logits(4, 7)
    p = teacher.softmax(-1)
    cross_entropy = -(p * student.log_softmax(-1)).sum(-1)
    entropy = -(p * p.log()).sum(-1)
    torch.testing.assert_close(kdlab.forward_kl(student, teacher, reduction="none"), cross_entropy - entropy)


@pytest.mark.parametrize(
    ("name", "parameters", "bound"),
    [
        *[
            ("generalized_jsd", {"beta": b}, -b * math.log(b) - (1 - b) * math.log(1 - b))
            for b in (0.1, 0.5, 0.9)
        ],
        ("generalized_jsd", {"beta": 0.5, "normalized": True}, 4 * math.log(2)),
        *[
            (f"skew_{side}_kl", {"skew": s}, -math.log(s))
            for side in ("forward", "reverse")
            for s in (0.1, 0.7)
        ],
        ("total_variation", {}, 1.0),
        ("squared_hellinger", {}, 1.0),
        *[("alpha_divergence", {"alpha": a}, 1 / (a * (1 - a))) for a in (0.1, 0.5, 0.8)],
    ],
    ids=label,
)
def test_the_bound_is_reached_by_distributions_apart_and_never_passed(name, parameters, bound) -> None:
    assert of(name, [0.5, 0.5, 0.0], [0.0, 0.0, 1.0], **parameters) == pytest.approx(bound)
    student, teacher = (x.float() for x in random_logits(200, 5, spread=20.0))
    value = kdlab.distillation_loss(student, teacher, divergence=name, reduction="none", **parameters)
    assert (value <= bound * (1 + 1e-5)).all()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("forward_kl", {}),
        ("chi_square", {}),
        ("alpha_divergence", {"alpha": 1.5}),
        ("generalized_jsd", {"beta": 0.0, "normalized": True}),
    ],
    ids=label,
)
def test_infinite_where_the_student_rules_out_what_the_teacher_does_not(name, parameters) -> None:
    student, teacher = torch.tensor([0.0, 0.0, -math.inf]), torch.tensor([0.0, 0.0, 0.0])
    value, slope = value_and_gradient(student, teacher, divergence=name, **parameters)
    assert value == math.inf
    assert not slope.isnan().any()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("reverse_kl", {}),
        ("alpha_divergence", {"alpha": -0.5}),
        ("generalized_jsd", {"beta": 1.0}),
        ("skew_reverse_kl", {"skew": 0.0}),
    ],
    ids=label,
)
@pytest.mark.parametrize("low", [0.0, -50.0, -1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_infinite_where_the_teacher_rules_out_what_the_student_does_not(name, parameters, low, dtype) -> None:
    """Even where q underflows: q > 0 is what the mathematics says."""
    student, teacher = torch.tensor([[0.0, 0.0, low], [0.0, 0.0, -math.inf]]).to(dtype)
    value, slope = value_and_gradient(student, teacher, divergence=name, **parameters)
    assert value == math.inf
    assert not slope.isnan().any()
    assert slope[2] == math.inf  # push it down
