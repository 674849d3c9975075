"""The usual wrong answers to notebook 04 that `mistakes` lacks: temperature, labels, means, what is left to learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from kdlab.classroom.recognition import Call, mistake

# --- how the gradient falls with the temperature: student_logits, teacher_logits, temperature -> n of 1/T^n


@mistake("this is how the value falls: the gradient is asked for")
def value_not_gradient(call: Call) -> Iterator[Any]:
    """With the logarithm to base 2, and with the natural one."""
    once, twice = (_kl(call, factor * call["temperature"]) for factor in (1, 2))
    yield torch.log2(once.sum() / twice.sum())
    yield torch.log(once.sum() / twice.sum())


@mistake("the chain rule is missing: the logits are divided by T, and that gives a factor 1/T")
def chain_rule_missing(call: Call) -> Iterator[Any]:
    """p_s - p_t alone, which is the gradient with respect to the divided logits."""
    yield call.right() - 1


@mistake("T^2 is counted in: the plain KL is asked for")
def temperature_squared_counted(call: Call) -> Iterator[Any]:
    yield call.right() - 2


@mistake("the logarithm has another base than 2, and T is doubled")
def another_base(call: Call) -> Iterator[Any]:
    yield call.right() * math.log(2)
    yield call.right() * math.log10(2)


@mistake("this is the ratio of the two gradients: which power of 2 is it?")
def ratio_not_power(call: Call) -> Iterator[Any]:
    yield 2 ** call.right()
    yield 2 ** -call.right()


def _kl(call: Call, temperature: float) -> Tensor:
    """KL(p_t || p_s) of each place, without T^2."""
    log_p, log_q = (
        (call[name] / temperature).log_softmax(-1) for name in ("teacher_logits", "student_logits")
    )
    found: Tensor = (log_p.exp() * (log_p - log_q)).sum(-1)
    return found


# --- rows and labels that count: logits, labels, kind -> rows [n, V], tokens [n]


@mistake("the labels are shifted the wrong way: row i of a decoder-only model predicts token i + 1")
def shifted_backwards(call: Call) -> Iterator[Any]:
    yield _kept(call["logits"][:, 1:], call["labels"][:, :-1])


@mistake("an encoder-decoder batch was shifted: its decoder input is shifted already")
def shifted_always(call: Call) -> Iterator[Any]:
    yield call.right(kind="causal")


@mistake("a decoder-only batch was not shifted: each row was scored on the token it has just read")
def shifted_never(call: Call) -> Iterator[Any]:
    yield call.right(kind="encoder_decoder")


@mistake("the mask is from before the shift: -100 belongs to the label, so it moves with the labels")
def mask_before_shift(call: Call) -> Iterator[Any]:
    if call["kind"] != "causal":
        yield call.right()
        return
    rows, labels, before = call["logits"][:, :-1], call["labels"][:, 1:], call["labels"][:, :-1] != -100
    yield rows[before], labels[before]


@mistake(
    "the rows were shifted after the mask, over the ends of sentences: shift inside each sentence, before the mask"
)
def shifted_after_mask(call: Call) -> Iterator[Any]:
    rows, labels = _kept(call["logits"], call["labels"])
    yield (rows[:-1], labels[1:]) if call["kind"] == "causal" else call.right()


@mistake("places with the label -100 are still there")
def padding_kept(call: Call) -> Iterator[Any]:
    logits, labels = _aligned(call)
    yield logits.flatten(0, 1), labels.flatten()


@mistake("token 0 was left out: it is a token, and -100 alone says that a place does not count")
def token_0_left_out(call: Call) -> Iterator[Any]:
    logits, labels = _aligned(call)
    yield logits[labels > 0], labels[labels > 0]


def _aligned(call: Call) -> tuple[Tensor, Tensor]:
    logits, labels = call["logits"], call["labels"]
    return (logits[:, :-1], labels[:, 1:]) if call["kind"] == "causal" else (logits, labels)


def _kept(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return logits[labels != -100], labels[labels != -100]


# --- the mean over the tokens: losses, labels


@mistake("0 times inf is NaN: padding must be left out, it cannot be multiplied away")
def padding_times_zero(call: Call) -> Iterator[Any]:
    kept = call.counted
    yield (call["losses"] * kept).sum() / kept.sum().clamp(min=1)


@mistake("where no token counts this is 0/0, and the contract asks for 0")
def nothing_counts(call: Call) -> Iterator[Any]:
    yield call["losses"][call.counted].mean()


# --- shares of the pieces of one batch: losses, labels, sizes -> one number for each piece


@mistake("these are the pieces' own means: a token in a piece with few tokens weighs more than another")
def mean_of_means(call: Call) -> Iterator[Any]:
    """Each divided by the number of pieces, or weighed by its sentences."""
    sizes = torch.tensor([float(size) for size in call["sizes"]])
    yield _of_pieces(call, lambda losses, kept: losses[kept].mean()) / len(sizes)
    yield _of_pieces(call, lambda losses, kept: losses[kept].mean()) * sizes / sizes.sum()


@mistake("each piece is a whole mean: together they are too large")
def means_added(call: Call) -> Iterator[Any]:
    yield _of_pieces(call, lambda losses, kept: losses[kept].mean())


@mistake("divided by the number of sentences: the number of tokens is asked for")
def divided_by_sentences(call: Call) -> Iterator[Any]:
    """All of them, or those of the piece."""
    sums = _of_pieces(call, lambda losses, kept: losses[kept].sum())
    yield sums / len(call.counted)
    yield sums / torch.tensor([float(size) for size in call["sizes"]])


@mistake("this is the sum of the piece: divide by the tokens of the whole batch")
def sum_of_piece(call: Call) -> Iterator[Any]:
    yield _of_pieces(call, lambda losses, kept: losses[kept].sum())


def _of_pieces(call: Call, share: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    pieces = zip(call["losses"].split(call["sizes"]), call["labels"].split(call["sizes"]), strict=True)
    return torch.stack([share(losses, labels != -100) for losses, labels in pieces])


# --- what is left to learn: cross_entropy, teacher_logits, labels


@mistake("the entropy is added: cross-entropy holds it already")
def entropy_added(call: Call) -> Iterator[Any]:
    yield call["cross_entropy"] + _entropy(call)[call.counted].mean()


@mistake("the entropy is summed up: the cross-entropy is a mean over the tokens")
def entropy_summed(call: Call) -> Iterator[Any]:
    yield call["cross_entropy"] - _entropy(call)[call.counted].sum()


@mistake("the entropy is in bits, log base 2: the cross-entropy is in nats")
def entropy_in_bits(call: Call) -> Iterator[Any]:
    yield call["cross_entropy"] - _entropy(call)[call.counted].mean() / math.log(2)


@mistake("this is the entropy of the mean distribution: the mean of the entropies is asked for")
def entropy_of_mean(call: Call) -> Iterator[Any]:
    p = call["teacher_logits"].softmax(-1)[call.counted].mean(0)
    yield call["cross_entropy"] + torch.xlogy(p, p).sum()


@mistake("this is the teacher's entropy, the part that cannot be learnt")
def entropy_alone(call: Call) -> Iterator[Any]:
    yield _entropy(call)[call.counted].mean()


@mistake("this is a ratio: the difference is asked for")
def entropy_ratio(call: Call) -> Iterator[Any]:
    yield call["cross_entropy"] / _entropy(call)[call.counted].mean()
    yield call.right() / call["cross_entropy"]


def _entropy(call: Call) -> Tensor:
    log_p = call["teacher_logits"].log_softmax(-1)
    found: Tensor = -(log_p.exp() * log_p).sum(-1)
    return found


# --- the mix: student_logits, teacher_logits, labels, temperature, ce_weight


@mistake("padding is counted in KL, and left out of cross-entropy")
def padding_in_divergence(call: Call) -> Iterator[Any]:
    divergence = call["temperature"] ** 2 * _kl(call, call["temperature"]).mean()
    cross_entropy = call.right(ce_weight=1.0)
    yield (1 - call["ce_weight"]) * divergence + call["ce_weight"] * cross_entropy
