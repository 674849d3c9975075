"""From token ids to batches: Marian's decoder inputs, padding, a whole run's batches laid out in advance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from kdlab.text.tokenizers import MAX_LENGTH, encode_sources, encode_targets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kdlab.text.parallel import ParallelText

Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """One sentence pair as token ids; both lists end in eos, and neither has a start token.

    For a decoder-only model: a prompt, as the model is to read it, and its completion, which ends in eos.
    """

    source_ids: list[int]
    target_ids: list[int]


def example_lengths(examples: Sequence[Example]) -> list[tuple[int, int]]:
    """(source length, target length) of each example in tokens, as `by_length` and `BatchSchedule` take them.

    >>> example_lengths([Example([5, 6, 1], [7, 1])])
    [(3, 2)]
    """
    return [(len(example.source_ids), len(example.target_ids)) for example in examples]


def encode_pairs(tokenizer: PreTrainedTokenizerBase, text: ParallelText) -> list[Example]:
    """A parallel text as token ids.

    >>> from kdlab.text.parallel import ParallelText
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a b", "x y"], 300)
    >>> (example,) = encode_pairs(tokenizer, ParallelText(["a b"], ["x y"]))
    >>> tokenizer.decode(example.source_ids), tokenizer.decode(example.target_ids)
    ('a b</s>', 'x y</s>')
    """
    sources = encode_sources(tokenizer, text.sources, MAX_LENGTH)
    targets = encode_targets(tokenizer, text.targets, MAX_LENGTH)
    return [Example(source, target) for source, target in zip(sources, targets, strict=True)]


def shift_right(
    labels: Tensor, *, decoder_start_token_id: int, pad_token_id: int, ignore_index: int = -100
) -> Tensor:
    """The decoder's inputs that go with `labels`: the start token, then the labels without their last.

    labels: integers, [batch, length], `ignore_index` where nothing is to be learnt; those become
    `pad_token_id`. Returns a new tensor of the same shape and dtype. At position t the decoder reads the
    label of t - 1 and is to give the label of t. Source: transformers' `shift_tokens_right` for Marian.

    Raises: ValueError for labels that are not integers of shape [batch, length >= 1], for a negative token
    id, and (on the CPU, where a look costs nothing) for a negative label that is not `ignore_index`.

    >>> shift_right(torch.tensor([[7, 8, 1], [9, 1, -100]]), decoder_start_token_id=0, pad_token_id=0)
    tensor([[0, 7, 8],
            [0, 9, 1]])
    """
    if labels.ndim != 2 or labels.shape[1] == 0:
        raise ValueError(f"labels: got shape {list(labels.shape)}, expected [batch, length] with length >= 1")
    if labels.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"labels: got dtype {labels.dtype}, expected torch.int64 or torch.int32")
    for name, token in (("decoder_start_token_id", decoder_start_token_id), ("pad_token_id", pad_token_id)):
        if token is None or token < 0:
            raise ValueError(f"{name}: got {token}, expected a token id >= 0")
    if labels.device.type == "cpu":
        strange = labels[(labels < 0) & (labels != ignore_index)]
        if strange.numel():
            raise ValueError(
                f"labels: got {int(strange[0])}, expected token ids >= 0 or ignore_index={ignore_index}"
            )
    start = labels.new_full((labels.shape[0], 1), decoder_start_token_id)
    shifted = torch.cat([start, labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == ignore_index, pad_token_id)


def collate(
    examples: Sequence[Example],
    *,
    pad_token_id: int,
    decoder_start_token_id: int,
    ignore_index: int = -100,
    example_ids: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Pad examples to one batch of int64 tensors.

    Returns `input_ids` and `attention_mask` [batch, longest source]; `labels` (padded with `ignore_index`)
    and `decoder_input_ids` [batch, longest target]; `example_ids` [batch] where they are given: which example of
    the data each row is, for a teacher that has its answers in a cache.

    The mask comes from the lengths, not from a comparison with `pad_token_id`. There is no mask for the
    decoder: it is causal and its padding stands at the end, so no position that counts ever sees padding. (A
    mask made from `decoder_input_ids != pad_token_id` would drop position 0 wherever the start token is the
    pad token.)

    Raises: ValueError for no examples, an example with an empty side, or ids of another number than examples.

    >>> examples = [Example([5, 6, 1], [7, 1]), Example([5, 1], [8, 9, 1])]
    >>> batch = collate(examples, pad_token_id=0, decoder_start_token_id=0)
    >>> batch["labels"].tolist()
    [[7, 1, -100], [8, 9, 1]]
    >>> batch["attention_mask"].tolist()
    [[1, 1, 1], [1, 1, 0]]
    """
    check_examples(examples, example_ids)
    input_ids, attention_mask = pad_sources([example.source_ids for example in examples], pad_token_id)
    labels = _padded([example.target_ids for example in examples], ignore_index)
    batch = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": labels,
        "decoder_input_ids": shift_right(
            labels,
            decoder_start_token_id=decoder_start_token_id,
            pad_token_id=pad_token_id,
            ignore_index=ignore_index,
        ),
    }
    return batch if example_ids is None else {**batch, "example_ids": id_tensor(example_ids)}


