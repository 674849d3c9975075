"""The distillation loss: what counts, how it is averaged, how it is scaled and mixed, what is refused."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch.nn import functional

import kdlab
from kdlab import DistillationLoss, distillation_loss
from kdlab.distributions import TopK
from tests.unit import reference
from tests.unit.reference import DEFAULTS, MEMBERS, label, random_logits, value_and_gradient

EACH = pytest.mark.parametrize(("name", "parameters"), DEFAULTS, ids=label)
ALL = pytest.mark.parametrize(("name", "parameters"), MEMBERS, ids=label)
IGNORED = -100


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two sequences of four tokens over six words; three tokens do not count."""
    student, teacher = random_logits(2, 4, 6, seed=seed)
    labels = torch.tensor([[0, 5, IGNORED, 2], [3, IGNORED, IGNORED, 1]])
    return student, teacher, labels


# --- masks and reductions ---------------------------------------------------------------------------------


@EACH
def test_reductions(name, parameters) -> None:
    student, teacher, labels = batch()
    tokens = reference.divergence(name, student, teacher, **parameters) * (labels != IGNORED)
    expected = {
        "none": tokens,
        "sum": tokens.sum(),
        "token_mean": tokens.sum() / 5,
        "batchmean": tokens.sum() / 5,
    }
    for reduction, value in expected.items():
        found = distillation_loss(
            student, teacher, labels, divergence=name, reduction=reduction, **parameters
        )
        torch.testing.assert_close(found, value)
    torch.testing.assert_close(distillation_loss(student, teacher, labels, divergence=name), tokens.sum() / 5)


def test_without_labels_every_token_counts() -> None:
    student, teacher, _ = batch()
    expected = reference.divergence("forward_kl", student, teacher)
    torch.testing.assert_close(kdlab.forward_kl(student, teacher), expected.mean())
    flat = kdlab.forward_kl(student.reshape(8, 6), teacher.reshape(8, 6), reduction="none")
    torch.testing.assert_close(flat, expected.reshape(8))


@pytest.mark.parametrize("number", [1, 5, 17, torch.tensor(17)])
def test_num_items_in_batch_is_the_divisor(number) -> None:
    student, teacher, labels = batch()
    total = kdlab.forward_kl(student, teacher, labels, reduction="sum")
    for reduction in ("token_mean", "batchmean"):
        found = kdlab.forward_kl(student, teacher, labels, num_items_in_batch=number, reduction=reduction)
        torch.testing.assert_close(found, total / int(number))


@pytest.mark.parametrize("ignore_index", [-1, 0, 6, 250])
def test_another_ignore_index(ignore_index) -> None:
    student, teacher, labels = batch()
    moved = labels.clone().masked_fill(labels == 0, 4).masked_fill(labels == IGNORED, ignore_index)
    found = distillation_loss(student, teacher, moved, ce_weight=0.3, ignore_index=ignore_index)
    expected = distillation_loss(student, teacher, labels.masked_fill(labels == 0, 4), ce_weight=0.3)
    torch.testing.assert_close(found, expected)


@EACH
@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("reduction", ["token_mean", "none"])
def test_a_masked_row_is_never_looked_at(name, parameters, rubbish, reduction) -> None:
    student, teacher, labels = batch()
    options = {"divergence": name, "ce_weight": 0.4, "temperature": 2.0, "reduction": reduction, **parameters}
    expected = value_and_gradient(student, teacher, labels, **options)
    student[labels == IGNORED] = rubbish
    teacher[labels == IGNORED] = rubbish
    value, slope = value_and_gradient(student, teacher, labels, **options)
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(slope, expected[1])
    assert (slope[labels == IGNORED] == 0).all()
    assert (slope[labels != IGNORED] != 0).all()


