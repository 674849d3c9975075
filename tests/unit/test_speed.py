"""Speed by a clock that the test winds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kdlab import speed
from kdlab.generation import Search
from kdlab.speed import generation_speed, translation_latency


class Doubles:
    """A runtime whose translations are twice as long as what it gets."""

    def search_batch(self, sources, search):
        return [2 * list(source) for source in sources]


def test_speed_counts_the_tokens_of_translations_in_the_median_run(monkeypatch):
    clock = iter([0.0, 1.0, 10.0, 14.0, 20.0, 22.0])
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=clock.__next__))
    assert generation_speed(Doubles(), [[5, 1], [5, 6, 7, 8, 1]]) == 14 / 2.0


class Slow:
    """A runtime that takes its time: 10 ms a token, and a second more for each of its first two calls."""

    def __init__(self):
        self.asked, self.now = [], 0.0

    def search_batch(self, sources, search):
        self.asked.append((sources, search))
        self.now += 0.010 * sum(map(len, sources)) + (1.0 if len(self.asked) <= 2 else 0.0)
        return [list(source) for source in sources]


@pytest.fixture
def slow(monkeypatch):
    model = Slow()
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: model.now))
    return model


def test_latency_is_of_one_sentence_after_the_warm_up(slow):
    """50, 10, 20, 40, 30 ms: the place of p95 is 0.95 * 4 = 3.8 in order, 40 + 0.8 * 10."""
    sources = [[1] * length for length in (5, 1, 2, 4, 3)]
    assert translation_latency(slow, sources, warm_up=2) == {"p50": 30.0, "p95": 48.0}
    assert slow.asked == [([source], Search()) for source in [*sources[:2], *sources]]


def test_without_a_warm_up_the_first_calls_count(slow):
    assert translation_latency(slow, [[1], [1], [1]], warm_up=0)["p50"] == 1010.0


def test_nothing_to_translate():
    with pytest.raises(ValueError, match="sources: got none, expected at least one"):
        translation_latency(Doubles(), [])
