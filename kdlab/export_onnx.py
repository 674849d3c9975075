"""Two ONNX graphs from a MarianMTModel, with a key-value cache, for onnxruntime on a computer, a phone or a page.

`encoder.onnx`, once a sentence: `input_ids` and `attention_mask` [batch, source] (int64; 1 is a token, 0 padding) ->
`memory` [layers, 2, batch, heads, source, size], the keys and values of every decoder layer's attention to the source.

`decoder.onnx`, once a token: `input_ids` [batch, 1], the start token first, `attention_mask` and `memory`, and `past`
[layers, 2, batch, heads, tokens so far, size], of length 0 first -> `logits` [batch, vocabulary] and `present`, the
next `past`. The suppressed tokens have their bias in the logits, so greedy search is the argmax, until eos.

The decoder's step is written here, over the model's own layers: the keys and values of the source are made once, not
at every token, and the shared embedding is stored once in each graph.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.export import check_difference, output_bias, probe, reference_logits
from kdlab.progress import progress_bar

if TYPE_CHECKING:
    from transformers import MarianMTModel, PreTrainedTokenizerBase

GRAPHS = ("encoder.onnx", "decoder.onnx")
NO_ATTENTION = -1e9  # added where the source is padding


def write_onnx(
    model: MarianMTModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, int8: bool
) -> dict[str, float]:
    """Write the two graphs; returns the differences of their logits from the model's.

    Errors: ValueError if the float32 graphs differ from `model`.
    """
    with progress_bar(4 if int8 else 3, "exporting to ONNX", "steps") as bar, _quiet():
        _write_encoder(model, folder / GRAPHS[0])
        bar.update()
        _write_decoder(model, folder / GRAPHS[1])
        bar.update()
        difference = difference_from(model, folder)
        check_difference(difference, "ONNX")
        found = {"difference_float32": difference, "difference": difference}
        bar.update()
        if int8:
            for name in GRAPHS:
                _quantise(folder / name)
            found["difference"] = difference_from(model, folder)
            bar.update()
    return found


class EncoderGraph(nn.Module):
    """The encoder, and the keys and values that the decoder's layers make of what it says."""

    def __init__(self, model: MarianMTModel):
        super().__init__()
        self.encoder = model.model.encoder
        self.attentions = nn.ModuleList(layer.encoder_attn for layer in model.model.decoder.layers)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[batch, source] twice -> [layers, 2, batch, heads, source, size]."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return torch.stack(
            [
                torch.stack([_heads(part.k_proj(hidden), part), _heads(part.v_proj(hidden), part)])
                for part in self.attentions
            ]
        )


class DecoderGraph(nn.Module):
    """One token further."""

    def __init__(self, model: MarianMTModel):
        super().__init__()
        decoder = model.model.decoder
        self.layers = decoder.layers
        self.scale = decoder.embed_scale
        self.positions = nn.Buffer(decoder.embed_positions.weight.detach().clone())
        # [d_model, vocabulary]: the embedding of a token is a column, and the logits are one product with it.
        self.embedding = nn.Buffer(model.lm_head.weight.detach().T.contiguous())
        self.bias = nn.Buffer(output_bias(model))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, memory: Tensor, past: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Shapes as in the module's docstring; returns (logits, present)."""
        embedded = self.embedding.index_select(1, input_ids.reshape(-1)).T.unsqueeze(1)
        hidden = embedded * self.scale + self.positions[past.shape[-2]]
        padding = (1.0 - attention_mask[:, None, None, :].to(hidden.dtype)) * NO_ATTENTION
        present = []
        for number, layer in enumerate(self.layers):
            hidden, state = _decoder_layer(layer, hidden, padding, memory[number], past[number])
            present.append(state)
        return hidden[:, 0] @ self.embedding + self.bias, torch.stack(present)


