"""The usual wrong answers, by name. A check is given those that its exercise invites.

Each yields what it gives on the input of a check, in every way that it is usually made. The student's logits come
before the teacher's, as everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from kdlab.classroom.recognition import Call, Mistake, mistake

# --- distributions


@mistake("softmax was taken twice")
def softmax_twice(call: Call) -> Iterator[Any]:
    """Probabilities were taken for logits: with the temperature in both softmaxes, in the first, in the second."""
    temperature = call.inputs.get("temperature")
    yield call.right(**{name: logits.softmax(-1) for name, logits in call.logits.items()})
    if temperature is not None:
        scaled = {name: (logits / temperature).softmax(-1) for name, logits in call.logits.items()}
        yield call.right(**scaled)
        yield call.right(**scaled, temperature=1.0)


@mistake("there is no softmax: the logits themselves were taken for log-probabilities")
def no_softmax(call: Call) -> Iterator[Any]:
    """The log-softmax exercise's own: the logits come back, divided by the temperature or not."""
    (logits,) = call.logits.values()
    yield logits
    yield logits / call.inputs.get("temperature", 1.0)


@mistake("these are probabilities, their logarithms are asked for")
def probabilities(call: Call) -> Iterator[Any]:
    yield call.right().exp()


@mistake("log base 2, not natural")
def log_base_2(call: Call) -> Iterator[Any]:
    yield call.right() / math.log(2)


@mistake("log base 10, not natural")
def log_base_10(call: Call) -> Iterator[Any]:
    yield call.right() / math.log(10)


@mistake("the softmax is over the wrong axis")
def softmax_over_wrong_axis(call: Call) -> Iterator[Any]:
    """Every other axis in place of the last; what comes back has the axes in their old order."""
    axes = next(iter(call.logits.values())).dim()
    for axis in range(axes - 1):
        found = call.right(**{name: logits.movedim(axis, -1) for name, logits in call.logits.items()})
        yield found.movedim(-1, axis) if found.dim() == axes else found


def summed_over_wrong_axis(terms: Callable[..., Tensor], axis: int = -1) -> Mistake:
    """The terms are right, the axis that they are summed over is not.

    Args:
        terms: takes the exercise's inputs by name, returns what is to be summed up.
        axis: the right one.

    >>> wrong = summed_over_wrong_axis(lambda x: x)
    >>> list(wrong.answers(Call(lambda x: x.sum(-1), {"x": torch.ones(2, 3)})))
    [tensor([2., 2., 2.]), tensor(6.)]
    """

    def answers(call: Call) -> Iterator[Any]:
        values = terms(**call.inputs)
        for other in range(values.dim()):
            if other != axis % values.dim():
                yield values.sum(other)
        yield values.sum()

    return Mistake("summed over the wrong axis", answers)


@mistake("the sign is the other way round")
def sign_flipped(call: Call) -> Iterator[Any]:
    yield -call.right()


@mistake("a mean was taken where the sum is asked for")
def mean_not_sum(call: Call) -> Iterator[Any]:
    """Over the vocabulary, or over the length, padded or not."""
    right, sizes = call.right(), next(iter(call.logits.values())).shape
    for size in sizes[-2:]:
        yield right / size
    if "labels" in call.inputs and right.dim() == 1:
        yield right / call.counted.sum(-1)


@mistake("the temperature has no effect")
def temperature_ignored(call: Call) -> Iterator[Any]:
    yield call.right(temperature=1.0)


@mistake("the logits are multiplied by the temperature, not divided")
def temperature_inverted(call: Call) -> Iterator[Any]:
    yield call.right(temperature=1 / call["temperature"])


@mistake("the temperature comes after the softmax: what results is no distribution")
def temperature_after_softmax(call: Call) -> Iterator[Any]:
    yield call.right(temperature=1.0) / call["temperature"]
    yield call.right(temperature=1.0).exp().div(call["temperature"]).log()


@mistake("off by one: does the entry that crosses the line count?")
def off_by_one(call: Call) -> Iterator[Any]:
    yield call.right() - 1
    yield call.right() + 1


