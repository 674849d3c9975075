"""The same for decoder-only models: every planted fault is named, and no healthy run is accused."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdlab import DistillationLoss, diagnose
from kdlab.batch_rows import read_rows
from kdlab.context_teacher import ContextTeacher
from kdlab.diagnostic_batches import find_targets, with_other_sources
from kdlab.diagnostic_case import Case
from kdlab.diagnostic_inputs import check_mispaired, check_missing_input
from kdlab.diagnostic_rows import check_mask, check_shift
from kdlab.distributions import TopK
from kdlab.generation import Search, search_batch
from kdlab.model_io import target_labels
from kdlab.students import decoder_only
from kdlab.text.batches import Example
from kdlab.text.causal import collate_causal
from tests.unit.planted import SMALL, CausalBag, World, fit, logits_of
from tests.unit.tiny_models import decoder_only as tiny

RATE = 1e-2


@pytest.fixture(scope="module")
def world():
    return World(updates=150, size=decoder_only(SMALL))


@pytest.fixture(scope="module")
def taught(world):
    return world.taught(updates=150)


@pytest.fixture(scope="module")
def bag(world):
    """A student that has not begun, and is quick to train."""
    return CausalBag(len(world.tokenizer), width=32)


class Changed(nn.Module):
    """A model whose logits, or inputs, are changed on their way."""

    def __init__(self, inner, logits=lambda logits: logits, inputs=lambda inputs: inputs):
        super().__init__()
        self.inner, self.logits, self.inputs = inner, logits, inputs
        if hasattr(inner, "config"):
            self.config = inner.config

    def forward(self, **inputs):
        return SimpleNamespace(logits=self.logits(self.inner(**self.inputs(inputs)).logits))


def with_labels(batches, change):
    return [{**batch, "labels": change(batch)} for batch in batches]


def in_front(batch):
    """The same rows with their padding on the left, and positions that say so."""
    lengths, made = batch["attention_mask"].sum(1).tolist(), {}
    for name in ("input_ids", "attention_mask", "labels"):
        moved = [row.roll(len(row) - length) for row, length in zip(batch[name], lengths, strict=True)]
        made[name] = torch.stack(moved)
    return {**made, "position_ids": (made["attention_mask"].cumsum(1) - 1).clamp_min(0)}


def examples_of(world):
    return [row.example for batch in world.batches for row in read_rows(batch)]


# Healthy runs


def test_healthy_word_level(world, taught):
    diagnosis = diagnose(taught, world.teacher, world.batches, training=RATE)
    assert (diagnosis.faults, diagnosis.cause) == ([], None)
    assert {f.cause for f in diagnosis.findings if f.verdict == "skipped"} == {"optimizer"}


def test_healthy_with_padding_in_front_is_told_the_same(world, taught):
    """To rounding: what stands before a prompt is of no account."""
    usual = diagnose(taught, world.teacher, world.batches, training=RATE)
    batches = [in_front(batch) for batch in world.batches]
    assert not torch.equal(batches[0]["input_ids"], world.batches[0]["input_ids"])
    found = diagnose(taught, world.teacher, batches, training=RATE)
    for one, other in zip(usual.findings, found.findings, strict=True):
        assert (one.cause, one.verdict) == (other.cause, other.verdict)
        assert other.evidence == pytest.approx(one.evidence, rel=1e-3, abs=1e-5)


def test_healthy_sequence_level_sits_on_its_floor(world, taught):
    targets = search_batch(world.model, world.sources, Search(sample=True, seed=3))
    batches, loss = world.collated(world.sources, targets), DistillationLoss(ce_weight=1.0)
    student = copy.deepcopy(taught)
    fit(student, batches, loss, world.teacher, updates=40, rate=5e-3)
    diagnosis = diagnose(student, world.teacher, batches, loss=loss, training=RATE)
    assert (diagnosis.faults, diagnosis.cause) == ([], "cross_entropy_floor")


@pytest.mark.parametrize("kind", ["transformer", "bag"])
def test_healthy_student_that_has_not_begun(world, bag, kind):
    student = bag if kind == "bag" else world.student()
    diagnosis = diagnose(student, world.teacher, world.batches, training=RATE)
    assert (diagnosis.faults, diagnosis.cause) == ([], "undertrained")


def test_healthy_cached_teacher_at_temperature_2(world, taught):
    loss = DistillationLoss("generalized_jsd")
    diagnosis = diagnose(
        taught,
        lambda batch: TopK.from_logits(world.teacher(batch), k=8),
        world.batches,
        loss=loss,
        training=RATE,
    )
    assert (diagnosis.faults, diagnosis.cause) == ([], None)


def test_healthy_turns_of_a_talk(world, taught):
    """Prompt, answer, second prompt, second answer: the prompts are masked, and labels go on after an end."""
    examples = examples_of(world)
    batches = []
    for start in (0, 16):
        pairs = list(zip(examples[start : start + 16], examples[start : start + 16][::-1], strict=True))
        rows = [Example(a.source_ids, [*a.target_ids, *b.source_ids, *b.target_ids]) for a, b in pairs]
        batch = collate_causal(rows, pad_token_id=0)
        for labels, (a, b) in zip(batch["labels"], pairs, strict=True):
            first = len(a.source_ids) + len(a.target_ids)
            labels[first : first + len(b.source_ids)] = -100
        batches.append(batch)
    finding = check_mask(Case(taught, world.teacher, batches))
    assert (finding.verdict, finding.evidence["of_them_after_the_first_eos"]) == ("clear", 0)


@pytest.mark.parametrize("whole", [True, False])
def test_healthy_text_without_prompts(world, whole):
    """Sentences one by one after a start token, or many in blocks of one length: all of it counts."""
    if whole:
        rows = [Example([3], ids) for ids in world.targets]
        batches = [collate_causal(rows[start : start + 16], pad_token_id=0) for start in (0, 16)]
    else:
        stream = [token for ids in world.targets for token in ids]
        ids = torch.tensor(stream[: len(stream) // 20 * 20]).view(-1, 20)
        batches = [{"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}]
    model, student = world.student(seed=1), world.student(seed=2)
    fit(model, batches, DistillationLoss(ce_weight=1.0), None, updates=60)
    fit(
        student,
        batches,
        DistillationLoss(),
        lambda batch: logits_of(model.eval(), batch).detach(),
        updates=60,
    )
    diagnosis = diagnose(student, lambda batch: logits_of(model.eval(), batch).detach(), batches)
    assert diagnosis.faults == []
    assert diagnosis.cause in (None, "undertrained")


def test_a_teacher_that_knows_nothing_says_nothing_of_prompts():
    """It finds the end of the rows no likelier than their beginning."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(23, (20, 12), generator=generator)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    logits = 8 * torch.randn(20, 11, 23, generator=generator)
    finding = check_mask(Case(tiny("GPT2"), lambda _: logits, batch))
    assert (finding.verdict, finding.evidence["of_them_after_the_first_eos"]) == ("clear", 0)


