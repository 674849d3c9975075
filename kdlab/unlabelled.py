"""D' from inputs without references: the teacher writes a target for each, and its prefixes are what it is asked about.

The targets are drawn, not searched for: a student then meets each prefix as often as its teacher would write it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdlab.distributions import TopK, log_probabilities
from kdlab.generation import Search, generate, length_limit
from kdlab.teachers import LiveTeacher, Teacher
from kdlab.text.batches import Example, collate
from kdlab.text.tokenizers import MAX_LENGTH, encode_sources

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NextToken = Callable[[list[int], list[int]], Tensor]  # source ids, prefix ids -> probabilities [vocabulary]


def write_target(
    next_token: NextToken, source: list[int], draw: Callable[[Tensor], int], end: int, most: int
) -> list[int]:
    """A target that is drawn token by token.

    Args:
        next_token: (source, prefix) -> the probabilities [vocabulary] of the token after the prefix.
        source: token ids.
        draw: probabilities -> the id of one token.
        end: the id that ends a target; it is the target's last.
        most: where none is drawn, the target ends after so many tokens.

    >>> def next_token(source, prefix):  # the source again, then the end, 0
    ...     rest = [*source[len(prefix):], 0]
    ...     return torch.nn.functional.one_hot(torch.tensor(rest[0]), 9).float()
    >>> write_target(next_token, [7, 8], lambda p: int(p.argmax()), end=0, most=5)
    [7, 8, 0]
    """
    target: list[int] = []
    while len(target) < most and target[-1:] != [end]:
        target.append(draw(next_token(source, list(target))))
    return target


def teacher_samples(
    teacher: Teacher, tokenizer: PreTrainedTokenizerBase, lines: Sequence[str], *, seed: int
) -> list[Example]:
    """For each line an example whose target the teacher has drawn at temperature 1.

    Args:
        teacher: a `LiveTeacher` of an encoder-decoder model is sampled in batches; any other teacher of such
            students is asked once a token, which is slow.
        tokenizer: the teacher's.
        lines: inputs without references.
        seed: the same seed draws the same targets.

    Raises:
        ValueError: a teacher that gives no whole distribution (`TopK`), so that nothing can be drawn from it.

    A target that reached the length limit does not end in eos.

    >>> from kdlab.teachers import PhrasebookTeacher
    >>> from kdlab.text.phrasebook import Phrasebook
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> phrasebook, line = Phrasebook("small"), "Where is the hotel?"
    >>> tokenizer = train_tokenizer([line, *phrasebook.translations(line)], vocabulary_size=300)
    >>> (example,) = teacher_samples(PhrasebookTeacher(phrasebook, tokenizer), tokenizer, [line], seed=0)
    >>> tokenizer.decode(example.target_ids, skip_special_tokens=True) in phrasebook.translations(line)
    True
    """
    sources = encode_sources(tokenizer, list(lines), MAX_LENGTH)
    targets: dict[int, list[int]] = {}
    if isinstance(teacher, LiveTeacher):
        search = Search(sample=True, seed=seed)
        for batch in generate(teacher.model, sources, search, "the teacher writes"):  # type: ignore[arg-type]
            targets |= batch
    else:
        generator = torch.Generator().manual_seed(seed)
        ask = _one_by_one(teacher, tokenizer.pad_token_id)
        for index, source in enumerate(sources):
            targets[index] = write_target(
                ask,
                source,
                lambda p: int(torch.multinomial(p, 1, generator=generator)),
                tokenizer.eos_token_id,
                length_limit(len(source)),
            )
    return [Example(source, targets[index]) for index, source in enumerate(sources)]


def _one_by_one(teacher: Teacher, pad: int) -> NextToken:
    def next_token(source: list[int], prefix: list[int]) -> Tensor:
        # The row for a token is computed from those before it, so any token may stand in its place: here pad.
        batch = collate([Example(source, [*prefix, pad])], pad_token_id=pad, decoder_start_token_id=pad)
        answer = teacher(batch)
        if isinstance(answer, TopK):
            raise ValueError("teacher: got one that gives a TopK, expected logits of the whole vocabulary")
        return log_probabilities(answer[0, -1]).exp().cpu()

    return next_token