@mistake("counted from the least probable entry on")
def counted_upwards(call: Call) -> Iterator[Any]:
    """How many entries hold a share `mass` of the probability."""
    (logits,) = call.logits.values()
    held = logits.softmax(-1).sort(-1).values.cumsum(-1)
    yield (held < call["mass"]).sum(-1) + 1


# --- the next word of a sentence: the exercise takes `source` and `prefix_words`


@mistake("these are shares of all translations: divide by the share of those that begin with the prefix")
def not_conditioned(call: Call) -> Iterator[Any]:
    share = math.prod(
        call.right(prefix_words=call["prefix_words"][:i])[word] for i, word in enumerate(call["prefix_words"])
    )
    yield {word: share * probability for word, probability in call.right().items()}


@mistake("this is the most probable word alone: the distribution over all of them is asked for")
def only_the_best(call: Call) -> Iterator[Any]:
    right = call.right()
    best = max(right, key=right.__getitem__)
    yield {best: 1.0}
    yield {best: right[best]}


@mistake("every translation counts the same: it should count by its probability")
def equal_shares(call: Call) -> Iterator[Any]:
    """The number of translations that go on with a word, or that word as one of so many."""
    words = list(call.right())
    counts = {word: _how_many(call, [*call["prefix_words"], word]) for word in words}
    yield {word: count / sum(counts.values()) for word, count in counts.items()}
    yield counts
    yield dict.fromkeys(words, 1 / len(words))


@mistake("the last translation overwrites the others that go on with the same word: add them up")
def last_one_alone(call: Call) -> Iterator[Any]:
    """Of each next word the share of the last translation that has it, and the same divided by their sum."""
    prefix, right = call["prefix_words"], call.right()
    last = {word: p * _share_of_the_last(call, [*prefix, word]) for word, p in right.items()}
    yield {word: share / sum(last.values()) for word, share in last.items()}
    yield last


def _share_of_the_last(call: Call, prefix: list[str]) -> float:
    """Of the translations that begin with the prefix; a last word "" ends them."""
    if prefix[-1] == "":
        return 1.0
    following = call.right(prefix_words=prefix)
    word = list(following)[-1]
    return float(following[word]) * _share_of_the_last(call, [*prefix, word])


def _how_many(call: Call, prefix: list[str]) -> int:
    """Translations that begin with the prefix; a last word "" ends it."""
    if prefix[-1] == "":
        return 1
    return sum(_how_many(call, [*prefix, word]) for word in call.right(prefix_words=prefix))


# --- labels, padding, shift


@mistake("padding is counted")
def padding_counted(call: Call) -> Iterator[Any]:
    """-100 read as token 0, or as the last one, and counted like any other."""
    yield call.right(labels=call["labels"].clamp(min=0))
    for logits in call.logits.values():
        yield call.right(labels=call["labels"].where(call.counted, logits.shape[-1] - 1))


@mistake("the sum leaves padding out, the number of tokens that it is divided by does not")
def padding_in_denominator(call: Call) -> Iterator[Any]:
    yield call.right() * call.counted.sum() / call.counted.numel()


@mistake("the mean is over the batch, not over the tokens")
def mean_over_batch(call: Call) -> Iterator[Any]:
    """The sum divided by the number of sequences, and the mean of the sequences' means."""
    rows = range(len(call.counted))
    yield call.right() * call.counted.sum() / len(rows)
    means = [
        call.right(**{k: v[i : i + 1] for k, v in call.inputs.items() if isinstance(v, Tensor)}) for i in rows
    ]
    yield torch.stack(means).mean()


@mistake("the sum was not divided by the number of tokens")
def sum_not_mean(call: Call) -> Iterator[Any]:
    yield call.right() * call.counted.sum()


@mistake("logits and labels are shifted against each other, and should not be")
def shifted(call: Call) -> Iterator[Any]:
    """Row i of the logits is compared with label i + 1, or i - 1."""
    yield call.right(**_rows(call, slice(None, -1), slice(1, None)))
    yield call.right(**_rows(call, slice(1, None), slice(None, -1)))


