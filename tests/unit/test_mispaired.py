"""Wrong pairs are named, and right pairs are not accused by a teacher that does not know them."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from kdlab import DistillationLoss, diagnose
from kdlab.diagnostic_case import Case
from kdlab.diagnostic_inputs import UNLIKELY, _elsewhere, check_mispaired
from kdlab.significance import SIGNIFICANT, surely_more
from tests.unit.planted import Bag, World, fit

WEAK = [(20, 0), (60, 300), (150, 200), (400, 20), (250, 100), (600, 100)]  # updates, other sentences
MIXED = torch.randperm(32, generator=torch.Generator().manual_seed(0))[:16].tolist()


@functools.cache
def world_of(updates=250, others=0, seed=1):
    return World(updates, others, seed)


def finding_of(world, batches=None, teacher=None):
    return check_mispaired(
        Case(Bag(len(world.tokenizer)), teacher or world.teacher, batches or world.batches)
    )


def moved(lines, places):
    """The lines at these places, each in the place of the one before it."""
    result = list(lines)
    for place, source in zip(places, [*places[1:], places[0]], strict=True):
        result[place] = lines[source]
    return result


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("updates", "others"), WEAK)
def test_right_pairs_that_the_teacher_does_not_know(updates, others, seed):
    finding = finding_of(world_of(updates, others, seed))
    assert finding.verdict in ("clear", "skipped")


@pytest.mark.parametrize(
    ("updates", "others", "words"),
    [(20, 0, "hardly uses its source"), (60, 300, "hardly uses its source"), (400, 20, "three pairs")],
)
def test_what_a_teacher_that_cannot_tell_is_told(updates, others, words):
    finding = finding_of(world_of(updates, others, seed=2))
    assert finding.verdict == "skipped"
    assert words in finding.advice


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("places", [range(32), range(16), MIXED])
def test_sources_out_of_step(places, seed):
    """All of them, the first half, and any half, where the right source may be in another batch."""
    world = world_of(seed=seed)
    finding = finding_of(world, world.collated(moved(world.sources, [*places]), world.targets))
    assert finding.verdict == "fault"
    assert "out of step" in finding.advice
    wrong = finding.evidence["targets_that_translate_another_source"]
    assert wrong == pytest.approx(len(places), abs=4)


def test_sources_out_of_step_before_a_teacher_that_knows_other_sentences():
    world = world_of(600, 100, seed=3)
    assert finding_of(world).verdict == "clear"
    assert (
        finding_of(world, world.collated(moved(world.sources, range(32)), world.targets)).verdict == "fault"
    )


def test_teacher_that_does_not_read_its_source():
    world = world_of()

    def teacher(batch):
        nothing = torch.ones_like(batch["input_ids"])
        return world.teacher({**batch, "input_ids": nothing, "attention_mask": nothing})

    finding = finding_of(world, teacher=teacher)
    assert finding.verdict == "fault"
    assert "does not read the source" in finding.advice


class Cut(nn.Module):
    """A student that reads the first tokens of its source alone."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, input_ids, attention_mask, **inputs):
        return self.inner(input_ids=input_ids[:, :3], attention_mask=attention_mask[:, :3], **inputs)


@pytest.mark.parametrize("cause", ["undertrained", "capacity", "missing_input", None])
def test_other_causes_are_told_beside_a_teacher_that_does_not_know_the_sentences(cause):
    world = world_of(400, 20, seed=2)
    student = {
        "undertrained": world.student,
        "capacity": lambda: Bag(len(world.tokenizer), width=1),
        "missing_input": lambda: Cut(world.student()),
        None: world.taught,
    }[cause]()
    if cause == "missing_input":
        fit(student, world.batches, DistillationLoss(), world.teacher, updates=120)
    diagnosis = diagnose(student, world.teacher, world.batches)
    assert diagnosis["mispaired"].verdict == "skipped"
    assert diagnosis.cause == cause


class Table:
    """A teacher with distributions for each source, whatever was said before; a source is one token."""

    def __init__(self, sources=40, length=6, words=40, sharpness=1.5):
        generator = torch.Generator().manual_seed(0)
        self.rows = (sharpness * torch.randn(sources, length, words, generator=generator)).log_softmax(-1)

    def __call__(self, batch):
        return self.rows[batch["input_ids"][:, 0]]

    def batch(self, seed, off=0):
        """Targets drawn from the teacher, beside the sources that they were drawn from or the next ones."""
        sources, length, words = self.rows.shape
        generator = torch.Generator().manual_seed(seed)
        labels = torch.multinomial(self.rows.exp().view(-1, words), 1, generator=generator).view(
            sources, length
        )
        return {
            "input_ids": torch.arange(sources).roll(off)[:, None],
            "attention_mask": torch.ones(sources, 1, dtype=torch.long),
            "labels": labels,
            "decoder_input_ids": labels,
        }


def counted(table, off):
    found, moved = [], []
    for seed in range(10):
        case = Case(Bag(table.rows.shape[-1]), table, table.batch(seed, off))
        with torch.no_grad():
            for values, value in zip((found, moved), _elsewhere(case, case.answers[0]), strict=True):
                values.append(value)
    return torch.cat(found).double().mean().item(), torch.cat(moved).double().mean().item()


@pytest.mark.parametrize("sharpness", [0.5, 1.5, 4.0])
def test_the_teachers_own_translations_seldom_belong_to_another_source(sharpness):
    """Markov's bound on chance; and what another source changes is the mean KL, worked out in float64."""
    table = Table(sharpness=sharpness)
    found, moved = counted(table, 0)
    assert found <= UNLIKELY
    p = table.rows.double()
    pairs = (p.exp()[:, None] * (p[:, None] - p[None])).sum((2, 3))
    assert moved == pytest.approx((pairs.sum() / (len(p) * (len(p) - 1))).item(), rel=1e-5)


def test_the_teachers_translations_of_another_source_are_found():
    assert counted(Table(sharpness=4.0), 1)[0] > 0.9


def test_surely_more_is_the_binomial_tail():
    """Against the incomplete beta function."""
    mpmath = pytest.importorskip("mpmath")
    chance = (1 - mpmath.erf(SIGNIFICANT / mpmath.sqrt(2))) / 2
    for trials in (4, 32, 3000):
        tails = [
            float(mpmath.betainc(h, trials - h + 1, 0, 0.1, regularized=True)) for h in range(1, trials // 3)
        ]
        expected = [tail < chance for tail in tails]
        assert [surely_more(h, trials, 0.1) for h in range(1, trials // 3)] == expected
    assert not surely_more(0, 0, 0.1)
    assert not surely_more(3, 3, 0.1)
    assert surely_more(4, 4, 0.1)
