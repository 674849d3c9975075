"""What a model weighs and what a token costs: parameters, bytes and floating point operations, read off the model.

Operations are those of the matrix products, a multiplication and an addition counted as two, as in
`torch.utils.flop_counter`; what norms, softmax, activations and rotary positions add is left out (a few percent in a
small model). The model may be on the meta device, where it takes no memory: `sketch`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdlab.families import Family, family_of
from kdlab.students import fixed_positions

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Part:
    """Sums over some of a model's modules.

    Attributes:
        parameters: what `count_parameters` counts.
        matrices: entries of linear layers, embeddings of tokens and the output, which 8 bits can hold.
        rows: of these matrices, one for each output: each has a scale of its own in 8 bits.
        vectors: all other entries that are stored: biases, norms, learned positions, the bias of the logits.
        fixed: entries of the tables of positions that a formula gives.
        token_weights: entries of the matrices that a token of this side is multiplied by.
        source_weights: entries of the matrices in the decoder that a token of the source is multiplied by, for the
            keys and values of the cross-attention.
        self_width, cross_width: heads x head size of self- and cross-attention, over the layers.
    """

    parameters: int = 0
    matrices: int = 0
    rows: int = 0
    vectors: int = 0
    fixed: int = 0
    token_weights: int = 0
    source_weights: int = 0
    self_width: int = 0
    cross_width: int = 0

    def __add__(self, other: Part) -> Part:
        return Part(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Part)))

    def __mul__(self, times: int) -> Part:
        return Part(*(getattr(self, f.name) * times for f in fields(Part)))


@dataclass(frozen=True)
class Counts:
    """A model's parts. `count` makes one of them.

    In the methods, `source_length` is that of a sentence with eos, or of the prompt of a decoder-only model, and
    `target_length` that of the tokens to be made with eos.

    Attributes:
        encoder, decoder: the layers.
        rest: embeddings, output and final norms; its `token_weights` are the output's.
        encoder_layers, decoder_layers: how many.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> counts = count(sketch(MarianMTModel, marian_config(Architecture(64, 6, 1, 256), 4000)))
    >>> counts.parameters, counts.bytes(32), counts.bytes(8)
    (622656, 2506624, 690432)
    >>> counts.training(20, 20) / 1e6, counts.greedy(20, 20) / 1e6
    (76.43136, 25.42848)
    """

    encoder: Part
    decoder: Part
    rest: Part
    encoder_layers: int
    decoder_layers: int

    @property
    def whole(self) -> Part:
        """The parts together."""
        return self.encoder + self.decoder + self.rest

    @property
    def parameters(self) -> int:
        """All of them, a tied one once."""
        return self.whole.parameters

    @property
    def layer_parameters(self) -> int:
        """Those of the layers: without embeddings, output and final norms."""
        return self.encoder.parameters + self.decoder.parameters

    def bytes(self, bits: int, *, positions: bool = False) -> int:
        """Of what is stored, without file headers.

        In 32 and 16 bits every entry takes as many. In 8 bits those of the matrices do, each row of them has a scale in
        float32, and all else stays in float32, as in CTranslate2. ONNX's two graphs hold the embedding twice.

        Args:
            bits: of a weight: 8, 16 or 32.
            positions: count the positions that a formula gives, in float32 and once for encoder and decoder, as the
                exports write them; transformers does not.

        Raises: ValueError for other bits than 8, 16 and 32.
        """
        check_bits(bits)
        whole = self.whole
        fixed = 4 * (whole.fixed // 2 if self.encoder_layers else whole.fixed) if positions else 0
        if bits == 8:
            return whole.matrices + 4 * (whole.rows + whole.vectors) + fixed
        return bits // 8 * (whole.matrices + whole.vectors) + fixed

    def source_token(self, source_length: int) -> int:
        """Operations of one token of the source: in the encoder, and as a key and a value of the cross-attention."""
        linear = self.encoder.token_weights + self.decoder.source_weights
        return 2 * linear + 4 * self.encoder.self_width * source_length

    def target_token(self, source_length: int, seen: int) -> int:
        """Operations of one token in the decoder, with its logits.

        Args:
            source_length: tokens that its cross-attention looks at; of no account in a decoder-only model.
            seen: tokens that its self-attention looks at, itself among them: all of the target in training, where
                the mask saves nothing, and those so far with a cache.
        """
        linear = self.decoder.token_weights + self.rest.token_weights
        attention = self.decoder.self_width * seen + self.decoder.cross_width * source_length
        return 2 * linear + 4 * attention

    def forward(self, source_length: int, target_length: int) -> int:
        """Operations of one forward pass over a pair, or over prompt and target in one sequence."""
        if not self.encoder_layers:
            length = source_length + target_length
            return length * self.target_token(0, length)
        source = source_length * self.source_token(source_length)
        return source + target_length * self.target_token(source_length, target_length)

    def training(self, source_length: int, target_length: int) -> int:
        """Operations of forward and backward: each product has two in the backward, one for each factor."""
        return 3 * self.forward(source_length, target_length)

    def greedy(self, source_length: int, target_length: int) -> int:
        """Operations of a greedy translation with a key-value cache: `target_length` steps.

        A decoder-only model reads the prompt in one step, which makes the first token.
        """
        steps = range(1, target_length + 1)
        if self.encoder_layers:
            source = source_length * self.source_token(source_length)
            return source + sum(self.target_token(source_length, seen) for seen in steps)
        output = 2 * self.rest.token_weights
        prompt = source_length * (self.target_token(0, source_length) - output) + output
        return prompt + sum(self.target_token(0, source_length + step) for step in steps[:-1])

    def deeper(self, encoder_layers: int, decoder_layers: int) -> Counts:
        """From the counts of a model with one layer on each side, those of the same model with more."""
        return Counts(
            self.encoder * encoder_layers,
            self.decoder * decoder_layers,
            self.rest,
            encoder_layers,
            decoder_layers,
        )


def count(model: PreTrainedModel) -> Counts:
    """Walk through a model of a kind in `kdlab.families.FAMILIES`.

    Raises: ValueError for another kind, and for layers whose attention sees a window only (Qwen2's sliding attention).

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, count_parameters, marian_config
    >>> model = sketch(MarianMTModel, marian_config(Architecture(16, 2, 1, 32), 100))
    >>> count(model).parameters == count_parameters(model)
    True
    """
    family = family_of(model, "model")
    if "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
        raise ValueError("model: got layers with sliding attention, expected full attention in all of them")
    output = model.get_parameter("lm_head.weight").numel()
    parts = {"encoder": Part(), "decoder": Part(), "rest": Part(token_weights=output)}
    for side, part in _stored(model, family):
        parts[side] += part
    layers = {side: family.layers(model, side) for side in ("encoder", "decoder")}
    for side, found in layers.items():
        parts[side] = sum((_products(layer, family) for layer in found), parts[side])
    return Counts(**parts, encoder_layers=len(layers["encoder"]), decoder_layers=len(layers["decoder"]))


def check_bits(bits: int) -> None:
    """Refuse a size of weights that is not counted here."""
    if bits not in (8, 16, 32):
        raise ValueError(f"bits: got {bits}, expected 8, 16 or 32")


def sketch(kind: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """A model without weights, to be counted: on the meta device, in no memory and a few hundredths of a second.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> sketch(MarianMTModel, marian_config(Architecture(4096, 1, 1, 8192), 50_000)).device
    device(type='meta')
    """
    with torch.device("meta"):
        return kind(config)


def _stored(model: Any, family: Family) -> Iterator[tuple[str, Part]]:
    """What each parameter and each buffer that is saved adds, with its side, or "rest"."""
    rows = {id(weight): outputs for _, weight, _, outputs in _linear_layers(model)}
    for table, _ in family.tables:
        weight = model.get_parameter(f"{table}.weight")
        rows[id(weight)] = weight.shape[0]
    fixed, saved = fixed_positions(model), model.state_dict().keys()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if id(tensor) in fixed:
            yield "rest", Part(fixed=tensor.numel())
        if name not in saved or id(tensor) in fixed:
            continue
        entries, is_matrix, place = tensor.numel(), id(tensor) in rows, family.split(name)
        part = Part(
            parameters=entries if isinstance(tensor, nn.Parameter) else 0,
            matrices=entries if is_matrix else 0,
            rows=rows.get(id(tensor), 0),
            vectors=0 if is_matrix else entries,
        )
        yield place[0] if place else "rest", part


def _products(layer: nn.Module, family: Family) -> Part:
    """What a token is multiplied by in one layer."""
    cross = family.cross_attention
    from_source = {f"{cross}.{name}" for name in family.keys_values}
    part = Part()
    for name, weight, inputs, _ in _linear_layers(layer):
        entries, reads_source = weight.numel(), name in from_source
        part += Part(
            token_weights=0 if reads_source else entries,
            source_weights=entries if reads_source else 0,
            # The last projection of an attention reads all its heads, whatever the width of the model.
            self_width=inputs if name == f"{family.self_attention}.{family.output}" else 0,
            cross_width=inputs if name == f"{cross}.{family.output}" else 0,
        )
    return part


def _linear_layers(model: nn.Module) -> Iterator[tuple[str, Tensor, int, int]]:
    """Name, matrix, inputs and outputs of each linear layer; GPT-2's keep the matrix the other way round."""
    from transformers.pytorch_utils import Conv1D

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            yield name, module.weight, module.in_features, module.out_features
        elif isinstance(module, Conv1D):
            inputs, outputs = module.weight.shape
            yield name, module.weight, inputs, outputs
