"""A training step with the live teacher against the student's cross-entropy step and one teacher forward.

The sizes are those of the `cpu` profile for real text, a sixth of the target tokens padding. The distillation step is
measured both ways: from hidden states, as the Distiller makes it here, and from logits, as it does where a model has no
linear head. All are timed in turn, round after round, so that a machine that slows down slows all of them; and in
several processes, with freed memory kept (as `kdlab distill` does, see kdlab/allocator.py) and given back to the system
(as Python does).
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
from kdlab.fused_step import FusedStep
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
        | {
            "ratios": sorted(run["ratio"] for run in found),
            "ratios_from_logits": sorted(run["ratio_from_logits"] for run in found),
        }
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

    from_hidden_states = FusedStep.of(student, teacher, kdlab.DistillationLoss())

    def logits() -> torch.Tensor:
        return student(**inputs, use_cache=False).logits

    def step(loss: Callable[[], torch.Tensor]) -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    def cross_entropy() -> torch.Tensor:
        return functional.cross_entropy(logits().flatten(0, 1), labels.flatten())

    def distillation_loss() -> torch.Tensor:
        target = teacher.hidden_logits(batch)
        return from_hidden_states.loss(from_hidden_states.student(student, batch), target, batch, None)

    def distillation_loss_from_logits() -> torch.Tensor:
        target = teacher(batch)
        return kdlab.forward_kl(logits(), target, labels, overwrite_teacher=True)

    times = in_turn(
        {
            "cross_entropy_step": lambda: step(cross_entropy),
            "teacher_forward": lambda: teacher(batch),
            "distillation_step": lambda: step(distillation_loss),
            "distillation_step_from_logits": lambda: step(distillation_loss_from_logits),
        },
        rounds,
        device,
    )

    def ratio(name: str) -> float:
        rows = zip(times["cross_entropy_step"], times["teacher_forward"], times[name], strict=True)
        return round(statistics.median(both / (alone + forward) for alone, forward, both in rows), 3)

    medians = {f"{name}_ms": round(statistics.median(values), 1) for name, values in times.items()}
    return medians | {
        "ratio": ratio("distillation_step"),
        "ratio_from_logits": ratio("distillation_step_from_logits"),
    }


if __name__ == "__main__":
    if sys.argv[1] == "memory_kept":
        keep_memory()
    print(json.dumps(measure_here()))
