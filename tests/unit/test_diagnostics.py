"""Faults planted on purpose, each of which must be named, and healthy runs, none of which may be accused."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdlab import DistillationLoss, diagnose
from kdlab.diagnostic_case import Case
from kdlab.diagnostic_inputs import check_mispaired, check_missing_input
from kdlab.diagnostic_loss import check_cross_entropy_floor, check_temperature
from kdlab.diagnostic_rows import check_copy, check_dropout, check_mask, check_shift, check_tokenizer
from kdlab.diagnostic_values import dense
from kdlab.diagnostics import CAUSES
from kdlab.distributions import TopK
from kdlab.generation import Search, search_batch
from kdlab.significance import critical, lower_bound, rounding
from kdlab.teachers import LiveTeacher, PhrasebookTeacher
from kdlab.weak_to_strong import ConfidenceLoss
from tests.unit.planted import Bag, World, fit, logits_of

RATE = 1e-2


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def taught(world):
    """A student that learnt well; tests that change it take a copy."""
    return world.taught()


def refined(world, taught, **options):
    """The same student after some more updates of another kind."""
    student = copy.deepcopy(taught)
    options = {"loss": DistillationLoss(), "teacher": world.teacher, "batches": world.batches} | options
    fit(student, options["batches"], options["loss"], options["teacher"], updates=80, rate=5e-3)
    return student


def changed(batches, **changes):
    """Batches with fields computed anew from the old batch."""
    return [{**batch, **{name: change(batch) for name, change in changes.items()}} for batch in batches]


def soft_cross_entropy(student_logits, teacher_logits, labels):
    tokens = -(teacher_logits.softmax(-1) * student_logits.log_softmax(-1)).sum(-1)
    return tokens[labels != -100].mean()


# Healthy runs


def test_healthy_word_level(world, taught):
    diagnosis = diagnose(taught, world.teacher, world.batches, training=RATE)
    assert diagnosis.faults == []
    assert diagnosis.cause is None
    assert [finding.cause for finding in diagnosis.findings] == list(CAUSES)


def test_healthy_sequence_level_sits_on_its_floor(world, taught):
    """Cross-entropy on the teacher's own samples: its floor is the teacher's entropy, in expectation."""
    targets = search_batch(world.model, world.sources, Search(sample=True, seed=3))
    batches = world.collated(world.sources, targets)
    loss = DistillationLoss(ce_weight=1.0)
    student = refined(world, taught, batches=batches, loss=loss)
    diagnosis = diagnose(student, world.teacher, batches, loss=loss, training=RATE)
    assert diagnosis.faults == []
    assert diagnosis.cause == "cross_entropy_floor"
    evidence = diagnosis["cross_entropy_floor"].evidence
    assert evidence["loss_of_a_student_that_is_the_teacher"] == pytest.approx(
        evidence["teacher_entropy"], rel=0.25
    )


def test_healthy_phrasebook_teacher(world, taught):
    truth = PhrasebookTeacher(world.phrasebook, world.tokenizer)
    student = refined(world, taught, teacher=truth)
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-3)
    diagnosis = diagnose(student, truth, world.batches, training=optimizer)
    assert diagnosis.faults == []
    assert diagnosis.cause in (None, "undertrained")


def test_healthy_jsd_at_temperature_2(world, taught):
    loss = DistillationLoss("generalized_jsd", temperature=2.0)
    student = refined(world, taught, loss=loss)
    diagnosis = diagnose(student, world.teacher, world.batches, loss=loss, training=RATE)
    assert diagnosis.faults == []
    assert diagnosis.cause in (None, "temperature")  # its number may be no nats at T = 1, which explains it


def test_healthy_student_that_has_not_begun(world):
    """High, since nothing was trained yet: neither shift, tokenizer nor capacity."""
    diagnosis = diagnose(world.student(), world.teacher, world.batches, training=RATE)
    assert diagnosis.faults == []
    assert diagnosis.cause == "undertrained"


def test_healthy_cached_teacher(world, taught):
    """Top-k with a tail, which neither reads a source nor has a model to copy."""

    def cached(batch):
        return TopK.from_logits(world.teacher(batch), k=8)

    diagnosis = diagnose(taught, cached, world.batches, training=RATE)
    assert diagnosis.faults == []
    assert diagnosis.cause is None
    assert diagnosis["mispaired"].verdict in ("clear", "skipped")


def test_healthy_frozen_embedding(world, taught):
    """Frozen on purpose, and not in the way."""
    student = copy.deepcopy(taught)
    student.model.shared.weight.requires_grad_(False)
    diagnosis = diagnose(student, world.teacher, world.batches, training=RATE)
    assert diagnosis.faults == []
    assert diagnosis["frozen"].evidence["frozen_parameters"] == student.model.shared.weight.numel()


@pytest.mark.parametrize("begun", [False, True])
def test_healthy_weak_to_strong(world, taught, begun):
    """A student that holds to its own opinion does not come to 0, and is not called high for that."""
    loss = ConfidenceLoss(weight=0.6)
    student = refined(world, taught, loss=loss) if begun else Bag(len(world.tokenizer))
    diagnosis = diagnose(student, world.teacher, world.batches, loss=loss, training=RATE)
    assert (diagnosis.faults, diagnosis.cause) == ([], None if begun else "undertrained")


def test_where_a_confidence_loss_leads_is_where_its_gradient_is_0():
    log_q, log_p = (
        x.log_softmax(-1) for x in torch.randn(2, 1, 4, 9, generator=torch.Generator().manual_seed(0))
    )
    batch = {
        "input_ids": torch.ones(1, 1),
        "labels": torch.zeros(1, 4),
        "decoder_input_ids": torch.ones(1, 4),
    }
    loss = ConfidenceLoss(weight=0.6)

    class Fixed(nn.Module):
        def forward(self, **inputs):
            return SimpleNamespace(logits=log_q)

    case = Case(Fixed(), lambda _: log_p, {name: value.long() for name, value in batch.items()}, loss=loss)
    own = nn.functional.one_hot(log_q.argmax(-1), 9)
    mixture = (0.4 * log_p.exp() + 0.6 * own).log().requires_grad_()
    loss(mixture, log_p).backward()
    assert mixture.grad.abs().max() < 1e-6
    with torch.no_grad():
        assert case.value_of_best == pytest.approx(loss(mixture, log_p).item(), rel=1e-5)
    assert Case(Fixed(), lambda _: log_p, case.batches).value_of_best == pytest.approx(0, abs=1e-6)


# Planted faults


def test_soft_cross_entropy_on_its_floor(world, taught):
    diagnosis = diagnose(taught, world.teacher, world.batches, loss=soft_cross_entropy, training=RATE)
    assert diagnosis.faults == []
    assert diagnosis.cause == "cross_entropy_floor"
    evidence = diagnosis["cross_entropy_floor"].evidence
    expected, tokens = 0.0, 0
    for batch in world.batches:
        p = world.teacher(batch).double().softmax(-1)[batch["labels"] != -100]
        expected, tokens = expected - (p * p.log()).sum().item(), tokens + len(p)
    assert evidence["teacher_entropy"] == pytest.approx(expected / tokens, rel=1e-4)
    assert evidence["loss"] - evidence["teacher_entropy"] == pytest.approx(
        evidence["kl_to_teacher"], rel=1e-3
    )


def test_cross_entropy_far_above_its_floor_is_no_excuse(world):
    case = Case(world.student(), world.teacher, world.batches, loss=soft_cross_entropy)
    assert check_cross_entropy_floor(case).verdict == "clear"


@pytest.mark.parametrize("direction", [-1, 1])
def test_labels_shifted_by_one(world, taught, direction):
    """Labels one place off beside the same decoder inputs; one way the student reads what it is to say."""

    def shifted(batch):
        rows = torch.full_like(batch["labels"], -100)
        if direction == 1:
            rows[:, :-1] = batch["labels"][:, 1:]
        else:
            rows[:, 1:] = batch["labels"][:, :-1]
        return rows

    diagnosis = diagnose(taught, world.teacher, changed(world.batches, labels=shifted))
    assert diagnosis.cause == "shift"
    assert diagnosis["shift"].evidence["labels_are_off_by"] == direction


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t, labels: DistillationLoss()(s[:, :-1], t[:, 1:], labels[:, 1:]),
        lambda s, t, labels: DistillationLoss(ce_weight=0.5)(s[:, :-1], t[:, :-1], labels[:, 1:]),
    ],
)
def test_loss_that_shifts(world, taught, loss):
    assert diagnose(taught, world.teacher, world.batches, loss=loss).cause == "shift"


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_rows_of_one_side_are_off(world, taught, side):
    class Off(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = taught

        def forward(self, **inputs):
            return SimpleNamespace(logits=self.inner(**inputs).logits.roll(1, 1))

    student = Off() if side == "student" else taught
    teacher = (lambda batch: world.teacher(batch).roll(1, 1)) if side == "teacher" else world.teacher
    finding = check_shift(Case(student, teacher, world.batches))
    assert finding.verdict == "fault"
    assert finding.evidence[f"{side}_rows_are_off_by"] == 1


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t, labels: DistillationLoss()(s, t),  # padding is compared too
        lambda s, t, labels: DistillationLoss(reduction="sum")(s, t, labels) / labels.numel(),  # and counted
    ],
)
def test_mask_ignored(world, taught, loss):
    assert diagnose(taught, world.teacher, world.batches, loss=loss).cause == "mask"


def test_labels_padded_with_the_pad_token(world, taught):
    batches = changed(world.batches, labels=lambda batch: batch["labels"].clamp_min(0))
    diagnosis = diagnose(taught, world.teacher, batches)
    assert diagnosis.cause == "mask"
    padding = sum(int((batch["labels"] == -100).sum()) for batch in world.batches)
    assert diagnosis["mask"].evidence["of_them_after_the_first_eos"] == padding


@pytest.mark.parametrize("dropout", [0.3, 0.1, 0.001])
def test_teacher_in_train_mode(world, taught, dropout):
    model = copy.deepcopy(world.model).train()
    for module in model.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = dropout

    @torch.no_grad()
    def teacher(batch):
        return logits_of(model, batch)

    assert diagnose(taught, teacher, world.batches).cause == "dropout"


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_teacher_with_another_tokenizer(world, taught, share):
    """Some of the entries stand elsewhere in the teacher's vocabulary."""
    generator = torch.Generator().manual_seed(0)
    order = torch.arange(len(world.tokenizer))
    moved = torch.randperm(len(order), generator=generator)[: int(share * len(order))]
    order[moved] = order[moved.roll(1)]
    diagnosis = diagnose(taught, lambda batch: world.teacher(batch)[..., order], world.batches)
    assert diagnosis.cause == "tokenizer"


