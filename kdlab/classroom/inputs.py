"""Fresh input for a check, from a seed: no two axes are equally long, and no option is where mistakes hide.

At temperature 1 a missing T^2 cannot be seen, at beta = 1/2 beta and 1 - beta are the same, and where all sequences
are equally long the mean over the batch is the mean over the tokens. So none of these is ever drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Inputs = Mapping[str, Any]
Maker = Callable[[int], Inputs]

#: Drawn where nothing else is asked for. T, T^2 and 1/T differ, and so do w and 1 - w.
NUMBERS: Mapping[str, tuple[float, ...]] = {
    "temperature": (0.6, 1.7, 2.5),
    "beta": (0.2, 0.3, 0.7, 0.8),
    "ce_weight": (0.2, 0.3, 0.7, 0.8),
    "mass": (0.6, 0.7, 0.8),
}


def fresh(
    *names: str,
    shape: tuple[int, ...] = (2, 3, 5),
    scale: float = 2.0,
    dtype: torch.dtype = torch.float32,
    minus_infinity: bool = False,
    **numbers: float,
) -> Maker:
    """What draws input for a check from a seed, in the order of the names, which say what each one is.

    Args:
        names: "...logits" - `shape`, normal, times `scale`; "labels" - `shape` without its last axis, the ends of
            the sequences padded with -100, each to another length; "losses" - as the labels, positive, nats a
            token; "p", "q" - `shape`, probabilities; "temperature", "beta", "ce_weight", "mass" - a number, see
            `NUMBERS`.
        shape: [batch, length, vocabulary] or [vocabulary].
        minus_infinity: one entry of each row of logits is -inf: its probability is 0.
        numbers: a value for one of the names, where a certain one is wanted: beta=0.0.

    Raises:
        ValueError: a name that says nothing, or that is not among the names.

    >>> draw = fresh("logits", "labels", "temperature")
    >>> {name: list(value.shape) for name, value in draw(seed=0).items() if name != "temperature"}
    {'logits': [2, 3, 5], 'labels': [2, 3]}
    >>> torch.equal(draw(7)["logits"], draw(7)["logits"]), torch.equal(draw(7)["logits"], draw(8)["logits"])
    (True, False)
    """
    for name in [*names, *numbers]:
        known = name.endswith("logits") or name in ("labels", "losses", "p", "q", *NUMBERS)
        if not known or name not in names:
            raise ValueError(
                f"names: got {name!r}, expected ...logits, labels, losses, p, q or {', '.join(NUMBERS)}"
            )

    def draw(seed: int) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        return {name: numbers[name] if name in numbers else one(name, generator) for name in names}

    def one(name: str, generator: torch.Generator) -> Any:
        if name == "labels":
            return _labels(shape, generator)
        if name == "losses":
            return (torch.rand(shape[:-1], generator=generator) * scale + 0.1).to(dtype)
        if name in NUMBERS:
            return NUMBERS[name][int(torch.randint(len(NUMBERS[name]), (), generator=generator))]
        logits = torch.randn(shape, generator=generator) * scale
        if minus_infinity:
            logits[..., int(torch.randint(shape[-1], (), generator=generator))] = -math.inf
        return (logits.softmax(-1) if name in ("p", "q") else logits).to(dtype)

    return draw


def _labels(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Labels of sequences of different lengths: the longest is not padded, the next by one, and so on."""
    *batch, length, vocabulary = shape
    labels = torch.randint(vocabulary, (*batch, length), generator=generator)
    rows = labels.reshape(-1, length)
    order = torch.randperm(len(rows), generator=generator)
    for padding, row in enumerate(order.tolist()):
        rows[row, length - min(padding, length - 1) :] = -100
    return rows.reshape(labels.shape)
