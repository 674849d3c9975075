"""The losses from hidden states: equal to the textbook on full logits, in value and all gradients, in any chunks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import kdlab
from kdlab import FusedLinearDistillationLoss, fused, fused_linear_distillation_loss
from tests.unit.reference import DEFAULTS, MEMBERS, label

EACH = pytest.mark.parametrize(("name", "parameters"), DEFAULTS, ids=label)
ALL = pytest.mark.parametrize(("name", "parameters"), MEMBERS, ids=label)
IGNORED = -100
LABELS = torch.tensor([[0, 5, IGNORED, 2], [3, IGNORED, IGNORED, 1]])
HEADS = {"student_scale": 0.7, "teacher_scale": 1.3, "student_soft_cap": 3.0, "teacher_soft_cap": 4.0}


def kl(a: Tensor, b: Tensor) -> Tensor:
    return (a * (a / b).log()).sum(-1)


# The nine with their default parameters, as a textbook prints them, for autograd in float64.
TEXTBOOK = {
    "forward_kl": lambda p, q: kl(p, q),
    "reverse_kl": lambda p, q: kl(q, p),
    "generalized_jsd": lambda p, q: (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2,
    "skew_forward_kl": lambda p, q: kl(p, 0.1 * p + 0.9 * q),
    "skew_reverse_kl": lambda p, q: kl(q, 0.9 * p + 0.1 * q),
    "total_variation": lambda p, q: (p - q).abs().sum(-1) / 2,
    "alpha_divergence": lambda p, q: 4 * (1 - (p * q).sqrt().sum(-1)),
    "squared_hellinger": lambda p, q: (p.sqrt() - q.sqrt()).square().sum(-1) / 2,
    "chi_square": lambda p, q: ((p - q).square() / q).sum(-1),
}


class Example:
    """Two sequences of four tokens over six words; the student is 5 wide, the teacher 3."""

    def __init__(self, dtype: torch.dtype = torch.float64, seed: int = 0, words: tuple[int, int] = (6, 6)):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.student = [draw(2, 4, 5), draw(words[0], 5), draw(words[0])]
        self.teacher = [draw(2, 4, 3), draw(words[1], 3), draw(words[1])]

    def loss(self, labels: Tensor | None = LABELS, **options) -> Tensor:
        (hidden, weight, bias), (of_teacher, its_weight, its_bias) = self.student, self.teacher
        return fused_linear_distillation_loss(
            hidden, weight, of_teacher, its_weight, labels, bias, its_bias, **options
        )

    def logits(self, **heads: float) -> tuple[Tensor, Tensor]:
        """What the two models would return."""
        return tuple(
            cap * torch.tanh(scale * (hidden @ weight.T + bias) / cap) if cap else hidden @ weight.T + bias
            for (hidden, weight, bias), scale, cap in (
                (self.student, heads.get("student_scale"), heads.get("student_soft_cap")),
                (self.teacher, heads.get("teacher_scale"), heads.get("teacher_soft_cap")),
            )
        )

    def gradients(self, loss: Tensor, upstream: Tensor | None = None) -> list[Tensor]:
        return list(torch.autograd.grad(loss, self.student, upstream))

    def track(self) -> Example:
        self.student = [x.clone().requires_grad_() for x in self.student]
        return self


# --- equal to the loss of the full logits -------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("chunk_tokens", [1, 2, 3, 100, None])
@pytest.mark.parametrize(("ce_weight", "temperature", "heads"), [(0.0, 1.0, {}), (0.3, 2.0, HEADS)])
def test_equals_autograd_of_the_textbook(
    name, parameters, chunk_tokens, ce_weight, temperature, heads
) -> None:
    example = Example().track()
    student, teacher = example.logits(**heads)
    p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    power = 1 if name == "total_variation" else 2
    hard = functional.cross_entropy(student.view(8, 6), LABELS.view(8), reduction="none").view(2, 4)
    tokens = (1 - ce_weight) * temperature**power * TEXTBOOK[name](p, q) + ce_weight * hard
    expected = tokens[LABELS != IGNORED].mean()
    options = {"divergence": name, "ce_weight": ce_weight, "temperature": temperature, **parameters}
    found = example.loss(chunk_tokens=chunk_tokens, **options, **heads)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    pairs = zip(example.gradients(found), example.gradients(expected), strict=True)
    for slope, wanted in pairs:
        torch.testing.assert_close(slope, wanted, rtol=1e-8, atol=1e-11)


@ALL
@pytest.mark.parametrize("reduction", ["token_mean", "sum", "none"])
@pytest.mark.parametrize("labelled", [True, False])
def test_equals_the_loss_of_full_logits_to_float32(name, parameters, reduction, labelled) -> None:
    example = Example(torch.float32, seed=1).track()
    labels = LABELS if labelled else None
    options = {"divergence": name, "temperature": 1.5, "reduction": reduction, **parameters}
    options |= {
        "ce_weight": 0.4 if labelled else 0.0,
        "num_items_in_batch": 7 if "mean" in reduction else None,
    }
    student, teacher = example.logits(**HEADS)
    expected = kdlab.distillation_loss(student, teacher, labels, **options)
    found = example.loss(labels, chunk_tokens=3, **options, **HEADS)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)
    upstream = torch.arange(1.0, 9.0).view(2, 4) if reduction == "none" else torch.tensor(3.0)
    pairs = zip(example.gradients(found, upstream), example.gradients(expected, upstream), strict=True)
    for slope, wanted in pairs:
        torch.testing.assert_close(slope, wanted, rtol=5e-5, atol=2e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("reduction", ["token_mean", "none"])
def test_gradcheck(reduction) -> None:
    example = Example().track()
    teacher, its_weight, its_bias = example.teacher

    def loss(hidden, weight, bias):
        return fused_linear_distillation_loss(
            hidden, weight, teacher, its_weight, LABELS, bias, its_bias,
            divergence="generalized_jsd", ce_weight=0.3, temperature=2.0, reduction=reduction, chunk_tokens=2, **HEADS,
        )  # fmt: skip

    assert torch.autograd.gradcheck(loss, tuple(example.student), atol=1e-7)


def test_tokens_may_come_flat_and_in_any_layout() -> None:
    example = Example().track()
    expected = example.loss()
    wanted = example.gradients(expected)
    example.student[0] = example.student[0].detach().mT.contiguous().mT.requires_grad_()
    found = example.loss()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(example.gradients(found), wanted)
    example.student[0], example.teacher[0] = (
        example.student[0].flatten(0, 1),
        example.teacher[0].flatten(0, 1),
    )
    torch.testing.assert_close(example.loss(LABELS.flatten()), expected)


def test_a_word_that_both_rule_out() -> None:
    """A bias of -inf is how a padded vocabulary is kept out; its row learns nothing."""
    example = Example()
    shorter = Example()
    for side in (example.student, example.teacher):
        side[2][5] = -math.inf
    for side in (shorter.student, shorter.teacher):
        side[1], side[2] = side[1][:5], side[2][:5]
    labels = LABELS.masked_fill(LABELS == 5, 4)
    for name, _ in DEFAULTS:
        options = {"divergence": name, "ce_weight": 0.2}
        found, expected = example.track().loss(labels, **options), shorter.track().loss(labels, **options)
        torch.testing.assert_close(found, expected)
        for slope, wanted in zip(example.gradients(found), shorter.gradients(expected), strict=True):
            torch.testing.assert_close(slope[:5] if len(slope) == 6 else slope, wanted)
            assert len(slope) != 6 or (slope[5] == 0).all()


# --- masks, vocabularies ------------------------------------------------------------------------------------


class Watch(TorchDispatchMode):
    """Counts the rows of each matrix product, and keeps the size of the largest tensor made."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[tuple[int, int]] = []
        self.largest = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm_):
            self.products.append(tuple(result.shape))
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.numel())
        return result


