"""A hidden test stands on its own: it relies on nothing that a student's cell could have overwritten.

A notebook has one namespace. A student who calls a helper `each_place`, as the notebook does, changes what a test that
uses it compares with: a wrong answer may pass, a right one fail. So a hidden test reads five kinds of names only:

- those that its exercise's cell binds: the answer,
- those that it binds itself, before,
- what cells of the notebook import, and Python's builtins: the builder imports them anew at the head of the hidden
  test, so `torch = 3` and `sum = 0` do no harm,
- helpers that the exercise's check defines, `def` or `=`, from these names: the builder repeats them there.

Anything else is refused: define it in the check or in the hidden test, or import it from kdlab. What a test shows,
outside its hidden region, is a help and is free. This is against accidents and shortcuts; who patches `torch` itself
needs a sandbox.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterable, Iterator

from kdlab.classroom.script import HIDDEN_TESTS, Cell, Script, regions, without_regions

HEAD = "# Once more: a cell above may have given these names another value."
_SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Assert, ast.Expr, ast.Delete)


def free_names(code: str) -> set[str]:
    """Names that a piece of code reads and has not bound itself, before; in functions too.

    >>> sorted(free_names("import torch\\nfor x in rows:\\n    assert f(x) == torch.exp(x), [y for y in x]"))
    ['f', 'rows']
    >>> sorted(free_names("x = x + 1\\ndef f(a):\\n    return a + b\\ny += x"))
    ['b', 'x', 'y']
    """
    bound: set[str] = set()
    free: set[str] = set()
    for statement in ast.parse(code).body:
        table = symtable.symtable(ast.unparse(statement), "test", "exec")
        binds = {one.get_name() for one in table.get_symbols() if one.is_assigned() or one.is_imported()}
        known = (
            bound if isinstance(statement, _SIMPLE) else bound | binds
        )  # `for x in rows: f(x)` binds x first
        free |= set(_read(table)) - known
        if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            free |= {statement.target.id} - bound
        bound |= binds
    return free


def unsafe_names(script: Script, cell: Cell) -> list[str]:
    """Names that the hidden part of a test reads and that a student's cell could have overwritten.

    >>> from pathlib import Path
    >>> test = "### BEGIN HIDDEN TESTS\\nassert double(3) == limit\\n### END HIDDEN TESTS"
    >>> cells = Cell(1, "code", "", "limit = 6"), Cell(2, "exercise", "double", "def double(x): ...", 5)
    >>> script = Script(Path("a.py"), (*cells, Cell(3, "test", "double", test, 1)), ())
    >>> unsafe_names(script, script.cells[2])
    ['limit']
    """
    answer = {
        name
        for one in script.cells
        if one.kind in ("exercise", "quiz") and one.name == cell.name
        for name in _bound(one.source)
    }
    read = free_names("\n".join([*_repeated(script, cell), _hidden(cell)]))
    return sorted(read - answer - _imports(script, cell).keys() - set(dir(builtins)))


def made_standalone(script: Script, cell: Cell) -> str:
    """A test's source, with what its hidden part takes from elsewhere imported and defined anew at its head.

    >>> from pathlib import Path
    >>> test = Cell(2, "test", "f", "### BEGIN HIDDEN TESTS\\nassert abs(torch.ones(1)) == f\\n### END HIDDEN TESTS", 1)
    >>> script = Script(Path("a.py"), (Cell(1, "code", "", "import torch"), test), ())
    >>> print(made_standalone(script, test))
    ### BEGIN HIDDEN TESTS
    # Once more: a cell above may have given these names another value.
    from builtins import abs
    import torch
    assert abs(torch.ones(1)) == f
    ### END HIDDEN TESTS
    """
    imports, repeated = _imports(script, cell), _repeated(script, cell)
    read = free_names("\n".join([*repeated, _hidden(cell)]))
    python = sorted(read & set(dir(builtins)) - imports.keys())
    lines = [f"from builtins import {', '.join(python)}"] if python else []
    lines += [*sorted({imports[name] for name in read & imports.keys()}), *repeated]
    if not lines:
        return cell.source
    before, marker, after = cell.source.partition(f"### BEGIN {HIDDEN_TESTS}\n")
    return "".join([before, marker, "\n".join([HEAD, *lines]), "\n", after])


def _hidden(cell: Cell) -> str:
    return "\n".join(line for region in regions(cell.source, HIDDEN_TESTS) for line in region)


def _repeated(script: Script, cell: Cell) -> list[str]:
    """The definitions of the exercise's check that a hidden test needs, and what they need, in their order."""
    needed = free_names(_hidden(cell))
    found: list[str] = []
    for check in script.cells:
        if check.kind == "check" and check.name == cell.name:
            for statement in reversed(ast.parse(check.source).body):
                text = ast.unparse(statement)
                is_definition = isinstance(
                    statement, ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
                )
                if is_definition and _bound(text) & needed:
                    needed = (needed - _bound(text)) | free_names(text)
                    found.insert(0, text)
    return found


def _read(table: symtable.SymbolTable) -> Iterator[str]:
    """What is looked up in the notebook's namespace, by the code itself and by the functions in it."""
    is_top = table.get_type() == "module"
    for one in table.get_symbols():
        if one.is_referenced() and (is_top or one.is_global()):
            yield one.get_name()
    for child in table.get_children():
        yield from _read(child)


def _bound(source: str) -> set[str]:
    table = symtable.symtable(source, "cell", "exec")
    return {one.get_name() for one in table.get_symbols() if one.is_assigned()}


def _imports(script: Script, cell: Cell) -> dict[str, str]:
    """Name -> the statement that imports it, of all that cells before this one import and no cell binds otherwise."""
    plain = [
        (one.number, without_regions(one.source, HIDDEN_TESTS))
        for one in script.cells
        if one.kind in ("code", "parameters", "check", "test")
    ]
    found: dict[str, str] = {}
    for number, source in plain:
        if number <= cell.number:
            found |= _imported(ast.parse(source).body)
    rebound = set().union(*(_bound(source) for _, source in plain))
    return {name: line for name, line in found.items() if name not in rebound}


def _imported(statements: Iterable[ast.stmt]) -> dict[str, str]:
    found = {}
    for node in statements:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                one = (
                    ast.Import([alias])
                    if isinstance(node, ast.Import)
                    else ast.ImportFrom(node.module, [alias], node.level)
                )
                found[alias.asname or alias.name.partition(".")[0]] = ast.unparse(one)
    return found
