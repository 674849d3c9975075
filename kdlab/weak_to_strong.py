"""Weak-to-strong: the teacher is the smaller model, and the student is to become better than it.

Nothing else changes: any teacher and student go into the `Distiller`, whichever is larger. What may be added is the
auxiliary confidence loss of Burns et al. (2023), which lets the student hold to its own opinion.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdlab.distributions import TopK
from kdlab.losses import DistillationLoss, distillation_loss


class ConfidenceLoss(nn.Module):
    """(1 - a) * loss + a * CE(q, y_hat), where y_hat is the student's own most probable token.

    Args:
        loss: between student and teacher; default: forward KL at temperature 1, which is the paper's cross-entropy
            to soft labels less their entropy.
        weight: a, once it has grown; 0 to 1.
        warmup_updates: a grows from 0 in a straight line over so many updates, as `update` counts them. The
            `Distiller` keeps it at the run's own count.

    Raises:
        ValueError: a weight or warm-up out of its range.

    Source: Burns et al. 2023, "Weak-to-Strong Generalization", who let the weight grow at the start of training. For
    two classes they harden q at a threshold that puts half of a batch into each; a vocabulary has no such balance,
    so the most probable token is taken, at T = 1, where a token counts. No gradient flows through the choice. Where
    no gradient is asked for, as in evaluation, `loss` alone is given.

    >>> student, teacher = torch.tensor([[0.6, 0.4]]).log().requires_grad_(), torch.tensor([[0.5, 0.5]]).log()
    >>> round(ConfidenceLoss(weight=1.0)(student, teacher).item(), 4)  # -log 0.6
    0.5108
    """

    def __init__(self, loss: DistillationLoss | None = None, weight: float = 0.5, warmup_updates: int = 0):
        super().__init__()
        if not 0 <= weight <= 1:
            raise ValueError(f"weight: got {weight}, expected 0 to 1")
        if warmup_updates < 0:
            raise ValueError(f"warmup_updates: got {warmup_updates}, expected 0 or more")
        self.loss = loss or DistillationLoss()
        self.weight, self.warmup_updates, self.update = weight, warmup_updates, 0

    @property
    def weight_now(self) -> float:
        """a at this update.

        >>> loss = ConfidenceLoss(weight=0.5, warmup_updates=10)
        >>> loss.update = 4
        >>> loss.weight_now
        0.2
        """
        return (
            self.weight * min(self.update / self.warmup_updates, 1.0) if self.warmup_updates else self.weight
        )

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | TopK,
        labels: Tensor | None = None,
        num_items_in_batch: int | Tensor | None = None,
        overwrite_teacher: bool = False,
    ) -> Tensor:
        """See `DistillationLoss`."""
        loss: Tensor = self.loss(
            student_logits, teacher_logits, labels, num_items_in_batch, overwrite_teacher
        )
        weight = self.weight_now
        if weight == 0 or not torch.is_grad_enabled():
            return loss
        options = self.loss.options
        chosen = student_logits.detach().argmax(-1)
        if labels is not None:
            chosen = chosen.masked_fill(labels == options.get("ignore_index", -100), -100)
        own = distillation_loss(
            student_logits,
            teacher_logits,
            chosen,
            ce_weight=1.0,
            reduction=options.get("reduction", "token_mean"),
            num_items_in_batch=num_items_in_batch,
        )
        return (1 - weight) * loss + weight * own
