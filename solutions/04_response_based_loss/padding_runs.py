"""Makes runs.json: students trained with and without padding counted, each measured both ways.

    python solutions/04_response_based_loss/padding_runs.py

A student takes one to two minutes on a core. A seed that runs.json holds already is not trained again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import kdlab
from kdlab.evaluation import distance_to_teacher
from kdlab.files import read_json, write_json
from kdlab.model_io import target_logits
from kdlab.phrasebook_teacher import phrasebook_teacher
from kdlab.provenance import made_with
from kdlab.short_run import short_run, shuffled_batches
from kdlab.students import Architecture, new_model
from kdlab.text.batches import collate, encode_pairs
from kdlab.text.parallel import ParallelText

SEEDS = (0, 1, 2)
SIZES = {"sentences": 3000, "validation": 256, "rows": 32, "updates": 400, "learning_rate": 5e-3}
STUDENT = Architecture(d_model=48, encoder_layers=1, decoder_layers=1, ffn=192, dropout=0.0)
COMMAND = "python solutions/04_response_based_loss/padding_runs.py"
RECORD = Path(__file__).with_name("runs.json")


def every_place(student_logits, teacher_logits, labels):
    """Padding is counted: the labels, which mark it, are not used."""
    return kdlab.forward_kl(student_logits, teacher_logits)


def main() -> None:
    phrasebook, tokenizer, teacher = phrasebook_teacher(may_train=True)

    def encoded(sentences: int, seed: int) -> list[Any]:
        return encode_pairs(tokenizer, ParallelText.of(phrasebook.sample(sentences, seed)))

    def batches(examples: list[Any], seed: int) -> list[Any]:
        pad = tokenizer.pad_token_id
        lengths = [len(example.target_ids) for example in examples]
        rows = shuffled_batches(lengths, int(SIZES["rows"]), seed=seed, alike=False)
        return [
            collate([examples[i] for i in row], pad_token_id=pad, decoder_start_token_id=pad) for row in rows
        ]

    training, validation = (
        encoded(int(SIZES[name]), seed=n) for n, name in ((5, "sentences"), (6, "validation"))
    )
    held_out = batches(validation, seed=0)
    record = read_json(RECORD) or {"runs": []}
    for seed in SEEDS:
        for method, loss in (("masked", kdlab.forward_kl), ("every place", every_place)):
            if any(run["seed"] == seed and run["method"] == method for run in record["runs"]):
                continue
            epochs = [batch for epoch in range(5) for batch in batches(training, seed=100 * seed + epoch)]
            student = new_model(STUDENT, tokenizer, seed)
            rate, updates = float(SIZES["learning_rate"]), int(SIZES["updates"])
            short_run(student, teacher, epochs[:updates], loss, learning_rate=rate)
            run = {"seed": seed, "method": method} | measured(student, teacher, held_out)
            run |= distance_to_teacher(student, teacher, validation)
            record["runs"].append({k: round(v, 4) if isinstance(v, float) else v for k, v in run.items()})
            print(record["runs"][-1], flush=True)
            write_json(RECORD, made_with(COMMAND) | SIZES | {"runs": record["runs"]})


@torch.no_grad()
def measured(student, teacher, batches) -> dict[str, float]:
    """Forward KL, nats a place with padding counted, and the share of padding."""
    total, places, padding = 0.0, 0, 0
    for batch in batches:
        places_of_batch = kdlab.forward_kl(target_logits(student, batch), teacher(batch), reduction="none")
        total, places = total + float(places_of_batch.sum()), places + places_of_batch.numel()
        padding += int((batch["labels"] == -100).sum())
    return {"kl_every_place": total / places, "padding_share": padding / places}


if __name__ == "__main__":
    torch.set_num_threads(1)  # the same sums in the same order on any number of cores
    main()
