"""`kdlab` as people type it: a whole small run on a folder, its report, resume, and what it says to bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdlab.cli import main
from kdlab.text.phrasebook import Phrasebook
from kdlab.text.tokenizers import train_tokenizer

KEYS = {
    "parameters", "bleu", "chrf", "kl_to_teacher", "agreement", "tokens_per_second", "bytes_on_disk",
    "train_seconds", "test_sets", "calibration", "latency_ms",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of `kdlab distill` on a folder of parallel text that the phrasebook made."""
    folder = tmp_path_factory.mktemp("cli")
    pairs = Phrasebook("small").sample(260, seed=0)
    for name, part in (("train", pairs[:200]), ("val", pairs[200:220]), ("test_a", pairs[220:240])):
        (folder / f"{name}.en").write_text("".join(f"{pair.source}\n" for pair in part), encoding="utf-8")
        (folder / f"{name}.de").write_text("".join(f"{pair.target}\n" for pair in part), encoding="utf-8")
    (folder / "unlabelled.en").write_text(
        "".join(f"{pair.source}\n" for pair in pairs[240:]), encoding="utf-8"
    )
    os.environ["KDLAB_CACHE"] = str(folder / "cache")
    arguments = ["distill", "--data", str(folder), "--profile", "ci", "--out", str(folder / "out")]
    try:
        assert main([*arguments, "--updates", "30"]) == 0
        yield folder
    finally:
        del os.environ["KDLAB_CACHE"]


def test_report_holds_what_it_promises(run):
    report = json.loads((run / "out" / "report.json").read_text())
    systems = ("teacher", "baseline", "distilled_same_inputs", "distilled")
    for system in systems:
        assert set(report[system]) >= KEYS
        assert set(report[system]["test_sets"]) == {"test_a"}
    assert {"gap_closed", "teacher_seconds", "command", "versions"} <= set(report)
    assert report["teacher"]["kl_to_teacher"] == 0
    assert report["settings"]["filters"] == "default"
    assert "--updates 30" in report["command"]
    tokens = [report[system]["training"]["updates"] for system in systems[1:]]
    assert tokens == [30, 30, 30]
    assert all(set(report[system]["latency_ms"]) == {"p50", "p95"} for system in systems)
    assert all(0 < report[system]["calibration"]["error"] < 1 for system in systems)
    page = (run / "out" / "report.html").read_text()
    assert page.count("<svg") == 3
    assert page.count('role="img" aria-label=') == 3
    assert "student alone" in page


def test_models_load_and_translate(run, capsys):
    assert (
        main(["translate", "--model", str(run / "out" / "distilled"), "Where is the hotel?", "Hello!"]) == 0
    )
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_translate_reads_standard_input(run):
    result = subprocess.run(
        [sys.executable, "-m", "kdlab.cli", "translate", "--model", str(run / "out" / "baseline")],
        input="Where is the hotel?\n\nHello!\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(result.stdout.splitlines()) == 3
    assert result.stdout.splitlines()[1] == ""


def test_second_run_takes_the_teacher_from_the_cache(run, monkeypatch, capsys):
    monkeypatch.setattr(
        "kdlab.trained_teacher.train_teacher", lambda *_: pytest.fail("the teacher is trained again")
    )
    command = ["distill", "--data", str(run), "--profile", "ci", "--out", str(run / "two"), "--updates", "10"]
    assert main(command) == 0
    assert "gap closed" in capsys.readouterr().out


def test_another_teacher_in_the_same_folder_is_asked_again(run, tmp_path, monkeypatch):
    """Its translations are kept under its weights, not under the folder's name."""
    (teacher,) = (folder for folder in (run / "cache" / "teachers").iterdir() if folder.is_dir())
    command = ["distill", "--data", str(run), "--profile", "ci", "--teacher", str(tmp_path / "teacher")]
    command += ["--out", str(tmp_path / "out"), "--updates", "2"]
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))
    known = []
    for factor in (1.0, 1.05):
        shutil.copytree(teacher, tmp_path / "teacher", dirs_exist_ok=True)
        weights = load_file(teacher / "model.safetensors")
        weights["model.shared.weight"] = weights["model.shared.weight"] * factor
        save_file(weights, tmp_path / "teacher" / "model.safetensors", metadata={"format": "pt"})
        assert main(command) == 0
        known.append({file.name for file in (tmp_path / "cache" / "pseudo_targets").iterdir()})
    assert len(known[1]) == 2 * len(known[0])
    assert json.loads((tmp_path / "out" / "report.json").read_text())["teacher"]["bytes_on_disk"] > 0


def test_resume_wants_the_same_settings(run, capsys):
    command = [
        "distill",
        "--data",
        str(run),
        "--profile",
        "ci",
        "--out",
        str(run / "out"),
        "--seed",
        "4",
        "--resume",
    ]
    assert main(command) == 2
    assert "seed 0 is now 4" in capsys.readouterr().err


