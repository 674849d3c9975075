"""A teacher's cache on disk, against the teacher itself in float64 and against what can go wrong with files."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import kdlab
from kdlab.cache import TeacherCache, build_cache
from kdlab.cache_folder import identity
from kdlab.evaluation import distance_to_teacher
from kdlab.profiles import Recipe
from kdlab.shards import Keep
from kdlab.students import Architecture, new_model
from kdlab.teachers import CachedTeacher, EnsembleTeacher, LiveTeacher, PhrasebookTeacher
from kdlab.text.batches import Example, collate
from kdlab.text.phrasebook import Phrasebook
from kdlab.text.tokenizers import train_tokenizer
from kdlab.training import TrainingData, train
from tests.unit.small_text import small_text

TINY = Architecture(d_model=16, encoder_layers=1, decoder_layers=1, ffn=32, heads=2, dropout=0.0)
ROOT = Path(__file__).resolve().parents[2]
HALF = 2**-11  # the largest relative error of rounding to float16


def make_text():
    return small_text(pairs=40, vocabulary=320)


def make_teacher(tokenizer, seed=0):
    """Untrained, its output layer scaled so that its distributions are as sharp as a trained one's."""
    model = new_model(TINY, tokenizer, seed)
    model.final_logits_bias.normal_(std=2.0, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
    return LiveTeacher(model)


@pytest.fixture(scope="module")
def text():
    return make_text()


@pytest.fixture(scope="module")
def tokenizer(text):
    return text.tokenizer


@pytest.fixture(scope="module")
def examples(text):
    return text.examples


@pytest.fixture(scope="module")
def teacher(tokenizer):
    return make_teacher(tokenizer)


@pytest.fixture
def build(tmp_path, teacher, tokenizer, examples):
    def build(keep=None, folder="cache", **options):
        options = {"teacher": teacher, "tokenizer": tokenizer, "examples": examples} | options
        return build_cache(tmp_path / folder, keep=keep, **{"examples_per_shard": 7} | options)

    return build


def dense(teacher, example):
    """log p of every target token of one example on its own, [tokens, vocabulary], float64."""
    batch = collate([example], pad_token_id=0, decoder_start_token_id=0)
    return teacher(batch)[0].double().log_softmax(-1)


# --- what is kept -------------------------------------------------------------------------------------------


def test_the_whole_vocabulary_comes_back_to_half_precision(build, teacher, tokenizer, examples):
    vocabulary = len(tokenizer)
    cache = build(Keep(k=vocabulary, min_probability=0.0))
    for index in (0, 6, 7, 39):
        expected = dense(teacher, examples[index])
        found = cache.read([index])
        assert found.indices.sort(-1).values.tolist() == [list(range(vocabulary))] * len(expected)
        assert (found.tail_log_probability == -math.inf).all()
        log_p = torch.empty_like(expected).scatter(-1, found.indices, found.log_probabilities.double())
        # A value is rounded relative to its distance from the largest, and all are normalised by less than that.
        allowed = HALF * (expected.max(-1, keepdim=True).values - expected) + 2e-3 * HALF * vocabulary
        assert ((log_p - expected).abs() <= allowed).all()
        kl = (expected.exp() * (expected - log_p)).sum(-1)
        assert kl.max() < 1e-6
        assert kl.abs().max() > 0  # it went through float16


@pytest.mark.parametrize(("k", "least"), [(8, 0.0), (300, 1e-2), (12, 3e-3)])
def test_entries_are_the_most_probable_and_the_tail_is_the_rest(build, teacher, examples, k, least):
    cache = build(Keep(k=k, min_probability=least))
    for index in range(40):
        p = dense(teacher, examples[index]).exp()
        found = cache.read([index])
        for row, known, log_p, tail in zip(
            p, found.indices, found.log_probabilities, found.tail_log_probability, strict=True
        ):
            order = row.argsort(descending=True)
            count = max(1, min(k, int((row >= least).sum())))
            assert known.tolist() == order[:count].tolist() + [-1] * (len(known) - count)
            torch.testing.assert_close(log_p[:count].exp().double(), row[order[:count]], rtol=5e-3, atol=0.0)
            assert (log_p[count:] == -math.inf).all()
            assert tail.exp().item() == pytest.approx(1 - row[order[:count]].sum().item(), rel=5e-3, abs=1e-6)
        total = found.events().double().exp().sum(-1)
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0.0, atol=1e-6)