def test_student_with_another_tokenizer(world, taught):
    order = torch.randperm(len(world.tokenizer), generator=torch.Generator().manual_seed(0))

    class Renamed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = taught

        def forward(self, **inputs):
            return SimpleNamespace(logits=self.inner(**inputs).logits[..., order])

    diagnosis = diagnose(Renamed(), world.teacher, world.batches)
    assert diagnosis.cause == "tokenizer"


def test_vocabulary_cut(world, taught):
    """The student lacks the last entries; their probability is measured."""

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = taught

        def forward(self, **inputs):
            return SimpleNamespace(logits=self.inner(**inputs).logits[..., :300])

    diagnosis = diagnose(Cut(), world.teacher, world.batches)
    assert diagnosis.cause == "tokenizer"
    beyond = torch.cat([batch["labels"][batch["labels"] >= 0] for batch in world.batches]) >= 300
    found = diagnosis["tokenizer"].evidence["labels_that_the_student_lacks"]
    assert found == pytest.approx(beyond.float().mean().item())


def test_vocabulary_padded_without_harm(world, taught):
    """151,936 against 152,064 entries: nobody uses the last ones."""

    def padded(batch):
        return nn.functional.pad(world.teacher(batch), (0, 8), value=-50.0)

    loss = DistillationLoss(vocabulary="common")
    diagnosis = diagnose(taught, padded, world.batches, loss=loss)
    assert diagnosis.cause is None


