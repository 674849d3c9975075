"""Counts against torch's own counter of operations on the running model, and against the files that are written."""

from __future__ import annotations

import importlib.util
from itertools import pairwise

import pytest
import torch
from safetensors import safe_open
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel, MarianMTModel

from kdlab.counts import Counts, Part, count, sketch
from kdlab.student_init import copied_student
from kdlab.students import Architecture, count_parameters, marian_config, new_model
from tests.unit.kinds import DECODER_ONLY, ENCODER_DECODER, KINDS, teacher_of

SLIDING = "qwen2-sliding"
COUNTED = [kind for kind in KINDS if kind != SLIDING]


def plain(kind):
    """With attention in plain matrix products, which the counter sees on a CPU."""
    model = teacher_of(kind)
    model.set_attn_implementation("eager")
    return model


def pair(model, batch, source_length, target_length):
    tokens = torch.randint(2, 44, (batch, source_length + target_length))
    if not model.config.is_encoder_decoder:
        return {"input_ids": tokens, "labels": tokens}
    labels = tokens[:, source_length:].contiguous()
    return {
        "input_ids": tokens[:, :source_length],
        "labels": labels,
        "decoder_input_ids": labels,
    }


@pytest.mark.parametrize(("source", "target"), [(1, 1), (9, 4), (5, 11)])
@pytest.mark.parametrize("kind", COUNTED)
def test_forward_and_training_are_what_torch_counts(kind, source, target):
    model = plain(kind).train()
    batch = pair(model, 2, source, target)
    with FlopCounterMode(display=False) as forward:
        output = model(**batch, use_cache=False)
    with FlopCounterMode(display=False) as backward:
        output.loss.backward()
    counts = count(model)
    assert forward.get_total_flops() == 2 * counts.forward(source, target)
    both = forward.get_total_flops() + backward.get_total_flops()
    assert both == 2 * counts.training(source, target)


@pytest.mark.parametrize(("source", "target"), [(1, 1), (9, 4), (5, 11)])
@pytest.mark.parametrize("kind", COUNTED)
def test_greedy_with_a_cache_is_what_torch_counts(kind, source, target):
    model = plain(kind)
    tokens = torch.randint(2, 44, (1, source))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made = model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            min_new_tokens=target,
            max_new_tokens=target,
        )
    assert made.shape[1] == target + (1 if kind in ENCODER_DECODER else source)
    assert counter.get_total_flops() == count(model).greedy(source, target)


@pytest.mark.parametrize("kind", ENCODER_DECODER)
def test_tokens_make_up_the_passes(kind):
    """One token of each side, by torch: the growth of a pass with one more of them, quadratic part and all."""
    model, counts = plain(kind), count(plain(kind))

    def encoder(length):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.get_encoder()(input_ids=torch.full((1, length), 3))
        return counter.get_total_flops()

    cross = 2 * counts.decoder.source_weights
    for length in (1, 6):
        assert encoder(length) == length * (counts.source_token(length) - cross)
    steps = [counts.greedy(7, target) for target in range(1, 6)]
    for seen, (before, after) in enumerate(pairwise(steps), start=2):
        assert after - before == counts.target_token(7, seen)


def formula(config, vocabulary):
    """A Marian model by hand: weights and biases of its matrices, norms, one embedding."""
    d, f = config.d_model, config.encoder_ffn_dim
    attention, feed, norm = 4 * (d * d + d), 2 * d * f + f + d, 2 * d
    encoder = config.encoder_layers * (attention + feed + 2 * norm)
    decoder = config.decoder_layers * (2 * attention + feed + 3 * norm)
    return encoder, decoder, vocabulary * d


@pytest.mark.parametrize("size", [(16, 1, 1, 32), (24, 3, 2, 40), (64, 6, 1, 256)])
def test_a_marian_model_by_hand(size):
    config = marian_config(Architecture(*size), 100)
    counts = count(sketch(MarianMTModel, config))
    encoder, decoder, embedding = formula(config, 100)
    found = counts.encoder.parameters, counts.decoder.parameters, counts.rest.parameters
    assert found == (encoder, decoder, embedding)
    assert counts.layer_parameters == encoder + decoder
    d, f, source, target = config.d_model, config.encoder_ffn_dim, 11, 5
    encoding = 2 * source * (4 * d * d + 2 * d * f + 2 * source * d) * config.encoder_layers
    keys = 2 * source * 2 * d * d * config.decoder_layers
    each = 2 * (6 * d * d + 2 * d * f + 2 * d * target + 2 * d * source) * config.decoder_layers
    assert counts.forward(source, target) == encoding + keys + target * (each + 2 * 100 * d)


