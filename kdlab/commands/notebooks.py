"""`kdlab notebooks`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_NOTEBOOKS = """\
A notebook is written once, as solutions/NAME/NAME.py. From it are made solutions/NAME/NAME.ipynb (answers and all
tests, what nbgrader calls source) and course/NAME/ (what students get). All are committed; edit the script only.

  kdlab notebooks build                make them all again
  kdlab notebooks build 00_welcome     make this one again
  kdlab notebooks check                are they what the scripts make? says which cell is not, and ends with status 1
  kdlab notebooks run --profile ci     run the solutions from top to bottom, and make pages of them to browse

How the cells of a script are marked stands in kdlab/classroom/script.py, what they must keep to in rules.py beside
it. Run these commands in the root of the repository; they need the extra `course`.
"""
_BUILD = """\
Makes notebooks from their scripts. A script that breaks a rule is refused, with the cell and the reason, and its
notebooks stay as they are.
"""
_CHECK = """\
Makes the notebooks once more, in a temporary folder, and compares them byte for byte with those that are here. The
status is 1 if one differs.
"""
_RUN = """\
Runs the solution notebooks with papermill and writes the executed ones to DIR/NAME/NAME.ipynb, and pages of them, with
their figures, seconds, memory and score, to DIR/index.html. They need no network. A notebook that stops at an error
does not keep the others from running; the status is then 1. So is it where one has less than full marks.
"""


def add_parser(commands: Any) -> None:
    """What `kdlab notebooks` takes."""
    command = commands.add_parser(
        "notebooks",
        help="make the course's notebooks from their scripts, check them, run them",
        description=_NOTEBOOKS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = command.add_subparsers(dest="action", required=True, metavar="build|check|run")
    _add_action(actions, "build", "make the notebooks from their scripts", _BUILD, _build)
    _add_action(actions, "check", "compare them with what their scripts make", _CHECK, _check)
    add = _add_action(actions, "run", "run the solutions", _RUN, _run).add_argument
    add(
        "--profile",
        choices=["ci", "cpu", "gpu", "auto"],
        default="auto",
        help="ci: under a minute each on two cores; cpu, gpu: the full thing; auto: gpu where there is one, else ci "
        "(default: auto)",
    )
    add(
        "--out",
        default="build/course",
        metavar="DIR",
        help="where the executed notebooks and their pages go (default: build/course)",
    )


def _add_action(
    actions: Any, name: str, words: str, description: str, action: Callable[..., int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=words, description=description)
    parser.set_defaults(run=run, act=action)
    parser.add_argument("name", nargs="*", metavar="NAME", help="such as 00_welcome (default: all)")
    return parser


def run(chosen: argparse.Namespace) -> int:
    """kdlab notebooks."""
    from kdlab.classroom.notebooks import find_scripts

    missing = [
        name for name in ("latex2mathml", "nbformat", "nbgrader", "papermill") if find_spec(name) is None
    ]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} not installed, expected the extra `course`: pip install 'kdlab[course]'"
        )
    root = Path.cwd()
    status: int = chosen.act(chosen, root, find_scripts(root, chosen.name))
    return status


def _build(chosen: argparse.Namespace, root: Path, scripts: list[Path]) -> int:
    from kdlab.classroom.notebooks import build

    for script in scripts:
        build(root, script)
        print(f"{script.stem}: made")
    return 0


def _check(chosen: argparse.Namespace, root: Path, scripts: list[Path]) -> int:
    from kdlab.classroom.notebooks import differences, orphans

    found = [line for script in scripts for line in differences(root, script)]
    if not chosen.name:
        found += orphans(root)
    if found:
        print(*found, "To make them again: make notebooks", sep="\n")
        return 1
    print(f"{len(scripts)} notebooks are what their scripts make")
    return 0


def _run(chosen: argparse.Namespace, root: Path, scripts: list[Path]) -> int:
    from kdlab.classroom.notebooks import find_scripts, read_script
    from kdlab.classroom.pages import write_pages
    from kdlab.classroom.profile import choose_profile
    from kdlab.classroom.run import run_solution

    out = Path(chosen.out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: {out} is a file, expected a folder, or a name that is not taken")
    for script in scripts:
        read_script(root, script)  # a rule that one of them breaks is told before the first is run
    profile = choose_profile(chosen.profile)
    _prepare(scripts)
    all_is_well = True
    for number, script in enumerate(scripts, start=1):
        print(f"{number}/{len(scripts)} {script.stem}", flush=True)
        run = run_solution(root, script, out, profile)
        print(f"  {run.told}", flush=True)
        all_is_well &= run.error is None and run.earned == run.points
    index = write_pages(out, [script.stem for script in find_scripts(root)])
    print(f"Open {index}")
    return 0 if all_is_well else 1


def _prepare(scripts: list[Path]) -> None:
    """The teacher of the course is trained once; that belongs to no notebook's time."""
    if any("phrasebook_teacher(" in script.read_text(encoding="utf-8") for script in scripts):
        from kdlab.commands.shared import quiet
        from kdlab.phrasebook_teacher import phrasebook_teacher

        quiet()
        phrasebook_teacher(may_train=True)
