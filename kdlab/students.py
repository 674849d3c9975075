"""Models from a configuration, transformers' own: Marian with an encoder, Llama without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        MarianConfig,
        MarianMTModel,
        PreTrainedModel,
        PreTrainedTokenizerBase,
    )

# Sinusoidal and rotary positions cost no parameters, so there is no reason to be short.
MAX_POSITIONS = 512


@dataclass(frozen=True)
class Architecture:
    """The size of a transformer.

    Attributes:
        d_model: width of the hidden states; a multiple of `heads`.
        encoder_layers, decoder_layers: how many of each; a decoder-only model has 0 in the encoder.
        ffn: width of the feed-forward layers.
        heads: attention heads.
        dropout: after embeddings, attention and feed-forward layers, in training.
    """

    d_model: int
    encoder_layers: int
    decoder_layers: int
    ffn: int
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 0 if name == "encoder_layers" else 1
            if name != "dropout" and value < least:
                raise ValueError(f"{name}: got {value}, expected at least {least}")
        if self.d_model % self.heads:
            raise ValueError(f"d_model: got {self.d_model}, expected a multiple of heads={self.heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: got {self.dropout}, expected 0 to 1 (excluded)")


def new_model(architecture: Architecture, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A fresh MarianMTModel with one embedding for source, target and output; without an encoder a LlamaForCausalLM.

    The weights depend on `seed` alone; torch's global random state is left as it was. It is Llama because its rotary
    positions have no weights: a learned table of 512, as in GPT-2 and OPT, would be a sixth of the phrasebook's
    student.

    Args:
        architecture: the size; with 0 encoder layers the model is decoder-only.
        tokenizer: gives the vocabulary, pad (which is also Marian's start token) and eos.
        seed: of the initial weights.

    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a b c"], vocabulary_size=300)
    >>> model = new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0)
    >>> model.lm_head.weight is model.model.shared.weight, len(tokenizer), model.lm_head.weight.shape
    (True, 259, torch.Size([259, 8]))
    >>> model = new_model(Architecture(8, 0, 1, 8), tokenizer, seed=0)
    >>> model.lm_head.weight is model.model.embed_tokens.weight, model.config.is_encoder_decoder
    (True, False)
    """
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    make = _new_marian if architecture.encoder_layers else _new_llama
    with seeded(seed):
        return make(architecture, len(tokenizer), pad, eos)


def _new_marian(architecture: Architecture, vocabulary: int, pad: int, eos: int) -> MarianMTModel:
    from transformers import GenerationConfig, MarianMTModel

    model = MarianMTModel(marian_config(architecture, vocabulary, pad, eos))
    # The start token is an input only: no translation holds it.
    model.generation_config = GenerationConfig(
        pad_token_id=pad, eos_token_id=eos, decoder_start_token_id=pad, suppress_tokens=[pad], max_length=128
    )
    return model


def _new_llama(architecture: Architecture, vocabulary: int, pad: int, eos: int) -> LlamaForCausalLM:
    from transformers import GenerationConfig, LlamaForCausalLM

    model = LlamaForCausalLM(llama_config(architecture, vocabulary, pad, eos))
    # Here the length is that of prompt and completion.
    model.generation_config = GenerationConfig(pad_token_id=pad, eos_token_id=eos, max_length=MAX_POSITIONS)
    return model


def decoder_only(architecture: Architecture) -> Architecture:
    """The decoder-only size of as many layers and, to rounding, as many weights as an encoder-decoder one.

    Each of `decoder_layers` loses a cross-attention of 4 d_model^2 weights. They go to the feed-forward layers: these
    have three matrices in Llama (SwiGLU, Shazeer 2020, arXiv:2002.05202), where Marian has two. What is left of a
    difference are biases, which Llama does not have. A size without an encoder stays as it is.

    >>> decoder_only(Architecture(d_model=48, encoder_layers=1, decoder_layers=1, ffn=192))
    Architecture(d_model=48, encoder_layers=0, decoder_layers=2, ffn=160, heads=4, dropout=0.1)
    """
    if architecture.encoder_layers == 0:
        return architecture
    layers = architecture.encoder_layers + architecture.decoder_layers
    weights = 2 * layers * architecture.ffn + 4 * architecture.d_model * architecture.decoder_layers
    return replace(
        architecture, encoder_layers=0, decoder_layers=layers, ffn=max(1, round(weights / (3 * layers)))
    )


