"""Mistakes that other libraries have made, and that the losses must not make.

Each test states what must hold as a function of a loss, shows that it holds for ours, and that the same
assertion fails for the mistake, made again here. Numbers are those of the project's list; 13 to 15 and train
mode (part of 8) belong to other parts of the library.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdlab import distillation_loss
from kdlab.distributions import token_log_probabilities
from tests.unit import reference
from tests.unit.reference import random_logits

Loss = Callable[..., Tensor]
IGNORED = -100


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Two sequences of four tokens over six words; the first has one token of padding, the second two."""
    student, teacher = random_logits(2, 4, 6, seed=seed)
    return student, teacher, torch.tensor([[0, 5, 4, IGNORED], [3, 1, IGNORED, IGNORED]])


def slope(loss: Loss, student: Tensor, *arguments, **options) -> Tensor:
    """The gradient with respect to the student's logits."""
    leaf = student.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, *arguments, **options), leaf)[0]


def close(found, expected, tolerance: float = 1e-6) -> None:
    found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def holds_for_ours_only(
    assertion: Callable[..., None], *mistakes: Loss, ours: Loss = distillation_loss
) -> None:
    """The assertion passes for the library and fails for every mistake."""
    assertion(ours)
    for mistake in mistakes:
        with pytest.raises(AssertionError):
            assertion(mistake)


def plain_kl(
    student: Tensor, teacher: Tensor, labels: Tensor | None = None, *, temperature: float = 1.0, **_: object
) -> Tensor:
    """A right but simple forward KL, for mistakes to be put into."""
    q, p = ((x / temperature).log_softmax(-1) for x in (student, teacher))
    tokens = functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    counted = torch.ones_like(tokens) if labels is None else (labels != IGNORED).to(tokens.dtype)
    return (tokens * counted).sum() / counted.sum()


def test_mistake_01_logits_rounded_to_bf16_before_the_cast() -> None:
    """Float32 logits rounded, or half-precision ones divided by T as they are. The oracle rounds nothing."""

    def assertion(loss: Loss) -> None:
        student, teacher = (8 * x.float() for x in random_logits(20, 50))
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 5e-3)):
            pair = student.to(dtype), teacher.to(dtype)
            found = slope(loss, *pair, temperature=3.0).double()
            q, p = ((x.double() / 3.0).softmax(-1) for x in pair)
            expected = 3.0 * (q - p) / len(p)
            assert (found - expected).norm() <= tolerance * expected.norm()

    def rounded(student, teacher, *, temperature, **_):
        student, teacher = student.bfloat16().float(), teacher.bfloat16().float()
        return distillation_loss(student, teacher, temperature=temperature)

    def divided_too_early(student, teacher, *, temperature, **_):
        return temperature**2 * distillation_loss(student / temperature, teacher / temperature)

    holds_for_ours_only(assertion, rounded, divided_too_early)


def test_mistake_02_ignore_index_not_used() -> None:
    def assertion(loss: Loss) -> None:
        student, teacher, labels = batch()
        for ignore_index in (IGNORED, 2):
            marked = labels.masked_fill(labels == IGNORED, ignore_index)
            expected = reference.divergence("forward_kl", student, teacher)[labels != IGNORED].mean()
            close(loss(student, teacher, marked, ignore_index=ignore_index), expected)

    def accepted_only(student, teacher, labels, *, ignore_index):
        return distillation_loss(student, teacher)

    def always_minus_100(student, teacher, labels, *, ignore_index):
        return distillation_loss(student, teacher, labels)

    holds_for_ours_only(assertion, accepted_only, always_minus_100)


def test_mistake_02_the_wrong_labels_for_a_chunk() -> None:
    def assertion(loss: Loss) -> None:
        student, teacher, labels = batch()
        found = loss(student, teacher, labels, ce_weight=1.0, reduction="none")
        for b, i in (labels != IGNORED).nonzero().tolist():
            close(found[b, i], -student[b, i].log_softmax(-1)[labels[b, i]])

    def first_labels_for_every_chunk(student, teacher, labels, **options):
        return torch.stack([distillation_loss(student[b], teacher[b], labels[0], **options) for b in (0, 1)])

    holds_for_ours_only(assertion, first_labels_for_every_chunk)


