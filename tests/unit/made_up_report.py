"""A report as `kdlab distill` writes it, with figures that were never measured."""

from __future__ import annotations


def system(bleu: float, loss: float) -> dict:
    return {
        "parameters": 1000,
        "bytes_on_disk": 4000,
        "bleu": bleu,
        "chrf": 50.0,
        "test_sets": {
            "test_a": {
                "bleu": bleu,
                "chrf": 50.0,
                "bleu_interval": [bleu - 1, bleu + 1],
                "signature": {"bleu": "nrefs:1", "chrf": "nc:6"},
            }
        },
        "kl_to_teacher": loss,
        "agreement": 0.5,
        "tokens_per_second": 100.0,
        "train_seconds": 10.0,
        "training": {"validation_curve": [[10, 5.0], [80, 2.0], [90, 1.99], [100, loss]]},
    }


def report(alone: float, distilled: float, gap: float) -> dict:
    return {
        "teacher": system(40.0, 0.0),
        "baseline": system(alone, 1.98),
        "distilled": system(distilled, 0.5),
        "gap_closed_by": {"distilled": {"test_a": {"value": gap, "interval": [gap - 0.1, gap + 0.1]}}},
        "data": {"name": "some_folder"},
        "command": "kdlab distill --data /home/me/some_folder --pair en-de --seed 0 --out /tmp/run",
        "settings": {"data": "/home/me/some_folder", "seed": 0},
        "profile": {"level": "both"},
        "translations": {
            name: ["a sentence of the corpus"]
            for name in ("source", "reference", "teacher", "baseline", "distilled")
        },
        **dict.fromkeys(("teacher_seconds", "seconds", "wall_seconds", "versions"), 1),
    }
