"""The checks of `diagnose` that train nothing: what the loss is, and what batches, teacher and student show.

Each takes a `Case` and returns a `Finding`, and can be run alone: `check_mask(Case(student, teacher, batch))`.
"""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor, nn

from kdlab.diagnostic_case import (
    EXCLUDED,
    MATTERS,
    Answer,
    Case,
    Finding,
    check,
    dense,
    kl,
    label_scores,
    lower_bound,
    mean_of_rows,
    model_logits,
    rounding,
    standard_error,
)
from kdlab.distiller import MODEL_INPUTS
from kdlab.distributions import TopK
from kdlab.teachers import Batch

DRAWS = 4  # calls of the teacher with the same batch: two show that it is random, four how much so
OTHER_CONTEXTS = 15  # an estimate from 16 contexts is off by log(16) at most, where each says something else
OTHER_SOURCES = 3  # a target is scored with its own source and with those of its next neighbours
SOURCE_POSITIONS = 16  # at most so many places of the source are changed, one at a time
OWN_KEYS = (*MODEL_INPUTS, "labels", "example_ids")  # the rest of a batch is for the teacher alone


@check
def check_cross_entropy_floor(case: Case) -> Finding:
    """Cross-entropy is H(p) + KL(p || q): it stays at the teacher's entropy when there is nothing left to learn."""
    kind = case.kind
    evidence = {
        "loss": case.value,
        "loss_of_a_student_that_is_the_teacher": case.value_of_teacher,
        "teacher_entropy": case.entropy,
        "kl_to_teacher": case.kl,
    }
    if not kind.has_cross_entropy:
        return Finding(
            "cross_entropy_floor", "clear", evidence, "no cross-entropy in the loss: its floor is 0"
        )
    if 2 * case.value_of_teacher < case.value:  # most of it lies above the floor
        return Finding(
            "cross_entropy_floor", "clear", evidence, "cross-entropy, but most of it lies above its floor"
        )
    return Finding(
        "cross_entropy_floor",
        "explains",
        evidence,
        "most of the loss is what the teacher itself would score: cross-entropy does not fall to 0. Read "
        "KL(teacher || student), which does, or take the floor away",
    )


@check
def check_mask(case: Case) -> Finding:
    """Padding must not count: neither in the loss, nor as labels of a batch."""
    eos = getattr(getattr(case.student, "config", None), "eos_token_id", None)
    after = total = 0
    for batch in case.batches:
        labels = batch["labels"]
        total += int((labels >= 0).sum())
        if isinstance(eos, int):
            ended = (labels == eos).cumsum(1) - (labels == eos).int() > 0
            after += int((ended & (labels >= 0)).sum())
    evidence = {
        "counted_tokens": total,
        "of_them_after_the_first_eos": after,
        "padding_changes_the_loss": int(case.kind.counts_padding),
    }
    if after:
        return Finding(
            "mask",
            "fault",
            evidence,
            "labels go on after the sentence has ended: set them to -100 (the padding of a tokenizer is not)",
        )
    if case.kind.counts_padding:
        return Finding(
            "mask",
            "fault",
            evidence,
            "the loss changes with what stands where labels are -100, or with how many such places there are: leave "
            "them out of the sum and divide by the number of labels that are not -100",
        )
    return Finding("mask", "clear", evidence)


@check
def check_shift(case: Case) -> Finding:
    """Row i of the logits must speak about label i: in the batch, the loss, the teacher and the student."""
    evidence: dict[str, float] = {"rows_that_the_loss_is_off_by": case.kind.shift}
    places = ["the loss"] if case.kind.shift else []
    fits = {k: _share_of_shifted_inputs(case.batches, k) for k in (0, -1, 1)}
    if fits[0] is not None:
        evidence["decoder_inputs_that_are_the_label_before"] = fits[0]
        best = max(fits, key=lambda k: fits[k] or 0.0)
        if fits[best] != fits[0]:
            evidence["labels_are_off_by"] = -best
            places.append("the batch")
    # Rows are looked at where the batch is in order: labels that are off would make all rows look so.
    looked_at = () if "the batch" in places else (("teacher", _teacher_rows), ("student", _student_rows))
    for name, scores in looked_at:
        for offset in (-1, 1):
            # Sequence by sequence: by how much the rows beside the right ones fit better, and whether all but surely.
            gains = torch.cat([scores(answer, offset) for answer in case.answers])
            # An untrained student with tied embeddings leans to the word that it has just read, which is the next
            # row's: a little, and no sign of anything.
            if lower_bound(gains) > MATTERS * (case.kl if name == "student" else case.label_loss):
                evidence[f"{name}_rows_are_off_by"] = offset
                evidence[f"{name}_rows_would_fit_better_by"] = float(gains.mean())
                places.append(f"the {name}")
    if not places:
        return Finding("shift", "clear", evidence)
    return Finding(
        "shift",
        "fault",
        evidence,
        f"positions are off in {' and '.join(places)}: the decoder reads the label before, and its logits at i are for "
        "label i (encoder-decoder), or the token i + 1 (decoder-only): shift once, in one place",
    )


