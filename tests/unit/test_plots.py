"""Figures that can be read without colour: numbers in the text alternative, styles that differ, nothing left behind."""

from __future__ import annotations

import math
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

from kdlab.plot_style import HATCHES, STYLES
from kdlab.plots import (
    distributions,
    divergence_along_target,
    entropy_along_target,
    quality_against_size,
    quality_against_speed,
    reliability,
    validation_curves,
)
from kdlab.plots_students import agreement_against_size

NAMES = ["teacher", "student alone", "distilled", "with D'", "on-policy", "narrow", "int8"]
TOKENS = ["Wo", "befindet", "sich", "das", "Hotel", "?", "</s>"]


def systems(count):
    return {
        name: {
            "parameters": 120_000 * (number + 1),
            "tokens_per_second": 9_000.0 * (number + 1),
            "bleu": 30.0 + number,
            "bleu_interval": [28.5 + number, 31.5 + number],
        }
        for number, name in enumerate(NAMES[:count])
    }


def series(count):
    return {
        name: [0.1 * (i + 1) + number for i in range(len(TOKENS))]
        for number, name in enumerate(NAMES[:count])
    }


def draw(kind, count=7):
    names = NAMES[:count]
    match kind:
        case "curves":
            curves = {n: [(10, 3.0 + i), (20, 2.0 + i), (30, 2.5 + i)] for i, n in enumerate(names)}
            return validation_curves(curves, {"entropy": 0.875})
        case "size":
            return quality_against_size(systems(count))
        case "speed":
            return quality_against_speed(systems(count))
        case "agreement":
            sizes = {n: (120_000 * (i + 1), [0.5, 0.6 + 0.01 * i]) for i, n in enumerate(names)}
            return agreement_against_size(sizes, teacher=1_000_000)
        case "distributions":
            return distributions(TOKENS, {n: [0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05] for n in names}, at_most=4)
        case "divergence":
            return divergence_along_target(TOKENS, series(count))
        case "entropy":
            return entropy_along_target(TOKENS, series(count), most=math.log(400))
        case _:
            return reliability({n: [(0.25, 0.2 + 0.01 * i, 10), (0.9, 0.8, 30)] for i, n in enumerate(names)})


KINDS = ["curves", "size", "speed", "agreement", "distributions", "divergence", "entropy", "reliability"]


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("curves", ["lowest 2.000 at update 20", "last 2.500", "lowest 3.000", "0.875"]),
        ("size", ["30.0", "28.5 to 31.5", "120,000", "31.0", "240,000"]),
        (
            "agreement",
            ["55.0% (50.0% to 60.0%)", "120,000", "55.5% (50.0% to 61.0%)", "teacher has 1,000,000"],
        ),
        ("speed", ["30.0", "9,000", "18,000"]),
        ("distributions", ["Wo 0.400", "befindet 0.200", "all others 0.200"]),
        ("divergence", ["Wo 0.100", "Hotel 0.500", "mean 0.400", "mean 1.400"]),
        ("entropy", ["befindet 0.200", "mean 0.400", "uniform distribution: 5.991"]),
        ("reliability", ["0.20 at 0.25", "0.80 at 0.90", "calibration error 0.087", "0.21 at 0.25"]),
    ],
)
def test_alternative_text_holds_names_and_numbers(kind, numbers):
    text = draw(kind, 2).alt_text
    for words in [*NAMES[:2], *numbers]:
        assert words in text


def looks(plot):
    """How each series looks beside its colour: marker and line, or filled or not and hatch."""
    (axes,) = plot.axes
    lines = [
        (line.get_marker(), str(line.get_linestyle()), str(line._unscaled_dash_pattern))
        for line in axes.lines
        if not line.get_label().startswith("_")
    ]
    marks = [
        (container.lines[0].get_marker(), "", "")
        for container in axes.containers
        if hasattr(container, "lines") and hasattr(container, "has_yerr")
    ]
    bars = [
        (container.patches[0].get_hatch(), to_hex(container.patches[0].get_facecolor()) == "#ffffff", "")
        for container in axes.containers
        if hasattr(container, "patches")
    ]
    return [look for look in lines if look[0] != "None"] + marks + bars


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_series_differ_by_colour_alone(kind):
    found = looks(draw(kind))
    assert len(found) == len(STYLES)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, len(STYLES)])
