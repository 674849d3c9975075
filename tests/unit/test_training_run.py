"""What a training run does with its recipe, its seed, its checkpoints and its data, and what its record says."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import MarianMTModel, TrainerCallback

from kdlab import training
from kdlab.losses import DistillationLoss
from kdlab.profiles import Recipe
from kdlab.students import Architecture, new_model
from kdlab.teachers import LiveTeacher
from kdlab.text.batches import collate, example_lengths
from kdlab.training import TrainingData, last_checkpoint, make_schedule, train
from tests.unit.small_text import small_text
from tests.unit.test_training import distiller
from tests.unit.two_processes import TWO_PROCESSES

ROOT = Path(__file__).resolve().parents[2]
STILL = Architecture(d_model=16, encoder_layers=1, decoder_layers=1, ffn=32, heads=2, dropout=0.0)
TINY = Architecture(d_model=16, encoder_layers=1, decoder_layers=1, ffn=32, heads=2, dropout=0.1)
RECIPE = Recipe(updates=12, tokens_per_batch=120, learning_rate=1e-2, warmup=4, evaluations=4)
NOTHING_LEARNT = Recipe(updates=2, tokens_per_batch=120, learning_rate=1e-12, warmup=1, evaluations=1)
SECONDS = 10.0


@pytest.fixture(scope="module")
def text():
    return small_text()


@pytest.fixture(scope="module")
def data(text):
    return TrainingData(text.examples[:50], text.examples[50:])


class Watched:
    """A teacher that notes what the student learns from; each update takes ten seconds of its clock."""

    def __init__(self, text, stop_at=99):
        self.model, self.stop_at = LiveTeacher(new_model(TINY, text.tokenizer, 7)), stop_at
        self.updates, self.now = [], 0.0

    def __call__(self, batch):
        if torch.is_grad_enabled():
            if len(self.updates) == self.stop_at:
                raise KeyboardInterrupt
            self.now += SECONDS
            self.updates.append((batch["example_ids"].tolist(), int((batch["labels"] != -100).sum())))
        return self.model(batch)


def start(text, data, folder, architecture=TINY, recipe=RECIPE, seed=0, **options):
    model = new_model(architecture, text.tokenizer, 0)
    return train(model, text.tokenizer, data, recipe, folder, seed=seed, **options)


def weights(text, data, folder, *arguments, **options):
    start(text, data, folder, *arguments, **options)
    return load_file(folder / "model.safetensors")["model.shared.weight"]


def cross_entropy(model, examples):
    """Mean over the tokens of all examples, one by one."""
    total = tokens = 0
    for example in examples:
        batch = collate([example], pad_token_id=0, decoder_start_token_id=0)
        labels = batch.pop("labels")
        with torch.no_grad():
            logits = model.eval()(**batch).logits
        total += functional.cross_entropy(logits[0], labels[0], reduction="sum").item()
        tokens += labels.numel()
    return total / tokens


# --- validation and the best checkpoint ---------------------------------------------------------------------


def test_the_best_checkpoint_is_what_is_left(text, data, tmp_path):
    """Tokens that it never learns from get less and less probable, so the first checkpoint is the best."""
    never = set(range(3, 400)) - {token for example in data.train for token in example.target_ids}
    strange = [replace(example, target_ids=sorted(never)[:9]) for example in data.validation]
    record = start(text, TrainingData(data.train, strange), tmp_path)
    losses = dict(record["validation_curve"])
    assert record["best_update"] == 3
    assert losses[3] == min(losses.values()) < 0.97 * losses[12]
    left = cross_entropy(MarianMTModel.from_pretrained(tmp_path), strange)
    assert left == pytest.approx(losses[3], rel=1e-5)


def test_validation_is_on_the_validation_examples_without_dropout_or_smoothing(text, data, tmp_path):
    record = start(text, data, tmp_path, recipe=NOTHING_LEARNT, label_smoothing=0.2)
    expected = cross_entropy(new_model(TINY, text.tokenizer, 0), data.validation)
    assert record["validation_curve"] == [[2, pytest.approx(expected, rel=1e-5)]]


# --- what is trained on, and how ----------------------------------------------------------------------------


def test_the_student_learns_from_the_training_examples_and_its_tokens_are_counted(text, data, tmp_path):
    teacher = Watched(text)
    record = start(text, data, tmp_path, teacher=teacher)
    seen = [example_id for example_ids, _ in teacher.updates for example_id in example_ids]
    assert set(seen) <= set(range(50))
    schedule = make_schedule(example_lengths(data.train), RECIPE, seed=0)
    assert [example_ids for example_ids, _ in teacher.updates] == [schedule[update] for update in range(12)]
    assert len(teacher.updates) == record["updates"] == 12
    assert record["target_tokens"] == sum(tokens for _, tokens in teacher.updates)
    assert record["target_tokens"] == sum(len(data.train[example_id].target_ids) for example_id in seen)
    assert [update for update, _ in record["validation_curve"]] == [3, 6, 9, 12]
    assert not (tmp_path / "checkpoints").exists()


def test_the_learning_rate_warms_up_and_falls_in_a_cosine(text, data, tmp_path, monkeypatch):
    rates, step = [], torch.optim.AdamW.step

    def watched(self, *arguments, **options):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    start(text, data, tmp_path)
    warmup, rest = [i / 4 for i in range(4)], [(1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)]
    assert rates == pytest.approx([1e-2 * share for share in warmup + rest])


def test_the_seed_decides_the_order_and_the_dropout(text, data, tmp_path):
    def run(name, architecture, tokens_per_batch, seed):
        recipe = Recipe(
            updates=2, tokens_per_batch=tokens_per_batch, learning_rate=1e-2, warmup=1, evaluations=1
        )
        return weights(text, data, tmp_path / name, architecture, recipe, seed=seed)

    order = [run(f"order{seed}", STILL, 120, seed) for seed in (0, 1)]
    assert not torch.allclose(*order, atol=1e-4)
    data = TrainingData(data.train[:1], data.validation)  # one sentence has no order
    still = [run(f"still{seed}", STILL, 600, seed) for seed in (0, 1)]
    assert torch.equal(*still)
    dropout = [run(f"dropout{seed}", TINY, 600, seed) for seed in (0, 1)]
    assert not torch.allclose(*dropout, atol=1e-4)


def test_teacher_loss_and_smoothing_reach_the_student(text, data, tmp_path):
    teacher = LiveTeacher(new_model(TINY, text.tokenizer, 7))
    recipe = Recipe(updates=2, tokens_per_batch=120, learning_rate=1e-2, warmup=1, evaluations=1)
    runs = {
        "alone": {},
        "smoothed": {"label_smoothing": 0.2},
        "forward": {"teacher": teacher},
        "reverse": {"teacher": teacher, "loss": DistillationLoss("reverse_kl")},
    }
    found = [weights(text, data, tmp_path / name, STILL, recipe, **options) for name, options in runs.items()]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert not torch.allclose(one, other, atol=1e-4)


# --- stopped and resumed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("torn", "rest"), [(False, 6), (True, 9)])
def test_a_stopped_run_goes_on_from_its_last_whole_checkpoint(text, data, tmp_path, monkeypatch, torn, rest):
    """Stopped in update 8, with checkpoints of 3 and 6; of 6 a kill may have left half a file."""
    first, second = Watched(text, stop_at=7), Watched(text)
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: first.now + second.now))
    with pytest.raises(KeyboardInterrupt):
        start(text, data, tmp_path, teacher=first)
    if torn:
        state = tmp_path / "checkpoints" / "checkpoint-6" / "trainer_state.json"
        state.write_text(state.read_text()[:100])
    record = start(text, data, tmp_path, teacher=second)
    assert len(second.updates) == rest
    assert len(record["validation_curve"]) == 4
    assert record["train_seconds"] == (6 + rest) * SECONDS  # of both sessions, as far as they were kept


def test_a_checkpoint_without_its_whole_state_is_none(tmp_path):
    assert last_checkpoint(tmp_path / "nowhere") is None
    for update, state in ((9, "{}\n"), (12, "{}\n"), (100, None), (101, ""), (102, '{"global')):
        folder = tmp_path / f"checkpoint-{update}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-12")


@pytest.mark.parametrize("where", ["save", "remove"])
def test_a_kill_at_the_very_end_loses_nothing(text, data, tmp_path, monkeypatch, where):
    """While the model is written, or while the checkpoints are removed, one of which then stands half-removed."""
    from kdlab.distiller import Distiller

    checkpoints, save, remove = tmp_path / "checkpoints", Distiller.save_model, shutil.rmtree

    def save_model(self, folder, _internal_call=False):
        if folder == str(tmp_path):
            raise KeyboardInterrupt
        save(self, folder, _internal_call=_internal_call)

    def rmtree(folder, **options):
        if folder == checkpoints:
            for file in checkpoints.glob("*/model.safetensors"):
                file.unlink()
            raise KeyboardInterrupt
        remove(folder, **options)

    with monkeypatch.context() as patch:
        if where == "save":
            patch.setattr(Distiller, "save_model", save_model)
        else:
            patch.setattr(shutil, "rmtree", rmtree)
        with pytest.raises(KeyboardInterrupt):
            start(text, data, tmp_path)
    assert checkpoints.exists()
    record = start(text, data, tmp_path)
    assert not checkpoints.exists()
    assert record["updates"] == 12
    left = cross_entropy(MarianMTModel.from_pretrained(tmp_path), data.validation)
    assert left == pytest.approx(min(loss for _, loss in record["validation_curve"]), rel=1e-5)
    assert (tmp_path / "tokenizer.json").exists()


# --- the Distiller ------------------------------------------------------------------------------------------


def test_what_the_distiller_refuses(text, tmp_path):
    from transformers import Seq2SeqTrainingArguments

    from kdlab.distiller import Distiller

    model = new_model(STILL, text.tokenizer, 0)
    with pytest.raises(ValueError, match=r"student: .* shares \d+ parameters"):
        distiller(model, text.examples, tmp_path, teacher=LiveTeacher(model))
    args = {"output_dir": str(tmp_path), "report_to": [], "use_cpu": True}
    teacher = LiveTeacher(new_model(STILL, text.tokenizer, 1))
    with pytest.raises(ValueError, match="label_smoothing: got"):
        Distiller(model, Seq2SeqTrainingArguments(**args), teacher=teacher, label_smoothing=0.1)
    with pytest.raises(ValueError, match="label_smoothing: got"):
        Distiller(model, Seq2SeqTrainingArguments(**args, label_smoothing_factor=0.1))


def test_nothing_flows_into_a_teacher_that_somebody_has_thawed(text):
    teacher = LiveTeacher(new_model(STILL, text.tokenizer, 1))
    teacher.model.requires_grad_(True)
    batch = collate(text.examples[:2], pad_token_id=0, decoder_start_token_id=0)
    assert not teacher(batch).requires_grad


UPDATE = """
import sys
sys.path.insert(0, {root!r})
from tests.unit import test_training_run as t
text = t.small_text()
model = t.new_model(t.STILL, text.tokenizer, 0)
teacher = t.LiveTeacher(t.new_model(t.STILL, text.tokenizer, 1)) if {with_teacher!r} else None
trainer = t.distiller(model, text.examples, {folder!r}, teacher=teacher, batches=[[0, 1, 2], list(range(3, 20))])
trainer.train()
if trainer.accelerator.is_main_process:
    model.save_pretrained({folder!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize("with_teacher", [False, True])
def test_two_processes_take_the_update_of_one_on_all_their_tokens(text, tmp_path, with_teacher):
    """One has 3 sentences and the other 17: each token weighs the same all the same."""
    script = tmp_path / "update.py"
    script.write_text(UPDATE.format(root=str(ROOT), folder=str(tmp_path), with_teacher=with_teacher))
    command = [*TWO_PROCESSES, str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    model = new_model(STILL, text.tokenizer, 0)
    before = model.model.shared.weight.detach().clone()
    teacher = LiveTeacher(new_model(STILL, text.tokenizer, 1)) if with_teacher else None
    distiller(model, text.examples, tmp_path / "one", teacher=teacher, batches=[list(range(20))]).train()
    both = load_file(tmp_path / "model.safetensors")["model.shared.weight"]
    assert torch.allclose(both, model.model.shared.weight, atol=1e-6)
    assert not torch.allclose(both, before, atol=1e-4)


class Says(torch.nn.Module):
    """A student that always gives the same logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, **_):
        return SimpleNamespace(logits=self.logits)


@pytest.mark.parametrize("training_mode", [True, False])
def test_cross_entropy_is_taken_in_float32_and_smoothed_in_training(text, tmp_path, training_mode):
    trainer = distiller(new_model(STILL, text.tokenizer, 0), text.examples, tmp_path)
    trainer.label_smoothing = 0.2
    batch = collate(text.examples[:20], pad_token_id=0, decoder_start_token_id=0)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(*batch["labels"].shape, 400, generator=generator).to(torch.bfloat16)
    expected = functional.cross_entropy(
        logits.double().flatten(0, 1), batch["labels"].flatten(), label_smoothing=0.2 * training_mode
    ).item()
    student = Says(logits).train(training_mode)
    assert trainer.compute_loss(student, batch).item() == pytest.approx(expected, rel=1e-6)


def test_callbacks_hear_of_an_evaluation(text, tmp_path):
    heard = []

    class Listens(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics, **_):
            heard.append(metrics)

    trainer = distiller(new_model(STILL, text.tokenizer, 0), text.examples, tmp_path)
    trainer.add_callback(Listens())
    assert [trainer.evaluate([[0, 1]])] == heard
