"""The checks of `diagnose` that look at inputs: wrong pairs, and what the student is not told."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from kdlab.diagnostic_batches import (
    OWN_KEYS,
    is_source,
    with_changed_sources,
    with_other_sources,
    with_rolled,
)
from kdlab.diagnostic_case import MATTERS, Answer, Case, Finding, ask_or_none, check
from kdlab.diagnostic_values import EXCLUDED, dense, kl, label_scores, mean_of_rows
from kdlab.distributions import TopK, entropy, log_probabilities
from kdlab.significance import lower_bound, rounding, standard_error, surely_more

OTHER_CONTEXTS = 15  # an estimate from 16 contexts is off by log(16) at most, where each says something else
OTHER_SOURCES = 3  # a target is scored with its own source and with those of its next neighbours
SOURCES_AT_HAND = 63  # where these do not tell, with so many of its batch: the right one may be among them
UNLIKELY = 0.05  # of targets that seem to belong elsewhere by chance
SOURCE_POSITIONS = 16  # at most so many places of the source are changed, one at a time


@check
def check_mispaired(case: Case) -> Finding:
    """A target must suit its own source better than other sources: the teacher is asked.

    ============================================================  =======================================
    seen                                                          verdict
    ============================================================  =======================================
    targets suit their own source better than three others,       clear
    up to what may be chance
    another source changes nothing in the teacher's answers       fault: it does not read its source
    many targets are translations of other sources in the batch,  fault: sources and targets are out of step
    says the teacher (`_elsewhere`)
    other sources move the teacher by less than 0.1 nats a        skipped: it hardly uses its source, and
    sentence                                                      cannot judge pairs
    neither: it uses its source, and no source suits the target   skipped: out of step with sources that
                                                                  are not at hand, or a teacher that does
                                                                  not know such sentences
    ============================================================  =======================================

    That own sources win no more often than others is no fault yet: the scores of a teacher that was trained on little
    or other text do not tell them apart either. Such a teacher seldom takes a target for a translation of anything.
    """
    wins = []
    for answer in case.answers:
        own = label_scores(answer.log_p, answer.labels).sum(1)
        won, asked = torch.zeros_like(own), torch.zeros_like(own)
        for other, log_p in _other_sources(case, answer, OTHER_SOURCES):
            if log_p is None:  # refused: no translation of these sources
                scores = torch.full_like(own, -math.inf)
            elif other.any() and float(kl(answer.log_p, log_p)[answer.counted].max()) <= rounding(
                answer.log_p
            ):
                return _no_source_read(answer)
            else:
                scores = label_scores(log_p, answer.labels).sum(1)
            won += torch.where(other, (own > scores).float() + (own == scores).float() / 2, 0.0)
            asked += other
        wins.append((won / asked)[asked > 0])
    if len(torch.cat(wins)) < 4:
        return Finding(
            "mispaired", "skipped", {}, "fewer than four sentences beside other sources in their batches"
        )
    # A wrong pair beats another one as often as not, a right pair (nearly) always: 1 - mean is half the wrong share,
    # where the teacher knows a right pair when it sees one.
    wrong = 2 * (1 - torch.cat(wins))
    evidence = {
        "sentences": len(wrong),
        "share_of_wrong_pairs": float(wrong.mean()),
        "standard_error": standard_error(wrong),
    }
    if evidence["share_of_wrong_pairs"] <= MATTERS:
        return Finding("mispaired", "clear", evidence)
    return _why_not_its_own_source(case, evidence, surely=lower_bound(wrong) > MATTERS)


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


def _other_sources(case: Case, answer: Answer, most: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The teacher's log-probabilities with the sources of the next rows, one after the other; None where it refuses
    them. With each: in which rows that is another source, [batch]."""
    for step in range(1, min(most, len(answer.labels) - 1) + 1):
        swapped, other = with_other_sources(answer.batch, step)
        target = ask_or_none(case, swapped)
        yield (
            other,
            None if target is None else log_probabilities(dense(target)[..., : answer.log_p.shape[-1]]),
        )