@check
def check_dropout(case: Case) -> Finding:
    """A teacher gives the same answer twice."""
    answer = case.answers[0]
    draws = torch.stack([dense(case.teacher(answer.batch))[answer.counted] for _ in range(DRAWS)])
    middle = draws.exp().mean(0).log().expand_as(draws)
    noise = float(kl(draws, middle).mean())
    evidence = {
        "kl_of_an_answer_to_the_mean_answer": noise,
        "rounding": rounding(case.answers[0].log_p),
        "calls": DRAWS,
    }
    if noise <= evidence["rounding"]:
        return Finding("dropout", "clear", evidence)
    return Finding(
        "dropout",
        "fault",
        evidence,
        "the teacher answers the same batch in different ways: put it in eval mode (LiveTeacher does). No student can "
        "come nearer than the spread of its answers",
    )


@check
def check_tokenizer(case: Case) -> Finding:
    """Entry v must mean the same word to labels, teacher and student."""
    evidence: dict[str, float] = {}
    sizes = case.answers[0].student.shape[-1], dense(case.answers[0].target).shape[-1]
    if sizes[0] != sizes[1]:
        outside = [(a.labels >= sizes[0])[a.counted] for a in case.answers]
        mass = [dense(a.target)[a.counted][:, sizes[0] :].exp().sum(-1) for a in case.answers]
        evidence = {
            "student_vocabulary": sizes[0],
            "teacher_vocabulary": sizes[1],
            "labels_that_the_student_lacks": float(torch.cat(outside).float().mean()),
            "teacher_probability_that_the_student_lacks": float(torch.cat(mass).mean()),
        }
        # Padding of the embeddings holds next to nothing; what is lost costs -log(1 - mass) in nats.
        lost = float((-torch.log1p(-torch.cat(mass).clamp_max(1 - 1e-6))).mean())
        if evidence["labels_that_the_student_lacks"] or lost > rounding(case.answers[0].log_p):
            return Finding(
                "tokenizer",
                "fault",
                evidence,
                "the vocabularies differ and the student lacks entries that are used: give both one tokenizer, or "
                "train on the teacher's translations as text",
            )
        return Finding("tokenizer", "clear", evidence, "the vocabularies differ in entries that nobody uses")
    for side in ("teacher", "student"):
        gains, moved, before = _gain_of_renaming(case, side)
        evidence[f"{side}_label_loss"] = before
        evidence[f"{side}_label_loss_saved_by_other_entries"] = float(gains.mean()) if len(gains) else 0.0
        if lower_bound(gains) > MATTERS * before:
            evidence["tokens_that_another_entry_fits"] = moved
            return Finding(
                "tokenizer",
                "fault",
                evidence,
                f"labels are far more probable to the {side} under other entries of its vocabulary, found on one half "
                "of the sentences and tried on the other: it was made with another tokenizer",
            )
    return Finding("tokenizer", "clear", evidence)


