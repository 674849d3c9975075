"""Decoder-only models: the prompt masked, the shift in one place; against each sequence on its own in float64."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from kdlab.cache import build_cache
from kdlab.losses import DistillationLoss
from kdlab.model_io import model_inputs, target_labels, target_logits
from kdlab.profiles import Recipe
from kdlab.shards import Keep
from kdlab.teachers import CachedTeacher, EnsembleTeacher, LiveTeacher, PhrasebookTeacher
from kdlab.text.batches import Example, collate
from kdlab.text.causal import causal_lengths, collate_causal, collate_for
from kdlab.training import TrainingData, train
from tests.unit.tiny_models import EXAMPLES, VOCABULARY, decoder_only, distiller, encoder_decoder

FAMILIES = ["Llama", "GPT2"]


@pytest.fixture
def batch():
    return collate_causal(EXAMPLES, pad_token_id=0, example_ids=range(len(EXAMPLES)))


def alone(model, example):
    """log-probabilities [completion, vocabulary], from the sequence without padding: the row before each token."""
    ids = torch.tensor([example.source_ids + example.target_ids])
    first = len(example.source_ids)
    return model(input_ids=ids).logits[0].log_softmax(-1)[first - 1 : first - 1 + len(example.target_ids)]


def by_hand(student, teacher, examples, ce_weight=0.0):
    total, tokens = 0.0, 0
    for example in examples:
        log_q, log_p = alone(student, example), alone(teacher, example)
        total += (1 - ce_weight) * (log_p.exp() * (log_p - log_q)).sum()
        total -= ce_weight * log_q[range(len(log_q)), example.target_ids].sum()
        tokens += len(example.target_ids)
    return total / tokens


def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("ce_weight", [0.0, 0.3])
def test_loss_and_gradient_are_those_by_hand(family, fused, ce_weight, batch, tmp_path):
    student, teacher = decoder_only(family, 0), decoder_only(family, 1)
    loss = DistillationLoss(ce_weight=ce_weight)
    trainer = distiller(student, tmp_path, teacher=LiveTeacher(teacher), loss=loss, fused=fused)
    found = trainer.compute_loss(student, batch)
    found.backward()
    slope = gradient(student)
    student.zero_grad()
    expected = by_hand(student, teacher, EXAMPLES, ce_weight)
    expected.backward()
    assert expected.item() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0.0)
    torch.testing.assert_close(slope, gradient(student), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("fused", [False, True])
def test_only_the_rows_before_the_completions_tokens_learn(fused, batch, tmp_path):
    student = decoder_only()
    trainer = distiller(student, tmp_path, teacher=LiveTeacher(decoder_only(seed=1)), fused=fused)
    kept = []
    student.base_model.register_forward_hook(lambda m, i, output: kept.append(output.last_hidden_state))
    loss = trainer.compute_loss(student, batch)
    (slope,) = torch.autograd.grad(loss, kept[-1:])
    learns = [[bool(row.any()) for row in rows] for rows in slope]
    for found, example in zip(learns, EXAMPLES, strict=True):
        first, length = len(example.source_ids) - 1, len(example.target_ids)
        expected = [first <= place < first + length for place in range(len(found))]
        assert found == expected


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fused", [False, True])
def test_padding_changes_nothing(family, fused, batch, tmp_path):
    student = decoder_only(family)
    trainer = distiller(student, tmp_path, teacher=LiveTeacher(decoder_only(family, 1)), fused=fused)
    expected = trainer.compute_loss(student, batch).item()
    wide = {
        name: functional.pad(batch[name], (0, 5), value=fill)
        for name, fill in (("input_ids", 0), ("attention_mask", 0), ("labels", -100))
    }
    other = collate_causal(EXAMPLES, pad_token_id=19)
    parts = [collate_causal([example], pad_token_id=0) for example in EXAMPLES]
    tokens = sum(len(example.target_ids) for example in EXAMPLES)
    shares = [trainer.compute_loss(student, part, num_items_in_batch=tokens).item() for part in parts]
    found = [trainer.compute_loss(student, given).item() for given in (wide, other)] + [sum(shares)]
    assert found == pytest.approx([expected] * 3, rel=1e-10)


def test_padding_on_the_left_with_positions(batch, tmp_path):
    """Another's collator: rows pushed to the right, their positions given."""
    student = decoder_only("GPT2")
    trainer = distiller(student, tmp_path, teacher=LiveTeacher(decoder_only("GPT2", 1)))
    shifts = (batch["attention_mask"] == 0).sum(1).tolist()
    left = {
        name: torch.stack([row.roll(by) for row, by in zip(batch[name], shifts, strict=True)])
        for name in ("input_ids", "attention_mask", "labels")
    }
    left["position_ids"] = (left["attention_mask"].cumsum(-1) - 1).clamp_min(0)
    expected = trainer.compute_loss(student, batch).item()
    assert trainer.compute_loss(student, left).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fused", [False, True])
