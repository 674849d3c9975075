"""A teacher's most probable entries for a fixed list of examples, on disk: training reads them and runs no teacher.

The folder: `manifest.json` says what the cache was made from; each shard holds a run of examples (shards.py).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from kdlab.distributions import TopK
from kdlab.files import fingerprint, read_json, write_json
from kdlab.model_io import target_labels
from kdlab.progress import progress_bar
from kdlab.shards import Keep, Packed, Shard, ShardTypes, shard_files, write_shard
from kdlab.text.batches import Example, by_length
from kdlab.text.causal import collate_for, lengths_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 1
MANIFEST = "manifest.json"


class Cacheable(Protocol):
    """A teacher that can be cached: it gives whole distributions and knows its own fingerprint."""

    def __call__(self, batch: Mapping[str, Tensor]) -> Tensor | TopK:
        """Logits [batch, targets, vocabulary]."""
        ...

    def fingerprint(self) -> str:
        """A short name that changes with whatever changes the logits."""
        ...


def identity(
    *,
    teacher: Cacheable | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    examples: Sequence[Example] | None = None,
    keep: Keep | None = None,
) -> dict[str, Any]:
    """What a cache is made from, by fingerprints; only of what is given. `TeacherCache` compares it.

    The tokenizer's fingerprint is that of its vocabulary and special tokens; how it cuts shows in the examples.

    >>> sorted(identity(examples=[Example([5, 1], [7, 1])], keep=Keep(k=8)))
    ['data', 'k', 'min_probability', 'temperature']
    """
    parts: dict[str, Any] = {}
    if teacher is not None:
        if not hasattr(teacher, "fingerprint"):
            raise ValueError(
                f"teacher: got a {type(teacher).__name__}, expected one that has a fingerprint(), such as a "
                "LiveTeacher or an EnsembleTeacher"
            )
        parts["teacher"] = teacher.fingerprint()
    if tokenizer is not None:
        special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        parts["tokenizer"] = fingerprint([tokenizer.get_vocab(), special])
    if examples is not None:
        parts["data"] = _fingerprint_of_examples(examples)
    if keep is not None:
        parts |= asdict(keep)
    return parts


def build_cache(
    folder: Path,
    teacher: Cacheable,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    keep: Keep | None = None,
    *,
    decoder_start_token_id: int | None = None,
    decoder_only: bool = False,
    device: torch.device | str = "cpu",
    tokens_per_batch: int = 4096,
    examples_per_shard: int = 2048,
    description: str = "teacher cache",
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
        decoder_start_token_id: default: the tokenizer's pad token, as in Marian.
        decoder_only: the examples are prompts and completions, for decoder-only models.
        device: where the batches go.
        tokens_per_batch: padded tokens in a batch of the teacher's.
        examples_per_shard: of a new cache; one that is there keeps its own.
        description: for the progress bar.

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
    if not examples:
        raise ValueError("examples: got none, expected at least one")
    if examples_per_shard < 1:
        raise ValueError(f"examples_per_shard: got {examples_per_shard}, expected at least 1")
    keep, pad = keep or Keep(), tokenizer.pad_token_id
    start = pad if decoder_start_token_id is None else decoder_start_token_id
    made_from = identity(teacher=teacher, tokenizer=tokenizer, examples=examples, keep=keep)
    made_from["decoder_start_token_id"] = None if decoder_only else start
    config = SimpleNamespace(
        is_encoder_decoder=not decoder_only, pad_token_id=pad, decoder_start_token_id=start
    )
    ask = _Ask(teacher, keep, config, device, tokens_per_batch)
    new = {
        "format": FORMAT,
        "vocabulary": ask.vocabulary(examples[0]),
        "examples": len(examples),
        "examples_per_shard": examples_per_shard,
    }
    manifest = _claim(folder, made_from, new)
    types = ShardTypes.of(manifest["vocabulary"], keep.k)
    size = manifest["examples_per_shard"]
    missing = list(range(_number_of_shards(manifest)))
    with progress_bar(len(examples), description, "examples") as bar:
        while missing:
            held = []
            for number in missing:
                part = examples[number * size : (number + 1) * size]
                if _make_shard(folder, number, types, part, number * size, ask):
                    bar.update(len(part))
                else:
                    held.append(number)
            missing = held
            if missing:  # other processes are at these; should one die, its lock is free
                time.sleep(0.1)
    for lock in folder.glob("*.lock"):  # whoever still waits for one finds the record and goes on
        lock.unlink(missing_ok=True)
    return TeacherCache(folder, expected=made_from)


class TeacherCache:
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
    ...     examples = [Example([5, 1], [1])]
    ...     _ = build_cache(Path(folder), Teacher(), train_tokenizer(["a"], 300), examples, Keep(k=2))
    ...     TeacherCache(Path(folder), expected=identity(examples=examples)).read([0]).events().exp()
    tensor([[0.5000, 0.3000, 0.2000]])
    """

    def __init__(self, folder: Path, *, expected: Mapping[str, Any] | None = None, verify: bool = True):
        self.folder = Path(folder)
        manifest = read_json(self.folder / MANIFEST)
        if manifest is None:
            raise FileNotFoundError(f"folder: no cache in {self.folder}, expected one made by build_cache")
        _compare(self.folder, manifest, expected or {})
        self.manifest = manifest
        self.vocabulary: int = manifest["vocabulary"]
        self.temperature: float = manifest["temperature"]
        types = ShardTypes.of(self.vocabulary, manifest["k"])
        numbers = range(_number_of_shards(manifest))
        self._shards = [Shard(self.folder, number, types, verify) for number in numbers]
        self.lengths = np.concatenate([shard.lengths for shard in self._shards]).astype(np.int64)

    def __len__(self) -> int:
        """How many examples it holds."""
        return len(self.lengths)

    @property
    def bytes_on_disk(self) -> int:
        """Of everything in the folder."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def read(self, example_ids: Sequence[int]) -> TopK:
        """The distributions of all target tokens of these examples, one example after the other: [tokens, k].

        k is the largest number of entries that any of the tokens has; places that a token does not fill are empty, as
        `TopK` has it. Float32, on the CPU.

        Raises:
            ValueError: no id, or one that the cache does not have.
        """
        if not example_ids:
            raise ValueError("example_ids: got none, expected at least one")
        wrong = [index for index in example_ids if not 0 <= index < len(self)]
        if wrong:
            raise ValueError(
                f"example_ids: got {wrong[0]}, expected 0 to {len(self) - 1}, the examples of the cache"
            )
        size = self.manifest["examples_per_shard"]
        packed = Packed.joined([self._shards[index // size].read(index % size) for index in example_ids])
        return packed.unpack(self.vocabulary, self.temperature)


class _Ask:
    """Asks the teacher about examples and packs what it says."""

    def __init__(
        self,
        teacher: Cacheable,
        keep: Keep,
        config: SimpleNamespace,
        device: torch.device | str,
        tokens_per_batch: int,
    ):
        self.teacher, self.keep, self.device = teacher, keep, device
        self.config, self.tokens_per_batch = config, tokens_per_batch

    def vocabulary(self, example: Example) -> int:
        """Of the teacher's logits; also a trial that shows what is wrong before anything is written."""
        logits = self._logits([example], [0])
        Packed.of(logits, self.keep)
        return logits.shape[-1]

    def about(self, examples: Sequence[Example], first: int) -> Packed:
        """All tokens, in the order of the examples, though the teacher sees them in batches by length.

        `first` is the id of the first of them: a teacher with a context for each example goes by it.
        """
        lengths = lengths_for(self.config, examples)
        parts: dict[int, Packed] = {}
        for batch in by_length(lengths, max(self.tokens_per_batch, max(map(max, lengths)))):
            logits = self._logits([examples[index] for index in batch], [first + index for index in batch])
            packed = Packed.of(logits, self.keep)
            targets = [lengths[index][1] for index in batch]
            parts |= zip(batch, packed.split(targets), strict=True)
        return Packed.joined([parts[index] for index in range(len(examples))])

    @torch.no_grad()
    def _logits(self, examples: Sequence[Example], example_ids: Sequence[int]) -> Tensor:
        """[target tokens, vocabulary], one example after the other."""
        batch = collate_for(self.config, examples, example_ids=example_ids)
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        logits = self.teacher(batch)
        if not isinstance(logits, Tensor):
            raise ValueError("teacher: got a top-k signal, expected whole distributions to choose from")
        return logits[target_labels(batch) != -100]


