"""A teacher's last hidden states on disk, and its output layer once: its whole distributions, at any temperature.

A list of the most probable entries (cache.py) merges the rest into one number. Hidden states lose nothing but
rounding, in width x bits / 8 bytes a token; but a training step multiplies them by the output layer again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from kdlab.cache_folder import BatchOptions, CacheFolder, fill
from kdlab.files import fingerprint
from kdlab.hidden_shards import HiddenTypes, KeepHidden, PackedHidden
from kdlab.linear_head import HiddenLogits, LinearHead, multiply
from kdlab.model_io import Batch, target_labels
from kdlab.teachers import HiddenTeacher, ids_of_rows, places_of_targets
from kdlab.text.batches import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HEAD = "head.safetensors"


class CacheableHidden(HiddenTeacher, Protocol):
    """A teacher whose hidden states can be cached: it gives them and knows its own fingerprint."""

    def fingerprint(self) -> str:
        """A short name that changes with whatever changes the logits."""
        ...


def build_hidden_cache(
    folder: Path,
    teacher: CacheableHidden,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    keep: KeepHidden | None = None,
    **options: Any,
) -> HiddenCache:
    """As `kdlab.cache.build_cache`: by several processes, resumable, checked.

    Args:
        folder, tokenizer, examples: see there.
        teacher: gives hidden states; already on its device.
        keep: how finely; default `KeepHidden()`.
        **options: of `kdlab.cache_folder.BatchOptions`.

    Raises:
        ValueError: as there; a teacher that gives no hidden states, and why; NaN among them.

    >>> import tempfile
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.teachers import LiveTeacher
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a"], 300)
    >>> teacher = LiveTeacher(new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = build_hidden_cache(Path(folder), teacher, tokenizer, [Example([5, 1], [2, 1])], KeepHidden(bits=8))
    ...     cache.read([0]).shape, sorted(path.name for path in cache.folder.iterdir())
    (torch.Size([2, 8]), ['head.safetensors', 'manifest.json', 'shard-00000.bin', 'shard-00000.json'])
    """
    if not isinstance(teacher, HiddenTeacher):
        raise ValueError(
            f"teacher: got a {type(teacher).__name__}, expected one that gives hidden states, such as LiveTeacher"
        )
    recorder = HiddenRecorder(teacher, keep or KeepHidden())
    return HiddenCache(folder, expected=fill(folder, recorder, tokenizer, examples, BatchOptions(**options)))


class HiddenCache(CacheFolder[PackedHidden]):
    """A finished cache of hidden states, read by memory map.

    Args, attributes and errors: as `kdlab.cache.TeacherCache`; the teacher's output layer is checked as the shards are.

    Attributes:
        width: of the hidden states.
        weight, bias: of the output layer, [vocabulary, width] and [vocabulary] or None.

    >>> import tempfile
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.teachers import LiveTeacher
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a"], 300)
    >>> teacher = LiveTeacher(new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = build_hidden_cache(Path(folder), teacher, tokenizer, [Example([5, 1], [2, 1])])
    ...     cache = HiddenCache(Path(folder))
    >>> cache.width, tuple(cache.weight.shape) == (len(tokenizer), 8), cache.head.vocabulary == len(tokenizer)
    (8, True, True)
    """

    def __init__(self, folder: Path, *, expected: Mapping[str, Any] | None = None, verify: bool = True):
        from safetensors.torch import load

        super().__init__(folder, _layout, expected=expected, verify=verify)
        data = (self.folder / HEAD).read_bytes()
        if hashlib.sha256(data).hexdigest() != self.manifest["head_sha256"]:
            raise ValueError(
                f"{self.folder / HEAD}: its bytes have changed since it was made. Remove the folder and call "
                "build_hidden_cache again"
            )
        head = load(data)
        self.width: int = self.manifest["width"]
        self.weight, self.bias = head["weight"], head.get("bias")
        self.head = LinearHead(self.manifest["scale"], self.manifest["soft_cap"], self.vocabulary)

    def read(self, example_ids: Sequence[int]) -> Tensor:
        """The hidden states of all target tokens of these examples, one example after the other: [tokens, width].

        Float32, on the CPU.

        Raises:
            ValueError: no id, or one that the cache does not have.
        """
        return PackedHidden.joined(self.rows(example_ids)).unpack(self.width, self.manifest["bits"])


class CachedHiddenTeacher:
    """A teacher whose hidden states are read from a cache: only its output layer is left to compute.

    Batches: as for `kdlab.teachers.CachedTeacher`. It gives logits, or (see `HiddenTeacher`) the hidden states
    themselves to a fused loss. Positions of padding hold zeros.

    Args:
        cache: opened with what it is expected to be made from.

    Raises:
        ValueError: when called: as `CachedTeacher`.

    >>> import tempfile
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.teachers import LiveTeacher
    >>> from kdlab.text.batches import collate
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer, examples = train_tokenizer(["a"], 300), [Example([5, 1], [2, 1])]
    >>> live = LiveTeacher(new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cached = CachedHiddenTeacher(build_hidden_cache(Path(folder), live, tokenizer, examples, KeepHidden(8)))
    >>> batch = collate(examples, pad_token_id=0, decoder_start_token_id=0, example_ids=[0])
    >>> torch.allclose(cached(batch).softmax(-1), live(batch).softmax(-1), atol=1e-3)
    True
    """

    def __init__(self, cache: HiddenCache):
        self.cache = cache
        self.weight, self.bias = cache.weight, cache.bias

    def to(self, device: torch.device) -> CachedHiddenTeacher:
        """Move the output layer, once the device of the student is known."""
        self.weight = self.weight.to(device)
        self.bias = None if self.bias is None else self.bias.to(device)
        return self

    def fingerprint(self) -> str:
        """Of the teacher that was asked, and how finely its answers are kept."""
        return fingerprint([self.cache.manifest["teacher"], self.cache.manifest["bits"]])

    def __call__(self, batch: Batch) -> Tensor:
        return multiply(self.hidden_logits(batch))

    def linear_head(self) -> LinearHead:
        """See `HiddenTeacher`."""
        return self.cache.head

    @torch.no_grad()
    def hidden_logits(self, batch: Batch) -> HiddenLogits:
        """See `HiddenTeacher`."""
        labels = target_labels(batch)
        example_ids = ids_of_rows(batch)
        tokens = self.cache.read(example_ids)
        hidden = torch.zeros(*labels.shape, self.cache.width)
        hidden[places_of_targets(batch, self.cache)] = tokens
        head = self.cache.head
        return HiddenLogits(hidden.to(labels.device), self.weight, self.bias, head.scale, head.soft_cap)


def _layout(manifest: Mapping[str, Any]) -> HiddenTypes:
    return HiddenTypes(manifest["width"], manifest["bits"])


class HiddenRecorder:
    """Asks a teacher for its hidden states: a `kdlab.cache_folder.Recorder`.

    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.teachers import LiveTeacher
    >>> from kdlab.text.batches import collate
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a"], 300)
    >>> teacher = LiveTeacher(new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0))
    >>> batch = collate([Example([5, 1], [2, 1])], pad_token_id=0, decoder_start_token_id=0)
    >>> packed = HiddenRecorder(teacher, KeepHidden(bits=8)).pack(batch)
    >>> packed.codes.shape, torch.allclose(packed.unpack(8, 8), teacher.hidden_logits(batch).hidden, atol=0.01)
    ((2, 8), True)
    """

    def __init__(self, teacher: CacheableHidden, keep: KeepHidden):
        self.teacher, self.keep, self.head = teacher, keep, teacher.linear_head()

    def describe(self, batch: Batch) -> dict[str, Any]:
        found = self.teacher.hidden_logits(batch)
        self._packed(found, batch)
        self.arrays = (
            {"weight": found.weight} if found.bias is None else {"weight": found.weight, "bias": found.bias}
        )
        return {
            "vocabulary": self.head.vocabulary,
            "width": found.hidden.shape[-1],
            "scale": self.head.scale,
            "soft_cap": self.head.soft_cap,
        }

    def layout(self, manifest: Mapping[str, Any]) -> HiddenTypes:
        return _layout(manifest)

    def pack(self, batch: Batch) -> PackedHidden:
        return self._packed(self.teacher.hidden_logits(batch), batch)

    def _packed(self, found: HiddenLogits, batch: Batch) -> PackedHidden:
        return PackedHidden.of(found.hidden[target_labels(batch) != -100], self.keep.bits)

    def joined(self, parts: Sequence[PackedHidden]) -> PackedHidden:
        return PackedHidden.joined(parts)

    def prepare(self, folder: Path) -> dict[str, Any]:
        from safetensors.torch import save

        data = save({name: tensor.float().contiguous().cpu() for name, tensor in self.arrays.items()})
        part = folder / f"{HEAD}.part"  # under the manifest's lock
        part.write_bytes(data)
        part.replace(folder / HEAD)
        return {"head_sha256": hashlib.sha256(data).hexdigest()}