def test_copy_of_the_teacher_does_not_score_0(world, taught):
    """A wrapper that sharpens: no shift, mask or dropout, and yet the copy is not the teacher."""

    class Sharpened(LiveTeacher):
        def __call__(self, batch):
            return 1.5 * super().__call__(batch)

    diagnosis = diagnose(taught, Sharpened(copy.deepcopy(world.model)), world.batches)
    assert diagnosis.cause == "copy"
    assert diagnosis["copy"].evidence["kl_of_a_copy_of_the_teacher"] > 0.01
    assert check_copy(Case(taught, world.teacher, world.batches)).verdict == "clear"


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t, labels: DistillationLoss()(s.detach(), t, labels),
        lambda s, t, labels: DistillationLoss()(s, t, labels).detach().requires_grad_(),
    ],
)
def test_detached_loss(world, loss):
    assert diagnose(world.student(), world.teacher, world.batches, loss=loss).cause == "detached"


def test_optimizer_of_another_student(world):
    optimizer = torch.optim.AdamW(world.student().parameters(), lr=RATE)
    diagnosis = diagnose(world.student(), world.teacher, world.batches, training=optimizer)
    assert diagnosis.cause == "optimizer"
    assert diagnosis["optimizer"].evidence["of_them_in_the_optimizer"] == 0


