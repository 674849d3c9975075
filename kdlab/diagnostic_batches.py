"""A batch of either kind as the checks of `diagnose` look at it: its targets in one layout, and its sources.

In a decoder-only batch the prompt stands before the target, and where it ends differs from row to row. The checks see
the targets alone, as [batch, longest target]: column i holds token i of the target whatever stands before it, and the
rows of student and teacher are picked to go with it. An encoder-decoder batch has this layout already.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kdlab.distributions import TopK
from kdlab.model_io import OPTIONAL_INPUTS, REQUIRED_INPUTS, Batch, aligned, batch_alignment, target_labels

MODEL_INPUTS = (*REQUIRED_INPUTS["encoder_decoder"], *OPTIONAL_INPUTS)
OWN_KEYS = (*MODEL_INPUTS, "labels", "example_ids")  # the rest of a batch is for the teacher alone
IGNORED = -100


@dataclass(frozen=True)
class Targets:
    """The targets of a batch.

    Attributes:
        labels: [batch, longest target], negative where a token does not count.
        places: [batch, longest target], which row beside `kdlab.model_io.target_labels(batch)` goes with each; None:
            they are all there, in their order.
    """

    labels: Tensor
    places: Tensor | None

    def pick(self, rows: Tensor) -> Tensor:
        """[batch, longest target, ...] of rows beside `target_labels`, as models and teachers give them.

        >>> from kdlab.text.batches import Example
        >>> from kdlab.text.causal import collate_causal
        >>> batch = collate_causal([Example([5, 6], [7, 1]), Example([5], [8, 9, 1])], pad_token_id=0)
        >>> targets = find_targets(batch)
        >>> targets.labels.tolist(), targets.pick(torch.arange(3).expand(2, 3)).tolist()
        ([[7, 1, -100], [8, 9, 1]], [[1, 2, 2], [0, 1, 2]])
        """
        if self.places is None:
            return rows
        return rows[torch.arange(len(rows), device=rows.device)[:, None], self.places]

    def pick_target(self, target: Tensor | TopK) -> Tensor | TopK:
        """The same of a teacher's answer.

        >>> targets = Targets(torch.tensor([[7]]), places=torch.tensor([[1]]))
        >>> answer = TopK.from_logits(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.7, 0.2]]]).log(), k=1)
        >>> targets.pick_target(answer).indices
        tensor([[[1]]])
        """
        if isinstance(target, Tensor):
            return self.pick(target)
        return replace(
            target,
            indices=self.pick(target.indices),
            log_probabilities=self.pick(target.log_probabilities),
            tail_log_probability=self.pick(target.tail_log_probability),
        )


def find_targets(batch: Batch) -> Targets:
    """The targets of a batch of either kind.

    In a decoder-only batch a target goes from the first label that counts to the last. Padding is none of it, whatever
    its labels say, nor is a first token that would be predicted from padding in front.

    >>> find_targets({"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[-100, -100, 7]])})
    Targets(labels=tensor([[7]]), places=tensor([[1]]))
    """
    if batch_alignment(batch) == "encoder_decoder":
        return Targets(batch["labels"], None)
    real = is_real(batch)
    labels = target_labels(batch).masked_fill(~(real[:, 1:] & real[:, :-1]), IGNORED)
    counted = labels >= 0
    steps = torch.arange(labels.shape[1], device=labels.device)
    start = counted.int().argmax(1)
    end = (counted * (steps + 1)).amax(1)
    places = start[:, None] + steps[: max(int((end - start).max()), 1)]
    inside = places < end[:, None]
    places = places.clamp_max(labels.shape[1] - 1)
    return Targets(labels.gather(1, places).masked_fill(~inside, IGNORED), places)


def model_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Logits [batch, longest target, vocabulary] beside `find_targets(batch).labels`, called as the Distiller does.

    >>> from types import SimpleNamespace
    >>> class Echo(nn.Module):  # its logits at each position: the token that stands there
    ...     def forward(self, input_ids, **inputs):
    ...         return SimpleNamespace(logits=input_ids[..., None].float())
    >>> ids = torch.tensor([[5, 6, 7]])
    >>> model_logits(Echo(), {"input_ids": ids, "labels": torch.tensor([[-100, -100, 7]])}).flatten()
    tensor([6.])
    """
    inputs: dict[str, Any] = {name: batch[name] for name in MODEL_INPUTS if name in batch}
    rows: Tensor = model(**inputs, use_cache=False).logits
    return find_targets(batch).pick(aligned(rows, batch)[0])


def is_real(batch: Batch) -> Tensor:
    """Which input_ids are no padding, [batch, length].

    >>> is_real({"input_ids": torch.tensor([[5, 0]]), "attention_mask": torch.tensor([[1, 0]])})
    tensor([[ True, False]])
    """
    return batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()


def is_source(batch: Batch) -> Tensor:
    """Which input_ids are a source or prompt, [batch, length].

    >>> ids, labels = torch.tensor([[5, 6, 7]]), torch.tensor([[-100, -100, 7]])
    >>> is_source({"input_ids": ids, "labels": labels})
    tensor([[ True,  True, False]])
    """
    places = find_targets(batch).places
    if places is None:
        return is_real(batch)
    columns = torch.arange(batch["input_ids"].shape[1], device=places.device)
    return is_real(batch) & (columns <= places[:, :1])


def with_rolled(batch: Batch, keys: tuple[str, ...], step: int) -> dict[str, Tensor]:
    """The batch with these fields given to the next rows.

    >>> batch = {"input_ids": torch.tensor([[1], [2], [3]]), "labels": torch.tensor([[7], [8], [9]])}
    >>> rolled = with_rolled(batch, ("input_ids",), step=1)
    >>> rolled["input_ids"].flatten().tolist(), rolled["labels"].flatten().tolist()
    ([3, 1, 2], [7, 8, 9])
    """
    return {name: value.roll(step, 0) if name in keys else value for name, value in batch.items()}


def with_other_sources(batch: Batch, step: int) -> tuple[dict[str, Tensor], Tensor]:
    """The batch with each source or prompt given to the row `step` further on, and in which rows it is another one.

    The start token alone, before a text without a prompt, is no source to be exchanged. Padding stays on its side.

    >>> from kdlab.text.batches import Example
    >>> from kdlab.text.causal import collate_causal
    >>> batch = collate_causal([Example([5, 6], [7, 1]), Example([5], [8, 9, 1])], pad_token_id=0)
    >>> other, differs = with_other_sources(batch, step=1)
    >>> other["input_ids"].tolist(), differs.tolist()
    ([[5, 7, 1, 0, 0], [5, 6, 8, 9, 1]], [True, True])
    """
    if batch_alignment(batch) == "encoder_decoder":
        swapped = with_rolled(batch, ("input_ids", "attention_mask"), step)
        return swapped, (swapped["input_ids"] != batch["input_ids"]).any(1)
    source, real, ids, labels = is_source(batch), is_real(batch), batch["input_ids"], batch["labels"]
    number, rows, differs = len(ids), [], []
    for row in range(number):
        other = (row - step) % number
        theirs, own, rest = ids[other][source[other]], ids[row][source[row]], real[row] & ~source[row]
        made = {
            "input_ids": torch.cat([theirs, ids[row][rest]]),
            "labels": torch.cat([torch.full_like(theirs, IGNORED), labels[row][rest]]),
        }
        made["attention_mask"] = torch.ones_like(made["input_ids"])
        rows.append(made)
        differs.append(len(theirs) + len(own) > 2 and not torch.equal(theirs, own))
    left = bool((~real[:, 0]).any())
    swapped = {
        name: _padded([made[name] for made in rows], IGNORED if name == "labels" else 0, left)
        for name in ("input_ids", "labels", "attention_mask")
    }
    if "position_ids" in batch:
        swapped["position_ids"] = (swapped["attention_mask"].cumsum(1) - 1).clamp_min(0)
    return {**batch, **swapped}, torch.tensor(differs, device=ids.device)


def with_changed_sources(batch: Batch, columns: list[int]) -> tuple[dict[str, Tensor], bool]:
    """The batch with these columns of its sources or prompts from the next row, and whether that changes a source.

    >>> batch = {"input_ids": torch.tensor([[5, 6, 7], [5, 8, 9]]), "labels": torch.tensor([[-100, -100, 7]] * 2)}
    >>> changed, differs = with_changed_sources(batch, [1, 2])  # the last column is no prompt
    >>> changed["input_ids"].tolist(), differs
    ([[5, 8, 7], [5, 6, 9]], True)
    """
    ids, source = batch["input_ids"], is_source(batch)
    chosen = torch.zeros_like(source)
    chosen[:, columns] = True
    if batch_alignment(batch) == "causal":  # a target of the next row is no prompt of this one
        chosen &= source & source.roll(1, 0)
    changed = torch.where(chosen, ids.roll(1, 0), ids)
    return {**batch, "input_ids": changed}, bool(((changed != ids) & source).any())


def _padded(rows: list[Tensor], value: int, left: bool) -> Tensor:
    longest = max(map(len, rows))
    return torch.stack(
        [
            nn.functional.pad(row, (longest - len(row), 0) if left else (0, longest - len(row)), value=value)
            for row in rows
        ]
    )
