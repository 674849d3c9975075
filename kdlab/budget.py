"""Which students fit into so many megabytes and so many milliseconds, the most capable first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from kdlab.cost import CostModel
from kdlab.counts import Counts, check_bits, count, sketch
from kdlab.families import family_of
from kdlab.student_init import build, resized_config
from kdlab.students import Architecture, marian_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WIDTHS = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
MOST_LAYERS = {"encoder": 12, "decoder": 6}
LEAST_HEAD_SIZE = 8
WIDTH_OF_A_LAYER = 8  # the least, for each layer of a side
STEP = 1.05  # sizes within 5% are taken as one


@dataclass(frozen=True)
class Budget:
    """What a student may take; at least one of the two limits.

    Attributes:
        megabytes: 10^6 bytes of weights, in `bits`, with the positions that the exports write out.
        milliseconds: of one greedy translation at batch 1.
        bits: 8, 16 or 32.
        source_length, target_length: tokens of the sentence that is meant, with eos.

    >>> Budget(megabytes=2.0, milliseconds=5.0).bits
    8
    """

    megabytes: float | None = None
    milliseconds: float | None = None
    bits: int = 8
    source_length: int = 20
    target_length: int = 20

    def __post_init__(self) -> None:
        check_bits(self.bits)
        if self.megabytes is None and self.milliseconds is None:
            raise ValueError("megabytes: got None, as milliseconds is, expected a limit for one of them")
        for name in ("megabytes", "milliseconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: got {value}, expected more than 0")
        for name in ("source_length", "target_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 1")


@dataclass(frozen=True)
class Candidate:
    """A student that fits.

    Attributes:
        architecture: for `new_model`, `fresh_student` or `projected_student`.
        counts: of parameters and operations.
        megabytes: in the budget's bits.
        milliseconds: by the cost model; None where there is none.
    """

    architecture: Architecture
    counts: Counts
    megabytes: float
    milliseconds: float | None


def candidates(
    budget: Budget,
    *,
    teacher: PreTrainedModel | None = None,
    vocabulary: int | None = None,
    cost: CostModel | None = None,
    widths: Sequence[int] | None = None,
) -> list[Candidate]:
    """Every size of a grid that fits the budget, the most capable first; none where none fits.

    The most capable has the most parameters in its layers: on them, and hardly on the shape, the loss depends, by the
    power -0.076 (Kaplan et al. 2020, "Scaling Laws for Neural Language Models"), so 5% more of them is 0.4% less loss.
    Sizes within a step of 5% are therefore taken as equal, and of those a shallow decoder under a deep encoder comes
    first, which is as good and faster where a decoder's steps are what takes the time (Kasai et al. 2021, "Deep
    Encoder, Shallow Decoder"); then the fastest, then the smallest.

    The grid: `widths`, up to 12 layers in the encoder and 6 in the decoder, feed-forward layers four times the width.
    With a teacher: its depth and its width at most, its kind, its ratio of feed-forward layers, its dropout. Neither
    side has more layers than an eighth of the width: a choice of ours, since deep and narrow stacks are hard to train.

    Args:
        budget: the limits.
        teacher: of a kind in `kdlab.families.FAMILIES`, which the students are made from.
        vocabulary: without a teacher: number of tokens of students as `new_model` makes them.
        cost: gives the time; needed where the budget limits it. `CostModel(operations_per_second=...)`, or
            `measure_cost()` for this machine.
        widths: to choose from; those wider than the teacher, or that no number of heads divides, are left out. None
            is `WIDTHS`, and the teacher's own.

    Raises:
        ValueError for both or neither of teacher and vocabulary, a limit of time without `cost`, and a kind of
        teacher that is not supported.

    >>> cost = CostModel(operations_per_second=2e10, per_layer=5e-5, per_step=5e-5)
    >>> found = candidates(Budget(megabytes=2, milliseconds=5), vocabulary=4000, cost=cost)
    >>> found[0].architecture
    Architecture(d_model=128, encoder_layers=3, decoder_layers=1, ffn=512, heads=4, dropout=0.1)
    """
    if teacher is not None and vocabulary is not None:
        raise ValueError("vocabulary: got one with a teacher, which has its own, expected None")
    if budget.milliseconds is not None and cost is None:
        raise ValueError(
            "cost: got None with a limit of milliseconds, expected a CostModel, such as measure_cost() gives"
        )
    if teacher is not None:
        grid = _narrower(teacher, sorted({*WIDTHS, teacher.config.hidden_size}) if widths is None else widths)
    elif vocabulary is not None:
        grid = _marian(vocabulary, WIDTHS if widths is None else widths)
    else:
        raise ValueError("teacher: got None, as vocabulary is, expected one of them")
    found = [_candidate(architecture, counts, budget, cost) for architecture, counts in grid]
    return sorted((one for one in found if _fits(one, budget)), key=_rank)


def _candidate(
    architecture: Architecture, counts: Counts, budget: Budget, cost: CostModel | None
) -> Candidate:
    lengths = budget.source_length, budget.target_length
    return Candidate(
        architecture,
        counts,
        megabytes=counts.bytes(budget.bits, positions=True) / 1e6,
        milliseconds=None if cost is None else 1000 * cost.seconds(counts, *lengths),
    )


def _fits(candidate: Candidate, budget: Budget) -> bool:
    too_large = budget.megabytes is not None and candidate.megabytes > budget.megabytes
    time = candidate.milliseconds
    return not too_large and (budget.milliseconds is None or time is None or time <= budget.milliseconds)


def _rank(candidate: Candidate) -> tuple[float, ...]:
    size = math.floor(math.log(candidate.counts.layer_parameters, STEP))
    shape = candidate.architecture
    return (
        -size,
        shape.decoder_layers,
        -shape.encoder_layers,
        candidate.milliseconds or 0.0,
        candidate.megabytes,
    )


def _marian(vocabulary: int, widths: Sequence[int]) -> Iterator[tuple[Architecture, Counts]]:
    """The grid of what `new_model` makes: one model of each width is counted, and the rest follow from it."""
    from transformers import MarianMTModel

    for width in widths:
        heads = _heads(width, max(4, width // 64))
        if heads is not None:
            one = Architecture(width, 1, 1, 4 * width, heads)
            counts = count(sketch(MarianMTModel, marian_config(one, vocabulary)))
            yield from _deeper(one, counts, MOST_LAYERS)


def _narrower(teacher: PreTrainedModel, widths: Sequence[int]) -> Iterator[tuple[Architecture, Counts]]:
    """The grid below a teacher, as `fresh_student` makes them."""
    family, config = family_of(teacher), teacher.config
    most, ffn = getattr(config, family.heads[0]), getattr(config, family.ffn[0]) or 4 * config.hidden_size
    shared = getattr(config, "num_key_value_heads", None) or most
    depth = {side: len(family.layers(teacher, side)) for side in MOST_LAYERS}
    for width in widths:
        heads = _heads(width, most, most // shared)
        if heads is not None and width <= config.hidden_size:
            one = Architecture(
                width,
                min(1, depth["encoder"]),
                1,
                ffn=width * ffn // config.hidden_size,
                heads=heads,
                dropout=getattr(config, family.dropout[0]),
            )
            with torch.device("meta"):
                counts = count(build(teacher, resized_config(teacher, one), seed=0))
            yield from _deeper(one, counts, depth)


def _deeper(one: Architecture, counts: Counts, most: dict[str, int]) -> Iterator[tuple[Architecture, Counts]]:
    """From one layer on each side, every depth up to `most`; a side that has none gets none."""
    tall = one.d_model // WIDTH_OF_A_LAYER
    for encoder_layers in range(one.encoder_layers, min(most["encoder"], tall) + 1):
        for decoder_layers in range(1, min(most["decoder"], tall) + 1):
            deep = replace(one, encoder_layers=encoder_layers, decoder_layers=decoder_layers)
            yield deep, counts.deeper(encoder_layers, decoder_layers)


def _heads(width: int, most: int, group: int = 1) -> int | None:
    """The most heads that divide the width into even sizes of at least 8, and are a multiple of `group`."""
    fitting = [
        heads
        for heads in range(group, min(most, width // LEAST_HEAD_SIZE) + 1, group)
        if width % (2 * heads) == 0
    ]
    return max(fitting, default=None)
