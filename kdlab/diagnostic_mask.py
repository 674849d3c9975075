"""The check of `diagnose` that looks at what counts: no padding, and no prompt."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kdlab.diagnostic_batches import is_real
from kdlab.diagnostic_case import Case, Finding, check
from kdlab.diagnostic_rows import labels_are_off_by
from kdlab.diagnostic_values import label_scores, mean_of_rows
from kdlab.model_io import batch_alignment, target_labels
from kdlab.significance import lower_bound


@check
def check_mask(case: Case) -> Finding:
    """Padding must not count, neither in the loss nor as labels of a batch; nor must a prompt.

    Where labels hold the prompt too, an end of sentence stands in their midst, after which they go on. Without one
    the teacher is asked: labels that it finds less likely than a blind guess at the beginning of the rows, and not at
    their end, are a prompt. Text in blocks of one length, all of which counts, may hold several ends of sentences, and
    a row of several turns counts again after what it leaves out.
    """
    counted, after, padded, whole = _counted_labels(case)
    if labels_are_off_by(case.batches):  # then a few stand beside padding, and `check_shift` says why
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