def test_temperature(build, teacher, examples):
    cache = build(Keep(k=5, min_probability=0.0, temperature=2.0))
    found = cache.read([3])
    assert found.temperature == 2.0
    expected = (dense(teacher, examples[3]) / 2).softmax(-1).topk(5).values
    torch.testing.assert_close(found.log_probabilities.exp().double(), expected, rtol=5e-3, atol=0.0)


def test_an_entry_takes_four_bytes(build, examples):
    cache = build(Keep(k=9, min_probability=0.0))
    tokens = sum(len(example.target_ids) for example in examples)
    stored = sum(path.stat().st_size for path in cache.folder.glob("*.bin"))
    assert stored == tokens * (9 * (2 + 2) + 1) + len(examples) * 4
    assert cache.bytes_on_disk > stored  # the records count too
    assert sorted(path.suffix for path in cache.folder.iterdir()) == [".bin"] * 6 + [".json"] * 7


class Wide:
    """A teacher of 70,000 entries: the next token is the last one for sure, or nearly."""

    vocabulary = 70_000

    def __call__(self, batch):
        logits = torch.zeros(*batch["labels"].shape, self.vocabulary)
        logits[..., -1], logits[..., 65_540] = 30.0, 29.0
        return logits

    def fingerprint(self):
        return "wide"


def test_a_large_vocabulary_has_wider_indices(build, examples):
    found = build(Keep(k=2, min_probability=0.0), teacher=Wide(), examples=examples[:3]).read([2])
    assert found.indices.unique(dim=0).tolist() == [[69_999, 65_540]]
    assert found.vocabulary == 70_000


# --- order --------------------------------------------------------------------------------------------------


def test_batches_come_in_any_order(build, teacher, tokenizer, examples):
    """Rows beside the live teacher's, over shards, with an example that comes twice; padding is no NaN."""
    student = CachedTeacher(build(Keep(k=len(tokenizer), min_probability=0.0)))
    for ids in ([0], [39, 0, 13, 14, 7, 0], list(range(39, -1, -3))):
        batch = collate([examples[i] for i in ids], pad_token_id=0, decoder_start_token_id=0, example_ids=ids)
        counted = batch["labels"] != -100
        live, found = teacher(batch).log_softmax(-1), student(batch)
        assert found.indices.shape == live.shape
        log_p = torch.zeros_like(live).scatter(-1, found.indices.clamp_min(0), found.log_probabilities)
        torch.testing.assert_close(log_p[counted].exp(), live[counted].exp(), rtol=0.0, atol=1e-3)
        assert not found.events().isnan().any()
        assert (found.events().logsumexp(-1).abs() < 1e-5).all()


def test_a_batch_that_does_not_fit_the_cache_is_refused(build, examples):
    cached = CachedTeacher(build(Keep(k=4)))

    def ask(rows, ids):
        picked = [examples[i] for i in rows]
        cached(collate(picked, pad_token_id=0, decoder_start_token_id=0, example_ids=ids))

    longer = next(i for i in range(40) if len(examples[i].target_ids) != len(examples[0].target_ids))
    ask([0, longer], [0, longer])
    with pytest.raises(ValueError, match=r"example_ids: got 40, expected 0 to 39"):
        ask([0], [40])
    with pytest.raises(ValueError, match=r"labels: got \d+ target tokens for example \d+, expected \d+"):
        ask([0, longer], [longer, 0])
    with pytest.raises(ValueError, match=r"batch: got .*, expected example_ids too"):
        ask([0], None)
    with pytest.raises(ValueError, match=r"example_ids: got 1, expected 2"):
        ask([0, 1], [0])


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 0.25, 0.5, 0.75, 1])
def test_a_flipped_byte_is_found_and_mended(build, place):
    cache = build(Keep(k=8))
    file = cache.folder / "shard-00002.bin"
    whole = file.read_bytes()
    at = round(place * (len(whole) - 1))
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(ValueError, match=r"shard-00002\.bin: its bytes have changed .* shard-00002\.json"):
        TeacherCache(cache.folder)
    (cache.folder / "shard-00002.json").unlink()
    build(Keep(k=8))
    assert file.read_bytes() == whole


def test_checksums_can_be_left_out(build):
    folder = build(Keep(k=8)).folder
    file = folder / "shard-00000.bin"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    TeacherCache(folder, verify=False)