@mistake("logits and labels are not shifted: each position was scored on the token it has already seen")
def not_shifted(call: Call) -> Iterator[Any]:
    """For an exercise that shifts: a row more of each brings them back in line."""
    extra = {name: torch.cat([x, torch.zeros_like(x[:, :1])], 1) for name, x in call.logits.items()}
    labels = call["labels"]
    yield call.right(**extra, labels=torch.cat([torch.full_like(labels[:, :1], -100), labels], 1))


@mistake("logits and labels are shifted twice")
def shifted_twice(call: Call) -> Iterator[Any]:
    yield call.right(**_rows(call, slice(None, -1), slice(1, None)))


def _rows(call: Call, of_logits: slice, of_labels: slice) -> dict[str, Tensor]:
    changed = {name: logits[:, of_logits] for name, logits in call.logits.items()}
    return {**changed, "labels": call["labels"][:, of_labels]}


# --- divergences: the student's come first, the teacher's second


@mistake("this is KL the other way round")
def kl_reversed(call: Call) -> Iterator[Any]:
    yield _swapped(call)


@mistake("p and q have changed places")
def p_and_q_swapped(call: Call) -> Iterator[Any]:
    """The same slip in an answer that is no KL, such as a gradient."""
    yield _swapped(call)


def _swapped(call: Call) -> Any:
    first, second, *_ = call.inputs
    return call.right(**{first: call[second], second: call[first]})


@mistake("this is cross-entropy, not KL: the teacher's entropy is still in it")
def cross_entropy_not_kl(call: Call) -> Iterator[Any]:
    """CE = KL + H. KL(p || uniform) = log V - H(p), for any mask, mean and scale: what a certain teacher has more
    of it is H."""
    teacher: Tensor = call["teacher_logits"]
    uniform = torch.zeros_like(teacher)
    certain = torch.full_like(teacher, -1e4)
    certain[..., 0] = 0.0
    log_vocabulary = call.right(student_logits=uniform, teacher_logits=certain)
    yield call.right() + log_vocabulary - call.right(student_logits=uniform)


@mistake("this is cross-entropy, not KL: the student's entropy is still in it")
def cross_entropy_from_student(call: Call) -> Iterator[Any]:
    """Reverse KL's own: CE(q, p) = H(q) + KL(q || p)."""
    _, q = _p_and_q(call)
    yield call.right() - torch.xlogy(q, q).sum(-1)


@mistake("this is cross-entropy alone: the teacher's entropy is not there")
def entropy_forgotten(call: Call) -> Iterator[Any]:
    """Where CE = H + KL is asked for, KL alone: the right answer minus what it is for a student like the teacher."""
    yield call.right() - call.right(student_logits=call["teacher_logits"])


@mistake("T^2 is missing")
def temperature_squared_missing(call: Call) -> Iterator[Any]:
    yield _divergence_times(call, call["temperature"] ** -2)


@mistake("the divergence is multiplied by T, not by T^2")
def temperature_not_squared(call: Call) -> Iterator[Any]:
    yield _divergence_times(call, call["temperature"] ** -1)


@mistake("the divergence is divided by T^2, not multiplied")
def temperature_squared_inverted(call: Call) -> Iterator[Any]:
    yield _divergence_times(call, call["temperature"] ** -4)


def _divergence_times(call: Call, factor: float) -> Any:
    """The right answer with its divergence scaled; a mix's cross-entropy stays as it is."""
    if "ce_weight" not in call.inputs:
        return call.right() * factor
    divergence, cross_entropy = _parts(call)
    return (1 - call["ce_weight"]) * divergence * factor + call["ce_weight"] * cross_entropy


@mistake("the teacher's logits were not divided by the temperature")
def teacher_not_tempered(call: Call) -> Iterator[Any]:
    yield call.right(teacher_logits=call["teacher_logits"] * call["temperature"])


