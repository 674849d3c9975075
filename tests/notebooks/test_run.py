"""`kdlab notebooks run` on a small course: what it tells, what it writes, and the pages of it."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kdlab.classroom.rendering import mathml, render
from kdlab.classroom.run import read_run
from kdlab.classroom.usage import Usage
from kdlab.cli import main
from tests.notebooks.small import NAME, replaced, write_course

FIGURE = """from kdlab.plot_style import new_plot

with new_plot("x", "y", 2.0) as (plot, axes):
    plot.alt_text = "A line of \\"2\\" points."
plot"""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """One notebook that runs to its end, and two that do not: the folder of what is written."""
    root = tmp_path_factory.mktemp("run")
    no_picture = replaced("![A line that goes up](line.png)", "[This one](../01_small/01_small.ipynb)")
    write_course(
        root, replaced("import math", f'open("runs.json")\nmath = profile\n\n# %%\n{FIGURE}', no_picture)
    )
    write_course(root, replaced("import math", "import maths", no_picture), name="00_broken")
    write_course(root, replaced("import math", "import os\n\nos._exit(1)", no_picture), name="02_dead")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["notebooks", "run", "--profile", "cpu", "--out", "here"]) == 1
    return root / "here"


def run_of(out: Path, name: str):
    return read_run(out / name / f"{name}.ipynb")


def test_it_goes_on_after_an_error_and_says_where_it_was(out):
    broken, good, dead = (run_of(out, name) for name in ("00_broken", NAME, "02_dead"))
    assert broken.error == "cell 3 of the notebook: ModuleNotFoundError: No module named 'maths'"
    assert dead.error == "cell 3 of the notebook: the kernel died; was there enough memory?"
    assert good.error is None
    assert [(run.earned, run.points, run.by_hand) for run in (broken, good, dead)] == [
        (0, 3, 3), (3, 3, 3), (0, 3, 3)
    ]  # fmt: skip
    assert good.seconds > 0.5
    assert 0 < good.cpu_seconds <= good.seconds * 2
    assert 30 < good.peak_mb < 500


def test_the_notebook_runs_with_the_profile_beside_its_release_files(out):
    executed = json.loads((out / NAME / f"{NAME}.ipynb").read_text(encoding="utf-8"))
    (injected,) = (cell for cell in executed["cells"] if "injected-parameters" in cell["metadata"]["tags"])
    assert 'profile = "cpu"' in "".join(injected["source"])
    assert sorted(file.name for file in (out / NAME).iterdir()) == [
        f"{NAME}.html",
        f"{NAME}.ipynb",
        "figure_1.svg",
        "runs.json",
    ]


class Page(HTMLParser):
    """The links, pictures and names of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.alts: list[str | None] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids.add(given.get("id"))
        if tag == "a":
            self.links.append(given["href"])
        if tag in ("img", "script", "link", "iframe"):
            self.loaded.append(given.get("src") or given.get("href"))
        if tag == "img":
            self.alts.append(given.get("alt"))


def test_every_link_of_the_pages_leads_somewhere_and_nothing_comes_from_a_network(out):
    pages = [out / "index.html", *sorted(out.glob("*/*.html"))]
    assert len(pages) == 4
    seen = 0
    for path in pages:
        page = Page(path)
        for link in page.links:
            target, _, place = link.partition("#")
            there = (path.parent / target).resolve() if target else path
            assert there.is_file(), f"{path}: {link}"
            assert not place or place in Page(there).ids, f"{path}: {link}"
            seen += 1
        for source in page.loaded:
            assert source is not None
            assert source.startswith("data:") or (path.parent / source).is_file(), f"{path}: {source}"
    assert seen >= 12


def test_the_index_tells_how_it_went(out):
    index = (out / "index.html").read_text(encoding="utf-8")
    assert "<dt>Notebooks</dt><dd>3, 2 stopped at an error</dd>" in index
    assert "<dt>Score</dt><dd>3 of 9</dd>" in index
    assert "<dt>Score</dt><dd>3 of 3, and 3 by hand</dd>" in index
    assert (
        "It stopped at cell 3 of the notebook: ModuleNotFoundError: No module named &#x27;maths&#x27;"
        in index
    )
    assert f"<dd>{run_of(out, NAME).peak_mb} MB</dd>" in index
    assert index.count("<h2>") == 3


