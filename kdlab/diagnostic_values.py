"""What the checks of `diagnose` read off rows of logits: distances, scores of labels, means of rows."""

from __future__ import annotations

from torch import Tensor

from kdlab.distributions import TopK, log_probabilities
from kdlab.divergences import make_divergence
from kdlab.token_divergence import token_divergence

# -inf has no mean; a nat of surprise beyond this is a token that the model excludes.
EXCLUDED = -50.0


def dense(target: Tensor | TopK) -> Tensor:
    """Log-probabilities [..., vocabulary]; a `TopK`'s tail is spread evenly over the entries it stands for.

    >>> import torch
    >>> top = TopK.from_logits(torch.tensor([0.6, 0.3, 0.1]).log(), k=1)
    >>> dense(top).exp()  # the tail's 0.4, in halves
    tensor([0.6000, 0.2000, 0.2000])
    """
    if isinstance(target, Tensor):
        return log_probabilities(target)
    known = target.indices >= 0
    rest = (target.vocabulary - known.sum(-1)).clamp_min(1).log()
    spread = (target.tail_log_probability - rest)[..., None]
    # An empty place is written to one entry more, which is then cut off.
    whole = spread.expand(*spread.shape[:-1], target.vocabulary + 1).clone()
    where = target.indices.masked_fill(~known, target.vocabulary)
    return whole.scatter(-1, where, target.log_probabilities)[..., :-1]


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) of every row, in nats.

    >>> import torch
    >>> kl(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log())
    tensor([0.1438])
    """
    return token_divergence(make_divergence("forward_kl"), log_q, log_p)


def label_scores(log_p: Tensor, labels: Tensor, offset: int = 0) -> Tensor:
    """log p of each label in the row `offset` further on, [batch, length]; 0 where there is none, or no label.

    >>> import torch
    >>> log_p = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]).log()
    >>> label_scores(log_p, torch.tensor([[0, -100]])).exp(), label_scores(log_p, torch.tensor([[0, -100]]), 1).exp()
    (tensor([[0.5000, 1.0000]]), tensor([[0.2500, 1.0000]]))
    """
    rows = log_p.roll(-offset, dims=1)
    chosen = rows.gather(-1, labels.clamp(0, log_p.shape[-1] - 1)[..., None]).squeeze(-1).clamp_min(EXCLUDED)
    return chosen.masked_fill(labels < 0, 0.0)


def mean_of_rows(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the tokens of each row that count, [batch]; rows without any are left out.

    >>> import torch
    >>> values, counted = torch.tensor([[1.0, 3.0], [5.0, 9.0], [7.0, 7.0]]), torch.tensor([[1, 1], [1, 0], [0, 0]])
    >>> mean_of_rows(values, counted.bool())
    tensor([2., 5.])
    """
    tokens = counted.sum(1)
    sums = values.masked_fill(~counted, 0.0).sum(1)
    return (sums / tokens.clamp_min(1))[tokens > 0]