@mistake("the student's logits were not divided by the temperature")
def student_not_tempered(call: Call) -> Iterator[Any]:
    yield call.right(student_logits=call["student_logits"] * call["temperature"])


@mistake("the factor 1/2 is missing")
def half_missing(call: Call) -> Iterator[Any]:
    yield 2 * call.right()


@mistake("beta and 1 - beta have changed places")
def beta_swapped(call: Call) -> Iterator[Any]:
    yield call.right(beta=1 - call["beta"])


@mistake("the mixture m has the weights of p and q the wrong way round")
def mixture_swapped(call: Call) -> Iterator[Any]:
    beta, (p, q) = call["beta"], _p_and_q(call)
    yield from _jsd(p, q, (1 - beta) * p + beta * q, beta)


@mistake("the mixture m is of logarithms, not of probabilities")
def mixture_of_logarithms(call: Call) -> Iterator[Any]:
    beta, (p, q) = call["beta"], _p_and_q(call)
    log_m = beta * p.log() + (1 - beta) * q.log()
    yield from _jsd(p, q, log_m.exp(), beta)
    yield from _jsd(p, q, log_m.softmax(-1), beta)


@mistake("the two parts are added with equal weights, whatever beta is")
def beta_only_in_mixture(call: Call) -> Iterator[Any]:
    beta, (p, q) = call["beta"], _p_and_q(call)
    m = beta * p + (1 - beta) * q
    yield from _jsd(p, q, m, 0.5)
    yield from (2 * answer for answer in _jsd(p, q, m, 0.5))


@mistake("the formula is divided by beta (1 - beta): between the ends it stands as it is")
def jsd_divided(call: Call) -> Iterator[Any]:
    beta, right = call["beta"], call.right()
    yield right if beta in (0, 1) else right / beta / (1 - beta)


@mistake("probabilities were handed over as logits: their logarithms are logits")
def probabilities_for_logits(call: Call) -> Iterator[Any]:
    """To a KL of logits, as both of its arguments, or as the mixture alone. At the ends no mixture is needed."""
    beta, (p, q) = call["beta"], _p_and_q(call)
    if beta in (0, 1):
        yield call.right()
        return
    log_m = (beta * p + (1 - beta) * q).log_softmax(-1)
    for one, other in ((p.softmax(-1), q.softmax(-1)), (p, q)):
        terms = beta * one * (one.log() - log_m) + (1 - beta) * other * (other.log() - log_m)
        yield from _tokens(terms.sum(-1))


@mistake("at beta = 0 and beta = 1 this tends to 0, where the contract asks for a KL")
def beta_without_limits(call: Call) -> Iterator[Any]:
    right = call.right()
    yield torch.zeros_like(right) if call["beta"] in (0, 1) else right


@mistake("at beta = 0 and beta = 1 the two KLs have changed places")
def limits_swapped(call: Call) -> Iterator[Any]:
    yield _swapped(call) if call["beta"] in (0, 1) else call.right()


@mistake("the logits were compared, not the probabilities")
def logits_compared(call: Call) -> Iterator[Any]:
    """Total variation's own."""
    student, teacher = (logits / call.inputs.get("temperature", 1.0) for logits in call.logits.values())
    yield from _tokens((student - teacher).abs().sum(-1) / 2)


@mistake("the log-probabilities were compared, not the probabilities")
def log_probabilities_compared(call: Call) -> Iterator[Any]:
    """Total variation's own."""
    p, q = _p_and_q(call)
    yield from _tokens((p.log() - q.log()).abs().sum(-1) / 2)


@mistake("the differences are squared: their absolute values are asked for")
def squared_differences(call: Call) -> Iterator[Any]:
    """Total variation's own."""
    p, q = _p_and_q(call)
    yield from _tokens((p - q).square().sum(-1) / 2)
    yield from _tokens((p - q).square().sum(-1).sqrt() / 2)


@mistake("the absolute value is missing: positive and negative differences cancel")
def no_absolute_value(call: Call) -> Iterator[Any]:
    yield torch.zeros_like(call.right())


