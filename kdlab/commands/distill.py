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

from kdlab import processes
from kdlab.commands.shared import positive, program, quiet, seed
from kdlab.divergences import FAMILY
from kdlab.filters import FILTER_SETS
from kdlab.provenance import versions

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
  kdlab distill --architecture decoder-only        models without an encoder: the source is a prompt
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
    text = command.add_argument_group("what to learn from").add_argument
    text(
        "--data",
        default="phrasebook",
        help="phrasebook, a FOLDER of parallel text, a .tsv file or hub:NAME (default: phrasebook)",
    )
    text("--pair", default="en-de", help="source and target language (default: en-de)")
    text("--pairs", type=positive, metavar="N", help="only the first N pairs of every set, for a quick run")
    text(
        "--teacher",
        action="append",
        metavar="MODEL",
        help="a model folder or hub:NAME; default: train one, and keep it in the cache. Given more than once, "
        "for models of one vocabulary: the mean of their distributions teaches, at the levels word and both, and the "
        "first translates",
    )
    text(
        "--architecture",
        choices=["encoder-decoder", "decoder-only"],
        help="of all models. decoder-only: GPT-2's, as many layers as encoder and decoder have together, with as many "
        "weights in them; the source with its end token is the prompt, which is read but not learnt, and the target "
        "goes on from there (default: the architecture of --teacher, encoder-decoder without one)",
    )
    _add_distillation(command.add_argument_group("how to distil", "What is not said is the profile's."))
    work = command.add_argument_group("the run").add_argument
    work(
        "--profile",
        choices=["ci", "cpu", "gpu", "auto"],
        default="auto",
        help="how large and how long: ci takes minutes, auto is gpu where there is one, else cpu (default: auto)",
    )
    work("--updates", type=positive, metavar="N", help="updates of every student (default: the profile's)")
    work(
        "--seed",
        type=seed,
        default=0,
        help="of the students: weights, order of batches, dropout (default: 0)",
    )
    work(
        "--out",
        default="build/distill",
        metavar="DIR",
        help="where models and report go (default: build/distill)",
    )
    work("--resume", action="store_true", help="go on with the run that was stopped in DIR")


def _add_distillation(group: Any) -> None:
    add = group.add_argument
    add(
        "--level",
        choices=["word", "sequence", "both"],
        help="word: the teacher's distribution at every token of the references; sequence: the teacher's translations "
        "as targets; both: its distribution along its translations, on the phrasebook those of D' alone",
    )
    add(
        "--divergence",
        metavar="NAME",
        help=f"between the two distributions at a token, at the levels word and both: {', '.join(FAMILY)}",
    )
    add("--beta", type=float, metavar="B", help="of generalized_jsd: 0 is forward KL, 1 is reverse KL")
    add("--skew", type=float, metavar="A", help="of the skewed KLs: how much of the other side is mixed in")
    add("--alpha", type=float, metavar="A", help="of alpha_divergence: 1 is forward KL, 0 is reverse KL")
    add("--temperature", type=float, metavar="T", help="of both distributions; above 1 they are flatter")
    add(
        "--ce-weight",
        type=float,
        metavar="W",
        help="share in the loss, 0 to 1, of the cross-entropy on the targets themselves",
    )
    add(
        "--candidates",
        type=positive,
        metavar="N",
        help="translations of each source that the teacher makes: the best N of its beam, or N samples (default: 1)",
    )
    add(
        "--targets",
        choices=["best", "all", "nearest"],
        help="which of several candidates become targets; nearest: the one most like the reference",
    )
    add(
        "--filters",
        choices=list(FILTER_SETS),
        help="which of the teacher's translations no student learns from; default: those much longer or shorter than "
        "their source, those that repeat themselves and copies of the source; none: these are learnt from as well. An "
        "empty or an unfinished one never is. report.json counts what each rule dropped; to choose again costs the "
        "teacher nothing, its translations are kept as it made them (default: default)",
    )
    add(
        "--lmbda",
        type=float,
        metavar="L",
        help="share of the updates, 0 to 1, whose targets the student writes itself and the teacher scores (on-policy, "
        "GKD), at the levels word and both",
    )
    add(
        "--init",
        choices=["fresh", "copied", "projected"],
        help="what a distilled student starts with; copied: layers of the teacher, at the teacher's width; projected: "
        "the teacher's embeddings at the student's width. The student alone is fresh and of the same size",
    )
    add(
        "--weak-to-strong",
        action="store_true",
        help="the teacher is the smaller model: it has the profile's student size and the students the teacher's. They "
        "learn from no reference, though at level word they read them as prefixes; the student alone learns from them "
        "and is the ceiling. At the levels word and both",
    )
    add(
        "--confidence",
        type=float,
        metavar="W",
        help="of --weak-to-strong: share in the loss, 0 to 1, of the cross-entropy on the student's own most probable "
        "token, which grows from 0 as the learning rate does (default: 0.5)",
    )
    add(
        "--cache-teacher",
        nargs="?",
        const="top-k",
        choices=("top-k", "hidden"),
        help="ask the teacher once about every target before a student is trained, and keep its answers in the cache: "
        "no teacher runs beside the student. At the levels word and both. top-k, where nothing is said: its most "
        "probable entries and the mass of the rest; hidden: its last hidden states in 6 bits an entry, from which its "
        "whole distributions come back, for one more matrix product in each step",
    )


