"""One fast BPE tokenizer for source and target, and text to token ids and back.

The tokenizer is byte-level BPE. Every string has an encoding (a character never seen in training becomes its
UTF-8 bytes), decoding gives the text back exactly, and the words are cut from their punctuation before BPE,
so that "bus." and "bus" share a piece. A word has the same pieces at the start of a line as within it: a
space is put before the first word, and taken away again by the decoder.

Special tokens: `<pad>` = 0, `</s>` = 1, `<unk>` = 2 (BPE over bytes never makes one; models expect that it
exists). Sources and targets both end in `</s>` and there is no start token: as in Marian, the decoder starts
with `<pad>`.

Canonical tokenisation: many id sequences decode to one string, but `encode(text)` gives just one of them,
always the same. Only that one counts as "the" tokens of a sentence, in training and in exact probabilities
over token sequences.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD_TOKEN, EOS_TOKEN, UNK_TOKEN = "<pad>", "</s>", "<unk>"
SMALLEST_VOCABULARY = 256 + 3  # every byte, and the special tokens
MAX_LENGTH = 256  # tokens of a sentence, eos included; what is longer is cut


def train_tokenizer(lines: Iterable[str], vocabulary_size: int = 4000) -> PreTrainedTokenizerFast:
    """Train byte-level BPE on `lines`: source and target sentences together, for one shared vocabulary.

    Text is brought to Unicode NFC and surrounding spaces are dropped; what is left comes back from `decode`
    unchanged. The same lines give the same `tokenizer.json`, byte for byte. Text that happens to spell a
    special token (`</s>`) is read as plain characters. The result may be smaller than `vocabulary_size` where
    the text has no more pairs to merge.

    Save it with `save_pretrained(folder)`; `load_tokenizer(folder)` or transformers' `AutoTokenizer` read it
    back.

    Raises: ValueError if there are no lines, or `vocabulary_size` has no room for the bytes and special
    tokens. Source: Sennrich, Haddow, Birch (2016) for BPE; Radford et al. (2019) for its byte-level form.

    >>> tokenizer = train_tokenizer(["the bus is late", "der Bus ist spät"], vocabulary_size=300)
    >>> ids = tokenizer("der Bus ist grün")["input_ids"]
    >>> ids[-1] == tokenizer.eos_token_id
    True
    >>> tokenizer.decode(ids, skip_special_tokens=True)
    'der Bus ist grün'
    """
    if vocabulary_size < SMALLEST_VOCABULARY:
        raise ValueError(f"vocabulary_size: got {vocabulary_size}, expected at least {SMALLEST_VOCABULARY}")
    lines = list(lines)
    if not any(line.strip() for line in lines):
        raise ValueError(f"lines: got {len(lines)} lines without any text, expected sentences to train on")

    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PAD_TOKEN, EOS_TOKEN, UNK_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    backend.train_from_iterator(lines, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS_TOKEN}", special_tokens=[(EOS_TOKEN, backend.token_to_id(EOS_TOKEN))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        unk_token=UNK_TOKEN,
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
    )


def load_tokenizer(folder_or_hub: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer with `AutoTokenizer`: from a folder, or by its name on the hub (`hub:` may lead).

    Raises: ValueError, naming what was asked for, where neither has one that loads.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = train_tokenizer(["der Bus ist rot"], vocabulary_size=300).save_pretrained(folder)
    ...     tokenizer = load_tokenizer(folder)
    >>> tokenizer.decode(tokenizer("rot")["input_ids"])
    'rot</s>'
    """
    from transformers import AutoTokenizer

    name = str(folder_or_hub).removeprefix("hub:")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(
            f"folder_or_hub: no tokenizer could be loaded from {folder_or_hub!r}, expected a folder written "
            f"by save_pretrained or the name of a model on the hub. transformers says: {error}"
        ) from error
    return tokenizer


def encode_sources(
    tokenizer: PreTrainedTokenizerBase, lines: Sequence[str], max_length: int
) -> list[list[int]]:
    """Token ids of source sentences: a list for each, ending in eos, of at most `max_length` ids.

    A line that is too long is cut and ends in eos all the same.

    Raises: ValueError if `max_length` < 2 or the tokenizer does not end a sentence in its eos token.

    >>> tokenizer = train_tokenizer(["a b c"], vocabulary_size=300)
    >>> [len(ids) for ids in encode_sources(tokenizer, ["a", "a b c a b c"], max_length=4)]
    [3, 4]
    """
    _check_max_length(max_length)
    if not lines:
        return []
    encoded = tokenizer(list(lines), truncation=True, max_length=max_length)
    return _ending_in_eos(tokenizer, encoded["input_ids"])


def encode_targets(
    tokenizer: PreTrainedTokenizerBase, lines: Sequence[str], max_length: int
) -> list[list[int]]:
    """Token ids of target sentences: as `encode_sources`, with the tokenizer in its target mode.

    Some tokenizers (Marian's from the hub) have one model for the source and another for the target; without
    `text_target` they cut German with the English one, in silence.

    >>> tokenizer = train_tokenizer(["a b c"] * 2, vocabulary_size=300)
    >>> [tokenizer.decode(ids) for ids in encode_targets(tokenizer, ["a", "a b c a b c"], max_length=4)]
    ['a</s>', 'a b c</s>']
    """
    _check_max_length(max_length)
    if not lines:
        return []
    encoded = tokenizer(text_target=list(lines), truncation=True, max_length=max_length)
    return _ending_in_eos(tokenizer, encoded["input_ids"])


def _check_max_length(max_length: int) -> None:
    if max_length < 2:
        raise ValueError(f"max_length: got {max_length}, expected at least 2 (one token and eos)")


def _ending_in_eos(tokenizer: PreTrainedTokenizerBase, sequences: list[list[int]]) -> list[list[int]]:
    eos = tokenizer.eos_token_id
    for ids in sequences:
        if eos is None or not ids or ids[-1] != eos:
            raise ValueError(
                f"tokenizer: {type(tokenizer).__name__} gave ids ending in {ids[-3:]}, "
                f"expected every sentence to end in its eos token (id {eos})"
            )
    return sequences
