"""Exports against transformers: the same translations, sentence by sentence, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from kdlab.cli import main
from kdlab.export import SUPPRESSED, check_kind, export_model, output_bias
from kdlab.exported import load_exported
from kdlab.files import fingerprint_of_weights
from kdlab.generation import Search, generate, translate
from kdlab.profiles import Recipe
from kdlab.students import Architecture, new_model
from kdlab.text.phrasebook import Phrasebook
from kdlab.text.tokenizers import encode_sources, load_tokenizer
from kdlab.training import TrainingData, train
from tests.unit.small_text import small_text

SENTENCES = 300
NEEDED = {"ctranslate2": ("ctranslate2",), "onnx": ("onnx", "onnxruntime")}
RUNTIMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            any(importlib.util.find_spec(package) is None for package in packages),
            reason=f"{' and '.join(packages)} not installed: pip install 'kdlab[deploy]'",
        ),
    )
    for name, packages in NEEDED.items()
]
CTRANSLATE2, ONNX = ([parameter] for parameter in RUNTIMES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that has learnt to end its sentences, hundreds of different ones, and its tokenizer; in a folder."""
    folder = tmp_path_factory.mktemp("trained")
    text = small_text()
    model = new_model(Architecture(32, 1, 1, 64), text.tokenizer, 0)
    recipe = Recipe(updates=400, tokens_per_batch=600, learning_rate=1e-2, warmup=40, evaluations=1)
    train(model, text.tokenizer, TrainingData(text.examples, text.examples), recipe, folder, seed=0)
    return model, text.tokenizer, folder


@pytest.fixture(scope="module")
def sources(trained):
    lines = {pair.source for pair in Phrasebook("small").sample(SENTENCES + 50, seed=7)}
    return encode_sources(trained[1], sorted(lines)[:SENTENCES], 64)


@pytest.fixture(scope="module")
def greedy(trained, sources):
    found = target_ids(trained[0], sources)
    assert len(set(map(tuple, found))) > SENTENCES // 2  # they differ
    assert sum(ids[-1] == 1 for ids in found) > SENTENCES * 0.9  # and end
    return found


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """exported(runtime, int8) -> folder, each made once."""
    model, tokenizer, _ = trained
    root, made = tmp_path_factory.mktemp("exported"), {}

    def export(runtime, int8=False):
        folder = root / f"{runtime}-{int8}"
        if folder not in made:
            made[folder] = export_model(model, tokenizer, runtime, folder, int8=int8)
        return folder

    return export


def target_ids(model, sources, **search):
    found = {}
    for batch in generate(model, sources, Search(**search)):
        found |= batch
    return [found[index] for index in range(len(sources))]


