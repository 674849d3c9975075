"""What `kdlab distill` leaves to read: tables for the terminal and a page with tables, curves and translations."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdlab.evaluation import gap_ends
from kdlab.plots import quality_against_size, reliability, validation_curves
from kdlab.training import lowest_losses

TITLES = {
    "teacher": "teacher",
    "baseline": "student alone",
    "distilled_same_inputs": "distilled, same inputs",
    "distilled": "distilled",
}
# Where the teacher is the smaller model, and the student alone the ceiling.
WEAK_TO_STRONG = {
    "teacher": "weak teacher",
    "baseline": "strong student alone",
    "distilled_same_inputs": "weak to strong, same inputs",
    "distilled": "weak to strong",
}
_Cell = Callable[[Mapping[str, Any]], str]
# What a column needs of every system, its head and its cell. Runs without a grammar have no truth, and a run that an
# older version began lacks what that did not measure.
_QUALITY: list[tuple[str, str, _Cell]] = [
    ("parameters", "parameters", lambda s: f"{s['parameters']:,}"),
    ("bleu", "BLEU (95% interval)", lambda s: _with_interval(s)),
    ("chrf", "chrF", lambda s: f"{s['chrf']:.1f}"),
    ("kl_to_teacher", "KL to teacher", lambda s: f"{s['kl_to_teacher']:.3f}"),
    ("agreement", "agreement", lambda s: f"{s['agreement']:.1%}"),
    ("calibration", "calibration error", lambda s: f"{s['calibration']['error']:.3f}"),
    ("kl_to_truth", "KL to truth", lambda s: f"{s['kl_to_truth']['nats_a_token']:.3f}"),
    ("mode_coverage", "recall", lambda s: f"{s['mode_coverage']['recall']:.1%}"),
    ("mode_coverage", "precision", lambda s: f"{s['mode_coverage']['precision']:.1%}"),
]
_COST: list[tuple[str, str, _Cell]] = [
    ("bytes_on_disk", "MB", lambda s: f"{s['bytes_on_disk'] / 1e6:.2f}"),
    ("tokens_per_second", "tokens/s", lambda s: f"{s['tokens_per_second']:,.0f}"),
    ("latency_ms", "latency p50, ms", lambda s: f"{s['latency_ms']['p50']:.1f}"),
    ("latency_ms", "latency p95, ms", lambda s: f"{s['latency_ms']['p95']:.1f}"),
    (
        "train_seconds",
        "training s",
        lambda s: "-" if s["train_seconds"] is None else f"{s['train_seconds']:.0f}",
    ),
]


def titles(report: Mapping[str, Any]) -> dict[str, str]:
    """The systems in this report, and what people call them.

    >>> titles({"teacher": {}, "baseline": {}, "distilled": {}})
    {'teacher': 'teacher', 'baseline': 'student alone', 'distilled': 'distilled'}
    """
    names = WEAK_TO_STRONG if _is_weak_to_strong(report) else TITLES
    present = {name: title for name, title in names.items() if name in report}
    if "teacher" in present and _teachers(report) > 1:
        present["teacher"] = f"first of {_teachers(report)} {present['teacher']}s"
    if "distilled_same_inputs" in present:
        present["distilled"] += ", with D'"
    return present


def quality_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, a row a system: how well it translates. KL in nats a token.

    >>> tests = {"test": {"bleu_interval": [29.0, 31.0]}}
    >>> header, rows = quality_table({"teacher": {"parameters": 10_000, "bleu": 30.0, "test_sets": tests}})
    >>> header, rows
    (['', 'parameters', 'BLEU (95% interval)'], [['teacher', '10,000', '30.0 (29.0 to 31.0)']])
    """
    return _table(report, _QUALITY)


