"""A teacher that reads more than its student: context distillation.

The teacher reads c and z, the student c' and z, where c' is less than c: the student learns to write as if it had read
the context (Askell et al. 2021, arXiv 2112.00861, section 2; Snell et al. 2022, arXiv 2209.15189).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kdlab.batch_rows import read_rows
from kdlab.files import fingerprint
from kdlab.linear_head import HiddenLogits, LinearHead
from kdlab.model_io import Batch, target_labels
from kdlab.teachers import HiddenTeacher, LiveTeacher, Teacher, if_it_can, refuse_own_call
from kdlab.text.batches import Example
from kdlab.text.causal import collate_for

AddContext = Callable[[Example, int | None], Example]


class ContextTeacher:
    """Asks a teacher about the student's batch with a context of its own, and answers beside the student's targets.

    Args:
        teacher: a Teacher, or a model, which becomes a `LiveTeacher`.
        add_context: what the teacher reads. A list of token id lists: that of the row's example id is put before what
            the student reads. Or a function of the student's `Example` (source or prompt, and target) and its example
            id (None where the batch has no example_ids), which gives the teacher's Example: the source or prompt may
            be any other, the target must be the same tokens.
        config: the teacher's transformers configuration, by which its batches are made; default: that of its model.

    Raises:
        ValueError: a teacher without a model and no config. When called: a list of contexts and a batch without
            example_ids, or an id that the list does not have; a target that is not the student's, and where it
            differs; a teacher that gives a `TopK`.

    Row by row, the place of each target token in the teacher's batch is worked out from where the target begins there
    and in the student's: lengths and paddings of the two have nothing to do with each other. Each may be of either
    kind, encoder-decoder or decoder-only; the vocabulary must be the same. Rows where nothing is to be learnt hold some
    row of the teacher's.

    >>> from types import SimpleNamespace
    >>> from kdlab.text.causal import collate_causal
    >>> def position_of_each_token(batch):
    ...     return torch.arange(batch["input_ids"].shape[1] - 1.0).view(1, -1, 1)
    >>> config = SimpleNamespace(is_encoder_decoder=False, pad_token_id=0)
    >>> teacher = ContextTeacher(position_of_each_token, [[9, 9, 9]], config=config)
    >>> batch = collate_causal([Example([5, 6], [7, 1])], pad_token_id=0, example_ids=[0])
    >>> batch["labels"][:, 1:].tolist(), teacher(batch)[..., 0].tolist()
    ([[-100, 7, 1]], [[0.0, 4.0, 5.0]])
    """

    def __init__(
        self,
        teacher: Teacher | nn.Module,
        add_context: Sequence[Sequence[int]] | AddContext,
        *,
        config: Any = None,
    ):
        self.teacher: Teacher = LiveTeacher(teacher) if isinstance(teacher, nn.Module) else teacher
        self.contexts = None if callable(add_context) else [list(ids) for ids in add_context]
        self.add_context: AddContext = add_context if callable(add_context) else self._put_before
        if config is None:
            config = getattr(getattr(self.teacher, "model", None), "config", None)
        if config is None:
            raise ValueError(
                f"config: got None with a {type(self.teacher).__name__}, expected its model's, which says how to pad"
            )
        self.config = config

    def check_apart(self, student: nn.Module) -> None:
        """Refuse a student that shares parameters with the teacher."""
        if_it_can(self.teacher, "check_apart", student)

    def to(self, device: torch.device) -> ContextTeacher:
        """Move the teacher, if it is a model."""
        if_it_can(self.teacher, "to", device)
        return self

    def fingerprint(self) -> str:
        """Of the teacher and the contexts, which must be a list: what a function does cannot be told."""
        if self.contexts is None or not hasattr(self.teacher, "fingerprint"):
            raise ValueError(
                f"add_context: got {'a function' if self.contexts is None else 'a list'} with a "
                f"{type(self.teacher).__name__}, expected a list and a teacher that has a fingerprint()"
            )
        return fingerprint([self.teacher.fingerprint(), self.contexts])

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        theirs, places = self._with_context(batch)
        logits = self.teacher(theirs)
        if not isinstance(logits, Tensor):
            raise ValueError("teacher: got a top-k signal, expected whole distributions")
        return _pick(logits, places)

    def linear_head(self) -> LinearHead:
        """See `HiddenTeacher`."""
        refuse_own_call(self, ContextTeacher)
        return self._hidden_teacher().linear_head()

    @torch.no_grad()
    def hidden_logits(self, batch: Batch) -> HiddenLogits:
        """See `HiddenTeacher`."""
        theirs, places = self._with_context(batch)
        found = self._hidden_teacher().hidden_logits(theirs)
        return replace(found, hidden=_pick(found.hidden, places))

    def _hidden_teacher(self) -> HiddenTeacher:
        if not isinstance(self.teacher, HiddenTeacher):
            raise ValueError(f"teacher: a {type(self.teacher).__name__} gives no hidden states")
        return self.teacher

    def _put_before(self, example: Example, example_id: int | None) -> Example:
        assert self.contexts is not None  # otherwise there is a function
        if example_id is None:
            raise ValueError("batch: got no example_ids, expected them: they say which context is whose")
        if not 0 <= example_id < len(self.contexts):
            raise ValueError(
                f"example_ids: got {example_id}, expected 0 to {len(self.contexts) - 1}: there are "
                f"{len(self.contexts)} contexts"
            )
        return Example([*self.contexts[example_id], *example.source_ids], example.target_ids)

    def _with_context(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The teacher's batch, and for each of the student's targets its row in the answer, [batch, targets]."""
        rows = read_rows(batch)
        ids = batch["example_ids"].tolist() if "example_ids" in batch else [None] * len(rows)
        examples = [self.add_context(row.example, i) for row, i in zip(rows, ids, strict=True)]
        for number, (row, example) in enumerate(zip(rows, examples, strict=True)):
            _check_target(number, row.example.target_ids, example.target_ids)
        given = [i for i in ids if i is not None]
        theirs = collate_for(self.config, examples, example_ids=given or None)
        length, device = target_labels(batch).shape[1], batch["labels"].device
        places = torch.zeros(len(rows), length, dtype=torch.int64)
        for places_of_row, mine, its in zip(places, rows, read_rows(theirs), strict=True):
            number_of_targets = len(mine.example.target_ids)
            places_of_row[mine.start : mine.start + number_of_targets] = its.start + torch.arange(
                number_of_targets
            )
        return {name: tensor.to(device) for name, tensor in theirs.items()}, places.to(device)


def _check_target(row: int, mine: list[int], theirs: list[int]) -> None:
    """Refuse another target than the student's: their distributions would be of different sentences."""
    if list(theirs) == list(mine):
        return
    pairs = zip(theirs, mine, strict=False)
    place = next((place for place, (its, own) in enumerate(pairs) if its != own), min(len(theirs), len(mine)))
    its, own = ([*map(str, ids[place : place + 1]), "the end"][0] for ids in (theirs, mine))
    raise ValueError(
        f"add_context: got a target of {len(theirs)} tokens for row {row}, expected the student's {len(mine)} tokens; "
        f"they differ first at token {place}, {its} instead of {own}"
    )


def _pick(rows: Tensor, places: Tensor) -> Tensor:
    """rows[b, places[b, i]], [batch, targets, any]."""
    return rows[torch.arange(len(rows), device=rows.device)[:, None], places]
