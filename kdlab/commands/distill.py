"""`kdlab distill`."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdlab.commands.shared import positive, quiet, seed

REPORT = "report.json"
RUN = "run.json"
CLOCK = "seconds.json"

_DISTILL = """\
Trains a large teacher (or takes yours), a small student from it, and the same student alone with equal compute.
Measures all three and writes DIR/report.json and DIR/report.html. Models lie in DIR/baseline and DIR/distilled,
ready for from_pretrained.

  kdlab distill                                    the phrasebook, a grammar whose true probabilities are known
  kdlab distill --data FOLDER                      train.en.gz, train.de.gz, val..., test...; unlabelled.en.gz is
                                                   more of D': inputs without references
  kdlab distill --data hub:bentrevett/multi30k     a data set from the Hugging Face hub
  kdlab distill --teacher hub:Helsinki-NLP/opus-mt-en-de --data FOLDER
"""


def add_parser(commands: Any) -> None:
    """What `kdlab distill` takes."""
    command = commands.add_parser(
        "distill",
        help="train a teacher, distil a student from it, compare",
        description=_DISTILL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    add = command.add_argument
    add(
        "--data",
        default="phrasebook",
        help="phrasebook, a FOLDER of parallel text, a .tsv file or hub:NAME (default: phrasebook)",
    )
    add("--pair", default="en-de", help="source and target language (default: en-de)")
    add(
        "--teacher",
        metavar="MODEL",
        help="a model folder or hub:NAME; default: train one, and keep it in the cache",
    )
    add(
        "--profile",
        choices=["ci", "cpu", "gpu", "auto"],
        default="auto",
        help="how large and how long: ci takes minutes, auto is gpu where there is one, else cpu (default: auto)",
    )
    add(
        "--level",
        choices=["word", "sequence", "both"],
        help="word: the teacher's distribution at every token of the references; sequence: the teacher's translations "
        "as targets; both: its distribution along its translations (default: the profile's)",
    )
    add(
        "--pairs",
        type=positive,
        metavar="N",
        help="use only the first N pairs of every set, for a quick run",
    )
    add("--updates", type=positive, metavar="N", help="updates of every student (default: the profile's)")
    add(
        "--seed",
        type=seed,
        default=0,
        help="of the students: weights, order of batches, dropout (default: 0)",
    )
    add(
        "--out",
        default="build/distill",
        metavar="DIR",
        help="where models and report go (default: build/distill)",
    )
    add("--resume", action="store_true", help="go on with the run that was stopped in DIR")


def run(chosen: argparse.Namespace) -> int:
    """kdlab distill."""
    quiet()
    from kdlab.allocator import keep_memory
    from kdlab.experiment import Experiment, Settings
    from kdlab.files import read_json, write_json, write_text
    from kdlab.report import html_page, text_table

    keep_memory()
    names = Settings.__dataclass_fields__
    settings = Settings(**{name: getattr(chosen, name) for name in names})
    folder = Path(chosen.out)
    _claim(folder, asdict(settings), resume=chosen.resume)
    start, before = time.perf_counter(), (read_json(folder / CLOCK) or {"seconds": 0.0})["seconds"]
    try:
        report = Experiment(settings, folder).run()
    except KeyboardInterrupt:
        print(f"\nStopped. To go on: {_command(chosen)} --resume", file=sys.stderr)
        return 130
    finally:
        spent = before + time.perf_counter() - start
        write_json(folder / CLOCK, {"seconds": spent})
    report["command"], report["versions"] = _command(chosen), _versions()
    report["wall_seconds"] = round(spent, 1)  # of all the sessions that were not killed
    write_text(folder / "report.html", html_page(report))
    write_json(folder / REPORT, report)
    print(f"\n{text_table(report)}\n\n{folder / 'report.html'}")
    return 0


def _claim(folder: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """Make the folder ours: a finished run in it is replaced, an unfinished one only goes on with --resume."""
    from kdlab.files import read_json, write_json

    before = read_json(folder / RUN)
    if resume:
        if before is None:
            raise ValueError(
                f"--resume: got {folder}, which holds no run, expected the --out of the one to go on with"
            )
        changed = {
            name: (before.get(name), value) for name, value in settings.items() if before.get(name) != value
        }
        if changed:
            told = ", ".join(f"{name} {old!r} is now {new!r}" for name, (old, new) in changed.items())
            raise ValueError(
                f"--resume: {told}; expected the settings that the run in {folder} was started with"
            )
        return
    if before is None and folder.exists() and any(folder.iterdir()):
        raise ValueError(f"--out: got {folder}, which holds other things, expected a new or an empty folder")
    if before is not None:
        if not (folder / REPORT).exists():
            raise ValueError(
                f"--out: {folder} holds a run that was stopped; expected --resume to go on with it, another folder, or "
                "that you remove it"
            )
        shutil.rmtree(folder)
    write_json(folder / RUN, settings)


def _command(chosen: argparse.Namespace) -> str:
    """The command that was given, with its options spelled out, but for --resume."""
    parts = ["kdlab", "distill"]
    for name in ("data", "pair", "teacher", "profile", "level", "pairs", "updates", "seed", "out"):
        value = getattr(chosen, name)
        if value is not None:
            parts += [f"--{name}", str(value)]
    return shlex.join(parts)


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    from kdlab import __version__

    packages = ("torch", "transformers", "tokenizers", "sacrebleu")
    installed = {name: version(name) for name in packages}
    return {"python": platform.python_version(), "kdlab": __version__, **installed}
