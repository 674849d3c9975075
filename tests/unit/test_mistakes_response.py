"""Notebook 04's own mistakes: none is the right answer, and no two of an exercise are the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

import kdlab
from kdlab.classroom import mistakes_response as named
from kdlab.classroom.checks import fresh
from kdlab.classroom.recognition import Call, Mistake, indistinct, recognise
from kdlab.distributions import align, entropy


def power(student_logits, teacher_logits, temperature):
    sizes = [
        ((student_logits / t).softmax(-1) - (teacher_logits / t).softmax(-1)).norm() / t
        for t in (temperature, 2 * temperature)
    ]
    return torch.log2(sizes[0] / sizes[1])


def pairs(logits, labels, kind):
    logits, labels = align(logits, labels, kind)
    return logits[labels != -100], labels[labels != -100]


def shares(losses, labels, sizes):
    kept = labels != -100
    parts = zip(losses.split(sizes), kept.split(sizes), strict=True)
    return torch.stack([x[mask].sum() / kept.sum() for x, mask in parts])


def rest(cross_entropy, teacher_logits, labels):
    return cross_entropy - entropy(teacher_logits)[labels != -100].mean()


def draw_pairs(seed: int) -> Mapping[str, Any]:
    drawn = dict(fresh("logits", "labels", shape=(3, 6, 4))(seed))
    drawn["labels"][0, :2] = -100
    drawn["labels"][2, 2] = 0
    return {**drawn, "kind": "causal"}


CASES: dict[str, tuple[Callable[..., Any], Callable[[int], Mapping[str, Any]], list[Mistake]]] = {
    "power": (
        power,
        fresh("student_logits", "teacher_logits", "temperature", shape=(3, 5)),
        [
            named.value_not_gradient,
            named.chain_rule_missing,
            named.temperature_squared_counted,
            named.another_base,
            named.ratio_not_power,
        ],
    ),
    "pairs": (
        pairs,
        draw_pairs,
        [
            named.shifted_never,
            named.shifted_backwards,
            named.mask_before_shift,
            named.shifted_after_mask,
            named.padding_kept,
            named.token_0_left_out,
        ],
    ),
    "shares": (
        shares,
        lambda seed: {**fresh("losses", "labels", shape=(4, 6, 5))(seed), "sizes": [1, 2, 1]},
        [named.mean_of_means, named.means_added, named.divided_by_sentences, named.sum_of_piece],
    ),
    "mix": (
        kdlab.distillation_loss,
        fresh("student_logits", "teacher_logits", "labels", "temperature", "ce_weight"),
        [named.padding_in_divergence],
    ),
    "rest": (
        rest,
        lambda seed: {"cross_entropy": 2.0, **fresh("teacher_logits", "labels", shape=(3, 4, 6))(seed)},
        [
            named.entropy_added,
            named.entropy_summed,
            named.entropy_in_bits,
            named.entropy_of_mean,
            named.entropy_alone,
            named.entropy_ratio,
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [3, 14, 159])
def test_the_mistakes_of_an_exercise_are_told_apart(case: str, seed: int) -> None:
    right, draw, mistakes = CASES[case]
    call = Call(right, draw(seed))
    assert indistinct(call, mistakes) == []
    assert recognise(call.right(), call, mistakes) == []


def test_an_encoder_decoder_batch_must_not_be_shifted() -> None:
    call = Call(pairs, {**draw_pairs(1), "kind": "encoder_decoder"})
    (found,) = named.shifted_always.answers(call)
    assert recognise(found, call, [named.shifted_always]) == [named.shifted_always]
    assert recognise(found, call, [named.mask_before_shift]) == []  # without a shift it is no mistake


def test_the_two_rules_about_padding() -> None:
    def mean(losses, labels):
        kept = labels != -100
        return losses[kept].sum() / kept.sum().clamp(min=1)

    both = [named.padding_times_zero, named.nothing_counts]
    padded = Call(mean, {"losses": torch.tensor([[1.0, torch.inf]]), "labels": torch.tensor([[1, -100]])})
    empty = Call(mean, {"losses": torch.ones(1, 2), "labels": torch.full((1, 2), -100)})
    assert recognise(torch.tensor(torch.nan), padded, both) == [named.padding_times_zero]
    assert recognise(torch.tensor(torch.nan), empty, both) == [named.nothing_counts]