@pytest.mark.parametrize(("rate", "word"), [(0.0, "is 0"), (1e-7, "too low"), (30.0, "too high")])
def test_learning_rate(world, rate, word):
    student = Bag(len(world.tokenizer))
    optimizer = torch.optim.Adam(student.parameters(), lr=rate)
    diagnosis = diagnose(student, world.teacher, world.batches, training=optimizer)
    assert diagnosis.cause == "learning_rate"
    assert word in diagnosis["learning_rate"].advice


@pytest.mark.parametrize(("rate", "cause"), [(1e-6, "learning_rate"), (0.5, "undertrained")])
def test_plain_gradient_descent_is_judged_as_itself(world, rate, cause):
    """A rate that would ruin Adam is right for it, and the other way round."""
    student = Bag(len(world.tokenizer))
    optimizer = torch.optim.SGD(student.parameters(), lr=rate, momentum=0.9)
    assert diagnose(student, world.teacher, world.batches, training=optimizer).cause == cause


def test_learning_rate_after_its_schedule_has_ended_is_not_0(world, taught):
    student = copy.deepcopy(taught)
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=1)
    optimizer.zero_grad()
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0
    assert diagnose(student, world.teacher, world.batches, training=optimizer).cause is None


def test_frozen_head(world):
    student = Bag(len(world.tokenizer))
    student.head.requires_grad_(False)
    diagnosis = diagnose(student, world.teacher, world.batches, training=RATE)
    assert diagnosis.cause == "frozen"
    assert "head.weight" in diagnosis["frozen"].advice


def test_optimizer_without_the_head(world):
    student = Bag(len(world.tokenizer))
    body = [p for name, p in student.named_parameters() if not name.startswith("head")]
    optimizer = torch.optim.Adam(body, lr=RATE)
    diagnosis = diagnose(student, world.teacher, world.batches, training=optimizer)
    assert diagnosis.cause == "optimizer"


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_targets_shuffled_against_sources(world, taught, share):
    """All of them, or half of the lines after a merge."""
    count = int(share * len(world.sources))
    sources = [*world.sources[1:count], world.sources[0], *world.sources[count:]]
    diagnosis = diagnose(taught, world.teacher, world.collated(sources, world.targets))
    assert diagnosis.cause == "mispaired"
    found = diagnosis["mispaired"].evidence
    assert found["share_of_wrong_pairs"] == pytest.approx(share, abs=4 * found["standard_error"] + 0.15)


