"""A teacher that is asked once: found again by every run, and built to its end after a stop."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest
import torch

from kdlab import user_cache
from kdlab.shards import Keep
from kdlab.text.batches import Example
from kdlab.user_cache import cache_of
from tests.unit.small_text import small_text

KEEP = Keep()
CONFIG = SimpleNamespace(is_encoder_decoder=True, decoder_start_token_id=0)
EXAMPLES = [Example([5, 1], [7, 8, 1]), Example([6, 1], [9, 1])]


class Teacher:
    """Says the same everywhere; stops when it is asked for more than it is paid for."""

    def __init__(self, paid=99, name="one"):
        self.paid, self.name = paid, name

    def __call__(self, batch):
        if self.paid == 0:
            raise RuntimeError("unpaid")
        self.paid -= 1
        return torch.arange(200.0).expand(*batch["labels"].shape, 200)

    def fingerprint(self):
        return self.name


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Asks for a cache; by its clock every building takes two seconds."""
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(user_cache, "time", SimpleNamespace(perf_counter=count(0.0, 2.0).__next__))
    tokenizer = small_text(pairs=4, vocabulary=300).tokenizer

    def ask(teacher, examples=EXAMPLES, config=CONFIG, keep=KEEP):
        return cache_of(teacher, tokenizer, examples, config, keep=keep)

    return ask


def test_one_that_was_stopped_goes_on_and_the_seconds_of_all_sessions_count(ask):
    with pytest.raises(RuntimeError, match="unpaid"):
        ask(Teacher(paid=1))  # the trial that shows what is wrong, and no more
    cache, seconds = ask(Teacher())
    assert (cache.lengths.tolist(), seconds) == ([3, 2], 4.0)


def test_one_that_is_there_is_not_asked_again(ask):
    built, _ = ask(Teacher())
    found, seconds = ask(Teacher(paid=0))
    assert (found.folder, seconds) == (built.folder, 2.0)


def test_what_its_answers_depend_on_has_a_cache_of_its_own(ask):
    start = SimpleNamespace(is_encoder_decoder=True, decoder_start_token_id=3)
    caches = [
        ask(Teacher())[0],
        ask(Teacher(name="two"))[0],
        ask(Teacher(), EXAMPLES[::-1])[0],
        ask(Teacher(), config=start)[0],
        ask(Teacher(), keep=Keep(temperature=2.0))[0],
    ]
    assert len({cache.folder for cache in caches}) == 5
    assert [cache.temperature for cache in caches] == [1.0] * 4 + [2.0]
    assert caches[3].manifest["decoder_start_token_id"] == 3
