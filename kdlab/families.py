"""Where transformers keeps the layers, the embeddings and the sizes of the models that a student can be made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Family:
    """One kind of model: names of modules, and names in its configuration.

    Attributes:
        encoder, decoder: the lists of layers; `encoder` is None in a decoder-only model.
        self_attention, cross_attention: within a layer; None where there is none.
        output: the last projection within an attention.
        keys_values: the projections within a cross-attention that read the source.
        tables: embeddings of tokens, each with its learned positions or None.
        encoder_layers, decoder_layers: how many, in the configuration.
        width, ffn, heads, dropout: names in the configuration that get the value of the `Architecture`.
        head_size: the names that get width / heads.
        first_layer_only: parameters that stand in the first layer and serve all.
    """

    encoder: str | None
    decoder: str
    self_attention: str
    output: str
    tables: tuple[tuple[str, str | None], ...]
    decoder_layers: str
    width: str
    ffn: tuple[str, ...]
    heads: tuple[str, ...]
    dropout: tuple[str, ...]
    encoder_layers: str | None = None
    cross_attention: str | None = None
    keys_values: tuple[str, ...] = ()
    head_size: tuple[str, ...] = ()
    first_layer_only: str | None = None

    def layers(self, model: nn.Module, side: str) -> list[nn.Module]:
        """The layers of the "encoder" or the "decoder"; none where the family has no such side."""
        path = self.encoder if side == "encoder" else self.decoder
        return [] if path is None else list(model.get_submodule(path))  # type: ignore[call-overload]

    def split(self, name: str) -> tuple[str, int, str] | None:
        """A parameter's side, layer and name within it, or None where it belongs to no one layer.

        >>> FAMILIES["GPT2LMHeadModel"].split("transformer.h.3.ln_1.weight")
        ('decoder', 3, 'ln_1.weight')
        """
        for side, path in (("encoder", self.encoder), ("decoder", self.decoder)):
            if path is not None and name.startswith(f"{path}."):
                number, rest = name.removeprefix(f"{path}.").split(".", 1)
                return None if self.serves_all(name) else (side, int(number), rest)
        return None

    def serves_all(self, name: str) -> bool:
        """Whether the parameter stands in the first layer but serves all of them."""
        return self.first_layer_only is not None and f".{self.first_layer_only}." in name


def _bart(positions: str | None) -> Family:
    return Family(
        encoder="model.encoder.layers",
        decoder="model.decoder.layers",
        self_attention="self_attn",
        cross_attention="encoder_attn",
        output="out_proj",
        keys_values=("k_proj", "v_proj"),
        tables=tuple(
            (f"model.{side}.embed_tokens", positions and f"model.{side}.{positions}")
            for side in ("encoder", "decoder")
        ),
        encoder_layers="encoder_layers",
        decoder_layers="decoder_layers",
        width="d_model",
        ffn=("encoder_ffn_dim", "decoder_ffn_dim"),
        heads=("encoder_attention_heads", "decoder_attention_heads"),
        dropout=("dropout",),
    )


def _llama() -> Family:
    return Family(
        encoder=None,
        decoder="model.layers",
        self_attention="self_attn",
        output="o_proj",
        tables=(("model.embed_tokens", None),),
        decoder_layers="num_hidden_layers",
        width="hidden_size",
        ffn=("intermediate_size",),
        heads=("num_attention_heads",),
        head_size=("head_dim",),
        dropout=("attention_dropout",),
    )


FAMILIES = {
    "MarianMTModel": _bart(positions=None),
    "BartForConditionalGeneration": _bart(positions="embed_positions"),
    "T5ForConditionalGeneration": Family(
        encoder="encoder.block",
        decoder="decoder.block",
        self_attention="layer.0.SelfAttention",
        cross_attention="layer.1.EncDecAttention",
        output="o",
        keys_values=("k", "v"),
        tables=(("encoder.embed_tokens", None), ("decoder.embed_tokens", None)),
        encoder_layers="num_layers",
        decoder_layers="num_decoder_layers",
        width="d_model",
        ffn=("d_ff",),
        heads=("num_heads",),
        head_size=("d_kv",),
        dropout=("dropout_rate",),
        first_layer_only="relative_attention_bias",
    ),
    "LlamaForCausalLM": _llama(),
    "Qwen2ForCausalLM": _llama(),
    "GPT2LMHeadModel": Family(
        encoder=None,
        decoder="transformer.h",
        self_attention="attn",
        output="c_proj",
        tables=(("transformer.wte", "transformer.wpe"),),
        decoder_layers="n_layer",
        width="n_embd",
        ffn=("n_inner",),
        heads=("n_head",),
        dropout=("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    ),
}


def family_of(model: Any, name: str = "teacher") -> Family:
    """The model's family.

    Raises: ValueError, which calls the model by `name`, for a kind that is not in `FAMILIES`, a GPT-2 with
    cross-attention, and weights that are not floating point numbers, as quantised ones.

    >>> family_of(nn.Linear(2, 2))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: teacher: got a Linear, expected one of MarianMTModel, BartForConditionalGeneration, T5ForCondit...
    """
    kind = type(model).__name__
    if kind not in FAMILIES:
        raise ValueError(f"{name}: got a {kind}, expected one of {', '.join(FAMILIES)}")
    if getattr(model.config, "add_cross_attention", False):
        raise ValueError(f"{name}: got a {kind} with cross-attention, expected one without")
    for parameter, tensor in model.named_parameters():
        if not tensor.is_floating_point():
            raise ValueError(
                f"{name}: got {parameter} as {tensor.dtype}, expected floating point numbers: load it without "
                "quantisation"
            )
    return FAMILIES[kind]
