"""The smallest models of several families, with heads of every kind, and prompts and completions for them."""

from __future__ import annotations

import torch

from kdlab.text.batches import Example

VOCABULARY = 23
EXAMPLES = [
    Example([2, 5, 6, 7], [8, 9, 1]),
    Example([2, 4], [10, 11, 12, 13, 14, 1]),
    Example([2, 3, 4, 5, 6, 7, 8], [9, 1]),
    Example([2], [15, 16, 0, 17, 1]),  # the pad token as a token like any other
]
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}


def decoder_only(family="Llama", seed=0, **options):
    """A decoder-only model in float64 and eval mode, its distributions far from uniform."""
    import transformers

    if family == "GPT2":
        options = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64} | options
        options |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    else:
        options = SIZES | options
    names = ("vocab_size", "pad_token_id", "eos_token_id", "bos_token_id")
    config = getattr(transformers, f"{family}Config")(**{name: SIZES[name] for name in names} | options)
    return _sharp(transformers.AutoModelForCausalLM, config, seed)


def encoder_decoder(family="Marian", seed=0, **options):
    """An encoder-decoder model in float64 and eval mode, with a bias of its own on the logits."""
    import transformers

    options = {
        "vocab_size": VOCABULARY,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "dropout": 0.0,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "decoder_start_token_id": 0,
        "forced_eos_token_id": None,
    } | options
    config = getattr(transformers, f"{family}Config")(**options)
    model = _sharp(transformers.AutoModelForSeq2SeqLM, config, seed)
    model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(seed))
    return model


def _sharp(kind, config, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.from_config(config).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def plain_descent(folder, accumulation=1, **options):
    """Arguments of a training without momentum, clipping, schedule or files; one update unless told otherwise."""
    from transformers import Seq2SeqTrainingArguments

    return Seq2SeqTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1,
        gradient_accumulation_steps=accumulation,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **{"max_steps": 1, "optim": "sgd", "save_strategy": "no", **options},
    )


def distiller(model, folder, *, examples=EXAMPLES, batches=None, accumulation=1, args=None, **options):
    """A Distiller that takes one step of plain gradient descent an update: weights show the gradient."""
    from kdlab.distiller import Distiller
    from kdlab.text.causal import collate_for

    arguments = plain_descent(folder, accumulation, learning_rate=0.1, **(args or {}))

    def pad(items):
        return collate_for(model.config, [examples[i] for i in items[0]], example_ids=items[0])

    return Distiller(model, arguments, train_dataset=batches, data_collator=pad, **options)
