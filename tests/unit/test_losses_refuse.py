"""Bad input to the losses: a ValueError that names the argument, what came and what was expected."""

from __future__ import annotations

import math

import pytest
import torch

from kdlab import DistillationLoss, distillation_loss
from kdlab.distributions import TopK
from tests.unit.reference import DEFAULTS, random_logits

STUDENT, TEACHER = random_logits(2, 4, 6)
LABELS = torch.tensor([[0, 5, -100, 2], [3, -100, -100, 1]])


def spoilt(logits: torch.Tensor, value: float, *, row: bool = False) -> torch.Tensor:
    logits = logits.clone()
    logits[1, 3, slice(None) if row else 2] = value
    return logits


@pytest.mark.parametrize("name", [name for name, _ in DEFAULTS])
@pytest.mark.parametrize(
    ("value", "row"),
    [(math.nan, False), (math.nan, True), (math.inf, False), (math.inf, True), (-math.inf, True)],
)
@pytest.mark.parametrize("reduction", ["token_mean", "none"])
def test_logits_that_are_no_logits(name, value, row, reduction) -> None:
    message = r"got NaN, \+inf or nothing but -inf in 1 of 5 counted rows, .*row 4; expected finite"
    options = {"divergence": name, "reduction": reduction}
    with pytest.raises(ValueError, match="student_logits: " + message):
        distillation_loss(spoilt(STUDENT, value, row=row), TEACHER, LABELS, **options)
    with pytest.raises(ValueError, match="teacher_logits: " + message):
        distillation_loss(STUDENT, spoilt(TEACHER, value, row=row), LABELS, **options)
    sparse = TopK.from_logits(TEACHER, 2)
    sparse.log_probabilities[1, 3, 0] = math.nan
    with pytest.raises(ValueError, match="teacher_logits: " + message):
        distillation_loss(STUDENT, sparse, LABELS, **options)


