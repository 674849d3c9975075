"""`python -m tests.bench [NAME ...]`: run all benchmarks, or those named, and write results/NAME.json."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kdlab.files import write_json
from tests.bench import export, import_time, step_cost

BENCHMARKS: dict[str, Callable[[], dict[str, Any]]] = {
    "import_time": import_time.measure,
    "step_cost": step_cost.measure,
}
RESULTS = Path(__file__).resolve().parents[2] / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all), export"
    )
    export.add_arguments(parser)
    chosen = parser.parse_args()
    benchmarks = {**BENCHMARKS, "export": partial(export.measure_chosen, chosen)}
    names = chosen.names or list(BENCHMARKS)  # the export's needs models
    if unknown := set(names) - set(benchmarks):
        parser.error(f"NAME: got {', '.join(sorted(unknown))}, expected some of {', '.join(benchmarks)}")
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )
    for name in names:
        figures = benchmarks[name]()
        about = {
            "command": f"python -m tests.bench {name}",
            "device": device,
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        write_json(RESULTS / f"{name}.json", {**figures, **about})
        print(name, figures)


if __name__ == "__main__":
    main()
