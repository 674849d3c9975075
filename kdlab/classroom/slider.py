"""A slider that redraws a figure; where there are no widgets, the figure as it stands at the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"


class Slider:
    """What a cell ends with: a notebook with widgets shows the slider, any other reader the still figure.

    Args:
        draw: value -> a `kdlab.plot_style.Plot`.
        name: of the value, as it stands before the slider.
        values: that can be chosen.
        start: one of them.

    Raises:
        ValueError: `start` is none of the values.
    """

    def __init__(self, draw: Callable[[Any], Any], name: str, values: Sequence[Any], start: Any):
        if start not in values:
            raise ValueError(f"start: got {start!r}, expected one of {list(values)}")
        self.draw, self.name, self.values, self.start = draw, name, values, start

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        still = self.draw(self.start)
        bundle = {"text/plain": still.alt_text, "text/html": still.to_html()}
        try:
            from ipywidgets import HTML, SelectionSlider, VBox
        except ImportError:
            return bundle
        slider = SelectionSlider(options=self.values, value=self.start, description=self.name)
        picture = HTML(still.to_html())
        slider.observe(lambda change: setattr(picture, "value", self.draw(change["new"]).to_html()), "value")
        return {**bundle, WIDGET: VBox([slider, picture])._repr_mimebundle_()[WIDGET]}