def cost_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, a row a system: its size, its speed and its training.

    >>> system = {"bytes_on_disk": 40_000, "latency_ms": {"p50": 3.14, "p95": 9.0}, "train_seconds": None}
    >>> header, (row,) = cost_table({"teacher": system})
    >>> dict(zip(header, row, strict=True))["latency p50, ms"], row[-1]  # one that was not trained here
    ('3.1', '-')
    """
    return _table(report, _COST)


def text_table(report: Mapping[str, Any]) -> str:
    """Both tables and the gap closed, for a terminal.

    >>> made = {"parameters": 9, "bleu": 30.0, "test_sets": {"test": {"bleu_interval": [29.0, 31.0]}}}
    >>> made |= {"bytes_on_disk": 40_000, "training": {"validation_curve": [[80, 2.0], [100, 1.9]]}}
    >>> gaps = {"baseline": {"test": {"value": None}}}
    >>> text = text_table({"teacher": made, "baseline": made, "gap_closed_by": gaps})
    >>> for line in text.splitlines():
    ...     print(line[:32].rstrip())
                   parameters  BLEU
    teacher                 9  30.0
    student alone           9  30.0
    <BLANKLINE>
                     MB
    teacher        0.04
    student alone  0.04
    <BLANKLINE>
    gap closed (student alone, test)
    student alone: lowest validation
    """
    lines = [*_aligned(*quality_table(report)), "", *_aligned(*cost_table(report)), ""]
    return "\n".join([*lines, *_told(report)])


def gap_lines(report: Mapping[str, Any]) -> list[str]:
    """One sentence for each student and test set, and what the words mean where the teacher is the smaller model.

    >>> gap = {"value": 0.4, "interval": [0.25, 0.5]}
    >>> gap_lines({"distilled": {}, "gap_closed_by": {"distilled": {"test": gap}}})
    ['gap closed (distilled, test): 40%, 95% interval 25% to 50%']
    """
    names, weak = titles(report), _is_weak_to_strong(report)
    share = "performance gap recovered" if weak else "gap closed"
    lines = []
    for name, tests in report["gap_closed_by"].items():
        for test, gap in tests.items():
            where = f"{names[name]}, {test}"
            if gap["value"] is None:
                floor, ceiling = (names[end] for end in gap_ends(weak_to_strong=weak))
                lines.append(f"{share} ({where}): none, the {ceiling} is no better than the {floor}")
            else:
                interval = gap["interval"]
                spread = f", 95% interval {interval[0]:z.0%} to {interval[1]:z.0%}" if interval else ""
                lines.append(f"{share} ({where}): {gap['value']:z.0%}{spread}")
    if weak:
        lines.append(
            "performance gap recovered is (weak to strong - weak teacher) / (strong student alone - weak teacher) in "
            "BLEU; the strong student alone learns from the references, those of the labelled inputs"
        )
    return lines


def _target_lines(report: Mapping[str, Any]) -> list[str]:
    """What became of the teacher's translations: one sentence for each set of sources that it translated."""
    lines = []
    for name, made in report.get("pseudo_targets", {}).items():
        dropped = [f"{rule} {count:,}" for rule, count in made["dropped"].items() if count]
        lines.append(
            f"teacher's translations ({name}): {made['examples']:,} targets for {made['sources']:,} sources, "
            f"{made['left_out']:,} without one; dropped: {', '.join(dropped) or 'none'}"
        )
    return lines


def _cache_lines(report: Mapping[str, Any]) -> list[str]:
    """What it cost to ask the teacher once: one sentence for each student that learnt from its cache."""
    return [
        f"teacher's cache ({titles(report)[name]}): {cache['examples']:,} examples, {cache['bytes'] / 1e6:.2f} MB, "
        f"{cache['bytes'] / cache['tokens']:.0f} bytes a token, built in "
        f"{report['seconds'][f'teacher_cache_{name}']:.1f} s"
        for name, cache in report.get("teacher_cache", {}).items()
    ]


def plateau_line(report: Mapping[str, Any]) -> str:
    """Whether the student alone was trained to its end: how much its validation loss still fell.

    >>> curve = [[10, 3.0], [80, 2.0], [100, 1.5]]
    >>> plateau_line({"baseline": {"training": {"validation_curve": curve}}})[:78]
    'student alone: lowest validation loss 1.500, 25.0% below the lowest of the fir'
    """
    early, lowest = lowest_losses(report["baseline"]["training"]["validation_curve"])
    return (
        f"{titles(report)['baseline']}: lowest validation loss {lowest:.3f}, "
        f"{1 - lowest / early:.1%} below the lowest of the first four fifths of its updates"
    )


