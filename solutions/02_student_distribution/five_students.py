"""Train the five students of notebook 02 and keep what came of it in runs.json beside this file.

    python solutions/02_student_distribution/five_students.py            all that runs.json does not hold yet
    python solutions/02_student_distribution/five_students.py --only NAME --seed SEED

Each takes about a minute on one CPU core. The notebook trains the last of them again, with fewer updates.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.evaluation import distance_to_teacher
from kdlab.files import read_json, write_json
from kdlab.phrasebook_teacher import phrasebook_teacher
from kdlab.profiles import Recipe
from kdlab.provenance import made_with
from kdlab.student_init import copied_student
from kdlab.students import Architecture, count_parameters, new_model
from kdlab.teachers import LiveTeacher
from kdlab.text.batches import encode_pairs
from kdlab.text.parallel import ParallelText
from kdlab.training import TrainingData, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kdlab.text.batches import Example

RECORD = Path(__file__).with_name("runs.json")
SEEDS = (0, 1, 2)
RECIPE = Recipe(
    updates=300, tokens_per_batch=750, learning_rate=4e-3, warmup=50, label_smoothing=0.0, evaluations=6
)
COPIED = "width 128, copied"
WIDTHS = {"width 16": 16, "width 32": 32, "width 64": 64, "width 128, fresh": 128, COPIED: 128}


def new_student(
    name: str, teacher: LiveTeacher, tokenizer: PreTrainedTokenizerBase, seed: int
) -> PreTrainedModel:
    """One layer on each side; the copied one has the teacher's first of each, its every other of two."""
    if name == COPIED:
        return copied_student(teacher.model, encoder_layers=[0], decoder_layers=[0], dropout=0.0)
    width = WIDTHS[name]
    return new_model(Architecture(width, 1, 1, 4 * width, dropout=0.0), tokenizer, seed)


def run(
    name: str,
    seed: int,
    teacher: LiveTeacher,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    test: list[Example],
) -> dict[str, Any]:
    """Agreement and KL of one student before and after its training."""
    student = new_student(name, teacher, tokenizer, seed)
    before = distance_to_teacher(student, teacher, test)
    with tempfile.TemporaryDirectory() as folder:
        record = train(
            student, tokenizer, data, RECIPE, Path(folder), seed=seed, teacher=teacher, description=name
        )
    after = distance_to_teacher(student, teacher, test)
    return {
        "seed": seed,
        "parameters": count_parameters(student),
        "agreement_before": round(before["agreement"], 4),
        "agreement": round(after["agreement"], 4),
        "kl_to_teacher": round(after["kl_to_teacher"], 4),
        "validation_curve": [[update, round(loss, 4)] for update, loss in record["validation_curve"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(WIDTHS), help="one of the five")
    parser.add_argument("--seed", type=int, choices=SEEDS, help="one of the seeds")
    wanted = parser.parse_args()
    phrasebook, tokenizer, teacher = phrasebook_teacher(may_train=True)
    assert isinstance(teacher, LiveTeacher)  # it may be trained
    pairs = phrasebook.sample(4000, seed=2)  # as in the notebook
    examples = encode_pairs(tokenizer, ParallelText.of(pairs))
    data, test = TrainingData(examples[:3600], examples[3600:3800]), examples[3800:]
    for name in [wanted.only] if wanted.only else WIDTHS:
        for seed in SEEDS if wanted.seed is None else (wanted.seed,):
            record = read_json(RECORD) or {"students": {}}
            done = record["students"].setdefault(name, [])
            if seed in [one["seed"] for one in done]:
                continue
            done.append(run(name, seed, teacher, tokenizer, data, test))
            record |= {
                **made_with("python solutions/02_student_distribution/five_students.py"),
                "recipe": asdict(RECIPE),
                "teacher_parameters": count_parameters(teacher.model),
                "test_tokens": sum(len(example.target_ids) for example in test),
            }
            record["students"] = {key: record["students"][key] for key in WIDTHS if key in record["students"]}
            write_json(RECORD, record)


if __name__ == "__main__":
    main()
