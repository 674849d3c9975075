"""What fits into a budget: every candidate built and counted, none missing, and times against a known law."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from transformers import MarianMTModel

from kdlab.budget import WIDTHS, Budget, candidates
from kdlab.cost import CostModel, Observation, fit_cost, measure_cost, time_translation
from kdlab.counts import count, sketch
from kdlab.projection import projected_student
from kdlab.student_init import fresh_student
from kdlab.students import Architecture, count_parameters, marian_config
from tests.unit.kinds import ENCODER_DECODER, KINDS, teacher_of

COST = CostModel(operations_per_second=2e9, per_layer=3e-5, per_step=1e-4, start=5e-4)
COUNTED = [kind for kind in KINDS if kind != "qwen2-sliding"]


def marian(*size, vocabulary=1000):
    return count(sketch(MarianMTModel, marian_config(Architecture(*size), vocabulary)))


def test_candidates_are_what_is_built():
    budget = Budget(megabytes=0.4, milliseconds=8.0)
    found = candidates(budget, vocabulary=1000, cost=COST)
    assert len(found) > 10
    for candidate in found:
        model = sketch(MarianMTModel, marian_config(candidate.architecture, 1000))
        assert count(model) == candidate.counts
        assert candidate.counts.parameters == count_parameters(model)
        assert candidate.megabytes == candidate.counts.bytes(8, positions=True) / 1e6 <= 0.4
        assert candidate.milliseconds == 1000 * COST.seconds(candidate.counts, 20, 20) <= 8.0


@pytest.mark.parametrize("kind", COUNTED)
def test_candidates_below_a_teacher_are_what_is_built(kind):
    teacher = teacher_of(kind)
    found = candidates(Budget(megabytes=1), teacher=teacher, widths=[8, 16, 24, 32])
    # One layer to a side at width 8, two at 16, three at 24, none at 32; a Llama with two queries to a key has no 8.
    expected = 1 + 4 + 9 if kind in ENCODER_DECODER else 1 + 2 + 3
    assert len(found) == expected - kind.startswith(("llama", "qwen2"))
    assert max(candidate.architecture.d_model for candidate in found) == 24
    for candidate in found[:3] + found[-3:]:
        for student in (
            fresh_student(teacher, candidate.architecture, seed=0),
            projected_student(teacher, candidate.architecture, seed=0),
        ):
            assert count(student) == candidate.counts
    default = candidates(Budget(megabytes=1), teacher=teacher)
    assert {candidate.architecture.d_model for candidate in default} == {
        24
    }  # its own, and no width of the grid


def test_none_that_fits_is_missing():
    budget = Budget(megabytes=0.35, milliseconds=6.0, bits=16)
    found = {candidate.architecture for candidate in candidates(budget, vocabulary=500, cost=COST)}
    every = {
        candidate.architecture: candidate
        for candidate in candidates(Budget(megabytes=1e6), vocabulary=500, cost=COST)
    }
    assert len(every) == sum(min(12, width // 8) * min(6, width // 8) for width in WIDTHS)
    fitting = {
        architecture
        for architecture, candidate in every.items()
        if candidate.counts.bytes(16, positions=True) <= 350_000 and candidate.milliseconds <= 6.0
    }
    assert found == fitting
    assert 0 < len(found) < len(every)


def test_each_limit_binds_alone():
    small = candidates(Budget(megabytes=0.3), vocabulary=1000)
    assert small
    assert all(candidate.milliseconds is None and candidate.megabytes <= 0.3 for candidate in small)
    quick = candidates(Budget(milliseconds=20.0), vocabulary=1000, cost=COST)
    assert max(candidate.megabytes for candidate in quick) > 0.3
    assert max(candidate.milliseconds for candidate in quick) <= 20.0
    longer = candidates(Budget(milliseconds=20.0, target_length=40), vocabulary=1000, cost=COST)
    assert len(longer) < len(quick)
    assert candidates(Budget(megabytes=0.001), vocabulary=1000) == []


def test_the_most_capable_comes_first_and_a_deep_encoder_before_a_deep_decoder():
    found = candidates(Budget(megabytes=2.0), vocabulary=1000, cost=COST)
    sizes = [candidate.counts.layer_parameters for candidate in found]
    assert sizes[0] > 0.95 * max(sizes)
    for before, after in pairwise(found):
        first, second = before.architecture, after.architecture
        larger = before.counts.layer_parameters / after.counts.layer_parameters
        assert larger > 1 / 1.05 - 1e-9
        step = [math.floor(math.log(one.counts.layer_parameters) / math.log(1.05)) for one in (before, after)]
        assert step[0] >= step[1]
        if step[0] == step[1]:
            assert (first.decoder_layers, -first.encoder_layers) <= (
                second.decoder_layers,
                -second.encoder_layers,
            )


def test_with_a_limit_of_time_the_decoder_becomes_shallow():
    """The best three of the same budget of time, where layers are what it is made of."""
    cost = CostModel(math.inf, per_layer=1e-4)
    best = candidates(Budget(milliseconds=4.5), vocabulary=1000, cost=cost)[:3]
    assert all(one.architecture.encoder_layers > 3 * one.architecture.decoder_layers for one in best)


def test_seconds_are_the_law():
    counts = marian(32, 3, 2, 64)
    seconds = CostModel(1e9, per_layer=1e-3, per_step=1e-2, start=0.1).seconds(counts, 7, 5)
    assert seconds == pytest.approx(
        0.1 + 5 * 1e-2 + (3 + 2 * 5) * 1e-3 + counts.greedy(7, 5) / 1e9, rel=1e-12
    )


def observations(cost, noise=0.0):
    generator = torch.Generator().manual_seed(0)
    for size in [(64, 1, 1, 256), (64, 4, 1, 256), (64, 1, 4, 256), (256, 1, 1, 1024), (256, 2, 3, 1024)]:
        counts = marian(*size)
        for lengths in ((8, 8), (24, 20)):
            factor = 1 + noise * torch.randn(1, generator=generator).item()
            yield Observation(counts, *lengths, seconds=cost.seconds(counts, *lengths) * factor)


@pytest.mark.parametrize(
    "cost",
    [
        COST,
        CostModel(1e10),
        CostModel(math.inf, per_layer=1e-4, start=1e-3),
        CostModel(3e8, per_step=2e-4),
    ],
)
def test_a_known_law_is_found_again(cost):
    found = fit_cost(list(observations(cost)))
    for name in ("per_layer", "per_step", "start"):
        assert getattr(found, name) == pytest.approx(getattr(cost, name), rel=1e-6, abs=1e-9)
    rates = 1 / found.operations_per_second, 1 / cost.operations_per_second
    assert rates[0] == pytest.approx(rates[1], rel=1e-6, abs=1e-15)


def test_no_term_is_negative_and_the_fit_is_the_best_of_those():
    """Against projected gradient descent on the same squares, which knows nothing of subsets."""
    seen = list(observations(CostModel(1e10, per_layer=3e-5), noise=0.3))
    found = fit_cost(seen)
    terms = torch.tensor(
        [
            [
                1,
                o.target_length,
                o.counts.encoder_layers + o.counts.decoder_layers * o.target_length,
                o.counts.greedy(o.source_length, o.target_length),
            ]
            for o in seen
        ],
        dtype=torch.float64,
    ) / torch.tensor([[o.seconds] for o in seen], dtype=torch.float64)
    scale = terms.norm(dim=0)
    unit = terms / scale
    rate = 1 / torch.linalg.eigvalsh(unit.T @ unit).max()
    solution = torch.zeros(4, dtype=torch.float64)
    for _ in range(20_000):
        solution = (solution - rate * unit.T @ (unit @ solution - 1)).clamp(min=0)
    ours = torch.tensor(
        [found.start, found.per_step, found.per_layer, 1 / found.operations_per_second], dtype=torch.float64
    )
    torch.testing.assert_close(ours * scale, solution, atol=1e-6, rtol=1e-5)
    assert (solution == 0).any()  # a plain fit would have gone below


def test_times_are_measured():
    cost = measure_cost(50, repeats=1)
    counts = marian(64, 1, 1, 256)
    assert 0 < cost.seconds(counts, 8, 8) < 60
    model = MarianMTModel(marian_config(Architecture(16, 1, 1, 32), 50))
    model.final_logits_bias[0, model.config.eos_token_id] = 100  # it would end at once
    steps = []
    model.model.decoder.register_forward_hook(lambda *_: steps.append(1))
    assert time_translation(model, 5, 7, repeats=2) > 0
    assert len(steps) == 3 * 7  # one run to warm up, then two


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"^megabytes: got None, as milliseconds is, expected a limit"),
        ({"megabytes": 0}, r"^megabytes: got 0, expected more than 0"),
        ({"milliseconds": math.nan}, r"^milliseconds: got nan, expected more than 0"),
        ({"megabytes": 1, "bits": 4}, r"^bits: got 4, expected 8, 16 or 32"),
        ({"megabytes": 1, "source_length": 0}, r"^source_length: got 0, expected at least 1"),
    ],
)
def test_budgets_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Budget(**options)


def test_candidates_refuse():
    size = Budget(megabytes=1)
    with pytest.raises(ValueError, match=r"^teacher: got None, as vocabulary is"):
        candidates(size)
    with pytest.raises(ValueError, match=r"^vocabulary: got one with a teacher"):
        candidates(size, teacher=teacher_of("marian"), vocabulary=50)
    with pytest.raises(
        ValueError, match=r"^cost: got None with a limit of milliseconds, expected a CostModel"
    ):
        candidates(Budget(milliseconds=5), vocabulary=50)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operations_per_second": 0}, r"^operations_per_second: got 0, expected more than 0"),
        ({"operations_per_second": 1, "per_step": -1}, r"^per_step: got -1, expected 0 or more"),
        ({"operations_per_second": 1, "start": math.nan}, r"^start: got nan, expected 0 or more"),
    ],
)
def test_cost_models_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CostModel(**options)


def test_fits_are_refused():
    seen = list(observations(COST))
    with pytest.raises(ValueError, match=r"^observations: got 3, expected at least 4"):
        fit_cost(seen[:3])
    counts = seen[0].counts
    with pytest.raises(ValueError, match=r"^observations: got a time of 0\.0 seconds, expected more than 0"):
        fit_cost([*seen, Observation(counts, 3, 3, 0.0)])
