"""On-policy distillation: the student writes the targets, the teacher scores them.

A student that has seen the data's targets alone meets prefixes of its own making only when it is used. In Generalized
Knowledge Distillation (Agarwal et al. 2024) a share `lmbda` of the updates trains on targets y ~ Pr_theta^s(. | c', z),
drawn from the student as it stands, and the loss is the mean over their positions of D(Pr^t, Pr_theta^s) after y_<i.
Nothing is differentiated through the draw.

A decoder-only student goes on from each row's prompt, which stays and does not count; its completion is the target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from kdlab.batch_rows import read_rows
from kdlab.generation import Search, search_batch, source_batches
from kdlab.losses import DistillationLoss
from kdlab.model_io import Batch, target_labels
from kdlab.teachers import CachedTeacher, PhrasebookTeacher, Teacher
from kdlab.text.batches import Example
from kdlab.text.causal import collate_for
from kdlab.weak_to_strong import ConfidenceLoss

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Teachers that have nothing to say about every target, and why.
_DATA_ONLY: dict[type, str] = {
    CachedTeacher: "a cache holds the distributions along the data's targets alone",
    PhrasebookTeacher: "no distribution is defined after a prefix to which the grammar gives probability 0",
}


@dataclass(frozen=True)
class OnPolicy:
    """When and how the student's own samples take the place of the data's targets.

    Attributes:
        lmbda: the probability, at each update, that all of its targets are the student's; 0 to 1.
        temperature: of the sampling; the loss has its own.
        max_length: the most tokens of a sample, with eos; None: as many as `kdlab.generation.length_limit` allows.
        start: updates on the data alone before the first that may sample. A fresh student's samples are noise that
            runs to the length limit; the paper starts from a student that has been trained on the data.
        tokens_per_batch: padded source (or prompt) tokens in one call of `generate`, which takes the sources of all the
            micro-batches of an update together, long ones first.

    Raises:
        ValueError: a value out of its range.

    Whether an update samples, and what it draws, depends on the run's seed and the update's number alone (and the
    draw on the process): so all processes decide alike, and a run that resumes goes on as if it had never stopped.

    >>> on_policy = OnPolicy(lmbda=0.5)
    >>> [on_policy.samples_at(seed=0, update=update) for update in range(6)]
    [True, False, False, True, False, True]
    """

    lmbda: float = 0.5
    temperature: float = 1.0
    max_length: int | None = None
    start: int = 0
    tokens_per_batch: int = 8192

    def __post_init__(self) -> None:
        if not 0 <= self.lmbda <= 1:
            raise ValueError(f"lmbda: got {self.lmbda}, expected 0 to 1")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature: got {self.temperature}, expected a finite number > 0")
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"max_length: got {self.max_length}, expected at least 1, or None")
        if self.start < 0:
            raise ValueError(f"start: got {self.start}, expected 0 or more updates")
        if self.tokens_per_batch < 1:
            raise ValueError(f"tokens_per_batch: got {self.tokens_per_batch}, expected at least 1")

    def check(
        self, model: PreTrainedModel, teacher: Teacher | None, loss: DistillationLoss | ConfidenceLoss
    ) -> None:
        """Refuse what cannot go with a student's own samples.

        Raises:
            ValueError: no teacher; a teacher that can only score the data's targets; a loss with a share of
                cross-entropy, for which samples are no references.
        """
        if self.lmbda == 0:
            return
        if teacher is None:
            raise ValueError(
                "teacher: got None, expected one with on_policy: it scores the student's samples"
            )
        _check_teacher(teacher)
        ce_weight = (loss.loss if isinstance(loss, ConfidenceLoss) else loss).options["ce_weight"]
        if ce_weight > 0:
            raise ValueError(
                f"ce_weight: got {ce_weight}, expected 0 with on_policy: the student's samples are no references"
            )

    def samples_at(self, seed: int, update: int) -> bool:
        """Whether the targets of this update (from 0) are the student's."""
        return update >= self.start and bool(_random(seed, update, 0).random() < self.lmbda)

    def replace(
        self, model: PreTrainedModel, batches: Sequence[Batch], *, seed: int, update: int, process: int = 0
    ) -> list[dict[str, Tensor]]:
        """The micro-batches of one update with the student's samples as targets; rows and sources stay.

        Args:
            model: the student, unwrapped. It samples in eval mode, with its cache and without grad, and is left in the
                mode it was in, as torch's random state is in its own.
            batches: as `collate` or `collate_causal` makes them, which make those that are returned. A row without a
                label that counts has none afterwards. Example_ids are left out of the result: they name targets that
                are no longer there.
            seed: of the run.
            update: number of the update, from 0.
            process: which of several draws.

        Raises:
            ValueError: a row without a prompt (see `kdlab.batch_rows`), or with one that fills the model's positions.
        """
        sources = [[row.example.source_ids for row in read_rows(batch)] for batch in batches]
        targets = iter(
            self._sample(model, [ids for rows in sources for ids in rows], (seed, update, 1 + process))
        )
        return [
            _with_targets(batch, rows, [next(targets) for _ in rows], model)
            for batch, rows in zip(batches, sources, strict=True)
        ]

    def _sample(
        self, model: PreTrainedModel, sources: Sequence[Sequence[int]], state: tuple[int, int, int]
    ) -> list[list[int]]:
        """A target for each source; it ends in eos, unless the length limit cut it."""
        search = Search(
            sample=True,
            temperature=self.temperature,
            seed=int(_random(*state).integers(2**32)),
            tokens_per_batch=self.tokens_per_batch,
        )
        targets: list[list[int]] = [[] for _ in sources]
        training = model.training
        for number, indices in enumerate(source_batches(sources, search)):
            found = search_batch(model, [sources[i] for i in indices], search, number, self.max_length)
            for index, ids in zip(indices, found, strict=True):
                targets[index] = ids
        model.train(training)
        return targets


def _with_targets(
    batch: Batch, sources: Sequence[list[int]], targets: Sequence[list[int]], model: PreTrainedModel
) -> dict[str, Tensor]:
    """The batch of these sources and targets, as the model reads it, on the device of `batch`.

    Labels hold every token of a target, its eos and, where it has none, the last token before the limit; what
    follows is padding, and what stands before it the prompt. A row of `batch` without a label keeps none.
    """
    examples = [Example(source, target) for source, target in zip(sources, targets, strict=True)]
    made = {
        name: tensor.to(batch["input_ids"].device)
        for name, tensor in collate_for(model.config, examples).items()
    }
    counts = (target_labels(batch) != -100).any(1, keepdim=True)
    return {**made, "labels": made["labels"].masked_fill(~counts, -100)}


def _check_teacher(teacher: Teacher) -> None:
    """Refuse a teacher, a member of an ensemble or what another asks, that can only score the data's targets."""
    for kind, reason in _DATA_ONLY.items():
        if isinstance(teacher, kind):
            raise ValueError(
                f"teacher: got a {kind.__name__}, expected one that scores any target with on_policy: {reason}"
            )
    asked = [getattr(teacher, "teacher", None), *getattr(teacher, "members", ())]
    for member in asked:
        if member is not None:
            _check_teacher(member)


def _random(seed: int, update: int, use: int) -> np.random.Generator:
    """Random numbers of one update: for the decision (use 0), or for the samples of process use - 1."""
    # numpy takes [a, b] and [a, b, 0] for the same seed, and the batches' is [seed, epoch].
    return np.random.Generator(np.random.PCG64([seed, update, 1 + use]))