@pytest.mark.parametrize("rubbish", [math.nan, math.inf])
@pytest.mark.parametrize("reduction", ["token_mean", "none"])
def test_padding_is_not_computed(rubbish, reduction) -> None:
    example = Example().track()
    options = {"ce_weight": 0.4, "reduction": reduction, "ignore_index": 3}
    labels = LABELS.masked_fill(LABELS == 3, 4).masked_fill(LABELS == IGNORED, 3)
    expected = example.loss(labels, **options)
    wanted = example.gradients(expected.sum())
    for side in (example.student, example.teacher):
        side[0] = side[0].detach().masked_fill((labels == 3).unsqueeze(-1), rubbish)
    with Watch() as watch:
        found = example.track().loss(labels, chunk_tokens=2, **options)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(example.gradients(found.sum()), wanted)
    assert sum(rows for rows, columns in watch.products if columns == 6) == 2 * 5  # both sides, five tokens


@EACH
@pytest.mark.parametrize("reduction", ["token_mean", "none"])
def test_no_token_counts(name, parameters, reduction) -> None:
    example = Example().track()
    loss = example.loss(torch.full_like(LABELS, IGNORED), divergence=name, ce_weight=0.5, reduction=reduction)
    assert (loss == 0).all()
    assert all((slope == 0).all() for slope in example.gradients(loss.sum()))


def test_an_empty_batch() -> None:
    example = Example().track()
    example.student[0], example.teacher[0] = example.student[0][:0], example.teacher[0][:0]
    loss = example.loss(LABELS[:0], ce_weight=0.5)
    assert loss == 0
    assert (example.gradients(loss)[1] == 0).all()