def test_first_words_of_texts_are_no_prompts_to_exchange():
    ids = torch.arange(24).view(4, 6)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    assert not with_other_sources(batch, step=1)[1].any()


# Planted faults


def rows_of_the_teacher(world, rolled):
    return lambda batch: world.teacher(batch).roll(rolled, 1)


def teacher_in_train_mode(world):
    model = copy.deepcopy(world.model).train()
    return lambda batch: logits_of(model, batch).detach()


def teacher_with_another_tokenizer(world):
    order = torch.randperm(len(world.tokenizer), generator=torch.Generator().manual_seed(0))
    return lambda batch: world.teacher(batch)[..., order]


TEACHERS = {
    "rows one too far": ("shift", lambda world: rows_of_the_teacher(world, 1)),
    "rows one too early": ("shift", lambda world: rows_of_the_teacher(world, -1)),
    "in train mode": ("dropout", teacher_in_train_mode),
    "of another tokenizer": ("tokenizer", teacher_with_another_tokenizer),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_teachers(world, taught, name):
    cause, plant = TEACHERS[name]
    assert diagnose(taught, plant(world), world.batches).cause == cause


def shifted(batch):
    """As for a model that shifts nothing: the label beside each input is the next one. It will be shifted again."""
    return torch.cat([batch["labels"][:, 1:], torch.full_like(batch["labels"][:, :1], -100)], 1)


def whole_row(batch):
    return batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)


