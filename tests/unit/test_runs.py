"""A folder as `kdlab distill` leaves it, diagnosed: with its teacher, without it, and from its curve alone."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from kdlab import diagnose
from kdlab.diagnostics import CAUSES
from kdlab.files import fingerprint, read_json, write_json
from kdlab.generation import Search
from kdlab.profiles import PhrasebookSizes, Profile, Recipe
from kdlab.runs import _case, check_curve, diagnose_run
from kdlab.task import phrasebook_task
from tests.unit.planted import SMALL, World

SIZES = PhrasebookSizes(teacher=30, labelled=8, unlabelled=8, validation=20, test=4, grammar="small")
RECIPE = Recipe(updates=40, tokens_per_batch=200, learning_rate=1e-2, warmup=4)
FALLEN = [[10, 5.0], [20, 1.1], [30, 1.01], [40, 1.0]]


@pytest.fixture(scope="module")
def world():
    return World(updates=20)


@pytest.fixture
def run(world, tmp_path, monkeypatch):
    """A run whose student is a copy of its teacher, at sequence level."""
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))
    task = phrasebook_task(SIZES)
    teacher, folder = tmp_path / "cache" / "teachers" / "a", tmp_path / "run"
    for place in (teacher, folder / "distilled", folder / "baseline"):
        world.model.save_pretrained(place)
        world.tokenizer.save_pretrained(place)
        write_json(place / "training.json", {"validation_curve": FALLEN})
    sample = Search(sample=True)
    profile = asdict(
        Profile(400, SMALL, RECIPE, SMALL, RECIPE, sample, sample, level="sequence", phrasebook=SIZES)
    )
    del profile["temperature"], profile["keep_references"]  # which older records do not hold
    text = fingerprint([task.teacher_text.sources, task.teacher_text.targets])
    identity = {"text": text, "vocabulary": 400, "architecture": asdict(SMALL), "recipe": asdict(RECIPE)}
    write_json(teacher / "identity.json", identity)
    settings = {"data": "phrasebook", "pair": "en-de", "teacher": None, "pairs": None, "level": "sequence"}
    report = {
        "settings": settings,
        "profile": profile,
        "data": {"fingerprint": task.corpus.fingerprint()},
        "distilled": {"training": {"validation_curve": FALLEN}},
        "baseline": {"training": {"validation_curve": FALLEN}},
    }
    write_json(folder / "report.json", report)
    return folder


def test_run_with_its_teacher(run):
    """The student is the teacher: cross-entropy on the teacher's samples sits on its floor."""
    diagnosis = diagnose(run)
    evidence = diagnosis["cross_entropy_floor"].evidence
    assert evidence["kl_to_teacher"] == pytest.approx(0, abs=1e-6)
    assert evidence["loss"] == pytest.approx(evidence["loss_of_a_student_that_is_the_teacher"])
    assert diagnosis["cross_entropy_floor"].verdict == "explains"
    # A teacher of twenty updates takes any source for any target: that is told, and is no fault of the pairs.
    assert diagnosis.faults == []
    assert diagnosis["mispaired"].verdict == "skipped"
    assert "hardly uses its source" in diagnosis["mispaired"].advice


def test_student_alone_is_judged_on_references(run):
    evidence = diagnose_run(run, "baseline")["cross_entropy_floor"].evidence
    assert evidence["loss"] != pytest.approx(diagnose(run)["cross_entropy_floor"].evidence["loss"], rel=1e-3)


def test_student_of_kept_references_is_judged_on_them(run):
    """At level both it is asked about the tokens that it is asked about at word level."""
    report, entropy = read_json(run / "report.json"), {}
    for level, keep in (("word", False), ("both", False), ("both", True)):
        report["settings"]["level"], report["profile"]["keep_references"] = level, keep
        write_json(run / "report.json", report)
        entropy[level, keep] = diagnose_run(run)["cross_entropy_floor"].evidence["teacher_entropy"]
    assert entropy["both", True] == entropy["word", False] != entropy["both", False]


def test_weak_to_strong_is_judged_by_its_own_loss(run):
    """With the weight that its confidence grew to, whatever the count of a fresh loss."""
    report = read_json(run / "report.json")
    report["settings"] |= {"level": "word", "weak_to_strong": True, "confidence": 0.3, "beta": 0.2}
    report["profile"] |= {"divergence": "generalized_jsd", "temperature": 2.0}
    loss = _case(run / "distilled", report).loss
    assert (loss.weight_now, loss.loss.options["divergence"]) == (0.3, "generalized_jsd")
    assert (loss.loss.options["beta"], loss.loss.options["temperature"]) == (0.2, 2.0)
    write_json(run / "report.json", report)
    diagnosis = diagnose(run)
    assert (diagnosis.faults, diagnosis["copy"].verdict) == ([], "clear")


@pytest.mark.parametrize("lost", ["teacher", "data"])
def test_run_without_its_teacher_or_data_tells_its_curve(run, lost):
    if lost == "teacher":
        (run.parent / "cache" / "teachers" / "a" / "training.json").unlink()  # not finished: it is not taken
    else:
        report = (run / "report.json").read_text().replace('"validation": 20', '"validation": 19')
        (run / "report.json").write_text(report)
    diagnosis = diagnose(str(run))
    assert diagnosis["undertrained"].verdict == "clear"
    assert lost in diagnosis["mask"].advice
    assert {finding.verdict for finding in diagnosis.findings} == {"clear", "skipped"}


def test_folder_of_one_training(run):
    diagnosis = diagnose(run / "distilled")
    assert [finding.cause for finding in diagnosis.findings] == list(CAUSES)
    assert diagnosis["undertrained"].verdict == "clear"


def test_folder_of_something_else(tmp_path):
    with pytest.raises(ValueError, match=r"student: got .*expected a model, or the folder"):
        diagnose(tmp_path)


@pytest.mark.parametrize(
    ("curve", "cause", "verdict"),
    [
        (FALLEN, "undertrained", "clear"),
        ([[10, 5.0], [20, 4.0], [30, 3.0], [40, 2.5], [50, 2.0]], "undertrained", "explains"),
        ([[10, 5.0], [20, 3.0], [30, 6.5]], "learning_rate", "fault"),
        ([[10, 5.0], [20, math.nan], [30, math.nan]], "learning_rate", "fault"),
        (
            [[10, 5.0], [20, 1.0], [30, 0.99], [40, 1.2], [50, 1.3]],
            "undertrained",
            "clear",
        ),  # overfits a little
    ],
)
def test_curves(curve, cause, verdict):
    finding = check_curve(curve)
    assert (finding.cause, finding.verdict) == (cause, verdict)
