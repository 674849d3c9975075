"""Several processes of one run: the losses of one, one set of files, and an end for all when one ends."""

from __future__ import annotations

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

from kdlab.profiles import Recipe
from kdlab.students import Architecture, new_model
from kdlab.text.batches import BatchSchedule
from kdlab.training import TrainingData, _Collator, _Shares
from tests.unit.small_text import small_text
from tests.unit.two_processes import TWO_PROCESSES

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def test_shares_make_up_the_batch():
    schedule = BatchSchedule([(3, 4), (5, 5), (2, 2), (4, 4), (1, 1)], tokens_per_batch=12, updates=7, seed=1)
    shares = _Shares(schedule, 2)
    assert len(shares) == 14
    for number in range(7):
        kept = [
            index for share in (shares[2 * number], shares[2 * number + 1]) for index in share if index >= 0
        ]
        assert sorted(kept) == sorted(schedule[number])


def test_a_share_without_rows_counts_for_nothing():
    text = small_text()
    schedule = BatchSchedule([(5, 5), (4, 4)], tokens_per_batch=5, updates=2, seed=0)  # one row a batch
    shares = _Shares(schedule, 2)
    assert shares[1] == [-1 - shares[0][0]]
    collator = _Collator(TrainingData(text.examples, []), new_model(SIZE, text.tokenizer, 0))
    real, empty = collator([shares[0]]), collator([shares[1]])
    assert (empty["labels"] == -100).all()
    assert torch.equal(empty["decoder_input_ids"], real["decoder_input_ids"])
    assert empty["example_ids"].tolist() == shares[0]


TRAIN = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from kdlab import processes
from kdlab.losses import DistillationLoss
from kdlab.students import new_model
from kdlab.teachers import LiveTeacher
from kdlab.training import TrainingData, train
from tests.unit.small_text import small_text
from tests.unit.test_processes import RECIPE, SIZE
processes.connect()
text = small_text()
teacher = LiveTeacher(new_model(SIZE, text.tokenizer, 7))
train(new_model(SIZE, text.tokenizer, 0), text.tokenizer, TrainingData(text.examples[:50], text.examples[50:]),
      RECIPE, Path({folder!r}), seed=3, teacher=teacher, loss=DistillationLoss())
print("processes", processes.count())
"""
SIZE = Architecture(d_model=16, encoder_layers=1, decoder_layers=1, ffn=32, heads=2, dropout=0.0)
RECIPE = Recipe(updates=12, tokens_per_batch=150, learning_rate=1e-2, warmup=2, evaluations=4)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    records, weights = [], []
    for name, launcher in (("one", [sys.executable]), ("two", TWO_PROCESSES)):
        script = tmp_path / f"{name}.py"
        script.write_text(TRAIN.format(root=str(ROOT), folder=str(tmp_path / name)))
        shown = subprocess.run(
            [*launcher, str(script)], check=True, capture_output=True, text=True, env=ENVIRONMENT
        )
        assert f"processes {1 if name == 'one' else 2}" in shown.stdout
        records.append(json.loads((tmp_path / name / "training.json").read_text()))
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    assert records[0]["target_tokens"] == records[1]["target_tokens"]
    curves = [torch.tensor(record["validation_curve"]) for record in records]
    torch.testing.assert_close(curves[0], curves[1], rtol=1e-5, atol=0)
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=0, atol=1e-4)


def distill(folder: Path, *more: str) -> list[str]:
    return ["-m", "kdlab.cli", "distill", "--data", str(folder), "--profile", "ci", "--updates", "40",
            "--out", str(folder / "out"), *more]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    lines = small_text(pairs=260).pairs
    for name, part in (("train", lines[:200]), ("val", lines[200:220]), ("test", lines[220:])):
        for side, attribute in (("en", "source"), ("de", "target")):
            text = "".join(f"{getattr(pair, attribute)}\n" for pair in part)
            (tmp_path / f"{name}.{side}").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "flags"),
    [
        ("torchrun", ()),
        ("accelerate", ()),
        ("torchrun", ("--level", "word", "--cache-teacher", "top-k")),
        ("torchrun", ("--level", "both", "--cache-teacher", "hidden")),
    ],
)
def test_kdlab_distill_runs_in_two_processes_unchanged(folder, launcher, flags):
    environment = ENVIRONMENT | {"KDLAB_CACHE": str(folder / "cache")}
    command = TWO_PROCESSES
    if launcher == "accelerate":
        command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    shown = subprocess.run(
        [*command, *distill(folder, *flags)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert shown.stdout.count("gap closed") == 1  # one of them speaks
    report = json.loads((folder / "out" / "report.json").read_text())
    assert report["distilled"]["training"]["updates"] == 40
    assert bool(report["teacher_cache"]) == ("--cache-teacher" in flags)


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_resume_goes_on(folder):
    environment = ENVIRONMENT | {"KDLAB_CACHE": str(folder / "cache")}
    running = subprocess.Popen(
        [*TWO_PROCESSES, *distill(folder)], stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    checkpoints = folder / "out" / "baseline" / "checkpoints"
    while not any(checkpoints.glob("checkpoint-*/trainer_state.json")):
        assert running.poll() is None, running.stderr.read()[-3000:]
        time.sleep(0.1)
    children = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    _, told = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "SIGKILL" in told or "another process of this run has ended" in told
    shown = subprocess.run(
        [*TWO_PROCESSES, *distill(folder, "--resume")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert (folder / "out" / "report.json").exists()
