"""The words that notebooks link stand in the glossary, and those of the glossary are linked where it says."""

from __future__ import annotations

import re

from kdlab.classroom.notebooks import find_scripts, read_script
from tests.notebooks.running import ROOT, script

LINK = re.compile(r"\[([^\]]+)\]\(\.\./00_welcome/00_welcome\.ipynb#Glossary\)")
ROW = re.compile(r"^\| ([^|]+) \| [^|]+ \| (\d\d) \|$", re.MULTILINE)


def glossary() -> dict[str, str]:
    """Word -> the number of the notebook that explains it."""
    (cell,) = (cell for cell in script("00_welcome").cells if cell.source.startswith("## Glossary"))
    return {word.lower(): notebook for word, notebook in ROW.findall(cell.source)}


def linked() -> dict[str, set[str]]:
    """Number of a notebook -> the words that it links."""
    return {
        path.stem[:2]: {
            word.strip("$").lower()
            for cell in read_script(ROOT, path).cells
            if cell.is_markdown
            for word in LINK.findall(cell.source)
        }
        for path in find_scripts(ROOT)
    }


def test_what_is_linked_is_explained():
    words = glossary()
    assert len(words) > 20
    for notebook, found in linked().items():
        assert found <= set(words), notebook


def test_what_is_explained_is_linked_where_it_is_met_first():
    for word, notebook in glossary().items():
        assert word in linked()[notebook], f"{word} in {notebook}"
