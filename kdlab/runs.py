"""A run as `kdlab distill` leaves it, read again and diagnosed: its curve, and its student beside its teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from kdlab.diagnostic_case import MATTERS, Case, Finding
from kdlab.diagnostics import CAUSES, Diagnosis, examine
from kdlab.evaluation import evaluation_batches
from kdlab.files import cache_folder, fingerprint, read_json
from kdlab.generation import Search, search_batch
from kdlab.loading import load_model
from kdlab.losses import DistillationLoss
from kdlab.profiles import PhrasebookSizes, Profile, Recipe, keeps_references
from kdlab.settings import Settings
from kdlab.students import Architecture
from kdlab.task import Task, load_task
from kdlab.teachers import live_teacher
from kdlab.text.batches import Example, encode_pairs
from kdlab.text.tokenizers import load_tokenizer
from kdlab.training import RECORD, lowest_losses
from kdlab.weak_to_strong import ConfidenceLoss

SENTENCES = 64  # of the validation data


def diagnose_run(folder: Path, student: str = "distilled") -> Diagnosis:
    """Diagnose a finished run.

    Args:
        folder: of `kdlab distill --out` (with report.json), or of one training run (with training.json), which tells
            its curve alone.
        student: which of the experiment's students.

    Raises:
        ValueError: a folder with neither.

    The teacher is the one that the run names, or was trained and kept in the user's cache, and its data are read or
    drawn again. Where teacher or data are not to be had any more, the curve is judged alone and the rest is skipped.

    >>> import tempfile
    >>> from kdlab.files import write_json
    >>> curve = [[10, 5.0], [20, 4.0], [30, 3.0], [40, 2.0], [50, 1.0]]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder) / RECORD, {"validation_curve": curve})
    ...     diagnose_run(Path(folder)).cause
    'undertrained'
    """
    report, record = read_json(folder / "report.json"), read_json(folder / RECORD)
    if report is None and record is None:
        raise ValueError(
            f"student: got {folder}, expected a model, or the folder of a finished run with report.json or {RECORD}"
        )
    if report is None:
        assert record is not None  # one of them is there
        return _with_curve(_skipped("the folder holds no report.json"), record["validation_curve"])
    curve = report[student]["training"]["validation_curve"]
    try:
        case = _case(folder / student, report)
    except (ValueError, OSError) as missing:
        return _with_curve(_skipped(str(missing)), curve)
    return _with_curve(examine(case), curve)


def check_curve(curve: Sequence[Sequence[float]]) -> Finding:
    """Whether a run diverged, or was stopped while its validation loss still fell.

    Args:
        curve: (update, validation loss in nats a token), as training.json holds it.

    >>> check_curve([(10, 5.0), (20, 4.0), (30, 3.0), (40, 2.0), (50, 1.0)]).cause
    'undertrained'
    """
    early, lowest = lowest_losses(curve)
    evidence = {
        "first_validation_loss": curve[0][1],
        "lowest": lowest,
        "lowest_of_the_first_four_fifths": early,
        "last": curve[-1][1],
        "updates": curve[-1][0],
    }
    # A loss that is NaN compares as false with everything.
    if not curve[-1][1] <= max(curve[0][1], 2 * lowest):
        return Finding(
            "learning_rate",
            "fault",
            evidence,
            "the validation loss ended above where it began: the learning rate is too high, or the warm-up too short",
        )
    if 1 - lowest / early > MATTERS:
        return Finding(
            "undertrained",
            "explains",
            evidence,
            "the last fifth of the updates still lowered the loss by more than a tenth: train longer",
        )
    return Finding("undertrained", "clear", evidence)


def _case(folder: Path, report: Mapping[str, Any]) -> Case:
    """The student, its teacher, and what it was trained on, as far as it was validated."""
    profile = _profile(report)
    # The student alone learns from references, by cross-entropy.
    alone = folder.name == "baseline"
    level = "word" if alone else report["settings"]["level"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = _task(report)
    settings = Settings(**report["settings"])
    names = settings.teacher or (str(_teacher_folder(report, task)),)
    teachers = [load_model(name.removeprefix("hub:"), device) for name in names]
    tokenizer = load_tokenizer(names[0])
    examples = encode_pairs(tokenizer, task.corpus.validation)[:SENTENCES]
    if not keeps_references(level, keep=profile.keep_references):
        sources = [example.source_ids for example in examples]
        targets = search_batch(teachers[0], sources, profile.pseudo_targets)
        examples = [
            Example(source, target) for source, target in zip(sources, targets, strict=True) if target
        ]
    student = load_model(str(folder), device)
    # Where the labels alone count the teacher is asked all the same: its own score tells the floor.
    loss = DistillationLoss(ce_weight=1.0) if alone or level == "sequence" else settings.loss(profile)
    if isinstance(loss, ConfidenceLoss):
        loss.update = loss.warmup_updates  # as it is once the weight has grown
    return Case(
        student,
        live_teacher(teachers),
        evaluation_batches(student, examples),
        loss=loss,
        training=profile.student_recipe.learning_rate,
    )


def _profile(report: Mapping[str, Any]) -> Profile:
    """The run's own; what a record of an older version does not hold was at its default."""
    record = {
        field.name: report["profile"][field.name]
        for field in fields(Profile)
        if field.name in report["profile"]
    }
    kinds: dict[str, Callable[..., Any]] = {
        "teacher": Architecture,
        "student": Architecture,
        "teacher_recipe": Recipe,
        "student_recipe": Recipe,
        "pseudo_targets": Search,
        "translation": Search,
        "phrasebook": PhrasebookSizes,
    }
    return Profile(
        **record | {name: kind(**record[name]) for name, kind in kinds.items() if record.get(name)}
    )


def _task(report: Mapping[str, Any]) -> Task:
    """The run's text, made or read again, and found to be the same."""
    settings, sizes = Settings(**report["settings"]), report["profile"]["phrasebook"]
    task = load_task(settings, sizes and PhrasebookSizes(**sizes))
    if task.corpus.fingerprint() != report["data"]["fingerprint"]:
        raise ValueError(f"the data of {settings.data!r} are no longer those of the run")
    return task


def _teacher_folder(report: Mapping[str, Any], task: Task) -> Path:
    """The teacher in the user's cache that was trained as the run says, on the run's text."""
    profile = report["profile"]
    expected = {
        "text": fingerprint([task.teacher_text.sources, task.teacher_text.targets]),
        "vocabulary": profile["vocabulary"],
        "architecture": profile["teacher"],
        "recipe": profile["teacher_recipe"],
    }
    for file in sorted((cache_folder() / "teachers").glob("*/identity.json")):
        identity = read_json(file) or {}
        finished = (file.parent / RECORD).exists()
        if finished and all(identity.get(name) == value for name, value in expected.items()):
            return file.parent
    raise ValueError(f"the teacher of the run is no longer in {cache_folder()}")


def _skipped(why: str) -> Diagnosis:
    return Diagnosis(tuple(Finding(cause, "skipped", {}, why) for cause in CAUSES))


def _with_curve(diagnosis: Diagnosis, curve: Sequence[Sequence[float]]) -> Diagnosis:
    """What the curve says takes the place of a finding that says nothing."""
    seen = check_curve(curve)
    return Diagnosis(
        tuple(
            seen if f.cause == seen.cause and f.verdict in ("skipped", "clear") else f
            for f in diagnosis.findings
        )
    )
