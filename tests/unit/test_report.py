"""The page and the terminal's tables: every figure under its own head, and text that is text."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser

import pytest

from kdlab import report as reports
from kdlab.plot_style import new_plot
from kdlab.report import gap_lines, html_page, plateau_line, text_table
from tests.unit.made_up_report import report as made_up

WILD = "<script>alert('1 & 2')</script>"
NAMES = ("teacher", "baseline", "distilled_same_inputs", "distilled")


@pytest.fixture
def report():
    """Four systems on two test sets; no two figures alike."""
    made = made_up(20.0, 30.0, 0.5)
    made["distilled_same_inputs"] = copy.deepcopy(made["distilled"])
    for i, name in enumerate(NAMES, start=1):
        system = made[name]
        system |= {
            "parameters": 1_000 * i,
            "bleu": 10.0 * i,
            "chrf": 10.0 * i + 1,
            "kl_to_teacher": 0.1 * i,
            "agreement": 0.123 + 0.1 * i,
            "tokens_per_second": 1_234.4 * i,
            "bytes_on_disk": 1_500_000 * i,
            "train_seconds": 60.2 * i,
            "kl_to_truth": {"nats_a_sentence": 5.0 * i, "nats_a_token": 0.5 * i},
            "calibration": {"error": 0.011 * i, "bins": [[0.1 * i, 0.5, 10], [0.9, 0.2 * i, 30]]},
            "mode_coverage": {"recall": 0.111 * i, "precision": 0.222 * i},
            "latency_ms": {"p50": 12.34 * i, "p95": 23.45 * i},
        }
        system["test_sets"]["test_a"]["bleu_interval"] = [10.0 * i - 2, 10.0 * i + 3]
        system["test_sets"]["test_b"] = copy.deepcopy(system["test_sets"]["test_a"]) | {
            "bleu_interval": [0, 99]
        }
        system["training"] = {"validation_curve": [[1, 2.0 * i], [2, 1.0 * i]]}
    made["teacher"]["train_seconds"] = None  # the user's own
    made["gap_closed_by"] = {
        "distilled_same_inputs": {"test_a": {"value": 0.25, "interval": [0.1, 0.4]}},
        "distilled": {
            "test_a": {"value": 0.5, "interval": None},
            "test_b": {"value": None, "interval": None},
        },
    }
    made["data"]["name"] = made["command"] = WILD
    made["teacher_seconds"] = 77.7
    made["translations"] = {name: [f"{name} {WILD}"] for name in ("source", "reference", *NAMES)}
    return made


class Page(HTMLParser):
    """What a browser would show: text of each cell, paragraph and heading, and each label of a picture."""

    def __init__(self, page):
        super().__init__()
        self.found, self.labels, self.tags = {"td": [], "th": [], "p": [], "h1": [], "title": []}, [], set()
        self.open = None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.labels += [value for name, value in attributes if name == "aria-label"]
        if tag in self.found:
            self.open = tag
            self.found[tag].append("")

    def handle_endtag(self, tag):
        if tag == self.open:
            self.open = None

    def handle_data(self, data):
        if self.open:
            self.found[self.open][-1] += data


QUALITY = """
|parameters|BLEU (95% interval)|chrF|KL to teacher|agreement|calibration error|KL to truth|recall|precision
teacher|1,000|10.0 (8.0 to 13.0)|11.0|0.100|22.3%|0.011|0.500|11.1%|22.2%
student alone|2,000|20.0 (18.0 to 23.0)|21.0|0.200|32.3%|0.022|1.000|22.2%|44.4%
distilled, same inputs|3,000|30.0 (28.0 to 33.0)|31.0|0.300|42.3%|0.033|1.500|33.3%|66.6%
distilled, with D'|4,000|40.0 (38.0 to 43.0)|41.0|0.400|52.3%|0.044|2.000|44.4%|88.8%
"""
COST = """
|MB|tokens/s|latency p50, ms|latency p95, ms|training s
teacher|1.50|1,234|12.3|23.4|-
student alone|3.00|2,469|24.7|46.9|120
distilled, same inputs|4.50|3,703|37.0|70.3|181
distilled, with D'|6.00|4,938|49.4|93.8|241
"""
TABLES = [[line.split("|") for line in lines.split("\n") if line] for lines in (QUALITY, COST)]
ROWS = TABLES[0][1:]


def test_every_figure_of_the_page_stands_under_its_head_and_text_is_escaped(report):
    page = Page(html_page(report))
    titles = [row[0] for row in ROWS]
    assert page.found["th"] == [*TABLES[0][0], *TABLES[1][0], "source", "reference", *titles]
    cells = [cell for _, *rows in TABLES for row in rows for cell in row]
    assert page.found["td"] == cells + [f"{name} {WILD}" for name in ("source", "reference", *NAMES)]
    assert "script" not in page.tags
    assert page.found["h1"] == [f"Distillation on {WILD}"]
    assert page.found["title"][0] == f"kdlab: {WILD}"
    assert page.found["p"][0] == WILD
    assert "The teacher took 78 s to train." in page.found["p"][-1]


def test_pictures_are_of_their_systems(report, monkeypatch):
    quality, sure, curves = Page(html_page(report)).labels
    for i, row in enumerate(ROWS, start=1):
        bleu = row[2].replace("(", "(95% interval ")
        assert f"{row[0]} {bleu} with {row[1]} parameters" in quality
        error = (10 * abs(0.1 * i - 0.5) + 30 * abs(0.9 - 0.2 * i)) / 40
        points = f"0.50 at {0.1 * i:.2f}, {0.2 * i:.2f} at 0.90"
        assert f"{row[0]}: {points}, expected calibration error {error:.3f}" in sure
        assert (f"{row[0]}: lowest {i:.3f} at update 2" in curves) == (i > 1)  # the teacher has none
    given = {}
    monkeypatch.setattr(reports, "quality_against_size", lambda sizes: given.update(sizes) or _plot())
    html_page(report)
    assert [size["bleu_interval"] for size in given.values()] == [[8, 13], [18, 23], [28, 33], [38, 43]]


def _plot():
    with new_plot("x", "y", 4) as (plot, _):
        plot.alt_text = 'a "quoted" label'
    return plot


def test_a_label_with_quotes_stays_one(report, monkeypatch):
    monkeypatch.setattr(reports, "quality_against_size", lambda sizes: _plot())
    assert Page(html_page(report)).labels[0] == 'a "quoted" label'


def test_the_terminal_s_tables_have_the_same_figures(report):
    lines = text_table(report).splitlines()
    for table, shown in zip(TABLES, (lines[:5], lines[6:11]), strict=True):
        for row, line in zip(table, shown, strict=True):
            assert [cell.strip() for cell in re.split("  +", line.strip())] == [cell for cell in row if cell]
        assert len({len(line) for line in shown}) == 1
        assert len(shown[0]) <= 140
    assert lines[5] == lines[11] == ""


def test_figures_without_a_name_are_explained_where_they_are_shown(report):
    words = ("nats a token", "expected calibration error", "a tenth of their true probability", "greedy")
    page = html_page(report)
    for word in words:
        assert word in page
    for name in NAMES:
        del report[name]["mode_coverage"], report[name]["latency_ms"]
    text = " ".join(Page(html_page(report)).found["p"])
    assert [word in text for word in words] == [True, True, False, False]


def test_a_run_that_an_older_version_measured_in_part_is_shown_without_the_new_figures(report):
    for figure in ("calibration", "mode_coverage", "latency_ms"):
        del report["baseline"][figure]
    page = Page(html_page(report))
    new = {"calibration error", "recall", "precision", "latency p50, ms", "latency p95, ms"}
    assert new & set(page.found["th"]) == set()
    assert "KL to truth" in page.found["th"]
    assert len(page.labels) == 3
    assert "student alone:" not in page.labels[1]
    for name in NAMES:
        report[name].pop("calibration", None)
    assert len(Page(html_page(report)).labels) == 2


def test_a_system_that_diverged_has_no_reliability(report):
    report["baseline"]["calibration"] = {"error": float("nan"), "bins": []}
    page = Page(html_page(report))
    assert "nan" in page.found["td"]
    assert "student alone:" not in page.labels[1]


def test_a_gap_is_told_with_its_interval_where_there_is_one(report):
    assert gap_lines(report) == [
        "gap closed (distilled, same inputs, test_a): 25%, 95% interval 10% to 40%",
        "gap closed (distilled, with D', test_a): 50%",
        "gap closed (distilled, with D', test_b): none, the teacher is no better than the student alone",
    ]


def test_a_smaller_teacher_is_the_floor_and_the_student_alone_the_ceiling(report):
    report["settings"]["weak_to_strong"] = True
    lines = gap_lines(report)
    assert lines[:3] == [
        "performance gap recovered (weak to strong, same inputs, test_a): 25%, 95% interval 10% to 40%",
        "performance gap recovered (weak to strong, with D', test_a): 50%",
        "performance gap recovered (weak to strong, with D', test_b): none, the strong student alone is no better "
        "than the weak teacher",
    ]
    assert "(weak to strong - weak teacher) / (strong student alone - weak teacher)" in lines[3]
    names = ["weak teacher", "strong student alone", "weak to strong, same inputs", "weak to strong, with D'"]
    assert [row[0] for row in reports.quality_table(report)[1]] == names
    assert plateau_line(report).startswith("strong student alone: ")


def test_of_several_teachers_the_page_says_which_one_is_shown(report):
    report["settings"]["teacher"] = ["one", "two"]
    assert reports.quality_table(report)[1][0][0] == "first of 2 teachers"
    assert gap_lines(report)[2].endswith("none, the first of 2 teachers is no better than the student alone")
    for told in (text_table(report), " ".join(Page(html_page(report)).found["p"])):
        assert "the mean of the distributions of 2 teachers is learnt" in told
    for one in ("one", ["one"]):
        report["settings"]["teacher"] = one
        assert "teachers" not in text_table(report)
        assert reports.quality_table(report)[1][0][0] == "teacher"


def test_nothing_has_no_sign(report):
    gap = report["gap_closed_by"]["distilled"]["test_a"]
    gap["value"], gap["interval"] = -0.001, [-0.004, 0.0]
    assert gap_lines(report)[1] == "gap closed (distilled, with D', test_a): 0%, 95% interval 0% to 0%"


def test_without_more_inputs_there_is_one_distilled_student_and_without_a_grammar_no_truth(report):
    del report["distilled_same_inputs"], report["gap_closed_by"]["distilled_same_inputs"]
    for name in ("teacher", "baseline", "distilled"):
        del report[name]["kl_to_truth"], report[name]["mode_coverage"]
    head, *rows = text_table(report).splitlines()[:4]
    assert "KL to truth" not in head
    assert "recall" not in head
    assert [row.split("  ")[0] for row in rows] == ["teacher", "student alone", "distilled"]


def test_the_plateau_is_the_student_alone_s(report):
    report["baseline"]["training"]["validation_curve"] = [[10, 4.0], [80, 2.0], [100, 1.5]]
    assert plateau_line(report).split("loss ")[1].startswith("1.500, 25.0% below")
