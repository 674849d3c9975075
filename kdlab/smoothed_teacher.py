"""A teacher whose distribution is mixed with the uniform one: what label smoothing is to references."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kdlab.distributions import log_probabilities
from kdlab.files import fingerprint
from kdlab.hidden_cache import CachedHiddenTeacher
from kdlab.model_io import Batch
from kdlab.teachers import EnsembleTeacher, LiveTeacher, if_it_can


class SmoothedTeacher:
    """(1 - smoothing) Pr^t + smoothing / vocabulary, at every position.

    A teacher that is nearly certain everywhere teaches a student as much as hard labels do, and a student of few
    sentences overfits to it as it does to them: the same remedy helps (Szegedy et al. 2016 for labels).

    Args:
        teacher: gives whole distributions.
        smoothing: 0 (excluded) to 1 (excluded).

    Raises:
        ValueError: a smoothing out of its range.

    >>> class Certain(LiveTeacher):
    ...     def __call__(self, batch):
    ...         return torch.tensor([[1.0, 0.0]]).log()
    >>> SmoothedTeacher(Certain(nn.Identity()), 0.1)({}).exp()
    tensor([[0.9500, 0.0500]])
    """

    def __init__(self, teacher: LiveTeacher | EnsembleTeacher | CachedHiddenTeacher, smoothing: float):
        if not 0 < smoothing < 1:
            raise ValueError(f"smoothing: got {smoothing}, expected more than 0 and less than 1")
        self.teacher, self.smoothing = teacher, smoothing

    def check_apart(self, student: nn.Module) -> None:
        """Refuse a student that shares parameters with the teacher."""
        if_it_can(self.teacher, "check_apart", student)

    def to(self, device: torch.device) -> SmoothedTeacher:
        """Move the teacher's model."""
        self.teacher.to(device)
        return self

    def fingerprint(self) -> str:
        """Of the teacher's own and the smoothing."""
        return fingerprint([self.teacher.fingerprint(), self.smoothing])

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        log_p = log_probabilities(self.teacher(batch))
        share = log_p.new_tensor(math.log(self.smoothing / log_p.shape[-1]))
        return torch.logaddexp(log_p.add_(math.log1p(-self.smoothing)), share)
