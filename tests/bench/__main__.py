"""`python -m tests.bench [NAME ...]`: run all benchmarks, or those named, and write results/NAME.json."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kdlab.files import write_json
from tests.bench import (
    course,
    export,
    fused_memory,
    fused_step,
    import_time,
    mutants,
    on_policy,
    step_cost,
    teacher_cache,
)

BENCHMARKS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "course": lambda options: course.measure(),
    "fused_memory": lambda options: fused_memory.measure(),
    "fused_step": lambda options: fused_step.measure(),
    "import_time": lambda options: import_time.measure(),
    "mutants": lambda options: mutants.measure(),
    "on_policy": lambda options: on_policy.measure(),
    "step_cost": lambda options: step_cost.measure(),
    "teacher_cache": lambda options: teacher_cache.measure(options.teacher, options.data),
}
RESULTS = Path(__file__).resolve().parents[2] / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all), export"
    )
    parser.add_argument("--data", metavar="FOLDER", help="teacher_cache: the parallel text of that teacher")
    export.add_arguments(parser)
    options = parser.parse_args()
    benchmarks = {**BENCHMARKS, "export": export.measure_chosen}
    names = options.names or list(BENCHMARKS)  # the export's needs models
    if unknown := set(names) - set(benchmarks):
        parser.error(f"NAME: got {', '.join(sorted(unknown))}, expected some of {', '.join(benchmarks)}")
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )
    given = " --teacher FOLDER --data FOLDER" if options.teacher else ""  # a path tells nobody else anything
    for name in names:
        figures = benchmarks[name](options)
        about = {
            "command": f"python -m tests.bench {name}{given if name == 'teacher_cache' else ''}",
            "device": device,
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        write_json(RESULTS / f"{name}.json", {**figures, **about})
        print(name, figures)


if __name__ == "__main__":
    main()
