"""The core exercises of notebooks 01, 03 and 04: right answers written differently, and wrong ones with names.

Each answer is what a student could hand in, so it uses torch alone. What is expected of a wrong one is the sentence
of the mistake beside it, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import kdlab
from kdlab.classroom import mistakes
from kdlab.classroom.checks import fresh
from kdlab.classroom.explanation import HALF_PRECISION, NOT_DETACHED, OVERFLOW, ZERO_TIMES_INFINITY
from kdlab.classroom.inputs import Maker
from kdlab.classroom.recognition import Mistake
from kdlab.distributions import entropy, log_probabilities, sequence_log_probability
from kdlab.text.phrasebook import Phrasebook

Function = Callable[..., Any]


@dataclass(frozen=True)
class Exercise:
    """right: kdlab's. rights: others, as good. wrongs: (answer, the mistake, or the sentence)."""

    name: str
    right: Function
    inputs: Sequence[Maker]
    rights: Mapping[str, Function]
    wrongs: Mapping[str, tuple[Function, Mistake | str]]
    gradient_to: Sequence[str] = ()

    @property
    def mistakes(self) -> list[Mistake]:
        """Each once, in the order of the table."""
        named = [one for _, one in self.wrongs.values() if isinstance(one, Mistake)]
        return list({one.sentence: one for one in named}.values())


def log_p(z: Tensor, T: float = 1.0) -> Tensor:
    return (z / T).log_softmax(-1)


def p_of(z: Tensor, T: float = 1.0) -> Tensor:
    return (z / T).softmax(-1)


def kl(a: Tensor, b: Tensor) -> Tensor:
    """KL(a || b) of two tensors of probabilities, a token."""
    return (a * (a.log() - b.log())).sum(-1)


# --- 01: the next word after a prefix

phrasebook = Phrasebook("small")


def draw_prefix(seed: int) -> dict[str, Any]:
    """One that not all translations begin with, and that goes on with different words, in different shares; one of
    these words in several translations."""
    for pair in phrasebook.sample(400, seed):
        words = pair.target.split(" ")
        for n in range(1, len(words)):
            after = phrasebook.next_word_distribution(pair.source, words[:n])
            share = sum(p for _, p in begun(pair.source, words[:n]))
            last = overwritten(pair.source, words[:n])
            if (
                share < 0.9
                and max(after.values()) - min(after.values()) > 0.01
                and max(abs(after[word] - last[word]) for word in after) > 0.01
            ):
                return {"source": pair.source, "prefix_words": words[:n]}
    raise AssertionError(f"seed {seed} has no such sentence")


def begun(source: str, prefix_words: list[str]) -> list[tuple[str, float]]:
    """The next word of each translation that begins so, and that translation's probability."""
    n = len(prefix_words)
    split = [([*y.split(" "), ""], p) for y, p in phrasebook.translations(source).items()]
    return [(words[n], p) for words, p in split if words[:n] == prefix_words]


def weighed(rows: list[tuple[str, float]]) -> dict[str, float]:
    return {word: sum(p for other, p in rows if other == word) for word, _ in rows}


def next_word_of(source: str, prefix_words: list[str]) -> dict[str, float]:
    rows = begun(source, prefix_words)
    return weighed([(word, p / sum(q for _, q in rows)) for word, p in rows])


def next_word_by_text(source: str, prefix_words: list[str]) -> dict[str, float]:
    start = " ".join(prefix_words) + " "
    rest = {
        f"{y} "[len(start) :].split(" ")[0]: 0.0
        for y in phrasebook.translations(source)
        if f"{y} ".startswith(start)
    }
    for y, p in phrasebook.translations(source).items():
        if f"{y} ".startswith(start):
            rest[f"{y} "[len(start) :].split(" ")[0]] += p
    return {word: p / sum(rest.values()) for word, p in rest.items()}


def counted(source: str, prefix_words: list[str]) -> dict[str, float]:
    rows = begun(source, prefix_words)
    return weighed([(word, 1 / len(rows)) for word, _ in rows])


def best_alone(source: str, prefix_words: list[str]) -> dict[str, float]:
    after = next_word_of(source, prefix_words)
    return {max(after, key=after.__getitem__): 1.0}


