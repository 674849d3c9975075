"""One notebook as it is written: a percent script whose cells say in a word or two what they are.

    release_files = ["runs.json"]             before the first cell, if at all: files that students get too

    # %% [markdown]                             prose
    # %% parameters                             what papermill sets: `profile = "auto"`
    # %% exercise="entropy" minutes=5           the student writes here: ### BEGIN SOLUTION ... ### END SOLUTION
    # %% check="entropy"                        visible, ungraded, friendly
    # %% test="entropy" points=2                graded: ### BEGIN HIDDEN TESTS ... ### END HIDDEN TESTS
    # %% quiz="inputs" points=1                 the prose before it asks, `- **A** ...`; its solution is `answer = "B"`
    # %% [markdown] essay="components" points=3 graded by hand; model answer and rubric are its solution region
    # %%                                        any other code

It opens in every editor that knows percent scripts. Code is plain Python, without IPython's magics.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOLUTION = "SOLUTION"
HIDDEN_TESTS = "HIDDEN TESTS"

# What a header's words may be, and the number that comes with them.
NUMBER_OF = {"exercise": "minutes", "check": "", "test": "points", "quiz": "points", "essay": "points"}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_HEADER = re.compile(r"# %%(.*)")


@dataclass(frozen=True)
class Cell:
    """One cell of a script.

    Attributes:
        number: its place in the script, from 1.
        kind: markdown, code, parameters, or a key of `NUMBER_OF`.
        name: of the exercise, quiz or essay that it belongs to; "" for prose and plain code.
        source: what it holds; prose without the leading `#`.
        value: points or minutes, as `NUMBER_OF` says, None where the header gives none.

    >>> Cell(7, "test", "entropy", "assert True", value=2).grade_id
    'test_entropy'
    """

    number: int
    kind: str
    name: str
    source: str
    value: int | None = None

    @property
    def is_markdown(self) -> bool:
        return self.kind in ("markdown", "essay")

    @property
    def grade_id(self) -> str:
        """Its name in the notebook, which is nbgrader's name for it too; "" for prose and plain code."""
        return f"{self.kind}_{self.name}" if self.kind in ("check", "test") else self.name


@dataclass(frozen=True)
class Script:
    """One notebook as it is written: the cells, and the files beside it that students get."""

    path: Path
    cells: tuple[Cell, ...]
    release_files: tuple[str, ...]


def where(path: Path, number: int, name: str) -> str:
    """How every message names a place.

    >>> where(Path("solutions/03_general_loss/03_general_loss.py"), 7, "reverse_kl")
    'solutions/03_general_loss/03_general_loss.py, cell 7 (reverse_kl)'
    """
    return f"{path.as_posix()}, cell {number} ({name})" if name else f"{path.as_posix()}, cell {number}"


def parse_script(text: str, path: Path) -> Script:
    """The script that `text` holds; `path` is what messages name.

    Raises:
        ValueError: a header or a line of prose that says nothing known, named by file, cell and reason.

    >>> text = '# %% [markdown]\\n# Hello\\n\\n# %% exercise="entropy" minutes=5\\nx = 1\\n'
    >>> [(cell.kind, cell.name, cell.source, cell.value) for cell in parse_script(text, Path("a.py")).cells]
    [('markdown', '', 'Hello', None), ('exercise', 'entropy', 'x = 1', 5)]
    """
    head: list[str] = []
    blocks: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        header = _HEADER.fullmatch(line)
        if header:
            blocks.append((header[1], []))
        else:
            (blocks[-1][1] if blocks else head).append(line)
    cells = (_cell(words, lines, number, path) for number, (words, lines) in enumerate(blocks, start=1))
    return Script(path, tuple(cells), _release_files("\n".join(head), path))


