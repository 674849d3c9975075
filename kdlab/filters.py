"""Which of a teacher's translations are no targets to learn from: one small rule each, by token ids.

Copies are found where source and target have one vocabulary, as kdlab's own tokenizers and Marian's have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

FILTERS = (
    "unfinished",
    "empty",
    "length",
    "repetition",
    "copy",
)  # in this order; the first that catches counts

REPEATED_NGRAM = 4  # tokens: shorter ones come back in good sentences too ("einem roten", "einem blauen")
COPIED_NGRAM = 2  # single tokens are shared by good translations: word pieces, names, full stops


@dataclass(frozen=True)
class Filters:
    """Thresholds of the rules; None switches a rule off. Unfinished and empty translations are always dropped.

    Attributes:
        length_ratio, length_slack: the longer side may have `length_ratio` times the tokens of the shorter, and
            `length_slack` more.
        repetitions: a target is dropped whose commonest 4-gram of tokens comes this many times more often than the
            commonest of its source (Raunak et al. 2021 count words so, with the same two numbers).
        copied_share: a target is dropped of whose 2-grams of tokens at least this share stands in the source. (Ott et
            al. 2018 call half of the words a copy; but a name is one word and many tokens, and what a sign says is
            often quoted: at half of the 2-grams, good translations with long names go.)
        copy_tokens: targets shorter than this are no copies: a greeting or a name alone is its own translation.

    Together the defaults drop at most 0.07% of human references (Multi30k and the phrasebook, both directions,
    vocabularies of 300 to 8000).

    Raises:
        ValueError: a threshold out of range.

    >>> Filters().caught([5, 6, 7, 1], [8, 9, 1], eos=1) is None
    True
    >>> Filters().caught([5, 6, 7, 1], [8, 9], eos=1)
    'unfinished'
    >>> Filters().caught([5, 6, 7, 1], [8, 9, 8, 9, 8, 9, 8, 9, 8, 9, 1], eos=1)
    'repetition'
    """

    length_ratio: float | None = 2.0
    length_slack: int = 5
    repetitions: int | None = 2
    copied_share: float | None = 0.75
    copy_tokens: int = 8

    def __post_init__(self) -> None:
        if self.length_ratio is not None and not self.length_ratio >= 1:
            raise ValueError(f"length_ratio: got {self.length_ratio}, expected at least 1, or None")
        if self.length_slack < 0:
            raise ValueError(f"length_slack: got {self.length_slack}, expected 0 or more")
        if self.repetitions is not None and self.repetitions < 1:
            raise ValueError(f"repetitions: got {self.repetitions}, expected at least 1, or None")
        if self.copied_share is not None and not 0 < self.copied_share <= 1:
            raise ValueError(f"copied_share: got {self.copied_share}, expected 0 (excluded) to 1, or None")
        if self.copy_tokens < 0:
            raise ValueError(f"copy_tokens: got {self.copy_tokens}, expected 0 or more")

    def caught(self, source_ids: Sequence[int], target_ids: Sequence[int], eos: int) -> str | None:
        """The name of the first rule that drops the target, or None.

        Args:
            source_ids: end in eos.
            target_ids: end in eos, unless they are unfinished.
            eos: the token id.
        """
        if is_unfinished(target_ids, eos):
            return "unfinished"
        source, target = source_ids[:-1], target_ids[:-1]
        if not target:
            return "empty"
        if self.length_ratio is not None and lengths_differ(
            source, target, self.length_ratio, self.length_slack
        ):
            return "length"
        if self.repetitions is not None and extra_repetitions(source, target) >= self.repetitions:
            return "repetition"
        if (
            self.copied_share is not None
            and len(target) >= self.copy_tokens
            and copied_share(source, target) >= self.copied_share
        ):
            return "copy"
        return None


DEFAULT_FILTERS = Filters()
# What `kdlab distill --filters` chooses from. Length, repetition and copies are a matter of taste: now and then such
# a rule catches a good translation.
FILTER_SETS = {
    "default": DEFAULT_FILTERS,
    "none": Filters(length_ratio=None, repetitions=None, copied_share=None),
}


def filters_called(name: str) -> Filters:
    """One of `FILTER_SETS`; ValueError for another name.

    >>> filters_called("none").length_ratio is None, filters_called("default").length_ratio is None
    (True, False)
    """
    if name not in FILTER_SETS:
        raise ValueError(f"filters: got {name!r}, expected one of {', '.join(FILTER_SETS)}")
    return FILTER_SETS[name]


def is_unfinished(target_ids: Sequence[int], eos: int) -> bool:
    """Whether the length limit cut the target before its eos.

    >>> is_unfinished([8, 9], eos=1), is_unfinished([8, 1], eos=1)
    (True, False)
    """
    return not target_ids or target_ids[-1] != eos


def lengths_differ(source: Sequence[int], target: Sequence[int], ratio: float, slack: int) -> bool:
    """Whether the longer of the two has more than `ratio` times the tokens of the shorter and `slack`; no eos in them.

    >>> lengths_differ([5], [6] * 7, ratio=2.0, slack=5), lengths_differ([5], [6] * 8, ratio=2.0, slack=5)
    (False, True)
    """
    shorter, longer = sorted((len(source), len(target)))
    return longer > ratio * shorter + slack


def extra_repetitions(source: Sequence[int], target: Sequence[int], n: int = REPEATED_NGRAM) -> int:
    """How much more often the target's commonest n-gram comes than the source's commonest; no eos in them.

    Occurrences may overlap. A sentence without any n-gram counts as one in which each comes once. So with n = 4 one
    token may come five times in a row ("very very very very very": two 4-grams, one more than in a source without
    repeats), and a loop of two tokens three times; what a source repeats, its translation may repeat as often.

    >>> extra_repetitions([5, 6], [8] * 5), extra_repetitions([5, 6], [8] * 6), extra_repetitions([7] * 6, [8] * 6)
    (1, 2, 0)
    """
    repeated = _commonest(target, n)
    return repeated - _commonest(source, n) if repeated > 1 else 0


def copied_share(source: Sequence[int], target: Sequence[int], n: int = COPIED_NGRAM) -> float:
    """The share, 0 to 1, of the target's n-grams that stand in the source, each as often as it stands there.

    Args:
        source, target: token ids of one vocabulary, without eos.
        n: tokens.

    >>> copied_share([5, 6, 7, 8], [5, 6, 7, 9, 4])
    0.5
    """
    wanted = _ngrams(target, n)
    return sum((wanted & _ngrams(source, n)).values()) / max(1, wanted.total())


def _commonest(ids: Sequence[int], n: int) -> int:
    return max(_ngrams(ids, n).values(), default=1)


def _ngrams(ids: Sequence[int], n: int) -> Counter[tuple[int, ...]]:
    return Counter(zip(*(ids[start:] for start in range(n)), strict=False))
