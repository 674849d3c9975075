"""An executed notebook as a piece of a page that needs no network: formulas are MathML, figures stand in it."""

from __future__ import annotations

import re
from functools import lru_cache
from html import escape
from typing import Any

from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

_WIDGET = "application/vnd.jupyter.widget-view+json"  # needs a kernel; a still figure stands beside it
_NOTEBOOK_LINK = re.compile(r'(<a href="[^":?#]+)\.ipynb(?=["#])')


def render(notebook: NotebookNode) -> str:
    """The cells of a notebook with their outputs; links to other notebooks lead to their pages.

    >>> from nbformat.v4 import new_markdown_cell, new_notebook
    >>> page = render(new_notebook(cells=[new_markdown_cell("The entropy $H$, see [02](../02/02.ipynb).")]))
    >>> '<math' in page, '<a href="../02/02.html">' in page
    (True, True)
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _WIDGET not in output.get("data", {})]
    exporter: HTMLExporter = _Exporter(  # type: ignore[no-untyped-call]
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True
    )
    body, _ = exporter.from_notebook_node(notebook)
    return _NOTEBOOK_LINK.sub(r"\1.html", str(body))


@lru_cache(maxsize=4096)
def mathml(formula: str, *, block: bool = False) -> str:
    """LaTeX as MathML, which browsers show by themselves.

    What cannot be converted is shown as it is written.

    >>> mathml("p_t")[-53:]
    '<mrow><msub><mi>p</mi><mi>t</mi></msub></mrow></math>'
    """
    try:
        return convert(formula, display="block" if block else "inline")
    except Exception:  # whatever a parser of LaTeX may raise: a page with one bare formula is still a page
        return f"<code>{escape(formula)}</code>"


def code_style() -> str:
    """The style sheet of highlighted code.

    >>> ".highlight .k {" in code_style()
    True
    """
    return str(HtmlFormatter(style="bw").get_style_defs(".highlight"))


class _Renderer(IPythonRenderer):
    def block_math(self, body: str) -> str:
        return mathml(body.strip(), block=True)

    def inline_math(self, body: str) -> str:
        return mathml(body.strip())

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)


class _Exporter(HTMLExporter):
    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        # nbconvert's anchors would take the formula out of a heading.
        renderer = _Renderer(escape=False, attachments=attachments, exclude_anchor_links=True)
        return str(MarkdownWithMath(renderer=renderer).render(source))