def regions(source: str, kind: str) -> list[list[str]]:
    """The lines between `### BEGIN kind` and `### END kind`, region by region, as nbgrader finds them.

    Raises:
        ValueError: a region that opens inside another, never ends, or ends without having begun.

    >>> regions("a = 0\\n### BEGIN SOLUTION\\na = 1\\n### END SOLUTION", SOLUTION)
    [['a = 1']]
    """
    found: list[list[str]] = []
    inside = False
    for line in source.splitlines():
        begins, ends = f"BEGIN {kind}" in line, f"END {kind}" in line
        if (begins and inside) or (ends and not inside):
            raise ValueError(f"'{line.strip()}' stands {'inside' if inside else 'outside'} a region")
        if begins:
            found.append([])
        elif inside and not ends:
            found[-1].append(line)
        inside = begins or (inside and not ends)
    if inside:
        raise ValueError(f"'### BEGIN {kind}' has no '### END {kind}'")
    return found


def without_regions(source: str, kind: str) -> str:
    """`source` less its regions of this kind and their markers: what nbgrader leaves of a test.

    >>> without_regions("a = 0\\n### BEGIN HIDDEN TESTS\\nassert a\\n### END HIDDEN TESTS", HIDDEN_TESTS)
    'a = 0'
    """
    return re.sub(rf"(?ms)^[^\n]*BEGIN {kind}.*?END {kind}[^\n]*\n?", "", source).rstrip("\n")


def _cell(words: str, lines: list[str], number: int, path: Path) -> Cell:
    try:
        kind, name, value = _header(words)
        is_markdown = kind in ("markdown", "essay")
        source = "\n".join(_prose(lines) if is_markdown else lines).strip("\n")
    except ValueError as error:
        raise ValueError(f"{where(path, number, '')}: {error}") from None
    return Cell(number, kind, name, source, value)


def _header(text: str) -> tuple[str, str, int | None]:
    """Kind, name and number of `# %% text`."""
    words = shlex.split(text)
    is_markdown = "[markdown]" in words
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    rest = [word for word in words if "=" not in word and word != "[markdown]"]
    if rest == ["parameters"] and not pairs and not is_markdown:
        return "parameters", "", None
    kinds = [kind for kind in NUMBER_OF if kind in pairs]
    if rest or len(kinds) > 1 or (pairs and not kinds):
        raise ValueError(
            f"the header '# %%{text}' is none of [markdown], parameters, {', '.join(f'{kind}=' for kind in NUMBER_OF)}"
        )
    if not kinds:
        return "markdown" if is_markdown else "code", "", None
    (kind,) = kinds
    if is_markdown != (kind == "essay"):
        raise ValueError(f"{kind} {'needs' if kind == 'essay' else 'goes without'} [markdown]")
    if not _NAME.fullmatch(pairs[kind]):
        raise ValueError(f"the name {pairs[kind]!r} is not of small letters, digits and _, from a letter on")
    return kind, pairs.pop(kind), _value(kind, pairs)


def _value(kind: str, pairs: dict[str, str]) -> int | None:
    wanted = NUMBER_OF[kind]
    unknown = sorted(set(pairs) - {wanted})
    if unknown:
        raise ValueError(f"{kind} takes {wanted or 'no number'}, not {', '.join(unknown)}")
    if wanted not in pairs:
        return None
    if not pairs[wanted].isdecimal():
        raise ValueError(f"{wanted} is {pairs[wanted]!r}, not a whole number")
    return int(pairs[wanted])


def _prose(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if line.strip() and not line.startswith("#"):
            raise ValueError(f"a line of prose does not start with '#': {line.strip()!r}")
        yield line.removeprefix("#").removeprefix(" ").rstrip()


def _release_files(head: str, path: Path) -> tuple[str, ...]:
    """What stands before the first cell: nothing but comments and `release_files = [...]`."""
    try:
        files: object = []
        for statement in ast.parse(head).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="release_files")]):
                    files = ast.literal_eval(statement.value)
                case _:
                    raise ValueError(ast.unparse(statement))
        if not isinstance(files, list) or not all(
            isinstance(name, str) and Path(name).name == name for name in files
        ):
            raise ValueError(f"release_files = {files!r}")
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"{path.as_posix()}: before the first cell stands {error}, expected comments and "
            'release_files = ["NAME", ...], names of files beside the script'
        ) from None
    return tuple(files)