@EACH
@pytest.mark.parametrize("reduction", ["token_mean", "sum", "none"])
@pytest.mark.parametrize("sparse", [False, True])
def test_no_token_counts(name, parameters, reduction, sparse) -> None:
    """0, in the graph: backward gives zeros, as every other batch of the run gives something."""
    student, teacher, labels = batch()
    student.requires_grad_()
    signal = TopK.from_logits(teacher, 3) if sparse else teacher
    options = {"divergence": name, "ce_weight": 0.5, "reduction": reduction, **parameters}
    loss = distillation_loss(student, signal, torch.full_like(labels, IGNORED), **options)
    assert (loss == 0).all()
    assert loss.shape == (labels.shape if reduction == "none" else ())
    loss.sum().backward()
    assert student.grad is not None
    assert (student.grad == 0).all()


@pytest.mark.parametrize("number", [0, torch.tensor(0)])
def test_no_token_counts_in_the_whole_accumulated_batch(number) -> None:
    student, teacher, labels = batch()
    labels = torch.full_like(labels, IGNORED)
    value, slope = value_and_gradient(student, teacher, labels, ce_weight=0.5, num_items_in_batch=number)
    assert value == 0
    assert (slope == 0).all()


def test_an_empty_batch() -> None:
    empty = torch.zeros(0, 3, 6, requires_grad=True)
    loss = distillation_loss(empty, torch.zeros(0, 3, 6), torch.zeros(0, 3, dtype=torch.int64), ce_weight=0.5)
    loss.backward()
    assert loss == 0


# --- temperature and cross-entropy ------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_temperature_scaling_multiplies(name, parameters, temperature) -> None:
    student, teacher, _ = batch()
    power = 1 if name == "total_variation" else 2
    options = {"divergence": name, "temperature": temperature, "reduction": "none", **parameters}
    plain = distillation_loss(student, teacher, temperature_scaling=False, **options)
    torch.testing.assert_close(plain, reference.divergence(name, student, teacher, temperature, **parameters))
    torch.testing.assert_close(distillation_loss(student, teacher, **options), temperature**power * plain)


@ALL
def test_scaling_keeps_the_gradient_the_same_size(name, parameters) -> None:
    """As T grows the scaled gradient tends to a limit that is not 0; with another power it would not."""
    student, teacher, _ = batch()
    sizes = [
        value_and_gradient(student, teacher, divergence=name, temperature=t, **parameters)[1].norm().item()
        for t in (200.0, 800.0)
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)
    assert sizes[1] > 1e-10


def test_the_limit_of_forward_kl_is_the_squared_difference_of_centred_logits() -> None:
    """T^2 KL -> SUM (a - b)^2 / (2 V), a and b less their means (Hinton et al. 2015)."""
    student, teacher, _ = batch()
    difference = student - teacher
    difference = difference - difference.mean(-1, keepdim=True)
    found = kdlab.forward_kl(student, teacher, temperature=1e4, reduction="none")
    torch.testing.assert_close(found, difference.square().sum(-1) / 12, rtol=1e-3, atol=0.0)


@EACH
@pytest.mark.parametrize("ce_weight", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("reduction", ["token_mean", "sum", "none"])
def test_the_mix(name, parameters, ce_weight, reduction) -> None:
    """Both parts over the same tokens; cross-entropy at T = 1 whatever the divergence's temperature."""
    student, teacher, labels = batch()
    scale = 3.0 if name == "total_variation" else 9.0
    soft = scale * reference.divergence(name, student, teacher, 3.0, **parameters)
    hard = functional.cross_entropy(student.reshape(8, 6), labels.reshape(8), reduction="none").view(2, 4)
    tokens = ((1 - ce_weight) * soft + ce_weight * hard) * (labels != IGNORED)
    expected = {"none": tokens, "sum": tokens.sum(), "token_mean": tokens.sum() / 5}[reduction]
    options = {"divergence": name, "ce_weight": ce_weight, "temperature": 3.0, "reduction": reduction}
    torch.testing.assert_close(distillation_loss(student, teacher, labels, **options, **parameters), expected)


def test_gradcheck_of_the_whole_loss() -> None:
    student, teacher, labels = batch()
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: distillation_loss(z, teacher, labels, ce_weight=0.3, temperature=2.0), (student,), atol=1e-7
    )


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64])
def test_labels_of_any_integer_type(dtype) -> None:
    student, teacher, labels = batch()
    expected = distillation_loss(student, teacher, labels, ce_weight=0.5)
    assert distillation_loss(student, teacher, labels.to(dtype), ce_weight=0.5) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cross_entropy_of_half_precision_logits_is_float32(dtype) -> None:
    student, teacher, labels = batch()
    student = student.to(dtype)
    expected = functional.cross_entropy(student.float().reshape(8, 6), labels.reshape(8))
    found = distillation_loss(student, teacher.to(dtype), labels, ce_weight=1.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0.0)


