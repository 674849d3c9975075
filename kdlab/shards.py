"""One file of a teacher's cache: the most probable entries of some examples' tokens, packed, checked and mapped.

A token with c entries takes c indices (uint16, or uint32 where the vocabulary needs it), c float16 values and a count.
The values are log-probabilities less the largest: c - 1 of the entries, since the largest is 0 then, and the tail's.
On reading they are normalised, so that entries and tail sum to 1. Half precision is finest near 0, and that is where
the mass lies, so rounding costs less than 1e-7 nats a token; without the normalising it would be a thousand times that.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdlab.distributions import TopK, check_temperature
from kdlab.files import read_json, write_json

Array: TypeAlias = NDArray[Any]
Rows = TypeVar("Rows", bound="Content")
Made = TypeVar("Made", bound="Content", covariant=True)

LOWEST = float(np.finfo(np.float16).min)
LENGTH = np.dtype("<u4")  # of an example, in tokens
REMEDY = "Remove {} and call build_cache again: it makes this shard anew"


class Content(Protocol):
    """What is kept of some tokens, one token after the other."""

    def arrays(self) -> tuple[Array, ...]:
        """As they go to disk, in the order of `Layout.arrays`, without the first."""
        ...

    def sizes(self) -> dict[str, int]:
        """What a shard's record needs to know of them."""
        ...

    def split(self, lengths: Sequence[int]) -> Sequence[Self]:
        """Parts of so many tokens each."""
        ...


class Layout(Protocol[Made]):
    """Number types and order of a shard's arrays, and how an example is read from them."""

    def arrays(self, record: Mapping[str, Any]) -> list[tuple[np.dtype[Any], int]]:
        """Type and size of each; the first are the examples' lengths."""
        ...

    def reader(self, lengths: Array, arrays: Sequence[Array]) -> Callable[[int], Made]:
        """Gives an example by its place in the shard."""
        ...


@dataclass(frozen=True)
class Keep:
    """Which entries of a distribution are kept.

    Attributes:
        k: at most so many. A training step pays for each: with 128 it costs more, and the tail hides hardly less
            (results/teacher_cache.json).
        min_probability: less probable entries are left out, though never the most probable one. 0 keeps all k.
        temperature: of the softmax. The loss must use the same one: a tail cannot be brought to another.
    """

    k: int = 64
    min_probability: float = 1e-3
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k: got {self.k}, expected at least 1")
        if not 0 <= self.min_probability < 1:
            raise ValueError(f"min_probability: got {self.min_probability}, expected 0 to 1 (excluded)")
        check_temperature(self.temperature)