def html_page(report: Mapping[str, Any]) -> str:
    """The whole report as one file that needs nothing else.

    >>> made = {"parameters": 9, "bleu": 30.0, "chrf": 50.0, "kl_to_teacher": 0.0, "agreement": 1.0, "train_seconds": 9}
    >>> test = {"bleu_interval": [29.0, 31.0], "signature": {"bleu": "nrefs:1"}}
    >>> made |= {"tokens_per_second": 9, "bytes_on_disk": 40, "test_sets": {"test": test}}
    >>> made |= {"training": {"validation_curve": [[80, 2.0], [100, 1.9]]}}
    >>> report = {"teacher": made, "baseline": made, "gap_closed_by": {}, "data": {"name": "A & B"}}
    >>> report["translations"] = {name: ["a bus"] for name in ("source", "reference", "teacher", "baseline")}
    >>> page = html_page({**report, "teacher_seconds": 9})
    >>> page.splitlines()[5], page.count("<svg")
    ('<title>kdlab: A &amp; B</title>', 2)
    """
    names = titles(report)
    main = next(iter(report["teacher"]["test_sets"]))
    curves = {
        names[name]: [tuple(point) for point in report[name]["training"]["validation_curve"]]
        for name in names
        if name != "teacher"
    }
    sizes = {
        title: {**report[name], "bleu_interval": report[name]["test_sets"][main]["bleu_interval"]}
        for name, title in names.items()
    }
    parts = [
        f"<h1>Distillation on {html.escape(report['data']['name'])}</h1>",
        f"<p><code>{html.escape(report.get('command', ''))}</code></p>",
        _html_table(*quality_table(report)),
        _html_table(*cost_table(report)),
        f"<p>{_explained(report)}</p>",
        "".join(f"<p>{html.escape(line)}</p>" for line in _told(report)),
        "<h2>Quality against size</h2>",
        quality_against_size(sizes).to_html(),
        *_reliability(report),
        "<h2>Training</h2><p>Each curve is the loss that its student trains on, so their floors differ: "
        "cross-entropy on references or on the teacher's translations, or a divergence from the teacher. "
        "A ring marks the checkpoint that was kept."
        f"{' The confidence term is left out.' if _is_weak_to_strong(report) else ''}</p>",
        validation_curves(curves).to_html(),
        "<h2>Ten translations</h2>",
        _html_table(*_side_by_side(report, names)),
        f"<p>BLEU: {html.escape(report['teacher']['test_sets'][main]['signature']['bleu'])}. "
        f"The teacher took {report['teacher_seconds']:.0f} s to train.</p>",
    ]
    return _PAGE.format(title=f"kdlab: {html.escape(report['data']['name'])}", body="\n".join(parts))


def _told(report: Mapping[str, Any]) -> list[str]:
    """The sentences below the tables."""
    lines = [*gap_lines(report), plateau_line(report), *_target_lines(report), *_cache_lines(report)]
    if _teachers(report) > 1:
        lines.append(
            f"the mean of the distributions of {_teachers(report)} teachers is learnt, and KL and agreement are "
            "measured to it; the first teacher alone translates, and the gap is counted with its translations"
        )
    return lines


def _is_weak_to_strong(report: Mapping[str, Any]) -> bool:
    return bool(report.get("settings", {}).get("weak_to_strong"))


def _teachers(report: Mapping[str, Any]) -> int:
    """How many; a report of an older version holds the name of its one."""
    named = report.get("settings", {}).get("teacher")
    return 1 if named is None or isinstance(named, str) else len(named)


def _table(
    report: Mapping[str, Any], columns: Sequence[tuple[str, str, _Cell]]
) -> tuple[list[str], list[list[str]]]:
    """The columns that every system has the figures for."""
    names = titles(report)
    known = [(head, cell) for figure, head, cell in columns if all(figure in report[name] for name in names)]
    rows = [[title, *(cell(report[name]) for _, cell in known)] for name, title in names.items()]
    return ["", *(head for head, _ in known)], rows


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [header, *rows]
    ]


def _explained(report: Mapping[str, Any]) -> str:
    """One paragraph on the figures whose heads do not explain them."""
    heads = [*quality_table(report)[0], *cost_table(report)[0]]
    words = {
        "KL to teacher": "KL is in nats a token.",
        "calibration error": "Calibration error: the expected calibration error of the most probable next token.",
        "recall": "Recall: the share of the true probability on translations to which the system gives a tenth of "
        "their true probability or more. Precision: the system's own probability on all right translations.",
        "latency p50, ms": "Latency is of one sentence at a time, tokens/s are in batches, both greedy.",
    }
    return " ".join(text for head, text in words.items() if head in heads)


def _reliability(report: Mapping[str, Any]) -> list[str]:
    """The reliability diagram, of the systems that have one."""
    bins = {
        title: report[name]["calibration"]["bins"]
        for name, title in titles(report).items()
        if report[name].get("calibration", {}).get("bins")
    }
    if not bins:
        return []
    return [
        "<h2>Calibration</h2><p>How often the most probable next token is the reference's, against how probable the "
        "system takes it to be. Above the line a system is less sure than it could be, below it is too sure.</p>",
        reliability(bins).to_html(),
    ]


def _side_by_side(report: Mapping[str, Any], names: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    translations = report["translations"]
    columns = {"source": "source", "reference": "reference", **names}
    rows = [list(row) for row in zip(*(translations[name] for name in columns), strict=True)]
    return list(columns.values()), rows


def _with_interval(system: Mapping[str, Any]) -> str:
    low, high = next(iter(system["test_sets"].values()))["bleu_interval"]
    return f"{system['bleu']:.1f} ({low:.1f} to {high:.1f})"


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem .7rem; border-bottom: 1px solid #ccc; text-align: left; vertical-align: top; }}
svg {{ max-width: 100%; height: auto; }}
p, code {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