def test_mistake_02_labels_not_shifted() -> None:
    """A decoder-only model: logits[i] predict labels[i + 1]; one that is sure of the next token says so."""

    def assertion(token_scores: Loss) -> None:
        labels = torch.tensor([[3, 1, 4, 1, 5]])
        logits = 50 * functional.one_hot(labels.roll(-1, 1), 6).double()
        close(token_scores(logits, labels, alignment="causal"), torch.zeros(1, 4))

    def not_shifted(logits, labels, *, alignment):
        return token_log_probabilities(logits[:, :-1], labels[:, :-1], alignment="encoder_decoder")

    def shifted_the_other_way(logits, labels, *, alignment):
        return token_log_probabilities(logits[:, 1:], labels[:, :-1], alignment="encoder_decoder")

    holds_for_ours_only(assertion, not_shifted, shifted_the_other_way, ours=token_log_probabilities)


def test_mistake_03_a_mean_over_something_else() -> None:
    def assertion(loss: Loss) -> None:
        student, teacher, labels = batch()
        total = reference.divergence("forward_kl", student, teacher)[labels != IGNORED].sum()
        close(loss(student, teacher, labels, reduction="batchmean"), total / 5)

    def over_the_first_axis(student, teacher, labels, **_):
        q, p = student.log_softmax(-1), teacher.log_softmax(-1)
        return functional.kl_div(q, p, reduction="batchmean", log_target=True)

    def over_length_times_vocabulary(student, teacher, labels, **_):
        return distillation_loss(student, teacher, labels, reduction="sum") / (4 * 6)

    holds_for_ours_only(assertion, over_the_first_axis, over_length_times_vocabulary)


def test_mistake_03_the_sides_of_the_mixture_swapped() -> None:
    def assertion(loss: Loss) -> None:
        p, q = torch.tensor([0.9, 0.1]), torch.tensor([0.4, 0.6])
        m = 0.2 * p + 0.8 * q
        expected = 0.2 * (p * (p / m).log()).sum() + 0.8 * (q * (q / m).log()).sum()
        close(loss(q.log(), p.log(), divergence="generalized_jsd", beta=0.2), expected)

    def mixture_swapped(student, teacher, *, beta, **_):
        q, p = student.softmax(-1), teacher.softmax(-1)
        m = beta * q + (1 - beta) * p
        return beta * (p * (p / m).log()).sum() + (1 - beta) * (q * (q / m).log()).sum()

    def weights_swapped(student, teacher, *, beta, **options):
        return distillation_loss(student, teacher, beta=1 - beta, **options)

    holds_for_ours_only(assertion, mixture_swapped, weights_swapped)


def test_mistake_04_normalised_per_micro_batch() -> None:
    """Accumulation over micro-batches of 3 and 2 tokens must give the gradient of the batch of 5."""

    def assertion(loss: Loss) -> None:
        student, teacher, labels = batch()
        whole = slope(distillation_loss, student, teacher, labels, ce_weight=0.3)
        parts = [
            slope(loss, student[b], teacher[b], labels[b], ce_weight=0.3, num_items_in_batch=5)
            for b in range(2)
        ]
        close(torch.stack(parts), whole)

    def mean_of_means(student, teacher, labels, *, num_items_in_batch, **options):
        return distillation_loss(student, teacher, labels, **options) / 2

    def only_the_divergence_is_normalised(student, teacher, labels, *, num_items_in_batch, ce_weight):
        soft = distillation_loss(student, teacher, labels, num_items_in_batch=num_items_in_batch)
        return (1 - ce_weight) * soft + ce_weight * functional.cross_entropy(student, labels) / 2

    holds_for_ours_only(assertion, mean_of_means, only_the_divergence_is_normalised)


def test_mistake_05_beta_discontinuous_and_vanishing_at_its_ends() -> None:
    def assertion(loss: Loss) -> None:
        student, teacher = (x.float() for x in random_logits(3, 6))
        for end, beta, name in ((0.0, 1e-6, "forward_kl"), (1.0, 1 - 1e-6, "reverse_kl")):
            expected = reference.divergence(name, student, teacher).mean()
            for b in (end, beta):
                found = loss(student, teacher, divergence="generalized_jsd", beta=b, normalized=True)
                close(found, expected, 1e-4)

    def vanishing(student, teacher, *, normalized, **options):
        return distillation_loss(student, teacher, **options)

    def plain_formula_divided(student, teacher, *, beta, **_):
        """Right on paper; in float32 m rounds to q, and what is left of the difference is noise."""
        if beta in (0.0, 1.0):
            return distillation_loss(student, teacher, divergence="generalized_jsd", beta=beta)
        q, p = student.softmax(-1), teacher.softmax(-1)
        m = beta * p + (1 - beta) * q
        jsd = beta * (p * (p / m).log()).sum(-1) + (1 - beta) * (q * (q / m).log()).sum(-1)
        return jsd.mean() / (beta * (1 - beta))

    holds_for_ours_only(assertion, vanishing, plain_formula_divided)


