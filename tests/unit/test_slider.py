"""The slider: a figure that everybody sees, and a widget that draws it anew."""

from __future__ import annotations

import IPython.display
import ipywidgets
import pytest

from kdlab.classroom.slider import slider


class Shown:
    """Stands for a notebook: keeps what is displayed, and what takes its place."""

    def __init__(self):
        self.outputs, self.updates = [], []

    def display(self, value, display_id=None):
        self.outputs.append(value)
        return self if display_id else None

    def update(self, value):
        self.updates.append(value)


def test_the_figure_is_shown_by_itself_and_drawn_anew_where_the_slider_stands(monkeypatch):
    shown = Shown()
    monkeypatch.setattr(IPython.display, "display", shown.display)
    slider(lambda t: f"T = {t}", "T", [1, 2, 4], start=2)
    figure, widget = shown.outputs
    assert figure == "T = 2"
    assert isinstance(widget, ipywidgets.SelectionSlider)
    assert (widget.value, widget.description) == (2, "T")
    widget.value = 4
    assert shown.updates == ["T = 4"]


def test_a_start_that_is_no_value_is_refused():
    with pytest.raises(ValueError, match=r"^start: got 3, expected one of \[1, 2\]"):
        slider(str, "T", [1, 2], start=3)