@dataclass(frozen=True)
class Packed:
    """The kept entries of some tokens, one token after the other.

    Attributes:
        counts: [tokens], how many entries each has.
        indices: [entries], of the vocabulary, the most probable first.
        values: [entries] float16; of each token, the log-probabilities of its second entry to its last, then the
            tail's, less that of its first entry.

    >>> logits = torch.tensor([[0.5, 0.3, 0.2], [0.98, 0.01, 0.01]]).log()
    >>> packed = Packed.of(logits, Keep(k=2, min_probability=0.1))
    >>> packed.counts.tolist(), packed.indices.tolist()
    ([2, 1], [0, 1, 0])
    >>> packed.unpack(vocabulary=3, temperature=1.0).events().exp()  # two entries and the tail
    tensor([[0.5000, 0.3000, 0.2000],
            [0.9800, 0.0000, 0.0200]])
    """

    counts: Array
    indices: Array
    values: Array

    @classmethod
    def of(cls, logits: Tensor, keep: Keep) -> Packed:
        """Choose from [tokens, vocabulary] logits.

        Raises:
            ValueError: k above the vocabulary, or NaN among the logits.
        """
        top = TopK.from_logits(logits, keep.k, keep.temperature)
        log_p = top.log_probabilities
        if log_p[:, 0].isnan().any():
            raise ValueError("teacher: got NaN among its logits, expected numbers (or -inf)")
        kept = log_p.exp() >= keep.min_probability
        kept[:, 0] = True
        counts = kept.sum(1)
        rest = torch.cat([log_p.masked_fill(kept, -math.inf), top.tail_log_probability[:, None]], dim=1)
        values = log_p.roll(-1, dims=1).scatter(1, counts[:, None] - 1, rest.logsumexp(1, keepdim=True))
        values = values - log_p[:, :1]
        values = torch.where(values == -math.inf, values, values.clamp_min(LOWEST))
        return cls(*(tensor.cpu().numpy() for tensor in (counts, top.indices[kept], values[kept].half())))

    def arrays(self) -> tuple[Array, ...]:
        """See `Content`."""
        return self.indices, self.values, self.counts

    def sizes(self) -> dict[str, int]:
        """See `Content`."""
        return {"tokens": len(self.counts), "entries": len(self.indices)}

    @classmethod
    def joined(cls, parts: Sequence[Packed]) -> Packed:
        """The tokens of all parts, one part after the other."""
        return cls(
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.values for part in parts]),
        )

    def split(self, lengths: Sequence[int]) -> list[Packed]:
        """The reverse of `joined`: parts of so many tokens each."""
        ends = np.cumsum(lengths)
        entry_ends = np.cumsum(self.counts)[ends - 1]
        arrays = (
            np.split(self.counts, ends[:-1]),
            np.split(self.indices, entry_ends[:-1]),
            np.split(self.values, entry_ends[:-1]),
        )
        return [Packed(*part) for part in zip(*arrays, strict=True)]

    def unpack(self, vocabulary: int, temperature: float) -> TopK:
        """The distributions, [tokens, k] with k the largest count; what a token does not fill is empty."""
        counts = self.counts.astype(np.int64)
        filled = np.arange(counts.max()) < counts[:, None]
        indices = np.full(filled.shape, -1, dtype=np.int64)
        indices[filled] = self.indices
        relative = np.full(filled.shape, -np.inf, dtype=np.float32)
        relative[filled] = self.values
        last = counts[:, None] - 1
        tail = np.take_along_axis(relative, last, axis=1)
        np.put_along_axis(relative, last, -np.inf, axis=1)
        events = np.concatenate([np.zeros_like(tail), relative[:, :-1], tail], axis=1)
        log_p = torch.from_numpy(events).log_softmax(-1)
        return TopK(torch.from_numpy(indices), log_p[:, :-1], log_p[:, -1], vocabulary, temperature)


@dataclass(frozen=True)
class ShardTypes:
    """The number types of a cache's shards, as narrow as its vocabulary and k allow.

    >>> types = ShardTypes.of(vocabulary=32_000, k=128)
    >>> types.index.itemsize, types.count.itemsize, ShardTypes.of(vocabulary=150_000, k=256).index.itemsize
    (2, 1, 4)
    """

    index: np.dtype[Any]
    count: np.dtype[Any]

    @classmethod
    def of(cls, vocabulary: int, k: int) -> ShardTypes:
        """uint16 indices for up to 65,536 entries, and a byte for the count where k is below 256."""
        return cls(np.dtype("<u2" if vocabulary <= 2**16 else "<u4"), np.min_scalar_type(k).newbyteorder("<"))

    def arrays(self, record: Mapping[str, Any]) -> list[tuple[np.dtype[Any], int]]:
        """Type and size of the arrays in a shard: examples' lengths, indices, values, counts."""
        entries = record["entries"]
        return [
            (LENGTH, record["examples"]),
            (self.index, entries),
            (np.dtype("<f2"), entries),
            (self.count, record["tokens"]),
        ]

    def reader(self, lengths: Array, arrays: Sequence[Array]) -> Callable[[int], Packed]:
        """See `Layout`."""
        indices, values, counts = arrays
        first_token = first_tokens(lengths)
        entries = np.add.reduceat(counts, first_token[:-1], dtype=np.int64)
        first_entry = np.concatenate([[0], np.cumsum(entries)])

        def read(row: int) -> Packed:
            of_entries = slice(first_entry[row], first_entry[row + 1])
            of_tokens = slice(first_token[row], first_token[row + 1])
            return Packed(counts[of_tokens], indices[of_entries], values[of_entries])

        return read


