"""Against the truth, where it is known: distance to the phrasebook's own distribution, and what of it is covered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kdlab.evaluation import sequence_scores
from kdlab.text.batches import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from kdlab.teachers import PhrasebookTeacher

AT_LEAST = 0.1  # of its true probability, for a translation to be covered


def compare_with_truth(
    student: PreTrainedModel, truth: PhrasebookTeacher, sources: Sequence[str]
) -> dict[str, dict[str, float]]:
    """`kl_to_truth` and `mode_coverage`, by these names, with one pass over all translations for both.

    >>> from types import SimpleNamespace
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a b"], 300)  # 259 entries
    >>> student = new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0)
    >>> _ = student.model.shared.weight.data.zero_()  # each of them has probability 1/259
    >>> truth = SimpleNamespace(tokenizer=tokenizer, translations=lambda source: [([7, 1], 0.5), ([8, 1], 0.5)])
    >>> found = compare_with_truth(student, truth, ["a"])
    >>> round(found["kl_to_truth"]["nats_a_token"], 2), found["mode_coverage"]["recall"]
    (5.21, 0.0)
    """
    rows = _score_translations(student, truth, sources)
    return {
        "kl_to_truth": _divergence(rows, len(sources)),
        "mode_coverage": _coverage(rows, len(sources), AT_LEAST),
    }


def kl_to_truth(
    student: PreTrainedModel, truth: PhrasebookTeacher, sources: Sequence[str]
) -> dict[str, float]:
    """KL(Pr(. | x) || P_theta^s(. | x)) of whole sentences, exact: the sum over every translation of each source.

    Returns:
        `nats_a_sentence`, the mean over the sources, and `nats_a_token`, divided by the expected length.

    Raises:
        ValueError: no sources.

    >>> from types import SimpleNamespace
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a b"], 300)  # 259 entries
    >>> student = new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0)
    >>> _ = student.model.shared.weight.data.zero_()  # each of them has probability 1/259
    >>> truth = SimpleNamespace(tokenizer=tokenizer, translations=lambda source: [([7, 1], 0.5), ([8, 1], 0.5)])
    >>> found = kl_to_truth(student, truth, ["a"])
    >>> round(found["nats_a_sentence"], 2), round(2 * math.log(259) - math.log(2), 2), round(found["nats_a_token"], 2)
    (10.42, 10.42, 5.21)
    """
    return _divergence(_score_translations(student, truth, sources), len(sources))


def mode_coverage(
    student: PreTrainedModel, truth: PhrasebookTeacher, sources: Sequence[str], at_least: float = AT_LEAST
) -> dict[str, float]:
    """Whether the student knows all translations that are right, and how much it spends on others. Exact.

    Args:
        student: encoder-decoder or decoder-only, put into eval mode.
        truth: gives every right translation y of a source x and its probability Pr(y | x).
        sources: sentences of the phrasebook.
        at_least: a translation is covered if P_theta^s(y | x) >= at_least * Pr(y | x).

    Returns:
        The means over the sources of
        `recall`, SUM Pr(y | x) over the translations that are covered: 1 if none is missed. The threshold is relative
        to the truth, so a rare translation is not missed for being rare, and the sum is weighted by the truth, so
        one that is hardly ever said hardly counts.
        `precision`, SUM P_theta^s(y | x) over all right translations: 1 if the student says nothing else. A
        translation counts as its tokenizer cuts it; the same text cut in another way does not.

    A student that seeks modes has high precision and low recall, one that covers them the other way round. For every
    source the covered share is at most that source's precision / at_least: read the two together.

    Raises:
        ValueError: no sources, or `at_least` outside (0, 1].

    >>> from types import SimpleNamespace
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a b"], 300)  # 259 entries
    >>> student = new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0)
    >>> _ = student.model.shared.weight.data.zero_()  # a sentence of two tokens has probability 1/259^2 = 1.5e-5
    >>> truth = SimpleNamespace(tokenizer=tokenizer, translations=lambda source: [([7, 1], 0.9), ([8, 1], 0.1)])
    >>> found = mode_coverage(student, truth, ["a"], at_least=1e-4)  # 1.5e-5 covers the second, not the first
    >>> round(found["recall"], 4), round(1e5 * found["precision"], 2)
    (0.1, 2.98)
    """
    if not 0 < at_least <= 1:
        raise ValueError(f"at_least: got {at_least}, expected more than 0 and at most 1")
    return _coverage(_score_translations(student, truth, sources), len(sources), at_least)


class _Scored(NamedTuple):
    """A right translation: Pr(y | x), log P_theta^s(y | x) in nats, and its tokens."""

    truth: float
    log_student: float
    length: int


def _divergence(rows: Sequence[_Scored], sources: int) -> dict[str, float]:
    divergence = math.fsum(row.truth * (math.log(row.truth) - row.log_student) for row in rows)
    length = math.fsum(row.truth * row.length for row in rows)
    return {"nats_a_sentence": divergence / sources, "nats_a_token": divergence / length}


def _coverage(rows: Sequence[_Scored], sources: int, at_least: float) -> dict[str, float]:
    covered = [row.truth for row in rows if row.log_student >= math.log(at_least * row.truth)]
    right = [math.exp(row.log_student) for row in rows]
    return {"recall": math.fsum(covered) / sources, "precision": math.fsum(right) / sources}


def _score_translations(
    student: PreTrainedModel, truth: PhrasebookTeacher, sources: Sequence[str]
) -> list[_Scored]:
    """Every translation of every source."""
    from kdlab.text.tokenizers import MAX_LENGTH, encode_sources

    if not sources:
        raise ValueError("sources: got none, expected at least one")
    student.eval()
    ids = encode_sources(truth.tokenizer, sources, MAX_LENGTH)
    rows = [
        (Example(source, target), probability)
        for source, line in zip(ids, sources, strict=True)
        for target, probability in truth.translations(line)
    ]
    scores = sequence_scores(student, [example for example, _ in rows])
    return [
        _Scored(probability, score, len(example.target_ids))
        for (example, probability), score in zip(rows, scores, strict=True)
    ]
