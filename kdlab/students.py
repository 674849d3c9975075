"""Models from a configuration, transformers' own: Marian with an encoder, GPT-2 without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        MarianConfig,
        MarianMTModel,
        PreTrainedModel,
        PreTrainedTokenizerBase,
    )

# Sinusoidal positions cost no parameters, so there is no reason to be short. In GPT-2 the longest prompt, of 256
# tokens, leaves room for as many.
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
    """A fresh MarianMTModel with one embedding for source, target and output; without an encoder a GPT2LMHeadModel.

    The weights depend on `seed` alone; torch's global random state is left as it was. It is GPT-2 because it has
    dropout wherever Marian has. Llama has it in the attention alone; on the 400 pairs of profile ci its student
    alone came to a validation loss of 0.88 nats a token, the best of three settings, GPT-2's to 0.64.

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
    >>> model.lm_head.weight is model.transformer.wte.weight, model.config.is_encoder_decoder
    (True, False)
    """
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    make = _new_marian if architecture.encoder_layers else _new_gpt2
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


def _new_gpt2(architecture: Architecture, vocabulary: int, pad: int, eos: int) -> GPT2LMHeadModel:
    from transformers import GenerationConfig, GPT2LMHeadModel

    model = GPT2LMHeadModel(gpt2_config(architecture, vocabulary, pad, eos))
    # Here the length is that of prompt and completion.
    model.generation_config = GenerationConfig(pad_token_id=pad, eos_token_id=eos, max_length=MAX_POSITIONS)
    return model


def decoder_only(architecture: Architecture) -> Architecture:
    """The decoder-only size of as many layers and, to rounding, as many weights in them as an encoder-decoder one.

    Each of `decoder_layers` loses a cross-attention of 4 d_model^2 weights. They go to the feed-forward layers,
    2 d_model for each of their units. On top comes GPT-2's table of positions. A size without an
    encoder stays as it is.

    >>> decoder_only(Architecture(d_model=48, encoder_layers=1, decoder_layers=1, ffn=192))
    Architecture(d_model=48, encoder_layers=0, decoder_layers=2, ffn=240, heads=4, dropout=0.1)
    """
    if architecture.encoder_layers == 0:
        return architecture
    layers = architecture.encoder_layers + architecture.decoder_layers
    more = round(2 * architecture.d_model * architecture.decoder_layers / layers)
    return replace(architecture, encoder_layers=0, decoder_layers=layers, ffn=architecture.ffn + more)


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


def gpt2_config(architecture: Architecture, vocabulary: int, pad: int = 0, eos: int = 1) -> GPT2Config:
    """The configuration of a decoder-only `new_model`.

    Args:
        architecture: the size, with no layer in the encoder.
        vocabulary: number of tokens.
        pad, eos: their ids; of no account for a model that is only counted.

    >>> gpt2_config(Architecture(32, 0, 2, 64), 100).n_layer
    2
    """
    from transformers import GPT2Config

    if architecture.encoder_layers > 0:
        raise ValueError(
            f"encoder_layers: got {architecture.encoder_layers}, expected 0 in a decoder-only model"
        )
    return GPT2Config(
        vocab_size=vocabulary,
        n_positions=MAX_POSITIONS,
        n_embd=architecture.d_model,
        n_layer=architecture.decoder_layers,
        n_head=architecture.heads,
        n_inner=architecture.ffn,
        resid_pdrop=architecture.dropout,
        embd_pdrop=architecture.dropout,
        attn_pdrop=architecture.dropout,
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
