"""A teacher's answers along one list of examples, asked once and kept in the user's cache for every run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from kdlab import processes
from kdlab.cache import Cacheable, TeacherCache, build_cache
from kdlab.cache_folder import identity
from kdlab.files import cache_folder, fingerprint, read_json, write_json
from kdlab.hidden_cache import CacheableHidden, HiddenCache, build_hidden_cache
from kdlab.hidden_shards import KeepHidden
from kdlab.shards import Keep
from kdlab.text.batches import Example

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


def cache_of(
    teacher: Cacheable | CacheableHidden,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    config: PreTrainedConfig,
    *,
    keep: Keep | KeepHidden,
    device: torch.device | str = "cpu",
    description: str = "teacher cache",
) -> tuple[TeacherCache | HiddenCache, float]:
    """The cache of these examples, built where it is not there yet, and going on where it was stopped.

    Args:
        teacher, tokenizer, examples, device, description: as `kdlab.cache.build_cache` takes them.
        config: of the student, whose batches it is for.
        keep: of each token its most probable entries, or its hidden state.

    Returns:
        The cache, and the seconds that it took to build, over all sessions that were not killed.

    >>> from tempfile import TemporaryDirectory
    >>> from unittest.mock import patch
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.teachers import LiveTeacher
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer, examples = train_tokenizer(["a b"], 300), [Example([5, 1], [7, 8, 1])]
    >>> model = new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0)
    >>> with TemporaryDirectory() as folder, patch.dict("os.environ", KDLAB_CACHE=folder):
    ...     built, seconds = cache_of(LiveTeacher(model), tokenizer, examples, model.config, keep=Keep())
    ...     found, the_same = cache_of(LiveTeacher(model), tokenizer, examples, model.config, keep=Keep())
    >>> found.folder == built.folder, the_same == seconds > 0, found.lengths
    (True, True, array([3]))
    """
    made_from = identity(teacher=teacher, tokenizer=tokenizer, examples=examples, keep=keep)
    key = fingerprint([made_from, config.is_encoder_decoder, config.decoder_start_token_id])
    folder = cache_folder() / "distributions" / key
    clock = folder.with_name(f"{key}.seconds.json")  # beside it: the folder is the cache's alone
    before = (read_json(clock) or {"seconds": 0.0})["seconds"]
    try:
        is_there = HiddenCache if isinstance(keep, KeepHidden) else TeacherCache
        return is_there(folder, expected=made_from), before
    except FileNotFoundError:  # not there, or not finished
        start = time.perf_counter()
    build: Any = build_hidden_cache if isinstance(keep, KeepHidden) else build_cache
    try:
        cache = build(
            folder,
            teacher,
            tokenizer,
            examples,
            keep,
            decoder_start_token_id=config.decoder_start_token_id,
            decoder_only=not config.is_encoder_decoder,
            device=device,
            description=description,
        )
    finally:
        spent = before + time.perf_counter() - start
        if processes.is_main():
            write_json(clock, {"seconds": spent})
    return cache, spent