def test_the_two_sides_may_differ_in_precision() -> None:
    student, teacher = (x.float() for x in random_logits(3, 6))
    for pair in (
        (student.bfloat16(), teacher),
        (student, teacher.half()),
        (student.double(), teacher.bfloat16()),
    ):
        value = kdlab.reverse_kl(*pair, reduction="none")
        assert value.dtype == torch.promote_types(pair[0].dtype, torch.float32)
        torch.testing.assert_close(
            value.double(), reference.divergence("reverse_kl", *pair), rtol=1e-5, atol=0.0
        )


# --- the sparse signal ------------------------------------------------------------------------------------


def coarse(student: torch.Tensor, teacher: torch.Tensor, k: int, temperature: float) -> list[torch.Tensor]:
    """The logits of k + 1 events for both, by a matrix that adds the entries of the tail up."""
    chosen = teacher.argsort(-1, descending=True)[..., :k]
    sums = functional.one_hot(chosen, teacher.shape[-1]).double()
    sums = torch.cat([sums, 1 - sums.sum(-2, keepdim=True)], -2)
    return [
        (sums @ (x / temperature).softmax(-1).unsqueeze(-1)).squeeze(-1).log() for x in (student, teacher)
    ]


@ALL
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_top_k_is_the_divergence_of_the_events(name, parameters, temperature) -> None:
    student, teacher, labels = batch()
    options = {"divergence": name, "temperature_scaling": False, **parameters}
    value, slope = value_and_gradient(
        student, TopK.from_logits(teacher, 3, temperature), labels, temperature=temperature, **options
    )
    counted = labels != IGNORED
    leaf = student.clone().requires_grad_()
    events, teacher_events = coarse(leaf, teacher, 3, temperature)
    by_hand = reference.divergence(name, events.detach(), teacher_events, **parameters)
    torch.testing.assert_close(value, by_hand[counted].mean())
    upstream = (
        reference.gradient(name, events.detach(), teacher_events, **parameters) * counted.unsqueeze(-1) / 5
    )
    torch.testing.assert_close(slope, torch.autograd.grad(events, leaf, upstream)[0], rtol=1e-6, atol=1e-12)


@ALL
def test_top_k_never_exceeds_the_whole_and_equals_it_at_k_equal_to_the_vocabulary(name, parameters) -> None:
    student, teacher, labels = batch()
    options = {"divergence": name, "temperature": 2.0, "ce_weight": 0.2, **parameters}
    whole, slope = value_and_gradient(student, teacher, labels, **options)
    before = torch.tensor(0.0)
    for k in range(1, 7):
        value, found = value_and_gradient(student, TopK.from_logits(teacher, k, 2.0), labels, **options)
        assert before <= value + 1e-9  # the more events are told apart, the more there is to see
        before = value
    torch.testing.assert_close(value, whole)
    torch.testing.assert_close(found, slope)


@EACH
def test_top_k_of_a_teacher_that_rules_out_the_rest(name, parameters) -> None:
    """A tail of -inf: two events at most for the student, and infinite only for reverse KL."""
    teacher = torch.tensor([[1.0, 2.0, -math.inf, -math.inf]])
    student = torch.tensor([[0.5, 0.1, -1.0, 0.3]])
    value, slope = value_and_gradient(student, TopK.from_logits(teacher, 2), divergence=name, **parameters)
    if name == "reverse_kl":
        assert value == math.inf
        assert not slope.isnan().any()
    else:
        expected = reference.divergence(name, student, teacher, **parameters)
        torch.testing.assert_close(value, expected.mean(), rtol=1e-5, atol=1e-6)
        assert slope.isfinite().all()
    both = student.masked_fill(teacher == -math.inf, -math.inf)  # and where the student rules it out too
    value, slope = value_and_gradient(both, TopK.from_logits(teacher, 2), divergence=name, **parameters)
    assert value.isfinite()
    assert slope.isfinite().all()


