"""The checks of `diagnose` that look at inputs: wrong pairs, and what the student is not told."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor

from kdlab.diagnostic_case import (
    EXCLUDED,
    MATTERS,
    OWN_KEYS,
    Answer,
    Case,
    Finding,
    ask_or_none,
    check,
    dense,
    kl,
    label_scores,
    lower_bound,
    mean_of_rows,
    standard_error,
    with_rolled,
)
from kdlab.distributions import TopK

OTHER_CONTEXTS = 15  # an estimate from 16 contexts is off by log(16) at most, where each says something else
OTHER_SOURCES = 3  # a target is scored with its own source and with those of its next neighbours
SOURCE_POSITIONS = 16  # at most so many places of the source are changed, one at a time


@check
def check_mispaired(case: Case) -> Finding:
    """A target must suit its own source better than other sources: the teacher is asked."""
    wins = []
    for answer in case.answers:
        own = label_scores(answer.log_p, answer.labels).sum(1)
        won, asked = torch.zeros_like(own), torch.zeros_like(own)
        for step in range(1, min(OTHER_SOURCES, len(own) - 1) + 1):
            swapped = with_rolled(answer.batch, ("input_ids", "attention_mask"), step)
            other = (swapped["input_ids"] != answer.batch["input_ids"]).any(1)
            target = ask_or_none(case, swapped)
            if target is None:  # refused: no translation of these sources
                scores = torch.full_like(own, -math.inf)
            elif other.any() and torch.equal(dense(target), dense(answer.target)):
                return _no_source_read(answer)
            else:
                scores = label_scores(dense(target), answer.labels).sum(1)
            won += torch.where(other, (own > scores).float() + (own == scores).float() / 2, 0.0)
            asked += other
        wins.append((won / asked)[asked > 0])
    if len(torch.cat(wins)) < 4:
        return Finding("mispaired", "skipped", {}, "fewer than four sentences beside others in their batches")
    # A wrong pair beats another one as often as not, a right pair (nearly) always: 1 - mean is half the wrong share.
    wrong = 2 * (1 - torch.cat(wins))
    evidence = {
        "sentences": len(wrong),
        "share_of_wrong_pairs": float(wrong.mean()),
        "standard_error": standard_error(wrong),
    }
    if lower_bound(wrong) > MATTERS:
        return Finding(
            "mispaired",
            "fault",
            evidence,
            "targets suit other sources as well as their own: sources and targets are out of step (look for a "
            "shuffle, a filter or a merge that touched one side alone), or the teacher does not use its source",
        )
    return Finding("mispaired", "clear", evidence)


@check
def check_missing_input(case: Case) -> Finding:
    """A student that is told less than its teacher stops at I(C; Y | C', z), however long it trains."""
    unread, drawn = _unread_positions(case)
    evidence: dict[str, float] = {
        "kl_to_teacher": case.kl,
        "source_positions_that_the_student_ignores": unread,
    }
    if unread and drawn > MATTERS * case.kl:
        evidence["what_the_teacher_draws_from_them"] = drawn
        return Finding(
            "missing_input",
            "fault",
            evidence,
            "the student's distribution does not depend on parts of the source that move the teacher's: look at "
            "truncation and at the attention mask",
        )
    floors, excess, how = max(
        _floor_of_twins(case), _floor_of_extra_fields(case), key=lambda found: float(found[0].mean())
    )
    evidence |= {"floor": float(floors.mean()), "standard_error": standard_error(floors)}
    if lower_bound(floors) > 0 and 2 * evidence["floor"] > excess:  # most of what is left
        return Finding(
            "missing_input",
            "explains",
            evidence,
            f"{how}: the student cannot tell them apart and cannot come below the floor. Give it that input, or read "
            "the loss from the floor up",
        )
    return Finding("missing_input", "clear", evidence)


def _no_source_read(answer: Answer) -> Finding:
    if isinstance(answer.target, TopK) or "example_ids" in answer.batch:
        return Finding("mispaired", "skipped", {}, "the teacher answers from a cache, not from the source")
    return Finding(
        "mispaired",
        "fault",
        {"change_with_another_source": 0},
        "the teacher gives the same distribution for other sources: it does not read the source",
    )


def _unread_positions(case: Case) -> tuple[float, float]:
    """Share of source positions that do not move the student at all, and what they move the teacher by, in nats."""
    answer = case.answers[0]
    length = int(answer.batch["input_ids"].shape[1])
    places = sorted({round(i * (length - 1) / (SOURCE_POSITIONS - 1)) for i in range(SOURCE_POSITIONS)})
    asked, moved = 0, 0.0
    ignored: list[int] = []
    for place in places:
        changed = dict(answer.batch)
        changed["input_ids"] = answer.batch["input_ids"].clone()
        changed["input_ids"][:, place] = answer.batch["input_ids"][:, place].roll(1, 0)
        real = answer.batch["attention_mask"][:, place] > 0 if "attention_mask" in answer.batch else True
        differs = (changed["input_ids"][:, place] != answer.batch["input_ids"][:, place]) & real
        if not differs.any():
            continue
        asked += 1
        if torch.equal(case.ask_student(changed), answer.student):
            ignored.append(place)
    if ignored:
        changed = dict(answer.batch)
        changed["input_ids"] = answer.batch["input_ids"].clone()
        changed["input_ids"][:, ignored] = answer.batch["input_ids"][:, ignored].roll(1, 0)
        target = ask_or_none(case, changed)
        if target is None:  # then it has read them
            moved = math.inf
        else:
            moved = float(kl(answer.log_p, dense(target).clamp_min(EXCLUDED))[answer.counted].mean())
    return len(ignored) / asked if asked else 0.0, moved


def _floor_of_twins(case: Case) -> tuple[Tensor, float, str]:
    """KL of the teacher's answers to their mean, where the student reads the same source and prefix; and the student's
    own KL at these places."""
    twins: dict[tuple[object, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for answer in case.answers:
        mask = answer.batch.get("attention_mask", torch.ones_like(answer.batch["input_ids"])).bool()
        for row, labels in enumerate(answer.labels.tolist()):
            source = tuple(answer.batch["input_ids"][row][mask[row]].tolist())
            for place in answer.counted[row].nonzero().squeeze(1).tolist():
                key = (source, tuple(labels[:place]))
                twins[key].append((answer.log_p[row, place], answer.log_q[row, place]))
    floors, excess = [torch.zeros(1)], [torch.zeros(1)]
    for group in twins.values():
        if len(group) > 1:
            log_p, log_q = (torch.stack(rows) for rows in zip(*group, strict=True))
            floors.append(kl(log_p, log_p.exp().mean(0).log().expand_as(log_p)).cpu())
            excess.append(kl(log_p, log_q).cpu())
    values = torch.cat(floors[1:] or floors)
    return (
        values,
        float(torch.cat(excess).mean()),
        "the teacher answers the same source and prefix in several ways",
    )


def _floor_of_extra_fields(case: Case) -> tuple[Tensor, float, str]:
    """The same for the fields of the batch that only the teacher reads, as if they were independent of the source.

    Such a field c is taken from other rows too. The best student without it gives SUM_c Pr(c | prefix) p(. | c,
    prefix), where Pr(c | prefix) goes as the probability of the prefix under c (Bayes, all c alike beforehand).
    """
    keys = tuple(sorted(set(case.answers[0].batch) - set(OWN_KEYS)))
    values = [torch.zeros(1)]
    for answer in case.answers if keys else []:
        steps = range(1, min(OTHER_CONTEXTS, len(answer.labels) - 1) + 1)
        asked = [ask_or_none(case, with_rolled(answer.batch, keys, step)) for step in steps]
        rows = torch.stack([answer.log_p, *(dense(target) for target in asked if target is not None)])
        scores = torch.stack([label_scores(log_p, answer.labels) for log_p in rows])
        prefix = scores.cumsum(2) - scores
        middle = (rows + prefix.log_softmax(0)[..., None]).logsumexp(0)
        values.append(mean_of_rows(kl(answer.log_p, middle), answer.counted).cpu())
    floors = torch.cat(values[1:] or values)
    return floors, case.kl, f"the teacher reads {' and '.join(keys)}, and the student does not"
