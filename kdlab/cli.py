"""`kdlab distill`, `kdlab translate` and `kdlab export`."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
    except (ValueError, FileNotFoundError) as error:
        print(f"kdlab {chosen.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def distill(chosen: argparse.Namespace) -> int:
    """kdlab distill."""
    _quiet()
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


def translate(chosen: argparse.Namespace) -> int:
    """kdlab translate."""
    _quiet()
    import torch

    from kdlab.experiment import load_model
    from kdlab.export import is_exported
    from kdlab.exported import OnnxModel, load_exported
    from kdlab.generation import Runtime, Search
    from kdlab.generation import translate as translate_lines
    from kdlab.text.tokenizers import load_tokenizer

    model: Runtime | PreTrainedModel
    if is_exported(Path(chosen.model)):
        model = load_exported(chosen.model)
    else:
        model = load_model(chosen.model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    beams = chosen.beams or (1 if isinstance(model, OnnxModel) else 4)
    tokenizer = load_tokenizer(chosen.model)
    lines = chosen.sentence or [line.rstrip("\n") for line in sys.stdin]
    for line in translate_lines(model, tokenizer, lines, Search(num_beams=beams), "translating"):
        print(line)
    return 0


def export(chosen: argparse.Namespace) -> int:
    """kdlab export."""
    _quiet()
    import torch

    from kdlab.experiment import load_model
    from kdlab.export import RECORD, check_out, export_model, is_exported, require_packages
    from kdlab.text.tokenizers import load_tokenizer

    require_packages(chosen.to)
    model = Path(chosen.model)
    out = Path(
        chosen.out or model.with_name(f"{model.resolve().name}-{chosen.to}{'-int8' if chosen.int8 else ''}")
    )
    check_out(out)  # before the model is read
    if is_exported(model):
        raise ValueError(
            f"--model: got {model}, which is an export, expected the model that it was made from"
        )
    record = export_model(
        load_model(chosen.model, torch.device("cpu")),
        load_tokenizer(chosen.model),
        chosen.to,
        out,
        int8=chosen.int8,
    )
    print(f"{out}: {record['bytes'] / 1e6:.2f} MB, {RECORD} says more. To try it:")
    print(shlex.join(["kdlab", "translate", "--model", str(out), "..."]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kdlab", description="Knowledge distillation of language models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "distill",
        help="train a teacher, distil a student from it, compare",
        description=_DISTILL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=distill)
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
        type=_positive,
        metavar="N",
        help="use only the first N pairs of every set, for a quick run",
    )
    add("--updates", type=_positive, metavar="N", help="updates of every student (default: the profile's)")
    add(
        "--seed",
        type=_seed,
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

    command = commands.add_parser(
        "translate",
        help="translate with a distilled model",
        description='Translates sentences:  kdlab translate --model DIR "Where is the station?"  '
        "Without any, it translates the lines of standard input.",
    )
    command.set_defaults(run=translate)
    command.add_argument(
        "--model",
        required=True,
        metavar="DIR",
        help="a model folder, such as build/distill/distilled, or one that `kdlab export` wrote",
    )
    command.add_argument(
        "--beams",
        type=_positive,
        help="width of the beam; 1 is greedy, and the only one for ONNX (default: 4; ONNX: 1)",
    )
    command.add_argument(
        "sentence", nargs="*", help="sentences; none: read standard input, a sentence a line"
    )

    command = commands.add_parser(
        "export",
        help="write a model for CTranslate2 or ONNX",
        description="Writes a trained model for another runtime, checks it against the model and keeps it only if "
        "they agree. Needs the extra `deploy`.",
    )
    command.set_defaults(run=export)
    command.add_argument(
        "--model", required=True, metavar="DIR", help="a model folder, such as build/distill/distilled"
    )
    command.add_argument(
        "--to",
        required=True,
        choices=["ctranslate2", "onnx"],
        help="ctranslate2: for a CPU, greedy and beam search; onnx: for onnxruntime, on phones and pages too, greedy",
    )
    command.add_argument(
        "--int8", action="store_true", help="8-bit weights: a quarter of the size, a little less exact"
    )
    command.add_argument(
        "--out",
        metavar="DIR",
        help="where it goes; an older export in it is replaced (default: DIR-ctranslate2 and so on, beside the model)",
    )
    return parser


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


def _quiet() -> None:
    """Leave the terminal to our own progress bars: transformers reports each file that it reads or writes."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected 1 or more")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"got {text}, expected 0 or more")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
