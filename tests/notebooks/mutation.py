"""Small slips in an answer: each mutant is an exercise's cell with one place of its solution changed.

Arithmetic, comparisons, constants (so axes too), keywords, slices, conditions turned round, statements and calls
dropped, arguments and operands exchanged, one parameter of the function read for another.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator

from kdlab.classroom.script import SOLUTION

OTHER: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.Pow: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,), ast.Mod: (ast.FloorDiv,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,), ast.Or: (ast.And,),
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
}  # fmt: skip

LONG = 120

Change = Callable[[], None]


def mutants(source: str) -> dict[str, str]:
    """What was changed, "`old` -> `new`" -> the cell with that change. Only the solution region is changed.

    >>> cell = "def double(x):\\n    ### BEGIN SOLUTION\\n    return 2 * x\\n    ### END SOLUTION"
    >>> [told.split(" -> ")[1] for told in mutants(cell)]
    ['`pass`', '`return 2 / x`', '`return 0 * x`', '`return 3 * x`']
    """
    lines = source.splitlines()
    first, last = (
        next(i for i, line in enumerate(lines, 1) if f"{mark} {SOLUTION}" in line)
        for mark in ("BEGIN", "END")
    )
    original = ast.unparse(ast.parse(source))
    found: dict[str, str] = {}
    for number in range(len(_changes(ast.parse(source), first, last))):
        tree = ast.parse(source)
        _changes(tree, first, last)[number]()
        changed = ast.unparse(ast.fix_missing_locations(tree))
        if changed != original and changed not in found.values():
            found[_told(original, changed, found)] = changed
    return found


def _told(original: str, changed: str, taken: dict[str, str]) -> str:
    """The line that was changed, before and after; of a long one only what is around the place."""
    pairs = zip(original.splitlines(), changed.splitlines(), strict=False)
    old, new = next((a.strip(), b.strip()) for a, b in pairs if a != b)
    if len(old) > LONG:
        start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(new))
        start = max(0, start - LONG // 4)
        old, new = (f"... {line[start : start + LONG // 2]} ..." for line in (old, new))
    told = f"`{old}` -> `{new}`"
    while told in taken:  # the same slip in two equal lines
        told += ", again"
    return told


def _changes(tree: ast.Module, first: int, last: int) -> list[Change]:
    """Each changes the tree in one place; all of them stand in the lines of the solution."""
    parameters: dict[int, list[str]] = {}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            names = [one.arg for one in (*function.args.args, *function.args.kwonlyargs)]
            parameters |= {id(node): names for node in ast.walk(function)}
    return [
        change
        for node in ast.walk(tree)
        for change in (*_of_blocks(node, first, last), *_of_fields(node, parameters, first, last))
    ]


def _of_blocks(node: ast.AST, first: int, last: int) -> Iterator[Change]:
    """A statement dropped; one with a block in it replaced by its block."""
    for name in ("body", "orelse"):
        block = getattr(node, name, None)
        if not isinstance(block, list):
            continue
        for i, statement in enumerate(block):
            if first < statement.lineno < last and not isinstance(statement, ast.Pass):
                yield lambda block=block, i=i: block.__setitem__(i, ast.Pass())
                if isinstance(statement, ast.If | ast.For | ast.While | ast.With):
                    yield lambda block=block, i=i, inner=statement.body: block.__setitem__(
                        slice(i, i + 1), inner
                    )


def _of_fields(node: ast.AST, parameters: dict[int, list[str]], first: int, last: int) -> Iterator[Change]:
    """Every expression below the node, replaced by each of its slips."""
    for name, value in ast.iter_fields(node):
        for i, one in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(one, ast.expr) or not first < one.lineno < last:
                continue
            for slip in _slips(one, parameters.get(id(one), [])):
                if isinstance(value, list):
                    yield lambda value=value, i=i, slip=slip: value.__setitem__(i, slip)
                else:
                    yield lambda node=node, name=name, slip=slip: setattr(node, name, slip)
    conditions = [node.test] if isinstance(node, ast.If | ast.While | ast.IfExp) else getattr(node, "ifs", [])
    for i, test in enumerate(conditions):
        if first < test.lineno < last and not isinstance(test, ast.Compare):
            negated = ast.UnaryOp(ast.Not(), test)
            if isinstance(node, ast.comprehension):
                yield lambda node=node, i=i, negated=negated: node.ifs.__setitem__(i, negated)
            else:
                yield lambda node=node, negated=negated: setattr(node, "test", negated)


def _slips(one: ast.expr, parameters: list[str]) -> Iterator[ast.expr]:
    """What may stand there by mistake in place of an expression."""

    def but(**changes: object) -> ast.expr:
        slip = copy.copy(one)
        vars(slip).update(changes)
        return slip

    match one:
        case ast.BinOp(left=left, op=op, right=right):
            yield from (but(op=other()) for other in OTHER.get(type(op), ()))
            if isinstance(op, ast.Sub | ast.Div | ast.Pow | ast.MatMult):
                yield but(left=right, right=left)
        case ast.BoolOp(op=op):
            yield but(op=OTHER[type(op)][0]())
        case ast.Compare(ops=[op]):
            yield from (but(ops=[other()]) for other in OTHER[type(op)])
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield but(value=not value)
        case ast.Constant(value=int() | float() as value):
            yield from (but(value=other) for other in (0 * value, value + 1) if other != value)
        case ast.Constant(value=str() as value):
            yield but(value=value + "x" if value else "x")
        case ast.Name(id=name, ctx=ast.Load()) if name in parameters:
            other = parameters[(parameters.index(name) + 1) % len(parameters)]
            yield but(id=other)
        case ast.Subscript(slice=ast.Slice(lower=lower, upper=upper)):
            yield but(slice=ast.Slice(lower=upper, upper=lower))
            yield one.value
        case ast.Set(elts=elements) | ast.List(elts=elements, ctx=ast.Load()):
            yield from (but(elts=elements[:i] + elements[i + 1 :]) for i in range(len(elements)))
        case ast.Call(func=func, args=args, keywords=keywords):
            if isinstance(func, ast.Attribute) and not _is_module(func.value):
                yield func.value  # the call is dropped: x.f() -> x
            elif len(args) == 1 and not keywords:
                yield args[0]  # f(x) -> x
            for i in range(len(args) - 1):
                yield but(args=[*args[:i], args[i + 1], args[i], *args[i + 2 :]])
            for i in range(len(keywords)):
                yield but(keywords=keywords[:i] + keywords[i + 1 :])


def _is_module(value: ast.expr) -> bool:
    """`torch.exp(x)` -> `torch` is no slip that anyone makes."""
    return isinstance(value, ast.Name) and value.id in (
        "torch",
        "kdlab",
        "distributions",
        "functional",
        "F",
        "math",
    )