def test_text_is_large_enough_and_inside_a_figure_of_4_inches(kind, count):
    plot = draw(kind, count)
    canvas = FigureCanvasAgg(plot)
    canvas.draw()
    assert plot.get_figwidth() == 4
    (axes,) = plot.axes
    ticks = [
        tick.label1
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if axis.get_view_interval().min() <= tick.get_loc() <= axis.get_view_interval().max()
    ]
    texts = [*ticks, axes.xaxis.label, axes.yaxis.label, *axes.texts]
    texts += [text for legend in plot.legends for text in legend.get_texts()]
    assert len(texts) > 5
    for text in filter(Text.get_text, texts):
        assert text.get_fontsize() >= 9, text.get_text()
        place = text.get_window_extent(canvas.get_renderer())
        assert place.x0 >= 0, text.get_text()
        assert place.y0 >= 0, text.get_text()
        assert place.x1 <= plot.bbox.x1, text.get_text()
        assert place.y1 <= plot.bbox.y1, text.get_text()
    assert axes.get_xlabel()
    assert axes.get_ylabel() or kind == "distributions"  # whose words are the labels


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_global_is_left(kind):
    import matplotlib.pyplot as plt

    before, open_before = dict(matplotlib.rcParams), plt.get_fignums()
    draw(kind).to_html()
    assert plt.get_fignums() == open_before
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("kind", KINDS)
def test_same_numbers_same_bytes_and_a_name_for_readers(kind):
    page = draw(kind, 2).to_html()
    assert page == draw(kind, 2).to_html()
    assert page.startswith('<div role="img" aria-label="')
    assert "<dc:date>" not in page
    name = re.match(r'<div role="img" aria-label="([^"]*)">', page)
    assert name is not None
    assert NAMES[0] in name[1]


def test_name_is_escaped():
    page = divergence_along_target(['"><script>'], {"student": [1.0]}).to_html()
    assert "<script>" not in page


def test_greys_of_the_first_four_differ():
    """Rec. 601 luma, as a grey print makes it: black, and three that no marker has to tell apart from black."""
    greys = [np.dot([int(c[i : i + 2], 16) for i in (1, 3, 5)], [0.299, 0.587, 0.114]) for c, *_ in STYLES]
    assert all(grey - greys[0] > 60 for grey in greys[1:])


def test_styles_are_as_many_as_hatches():
    assert len(STYLES) == len(HATCHES) == len(NAMES)


def test_a_point_stands_where_it_should():
    (axes,) = validation_curves({"a": [(10, 3.0), (20, 1.0), (30, 2.0)]}, {"floor": 0.5}).axes
    assert axes.lines[0].get_xydata().tolist() == [[10, 3], [20, 1], [30, 2]]
    assert axes.lines[1].get_xydata().tolist() == [[20, 1]]  # the ring
    assert set(axes.lines[2].get_ydata()) == {0.5}
    (axes,) = distributions(["a", "b", "c"], {"p": [0.2, 0.5, 0.3], "q": [0.6, 0.3, 0.1]}, at_most=2).axes
    bars = [[bar.get_width() for bar in container.patches] for container in axes.containers]
    assert bars == [[0.5, 0.3, pytest.approx(0.2)], [0.3, 0.1, pytest.approx(0.6)]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["b", "c", "all others"]


def test_calibration_error_is_weighed_by_tokens():
    text = reliability({"a": [(0.5, 0.5, 0), (0.6, 0.4, 30), (0.9, 1.0, 10)]}).alt_text
    assert "calibration error 0.175" in text
    assert "at 0.50" not in text  # an empty bin


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: validation_curves({}), "curves: got 0 series"),
        (
            lambda: validation_curves({str(i): [(1, 1.0)] for i in range(8)}),
            "curves: got 8 series, expected 1 to 7",
        ),
        (lambda: validation_curves({"a": []}), "curves: 'a' is empty"),
        (
            lambda: divergence_along_target(["x"], {"a": [1.0, 2.0]}),
            "divergences: 'a' has 2 values, expected 1",
        ),
        (lambda: distributions(["x", "y"], {"a": [1.0]}), "probabilities: 'a' has 1 values, expected 2"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
