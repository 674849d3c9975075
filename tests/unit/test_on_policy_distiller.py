"""The Distiller with on_policy: what an update divides by, what it leaves as it was, what it refuses, two processes."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

import kdlab
from kdlab.losses import DistillationLoss
from kdlab.on_policy import OnPolicy
from kdlab.smoothed_teacher import SmoothedTeacher
from kdlab.teachers import CachedTeacher, EnsembleTeacher, LiveTeacher, PhrasebookTeacher
from kdlab.text.batches import Example
from tests.unit.test_on_policy import EOS, LIVELY, batch_of, data, model_of, rows_of
from tests.unit.test_training import distiller
from tests.unit.two_processes import TWO_PROCESSES


def test_an_update_divides_by_its_sampled_tokens_and_takes_one_call_of_generate(tmp_path, monkeypatch):
    """Three micro-batches of different sizes give the gradient of all their samples in one batch."""
    student, teacher = model_of(), LiveTeacher(model_of(seed=1))
    student.final_logits_bias[0, EOS] = 2.0
    start = copy.deepcopy(student)
    parts = [[0], [1, 2, 3, 4], [5, 6]]
    examples = data([9, 3, 14, 5, 2, 7, 11])
    calls, generate = [], type(student).generate
    monkeypatch.setattr(
        type(student),
        "generate",
        lambda self, **options: (calls.append(len(options["input_ids"])), generate(self, **options))[1],
    )
    trainer = distiller(
        student, examples, tmp_path, 3, teacher, parts, on_policy=OnPolicy(lmbda=1.0, max_length=6)
    )
    trainer.train()
    assert calls == [7]
    monkeypatch.undo()
    batches = [batch_of([examples[i] for i in part]) for part in parts]
    made = OnPolicy(max_length=6).replace(start, batches, seed=trainer.args.seed, update=0)
    targets = [ids for batch in made for ids in rows_of(batch)]
    assert len({len(ids) for ids in targets}) > 2
    whole = batch_of([Example(e.source_ids, ids) for e, ids in zip(examples, targets, strict=True)])
    inputs = {name: whole[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    loss = kdlab.forward_kl(start(**inputs).logits, teacher(whole), whole["labels"])
    loss.backward()
    for (name, after), before in zip(student.named_parameters(), start.parameters(), strict=True):
        step = 0 if before.grad is None else 0.5 * before.grad  # the positions are fixed
        assert torch.allclose(after, before - step, atol=1e-5), name
    assert trainer.state.log_history[-1]["train_loss"] == pytest.approx(loss.item(), rel=1e-4)


def test_without_a_share_the_weights_are_those_of_a_run_without_it(tmp_path):
    """Bit for bit, with dropout; a share of its own changes them, and dropout stays the same all the while."""
    examples = data([6, 9, 4, 12])
    weights, masks = [], []
    for on_policy in (None, OnPolicy(lmbda=0.0), OnPolicy(lmbda=1.0, max_length=6)):
        student = model_of(architecture=LIVELY)
        trainer = distiller(
            student, examples, tmp_path, teacher=LiveTeacher(model_of(seed=1)), batches=[[0, 1], [2, 3]] * 2,
            updates=4, on_policy=on_policy,
        )  # fmt: skip
        states = []
        # The encoder's dropout reads the same sources in every run, before anything that depends on the targets.
        student.model.encoder.register_forward_pre_hook(
            lambda module, _, states=states: states.append(torch.get_rng_state()) if module.training else None
        )
        trainer.train()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in student.parameters()]))
        masks.append(states)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(masks[0][0], masks[2][0])


def test_half_precision_reaches_the_sampling(tmp_path):
    """The encoder too, which `generate` calls by itself, past the forward that accelerate wraps."""
    student = model_of()
    trainer = distiller(
        student, data([6, 9]), tmp_path, teacher=LiveTeacher(model_of(seed=1)), batches=[[0, 1]], bf16=True,
        on_policy=OnPolicy(lmbda=1.0, max_length=4),
    )  # fmt: skip
    seen = []
    student.model.encoder.register_forward_pre_hook(
        lambda module, _: seen.append((module.training, torch.is_autocast_enabled("cpu")))
    )
    before = copy.deepcopy(student)
    trainer.train()
    assert seen == [(False, True), (True, True)]
    # The weights that autocast keeps in half precision while it samples are not those that need a gradient.
    for (name, after), weight in zip(student.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(after, weight) == (not weight.requires_grad), name


def test_a_teacher_that_knows_the_data_alone_is_refused(tmp_path):
    def make(teacher, student=None, **options):
        options = {"on_policy": OnPolicy(lmbda=0.5)} | options
        return distiller(
            student or model_of(), data([5]), tmp_path, teacher=teacher, batches=[[0]], **options
        )

    cached, truth = CachedTeacher.__new__(CachedTeacher), PhrasebookTeacher.__new__(PhrasebookTeacher)
    with pytest.raises(ValueError, match=r"^teacher: got a CachedTeacher, .* the data's targets alone"):
        make(cached)
    with pytest.raises(ValueError, match=r"^teacher: got a PhrasebookTeacher, .* probability 0"):
        make(truth)
    with pytest.raises(ValueError, match=r"^teacher: got a PhrasebookTeacher"):
        make(EnsembleTeacher([LiveTeacher(model_of(seed=1)), truth]))
    with pytest.raises(ValueError, match=r"^teacher: got a PhrasebookTeacher"):
        make(SmoothedTeacher(truth, 0.1))
    with pytest.raises(ValueError, match=r"^teacher: got None"):
        make(None)
    with pytest.raises(ValueError, match=r"^ce_weight: got 0\.2"):
        make(LiveTeacher(model_of(seed=1)), loss=DistillationLoss(ce_weight=0.2))
    make(cached, on_policy=OnPolicy(lmbda=0.0))  # which never samples


SAMPLE = """
import json, sys, torch
from tests.unit import test_on_policy_distiller as t
examples = t.data([6, 9, 4, 12, 7, 5, 3, 8])
student = t.model_of(spread=1.0)
student.final_logits_bias[0, t.EOS] = 1.5
batches = [[i, (i + 1) % 8] for i in range(8)] * 4
trainer = t.distiller(student, examples, {folder!r}, 2, t.LiveTeacher(t.model_of(seed=1)), batches, updates=6,
                      on_policy=t.OnPolicy(lmbda=0.5, max_length=9))
