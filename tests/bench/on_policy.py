"""An on-policy step against transformers' own `generate` and an ordinary distillation step on the same samples.

The sizes are those of the `cpu` profile for real text. The student is untrained and samples 20 tokens a row, as many as
a sentence of that text has. An update is one batch, or the same rows as four micro-batches, where `generate` is called
once for each of them and the library calls it once. All parts are timed in turn, round after round, so that a
machine that slows down slows all of them.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from transformers import Seq2SeqTrainingArguments

from kdlab.distiller import Distiller
from kdlab.on_policy import OnPolicy
from kdlab.profiles import PROFILES
from kdlab.students import new_model
from kdlab.teachers import LiveTeacher
from kdlab.text.batches import Example, collate
from tests.bench.steps import StubTokenizer, in_turn


def measure(rounds: int = 31) -> dict[str, Any]:
    """Medians in milliseconds, and the quotients round by round."""
    return {
        f"micro_batches_{parts}": _measure(parts, rounds, rows=76, source=18, target=20) for parts in (1, 4)
    }


def _measure(parts: int, rounds: int, rows: int, source: int, target: int) -> dict[str, Any]:
    torch.manual_seed(0)
    profile = PROFILES["text", "cpu"]
    tokenizer: Any = StubTokenizer(profile.vocabulary)
    student = new_model(profile.student, tokenizer, 0)
    on_policy = OnPolicy(lmbda=1.0, max_length=target)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Distiller(
            student,
            Seq2SeqTrainingArguments(
                folder, gradient_accumulation_steps=parts, report_to=[], disable_tqdm=True
            ),
            teacher=LiveTeacher(new_model(profile.teacher, tokenizer, 1)),
            on_policy=on_policy,
        )
    device = trainer.args.device
    student.to(device)
    optimizer = trainer.create_optimizer()
    sources = torch.randint(3, profile.vocabulary, (rows, source)).tolist()
    whole = [Example(ids, ids[:target]) for ids in sources]
    batches = [
        {
            name: tensor.to(device)
            for name, tensor in collate(whole[part::parts], pad_token_id=0, decoder_start_token_id=0).items()
        }
        for part in range(parts)
    ]
    samples = on_policy.replace(student, batches, seed=0, update=0)
    tokens = sum((batch["labels"] != -100).sum() for batch in samples)

    def train(batches: list[Any], items: Any) -> None:
        for batch in batches:
            trainer.training_step(student, batch, items)
        optimizer.step()
        optimizer.zero_grad()

    def generate() -> None:
        student.eval()
        for batch in batches:
            student.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                do_sample=True,
                top_k=0,
                max_length=target + 1,
            )

    timed: dict[str, Callable[[], Any]] = {
        "on_policy_step": lambda: train(*trainer.get_batch_samples(iter(batches), parts, device)),
        "generate": generate,
        "sampling": lambda: on_policy.replace(student, batches, seed=0, update=0),
        "distillation_step": lambda: train(samples, tokens),
    }
    times = in_turn(timed, rounds, device)
    columns = list(zip(*times.values(), strict=True))
    return {
        **{f"{name}_ms": round(statistics.median(values), 1) for name, values in times.items()},
        "step_over_generate_and_distillation_step": _spread([a / (b + d) for a, b, _, d in columns]),
        "sampling_over_generate": _spread([c / b for _, b, c, _ in columns]),
    }


def _spread(ratios: list[float]) -> dict[str, Any]:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"median": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)]}