@pytest.mark.parametrize("name", ["reverse_kl", "generalized_jsd"])
def test_mistake_06_nan_gradients_where_a_probability_underflows(name: str) -> None:
    def assertion(loss: Loss) -> None:
        student = torch.tensor([0.0, 1.0, -200.0])
        for teacher in (torch.tensor([1.0, 0.0, -300.0]), torch.tensor([1.0, 0.0, -math.inf])):
            infinite = name == "reverse_kl" and teacher[2] == -math.inf  # as it should be
            assert loss(student, teacher, divergence=name).isfinite() or infinite
            assert not slope(loss, student, teacher, divergence=name).isnan().any()

    def probabilities_then_logarithms(student, teacher, *, divergence):
        q, p = student.softmax(-1), teacher.softmax(-1)
        if divergence == "reverse_kl":
            return torch.where(
                q > 0, q * (q / p).log(), 0.0
            ).sum()  # `where` does not stop the gradient's NaN
        m = (p + q) / 2
        return sum(torch.where(x > 0, x * (x / m).log(), 0.0).sum() for x in (p, q)) / 2

    holds_for_ours_only(assertion, probabilities_then_logarithms)


def test_mistake_06_negative_kl_from_bf16() -> None:
    def assertion(loss: Loss) -> None:
        student, noise = random_logits(100, 50)
        for dtype, distance in ((torch.bfloat16, 1e-2), (torch.float32, 1e-5)):
            pair = student.to(dtype), (student + distance * noise).to(dtype)
            assert (loss(*pair, reduction="none") >= 0).all()

    def in_bf16(student, teacher, **_):
        q, p = student.log_softmax(-1), teacher.log_softmax(-1)
        return functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)

    def in_float32_but_plain(student, teacher, **_):
        return in_bf16(student.float(), teacher.float())

    holds_for_ours_only(assertion, in_bf16, in_float32_but_plain)


def test_mistake_07_vocabulary_padded_with_zeros() -> None:
    """151,936 against 152,064 entries: the shared ones decide, and no mass leaks into the padding."""

    def assertion(loss: Loss) -> None:
        student, teacher = random_logits(3, 6)
        padding = torch.tensor([2.0, 0.0], dtype=torch.float64).expand(3, 2)
        expected = reference.divergence("forward_kl", student, teacher).mean()
        close(loss(student, torch.cat([teacher, padding], -1), vocabulary="common"), expected)
        close(loss(torch.cat([student, padding], -1), teacher, vocabulary="common"), expected)

    def pad(value):
        def loss(student, teacher, **_):
            width = max(student.shape[-1], teacher.shape[-1])
            wide = [functional.pad(x, (0, width - x.shape[-1]), value=value) for x in (student, teacher)]
            return distillation_loss(*wide)

        return loss

    def cut_after_the_softmax(student, teacher, **_):
        width = min(student.shape[-1], teacher.shape[-1])
        q, p = student.log_softmax(-1)[..., :width], teacher.log_softmax(-1)[..., :width]
        return functional.kl_div(q, p, reduction="sum", log_target=True) / len(p)

    holds_for_ours_only(assertion, pad(0.0), pad(-math.inf), cut_after_the_softmax)


def test_mistake_07_different_vocabularies_in_silence() -> None:
    def assertion(loss: Loss) -> None:
        student, teacher = random_logits(3, 6)
        message = ""
        try:
            loss(student[..., :5], teacher)
        except ValueError as error:
            message = str(error)
        assert "teacher_logits: got a vocabulary of 6, expected the student's 5" in message

    def padded_in_silence(student, teacher):
        return distillation_loss(functional.pad(student, (0, 1)), teacher)

    holds_for_ours_only(assertion, padded_in_silence)