LABELS = {
    "shifted already": ("shift", shifted),
    "shifted the other way": ("shift", lambda batch: batch["labels"].roll(1, 1)),
    "prompt not masked": ("mask", whole_row),
    "padding not masked": (
        "mask",
        lambda batch: torch.where(batch["attention_mask"] == 0, batch["input_ids"], batch["labels"]),
    ),
    "nothing masked": ("mask", lambda batch: batch["input_ids"]),
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", LABELS)
def test_labels(world, taught, name, side):
    cause, change = LABELS[name]
    batches = world.batches if side == "right" else [in_front(batch) for batch in world.batches]
    diagnosis = diagnose(taught, world.teacher, with_labels(batches, change))
    assert diagnosis.cause == cause
    if name == "prompt not masked":
        assert "hold the prompt too" in diagnosis["mask"].advice
        assert diagnosis["mask"].evidence["of_them_after_the_first_eos"] == sum(map(len, world.targets))
    if name == "padding not masked":
        padding = sum(int((batch["attention_mask"][:, 1:] == 0).sum()) for batch in batches)
        assert diagnosis["mask"].evidence["of_them_where_the_attention_mask_is_0"] == padding


def test_prompt_that_ends_in_no_eos_and_is_not_masked(world):
    """What the teacher was never made to predict, it predicts worse than a blind guess."""
    rows = [Example(e.source_ids[:-1], e.target_ids) for e in examples_of(world)]
    batches = [collate_causal(rows[start : start + 16], pad_token_id=0) for start in (0, 16)]
    model = copy.deepcopy(world.model).requires_grad_(True)
    fit(model, batches, DistillationLoss(ce_weight=1.0), None, updates=40, rate=5e-3)

    def teacher(batch):
        return logits_of(model.eval(), batch).detach()

    student = world.student()
    assert check_mask(Case(student, teacher, batches)).verdict == "clear"
    finding = check_mask(Case(student, teacher, with_labels(batches, whole_row)))
    assert finding.verdict == "fault"
    assert "hold the prompt too" in finding.advice
    blind = finding.evidence["of_a_blind_guess"]
    assert (
        finding.evidence["on_the_last_quarter"]
        < blind
        < finding.evidence["teacher_label_loss_on_the_first_quarter"]
    )


LOSSES = {
    "detached": ("detached", lambda s, t, labels: DistillationLoss()(s.detach(), t, labels)),
    "shifts once more": (
        "shift",
        lambda s, t, labels: DistillationLoss()(s[:, :-1], t[:, 1:], labels[:, 1:]),
    ),
    "without a mask": ("mask", lambda s, t, labels: DistillationLoss()(s, t)),
    "one temperature only": ("temperature", lambda s, t, labels: DistillationLoss()(s / 2, t, labels)),
    "divided twice": (
        "reduction",
        lambda s, t, labels: DistillationLoss()(s, t, labels) / (labels != -100).sum(),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(world, taught, name):
    cause, loss = LOSSES[name]
    assert diagnose(taught, world.teacher, world.batches, loss=loss).cause == cause


def test_student_whose_rows_are_off(world, taught):
    student = Changed(taught, logits=lambda logits: logits.roll(1, 1))
    finding = check_shift(Case(student, world.teacher, world.batches))
    assert finding.evidence["student_rows_are_off_by"] == 1
    assert diagnose(student, world.teacher, world.batches).cause == "shift"


def test_student_with_another_tokenizer(world, taught):
    order = torch.randperm(len(world.tokenizer), generator=torch.Generator().manual_seed(0))
    student = Changed(taught, logits=lambda logits: logits[..., order])
    assert diagnose(student, world.teacher, world.batches).cause == "tokenizer"


@pytest.mark.parametrize(("rate", "word"), [(0.0, "is 0"), (1e-7, "too low"), (30.0, "too high")])
def test_learning_rate(world, bag, rate, word):
    optimizer = torch.optim.Adam(bag.parameters(), lr=rate)
    diagnosis = diagnose(bag, world.teacher, world.batches, training=optimizer)
    assert diagnosis.cause == "learning_rate"
    assert word in diagnosis["learning_rate"].advice


def test_frozen_head(world):
    student = CausalBag(len(world.tokenizer), width=32)
    student.bag.head.requires_grad_(False)
    assert diagnose(student, world.teacher, world.batches, training=RATE).cause == "frozen"


def test_optimizer_of_another_student(world, bag):
    optimizer = torch.optim.AdamW(world.student().parameters(), lr=RATE)
    assert diagnose(bag, world.teacher, world.batches, training=optimizer).cause == "optimizer"


def test_student_that_is_too_small(world):
    diagnosis = diagnose(CausalBag(len(world.tokenizer), width=1), world.teacher, world.batches)
    assert (diagnosis.faults, diagnosis.cause) == ([], "capacity")


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_completions_shuffled_against_prompts(world, taught, share, left):
    count = int(share * len(world.sources))
    sources = [*world.sources[1:count], world.sources[0], *world.sources[count:]]
    batches = world.collated(sources, world.targets)
    diagnosis = diagnose(taught, world.teacher, [in_front(batch) for batch in batches] if left else batches)
    assert diagnosis.cause == "mispaired"
    assert diagnosis["mispaired"].evidence["share_of_wrong_pairs"] == pytest.approx(share, abs=0.45)


def test_teacher_that_does_not_read_its_prompt(world, taught):
    fixed = world.sources[0]
    blind = ContextTeacher(
        world.teacher, lambda example, _: Example(fixed, example.target_ids), config=world.model.config
    )
    finding = check_mispaired(Case(taught, blind, world.batches))
    assert finding.verdict == "fault"
    assert "does not read the source" in finding.advice


def test_student_that_reads_the_end_of_its_prompt_alone(world):
    """Its mask hides the first tokens of the prompt, which the teacher reads."""

    def cut(inputs):
        mask = inputs["attention_mask"].clone()
        mask[:, :8] = 0
        return {**inputs, "attention_mask": mask}

    student = Changed(world.student(), inputs=cut)
    fit(student, world.batches, DistillationLoss(), world.teacher, updates=120)
    diagnosis = diagnose(student, world.teacher, world.batches)
    assert diagnosis.cause == "missing_input"
    assert diagnosis["missing_input"].evidence["source_positions_that_the_student_ignores"] > 0.2


class Rows:
    """A teacher of two words after each prompt, as likely as its context says; context 1 turns them round."""

    def __init__(self, sure):
        self.sure = sure

    def __call__(self, batch):
        first = torch.where(batch["context"] == 0, self.sure, 1 - self.sure)
        row = torch.stack([first, 1 - first], -1).log()
        return torch.cat([row.new_full((len(row), 8), -20.0), row], -1)[:, None].expand(
            -1, target_labels(batch).shape[1], -1
        )


@pytest.mark.parametrize("field", [True, False])
def test_teacher_has_context_that_the_student_lacks(field):
    """Of one word each, after prompts of several lengths: the floor is I(C; Y) = log 2 - H(sure), by hand."""
    sure, generator = 0.9, torch.Generator().manual_seed(0)
    context = torch.arange(400) % 2
    other = (torch.rand(400, generator=generator) > sure).long()
    prompts = [[2] * (1 + i % 3) for i in range(400)]
    rows = [Example(p, [8 + int(c ^ o)]) for p, c, o in zip(prompts, context, other, strict=True)]
    batch = {**collate_causal(rows, pad_token_id=0), "context": context}
    student = tiny("GPT2", vocab_size=10).float()
    teacher = Rows(sure)
    given = batch if field else {name: value for name, value in batch.items() if name != "context"}
    asked = teacher if field else (lambda b: teacher({**b, "context": context[: len(b["labels"])]}))
    with torch.no_grad():  # it knows all but the context
        student.lm_head.weight.zero_()
        student.lm_head.weight[8:] = 1.0
        student.transformer.ln_f.weight.zero_()
        student.transformer.ln_f.bias.fill_(1.0)
    finding = check_missing_input(Case(student, asked, given))
    h = torch.tensor([sure, 1 - sure])
    expected = float(torch.tensor(2.0).log() + (h * h.log()).sum())
    assert finding.verdict == "explains"
    assert finding.evidence["floor"] == pytest.approx(expected, rel=0.02)


# The layout, and other prompts


@pytest.mark.parametrize("left", [False, True])
def test_layout_is_that_of_the_rows(world, left):
    batch = in_front(world.batches[0]) if left else world.batches[0]
    targets = find_targets(batch)
    next_token = targets.pick(batch["input_ids"][:, 1:])
    for row, labels, tokens in zip(read_rows(batch), targets.labels, next_token, strict=True):
        length = len(row.example.target_ids)
        assert labels[:length].tolist() == tokens[:length].tolist() == row.example.target_ids
        assert (labels[length:] == -100).all()


@pytest.mark.parametrize("left", [False, True])
def test_other_prompts_before_the_same_targets(world, left):
    """Against batches made anew."""
    batch = in_front(world.batches[0]) if left else world.batches[0]
    batch = {**batch, "context": torch.arange(16)}
    rows = [row.example for row in read_rows(batch)]
    swapped, differs = with_other_sources(batch, step=3)
    expected = [Example(rows[(i - 3) % 16].source_ids, rows[i].target_ids) for i in range(16)]
    assert [row.example for row in read_rows(swapped)] == expected
    assert differs.tolist() == [rows[(i - 3) % 16].source_ids != rows[i].source_ids for i in range(16)]
    made = collate_causal(expected, pad_token_id=0)
    made = in_front(made) if left else made
    assert all(torch.equal(swapped[name], value) for name, value in made.items())
    assert torch.equal(swapped["context"], batch["context"])


def test_an_answer_that_is_not_aligned_is_refused(world, taught):
    """The model's own rows, one more than there are labels to predict."""

    def teacher(batch):
        return world.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits

    with pytest.raises(
        ValueError, match=r"teacher: got an answer for \(16, \d+\) positions, expected one for each"
    ):
        diagnose(taught, teacher, world.batches)
