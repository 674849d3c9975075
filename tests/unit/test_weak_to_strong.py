"""Weak-to-strong: the smaller model teaches, and the confidence loss is what its formula says."""

from __future__ import annotations

import pytest
import torch

from kdlab.generation import Search
from kdlab.losses import DistillationLoss
from kdlab.profiles import Recipe
from kdlab.sequences import pseudo_targets
from kdlab.students import Architecture, count_parameters
from kdlab.teachers import LiveTeacher
from kdlab.training import TrainingData, train
from kdlab.weak_to_strong import ConfidenceLoss
from tests.bench.steps import StubTokenizer
from tests.unit.reference import random_logits
from tests.unit.test_on_policy import EOS, data, model_of
from tests.unit.test_training import distiller

LARGE = Architecture(d_model=32, encoder_layers=2, decoder_layers=2, ffn=64, heads=2, dropout=0.0)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("items", [None, 50])
def test_confidence_loss_is_its_formula(temperature, items):
    """Value and closed-form gradient: (1 - a) T (q_T - p_T) + a (q - onehot(argmax q)) for each counted token."""
    student, teacher = random_logits(2, 5, 11)
    student.requires_grad_()
    labels = torch.tensor([[3, 1, 4, -100, -100], [0, 2, 5, 7, 1]])
    loss = ConfidenceLoss(DistillationLoss(temperature=temperature), weight=0.3)
    value = loss(student, teacher, labels, items)
    value.backward()
    counted = labels != -100
    p, q = (logits[counted].div(temperature).softmax(-1) for logits in (teacher, student.detach()))
    plain = student.detach()[counted].softmax(-1)
    tokens = 0.7 * temperature**2 * (p * (p / q).log()).sum(-1) - 0.3 * plain.amax(-1).log()
    size = items or int(counted.sum())
    assert value.item() == pytest.approx((tokens.sum() / size).item(), rel=1e-12)
    chosen = torch.nn.functional.one_hot(plain.argmax(-1), 11)
    expected = torch.zeros_like(student)
    expected[counted] = (0.7 * temperature * (q - p) + 0.3 * (plain - chosen)) / size
    assert torch.allclose(student.grad, expected, atol=1e-14)


def test_confidence_loss_keeps_the_options_of_its_loss():
    student, teacher = random_logits(2, 5, 11)
    student.requires_grad_()
    labels = torch.tensor([[3, 1, 4, 9, 9], [0, 2, 5, 7, 1]])
    for divergence in ("reverse_kl", "generalized_jsd"):
        inner = DistillationLoss(divergence, reduction="none", ignore_index=9)
        found = ConfidenceLoss(inner, weight=0.25)(student, teacher, labels)
        own = -student.log_softmax(-1).amax(-1) * (labels != 9)
        assert torch.allclose(found, 0.75 * inner(student, teacher, labels) + 0.25 * own)
    everything = ConfidenceLoss(weight=1.0)(student, teacher)
    assert torch.allclose(everything, -student.log_softmax(-1).amax(-1).mean())


def test_confidence_grows_in_a_straight_line_and_is_not_evaluated():
    student, teacher = random_logits(4, 11)
    student.requires_grad_()
    loss = ConfidenceLoss(weight=0.6, warmup_updates=3)
    plain, own = loss.loss(student, teacher), ConfidenceLoss(weight=1.0)(student, teacher)
    for update, weight in enumerate([0.0, 0.2, 0.4, 0.6, 0.6]):
        loss.update = update
        assert torch.allclose(loss(student, teacher), (1 - weight) * plain + weight * own)
    with torch.no_grad():
        assert loss(student, teacher) == plain


@pytest.mark.parametrize(("name", "value"), [("weight", -0.1), ("weight", 1.5), ("warmup_updates", -1)])
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}: got {value}"):
        ConfidenceLoss(**{name: value})


def test_the_distiller_counts_the_updates_of_the_warm_up(tmp_path):
    """By the run's own count, which a resumed run goes on with."""
    loss, seen = ConfidenceLoss(warmup_updates=10), []
    loss.register_forward_pre_hook(lambda module, _: seen.append(module.update))
    trainer = distiller(
        model_of(), data([5, 7]), tmp_path, 2, LiveTeacher(model_of(seed=1)), [[0], [1]] * 3, 3, loss=loss
    )
    trainer.train()
    assert seen == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("loss", [DistillationLoss(), ConfidenceLoss(weight=0.3, warmup_updates=10)])
def test_a_small_teacher_teaches_a_large_student(tmp_path, loss):
    """Its translations of unlabelled sources become the targets, its distributions what is learnt."""
    teacher, student = model_of(spread=3.0), model_of(seed=1, spread=1.0, architecture=LARGE)
    teacher.final_logits_bias[0, EOS] = 8.0
    assert count_parameters(teacher) < count_parameters(student)
    sources = [example.source_ids for example in data([4, 7, 5, 9, 6] * 8)]
    search = Search(sample=True, temperature=2.0)
    made = pseudo_targets(teacher, sources, search, tmp_path / "pseudo_targets.jsonl")
    assert len({tuple(example.target_ids) for example in made.examples}) > 10
    recipe = Recipe(updates=80, tokens_per_batch=60, learning_rate=1e-2, warmup=5, evaluations=8)
    tokenizer = StubTokenizer(30)
    tokenizer.save_pretrained = lambda folder: None
    examples = TrainingData(made.examples[4:], made.examples[:4])
    record = train(
        student,
        tokenizer,
        examples,
        recipe,
        tmp_path / "run",
        seed=0,
        teacher=LiveTeacher(teacher),
        loss=loss,
    )
    curve = [value for _, value in record["validation_curve"]]
    assert curve[-1] < 0.5 * curve[0]
