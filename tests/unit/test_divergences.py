"""Value and gradient of the nine divergences, against a textbook at 60 digits, closed forms and gradcheck."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from mpmath import mp

import kdlab
from kdlab import token_divergence as blocks
from kdlab.divergences import LogPair, make_divergence
from kdlab.token_divergence import token_divergence
from tests.unit import reference
from tests.unit.reference import DEFAULTS, MEMBERS, label, random_logits, relative_error, value_and_gradient

ALL = pytest.mark.parametrize(("name", "parameters"), MEMBERS, ids=label)
EACH = pytest.mark.parametrize(("name", "parameters"), DEFAULTS, ids=label)
RAW = {"temperature_scaling": False, "reduction": "none"}


def compare(
    name: str, student, teacher, temperature: float, value_error: float, slope_error: float, **parameters
):
    """The value within value_error of the truth, relative; the gradient within slope_error of its norm."""
    value, slope = value_and_gradient(
        student, teacher, divergence=name, temperature=temperature, **RAW, **parameters
    )
    assert (
        relative_error(value, reference.divergence(name, student, teacher, temperature, **parameters))
        < value_error
    )
    assert (
        relative_error(slope, reference.gradient(name, student, teacher, temperature, **parameters))
        < slope_error
    )
    assert (value >= 0).all()


@ALL
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_float64_is_the_textbook(name, parameters, temperature) -> None:
    student, teacher = random_logits(3, 6)
    compare(name, student, teacher, temperature, 1e-13, 1e-10, **parameters)


@ALL
@pytest.mark.parametrize("temperature", [1.0, 100.0])
def test_float32_is_the_textbook(name, parameters, temperature) -> None:
    student, teacher = (x.float() for x in random_logits(3, 6, seed=1))
    compare(name, student, teacher, temperature, 1e-5, 3e-5, **parameters)


@ALL
@pytest.mark.parametrize(("distance", "error"), [(1e-3, 2e-3), (1e-5, 0.2)])
def test_float32_near_equality(name, parameters, distance, error) -> None:
    """What is lost is what float32 log-probabilities lose: 1e-7 of a difference of `distance`."""
    student, noise = random_logits(3, 6, seed=2)
    compare(name, student.float(), (student + distance * noise).float(), 1.0, error, error, **parameters)


@ALL
def test_float64_near_equality(name, parameters) -> None:
    student, noise = random_logits(3, 6, seed=3)
    compare(name, student, student + 1e-5 * noise, 1.0, 1e-9, 1e-8, **parameters)


@ALL
def test_float32_of_sharp_distributions(name, parameters) -> None:
    """T = 0.05: probabilities from 1 down to e^-150. The gradient's error is small beside the value's."""
    student, teacher = (x.float() for x in random_logits(4, 6, seed=4))
    value, slope = value_and_gradient(
        student, teacher, divergence=name, temperature=0.05, **RAW, **parameters
    )
    expected = reference.divergence(name, student, teacher, 0.05, **parameters).float().double()
    torch.testing.assert_close(value, expected, rtol=2e-4, atol=1e-12)
    truth = reference.gradient(name, student, teacher, 0.05, **parameters)
    held = truth.abs().amax(-1) < 1e37  # a row beyond float32 holds infinities, but no NaN
    torch.testing.assert_close(slope[held], truth[held], rtol=5e-3, atol=1e-4)
    assert not slope.isnan().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@ALL
def test_half_precision_input(name, parameters, dtype) -> None:
    """The value is float32's; the gradient comes back in the input's own precision."""
    student, teacher = (x.to(dtype) for x in random_logits(3, 6, seed=5))
    value, slope = value_and_gradient(student, teacher, divergence=name, temperature=2.0, **RAW, **parameters)
    expected = reference.divergence(name, student, teacher, 2.0, **parameters)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0.0)
    expected = reference.gradient(name, student, teacher, 2.0, **parameters)
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps  # fp16 has nothing below 6e-8
    torch.testing.assert_close(slope, expected, rtol=float(torch.finfo(dtype).eps), atol=smallest)
    leaf = student.clone().requires_grad_()
    value = kdlab.distillation_loss(leaf, teacher, divergence=name, **parameters)
    assert value.dtype == torch.float32
    assert torch.autograd.grad(value, leaf)[0].dtype == dtype


@ALL
def test_gradcheck(name, parameters) -> None:
    """Central finite differences of torch's own, in float64."""
    student, teacher = random_logits(2, 5, seed=6, spread=1.0)
    member = make_divergence(name, **parameters)
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: token_divergence(member, z, teacher, 1.5), (student,), eps=1e-6, atol=1e-7, rtol=1e-5
    )