def _decoder_layer(
    layer: Any, hidden: Tensor, padding: Tensor, memory: Tensor, past: Tensor
) -> tuple[Tensor, Tensor]:
    """One layer on one token [batch, 1, d_model]; returns it, and the keys and values [2, ...] so far."""
    own = layer.self_attn
    new = torch.stack([_heads(own.k_proj(hidden), own), _heads(own.v_proj(hidden), own)])
    state = torch.cat([past, new], dim=-2)
    hidden = layer.self_attn_layer_norm(hidden + _attend(own, hidden, state))
    found = _attend(layer.encoder_attn, hidden, memory, padding)
    hidden = layer.encoder_attn_layer_norm(hidden + found)
    found = layer.fc2(layer.activation_fn(layer.fc1(hidden)))
    return layer.final_layer_norm(hidden + found), state


def _attend(part: Any, hidden: Tensor, keys_and_values: Tensor, padding: Tensor | None = None) -> Tensor:
    """Multi-head attention (Vaswani et al. 2017) of one token to keys and values [2, batch, heads, length, size]."""
    scores = (_heads(part.q_proj(hidden), part) * part.scaling) @ keys_and_values[0].transpose(-1, -2)
    if padding is not None:
        scores = scores + padding
    return part.out_proj((scores.softmax(-1) @ keys_and_values[1]).transpose(1, 2).flatten(2))


def _heads(tensor: Tensor, part: Any) -> Tensor:
    """[batch, length, d_model] -> [batch, heads, length, size]."""
    return tensor.unflatten(-1, (part.num_heads, part.head_dim)).transpose(1, 2)


def difference_from(model: MarianMTModel, folder: Path) -> float:
    """The largest difference between logits of the graphs and of `model`, on one padded batch of random tokens."""
    from kdlab.exported import OnnxModel

    config = model.config
    runtime = OnnxModel(
        folder,
        {
            "pad_token_id": config.pad_token_id,
            "decoder_layers": config.decoder_layers,
            "heads": config.decoder_attention_heads,
            "head_size": config.d_model // config.decoder_attention_heads,
        },
    )
    sources, targets = probe(model)
    state = runtime.encode(sources)
    tokens = np.array([[config.decoder_start_token_id, *ids] for ids in targets])
    steps = [runtime.step(tokens[:, i : i + 1], state) for i in range(tokens.shape[1])]
    found = torch.from_numpy(np.stack(steps, axis=1))
    return float((found - reference_logits(model, sources, targets)).abs().max())


def _write_encoder(model: MarianMTModel, path: Path) -> None:
    length = torch.export.Dim.DYNAMIC
    ids = torch.ones(2, 5, dtype=torch.long)
    axes = {0: length, 1: length}
    _export(
        EncoderGraph(model),
        path,
        {"input_ids": (ids, axes), "attention_mask": (torch.ones_like(ids), axes)},
        ["memory"],
    )


def _write_decoder(model: MarianMTModel, path: Path) -> None:
    config, length = model.config, torch.export.Dim.DYNAMIC
    heads = config.decoder_attention_heads
    states = torch.zeros(config.decoder_layers, 2, 2, heads, 5, config.d_model // heads)
    axes = {2: length, 4: length}
    _export(
        DecoderGraph(model),
        path,
        {
            "input_ids": (torch.ones(2, 1, dtype=torch.long), {0: length}),
            "attention_mask": (torch.ones(2, 5, dtype=torch.long), {0: length, 1: length}),
            "memory": (states, axes),
            "past": (states[..., :3, :].clone(), axes),
        },
        ["logits", "present"],
    )


def _export(
    module: nn.Module, path: Path, inputs: dict[str, tuple[Tensor, dict[int, Any]]], outputs: list[str]
) -> None:
    torch.onnx.export(
        module.eval(),
        kwargs={name: example for name, (example, _) in inputs.items()},
        f=str(path),
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes={name: axes for name, (_, axes) in inputs.items()},
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _quantise(path: Path) -> None:
    """8-bit weights in place, by onnxruntime's dynamic quantisation: activations get their scale as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        written = Path(scratch) / path.name
        quantize_dynamic(path, written, weight_type=QuantType.QInt8)
        written.replace(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporter and quantiser report their own steps, and warn of what the check of the logits answers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
