"""One training run from start to finish: a schedule of batches, checkpoints, resume, the best checkpoint kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kdlab import processes
from kdlab.files import read_json, write_json
from kdlab.losses import DistillationLoss
from kdlab.profiles import Recipe
from kdlab.text.batches import BatchSchedule, Example, by_length
from kdlab.text.causal import collate_for, lengths_for

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kdlab.on_policy import OnPolicy
    from kdlab.teachers import Teacher
    from kdlab.weak_to_strong import ConfidenceLoss

RECORD = "training.json"


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from and what chooses its best checkpoint.

    >>> data = TrainingData([Example([5, 1], [7, 1])], [Example([6, 1], [8, 1])])
    >>> [example.target_ids for example in data.examples]
    [[7, 1], [8, 1]]
    """

    train: Sequence[Example]
    validation: Sequence[Example]

    @property
    def examples(self) -> list[Example]:
        """All that the teacher is asked about, in the order that `example_ids` count: what a cache is built from."""
        return [*self.train, *self.validation]


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    recipe: Recipe,
    folder: Path,
    *,
    seed: int,
    teacher: Teacher | None = None,
    loss: DistillationLoss | ConfidenceLoss | None = None,
    on_policy: OnPolicy | None = None,
    label_smoothing: float = 0.0,
    description: str = "training",
) -> dict[str, Any]:
    """Train `model` and leave its best checkpoint, the tokenizer and a record in `folder`.

    `model` is an encoder-decoder model, or a decoder-only one, for which the examples are prompts and completions.

    A folder that holds a finished run is left alone; one that holds checkpoints goes on from the last of them,
    and ends with the same weights as a run that was never stopped. Several processes share every batch: the losses are
    those of one process, to rounding.

    Returns:
        The record: train_seconds, updates, target tokens seen (the data's: a student's own samples are not known
        beforehand), epochs, best update and the validation curve.

    >>> import tempfile
    >>> from transformers import logging
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer, text = train_tokenizer(["a b c"], 300), [Example([68, 1], [69, 1])]
    >>> model = new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0)
    >>> recipe = Recipe(updates=2, tokens_per_batch=8, learning_rate=1e-2, warmup=0, evaluations=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record = train(model, tokenizer, TrainingData(text, text), recipe, Path(folder), seed=0)
    >>> record["updates"], record["target_tokens"], record["best_update"]
    (2, 4, 2)
    """
    checkpoints = folder / "checkpoints"
    record = finished(folder)
    processes.wait_for_all()  # all have looked before one of them begins to write
    if record is not None:
        shutil.rmtree(checkpoints, ignore_errors=True)  # a kill may have kept the end of `train` from it
        return record
    from kdlab.distiller import Distiller

    schedule = make_schedule(lengths_for(model.config, data.train), recipe, seed)
    trainer = Distiller(
        model,
        _arguments(recipe, checkpoints, seed),
        train_dataset=_Shares(schedule, processes.count()),
        eval_dataset=_ValidationBatches(data, recipe, model),
        data_collator=_Collator(data, model),
        teacher=teacher,
        loss=loss,
        on_policy=on_policy,
        label_smoothing=label_smoothing,
        description=description,
    )
    spent = _Clock(folder / "seconds.json")
    trainer.add_callback(spent.callback())
    trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints))
    curve = [
        [entry["step"], entry["eval_loss"]] for entry in trainer.state.log_history if "eval_loss" in entry
    ]
    record = {
        "train_seconds": round(spent.total(), 1),
        "updates": recipe.updates,
        "target_tokens": schedule.tokens,
        "epochs": round(schedule.epochs, 2),
        "best_update": min(curve, key=lambda point: point[1])[0],
        "validation_curve": curve,
    }
    trainer.save_model(str(folder))
    if processes.is_main():
        tokenizer.save_pretrained(folder)
        write_json(folder / RECORD, record)  # its presence says that the run is finished
        # Only then: a run that is killed while they are removed would have none to go on from.
        shutil.rmtree(checkpoints)
    processes.wait_for_all()
    return record


def finished(folder: Path) -> dict[str, Any] | None:
    """The record of a finished run, or None.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     before = finished(Path(folder))
    ...     write_json(Path(folder) / RECORD, {"updates": 3})
    ...     before, finished(Path(folder))
    (None, {'updates': 3})
    """
    return read_json(folder / RECORD)