def test_student_that_reads_half_of_the_source(world):
    """What is cut off is what the teacher still reads."""

    class Blind(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, input_ids, attention_mask, **inputs):
            return self.inner(input_ids=input_ids[:, :3], attention_mask=attention_mask[:, :3], **inputs)

    student = Blind(world.student())
    fit(student, world.batches, DistillationLoss(), world.teacher, updates=120)
    diagnosis = diagnose(student, world.teacher, world.batches)
    assert diagnosis.cause == "missing_input"
    assert diagnosis["missing_input"].evidence["source_positions_that_the_student_ignores"] > 0.4


class Coin(nn.Module):
    """A student that knows the teacher's mean over contexts, after each prefix, and nothing more.

    At both places of a sentence the teacher says one of two words, in context 0 the first with probability `sure`, in
    context 1 the second; which two words they are depends on the place and the source. After the first word the context
    is known better: Bayes gives what the best student without it says.
    """

    def __init__(self, sure: float):
        super().__init__()
        self.sure = sure
        self.weight = nn.Parameter(torch.zeros(10))

    @staticmethod
    def rows(source, pairs):
        """Log-probabilities [batch, 2, 10] from those of the two words at each place."""
        logits = torch.full((len(source), 2, 10), -20.0)
        for place in range(2):
            words = 2 + 4 * source[:, :1] + 2 * place + torch.arange(2)
            logits[:, place].scatter_(1, words, pairs[:, place].log())
        return logits

    def forward(self, input_ids, decoder_input_ids, **inputs):
        a = self.sure
        same, different = a * a + (1 - a) ** 2, 2 * a * (1 - a)
        second = torch.where(
            decoder_input_ids[:, 1:] % 2 == 0,
            torch.tensor([same, different]),
            torch.tensor([different, same]),
        )
        pairs = torch.stack([torch.full_like(second, 0.5), second], 1)
        return SimpleNamespace(logits=self.rows(input_ids, pairs) + self.weight)

    def teacher(self, batch):
        pair = torch.tensor([[self.sure, 1 - self.sure], [1 - self.sure, self.sure]])[batch["context"]]
        return self.rows(batch["input_ids"], torch.stack([pair, pair], 1))

    def batch(self, sentences: int = 400):
        generator = torch.Generator().manual_seed(0)
        context = torch.arange(sentences) % 2
        source = torch.randint(2, (sentences, 1), generator=generator)
        other = torch.rand((sentences, 2), generator=generator) > self.sure
        labels = 2 + 4 * source + 2 * torch.arange(2) + (context[:, None] ^ other.long())
        inputs = torch.cat([torch.zeros(sentences, 1, dtype=torch.long), labels[:, :1]], 1)
        return {"input_ids": source, "labels": labels, "decoder_input_ids": inputs, "context": context}

    def floor(self) -> float:
        """I(C; Y) / 2 in nats a token: of two draws of a coin whose side depends on C."""

        def entropy(*p):
            return -sum(x * math.log(x) for x in p)

        a, b = self.sure, 1 - self.sure
        return (entropy(*[(a * a + b * b) / 2] * 2, *[a * b] * 2) - 2 * entropy(a, b)) / 2


@pytest.mark.parametrize("sure", [0.97, 0.8])
@pytest.mark.parametrize("field", ["context", None])
def test_teacher_has_context_that_the_student_lacks(sure, field):
    """The measured floor is the mutual information, worked out by hand; as a field of the batch, or unseen."""
    coin = Coin(sure)
    batch = coin.batch()
    kept = batch.pop("context") if field is None else None
    # Without the field it comes by another way, and the same sources under both contexts show it.
    teacher = coin.teacher if field else (lambda b: coin.teacher({**b, "context": kept[: len(b["labels"])]}))
    finding = check_missing_input(Case(coin, teacher, batch))
    assert finding.verdict == "explains"
    assert finding.evidence["floor"] == pytest.approx(coin.floor(), rel=0.12)
    assert diagnose(coin, teacher, batch).cause == "missing_input"


