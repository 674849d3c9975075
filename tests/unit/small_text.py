"""A few sentences of the small phrasebook with a tokenizer of their own: the text that most tests stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdlab.text.batches import Example
from kdlab.text.phrasebook import Pair, Phrasebook
from kdlab.text.tokenizers import encode_sources, encode_targets, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_LENGTH = 64  # longer than any of the sentences


@dataclass(frozen=True)
class SmallText:
    """Sentence pairs as text and, in the same order, as token ids."""

    phrasebook: Phrasebook
    pairs: list[Pair]
    tokenizer: PreTrainedTokenizerBase
    examples: list[Example]


def small_text(pairs: int = 60, vocabulary: int = 400, seed: int = 1) -> SmallText:
    """Draw `pairs` sentence pairs and cut them with a tokenizer that was trained on them."""
    phrasebook = Phrasebook("small")
    drawn = phrasebook.sample(pairs, seed=seed)
    tokenizer = train_tokenizer([line for pair in drawn for line in (pair.source, pair.target)], vocabulary)
    sources = encode_sources(tokenizer, [pair.source for pair in drawn], MAX_LENGTH)
    targets = encode_targets(tokenizer, [pair.target for pair in drawn], MAX_LENGTH)
    examples = [Example(*both) for both in zip(sources, targets, strict=True)]
    return SmallText(phrasebook, drawn, tokenizer, examples)
