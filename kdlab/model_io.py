"""What a batch gives to a model, and which rows of the model's output go with which labels.

Two kinds of batch, told apart by their keys. An encoder-decoder batch has `decoder_input_ids`, which are shifted
already: row i of the output goes with label i. A decoder-only batch has none; its labels are its own input (-100
where nothing is to be learnt), and row i goes with label i + 1. `aligned` is the one place where that shift happens:
teachers and the Distiller both go through it, so what they hand to a loss is aligned with `target_labels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kdlab.distributions import Alignment, align

Batch = Mapping[str, Tensor]

REQUIRED_INPUTS: dict[Alignment, tuple[str, ...]] = {
    "encoder_decoder": ("input_ids", "attention_mask", "decoder_input_ids"),
    "causal": ("input_ids", "attention_mask"),
}
# Batches that other collators pad on the left bring them.
OPTIONAL_INPUTS = ("position_ids",)


def batch_alignment(batch: Batch) -> Alignment:
    """Which kind of batch it is: "encoder_decoder" or "causal", as `kdlab.distributions.align` names them.

    >>> batch = {"input_ids": Tensor(), "labels": Tensor()}
    >>> batch_alignment({**batch, "decoder_input_ids": Tensor()}), batch_alignment(batch)
    ('encoder_decoder', 'causal')
    """
    return "encoder_decoder" if "decoder_input_ids" in batch else "causal"


def model_inputs(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """What `model` is called with: the batch without labels and ids, and no cache of keys and values.

    Raises:
        ValueError: an encoder-decoder model and a decoder-only batch, or the other way round; a missing tensor.

    >>> batch = {"input_ids": Tensor(), "attention_mask": Tensor(), "labels": Tensor(), "example_ids": Tensor()}
    >>> sorted(model_inputs(nn.Identity(), batch))
    ['attention_mask', 'input_ids', 'use_cache']
    """
    alignment = batch_alignment(batch)
    config = getattr(model, "config", None)
    if config is not None and bool(config.is_encoder_decoder) != (alignment == "encoder_decoder"):
        wanted = "decoder_input_ids too" if config.is_encoder_decoder else "no decoder_input_ids"
        raise ValueError(
            f"batch: got {', '.join(batch)} for a {type(model).__name__}, expected {wanted}, as "
            f"{'collate' if config.is_encoder_decoder else 'collate_causal'} makes it"
        )
    required = REQUIRED_INPUTS[alignment]
    missing = [name for name in required if name not in batch]
    if missing:
        raise ValueError(f"batch: got {', '.join(batch)}, expected {', '.join(missing)} too")
    names = (*required, *(name for name in OPTIONAL_INPUTS if name in batch))
    return {**{name: batch[name] for name in names}, "use_cache": False}


def aligned(rows: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Pair the rows that a model gave for `batch` with the labels that they predict.

    Args:
        rows: [batch, length, any], a model's logits or last hidden states.
        batch: with `labels` [batch, length].

    Returns:
        rows [batch, targets, any] and labels [batch, targets]; targets is the length of the labels for an
        encoder-decoder batch, and one less for a decoder-only batch, whose first token nothing predicts.

    >>> import torch
    >>> batch = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[-100, 6, 7]])}
    >>> rows, labels = aligned(torch.tensor([[[0.0], [1.0], [2.0]]]), batch)
    >>> rows.flatten().tolist(), labels.tolist()
    ([0.0, 1.0], [[6, 7]])
    """
    return align(rows, batch["labels"], batch_alignment(batch))


def target_labels(batch: Batch) -> Tensor:
    """[batch, targets], the labels of the rows that a Teacher gives; see `aligned`.

    >>> import torch
    >>> batch = {"labels": torch.tensor([[-100, 6, 7]])}
    >>> target_labels(batch), target_labels({**batch, "decoder_input_ids": torch.tensor([[0, 5, 6]])})
    (tensor([[6, 7]]), tensor([[-100,    6,    7]]))
    """
    return aligned(batch["labels"].unsqueeze(-1), batch)[1]


def target_logits(model: nn.Module, batch: Batch) -> Tensor:
    """The model's logits beside `target_labels(batch)`, [batch, targets, vocabulary].

    >>> import torch
    >>> from types import SimpleNamespace
    >>> class Echo(nn.Module):  # its logits at each position: the token that stands there
    ...     def forward(self, input_ids, **inputs):
    ...         return SimpleNamespace(logits=input_ids[..., None].float())
    >>> ids = torch.tensor([[5, 6, 7]])
    >>> target_logits(Echo(), {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}).flatten()
    tensor([5., 6.])
    """
    return aligned(model(**model_inputs(model, batch)).logits, batch)[0]
