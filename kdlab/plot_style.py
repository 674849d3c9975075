"""How figures look: styles that differ without colour, sizes for a phone, a figure with its text alternative."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito's palette: distinct for colour-blind readers, and of different greys. Colour, marker, line.
STYLES: list[tuple[str, str, Any]] = [
    ("#000000", "o", "-"),
    ("#0072B2", "s", "--"),
    ("#D55E00", "^", "-."),
    ("#009E73", "D", ":"),
    ("#CC79A7", "v", (0, (6, 1, 1, 1, 1, 1))),
    ("#56B4E9", "P", (0, (1, 3))),
    ("#E69F00", "X", (0, (8, 3))),
]
# In the order of STYLES; the first is filled, the others are drawn on white.
HATCHES = ["", "////", "....", "xx", "\\\\\\\\", "++", "oo"]
WIDTH = 4.0  # inches
_SIZES: Any = {  # matplotlib types its keys one by one
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "hatch.linewidth": 0.8,
}


class Plot(Figure):
    """A matplotlib figure with a text alternative that holds its numbers.

    Attributes:
        alt_text: what the figure shows, for who cannot see it.

    `to_html` gives both as a piece of a page; a notebook shows both as one image, since JupyterLab takes drawings out
    of notebooks that it does not trust, which is every one that somebody else has run.

    >>> with new_plot("update", "loss", width=2.0) as (plot, axes):
    ...     _ = axes.plot([1, 2], [3.0, 1.5])
    >>> plot.alt_text = "The loss falls from 3.0 to 1.5."
    >>> plot.to_html()[:68]
    '<div role="img" aria-label="The loss falls from 3.0 to 1.5."><svg xm'
    """

    alt_text: str = ""

    def to_html(self) -> str:
        """The figure as SVG, named by its text alternative; the same figure gives the same bytes."""
        return f'<div role="img" aria-label="{html.escape(self.alt_text)}">{self._drawing()}</div>'

    def _repr_html_(self) -> str:
        data = base64.b64encode(self._drawing().encode()).decode()
        return f'<img alt="{html.escape(self.alt_text)}" src="data:image/svg+xml;base64,{data}">'

    def _drawing(self) -> str:
        buffer = io.StringIO()
        with matplotlib.rc_context({"svg.hashsalt": "kdlab"}):
            self.savefig(buffer, format="svg", metadata={"Date": None})
        picture = buffer.getvalue()
        return picture[picture.index("<svg") :]


@contextmanager
def new_plot(x: str, y: str, width: float, height: float | None = None) -> Iterator[tuple[Plot, Any]]:
    """A figure with one pair of axes; all its text is made while the sizes hold.

    >>> with new_plot("update", "loss", width=4.0) as (plot, axes):
    ...     axes.get_xlabel(), plot.get_size_inches().tolist()
    ('update', [4.0, 3.0])
    """
    with matplotlib.rc_context(_SIZES):
        plot: Plot = Plot(figsize=(width, height or 0.75 * width), layout="constrained", facecolor="white")
        axes = plot.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        yield plot, axes


def legend(plot: Plot, names: Sequence[str], *, always: bool = False) -> None:
    """Names above the axes, where they hide nothing, in two columns if they are short; the figure grows by it.

    >>> with new_plot("update", "loss", width=4.0) as (plot, axes):
    ...     _ = axes.plot([1, 2], label="teacher"), axes.plot([2, 1], label="student")
    ...     legend(plot, ["teacher", "student"])  # one line of two columns
    >>> round(float(plot.get_figheight()), 2)
    3.18
    """
    if len(names) < 2 and not always:
        return
    width, height = plot.get_size_inches()
    letters = sum(sorted(map(len, names))[-2:])
    columns = 2 if letters * 0.075 + 1.3 <= width else 1  # a letter at 9 points; the handles and gaps
    plot.set_size_inches(width, height + 0.18 * math.ceil(len(names) / columns))
    plot.legend(loc="outside upper left", frameon=False, ncols=columns, handlelength=2.8, columnspacing=1.0)


def line_across(axes: Any, height: float, words: str) -> None:
    """A dashed line at a height, named at its right end.

    >>> with new_plot("update", "loss", width=4.0) as (plot, axes):
    ...     line_across(axes, 0.7, "the teacher's entropy")
    ...     axes.lines[0].get_ydata(), axes.texts[0].get_text()
    ([0.7, 0.7], "the teacher's entropy")
    """
    axes.axhline(height, color="#666666", linewidth=1.2, linestyle=(0, (2, 2)))
    axes.annotate(
        words,
        (1, height),
        xycoords=("axes fraction", "data"),
        xytext=(0, -3),
        textcoords="offset points",
        ha="right",
        va="top",
    )


def bar(number: int) -> dict[str, Any]:
    """How the bars of a series are drawn, as matplotlib's `bar` takes it: another hatch for each.

    >>> bar(0)["facecolor"], bar(1)["facecolor"], bar(1)["hatch"]
    ('#000000', 'white', '////')
    """
    colour = STYLES[number][0]
    filled = colour if not HATCHES[number] else "white"
    return {"facecolor": filled, "edgecolor": colour, "hatch": HATCHES[number], "linewidth": 1.0}


def name_places(plot: Plot, axes: Any, tokens: Sequence[str]) -> None:
    """Tokens under their places; upright where they are many, and then the figure grows by the longest.

    >>> with new_plot("", "loss", width=4.0) as (plot, axes):
    ...     name_places(plot, axes, ["der", "Bus"])
    ...     [label.get_text() for label in axes.get_xticklabels()]
    ['der', 'Bus']
    """
    upright = sum(map(len, tokens)) > 30
    axes.set_xticks(range(len(tokens)), tokens, rotation=90 if upright else 0)
    if upright:
        width, height = plot.get_size_inches()
        plot.set_size_inches(width, height + 0.08 * max(map(len, tokens)))
    axes.set_xlim(-0.6, len(tokens) - 0.4)


def plain_log_ticks(axes: Any, values: Sequence[float]) -> None:
    """1, 2, 5 times powers of ten, as people write them, and more where the span has no power of ten in it.

    >>> with new_plot("parameters", "BLEU", width=4.0) as (plot, axes):
    ...     axes.set_xscale("log")
    ...     plain_log_ticks(axes, [1e5, 1e6])
    ...     axes.xaxis.get_major_formatter()(2e5)
    '200 k'
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    span = max(values) / min(values)
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if span < 5 else (1.0, 2.0, 5.0) if span < 100 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def short(value: float) -> str:
    """A number as it stands on an axis.

    >>> short(1_500_000), short(200_000), short(0.5)
    ('1.5 M', '200 k', '0.5')
    """
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def along(tokens: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Each series in words for a text alternative: a value for each token, and the mean.

    >>> along(["der", "Bus"], {"student": [0.5, 1.5]})
    'student: der 0.500, Bus 1.500, mean 1.000'
    """
    words = []
    for name, values in series.items():
        each = ", ".join(f"{token} {value:.3f}" for token, value in zip(tokens, values, strict=True))
        words.append(f"{name}: {each}, mean {math.fsum(values) / len(tokens):.3f}")
    return "; ".join(words)


def capital(text: str) -> str:
    """The text with a capital at its start and the rest as it is.

    >>> capital("nats a token of KL")
    'Nats a token of KL'
    """
    return text[:1].upper() + text[1:]


def check_names(argument: str, series: Mapping[str, Any]) -> None:
    if not 1 <= len(series) <= len(STYLES):
        raise ValueError(
            f"{argument}: got {len(series)} series, expected 1 to {len(STYLES)}: no more look different without colour"
        )
    for name, values in series.items():
        if not len(values):
            raise ValueError(f"{argument}: {name!r} is empty, expected values")


def check_series(argument: str, series: Mapping[str, Sequence[float]], length: int) -> None:
    check_names(argument, series)
    for name, values in series.items():
        if len(values) != length:
            raise ValueError(
                f"{argument}: {name!r} has {len(values)} values, expected {length}, one for each word"
            )
