"""Put the reports of `kdlab distill`, one a seed, together into one file of results: figures, and no text.

python -m tests.bench.collect results/phrasebook_cpu.json build/seed0 build/seed1 build/seed2
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kdlab.files import read_json, write_json
from kdlab.report import TITLES

PER_RUN = ("gap_closed_by", "teacher_seconds", "seconds", "wall_seconds", "settings", "command", "versions")


def collect(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each run's figures, and the mean, lowest and highest of those that vary with the seed."""
    first = reports[0]
    names = [name for name in TITLES if name in first]
    for report in reports:
        if report["data"] != first["data"] or report["profile"] != first["profile"]:
            raise ValueError(
                "reports: got runs on different data or profiles, expected those of one experiment"
            )
    return {
        "systems": {name: _summary([report[name] for report in reports]) for name in names},
        "gap_closed": {
            name: {test: _gap([report["gap_closed_by"][name][test] for report in reports]) for test in tests}
            for name, tests in first["gap_closed_by"].items()
        },
        "data": first["data"],
        "profile": first["profile"],
        "machine": _machine(),
        "runs": [
            {name: report[name] for name in (*PER_RUN, *names)}
            | {
                "command": _without_folders(report),
                "settings": report["settings"] | {"data": report["data"]["name"]},
            }
            for report in reports
        ],
    }


def _without_folders(report: dict[str, Any]) -> str:
    """The command that was given, without the folders of one machine."""
    data = report["settings"]["data"]
    command = re.sub(r" --out \S+", "", report["command"])
    return command if data == "phrasebook" or data.startswith("hub:") else command.replace(data, "FOLDER")


def _summary(systems: Sequence[dict[str, Any]]) -> dict[str, Any]:
    figures = {
        "parameters": systems[0]["parameters"],
        "bytes_on_disk": systems[0]["bytes_on_disk"],
        "signature": next(iter(systems[0]["test_sets"].values()))["signature"]["bleu"],
        "test_sets": {
            test: {
                "bleu": spread([system["test_sets"][test]["bleu"] for system in systems]),
                "chrf": spread([system["test_sets"][test]["chrf"] for system in systems]),
                "bleu_interval": systems[0]["test_sets"][test]["bleu_interval"],
            }
            for test in systems[0]["test_sets"]
        },
    }
    for name in ("kl_to_teacher", "agreement", "tokens_per_second", "train_seconds"):
        figures[name] = spread([system[name] for system in systems])
    if "kl_to_truth" in systems[0]:
        figures["kl_to_truth"] = spread([system["kl_to_truth"]["nats_a_token"] for system in systems])
    # Runs of older versions lack these.
    parts = {
        "calibration": ("error",),
        "mode_coverage": ("recall", "precision"),
        "latency_ms": ("p50", "p95"),
    }
    for name, keys in parts.items():
        if all(name in system for system in systems):
            figures[name] = {key: spread([system[name][key] for system in systems]) for key in keys}
    return figures


def _gap(gaps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return spread([gap["value"] for gap in gaps if gap["value"] is not None]) | {
        "interval": gaps[0]["interval"]
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, lowest and highest over the seeds."""
    rounded = {"mean": statistics.fmean(values), "lowest": min(values), "highest": max(values)}
    return {name: round(value, 4) for name, value in rounded.items()}


def _machine() -> str:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), {gpu}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.collect",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="the file to write, such as results/multi30k.json")
    parser.add_argument("--note", help="what a reader must know of how the runs were made")
    parser.add_argument("folders", type=Path, nargs="+", help="--out of each run of kdlab distill")
    chosen = parser.parse_args()
    reports = [read_json(folder / "report.json") for folder in chosen.folders]
    if missing := [str(f) for f, report in zip(chosen.folders, reports, strict=True) if report is None]:
        parser.error(f"folders: got {', '.join(missing)} without a report.json, expected finished runs")
    results = collect([report for report in reports if report is not None])
    write_json(chosen.results, results | ({"note": chosen.note} if chosen.note else {}))
    print(chosen.results)


if __name__ == "__main__":
    main()
