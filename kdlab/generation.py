"""Translate many sentences: batches by length, beam search or sampling by transformers, results in order.

Another runtime than transformers, such as that of an exported model, takes part as a `Runtime`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from kdlab.progress import progress_bar
from kdlab.text.batches import by_length, pad_sources

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Search:
    """How translations are looked for.

    Attributes:
        num_beams: width of the beam; 1 is greedy search, or sampling where `sample` is set.
        sample: draw from the model's distribution instead, at `temperature`.
        temperature: of the sampling.
        seed: of the sampling; each batch starts from it anew, so what is drawn does not depend on where a run was
            stopped.
        tokens_per_batch: padded source tokens in a batch, counted once for each beam.
    """

    num_beams: int = 1
    sample: bool = False
    temperature: float = 1.0
    seed: int = 0
    tokens_per_batch: int = 8192

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise ValueError(f"num_beams: got {self.num_beams}, expected at least 1")
        if self.sample and self.num_beams > 1:
            raise ValueError(f"sample: got True with num_beams={self.num_beams}, expected num_beams=1")


@runtime_checkable
class Runtime(Protocol):
    """A model that another runtime runs: it looks for the translations of one batch by itself."""

    def search_batch(self, sources: Sequence[Sequence[int]], search: Search) -> list[list[int]]:
        """Target ids of each source, as `search_batch` returns them."""
        ...


def length_limit(source_length: int, positions: int | None = None) -> int:
    """The most target tokens (with eos) that a translation of so many source tokens may take.

    Args:
        source_length: of the longest source in the batch, with eos.
        positions: how many the decoder has, if there is an end to them; the start token takes the first.

    >>> length_limit(20), length_limit(20, positions=32)
    (50, 31)
    """
    limit = 2 * source_length + 10
    return limit if positions is None else min(limit, positions - 1)


def generate(
    model: PreTrainedModel | Runtime,
    sources: Sequence[Sequence[int]],
    search: Search,
    description: str = "translating",
    *,
    done: Collection[int] = (),
) -> Iterator[dict[int, list[int]]]:
    """Yield, batch by batch (long sentences first), the target ids of some of the sources.

    Args:
        model: encoder-decoder, on its device, put into eval mode; or a model of another runtime.
        sources: token ids that end in eos.
        search: beam, greedy or sampling.
        description: for the progress bar.
        done: indices of sources that need no translation any more. A batch of which all are done is skipped; the
            others stay as they are.

    Yields:
        {index in `sources`: target ids}. Ids end in eos, unless the length limit cut them: those that do not
        are unfinished.
    """
    with progress_bar(len(sources), description, "sentences") as bar:
        for number, batch in enumerate(source_batches(sources, search)):
            if not all(index in done for index in batch):
                targets = search_batch(model, [sources[index] for index in batch], search, number)
                yield dict(zip(batch, targets, strict=True))
            bar.update(len(batch))


def source_batches(sources: Sequence[Sequence[int]], search: Search) -> list[list[int]]:
    """Indices of the sources in each batch of the search, long ones first; each source once.

    >>> source_batches([[5, 1], [5, 6, 7, 1], [1]], Search(tokens_per_batch=4))
    [[1], [0, 2]]
    """
    lengths = [(len(ids), 1) for ids in sources]
    return by_length(lengths, max(search.tokens_per_batch // search.num_beams, *(n for n, _ in lengths), 1))


def translate(
    model: PreTrainedModel | Runtime,
    tokenizer: PreTrainedTokenizerBase,
    lines: Sequence[str],
    search: Search,
    description: str = "translating",
) -> list[str]:
    """Translations of `lines`, in their order. An empty line stays empty: there is nothing to translate."""
    from kdlab.text.tokenizers import MAX_LENGTH, encode_sources

    filled = [number for number, line in enumerate(lines) if line.strip()]
    sources = encode_sources(tokenizer, [lines[number] for number in filled], MAX_LENGTH)
    translations = [""] * len(lines)
    for batch in generate(model, sources, search, description):
        for index, ids in batch.items():
            translations[filled[index]] = str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
    return translations


@contextmanager
def _seeded(search: Search, batch: int, device: torch.device) -> Iterator[None]:
    """Draw from a state of random numbers that belongs to this batch, and put the caller's back."""
    if not search.sample:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed((search.seed * 1_000_003 + batch) % 2**32)  # the CPU takes no more bits than that
        yield


# What a model's own settings may say about which tokens begin, end and never stand in a target.
_TOKENS = (
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
)


@contextmanager
def _unbiased(model: PreTrainedModel, search: Search) -> Iterator[None]:
    """Draw from the model's distribution at the search's temperature and from no other.

    A pretrained model's own settings (top_p, a penalty on repetition, an eos forced at the limit) would bend it, and
    transformers fills whatever a call leaves open from them: for the time of the sampling they make way.
    """
    if not search.sample:
        yield
        return
    from transformers import GenerationConfig

    own = model.generation_config
    tokens = {name: getattr(own, name, None) for name in _TOKENS}
    # The Trainer switches the cache off in the model's configuration: without it each token reads all the others anew.
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=search.temperature, top_k=0, top_p=1.0, use_cache=True, **tokens
    )
    try:
        yield
    finally:
        model.generation_config = own


@torch.no_grad()
def search_batch(
    model: PreTrainedModel | Runtime,
    sources: Sequence[Sequence[int]],
    search: Search,
    number: int = 0,
    max_length: int | None = None,
) -> list[list[int]]:
    """Target ids of one batch of sources, in their order; they end in eos unless the length limit cut them.

    Args:
        model: encoder-decoder, put into eval mode; or a model of another runtime.
        sources: token ids that end in eos.
        search: beam, greedy or sampling.
        number: of the batch, which the seed of the sampling is made from.
        max_length: the most target tokens (with eos), where that is less than `length_limit` allows.
    """
    if isinstance(model, Runtime):
        return model.search_batch(sources, search)
    model.eval()
    device = next(model.parameters()).device
    pad, eos = model.generation_config.pad_token_id, model.generation_config.eos_token_id
    input_ids, mask = pad_sources(sources, pad)
    limit = length_limit(input_ids.shape[1], getattr(model.config, "max_position_embeddings", None))
    if max_length is not None:
        limit = min(limit, max_length)
    options: dict[str, Any] = {} if search.sample else {"do_sample": False, "num_beams": search.num_beams}
    with _seeded(search, number, device), _unbiased(model, search):
        outputs: torch.Tensor = model.generate(  # type: ignore[operator]
            input_ids=input_ids.to(device),
            attention_mask=mask.to(device),
            max_length=limit + 1,  # with the start token
            **options,
        )
    return [cut_after_eos(row, eos) for row in outputs[:, 1:].tolist()]  # without the start token


def cut_after_eos(ids: list[int], eos: int) -> list[int]:
    """Cut after the first eos: what follows is the padding of the batch."""
    return ids[: ids.index(eos) + 1] if eos in ids else ids
