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
    """What `write_json` has written there, or None where nothing is.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "record.json"
    ...     before = read_json(path)
    ...     write_json(path, {"updates": 3})
    ...     before, read_json(path)
    (None, {'updates': 3})
    """
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, whole or not at all.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder) / "new" / "record.json", {"name": "spät"})  # the folder is made, too
    ...     print((Path(folder) / "new" / "record.json").read_text(encoding="utf-8"), end="")
    {
     "name": "spät"
    }
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text`, whole or not at all.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_text(Path(folder) / "a.txt", "old")
    ...     write_text(Path(folder) / "a.txt", "new")
    ...     [(path.name, path.read_text()) for path in Path(folder).iterdir()]
    [('a.txt', 'new')]
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = process_part(path)
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def process_part(path: Path) -> Path:
    """Where this process writes what is to become `path`: beside it, so that the last step is a rename.

    >>> process_part(Path("runs/report.html")).name.replace(str(os.getpid()), "PID")
    'report.html.PID.part'
    """
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def cache_folder() -> Path:
    """Where teachers and their translations are kept: $KDLAB_CACHE, or ~/.cache/kdlab.

    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, KDLAB_CACHE="here"):
    ...     cache_folder().name
    'here'
    """
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
    """A short name for a model's parameters and buffers, whatever folder they came from.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> for value in (1.0, 2.0, 1.0):
    ...     _ = nn.init.constant_(layer.weight, value)
    ...     print(fingerprint_of_weights(layer))
    e3335ed213f7ca05
    cd8fe15207af170a
    e3335ed213f7ca05
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
