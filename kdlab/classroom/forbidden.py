"""`forbidden`: while an exercise is tested, kdlab's own answer to it raises "write this one yourself"."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import CodeType, FunctionType, ModuleType
from typing import Any

REMINDER = "write this one yourself"


@contextmanager
def forbidden(*names: str) -> Iterator[None]:
    """Make functions of kdlab raise AssertionError while the block runs, under every name they have.

    What is exchanged is the function's code, not a name: an alias in the notebook, a partial, a list that holds it
    and every module that imported it are reached at once. It is a reminder and no lock: who copied the
    function's source or its code object still has it.

    Args:
        names: full names, such as "kdlab.losses.forward_kl" or "kdlab.forward_kl"; a class raises when it is made, and
            a module, "kdlab.losses", stands for all public functions and classes that are written in it.

    Raises:
        ValueError: a name that does not exist, or that is no Python function, class or module.
        AssertionError: inside the block, from a call of one of them.

    >>> import torch
    >>> from kdlab.distributions import entropy as mine
    >>> with forbidden("kdlab.distributions.entropy"):
    ...     mine(torch.zeros(2))
    Traceback (most recent call last):
    AssertionError: write this one yourself: kdlab.distributions.entropy
    >>> mine(torch.zeros(2))
    tensor(0.6931)
    """
    with ExitStack() as restore:
        for name in names:
            for full, thing in _things(name):
                restore.callback(_forbid(full, thing))
        yield


def full_name(function: Callable[..., Any]) -> str | None:
    """The name under which `forbidden` finds a function of kdlab; None for any other function.

    >>> from kdlab import forward_kl
    >>> full_name(forward_kl), full_name(lambda logits: forward_kl(logits, logits)), full_name(len)
    ('kdlab.losses.forward_kl', None, None)
    """
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    return name if name.startswith("kdlab.") and "<" not in name else None


def _things(name: str) -> list[tuple[str, Any]]:
    """What a name stands for, each thing with its own full name."""
    thing = _find(name)
    if not isinstance(thing, ModuleType):
        return [(name, thing)]
    return [
        (f"{name}.{own}", value)
        for own, value in vars(thing).items()
        if isinstance(value, FunctionType | type) and value.__module__ == name and not own.startswith("_")
    ]


def _find(name: str) -> Any:
    """The thing that a full name stands for; modules are imported as far as the name goes."""
    first, *rest = name.split(".")
    thing: Any = import_module(first)
    path = first
    for part in rest:
        path += f".{part}"
        try:
            thing = getattr(thing, part)
        except AttributeError:
            try:
                thing = import_module(path)
            except ModuleNotFoundError:
                raise ValueError(f"names: got {name!r}, expected something that exists") from None
    return thing


def _forbid(name: str, thing: Any) -> Callable[[], None]:
    """Make it raise; returns what brings it back."""
    if isinstance(thing, type):
        return _forbid_class(name, thing)
    if not isinstance(thing, FunctionType):
        raise ValueError(
            f"names: got {name!r}, a {type(thing).__name__}, expected a Python function, a class or a module"
        )
    code = thing.__code__
    # A decorated function carries variables of its decorator; code that does not name as many is refused.
    thing.__code__ = _raising(name).replace(co_freevars=code.co_freevars)
    return lambda: setattr(thing, "__code__", code)


def _forbid_class(name: str, kind: type) -> Callable[[], None]:
    """Through an `__init__` of its own, so that the classes it inherits from still work."""
    own = vars(kind).get("__init__")
    kind.__init__ = FunctionType(_raising(name), {})  # type: ignore[misc]
    if own is None:
        return lambda: delattr(kind, "__init__")
    return lambda: setattr(kind, "__init__", own)


def _raising(name: str) -> CodeType:
    """The code of a function that takes anything and raises. The message is a constant: it needs no globals."""
    names: dict[str, Any] = {}
    exec(f"def raising(*_, **__): raise AssertionError({f'{REMINDER}: {name}'!r})", names)
    code: CodeType = names["raising"].__code__
    return code
