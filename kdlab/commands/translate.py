"""`kdlab translate`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdlab.commands.shared import positive, quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_parser(commands: Any) -> None:
    """What `kdlab translate` takes."""
    command = commands.add_parser(
        "translate",
        help="translate with a distilled model",
        description='Translates sentences:  kdlab translate --model DIR "Where is the station?"  '
        "Without any, it translates the lines of standard input.",
    )
    command.set_defaults(run=run)
    command.add_argument(
        "--model",
        required=True,
        metavar="DIR",
        help="a model folder, such as build/distill/distilled, or one that `kdlab export` wrote",
    )
    command.add_argument(
        "--beams",
        type=positive,
        help="width of the beam; 1 is greedy, and the only one for ONNX (default: 4; ONNX: 1)",
    )
    command.add_argument(
        "sentence", nargs="*", help="sentences; none: read standard input, a sentence a line"
    )


def run(chosen: argparse.Namespace) -> int:
    """kdlab translate."""
    quiet()
    import torch

    from kdlab.export import is_exported
    from kdlab.exported import OnnxModel, load_exported
    from kdlab.generation import Runtime, Search
    from kdlab.generation import translate as translate_lines
    from kdlab.loading import load_model
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