def test_a_student_that_is_its_teacher_has_no_loss(family, fused, batch, tmp_path):
    student = decoder_only(family)
    trainer = distiller(student, tmp_path, teacher=LiveTeacher(copy.deepcopy(student)), fused=fused)
    loss = trainer.compute_loss(student, batch)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert gradient(student).abs().max() < 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_teacher_it_is_transformers_own_loss(family, batch, tmp_path):
    student = decoder_only(family)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    found = distiller(student, tmp_path).compute_loss(student, batch)
    assert found.item() == pytest.approx(student(**inputs).loss.item(), rel=1e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_accumulation_gives_the_gradient_of_the_whole_batch(fused, tmp_path):
    """transformers counts the tokens of decoder-only models after its own shift, and so must we."""
    weights = []
    for accumulation, batches in ((3, [[0], [1, 2], [3]]), (1, [[0, 1, 2, 3]])):
        student, teacher = decoder_only(), LiveTeacher(decoder_only(seed=1))
        options = {"teacher": teacher, "fused": fused, "accumulation": accumulation}
        distiller(student, tmp_path, batches=batches, **options).train()
        weights.append(torch.cat([p.detach().flatten() for p in student.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-7)
    start = torch.cat([p.detach().flatten() for p in decoder_only().parameters()])
    assert (weights[0] - start).abs().max() > 1e-3


def test_evaluation_is_the_mean_over_tokens(tmp_path):
    student, teacher = decoder_only(), decoder_only(seed=1)
    trainer = distiller(student, tmp_path, teacher=LiveTeacher(teacher))
    expected = by_hand(student, teacher, EXAMPLES).item()
    found = trainer.evaluate([[0], [1, 2, 3]])["eval_loss"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_first_label_that_nothing_predicts_does_not_count(batch, tmp_path):
    """Another's collator: every token is a label, the first too."""
    student = decoder_only()
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    whole = {**batch, "labels": labels}
    expected = student(input_ids=batch["input_ids"], labels=labels).loss.item()
    trainer = distiller(student, tmp_path)
    trainer.data_collator = lambda items: items[0]
    parts = [{name: tensor[rows] for name, tensor in whole.items()} for rows in (slice(0, 1), slice(1, 4))]
    found = [trainer.compute_loss(student, whole).item(), trainer.evaluate(parts)["eval_loss"]]
    assert found == pytest.approx([expected] * 2, rel=1e-5)


def test_an_ensemble(batch):
    models = [decoder_only(seed=seed) for seed in (0, 1)]
    found = EnsembleTeacher([LiveTeacher(model) for model in models], [3, 1])(batch)
    assert found.shape == (*target_labels(batch).shape, VOCABULARY)
    for row, example in zip(found, EXAMPLES, strict=True):
        first = len(example.source_ids) - 1
        expected = sum(w * alone(m, example).exp() for w, m in zip((0.75, 0.25), models, strict=True))
        torch.testing.assert_close(row[first : first + len(expected)].exp(), expected)


class Words:
    """As much of a tokenizer as a cache asks for."""

    pad_token_id = 0
    special_tokens_map: dict[str, str] = {}  # noqa: RUF012

    def get_vocab(self):
        return {str(token): token for token in range(VOCABULARY)}

    def save_pretrained(self, folder):
        pass


def test_a_cache(tmp_path):
    teacher = LiveTeacher(decoder_only(seed=1))
    keep = Keep(k=VOCABULARY, min_probability=0.0)
    cache = build_cache(
        tmp_path,
        teacher,
        Words(),
        EXAMPLES,
        keep,
        decoder_only=True,
        examples_per_shard=3,
        tokens_per_batch=12,
    )
    order = [3, 0, 2, 0]
    batch = collate_causal([EXAMPLES[i] for i in order], pad_token_id=0, example_ids=order)
    found, live = CachedTeacher(cache)(batch), teacher(batch).log_softmax(-1)
    log_p = torch.zeros_like(live)
    log_p.scatter_(-1, found.indices.clamp_min(0), found.log_probabilities.double())
    counted = target_labels(batch) != -100
    torch.testing.assert_close(log_p[counted].exp(), live[counted].exp(), rtol=0.0, atol=1e-3)
    with pytest.raises(ValueError, match=r"labels: got 5 target tokens for example 0, expected 3"):
        CachedTeacher(cache)({**batch, "example_ids": torch.tensor([0, 3, 2, 0])})


def test_a_whole_run_comes_close_to_its_teacher(tmp_path):
    teacher = LiveTeacher(decoder_only("GPT2", 1))
    data = TrainingData(EXAMPLES[:3], EXAMPLES[3:])
    recipe = Recipe(updates=60, tokens_per_batch=26, learning_rate=2e-2, warmup=5, evaluations=3)
    student = decoder_only("GPT2", n_embd=8)
    before = by_hand(student, teacher.model, EXAMPLES[:3])
    record = train(student, Words(), data, recipe, tmp_path / "run", seed=0, teacher=teacher)
    assert by_hand(student.eval(), teacher.model, EXAMPLES[:3]) < before / 2
    best = min(loss for _, loss in record["validation_curve"])
    assert best == pytest.approx(by_hand(student, teacher.model, EXAMPLES[3:]).item(), rel=1e-4)
    # Rows of 7, 8 and 9 tokens, prompt and completion together: two fit, so an epoch of 11 targets has two batches.
    assert (record["epochs"], record["target_tokens"]) == (30, 330)


def test_batches():
    batch = collate_causal(
        [Example([5, 6], [7, 1]), Example([5], [8, 1])], pad_token_id=9, example_ids=[4, 2]
    )
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 7, 1], [5, 8, 1, 9]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 1, 0]],
        "labels": [[-100, -100, 7, 1], [-100, 8, 1, -100]],
        "example_ids": [4, 2],
    }
    assert target_labels(batch).tolist() == [[-100, 7, 1], [8, 1, -100]]
    assert causal_lengths(EXAMPLES) == [(7, 3), (8, 6), (9, 2), (6, 5)]
    config = SimpleNamespace(is_encoder_decoder=False, pad_token_id=None)
    assert collate_for(config, [Example([5], [8, 1])])["input_ids"].tolist() == [[5, 8, 1]]
    with pytest.raises(ValueError, match="expected ids on both sides"):
        collate_causal([Example([], [7, 1])], pad_token_id=0)
    with pytest.raises(ValueError, match="example_ids: got 2, expected 1"):
        collate_causal([Example([5], [7, 1])], pad_token_id=0, example_ids=[0, 1])