def overwritten(source: str, prefix_words: list[str]) -> dict[str, float]:
    last = dict(begun(source, prefix_words))
    return {word: p / sum(last.values()) for word, p in last.items()}


next_word = Exercise(
    "next_word",
    phrasebook.next_word_distribution,
    [draw_prefix],
    {"of lists": next_word_of, "of text": next_word_by_text},
    {
        "joint": (lambda x, y: weighed(begun(x, y)), mistakes.not_conditioned),
        "counted": (counted, mistakes.equal_shares),
        "best": (best_alone, mistakes.only_the_best),
        "overwritten": (overwritten, mistakes.last_one_alone),
    },
)


# --- 01: log-softmax with temperature


def log_softmax_by_loop(logits: Tensor, temperature: float) -> Tensor:
    rows = []
    for row in logits.reshape(-1, logits.shape[-1]):
        scaled = row / temperature
        largest = max(scaled.tolist())
        rows.append(scaled - largest - math.log(sum(math.exp(x - largest) for x in scaled.tolist())))
    return torch.stack(rows).reshape(logits.shape)


def log_softmax_in_half(logits: Tensor, temperature: float) -> Tensor:
    return (logits.half() / temperature).log_softmax(-1).float()


log_softmax = Exercise(
    "log_softmax",
    log_probabilities,
    [fresh("logits", "temperature"), fresh("logits", "temperature", scale=1000.0)],
    rights={
        "loop": log_softmax_by_loop,
        "logsumexp": lambda logits, T: logits / T - (logits / T).logsumexp(-1, keepdim=True),
        "double": lambda logits, T: log_p(logits.double(), T),
    },
    wrongs={
        "twice": (lambda z, T: log_p(p_of(z, T)), mistakes.softmax_twice),
        "twice, T after": (lambda z, T: log_p(p_of(z), T), mistakes.softmax_twice),
        "no softmax": (lambda z, T: z / T, mistakes.no_softmax),
        "probabilities": (p_of, mistakes.probabilities),
        "base 2": (lambda z, T: log_p(z, T) / math.log(2), mistakes.log_base_2),
        "base 10": (lambda z, T: log_p(z, T) / math.log(10), mistakes.log_base_10),
        "axis 0": (lambda z, T: (z / T).log_softmax(0), mistakes.softmax_over_wrong_axis),
        "axis 1": (lambda z, T: (z / T).log_softmax(1), mistakes.softmax_over_wrong_axis),
        "T ignored": (lambda z, T: log_p(z), mistakes.temperature_ignored),
        "T inverted": (lambda z, T: (z * T).log_softmax(-1), mistakes.temperature_inverted),
        "T after": (lambda z, T: z.log_softmax(-1) / T, mistakes.temperature_after_softmax),
        "sign": (lambda z, T: -log_p(z, T), mistakes.sign_flipped),
        "naive": (lambda z, T: (z / T).exp().div((z / T).exp().sum(-1, keepdim=True)).log(), OVERFLOW),
        "half": (log_softmax_in_half, HALF_PRECISION),
        "bfloat": (lambda z, T: log_p(z.bfloat16(), T), HALF_PRECISION),
        "in place": (lambda z, T: z.div_(T).log_softmax(-1), "your function changed its input in place"),
    },
)

# --- 01: entropy


def entropy_by_loop(logits: Tensor) -> Tensor:
    values = []
    for row in logits.reshape(-1, logits.shape[-1]):
        values.append(sum(-p * math.log(p) for p in row.softmax(-1).tolist() if p > 0))
    return torch.tensor(values).reshape(logits.shape[:-1])


def entropy_terms(logits: Tensor) -> Tensor:
    return -torch.special.xlogy(p_of(logits), p_of(logits))


