"""Notebook 02's judges and drawn inputs: each mistake chooses differently, and no right answer is accused."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import MarianMTModel

from kdlab.classroom import mistakes_student
from kdlab.classroom.recognition import Call, indistinct
from kdlab.classroom.student_exercises import choose_student, draw_roles, draw_sizes, judge_copied_layers
from kdlab.counts import count, sketch
from kdlab.student_init import copied_student
from kdlab.students import Architecture, marian_config, seeded

COUNTS = [
    "biases_missing", "norms_missing", "norms_halved", "embedding_missing", "cross_attention_missing",
    "positions_counted", "embedding_repeated", "decoder_like_encoder", "output_projection_missing",
    "heads_multiplied", "layers_not_multiplied", "one_ffn_for_both",
]  # fmt: skip
# Where the right student fills its budget exactly it has the most parameters too, and else no exact fit is refused.
SILENT = {0: {"most_parameters"}, 1: {"exact_fit_refused"}}
BUDGET = [
    "bits_taken_for_bytes", "bits_ignored", "binary_megabytes", "exact_fit_refused", "most_parameters", "smallest",
    "only_layers_must_fit", "budget_ignored",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_each_mistake_chooses_another_student(seed):
    known = [getattr(mistakes_student, name) for name in BUDGET if name not in SILENT[seed % 2]]
    assert indistinct(Call(choose_student, draw_sizes(seed)), known) == []


def test_every_mistake_about_a_count_is_told_from_the_others():
    config = marian_config(Architecture(12, 3, 5, 20, heads=3), 301)
    config.decoder_ffn_dim = 28
    known = [getattr(mistakes_student, name) for name in COUNTS]
    assert indistinct(Call(_parameters, {"config": config}), known) == []


def _parameters(config):
    return count(sketch(MarianMTModel, config)).parameters


@pytest.fixture
def models():
    with seeded(0):
        sizes = [(5, 4), (3, 2)]
        return [MarianMTModel(marian_config(Architecture(8, *size, 16, heads=2), 30)) for size in sizes]


def test_the_library_s_own_copy_is_right(models):
    teacher, student = models
    judge = judge_copied_layers(teacher, student)
    assert judge() == "the student's encoder is as it was: no layer has arrived"
    copied = copied_student(teacher, encoder_layers=[0, 2, 4], decoder_layers=[0, 2])
    student.load_state_dict(copied.state_dict())
    assert judge() is None
    batch = {"input_ids": torch.tensor([[3, 4, 1]]), "decoder_input_ids": torch.tensor([[0, 5]])}
    assert torch.equal(student.eval()(**batch).logits, copied.eval()(**batch).logits)


def test_a_teacher_that_lost_layers_is_noticed(models):
    teacher, student = models
    judge = judge_copied_layers(teacher, student)
    teacher.model.encoder.layers = teacher.model.encoder.layers[::2]
    assert judge() == "the teacher has changed: copy from it, not into it"


def test_a_decoder_whose_layers_are_mixed_up_is_described(models):
    teacher, student = models
    judge = judge_copied_layers(teacher, student)
    copied = copied_student(teacher, encoder_layers=[0, 2, 4], decoder_layers=[2, 3])
    student.load_state_dict(copied.state_dict())
    assert (
        judge()
        == "the student's decoder has the teacher's layers [2, 3], and not every other one in their order"
    )


@pytest.mark.parametrize("seed", range(6))
def test_roles_are_right_only_when_all_four_are(seed):
    """Each of the sixteen combinations, of which one is right."""
    for bits in range(16):
        models, judge = draw_roles(seed)
        teacher, student = models["teacher"], models["student"]
        calls = [
            teacher.eval,
            lambda t=teacher: t.requires_grad_(False),
            student.train,
            student.requires_grad_,
        ]
        for number, call in enumerate(calls):
            if bits >> number & 1:
                call()
        assert (judge() is None) == (bits == 15)


def test_a_role_is_no_reason_to_change_a_weight():
    models, judge = draw_roles(0)
    with torch.no_grad():
        next(models["student"].parameters()).add_(1)
    assert judge() == "the student's weights have changed: only its role should"


def test_drawn_models_are_new_each_time():
    first, second = (draw_roles(3)[0]["teacher"] for _ in range(2))
    assert first is not second
    assert copy.deepcopy(first).training