def test_a_figure_keeps_its_text_on_the_index_and_on_its_page(out):
    assert Page(out / "index.html").alts == ['A line of "2" points.']
    assert Page(out / NAME / f"{NAME}.html").alts == ['A line of "2" points.']
    picture = (out / NAME / "figure_1.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg")
    assert "viewBox" in picture


def test_a_page_can_be_read_on_a_phone_and_aloud(out):
    for path in (out / "index.html", out / NAME / f"{NAME}.html"):
        page = path.read_text(encoding="utf-8")
        assert '<html lang="en">' in page
        assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
        assert len(re.findall(r"<main>", page)) == 1
        assert re.search(r"<title>[^<]+</title>", page)


def test_one_notebook_run_again_keeps_the_others_on_the_index(out, monkeypatch, tmp_path):
    shutil.copytree(out.parent, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    assert main(["notebooks", "run", NAME, "--profile", "ci", "--out", "here"]) == 0
    index = Path("here/index.html").read_text(encoding="utf-8")
    assert index.count("<h2>") == 3
    assert run_of(Path("here"), NAME).profile == "ci"


def test_bad_input_is_named(tmp_path, monkeypatch, capsys):
    write_course(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as refusal:
        main(["notebooks", "run", "--profile", "tpu"])
    assert refusal.value.code == 2
    assert "--profile: invalid choice: 'tpu'" in capsys.readouterr().err
    assert main(["notebooks", "run", "02_none"]) == 2
    assert f"NAME: got 02_none, expected {NAME}" in capsys.readouterr().err
    assert main(["notebooks", "run", "--out", "nbgrader_config.py"]) == 2
    assert "--out: nbgrader_config.py is a file, expected a folder" in capsys.readouterr().err


def test_a_broken_rule_is_told_before_anything_runs(tmp_path, monkeypatch, capsys):
    write_course(tmp_path)
    write_course(tmp_path, replaced(" minutes=5", ""), name="02_rule")
    monkeypatch.chdir(tmp_path)
    assert main(["notebooks", "run"]) == 2
    assert "02_rule.py, cell 5 (double): minutes=... is missing" in capsys.readouterr().err
    assert not (tmp_path / "build").exists()


# --- rendering and memory -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "formula", [r"H(P_t) = - \sum_{v \in V} p_t \log p_t", r"\frac{a}{b} \|", "a < b & c"]
)
def test_a_formula_is_mathml(formula):
    for block in (False, True):
        assert mathml(formula, block=block).startswith("<math")


def test_a_formula_that_is_none_is_shown_as_it_is():
    assert mathml(r"1 < \left( x") == r"<code>1 &lt; \left( x</code>"


def test_formulas_stand_in_headings_and_not_in_code():
    text = "## The loss $P_t$\n\n$$P_t$$\n\n`$P_t$` costs \\$5, \\$6"
    page = render(new_notebook(cells=[new_markdown_cell(text)]))
    assert page.count("<math") == 2
    assert re.search(r"<h2[^>]*>The loss <math", page)
    assert "<code>$P_t$</code> costs $5, $6" in page


def test_a_widget_is_left_out_and_what_stands_beside_it_is_not():
    view = new_output(
        "display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "A slider"}
    )
    still = new_output("display_data", {"text/html": "<b>still</b>"})
    page = render(new_notebook(cells=[new_code_cell("slider()", outputs=[still, view])]))
    assert "<b>still</b>" in page
    assert "A slider" not in page
    assert "widget" not in page


def test_memory_of_a_child_counts_once(tmp_path):
    """A fork shares its parent's pages: 200 MB in the parent and 50 MB more in the child are 250 MB."""
    import subprocess
    import sys

    code = """import os, time
held = bytearray(b"1") * 200_000_000
if os.fork() == 0:
    more = bytearray(b"1") * 50_000_000
time.sleep(1.5)"""
    with Usage() as usage:
        subprocess.run([sys.executable, "-c", code], check=True)
    assert 250e6 < usage.peak_bytes < 330e6
