"""The solution notebooks, run from top to bottom by papermill."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.classroom.notebooks import read_script, source_notebook
from kdlab.classroom.usage import Usage

if TYPE_CHECKING:
    from nbformat import NotebookNode


@dataclass(frozen=True)
class Run:
    """What one run of a notebook was.

    Attributes:
        error: what stopped it, "cell N of the notebook: Error: why", or None if it reached its end.
        seconds: from the start of the kernel to its end.
        cpu_seconds: of the processor: what the run takes at least if it has one for itself.
        peak_mb: the most memory that the kernel and what it started held, in units of 10^6 bytes.
        earned, points: by the graded cells and in all, less what is graded by hand.
        by_hand: points of the essays.
    """

    name: str
    profile: str
    error: str | None
    seconds: float
    cpu_seconds: float
    peak_mb: int
    earned: int
    points: int
    by_hand: int

    @property
    def told(self) -> str:
        """In one line.

        >>> Run("01_small", "ci", None, 31.4, 29.0, 640, 12, 15, 3).told
        'ran to its end: 12 of 15 points, 31 s, 640 MB'
        """
        end = f"stopped at {self.error}" if self.error else "ran to its end"
        return f"{end}: {self.earned} of {self.points} points, {self.seconds:.0f} s, {self.peak_mb} MB"


def run_solution(root: Path, path: Path, out: Path, profile: str) -> Run:
    """Run the solution notebook of a script; `out`/NAME/NAME.ipynb is the executed one, with its `Run` as metadata.

    It runs as a student's copy does: in a folder that holds the release files and nothing else.

    Args:
        profile: for the cell `# %% parameters`, where the notebook has one.

    >>> import tempfile
    >>> from kdlab.files import write_text
    >>> first, last = "# %% [markdown]\\n# # 01\\n# ## You will be able to\\n", "# %% [markdown]\\n# ## Summary\\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root, script = Path(folder), Path(folder) / "solutions" / "01_small" / "01_small.py"
    ...     write_text(script, first + "# %%\\n1 / 0\\n" + last)
    ...     run_solution(root, script, root / "out", "ci").error
    'cell 2 of the notebook: ZeroDivisionError: division by zero'
    """
    import nbformat

    script = read_script(root, path)
    notebook = source_notebook(script)
    folder = out.resolve() / path.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in script.release_files:
        shutil.copy(path.with_name(name), folder)
    has_parameters = any(cell.kind == "parameters" for cell in script.cells)
    executed = folder / f"{path.stem}.ipynb"
    start = time.perf_counter()
    with Usage() as usage:
        error = _execute(notebook, executed, {"profile": profile} if has_parameters else None)
    seconds = round(time.perf_counter() - start, 1)
    found = nbformat.read(executed, as_version=4)
    run = Run(
        path.stem,
        profile,
        error,
        seconds,
        round(usage.cpu_seconds, 1),
        round(usage.peak_bytes / 1e6),
        *score(found.cells),
    )
    found.metadata["kdlab"] = asdict(run)
    nbformat.write(found, executed)
    return run


def read_run(executed: Path) -> Run | None:
    """The run that an executed notebook tells of, or None where it was not run to be kept.

    >>> import tempfile
    >>> from kdlab.files import write_text
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     executed = Path(folder) / "01_small.ipynb"
    ...     nothing = read_run(executed)
    ...     run = Run("01_small", "ci", None, 1.5, 1.2, 90, 3, 3, 0)
    ...     write_text(executed, json.dumps({"metadata": {"kdlab": asdict(run)}}))
    ...     nothing, read_run(executed) == run
    (None, True)
    """
    if not executed.exists():
        return None
    kept = json.loads(executed.read_text(encoding="utf-8"))["metadata"].get("kdlab")
    return None if kept is None else Run(**kept)


def score(cells: Iterable[NotebookNode]) -> tuple[int, int, int]:
    """Points that the graded cells of an executed notebook earn, their points in all, and those given by hand.

    A cell earns its points if it was run and raised nothing, whatever it printed.

    >>> from nbformat.v4 import new_code_cell, new_markdown_cell
    >>> marks = {"nbgrader": {"grade": True, "points": 2}}
    >>> passed, left_out = new_code_cell(metadata=marks, execution_count=1), new_code_cell(metadata=marks)
    >>> score([passed, left_out, new_markdown_cell(metadata=marks)])
    (2, 4, 2)
    """
    earned = points = by_hand = 0
    for cell in cells:
        marks = cell.metadata.get("nbgrader", {})
        if not marks.get("grade"):
            continue
        if cell.cell_type == "markdown":
            by_hand += marks["points"]
            continue
        points += marks["points"]
        failed = any(output.output_type == "error" for output in cell.outputs)
        earned += 0 if failed or cell.execution_count is None else marks["points"]
    return earned, points, by_hand


def _execute(notebook: NotebookNode, executed: Path, parameters: dict[str, Any] | None) -> str | None:
    """Write the executed notebook, whole or as far as it came; returns what stopped it."""
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    sources = [cell.source for cell in notebook.cells]
    try:
        execute_notebook(
            notebook,
            executed,
            parameters=parameters,
            cwd=executed.parent,
            # As kdlab.progress has it: written to a file, a line every half minute.
            progress_bar={"desc": executed.stem, "mininterval": 0.2 if sys.stderr.isatty() else 30},
            extra_arguments=["--IPKernelApp.log_level=50"],  # it warns of its own sockets and of its own end
        )
    except PapermillExecutionError as error:
        # papermill counts the cells that it adds itself, so the cell is found by what it holds.
        return f"cell {sources.index(error.source) + 1} of the notebook: {error.ename}: {error.evalue}"
    except DeadKernelError:
        return f"cell {_begun_last(executed, sources)} of the notebook: the kernel died; was there enough memory?"
    return None


def _begun_last(executed: Path, sources: list[str]) -> int:
    """The number of the cell that papermill began last."""
    import nbformat

    cells = nbformat.read(executed, as_version=4).cells
    started = [cell.source for cell in cells if cell.metadata["papermill"]["start_time"]]
    return sources.index(started[-1]) + 1
