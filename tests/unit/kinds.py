"""A tiny teacher of every kind that a student can be made from, random in all its weights: norms and biases too."""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

VOCABULARY = 50
TOKENS = {"pad_token_id": 0, "eos_token_id": 1}
# Sides that differ in heads and feed-forward width, so that a mix-up of them shows.
BART = {
    "vocab_size": VOCABULARY,
    "d_model": 24,
    "encoder_layers": 4,
    "decoder_layers": 3,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 56,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 3,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
    **TOKENS,
}
LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 64,
    "bos_token_id": 2,
    **TOKENS,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 24,
    "d_kv": 10,
    "d_ff": 40,
    "num_layers": 4,
    "num_decoder_layers": 3,
    "num_heads": 3,
    "decoder_start_token_id": 0,
    **TOKENS,
}
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 24,
    "n_layer": 4,
    "n_head": 3,
    "n_positions": 64,
    "bos_token_id": 2,
    **TOKENS,
}
SLIDING = {"layer_types": ["full_attention", "sliding_attention"] * 2, "sliding_window": 3}
KINDS = {
    "marian": lambda: MarianMTModel(MarianConfig(**BART, scale_embedding=True)),
    "marian-two-tables": lambda: MarianMTModel(
        MarianConfig(
            **BART, scale_embedding=True, decoder_vocab_size=44, share_encoder_decoder_embeddings=False
        )
    ),
    "bart": lambda: BartForConditionalGeneration(BartConfig(**BART)),
    "t5": lambda: T5ForConditionalGeneration(T5Config(**T5)),
    "t5-gated-untied": lambda: _untied(
        T5ForConditionalGeneration(T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False))
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)),
    "llama-tied": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**LLAMA)),
    "qwen2-sliding": lambda: Qwen2ForCausalLM(Qwen2Config(**LLAMA, use_sliding_window=True, **SLIDING)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
}
ENCODER_DECODER = [name for name in KINDS if name.startswith(("marian", "bart", "t5"))]
DECODER_ONLY = [name for name in KINDS if name not in ENCODER_DECODER]


def teacher_of(kind: str, seed: int = 0):
    """The teacher, in eval mode, every weight of it drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    model = KINDS[kind]()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "marian" not in kind or "embed_positions" not in name:
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator) + ("norm" in name))
    model.generation_config.max_length = 17
    return model.eval()


def logits(model, seed: int = 0) -> torch.Tensor:
    """[2, length, vocabulary] on random tokens, without a cache."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(2, 44, (2, 9), generator=generator)
    inputs = {"input_ids": source}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.randint(2, 44, (2, 7), generator=generator)
    with torch.no_grad():
        return copy.deepcopy(model).eval()(**inputs, use_cache=False).logits


def _untied(model: nn.Module) -> nn.Module:
    """As transformers leaves a T5 v1.1: its checkpoint has an output matrix, though its configuration says tied."""
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    return model