@pytest.mark.parametrize("ce_weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("wrong", [6, -1, -101, 10**6])
@pytest.mark.parametrize("reduction", ["token_mean", "none"])
def test_labels_out_of_range(ce_weight, wrong, reduction) -> None:
    """Refused whenever labels are given, even where only their mask is used: a wrong tokenizer."""
    labels = LABELS.clone()
    labels[0, 1] = wrong
    with pytest.raises(
        ValueError, match=rf"labels: got {wrong}, expected 0 to 5, or ignore_index .*1 labels out"
    ):
        distillation_loss(STUDENT, TEACHER, labels, ce_weight=ce_weight, reduction=reduction)


def top(k: int = 2, temperature: float = 1.0, logits: torch.Tensor = TEACHER) -> TopK:
    return TopK.from_logits(logits, k, temperature)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((STUDENT.long(), TEACHER), {}, r"^student_logits: got dtype torch.int64, expected floating point"),
        ((STUDENT, TEACHER.long()), {}, r"^teacher_logits: got dtype torch.int64, expected floating point"),
        ((STUDENT.tolist(), TEACHER), {}, r"^student_logits: got list, expected a tensor"),
        ((STUDENT, None), {}, r"^teacher_logits: got NoneType, expected a tensor"),
        (
            (torch.tensor(1.0), TEACHER),
            {},
            r"^student_logits: got shape \(\), expected \[\.\.\., vocabulary\]",
        ),
        ((STUDENT, TEACHER[:1]), {}, r"^teacher_logits: got shape \(1, 4, 6\), expected \(2, 4\) rows"),
        (
            (STUDENT, TEACHER.reshape(8, 6)),
            {},
            r"^teacher_logits: got shape \(8, 6\), expected \(2, 4\) rows",
        ),
        (
            (STUDENT, top(logits=TEACHER[:1])),
            {},
            r"^teacher_logits: got shape \(1, 4, 2\), expected \(2, 4\) rows",
        ),
        (
            (STUDENT, TEACHER[..., :5]),
            {},
            r"^teacher_logits: got a vocabulary of 5, expected the student's 6; voc",
        ),
        (
            (STUDENT, top(logits=TEACHER[..., :5])),
            {},
            r"^teacher_logits: got a vocabulary of 5, expected the stu",
        ),
        (
            (STUDENT, top(logits=TEACHER[..., :5])),
            {"vocabulary": "common"},
            r"^vocabulary: got 'common' with a TopK",
        ),
        ((STUDENT, top(temperature=2.0)), {}, r"^temperature: got 1.0, expected 2.0, at which the teacher's"),
        (
            (STUDENT, TEACHER.clone().requires_grad_()),
            {},
            r"^teacher_logits: got a tensor that requires grad",
        ),
        (
            (STUDENT, top(logits=TEACHER.clone().requires_grad_())),
            {},
            r"^teacher_logits: got a tensor that requ",
        ),
        ((STUDENT, TEACHER, LABELS[:, :3]), {}, r"^labels: got shape \(2, 3\), expected \(2, 4\)"),
        ((STUDENT, TEACHER, LABELS[:1]), {}, r"^labels: got shape \(1, 4\), expected \(2, 4\)"),
        ((STUDENT, TEACHER, LABELS.double()), {}, r"^labels: got dtype torch.float64, expected integers"),
        ((STUDENT, TEACHER, LABELS > 0), {}, r"^labels: got dtype torch.bool, expected integers"),
        ((STUDENT, TEACHER, LABELS.tolist()), {}, r"^labels: got list, expected a tensor"),
        (
            (STUDENT, TEACHER),
            {"ce_weight": 0.1},
            r"^labels: got None, expected the references, since ce_weight is 0.1",
        ),
        *[
            ((STUDENT, TEACHER, LABELS), {"ce_weight": w}, rf"^ce_weight: got {w!r}, expected 0 to 1")
            for w in (-0.1, 1.1, math.nan, "half")
        ],
        *[
            (
                (STUDENT, TEACHER),
                {"temperature": t},
                rf"^temperature: got {t!r}, expected a finite number > 0",
            )
            for t in (0, 0.0, -2.0, math.nan, math.inf, "hot")
        ],
        (
            (STUDENT, TEACHER),
            {"reduction": "mean"},
            r"^reduction: got 'mean', expected 'token_mean', 'batchmean', 's",
        ),
        ((STUDENT, TEACHER), {"vocabulary": "cut"}, r"^vocabulary: got 'cut', expected 'same' or 'common'"),
        *[
            (
                (STUDENT, TEACHER),
                {"num_items_in_batch": n},
                rf"^num_items_in_batch: got {n!r}, expected a count",
            )
            for n in (-1, math.nan, math.inf, "5")
        ],
        *[
            (
                (STUDENT, TEACHER),
                {"num_items_in_batch": 5, "reduction": r},
                rf"^num_items_in_batch: .*reduction='{r}'",
            )
            for r in ("sum", "none")
        ],
        (
            (STUDENT, TEACHER),
            {"divergence": "kl"},
            r"^divergence: got 'kl', expected one of forward_kl, reverse_kl",
        ),
        (
            (STUDENT, TEACHER),
            {"divergence": "generalized_jsd", "beta": 1.5},
            r"^beta: got 1.5, expected .*0.0 to 1.0",
        ),
        (
            (STUDENT, TEACHER),
            {"beta": 0.5},
            r"^divergence 'forward_kl': got parameters \['beta'\], it has: none",
        ),
    ],
)
def test_bad_input_is_refused_with_its_name(arguments, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        distillation_loss(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"divergence": "forwardkl"}, "divergence: got 'forwardkl'"),
        ({"divergence": "generalized_jsd", "betta": 0.1}, r"got parameters \['betta'\]"),
        ({"divergence": "generalized_jsd", "beta": 1.5}, "beta: got 1.5"),
    ],
)
def test_a_module_refuses_when_it_is_made(options, words) -> None:
    """Not hours later, at its first batch."""
    with pytest.raises(ValueError, match=words):
        DistillationLoss(**options)