def _p_and_q(call: Call) -> tuple[Tensor, Tensor]:
    """Teacher's and student's probabilities."""
    temperature = call.inputs.get("temperature", 1.0)
    student, teacher = call["student_logits"], call["teacher_logits"]
    return (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)


def _jsd(p: Tensor, q: Tensor, m: Tensor, beta: float) -> Iterator[Tensor]:
    terms = beta * p * (p.log() - m.log()) + (1 - beta) * q * (q.log() - m.log())
    yield from _tokens(terms.sum(-1))


def _tokens(values: Tensor) -> Iterator[Tensor]:
    """A divergence as exercises ask for it: for each token, or as the mean of all tokens."""
    yield values
    yield values.mean()


# --- closed forms of gradients


@mistake("this is the gradient with respect to the student's probabilities: its logits are asked for")
def gradient_to_probabilities(call: Call) -> Iterator[Any]:
    """Of forward KL, and of reverse KL."""
    p, q = _p_and_q(call)
    yield -p / q
    yield q.log() - p.log() + 1


@mistake("this is the gradient of forward KL")
def gradient_of_forward_kl(call: Call) -> Iterator[Any]:
    """Where that of reverse KL is asked for."""
    p, q = _p_and_q(call)
    yield q - p


@mistake("these are differences of logits, and not of probabilities")
def logits_subtracted(call: Call) -> Iterator[Any]:
    yield call["student_logits"] - call["teacher_logits"]


@mistake("the mean of r is weighted by p_s")
def ratio_mean_unweighted(call: Call) -> Iterator[Any]:
    """Reverse KL's own: the plain mean, or the plain sum."""
    p, q = _p_and_q(call)
    ratio = q.log() - p.log()
    yield q * (ratio - ratio.mean(-1, keepdim=True))
    yield q * (ratio - ratio.sum(-1, keepdim=True))


@mistake("one logit moves every probability, and here it moves one alone: the entries do not add up to 0")
def softmax_moves_one(call: Call) -> Iterator[Any]:
    """The derivative of the softmax less what its denominator gives; of forward KL, and of reverse KL."""
    p, q = _p_and_q(call)
    yield -p
    yield from (-p * (1 - q), q * (1 - q) * (q.log() - p.log() + 1))
    yield from (q * (q.log() - p.log()), q * (q.log() - p.log() + 1))


@mistake("1/T is missing")
def inverse_temperature_missing(call: Call) -> Iterator[Any]:
    yield call.right() * call["temperature"]


# --- the mix with cross-entropy


@mistake("ce_weight and 1 - ce_weight have changed places")
def weights_swapped(call: Call) -> Iterator[Any]:
    yield call.right(ce_weight=1 - call["ce_weight"])


@mistake("the divergence has lost its weight, 1 - ce_weight")
def divergence_unweighted(call: Call) -> Iterator[Any]:
    divergence, cross_entropy = _parts(call)
    yield divergence + call["ce_weight"] * cross_entropy


@mistake("the two parts are added without their weights")
def weights_missing(call: Call) -> Iterator[Any]:
    divergence, cross_entropy = _parts(call)
    yield divergence + cross_entropy


@mistake("cross-entropy is taken at the temperature: the labels are compared at T = 1")
def cross_entropy_tempered(call: Call) -> Iterator[Any]:
    divergence, _ = _parts(call)
    tempered = call.right(ce_weight=1.0, student_logits=call["student_logits"] / call["temperature"])
    yield (1 - call["ce_weight"]) * divergence + call["ce_weight"] * tempered


@mistake("T^2 multiplies cross-entropy too")
def cross_entropy_scaled(call: Call) -> Iterator[Any]:
    divergence, cross_entropy = _parts(call)
    scaled = call["temperature"] ** 2 * cross_entropy
    yield (1 - call["ce_weight"]) * divergence + call["ce_weight"] * scaled


def _parts(call: Call) -> tuple[Any, Any]:
    """The divergence, with its T^2, and the cross-entropy of a mix."""
    return call.right(ce_weight=0.0), call.right(ce_weight=1.0)