def marian_config(architecture: Architecture, vocabulary: int, pad: int = 0, eos: int = 1) -> MarianConfig:
    """The configuration of an encoder-decoder `new_model`.

    Args:
        architecture: the size; at least one layer in the encoder.
        vocabulary: number of tokens.
        pad, eos: their ids; of no account for a model that is only counted.

    >>> marian_config(Architecture(32, 2, 1, 64), 100).decoder_layers
    1
    """
    from transformers import MarianConfig

    if architecture.encoder_layers < 1:
        raise ValueError("encoder_layers: got 0, expected at least 1 in an encoder-decoder model")
    return MarianConfig(
        vocab_size=vocabulary,
        decoder_vocab_size=vocabulary,
        d_model=architecture.d_model,
        encoder_layers=architecture.encoder_layers,
        decoder_layers=architecture.decoder_layers,
        encoder_ffn_dim=architecture.ffn,
        decoder_ffn_dim=architecture.ffn,
        encoder_attention_heads=architecture.heads,
        decoder_attention_heads=architecture.heads,
        dropout=architecture.dropout,
        activation_function="relu",
        scale_embedding=True,
        max_position_embeddings=MAX_POSITIONS,
        pad_token_id=pad,
        eos_token_id=eos,
        decoder_start_token_id=pad,
        forced_eos_token_id=None,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
    )


def llama_config(architecture: Architecture, vocabulary: int, pad: int = 0, eos: int = 1) -> LlamaConfig:
    """The configuration of a decoder-only `new_model`.

    Args:
        architecture: the size, with no layer in the encoder and an even number of dimensions to a head, which rotary
            positions turn in pairs. Its dropout is that of the attention, the one place where Llama has any.
        vocabulary: number of tokens.
        pad, eos: their ids; of no account for a model that is only counted.

    >>> llama_config(Architecture(32, 0, 2, 64), 100).num_hidden_layers
    2
    """
    from transformers import LlamaConfig

    if architecture.encoder_layers > 0:
        raise ValueError(
            f"encoder_layers: got {architecture.encoder_layers}, expected 0 in a decoder-only model"
        )
    if architecture.d_model // architecture.heads % 2:
        raise ValueError(
            f"d_model: got {architecture.d_model} with heads={architecture.heads}, expected an even number of "
            "dimensions to a head for rotary positions"
        )
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=architecture.d_model,
        intermediate_size=architecture.ffn,
        num_hidden_layers=architecture.decoder_layers,
        num_attention_heads=architecture.heads,
        attention_dropout=architecture.dropout,
        max_position_embeddings=MAX_POSITIONS,
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=eos,
        tie_word_embeddings=True,
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw weights on the CPU from `seed`, and put the caller's random state back; that of a GPU is not touched.

    >>> with seeded(0):
    ...     a = torch.rand(2)
    >>> with seeded(0):
    ...     torch.equal(a, torch.rand(2))
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def count_parameters(model: nn.Module) -> int:
    """Number of trainable and frozen parameters, a tied one counted once; fixed positions do not count.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    fixed = fixed_positions(model)
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in fixed)


def fixed_positions(model: nn.Module) -> set[int]:
    """The `id` of each parameter that is a table of positions which a formula gives and nothing trains.

    >>> fixed_positions(nn.Embedding(8, 4))
    set()
    """
    return {
        id(parameter)
        for module in model.modules()
        if type(module).__name__.endswith("SinusoidalPositionalEmbedding")
        for parameter in module.parameters()
    }