@pytest.mark.parametrize("kind", COUNTED)
def test_parameters_and_bytes_are_those_of_the_file(kind, tmp_path):
    model = teacher_of(kind)
    counts = count(model)
    assert counts.parameters == count_parameters(model)
    for bits, dtype in ((32, torch.float32), (16, torch.float16)):
        model.to(dtype).save_pretrained(tmp_path)
        with safe_open(tmp_path / "model.safetensors", "pt") as file:
            stored = sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118
        assert counts.bytes(bits) == stored
    assert count(model) == counts  # entries, whatever their type


@pytest.mark.parametrize("kind", COUNTED)
def test_eight_bits_are_the_matrices_and_their_scales(kind):
    """Counted by hand from the file's shapes: two axes are a matrix, but for positions."""
    model = teacher_of(kind)
    matrices = scales = rest = 0
    seen = set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() in seen or (kind.startswith("marian") and "embed_positions" in name):
            continue
        seen.add(tensor.data_ptr())
        if tensor.dim() == 1 or any(
            part in name for part in ("positions", "wpe", "relative", "final_logits")
        ):
            rest += tensor.numel()
        else:
            matrices += tensor.numel()
            is_turned = kind == "gpt2" and ".h." in name
            scales += tensor.shape[1] if is_turned else tensor.shape[0]
    assert count(model).bytes(8) == matrices + 4 * (scales + rest)
    fixed = 4 * 64 * 24 if kind.startswith("marian") else 0
    for bits in (8, 16, 32):
        assert count(model).bytes(bits, positions=True) == count(model).bytes(bits) + fixed


@pytest.mark.skipif(importlib.util.find_spec("ctranslate2") is None, reason="ctranslate2 not installed")
@pytest.mark.parametrize(("int8", "bits"), [(True, 8), (False, 32)])
def test_bytes_are_those_of_an_export(int8, bits, tmp_path):
    from kdlab.export import export_model
    from kdlab.text.tokenizers import train_tokenizer

    tokenizer = train_tokenizer([f"word{number} and {number * number}" for number in range(300)], 700)
    model = new_model(Architecture(64, 3, 2, 256), tokenizer, seed=0)
    with torch.no_grad():  # no two norms or biases alike: equal ones are written once
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    export_model(model, tokenizer, "ctranslate2", tmp_path / "export", int8=int8)
    written = (tmp_path / "export" / "model.bin").stat().st_size
    counted = count(model).bytes(bits, positions=True)
    variables = (
        12 * 3 + 19 * 2 + 6
    )  # each with its name and shape, some 60 bytes; in 8 bits a scale beside it
    assert 0 < written - counted < 120 * variables


@pytest.mark.parametrize("kind", COUNTED)
def test_depth_follows_from_one_layer(kind):
    teacher = teacher_of(kind)
    one = {"encoder_layers": 1} if kind in ENCODER_DECODER else {}
    shallow = count(copied_student(teacher, decoder_layers=1, **one))
    counts = count(teacher)
    assert shallow.deeper(counts.encoder_layers, counts.decoder_layers) == counts
    assert (counts.encoder_layers, counts.decoder_layers) == (4, 3) if one else (0, 4)


def test_a_sketch_counts_as_the_model_does():
    config = marian_config(Architecture(16, 2, 1, 32), 100)
    light = sketch(MarianMTModel, config)
    assert {parameter.device.type for parameter in light.parameters()} == {"meta"}
    assert count(light) == count(MarianMTModel(config))


def test_decoder_only_has_no_encoder():
    for kind in set(DECODER_ONLY) - {SLIDING}:
        counts = count(teacher_of(kind))
        assert counts.encoder == Part()
        assert counts.decoder.cross_width == counts.decoder.source_weights == 0


def test_what_cannot_be_counted_is_refused():
    bert = BertModel(BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    with pytest.raises(ValueError, match=r"^model: got a BertModel, expected one of MarianMTModel"):
        count(bert)
    with pytest.raises(ValueError, match=r"^model: got layers with sliding attention"):
        count(teacher_of(SLIDING))
    with pytest.raises(ValueError, match=r"^bits: got 4, expected 8, 16 or 32"):
        Counts(Part(), Part(), Part(), 1, 1).bytes(4)