def lowest_losses(curve: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The lowest validation loss of the first four fifths of the updates, and of them all.

    >>> lowest_losses([(10, 3.0), (80, 2.0), (100, 1.5)])
    (2.0, 1.5)
    """
    last = curve[-1][0]
    early = min((loss for update, loss in curve if update <= 0.8 * last), default=curve[0][1])
    return early, min(loss for _, loss in curve)


def make_schedule(lengths: Sequence[tuple[int, int]], recipe: Recipe, seed: int) -> BatchSchedule:
    """All batches of the run. `lengths`: of the training examples, as `lengths_for` gives them.

    >>> recipe = Recipe(updates=3, tokens_per_batch=4, learning_rate=1e-3, warmup=0)
    >>> schedule = make_schedule([(2, 2), (3, 4), (1, 2)], recipe, seed=0)
    >>> len(schedule), schedule.batches_per_epoch  # the first and the last fit into one batch
    (3, 2)
    """
    return BatchSchedule(
        lengths,
        tokens_per_batch=recipe.tokens_per_batch,
        updates=recipe.updates,
        seed=seed,
    )


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for update in (90, 100):
    ...         write_json(Path(folder) / f"checkpoint-{update}" / "trainer_state.json", {"global_step": update})
    ...     (Path(folder) / "checkpoint-110").mkdir()  # a kill came before its state was written
    ...     Path(last_checkpoint(Path(folder))).name
    'checkpoint-100'
    """
    whole = [path for path in folder.glob("checkpoint-*") if _is_whole(path)]
    return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None


def _is_whole(checkpoint: Path) -> bool:
    """Whether its trainer state, which is written last, is there to its end: a kill may leave half of it."""
    try:
        return read_json(checkpoint / "trainer_state.json") is not None
    except ValueError:
        return False


class _Shares(torch.utils.data.Dataset[list[int]]):
    """Every batch of a schedule cut into a share for each process, in turn, as the Trainer hands them out.

    Where a batch has fewer rows than there are processes, a share holds one of its rows again, to no account: written
    as -1 - id.
    """

    def __init__(self, schedule: BatchSchedule, processes: int):
        self.schedule, self.processes = schedule, processes

    def __len__(self) -> int:
        return len(self.schedule) * self.processes

    def __getitem__(self, index: int) -> list[int]:
        batch = self.schedule[index // self.processes]
        return batch[index % self.processes :: self.processes] or [-1 - batch[0]]


class _Collator:
    """Turns a list of example ids into a batch; a row of a negative one has no label, see `_Shares`."""

    def __init__(self, data: TrainingData, model: PreTrainedModel):
        self.examples, self.config = data.examples, model.config

    def __call__(self, items: list[list[int]]) -> dict[str, torch.Tensor]:
        (written,) = items
        example_ids = [-1 - index if index < 0 else index for index in written]
        batch = collate_for(
            self.config, [self.examples[index] for index in example_ids], example_ids=example_ids
        )
        batch["labels"][torch.tensor(written) < 0] = -100
        return batch


class _ValidationBatches(torch.utils.data.Dataset[list[int]]):
    """Batches by length of the validation examples, whose ids come after those of the training examples."""

    def __init__(self, data: TrainingData, recipe: Recipe, model: PreTrainedModel):
        batches = by_length(lengths_for(model.config, data.validation), 2 * recipe.tokens_per_batch)
        self.batches = [[len(data.train) + index for index in batch] for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[int]:
        return self.batches[index]


class _Clock:
    """Seconds of training over all the sessions that a run took, kept beside its checkpoints."""

    def __init__(self, file: Path):
        self.file = file
        self.before = (read_json(file) or {"seconds": 0.0})["seconds"]
        self.start = time.perf_counter()

    def total(self) -> float:
        return float(self.before + time.perf_counter() - self.start)

    def callback(self) -> Any:
        from transformers import TrainerCallback

        clock = self

        class Keep(TrainerCallback):
            def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.is_world_process_zero:
                    write_json(clock.file, {"seconds": clock.total()})

        return Keep()


def _arguments(recipe: Recipe, folder: Path, seed: int) -> Any:
    from transformers import Seq2SeqTrainingArguments

    every = max(1, recipe.updates // recipe.evaluations)
    cuda = torch.cuda.is_available()
    bf16 = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    return Seq2SeqTrainingArguments(
        output_dir=str(folder),
        max_steps=recipe.updates,
        per_device_train_batch_size=1,  # an item of the schedule is a whole batch
        per_device_eval_batch_size=1,
        train_sampling_strategy="sequential",  # the schedule is shuffled already
        remove_unused_columns=False,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup,
        lr_scheduler_type="cosine",
        adam_beta2=0.98,
        weight_decay=0.01,
        max_grad_norm=1.0,
        eval_strategy="steps",
        eval_steps=every,
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=min(50, every),
        seed=seed,
        use_cpu=not cuda,
        ddp_timeout=int(processes.PATIENCE.total_seconds()),
        bf16=bf16,
        fp16=cuda and not bf16,
        dataloader_pin_memory=cuda,
        report_to=[],
        disable_tqdm=True,
    )