# --- vocabularies of different length ---------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("longer", ["student", "teacher"])
def test_common_vocabulary_cuts_before_the_softmax(name, parameters, longer) -> None:
    student, teacher, labels = batch()
    value, slope = value_and_gradient(student, teacher, labels, divergence=name, **parameters)
    extra = torch.full((2, 4, 2), 3.0, dtype=torch.float64)  # what a padded row of an embedding may give
    student, teacher = (
        (torch.cat([student, extra], -1), teacher)
        if longer == "student"
        else (student, torch.cat([teacher, extra], -1))
    )
    options = {"divergence": name, "vocabulary": "common", **parameters}
    found, found_slope = value_and_gradient(student, teacher, labels, **options)
    torch.testing.assert_close(found, value)
    torch.testing.assert_close(found_slope[..., :6], slope)
    assert (found_slope[..., 6:] == 0).all()


def test_cross_entropy_keeps_the_students_own_vocabulary() -> None:
    student, teacher, labels = batch()
    student = torch.cat([student, student[..., :1]], -1)
    labels[0, 0] = 6  # a word that the teacher does not have
    found = distillation_loss(student, teacher, labels, ce_weight=1.0, vocabulary="common")
    torch.testing.assert_close(found, functional.cross_entropy(student.reshape(8, 7), labels.reshape(8)))


# --- the ten names ----------------------------------------------------------------------------------------


@ALL
def test_every_name_is_the_loss_it_says(name, parameters) -> None:
    student, teacher, labels = batch()
    options = {
        "temperature": 2.0,
        "ignore_index": 5,
        "reduction": "sum",
        "temperature_scaling": False,
        **parameters,
    }
    labels = labels.masked_fill(labels == IGNORED, 4)
    found = getattr(kdlab, name)(student, teacher, labels, **options)
    torch.testing.assert_close(found, distillation_loss(student, teacher, labels, divergence=name, **options))
    torch.testing.assert_close(
        found, reference.divergence(name, student, teacher, 2.0, **parameters)[labels != 5].sum()
    )


def test_the_defaults_are_those_of_the_design() -> None:
    found = {
        name: {
            p.name: p.default
            for p in inspect.signature(getattr(kdlab, name)).parameters.values()
            if p.kind == p.KEYWORD_ONLY
        }
        for name, _ in DEFAULTS
    }
    own = {
        "generalized_jsd": {"beta": 0.5, "normalized": False},
        "skew_forward_kl": {"skew": 0.1},
        "skew_reverse_kl": {"skew": 0.1},
        "alpha_divergence": {"alpha": 0.5},
    }
    assert found == {name: own.get(name, {}) for name, _ in DEFAULTS}
    student, teacher, labels = batch()
    for name, parameters in own.items():
        expected = reference.divergence(name, student, teacher, **parameters).mean()
        torch.testing.assert_close(getattr(kdlab, name)(student, teacher), expected)
        torch.testing.assert_close(distillation_loss(student, teacher, divergence=name), expected)
    torch.testing.assert_close(
        distillation_loss(student, teacher, labels), kdlab.forward_kl(student, teacher, labels)
    )


def test_the_module() -> None:
    student, teacher, labels = batch()
    options = {"divergence": "generalized_jsd", "beta": 0.2, "temperature": 2.0, "ce_weight": 0.3}
    module = DistillationLoss(**options)
    torch.testing.assert_close(
        module(student, teacher, labels), distillation_loss(student, teacher, labels, **options)
    )
    torch.testing.assert_close(
        module(student, teacher, labels, num_items_in_batch=9),
        distillation_loss(student, teacher, labels, num_items_in_batch=9, **options),
    )
    assert list(module.parameters()) == []
    assert "beta=0.2" in repr(module)
    assert "divergence='generalized_jsd'" in repr(module)
    assert DistillationLoss()(student, teacher) == kdlab.forward_kl(student, teacher)
