"""How long a translation takes: a small model of the time, given or fitted to a few quick runs on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdlab.counts import Counts, count
from kdlab.progress import progress_bar
from kdlab.students import Architecture, marian_config, seeded

if TYPE_CHECKING:
    from transformers import MarianMTModel


@dataclass(frozen=True)
class CostModel:
    """Seconds of one greedy translation at batch 1, with a key-value cache:

    start + per_step x steps + per_layer x runs of a layer + operations / operations_per_second

    A layer runs once in the encoder and once a step in the decoder. In a small model that is what time is made of:
    each run costs some calls into the runtime, whatever the width, and those of the decoder wait for one another, so
    that a layer costs more there than in the encoder (Kasai et al. 2021, "Deep Encoder, Shallow Decoder").

    Attributes:
        operations_per_second: of matrix products; infinite where the time does not depend on them.
        per_layer, per_step, start: seconds.

    >>> from transformers import MarianMTModel
    >>> from kdlab.counts import sketch
    >>> counts = count(sketch(MarianMTModel, marian_config(Architecture(64, 6, 1, 256), 4000)))
    >>> round(CostModel(operations_per_second=1e9, per_layer=1e-4).seconds(counts, 20, 20), 4)
    0.028
    """

    operations_per_second: float
    per_layer: float = 0.0
    per_step: float = 0.0
    start: float = 0.0

    def __post_init__(self) -> None:
        if not self.operations_per_second > 0:
            raise ValueError(f"operations_per_second: got {self.operations_per_second}, expected more than 0")
        for name in ("per_layer", "per_step", "start"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected 0 or more seconds")

    def seconds(self, counts: Counts, source_length: int, target_length: int) -> float:
        """Of one greedy translation: so many tokens of the source with eos, and of the target with eos."""
        start, steps, runs, operations = _terms(counts, source_length, target_length)
        overhead = self.start * start + self.per_step * steps + self.per_layer * runs
        return overhead + operations / self.operations_per_second


@dataclass(frozen=True)
class Observation:
    """One timed translation."""

    counts: Counts
    source_length: int
    target_length: int
    seconds: float


def fit_cost(observations: Sequence[Observation]) -> CostModel:
    """The cost model with the least mean squared relative error, none of whose terms is negative.

    It is the best of the least-squares fits to each subset of the four terms that come out without a negative one.

    Args:
        observations: at least four, of models that differ in width and in depth, and of different lengths; else the
            terms cannot be told apart.

    Raises:
        ValueError for fewer than four, or a time that is not positive.

    >>> from transformers import MarianMTModel
    >>> from kdlab.counts import sketch
    >>> sizes = [Architecture(width, layers, 1, 64) for width in (32, 64) for layers in (1, 3)]
    >>> models = [count(sketch(MarianMTModel, marian_config(size, 100))) for size in sizes]
    >>> fit_cost([Observation(counts, 8, 8, counts.greedy(8, 8) / 1e9) for counts in models]).per_step
    0.0
    """
    if len(observations) < 4:
        raise ValueError(f"observations: got {len(observations)}, expected at least 4, one for each term")
    seconds = np.array([observation.seconds for observation in observations])
    if not (seconds > 0).all():
        raise ValueError(f"observations: got a time of {seconds.min()} seconds, expected more than 0")
    rows = [_terms(o.counts, o.source_length, o.target_length) for o in observations]
    relative = np.array(rows, dtype=np.float64) / seconds[:, None]
    scale = np.linalg.norm(relative, axis=0)
    relative /= scale  # operations are some 1e7, layers 10: without it the fit loses digits
    best, least = np.zeros(4), math.inf
    for size in range(1, 5):
        for subset in combinations(range(4), size):
            columns = list(subset)
            found = np.linalg.lstsq(relative[:, columns], np.ones(len(rows)), rcond=None)[0]
            error = float(((relative[:, columns] @ found - 1) ** 2).sum())
            if (found >= 0).all() and error < least:
                best, least = np.zeros(4), error
                best[columns] = found
    start, per_step, per_layer, per_operation = (best / scale).tolist()
    return CostModel(1 / per_operation if per_operation else math.inf, per_layer, per_step, start)


def measure_cost(vocabulary: int = 4000, *, repeats: int = 5) -> CostModel:
    """A cost model of transformers' `generate` on this machine's CPU, with the threads that torch has now.

    Times twelve translations by Marian models without training, which takes some seconds. For another runtime, give
    times of its own to `fit_cost`.

    Args:
        vocabulary: number of tokens.
        repeats: the fastest of so many runs is taken, after one to warm up: what else the machine does only adds.

    >>> measure_cost(100, repeats=1).per_layer >= 0
    True
    """
    sizes = [(64, 1, 1), (64, 4, 1), (64, 1, 4), (256, 1, 1), (256, 4, 1), (256, 2, 3)]
    lengths = [(8, 8), (24, 20)]
    observations = []
    with progress_bar(len(sizes) * len(lengths), "measuring the cost of a translation", "runs") as bar:
        for width, encoder_layers, decoder_layers in sizes:
            model = _untrained(Architecture(width, encoder_layers, decoder_layers, 4 * width), vocabulary)
            counts = count(model)
            for source, target in lengths:
                seconds = time_translation(model, source, target, repeats=repeats)
                observations.append(Observation(counts, source, target, seconds))
                bar.update()
    return fit_cost(observations)


def time_translation(model: Any, source_length: int, target_length: int, *, repeats: int = 5) -> float:
    """Seconds of the fastest of some greedy translations at batch 1: random tokens, cut at `target_length` exactly.

    >>> time_translation(_untrained(Architecture(16, 1, 1, 32), 100), 5, 5, repeats=1) > 0
    True
    """
    source = torch.randint(
        model.config.vocab_size,
        (1, source_length),
        generator=torch.Generator().manual_seed(0),
    ).to(model.device)
    model.eval()
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        model.generate(
            input_ids=source,
            attention_mask=torch.ones_like(source),
            num_beams=1,
            do_sample=False,
            min_new_tokens=target_length,
            max_new_tokens=target_length,
        ).cpu()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _untrained(architecture: Architecture, vocabulary: int) -> MarianMTModel:
    from transformers import MarianMTModel

    with seeded(0):
        return MarianMTModel(marian_config(architecture, vocabulary))


def _terms(counts: Counts, source_length: int, target_length: int) -> tuple[int, int, int, int]:
    """What the four terms of the cost model are multiplied with."""
    runs = counts.encoder_layers + counts.decoder_layers * target_length
    return 1, target_length, runs, counts.greedy(source_length, target_length)