def first_tokens(lengths: Array) -> Array:
    """Where each example's tokens begin, and where the last ones end.

    >>> first_tokens(np.array([2, 3])).tolist()
    [0, 2, 5]
    """
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def shard_files(folder: Path, number: int) -> tuple[Path, Path]:
    """The shard's data, and its record, which is written last: without it there is no shard.

    >>> [path.name for path in shard_files(Path("cache"), 3)]
    ['shard-00003.bin', 'shard-00003.json']
    """
    return folder / f"shard-{number:05d}.bin", folder / f"shard-{number:05d}.json"


def write_shard(
    folder: Path, number: int, layout: Layout[Rows], lengths: Sequence[int], packed: Rows
) -> None:
    """Write a shard, whole or not at all. `lengths`: target tokens of each example.

    >>> import tempfile
    >>> packed = Packed.of(torch.tensor([[0.5, 0.3, 0.2]]).log(), Keep(k=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_shard(Path(folder), 0, ShardTypes.of(3, 2), lengths=[1], packed=packed)
    ...     sorted((path.name, path.suffix == ".bin" and path.stat().st_size) for path in Path(folder).iterdir())
    [('shard-00000.bin', 13), ('shard-00000.json', False)]
    """
    file, record_file = shard_files(folder, number)
    record = {"examples": len(lengths), **packed.sizes()}
    contents = (np.array(lengths), *packed.arrays())
    data = b"".join(
        content.astype(kind).tobytes()
        for content, (kind, _) in zip(contents, layout.arrays(record), strict=True)
    )
    part = file.with_suffix(".part")  # the one who holds the shard's lock may write over another's leavings
    part.write_bytes(data)
    part.replace(file)
    write_json(record_file, {**record, "sha256": hashlib.sha256(data).hexdigest()})


class Shard(Generic[Rows]):
    """A memory map of one shard.

    Args:
        folder, number: which.
        layout: of the cache.
        verify: compare the SHA-256 of its bytes. The size is compared in any case.

    Raises:
        FileNotFoundError: it was never finished.
        ValueError: a file that is cut, or (with `verify`) changed.

    >>> import tempfile
    >>> packed, types = Packed.of(torch.tensor([[0.5, 0.3, 0.2]] * 3).log(), Keep(k=2)), ShardTypes.of(3, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_shard(Path(folder), 0, types, lengths=[1, 2], packed=packed)
    ...     Shard(Path(folder), 0, types, verify=True).read(1).indices.tolist()  # two tokens of two entries
    [0, 1, 0, 1]
    """

    def __init__(self, folder: Path, number: int, layout: Layout[Rows], verify: bool):
        file, record_file = shard_files(folder, number)
        record = read_json(record_file)
        if record is None:
            raise FileNotFoundError(
                f"folder: the cache in {folder} is not finished ({record_file.name} is missing), expected a whole "
                "one: call build_cache again with the same arguments"
            )
        ends = np.cumsum([kind.itemsize * size for kind, size in layout.arrays(record)])
        found = file.stat().st_size if file.exists() else 0
        if found != ends[-1]:
            raise ValueError(
                f"{file}: got {found} bytes, expected {ends[-1]}. {REMEDY.format(record_file.name)}"
            )
        if verify and _sha256(file) != record["sha256"]:
            raise ValueError(
                f"{file}: its bytes have changed since it was made. {REMEDY.format(record_file.name)}"
            )
        pieces = np.split(np.memmap(file, dtype=np.uint8, mode="r"), ends[:-1])
        self.lengths, *arrays = (
            piece.view(kind) for piece, (kind, _) in zip(pieces, layout.arrays(record), strict=True)
        )
        self._read = layout.reader(self.lengths, arrays)

    def read(self, row: int) -> Rows:
        """One example."""
        return self._read(row)


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