def test_no_floor_where_the_context_says_nothing(world, taught):
    batches = [{**batch, "context": torch.arange(len(batch["labels"]))} for batch in world.batches]
    finding = check_missing_input(Case(taught, world.teacher, batches))
    assert finding.verdict == "clear"
    assert finding.evidence["floor"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("temperature", [4.0, 8.0])
def test_loss_times_the_square_of_the_temperature_read_as_nats(world, taught, temperature):
    loss = DistillationLoss(temperature=temperature)
    finding = check_temperature(Case(taught, world.teacher, world.batches, loss=loss))
    assert finding.verdict == "explains"
    assert finding.evidence["factor"] == pytest.approx(temperature**2, rel=1e-3)


def test_value_at_temperature_1_has_the_divergences_own_parameters(world, taught):
    loss = DistillationLoss("generalized_jsd", beta=0.1, temperature=4.0)
    evidence = check_temperature(Case(taught, world.teacher, world.batches, loss=loss)).evidence
    plain = Case(
        taught, world.teacher, world.batches, loss=DistillationLoss("generalized_jsd", beta=0.1)
    ).value
    assert evidence["the_same_at_temperature_1"] == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("ratio", [0.5, 1.1, 4.0])
def test_temperature_of_one_side_only(world, taught, ratio):
    diagnosis = diagnose(
        taught,
        world.teacher,
        world.batches,
        loss=lambda s, t, labels: DistillationLoss()(s / ratio, t, labels),
    )
    assert diagnosis.cause == "temperature"
    found = diagnosis["temperature"].evidence
    assert found["student_temperature"] / found["teacher_temperature"] == pytest.approx(ratio, rel=1e-2)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda s, t, labels: DistillationLoss()(s, t, labels) / (labels != -100).sum(), "divided by twice"),
        (lambda s, t, labels: DistillationLoss()(s, t, labels) / s.shape[-1], "entries of the vocabulary"),
    ],
)
def test_loss_that_is_too_small_by_a_factor(world, taught, loss, words):
    diagnosis = diagnose(taught, world.teacher, world.batches, loss=loss)
    assert diagnosis.cause == "reduction"
    assert words in diagnosis["reduction"].advice


def test_student_that_is_too_small(world):
    diagnosis = diagnose(Bag(len(world.tokenizer), width=1), world.teacher, world.batches)
    assert diagnosis.faults == []
    assert diagnosis.cause == "capacity"


# What holds for every check


def test_nothing_that_is_given_is_changed(world):
    """Weights, gradients, modes of single modules, the random state, the optimizer's groups and the batch."""
    student = world.student(dropout=0.1).train()
    student.model.encoder.eval()
    loss = DistillationLoss()
    batch = world.batches[0]
    loss(logits_of(student, batch), world.teacher(batch), batch["labels"]).backward()
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE)
    optimizer.step()
    before = {
        "weights": {name: value.clone() for name, value in student.state_dict().items()},
        "gradients": {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None},
        "batch": {name: value.clone() for name, value in batch.items()},
    }
    modes = [module.training for module in student.modules()]
    teacher_weights = {name: value.clone() for name, value in world.model.state_dict().items()}
    required = [p.requires_grad for p in student.parameters()]
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    torch.manual_seed(7)
    state = torch.get_rng_state()
    diagnose(student, world.teacher, batch, training=optimizer)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in student.modules()] == modes
    assert [p.requires_grad for p in student.parameters()] == required
    assert [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups] == groups
    after = {
        "weights": student.state_dict(),
        "gradients": {name: p.grad for name, p in student.named_parameters() if p.grad is not None},
        "batch": batch,
    }
    for kind, values in before.items():
        assert values.keys() == after[kind].keys()
        assert all(torch.equal(value, after[kind][name]) for name, value in values.items()), kind
    assert all(torch.equal(value, world.model.state_dict()[name]) for name, value in teacher_weights.items())


