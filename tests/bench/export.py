"""A teacher, a student and the student's exports: milliseconds a sentence, bytes and BLEU, one thread.

`python -m tests.bench export --teacher DIR --student DIR --sources FILE --references FILE`: the student is one of
`make distill`, such as build/distill/distilled; without files the sentences are the phrasebook's.

Times are from token ids to token ids, greedy, a sentence at a time: on the clock, and of the processor (`cpu_ms_p50`),
which other work on the machine disturbs less. The systems take turns sentence by sentence, so that a machine that
slows down slows all of them. BLEU is of the same greedy translations, of all sentences.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kdlab.evaluation import bytes_on_disk, translation_quality
from kdlab.export import export_model
from kdlab.exported import load_exported
from kdlab.generation import Search, search_batch
from kdlab.loading import load_model
from kdlab.students import count_parameters
from kdlab.text.phrasebook import Phrasebook
from kdlab.text.tokenizers import MAX_LENGTH, encode_sources, load_tokenizer

EXPORTS = [(runtime, int8) for runtime in ("ctranslate2", "onnx") for int8 in (False, True)]
WARM_UP = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What only this benchmark takes."""
    group = parser.add_argument_group("export")
    group.add_argument("--student", metavar="DIR", help="a model folder, of which the exports are made")
    group.add_argument("--teacher", metavar="DIR", help="a model folder, with the student's tokenizer")
    group.add_argument(
        "--sources", type=Path, metavar="FILE", help="test sentences (default: the phrasebook's)"
    )
    group.add_argument("--references", type=Path, metavar="FILE")
    group.add_argument("--first", type=int, metavar="N", help="only the first N sentences")


def measure_chosen(chosen: argparse.Namespace) -> dict[str, Any]:
    """Figures of the folders that were given."""
    if chosen.student is None or chosen.teacher is None:
        raise SystemExit("export: expected --student DIR and --teacher DIR, such as those of `make distill`")
    if chosen.sources is None:
        pairs = [(pair.source, pair.target) for pair in Phrasebook().sample(500, seed=11)]
    else:
        pairs = list(zip(_lines(chosen.sources), _lines(chosen.references), strict=True))
    return measure(chosen.teacher, chosen.student, pairs[: chosen.first])


def measure(teacher: str, student: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Figures of each system on pairs of a source and its reference. The exports go to a scratch folder."""
    torch.set_num_threads(1)
    tokenizer, cpu = load_tokenizer(student), torch.device("cpu")
    folders = {"teacher float32": teacher, "student float32": student}
    systems: dict[str, Any] = {name: load_model(folder, cpu) for name, folder in folders.items()}
    size = {name: bytes_on_disk(Path(folder)) for name, folder in folders.items()}
    with tempfile.TemporaryDirectory() as scratch:
        for runtime, int8 in EXPORTS:
            name = f"{runtime} {'int8' if int8 else 'float32'}"
            folder = Path(scratch) / name.replace(" ", "-")
            size[name] = export_model(systems["student float32"], tokenizer, runtime, folder, int8=int8)[
                "bytes"
            ]
            systems[name] = load_exported(folder, threads=1)
        sources = encode_sources(tokenizer, [source for source, _ in pairs], MAX_LENGTH)
        found, times = _translate(systems, sources)
    figures = {}
    for name, translated in found.items():
        lines = [str(tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in translated]
        clock, processor = zip(*times[name][WARM_UP:], strict=True)
        centiles = statistics.quantiles(clock, n=20)
        figures[name] = {
            "ms_p50": round(centiles[9], 3),
            "ms_p95": round(centiles[18], 3),
            "cpu_ms_p50": round(statistics.median(processor), 3),
            "bytes": size[name],
            "bleu": translation_quality(lines, [reference for _, reference in pairs], resamples=2)["bleu"],
            "same_as_student": sum(map(list.__eq__, translated, found["student float32"])),
        }
    parameters = {name.split()[0]: count_parameters(systems[name]) for name in folders}
    runtimes = {name: version(name) for name in ("transformers", "ctranslate2", "onnxruntime")}
    return {
        "sentences": len(pairs),
        "threads": 1,
        "parameters": parameters,
        "runtimes": runtimes,
        "systems": figures,
    }


def _translate(
    systems: dict[str, Any], sources: Sequence[Sequence[int]]
) -> tuple[dict[str, list[list[int]]], dict[str, list[tuple[float, float]]]]:
    """Target ids of every sentence by every system, and milliseconds on the clock and of the processor."""
    found: dict[str, list[list[int]]] = {name: [] for name in systems}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
    for ids in sources:
        for name, model in systems.items():
            clock, processor = time.perf_counter(), time.process_time()
            found[name] += search_batch(model, [ids], Search())
            times[name].append((1e3 * (time.perf_counter() - clock), 1e3 * (time.process_time() - processor)))
    return found, times


def _lines(path: Path) -> list[str]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return text.decode("utf-8").splitlines()
