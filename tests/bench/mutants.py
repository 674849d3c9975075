"""Mutants of the solutions of the course's exercises: how many does the graded test of the exercise catch?"""

from __future__ import annotations

import contextlib
import io
from typing import Any

from tests.notebooks.mutant_run import grade_mutants
from tests.notebooks.running import notebooks
from tests.notebooks.survivors import SURVIVORS


def measure() -> dict[str, Any]:
    """How many there are of each kind, notebook by notebook; see `Graded`. `rate` is that of its property."""
    figures: dict[str, Any] = {}
    for notebook in notebooks():
        with contextlib.redirect_stdout(io.StringIO()):  # what the notebook's cells print
            graded = grade_mutants(notebook)
        known = SURVIVORS.get(notebook, {})
        figures[notebook] = {
            "mutants": sum(len(kind) for kind in vars(graded).values()),
            **{kind: len(found) for kind, found in vars(graded).items()},
            "rate": round(graded.rate, 4),
            "survivors": {told: known.get(told, "no reason is known") for told in graded.survivors},
            "same": graded.same,
        }
    return {"notebooks": figures}
