"""A teacher's most probable entries for a fixed list of examples, on disk: training reads them and runs no teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from kdlab.cache_folder import BatchOptions, CacheFolder, fill
from kdlab.distributions import TopK
from kdlab.model_io import target_labels
from kdlab.shards import Keep, Packed, ShardTypes
from kdlab.text.batches import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Cacheable(Protocol):
    """A teacher that can be cached: it gives whole distributions and knows its own fingerprint."""

    def __call__(self, batch: Mapping[str, Tensor]) -> Tensor | TopK:
        """Logits [batch, targets, vocabulary]."""
        ...

    def fingerprint(self) -> str:
        """A short name that changes with whatever changes the logits."""
        ...


def build_cache(
    folder: Path,
    teacher: Cacheable,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    keep: Keep | None = None,
    **options: Any,
) -> TeacherCache:
    """Ask `teacher` about every target token of `examples`, and keep its answers in `folder`.

    Several processes may be started with the same arguments: each takes shards that nobody has, and all return when
    the cache is whole. One that is killed leaves whole shards only; started again, it makes those that are missing.

    Args:
        folder: of this cache alone. Another cache in it is refused, not written over.
        teacher: gives logits; already on `device`.
        tokenizer: that of the examples.
        examples: in the order that `example_ids` count them.
        keep: which entries; default `Keep()`.
        **options: of `kdlab.cache_folder.BatchOptions`.

    Returns:
        The cache, opened and its checksums compared.

    Raises:
        ValueError: no examples; a folder that holds a cache of something else (the message says what differs); a
            teacher that gives a TopK or NaN; k above the vocabulary.

    >>> import tempfile
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> class Teacher:  # at every position: 0.5, 0.3, 0.2
    ...     def __call__(self, batch):
    ...         return torch.tensor([0.5, 0.3, 0.2]).log().expand(*batch["labels"].shape, 3)
    ...     def fingerprint(self):
    ...         return "an example"
    >>> tokenizer, examples = train_tokenizer(["a"], 300), [Example([5, 1], [2, 1]), Example([6, 1], [0, 2, 1])]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = build_cache(Path(folder), Teacher(), tokenizer, examples, Keep(k=2))
    ...     cache.lengths.tolist(), cache.manifest["teacher"]
    ([2, 3], 'an example')
    """
    recorder = _TopKRecorder(teacher, keep or Keep())
    return TeacherCache(folder, expected=fill(folder, recorder, tokenizer, examples, BatchOptions(**options)))


class TeacherCache(CacheFolder[Packed]):
    """A finished cache, read by memory map.

    Args:
        folder: that `build_cache` has filled.
        expected: what it must have been made from, see `identity`. What is not named there is not compared, so a run
            that has no teacher at hand can still check its data and tokenizer.
        verify: compare the SHA-256 of each shard now, which reads the whole cache once. Sizes are compared anyway.
            Later reads check nothing.

    Attributes:
        manifest: what it was made from.
        vocabulary, temperature: of the distributions.
        lengths: [examples], target tokens of each.

    Raises:
        FileNotFoundError: no cache there, or one that is not finished.
        ValueError: made from something else; a shard that is cut or changed.

    >>> import tempfile
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> class Teacher:  # at every position: 0.5, 0.3, 0.2
    ...     def __call__(self, batch):
    ...         return torch.tensor([0.5, 0.3, 0.2]).log().expand(*batch["labels"].shape, 3)
    ...     def fingerprint(self):
    ...         return "an example"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     from kdlab.cache_folder import identity
    ...     examples = [Example([5, 1], [1])]
    ...     _ = build_cache(Path(folder), Teacher(), train_tokenizer(["a"], 300), examples, Keep(k=2))
    ...     TeacherCache(Path(folder), expected=identity(examples=examples)).read([0]).events().exp()
    tensor([[0.5000, 0.3000, 0.2000]])
    """

    def __init__(self, folder: Path, *, expected: Mapping[str, Any] | None = None, verify: bool = True):
        super().__init__(folder, _layout, expected=expected, verify=verify)
        self.temperature: float = self.manifest["temperature"]

    def read(self, example_ids: Sequence[int]) -> TopK:
        """The distributions of all target tokens of these examples, one example after the other: [tokens, k].

        k is the largest number of entries that any of the tokens has; places that a token does not fill are empty, as
        `TopK` has it. Float32, on the CPU.

        Raises:
            ValueError: no id, or one that the cache does not have.
        """
        return Packed.joined(self.rows(example_ids)).unpack(self.vocabulary, self.temperature)


def _layout(manifest: Mapping[str, Any]) -> ShardTypes:
    return ShardTypes.of(manifest["vocabulary"], manifest["k"])


@dataclass(frozen=True)
class _TopKRecorder:
    teacher: Cacheable
    keep: Keep

    def describe(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        logits = self._logits(batch)
        Packed.of(logits, self.keep)
        return {"vocabulary": logits.shape[-1]}

    def layout(self, manifest: Mapping[str, Any]) -> ShardTypes:
        return _layout(manifest)

    def pack(self, batch: Mapping[str, Tensor]) -> Packed:
        return Packed.of(self._logits(batch), self.keep)

    def joined(self, parts: Sequence[Packed]) -> Packed:
        return Packed.joined(parts)

    def prepare(self, folder: Path) -> dict[str, Any]:
        return {}  # entries say all

    @torch.no_grad()
    def _logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """[target tokens, vocabulary], one example after the other."""
        logits = self.teacher(batch)
        if not isinstance(logits, Tensor):
            raise ValueError("teacher: got a top-k signal, expected whole distributions to choose from")
        return logits[target_labels(batch) != -100]