def test_mistake_08_gradients_into_the_teacher() -> None:
    """A teacher that shares the student's trunk, or forgot no_grad, must be refused, not trained."""

    def assertion(loss: Loss) -> None:
        student, teacher, labels = batch()
        head = torch.ones((), dtype=torch.float64, requires_grad=True)
        try:
            value = loss(student.requires_grad_(), head * teacher, labels)
        except ValueError as error:
            assert "teacher_logits: got a tensor that requires grad" in str(error)  # noqa: PT017
        else:
            value.backward()
        assert head.grad is None

    holds_for_ours_only(assertion, plain_kl)


def test_mistake_09_a_batch_in_which_nothing_counts() -> None:
    def assertion(loss: Loss) -> None:
        student, teacher, labels = batch()
        student.requires_grad_()
        value = loss(student, teacher, torch.full_like(labels, IGNORED), ce_weight=0.5)
        assert value == 0
        assert value.requires_grad
        value.backward()
        assert student.grad is not None
        assert (student.grad == 0).all()

    def zero_by_itself(student, teacher, labels, **options):
        return torch.tensor(0.0, requires_grad=True)

    def detached(student, teacher, labels, **options):
        return distillation_loss(student.detach(), teacher, labels, **options)

    holds_for_ours_only(assertion, plain_kl, zero_by_itself, detached)


def test_mistake_10_the_square_of_the_temperature_forgotten() -> None:
    def assertion(loss: Loss) -> None:
        student, teacher, labels = batch()
        tokens = reference.divergence("forward_kl", student, teacher, 4.0)
        close(loss(student, teacher, labels, temperature=4.0), 16 * tokens[labels != IGNORED].mean())
        close(loss(student, teacher, temperature=4.0), 16 * tokens.mean())

    def dropped_without_targets(student, teacher, labels=None, *, temperature):
        scale = 1 if labels is None else temperature**2
        return scale * plain_kl(student, teacher, labels, temperature=temperature)

    def only_once(student, teacher, labels=None, *, temperature):
        return temperature * plain_kl(student, teacher, labels, temperature=temperature)

    holds_for_ours_only(assertion, plain_kl, dropped_without_targets, only_once)


def test_mistake_10_softmax_over_the_wrong_axis() -> None:
    """Tokens do not compete: what one token's logits are says nothing about another's loss."""

    def assertion(loss: Loss) -> None:
        student, teacher, _ = batch()
        before = loss(student, teacher, reduction="none")
        student[:, 1:] += 3 * torch.arange(6)
        assert before.shape == (2, 4)
        close(loss(student, teacher, reduction="none")[:, 0], before[:, 0])

    def over_positions(student, teacher, **_):
        q, p = student.log_softmax(1), teacher.log_softmax(1)
        return functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)

    holds_for_ours_only(assertion, over_positions)


def test_mistake_11_padding_counted() -> None:
    """Both in what is summed and in what it is divided by."""

    def assertion(loss: Loss) -> None:
        student, teacher, labels = batch()
        counted = labels != IGNORED
        expected = reference.divergence("forward_kl", student, teacher)[counted].mean()
        close(loss(student, teacher, labels), expected)
        close(slope(loss, student, teacher, labels)[~counted], torch.zeros(3, 6))

    def summed(student, teacher, labels):
        return plain_kl(student, teacher)

    def divided_by_all(student, teacher, labels):
        return distillation_loss(student, teacher, labels, reduction="sum") / labels.numel()

    def multiplied_by_the_mask_of_logits(student, teacher, labels):
        counted = (labels != IGNORED).unsqueeze(-1)  # logits of 0 still have a softmax
        return distillation_loss(student * counted, teacher * counted)

    holds_for_ours_only(assertion, summed, divided_by_all, multiplied_by_the_mask_of_logits)


@pytest.mark.parametrize("name", [name for name, _ in reference.DEFAULTS])
def test_mistake_12_kl_that_is_cross_entropy(name: str) -> None:
    """A student that is its teacher has nothing to learn: 0. Cross-entropy would be the teacher's entropy."""

    def assertion(loss: Loss) -> None:
        _, teacher, labels = batch()
        close(loss(teacher.clone(), teacher, labels, divergence=name, temperature=2.0), 0.0)

    def cross_entropy(student, teacher, labels, *, temperature, **_):
        p = (teacher / temperature).softmax(-1)
        tokens = -(p * (student / temperature).log_softmax(-1)).sum(-1)
        return tokens[labels != IGNORED].mean()

    holds_for_ours_only(assertion, cross_entropy)