def test_what_a_model_is_called_with(batch):
    names = ["input_ids", "attention_mask", "position_ids"]
    given = {**batch, "position_ids": batch["input_ids"]}
    found = model_inputs(decoder_only(), given)
    assert found == {**{name: given[name] for name in names}, "use_cache": False}


def test_a_batch_of_the_other_kind_is_refused(batch):
    pairs = collate(EXAMPLES, pad_token_id=0, decoder_start_token_id=0)
    with pytest.raises(ValueError, match=r"batch: got .* LlamaForCausalLM, expected no decoder_input_ids"):
        target_logits(decoder_only(), pairs)
    with pytest.raises(ValueError, match=r"batch: got .* MarianMTModel, expected decoder_input_ids too"):
        LiveTeacher(encoder_decoder())(batch)
    with pytest.raises(ValueError, match="batch: got input_ids, labels, expected attention_mask too"):
        model_inputs(decoder_only(), {name: batch[name] for name in ("input_ids", "labels")})
    teacher = PhrasebookTeacher(None, range(5))
    with pytest.raises(ValueError, match="batch: got one without decoder_input_ids"):
        teacher(batch)


def test_a_cache_keeps_which_kind_it_is_of(tmp_path):
    class Uniform:
        def __call__(self, batch):
            return torch.zeros(*target_labels(batch).shape, VOCABULARY)

        def fingerprint(self):
            return "uniform"

    build_cache(tmp_path, Uniform(), Words(), EXAMPLES, Keep(k=3), decoder_only=True)
    with pytest.raises(ValueError, match="decoder_start_token_id is None, expected 0"):
        build_cache(tmp_path, Uniform(), Words(), EXAMPLES, Keep(k=3))
