"""A figure under a slider; where there are no widgets, the figure as it stands at the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def slider(draw: Callable[[Any], Any], name: str, values: Sequence[Any], start: Any) -> None:
    """Show a figure, and a slider that draws it anew.

    The figure is an output of its own, so a page without widgets shows it: nbconvert's, GitHub's, papermill's.

    Args:
        draw: value -> a `kdlab.plot_style.Plot`.
        name: of the value, as it stands before the slider.
        values: that can be chosen.
        start: one of them.

    Raises:
        ValueError: `start` is none of the values.

    >>> slider(lambda T: f"drawn at temperature {T}", "temperature", values=[0.5, 1, 2], start=3)
    Traceback (most recent call last):
    ValueError: start: got 3, expected one of [0.5, 1, 2]
    """
    from IPython.display import display

    if start not in values:
        raise ValueError(f"start: got {start!r}, expected one of {list(values)}")
    figure = display(draw(start), display_id=True)  # type: ignore[no-untyped-call]
    try:
        from ipywidgets import SelectionSlider
    except ImportError:
        return
    widget = SelectionSlider(options=values, value=start, description=name)
    if figure is not None:  # None outside a notebook
        widget.observe(lambda change: figure.update(draw(change["new"])), "value")
        display(widget)  # type: ignore[no-untyped-call]