get, seen = trainer.get_batch_samples, []
def spy(*arguments):
    batches, items = get(*arguments)
    seen.append([int(items), [t.rows_of(batch) for batch in batches]])
    return batches, items
trainer.get_batch_samples = spy
trainer.train()
rank = trainer.accelerator.process_index
weights = torch.cat([p.detach().flatten() for p in student.parameters()]).tolist()
with open({folder!r} + "/" + str(rank) + ".json", "w") as file:
    json.dump([trainer.accelerator.num_processes, seen, weights], file)
"""


@pytest.mark.slow
def test_two_processes_sample_at_the_same_updates_and_count_all_their_tokens(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SAMPLE.format(folder=str(tmp_path)))
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": root}
    # Where the two do not decide alike, they wait for each other.
    subprocess.run(
        [*TWO_PROCESSES, str(script)], check=True, capture_output=True, env=environment, timeout=300
    )
    (one, first, weights), (other, second, same) = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)
    )
    assert one == other == 2
    assert weights == same
    targets = {tuple(example.target_ids) for example in data([6, 9, 4, 12, 7, 5, 3, 8])}
    turns = []
    for (items, mine), (items_there, theirs) in zip(first, second, strict=True):
        rows = [[tuple(row) for part in parts for row in part] for parts in (mine, theirs)]
        assert items == items_there == sum(len(row) for row in rows[0] + rows[1])
        own = [not set(found) <= targets for found in rows]
        assert own[0] == own[1]
        turns.append(own[0])
    assert turns == [OnPolicy(lmbda=0.5).samples_at(42, update) for update in range(6)]
    assert set(turns) == {True, False}