@check
def check_copy(case: Case) -> Finding:
    """A copy of the teacher must give the teacher's distribution, and score nothing but cross-entropy's floor."""
    evidence = {"loss_of_a_student_that_is_the_teacher": case.value_of_teacher}
    kind = case.kind
    limit = rounding(case.answers[0].log_p) * max(abs(kind.factor), 1.0)
    same_temperature = abs(kind.student_temperature - kind.temperature) < 0.02 * kind.temperature
    if not kind.has_cross_entropy and same_temperature and abs(case.value_of_teacher) > limit:
        return Finding(
            "copy",
            "fault",
            evidence,
            "the loss is no divergence: it is not 0 where the student's distribution is the teacher's",
        )
    model = getattr(case.teacher, "model", None)
    if not isinstance(model, nn.Module):
        return Finding("copy", "clear", evidence, "the teacher has no model that could be copied")
    answer = case.answers[0]
    logits = model_logits(model, answer.batch)
    if logits.shape != answer.log_p.shape:
        return Finding("copy", "skipped", evidence, "the teacher's model gives logits of another shape")
    apart = kl(answer.log_p, logits)[answer.counted]
    evidence["kl_of_a_copy_of_the_teacher"] = float(apart.mean())
    if evidence["kl_of_a_copy_of_the_teacher"] <= limit or set(answer.batch) - set(OWN_KEYS):
        return Finding("copy", "clear", evidence)
    return Finding(
        "copy",
        "fault",
        evidence,
        "a copy of the teacher's model, given the student's inputs, does not give the teacher's distribution: compare "
        "what the two are given (start token, mask, temperature) on one sentence",
    )


@check
def check_mispaired(case: Case) -> Finding:
    """A target must suit its own source better than other sources: the teacher is asked."""
    wins = []
    for answer in case.answers:
        own = label_scores(answer.log_p, answer.labels).sum(1)
        won, asked = torch.zeros_like(own), torch.zeros_like(own)
        for step in range(1, min(OTHER_SOURCES, len(own) - 1) + 1):
            swapped = _with_rolled(answer.batch, ("input_ids", "attention_mask"), step)
            other = (swapped["input_ids"] != answer.batch["input_ids"]).any(1)
            target = _ask_or_none(case, swapped)
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


@check
def check_temperature(case: Case) -> Finding:
    """Both sides at one temperature, and a loss that is read at the temperature at which it is taken."""
    kind = case.kind
    evidence = {
        "loss": case.value,
        "teacher_temperature": kind.temperature,
        "student_temperature": kind.student_temperature,
        "factor": kind.factor,
    }
    if abs(kind.student_temperature - kind.temperature) >= 0.02 * kind.temperature:
        return Finding(
            "temperature",
            "fault",
            evidence,
            "the two softmaxes are taken at different temperatures, so the loss is lowest for a student that is "
            "flatter or sharper than its teacher: divide both logits by the same T",
        )
    if kind.name is None or abs(kind.temperature - 1) < 0.02:
        return Finding("temperature", "clear", evidence)
    plain = case.mean(lambda a: kind.soft_value(a.student, a.log_p, 1.0))
    evidence["the_same_at_temperature_1"] = plain
    if not 0.5 * case.value <= plain <= 2 * case.value:
        return Finding(
            "temperature",
            "explains",
            evidence,
            f"the number is {kind.factor:.3g} times a divergence at T = {kind.temperature:.3g}, and no nats a token at "
            "T = 1: compare runs at the same T, or read the value at T = 1",
        )
    return Finding("temperature", "clear", evidence)


@check
def check_reduction(case: Case) -> Finding:
    """The mean over the tokens that count, once."""
    kind = case.kind
    evidence = {"loss": case.value, "factor": kind.factor if kind.name else kind.ce_factor}
    if kind.factor_name in ("none", "temperature^2", "temperature^1") or not (kind.name or kind.ce_factor):
        return Finding("reduction", "clear", evidence)
    advice = f"the loss is a mean over tokens times a factor ({kind.factor_name})"
    if evidence["factor"] < 1:
        return Finding(
            "reduction",
            "fault",
            evidence,
            f"{advice}: it looks low and its gradient is as small. Divide by the number of tokens once",
        )
    return Finding("reduction", "explains", evidence, f"{advice}: divide by it to read nats a token")


def _share_of_shifted_inputs(batches: list[Batch], offset: int) -> float | None:
    """How many of the decoder's inputs at i are the label of i - 1 + offset."""
    hits = total = 0
    for batch in batches:
        if "decoder_input_ids" not in batch:
            return None
        inputs, labels = batch["decoder_input_ids"][:, 2:-1], batch["labels"]
        before = labels[:, 1 + offset : labels.shape[1] - 2 + offset]
        known = (labels[:, 2:-1] >= 0) & (before >= 0)
        hits, total = hits + int(((inputs == before) & known).sum()), total + int(known.sum())
    return hits / total if total else None


def _teacher_rows(answer: Answer, offset: int) -> Tensor:
    """For each sequence, how much more probable its labels are in the teacher's rows `offset` further on."""
    gain = label_scores(answer.log_p, answer.labels, offset) - label_scores(answer.log_p, answer.labels)
    return mean_of_rows(gain, _has_neighbour(answer.counted, offset))


