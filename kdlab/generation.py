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
from kdlab.text.causal import pad_prompts

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
        tokens_per_batch: padded source tokens in a batch, counted once for each beam or sample.
        candidates: translations of each source, for `generate_candidates`: the best of the beam, or so many samples.

    What a beam is ranked by is transformers' own (5.x): log Pr(y | x) / length ** length_penalty, where the length
    counts eos and not the start token. The sum is of log-softmaxes, at most 0, so a positive penalty favours long
    translations. `length_penalty` (1.0 where it says nothing) and `early_stopping` (False: a sentence is done when
    its best running beam, normalised at its present length, is below the worst of the `num_beams` that have ended)
    come from the model's generation_config.

    >>> Search(candidates=2)
    Traceback (most recent call last):
    ValueError: candidates: got 2 with num_beams=1, expected 1 to num_beams, or sample=True
    """

    num_beams: int = 1
    sample: bool = False
    temperature: float = 1.0
    seed: int = 0
    tokens_per_batch: int = 8192
    candidates: int = 1

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise ValueError(f"num_beams: got {self.num_beams}, expected at least 1")
        if self.sample and self.num_beams > 1:
            raise ValueError(f"sample: got True with num_beams={self.num_beams}, expected num_beams=1")
        if self.candidates < 1 or (self.candidates > self.num_beams and not self.sample):
            raise ValueError(
                f"candidates: got {self.candidates} with num_beams={self.num_beams}, expected 1 to num_beams, or "
                "sample=True"
            )


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
    """The first candidate of each source: arguments, order and batches as for `generate_candidates`.

    Yields:
        {index in `sources`: target ids}. Ids end in eos, unless the length limit cut them: those that do not
        are unfinished.

    >>> class Echo:
    ...     def search_batch(self, sources, search):
    ...         return [list(ids) for ids in sources]
    >>> list(generate(Echo(), [[5, 1], [6, 7, 1]], Search()))
    [{1: [6, 7, 1], 0: [5, 1]}]
    """
    for batch in generate_candidates(model, sources, search, description, done=done):
        yield {index: candidates[0] for index, candidates in batch.items()}


def generate_candidates(
    model: PreTrainedModel | Runtime,
    sources: Sequence[Sequence[int]],
    search: Search,
    description: str = "translating",
    *,
    done: Collection[int] = (),
    share: tuple[int, int] = (0, 1),
) -> Iterator[dict[int, list[list[int]]]]:
    """Yield, batch by batch (long sentences first), all candidates of some of the sources.

    Args:
        model: on its device, put into eval mode; or a model of another runtime.
        sources: token ids that end in eos; prompts as they are for a decoder-only model.
        search: beam, greedy or sampling.
        description: for the progress bar.
        done: indices of sources that need no translation any more. A batch of which all are done is skipped; the
            others stay as they are.
        share: (rank, count): of all batches only those of this process, where several share the work.

    Yields:
        {index in `sources`: `search.candidates` lists of target ids}, the beam's best first, samples as drawn.

    >>> class Echo:
    ...     def search_batch(self, sources, search):
    ...         return [list(ids) for ids in sources]
    >>> list(generate_candidates(Echo(), [[5, 1], [6, 7, 1]], Search()))
    [{1: [[6, 7, 1]], 0: [[5, 1]]}]
    """
    with progress_bar(len(sources), description, "sentences") as bar:
        for number, batch in enumerate(source_batches(sources, search)):
            mine = number % share[1] == share[0]
            if mine and not all(index in done for index in batch):
                found = search_candidates(model, [sources[index] for index in batch], search, number)
                yield dict(zip(batch, found, strict=True))
            bar.update(len(batch))


def source_batches(sources: Sequence[Sequence[int]], search: Search) -> list[list[int]]:
    """Indices of the sources in each batch of the search, long ones first; each source once.

    >>> source_batches([[5, 1], [5, 6, 7, 1], [1]], Search(tokens_per_batch=4))
    [[1], [0, 2]]
    """
    lengths = [(len(ids), 1) for ids in sources]
    rows = max(search.num_beams, search.candidates)  # that transformers makes of each source
    return by_length(lengths, max(search.tokens_per_batch // rows, *(n for n, _ in lengths), 1))


def translate(
    model: PreTrainedModel | Runtime,
    tokenizer: PreTrainedTokenizerBase,
    lines: Sequence[str],
    search: Search,
    description: str = "translating",
) -> list[str]:
    """Translations of `lines`, in their order. An empty line stays empty: there is nothing to translate.

    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> class Echo:
    ...     def search_batch(self, sources, search):
    ...         return [list(ids) for ids in sources]
    >>> translate(Echo(), train_tokenizer(["a b"], 300), ["a", "", "a b"], Search())
    ['a', '', 'a b']
    """
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


def search_batch(
    model: PreTrainedModel | Runtime,
    sources: Sequence[Sequence[int]],
    search: Search,
    number: int = 0,
    max_length: int | None = None,
) -> list[list[int]]:
    """The first candidate of each source: arguments and order as for `search_candidates`.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> model = MarianMTModel(marian_config(Architecture(8, 1, 1, 8), vocabulary=20))
    >>> sample = Search(sample=True, seed=1)
    >>> once, again = (search_batch(model, [[5, 1]], sample, max_length=6) for _ in range(2))
    >>> once == again, len(once[0]) <= 6
    (True, True)
    """
    found = search_candidates(model, sources, search, number, max_length)
    return [candidates[0] for candidates in found]


@torch.no_grad()
def search_candidates(
    model: PreTrainedModel | Runtime,
    sources: Sequence[Sequence[int]],
    search: Search,
    number: int = 0,
    max_length: int | None = None,
) -> list[list[list[int]]]:
    """All candidates of one batch of sources, in their order; ids end in eos unless the length limit cut them.

    Args:
        model: encoder-decoder or decoder-only, put into eval mode; or a model of another runtime, which gives one
            candidate.
        sources: token ids that end in eos; for a decoder-only model prompts, which it goes on from as they are.
        search: beam, greedy or sampling.
        number: of the batch, which the seed of the sampling is made from.
        max_length: the most target tokens (with eos), where that is less than `length_limit` allows. The prompt and
            its completion share a decoder-only model's positions.

    Raises:
        ValueError: more than one candidate of another runtime; an empty prompt, or one that leaves no position.

    A model with several eos tokens ends a target in any of them.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> model = MarianMTModel(marian_config(Architecture(8, 1, 1, 8), vocabulary=20))
    >>> found = search_candidates(model, [[5, 1], [6, 1]], Search(num_beams=3, candidates=2), max_length=4)
    >>> [len(candidates) for candidates in found]
    [2, 2]
    """
    if isinstance(model, Runtime):
        if search.candidates > 1:
            raise ValueError(
                f"candidates: got {search.candidates}, expected 1: an exported model gives its best translation alone"
            )
        return [[ids] for ids in model.search_batch(sources, search)]
    model.eval()
    device = next(model.parameters()).device
    pad, eos = model.generation_config.pad_token_id, model.generation_config.eos_token_id
    pad = 0 if pad is None else pad  # which nothing ever reads
    causal = not model.config.is_encoder_decoder
    input_ids, mask = (pad_prompts if causal else pad_sources)(sources, pad)
    # Tokens of the output before the target: the prompt, or the start token.
    before = input_ids.shape[1] if causal else 1
    limit = _limit(input_ids.shape[1], before, getattr(model.config, "max_position_embeddings", None))
    if max_length is not None:
        limit = min(limit, max_length)
    options: dict[str, Any] = {} if search.sample else {"do_sample": False, "num_beams": search.num_beams}
    with _seeded(search, number, device), _unbiased(model, search):
        outputs: torch.Tensor = model.generate(  # type: ignore[operator]
            input_ids=input_ids.to(device),
            attention_mask=mask.to(device),
            max_length=before + limit,
            pad_token_id=pad,
            num_return_sequences=search.candidates,
            # Marian models of the hub have one. It would end a runaway translation at the limit in an eos that the
            # model did not choose, and nobody could tell that it is unfinished.
            forced_eos_token_id=None,
            **options,
        )
    rows = [cut_after_eos(row, eos) for row in outputs[:, before:].tolist()]
    return [rows[start : start + search.candidates] for start in range(0, len(rows), search.candidates)]


def _limit(source_length: int, before: int, positions: int | None) -> int:
    """`length_limit` where `before` of the decoder's positions are taken; refuses a prompt that takes all of them."""
    if positions is not None and before >= positions:
        raise ValueError(
            f"sources: got a prompt of {before} tokens, expected less than the model's {positions} positions"
        )
    return length_limit(source_length, None if positions is None else positions - before + 1)


def cut_after_eos(ids: list[int], eos: int | Sequence[int] | None) -> list[int]:
    """Cut after the first eos, of one or of several: what follows is the padding of the batch.

    >>> cut_after_eos([5, 1, 0], 1), cut_after_eos([5, 2, 0], [1, 2]), cut_after_eos([5, 6], None)
    ([5, 1], [5, 2], [5, 6])
    """
    ends = {eos} if eos is None or isinstance(eos, int) else set(eos)
    return next((ids[: place + 1] for place, token in enumerate(ids) if token in ends), ids)