def same(some, others):
    return sum(one == other for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_float32_translates_as_transformers_does(exported, sources, greedy, runtime):
    """Greedy, in padded batches, sentences cut by the length limit among them."""
    found = target_ids(load_exported(exported(runtime)), sources)
    assert [index for index in range(len(sources)) if found[index] != greedy[index]] == []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_sentence_does_not_depend_on_its_batch(exported, sources, greedy, runtime):
    model = load_exported(exported(runtime), threads=1)
    alone = [target_ids(model, [ids])[0] for ids in sources[:40]]
    limits = [2 * len(ids) + 10 for ids in sources[:40]]  # alone, a sentence may be cut earlier
    assert alone == [ids[:limit] for ids, limit in zip(greedy[:40], limits, strict=True)]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_int8_is_near(exported, sources, greedy, runtime):
    """Stated tolerance: 6 sentences in 10 to the letter, for a model that is unsure of most of them; log-probabilities
    or logits within 1 nat on random tokens; two thirds of the bytes at most, the positions counted.
    """
    folder = exported(runtime, int8=True)
    assert same(target_ids(load_exported(folder), sources), greedy) >= 0.6 * SENTENCES
    record, exact = (
        json.loads((exported(runtime, int8) / "export.json").read_text()) for int8 in (True, False)
    )
    assert record["difference_float32"] == exact["difference"] < 1e-4 < record["difference"] < 1
    assert record["bytes"] < 0.67 * exact["bytes"]


@pytest.mark.parametrize("runtime", CTRANSLATE2)
def test_beam_search_is_nearly_that_of_transformers(trained, exported, sources, runtime):
    """It ends by another rule; 19 in 20 are the same."""
    expected = target_ids(trained[0], sources, num_beams=4)
    found = target_ids(load_exported(exported(runtime)), sources, num_beams=4)
    assert same(found, expected) >= 0.95 * SENTENCES
    assert same(expected, target_ids(trained[0], sources)) < 0.95 * SENTENCES  # greedy is something else


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_untrained_models_are_cut_at_the_same_place(trained, tmp_path, runtime):
    """They never end. Another activation, more heads than layers, embeddings that are not scaled."""
    tokenizer = trained[1]
    model = new_model(Architecture(24, 2, 3, 40, heads=3), tokenizer, 5)
    model.config.scale_embedding = False
    model.config.activation_function = "swish"
    model = type(model)(model.config).eval()
    model.generation_config = trained[0].generation_config
    with torch.no_grad():  # logits far from one another, so that rounding decides nothing
        for parameter in model.parameters():
            parameter.mul_(4)
        model.final_logits_bias.normal_()
    sources = [[7, 8, 9, 1], [6, 1], [5] * 20 + [1]]
    expected = target_ids(model, sources)
    export_model(model, tokenizer, runtime, tmp_path / "out")
    found = target_ids(load_exported(tmp_path / "out"), sources)
    assert found == expected
    assert max(map(len, found)) == 2 * 21 + 10
    (nothing,) = target_ids(load_exported(tmp_path / "out"), [[1]])
    assert nothing == ([1] if runtime == "ctranslate2" else target_ids(model, [[1]])[0])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_pad_is_never_written(trained, tmp_path, runtime):
    """It is the start token and shares the output's embedding, so a model may well prefer it to all others."""
    model, tokenizer, _ = trained
    model.final_logits_bias[0, 0] = 50.0
    try:
        export_model(model, tokenizer, runtime, tmp_path / "out")
        source = encode_sources(tokenizer, ["Where is the hotel?"], 64)
        (found,), (expected,) = target_ids(load_exported(tmp_path / "out"), source), target_ids(model, source)
    finally:
        model.final_logits_bias.zero_()
    assert found == expected
    assert 0 not in found


def test_output_bias_leaves_the_others_alone(trained):
    bias = output_bias(trained[0])
    assert bias[0] == SUPPRESSED
    assert torch.equal(bias[1:], trained[0].final_logits_bias[0, 1:])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_model_is_left_as_it_was(trained, tmp_path, runtime):
    """Quantising multiplies weights in place, and a check in eval mode needs another mode than training."""
    model, tokenizer, _ = trained
    before = fingerprint_of_weights(model), model.train().config._attn_implementation
    export_model(model, tokenizer, runtime, tmp_path / "out", int8=True)
    assert (fingerprint_of_weights(model), model.config._attn_implementation) == before
    assert model.training
    model.eval()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_command_line_exports_and_translates(trained, exported, tmp_path, capsys, runtime):
    model, tokenizer, folder = trained
    shutil.copytree(folder, tmp_path / "model")
    assert main(["export", "--model", str(tmp_path / "model"), "--to", runtime]) == 0
    out = tmp_path / f"model-{runtime}"
    assert str(out) in capsys.readouterr().out
    assert load_tokenizer(str(out)).get_vocab() == tokenizer.get_vocab()
    lines = ["Where is the hotel?", "", "We would like a beer."]
    assert main(["translate", "--model", str(out), "--beams", "1", *lines]) == 0
    assert capsys.readouterr().out.splitlines() == translate(model, tokenizer, lines, Search())
    assert main(["translate", "--model", str(out), lines[0]]) == 0  # a default that the runtime can do
    assert main(["export", "--model", str(out), "--to", runtime]) == 2
    assert "which is an export" in capsys.readouterr().err


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_wrong_export_is_refused_and_nothing_is_written(trained, tmp_path, monkeypatch, runtime):
    """One weight is lost on the way; an older export stays as it was."""
    model, tokenizer, _ = trained
    export_model(model, tokenizer, runtime, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    module = {"ctranslate2": "export_ctranslate2", "onnx": "onnx_graph"}[runtime]
    monkeypatch.setattr(f"kdlab.{module}.output_bias", lambda _: torch.zeros(400))
    model.final_logits_bias[0, 9] = 3.0
    try:
        with pytest.raises(
            ValueError, match=r"model: its .* export differs from it by .* nothing was written"
        ):
            export_model(model, tokenizer, runtime, tmp_path / "out")
        with pytest.raises(ValueError, match="differs"):
            export_model(model, tokenizer, runtime, tmp_path / "new")
    finally:
        model.final_logits_bias.zero_()
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_older_export_is_replaced_as_a_whole(trained, tmp_path, runtime):
    model, tokenizer, _ = trained
    export_model(model, tokenizer, runtime, tmp_path / "out")
    (tmp_path / "out" / "left over").write_text("from another version")
    record = export_model(model, tokenizer, runtime, tmp_path / "out", int8=True)
    assert not (tmp_path / "out" / "left over").exists()
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == record
    assert record["int8"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_folder_with_other_things_is_left_alone(trained, tmp_path, capsys, runtime):
    (tmp_path / "thesis.tex").write_text("years of work")
    for out in (tmp_path, tmp_path / "thesis.tex", trained[2]):
        command = ["export", "--model", str(trained[2]), "--to", runtime, "--out", str(out)]
        assert main(command) == 2
        assert f"out: got {out}, which" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("runtime", ["ctranslate2", "onnx"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, tmp_path, capsys, runtime):
    monkeypatch.setattr("kdlab.export.find_spec", lambda name: None)
    assert main(["export", "--model", str(tmp_path), "--to", runtime]) == 2
    assert f"which needs {NEEDED[runtime][0]}" in (told := capsys.readouterr().err)
    assert "pip install 'kdlab[deploy]'" in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda model: setattr(model.config, "decoder_start_token_id", 1),
            "decoder_start_token_id 1, expected 0",
        ),
        (lambda model: setattr(model.generation_config, "suppress_tokens", None), "suppress_tokens None"),
        (lambda model: setattr(model.generation_config, "forced_eos_token_id", 1), "forced_eos_token_id 1"),
        (lambda model: setattr(model.config, "activation_function", "tanh"), "activation_function 'tanh'"),
        (lambda model: model.resize_token_embeddings(399), "vocab_size 399, expected 400"),
        (
            lambda model: setattr(model.lm_head, "weight", torch.nn.Parameter(model.lm_head.weight.clone())),
            "one embedding for source, target and output False",
        ),
    ],
)
def test_another_kind_of_model_is_refused(trained, change, message):
    model = new_model(Architecture(8, 1, 1, 8, heads=2), trained[1], 0)
    check_kind(model, trained[1])
    change(model)
    with pytest.raises(ValueError, match=message):
        check_kind(model, trained[1])


def test_another_class_of_model_is_refused(trained):
    from transformers import BartConfig, BartForConditionalGeneration

    sizes = {f"{side}_{name}": 1 for side in ("encoder", "decoder") for name in ("layers", "ffn_dim")}
    heads = {f"{side}_attention_heads": 1 for side in ("encoder", "decoder")}
    bart = BartForConditionalGeneration(BartConfig(vocab_size=400, d_model=4, **sizes, **heads))
    with pytest.raises(ValueError, match="got a BartForConditionalGeneration, expected a MarianMTModel"):
        check_kind(bart, trained[1])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_a_runtime_cannot_do_is_refused(exported, runtime):
    model = load_exported(exported(runtime))
    with pytest.raises(ValueError, match="sample: got True"):
        target_ids(model, [[5, 1]], sample=True)
    if runtime == "onnx":
        with pytest.raises(ValueError, match="num_beams: got 3, expected 1"):
            target_ids(model, [[5, 1]], num_beams=3)


@pytest.mark.parametrize("runtime", ONNX)
def test_int8_graphs_have_no_float_product_with_a_weight(exported, runtime):
    import onnx

    for name in ("encoder.onnx", "decoder.onnx"):
        graph = onnx.load(exported(runtime, int8=True) / name).graph
        weights = {weight.name for weight in graph.initializer}
        assert not [node for node in graph.node if node.op_type == "MatMul" and weights & set(node.input)]
        assert [node for node in graph.node if node.op_type == "MatMulInteger"]


def test_a_killed_export_leaves_nothing_under_its_name(trained, tmp_path, monkeypatch):
    """The rename comes last, so all that a kill can leave is a folder whose name ends in .part."""
    seen = []

    def write(model, tokenizer, folder, *, int8):
        seen.append((folder, sorted(os.listdir(tmp_path))))
        raise KeyboardInterrupt

    monkeypatch.setattr("kdlab.export.require_packages", lambda to: None)
    monkeypatch.setattr("kdlab.export_onnx.write_onnx", write)
    with pytest.raises(KeyboardInterrupt):
        export_model(trained[0], trained[1], "onnx", tmp_path / "out")
    ((folder, there),) = seen
    assert there == [Path(folder).name]
    assert folder.name.endswith(".part")
    assert list(tmp_path.iterdir()) == []
