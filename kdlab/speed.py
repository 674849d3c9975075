"""How fast a model translates: tokens a second in batches, and how long one sentence takes alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdlab.generation import Search, generate, search_batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from kdlab.generation import Runtime

WARM_UP = 3  # sentences


def generation_speed(
    model: PreTrainedModel | Runtime, sources: Sequence[Sequence[int]], repeats: int = 3
) -> float:
    """Target tokens a second, greedy, in batches: the median of `repeats` runs over `sources`.

    >>> class Echo:
    ...     def search_batch(self, sources, search):
    ...         time.sleep(0.01)
    ...         return [list(ids) for ids in sources]
    >>> 0 < generation_speed(Echo(), [[5, 1]], repeats=1) <= 200  # two tokens in a hundredth of a second or more
    True
    """
    speeds = []
    for _ in range(repeats):
        start = time.perf_counter()
        outputs = list(generate(model, sources, Search(), "measuring speed"))
        speeds.append(
            sum(len(ids) for batch in outputs for ids in batch.values()) / (time.perf_counter() - start)
        )
    return statistics.median(speeds)


def translation_latency(
    model: PreTrainedModel | Runtime, sources: Sequence[Sequence[int]], warm_up: int = WARM_UP
) -> dict[str, float]:
    """Milliseconds from a sentence to its translation, greedy, one sentence at a time.

    Args:
        model: on its device, with as many threads as its runtime is set to.
        sources: token ids that end in eos. Each is translated and timed once.
        warm_up: so many of them are translated before the clock starts: the first calls are slow.

    Returns:
        `p50` and `p95` over the sentences, linear between the neighbouring ones. Short and long sentences both count,
        so the spread is that of the text as well as of the machine.

    Raises:
        ValueError: no sources.

    >>> class Echo:
    ...     def search_batch(self, sources, search):
    ...         time.sleep(0.01)
    ...         return [list(ids) for ids in sources]
    >>> found = translation_latency(Echo(), [[5, 1]] * 3)
    >>> 9 < found["p50"] <= found["p95"]
    True
    """
    if not sources:
        raise ValueError("sources: got none, expected at least one")
    for source in sources[:warm_up]:
        search_batch(model, [source], Search())
    milliseconds = []
    for source in sources:
        start = time.perf_counter()
        search_batch(model, [source], Search())  # returns lists: a GPU has finished by then
        milliseconds.append(1000 * (time.perf_counter() - start))
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}
