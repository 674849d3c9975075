"""Levels and divergences side by side on a folder of parallel text, with equal compute, on the same sources.

python -m tests.bench.levels --data FOLDER [--updates 3000] [--seed 0] [--only NAME ...]

Every setting is a run of its own in OUT, of `kdlab distill` with the flags that stand below, but without D'. The
student alone is trained with the first one and serves them all. What is finished is kept: a run that was stopped goes
on, and several processes may share the work by --only. Whatever is there then goes into results/levels.json.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdlab.allocator import keep_memory
from kdlab.commands.distill import versions
from kdlab.commands.shared import quiet
from kdlab.experiment import Experiment
from kdlab.files import read_json, write_json
from kdlab.settings import Settings
from tests.bench.collect import collect

DIVERGENCES = {
    "forward KL": {"divergence": "forward_kl"},
    "reverse KL": {"divergence": "reverse_kl"},
    "JSD": {"divergence": "generalized_jsd", "beta": 0.5},
    "total variation": {"divergence": "total_variation"},
}
FIRST = "sequence"
SETTINGS: dict[str, dict[str, Any]] = {FIRST: {"level": "sequence"}}
for _level in ("both", "word"):
    SETTINGS |= {f"{_level}, {name}": {"level": _level, **given} for name, given in DIVERGENCES.items()}
SETTINGS |= {
    "on-policy, JSD": {"level": "both", "lmbda": 0.5, **DIVERGENCES["JSD"]},
    "sequence, layers copied": {
        "level": "sequence",
        "init": "copied",
    },  # wider: its student alone is another one
}
RESULTS = Path(__file__).resolve().parents[2] / "results" / "levels.json"


def run(name: str, chosen: argparse.Namespace) -> None:
    """One setting; a finished one is left as it is."""
    folder = folder_of(name, chosen)
    if read_json(folder / "report.json") is not None:
        return
    settings = Settings(data=chosen.data, seed=chosen.seed, updates=chosen.updates, **SETTINGS[name])
    experiment = Experiment(settings, folder)
    experiment.task.corpus = replace(experiment.task.corpus, unlabelled=[])
    if name != FIRST and "init" not in SETTINGS[name]:
        alone = Path(chosen.out) / FIRST / "baseline"
        if read_json(alone / "training.json") is None:
            raise SystemExit(
                f"{alone}: the student alone is not trained yet, expected {FIRST!r} to run first"
            )
        shutil.copytree(alone, folder / "baseline", dirs_exist_ok=True)
    report = experiment.run()
    report |= {"command": "", "versions": versions(), "wall_seconds": None}
    write_json(folder / "report.json", report)


def folder_of(name: str, chosen: argparse.Namespace) -> Path:
    """Where a setting's run lies."""
    return Path(chosen.out) / name.replace(", ", "-").replace(" ", "_")


def summary(reports: dict[str, dict[str, Any]], chosen: argparse.Namespace) -> dict[str, Any]:
    """The figures of all settings that are there; no text."""
    collected = {name: collect([report]) for name, report in reports.items()}
    first = collected[FIRST]
    return {
        "teacher": first["systems"]["teacher"],
        "settings": {
            name: {
                "flags": SETTINGS[name],
                "alone": found["systems"]["baseline"],
                **found["systems"]["distilled"],
                "gap_closed": found["gap_closed"]["distilled"],
            }
            for name, found in collected.items()
        },
        "updates": chosen.updates,
        "seed": chosen.seed,
        **{name: first[name] for name in ("data", "profile", "machine")},
        "command": f"python -m tests.bench.levels --data FOLDER --updates {chosen.updates} --seed {chosen.seed}",
        "versions": versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.levels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="build/levels", metavar="DIR")
    parser.add_argument("--only", nargs="*", choices=list(SETTINGS), default=list(SETTINGS), metavar="NAME")
    chosen = parser.parse_args()
    quiet()
    keep_memory()
    for name in chosen.only:
        run(name, chosen)
    finished = {name: read_json(folder_of(name, chosen) / "report.json") for name in SETTINGS}
    reports = {name: report for name, report in finished.items() if report is not None}
    write_json(RESULTS, summary(reports, chosen))
    print(RESULTS)


if __name__ == "__main__":
    main()
