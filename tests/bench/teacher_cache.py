"""A teacher's cache: bytes a token, what is lost of the distributions, and what a training step from it costs.

Two losses are told apart. `events`: KL between the teacher's k + 1 events and the stored ones, which is what a
training loss sees: rounding alone. `spread`: KL between the whole distribution and the stored one with its tail
spread evenly over the entries that are not listed: what the merged tail hides as well. Hidden states lose by rounding
alone, so for them there is one loss, `spread`; `head_bytes` is their output layer, kept once.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import kdlab
from kdlab.allocator import keep_memory
from kdlab.cache import TeacherCache, build_cache
from kdlab.distributions import TopK
from kdlab.fused_step import FusedStep
from kdlab.hidden_cache import HEAD, CachedHiddenTeacher, HiddenCache, build_hidden_cache
from kdlab.hidden_shards import KeepHidden
from kdlab.loading import load_model
from kdlab.losses import DistillationLoss
from kdlab.profiles import PROFILES
from kdlab.settings import Settings
from kdlab.shards import Keep
from kdlab.students import count_parameters, new_model
from kdlab.task import load_task
from kdlab.teachers import CachedTeacher, LiveTeacher
from kdlab.text.batches import BatchSchedule, Example, by_length, collate, encode_pairs, example_lengths
from kdlab.text.parallel import read_corpus
from kdlab.text.tokenizers import load_tokenizer
from kdlab.trained_teacher import train_teacher

KEEPS = {
    "k=8": Keep(8, 0.0),
    "k=32": Keep(32, 0.0),
    "k=128": Keep(128, 0.0),
    "k=64, p>=1e-3": Keep(),
    "k=128, p>=3e-3": Keep(128, 3e-3),
    "k=128, p>=1e-3": Keep(128, 1e-3),
}
HIDDEN = {f"hidden, {bits} bits": KeepHidden(bits) for bits in (8, 7, 6, 5)}
STEPS = (
    "k=32",
    "k=64, p>=1e-3",
    "k=128, p>=1e-3",
    "hidden, 6 bits",
)  # those that a training step is measured with


def measure(teacher: str | None = None, data: str | None = None, pairs: int = 2000) -> dict[str, Any]:
    """All figures, with freed memory kept as `kdlab distill` keeps it.

    On the first training pairs of `data` with the teacher in a folder; or on the phrasebook, with a small teacher
    trained for it.
    """
    keep_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer, examples = _prepare(teacher, data, pairs, Path(folder), device)
        live = LiveTeacher(model)
        caches: dict[str, TeacherCache | HiddenCache] = {}
        figures: dict[str, dict[str, float]] = {}
        for name, keep in (KEEPS | HIDDEN).items():
            start = time.perf_counter()
            build: Any = build_hidden_cache if isinstance(keep, KeepHidden) else build_cache
            caches[name] = build(
                Path(folder) / f"cache{len(caches)}", live, tokenizer, examples, keep, device=device
            )
            figures[name] = {"build_seconds": round(time.perf_counter() - start, 1)}
        tokens = int(next(iter(caches.values())).lengths.sum())
        for name, lost in _losses(live, caches, examples, device).items():
            head = caches[name].folder / HEAD
            once = head.stat().st_size if head.exists() else 0
            figures[name] |= {"bytes_a_token": round((caches[name].bytes_on_disk - once) / tokens, 1), **lost}
            if once:
                figures[name]["head_bytes"] = once
        return {
            "data": "phrasebook" if data is None else Path(data).name,
            "teacher_parameters": count_parameters(model),
            "vocabulary": caches["k=8"].vocabulary,
            "examples": len(examples),
            "tokens": tokens,
            "caches": figures,
            "steps": {name: _step_cost(caches[name], tokenizer, examples, device) for name in STEPS},
        }


def _prepare(
    teacher: str | None, data: str | None, pairs: int, folder: Path, device: torch.device
) -> tuple[Any, Any, list[Example]]:
    """Model, tokenizer and examples."""
    if (teacher is None) != (data is None):
        raise ValueError(f"teacher: got {teacher!r} with data={data!r}, expected both or neither")
    if teacher is not None and data is not None:
        tokenizer = load_tokenizer(teacher)
        return (
            load_model(teacher, device),
            tokenizer,
            encode_pairs(tokenizer, read_corpus(data).head(pairs).train),
        )
    profile = PROFILES["phrasebook", "ci"]
    profile = replace(profile, teacher_recipe=replace(profile.teacher_recipe, updates=300, evaluations=1))
    task = load_task(Settings(), profile.phrasebook)
    train_teacher(profile, task, folder / "teacher")
    tokenizer = load_tokenizer(str(folder / "teacher"))
    text = replace(
        task.teacher_text,
        sources=task.teacher_text.sources[:pairs],
        targets=task.teacher_text.targets[:pairs],
    )
    return load_model(str(folder / "teacher"), device), tokenizer, encode_pairs(tokenizer, text)


def _losses(
    live: LiveTeacher,
    caches: dict[str, TeacherCache | HiddenCache],
    examples: Sequence[Example],
    device: torch.device,
) -> dict[str, dict[str, float]]:
    """Mean and largest KL of each cache, in nats a token, against the teacher in float64."""
    found: dict[str, list[dict[str, Tensor]]] = {name: [] for name in caches}
    for ids in by_length(example_lengths(examples), 1024):
        batch = collate([examples[index] for index in ids], pad_token_id=0, decoder_start_token_id=0)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        log_p = live(batch)[batch["labels"] != -100].cpu().double().log_softmax(-1)
        for name, cache in caches.items():
            if isinstance(cache, HiddenCache):
                rows = {**batch, "example_ids": torch.tensor(ids)}
                log_q = (
                    CachedHiddenTeacher(cache)(rows)[batch["labels"] != -100].cpu().double().log_softmax(-1)
                )
                found[name].append({"spread": (log_p.exp() * (log_p - log_q)).sum(1)})
            else:
                found[name].append(_divergences(log_p, cache.read(ids)))
    return {name: _mean_and_largest(parts) for name, parts in found.items()}


def _mean_and_largest(parts: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    values = {title: torch.cat([part[title] for part in parts]) for title in parts[0]}
    return {
        f"{title}_{kind}": float(f"{value:.2e}")
        for title, of_tokens in values.items()
        for kind, value in (("mean", of_tokens.mean().item()), ("max", of_tokens.max().item()))
    }


def _divergences(log_p: Tensor, stored: TopK) -> dict[str, Tensor]:
    """KL over the k + 1 events, and over the vocabulary with the tail spread evenly; [tokens] each."""
    known = stored.indices >= 0
    places = torch.where(known, stored.indices, stored.indices[:, :1])
    log_q, tail = stored.log_probabilities.double(), stored.tail_log_probability.double()
    entries = log_p.gather(1, places).masked_fill(~known, -torch.inf)
    rest = log_p.scatter(1, places, -torch.inf).logsumexp(1)
    listed = torch.where(known, entries.exp() * (entries - log_q), 0.0).sum(1)
    events = listed + rest.exp() * (rest - tail)
    share = tail - (log_p.shape[1] - known.sum(1)).log()
    unlisted = (log_p.exp() * (log_p - share[:, None])).scatter(1, places, 0.0).sum(1)
    return {"events": events, "spread": listed + unlisted}


def _step_cost(
    cache: TeacherCache | HiddenCache,
    tokenizer: Any,
    examples: Sequence[Example],
    device: torch.device,
    rounds: int = 60,
) -> dict[str, Any]:
    """A student's step from the cache over its own cross-entropy step on the same batch, in turn."""
    profile = PROFILES["text", "cpu"]
    student = new_model(profile.student, tokenizer, 0).to(device).train()
    optimizer = torch.optim.AdamW(student.parameters())
    hidden = isinstance(cache, HiddenCache)
    teacher: Any = (
        CachedHiddenTeacher(cache).to(device) if isinstance(cache, HiddenCache) else CachedTeacher(cache)
    )
    fused = FusedStep.of(student, teacher, DistillationLoss()) if hidden else None
    schedule = BatchSchedule(example_lengths(examples), tokens_per_batch=1500, updates=rounds + 3, seed=0)
    times: dict[str, list[float]] = {"cross_entropy_step": [], "read": [], "cached_step": []}

    def timed(name: str, part: Callable[[], Any], kept: bool) -> None:
        start = time.perf_counter()
        part()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if kept:
            times[name].append(1e3 * (time.perf_counter() - start))

    def step(loss: Callable[[Tensor], Tensor], inputs: dict[str, Tensor]) -> None:
        optimizer.zero_grad()
        loss(student(**inputs, use_cache=False).logits).backward()
        optimizer.step()

    for number, ids in enumerate(schedule[i] for i in range(len(schedule))):
        batch = collate([examples[i] for i in ids], pad_token_id=0, decoder_start_token_id=0, example_ids=ids)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
        labels = batch["labels"]

        def cross_entropy(logits: Tensor, labels: Tensor = labels) -> Tensor:
            return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

        def cached_step(
            batch: dict[str, Tensor] = batch,
            inputs: dict[str, Tensor] = inputs,
            labels: Tensor = labels,
        ) -> None:
            if fused is None:
                target = teacher(batch)
                step(lambda logits: kdlab.forward_kl(logits, target, labels), inputs)
            else:  # as the Distiller takes it
                optimizer.zero_grad()
                known = teacher.hidden_logits(batch)
                fused.loss(fused.student(student, batch), known, batch, None).backward()
                optimizer.step()

        kept = number >= 3  # the first ones warm up
        timed("cross_entropy_step", lambda f=cross_entropy, x=inputs: step(f, x), kept)
        timed("read", lambda x=batch: teacher.hidden_logits(x) if hidden else teacher(x), kept)
        timed("cached_step", cached_step, kept)
    ratios = [a / b for a, b in zip(times["cached_step"], times["cross_entropy_step"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        **{f"{name}_ms": round(statistics.median(values), 1) for name, values in times.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(quartiles[0], 3), round(quartiles[2], 3)],
    }
