"""A folder of shards about a fixed list of examples: filled by one process or several, checked, read by memory map.

`manifest.json` says what the folder was made from; each shard holds a run of examples (shards.py). What is kept of a
token is the `Recorder`'s to say: the most probable entries (cache.py) or the hidden states (hidden_cache.py).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, Protocol

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from kdlab.files import fingerprint, read_json, write_json
from kdlab.hidden_shards import KeepHidden
from kdlab.progress import progress_bar
from kdlab.shards import Array, Keep, Layout, Rows, Shard, shard_files, write_shard
from kdlab.text.batches import Example, by_length
from kdlab.text.causal import collate_for, lengths_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 1
MANIFEST = "manifest.json"


class Fingerprinted(Protocol):
    """Whatever is cached knows its own fingerprint."""

    def fingerprint(self) -> str:
        """A short name that changes with whatever changes the logits."""
        ...


class Recorder(Protocol[Rows]):
    """Asks a teacher about batches, and packs what is to be kept."""

    @property
    def teacher(self) -> Fingerprinted:
        """Who is asked."""
        ...

    @property
    def keep(self) -> Keep | KeepHidden:
        """What is kept."""
        ...

    def describe(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """For the manifest, what `layout` needs; also a trial that shows what is wrong before anything is written."""
        ...

    def layout(self, manifest: Mapping[str, Any]) -> Layout[Rows]:
        """Of the shards."""
        ...

    def pack(self, batch: Mapping[str, Tensor]) -> Rows:
        """What is kept of the batch's target tokens, row after row."""
        ...

    def joined(self, parts: Sequence[Rows]) -> Rows:
        """The tokens of all parts, one part after the other."""
        ...

    def prepare(self, folder: Path) -> dict[str, Any]:
        """Write what is kept once, before the first shard; what the manifest is to say of it."""
        ...


