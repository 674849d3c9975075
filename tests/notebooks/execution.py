"""A notebook run as it is graded: in a fresh kernel, in a folder of its own, under nbgrader's profile `grade`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from kdlab.classroom.notebooks import read_script

ROOT = Path(__file__).parents[2]
# Before the first cell: a clock that leaves imports out, and a count of the steps of every optimizer.
_START = """\
import _frozen_importlib as _importing
import time as _time

_imports = {"open": False, "seconds": 0.0, "cpu": 0.0, "steps": 0}
_load = _importing._find_and_load


def _timed(*arguments):
    if _imports["open"]:  # an import within an import
        return _load(*arguments)
    _imports["open"], seconds, cpu = True, _time.perf_counter(), _time.process_time()
    try:
        return _load(*arguments)
    finally:
        _imports["open"] = False
        _imports["seconds"] += _time.perf_counter() - seconds
        _imports["cpu"] += _time.process_time() - cpu


def _step(*_):
    _imports["steps"] += 1


_importing._find_and_load = _timed
_start = _time.perf_counter(), _time.process_time()

import torch as _torch

_torch.optim.optimizer.register_optimizer_step_post_hook(_step)"""
_END = """\
import json as _json

_spent = {
    "seconds": _time.perf_counter() - _start[0] - _imports["seconds"],
    "cpu": _time.process_time() - _start[1] - _imports["cpu"],
    "steps": _imports["steps"],
}
print(_json.dumps(_spent))"""


@dataclass(frozen=True)
class Execution:
    """An executed notebook, and what it took beyond its imports.

    seconds, cpu: on the clock, and of the processor; the start of the kernel does not count.
    steps: of all optimizers together.
    """

    notebook: NotebookNode
    seconds: float
    cpu: float
    steps: int


def errors(cells: Iterable[NotebookNode]) -> list[NotebookNode]:
    """What the cells raised."""
    outputs = (output for cell in cells for output in cell.get("outputs", []))
    return [output for output in outputs if output.output_type == "error"]


def execute(notebook: NotebookNode, script: Path, folder: Path, kdlab_cache: Path) -> Execution:
    """Run all cells of a notebook, whatever they raise; `folder` is made, with the release files of its script."""
    folder.mkdir(parents=True)
    for name in read_script(ROOT, script).release_files:
        shutil.copy(script.with_name(name), folder)
    notebook.cells = [new_code_cell(_START), *notebook.cells, new_code_cell(_END)]
    environment = {**os.environ, "NBGRADER_EXECUTION": "autograde", "KDLAB_CACHE": str(kdlab_cache)}
    environment["OMP_NUM_THREADS"] = "1"  # as nbgrader_config.py has it
    client = NotebookClient(notebook, allow_errors=True, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    spent = json.loads(notebook.cells[-1].outputs[0].text)
    notebook.cells = notebook.cells[1:-1]
    return Execution(notebook, **spent)
