"""What a loss computes is found out by asking it: every divergence of the family, ours and other people's."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from kdlab import DistillationLoss
from kdlab.divergences import FAMILY
from kdlab.loss_probe import identify_loss


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("name", FAMILY)
def test_family_at_any_temperature(name, temperature):
    kind = identify_loss(DistillationLoss(name, temperature=temperature))
    assert kind.name == name
    assert kind.temperature == pytest.approx(temperature, rel=1e-3)
    assert kind.student_temperature == pytest.approx(temperature, rel=1e-2)
    power = 1 if name == "total_variation" else 2
    assert kind.factor == pytest.approx(temperature**power, rel=5e-3)
    assert kind.ce_factor == 0
    assert (kind.shift, kind.counts_padding, kind.attached) == (0, False, True)
    assert not kind.has_cross_entropy


@pytest.mark.parametrize(
    "name", ["forward_kl", "reverse_kl", "generalized_jsd", "squared_hellinger", "total_variation"]
)
def test_somebody_elses_loss_is_told_by_its_answers(name):
    """Nothing but a function of three tensors."""
    loss = DistillationLoss(name, temperature=1.5, temperature_scaling=False)
    kind = identify_loss(lambda s, t, labels: loss(s, t, labels))
    assert kind.name == name
    assert kind.temperature == pytest.approx(1.5, rel=1e-3)
    assert kind.factor_name == "none"


def test_plain_torch():
    """kl_div, written as it usually is."""

    def usual(s, t, labels):
        q, p = (s / 2).log_softmax(-1)[labels >= 0], (t / 2).softmax(-1)[labels >= 0]
        return 4 * functional.kl_div(q, p, reduction="batchmean")

    kind = identify_loss(usual)
    assert (kind.name, kind.factor_name) == ("forward_kl", "temperature^2")
    assert not kind.counts_padding


@pytest.mark.parametrize("weight", [0.1, 0.5, 1.0])
def test_mix_with_cross_entropy(weight):
    kind = identify_loss(DistillationLoss(ce_weight=weight, temperature=2.0))
    assert kind.ce_factor == pytest.approx(weight, rel=1e-3)
    assert kind.has_cross_entropy
    if weight < 1:
        assert kind.factor == pytest.approx(4 * (1 - weight), rel=5e-3)
        assert kind.factor_name == "temperature^2"
    else:
        assert kind.name is None


def test_soft_cross_entropy_is_no_divergence():
    def loss(s, t, labels):
        return -(t.softmax(-1) * s.log_softmax(-1)).sum(-1)[labels >= 0].mean()

    kind = identify_loss(loss)
    assert kind.name == "cross_entropy"
    assert kind.has_cross_entropy
    assert kind.factor == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("ratio", [0.25, 0.9, 1.1, 3.0])
def test_two_temperatures(ratio):
    kind = identify_loss(lambda s, t, labels: DistillationLoss()(s / ratio, t, labels))
    assert kind.student_temperature / kind.temperature == pytest.approx(ratio, rel=1e-2)
    assert kind.temperature == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (lambda labels, v: labels.numel(), "a sum over tokens"),
        (lambda labels, v: labels.shape[1], "a sum over the length"),
        (lambda labels, v: 1 / v, "entries of the vocabulary"),
        (lambda labels, v: 1 / labels.numel(), "divided by twice"),
        (lambda labels, v: 1 / math.log(2), "bits"),
        (lambda labels, v: 0.37, "0.37"),
    ],
)
def test_factors(factor, words):
    kind = identify_loss(lambda s, t, labels: factor(labels, s.shape[-1]) * DistillationLoss()(s, t, labels))
    assert kind.name == "forward_kl"
    assert words in kind.factor_name


def test_a_loss_of_another_family_is_not_given_a_name():
    kind = identify_loss(lambda s, t, labels: ((s - t) ** 2).mean(-1)[labels >= 0].mean())
    assert kind.name is None


@pytest.mark.parametrize("offset", [-1, 1])
def test_shift_of_the_teacher_or_of_the_labels(offset):
    def teacher(s, t, labels):
        return DistillationLoss()(s, t.roll(-offset, 1), labels)

    def of_labels(s, t, labels):
        return DistillationLoss(ce_weight=0.5)(s, t, labels.roll(-offset, 1))

    assert identify_loss(teacher).shift == offset
    assert identify_loss(of_labels).shift == offset


def test_random_state_is_left_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    identify_loss(DistillationLoss())
    assert torch.equal(torch.get_rng_state(), state)
