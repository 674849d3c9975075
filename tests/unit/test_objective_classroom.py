"""What judges the answers to notebook 05: watched functions, the rules of equal compute, `checks.rule`."""

from __future__ import annotations

import pytest
import torch

from kdlab import loop, unlabelled
from kdlab.classroom import checks, mistakes_objective, watched
from kdlab.classroom.equal_compute import broken_rule
from kdlab.classroom.inputs import fresh
from kdlab.classroom.recognition import Call, indistinct
from kdlab.losses import distillation_loss

WATCHED = [
    (watched.watched_step, loop.training_step, mistakes_objective.STEP),
    (watched.watched_loop, loop.training_loop, mistakes_objective.LOOP),
    (watched.watched_writer, unlabelled.write_target, mistakes_objective.WRITER),
]


@pytest.mark.parametrize(("watch", "right", "mistakes"), WATCHED)
@pytest.mark.parametrize("seed", [1, 2, 3, 101, 105])
def test_what_is_watched_depends_on_the_seed_alone_and_tells_the_mistakes_apart(watch, right, mistakes, seed):
    call = Call(watch(right), {"seed": seed})
    torch.manual_seed(seed)
    once = call.right()
    torch.manual_seed(seed + 1)
    assert repr(once) == repr(call.right())
    assert indistinct(call, mistakes) == []


def test_the_floors_mistakes_are_told_apart():
    def loss(student_logits, teacher_logits, labels):
        return distillation_loss(student_logits, teacher_logits, labels, ce_weight=0.3)

    inputs = {"loss": loss, **fresh("student_logits", "teacher_logits", "labels")(1)}
    assert indistinct(Call(loop.above_floor, inputs), mistakes_objective.FLOOR) == []


@pytest.mark.parametrize("answer", [None, 3, lambda *_: None])
@pytest.mark.parametrize("watch", [watch for watch, *_ in WATCHED])
def test_an_answer_that_is_none_is_told_in_a_sentence(answer, watch, capsys):
    right = {watch: right for watch, right, _ in WATCHED}[watch]
    checks.function("it", watch(answer), watch(right), watched.seeds)
    assert "not right yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        ([[0, 1], [2], [0, 1], [2]], None),
        ([[2, 1], [0], [1, 2], [0]], None),
        ([[0, 1], [2], [1, 0], [2]], None),
        (None, "is there a `return`?"),
        (7, "expected a list of batches"),
        ([0, 1, 2, 0], "expected a list of batches"),
        ([[0, 1], [], [2], [0]], "batch 1 is empty"),
        ([[0, 1], [3], [0, 1], [2]], "batch 1 holds 3: examples are numbered from 0 to 2"),
        ([[0, 1, 2], [0, 1, 2]], "batch 0 takes 9 tokens, 6 are allowed"),
        ([[0, 1], [2]], "this is one epoch, 2 batches"),
        ([[0, 1], [2]] * 4, "this is 4 epochs"),
        ([[0, 1], [2], [0, 1]], "there are 3 batches, expected 4"),
        ([[0, 1], [0, 1], [2], [0]], "example 0 comes again before example 2 has come once"),
        ([[0], [1, 2], [0], [1, 2]], "batch 0 is not full: example 1 would have fitted in"),
        ([[0, 1], [2, 0], [1, 2], [0]], "batch 1 holds examples of two epochs"),
    ],
)
def test_rules_of_equal_compute(batches, sentence):
    found = broken_rule(batches, [3, 2, 2], tokens_per_batch=6, updates=4)
    assert found is None if sentence is None else sentence in (found or "")


def test_padding_is_named_where_it_is_the_reason():
    assert "padding counts too" in (broken_rule([[0, 1]], [5, 1], tokens_per_batch=6, updates=1) or "")


def test_a_rule_is_graded_and_told_like_any_other_check(capsys):
    def even(value, n):
        return None if value % 2 == 0 else f"{value} is odd"

    def draw(seed):
        return {"n": seed}

    def not_begun(n):
        raise NotImplementedError

    checks.rule("it", lambda n: 2 * n, even, {"n": 1}, draw)
    checks.rule("it", lambda n: n, even, {"n": 2}, draw, seeds=[3])
    checks.rule("it", not_begun, even, {"n": 2})
    checks.rule("it", lambda n: 1 / 0, even, {"n": 2})
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "it: right"
    assert said[1] == "it: not right yet: right on the visible example; on another, 3 is odd"
    assert said[2] == "it: not written yet"
    assert "ZeroDivisionError" in said[3]
    with pytest.raises(AssertionError, match="3 is odd"):
        checks.rule("it", lambda n: n, even, draw, seeds=[3], graded=True)
    with pytest.raises(NotImplementedError):
        checks.rule("it", not_begun, even, draw, graded=True)