def check_examples(examples: Sequence[Example], example_ids: Sequence[int] | None) -> None:
    """Refuse what cannot be one batch."""
    if not examples:
        raise ValueError("examples: got none, expected at least one")
    for position, example in enumerate(examples):
        if not example.source_ids or not example.target_ids:
            raise ValueError(f"examples: number {position} is {example}, expected ids on both sides")
    if example_ids is not None and len(example_ids) != len(examples):
        raise ValueError(
            f"example_ids: got {len(example_ids)}, expected {len(examples)}, one for each example"
        )


def id_tensor(example_ids: Sequence[int]) -> Tensor:
    """The ids of a batch's rows, int64 [batch].

    >>> id_tensor([3, 0])
    tensor([3, 0])
    """
    return torch.tensor(example_ids, dtype=torch.int64)


def pad_sources(sources: Sequence[Sequence[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """`input_ids` and `attention_mask` [batch, longest source], int64; the mask comes from the lengths.

    >>> pad_sources([[5, 1], [1]], pad_token_id=0)
    (tensor([[5, 1],
            [1, 0]]), tensor([[1, 1],
            [1, 0]]))
    """
    return _padded(sources, pad_token_id), _padded([[1] * len(ids) for ids in sources], 0)


def by_length(lengths: Sequence[tuple[int, int]], tokens_per_batch: int) -> list[list[int]]:
    """Batches of example indices for evaluation: long ones first, each example once, no randomness.

    lengths: (source length, target length) of each example, in tokens. A batch holds as many examples as fit:
    rows * max(longest source, longest target) <= `tokens_per_batch` padded tokens.

    Raises: ValueError for a length below 1, or an example longer than `tokens_per_batch`.

    >>> by_length([(2, 3), (9, 8), (4, 4)], tokens_per_batch=9)
    [[1], [2, 0]]
    """
    longest = _table(lengths).max(axis=1)
    order = np.argsort(-longest, kind="stable")
    cuts = _cuts(longest[order], tokens_per_batch)
    return [batch.tolist() for batch in np.split(order, cuts)] if len(order) else []


class BatchSchedule(Dataset[list[int]]):
    """Every batch of a whole training run, laid out in advance: item i lists the examples of update i.

    lengths: (source length, target length) of each example, in tokens. `tokens_per_batch`: the padded size
    that a batch may have, rows * max(longest source, longest target). `updates`: the number of batches,
    `len(schedule)`.

    An epoch holds every example once. Its batches group examples of the same length: all are sorted by the
    longer of their two sides, with ties in random order, cut into batches that are as full as they can be,
    and the batches are shuffled. Epoch follows epoch, each with its own shuffle, until there are `updates`
    batches; the last is cut short.

    Which examples make up batch i depends on the arguments and on i alone: not on the process, nor on what
    was asked for before. So a run that resumes at update i goes on with the very batches it would have had,
    and two runs with the same arguments train on the same tokens. Items may be read in any order; the epoch
    read last is kept, so reading in order is cheapest.

    Raises: ValueError for no examples, a length, size or count below 1, a negative seed, or an example longer
    than `tokens_per_batch`.

    >>> schedule = BatchSchedule([(3, 4), (5, 5), (2, 2), (4, 4)], tokens_per_batch=8, updates=5, seed=1)
    >>> len(schedule), schedule.batches_per_epoch
    (5, 3)
    >>> sorted(index for i in range(3) for index in schedule[i])
    [0, 1, 2, 3]
    """

    def __init__(
        self, lengths: Sequence[tuple[int, int]], *, tokens_per_batch: int, updates: int, seed: int
    ) -> None:
        table = _table(lengths)
        if not len(table):
            raise ValueError("lengths: got no examples, expected at least one")
        if updates < 1:
            raise ValueError(f"updates: got {updates}, expected at least 1")
        if seed < 0:
            raise ValueError(f"seed: got {seed}, expected 0 or more")
        self.updates = updates
        self.seed = seed
        self._longest = table.max(axis=1)
        self._target_lengths = table[:, 1]
        # The sorted lengths are the same in every epoch, so the cuts are too: only who stands where changes.
        self._cuts = _cuts(-np.sort(-self._longest), tokens_per_batch)
        self._epoch: tuple[int, list[Integers]] | None = None

    def __len__(self) -> int:
        return self.updates

    def __getitem__(self, index: int) -> list[int]:
        items: list[int] = self._batch(index).tolist()
        return items

    @property
    def batches_per_epoch(self) -> int:
        """Batches that hold every example once; the same in each epoch."""
        return len(self._cuts) + 1

    @property
    def epochs(self) -> float:
        """How often the run sees the examples: updates / batches per epoch."""
        return self.updates / self.batches_per_epoch

    @property
    def tokens(self) -> int:
        """Target tokens of all updates, eos included, padding not: what equal training has in common."""
        whole, rest = divmod(self.updates, self.batches_per_epoch)
        start = whole * self.batches_per_epoch
        return whole * int(self._target_lengths.sum()) + sum(self.real_tokens(start + i) for i in range(rest))

    def real_tokens(self, index: int) -> int:
        """Target tokens of batch `index`, eos included, padding not."""
        return int(self._target_lengths[self._batch(index)].sum())

    def _batch(self, index: int) -> Integers:
        if not -self.updates <= index < self.updates:
            raise IndexError(f"index: got {index}, expected one of {self.updates} updates")
        epoch, position = divmod(index % self.updates, self.batches_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._lay_out(epoch))
        return self._epoch[1][position]

    def _lay_out(self, epoch: int) -> list[Integers]:
        random = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        ties = random.random(len(self._longest))
        batches = np.split(np.lexsort((ties, -self._longest)), self._cuts)
        return [batches[i] for i in random.permutation(len(batches))]


def _padded(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
    longest = max(len(ids) for ids in sequences)
    return torch.tensor([[*ids, *[value] * (longest - len(ids))] for ids in sequences], dtype=torch.int64)


def _table(lengths: Sequence[tuple[int, int]]) -> Integers:
    table = np.array(lengths, dtype=np.int64) if len(lengths) else np.zeros((0, 2), dtype=np.int64)
    if table.shape != (len(lengths), 2):
        raise ValueError(
            f"lengths: got shape {table.shape}, expected (source length, target length) for each"
        )
    if len(table) and table.min() < 1:
        row = int(np.flatnonzero(table.min(axis=1) < 1)[0])
        raise ValueError(f"lengths: example {row} has {table[row].tolist()}, expected 1 or more tokens")
    return table


def _cuts(longest: Integers, tokens_per_batch: int) -> list[int]:
    """Where to cut examples, sorted long ones first: a batch's first example fixes how many rows fit."""
    if tokens_per_batch < 1:
        raise ValueError(f"tokens_per_batch: got {tokens_per_batch}, expected at least 1")
    if len(longest) and longest[0] > tokens_per_batch:
        raise ValueError(
            f"tokens_per_batch: got {tokens_per_batch}, expected at least {longest[0]}, the length of the "
            "longest example (or a smaller max_length when encoding)"
        )
    cuts, position = [], 0
    while position < len(longest):
        position += tokens_per_batch // int(longest[position])
        cuts.append(position)
    return cuts[:-1]
