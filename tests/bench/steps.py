"""What the benchmarks of training steps share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # rounds


class StubTokenizer:
    """As much of one as a model's configuration asks for."""

    pad_token_id, eos_token_id = 0, 1

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size


def random_batch(
    vocabulary: int, rows: int, source: int, target: int, device: torch.device
) -> dict[str, Tensor]:
    """Random tokens; a sixth of those of the target is padding."""
    input_ids = torch.randint(3, vocabulary, (rows, source), device=device)
    labels = torch.randint(3, vocabulary, (rows, target), device=device)
    lengths = torch.randint(target * 2 // 3, target + 1, (rows, 1), device=device)
    return {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "decoder_input_ids": labels.roll(1, dims=1),
        "labels": labels.masked_fill(torch.arange(target, device=device) >= lengths, -100),
    }


def in_turn(
    parts: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Milliseconds of each part, round after round, so that a machine that slows down slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(rounds + WARM_UP):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number >= WARM_UP:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times