def run(chosen: argparse.Namespace) -> int:
    """kdlab distill."""
    quiet()
    from kdlab.allocator import keep_memory
    from kdlab.experiment import Experiment
    from kdlab.files import read_json, write_json, write_text
    from kdlab.report import html_page, text_table
    from kdlab.settings import Settings

    keep_memory()
    processes.connect()
    names = Settings.__dataclass_fields__
    settings = Settings(**{name: getattr(chosen, name) for name in names})
    folder = Path(chosen.out)
    _check_folder(folder, asdict(settings), resume=chosen.resume)
    start = time.perf_counter()
    # It reads the text: what is wrong with it leaves the folder as it was.
    experiment = Experiment(settings, folder)
    processes.wait_for_all()  # all have looked before the main one writes
    if not chosen.resume and processes.is_main():
        _claim(folder, asdict(settings))
    processes.wait_for_all()
    before = (read_json(folder / CLOCK) or {"seconds": 0.0})["seconds"]
    try:
        with processes.lost_process_named():
            report = experiment.run()
    except processes.LostProcessError as error:
        print(f"\n{error}. To go on, start them all again with --resume.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"\nStopped. To go on: {shlex.join([*program(), *_arguments(chosen), '--resume'])}",
            file=sys.stderr,
        )
        return 130
    finally:
        spent = before + time.perf_counter() - start
        if processes.is_main():
            write_json(folder / CLOCK, {"seconds": spent})
    processes.disconnect()
    if report is None:  # the main process tells
        return 0
    report["command"], report["versions"] = shlex.join(["kdlab", *_arguments(chosen)]), versions()
    report["wall_seconds"] = round(spent, 1)  # of all the sessions that were not killed
    write_text(folder / "report.html", html_page(report))
    write_json(folder / REPORT, report)
    print(f"\n{text_table(report)}\n\n{folder / 'report.html'}")
    return 0


def _check_folder(folder: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """Refuse a folder of others, and a run that was stopped unless it is to go on as it began."""
    from kdlab.files import read_json
    from kdlab.settings import Settings

    before = read_json(folder / RUN)
    if resume:
        if before is None:
            raise ValueError(
                f"--resume: got {folder}, which holds no run, expected the --out of the one to go on with"
            )
        # What the version that began the run did not ask for was as by default.
        began = asdict(Settings(**{name: before[name] for name in settings if name in before}))
        changed = {name: (began[name], value) for name, value in settings.items() if began[name] != value}
        if changed:
            told = ", ".join(f"{name} {old!r} is now {new!r}" for name, (old, new) in changed.items())
            raise ValueError(
                f"--resume: {told}; expected the settings that the run in {folder} was started with"
            )
    elif before is not None and not (folder / REPORT).exists():
        raise ValueError(
            f"--out: {folder} holds a run that was stopped; expected --resume to go on with it, another folder, or "
            "that you remove it"
        )
    elif before is None and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"--out: got {folder}, which holds other things, expected a new or an empty folder")


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder ours; a finished run in it is replaced."""
    from kdlab.files import write_json

    if (folder / RUN).exists():
        shutil.rmtree(folder)
    write_json(folder / RUN, settings)


def _arguments(chosen: argparse.Namespace) -> list[str]:
    """Those that were given, all options spelled out, but for --resume."""
    from kdlab.settings import Settings

    parts = ["distill"]
    for name in (*Settings.__dataclass_fields__, "out"):
        value, option = getattr(chosen, name), f"--{name.replace('_', '-')}"
        if value is True:
            parts.append(option)
        elif value is not None and value is not False:
            for one in value if isinstance(value, list) else [value]:
                parts += [option, str(one)]
    return parts