def test_micro_batches_add_up_to_the_batch() -> None:
    example = Example().track()
    options = {"ce_weight": 0.3, "temperature": 2.0}
    wanted = example.gradients(example.loss(**options))[1]
    parts = []
    for row in (0, 1):
        part = Example().track()
        part.student[0], part.teacher[0] = part.student[0][row], part.teacher[0][row]
        parts.append(part.gradients(part.loss(LABELS[row], num_items_in_batch=torch.tensor(5), **options))[1])
    torch.testing.assert_close(sum(parts), wanted)


@EACH
@pytest.mark.parametrize("words", [(9, 6), (6, 9)])
@pytest.mark.parametrize("ce_weight", [0.0, 0.3])
def test_common_vocabulary(name, parameters, words, ce_weight) -> None:
    """Cut before the softmax; cross-entropy keeps the student's own, with a word that the teacher lacks."""
    example = Example(words=words).track()
    labels = LABELS.masked_fill(LABELS == 5, words[0] - 1)
    student, teacher = example.logits()
    p, q = teacher[..., :6].softmax(-1), student[..., :6].softmax(-1)
    hard = functional.cross_entropy(student.flatten(0, 1), labels.flatten(), reduction="none").view(2, 4)
    expected = ((1 - ce_weight) * TEXTBOOK[name](p, q) + ce_weight * hard)[labels != IGNORED].mean()
    found = example.loss(
        labels, divergence=name, ce_weight=ce_weight, vocabulary="common", chunk_tokens=2, **parameters
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(example.gradients(found), example.gradients(expected))


def test_entries_that_only_the_student_has_are_not_computed() -> None:
    with Watch() as watch:
        Example(words=(9, 6)).loss(vocabulary="common")
    assert {columns for _, columns in watch.products} == {6}


def test_cross_entropy_alone_leaves_the_teacher_alone() -> None:
    example = Example().track()
    example.teacher = [torch.full_like(x, math.nan) for x in example.teacher]
    hard = functional.cross_entropy(example.logits()[0].view(8, 6), LABELS.view(8))
    found = example.loss(ce_weight=1.0)
    torch.testing.assert_close(found, hard)
    torch.testing.assert_close(example.gradients(found), example.gradients(hard))


# --- chunks, and what is not made ---------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["token_mean", "none"])
def test_the_full_logits_never_exist(monkeypatch, reduction) -> None:
    """Chunks keep within the budget of bytes, and are of one size; nothing is as large as the logits of all tokens."""
    tokens, vocabulary, hidden = 100, 50, 4
    monkeypatch.setitem(fused.CHUNK_BYTES, "cpu", 30 * vocabulary * 4)
    generator = torch.Generator().manual_seed(0)
    hiddens = torch.randn(2, tokens, hidden, generator=generator)
    weights = torch.randn(2, vocabulary, hidden, generator=generator)
    student, weight = hiddens[0].requires_grad_(), weights[0].requires_grad_()
    with Watch() as watch:
        loss = fused_linear_distillation_loss(
            student, weight, hiddens[1].detach(), weights[1].detach(), reduction=reduction
        )
        loss.sum().backward()
    assert watch.largest <= 30 * vocabulary
    assert {rows for rows, columns in watch.products if columns == vocabulary} == {25}


def test_only_the_gradients_that_are_wanted_are_made() -> None:
    products = {}
    for wanted in ("none of them", "hidden", "weight", "both, but no_grad"):
        example = Example()
        example.student[0].requires_grad_(wanted in ("hidden", "both, but no_grad"))
        example.student[1].requires_grad_(wanted in ("weight", "both, but no_grad"))
        with Watch() as watch, torch.set_grad_enabled(wanted != "both, but no_grad"):
            example.loss()
        products[wanted] = len(watch.products)
    assert products == {"none of them": 2, "hidden": 3, "weight": 3, "both, but no_grad": 2}


def test_the_module() -> None:
    example = Example()
    options = {"divergence": "generalized_jsd", "beta": 0.2, "ce_weight": 0.3, "student_soft_cap": 3.0}
    module = FusedLinearDistillationLoss(**options)
    hidden, weight, bias = example.student
    teacher, its_weight, its_bias = example.teacher
    found = module(hidden, weight, teacher, its_weight, LABELS, bias, its_bias, num_items_in_batch=9)
    torch.testing.assert_close(found, example.loss(num_items_in_batch=9, **options))
    torch.testing.assert_close(
        module(hidden, weight, teacher, its_weight, LABELS),
        fused_linear_distillation_loss(hidden, weight, teacher, its_weight, LABELS, **options),
    )
    assert list(module.parameters()) == []
    assert "divergence='generalized_jsd'" in repr(module)
    assert "beta=0.2" in repr(module)
