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
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

import kdlab
from kdlab.allocator import keep_memory
from kdlab.profiles import PROFILES
from kdlab.students import new_model
from kdlab.teachers import LiveTeacher
from tests.bench.steps import StubTokenizer, in_turn, random_batch


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
    batch = random_batch(profile.vocabulary, rows, source, target, device)
    labels = batch["labels"]
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}

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
    times = in_turn(parts, rounds, device)
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
