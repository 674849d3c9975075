"""Right answers to exercises of notebook 04 that have no counterpart in kdlab: what checks and tests compare with.

They stand here so that a visible check does not show them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gradient_power(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """n, where the gradient of KL(p_t || p_s) falls as 1/T^n from `temperature` to twice it; a scalar.

    >>> student, teacher = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[3.0, 0.0, 1.0]])
    >>> round(gradient_power(student, teacher, 100.0).item(), 2)
    2.0
    """

    def size(t: float) -> Tensor:
        gradient = ((student_logits / t).softmax(-1) - (teacher_logits / t).softmax(-1)) / t
        return gradient.square().sum().sqrt()

    return torch.log2(size(temperature) / size(2 * temperature))


def counted_pairs(logits: Tensor, labels: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Rows [n, V] of logits [batch, length, V] that count, and the labels [n] that they predict.

    >>> rows, tokens = counted_pairs(torch.eye(4)[None], torch.tensor([[-100, 7, 1, -100]]), "causal")
    >>> rows.argmax(-1).tolist(), tokens.tolist()
    ([0, 1], [7, 1])
    """
    if kind == "causal":  # row i is for the label of the next place
        logits, labels = logits[:, :-1], labels[:, 1:]
    return logits[labels != -100], labels[labels != -100]


def token_mean(losses: Tensor, labels: Tensor) -> Tensor:
    """The mean of the losses [batch, length] whose label is not -100; 0 where there is none.

    >>> token_mean(torch.tensor([[1.0, 3.0, torch.inf]]), torch.tensor([[7, 1, -100]]))
    tensor(2.)
    """
    kept = labels != -100
    return losses[kept].sum() / kept.sum().clamp(min=1)


def shares_of_batch(losses: Tensor, labels: Tensor, sizes: list[int]) -> Tensor:
    """What each piece, of so many sentences, adds to the token mean of the whole batch; [pieces].

    >>> labels = torch.tensor([[4, 3, 1], [1, -100, -100]])
    >>> shares_of_batch(torch.tensor([[1.0, 1.0, 1.0], [5.0, 7.0, 7.0]]), labels, [1, 1])
    tensor([0.7500, 1.2500])
    """
    kept = labels != -100
    sums = torch.where(kept, losses, 0.0).sum(-1)
    pieces = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return sums.new_zeros(len(sizes)).index_add(0, pieces, sums) / kept.sum()


def left_to_learn(cross_entropy: float, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """KL of a student whose cross-entropy to the teacher's distribution is known, as means over the tokens; a scalar.

    >>> round(left_to_learn(1.0, torch.zeros(1, 2, 2), torch.tensor([[0, -100]])).item(), 4)
    0.3069
    """
    log_p = teacher_logits[labels != -100].log_softmax(-1)
    entropy = -torch.where(log_p == -torch.inf, 0.0, log_p.exp() * log_p).sum(-1)
    return cross_entropy - entropy.mean()
