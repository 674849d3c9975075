"""Sequence level: the teacher's own translations become the student's targets.

Loss = - SUM_y Pr^t(y | c, z) log Pr_theta^s(y | c', z) runs over every sentence there is. With
y_hat = argmax_y Pr^t(y | c, z), found by beam search, it becomes - log Pr_theta^s(y_hat | c', z) (Kim and Rush 2016).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdlab.generation import Search, generate
from kdlab.text.batches import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PseudoTargets:
    """The teacher's translations of a list of sources.

    Attributes:
        examples: source and pseudo-target; sources whose translation is unfinished or empty are left out.
        kept: for each example, the index of its source.
        dropped: how many sources were left out.
        seconds: what it cost to make them, over all runs that it took.
    """

    examples: list[Example]
    kept: list[int]
    dropped: int
    seconds: float


def pseudo_targets(
    teacher: PreTrainedModel,
    sources: Sequence[list[int]],
    search: Search,
    file: Path,
    description: str = "teacher translates",
) -> PseudoTargets:
    """Let the teacher translate every source, going on where an earlier call was stopped.

    Args:
        teacher: encoder-decoder model, on its device.
        sources: token ids that end in eos.
        search: beam, greedy or sampling.
        file: where translations are kept, one JSON line for each batch. It belongs to this teacher, search and
            list of sources: the caller names it so. A last line that a kill has cut is made again.
        description: for the progress bar.

    Raises:
        ValueError: not one translation is finished.

    Every translation is kept with the index of its source, so the order in which batches come does not matter.
    """
    done, seconds = _read(file)
    if len(done) < len(sources):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as lines:
            start = time.perf_counter()
            for translated in generate(teacher, sources, search, description, done=set(done)):
                spent, start = time.perf_counter() - start, time.perf_counter()
                record = {"seconds": round(spent, 3), "targets": list(translated.items())}
                lines.write(json.dumps(record) + "\n")
                lines.flush()
                done |= translated
                seconds += spent
    eos = teacher.generation_config.eos_token_id
    kept = [index for index in range(len(sources)) if len(done[index]) > 1 and done[index][-1] == eos]
    if sources and not kept:
        raise ValueError(
            f"teacher: none of its {len(sources)} translations comes to an end, expected a model that has learnt to "
            "translate: more text, more updates, or a teacher from a folder"
        )
    examples = [Example(list(sources[index]), done[index]) for index in kept]
    return PseudoTargets(examples, kept, len(sources) - len(kept), seconds)


def _read(file: Path) -> tuple[dict[int, list[int]], float]:
    """What a file holds already; a torn last line is cut off, so that the next one starts on its own."""
    done: dict[int, list[int]] = {}
    seconds, whole = 0.0, 0
    if not file.exists():
        return done, seconds
    with file.open("rb") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            done |= {int(index): ids for index, ids in record["targets"]}
            seconds += record["seconds"]
            whole += len(line)
    os.truncate(file, whole)
    return done, seconds