def _why_not_its_own_source(case: Case, evidence: dict[str, float], surely: bool) -> Finding:
    """Out of step, or a teacher that cannot tell; where neither is sure, chance."""
    found, moved = (
        torch.cat(parts) for parts in zip(*map(partial(_elsewhere, case), case.answers), strict=True)
    )
    evidence |= {
        "targets_that_translate_another_source": int(found.sum()),
        "what_another_source_changes_in_nats_a_sentence": float(moved.mean()),
    }
    if surely_more(int(found.sum()), len(found), MATTERS):
        return Finding(
            "mispaired",
            "fault",
            evidence,
            "the teacher takes targets for translations of other sources in their batches: sources and targets are "
            "out of step (look for a shuffle, a filter or a merge that touched one side alone)",
        )
    if not surely:
        return Finding("mispaired", "clear", evidence)
    if evidence["what_another_source_changes_in_nats_a_sentence"] < MATTERS:
        return Finding(
            "mispaired",
            "skipped",
            evidence,
            "the teacher hardly uses its source, so it cannot tell right pairs from wrong ones, and a student learns "
            "no translation from it: train it further, or look at what it is given as source",
        )
    return Finding(
        "mispaired",
        "skipped",
        evidence,
        "to the teacher targets suit other sources about as well as their own, and it cannot tell why: either it does "
        "not know such sentences, or sources and targets are out of step. Print three pairs and read them, or ask a "
        "teacher that knows this text",
    )


def _elsewhere(case: Case, answer: Answer) -> tuple[Tensor, Tensor]:
    """Which targets the teacher takes for a translation of another source in the batch, and by how many nats it
    expects its own translations to suit their source better than others; both for the rows that others stand beside.

    Another source must suit a target by far better than its own. With J others, and a target drawn from the teacher,
    one of them is J / UNLIKELY times likelier by chance in a share UNLIKELY of all cases at most (Markov's inequality,
    since each of the J ratios has mean 1). And the target must be no more of a surprise than the teacher's own
    translations of that source, up to a factor of two: one that knows neither takes it for none of them.
    """
    own = label_scores(answer.log_p, answer.labels).sum(1)
    far = math.log(min(SOURCES_AT_HAND, len(own) - 1) / UNLIKELY) if len(own) > 1 else 0.0
    found = torch.zeros_like(own, dtype=torch.bool)
    moved, asked = torch.zeros_like(own), torch.zeros_like(own)
    for other, log_p in _other_sources(case, answer, SOURCES_AT_HAND):
        if log_p is None:
            continue
        scores = label_scores(log_p, answer.labels).sum(1)
        expected = entropy(log_p).masked_fill(~answer.counted, 0.0).sum(1)
        found |= other & (scores - own > far) & (-scores <= 2 * expected - math.log(UNLIKELY))
        change = kl(answer.log_p, log_p.clamp_min(EXCLUDED)).masked_fill(~answer.counted, 0.0).sum(1)
        moved += torch.where(other, change, 0.0)
        asked += other
    return found[asked > 0], (moved / asked)[asked > 0]


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
    columns = is_source(answer.batch).any(0).nonzero().squeeze(1).tolist()
    chosen = {round(i * (len(columns) - 1) / (SOURCE_POSITIONS - 1)) for i in range(SOURCE_POSITIONS)}
    asked, moved = 0, 0.0
    ignored: list[int] = []
    for column in (columns[place] for place in sorted(chosen)):
        changed, differs = with_changed_sources(answer.batch, [column])
        if not differs:
            continue
        asked += 1
        if torch.equal(case.ask_student(changed), answer.student):
            ignored.append(column)
    if ignored:
        target = ask_or_none(case, with_changed_sources(answer.batch, ignored)[0])
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
        mask = is_source(answer.batch)
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