entropy_of = Exercise(
    "entropy",
    entropy,
    [fresh("logits"), fresh("logits", minus_infinity=True)],
    rights={
        "loop": entropy_by_loop,
        "entr": lambda logits: torch.special.entr(logits.softmax(-1)).sum(-1),
        "Categorical": lambda logits: torch.distributions.Categorical(probs=logits.softmax(-1)).entropy(),
    },
    wrongs={
        "0 log 0": (lambda z: -(p_of(z) * log_p(z)).sum(-1), ZERO_TIMES_INFINITY),
        "base 2": (lambda z: entropy_terms(z).sum(-1) / math.log(2), mistakes.log_base_2),
        "twice": (lambda z: entropy_terms(p_of(z)).sum(-1), mistakes.softmax_twice),
        "summed over 1": (lambda z: entropy_terms(z).sum(1), mistakes.summed_over_wrong_axis(entropy_terms)),
        "summed over all": (lambda z: entropy_terms(z).sum(), mistakes.summed_over_wrong_axis(entropy_terms)),
        "mean": (lambda z: entropy_terms(z).mean(-1), mistakes.mean_not_sum),
        "sign": (lambda z: -entropy_terms(z).sum(-1), mistakes.sign_flipped),
        "axis": (
            lambda z: -torch.special.xlogy(z.softmax(0), z.softmax(0)).sum(0),
            mistakes.softmax_over_wrong_axis,
        ),
    },
)

# --- 01: log-probability of a padded sequence


def sequence_right(logits: Tensor, labels: Tensor) -> Tensor:
    return sequence_log_probability(logits, labels, alignment="encoder_decoder")


def token_terms(logits: Tensor, labels: Tensor) -> Tensor:
    picked = log_p(logits).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return picked * (labels != -100)


def sequence_by_loop(logits: Tensor, labels: Tensor) -> Tensor:
    totals = []
    for row, tokens in zip(log_p(logits), labels.tolist(), strict=True):
        totals.append(sum(row[i, token].item() for i, token in enumerate(tokens) if token != -100))
    return torch.tensor(totals)


def sequence_unmasked(logits: Tensor, labels: Tensor) -> Tensor:
    return log_p(logits).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1).sum(-1)


def sequence_last_token(logits: Tensor, labels: Tensor) -> Tensor:
    last = labels.where(labels != -100, logits.shape[-1] - 1)
    return log_p(logits).gather(-1, last.unsqueeze(-1)).squeeze(-1).sum(-1)


sequence = Exercise(
    "sequence_log_probability",
    sequence_right,
    [fresh("logits", "labels", shape=(3, 4, 5))],
    rights={
        "loop": sequence_by_loop,
        "cross_entropy": lambda z, y: (
            -functional.cross_entropy(z.transpose(1, 2), y, reduction="none", ignore_index=-100).sum(-1)
        ),
        "gather": lambda z, y: token_terms(z, y).sum(1),
    },
    wrongs={
        "padding as 0": (sequence_unmasked, mistakes.padding_counted),
        "padding as the last": (sequence_last_token, mistakes.padding_counted),
        "over the batch": (
            lambda z, y: token_terms(z, y).sum(0),
            mistakes.summed_over_wrong_axis(token_terms),
        ),
        "one number": (lambda z, y: token_terms(z, y).sum(), mistakes.summed_over_wrong_axis(token_terms)),
        "mean": (lambda z, y: token_terms(z, y).mean(-1), mistakes.mean_not_sum),
        "mean of tokens": (
            lambda z, y: token_terms(z, y).sum(-1) / (y != -100).sum(-1),
            mistakes.mean_not_sum,
        ),
        "sign": (lambda z, y: -token_terms(z, y).sum(-1), mistakes.sign_flipped),
        "shifted": (lambda z, y: token_terms(z[:, :-1], y[:, 1:]).sum(-1), mistakes.shifted),
        "shifted back": (lambda z, y: token_terms(z[:, 1:], y[:, :-1]).sum(-1), mistakes.shifted),
        "softmax twice": (lambda z, y: token_terms(p_of(z), y).sum(-1), mistakes.softmax_twice),
        "base 2": (lambda z, y: token_terms(z, y).sum(-1) / math.log(2), mistakes.log_base_2),
    },
)


def causal_right(logits: Tensor, labels: Tensor) -> Tensor:
    return sequence_log_probability(logits, labels, alignment="causal")


