"""The teacher's translations as targets: which of them are learnt from, and that none is made twice."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest
from transformers import GenerationConfig

from kdlab import sequences
from kdlab.generation import Search
from kdlab.sequences import pseudo_targets

SOURCES = [[5, 6, 1], [6, 7, 1], [7, 8, 1], [8, 9, 1]]
TARGETS = [[9, 7, 1], [9, 8, 8], [1], [10, 11, 1]]  # the second was cut by the limit, the third is empty
ONE_BY_ONE = Search(tokens_per_batch=3)


class Teacher:
    """Translates by rote, in a runtime of its own; stops when it is asked for more than it is paid for."""

    generation_config = GenerationConfig(eos_token_id=1, pad_token_id=0)

    def __init__(self, targets=TARGETS, paid=99):
        self.targets, self.paid, self.asked = dict(zip(map(tuple, SOURCES), targets, strict=True)), paid, 0

    def search_batch(self, sources, search):
        if self.asked == self.paid:
            raise KeyboardInterrupt
        self.asked += 1
        return [self.targets[tuple(source)] for source in sources]


def test_unfinished_and_empty_translations_are_left_out(tmp_path):
    made = pseudo_targets(Teacher(), SOURCES, Search(), tmp_path / "made.jsonl")
    assert made.kept == [0, 3]
    assert [(e.source_ids, e.target_ids) for e in made.examples] == [
        (SOURCES[0], TARGETS[0]),
        (SOURCES[3], TARGETS[3]),
    ]


def test_a_teacher_that_never_ends_a_sentence_is_refused(tmp_path):
    with pytest.raises(ValueError, match="teacher: none of its 4 translations"):
        pseudo_targets(Teacher([[9, 9]] * 4), SOURCES, Search(), tmp_path / "made.jsonl")


def test_a_stopped_teacher_is_asked_for_the_rest_alone_and_all_its_seconds_count(tmp_path, monkeypatch):
    monkeypatch.setattr(sequences, "time", SimpleNamespace(perf_counter=count(0.0, 2.0).__next__))
    file = tmp_path / "made.jsonl"
    with pytest.raises(KeyboardInterrupt):
        pseudo_targets(Teacher(paid=3), SOURCES, ONE_BY_ONE, file)
    teacher = Teacher()
    whole = pseudo_targets(teacher, SOURCES, ONE_BY_ONE, file)
    assert teacher.asked == 1
    assert whole.kept == [0, 3]
    again = pseudo_targets(Teacher(paid=0), SOURCES, ONE_BY_ONE, file)
    assert again.examples == whole.examples
    assert again.seconds == whole.seconds == pytest.approx(4 * 2.0)
