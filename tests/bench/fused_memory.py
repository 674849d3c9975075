"""Peak extra memory and time of the loss from logits, as a textbook and as kdlab compute it, and of the fused loss.

Forward and backward of 2,048 tokens, float32, from hidden states of 256 (student) and 512 (teacher) and a vocabulary
of 32,000. Each measurement is a process of its own; the methods take turns, round after round, so that a machine that
slows down slows all of them. Extra is what comes on top of the inputs: logits, gradients, everything.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import kdlab

TOKENS, STUDENT_HIDDEN, TEACHER_HIDDEN, VOCABULARY = 2048, 256, 512, 32_000
DIVERGENCES = ("forward_kl", "generalized_jsd")
METHODS = ("textbook", "logits", "fused")


def measure(rounds: int = 3) -> dict[str, Any]:
    """Medians over the processes; ratios to kdlab's loss from logits are medians of the ratios round by round."""
    figures: dict[str, Any] = {}
    for divergence in DIVERGENCES:
        runs = [{method: _in_a_process(method, divergence) for method in METHODS} for _ in range(rounds)]
        for method in METHODS:
            figures[f"{divergence} {method}"] = {
                **{
                    key: round(statistics.median(run[method][key] for run in runs), 2) for key in ("s", "mib")
                },
                "time_ratio": round(
                    statistics.median(run[method]["s"] / run["logits"]["s"] for run in runs), 3
                ),
                "memory_ratio": round(
                    statistics.median(run[method]["mib"] / run["logits"]["mib"] for run in runs), 3
                ),
            }
    return figures


def _in_a_process(method: str, divergence: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.fused_memory", method, divergence]
    figures: dict[str, float] = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
    return figures


def _one(method: str, divergence: str, steps: int = 3) -> dict[str, float]:
    """Peak extra memory of the first step in MiB, and the fastest step in seconds."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student = torch.randn(TOKENS, STUDENT_HIDDEN, device=device).requires_grad_()
    weight = (0.05 * torch.randn(VOCABULARY, STUDENT_HIDDEN, device=device)).requires_grad_()
    teacher = torch.randn(TOKENS, TEACHER_HIDDEN, device=device)
    its_weight = 0.05 * torch.randn(VOCABULARY, TEACHER_HIDDEN, device=device)

    def step() -> None:
        if method == "fused":
            loss = kdlab.fused_linear_distillation_loss(
                student, weight, teacher, its_weight, divergence=divergence
            )
        elif method == "logits":
            loss = kdlab.distillation_loss(
                student @ weight.T, teacher @ its_weight.T, divergence=divergence, overwrite_teacher=True
            )
        else:
            loss = _textbook(divergence, student @ weight.T, teacher @ its_weight.T)
        loss.backward()
        student.grad = weight.grad = None

    before = memory_in_use(device)
    times = []
    for number in range(steps):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        if number == 0:
            peak = peak_memory(device)
    return {"s": min(times), "mib": peak - before}


def _textbook(divergence: str, student: Tensor, teacher: Tensor) -> Tensor:
    log_p, log_q = teacher.log_softmax(-1), student.log_softmax(-1)
    if divergence == "forward_kl":
        return functional.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    log_m = torch.logaddexp(log_p, log_q) - torch.tensor(2.0).log()
    parts = [functional.kl_div(log_m, x, log_target=True, reduction="batchmean") for x in (log_p, log_q)]
    return (parts[0] + parts[1]) / 2


def memory_in_use(device: torch.device) -> float:
    """What is in use now, MiB. On a CPU: what the process has in memory, as Linux tells it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # KiB on Linux


if __name__ == "__main__":
    print(json.dumps(_one(*sys.argv[1:3])))
