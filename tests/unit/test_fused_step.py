"""The step from hidden states is the step from logits: for every kind of head, and never where a model is another."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from kdlab.context_teacher import ContextTeacher
from kdlab.linear_head import LinearHead, call_as_forward
from kdlab.losses import DistillationLoss
from kdlab.teachers import EnsembleTeacher, LiveTeacher
from kdlab.text.causal import collate_for
from tests.unit.tiny_models import EXAMPLES, VOCABULARY, decoder_only, distiller, encoder_decoder
from tests.unit.two_processes import TWO_PROCESSES

# (how to make it, its scale, its cap): a bias or none, tied or not, a scale that multiplies or divides.
HEADS = {
    "Marian": (encoder_decoder, {}, 1.0, None),
    "Bart": (encoder_decoder, {}, 1.0, None),
    "Llama": (decoder_only, {}, 1.0, None),
    "GPT2": (decoder_only, {}, 1.0, None),
    "Gemma2": (decoder_only, {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}, 1.0, 3.0),
    "Cohere": (decoder_only, {"logit_scale": 0.25}, 0.25, None),
    "Granite": (decoder_only, {"logits_scaling": 4.0}, 0.25, None),
    "Phi": (decoder_only, {"partial_rotary_factor": 1.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}, 1.0, None),
}


def make(family, seed=0):
    build, options, _, _ = HEADS[family]
    return build(family, seed, **options)


def batch_for(model):
    return collate_for(model.config, EXAMPLES)


def gradients(model):
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def both_ways(student, teacher, folder, loss=None, **options):
    """Loss and gradients from logits, and from hidden states."""
    results = []
    for fused in (False, True):
        trainer = distiller(student, folder, teacher=teacher, loss=loss, fused=fused)
        assert (trainer.fused_step is not None) == fused
        value = trainer.compute_loss(student, batch_for(student), **options)
        value.backward()
        results.append((value.detach(), gradients(student)))
    return results


@pytest.mark.parametrize("family", HEADS)
def test_every_kind_of_head(family, tmp_path):
    student, teacher = make(family), make(family, seed=1)
    head = LinearHead.of(student)
    assert (head.scale, head.soft_cap, head.vocabulary) == (*HEADS[family][2:], VOCABULARY)
    plain, fused = both_ways(student, LiveTeacher(teacher), tmp_path)
    torch.testing.assert_close(plain[0], fused[0], rtol=1e-9, atol=0.0)
    assert plain[0] > 0.05
    assert set(plain[1]) == set(fused[1])
    for name, slope in plain[1].items():
        torch.testing.assert_close(slope, fused[1][name], rtol=1e-7, atol=1e-11, msg=name)


@pytest.mark.parametrize(
    "loss",
    [
        DistillationLoss("reverse_kl", ce_weight=0.4, temperature=2.0),
        DistillationLoss("generalized_jsd", beta=0.1, temperature=3.0, temperature_scaling=False),
        DistillationLoss("skew_forward_kl", skew=0.3, reduction="sum"),
    ],
)
def test_every_option_of_the_loss_reaches_it(loss, tmp_path):
    plain, fused = both_ways(make("Llama"), LiveTeacher(make("Llama", seed=1)), tmp_path, loss)
    torch.testing.assert_close(plain, fused, rtol=1e-8, atol=1e-11)


def test_the_share_of_the_accumulated_batch(tmp_path):
    student, teacher = make("Marian"), LiveTeacher(make("Marian", seed=1))
    plain, fused = both_ways(student, teacher, tmp_path, num_items_in_batch=torch.tensor(40))
    torch.testing.assert_close(plain, fused, rtol=1e-8, atol=1e-11)
    whole = distiller(student, tmp_path, teacher=teacher).compute_loss(student, batch_for(student))
    tokens = sum(len(example.target_ids) for example in EXAMPLES)
    assert fused[0].item() == pytest.approx(whole.item() * tokens / 40, rel=1e-9)


@pytest.mark.parametrize("family", ["Marian", "Gemma2"])
def test_updates_with_accumulation_are_the_same(family, tmp_path):
    weights = []
    for fused, accumulation, batches in (
        (False, 1, [[0, 1, 2, 3]]),
        (True, 1, [[0, 1, 2, 3]]),
        (True, 3, [[0], [1, 2], [3]]),
    ):
        student = make(family)
        teacher = LiveTeacher(make(family, seed=1))
        options = {"teacher": teacher, "fused": fused, "accumulation": accumulation}
        distiller(student, tmp_path, batches=batches, **options).train()
        weights.append(torch.cat([p.detach().flatten() for p in student.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(weights[2], weights[0], rtol=1e-6, atol=1e-7)
    start = torch.cat([p.detach().flatten() for p in make(family).parameters()])
    assert (weights[0] - start).abs().max() > 1e-3


def test_mixed_precision(tmp_path):
    """bf16 by accelerate's autocast: hidden states and weight are rounded to bf16, as for a layer; the gradient is as
    near to float32's as that of the step from logits."""
    student, teacher = make("Llama").float(), LiveTeacher(make("Llama", seed=1).float())
    exact = both_ways(student, teacher, tmp_path)[0]
    errors = {}
    for fused in (False, True):
        model = copy.deepcopy(student)
        trainer = distiller(model, tmp_path, teacher=teacher, fused=fused, args={"bf16": True})
        prepared = trainer.accelerator.prepare_model(model)
        if fused:
            with trainer.accelerator.autocast():
                hidden = trainer.fused_step.student(model, batch_for(model))
            assert hidden.hidden.dtype == hidden.weight.dtype == torch.bfloat16
            assert teacher.hidden_logits(batch_for(model)).hidden.dtype == torch.float32
        loss = trainer.compute_loss(prepared, batch_for(model))
        assert loss.dtype == torch.float32
        loss.backward()
        found = gradients(model)
        assert all(slope.dtype == torch.float32 for slope in found.values())
        errors[fused] = {
            name: ((slope - exact[1][name]).norm() / exact[1][name].norm()).item()
            for name, slope in found.items()
        }
        assert loss.item() == pytest.approx(exact[0].item(), rel=0.02)
    assert max(errors[False].values()) > 1e-4  # it was bf16
    assert max(errors[True].values()) < 2 * max(errors[False].values()) < 0.1