@pytest.mark.parametrize("verify", [True, False])
def test_a_cut_file_is_found(build, verify):
    folder = build(Keep(k=8)).folder
    file = folder / "shard-00005.bin"
    size = file.stat().st_size
    os.truncate(file, size - 1)
    with pytest.raises(ValueError, match=rf"shard-00005\.bin: got {size - 1} bytes, expected {size}"):
        TeacherCache(folder, verify=verify)
    file.unlink()
    with pytest.raises(ValueError, match=r"shard-00005\.bin: got 0 bytes"):
        TeacherCache(folder, verify=verify)


def test_what_differs_is_named(build, teacher, tokenizer, examples):
    keep = Keep(k=8)
    folder = build(keep).folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    given = {"teacher": teacher, "tokenizer": tokenizer, "examples": examples, "keep": keep}
    assert len(TeacherCache(folder, expected=identity(**given))) == 40
    others = {
        "teacher": {"teacher": make_teacher(tokenizer, seed=1)},
        "tokenizer": {"tokenizer": train_tokenizer(["one two three four"], 300)},
        "data": {"examples": [*examples[:39], Example(examples[39].source_ids, [7, 1])]},
        "k": {"keep": Keep(k=9)},
        "min_probability": {"keep": Keep(k=8, min_probability=0.0)},
        "temperature": {"keep": Keep(k=8, temperature=2.0)},
    }
    for name, other in others.items():
        wrong = identity(**given | other)
        with pytest.raises(
            ValueError, match=rf"made from something else: {name} is \S+, expected \S+\. Build"
        ):
            TeacherCache(folder, expected=wrong)
        with pytest.raises(ValueError, match=rf"made from something else: {name} is"):
            build(**given | other)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"} == before


def test_tokens_that_moved_are_other_data(examples):
    source, target = examples[0].source_ids, examples[0].target_ids
    firsts = [
        Example([*source, 9], target),
        Example([source[1], source[0], *source[2:]], target),
        Example([*source, target[0]], target[1:]),
        Example(target, source),
    ]
    others = [[first, *examples[1:]] for first in firsts]
    swapped = [examples[1], examples[0], *examples[2:]]
    names = {identity(examples=part)["data"] for part in (examples, *others, swapped, examples[:39])}
    assert len(names) == 7


