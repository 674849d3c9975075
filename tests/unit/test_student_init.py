"""Students from a teacher: against the teacher with layers cut out, and nothing of it shared or moved."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from kdlab.student_init import copied_student, fresh_student, spread
from kdlab.students import Architecture, count_parameters, gpt2_config, marian_config, new_model
from kdlab.text.tokenizers import train_tokenizer
from tests.unit.kinds import DECODER_ONLY, ENCODER_DECODER, KINDS, logits, teacher_of

LISTS = {"marian": "model.{}.layers", "bart": "model.{}.layers", "t5": "{}.block"}
LISTS |= {"llama": "model.layers", "qwen2": "model.layers", "gpt2": "transformer.h"}


def cut(teacher, kind, side, keep):
    """The oracle: drop layers from the list of modules itself."""
    path = LISTS[kind.split("-")[0]].format(side)
    layers = teacher.get_submodule(path)
    if kind.startswith("t5"):  # the first block knows the relative positions of all
        first, now_first = (layers[number].layer[0].SelfAttention for number in (0, keep[0]))
        now_first.relative_attention_bias = first.relative_attention_bias
        now_first.has_relative_attention_bias = True
    teacher.set_submodule(path, nn.ModuleList([layers[number] for number in keep]))
    if getattr(teacher.config, "layer_types", None):
        teacher.config.layer_types = [teacher.config.layer_types[number] for number in keep]
    if not teacher.config.is_encoder_decoder:
        teacher.config.num_hidden_layers = len(keep)


def chosen_of(kind):
    if kind in ENCODER_DECODER:
        return {"encoder_layers": [1, 3], "decoder_layers": [2]}
    return {"decoder_layers": [1, 2]}


def architecture_of(kind):
    return Architecture(12, 2 if kind in ENCODER_DECODER else 0, 1, 20, heads=2, dropout=0.2)


def made(kind, teacher):
    return [
        copied_student(teacher, **chosen_of(kind)),
        fresh_student(teacher, architecture_of(kind), seed=0),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_copied_is_the_teacher_with_layers_cut_out(kind):
    teacher = teacher_of(kind)
    student = copied_student(teacher, **chosen_of(kind)).eval()
    before = logits(teacher)
    oracle = copy.deepcopy(teacher)
    for name, keep in chosen_of(kind).items():
        cut(oracle, kind, name.removesuffix("_layers"), keep)
    assert torch.equal(logits(student), logits(oracle))
    assert not torch.allclose(logits(student), before, atol=1e-2)
    assert torch.equal(logits(teacher), before)  # the teacher is as it was


@pytest.mark.parametrize("kind", KINDS)
def test_all_layers_copied_is_the_teacher_and_generates_with_a_cache(kind):
    teacher = teacher_of(kind)
    student = copied_student(teacher).eval()
    assert torch.equal(logits(student), logits(teacher))
    shallow = copied_student(teacher, **chosen_of(kind)).eval()
    source = torch.randint(2, 44, (2, 5), generator=torch.Generator().manual_seed(1))
    found = [shallow.generate(input_ids=source, use_cache=cache) for cache in (True, False)]
    assert torch.equal(*found)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_shared(kind):
    teacher = teacher_of(kind)
    theirs = {tensor.untyped_storage().data_ptr() for tensor in tensors(teacher)}
    before = copy.deepcopy(teacher.state_dict())
    config = copy.deepcopy(teacher.config.to_dict()), teacher.generation_config.to_dict()
    for student in made(kind, teacher):
        assert not theirs & {tensor.untyped_storage().data_ptr() for tensor in tensors(student)}
        assert student.generation_config.max_length == 17
        with torch.no_grad():
            for tensor in student.state_dict().values():
                tensor.fill_(3)
        student.generation_config.max_length = 5
        student.config.vocab_size = 7
        if getattr(student.config, "rope_parameters", None):
            student.config.rope_parameters["rope_theta"] = 1.0
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert (teacher.config.to_dict(), teacher.generation_config.to_dict()) == config


def tensors(model):
    return [*model.parameters(), *model.buffers()]


@pytest.mark.parametrize("kind", KINDS)
def test_ties_are_the_teachers(kind, tmp_path):
    teacher = teacher_of(kind)
    for student in made(kind, teacher):
        for name, matrix in student.named_parameters(remove_duplicate=False):
            if name.endswith(("embed_tokens.weight", "shared.weight", "wte.weight")):
                tied = student.lm_head.weight is matrix
                assert tied == (teacher.lm_head.weight is teacher.get_parameter(name)), name
        student.save_pretrained(tmp_path / "student")
        again = type(student).from_pretrained(tmp_path / "student").eval()
        assert torch.equal(logits(again), logits(student))
        assert count_parameters(again) == count_parameters(student)


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_has_the_size_and_all_else_of_the_teacher(kind):
    teacher = teacher_of(kind)
    student = fresh_student(teacher, architecture_of(kind), seed=0)
    config = student.config
    assert config.hidden_size == 12
    sides = ("encoder", "decoder") if kind in ENCODER_DECODER else ("decoder",)
    for side, layers in zip(sides, (2, 1) if len(sides) == 2 else (1,), strict=True):
        assert len(student.get_submodule(LISTS[kind.split("-")[0]].format(side))) == layers
    shapes = {name: tuple(parameter.shape) for name, parameter in student.named_parameters()}
    inner = [
        shape[0]
        for name, shape in shapes.items()
        if name.endswith(("q_proj.weight", "SelfAttention.q.weight"))
    ]
    assert set(inner) <= {12}  # heads times head size
    feed = [
        shape
        for name, shape in shapes.items()
        if any(part in name for part in ("fc1.w", "up_p", "wi", "c_fc.w"))
    ]
    assert feed
    assert all(set(shape) == {12, 20} for shape in feed)
    rates = [getattr(config, name, None) for name in ("dropout", "dropout_rate", "resid_pdrop")]
    rates += [config.attention_dropout] if kind.startswith(("llama", "qwen2")) else []
    assert {rate for rate in rates if rate is not None} == {0.2}
    assert config.vocab_size == teacher.config.vocab_size
    assert logits(student).isfinite().all()
    if kind in DECODER_ONLY and kind != "gpt2":
        heads = config.num_attention_heads, config.num_key_value_heads
        assert heads == (2, 1)  # two queries to a key, as in the teacher


@pytest.mark.parametrize("kind", ["marian", "t5-gated-untied", "qwen2-sliding"])
def test_weights_depend_on_the_seed_alone(kind):
    teacher = teacher_of(kind)
    found = []
    for outside, seed in ((1, 0), (2, 0), (2, 5)):
        torch.manual_seed(outside)
        state = torch.get_rng_state()
        student = fresh_student(teacher, architecture_of(kind), seed=seed)
        copied_student(teacher)
        assert torch.equal(torch.get_rng_state(), state)
        found.append(student.state_dict())
    one, two, other = found
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_fresh_from_a_new_model_is_a_new_model():
    tokenizer = train_tokenizer(["the cat sat on the mat", "a dog"], 300)
    small = Architecture(16, 1, 2, 32, heads=2, dropout=0.0)
    teacher = new_model(Architecture(32, 3, 3, 64), tokenizer, seed=7)
    ours, plain = fresh_student(teacher, small, seed=3), new_model(small, tokenizer, seed=3)
    assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in plain.state_dict().items())
    config, expected = ours.config.to_dict(), plain.config.to_dict()
    assert {name for name in config if config[name] != expected.get(name)} <= {"dtype"}
    assert ours.generation_config.to_dict() == plain.generation_config.to_dict()


def test_a_student_trains_from_a_frozen_half_precision_teacher():
    teacher = teacher_of("marian").bfloat16().requires_grad_(False)
    for student in made("marian", teacher):
        assert {tensor.dtype for tensor in tensors(student)} == {torch.float32}
        student(input_ids=torch.tensor([[3, 4]]), labels=torch.tensor([[5, 1]])).loss.backward()
        assert student.model.decoder.layers[0].fc1.weight.grad is not None
    whole = copied_student(teacher)
    assert torch.equal(whole.lm_head.weight, teacher.lm_head.weight.float())


def test_dropout_is_the_teachers_unless_given():
    teacher = teacher_of("marian")
    assert copied_student(teacher).model.encoder.layers[0].dropout == teacher.config.dropout == 0.1
    student = copied_student(teacher, dropout=0.0)
    assert {
        layer.dropout for side in (student.model.encoder, student.model.decoder) for layer in side.layers
    } == {0.0}


@pytest.mark.parametrize("total", range(1, 25))
def test_spread_is_even_and_keeps_both_ends(total):
    for layers in range(1, total + 1):
        found = spread(layers, total)
        assert len(set(found)) == layers
        assert found == sorted(found)
        assert found[0] == 0
        assert layers == 1 or found[-1] == total - 1
        for number, index in enumerate(found[1:], start=1):
            assert abs(index - number * (total - 1) / (layers - 1)) <= 0.5
        gaps = {second - first for first, second in pairwise(found)}
        assert max(gaps, default=0) - min(gaps, default=0) <= 1


def test_a_number_of_layers_is_spread():
    teacher = teacher_of("marian")
    some = copied_student(teacher, encoder_layers=2, decoder_layers=1)
    listed = copied_student(teacher, encoder_layers=[0, 3], decoder_layers=[0])
    assert torch.equal(logits(some), logits(listed))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("marian", {"encoder_layers": 5}, "^encoder_layers: got 5, expected 1 to 4"),
        ("marian", {"decoder_layers": 0}, "^decoder_layers: got 0, expected 1 to 3"),
        ("marian", {"decoder_layers": [0, 3]}, r"^decoder_layers: got \[0, 3\], expected .* from 0 to 2"),
        ("marian", {"encoder_layers": [2, 0]}, r"^encoder_layers: got \[2, 0\], expected .* increasing"),
        ("marian", {"encoder_layers": [1, 1]}, r"^encoder_layers: got \[1, 1\]"),
        ("marian", {"encoder_layers": [-1]}, r"^encoder_layers: got \[-1\]"),
        ("marian", {"encoder_layers": []}, r"^encoder_layers: got \[\]"),
        ("marian", {"encoder_layers": "all"}, "^encoder_layers: got 'all'"),
        ("marian", {"dropout": 1.0}, r"^dropout: got 1\.0, expected 0 to 1"),
        ("llama", {"encoder_layers": 2}, "^encoder_layers: got 2, expected None: the teacher has none"),
    ],
)
def test_copied_refuses(kind, options, message):
    with pytest.raises(ValueError, match=message):
        copied_student(teacher_of(kind), **options)


@pytest.mark.parametrize(
    ("kind", "architecture", "message"),
    [
        (
            "marian",
            Architecture(12, 0, 1, 20, 2),
            "got encoder_layers=0 for a MarianMTModel, expected at least 1",
        ),
        ("gpt2", Architecture(12, 2, 1, 20, 2), "got encoder_layers=2 for a GPT2LMHeadModel, expected 0"),
        ("llama", Architecture(12, 0, 1, 20, 4), "got 3 dimensions to a head, expected an even number"),
        ("llama", Architecture(12, 0, 1, 20, 3), "got heads=3, expected a multiple of 2"),
        ("qwen2-sliding", Architecture(12, 0, 5, 20, 2), "got 5 layers, expected at most the teacher's 4"),
    ],
)
def test_fresh_refuses(kind, architecture, message):
    with pytest.raises(ValueError, match=f"^architecture: {message}"):
        fresh_student(teacher_of(kind), architecture, seed=0)


def test_other_teachers_are_refused():
    from transformers import BertConfig, BertLMHeadModel, GPT2Config, GPT2LMHeadModel

    bert = BertLMHeadModel(
        BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    with pytest.raises(ValueError, match=r"^teacher: got a BertLMHeadModel, expected one of MarianMTModel, "):
        copied_student(bert)
    small = {"vocab_size": 8, "n_embd": 8, "n_layer": 3, "n_head": 1, "bos_token_id": 1, "eos_token_id": 1}
    with pytest.raises(ValueError, match=r"^teacher: got a GPT2LMHeadModel with cross-attention"):
        copied_student(GPT2LMHeadModel(GPT2Config(**small, add_cross_attention=True)))
    numbered = GPT2LMHeadModel(GPT2Config(**small, scale_attn_by_inverse_layer_idx=True))
    assert len(copied_student(numbered, decoder_layers=[0, 1]).transformer.h) == 2
    with pytest.raises(ValueError, match=r"^decoder_layers: got \[0, 2\], expected the first ones"):
        copied_student(numbered, decoder_layers=2)
    quantised = teacher_of("marian")
    quantised.lm_head.weight = nn.Parameter(torch.ones(50, 24, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"^teacher: got lm_head\.weight as torch\.int8, expected floating"):
        copied_student(quantised)


def test_sizes_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"^encoder_layers: got -1, expected at least 0"):
        Architecture(16, -1, 1, 32)
    with pytest.raises(ValueError, match=r"^decoder_layers: got 0, expected at least 1"):
        Architecture(16, 1, 0, 32)
    with pytest.raises(
        ValueError, match=r"^encoder_layers: got 0, expected at least 1 in an encoder-decoder"
    ):
        marian_config(Architecture(16, 0, 1, 32), vocabulary=20)
    with pytest.raises(ValueError, match=r"^encoder_layers: got 1, expected 0 in a decoder-only model"):
        gpt2_config(Architecture(16, 1, 1, 32), vocabulary=20)


def test_learned_positions_count_and_fixed_ones_do_not():
    bart, marian = teacher_of("bart"), teacher_of("marian")
    assert count_parameters(bart) == sum(parameter.numel() for parameter in bart.parameters())
    assert count_parameters(marian) == sum(p.numel() for p in marian.parameters()) - 2 * 64 * 24
