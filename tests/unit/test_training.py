"""Teachers, the Distiller and a training run: what must hold on the smallest model that trains."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from kdlab.generation import Search, generate, translate
from kdlab.losses import DistillationLoss
from kdlab.on_policy import OnPolicy
from kdlab.profiles import Recipe
from kdlab.sequences import pseudo_targets
from kdlab.students import Architecture, count_parameters, new_model
from kdlab.teachers import LiveTeacher, PhrasebookTeacher
from kdlab.text.batches import Example, collate
from kdlab.text.tokenizers import encode_sources, encode_targets
from kdlab.training import TrainingData, train
from tests.unit.small_text import small_text
from tests.unit.tiny_models import plain_descent
from tests.unit.two_processes import TWO_PROCESSES

ROOT = Path(__file__).resolve().parents[2]
TINY = Architecture(d_model=16, encoder_layers=1, decoder_layers=1, ffn=32, heads=2, dropout=0.1)
RECIPE = Recipe(updates=12, tokens_per_batch=120, learning_rate=1e-2, warmup=2, evaluations=4)


@pytest.fixture(scope="module")
def text():
    return small_text()


@pytest.fixture(scope="module")
def phrasebook(text):
    return text.phrasebook


@pytest.fixture(scope="module")
def tokenizer(text):
    return text.tokenizer


@pytest.fixture(scope="module")
def examples(text):
    return text.examples


@pytest.fixture
def batch(examples):
    return collate(examples[:6], pad_token_id=0, decoder_start_token_id=0)


def test_model_follows_its_seed_and_leaves_the_global_one(tokenizer):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (new_model(TINY, tokenizer, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


def test_parameters_are_those_of_the_weights_file(tokenizer, tmp_path):
    model = new_model(TINY, tokenizer, 0)
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    sizes = {name: tensor.numel() for name, tensor in stored.items() if name != "final_logits_bias"}
    assert count_parameters(model) == sum(sizes.values())


def test_live_teacher_is_frozen_and_stays_in_eval_mode(tokenizer, batch):
    """Mistake 8: a teacher left in train mode, or put back into it."""
    teacher = LiveTeacher(new_model(TINY, tokenizer, 0).train())
    teacher.model.train()
    first, second = teacher(batch), teacher(batch)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_student_that_shares_the_teachers_parameters_is_refused(tokenizer):
    model = new_model(TINY, tokenizer, 0)
    with pytest.raises(ValueError, match=r"student: .* shares \d+ parameters"):
        LiveTeacher(model).check_apart(model)
    LiveTeacher(model).check_apart(copy.deepcopy(model))


def test_phrasebook_teacher_obeys_the_chain_rule(phrasebook, tokenizer):
    source = phrasebook.sample(1, seed=3)[0].source
    teacher = PhrasebookTeacher(phrasebook, tokenizer)
    truth = phrasebook.translations(source)
    ids = encode_targets(tokenizer, list(truth), 64)
    examples = [Example(encode_sources(tokenizer, [source], 64)[0], target) for target in ids]
    batch = collate(examples, pad_token_id=0, decoder_start_token_id=0)
    log_p = teacher(batch)
    assert torch.allclose(log_p.exp().sum(-1), torch.ones(log_p.shape[:-1]), atol=1e-5)
    for row, (target, probability) in enumerate(zip(ids, truth.values(), strict=True)):
        product = sum(log_p[row, i, token].item() for i, token in enumerate(target))
        assert product == pytest.approx(torch.log(torch.tensor(probability)).item(), abs=1e-4)


def test_phrasebook_teacher_refuses_an_impossible_prefix(phrasebook, tokenizer, examples):
    wrong = Example(examples[0].source_ids, [5, 6, 7, 1])
    with pytest.raises(ValueError, match="probability 0"):
        PhrasebookTeacher(phrasebook, tokenizer)(collate([wrong], pad_token_id=0, decoder_start_token_id=0))


def distiller(
    model, examples, folder, accumulation=1, teacher=None, batches=None, updates=1, bf16=False, **options
):
    from kdlab.distiller import Distiller

    args = plain_descent(folder, accumulation, max_steps=updates, learning_rate=0.5, bf16=bf16)

    def pad(items):
        return collate([examples[i] for i in items[0]], pad_token_id=0, decoder_start_token_id=0)

    return Distiller(model, args, teacher=teacher, train_dataset=batches, data_collator=pad, **options)


@pytest.mark.parametrize("with_teacher", [False, True])
def test_accumulation_gives_the_gradient_of_the_whole_batch(tokenizer, examples, tmp_path, with_teacher):
    """Mistake 4: normalised per micro-batch. The parts have very different numbers of tokens."""
    still = Architecture(d_model=16, encoder_layers=1, decoder_layers=1, ffn=32, heads=2, dropout=0.0)
    order = sorted(range(20), key=lambda i: len(examples[i].target_ids))
    parts = [order[:3], order[3:9], order[9:]]
    weights = []
    for accumulation, batches in ((3, parts), (1, [order])):
        model = new_model(still, tokenizer, 0)
        teacher = LiveTeacher(new_model(TINY, tokenizer, 1)) if with_teacher else None
        distiller(model, examples, tmp_path, accumulation, teacher, batches).train()
        weights.append(model.lm_head.weight.detach().clone())
    assert torch.allclose(*weights, atol=1e-6)
    assert not torch.allclose(weights[0], new_model(still, tokenizer, 0).lm_head.weight, atol=1e-4)


def test_evaluation_loss_is_the_mean_over_tokens(tokenizer, examples, tmp_path):
    model = new_model(TINY, tokenizer, 0)
    parts = [[0], list(range(1, 12))]
    trainer = distiller(model, examples, tmp_path, batches=parts)
    total = tokens = 0
    model.eval()
    for example in examples[:12]:
        batch = collate([example], pad_token_id=0, decoder_start_token_id=0)
        logits = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "decoder_input_ids")}).logits
        total += functional.cross_entropy(logits[0], batch["labels"][0], reduction="sum").item()
        tokens += batch["labels"].numel()
    assert trainer.evaluate(parts)["eval_loss"] == pytest.approx(total / tokens, rel=1e-5)


def test_a_student_that_is_its_teacher_has_no_loss(tokenizer, examples, batch, tmp_path):
    """Mistake 12: 'KL' that is really cross-entropy."""
    still = Architecture(d_model=16, encoder_layers=1, decoder_layers=1, ffn=32, heads=2, dropout=0.0)
    model = new_model(still, tokenizer, 0)
    trainer = distiller(model, examples, tmp_path, teacher=LiveTeacher(copy.deepcopy(model)), batches=[[0]])
    assert trainer.compute_loss(model, batch).item() == pytest.approx(0.0, abs=1e-9)


def test_pseudo_targets_stay_with_their_sources_and_go_on_after_a_cut(tokenizer, examples, tmp_path):
    """Mistake 14: misaligned after a merge. Sources of mixed lengths come in another order than they are made."""
    long = Recipe(updates=400, tokens_per_batch=600, learning_rate=1e-2, warmup=40, evaluations=1)
    model = new_model(Architecture(32, 1, 1, 64), tokenizer, 0)  # untrained, it would never end a sentence
    train(model, tokenizer, TrainingData(examples, examples), long, tmp_path / "model", seed=0)
    sources = [example.source_ids for example in examples[:20]]
    search = Search(tokens_per_batch=40)
    sampled = Search(sample=True, temperature=2.0, seed=3, tokens_per_batch=40)
    state = torch.get_rng_state()
    whole = pseudo_targets(model, sources, sampled, tmp_path / "sampled.jsonl")
    assert torch.equal(torch.get_rng_state(), state)
    lines = (tmp_path / "sampled.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut_sampled.jsonl").write_text("".join(lines[:2]))
    assert pseudo_targets(model, sources, sampled, tmp_path / "cut_sampled.jsonl").examples == whole.examples
    other = Search(sample=True, temperature=2.0, seed=4, tokens_per_batch=40)
    assert pseudo_targets(model, sources, other, tmp_path / "other.jsonl").examples != whole.examples
    whole = pseudo_targets(model, sources, search, tmp_path / "whole.jsonl")
    alone = {i: next(iter(generate(model, [ids], search))) for i, ids in enumerate(sources)}
    for index, example in zip(whole.kept, whole.examples, strict=True):
        assert example.source_ids == sources[index]
        assert example.target_ids == alone[index][0]
    assert len({tuple(example.target_ids) for example in whole.examples}) > 5  # not all the same
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_text("".join(lines[:2]) + lines[2][:15])
    again = pseudo_targets(model, sources, search, tmp_path / "cut.jsonl")
    assert again.examples == whole.examples
    assert again.dropped == whole.dropped
    assert all(json.loads(line) for line in (tmp_path / "cut.jsonl").read_text().splitlines())


def test_empty_lines_stay_in_place(tokenizer):
    model = new_model(TINY, tokenizer, 0)
    lines = translate(model, tokenizer, ["", "Where is the hotel?", "  "], Search())
    assert len(lines) == 3
    assert lines[0] == lines[2] == ""


RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.unit import test_training as t
text = t.small_text()
teacher = t.LiveTeacher(t.new_model(t.TINY, text.tokenizer, 7))
t.train(t.new_model(t.TINY, text.tokenizer, 0), text.tokenizer,
        t.TrainingData(text.examples[:50], text.examples[50:]),
        t.RECIPE, Path({folder!r}), seed=3, teacher=teacher, loss=t.DistillationLoss(),
        on_policy={on_policy!r} and t.OnPolicy(**{on_policy!r}), description="run")
"""