@ALL
def test_generator_is_convex_zero_at_one_and_gives_the_divergence(name, parameters) -> None:
    """SUM q f(p / q), the one definition, where p / q is far from any trouble."""
    member = make_divergence(name, **parameters)
    student, teacher = random_logits(3, 6, seed=7, spread=1.0)
    p, q = teacher.softmax(-1), student.softmax(-1)
    by_definition = (q * member.generator(p / q)).sum(-1)
    torch.testing.assert_close(
        by_definition, reference.divergence(name, student, teacher, **parameters), rtol=1e-8, atol=1e-10
    )
    assert member.generator(torch.ones(1, dtype=torch.float64)).abs().item() < 1e-12
    t = torch.linspace(0.05, 8, 400, dtype=torch.float64)
    bend = torch.diff(member.generator(t), n=2)
    assert (bend > -1e-9).all()


@ALL
def test_no_term_is_negative_and_the_gradient_sums_to_zero(name, parameters) -> None:
    """Each term is at least 0, so that no sum of rounding errors falls below it; softmax moves no mass."""
    member = make_divergence(name, **parameters)
    for distance in (0.0, 1e-6, 1e-3, 1.0, 30.0):
        student, noise = (x.float() for x in random_logits(20, 9, seed=8))
        teacher = student + distance * noise
        pair = LogPair(teacher.log_softmax(-1), student.log_softmax(-1))
        assert (member.terms(pair) >= 0).all()
        slope = member.logit_gradient(pair)
        size = slope.abs().sum(-1).clamp_min(1.0)
        assert (slope.sum(-1).abs() <= 2e-6 * size).all() or slope.isinf().any()


@ALL
def test_an_entry_that_both_rule_out_changes_nothing(name, parameters) -> None:
    student, teacher = random_logits(2, 4)
    gone = torch.full((2, 1), -math.inf, dtype=torch.float64)
    value, slope = value_and_gradient(student, teacher, divergence=name, **RAW, **parameters)
    wide, wide_slope = value_and_gradient(
        torch.cat([student, gone], -1), torch.cat([teacher, gone], -1), divergence=name, **RAW, **parameters
    )
    torch.testing.assert_close(wide, value)
    torch.testing.assert_close(wide_slope[:, :-1], slope)
    assert (wide_slope[:, -1] == 0).all()


@pytest.mark.parametrize(
    ("name", "closed"),
    [
        ("forward_kl", lambda p, q, ratio, value: q - p),
        ("reverse_kl", lambda p, q, ratio, value: q * (-ratio - value)),
    ],
)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_closed_form_gradients_in_the_documentation(name, closed, temperature) -> None:
    student, teacher = random_logits(3, 6)
    value, slope = value_and_gradient(student, teacher, divergence=name, temperature=temperature, **RAW)
    p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    torch.testing.assert_close(slope, closed(p, q, (p / q).log(), value.unsqueeze(-1)) / temperature)


@EACH
def test_the_size_of_a_block_changes_nothing(name, parameters, monkeypatch) -> None:
    """Rows worked through two at a time, with one over; an upstream gradient that differs from row to row."""
    student, teacher = random_logits(5, 6)
    weights = torch.arange(1.0, 6.0, dtype=torch.float64)
    found = []
    for entries in (1, 12, 10**6):
        monkeypatch.setitem(blocks.BLOCK_ENTRIES, "cpu", entries)
        leaf = student.clone().requires_grad_()
        value = token_divergence(make_divergence(name, **parameters), leaf, teacher)
        found.append((value.detach(), *torch.autograd.grad((weights * value).sum(), leaf)))
    for one, two in pairwise(found):
        for x, y in zip(one, two, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-15)
    expected = weights.unsqueeze(-1) * reference.gradient(name, student, teacher, **parameters)
    torch.testing.assert_close(found[0][1], expected)


@EACH
@pytest.mark.parametrize("masked", [1, 5], ids=["few", "many"])
@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf, -1e4])
def test_rows_that_do_not_count(name, parameters, masked, rubbish, monkeypatch) -> None:
    """Few of them are worked through and thrown away, many are left out: 0 either way, the others as ever."""
    monkeypatch.setitem(blocks.BLOCK_ENTRIES, "cpu", 18)  # three rows
    student, teacher = random_logits(8, 6)
    counted = torch.arange(8) % 8 >= masked
    member = make_divergence(name, **parameters)
    leaf = student[counted].requires_grad_()
    expected = token_divergence(member, leaf, teacher[counted], 2.0)
    (slope,) = torch.autograd.grad(3 * expected.sum(), leaf)
    student[~counted], teacher[~counted] = rubbish, rubbish
    leaf = student.clone().requires_grad_()
    value = token_divergence(member, leaf, teacher, 2.0, counted, 3.0)
    (found,) = torch.autograd.grad(value.sum(), leaf)
    torch.testing.assert_close(value[counted], 3 * expected)
    torch.testing.assert_close(found[counted], slope)
    assert (value[~counted] == 0).all()
    assert (found[~counted] == 0).all()


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_overwriting_the_teacher_changes_no_number(name, parameters, dtype, monkeypatch) -> None:
    """And the teacher's logits stay whole unless it is asked for, or where nothing is to be learnt."""
    monkeypatch.setitem(blocks.BLOCK_ENTRIES, "cpu", 12)
    student, teacher = (logits.to(dtype) for logits in random_logits(5, 6))
    before = teacher.clone()
    expected = value_and_gradient(student, teacher, divergence=name, **parameters)
    assert torch.equal(teacher, before)
    kdlab.distillation_loss(student, teacher, divergence=name, overwrite_teacher=True, **parameters)
    assert torch.equal(teacher, before)
    found = value_and_gradient(student, teacher, divergence=name, overwrite_teacher=True, **parameters)
    for x, y in zip(found, expected, strict=True):
        assert torch.equal(x, y)
    assert torch.equal(teacher, before) == (dtype == torch.float16)  # whose gradient needs float32