def _make_shard(
    folder: Path, number: int, types: ShardTypes, examples: Sequence[Example], first: int, ask: _Ask
) -> bool:
    """Make a shard unless it is there. False where another process is making it."""
    file, record = shard_files(folder, number)
    try:
        if not record.exists():
            with FileLock(file.with_suffix(".lock"), timeout=0):
                if not record.exists():  # it may have come since
                    lengths = [len(example.target_ids) for example in examples]
                    write_shard(folder, number, types, lengths, ask.about(examples, first))
    except Timeout:
        return False
    return True


def _claim(folder: Path, made_from: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of the folder: the one that is there, if it is of the same things, or a new one."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "manifest.lock"):
        manifest = read_json(folder / MANIFEST)
        if manifest is None:
            manifest = {**new, **made_from}
            write_json(folder / MANIFEST, manifest)
    _compare(folder, manifest, made_from)
    return manifest


def _compare(folder: Path, manifest: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a cache of something else, and name what differs."""
    different = [
        f"{name} is {manifest.get(name)}, expected {value}"
        for name, value in {"format": FORMAT, **expected}.items()
        if manifest.get(name) != value
    ]
    if different:
        raise ValueError(
            f"folder: the cache in {folder} was made from something else: {'; '.join(different)}. Build another one "
            "in a folder of its own, or remove this one"
        )


def _number_of_shards(manifest: Mapping[str, Any]) -> int:
    examples, size = int(manifest["examples"]), int(manifest["examples_per_shard"])
    return math.ceil(examples / size)


def _fingerprint_of_examples(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        for ids in (example.source_ids, example.target_ids):
            digest.update(np.array([len(ids), *ids], dtype="<i8").tobytes())
    return digest.hexdigest()[:16]