causal = Exercise(
    "causal_log_probability",
    causal_right,
    [fresh("logits", "labels", shape=(3, 4, 5))],
    rights={
        "slices": lambda z, y: token_terms(z[:, :-1], y[:, 1:]).sum(-1),
        "loop": lambda z, y: sequence_by_loop(z[:, :-1], y[:, 1:]),
    },
    wrongs={
        "not shifted": (lambda z, y: token_terms(z, y).sum(-1), mistakes.not_shifted),
        "twice": (lambda z, y: token_terms(z[:, :-2], y[:, 2:]).sum(-1), mistakes.shifted_twice),
        "padding": (lambda z, y: sequence_unmasked(z[:, :-1], y[:, 1:]), mistakes.padding_counted),
        "sign": (lambda z, y: -token_terms(z[:, :-1], y[:, 1:]).sum(-1), mistakes.sign_flipped),
    },
)

# --- 01: how many tokens hold a share of the mass


def mass_right(logits: Tensor, mass: float) -> Tensor:
    held = logits.double().softmax(-1).sort(-1, descending=True).values.cumsum(-1)
    return (held < mass).sum(-1) + 1


def mass_by_loop(logits: Tensor, mass: float) -> Tensor:
    counts = []
    for row in logits.reshape(-1, logits.shape[-1]):
        total, count = 0.0, 0
        for p in sorted(row.softmax(-1).tolist(), reverse=True):
            total, count = total + p, count + 1
            if total >= mass:
                break
        counts.append(count)
    return torch.tensor(counts).reshape(logits.shape[:-1])


tokens_for_mass = Exercise(
    "tokens_for_mass",
    mass_right,
    [fresh("logits", "mass", shape=(4, 5, 50))],
    rights={
        "loop": mass_by_loop,
        "topk": lambda z, mass: (p_of(z).topk(z.shape[-1]).values.cumsum(-1) < mass).sum(-1) + 1,
    },
    wrongs={
        "one less": (lambda z, mass: mass_right(z, mass) - 1, mistakes.off_by_one),
        "ascending": (
            lambda z, m: (p_of(z).sort(-1).values.cumsum(-1) < m).sum(-1) + 1,
            mistakes.counted_upwards,
        ),
        "softmax twice": (lambda z, mass: mass_right(p_of(z), mass), mistakes.softmax_twice),
    },
)

# --- 03: the divergences, for each token


def per_token(divergence: Callable[..., Tensor]) -> Function:
    """kdlab's, as notebook 03 asks for it: a number a token, nothing scaled."""
    return lambda student_logits, teacher_logits, **options: divergence(
        student_logits, teacher_logits, reduction="none", **options
    )


