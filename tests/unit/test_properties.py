"""Properties of the losses that hold for any logits (hypothesis), and the extremes of the design page."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab import distillation_loss
from kdlab.divergences import LogPair, make_divergence
from tests.unit import reference
from tests.unit.reference import DEFAULTS, MEMBERS, label, value_and_gradient

EACH = pytest.mark.parametrize(("name", "parameters"), DEFAULTS, ids=label)
ALL = pytest.mark.parametrize(("name", "parameters"), MEMBERS, ids=label)
FEW = settings(derandomize=True, max_examples=15, deadline=None)
SEEDS = st.integers(0, 10**6)
SPREADS = st.sampled_from([1e-3, 0.3, 3.0, 30.0])
TEMPERATURES = st.sampled_from([0.05, 0.7, 1.0, 4.0, 100.0])
HALVES = st.sampled_from([torch.float16, torch.bfloat16, torch.float32])
IGNORED = -100


def drawn(seed: int, spread: float, *shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student, teacher and labels, of which about a third do not count."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = spread * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, shape[-1], shape[:-1], generator=generator)
    return student, teacher, labels.masked_fill(torch.rand(shape[:-1], generator=generator) < 0.3, IGNORED)


def close(one, two, tolerance: float = 1e-7) -> None:
    for x, y in zip(one, two, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


@ALL
@FEW
@given(seed=SEEDS, spread=SPREADS, temperature=TEMPERATURES, dtype=HALVES)
def test_never_negative_and_zero_where_equal(name, parameters, seed, spread, temperature, dtype) -> None:
    student, teacher, _ = (x.to(dtype) if x.is_floating_point() else x for x in drawn(seed, spread, 4, 7))
    options = {"divergence": name, "temperature": temperature, "reduction": "none", **parameters}
    value = distillation_loss(student, teacher, **options)
    assert (value >= 0).all()
    same, slope = value_and_gradient(student, student, **options)
    assert (same == 0).all()
    # Closed forms that subtract (q - p) leave what rounding does to sums of probabilities.
    assert (slope.abs() <= 1e-5 * max(1.0, temperature)).all()


@ALL
@FEW
@given(seed=SEEDS, distance=st.sampled_from([1e-2, 1e-4, 1e-6]))
def test_zero_only_where_equal(name, parameters, seed, distance) -> None:
    """In float64 a difference of 1e-6 in one logit shows; and so it does in the sign of the gradient."""
    student, _, _ = drawn(seed, 1.0, 5)
    teacher = student.clone()
    teacher[2] += distance
    value, slope = value_and_gradient(student, teacher, divergence=name, **parameters)
    assert value > 0
    assert slope[2] < 0
    assert (slope[[0, 1, 3, 4]] > 0).all() or name == "total_variation"


@EACH
@FEW
@given(seed=SEEDS, spread=SPREADS, temperature=TEMPERATURES)
def test_a_shift_of_a_rows_logits_changes_nothing(name, parameters, seed, spread, temperature) -> None:
    student, teacher, labels = drawn(seed, spread, 2, 3, 6)
    shifts = torch.randn(2, 2, 3, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 50
    options = {"divergence": name, "temperature": temperature, "ce_weight": 0.2, **parameters}
    close(
        value_and_gradient(student + shifts[0], teacher + shifts[1], labels, **options),
        value_and_gradient(student, teacher, labels, **options),
    )


@EACH
@FEW
@given(seed=SEEDS, rows=st.integers(0, 3), columns=st.integers(0, 3))
def test_padding_changes_nothing(name, parameters, seed, rows, columns) -> None:
    student, teacher, labels = drawn(seed, 2.0, 2, 3, 6)
    options = {"divergence": name, "temperature": 2.0, "ce_weight": 0.2, **parameters}
    value, slope = value_and_gradient(student, teacher, labels, **options)
    generator = torch.Generator().manual_seed(seed + 1)
    wide_student, wide_teacher = torch.randn(
        2, 2 + rows, 3 + columns, 6, generator=generator, dtype=torch.float64
    )
    wide_labels = torch.full((2 + rows, 3 + columns), IGNORED)
    for wide, narrow in ((wide_student, student), (wide_teacher, teacher), (wide_labels, labels)):
        wide[:2, :3] = narrow
    wide_value, wide_slope = value_and_gradient(wide_student, wide_teacher, wide_labels, **options)
    close((wide_value, wide_slope[:2, :3]), (value, slope))
    assert wide_slope[wide_labels == IGNORED].count_nonzero() == 0


@EACH
@FEW
@given(seed=SEEDS, cuts=st.lists(st.integers(1, 5), max_size=3, unique=True))
def test_how_a_batch_is_cut_changes_nothing(name, parameters, seed, cuts) -> None:
    """Micro-batches with few tokens and with many, each divided by the tokens of the whole batch."""
    student, teacher, labels = drawn(seed, 2.0, 6, 3, 5)
    labels[0] = IGNORED  # a micro-batch in which nothing may count
    options = {"divergence": name, "ce_weight": 0.3, "temperature": 2.0, **parameters}
    value, slope = value_and_gradient(student, teacher, labels, **options)
    leaf = student.clone().requires_grad_()
    number = (labels != IGNORED).sum()
    total = 0.0
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 6], strict=True):
        part = slice(start, end)
        loss = distillation_loss(
            leaf[part], teacher[part], labels[part], num_items_in_batch=number, **options
        )
        loss.backward()
        total += loss.detach()
    assert leaf.grad is not None
    close((total, leaf.grad), (value, slope))


@EACH
@FEW
@given(seed=SEEDS, order=st.permutations(range(6)))
def test_the_order_of_the_vocabulary_changes_nothing(name, parameters, seed, order) -> None:
    student, teacher, labels = drawn(seed, 2.0, 2, 3, 6)
    options = {"divergence": name, "ce_weight": 0.2, **parameters}
    value, slope = value_and_gradient(student, teacher, labels, **options)
    renamed = torch.tensor([order.index(v) for v in range(6)])
    moved_labels = torch.where(labels == IGNORED, labels, renamed[labels.clamp_min(0)])
    moved = value_and_gradient(student[..., order], teacher[..., order], moved_labels, **options)
    close(moved, (value, slope[..., order]))


# --- extremes ---------------------------------------------------------------------------------------------

EXTREME = st.sampled_from([1e4, -1e4, 9984.0, 300.0, 50.0, 1.0, 0.0, -3.0, -100.0])


@ALL
@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    student=st.lists(EXTREME, min_size=4, max_size=4),
    teacher=st.lists(EXTREME | st.just(-math.inf), min_size=4, max_size=4).filter(
        lambda x: max(x) > -math.inf
    ),
    temperature=st.sampled_from([0.05, 1.0, 100.0]),
    dtype=HALVES,
)
def test_extremes(name, parameters, student, teacher, temperature, dtype) -> None:
    """Finite wherever the truth is within float32, else inf, NaN nowhere."""
    student, teacher = torch.tensor(student).to(dtype), torch.tensor(teacher).to(dtype)
    options = {"divergence": name, "temperature": temperature, "temperature_scaling": False, **parameters}
    value, slope = value_and_gradient(student, teacher, **options)
    truth = reference.divergence(name, student, teacher, temperature, **parameters)
    near_the_end = 1e37 < truth < 1e40  # where rounding decides whether float32 still holds it
    assert value >= 0
    assert not slope.isnan().any()
    if truth < 1e37:
        torch.testing.assert_close(value, truth, rtol=1e-3, atol=1e-6)
        assert slope.isfinite().all()
    elif not near_the_end:
        assert value == math.inf


@ALL
@pytest.mark.parametrize("temperature", [0.05, 1.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_opposite_certainties(name, parameters, temperature, dtype) -> None:
    """Logits of +-1e4 the other way round: bounded divergences at their bound, the KLs at 2e4 / T."""
    student = torch.tensor([[1e4, -1e4, -1e4]], dtype=dtype)
    teacher = torch.tensor([[-1e4, 1e4, -1e4]], dtype=dtype)
    options = {"divergence": name, "temperature": temperature, "temperature_scaling": False, **parameters}
    value, slope = value_and_gradient(student, teacher, **options)
    expected = reference.divergence(name, student, teacher, temperature, **parameters).float().double()
    torch.testing.assert_close(value, expected[0], rtol=1e-3, atol=0.0)
    assert not slope.isnan().any()
    if expected.isfinite().all():
        assert slope.isfinite().all()


@ALL
def test_values_at_the_edge_of_float32_are_never_nan(name, parameters) -> None:
    """Probabilities that underflow, one step at a time: the log-space forms meet 0 and denormal numbers."""
    gaps = torch.arange(0, 240, 0.5)
    zero = torch.zeros_like(gaps)
    rare = torch.stack([zero, -gaps, zero - 3.0], -1).log_softmax(-1)
    even = torch.stack([zero, zero, zero], -1).log_softmax(-1)
    member = make_divergence(name, **parameters)
    for pair in (LogPair(rare, even), LogPair(even, rare), LogPair(rare, rare.flip(0))):
        assert (member.value(pair) >= 0).all()
        assert not member.logit_gradient(pair).isnan().any()
