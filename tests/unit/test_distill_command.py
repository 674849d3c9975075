"""`kdlab distill` around its experiment: what it asks for, what it keeps, and what a stop or a mistake leaves."""

from __future__ import annotations

import json
import shlex
import sys
from types import SimpleNamespace

import pytest
import torch

import kdlab.allocator
import kdlab.experiment
from kdlab.cli import main
from kdlab.commands import distill
from kdlab.generation import Search
from kdlab.settings import Settings
from tests.unit.made_up_report import report


@pytest.fixture
def runs(monkeypatch):
    """Puts a made-up experiment in place of the real one; each run takes the next of `steps`, a number of seconds and
    what happens after them. Notes the settings that it was given."""
    runs = SimpleNamespace(steps=[], given=[], now=0.0)

    class Experiment:
        def __init__(self, settings, folder):
            if settings.data == "nowhere":
                raise ValueError("data: no 'nowhere' here")
            if settings.data == "hub:slow":
                raise KeyboardInterrupt
            self.folder = folder
            runs.given.append(settings)

        def run(self):
            seconds, error = runs.steps.pop(0)
            runs.now += seconds
            (self.folder / f"after_{seconds}").touch()
            if error is not None:
                raise error
            return report(20.0, 30.0, 0.5)

    monkeypatch.setattr(kdlab.experiment, "Experiment", Experiment)
    monkeypatch.setattr(distill, "time", SimpleNamespace(perf_counter=lambda: runs.now))
    return runs


def read(folder):
    return json.loads((folder / "report.json").read_text())


