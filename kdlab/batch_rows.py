"""A batch read back: the source or prompt and the target of each row, and where the target stands."""

from __future__ import annotations

from dataclasses import dataclass

from kdlab.model_io import Batch, batch_alignment, target_labels
from kdlab.text.batches import Example


@dataclass(frozen=True)
class Row:
    """A row of a batch as what it was made from.

    Attributes:
        example: source or prompt, and target.
        start: of the target, in `kdlab.model_io.target_labels(batch)`.
    """

    example: Example
    start: int


def read_rows(batch: Batch) -> list[Row]:
    """The rows of a batch of either kind, without padding, wherever that stands.

    A target may have labels in its midst that are ignored: the tokens are read from the inputs, its end from the last
    label that counts. In a decoder-only batch the prompt ends before the first label that a row of the output predicts;
    where no label counts, nothing says where, and the first token is taken for the prompt.

    Errors: ValueError for a decoder-only row whose first token counts after padding, from which it would be predicted.

    >>> from kdlab.text.causal import collate_causal
    >>> examples = [Example([5, 6], [7, 1]), Example([5], [8, 9, 1])]
    >>> rows = read_rows(collate_causal(examples, pad_token_id=0))
    >>> [row.example for row in rows] == examples, [row.start for row in rows]
    (True, [1, 0])
    """
    names = ("input_ids", "attention_mask", "decoder_input_ids")
    tensors = {name: batch[name].tolist() for name in names if name in batch}
    labels, rows = target_labels(batch).tolist(), []
    for number, of_row in enumerate(labels):
        counted = [place for place, label in enumerate(of_row) if label >= 0]
        ids, mask = tensors["input_ids"][number], tensors["attention_mask"][number]
        if batch_alignment(batch) == "causal":
            counted = counted or [mask.index(1)]
            start, end = counted[0], counted[-1] + 1
            prompt = [token for token, real in zip(ids[: start + 1], mask, strict=False) if real]
            if not prompt:
                raise ValueError(f"batch: row {number} counts its first token, expected a prompt before it")
            rows.append(Row(Example(prompt, ids[start + 1 : end + 1]), start))
        else:
            last = counted[-1] if counted else 0
            source = [token for token, real in zip(ids, mask, strict=True) if real]
            target = [*tensors["decoder_input_ids"][number][1 : last + 1], of_row[last]]
            rows.append(Row(Example(source, target), 0))
    return rows