def test_backward_twice() -> None:
    """The second call finds the gradient as the first did, whatever came from above."""
    student, teacher = random_logits(3, 5)
    student.requires_grad_()
    loss = token_divergence(make_divergence("forward_kl"), student, teacher).sum()
    first, second, third = (
        torch.autograd.grad(factor * loss, student, retain_graph=True)[0] for factor in (1.0, 5.0, 1.0)
    )
    assert torch.equal(first, third)
    torch.testing.assert_close(second, 5 * first)


@EACH
def test_a_token_that_weighs_nothing_sends_nothing_back(name, parameters) -> None:
    """0 * inf would be NaN."""
    student = torch.tensor([[0.0, 0.0, -math.inf], [0.0, 1.0, 2.0]], requires_grad=True)
    teacher = torch.tensor([[0.0, -math.inf, 0.0], [0.0, 0.0, 0.0]])
    value = token_divergence(make_divergence(name, **parameters), student, teacher)
    (slope,) = torch.autograd.grad(value, student, torch.tensor([0.0, 1.0]))
    assert (slope[0] == 0).all()
    assert slope[1].isfinite().all()
    assert (slope[1] != 0).any()


def test_fp16_gradients_saturate_and_keep_what_is_small() -> None:
    student = torch.tensor([0.0, -12.0], dtype=torch.float16)
    teacher = torch.tensor([-12.0, 0.0], dtype=torch.float16)
    value, slope = value_and_gradient(student, teacher, divergence="chi_square")
    assert value > 1e5
    assert slope.abs().tolist() == [65504.0, 65504.0]
    # A gradient of 1e-9 is below fp16's smallest number, and so must be kept in float32 until it is scaled.
    student = torch.tensor([0.0, -20.0], dtype=torch.float16, requires_grad=True)
    loss = kdlab.forward_kl(student, torch.tensor([0.0, -30.0], dtype=torch.float16))
    (slope,) = torch.autograd.grad(loss * 2.0**16, student)
    assert slope[1].item() == pytest.approx(2.0**16 * math.exp(-20), rel=1e-3)
    # A loss scale that is too large must overflow, or GradScaler would never lower it.
    loss = kdlab.forward_kl(student, torch.tensor([0.0, 5.0], dtype=torch.float16))
    (slope,) = torch.autograd.grad(loss * 2.0**20, student)
    assert slope.isinf().all()


def test_the_reference_itself() -> None:
    """The oracle against numbers known without it."""
    logits = (
        torch.tensor([0.5, 0.5], dtype=torch.float64).log(),
        torch.tensor([0.25, 0.75], dtype=torch.float64).log(),
    )
    assert reference.divergence("forward_kl", logits[1], logits[0]).item() == pytest.approx(
        0.5 * math.log(4 / 3)
    )
    slope = reference.gradient("forward_kl", logits[1], logits[0])
    assert slope.tolist() == pytest.approx([-0.25, 0.25])
    assert mp.dps == 15  # the reference's digits are its own


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("kl", {}, r"divergence: got 'kl', expected one of forward_kl, .*chi_square"),
        *[
            ("generalized_jsd", {"beta": b}, rf"beta: got {b}, expected .*0.0 to 1.0")
            for b in (-0.1, 1.1, math.nan)
        ],
        ("generalized_jsd", {"beta": "half"}, r"beta: got 'half', expected a finite number, 0.0 to 1.0"),
        *[
            (f"skew_{side}_kl", {"skew": s}, rf"skew: got {s}, expected .*0.0 to 1.0 \(excluded\)")
            for side in ("forward", "reverse")
            for s in (-0.1, 1.0, math.inf)
        ],
        ("alpha_divergence", {"alpha": math.inf}, r"alpha: got inf, expected a finite number"),
        ("forward_kl", {"beta": 0.5}, r"divergence 'forward_kl': got parameters \['beta'\], it has: none"),
        ("generalized_jsd", {"skew": 0.5}, r"got parameters \['skew'\], it has: beta, normalized"),
    ],
)
def test_bad_parameters_are_refused(name, parameters, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_divergence(name, **parameters)


def test_no_second_derivative_is_made_up() -> None:
    student, teacher = random_logits(2, 4)
    student.requires_grad_()
    (slope,) = torch.autograd.grad(kdlab.forward_kl(student, teacher), student, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        slope.sum().backward()