def _student_rows(answer: Answer, offset: int) -> Tensor:
    """For each sequence, how much nearer the teacher's rows are to the student's rows `offset` further on."""
    gain = kl(answer.log_p, answer.log_q) - kl(answer.log_p, answer.log_q.roll(-offset, dims=1))
    return mean_of_rows(gain.nan_to_num(), _has_neighbour(answer.counted, offset))


def _has_neighbour(counted: Tensor, offset: int) -> Tensor:
    """Tokens that count and whose row `offset` further on exists and counts too."""
    neighbour = counted.roll(-offset, dims=1)
    neighbour[:, -1 if offset > 0 else 0] = False
    return counted & neighbour


def _gain_of_renaming(case: Case, side: str) -> tuple[Tensor, float, float]:
    """How much more probable labels get under the best one-to-one renaming of entries: per sequence, on the half of the
    sentences that the renaming was not made from. With the share of tokens renamed, and the loss before."""
    rows = torch.cat([(a.log_p if side == "teacher" else a.log_q)[a.counted] for a in case.answers])
    labels = torch.cat([a.labels[a.counted] for a in case.answers])
    lengths = torch.cat([a.counted.sum(1) for a in case.answers])
    sequence = torch.repeat_interleave(torch.arange(len(lengths), device=labels.device), lengths)
    first = sequence % 2 == 0
    renamed = _best_renaming(rows[first].exp(), labels[first])
    held_out = [i for i in (~first).nonzero().squeeze(1).tolist() if int(labels[i]) in renamed]
    if not held_out:
        return rows.new_zeros(0), 0.0, 0.0
    own = labels[held_out]
    other = torch.tensor([renamed[int(label)] for label in own], device=own.device)
    scores = rows[held_out].clamp_min(EXCLUDED)
    before = scores.gather(1, own[:, None]).squeeze(1)
    gains = scores.gather(1, other[:, None]).squeeze(1) - before
    groups = sequence[held_out]
    means = torch.stack([gains[groups == group].mean() for group in torch.unique(groups)])
    return means, float((own != other).float().mean()), float(-before.mean())


def _best_renaming(p: Tensor, labels: Tensor) -> dict[int, int]:
    """label -> the entry whose probability goes with it: greedy and one to one, by covariance over tokens."""
    kinds, index = torch.unique(labels, return_inverse=True)
    columns = torch.unique(torch.cat([p.topk(min(3, p.shape[1]), dim=1).indices.flatten(), kinds]))
    narrow = p[:, columns]
    joint = torch.zeros(len(kinds), len(columns), dtype=p.dtype, device=p.device).index_add_(0, index, narrow)
    covariance = joint - torch.bincount(index)[:, None] * narrow.mean(0)
    renaming: dict[int, int] = {}
    taken: set[int] = set()
    for place in covariance.flatten().argsort(descending=True).tolist():
        row, column = divmod(place, len(columns))
        if int(kinds[row]) not in renaming and column not in taken and covariance[row, column] > 0:
            renaming[int(kinds[row])] = int(columns[column])
            taken.add(column)
    return renaming


def _with_rolled(batch: Batch, keys: tuple[str, ...], step: int) -> dict[str, Tensor]:
    """The batch with these fields given to the next rows."""
    return {name: value.roll(step, 0) if name in keys else value for name, value in batch.items()}


def _ask_or_none(case: Case, batch: Batch) -> Tensor | TopK | None:
    """A teacher that knows the truth refuses a target that is no translation of its source."""
    try:
        return case.teacher(batch)
    except ValueError:
        return None


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
        target = _ask_or_none(case, changed)
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
        asked = [_ask_or_none(case, _with_rolled(answer.batch, keys, step)) for step in steps]
        rows = torch.stack([answer.log_p, *(dense(target) for target in asked if target is not None)])
        scores = torch.stack([label_scores(log_p, answer.labels) for log_p in rows])
        prefix = scores.cumsum(2) - scores
        middle = (rows + prefix.log_softmax(0)[..., None]).logsumexp(0)
        values.append(mean_of_rows(kl(answer.log_p, middle), answer.counted).cpu())
    floors = torch.cat(values[1:] or values)
    return floors, case.kl, f"the teacher reads {' and '.join(keys)}, and the student does not"