def test_print_shows_causes_numbers_and_advice(world, taught):
    text = str(diagnose(taught, world.teacher, world.batches, loss=soft_cross_entropy))
    assert text.startswith("cause: cross_entropy_floor")
    assert "teacher entropy" in text
    assert "Read KL(teacher || student)" in text
    assert "clear    mask" in text
    with pytest.raises(KeyError, match="'mistake'"):
        diagnose(taught, world.teacher, world.batches)["mistake"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": "a"}, "student: got str"),
        ({"teacher": 3}, "teacher: got int"),
        ({"batches": []}, "batches: got none"),
        ({"batches": [{"input_ids": torch.ones(1, 1)}]}, "batches: number 0 has no labels"),
        ({"training": "adam"}, "training: got str"),
    ],
)
def test_bad_input(world, taught, changes, message):
    good = {"student": taught, "teacher": world.teacher, "batches": world.batches}
    given = good | changes
    with pytest.raises(ValueError, match=message):
        Case(given.pop("student"), given.pop("teacher"), given.pop("batches"), **given)


def test_teacher_with_answers_of_another_length(world, taught):
    with pytest.raises(ValueError, match="teacher: got an answer for"):
        diagnose(taught, lambda batch: world.teacher(batch)[:, :-1], world.batches)


# The statistics


def test_critical_value_is_students_t():
    """Against tables: t at the one-sided 0.000483 of 3.3 standard errors; 9 and 29 degrees of freedom."""
    mpmath = pytest.importorskip("mpmath")
    tail = (1 - mpmath.erf(3.3 / mpmath.sqrt(2))) / 2
    for count in (8, 10, 30, 200):
        nu, t = count - 1, critical(count)
        x = nu / (nu + t * t)
        found = mpmath.betainc(mpmath.mpf(nu) / 2, 0.5, 0, x, regularized=True) / 2
        assert float(found / tail) == pytest.approx(1, abs=0.15)
    assert critical(3) == math.inf


def test_lower_bound_is_rarely_above_the_truth():
    generator = torch.Generator().manual_seed(0)
    above = sum(lower_bound(torch.randn(10, generator=generator)) > 0 for _ in range(5000))
    assert above <= 10  # 2.4 expected


def test_rounding_covers_a_change_of_the_order_of_the_sum():
    generator = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(50, 64, generator=generator), torch.randn(400, 64, generator=generator)
    order = torch.randperm(64, generator=generator)
    one, other = hidden @ head.T, hidden[:, order] @ head[:, order].T
    p, q = one.double().log_softmax(-1), other.double().log_softmax(-1)
    assert 0 < (p.exp() * (p - q)).sum(-1).max() <= rounding(one)


def test_dense_spreads_the_tail_over_the_rest():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    topk = TopK.from_logits(logits, k=3)
    p = dense(topk).exp()
    assert torch.allclose(p.sum(-1), torch.ones(2, 3))
    assert torch.allclose(p.gather(-1, topk.indices), logits.softmax(-1).gather(-1, topk.indices))
    rest = p.scatter(-1, topk.indices, 0.0)
    assert torch.allclose(rest.max(-1).values * 4, rest.sum(-1))
    short = TopK(torch.tensor([[2, -1]]), torch.tensor([[0.0, -math.inf]]), torch.tensor([-math.inf]), 4)
    assert dense(short).exp().tolist() == [[0.0, 0.0, 1.0, 0.0]]


def test_checks_run_alone(world, taught):
    case = Case(taught, world.teacher, world.batches)
    for check in (check_mask, check_dropout, check_tokenizer, check_mispaired):
        assert check(case).verdict == "clear"
