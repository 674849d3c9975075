"""A teacher's last hidden states, packed: a few bits an entry, from which its whole distributions come back.

The entries of a token lie between -s and s, its scale; each is rounded to one of 2^bits - 1 even steps. The logits are
a linear map of the hidden states, so rounding moves them by little and in no preferred direction. Six bits cost less
than 1e-3 nats a token (results/teacher_cache.json), where a list of the most probable entries cannot say how its tail
is spread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlab.shards import LENGTH, Array, first_tokens


@dataclass(frozen=True)
class KeepHidden:
    """How finely hidden states are kept.

    Attributes:
        bits: of each entry, 2 to 8.
    """

    bits: int = 6

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits: got {self.bits}, expected 2 to 8")


@dataclass(frozen=True)
class PackedHidden:
    """The hidden states of some tokens, one token after the other.

    Attributes:
        scales: [tokens] float32, the largest absolute value of each.
        codes: [tokens, bytes] uint8, `bits` for each entry.

    >>> packed = PackedHidden.of(torch.tensor([[1.0, -0.5, 0.0], [6.0, 0.0, -6.0]]), bits=3)
    >>> packed.codes.shape, packed.unpack(width=3, bits=3)  # steps of a third of the scale
    ((2, 2), tensor([[ 1.0000, -0.6667,  0.0000],
            [ 6.0000,  0.0000, -6.0000]]))
    """

    scales: Array
    codes: Array

    @classmethod
    def of(cls, hidden: Tensor, bits: int) -> PackedHidden:
        """Round [tokens, width] hidden states.

        Raises:
            ValueError: NaN or an infinite value among them.
        """
        values = hidden.float().cpu().numpy()
        if not np.isfinite(values).all():
            raise ValueError("teacher: got NaN or infinite values among its hidden states, expected numbers")
        steps = _steps(bits)
        scales = np.abs(values).max(1)
        relative = np.divide(values, scales[:, None], out=np.zeros_like(values), where=scales[:, None] > 0)
        codes = (np.rint(relative * steps) + steps).astype(np.uint8)
        by_bit = np.unpackbits(codes[..., None], axis=-1)[..., 8 - bits :]
        return cls(scales, np.packbits(by_bit.reshape(len(codes), -1), axis=-1))

    def arrays(self) -> tuple[Array, ...]:
        """See `kdlab.shards.Content`."""
        return self.scales, self.codes

    def sizes(self) -> dict[str, int]:
        """See `kdlab.shards.Content`."""
        return {"tokens": len(self.scales)}

    @classmethod
    def joined(cls, parts: Sequence[PackedHidden]) -> PackedHidden:
        """The tokens of all parts, one part after the other."""
        return cls(
            np.concatenate([part.scales for part in parts]), np.concatenate([part.codes for part in parts])
        )

    def split(self, lengths: Sequence[int]) -> list[PackedHidden]:
        """The reverse of `joined`: parts of so many tokens each."""
        ends = np.cumsum(lengths)[:-1]
        pairs = zip(np.split(self.scales, ends), np.split(self.codes, ends), strict=True)
        return [PackedHidden(*pair) for pair in pairs]

    def unpack(self, width: int, bits: int) -> Tensor:
        """The hidden states, [tokens, width] float32."""
        by_bit = np.unpackbits(self.codes, axis=-1, count=width * bits).reshape(-1, width, bits)
        codes = np.packbits(by_bit, axis=-1)[..., 0] >> (8 - bits)
        steps = _steps(bits)
        relative = (codes.astype(np.float32) - steps) / steps
        return torch.from_numpy(relative * self.scales[:, None])


@dataclass(frozen=True)
class HiddenTypes:
    """The arrays of a shard of hidden states.

    >>> layout = HiddenTypes(width=128, bits=6)
    >>> layout.row, [size for _, size in layout.arrays({"examples": 2, "tokens": 10})]  # bytes of a token
    (96, [2, 10, 960])
    """

    width: int
    bits: int

    @property
    def row(self) -> int:
        """Bytes that the entries of a token take."""
        return -(-self.width * self.bits // 8)

    def arrays(self, record: Mapping[str, Any]) -> list[tuple[np.dtype[Any], int]]:
        """Type and size of the arrays in a shard: examples' lengths, scales, codes."""
        tokens = record["tokens"]
        return [
            (LENGTH, record["examples"]),
            (np.dtype("<f4"), tokens),
            (np.dtype("u1"), tokens * self.row),
        ]

    def reader(self, lengths: Array, arrays: Sequence[Array]) -> Callable[[int], PackedHidden]:
        """See `kdlab.shards.Layout`."""
        scales, codes = arrays[0], arrays[1].reshape(-1, self.row)
        first = first_tokens(lengths)

        def read(row: int) -> PackedHidden:
            tokens = slice(first[row], first[row + 1])
            return PackedHidden(scales[tokens], codes[tokens])

        return read


def _steps(bits: int) -> int:
    """From 0 to the scale."""
    return int(2 ** (bits - 1) - 1)
