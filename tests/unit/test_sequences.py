"""Sequence level: candidates, which of them become targets, what is dropped, and that each stays with its source."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import sacrebleu
import torch
from torch import nn

from kdlab.filters import FILTERS, Filters, copied_share, extra_repetitions, filters_called
from kdlab.generation import Search, generate, generate_candidates, search_candidates
from kdlab.sequences import pseudo_targets
from kdlab.students import Architecture, new_model
from kdlab.text.phrasebook import Phrasebook
from kdlab.text.tokenizers import encode_sources, encode_targets, train_tokenizer

PAD, EOS, VOCABULARY = 0, 1, 200
SOURCE, TARGET = range(10, 60), range(100, 150)  # a word of the source and its translation are 90 apart
MARKS = [150, 160, 170, 180]  # the last word says which candidate it is


def translation(source: list[int], number: int) -> list[int]:
    return [*(token + 90 for token in reversed(source[:-1])), MARKS[number], EOS]


class Toy(nn.Module):
    """A teacher whose translation, and its probability, is a function of the source alone."""

    def __init__(self, pause: float = 0.0, translate=translation):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(
            is_encoder_decoder=True, pad_token_id=PAD, decoder_start_token_id=PAD, max_position_embeddings=512
        )
        self.generation_config = SimpleNamespace(pad_token_id=PAD, eos_token_id=EOS, length_penalty=None)
        self.pause, self.translate, self.batches = pause, translate, []

    def generate(self, input_ids, attention_mask, num_return_sequences, **options):
        time.sleep(self.pause)
        self.batches.append(tuple(input_ids.shape))
        found = []
        for row, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True):
            source = row[: sum(mask)]
            found += [self.translate(source, number) for number in range(num_return_sequences)]
        longest = max(map(len, found))
        return torch.tensor([[PAD, *ids, *[PAD] * (longest - len(ids))] for ids in found])

    def forward(self, input_ids, attention_mask, decoder_input_ids, use_cache=False):
        rows = [
            logits(row[: sum(mask)])
            for row, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True)
        ]
        return SimpleNamespace(
            logits=torch.stack(rows).unsqueeze(1).expand(-1, decoder_input_ids.shape[1], -1)
        )


def logits(source: list[int]) -> torch.Tensor:
    """The same at every position, another vector for every source."""
    words = torch.arange(VOCABULARY, dtype=torch.float32)
    return torch.sin(words * (1 + sum(source) % 97)) * (1 + len(source) % 3)


def log_probability(source: list[int], target: list[int]) -> float:
    values = [float(value) for value in logits(source)]
    log_z = math.log(math.fsum(math.exp(value) for value in values))
    return math.fsum(values[token] - log_z for token in target)


def make_sources(count: int, seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [[*draw.sample(SOURCE, draw.randint(1, 20)), EOS] for _ in range(count)]


SEARCH = Search(num_beams=3, candidates=3, tokens_per_batch=200)


@pytest.mark.parametrize("targets", ["best", "all"])
def test_targets_stay_with_their_sources_when_these_are_shuffled(tmp_path, targets) -> None:
    """Mistake 14. Batches come by length, so in neither order are translations made in the order of the sources."""
    sources = make_sources(60)
    order = random.Random(5).sample(range(60), 60)
    shuffled = [sources[index] for index in order]
    plain = pseudo_targets(Toy(), sources, SEARCH, tmp_path / "plain.jsonl", targets=targets)
    made = pseudo_targets(Toy(), shuffled, SEARCH, tmp_path / "shuffled.jsonl", targets=targets)
    wanted = {index: [translation(source, k) for k in range(3)] for index, source in enumerate(shuffled)}
    for index, example, score in zip(made.kept, made.examples, made.log_probabilities, strict=True):
        assert example.source_ids == shuffled[index]
        assert example.target_ids in wanted[index]
        assert score == pytest.approx(log_probability(shuffled[index], example.target_ids), abs=1e-4)
    if targets == "best":  # all of a source have the same length here
        assert made.kept == list(range(60))
        for example in made.examples:
            others = [
                log_probability(example.source_ids, translation(example.source_ids, k)) for k in range(3)
            ]
            assert log_probability(example.source_ids, example.target_ids) == max(others)
        assert (
            len({example.target_ids[-2] for example in made.examples}) == 3
        )  # not always the search's first
        back = {order[index]: example for index, example in zip(made.kept, made.examples, strict=True)}
        assert [back[index] for index in range(60)] == plain.examples
    else:
        assert made.kept == [index for index in range(60) for _ in range(3)]
        for start in range(0, 180, 3):
            found = [example.target_ids for example in made.examples[start : start + 3]]
            assert sorted(found) == sorted(wanted[made.kept[start]])
            scores = made.log_probabilities[start : start + 3]
            assert scores == sorted(scores, reverse=True)
    assert made.dropped == dict.fromkeys(FILTERS, 0)
    assert made.left_out == 0


KILLED = """
import sys
sys.path.insert(0, {tests!r})
import test_sequences as t
t.pseudo_targets(t.Toy(pause=0.1), t.make_sources(60), t.SEARCH, t.Path({file!r}), targets="all")
"""


def test_killed_in_mid_run_it_goes_on_and_nothing_moves(tmp_path) -> None:
    sources = make_sources(60)
    whole = pseudo_targets(Toy(), sources, SEARCH, tmp_path / "whole.jsonl", targets="all")
    file = tmp_path / "killed.jsonl"
    script = KILLED.format(tests=str(Path(__file__).parent), file=str(file))
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not file.exists() or file.read_bytes().count(b"\n") < 4:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lines = file.read_bytes().splitlines(keepends=True)
    batches = len((tmp_path / "whole.jsonl").read_bytes().splitlines()) - 1
    assert 4 <= len(lines) <= batches, "killed too late"
    file.write_bytes(b"".join(lines) + lines[-1][: len(lines[-1]) // 2])  # and cut in the middle of a line
    teacher = Toy()
    again = pseudo_targets(teacher, sources, SEARCH, file, targets="all")
    assert (again.examples, again.kept) == (whole.examples, whole.kept)
    assert again.log_probabilities == whole.log_probabilities
    assert len(teacher.batches) == batches - (len(lines) - 1)  # what was done is not done again
    assert file.read_bytes().startswith(b"".join(lines))
    assert pseudo_targets(Toy(), sources, SEARCH, file, targets="all").examples == whole.examples


def test_cut_at_any_byte_the_file_is_completed(tmp_path) -> None:
    sources = make_sources(12)
    search = Search(num_beams=2, candidates=2, tokens_per_batch=100)
    whole = pseudo_targets(Toy(), sources, search, tmp_path / "whole.jsonl")
    content = (tmp_path / "whole.jsonl").read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    assert len(ends) > 3
    lengths = {
        0,
        1,
        *range(ends[0], len(content), 97),
        *ends,
        *(end + 1 for end in ends),
    }  # with newline and without
    for length in sorted(lengths - {len(content)}):
        (tmp_path / "cut.jsonl").write_bytes(content[:length])
        made = pseudo_targets(Toy(), sources, search, tmp_path / "cut.jsonl")
        assert made.examples == whole.examples
        for line in (tmp_path / "cut.jsonl").read_text().splitlines():
            json.loads(line)


@pytest.mark.parametrize(
    ("search", "order", "message"),
    [
        (Search(num_beams=3, candidates=2, tokens_per_batch=200), 1, "made with search"),
        (Search(num_beams=3, tokens_per_batch=200), 1, "made with search"),
        (Search(sample=True, candidates=3, tokens_per_batch=200), 1, "made with search"),
        (SEARCH, -1, "made with sources"),  # the same ones, in another order
    ],
)
def test_a_file_of_another_search_or_other_sources_is_refused(tmp_path, search, order, message) -> None:
    sources, file = make_sources(10), tmp_path / "file.jsonl"
    pseudo_targets(Toy(), sources, SEARCH, file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match=rf"^file: got .*file\.jsonl, {message}"):
        pseudo_targets(Toy(), sources[::order], search, file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "content", ['{"seconds": 0.5, "targets": [[0, [5, 1]]]}\n', "Dear diary,\nit rained.\n", "Dear diary"]
)
def test_a_file_of_the_first_format_or_of_no_format_is_refused_and_kept(tmp_path, content) -> None:
    file = tmp_path / "file.jsonl"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"^file: got .*file\.jsonl, which has no header"):
        pseudo_targets(Toy(), make_sources(10), SEARCH, file)
    assert file.read_text() == content


def test_every_candidate_is_an_example_or_counted_under_one_filter(tmp_path) -> None:
    """Each source has three candidates; which of them is spoilt, and how, depends on the source."""

    def translate(source, number):
        good, kind = translation(source, number), sum(source) % 7
        if number != 1 and kind != 6:
            return good
        spoilt = [
            good,
            good[:-1],
            [EOS],
            [*good[:-1] * 3, *range(100, 120), EOS],
            [MARKS[0]] * (len(source) + 5) + [EOS],
            [*source[:-1], EOS],
        ]
        return spoilt[kind] if kind < 6 else good[:-1]

    sources = [ids for ids in make_sources(300, seed=2) if len(ids) > 9]
    made = pseudo_targets(Toy(translate=translate), sources, SEARCH, tmp_path / "file.jsonl", targets="all")
    kinds = [sum(ids) % 7 for ids in sources]
    names = ["unfinished", "empty", "length", "repetition", "copy"]
    expected = {name: kinds.count(kind) for kind, name in enumerate(names, start=1)}
    expected["unfinished"] += 3 * kinds.count(6)
    assert all(expected.values())
    assert made.dropped == expected
    assert list(made.dropped) == list(FILTERS)
    assert made.left_out == kinds.count(6)
    assert len(made.examples) + sum(made.dropped.values()) == 3 * len(sources)
    assert {index for index, kind in enumerate(kinds) if kind != 6} == set(made.kept)
    for index, example in zip(made.kept, made.examples, strict=True):
        assert example.target_ids in [translation(sources[index], number) for number in range(3)]
    off = Filters(length_ratio=None, repetitions=None, copied_share=None)
    made = pseudo_targets(
        Toy(translate=translate), sources, SEARCH, tmp_path / "file.jsonl", targets="all", filters=off
    )
    assert made.dropped == expected | {"length": 0, "repetition": 0, "copy": 0}


def test_nothing_to_learn_from_is_refused_with_the_counts(tmp_path) -> None:
    never = Toy(translate=lambda source, number: translation(source, number)[:-1])
    with pytest.raises(ValueError, match=r"^teacher: none of its 30 translations .*dropped: unfinished 30\)"):
        pseudo_targets(never, make_sources(10), SEARCH, tmp_path / "file.jsonl")


def test_the_best_that_passes_takes_the_place_of_a_better_one_that_is_dropped(tmp_path) -> None:
    sources = make_sources(40, seed=3)
    best = pseudo_targets(Toy(), sources, SEARCH, tmp_path / "plain.jsonl")
    marks = {tuple(example.source_ids): example.target_ids[-2] for example in best.examples}

    def translate(source, number):
        good = translation(source, number)
        return good[:-1] if good[-2] == marks[tuple(source)] else good

    made = pseudo_targets(Toy(translate=translate), sources, SEARCH, tmp_path / "spoilt.jsonl")
    assert made.dropped["unfinished"] == 40
    assert made.kept == list(range(40))
    for example in made.examples:
        scores = {
            k: log_probability(example.source_ids, translation(example.source_ids, k)) for k in range(3)
        }
        second = sorted(scores, key=scores.__getitem__)[1]
        assert example.target_ids == translation(example.source_ids, second)


@pytest.mark.parametrize("length_penalty", [None, 0.0, 1.0, 3.0])
def test_best_is_the_best_at_the_length_penalty_of_the_teacher(tmp_path, length_penalty) -> None:
    def translate(source, number):
        return [*translation(source, number)[:-1], *range(110, 110 + number), EOS]

    teacher, sources = Toy(translate=translate), make_sources(60)
    teacher.generation_config.length_penalty = length_penalty
    made = pseudo_targets(teacher, sources, SEARCH, tmp_path / "file.jsonl")
    power = 1.0 if length_penalty is None else length_penalty
    chosen = []
    for source, example in zip(sources, made.examples, strict=True):
        found = [translate(source, number) for number in range(3)]
        scores = [log_probability(source, ids) / len(ids) ** power for ids in found]
        chosen.append(found.index(example.target_ids))
        assert scores[chosen[-1]] == max(scores)
    mean = sum(chosen) / len(chosen)  # the higher the penalty, the longer the best
    assert (mean < 0.5) if power == 0 else (mean > 1.5) if power == 3 else (0.5 < mean < 1.5)


class Words:
    """Gives back a text: the ids as words."""

    @staticmethod
    def decode(ids, skip_special_tokens):
        return " ".join(f"w{token}" for token in ids if token > EOS)


def test_nearest_is_the_one_with_the_highest_sentence_bleu_of_sacrebleu(tmp_path) -> None:
    draw = random.Random(4)

    def translate(source, number):
        """Candidates of different quality, which one is the best depends on the source."""
        good = translation(source, 0)
        place = (sum(source) + number) % 3
        return [*(token if i % 5 > place else 140 + number for i, token in enumerate(good[:-1])), EOS]

    sources = [ids for ids in make_sources(80, seed=4) if len(ids) > 3]
    draw.shuffle(sources)
    references = [Words.decode(translation(source, 0), True) for source in sources]
    made = pseudo_targets(
        Toy(translate=translate),
        sources,
        SEARCH,
        tmp_path / "file.jsonl",
        targets="nearest",
        references=references,
        tokenizer=Words(),
    )
    assert made.kept == list(range(len(sources)))
    numbers = set()
    for source, reference, example in zip(sources, references, made.examples, strict=True):
        texts = [Words.decode(translate(source, number), True) for number in range(3)]
        scores = [sacrebleu.sentence_bleu(text, [reference]).score for text in texts]
        assert scores[texts.index(Words.decode(example.target_ids, True))] == max(scores)
        numbers.add(texts.index(Words.decode(example.target_ids, True)))
    assert numbers == {0, 1, 2}


def test_of_equally_near_ones_the_more_probable_is_taken(tmp_path) -> None:
    sources = make_sources(30, seed=6)
    references = ["nothing alike"] * 30
    best = pseudo_targets(Toy(), sources, SEARCH, tmp_path / "file.jsonl")
    near = pseudo_targets(
        Toy(),
        sources,
        SEARCH,
        tmp_path / "file.jsonl",
        targets="nearest",
        references=references,
        tokenizer=Words(),
    )
    assert near.examples == best.examples


@pytest.mark.parametrize(
    ("options", "search", "message"),
    [
        ({"targets": "worst"}, SEARCH, "targets: got 'worst', expected one of best, all, nearest"),
        ({"targets": "all"}, Search(num_beams=3), "candidates: got 1 with targets='all'"),
        ({"targets": "nearest", "tokenizer": Words()}, SEARCH, "references: got None, expected 10"),
        (
            {"targets": "nearest", "tokenizer": Words(), "references": ["a"] * 9},
            SEARCH,
            "references: got 9, expected 10",
        ),
        ({"targets": "nearest", "references": ["a"] * 10}, SEARCH, "tokenizer: got None"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused_before_anything_is_translated(
    tmp_path, options, search, message
) -> None:
    teacher = Toy()
    with pytest.raises(ValueError, match=f"^{message}"):
        pseudo_targets(teacher, make_sources(10), search, tmp_path / "file.jsonl", **options)
    assert not teacher.batches
    assert not list(tmp_path.iterdir())


def test_a_batch_counts_its_beams_and_its_samples() -> None:
    sources = make_sources(60)
    for search in (
        Search(num_beams=4, candidates=2, tokens_per_batch=400),
        Search(sample=True, candidates=4, tokens_per_batch=400),
    ):
        teacher = Toy()
        found = {}
        for batch in generate_candidates(teacher, sources, search):
            found |= batch
        assert {len(candidates) for candidates in found.values()} == {search.candidates}
        assert all(4 * rows * length <= 400 for rows, length in teacher.batches)
        assert max(4 * rows * length for rows, length in teacher.batches) > 300


@pytest.mark.parametrize("options", [{"candidates": 0}, {"candidates": 2}, {"candidates": 5, "num_beams": 4}])
def test_more_candidates_than_beams_are_refused(options) -> None:
    with pytest.raises(ValueError, match=f"^candidates: got {options['candidates']} with num_beams"):
        Search(**options)


def test_another_runtime_gives_one_candidate() -> None:
    runtime = SimpleNamespace(search_batch=lambda sources, search: [[7, EOS] for _ in sources])
    assert search_candidates(runtime, [[5, EOS], [6, EOS]], Search()) == [[[7, EOS]], [[7, EOS]]]
    with pytest.raises(ValueError, match=r"^candidates: got 2, expected 1"):
        search_candidates(runtime, [[5, EOS]], Search(num_beams=2, candidates=2))


# What follows runs a model of transformers' own.


@pytest.fixture(scope="module")
def tokenizer():
    pairs = Phrasebook("small").sample(60, seed=1)
    return train_tokenizer([line for pair in pairs for line in (pair.source, pair.target)], 300)


def marian(tokenizer, eos_bias: float):
    """Untrained, so its sentences are noise; the bias makes them end, or never end."""
    model = new_model(
        Architecture(d_model=16, encoder_layers=1, decoder_layers=1, ffn=32, heads=2), tokenizer, 3
    )
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
        model.final_logits_bias[:, EOS] = eos_bias
    return model.eval()


@pytest.mark.parametrize("length_penalty", [None, 0.0, 1.0, 2.0])
def test_log_probabilities_are_the_scores_that_transformers_ranks_a_beam_by(
    tokenizer, tmp_path, length_penalty
) -> None:
    """Sign, length (with eos, without the start token) and order, for sources that are padded in one batch."""
    model = marian(tokenizer, 8.0)
    model.generation_config.length_penalty = length_penalty
    sources = [[*range(20, 20 + length), EOS] for length in (3, 6, 9, 12)]
    search = Search(num_beams=6, candidates=5)
    off = Filters(length_ratio=None, repetitions=None, copied_share=None)
    made = pseudo_targets(model, sources, search, tmp_path / "file.jsonl", targets="all", filters=off)
    records = [json.loads(line) for line in (tmp_path / "file.jsonl").read_text().splitlines()[1:]]
    assert len(records) == 1
    order = [index for index, _ in records[0]["targets"]]
    longest = max(map(len, sources))
    input_ids = torch.tensor([sources[i] + [PAD] * (longest - len(sources[i])) for i in order])
    mask = torch.tensor([[1] * len(sources[i]) + [0] * (longest - len(sources[i])) for i in order])
    output = model.generate(
        input_ids=input_ids,
        attention_mask=mask,
        num_beams=6,
        num_return_sequences=5,
        max_length=2 * longest + 11,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    theirs = iter(zip(output.sequences[:, 1:].tolist(), output.sequences_scores.tolist(), strict=True))
    penalty = 1.0 if length_penalty is None else length_penalty
    lengths = set()
    for _, candidates in records[0]["targets"]:
        for ids, score in candidates:
            row, normalised = next(theirs)
            assert row[: len(ids)] == ids
            assert normalised < 0
            assert score / len(ids) ** penalty == pytest.approx(normalised, abs=1e-4)
            lengths.add(len(ids))
    assert len(lengths) > 2
    finished = [
        len([ids for ids, _ in found if ids[-1] == EOS and len(ids) > 1])
        for _, found in records[0]["targets"]
    ]
    assert len(made.examples) == sum(finished)


@pytest.mark.parametrize("forced", [None, EOS])
def test_a_translation_that_the_limit_cut_is_unfinished_though_the_model_forces_an_eos(
    tokenizer, tmp_path, forced
) -> None:
    """Marian models of the hub end every translation at the limit in an eos."""
    model = marian(tokenizer, -1e4)
    model.generation_config.forced_eos_token_id = forced
    sources = [[20, 21, EOS], [22, EOS]]
    for number, search in enumerate((Search(), Search(num_beams=2, candidates=2), Search(sample=True))):
        with pytest.raises(ValueError, match=rf"unfinished {2 * search.candidates}\)"):
            pseudo_targets(model, sources, search, tmp_path / f"{number}.jsonl")


def test_samples_are_drawn_anew_for_each_candidate_and_follow_the_seed(tokenizer, tmp_path) -> None:
    model = marian(tokenizer, 6.0)
    sources = [[*range(20, 20 + length), EOS] for length in range(3, 13)]
    search = Search(sample=True, candidates=4, seed=1, tokens_per_batch=200)
    off = Filters(length_ratio=None, repetitions=None, copied_share=None)
    whole = pseudo_targets(model, sources, search, tmp_path / "whole.jsonl", targets="all", filters=off)
    for index in set(whole.kept):
        found = {tuple(e.target_ids) for i, e in zip(whole.kept, whole.examples, strict=True) if i == index}
        assert len(found) > 1
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) > 3
    (tmp_path / "cut.jsonl").write_text("".join(lines[:3]))
    again = pseudo_targets(model, sources, search, tmp_path / "cut.jsonl", targets="all", filters=off)
    assert again.examples == whole.examples
    first = {}
    for batch in generate(model, sources, search):
        first |= batch
    made = {}
    for batch in generate_candidates(model, sources, search):
        made |= batch
    assert first == {index: candidates[0] for index, candidates in made.items()}


# Filters.


@pytest.mark.parametrize(
    ("source", "target", "caught"),
    [
        ([10, 11, 12], [20, 21, 22], None),
        ([10, 11, 12], [], "empty"),
        ([10], [20, 21, 22, 23, 24, 25, 26], None),  # short ones may be many times as long
        ([10], [20, 21, 22, 23, 24, 25, 26, 27], "length"),
        (list(range(10, 36)), list(range(40, 50)), "length"),
        (list(range(10, 35)), list(range(40, 50)), None),
        ([10, 11, 11, 12], [20, 21, 21, 22], None),  # very, very
        ([10, 11, 12], [20, 21, 21, 21, 21, 21, 22], None),
        ([10, 11, 12, 13], [20, 21, 21, 21, 21, 21, 21, 22], "repetition"),
        ([10, *[11] * 8, 12], [20, *[21] * 8, 22], None),  # the source says it as often
        ([10, 11, 12, 13, 14], [20, 21, 22, 20, 21, 22, 20, 21, 22, 20, 21, 22], "repetition"),
        (list(range(10, 20)), [*range(40, 45)] * 3, "repetition"),
        (list(range(10, 20)), [*range(40, 45)] * 2, None),
        (list(range(10, 20)), list(range(10, 20)), "copy"),
        (list(range(10, 20)), [*range(10, 18), 40], "copy"),  # all but a word: 7 of 8 pairs
        (list(range(10, 20)), [*range(10, 17), 40, 41], "copy"),  # 6 of 8
        (list(range(10, 20)), [*range(10, 16), 40, 41, 42], None),  # 5 of 8: a name of six tokens
        (list(range(10, 17)), list(range(10, 17)), None),  # short: a greeting, a name
        (list(range(10, 20)), list(range(19, 9, -1)), None),  # the same words in another order
    ],
)
def test_filters_catch_what_they_say_and_let_good_ones_through(source, target, caught) -> None:
    assert Filters().caught([*source, EOS], [*target, EOS], EOS) == caught
    assert Filters().caught([*source, EOS], target, EOS) == "unfinished"


def test_the_first_filter_that_catches_is_the_one_that_counts() -> None:
    looped_copy = [10, 11] * 20
    assert Filters().caught([10, 11, EOS], [*looped_copy, EOS], EOS) == "length"
    assert Filters(length_ratio=None).caught([10, 11, EOS], [*looped_copy, EOS], EOS) == "repetition"
    copy = Filters(length_ratio=None, repetitions=None)
    assert copy.caught([*[10, 11] * 18, EOS], [*looped_copy, EOS], EOS) == "copy"


def test_counts_are_those_of_a_plain_search_through_both_sentences() -> None:
    draw = random.Random(1)

    def occurrences(ids, n):
        return [
            sum(ids[j : j + n] == ids[i : i + n] for j in range(len(ids) - n + 1))
            for i in range(len(ids) - n + 1)
        ]

    for _ in range(300):
        source, target = ([draw.randint(2, 4) for _ in range(draw.randint(0, 25))] for _ in range(2))
        most = [max(occurrences(ids, 4), default=1) for ids in (source, target)]
        assert max(0, extra_repetitions(source, target)) == max(0, most[1] - most[0])
        left = [source[i : i + 2] for i in range(len(source) - 1)]
        pairs = [target[i : i + 2] for i in range(len(target) - 1)]
        found = 0
        for pair in pairs:
            if pair in left:
                left.remove(pair)
                found += 1
        assert copied_share(source, target) == pytest.approx(found / max(1, len(pairs)))


@pytest.mark.parametrize(
    "options",
    [
        {"length_ratio": 0.5},
        {"length_ratio": math.nan},
        {"length_slack": -1},
        {"repetitions": 0},
        {"copied_share": 0.0},
        {"copied_share": 1.5},
        {"copy_tokens": -1},
    ],
)
def test_thresholds_out_of_range_are_refused(options) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name}: got"):
        Filters(**options)


def test_the_sets_that_the_command_names() -> None:
    assert filters_called("default") == Filters()
    pairs = [([5] * 4, [9] * 40), ([5, 6], [8, 9] * 4), (list(range(10, 20)), list(range(10, 20))), ([5], [])]
    for name, expected in (
        ("default", ["length", "repetition", "copy", "empty"]),
        ("none", [None, None, None, "empty"]),
    ):
        filters = filters_called(name)
        assert [filters.caught([*s, EOS], [*t, EOS], EOS) for s, t in pairs] == expected
        assert filters.caught([5, EOS], [9, 8], EOS) == "unfinished"
    with pytest.raises(ValueError, match="filters: got 'some', expected one of default, none"):
        filters_called("some")


@pytest.mark.parametrize("vocabulary", [300, 1200])
def test_filters_drop_next_to_none_of_the_phrasebooks_own_translations(vocabulary) -> None:
    pairs = Phrasebook("full").sample(2000, seed=11)
    tokenizer = train_tokenizer([line for pair in pairs for line in (pair.source, pair.target)], vocabulary)
    sources = encode_sources(tokenizer, [pair.source for pair in pairs], 256)
    targets = encode_targets(tokenizer, [pair.target for pair in pairs], 256)
    caught = [Filters().caught(s, t, EOS) for s, t in zip(sources, targets, strict=True)]
    assert sum(name is not None for name in caught) / len(pairs) < 0.005
    copies = [Filters().caught(s, s, EOS) for s in sources if len(s) > 8]
    assert copies.count("copy") == len(copies) > 500
