"""Train student and baseline of notebook 05 with three seeds and keep what came of it in runs.json beside this file.

    python solutions/05_training_objective/student_and_baseline.py             all that runs.json does not hold yet
    python solutions/05_training_objective/student_and_baseline.py --only NAME --seed SEED

All have the same updates, tokens a batch, size and schedule. Each run takes one to two minutes on one CPU core.
Dropout and rate of the baseline and of the student of D' were chosen by their own validation loss: `--tune`. The
notebook trains two of them again, with fewer updates.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import kdlab
from kdlab.evaluation import distance_to_teacher, translation_quality
from kdlab.files import read_json, write_json
from kdlab.generation import Search, translate
from kdlab.loop import OnBatches, epochs_of, training_loop, training_step, warm_up_and_down
from kdlab.model_io import target_logits
from kdlab.phrasebook_teacher import phrasebook_teacher
from kdlab.provenance import made_with
from kdlab.students import Architecture, count_parameters, new_model
from kdlab.teachers import LiveTeacher, PhrasebookTeacher
from kdlab.text.batches import encode_pairs
from kdlab.text.parallel import ParallelText
from kdlab.unlabelled import teacher_samples

RECORD = Path(__file__).with_name("runs.json")
COMMAND = "python solutions/05_training_objective/student_and_baseline.py"
SEEDS = (0, 1, 2)
LABELLED, INPUTS, VALIDATION, TEST = 300, 4000, 150, 150
UPDATES, TOKENS, WARMUP, EVALUATIONS = 500, 400, 50, 10
BASELINE, SAME_INPUTS, MORE_INPUTS = "references, 300 pairs", "teacher, the same 300", "teacher, D' of 4,000"
# (dropout, peak learning rate) that were tried, and the one that is compared: that with the lowest mean validation loss
# over the seeds. The students of the same 300 inputs have the baseline's.
TRIED = {
    BASELINE: ((0.0, 5e-3), (0.1, 5e-3), (0.3, 5e-3), (0.1, 1e-2)),
    MORE_INPUTS: ((0.0, 5e-3), (0.0, 1e-2)),
}
SETTINGS = {BASELINE: (0.1, 5e-3), SAME_INPUTS: (0.1, 5e-3), MORE_INPUTS: (0.0, 5e-3)}


def cross_entropy(student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
    """On the references alone; the teacher is not looked at."""
    return functional.cross_entropy(student_logits.transpose(1, 2), labels, ignore_index=-100)


def forward_kl(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return kdlab.forward_kl(student_logits, teacher_logits, labels)


def keep(file: Path, part: str, made: dict[str, Any], command: str) -> None:
    """Add to one part of the record, with what made it."""
    record = read_json(file) or {}
    old = record.get(part, {})
    old |= made
    record[part] = {key: old[key] for key in sorted(old)}
    record["made_by"] = {
        **record.get("made_by", {}),
        part: made_with(command),
    }
    write_json(file, record)


class Data:
    def __init__(self) -> None:
        self.phrasebook, self.tokenizer, self.teacher = phrasebook_teacher(may_train=True)
        pairs = self.phrasebook.sample(LABELLED + VALIDATION + TEST, seed=6)
        text = ParallelText.of(pairs)
        examples = encode_pairs(self.tokenizer, text)
        self.labelled = examples[:LABELLED]
        self.validation = examples[LABELLED : LABELLED + VALIDATION]
        self.test = ParallelText(text.sources[-TEST:], text.targets[-TEST:])
        drawn = self.phrasebook.sample(INPUTS, seed=7, exclude=text.sources)
        self.inputs = [pair.source for pair in drawn]  # the rest of a pair is not used

    def epochs(self, examples, seed):
        return epochs_of(
            examples, tokens_per_batch=TOKENS, seed=seed, pad_token_id=self.tokenizer.pad_token_id
        )


def evaluate(model, batches) -> float:
    """Cross-entropy on the references of the validation pairs, nats a token."""
    model.eval()
    total = tokens = 0.0
    with torch.no_grad():
        for batch in batches:
            counted = int((batch["labels"] != -100).sum())
            value = cross_entropy(target_logits(model, batch), None, batch["labels"])
            total, tokens = total + float(value) * counted, tokens + counted
    return total / tokens


def run(name: str, seed: int, data: Data, dropout: float, peak: float) -> dict[str, Any]:
    begun = time.perf_counter()
    model = new_model(Architecture(48, 1, 1, 192, dropout=dropout), data.tokenizer, seed)
    examples = data.labelled
    if name == MORE_INPUTS:
        examples = teacher_samples(data.teacher, data.tokenizer, data.inputs, seed=0)
    loss = cross_entropy if name == BASELINE else forward_kl
    teacher = (lambda batch: None) if name == BASELINE else data.teacher
    student = OnBatches(model)
    optimizer = torch.optim.AdamW(student.parameters(), lr=peak, betas=(0.9, 0.98))
    held_out = data.epochs(data.validation, 0)(0)
    curve: list[list[float]] = []
    best, kept, done = float("inf"), model, 0
    tokens = 0

    def step(batch) -> float:
        nonlocal best, kept, done, tokens
        torch.manual_seed(1000 * seed + done)  # of the student's dropout
        value = training_step(student, teacher, batch, loss, optimizer, 1.0)
        done, tokens = done + 1, tokens + int((batch["labels"] != -100).sum())
        if done % (UPDATES // EVALUATIONS) == 0:
            found = evaluate(model, held_out)
            curve.append([done, round(found, 4)])
            if found < best:
                best, kept = found, copy.deepcopy(model)
        return value

    rate = warm_up_and_down(peak, WARMUP, UPDATES)
    training_loop(step, data.epochs(examples, seed), UPDATES, optimizer, rate)
    lines = translate(kept, data.tokenizer, data.test.sources, Search())
    references = encode_pairs(data.tokenizer, data.test)
    return {
        "parameters": count_parameters(model),
        "dropout": dropout,
        "learning_rate": peak,
        "updates": UPDATES,
        "target_tokens": tokens,
        "curve": curve,
        "best": round(best, 4),
        "bleu": translation_quality(lines, data.test.targets, resamples=10)["bleu"],
        "kl_to_teacher": round(distance_to_teacher(kept, data.teacher, references)["kl_to_teacher"], 4),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def measure_teacher(data: Data) -> dict[str, float]:
    """What the teacher scores on the same sentences, and the truth itself."""
    held_out = data.epochs(data.validation, 0)(0)
    truth = PhrasebookTeacher(data.phrasebook, data.tokenizer)
    total = tokens = 0.0
    for batch in held_out:
        counted = int((batch["labels"] != -100).sum())
        total -= float(
            truth(batch).gather(-1, batch["labels"].clamp(min=0)[..., None])[batch["labels"] != -100].sum()
        )
        tokens += counted
    lines = translate(data.teacher.model, data.tokenizer, data.test.sources, Search())
    return {
        "validation": round(evaluate(data.teacher.model, held_out), 4),
        "truth_validation": round(total / tokens, 4),
        "bleu": translation_quality(lines, data.test.targets, resamples=10)["bleu"],
        "parameters": count_parameters(data.teacher.model),
    }


def tune(data: Data, names: Sequence[str], seeds: Sequence[int]) -> None:
    """Lowest validation loss and BLEU of every setting that is tried, for each seed."""
    for name in names:
        for dropout, peak in TRIED.get(name, ()):
            setting = f"dropout {dropout}, rate {peak}"
            for seed in seeds:
                tried = (read_json(RECORD) or {}).get("tried", {}).get(name, {})
                done = tried.get(setting, {})
                if str(seed) in done:
                    continue
                made = run(name, seed, data, dropout, peak)
                done = {**done, str(seed): {key: made[key] for key in ("best", "bleu")}}
                print(name, setting, seed, done[str(seed)], flush=True)
                keep(RECORD, "tried", {name: {**tried, setting: done}}, f"{COMMAND} --tune")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(SETTINGS), help="one of the three")
    parser.add_argument("--seed", type=int, choices=SEEDS, help="one of the seeds")
    parser.add_argument(
        "--tune", action="store_true", help="try the settings that the compared ones are chosen from"
    )
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    data = Data()
    assert isinstance(data.teacher, LiveTeacher)  # it may be trained
    if wanted.tune:
        tune(
            data,
            [wanted.only] if wanted.only else list(TRIED),
            SEEDS if wanted.seed is None else (wanted.seed,),
        )
        return
    if "teacher" not in (read_json(RECORD) or {}):
        keep(RECORD, "teacher", measure_teacher(data), COMMAND)
    for seed in SEEDS if wanted.seed is None else (wanted.seed,):
        for name in [wanted.only] if wanted.only else SETTINGS:
            done = (read_json(RECORD) or {}).get("compared", {}).get(name, {})
            if str(seed) in done:
                continue
            made = run(name, seed, data, *SETTINGS[name])
            print(name, seed, made, flush=True)
            keep(RECORD, "compared", {name: {**done, str(seed): made}}, COMMAND)


if __name__ == "__main__":
    main()