def test_stopped_run_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "run.json").write_text("{}")
    assert main(["distill", "--out", str(tmp_path)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert (tmp_path / "run.json").read_text() == "{}"


def test_folder_with_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["distill", "--out", str(tmp_path)]) == 2
    assert "holds other things" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distill", "--data", "nowhere", "--profile", "ci", "--out", "{}"], "data: no 'nowhere' here"),
        (["translate", "--model", "nowhere", "Hello!"], "model: nothing could be loaded from 'nowhere'"),
        (["distill", "--resume", "--out", "{}"], "--resume: got"),
    ],
)
def test_bad_input_is_told(arguments, message, tmp_path, capsys):
    assert main([argument.replace("{}", str(tmp_path / "out")) for argument in arguments]) == 2
    assert message in capsys.readouterr().err


def test_import_of_kdlab_loads_nothing_of_the_training_part():
    script = "import sys, kdlab; sys.exit(any(m in sys.modules for m in ('transformers', 'sacrebleu', 'matplotlib')))"
    subprocess.run([sys.executable, "-c", script], check=True)


def distill_beside(run, monkeypatch, name, *flags, cache="cache"):
    """Another run on the text of `run`, with its teacher unless `cache` is another, in a folder of its own."""
    monkeypatch.setenv("KDLAB_CACHE", str(run / cache))
    given = ["--data", str(run), "--profile", "ci", "--out", str(run / name), "--updates", "30"]
    assert main(["distill", *given, *flags]) == 0


def test_a_copied_student_on_its_own_samples(run, monkeypatch):
    flags = ["--level", "word", "--divergence", "generalized_jsd", "--beta", "0.1", "--lmbda", "1"]
    distill_beside(run, monkeypatch, "copied", *flags, "--init", "copied")
    report = json.loads((run / "copied" / "report.json").read_text())
    sizes = {name: report[name]["parameters"] for name in ("teacher", "baseline", "distilled")}
    assert sizes["baseline"] == sizes["distilled"] < sizes["teacher"]
    config = json.loads((run / "copied" / "distilled" / "config.json").read_text())
    assert (config["d_model"], config["encoder_layers"]) == (
        64,
        1,
    )  # the teacher's width, the student's layers
    teacher_layer, student_layer = (
        load_file(folder / "model.safetensors")["model.encoder.layers.0.fc1.weight"]
        for folder in (next((run / "cache" / "teachers").glob("*/")), run / "copied" / "distilled")
    )
    # Thirty updates at a rate of 4e-3 leave more of it than two independent layers have in common, about 0.
    assert torch.cosine_similarity(teacher_layer.flatten(), student_layer.flatten(), dim=0) > 0.5
    assert "--lmbda 1.0" in report["command"]


def test_the_nearest_of_several_candidates(run, monkeypatch):
    flags = ["--level", "sequence", "--candidates", "3", "--targets", "nearest", "--filters", "none"]
    distill_beside(run, monkeypatch, "nearest", *flags)
    report = json.loads((run / "nearest" / "report.json").read_text())
    made = report["pseudo_targets"]
    assert set(made) == {"train", "validation", "unlabelled"}
    for name, sources in (("train", 200), ("validation", 20), ("unlabelled", 20)):
        assert made[name]["sources"] == sources == made[name]["examples"] + made[name]["left_out"]
        assert sum(made[name]["dropped"].values()) <= 3 * sources
        assert not any(made[name]["dropped"][rule] for rule in ("length", "repetition", "copy"))
    assert report["settings"]["filters"] == "none"
    assert report["profile"]["pseudo_targets"]["num_beams"] == 3
    page = (run / "nearest" / "report.html").read_text()
    assert "translations (train)" in page


def test_the_smaller_model_teaches_the_larger(run, monkeypatch, capsys):
    flags = ["--level", "word", "--weak-to-strong", "--confidence", "0.25", "--updates", "10"]
    distill_beside(run, monkeypatch, "weak", *flags, cache="weak_cache")
    assert "performance gap recovered (weak to strong, with D'" in capsys.readouterr().out
    report = json.loads((run / "weak" / "report.json").read_text())
    usual = json.loads((run / "out" / "report.json").read_text())
    students = ("baseline", "distilled_same_inputs", "distilled")
    assert report["teacher"]["parameters"] == usual["distilled"]["parameters"]
    assert {report[name]["parameters"] for name in students} == {usual["teacher"]["parameters"]}
    assert "--weak-to-strong --confidence 0.25" in report["command"]
    page = (run / "weak" / "report.html").read_text()
    assert "strong student alone" in page
    assert "gap closed" not in page