def identity(
    *,
    teacher: Fingerprinted | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    examples: Sequence[Example] | None = None,
    keep: Keep | KeepHidden | None = None,
) -> dict[str, Any]:
    """What a cache is made from, by fingerprints; only of what is given. Who opens it compares.

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


@dataclass(frozen=True)
class BatchOptions:
    """How examples become batches of the teacher's.

    Attributes:
        decoder_start_token_id: None: the tokenizer's pad token, as in Marian.
        decoder_only: the examples are prompts and completions, for decoder-only models.
        device: where the batches go.
        tokens_per_batch: padded tokens in a batch.
        examples_per_shard: of a new cache; one that is there keeps its own.
        description: for the progress bar.
    """

    decoder_start_token_id: int | None = None
    decoder_only: bool = False
    device: torch.device | str = "cpu"
    tokens_per_batch: int = 4096
    examples_per_shard: int = 2048
    description: str = "teacher cache"


def fill(
    folder: Path,
    recorder: Recorder[Rows],
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    options: BatchOptions,
) -> dict[str, Any]:
    """Ask about every target token of `examples`, and keep what the recorder keeps in `folder`.

    Several processes may do so with the same arguments: each takes shards that nobody has, and all return when the
    cache is whole. One that is killed leaves whole shards only; started again, it makes those that are missing.

    Returns:
        What it was made from, for who opens it.

    Raises:
        ValueError: no examples; a folder that holds a cache of something else (the message says what differs); what the
            recorder refuses.

    >>> import tempfile
    >>> from kdlab.hidden_cache import HiddenRecorder
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.teachers import LiveTeacher
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer, examples = train_tokenizer(["a"], 300), [Example([5, 1], [2, 1])]
    >>> teacher = LiveTeacher(new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     recorder = HiddenRecorder(teacher, KeepHidden(bits=4))
    ...     made_from = fill(Path(folder), recorder, tokenizer, examples, BatchOptions())
    >>> made_from["bits"], made_from == identity(
    ...     teacher=teacher, tokenizer=tokenizer, examples=examples, keep=KeepHidden(4)
    ... ) | {"decoder_start_token_id": 0}
    (4, True)
    """
    if not examples:
        raise ValueError("examples: got none, expected at least one")
    if options.examples_per_shard < 1:
        raise ValueError(f"examples_per_shard: got {options.examples_per_shard}, expected at least 1")
    made_from = identity(teacher=recorder.teacher, tokenizer=tokenizer, examples=examples, keep=recorder.keep)
    ask = _Ask(recorder, tokenizer.pad_token_id, options)
    made_from["decoder_start_token_id"] = None if options.decoder_only else ask.config.decoder_start_token_id
    new = {
        "format": FORMAT,
        **recorder.describe(ask.batch(examples[:1], [0])),
        "examples": len(examples),
        "examples_per_shard": options.examples_per_shard,
    }
    manifest = _claim(folder, made_from, new, recorder)
    layout = recorder.layout(manifest)
    size = manifest["examples_per_shard"]
    missing = list(range(_number_of_shards(manifest)))
    with progress_bar(len(examples), options.description, "examples") as bar:
        while missing:
            held = []
            for number in missing:
                part = examples[number * size : (number + 1) * size]
                if _make_shard(folder, number, layout, part, number * size, ask):
                    bar.update(len(part))
                else:
                    held.append(number)
            missing = held
            if missing:  # other processes are at these; should one die, its lock is free
                time.sleep(0.1)
    for lock in folder.glob("*.lock"):  # whoever still waits for one finds the record and goes on
        lock.unlink(missing_ok=True)
    return made_from


class CacheFolder(Generic[Rows]):
    """A finished cache, read by memory map. What is in it: see `kdlab.cache.TeacherCache`.

    Args:
        folder, expected, verify: see there.
        layout: of the shards, by the manifest.

    >>> import tempfile
    >>> from kdlab.cache import build_cache
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> class Teacher:  # at every position: 0.5, 0.3, 0.2
    ...     def __call__(self, batch):
    ...         return torch.tensor([0.5, 0.3, 0.2]).log().expand(*batch["labels"].shape, 3)
    ...     def fingerprint(self):
    ...         return "an example"
    >>> tokenizer, examples = train_tokenizer(["a"], 300), [Example([5, 1], [2, 1]), Example([6, 1], [0, 2, 1])]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = build_cache(Path(folder), Teacher(), tokenizer, examples, Keep(k=2))
    >>> len(cache), cache.vocabulary, [packed.counts.tolist() for packed in cache.rows([1, 0])]
    (2, 3, [[2, 2, 2], [2, 2]])
    """

    def __init__(
        self,
        folder: Path,
        layout: Callable[[Mapping[str, Any]], Layout[Rows]],
        *,
        expected: Mapping[str, Any] | None,
        verify: bool,
    ):
        self.folder = Path(folder)
        manifest = read_json(self.folder / MANIFEST)
        if manifest is None:
            raise FileNotFoundError(f"folder: no cache in {self.folder}, expected one made by build_cache")
        _compare(self.folder, manifest, expected or {})
        self.manifest = manifest
        self.vocabulary: int = manifest["vocabulary"]
        shards = range(_number_of_shards(manifest))
        self._shards = [Shard(self.folder, number, layout(manifest), verify) for number in shards]
        self.lengths: Array = np.concatenate([shard.lengths for shard in self._shards]).astype(np.int64)

    def __len__(self) -> int:
        """How many examples it holds."""
        return len(self.lengths)

    @property
    def bytes_on_disk(self) -> int:
        """Of everything in the folder."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def rows(self, example_ids: Sequence[int]) -> list[Rows]:
        """What is kept of these examples, one by one.

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
        return [self._shards[index // size].read(index % size) for index in example_ids]


class _Ask(Generic[Rows]):
    """Asks about examples, in batches."""

    def __init__(self, recorder: Recorder[Rows], pad_token_id: int, options: BatchOptions):
        start = options.decoder_start_token_id
        self.recorder, self.options = recorder, options
        self.config = SimpleNamespace(
            is_encoder_decoder=not options.decoder_only,
            pad_token_id=pad_token_id,
            decoder_start_token_id=pad_token_id if start is None else start,
        )

    def about(self, examples: Sequence[Example], first: int) -> Rows:
        """All tokens, in the order of the examples, though the teacher sees them in batches by length.

        `first` is the id of the first of them: a teacher with a context for each example goes by it.
        """
        lengths = lengths_for(self.config, examples)
        parts: dict[int, Rows] = {}
        for ids in by_length(lengths, max(self.options.tokens_per_batch, max(map(max, lengths)))):
            batch = self.batch([examples[index] for index in ids], [first + index for index in ids])
            packed = self.recorder.pack(batch)
            parts |= zip(ids, packed.split([lengths[index][1] for index in ids]), strict=True)
        return self.recorder.joined([parts[index] for index in range(len(examples))])

    def batch(self, examples: Sequence[Example], example_ids: Sequence[int]) -> dict[str, Tensor]:
        batch = collate_for(self.config, examples, example_ids=example_ids)
        return {name: tensor.to(self.options.device) for name, tensor in batch.items()}


def _make_shard(
    folder: Path,
    number: int,
    layout: Layout[Rows],
    examples: Sequence[Example],
    first: int,
    ask: _Ask[Rows],
) -> bool:
    """Make a shard unless it is there. False where another process is making it."""
    file, record = shard_files(folder, number)
    try:
        if not record.exists():
            with FileLock(file.with_suffix(".lock"), timeout=0):
                if not record.exists():  # it may have come since
                    lengths = [len(example.target_ids) for example in examples]
                    write_shard(folder, number, layout, lengths, ask.about(examples, first))
    except Timeout:
        return False
    return True


def _claim(
    folder: Path, made_from: Mapping[str, Any], new: Mapping[str, Any], recorder: Recorder[Any]
) -> dict[str, Any]:
    """The manifest of the folder: the one that is there, if it is of the same things, or a new one."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "manifest.lock"):
        manifest = read_json(folder / MANIFEST)
        if manifest is None:
            manifest = {**new, **made_from, **recorder.prepare(folder)}
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
