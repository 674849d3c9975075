"""The checks of `diagnose` that look at rows: does row i of student, teacher and labels speak about one token, in one
vocabulary, and does only what counts count.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kdlab.diagnostic_batches import OWN_KEYS, is_real, model_logits
from kdlab.diagnostic_case import MATTERS, Answer, Case, Finding, check
from kdlab.diagnostic_values import EXCLUDED, dense, kl, label_scores, mean_of_rows
from kdlab.model_io import Batch, batch_alignment, target_labels
from kdlab.significance import lower_bound, rounding

DRAWS = 4  # calls of the teacher with the same batch: two show that it is random, four how much so


@check
def check_mask(case: Case) -> Finding:
    """Padding must not count, neither in the loss nor as labels of a batch; nor must a prompt.

    Where labels hold the prompt too, an end of sentence stands in their midst, after which they go on. Without one
    the teacher is asked: labels that it finds less likely than a blind guess at the beginning of the rows, and not at
    their end, are a prompt. Text in blocks of one length, all of which counts, may hold several ends of sentences, and
    a row of several turns counts again after what it leaves out.
    """
    counted, after, padded, whole = _counted_labels(case)
    if _labels_are_off_by(case.batches):  # then a few stand beside padding, and `check_shift` says why
        padded = 0
    evidence: dict[str, float] = {
        "counted_tokens": counted,
        "of_them_after_the_first_eos": after,
        "padding_changes_the_loss": int(case.kind.counts_padding),
    }
    if padded:
        evidence["of_them_where_the_attention_mask_is_0"] = padded
    if whole and not padded and (after or _begins_with_what_is_not_predicted(case, evidence)):
        return Finding(
            "mask",
            "fault",
            evidence,
            "the labels hold the prompt too: set them to -100 up to the first token of the completion (a row is one "
            "prompt and one completion, and labels end with it)",
        )
    if after or padded:
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
        causal = batch_alignment(case.batches[0]) == "causal"
        evidence["labels_that_are_the_input" if causal else "decoder_inputs_that_are_the_label_before"] = (
            fits[0]
        )
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
            # Moved to its place, a side that is off comes home most of the way. Less than that can be chance: an
            # untrained student with tied embeddings leans to the word that it has just read, which is the next row's.
            if 2 * lower_bound(gains) > (case.kl if name == "student" else case.label_loss):
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
    draws = torch.stack([dense(case.ask_teacher(answer.batch))[answer.counted] for _ in range(DRAWS)])
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


def _counted_labels(case: Case) -> tuple[int, int, int, bool]:
    """How many labels count, how many of them after an end of sentence, how many where a decoder-only batch has
    padding; and whether it counts all its tokens but the first."""
    eos = getattr(getattr(case.student, "config", None), "eos_token_id", None)
    total = after = padded = 0
    whole, blocks = True, True
    for batch in case.batches:
        labels, causal = target_labels(batch), batch_alignment(batch) == "causal"
        counted = labels >= 0
        total += int(counted.sum())
        if isinstance(eos, int):
            ends = (labels == eos).int()
            before = ends.cumsum(1) - ends
            if causal:  # since the last label that does not count: another turn may follow
                before = before - before.masked_fill(counted, 0).cummax(1).values
            after += int(((before > 0) & counted).sum())
        real = is_real(batch)[:, 1:]
        padded += int((counted & ~real).sum()) if causal else 0
        whole &= causal and bool((counted | ~real).all())
        blocks &= causal and bool(counted.all())
    return total, 0 if blocks else after, padded, whole


def _begins_with_what_is_not_predicted(case: Case, evidence: dict[str, float]) -> bool:
    """Whether the teacher gives the first quarter of the rows' labels less than a blind guess would, and the last more;
    adds its numbers to the evidence."""
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for answer in case.answers:
        order, length = answer.counted.cumsum(1), answer.counted.sum(1, keepdim=True)
        loss = -label_scores(answer.log_p, answer.labels)
        for part, inside in zip(parts, (4 * order <= length, 4 * order > 3 * length), strict=True):
            part.append(mean_of_rows(loss, inside & answer.counted & (length >= 4)))
    first, last = map(torch.cat, parts)
    blind = math.log(case.answers[0].log_p.shape[-1])
    if not (lower_bound(first) > blind and lower_bound(-last) > -blind):
        return False
    evidence["teacher_label_loss_on_the_first_quarter"] = float(first.mean())
    evidence["on_the_last_quarter"] = float(last.mean())
    evidence["of_a_blind_guess"] = blind
    return True


def _labels_are_off_by(batches: list[Batch]) -> int:
    """-1, 0 or 1: where labels that fit the inputs better stand."""
    fits = {k: _share_of_shifted_inputs(batches, k) or 0.0 for k in (0, -1, 1)}
    best = max(fits, key=fits.__getitem__)
    return -best if fits[best] != fits[0] else 0


def _share_of_shifted_inputs(batches: list[Batch], offset: int) -> float | None:
    """How many labels are off by -offset: of the decoder's inputs at i how many are the label of i - 1 + offset, or of
    a decoder-only model's inputs at i, of i + offset."""
    hits = total = 0
    for batch in batches:
        labels = batch["labels"]
        if batch_alignment(batch) == "causal":
            inputs, before = batch["input_ids"][:, 1:-1], labels[:, 1 + offset : labels.shape[1] - 1 + offset]
            known = before >= 0
        else:
            inputs, before = (
                batch["decoder_input_ids"][:, 2:-1],
                labels[:, 1 + offset : labels.shape[1] - 2 + offset],
            )
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
