"""Pr^t and Pr_theta^s: from logits to log-probabilities, entropy and the log-probability of a sequence.

Everything stays in log space, in float32 at least: a bf16 or fp16 tensor is cast before any arithmetic,
a float64 tensor keeps its precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Alignment = Literal["causal", "encoder_decoder"]


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(logits / temperature) over the last axis.

    Args:
        logits: [..., vocabulary], floating point. -inf is allowed and means probability 0.
        temperature: > 0; above 1 the distribution is flatter, below 1 it is sharper.

    Returns:
        [..., vocabulary] log-probabilities in nats, float32 (float64 for float64 logits).

    Raises:
        ValueError: integer logits, no vocabulary axis, or a temperature that is not a positive number.

    >>> log_probabilities(torch.tensor([0.0, 0.0])).exp()
    tensor([0.5000, 0.5000])
    """
    check_logits("logits", logits)
    check_temperature(temperature)
    return scaled_logits(logits, temperature).log_softmax(-1)


def scaled_logits(logits: Tensor, temperature: float) -> Tensor:
    """logits / temperature, float32 at least; the logits themselves where nothing changes.

    >>> scaled_logits(torch.tensor([2.0, 4.0], dtype=torch.bfloat16), temperature=2.0)
    tensor([1., 2.])
    """
    logits = at_least_float32(logits)
    return logits if temperature == 1.0 else logits / temperature


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """H(p) = -SUM p log p of softmax(logits / temperature), with 0 log 0 = 0.

    Args:
        logits: [..., vocabulary].
        temperature: > 0.

    Returns:
        [...] entropies in nats: 0 for a certain outcome, log(vocabulary) for the uniform distribution.

    >>> round(entropy(torch.zeros(8)).item(), 4) == round(math.log(8), 4)
    True
    """
    log_p = log_probabilities(logits, temperature)
    p = log_p.exp()
    return 0.0 - (p * log_p.masked_fill(p == 0, 0.0)).sum(-1)  # 0 of a certain outcome, and not -0


def entries_for_mass(logits: Tensor, mass: float, temperature: float = 1.0) -> Tensor:
    """How many entries, the most probable first, hold at least a share `mass` of the probability.

    Args:
        logits: [..., vocabulary].
        mass: more than 0 and less than 1.
        temperature: > 0.

    Returns:
        [...] counts from 1 to the vocabulary, int64.

    Raises:
        ValueError: a mass outside (0, 1), or logits or a temperature as in `log_probabilities`.

    >>> entries_for_mass(torch.log(torch.tensor([0.2, 0.5, 0.3])), mass=0.7)
    tensor(2)
    """
    if not 0 < mass < 1:
        raise ValueError(f"mass: got {mass}, expected more than 0 and less than 1")
    p = log_probabilities(logits, temperature).exp()
    held = p.sort(-1, descending=True).values.cumsum(-1)
    # Rounding may leave the last sum below a mass that is nearly 1.
    return ((held < mass).sum(-1) + 1).clamp(max=p.shape[-1])


def align(logits: Tensor, labels: Tensor, alignment: Alignment) -> tuple[Tensor, Tensor]:
    """Pair every row of logits with the label that it predicts.

    Args:
        logits: [batch, length, vocabulary], as the model returns them.
        labels: [batch, length].
        alignment: "encoder_decoder" - the decoder's input is already shifted to the right, so logits[:, i]
            predict labels[:, i] and nothing moves; "causal" - labels are the input itself, so logits[:, i]
            predict labels[:, i + 1]: the last row of logits and the first label go.

    Returns:
        logits and labels of equal length, [batch, length (- 1), ...].

    >>> logits, labels = torch.zeros(1, 3, 5), torch.tensor([[7, 8, 9]])
    >>> align(logits, labels, "causal")[1]
    tensor([[8, 9]])
    """
    check_labels_shape(labels, logits)
    if alignment == "encoder_decoder":
        return logits, labels
    if alignment == "causal":
        return logits[..., :-1, :], labels[..., 1:]
    raise ValueError(f"alignment: got {alignment!r}, expected 'causal' or 'encoder_decoder'")


def token_log_probabilities(
    logits: Tensor,
    labels: Tensor,
    *,
    alignment: Alignment,
    temperature: float = 1.0,
    ignore_index: int = -100,
) -> Tensor:
    """log Pr(label | what precedes it) for every position; 0 where the label is `ignore_index`.

    Args:
        logits: [batch, length, vocabulary].
        labels: [batch, length].
        alignment: which row of logits predicts which label, see `align`.

    Returns:
        [batch, length] for "encoder_decoder", [batch, length - 1] for "causal"; nats.

    >>> token_log_probabilities(torch.zeros(1, 2, 4), torch.tensor([[3, -100]]), alignment="encoder_decoder")
    tensor([[-1.3863,  0.0000]])
    """
    logits, labels = align(logits, labels, alignment)
    counted = labels != ignore_index
    check_labels_range(labels[counted], logits.shape[-1])
    log_p = log_probabilities(logits[counted], temperature)  # other rows may hold anything, NaN too
    chosen = log_p.gather(-1, labels[counted].unsqueeze(-1).long()).squeeze(-1)
    return chosen.new_zeros(counted.shape).masked_scatter(counted, chosen)


