"""Every public function and class has an example in its docstring, and pytest runs it."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers

import kdlab
from kdlab.diagnostics import CAUSES

# What another program calls, with arguments that only it makes: argparse and the shell, autograd, the Trainer.
COMMANDS = ("kdlab.cli", "kdlab.commands")
CALLED_BY_OTHERS = (torch.autograd.Function, transformers.TrainerCallback, BaseException)

# An example that says that a thing is there says nothing about it.
EMPTY = re.compile(r"\bcallable\(|\bis not None\b|\bhasattr\(")


def modules() -> Iterator[ModuleType]:
    """Every module of the package."""
    yield kdlab
    for found in pkgutil.walk_packages(kdlab.__path__, "kdlab."):
        yield importlib.import_module(found.name)


def own_methods(kind: type) -> list[str]:
    """What a class lets others call: its methods without a leading underscore, and its call."""
    return [
        name
        for name, value in vars(kind).items()
        if (name == "__call__" or not name.startswith("_"))
        and (inspect.isroutine(value) or isinstance(value, property))
    ]


def is_record(kind: type) -> bool:
    """Fields alone: a dataclass, named or typed dictionary or tuple that nothing can be called on."""
    return not own_methods(kind) and ("__init__" not in vars(kind) or hasattr(kind, "__dataclass_fields__"))


def is_protocol(kind: type) -> bool:
    """A type that others fill in: there is nothing to make one from."""
    return bool(getattr(kind, "_is_protocol", False))


def is_guard(thing: Any) -> bool:
    """It gives nothing back and only refuses: `check_...`. The tests of what is refused show these."""
    return thing.__name__.startswith(("check_", "refuse_")) and thing.__annotations__.get("return") == "None"


def is_check_of_diagnose(thing: Any) -> bool:
    """One of the checks that `diagnose` runs and shows: test_mistakes.py has a case for each."""
    return (
        thing.__name__.removeprefix("check_") in CAUSES and thing.__annotations__.get("return") == "Finding"
    )


def needs_example(thing: Any) -> bool:
    """Whether a reader would look for an example of this public function or class."""
    if thing.__module__.startswith(COMMANDS):
        return False
    if inspect.isclass(thing):
        return not (issubclass(thing, CALLED_BY_OTHERS) or is_protocol(thing) or is_record(thing))
    return not (is_guard(thing) or is_check_of_diagnose(thing))


def public(module: ModuleType) -> dict[str, Any]:
    """The public functions and classes that a module defines; of kdlab itself, those of `__all__`."""
    if module is kdlab:
        return {name: getattr(kdlab, name) for name in kdlab.__all__}
    return {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(thing) or inspect.isfunction(inspect.unwrap(thing)))
        and thing.__module__ == module.__name__
    }


def examples(thing: Any) -> list[doctest.Example]:
    """Of a function, or of a class and its methods."""
    found = doctest.DocTestFinder().find(thing, thing.__name__, globs={})
    return [example for test in found for example in test.examples]


def shows_something(thing: Any) -> bool:
    """An example that runs, and a value to compare with that says more than that the thing is there."""
    return any(
        example.want and doctest.SKIP not in example.options and not EMPTY.search(example.source)
        for example in examples(thing)
    )


@pytest.mark.parametrize("module", list(modules()), ids=lambda module: module.__name__)
def test_every_public_function_and_class_has_an_example(module: ModuleType):
    things = {name: thing for name, thing in public(module).items() if needs_example(thing)}
    missing = [name for name, thing in things.items() if not shows_something(thing)]
    assert missing == []


def test_pytest_runs_the_examples(pytestconfig: pytest.Config):
    assert pytestconfig.getoption("doctestmodules")
    assert "kdlab" in pytestconfig.getini("testpaths")


def test_what_is_left_out_is_left_out_by_its_kind():
    from kdlab import arguments, cli, diagnostic_mask, divergences, losses, shards, teachers

    left_out = [
        cli.main,
        losses.LossOptions,
        shards.Keep,
        teachers.Teacher,
        arguments.check_inputs,
        diagnostic_mask.check_mask,
    ]
    assert not any(needs_example(thing) for thing in left_out)
    wanted = [
        arguments.is_healthy,
        divergences.ForwardKL,
        teachers.LiveTeacher,
        kdlab.Distiller,
        kdlab.diagnose,
    ]
    assert all(needs_example(thing) for thing in wanted)


@pytest.mark.parametrize(
    ("docstring", "shows"),
    [
        ("Adds.", False),
        ("Adds.\n\n>>> total = add(1, 2)", False),
        ("Adds.\n\n>>> callable(add)\nTrue", False),
        ("Adds.\n\n>>> add(1, 2)  # doctest: +SKIP\n3", False),
        ("Adds.\n\n>>> add(1, 2)\n3", True),
    ],
)
def test_an_example_runs_and_shows_a_value(docstring: str, shows: bool):
    def add(a: int, b: int) -> int:
        return a + b

    add.__doc__ = docstring
    assert shows_something(add) is shows
