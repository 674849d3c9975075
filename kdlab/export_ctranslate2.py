"""A CTranslate2 model from a MarianMTModel, its specification written by us.

CTranslate2's own converter for Marian starts decoding from a zero embedding and drops the last row of the vocabulary,
as in the original Marian. In our models the start token is `<pad>`, the output shares the embedding, and so training
moves that row away from zero: the converter's result would be wrong without a word. Here nothing is dropped: the
decoder starts from the row of `<pad>`, and a bias keeps `<pad>` out of the translations.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdlab.export import check_difference, decoder_facts, output_bias, probe, reference_logits
from kdlab.progress import progress_bar

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn
    from transformers import MarianMTModel, PreTrainedTokenizerBase

LAYER_NORM_EPSILON = 1e-5  # torch's default, which Marian's layers keep


def write_ctranslate2(
    model: MarianMTModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, int8: bool
) -> dict[str, float]:
    """Write `model.bin`, `config.json` and `shared_vocabulary.json`; returns the differences from the model.

    Raises: ValueError if the float32 model differs from `model`, or the tokenizer's tokens are not all different.

    >>> import tempfile
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a b c"], 300)
    >>> model = new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     differences = write_ctranslate2(model, tokenizer, Path(folder), int8=False)
    >>> differences["difference"] < 1e-4
    True
    """
    tokens = _vocabulary(tokenizer)
    with progress_bar(3 if int8 else 2, "exporting to CTranslate2", "steps") as bar:
        _save(model, tokens, tokenizer, folder, "float32")
        bar.update()
        difference = difference_from(model, tokens, folder)
        check_difference(difference, "CTranslate2")
        found = {"difference_float32": difference, "difference": difference}
        bar.update()
        if int8:
            _save(model, tokens, tokenizer, folder, "int8_float32")
            found["difference"] = difference_from(model, tokens, folder)
            bar.update()
    return found


def _specification(model: MarianMTModel) -> Any:
    """`ctranslate2.specs.TransformerSpec` with the model's weights, copied: quantising changes them in place."""
    from ctranslate2.specs import TransformerDecoderSpec, TransformerEncoderSpec, TransformerSpec
    from ctranslate2.specs.common_spec import Activation

    config = model.config
    activation = Activation.RELU if config.activation_function == "relu" else Activation.SWISH
    encoder = TransformerEncoderSpec(
        config.encoder_layers, config.encoder_attention_heads, pre_norm=False, activation=activation
    )
    decoder = TransformerDecoderSpec(
        config.decoder_layers, config.decoder_attention_heads, pre_norm=False, activation=activation
    )
    embedding = _array(model.lm_head.weight)
    # The runtime writes equal arrays once, so the shared embedding and the positions are stored once each.
    for part, module, table in (
        (encoder, model.model.encoder, encoder.embeddings[0]),
        (decoder, model.model.decoder, decoder.embeddings),
    ):
        table.weight = embedding
        part.scale_embeddings = math.sqrt(config.d_model) if config.scale_embedding else 1.0
        # Without these the runtime makes sinusoids of other frequencies.
        part.position_encodings.encodings = _array(module.embed_positions.weight)
        for layer_spec, layer in zip(part.layer, module.layers, strict=True):
            _set_layer(layer_spec, layer)
    decoder.start_from_zero_embedding = False
    decoder.projection.weight = embedding
    decoder.projection.bias = _array(output_bias(model))
    return TransformerSpec(encoder, decoder)


def difference_from(model: MarianMTModel, tokens: list[str], folder: Path) -> float:
    """The largest difference between token log-probabilities of the written model and of `model`, in nats.

    >>> import tempfile
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a b c"], 300)
    >>> model, other = (new_model(Architecture(8, 1, 1, 8), tokenizer, seed).eval() for seed in (0, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_ctranslate2(model, tokenizer, Path(folder), int8=False)
    ...     tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    ...     difference_from(model, tokens, Path(folder)) < 1e-4, difference_from(other, tokens, Path(folder)) > 1e-3
    (True, True)
    """
    import ctranslate2

    sources, targets = probe(model)
    translator = ctranslate2.Translator(str(folder), device="cpu")
    scored = translator.score_batch(
        [[tokens[i] for i in ids] for ids in sources], [[tokens[i] for i in ids] for ids in targets]
    )
    found = torch.tensor([result.log_probs for result in scored])  # the runtime adds eos to the targets
    labels = torch.tensor([[*ids, model.config.eos_token_id] for ids in targets])
    expected = reference_logits(model, sources, targets).log_softmax(-1)
    return float((found - expected.gather(-1, labels[..., None]).squeeze(-1)).abs().max())


def _save(
    model: MarianMTModel,
    tokens: list[str],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    quantization: str,
) -> None:
    spec, config = _specification(model), decoder_facts(model)
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.decoder_start_token = tokens[config["decoder_start_token_id"]]
    spec.config.eos_token = tokens[config["eos_token_id"]]
    spec.config.unk_token = tokenizer.unk_token
    spec.config.add_source_eos = False  # our sources end in eos already
    spec.config.layer_norm_epsilon = LAYER_NORM_EPSILON
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))


def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """All tokens by id. The runtime works with tokens, so two of one name would be one to it."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if len(set(tokens)) != len(tokens) or tokenizer.unk_token not in tokens:
        raise ValueError(
            f"tokenizer: got {len(set(tokens))} different tokens for {len(tokens)} ids and the unknown token "
            f"{tokenizer.unk_token!r}, expected a token of its own for each id, the unknown one among them"
        )
    return list(tokens)


def _set_layer(spec: Any, layer: nn.Module) -> None:
    """One layer of the encoder or the decoder: the norms come after each part, as in Marian."""
    _set_attention(spec.self_attention, layer.self_attn, layer.self_attn_layer_norm, fused=3)
    if hasattr(layer, "encoder_attn"):
        _set_attention(spec.attention, layer.encoder_attn, layer.encoder_attn_layer_norm, fused=1)
    _set_linear(spec.ffn.linear_0, layer.fc1)
    _set_linear(spec.ffn.linear_1, layer.fc2)
    _set_norm(spec.ffn.layer_norm, layer.final_layer_norm)


def _set_attention(spec: Any, attention: Any, norm: Any, *, fused: int) -> None:
    """The runtime wants queries, keys and values in one matrix for self-attention, else queries alone first."""
    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    _set_linear(spec.linear[0], *projections[:fused])
    if fused < len(projections):
        _set_linear(spec.linear[1], *projections[fused:])
    _set_linear(spec.linear[-1], attention.out_proj)
    _set_norm(spec.layer_norm, norm)


def _set_linear(spec: Any, *layers: Any) -> None:
    spec.weight = np.concatenate([_array(layer.weight) for layer in layers])
    spec.bias = np.concatenate([_array(layer.bias) for layer in layers])


def _set_norm(spec: Any, norm: Any) -> None:
    spec.gamma, spec.beta = _array(norm.weight), _array(norm.bias)


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().numpy().copy()
