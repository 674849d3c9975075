"""Bad input to the losses from hidden states: a ValueError that names the argument, what came, what was expected."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from kdlab import FusedLinearDistillationLoss, fused_linear_distillation_loss

GENERATOR = torch.Generator().manual_seed(0)
GOOD = {
    "student_hidden": torch.randn(2, 4, 5, generator=GENERATOR),
    "student_weight": torch.randn(6, 5, generator=GENERATOR),
    "teacher_hidden": torch.randn(2, 4, 3, generator=GENERATOR),
    "teacher_weight": torch.randn(6, 3, generator=GENERATOR),
    "labels": torch.tensor([[0, 5, -100, 2], [3, -100, -100, 1]]),
    "student_bias": torch.zeros(6),
    "teacher_bias": torch.zeros(6),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student_hidden": [1.0]}, r"^student_hidden: got list, expected a tensor"),
        ({"teacher_weight": None}, r"^teacher_weight: got NoneType, expected a tensor"),
        (
            {"student_weight": torch.ones(6, 5, dtype=torch.int64)},
            r"^student_weight: got dtype torch.int64, expected floating",
        ),
        ({"student_hidden": torch.ones(5)}, r"^student_hidden: got shape \(5,\), expected \[batch, length"),
        (
            {"student_weight": torch.ones(5, 6)},
            r"^student_weight: got shape \(5, 6\), expected \[vocabulary, 5\], since student_hidden is \(2, 4, 5\)",
        ),
        ({"teacher_weight": torch.ones(3)}, r"^teacher_weight: got shape \(3,\), expected \[vocabulary, 3\]"),
        ({"student_weight": torch.ones(0, 5)}, r"^student_weight: got shape \(0, 5\)"),
        ({"student_bias": torch.ones(5)}, r"^student_bias: got shape \(5,\), expected \(6,\)"),
        ({"teacher_bias": torch.ones(6, 1)}, r"^teacher_bias: got shape \(6, 1\), expected \(6,\)"),
        (
            {"teacher_hidden": torch.ones(2, 3, 3)},
            r"^teacher_hidden: got shape \(2, 3, 3\), expected \(2, 4\) rows, as student_hidden has",
        ),
        ({"labels": torch.zeros(2, 3).long()}, r"^labels: got shape \(2, 3\), expected \(2, 4\)"),
        ({"labels": torch.zeros(2, 4)}, r"^labels: got dtype torch.float32, expected integers"),
        (
            {"teacher_weight": torch.ones(7, 3), "teacher_bias": None},
            r"^teacher_weight: got a vocabulary of 7, expected the student's 6; vocabulary='common'",
        ),
        ({"vocabulary": "longest"}, r"^vocabulary: got 'longest'"),
        ({"ce_weight": 1.5}, r"^ce_weight: got 1.5, expected 0 to 1"),
        ({"ce_weight": 0.5, "labels": None}, r"^labels: got None, expected the references"),
        ({"temperature": 0.0}, r"^temperature: got 0.0, expected a finite number > 0"),
        ({"reduction": "mean"}, r"^reduction: got 'mean', expected 'token_mean'"),
        ({"reduction": "sum", "num_items_in_batch": 3}, r"^num_items_in_batch: got a value with reduction='sum'"),
        ({"student_scale": 0.0}, r"^student_scale: got 0.0, expected a finite number > 0"),
        ({"teacher_scale": None}, r"^teacher_scale: got None, expected a finite number > 0"),
        ({"student_soft_cap": math.inf}, r"^student_soft_cap: got inf, expected a finite number > 0"),
        ({"teacher_soft_cap": -1}, r"^teacher_soft_cap: got -1, expected a finite number > 0"),
        ({"chunk_tokens": 0}, r"^chunk_tokens: got 0, expected a whole number of at least 1"),
        ({"chunk_tokens": 2.5}, r"^chunk_tokens: got 2.5, expected a whole number"),
        ({"divergence": "kl"}, r"^divergence: got 'kl', expected one of forward_kl"),
        ({"beta": 0.5}, r"^divergence 'forward_kl': got parameters \['beta'\], it has: none"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_name(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        fused_linear_distillation_loss(**{**GOOD, **change})


@pytest.mark.parametrize("name", ["hidden", "weight", "bias"])
def test_a_teacher_that_requires_grad(name) -> None:
    tensor = GOOD[f"teacher_{name}"].clone().requires_grad_()
    with pytest.raises(ValueError, match=rf"^teacher_{name}: got a tensor that requires grad, expected none"):
        fused_linear_distillation_loss(**{**GOOD, f"teacher_{name}": tensor})


@pytest.mark.parametrize("reduction", ["token_mean", "none"])
@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_hidden_states_that_make_no_logits(reduction, side, value) -> None:
    hidden = GOOD[f"{side}_hidden"].clone()
    hidden[1, 3, 0] = value
    hidden[0, 2] = math.nan  # does not count
    message = rf"^{side}_hidden, {side}_weight: logits: got NaN, .* in 1 of 5 counted rows, first in row 4"
    with pytest.raises(ValueError, match=message):
        fused_linear_distillation_loss(
            **{**GOOD, f"{side}_hidden": hidden}, reduction=reduction, chunk_tokens=2
        )


@pytest.mark.parametrize("ce_weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("wrong", [6, -1, 10**6])
@pytest.mark.parametrize("reduction", ["token_mean", "none"])
def test_labels_out_of_range(ce_weight, wrong, reduction) -> None:
    labels = GOOD["labels"].clone()
    labels[0, 1] = wrong
    with pytest.raises(ValueError, match=rf"^labels: got {wrong}, expected 0 to 5, .*1 labels out"):
        fused_linear_distillation_loss(**{**GOOD, "labels": labels}, ce_weight=ce_weight, reduction=reduction)


def test_the_module_refuses_a_misspelt_option_at_once() -> None:
    with pytest.raises(ValueError, match=r"got parameters \['temprature'\]"):
        FusedLinearDistillationLoss(temprature=2.0)
    with pytest.raises(ValueError, match=r"overwrite_teacher"):
        FusedLinearDistillationLoss(overwrite_teacher=True)


def test_it_is_imported_when_it_is_asked_for() -> None:
    script = "import sys, kdlab; print('kdlab.fused' in sys.modules); kdlab.FusedLinearDistillationLoss"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
