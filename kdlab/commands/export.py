"""`kdlab export`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from kdlab.commands.shared import program, quiet


def add_parser(commands: Any) -> None:
    """What `kdlab export` takes."""
    command = commands.add_parser(
        "export",
        help="write a model for CTranslate2 or ONNX",
        description="Writes a trained model for another runtime, checks it against the model and keeps it only if "
        "they agree. Needs the extra `deploy`.",
    )
    command.set_defaults(run=run)
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


def run(chosen: argparse.Namespace) -> int:
    """kdlab export."""
    quiet()
    import torch

    from kdlab.export import RECORD, check_out, export_model, is_exported, require_packages
    from kdlab.loading import load_model
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
    print(shlex.join([*program(), "translate", "--model", str(out), "..."]))
    return 0
