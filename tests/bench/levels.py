"""Levels and divergences side by side on a folder of parallel text, with equal compute, on the same sources.

python -m tests.bench.levels --data FOLDER [--updates 3000] [--seeds 0] [--only NAME ...]

Every setting is a run of its own in OUT/seedN, of `kdlab distill` with the flags that stand below, but without D'. The
student alone of a seed is trained once and serves all settings with a fresh student. What is finished is kept: a run
that was stopped goes on, and several processes may share the work by --only. Whatever is there then, of all seeds,
goes into results/levels.json.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kdlab import distillation_loss
from kdlab.allocator import keep_memory
from kdlab.commands.distill import versions
from kdlab.commands.shared import quiet
from kdlab.experiment import Experiment
from kdlab.files import read_json, write_json
from kdlab.settings import Settings
from tests.bench.collect import collect

DIVERGENCES: dict[str, dict[str, Any]] = {
    "forward KL": {"divergence": "forward_kl"},
    "reverse KL": {"divergence": "reverse_kl"},
    "JSD": {"divergence": "generalized_jsd", "beta": 0.5},
    "total variation": {"divergence": "total_variation"},
}
SETTINGS: dict[str, dict[str, Any]] = {"sequence": {"level": "sequence"}}
for _level in ("both", "word"):
    SETTINGS |= {f"{_level}, {name}": {"level": _level, **given} for name, given in DIVERGENCES.items()}
SETTINGS |= {
    "on-policy, JSD": {"level": "both", "lmbda": 0.5, **DIVERGENCES["JSD"]},
    # As wide as the teacher: its student alone is another one.
    "sequence, layers copied": {"level": "sequence", "init": "copied"},
}
RESULTS = Path(__file__).resolve().parents[2] / "results" / "levels.json"


def run(name: str, seed: int, chosen: argparse.Namespace) -> None:
    """One setting of one seed; a finished one is left as it is."""
    folder = folder_of(name, seed, chosen.out)
    if read_json(folder / "report.json") is not None:
        return
    settings = Settings(data=chosen.data, seed=seed, updates=chosen.updates, **SETTINGS[name])
    experiment = Experiment(settings, folder)
    experiment.task.corpus = replace(experiment.task.corpus, unlabelled=[])
    alone = finished_alone(seed, chosen.out)
    if alone is not None and "init" not in SETTINGS[name]:
        shutil.copytree(alone, folder / "baseline", dirs_exist_ok=True)
    report = experiment.run()
    report |= {"command": "", "versions": versions(), "wall_seconds": None}
    write_json(folder / "report.json", report)


def folder_of(name: str, seed: int, out: str) -> Path:
    """Where a setting's run lies."""
    return Path(out) / f"seed{seed}" / name.replace(", ", "-").replace(" ", "_")


def finished_alone(seed: int, out: str) -> Path | None:
    """The student alone of a setting that begins with a fresh student, if one is trained already."""
    fresh = [
        folder_of(name, seed, out) / "baseline" for name, given in SETTINGS.items() if "init" not in given
    ]
    return next((folder for folder in fresh if (folder / "training.json").exists()), None)


def summary(reports: dict[str, list[dict[str, Any]]], chosen: argparse.Namespace) -> dict[str, Any]:
    """The figures of all settings that are there, over their seeds; no text."""
    collected = {name: collect(found) for name, found in reports.items()}
    first = next(iter(collected.values()))
    return {
        "teacher": first["systems"]["teacher"],
        "settings": {
            name: {
                "flags": SETTINGS[name],
                "seeds": [report["settings"]["seed"] for report in reports[name]],
                "alone": found["systems"]["baseline"],
                **found["systems"]["distilled"],
                "gap_closed": found["gap_closed"]["distilled"],
            }
            for name, found in collected.items()
        },
        "pull_on_a_new_word": pull_on_a_new_word(first["profile"]["vocabulary"]),
        "updates": chosen.updates,
        **{name: first[name] for name in ("data", "profile", "machine")},
        "command": f"python -m tests.bench.levels --data FOLDER --updates {chosen.updates}",
        "versions": versions(),
    }


def pull_on_a_new_word(vocabulary: int, probability: float = 0.97) -> dict[str, float]:
    """-dD/dz of a word to which the teacher gives `probability`, and a fresh student as much as to all the others:
    how each divergence starts. The rest of the teacher's is spread evenly."""
    teacher = torch.full((1, vocabulary), (1 - probability) / (vocabulary - 1), dtype=torch.float64)
    teacher[0, 0] = probability
    pulls = {}
    for name, given in DIVERGENCES.items():
        student = torch.zeros(1, vocabulary, dtype=torch.float64, requires_grad=True)
        distillation_loss(student, teacher.log(), **given).backward()
        assert student.grad is not None
        pulls[name] = float(f"{-student.grad[0, 0].item():.2g}")
    return pulls


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.levels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--out", default="build/levels", metavar="DIR")
    parser.add_argument("--only", nargs="*", choices=list(SETTINGS), default=list(SETTINGS), metavar="NAME")
    chosen = parser.parse_args()
    quiet()
    keep_memory()
    for seed in chosen.seeds:
        for name in chosen.only:
            run(name, seed, chosen)
    seeds = sorted(int(folder.name.removeprefix("seed")) for folder in Path(chosen.out).glob("seed*"))
    reports: dict[str, list[dict[str, Any]]] = {}
    for name in SETTINGS:
        found = [read_json(folder_of(name, seed, chosen.out) / "report.json") for seed in seeds]
        if any(found):
            reports[name] = [report for report in found if report is not None]
    write_json(RESULTS, summary(reports, chosen))
    print(RESULTS)


if __name__ == "__main__":
    main()
