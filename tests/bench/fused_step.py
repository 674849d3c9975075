"""A training step with the loss from hidden states against the same step with the loss from logits.

Students and teachers of the `cpu` profiles, their vocabularies and larger ones, a whole step (both models forward,
backward, AdamW) by the Distiller's own `compute_loss`. The two take turns, round after round; seconds are the process's
own, so that others on the machine count less, with freed memory kept as `kdlab distill` keeps it. Memory is the peak of
a process that does one of the two.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch

from kdlab.allocator import keep_memory
from kdlab.distiller import Distiller
from kdlab.profiles import PROFILES
from kdlab.students import new_model
from kdlab.teachers import LiveTeacher
from tests.bench.fused_memory import memory_in_use, peak_memory
from tests.bench.steps import StubTokenizer, random_batch

# Profile, entries of the vocabulary, sentences in a batch.
CASES = [
    ("phrasebook", 1_200, 75),
    ("phrasebook", 1_200, 4),
    ("phrasebook", 4_000, 75),
    ("phrasebook", 32_000, 75),
    ("phrasebook", 32_000, 4),
    ("text", 4_000, 75),
    ("text", 32_000, 75),
]


def measure(rounds: int = 9) -> dict[str, Any]:
    """Medians of the ratios round by round, fused to logits, and of the peaks of memory."""
    figures = {}
    for case in CASES:
        found = _in_a_process("both", *case, rounds)
        peaks = {name: _in_a_process(name, *case, 2)["mib"] for name in ("logits", "fused")}
        figures["{} {} {} rows".format(*case)] = {
            **{key: round(value, 3) for key, value in found.items()},
            **{f"{name}_mib": round(peak, 1) for name, peak in peaks.items()},
            "memory_ratio": round(peaks["fused"] / peaks["logits"], 3),
        }
    return figures


def _in_a_process(which: str, *numbers: str | int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.fused_step", which, *map(str, numbers)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def _here(which: str, profile: str, vocabulary: int, rows: int, rounds: int) -> dict[str, float]:
    from transformers import Seq2SeqTrainingArguments

    torch.manual_seed(0)
    sizes = PROFILES[profile, "cpu"]
    tokenizer: Any = StubTokenizer(vocabulary)
    teacher = LiveTeacher(new_model(sizes.teacher, tokenizer, 1))
    batch = random_batch(vocabulary, rows, 18, 20, torch.device("cpu"))
    steps = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("logits", "fused") if which == "both" else (which,):
            student = new_model(sizes.student, tokenizer, 0)
            args = Seq2SeqTrainingArguments(output_dir=folder, report_to=[], use_cpu=True)
            trainer = Distiller(student, args, teacher=teacher, fused=name == "fused")
            steps[name] = (trainer, student.train(), torch.optim.AdamW(student.parameters()))
    before = memory_in_use(torch.device("cpu"))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, (trainer, student, optimizer) in steps.items():
            start = time.process_time()
            trainer.compute_loss(student, batch).backward()  # type: ignore[union-attr]
            optimizer.step()
            optimizer.zero_grad()
            times[name].append(time.process_time() - start)
    if which != "both":
        return {"mib": peak_memory(torch.device("cpu")) - before}
    ratios = [fused / logits for logits, fused in zip(times["logits"][1:], times["fused"][1:], strict=True)]
    return {f"{name}_s": statistics.median(values[1:]) for name, values in times.items()} | {
        "time_ratio": statistics.median(ratios),
        "time_ratio_lowest": min(ratios),
        "time_ratio_highest": max(ratios),
    }


if __name__ == "__main__":
    keep_memory()
    print(json.dumps(_here(*sys.argv[1:3], *map(int, sys.argv[3:]))))
