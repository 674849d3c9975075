"""Figures of a few methods: every number in the text alternative, styles that differ, input that fits."""

from __future__ import annotations

import pytest

from kdlab.comparison_plots import along_temperature, methods_by_measure

FOUND = {
    "padding counted": {"masked": [2.0, 3.0], "every place": [0.5, 0.5]},
    "tokens": {"masked": [0.25, 0.5], "every place": [0.75, 1.0]},
}


def test_a_bar_is_the_mean_and_each_seed_a_dot() -> None:
    plot = methods_by_measure(FOUND, unit="KL, nats")
    (axes,) = plot.axes
    assert [patch.get_height() for patch in axes.patches] == [2.5, 0.375, 0.5, 0.875]  # method by method
    assert [list(line.get_ydata()) for line in axes.lines] == [
        [2.0, 3.0],
        [0.25, 0.5],
        [0.5, 0.5],
        [0.75, 1.0],
    ]
    assert len({patch.get_hatch() for patch in axes.patches}) == 2
    assert "padding counted: masked 2.50 (2.00 to 3.00), every place 0.50;" in plot.alt_text


def test_a_power_of_t_is_a_straight_line() -> None:
    plot = along_temperature([1, 10, 100], {"plain": [1.0, 0.01, 0.0001], "T": [1.0, 1.0, 1.0]})
    (axes,) = plot.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "10", "100"]
    assert len({(line.get_marker(), line.get_linestyle()) for line in axes.lines}) == 2
    assert "plain: 1 at 1, 0.01 at 10, 0.0001 at 100" in plot.alt_text


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="values: got no measure"):
        methods_by_measure({})
    with pytest.raises(ValueError, match=r"values: 'b' has \['y'\], expected \['x'\]"):
        methods_by_measure({"a": {"x": [1.0]}, "b": {"y": [1.0]}})
    with pytest.raises(ValueError, match="'x' is empty"):
        methods_by_measure({"a": {"x": []}})
    with pytest.raises(ValueError, match="'x' has 1 values, expected 2"):
        along_temperature([1, 2], {"x": [1.0]})