def test_two_teachers_teach_and_those_of_another_vocabulary_are_refused(run, monkeypatch, capsys):
    (teacher,) = (path.parent for path in (run / "cache" / "teachers").glob("*/training.json"))
    flags = ["--teacher", str(teacher), "--teacher", str(run / "out" / "distilled"), "--level", "word"]
    distill_beside(run, monkeypatch, "two_teachers", *flags, "--updates", "10")
    assert "first of 2 teachers" in capsys.readouterr().out
    report = json.loads((run / "two_teachers" / "report.json").read_text())
    assert report["settings"]["teacher"] == [flags[1], flags[3]]
    assert report["teacher"]["kl_to_teacher"] > 0  # it is one of them, and not their mean
    other = run / "other"
    shutil.copytree(teacher, other)
    train_tokenizer(["another text"], 300).save_pretrained(other)
    command = ["distill", "--data", str(run), "--profile", "ci", "--out", str(run / "three")]
    assert main([*command, *flags, "--teacher", str(other)]) == 2
    assert f"teacher: got '{other}' with another vocabulary than the first" in capsys.readouterr().err


def test_a_teacher_is_asked_once_and_its_cache_serves_the_next_run(run, monkeypatch, capsys):
    flags = ["--level", "word", "--cache-teacher", "--temperature", "2", "--updates", "10"]
    distill_beside(run, monkeypatch, "cached", *flags)
    told = capsys.readouterr().out
    assert "teacher's cache (distilled, same inputs): 220 examples" in told
    assert "teacher's cache (distilled, with D'): 2" in told
    with monkeypatch.context() as patch:
        patch.setattr("kdlab.user_cache.build_cache", lambda *_, **__: pytest.fail("it is built again"))
        distill_beside(run, monkeypatch, "cached_again", *flags)
    cached, again = (
        json.loads((run / name / "report.json").read_text()) for name in ("cached", "cached_again")
    )
    for name in ("distilled_same_inputs", "distilled"):
        assert again["seconds"][f"teacher_cache_{name}"] == cached["seconds"][f"teacher_cache_{name}"]
        curves = [report[name]["training"]["validation_curve"] for report in (cached, again)]
        assert curves[0] == curves[1]
    assert again["teacher_cache"] == cached["teacher_cache"]


def test_flags_of_the_loss_reach_the_students(run):
    from kdlab.profiles import PROFILES
    from kdlab.settings import Settings

    profile = PROFILES["text", "ci"]
    assert Settings().loss(profile).options == {
        "divergence": "forward_kl",
        "temperature": 1.0,
        "ce_weight": 0.0,
    }
    settings = Settings(divergence="generalized_jsd", beta=0.1, temperature=2.0, ce_weight=0.3)
    expected = {"divergence": "generalized_jsd", "beta": 0.1, "temperature": 2.0, "ce_weight": 0.3}
    assert settings.loss(settings.applied_to(profile)).options == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--divergence", "forward_lk"], "divergence: got 'forward_lk', expected one of"),
        (["--beta", "0.5"], "'forward_kl': got parameters ['beta']"),
        (["--divergence", "generalized_jsd", "--beta", "2"], "beta: got 2.0"),
        (["--temperature", "0"], "temperature: got 0.0"),
        (["--ce-weight", "1.5"], "ce_weight: got 1.5"),
        (["--targets", "nearest"], "targets: got 'nearest', expected candidates to choose from"),
        (["--lmbda", "2"], "lmbda: got 2.0"),
        (["--lmbda", "0.5", "--level", "sequence"], "lmbda: got 0.5 with the level 'sequence'"),
        (["--lmbda", "0.5", "--ce-weight", "0.5"], "ce_weight: got 0.5 with lmbda"),
        (["--teacher", "a", "--teacher", "b", "--level", "sequence"], "teacher: got 2 models with the level"),
        (["--cache-teacher", "--level", "sequence"], "cache_teacher: got top-k with the level 'sequence'"),
        (
            ["--cache-teacher", "hidden", "--level", "word", "--teacher", "a", "--teacher", "b"],
            "cache_teacher: got 'hidden' with 2 teachers",
        ),
        (["--cache-teacher", "--lmbda", "0.5"], "lmbda: got 0.5 with cache_teacher"),
        (["--weak-to-strong", "--level", "sequence"], "weak_to_strong: got True with the level 'sequence'"),
        (["--weak-to-strong", "--init", "copied"], "init: got 'copied' with weak_to_strong"),
        (["--weak-to-strong", "--level", "word", "--ce-weight", "0.5"], "ce_weight: got 0.5 with weak_to"),
        (["--weak-to-strong", "--candidates", "2", "--targets", "nearest"], "targets: got 'nearest' with"),
        (["--weak-to-strong", "--confidence", "2"], "confidence: got 2.0, expected 0 to 1"),
        (["--confidence", "0.5"], "confidence: got 0.5 without weak_to_strong"),
    ],
)
def test_a_loss_that_cannot_be_is_refused_before_anything_is_made(tmp_path, capsys, flags, message):
    assert main(["distill", "--profile", "ci", "--out", str(tmp_path / "out"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_text_that_cannot_be_read_leaves_the_folder_alone(tmp_path, capsys):
    arguments = ["distill", "--data", str(tmp_path / "missing"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
