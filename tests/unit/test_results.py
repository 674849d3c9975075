"""From the runs' reports to results/*.json, and from there to the README."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from kdlab.classroom.notebooks import find_scripts, read_script
from kdlab.report import gap_lines, plateau_line, text_table
from tests.bench import course, readme
from tests.bench.collect import collect, spread
from tests.unit.made_up_report import report

ROOT = Path(__file__).resolve().parents[2]


def test_several_seeds_become_mean_and_range() -> None:
    found = collect([report(20.0, 30.0, 0.5), report(24.0, 36.0, 0.75)])
    assert found["systems"]["distilled"]["test_sets"]["test_a"]["bleu"] == {
        "mean": 33.0,
        "lowest": 30.0,
        "highest": 36.0,
    }
    assert found["gap_closed"]["distilled"]["test_a"]["mean"] == 0.625
    assert len(found["runs"]) == 2
    assert "corpus" not in json.dumps(found)
    rows = readme.table(found).splitlines()
    assert rows[-1] == "| distilled | 1,000 | 33.0 (30.0 to 36.0) | 62% (50% to 75%) | 0.500 |"
    assert rows[2].startswith("| teacher | 1,000 | 40.0 |  |")


def test_the_newer_figures_are_there_where_all_runs_have_them() -> None:
    runs = [report(20.0, 30.0, 0.5), report(24.0, 36.0, 0.75)]
    for seed, run in enumerate(runs):
        for name in ("teacher", "baseline", "distilled"):
            run[name] |= {
                "calibration": {"error": 0.1 + 0.2 * seed, "bins": [[0.5, 0.4, 10]]},
                "mode_coverage": {"recall": 0.5 + 0.2 * seed, "precision": 0.25},
                "latency_ms": {"p50": 10.0, "p95": 20.0 + seed},
            }
    del runs[1]["baseline"]["latency_ms"]
    systems = collect(runs)["systems"]
    found = systems["distilled"]
    assert found["calibration"] == {"error": {"mean": 0.2, "lowest": 0.1, "highest": 0.3}}
    assert found["mode_coverage"]["recall"] == {"mean": 0.6, "lowest": 0.5, "highest": 0.7}
    assert found["mode_coverage"]["precision"]["mean"] == 0.25
    assert found["latency_ms"]["p50"]["highest"] == 10.0
    assert found["latency_ms"]["p95"] == {"mean": 20.5, "lowest": 20.0, "highest": 21.0}
    assert "latency_ms" not in systems["baseline"]
    assert "mode_coverage" in systems["baseline"]
    assert readme.table(collect(runs)).splitlines()[-1].startswith("| distilled | 1,000 | 33.0")


def test_no_folder_of_one_machine_is_kept() -> None:
    (run,) = collect([report(20.0, 30.0, 0.5)])["runs"]
    assert run["command"] == "kdlab distill --data FOLDER --pair en-de --seed 0"
    assert run["settings"] == {"data": "some_folder", "seed": 0}


def test_one_seed_shows_its_bootstrap_interval() -> None:
    rows = readme.table(collect([report(20.0, 30.0, 0.5)])).splitlines()
    assert rows[-1] == "| distilled | 1,000 | 30.0 (29.0 to 31.0) | 50% (40% to 60%) | 0.500 |"


def test_runs_of_different_experiments_are_refused() -> None:
    one, other = report(20.0, 30.0, 0.5), copy.deepcopy(report(20.0, 30.0, 0.5))
    other["profile"]["level"] = "word"
    with pytest.raises(ValueError, match="reports: got runs on different data or profiles"):
        collect([one, other])


def test_spread_is_what_it_says() -> None:
    assert spread([1.0, 2.0, 6.0]) == {"mean": 3.0, "lowest": 1.0, "highest": 6.0}


def test_the_readme_s_tables_are_those_of_the_results() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- end -->") == 7
    assert readme.with_tables(text) == text


def test_the_course_s_table_holds_every_notebook_as_it_is() -> None:
    """What is counted, not what was timed."""
    held = json.loads((ROOT / "results" / "course.json").read_text(encoding="utf-8"))["notebooks"]
    scripts = find_scripts(ROOT)
    again = "to measure again: python -m tests.bench course && python -m tests.bench.readme"
    assert list(held) == [script.stem for script in scripts], again
    for script in scripts:
        counted = course.counts(read_script(ROOT, script))
        assert {name: held[script.stem][name] for name in counted} == counted, again


def test_the_course_s_table_adds_up() -> None:
    notebook = {"title": "Small", "exercises": 2, "quizzes": 1, "essays": 0, "points": 9, "minutes": 30}
    notebook |= {
        "right_answers": 4,
        "wrong_answers": 8,
        "ci_seconds": 10.4,
        "ci_peak_mb": 300,
        "grade_seconds": 1.2,
    }
    mutants = {
        "01": {"caught": 5, "survivors": {}},
        "02": {"caught": 6, "survivors": {"one": "a reason"}},
    }
    *_, row, total = readme.course_table(
        {"notebooks": {"01": notebook, "02": notebook}}, mutants
    ).splitlines()
    assert row == "| `02` | Small | 2 | 1 | 0 | 9 | 30 | 4 | 8 | 6 of 7 | 10 | 300 | 1.2 |"
    assert total == "| all |  | 4 | 2 | 0 | 18 | 60 | 8 | 16 | 11 of 12 | 21 | 300 | 2.4 |"


def test_the_report_says_whether_the_student_alone_was_done() -> None:
    """From 2.0 at update 80 of 100 to 1.98 is a fall of 1%."""
    line = plateau_line(report(20.0, 30.0, 0.5))
    assert line.endswith("1.980, 1.0% below the lowest of the first four fifths of its updates")


def test_a_gap_that_is_none_is_said() -> None:
    nothing = report(20.0, 30.0, 0.5)
    nothing["gap_closed_by"]["distilled"]["test_a"] = {"value": None, "interval": None}
    assert "no better than the student alone" in gap_lines(nothing)[0]
    assert "no better than the student alone" in text_table(nothing)
