"""A cache of hidden states, against the teacher itself in float64, and against what can go wrong with its files."""

from __future__ import annotations

import math

import pytest
import torch

from kdlab.cache import build_cache
from kdlab.fused_step import FusedStep
from kdlab.hidden_cache import CachedHiddenTeacher, HiddenCache, build_hidden_cache
from kdlab.hidden_shards import KeepHidden, PackedHidden
from kdlab.losses import DistillationLoss
from kdlab.model_io import target_labels
from kdlab.profiles import Recipe
from kdlab.shards import Keep
from kdlab.smoothed_teacher import SmoothedTeacher
from kdlab.students import new_model
from kdlab.teachers import EnsembleTeacher, LiveTeacher
from kdlab.text.batches import collate
from kdlab.text.causal import collate_causal
from kdlab.training import TrainingData, train
from tests.unit.small_text import small_text
from tests.unit.test_cache import TINY, make_teacher
from tests.unit.tiny_models import EXAMPLES, decoder_only


@pytest.fixture(scope="module")
def text():
    return small_text(pairs=40, vocabulary=320)


@pytest.fixture(scope="module")
def teacher(text):
    return make_teacher(text.tokenizer)


@pytest.fixture
def build(tmp_path, teacher, text):
    def build(keep=None, **options):
        given = {"teacher": teacher, "tokenizer": text.tokenizer, "examples": text.examples} | options
        return build_hidden_cache(tmp_path / "cache", keep=keep, **{"examples_per_shard": 7} | given)

    return build


def batch_of(text, ids):
    examples = [text.examples[i] for i in ids]
    return collate(examples, pad_token_id=0, decoder_start_token_id=0, example_ids=ids)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("width", [1, 5, 16])
def test_rounding_is_at_most_half_a_step(bits, width):
    hidden = torch.randn(50, width, generator=torch.Generator().manual_seed(bits)) * 30
    packed = PackedHidden.of(hidden, bits)
    assert packed.codes.shape == (50, math.ceil(width * bits / 8))
    step = hidden.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    error = (packed.unpack(width, bits) - hidden).abs()
    assert (error <= step / 2 * (1 + 1e-5)).all()
    if width > 1:
        assert error.max() > step.min() / 4  # it is rounded
    parts = packed.split([20, 1, 29])
    assert torch.equal(PackedHidden.joined(parts).unpack(width, bits), packed.unpack(width, bits))


def test_a_token_of_zeros_is_kept():
    assert PackedHidden.of(torch.zeros(2, 3), 6).unpack(3, 6).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize(("bits", "most"), [(8, 1e-3), (6, 2e-2)])
def test_whole_distributions_come_back(build, teacher, text, bits, most):
    cached = CachedHiddenTeacher(build(KeepHidden(bits)))
    ids = [31, 2, 17, 8]
    batch = batch_of(text, ids)
    counted = batch["labels"] != -100
    log_p, log_q = (source(batch)[counted].double().log_softmax(-1) for source in (teacher, cached))
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    assert 1e-9 < kl.mean() < most
    alone = [cached(batch_of(text, [i]))[0] for i in ids]
    for row, of_row in enumerate(alone):  # wherever it stands in a batch
        torch.testing.assert_close(cached(batch)[row, : len(of_row)], of_row, rtol=1e-4, atol=1e-4)


def test_bytes(build, text):
    cache = build(KeepHidden(bits=6))
    tokens = sum(len(example.target_ids) for example in text.examples)
    stored = sum(path.stat().st_size for path in cache.folder.glob("*.bin"))
    assert stored == tokens * (16 * 6 // 8 + 4) + len(text.examples) * 4


def test_decoder_only(tmp_path, text):
    """A family whose logits are scaled, in float64."""
    live = LiveTeacher(decoder_only("Cohere", logit_scale=0.5))
    folder = tmp_path / "prompts"
    build_hidden_cache(folder, live, text.tokenizer, EXAMPLES, KeepHidden(8), decoder_only=True)
    cached = CachedHiddenTeacher(HiddenCache(folder))
    batch = collate_causal([EXAMPLES[3], EXAMPLES[0]], pad_token_id=0, example_ids=[3, 0])
    inside = target_labels(batch) != -100
    known, asked = cached.hidden_logits(batch), live.hidden_logits(batch)
    assert known.scale == asked.scale == 0.5
    step = asked.hidden.abs().max() / 127
    assert ((known.hidden - asked.hidden)[inside].abs() <= step).all()
    torch.testing.assert_close(cached(batch)[inside].double(), live(batch)[inside], rtol=0.0, atol=0.1)


def test_a_run_from_the_cache_is_a_run_with_the_teacher(build, teacher, text, tmp_path):
    """From hidden states, as with the live one; and smoothed, from logits."""
    data = TrainingData(text.examples[:30], text.examples[30:])
    recipe = Recipe(updates=3, tokens_per_batch=150, learning_rate=1e-3, warmup=1, evaluations=3)
    cached = CachedHiddenTeacher(build(KeepHidden(8), examples=data.examples))
    student = new_model(TINY, text.tokenizer, 5)
    assert FusedStep.of(student, cached, DistillationLoss(temperature=3.0)).head.vocabulary == len(
        text.tokenizer
    )
    for smooth in (lambda source: source, lambda source: SmoothedTeacher(source, 0.2)):
        curves = []
        for name, source in (("live", teacher), ("cached", cached)):
            folder = tmp_path / f"{name} {len(list(tmp_path.iterdir()))}"
            student = new_model(TINY, text.tokenizer, 5)
            record = train(student, text.tokenizer, data, recipe, folder, seed=0, teacher=smooth(source))
            curves.append([loss for _, loss in record["validation_curve"]])
        assert curves[1] == pytest.approx(curves[0], rel=1e-3)
        assert curves[1] != curves[0]


def test_a_flipped_byte_of_the_output_layer_is_found(build):
    folder = build().folder
    file = folder / "head.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"head\.safetensors: its bytes have changed"):
        HiddenCache(folder)


def test_what_cannot_be_cached(build, teacher, text, tmp_path):
    for bits in (1, 9):
        with pytest.raises(ValueError, match=f"bits: got {bits}, expected 2 to 8"):
            KeepHidden(bits)
    pair = EnsembleTeacher([teacher, make_teacher(text.tokenizer, seed=1)])
    with pytest.raises(
        ValueError, match="teacher: got a EnsembleTeacher, expected one that gives hidden states"
    ):
        build(teacher=pair)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="teacher: got NaN or infinite values among its hidden states"):
            PackedHidden.of(torch.tensor([[1.0, bad]]), 6)
    assert not (tmp_path / "cache").exists()
    build(KeepHidden(6))
    with pytest.raises(ValueError, match="made from something else: bits is 6, expected 7"):
        build(KeepHidden(7))
    with pytest.raises(ValueError, match="made from something else: k is None, expected 8"):
        build_cache(tmp_path / "cache", teacher, text.tokenizer, text.examples, Keep(k=8))