def test_what_was_asked_for_reaches_the_experiment_and_the_report(runs, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(kdlab.allocator, "keep_memory", lambda: told.append(True))
    runs.steps = [(1, None)]
    chosen = {"data": "some text", "pair": "de-en", "profile": "ci", "seed": 7, "teacher": "hub:them"}
    chosen |= {"level": "word", "pairs": 30, "updates": 20, "filters": "none"}
    command = ["distill", "--out", str(tmp_path / "my run")]
    for name, value in chosen.items():
        command += [f"--{name}", str(value)]
    assert main(command) == 0
    assert runs.given == [Settings(**chosen)]
    written = read(tmp_path / "my run")
    words = shlex.split(written["command"])
    assert words[:2] == ["kdlab", "distill"]
    assert sorted(words[2:]) == sorted(command[1:])
    assert written["versions"]["torch"] == torch.__version__
    assert {"python", "kdlab", "transformers", "tokenizers", "sacrebleu"} <= set(written["versions"])
    assert told == [True]


@pytest.mark.parametrize(
    ("called", "program"),
    [(".venv/bin/kdlab", ".venv/bin/kdlab"), ("cli.py", f"{sys.executable} -m kdlab.cli")],
)
def test_a_stopped_run_says_how_to_go_on_as_it_was_called(
    runs, tmp_path, capsys, monkeypatch, called, program
):
    runs.steps = [(1, KeyboardInterrupt())]
    monkeypatch.setattr(sys, "argv", [called])
    assert main(["distill", "--out", str(tmp_path / "run")]) == 130
    assert f"\nStopped. To go on: {program} distill --data phrasebook" in capsys.readouterr().err


def test_a_stopped_run_goes_on_and_the_seconds_of_all_sessions_count(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kdlab"])
    runs.steps = [(100, KeyboardInterrupt()), (20, KeyboardInterrupt()), (3, None)]
    command = ["distill", "--seed", "2", "--out", str(tmp_path / "run")]
    assert main(command) == 130
    (line,) = (
        line for line in capsys.readouterr().err.splitlines() if line.startswith("Stopped. To go on: ")
    )
    again = shlex.split(line.removeprefix("Stopped. To go on: kdlab "))
    assert main(again) == 130
    assert main([*again, "--seed", "3"]) == 2
    assert "seed 2 is now 3" in capsys.readouterr().err
    assert main(again) == 0
    assert [settings.seed for settings in runs.given] == [2, 2, 2]
    assert read(tmp_path / "run")["wall_seconds"] == 123.0
    assert {f"after_{seconds}" for seconds in (100, 20, 3)} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_a_run_that_an_older_version_began_goes_on_if_nothing_new_is_asked_for(runs, tmp_path, capsys):
    runs.steps = [(1, KeyboardInterrupt()), (2, None)]
    command = ["distill", "--out", str(tmp_path)]
    assert main(command) == 130
    settings = json.loads((tmp_path / "run.json").read_text())
    del settings["weak_to_strong"], settings["confidence"]
    (tmp_path / "run.json").write_text(json.dumps(settings))
    assert main([*command, "--resume", "--weak-to-strong"]) == 2
    assert "weak_to_strong False is now True" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0


def test_a_stopped_run_says_what_it_was_told_to_be(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kdlab"])
    runs.steps = [(1, KeyboardInterrupt())]
    assert main(["distill", "--weak-to-strong", "--confidence", "0", "--out", str(tmp_path)]) == 130
    assert "--weak-to-strong --confidence 0.0 --out" in capsys.readouterr().err


def test_several_teachers_are_named_and_go_on_with_a_run_of_one(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kdlab"])
    runs.steps = [(1, KeyboardInterrupt()), (1, KeyboardInterrupt()), (2, None)]
    command = ["distill", "--teacher", "one", "--teacher", "hub:two", "--out", str(tmp_path / "two")]
    assert main(command) == 130
    again = shlex.split(capsys.readouterr().err.split("go on: kdlab ")[1])
    assert main(again) == 130
    assert [settings.teacher for settings in runs.given] == [("one", "hub:two")] * 2
    # As an older version wrote it.
    settings = json.loads((tmp_path / "two" / "run.json").read_text()) | {"teacher": "one"}
    (tmp_path / "two" / "run.json").write_text(json.dumps(settings))
    assert main(again) == 2
    assert "teacher ('one',) is now ('one', 'hub:two')" in capsys.readouterr().err
    assert main(["distill", "--teacher", "one", "--out", str(tmp_path / "two"), "--resume"]) == 0


def test_a_finished_run_is_replaced_as_a_whole(runs, tmp_path):
    runs.steps = [(1, None), (2, None)]
    for seed in ("0", "1"):
        assert main(["distill", "--seed", seed, "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "after_1").exists()
    assert read(tmp_path)["wall_seconds"] == 2.0
    assert "--seed 1" in read(tmp_path)["command"]


def test_data_that_cannot_be_read_cost_no_older_run_and_begin_none(runs, tmp_path, capsys):
    runs.steps = [(1, None), (2, None)]
    done, new = tmp_path / "done", tmp_path / "new"
    assert main(["distill", "--out", str(done)]) == 0
    before = {path: path.read_bytes() for path in done.iterdir()}
    for folder in (done, new):
        assert main(["distill", "--data", "nowhere", "--out", str(folder)]) == 2
        assert "data: no 'nowhere' here" in capsys.readouterr().err
        assert main(["distill", "--data", "hub:slow", "--out", str(folder)]) == 130
    assert {path: path.read_bytes() for path in done.iterdir()} == before
    assert main(["distill", "--out", str(new)]) == 0


def test_a_run_without_its_page_is_not_finished(runs, tmp_path, monkeypatch):
    """report.json is what says so."""
    runs.steps = [(1, None), (2, None)]
    with monkeypatch.context() as patch:
        patch.setattr("kdlab.report.html_page", lambda report: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(["distill", "--out", str(tmp_path)])
    assert not (tmp_path / "report.json").exists()
    assert main(["distill", "--out", str(tmp_path)]) == 2
    assert main(["distill", "--out", str(tmp_path), "--resume"]) == 0
    assert "student alone" in (tmp_path / "report.html").read_text()


def test_a_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["distill", "--out", str(tmp_path / "thesis.tex")]) == 2
    assert "holds other things" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    "option",
    [("--seed", "-1"), ("--updates", "0"), ("--pairs", "-2"), ("--level", "no"), ("--filters", "no")],
)
def test_options_out_of_range_are_refused_at_once(runs, option, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["distill", "--out", str(tmp_path), *option])
    assert stopped.value.code == 2
    assert option[0] in capsys.readouterr().err
    assert runs.given == []


@pytest.mark.parametrize(("options", "width"), [([], 4), (["--beams", "2"], 2)])
def test_translate_searches_as_wide_as_it_is_told(monkeypatch, capsys, options, width):
    asked = []

    def translate(model, tokenizer, lines, search, description):
        asked.append((model, tokenizer, lines, search))
        return [line.upper() for line in lines]

    monkeypatch.setattr("kdlab.generation.translate", translate)
    monkeypatch.setattr("kdlab.loading.load_model", lambda name, device: f"model of {name}")
    monkeypatch.setattr("kdlab.text.tokenizers.load_tokenizer", lambda name: f"tokenizer of {name}")
    assert main(["translate", "--model", "here", *options, "one", "two"]) == 0
    assert asked == [("model of here", "tokenizer of here", ["one", "two"], Search(num_beams=width))]
    assert capsys.readouterr().out == "ONE\nTWO\n"
