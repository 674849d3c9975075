"""Writing files so that a kill leaves the old one or the new one, never half of either; the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` has written there, or None where nothing is."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = process_part(path)
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def process_part(path: Path) -> Path:
    """Where this process writes what is to become `path`: beside it, so that the last step is a rename."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def cache_folder() -> Path:
    """Where teachers and their translations are kept: $KDLAB_CACHE, or ~/.cache/kdlab."""
    return Path(
        os.environ.get("KDLAB_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "kdlab"
    ).expanduser()


def fingerprint(content: Any) -> str:
    """A short name for anything that JSON can hold: the same content, the same name, on any machine.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def fingerprint_of_weights(model: nn.Module) -> str:
    """A short name for a model's parameters and buffers, whatever folder they came from."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
