"""Make the README's tables and its figure from results/*.json: `python -m tests.bench.readme`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdlab.files import read_json, write_text
from kdlab.plot_style import STYLES
from kdlab.report import titles

ROOT = Path(__file__).resolve().parents[2]
FIGURE = "results/gap_closed.svg"


def with_tables(readme: str) -> str:
    """The README with every block between `<!-- NAME -->` and `<!-- end -->` made anew from results/NAME.json."""

    def block(found: re.Match[str]) -> str:
        results = read_json(ROOT / "results" / f"{found[1]}.json")
        assert results is not None, f"README.md: results/{found[1]}.json is not there"
        mutants = read_json(ROOT / "results" / "mutants.json") or {"notebooks": {}}
        kinds = {
            "settings": levels_table,
            "notebooks": lambda course: course_table(course, mutants["notebooks"]),
        }
        made = next((make for key, make in kinds.items() if key in results), table)(results)
        return f"<!-- {found[1]} -->\n{made}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n(?:.*?\n)??<!-- end -->", block, readme, flags=re.DOTALL)


def table(results: Mapping[str, Any]) -> str:
    """A row a system: mean and range over the seeds, or the bootstrap interval of a single one."""
    systems, seeds = results["systems"], len(results["runs"])
    tests = list(systems["teacher"]["test_sets"])
    header = ["", "parameters", *(f"BLEU {_short(test)}".strip() for test in tests)]
    header += [f"gap closed {_short(test)}".strip() for test in tests] + ["KL to the teacher"]
    if "kl_to_truth" in systems["teacher"]:
        header.append("KL to the truth")
    rows = [header]
    for name, title in titles(systems).items():
        system = systems[name]
        row = [title, f"{system['parameters']:,}"]
        for scores in system["test_sets"].values():
            row.append(_figure(scores["bleu"], scores["bleu_interval"], seeds, ".1f"))
        for test in tests:
            gap = results["gap_closed"].get(name, {}).get(test)
            row.append("" if gap is None else _figure(gap, gap["interval"], seeds, "z.0%"))  # no -0%
        row.append(_figure(system["kl_to_teacher"], None, seeds, ".3f"))
        if "kl_to_truth" in system:
            row.append(_figure(system["kl_to_truth"], None, seeds, ".3f"))
        rows.append(row)
    return _markdown(rows)


def levels_table(results: Mapping[str, Any]) -> str:
    """A row a setting, the one that closes most of the gap first: mean and range, or the interval of one seed."""
    tests = list(results["teacher"]["test_sets"])
    header = ["", "seeds", *(f"gap closed {_short(test)}".strip() for test in tests)]
    header += [f"BLEU {_short(tests[0])}".strip(), "of the student alone", "KL to the teacher"]
    rows = [header]
    settings = results["settings"]
    for name in sorted(settings, key=lambda name: -settings[name]["gap_closed"][tests[0]]["mean"]):
        setting, seeds = settings[name], len(settings[name]["seeds"])
        row = [name, str(seeds)]
        for test in tests:
            gap = setting["gap_closed"][test]
            row.append(_figure(gap, gap["interval"], seeds, "z.0%"))
        for system in (setting, setting["alone"]):
            row.append(_figure(system["test_sets"][tests[0]]["bleu"], None, seeds, ".1f"))
        row.append(_figure(setting["kl_to_teacher"], None, seeds, ".3f"))
        rows.append(row)
    return _markdown(rows)


def course_table(results: Mapping[str, Any], mutants: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a notebook, and one for all of them. `mutants`: of each, as in results/mutants.json."""
    columns = ("exercises", "quizzes", "essays", "points", "minutes", "right_answers", "wrong_answers")
    header = [
        "notebook",
        "",
        "exercises",
        "quizzes",
        "essays",
        "points",
        "minutes",
        "right answers",
        "wrong answers",
    ]
    header += ["mutants caught", "seconds", "peak MB", "seconds to grade"]
    rows, notebooks = [header], results["notebooks"]
    for name, notebook in notebooks.items():
        row = [f"`{name}`", notebook["title"], *(str(notebook[column]) for column in columns)]
        row += [
            _caught([mutants[name]]),
            f"{notebook['ci_seconds']:.0f}",
            str(notebook["ci_peak_mb"]),
            f"{notebook['grade_seconds']:.1f}",
        ]
        rows.append(row)
    sums = [str(sum(notebook[column] for notebook in notebooks.values())) for column in columns]
    seconds = sum(notebook["ci_seconds"] for notebook in notebooks.values())
    most = max(notebook["ci_peak_mb"] for notebook in notebooks.values())
    grade = sum(notebook["grade_seconds"] for notebook in notebooks.values())
    caught = _caught([mutants[name] for name in notebooks])
    rows.append(["all", "", *sums, caught, f"{seconds:.0f}", str(most), f"{grade:.1f}"])
    return _markdown(rows, names=2)


def _caught(of_notebooks: Sequence[Mapping[str, Any]]) -> str:
    """Of the mutants that give another answer; those that give none are caught by any test."""
    caught = sum(of["caught"] for of in of_notebooks)
    return f"{caught} of {caught + sum(len(of['survivors']) for of in of_notebooks)}"


def _markdown(rows: list[list[str]], names: int = 1) -> str:
    """Names to the left, figures to the right."""
    rows = [rows[0], ["---"] * names + ["---:"] * (len(rows[0]) - names), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _short(test: str) -> str:
    return "" if test == "test" else test.removeprefix("test_").replace("_", " ")


def _figure(value: Mapping[str, float], interval: list[float] | None, seeds: int, form: str) -> str:
    """Mean and, in brackets, the range over several seeds, or one seed's interval."""
    low, high = value["lowest"], value["highest"]
    if seeds == 1 and interval is not None:
        low, high = interval
    around = "" if low == high else f" ({low:{form}} to {high:{form}})"
    return f"{value['mean']:{form}}{around}"


def draw(results: Mapping[str, Any], path: Path) -> None:
    """BLEU of every system on the first test set, with its 95% interval: what distillation gives back."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.hashsalt": "kdlab", "svg.fonttype": "none"})
    systems = results["systems"]
    test = next(iter(systems["teacher"]["test_sets"]))
    figure = Figure(figsize=(7, 2.6), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    names = list(reversed(titles(systems).items()))
    for height, (name, _) in enumerate(names):
        colour, marker = STYLES[len(names) - 1 - height][:2]
        scores = systems[name]["test_sets"][test]
        bleu, (low, high) = scores["bleu"]["mean"], scores["bleu_interval"]
        axes.errorbar(
            bleu,
            height,
            xerr=[[bleu - low], [high - bleu]],
            color=colour,
            marker=marker,
            capsize=3,
            markersize=8,
        )
        axes.annotate(f"{bleu:.1f}", (bleu, height), xytext=(0, 9), textcoords="offset points", ha="center")
    labels = [f"{title}\n{systems[name]['parameters'] / 1e6:.2f} M parameters" for name, title in names]
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(-0.5, len(names) - 0.3)
    axes.set_xlabel(f"BLEU on {test}, with the 95% interval")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    readme = ROOT / "README.md"
    write_text(readme, with_tables(readme.read_text(encoding="utf-8")))
    results = read_json(ROOT / "results" / "multi30k.json")
    if results is not None:
        draw(results, ROOT / FIGURE)


if __name__ == "__main__":
    main()
