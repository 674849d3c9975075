"""What a figure was made with, for the record that it stands in."""

from __future__ import annotations

from typing import Any


def made_with(command: str) -> dict[str, Any]:
    """For the record of runs beside a notebook: the command, the machine, and the versions.

    >>> list(made_with("python runs.py"))
    ['command', 'machine', 'versions']
    """
    import platform

    import torch

    threads = torch.get_num_threads()
    machine = f"{platform.machine()}, {platform.system()}, {threads} thread{'s' if threads > 1 else ''}"
    return {"command": command, "machine": machine, "versions": versions()}


def versions() -> dict[str, str]:
    """Of Python and of the packages that the figures depend on.

    >>> list(versions())
    ['python', 'kdlab', 'torch', 'transformers', 'tokenizers', 'sacrebleu']
    """
    import platform
    from importlib.metadata import version

    from kdlab import __version__

    packages = ("torch", "transformers", "tokenizers", "sacrebleu")
    installed = {name: version(name) for name in packages}
    return {"python": platform.python_version(), "kdlab": __version__, **installed}
