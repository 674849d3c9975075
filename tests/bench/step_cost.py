"""A training step with the live teacher against the student's cross-entropy step and one teacher forward.

The sizes are those of the `cpu` profile for real text, a sixth of the target tokens padding. All three are timed in
turn, round after round, so that a machine that slows down slows all of them; and in several processes, with freed
memory kept (as `kdlab distill` does, see kdlab/allocator.py) and given back to the system (as Python does).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

import kdlab
from kdlab.allocator import keep_memory
from kdlab.profiles import PROFILES
from kdlab.students import new_model
from kdlab.teachers import LiveTeacher


class StubTokenizer:
    """As much of one as a model's configuration asks for."""

    pad_token_id, eos_token_id = 0, 1

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size


def measure(processes: int = 5) -> dict[str, Any]:
    """The median over several processes, and the ratio of each, for both ways to treat freed memory."""
    runs: dict[str, list[dict[str, float]]] = {"memory_given_back": [], "memory_kept": []}
    for _ in range(processes):
        for name, found in runs.items():
            command = [sys.executable, "-m", "tests.bench.step_cost", name]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append(json.loads(output))
    return {
        name: {key: round(statistics.median(run[key] for run in found), 3) for key in found[0]}
        | {"ratios": sorted(run["ratio"] for run in found)}
        for name, found in runs.items()
    }


def measure_here(rounds: int = 31, rows: int = 75, source: int = 18, target: int = 20) -> dict[str, float]:
    """Medians in milliseconds, and the median of the ratios round by round."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    profile = PROFILES["text", "cpu"]
    tokenizer: Any = StubTokenizer(profile.vocabulary)
    student = new_model(profile.student, tokenizer, 0).to(device).train()
    teacher = LiveTeacher(new_model(profile.teacher, tokenizer, 1).to(device))
    optimizer = torch.optim.AdamW(student.parameters())
    input_ids = torch.randint(3, profile.vocabulary, (rows, source), device=device)
    labels = torch.randint(3, profile.vocabulary, (rows, target), device=device)
    inputs = {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "decoder_input_ids": labels.roll(1, dims=1),
    }
    lengths = torch.randint(target * 2 // 3, target + 1, (rows, 1), device=device)  # a sixth is padding
    labels = labels.masked_fill(torch.arange(target, device=device) >= lengths, -100)
    batch = {**inputs, "labels": labels}

    def step(loss: Callable[[torch.Tensor], torch.Tensor]) -> None:
        optimizer.zero_grad()
        loss(student(**inputs, use_cache=False).logits).backward()
        optimizer.step()

    def cross_entropy_step() -> None:
        step(lambda logits: functional.cross_entropy(logits.flatten(0, 1), labels.flatten()))

    def distillation_step() -> None:
        target = teacher(batch)
        step(lambda logits: kdlab.forward_kl(logits, target, labels, overwrite_teacher=True))

    def teacher_forward() -> None:
        teacher(batch)

    parts = {
        "cross_entropy_step": cross_entropy_step,
        "teacher_forward": teacher_forward,
        "distillation_step": distillation_step,
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for round_number in range(rounds + 3):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if round_number >= 3:  # the first rounds warm up
                times[name].append(1e3 * (time.perf_counter() - start))
    ratios = [
        both / (alone + forward)
        for alone, forward, both in zip(*(times[name] for name in parts), strict=True)
    ]
    medians = {f"{name}_ms": round(statistics.median(values), 1) for name, values in times.items()}
    return medians | {"ratio": round(statistics.median(ratios), 3)}


if __name__ == "__main__":
    if sys.argv[1] == "memory_kept":
        keep_memory()
    print(json.dumps(measure_here()))
