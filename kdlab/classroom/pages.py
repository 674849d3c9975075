"""The executed course as pages to browse: one for each notebook, and one that leads to them and says how it went."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat

from kdlab.classroom.rendering import code_style, render
from kdlab.classroom.run import Run, read_run

_FIGURE = re.compile(r'<img alt="([^"]*)" src="data:image/svg\+xml;base64,([^"]*)">')
_TITLE = re.compile(r"^# +(.+)$", re.MULTILINE)
# Nothing is told by colour alone, nothing is wider than a phone, and what has the focus is seen.
_STYLE = """\
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 50rem; padding: 1rem; background: #fff; color: #111;
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.25; }
a { color: #003d99; }
a:focus-visible, summary:focus-visible, pre:focus-visible { outline: 3px solid #111; outline-offset: 2px; }
nav { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; margin: 1rem 0; }
pre { margin: .5rem 0; padding: .5rem .75rem; font: .85rem/1.45 ui-monospace, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.input_area pre, .rendered_html > pre { background: #f2f2f2; border-left: 4px solid #555; }
.output_area pre { border-left: 4px dotted #767676; }
.output_error pre { border: 3px double #111; }
svg, img { max-width: 100%; height: auto; }
math[display="block"] { margin: .75rem 0; max-width: 100%; overflow-x: auto; overflow-y: hidden; }
table { border-collapse: collapse; display: block; max-width: 100%; overflow-x: auto; }
th, td { border: 1px solid #767676; padding: .25rem .6rem; }
dl { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: .5rem 0; }
dl div { display: flex; gap: .4rem; }
dt::after { content: ":"; }
dd { margin: 0; font-weight: 600; }
section { border-top: 1px solid #767676; padding-bottom: 1rem; }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; }
.figures a { width: min(12rem, calc(50% - .4rem)); }
.figures img { width: 100%; border: 1px solid #767676; }
.stopped { border: 3px double #111; padding: .5rem .75rem; font-weight: 600; }
"""


def write_pages(out: Path, names: Sequence[str]) -> Path:
    """Write `out`/NAME/NAME.html for every executed notebook in `out`, and `out`/index.html, which is returned.

    Args:
        names: of the notebooks, in order; those that are not there are left out.

    >>> import tempfile
    >>> from dataclasses import asdict
    >>> from nbformat.v4 import new_markdown_cell, new_notebook
    >>> notebook = new_notebook(cells=[new_markdown_cell("# 01 · Small")])
    >>> notebook.metadata["kdlab"] = asdict(Run("01_small", "ci", None, 1.5, 1.2, 90, 3, 3, 0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "01_small").mkdir()
    ...     nbformat.write(notebook, Path(folder) / "01_small" / "01_small.ipynb")
    ...     '<a href="01_small/01_small.html">01 · Small</a>' in write_pages(Path(folder), ["01_small"]).read_text()
    True
    """
    runs = [run for name in names if (run := read_run(out / name / f"{name}.ipynb"))]
    notebooks = {run.name: nbformat.read(out / run.name / f"{run.name}.ipynb", as_version=4) for run in runs}
    titles = {name: _title(name, notebook.cells) for name, notebook in notebooks.items()}
    sections = []
    for number, run in enumerate(runs):
        name = run.name
        figures = _take_figures(out / name, notebooks[name])
        body = render(notebooks[name])
        before = _link(runs[number - 1 : number], titles, "Before: ")
        after = _link(runs[number + 1 : number + 2], titles, "Next: ")
        way = f'<nav aria-label="Course"><a href="../index.html">The course</a>{before}{after}</nav>'
        content = f"{way}\n{_told(run)}\n<main>\n{body}\n</main>\n{way}"
        (out / name / f"{name}.html").write_text(_page(titles[name], content), encoding="utf-8")
        sections.append(
            f'<section>\n<h2><a href="{name}/{name}.html">{html.escape(titles[name])}</a></h2>\n{_told(run)}\n'
            f'<p><a href="{name}/{name}.ipynb">The executed notebook</a></p>\n{figures}</section>'
        )
    content = f"<main>\n<h1>The course, run</h1>\n{_total(runs)}\n{''.join(sections)}\n</main>"
    index = out / "index.html"
    index.write_text(_page("The course, run", content), encoding="utf-8")
    return index


def _page(title: str, content: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
{code_style()}
{_STYLE}</style>
</head>
<body>
{content}
</body>
</html>
"""


def _title(name: str, cells: Sequence[nbformat.NotebookNode]) -> str:
    """The first heading of the notebook, which papermill may have put a cell before."""
    found = (_TITLE.search(cell.source) for cell in cells if cell.cell_type == "markdown")
    return next((title[1] for title in found if title), name)


def _link(runs: Sequence[Run], titles: dict[str, str], word: str) -> str:
    """A link to the page of the notebook before or after, if there is one."""
    return "".join(
        f'<a href="../{run.name}/{run.name}.html">{word}{html.escape(titles[run.name])}</a>' for run in runs
    )


def _told(run: Run) -> str:
    """How one run went, in words."""
    stopped = f'<p class="stopped">It stopped at {html.escape(run.error)}</p>\n' if run.error else ""
    by_hand = f", and {run.by_hand} by hand" if run.by_hand else ""
    return stopped + _figures(
        {
            "Score": f"{run.earned} of {run.points}{by_hand}",
            "Time": f"{run.seconds:.0f} s",
            "Peak memory": f"{run.peak_mb:,} MB",
            "Profile": run.profile,
        }
    )


def _total(runs: Sequence[Run]) -> str:
    stopped = sum(run.error is not None for run in runs)
    return _figures(
        {
            "Notebooks": f"{len(runs)}, {stopped} stopped at an error" if stopped else f"{len(runs)}",
            "Score": f"{sum(run.earned for run in runs)} of {sum(run.points for run in runs)}",
            "Time": f"{sum(run.seconds for run in runs):.0f} s",
            "Peak memory": f"{max((run.peak_mb for run in runs), default=0):,} MB",
        }
    )


def _figures(values: dict[str, str]) -> str:
    pairs = (f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in values.items())
    return f"<dl>{''.join(pairs)}</dl>"


def _take_figures(folder: Path, notebook: nbformat.NotebookNode) -> str:
    """Small pictures, of files beside the page, that lead to the figures on it; each figure gets a place for that."""
    shown: list[str] = []

    def placed(found: re.Match[str]) -> str:
        name = f"figure_{len(shown) + 1}"
        (folder / f"{name}.svg").write_bytes(base64.b64decode(found[2]))
        picture = f'<img loading="lazy" src="{folder.name}/{name}.svg" alt="{found[1]}">'
        shown.append(f'<a href="{folder.name}/{folder.name}.html#{name}">{picture}</a>')
        return f'<img id="{name}" src="{name}.svg" alt="{found[1]}">'

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = _FIGURE.sub(placed, output.data["text/html"])
    return f'<div class="figures">{"".join(shown)}</div>\n' if shown else ""
