"""Translate many sentences: batches by length, beam search or sampling by transformers, results in order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from kdlab.progress import progress_bar
from kdlab.text.batches import by_length

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


def length_limit(source_length: int) -> int:
    """The most target tokens (with eos) that a translation of so many source tokens may take."""
    return 2 * source_length + 10


def generate(
    model: PreTrainedModel,
    sources: Sequence[Sequence[int]],
    search: Search,
    description: str = "translating",
    *,
    done: Collection[int] = (),
) -> Iterator[dict[int, list[int]]]:
    """Yield, batch by batch (long sentences first), the target ids of some of the sources.

    Args:
        model: encoder-decoder, on its device; put into eval mode.
        sources: token ids that end in eos.
        search: beam, greedy or sampling.
        description: for the progress bar.
        done: indices of sources that need no translation any more. A batch of which all are done is skipped; the
            others stay as they are.

    Yields:
        {index in `sources`: target ids}. Ids end in eos, unless the length limit cut them: those that do not
        are unfinished.
    """
    model.eval()
    lengths = [(len(ids), 1) for ids in sources]
    budget = max(search.tokens_per_batch // search.num_beams, max((n for n, _ in lengths), default=1))
    with progress_bar(len(sources), description, "sentences") as bar:
        for number, batch in enumerate(by_length(lengths, budget)):
            if not all(index in done for index in batch):
                targets = _search(model, [sources[index] for index in batch], search, number)
                yield dict(zip(batch, targets, strict=True))
            bar.update(len(batch))


def translate(
    model: PreTrainedModel,
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


@torch.no_grad()
def _search(
    model: PreTrainedModel, sources: Sequence[Sequence[int]], search: Search, number: int
) -> list[list[int]]:
    """Target ids of one batch of sources."""
    device = next(model.parameters()).device
    pad, eos = model.generation_config.pad_token_id, model.generation_config.eos_token_id
    longest = max(len(ids) for ids in sources)
    input_ids = torch.tensor([[*ids, *[pad] * (longest - len(ids))] for ids in sources])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in sources])
    options: dict[str, Any] = {"do_sample": search.sample, "num_beams": search.num_beams}
    if search.sample:
        options |= {"temperature": search.temperature, "top_k": 0}
    limit = length_limit(longest)
    positions = getattr(model.config, "max_position_embeddings", limit + 1)
    with _seeded(search, number, device):
        outputs: torch.Tensor = model.generate(  # type: ignore[operator]
            input_ids=input_ids.to(device),
            attention_mask=mask.to(device),
            max_length=min(limit + 1, positions),
            **options,
        )
    return [_trim(row, eos) for row in outputs[:, 1:].tolist()]  # without the start token


def _trim(ids: list[int], eos: int) -> list[int]:
    """Cut after the first eos: what follows is the padding of the batch."""
    return ids[: ids.index(eos) + 1] if eos in ids else ids