def sequence_log_probability(
    logits: Tensor,
    labels: Tensor,
    *,
    alignment: Alignment,
    temperature: float = 1.0,
    ignore_index: int = -100,
) -> Tensor:
    """log Pr(y | x) = SUM_i log Pr(y_i | y_<i, x) of each padded sequence.

    Arguments as for `token_log_probabilities`. Returns [batch], in nats a sequence.

    >>> labels = torch.tensor([[0, 1], [1, -100]])
    >>> sequence_log_probability(torch.zeros(2, 2, 4), labels, alignment="encoder_decoder")
    tensor([-2.7726, -1.3863])
    """
    return token_log_probabilities(
        logits, labels, alignment=alignment, temperature=temperature, ignore_index=ignore_index
    ).sum(-1)


@dataclass(frozen=True)
class TopK:
    """A distribution of which only the k most probable entries are known, and how much is left over.

    This is the sparse teacher signal: what a cache keeps. The entries that are not listed form one event, the
    tail, so a divergence from it is that of two distributions over k + 1 events, and never more than the
    divergence of the whole ones (data processing inequality).

    Attributes:
        indices: [..., k] int64, entries of the vocabulary. -1 marks an empty place: a row may know fewer than k
            entries. The first place of a row is never empty.
        log_probabilities: [..., k], in nats, at `temperature`; -inf in an empty place.
        tail_log_probability: [...], log of the probability of all other entries; -inf where nothing is left.
        vocabulary: number of entries of the whole distribution.
        temperature: at which the probabilities were taken. They cannot be brought to another one later,
            since the tail does not say how it is made up.
    """

    indices: Tensor
    log_probabilities: Tensor
    tail_log_probability: Tensor
    vocabulary: int
    temperature: float = 1.0

    def __post_init__(self) -> None:
        shape = self.indices.shape
        if (
            self.indices.dtype != torch.int64
            or self.indices.dim() < 1
            or not 1 <= shape[-1] <= self.vocabulary
        ):
            raise ValueError(
                f"indices: got {self.indices.dtype} {tuple(shape)}, expected int64 [..., k], k from 1 to the "
                f"vocabulary's {self.vocabulary}"
            )
        expected = {"log_probabilities": shape, "tail_log_probability": shape[:-1]}
        for name, wanted in expected.items():
            found = getattr(self, name).shape
            if found != wanted:
                raise ValueError(
                    f"{name}: got shape {tuple(found)}, expected {tuple(wanted)}, as the indices have"
                )
        check_temperature(self.temperature)

    @classmethod
    def from_logits(cls, logits: Tensor, k: int, temperature: float = 1.0) -> TopK:
        """The k most probable entries of softmax(logits / temperature).

        >>> TopK.from_logits(torch.log(torch.tensor([0.5, 0.3, 0.2])), k=2).tail_log_probability.exp()
        tensor(0.2000)
        """
        log_p = log_probabilities(logits, temperature)
        vocabulary = log_p.shape[-1]
        if not 1 <= k <= vocabulary:
            raise ValueError(f"k: got {k}, expected 1 to {vocabulary}, the size of the vocabulary")
        top = log_p.topk(k, dim=-1)
        tail = log_p.scatter(-1, top.indices, -math.inf).logsumexp(-1)
        return cls(top.indices, top.values, tail, vocabulary, temperature)

    def events(self) -> Tensor:
        """[..., k + 1] log-probabilities: the k entries, then the tail."""
        return torch.cat([self.log_probabilities, self.tail_log_probability.unsqueeze(-1)], dim=-1)


def at_least_float32(x: Tensor) -> Tensor:
    """Cast half-precision tensors to float32 and leave wider ones as they are.

    >>> at_least_float32(torch.zeros(1).half()).dtype, at_least_float32(torch.zeros(1).double()).dtype
    (torch.float32, torch.float64)
    """
    return x.to(wide_dtype(x))


def wide_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The widest type among them, float32 at least.

    >>> wide_dtype(torch.zeros(1).half(), None, torch.zeros(1).double())
    torch.float64
    """
    dtype = torch.float32
    for tensor in tensors:
        dtype = dtype if tensor is None else torch.promote_types(dtype, tensor.dtype)
    return dtype


def check_logits(name: str, logits: Tensor) -> None:
    """Refuse what cannot be logits. Looks at the type and the shape only, never at the values."""
    if not isinstance(logits, Tensor):
        raise ValueError(f"{name}: got {type(logits).__name__}, expected a tensor")
    if not logits.is_floating_point():
        raise ValueError(f"{name}: got dtype {logits.dtype}, expected floating point logits")
    if logits.dim() < 1 or logits.shape[-1] < 1:
        raise ValueError(f"{name}: got shape {tuple(logits.shape)}, expected [..., vocabulary]")


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not a positive finite number."""
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise ValueError(f"temperature: got {temperature!r}, expected a finite number > 0")


def check_labels_shape(labels: Tensor, logits: Tensor) -> None:
    """Refuse labels that are not integers, one for each row of logits."""
    if not isinstance(labels, Tensor):
        raise ValueError(f"labels: got {type(labels).__name__}, expected a tensor")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels: got dtype {labels.dtype}, expected integers")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels: got shape {tuple(labels.shape)}, expected {tuple(logits.shape[:-1])}, "
            f"one label for each row of {tuple(logits.shape)}"
        )


def check_labels_range(labels: Tensor, vocabulary: int) -> None:
    """Refuse labels that the vocabulary does not have. `labels` are those that count."""
    wrong = labels[(labels < 0) | (labels >= vocabulary)]
    if wrong.numel():
        raise ValueError(
            f"labels: got {wrong[0].item()}, expected 0 to {vocabulary - 1}, or ignore_index where nothing "
            f"is to be learnt ({wrong.numel()} labels out of range)"
        )
