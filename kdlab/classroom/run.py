"""The solution notebooks, run from top to bottom by papermill."""

from __future__ import annotations

import shutil
from pathlib import Path

from kdlab.classroom.notebooks import read_script, source_notebook


def run_solution(root: Path, path: Path, out: Path, profile: str) -> str | None:
    """Run the solution notebook of a script; `out`/NAME/NAME.ipynb is the executed one.

    It runs as a student's copy does: in a folder that holds the release files and nothing else.

    Args:
        profile: for the cell `# %% parameters`, where the notebook has one.

    Returns:
        What stopped it, "cell N of the notebook: Error: why", or None if it reached its end.

    >>> import tempfile
    >>> from kdlab.files import write_text
    >>> first, last = "# %% [markdown]\\n# # 01\\n# ## You will be able to\\n", "# %% [markdown]\\n# ## Summary\\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root, script = Path(folder), Path(folder) / "solutions" / "01_small" / "01_small.py"
    ...     write_text(script, first + "# %%\\n1 / 0\\n" + last)
    ...     run_solution(root, script, root / "out", "ci")
    'cell 2 of the notebook: ZeroDivisionError: division by zero'
    """
    from papermill import PapermillExecutionError, execute_notebook

    script = read_script(root, path)
    notebook = source_notebook(script)
    sources = [cell.source for cell in notebook.cells]
    folder = out.resolve() / path.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in script.release_files:
        shutil.copy(path.with_name(name), folder)
    has_parameters = any(cell.kind == "parameters" for cell in script.cells)
    try:
        execute_notebook(
            notebook,
            folder / f"{path.stem}.ipynb",
            parameters={"profile": profile} if has_parameters else None,
            cwd=folder,
            progress_bar={"desc": path.stem},
        )
    except PapermillExecutionError as error:
        # papermill counts the cells that it adds itself, so the cell is found by what it holds.
        return f"cell {sources.index(error.source) + 1} of the notebook: {error.ename}: {error.evalue}"
    return None