@pytest.mark.parametrize("family", ["Marian", "Llama"])
def test_neither_output_layer_runs(family, tmp_path):
    student, teacher = make(family), make(family, seed=1)
    trainer = distiller(student, tmp_path, teacher=LiveTeacher(teacher), fused=True)
    calls = []
    for model in (student, teacher):
        model.get_output_embeddings().register_forward_hook(lambda *_: calls.append(1))
    loss = trainer.compute_loss(student, batch_for(student))
    trainer.evaluate([[0, 1]])  # from hidden states too
    assert not calls
    same, outputs = trainer.compute_loss(student, batch_for(student), return_outputs=True)
    assert len(calls) == 2
    assert outputs.logits.shape[-1] == VOCABULARY
    torch.testing.assert_close(same, loss)


def test_dropout_draws_the_same_numbers(tmp_path):
    student = encoder_decoder(dropout=0.3).train()
    teacher = LiveTeacher(encoder_decoder(seed=1))
    losses = []
    for fused in (False, True):
        torch.manual_seed(7)
        trainer = distiller(student, tmp_path, teacher=teacher, fused=fused)
        assert student.training
        losses.append(trainer.compute_loss(student, batch_for(student)).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    trainer = distiller(student.eval(), tmp_path, teacher=teacher, fused=True)
    assert not student.training
    assert losses[0] != pytest.approx(trainer.compute_loss(student, batch_for(student)).item(), rel=1e-3)
    assert not student.lm_head._forward_pre_hooks
    assert not student.model._forward_hooks


# --- where it cannot be -------------------------------------------------------------------------------------


def changed(model, change):
    """The same model with a forward of its own, as a class of somebody else's would have."""

    class Other(type(model)):
        def forward(self, *arguments, **options):
            output = super().forward(*arguments, **options)
            output.logits = change(self, output.logits)
            return output

    model.__class__ = Other
    return model


class Counting(nn.Linear):
    """An output layer that may do anything."""


def test_heads_that_are_something_else_are_noticed():
    doubled = changed(make("Llama"), lambda self, logits: 2 * logits)
    capped = changed(make("Llama"), lambda self, logits: 50 * torch.tanh(logits / 50))
    with pytest.raises(
        ValueError, match=r"whose logits are not soft_cap\(scale .* with scale 1.0 and soft_cap None"
    ):
        LinearHead.of(doubled)
    with pytest.raises(ValueError, match="whose logits are not"):
        LinearHead.of(capped)
    for seed in (0, 1):  # caps hide where logits are small
        small = make("Llama", seed)
        nn.init.normal_(small.lm_head.weight, std=1e-3)
        with pytest.raises(ValueError, match="whose logits are not"):
            LinearHead.of(changed(small, lambda self, logits: 50 * torch.tanh(logits / 50)))
    none = make("Llama")
    nn.init.zeros_(none.lm_head.weight)
    with pytest.raises(ValueError, match="or whose output layer is all 0"):
        LinearHead.of(none)
    other = make("Llama")
    other.lm_head = Counting(16, VOCABULARY, bias=False).double()
    with pytest.raises(ValueError, match=r"whose output layer is a Counting, expected nn\.Linear"):
        LinearHead.of(other)
    with pytest.raises(ValueError, match="got a Linear, expected a transformers PreTrainedModel"):
        LinearHead.of(nn.Linear(2, 2))


def test_a_dropout_before_the_output_layer_is_noticed(tmp_path):
    """Which an evaluation mode would hide."""
    student = make("Llama")
    layer = student.lm_head
    layer.register_forward_pre_hook(lambda m, given: nn.functional.dropout(given[0], 0.5, student.training))
    LinearHead.of(student)
    trainer = distiller(student, tmp_path, teacher=LiveTeacher(make("Llama", seed=1)))
    assert trainer.fused_step is None
    with pytest.raises(ValueError, match="are not what its output layer reads"):
        distiller(student, tmp_path, teacher=LiveTeacher(make("Llama", seed=1)), fused=True)


def test_t5_scales_between_body_and_layer(tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    config = T5Config(**sizes, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
    student, teacher = (T5ForConditionalGeneration(config).double() for _ in range(2))
    with pytest.raises(ValueError, match="T5ForConditionalGeneration, whose body is no module of its own"):
        LinearHead.of(student)
    trainer = distiller(student, tmp_path, teacher=LiveTeacher(teacher))
    assert trainer.fused_step is None
    assert trainer.compute_loss(student, batch_for(student)) > 0


class Sharper(LiveTeacher):
    """A teacher that makes something of the logits."""

    def __call__(self, batch):
        return 2 * super().__call__(batch)


class SharperInContext(ContextTeacher):
    """The same, with a context."""

    def __call__(self, batch):
        return 2 * super().__call__(batch)


class OtherLoss(DistillationLoss):
    """A loss of somebody's own."""


def test_what_needs_logits_gets_them(tmp_path):
    """By itself; and `fused=True` says why not."""
    student, model = make("Llama"), make("Llama", seed=1)
    larger = LiveTeacher(decoder_only(seed=1, vocab_size=VOCABULARY + 2))
    cases = [
        ({"teacher": Sharper(model)}, "a Sharper, which makes logits in a way of its own"),
        (
            {"teacher": EnsembleTeacher([LiveTeacher(model)])},
            "a EnsembleTeacher, expected one that gives hidden",
        ),
        ({"teacher": LiveTeacher(model), "loss": OtherLoss()}, "a OtherLoss, expected a DistillationLoss"),
        ({"teacher": LiveTeacher(changed(make("Llama"), lambda s, x: x / 2))}, "whose logits are not"),
        ({"teacher": larger}, f"a vocabulary of {VOCABULARY + 2}, expected the student's {VOCABULARY}"),
        ({"teacher": None}, "a NoneType, expected one that gives hidden states"),
    ]
    for options, reason in cases:
        trainer = distiller(student, tmp_path, **options)
        assert trainer.fused_step is None
        with pytest.raises(ValueError, match=f"fused: got True, which cannot be: .*{reason}"):
            distiller(student, tmp_path, fused=True, **options)
        if options["teacher"] is larger:
            continue
        assert trainer.compute_loss(student, batch_for(student)) > 0
    common = DistillationLoss(vocabulary="common")
    torch.testing.assert_close(*both_ways(student, larger, tmp_path, common), rtol=1e-8, atol=1e-11)
    with pytest.raises(ValueError, match=r"vocabulary of 25, expected the student's 23; vocabulary='common'"):
        distiller(student, tmp_path, teacher=larger).compute_loss(student, batch_for(student))


def test_a_student_with_hooks_is_trained_from_its_logits(tmp_path):
    student, seen = make("Llama"), []
    student.register_forward_hook(lambda m, given, output: seen.append(output.logits.shape))
    trainer = distiller(student, tmp_path, teacher=LiveTeacher(make("Llama", seed=1)))
    trainer.compute_loss(student, batch_for(student))
    assert seen == [(4, 9, VOCABULARY)]


def test_a_model_whose_trial_fails_is_trained_from_its_logits(tmp_path):
    def fail(self, logits):
        if logits.shape[1] == 4:  # that of the trial
            raise RuntimeError("not with four tokens")
        return logits

    student = changed(make("Llama"), fail)
    trainer = distiller(student, tmp_path, teacher=LiveTeacher(make("Llama", seed=1)))
    assert trainer.fused_step is None
    assert trainer.compute_loss(student, batch_for(student)) > 0
    assert not student.lm_head._forward_pre_hooks


def test_forward_is_put_back():
    model = nn.Linear(2, 2)
    assert call_as_forward(model, model, lambda: torch.tensor(3.0)) == 3
    assert "forward" not in vars(model)
    own = model.forward = lambda: torch.tensor(5.0)

    def fail():
        raise RuntimeError("in the midst")

    with pytest.raises(RuntimeError, match="in the midst"):
        call_as_forward(model, model, fail)
    assert model.forward is own


# --- several processes --------------------------------------------------------------------------------------

RUN = """
import sys
import torch
from kdlab.teachers import LiveTeacher
from tests.unit import test_fused_step as t
fused, folder = sys.argv[1] == "fused", sys.argv[2]
student, teacher = t.make("Phi"), LiveTeacher(t.make("Phi", seed=1))
processes = int(sys.argv[3])
batches = [[0], [1, 2, 3]] if processes == 2 else [[0, 1, 2, 3]]
trainer = t.distiller(student, folder, teacher=teacher, fused=fused, batches=batches)
trainer.train()
assert trainer.accelerator.num_processes == processes
if trainer.accelerator.is_main_process:
    torch.save(student.state_dict(), f"{folder}/{sys.argv[1]}{processes}.pt")
"""


@pytest.mark.slow
def test_two_processes_make_the_update_of_one(tmp_path):
    """Through DistributedDataParallel: the gradients of both are added up, of the output layer too."""
    script = tmp_path / "run.py"
    script.write_text(RUN)
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": root}
    states = []
    for name, processes in (("logits", 1), ("logits", 2), ("fused", 1), ("fused", 2)):
        command = [*(TWO_PROCESSES if processes == 2 else [sys.executable]), str(script), name, str(tmp_path)]
        subprocess.run([*command, str(processes)], check=True, capture_output=True, env=environment)
        states.append(torch.load(tmp_path / f"{name}{processes}.pt"))
    for other in states[1:]:
        torch.testing.assert_close(other, states[0], rtol=1e-6, atol=1e-8)
    start = make("Phi").state_dict()
    assert (states[0]["lm_head.weight"] - start["lm_head.weight"]).abs().max() > 1e-4