def test_a_cache_that_is_not_there_or_not_finished(build, tmp_path):
    with pytest.raises(FileNotFoundError, match="no cache in"):
        TeacherCache(tmp_path / "nowhere")
    folder = build(Keep(k=4)).folder
    (folder / "shard-00003.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"not finished \(shard-00003\.json is missing\)"):
        TeacherCache(folder)


def test_what_cannot_be_cached(build, teacher, tokenizer, examples, tmp_path):
    size = len(tokenizer)
    with pytest.raises(ValueError, match=rf"k: got {size + 1}, expected 1 to {size}"):
        build(Keep(k=size + 1))
    with pytest.raises(ValueError, match="teacher: got a PhrasebookTeacher, expected one that has"):
        build(teacher=PhrasebookTeacher(Phrasebook("small"), tokenizer))
    with pytest.raises(ValueError, match="examples: got none"):
        build(examples=[])
    assert not (tmp_path / "cache").exists()  # nothing is written before the trial
    broken = make_teacher(tokenizer)
    with torch.no_grad():
        broken.model.lm_head.weight[5, 0] = math.nan
    with pytest.raises(ValueError, match="teacher: got NaN"):
        build(Keep(k=4), teacher=broken)
    for wrong in ({"k": 0}, {"min_probability": 1.0}, {"min_probability": -0.1}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}: got"):
            Keep(**wrong)


def test_an_ensemble_can_be_cached(build, teacher, tokenizer, examples):
    pair = EnsembleTeacher([teacher, make_teacher(tokenizer, seed=1)], weights=[3, 1])
    found = build(Keep(k=6, min_probability=0.0), teacher=pair).read([5])
    p = sum(
        w * dense(member, examples[5]).exp() for w, member in zip((0.75, 0.25), pair.members, strict=True)
    )
    torch.testing.assert_close(found.log_probabilities.exp().double(), p.topk(6).values, rtol=5e-3, atol=0.0)


# --- kills and company --------------------------------------------------------------------------------------

BUILD = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.unit import test_cache as t
log, hang_at, company = Path({log!r}), {hang_at}, {company}
class Watched(t.LiveTeacher):
    def __call__(self, batch):
        if len(batch["labels"]) > 1:  # not the trial with one example
            with log.open("a") as lines:
                lines.write(str(os.getpid()) + "\\n")
            while len(log.read_text().split()) >= hang_at or len(set(log.read_text().split())) < company:
                time.sleep(0.01)
        return super().__call__(batch)
text = t.make_text()
teacher = Watched(t.make_teacher(text.tokenizer).model)
t.build_cache(Path({folder!r}), teacher, text.tokenizer, text.examples, t.Keep(k=8), examples_per_shard=5)
"""


def start_build(folder, hang_at=99, company=1):
    """Another process that builds the cache of 8 shards. It hangs in shard number `hang_at` (from 1), and goes on from
    its first shard only when so many processes are at work."""
    log = folder.with_suffix(".log")
    script = BUILD.format(root=str(ROOT), folder=str(folder), log=str(log), hang_at=hang_at, company=company)
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_killed_in_the_middle_and_resumed(build, tmp_path):
    whole = build(Keep(k=8), folder="whole", examples_per_shard=5).folder
    killed = tmp_path / "killed"
    process = start_build(killed, hang_at=4)
    deadline = time.monotonic() + 60
    while not (killed / "shard-00002.json").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    made = sorted(killed.glob("*.bin"))
    assert len(made) == 3
    with pytest.raises(FileNotFoundError, match="not finished"):
        TeacherCache(killed)
    before = {path: path.stat().st_mtime_ns for path in made}
    # What a kill at other moments leaves: data without a record, and half of a file.
    (killed / "shard-00006.bin").write_bytes(b"half")
    (killed / "shard-00007.part").write_bytes(b"half")
    build(Keep(k=8), folder="killed", examples_per_shard=99)  # the cache keeps its own size of shards
    assert contents(killed) == contents(whole)
    assert all(path.stat().st_mtime_ns == before[path] for path in before)


def test_two_processes_share_the_work(build, tmp_path):
    whole = build(Keep(k=8), folder="whole", examples_per_shard=5).folder
    shared = tmp_path / "shared"
    both = [start_build(shared, company=2) for _ in range(2)]
    for process in both:
        errors = process.communicate(timeout=100)[1]
        assert process.returncode == 0, errors
    assert contents(shared) == contents(whole)
    calls = shared.with_suffix(".log").read_text().split()
    assert len(calls) == 8  # each shard once
    assert sorted(set(calls)) == sorted(str(process.pid) for process in both)


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("divergence", ["forward_kl", "generalized_jsd"])
def test_the_gradient_is_that_of_the_live_teacher(build, teacher, tokenizer, examples, divergence):
    cached = CachedTeacher(build(Keep(k=len(tokenizer), min_probability=0.0)))
    ids = [31, 2, 17, 8]
    batch = collate([examples[i] for i in ids], pad_token_id=0, decoder_start_token_id=0, example_ids=ids)
    slopes = []
    for source in (teacher, cached):
        model = new_model(TINY, tokenizer, 5)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
        logits = model(**inputs).logits
        kdlab.distillation_loss(logits, source(batch), batch["labels"], divergence=divergence).backward()
        slopes.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    live, from_cache = slopes
    assert (live - from_cache).norm() < 1e-3 * live.norm()


def test_a_run_from_the_cache_is_a_run_with_the_teacher(build, teacher, tokenizer, examples, tmp_path):
    """Training and validation batches, shuffled by the schedule, through the Distiller."""
    data = TrainingData(examples[:30], examples[30:])
    recipe = Recipe(updates=3, tokens_per_batch=150, learning_rate=1e-3, warmup=1, evaluations=3)
    cached = CachedTeacher(build(Keep(k=len(tokenizer), min_probability=0.0), examples=data.examples))
    curves = []
    for name, source in (("live", teacher), ("cached", cached)):
        student = new_model(TINY, tokenizer, 5)
        record = train(student, tokenizer, data, recipe, tmp_path / name, seed=0, teacher=source)
        curves.append([loss for _, loss in record["validation_curve"]])
        # The student is left with its best checkpoint, and what chose it were the validation examples.
        direct = distance_to_teacher(student, teacher, data.validation)["kl_to_teacher"]
        assert min(curves[-1]) == pytest.approx(direct, rel=1e-4)
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    manifest = json.loads((cached.cache.folder / "manifest.json").read_text())
    assert manifest["examples"] == 40
