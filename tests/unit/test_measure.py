"""From trained models to the report: which model, text and search each figure is of; what names the teacher's
translations in the cache."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig

from kdlab import experiment
from kdlab.calibration import calibration
from kdlab.evaluation import distance_to_teacher, gap_closed, translation_quality
from kdlab.experiment import Experiment
from kdlab.generation import Search
from kdlab.loading import load_model
from kdlab.profiles import PROFILES, PhrasebookSizes
from kdlab.settings import Settings
from kdlab.students import Architecture, count_parameters, new_model
from kdlab.teachers import EnsembleTeacher, LiveTeacher, PhrasebookTeacher
from kdlab.text.batches import encode_pairs
from kdlab.text.tokenizers import train_tokenizer
from kdlab.truth import kl_to_truth, mode_coverage

CPU = torch.device("cpu")
STUDENTS = ("baseline", "distilled_same_inputs", "distilled")
PROFILE = replace(
    PROFILES["phrasebook", "ci"],
    phrasebook=PhrasebookSizes(
        teacher=60, labelled=20, unlabelled=20, validation=10, test=8, grammar="small"
    ),
    teacher=Architecture(16, 1, 1, 32),
    pseudo_targets=Search(sample=True),
    translation=Search(num_beams=2),
    keep_references=False,
)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """An experiment with four untrained models of different size, each in its folder, with a record."""
    monkeypatch.setitem(PROFILES, ("phrasebook", "ci"), PROFILE)
    run = Experiment(Settings(profile="ci"), tmp_path)
    text = run.task.teacher_text
    run.tokenizer = train_tokenizer([*text.sources, *text.targets], 400)
    for i, name in enumerate(("teacher_of_mine", *STUDENTS)):
        folder = tmp_path / name
        new_model(Architecture(16, 1, 1, 32 + i), run.tokenizer, i).save_pretrained(folder)
        (folder / "training.json").write_text(json.dumps({"train_seconds": 10.0 * i, "validation_curve": []}))
    run.teacher = load_model(str(tmp_path / "teacher_of_mine"), CPU)
    run.teacher_record = {"train_seconds": 7.0}
    return run


def test_every_figure_is_of_its_own_model(run, monkeypatch):
    test = run.task.corpus.test_sets["test"]
    junk = ["nein"] * 8
    # The teacher translates well, the student alone badly, the others half of the sentences.
    said = {"teacher": test.targets, "baseline": junk}
    said["distilled_same_inputs"] = [*test.targets[:3], *junk[3:]]
    said["distilled"] = [*test.targets[:5], *junk[5:]]
    asked = []

    def translate(model, tokenizer, lines, search, description):
        asked.append((count_parameters(model), list(lines), search))
        name = description.removesuffix(" translates test").replace(" ", "_")
        return list(said[name])

    monkeypatch.setattr(experiment, "translate", translate)
    monkeypatch.setattr(experiment, "generation_speed", lambda model, _: float(count_parameters(model)))
    monkeypatch.setattr(
        experiment, "translation_latency", lambda model, given: (count_parameters(model), given)
    )
    report = run.report(STUDENTS)
    examples = encode_pairs(run.tokenizer, test)
    truth = PhrasebookTeacher(run.task.phrasebook, run.tokenizer)
    folders = {name: run.folder / name for name in STUDENTS} | {"teacher": run.folder / "teacher_of_mine"}
    for name, folder in folders.items():
        model, found = load_model(str(folder), CPU), report[name]
        assert found["parameters"] == found["tokens_per_second"] == count_parameters(model)
        quality = translation_quality(said[name], test.targets)
        assert (found["bleu"], found["chrf"]) == (quality["bleu"], quality["chrf"])
        assert found["test_sets"] == {"test": quality}
        distance = distance_to_teacher(model, LiveTeacher(run.teacher), examples)
        assert found["kl_to_teacher"] == pytest.approx(distance["kl_to_teacher"])
        assert (found["kl_to_teacher"] == 0) == (name == "teacher")
        assert found["agreement"] == distance["agreement"]
        assert found["kl_to_truth"] == pytest.approx(kl_to_truth(model, truth, test.sources))
        covered = mode_coverage(model, truth, test.sources)  # untrained: next to nothing, of each another
        assert found["mode_coverage"] == pytest.approx(covered, rel=1e-4, abs=0)
        measured = calibration(model, examples)
        assert found["calibration"]["error"] == pytest.approx(measured["error"])
        assert found["calibration"]["bins"] == [pytest.approx(bin) for bin in measured["bins"]]
        assert found["latency_ms"] == (count_parameters(model), [example.source_ids for example in examples])
        assert found["bytes_on_disk"] == (folder / "model.safetensors").stat().st_size
        assert found["train_seconds"] == found["training"]["train_seconds"]
        assert report["translations"][name] == said[name]
    assert [report[name]["train_seconds"] for name in ("teacher", *STUDENTS)] == [7.0, 10.0, 20.0, 30.0]
    assert report["teacher_seconds"] == 7.0
    parameters = [report[name]["parameters"] for name in ("teacher", *STUDENTS)]
    assert asked == [(count, test.sources, Search(num_beams=2)) for count in parameters]
    for name in STUDENTS[1:]:
        gap = gap_closed(said[name], junk, test.targets, test.targets)
        assert 0 < gap["value"] < 1
        assert report["gap_closed_by"][name]["test"] == gap
    assert report["gap_closed"] == report["gap_closed_by"]["distilled"]["test"]["value"]
    assert report["gap_closed"] > report["gap_closed_by"]["distilled_same_inputs"]["test"]["value"]
    assert (report["translations"]["source"], report["translations"]["reference"]) == (
        test.sources,
        test.targets,
    )


def test_where_the_teacher_is_weak_the_gap_goes_from_it_to_the_student_alone(run, monkeypatch):
    test = run.task.corpus.test_sets["test"]
    junk = ["nein"] * 8
    said = {"teacher": junk, "baseline": test.targets, "distilled": [*test.targets[:3], *junk[3:]]}
    monkeypatch.setattr(run, "measure", lambda name: ({}, {"test": said[name]}))
    assert run.report(["baseline", "distilled"])["gap_closed"] is None
    run.settings = replace(run.settings, weak_to_strong=True)
    recovered = run.report(["baseline", "distilled"])["gap_closed_by"]["distilled"]["test"]
    assert recovered == gap_closed(said["distilled"], junk, test.targets, test.targets)
    assert 0 < recovered["value"] < 1


def test_the_distance_is_that_to_the_mean_of_all_teachers(run, monkeypatch):
    test = run.task.corpus.test_sets["test"]
    monkeypatch.setattr(experiment, "translate", lambda *_: test.targets)
    run.others = [load_model(str(run.folder / "distilled"), CPU)]
    found = {name: run.measure(name)[0]["kl_to_teacher"] for name in ("teacher", "baseline")}
    mean = EnsembleTeacher([LiveTeacher(run.teacher), LiveTeacher(run.others[0])])
    examples = encode_pairs(run.tokenizer, test)
    for name, model in (
        ("teacher", run.teacher),
        ("baseline", load_model(str(run.folder / "baseline"), CPU)),
    ):
        expected = distance_to_teacher(model, mean, examples)["kl_to_teacher"]
        assert expected > 0
        assert found[name] == pytest.approx(expected)


def test_what_is_measured_already_is_not_measured_again(run, monkeypatch):
    measured = []
    monkeypatch.setattr(
        run, "_measure", lambda name: measured.append(name) or {"figures": {}, "translations": {}}
    )
    assert [run.measure(name) for name in ("baseline", "baseline", "distilled")] == [({}, {})] * 3
    assert measured == ["baseline", "distilled"]


def test_the_teacher_s_translations_are_kept_under_all_that_they_depend_on(run, monkeypatch):
    files = []

    def pseudo_targets(teacher, sources, search, file, *_, **__):
        files.append(file)
        return SimpleNamespace(examples=[], seconds=0.0, left_out=0, dropped={})

    monkeypatch.setattr(experiment, "pseudo_targets", pseudo_targets)
    monkeypatch.setattr(experiment, "get_teacher", lambda *_: (run.teacher, run.tokenizer, {}))
    monkeypatch.setattr(experiment, "train", lambda *_, **__: None)
    monkeypatch.setattr(run, "report", lambda *_: {})
    run.run()
    assert len(set(files)) == 3  # the labelled sources, the validation's, and those without references
    run.run()
    assert files[3:] == files[:3]
    run.profile = replace(PROFILE, pseudo_targets=Search(sample=True, seed=1))
    run.run()
    run.profile = PROFILE
    run.teacher.generation_config = GenerationConfig(repetition_penalty=1.5)
    run.run()
    with torch.no_grad():
        run.teacher.lm_head.weight[3, 3] += 1
    run.run()
    assert len(set(files[3:])) == len(files[3:]) == 12