def kl_by_loop(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    out = torch.zeros(student_logits.shape[:-1])
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            q, p = p_of(student_logits[i, j]).tolist(), p_of(teacher_logits[i, j]).tolist()
            out[i, j] = sum(b * math.log(b / a) for a, b in zip(q, p, strict=True))
    return out


def cross_entropy_of(p: Tensor, q: Tensor) -> Tensor:
    return -(p * q.log()).sum(-1)


def kl_terms(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return p_of(teacher_logits) * (log_p(teacher_logits) - log_p(student_logits))


pair = [fresh("student_logits", "teacher_logits")]
forward = Exercise(
    "forward_kl",
    per_token(kdlab.forward_kl),
    pair,
    rights={
        "loop": kl_by_loop,
        "kl_div": lambda s, t: functional.kl_div(log_p(s), log_p(t), log_target=True, reduction="none").sum(
            -1
        ),
        "CE - H": lambda s, t: cross_entropy_of(p_of(t), p_of(s)) - cross_entropy_of(p_of(t), p_of(t)),
    },
    wrongs={
        "reversed": (lambda s, t: kl(p_of(s), p_of(t)), mistakes.kl_reversed),
        "cross-entropy": (lambda s, t: cross_entropy_of(p_of(t), p_of(s)), mistakes.cross_entropy_not_kl),
        "sign": (lambda s, t: -kl(p_of(t), p_of(s)), mistakes.sign_flipped),
        "base 2": (lambda s, t: kl(p_of(t), p_of(s)) / math.log(2), mistakes.log_base_2),
        "twice": (lambda s, t: kl(p_of(p_of(t)), p_of(p_of(s))), mistakes.softmax_twice),
        "axis": (
            lambda s, t: (t.softmax(0) * (t.log_softmax(0) - s.log_softmax(0))).sum(0),
            mistakes.softmax_over_wrong_axis,
        ),
        "summed": (lambda s, t: kl_terms(s, t).sum(0), mistakes.summed_over_wrong_axis(kl_terms)),
        "mean": (lambda s, t: kl_terms(s, t).mean(-1), mistakes.mean_not_sum),
    },
)
reverse = Exercise(
    "reverse_kl",
    per_token(kdlab.reverse_kl),
    pair,
    rights={
        "loop": lambda s, t: kl_by_loop(t, s),
        "kl_div": lambda s, t: functional.kl_div(log_p(t), p_of(s), reduction="none").sum(-1),
    },
    wrongs={
        "reversed": (lambda s, t: kl(p_of(t), p_of(s)), mistakes.kl_reversed),
        "cross-entropy": (
            lambda s, t: cross_entropy_of(p_of(s), p_of(t)),
            mistakes.cross_entropy_from_student,
        ),
        "sign": (lambda s, t: -kl(p_of(s), p_of(t)), mistakes.sign_flipped),
        "base 2": (lambda s, t: kl(p_of(s), p_of(t)) / math.log(2), mistakes.log_base_2),
        "twice": (lambda s, t: kl(p_of(p_of(s)), p_of(p_of(t))), mistakes.softmax_twice),
    },
)


def jsd(s: Tensor, t: Tensor, beta: float, m: Tensor | None = None) -> Tensor:
    p, q = p_of(t), p_of(s)
    m = beta * p + (1 - beta) * q if m is None else m
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def jsd_with_limits(s: Tensor, t: Tensor, beta: float) -> Tensor:
    if beta == 0:
        return kl(p_of(t), p_of(s))
    return kl(p_of(s), p_of(t)) if beta == 1 else jsd(s, t, beta)


def jsd_by_logaddexp(s: Tensor, t: Tensor, beta: float) -> Tensor:
    if beta in (0, 1):
        return jsd_with_limits(s, t, beta)
    log_m = torch.logaddexp(math.log(beta) + log_p(t), math.log(1 - beta) + log_p(s))
    parts = [functional.kl_div(log_m, log_p(z), log_target=True, reduction="none").sum(-1) for z in (t, s)]
    return beta * parts[0] + (1 - beta) * parts[1]


def with_limits(formula: Function) -> Function:
    """A formula that is wrong in between, and right at the ends."""
    return lambda s, t, beta: jsd_with_limits(s, t, beta) if beta in (0, 1) else formula(s, t, beta)


def jsd_limits_swapped(s: Tensor, t: Tensor, beta: float) -> Tensor:
    return jsd_with_limits(s, t, 1 - beta) if beta in (0, 1) else jsd(s, t, beta)


three = ("student_logits", "teacher_logits", "beta")
generalised_jsd = Exercise(
    "generalized_jsd",
    per_token(kdlab.generalized_jsd),
    [fresh(*three), fresh(*three, beta=0.0), fresh(*three, beta=1.0)],
    rights={"formula": jsd_with_limits, "logaddexp": jsd_by_logaddexp},
    wrongs={
        "no limits": (jsd, mistakes.beta_without_limits),
        "limits swapped": (jsd_limits_swapped, mistakes.limits_swapped),
        "beta swapped": (lambda s, t, b: jsd_with_limits(s, t, 1 - b), mistakes.beta_swapped),
        "mixture swapped": (
            with_limits(lambda s, t, b: jsd(s, t, b, (1 - b) * p_of(t) + b * p_of(s))),
            mistakes.mixture_swapped,
        ),
        "geometric": (
            with_limits(lambda s, t, b: jsd(s, t, b, (b * log_p(t) + (1 - b) * log_p(s)).exp())),
            mistakes.mixture_of_logarithms,
        ),
        "equal weights": (
            with_limits(lambda s, t, b: jsd(s, t, 0.5, b * p_of(t) + (1 - b) * p_of(s))),
            mistakes.beta_only_in_mixture,
        ),
        "base 2": (lambda s, t, b: jsd_with_limits(s, t, b) / math.log(2), mistakes.log_base_2),
        "divided": (
            with_limits(lambda s, t, b: jsd(s, t, b, b * p_of(t) + (1 - b) * p_of(s)) / (b * (1 - b))),
            mistakes.jsd_divided,
        ),
        "probabilities for logits": (
            with_limits(lambda s, t, b: jsd(p_of(s), p_of(t), b, p_of(b * p_of(t) + (1 - b) * p_of(s)))),
            mistakes.probabilities_for_logits,
        ),
    },
)
variation = Exercise(
    "total_variation",
    per_token(kdlab.total_variation),
    pair,
    rights={
        "formula": lambda s, t: (p_of(s) - p_of(t)).abs().sum(-1) / 2,
        "what one has more": lambda s, t: (p_of(t) - p_of(s)).clamp(min=0).sum(-1),
        "norm": lambda s, t: torch.linalg.vector_norm(p_of(s) - p_of(t), ord=1, dim=-1) / 2,
    },
    wrongs={
        "half": (lambda s, t: (p_of(s) - p_of(t)).abs().sum(-1), mistakes.half_missing),
        "logits": (lambda s, t: (s - t).abs().sum(-1) / 2, mistakes.logits_compared),
        "logs": (lambda s, t: (log_p(s) - log_p(t)).abs().sum(-1) / 2, mistakes.log_probabilities_compared),
        "squares": (lambda s, t: (p_of(s) - p_of(t)).square().sum(-1) / 2, mistakes.squared_differences),
        "cancelled": (
            lambda s, t: (p_of(s) - p_of(t)).sum(-1).clamp(-1e-9, 1e-9),
            mistakes.no_absolute_value,
        ),
        "mean": (lambda s, t: (p_of(s) - p_of(t)).abs().mean(-1) / 2, mistakes.mean_not_sum),
    },
)


def reverse_gradient(s: Tensor, t: Tensor) -> Tensor:
    p, q = p_of(t), p_of(s)
    return q * (q.log() - p.log() - kl(q, p).unsqueeze(-1))


# The checks of notebook 03 compare with autograd; here the closed form stands for it.
forward_kl_gradient = Exercise(
    "d forward KL",
    lambda student_logits, teacher_logits: p_of(student_logits) - p_of(teacher_logits),
    pair,
    rights={
        "formula": lambda s, t: p_of(s) - p_of(t),
        "by logs": lambda s, t: log_p(s).exp() - log_p(t).exp(),
    },
    wrongs={
        "sign": (lambda s, t: p_of(t) - p_of(s), mistakes.sign_flipped),
        "probabilities": (lambda s, t: -p_of(t) / p_of(s), mistakes.gradient_to_probabilities),
        "no denominator": (lambda s, t: -p_of(t), mistakes.softmax_moves_one),
        "diagonal": (lambda s, t: -p_of(t) * (1 - p_of(s)), mistakes.softmax_moves_one),
        "logits": (lambda s, t: s - t, mistakes.logits_subtracted),
    },
)
reverse_kl_gradient = Exercise(
    "d reverse KL",
    lambda student_logits, teacher_logits: reverse_gradient(student_logits, teacher_logits),
    pair,
    rights={
        "formula": reverse_gradient,
        "jacobian": lambda s, t: (
            p_of(s) * (log_p(s) - log_p(t))
            - p_of(s) * (p_of(s) * (log_p(s) - log_p(t))).sum(-1, keepdim=True)
        ),
    },
    wrongs={
        "sign": (lambda s, t: -reverse_gradient(s, t), mistakes.sign_flipped),
        "swapped": (lambda s, t: reverse_gradient(t, s), mistakes.p_and_q_swapped),
        "probabilities": (lambda s, t: log_p(s) - log_p(t) + 1, mistakes.gradient_to_probabilities),
        "no denominator": (lambda s, t: p_of(s) * (log_p(s) - log_p(t)), mistakes.softmax_moves_one),
        "forward": (lambda s, t: p_of(s) - p_of(t), mistakes.gradient_of_forward_kl),
        "unweighted mean": (
            lambda s, t: p_of(s) * (log_p(s) - log_p(t) - (log_p(s) - log_p(t)).mean(-1, keepdim=True)),
            mistakes.ratio_mean_unweighted,
        ),
        "and a 1": (lambda s, t: p_of(s) * (log_p(s) - log_p(t) + 1), mistakes.softmax_moves_one),
    },
)

# --- 04: T^2, the masked mean, the mix


def tempered(s: Tensor, t: Tensor, T: float) -> Tensor:
    return kl(p_of(t, T), p_of(s, T)).mean()


temperature_squared = Exercise(
    "tempered_kl",
    lambda student_logits, teacher_logits, temperature: kdlab.forward_kl(
        student_logits, teacher_logits, temperature=temperature
    ),
    [fresh("student_logits", "teacher_logits", "temperature")],
    rights={
        "formula": lambda s, t, T: T**2 * tempered(s, t.detach(), T),
        "batchmean": lambda s, t, T: (
            T
            * T
            * functional.kl_div(
                log_p(s, T).flatten(0, 1), p_of(t.detach(), T).flatten(0, 1), reduction="batchmean"
            )
        ),
    },
    wrongs={
        "missing": (lambda s, t, T: tempered(s, t, T), mistakes.temperature_squared_missing),
        "T": (lambda s, t, T: T * tempered(s, t, T), mistakes.temperature_not_squared),
        "divided": (lambda s, t, T: tempered(s, t, T) / T**2, mistakes.temperature_squared_inverted),
        "teacher at 1": (
            lambda s, t, T: T**2 * kl(p_of(t), p_of(s, T)).mean(),
            mistakes.teacher_not_tempered,
        ),
        "student at 1": (
            lambda s, t, T: T**2 * kl(p_of(t, T), p_of(s)).mean(),
            mistakes.student_not_tempered,
        ),
        "reversed": (lambda s, t, T: T**2 * tempered(t, s, T), mistakes.kl_reversed),
        "cross-entropy": (
            lambda s, t, T: T**2 * cross_entropy_of(p_of(t, T), p_of(s, T)).mean(),
            mistakes.cross_entropy_not_kl,
        ),
        "not detached": (lambda s, t, T: T**2 * tempered(s, t, T), NOT_DETACHED),
    },
    gradient_to=["student_logits"],
)


def mean_right(losses: Tensor, labels: Tensor) -> Tensor:
    return losses[labels != -100].mean()


def mean_by_loop(losses: Tensor, labels: Tensor) -> Tensor:
    total, count = torch.zeros(()), 0
    for loss, label in zip(losses.flatten(), labels.flatten().tolist(), strict=True):
        if label != -100:
            total, count = total + loss, count + 1
    return total / count


def mean_of_rows(losses: Tensor, labels: Tensor) -> Tensor:
    kept = labels != -100
    return ((losses * kept).sum(-1) / kept.sum(-1)).mean()


def masked_total(losses: Tensor, labels: Tensor) -> Tensor:
    return (losses * (labels != -100)).sum()


masked_mean = Exercise(
    "token_mean",
    mean_right,
    [fresh("losses", "labels", shape=(3, 4, 5))],
    rights={
        "loop": mean_by_loop,
        "where": lambda losses, labels: (
            torch.where(labels == -100, 0.0, losses).sum() / labels.ne(-100).sum()
        ),
    },
    wrongs={
        "all": (lambda losses, labels: losses.mean(), mistakes.padding_counted),
        "denominator": (lambda x, y: masked_total(x, y) / y.numel(), mistakes.padding_in_denominator),
        "rows": (mean_of_rows, mistakes.mean_over_batch),
        "batch": (lambda x, y: masked_total(x, y) / len(y), mistakes.mean_over_batch),
        "sum": (masked_total, mistakes.sum_not_mean),
    },
    gradient_to=["losses"],
)


def parts(s: Tensor, t: Tensor, y: Tensor, T: float, ce_temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """T^2 KL and cross-entropy, both means over the tokens that count."""
    kept = y != -100
    divergence = T**2 * kl(p_of(t.detach(), T), p_of(s, T))[kept].mean()
    return divergence, functional.cross_entropy(s[kept] / ce_temperature, y[kept])


def mix_right(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, ce_weight: float
) -> Tensor:
    return kdlab.distillation_loss(
        student_logits, teacher_logits, labels, temperature=temperature, ce_weight=ce_weight
    )


def mix(s: Tensor, t: Tensor, y: Tensor, T: float, w: float) -> Tensor:
    divergence, ce = parts(s, t, y, T)
    return (1 - w) * divergence + w * ce


def mix_per_token(s: Tensor, t: Tensor, y: Tensor, T: float, w: float) -> Tensor:
    """A loop over the tokens, with one mean at the end."""
    total, count = torch.zeros(()), 0
    for i, row in enumerate(y.tolist()):
        for j, token in enumerate(row):
            if token != -100:
                divergence = kl(p_of(t[i, j].detach(), T), p_of(s[i, j], T)) * T * T
                total, count = total + (1 - w) * divergence - w * log_p(s[i, j])[token], count + 1
    return total / count


def mix_of(combine: Callable[[Tensor, Tensor, float, float], Tensor]) -> Function:
    """A wrong way to put the two parts together."""
    return lambda s, t, y, T, w: combine(*parts(s, t, y, T), T, w)


def mix_tempered(s: Tensor, t: Tensor, y: Tensor, T: float, w: float) -> Tensor:
    divergence, ce = parts(s, t, y, T, ce_temperature=T)
    return (1 - w) * divergence + w * ce


mixed = Exercise(
    "distillation_loss",
    mix_right,
    [fresh("student_logits", "teacher_logits", "labels", "temperature", "ce_weight")],
    rights={"formula": mix, "loop": mix_per_token},
    wrongs={
        "T^2": (
            mix_of(lambda d, ce, T, w: (1 - w) * d / T**2 + w * ce),
            mistakes.temperature_squared_missing,
        ),
        "T": (mix_of(lambda d, ce, T, w: (1 - w) * d / T + w * ce), mistakes.temperature_not_squared),
        "swapped": (mix_of(lambda d, ce, T, w: w * d + (1 - w) * ce), mistakes.weights_swapped),
        "d + w ce": (mix_of(lambda d, ce, T, w: d + w * ce), mistakes.divergence_unweighted),
        "d + ce": (mix_of(lambda d, ce, T, w: d + ce), mistakes.weights_missing),
        "T^2 on all": (
            mix_of(lambda d, ce, T, w: (1 - w) * d + T**2 * w * ce),
            mistakes.cross_entropy_scaled,
        ),
        "ce at T": (mix_tempered, mistakes.cross_entropy_tempered),
        "padding": (
            lambda s, t, y, T, w: mix(s, t, y.clamp(min=0), T, w),
            mistakes.padding_counted,
        ),
        "mean of rows": (
            lambda *a: torch.stack(
                [mix(*(x[i : i + 1] for x in a[:3]), *a[3:]) for i in range(len(a[0]))]
            ).mean(),
            mistakes.mean_over_batch,
        ),
    },
    gradient_to=["student_logits"],
)
both_terms = Exercise(
    "soft_cross_entropy",
    lambda student_logits, teacher_logits: (
        kdlab.forward_kl(student_logits, teacher_logits) + entropy(teacher_logits).mean()
    ),
    pair,
    rights={
        "formula": lambda s, t: cross_entropy_of(p_of(t), p_of(s)).mean(),
        "torch": lambda s, t: functional.cross_entropy(s.flatten(0, 1), p_of(t).flatten(0, 1)),
    },
    wrongs={
        "KL": (lambda s, t: kl(p_of(t), p_of(s)).mean(), mistakes.entropy_forgotten),
        "reversed": (lambda s, t: cross_entropy_of(p_of(s), p_of(t)).mean(), mistakes.p_and_q_swapped),
        "sign": (lambda s, t: -cross_entropy_of(p_of(t), p_of(s)).mean(), mistakes.sign_flipped),
        "base 2": (lambda s, t: cross_entropy_of(p_of(t), p_of(s)).mean() / math.log(2), mistakes.log_base_2),
    },
)

EXERCISES = [
    next_word,
    log_softmax,
    entropy_of,
    sequence,
    causal,
    tokens_for_mass,
    forward,
    reverse,
    generalised_jsd,
    variation,
    forward_kl_gradient,
    reverse_kl_gradient,
    temperature_squared,
    masked_mean,
    mixed,
    both_terms,
]
