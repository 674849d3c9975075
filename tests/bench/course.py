"""What the course holds and what it costs: counts of its scripts and answers, the `ci` run, and grading.

Of the answers it counts those in tests/notebooks/answers, which the tests show to be accepted and refused. The
teacher lies in the cache before anything is measured, as in every run but the first.
"""

from __future__ import annotations

import os
import re
import runpy
import tempfile
from pathlib import Path
from typing import Any

from kdlab.classroom.notebooks import find_scripts, read_script, source_notebook
from kdlab.classroom.run import run_solution
from kdlab.classroom.script import Script
from kdlab.files import cache_folder

ROOT = Path(__file__).resolve().parents[2]
_TITLE = re.compile(r"# (?:\d+ · )?(.+)")
_TIME = re.compile(r"\*\*Time:\*\* (\d+) minutes")


def measure() -> dict[str, Any]:
    """Figures of every notebook."""
    from kdlab.phrasebook_teacher import phrasebook_teacher

    phrasebook_teacher(may_train=True)
    return {
        "notebooks": {path.stem: counts(read_script(ROOT, path)) | costs(path) for path in find_scripts(ROOT)}
    }


def counts(script: Script) -> dict[str, Any]:
    """What a notebook holds, and the answers that its graders are tested with.

    `minutes` is what the notebook itself says; a student needs them.
    """
    of_kind = {
        kind: [cell for cell in script.cells if cell.kind == kind] for kind in ("exercise", "quiz", "essay")
    }
    prose = "\n".join(cell.source for cell in script.cells if cell.kind == "markdown")
    title, time = _TITLE.match(prose), _TIME.search(prose)
    if title is None or time is None:
        raise ValueError(f"{script.path}: no '# TITLE' at its beginning, or no '**Time:** N minutes'")
    answers = _answers(script.path.stem)
    return {
        "title": title[1],
        "exercises": len(of_kind["exercise"]),
        "quizzes": len(of_kind["quiz"]),
        "essays": len(of_kind["essay"]),
        "points": sum(cell.value or 0 for cell in script.cells if cell.kind in ("test", "quiz", "essay")),
        "minutes": int(time[1]),
        "right_answers": sum(len(both["right"]) for both in answers.values()),
        "wrong_answers": sum(len(both["wrong"]) for both in answers.values()),
    }


def costs(path: Path) -> dict[str, Any]:
    """Seconds and memory of the `ci` run; seconds of grading beyond the imports, of clock and processor."""
    from tests.notebooks.execution import errors, execute

    with tempfile.TemporaryDirectory() as folder:
        run = run_solution(ROOT, path, Path(folder), "ci")
        graded = {
            name: execute(source_notebook(read_script(ROOT, path)), path, Path(folder) / name, cache)
            for name, cache in (("teacher", cache_folder()), ("no_cache", Path(os.devnull) / "cache"))
        }
    wrong = {name: [error.evalue for error in errors(one.notebook.cells)] for name, one in graded.items()}
    if run.error or run.earned < run.points or any(wrong.values()):
        raise RuntimeError(f"{path.stem}: {run.told}; graded: {wrong}")
    return {
        "ci_seconds": run.seconds,
        "ci_cpu_seconds": run.cpu_seconds,
        "ci_peak_mb": run.peak_mb,
        "grade_seconds": round(graded["teacher"].seconds, 1),
        "grade_cpu_seconds": round(graded["teacher"].cpu, 1),
        "grade_seconds_without_cache": round(graded["no_cache"].seconds, 1),
        "grade_cpu_seconds_without_cache": round(graded["no_cache"].cpu, 1),
    }


def _answers(name: str) -> dict[str, Any]:
    path = ROOT / "tests" / "notebooks" / "answers" / f"{name}.py"
    return dict(runpy.run_path(str(path))["ANSWERS"]) if path.exists() else {}
