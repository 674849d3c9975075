"""Log-probabilities, entropy, sequences and the top-k signal, against sums written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.distributions import (
    TopK,
    align,
    entries_for_mass,
    entropy,
    log_probabilities,
    sequence_log_probability,
    token_log_probabilities,
)


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 3.0, 100.0])
def test_log_probabilities_are_those_of_the_softmax(temperature: float) -> None:
    logits = rows(3, 5)
    weights = (logits / temperature).exp()
    expected = (weights / weights.sum(-1, keepdim=True)).log()
    torch.testing.assert_close(log_probabilities(logits, temperature), expected)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_is_widened_before_any_arithmetic(dtype: torch.dtype, expected: torch.dtype) -> None:
    logits = rows(2, 7).to(dtype)
    found = log_probabilities(logits, 3.0)
    assert found.dtype == expected
    torch.testing.assert_close(
        found.double(), torch.log_softmax(logits.double() / 3.0, -1), rtol=1e-6, atol=1e-6
    )


def test_a_logit_of_minus_infinity_has_no_probability() -> None:
    found = log_probabilities(torch.tensor([0.0, -math.inf, 0.0]), 2.0)
    assert found.exp().tolist() == pytest.approx([0.5, 0.0, 0.5])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_entropy(temperature: float) -> None:
    logits = rows(4, 6)
    p = torch.softmax(logits / temperature, -1)
    torch.testing.assert_close(entropy(logits, temperature), -(p * p.log()).sum(-1))


def test_entropy_of_the_ends() -> None:
    assert entropy(torch.zeros(6)).item() == pytest.approx(math.log(6))
    logits = torch.tensor([0.0, -math.inf, -1e4], requires_grad=True)
    value = entropy(logits)
    value.backward()
    assert value.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_alignment_is_what_its_name_says() -> None:
    logits, labels = rows(2, 4, 5), torch.arange(8).reshape(2, 4)
    found_logits, found_labels = align(logits, labels, "encoder_decoder")
    assert torch.equal(found_logits, logits)
    assert torch.equal(found_labels, labels)
    found_logits, found_labels = align(logits, labels, "causal")
    for i in range(3):  # row i of the logits predicts label i + 1
        assert torch.equal(found_logits[:, i], logits[:, i])
        assert torch.equal(found_labels[:, i], labels[:, i + 1])
    assert found_logits.shape == (2, 3, 5)
    assert found_labels.shape == (2, 3)


@pytest.mark.parametrize("alignment", ["encoder_decoder", "causal"])
@pytest.mark.parametrize("ignore_index", [-100, -1, 3])
def test_token_and_sequence_log_probabilities(alignment: str, ignore_index: int) -> None:
    logits, labels = rows(2, 4, 5), torch.tensor([[0, 1, 2, 4], [4, 2, 1, 0]])
    labels[0, 2] = labels[1, 3] = ignore_index
    shift = 1 if alignment == "causal" else 0
    expected = torch.zeros(2, 4 - shift, dtype=torch.float64)
    for b in range(2):
        for i in range(4 - shift):
            label = int(labels[b, i + shift])
            if label != ignore_index:
                scores = (logits[b, i] / 2.0).tolist()
                expected[b, i] = scores[label] - math.log(sum(math.exp(s) for s in scores))
    options = {"alignment": alignment, "temperature": 2.0, "ignore_index": ignore_index}
    torch.testing.assert_close(token_log_probabilities(logits, labels, **options), expected)
    torch.testing.assert_close(sequence_log_probability(logits, labels, **options), expected.sum(-1))


def test_nan_in_an_ignored_row_reaches_neither_value_nor_gradient() -> None:
    logits = rows(1, 3, 4)
    logits[0, 1] = math.nan
    logits.requires_grad_()
    labels = torch.tensor([[1, -100, 2]])
    value = sequence_log_probability(logits, labels, alignment="encoder_decoder").sum()
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[0, 1] == 0).all()
    assert (logits.grad[0, 0] != 0).all()


def test_the_probabilities_of_all_sequences_sum_to_one() -> None:
    """A model that ignores its history: Pr(y) over all 3^4 sequences of length 4."""
    labels = torch.cartesian_prod(*[torch.arange(3)] * 4)
    logits = rows(4, 3).expand(len(labels), 4, 3)
    total = sequence_log_probability(logits, labels, alignment="encoder_decoder").exp().sum()
    assert total.item() == pytest.approx(1.0)


def test_top_k_keeps_the_most_probable_entries() -> None:
    p = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15], dtype=torch.float64)
    top = TopK.from_logits(p.log(), k=2)
    assert top.indices.tolist() == [1, 3]
    assert top.log_probabilities.exp().tolist() == pytest.approx([0.4, 0.3])
    assert top.tail_log_probability.exp().item() == pytest.approx(0.3)
    assert (top.vocabulary, top.temperature) == (5, 1.0)
    assert top.events().exp().tolist() == pytest.approx([0.4, 0.3, 0.3])


@settings(derandomize=True, max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 6), temperature=st.sampled_from([0.05, 1.0, 7.0]))
def test_the_events_of_top_k_are_a_coarse_graining(seed: int, k: int, temperature: float) -> None:
    logits = rows(3, 6, seed=seed)
    top = TopK.from_logits(logits, k, temperature)
    p = torch.softmax(logits / temperature, -1)
    for row in range(3):
        chosen = top.indices[row].tolist()
        rest = [v for v in range(6) if v not in chosen]
        assert len(rest) == 6 - k
        assert min(p[row, chosen]) >= max([*p[row, rest].tolist(), 0.0])
        expected = [*p[row, chosen].tolist(), float(p[row, rest].sum())]
        assert top.events()[row].exp().tolist() == pytest.approx(expected, abs=1e-12)


def test_top_k_of_the_whole_vocabulary_leaves_nothing() -> None:
    top = TopK.from_logits(rows(2, 4), k=4)
    assert (top.tail_log_probability == -math.inf).all()


INDICES = torch.zeros(2, 3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: log_probabilities(torch.tensor([1, 2])),
            r"logits: got dtype torch.int64, expected floating",
        ),
        (lambda: log_probabilities([1.0, 2.0]), r"logits: got list, expected a tensor"),
        (
            lambda: log_probabilities(torch.tensor(1.0)),
            r"logits: got shape \(\), expected \[\.\.\., vocabulary\]",
        ),
        (lambda: log_probabilities(torch.zeros(3, 0)), r"logits: got shape \(3, 0\), expected"),
        *[
            (
                lambda t=t: log_probabilities(torch.zeros(3), t),
                rf"temperature: got {t}, expected a finite number > 0",
            )
            for t in (0, -1.0, math.nan, math.inf)
        ],
        (lambda: entropy(torch.zeros(3), 0.0), r"temperature: got 0.0, expected"),
        (
            lambda: align(rows(1, 2, 3), torch.zeros(1, 2).long(), "shifted"),
            r"alignment: got 'shifted', expected 'c",
        ),
        (
            lambda: align(rows(1, 2, 3), torch.zeros(1, 3).long(), "causal"),
            r"labels: got shape \(1, 3\), expected \(1",
        ),
        (
            lambda: align(rows(1, 2, 3), torch.zeros(1, 2), "causal"),
            r"labels: got dtype torch.float32, expected int",
        ),
        (lambda: align(rows(1, 2, 3), [[0, 1]], "causal"), r"labels: got list, expected a tensor"),
        (
            lambda: token_log_probabilities(
                rows(1, 2, 3), torch.tensor([[0, 3]]), alignment="encoder_decoder"
            ),
            r"labels: got 3, expected 0 to 2, or ignore_index .*1 labels out of range",
        ),
        (
            lambda: token_log_probabilities(rows(1, 2, 3), torch.tensor([[0, -1]]), alignment="causal"),
            r"labels: got -1, expected 0 to 2",
        ),
        (lambda: TopK.from_logits(rows(2, 3), 0), r"k: got 0, expected 1 to 3"),
        (lambda: TopK.from_logits(rows(2, 3), 4), r"k: got 4, expected 1 to 3"),
        (lambda: TopK.from_logits(torch.tensor([1, 2]), 1), r"logits: got dtype torch.int64"),
        (
            lambda: TopK(INDICES.int(), rows(2, 3), rows(2), 9),
            r"indices: got torch.int32 \(2, 3\), expected int64",
        ),
        (
            lambda: TopK(INDICES[0, 0], rows(2, 3), rows(2), 9),
            r"indices: got torch.int64 \(\), expected int64",
        ),
        (
            lambda: TopK(INDICES, rows(2, 3), rows(2), 2),
            r"indices: got .*\(2, 3\), expected .*vocabulary's 2",
        ),
        (
            lambda: TopK(INDICES, rows(2, 2), rows(2), 9),
            r"^log_probabilities: got shape \(2, 2\), expected \(2, 3\)",
        ),
        (
            lambda: TopK(INDICES, rows(2, 3), rows(3), 9),
            r"^tail_log_probability: got shape \(3,\), expected \(2,\)",
        ),
        (lambda: TopK(INDICES, rows(2, 3), rows(2), 9, 0.0), r"temperature: got 0.0"),
    ],
)
def test_bad_input_is_refused_with_its_name(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), mass=st.floats(0.01, 0.99), temperature=st.sampled_from([0.5, 1.0, 4.0]))
def test_so_many_entries_hold_the_mass_and_one_less_does_not(seed, mass, temperature) -> None:
    logits = rows(9, seed=seed)
    p = sorted((logits / temperature).softmax(-1).tolist(), reverse=True)
    n = int(entries_for_mass(logits, mass, temperature))
    assert sum(p[:n]) >= mass - 1e-12
    assert sum(p[: n - 1]) < mass + 1e-12


def test_the_mass_of_a_certain_row_is_in_one_entry_and_a_huge_mass_takes_all() -> None:
    certain = torch.tensor([[0.0, -math.inf, -math.inf], [0.0, 0.0, 0.0]])
    assert entries_for_mass(certain, 0.99).tolist() == [1, 3]
    assert entries_for_mass(torch.zeros(7), 1 - 1e-12).item() == 7


@pytest.mark.parametrize("mass", [0.0, 1.0, -0.5])
def test_a_mass_outside_0_to_1_is_refused(mass: float) -> None:
    with pytest.raises(ValueError, match=f"^mass: got {mass}, expected"):
        entries_for_mass(torch.zeros(3), mass)


def test_the_entropy_of_a_certain_outcome_is_0_and_not_minus_0() -> None:
    assert math.copysign(1.0, entropy(torch.tensor([0.0, -math.inf])).item()) == 1.0