@pytest.mark.parametrize("on_policy", [None, {"lmbda": 0.6, "max_length": 8}], ids=["data", "on_policy"])
def test_killed_and_resumed_ends_with_the_same_weights(tmp_path, on_policy):
    """kill -9 between two checkpoints; dropout, the order of batches and the samples must go on where they were."""
    if on_policy is not None:
        # Both kinds of update on either side of the kill, which comes soon after update 6 of 12.
        turns = [OnPolicy(**on_policy).samples_at(seed=3, update=update) for update in range(12)]
        assert {True, False} == set(turns[:6]) == set(turns[8:])
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = {"root": str(ROOT), "on_policy": on_policy}
    script = RUN.format(folder=str(whole), **options)
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    script = RUN.format(folder=str(killed), **options)
    # Slow updates, so that the kill meets the run between its second checkpoint (update 6) and its end.
    slow = "import torch, time; step = torch.optim.AdamW.step\n"
    slow += "torch.optim.AdamW.step = lambda self, *a, **k: (time.sleep(0.3), step(self, *a, **k))[1]\n"
    process = subprocess.Popen([sys.executable, "-c", slow + script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300  # a loaded machine takes a minute for the imports alone
    while not (killed / "checkpoints" / "checkpoint-6" / "trainer_state.json").exists():
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "training.json").exists()
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    curves = [
        json.loads((folder / "training.json").read_text())["validation_curve"] for folder in (whole, killed)
    ]
    assert curves[0] == curves[1]


EVALUATE = """
import sys
sys.path.insert(0, {root!r})
from tests.unit import test_training as t
text = t.small_text()
model = t.new_model(t.TINY, text.tokenizer, 0)
trainer = t.distiller(model, text.examples, t.Path({folder!r}), batches=[[0]])
parts = [list(range(start, end)) for start, end in ((0, 9), (9, 11), (11, 40), (40, 47), (47, 60))]
loss = trainer.evaluate(parts)["eval_loss"]
if trainer.accelerator.is_main_process:
    print(trainer.accelerator.num_processes, loss)
"""


@pytest.mark.slow
def test_two_processes_evaluate_as_one(tmp_path):
    """Five batches on two processes: none of them counts twice, and each by its tokens."""
    script = tmp_path / "evaluate.py"
    script.write_text(EVALUATE.format(root=str(ROOT), folder=str(tmp_path)))
    alone = [sys.executable, str(script)]
    both = [*TWO_PROCESSES, str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    found = [
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.split()
        for command in (alone, both)
    ]
    assert [int(processes) for processes, _ in found] == [1, 2]
    assert float(found[0][1]) == pytest.approx(float(found[1][1]), rel=1e-6)


def test_finished_run_is_left_alone(tokenizer, examples, tmp_path):
    data = TrainingData(examples[:50], examples[50:])
    arguments = (tokenizer, data, RECIPE, tmp_path / "run")
    first = train(new_model(TINY, tokenizer, 0), *arguments, seed=0)
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert train(new_model(TINY, tokenizer, 0), *arguments, seed=0) == first
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before
    assert first["updates"] == 12
    assert DistillationLoss().options["divergence"] == "forward_kl"
