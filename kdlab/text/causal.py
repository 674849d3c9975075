"""Batches for decoder-only models: the prompt and its completion in one row, the prompt masked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kdlab.text.batches import Example, check_examples, collate, example_lengths, id_tensor, pad_sources


def collate_causal(
    examples: Sequence[Example],
    *,
    pad_token_id: int,
    ignore_index: int = -100,
    example_ids: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """Prompts (`source_ids`) and completions (`target_ids`) as one batch of int64 tensors.

    Returns `input_ids`, `attention_mask` and `labels`, all [batch, longest prompt and completion]; `example_ids`
    [batch] where they are given. Labels are the input itself with `ignore_index` on the prompt and the padding: the
    convention of transformers, in which nothing is shifted yet. `kdlab.model_io.aligned` does that.

    Padding stands at the end. So each token's index is its position, which is what a model assumes that is given no
    `position_ids`; and under a causal mask no token that counts ever sees the padding. (Generation needs it in front,
    so that all rows go on from the same place; training does not.) The mask comes from the lengths, so a pad token
    that is also eos, or that a text holds, is an input like any other.

    Errors: ValueError for no examples, an example with an empty side, or ids of another number than examples. A model
    without prompts gets its start token (bos) as the prompt: no row of the output predicts the very first token.

    >>> batch = collate_causal([Example([5, 6], [7, 1]), Example([5], [8, 1])], pad_token_id=0)
    >>> batch["input_ids"].tolist()
    [[5, 6, 7, 1], [5, 8, 1, 0]]
    >>> batch["labels"].tolist()
    [[-100, -100, 7, 1], [-100, 8, 1, -100]]
    """
    check_examples(examples, example_ids)
    rows = [[*example.source_ids, *example.target_ids] for example in examples]
    labels = [[*[ignore_index] * len(example.source_ids), *example.target_ids] for example in examples]
    input_ids, attention_mask = pad_sources(rows, pad_token_id)
    batch = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": pad_sources(labels, ignore_index)[0],
    }
    return batch if example_ids is None else {**batch, "example_ids": id_tensor(example_ids)}


def pad_prompts(prompts: Sequence[Sequence[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """`input_ids` and `attention_mask` [batch, longest prompt], int64, padded in front: all rows go on from one place.

    Errors: ValueError for an empty prompt, after which nothing says how to begin.

    >>> pad_prompts([[5, 6], [7]], pad_token_id=0)
    (tensor([[5, 6],
            [0, 7]]), tensor([[1, 1],
            [0, 1]]))
    """
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompts: number {number} is empty, expected its start token at least")
    input_ids, attention_mask = pad_sources([prompt[::-1] for prompt in prompts], pad_token_id)
    return input_ids.flip(1), attention_mask.flip(1)


def causal_lengths(examples: Sequence[Example]) -> list[tuple[int, int]]:
    """(tokens in the row, tokens of the completion) of each example, as `by_length` and `BatchSchedule` take them.

    >>> causal_lengths([Example([5, 6], [7, 1])])
    [(4, 2)]
    """
    return [(source + target, target) for source, target in example_lengths(examples)]


def lengths_for(config: Any, examples: Sequence[Example]) -> list[tuple[int, int]]:
    """`example_lengths` or `causal_lengths`, as a model with this `config` reads the examples.

    >>> from types import SimpleNamespace
    >>> examples = [Example([5, 6], [7, 1])]
    >>> [lengths_for(SimpleNamespace(is_encoder_decoder=kind), examples) for kind in (True, False)]
    [[(2, 2)], [(4, 2)]]
    """
    return example_lengths(examples) if config.is_encoder_decoder else causal_lengths(examples)


def collate_for(
    config: Any, examples: Sequence[Example], *, example_ids: Sequence[int] | None = None
) -> dict[str, Tensor]:
    """The batch that a model with this `config` reads, by `collate` or `collate_causal`.

    config: a transformers configuration: `is_encoder_decoder`, `pad_token_id` and, for an encoder-decoder model,
    `decoder_start_token_id`. A decoder-only model without a pad token is padded with 0, which nothing ever reads.

    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(is_encoder_decoder=False, pad_token_id=None)
    >>> collate_for(config, [Example([5, 6], [7, 1])])["labels"]
    tensor([[-100, -100,    7,    1]])
    """
    pad = config.pad_token_id
    if not config.is_encoder_decoder:
        return collate_causal(examples, pad_token_id=0 if pad is None else pad, example_ids=example_ids)
    return collate(
        examples,
        pad_token_id=pad,
        decoder_start_token_id=config.decoder_start_token_id,
        example_ids=example_ids,
    )
