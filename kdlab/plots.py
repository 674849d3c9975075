"""Every figure of the course and of the reports: data in, a `Plot` out, which knows its text alternative.

They can be read without colour: each series has its own marker, line and hatch, and its name beside it. Text is of 9
points or more in a figure of 4 inches, the width of a phone. Nothing of pyplot's global state is touched.
"""

from __future__ import annotations

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

    `to_html` gives both as a piece of a page, and a notebook shows that.
    """

    alt_text: str = ""

    def to_html(self) -> str:
        """The figure as SVG, named by its text alternative; the same figure gives the same bytes."""
        buffer = io.StringIO()
        with matplotlib.rc_context({"svg.hashsalt": "kdlab"}):
            self.savefig(buffer, format="svg", metadata={"Date": None})
        picture = buffer.getvalue()
        name = html.escape(self.alt_text)
        return f'<div role="img" aria-label="{name}">{picture[picture.index("<svg") :]}</div>'

    _repr_html_ = to_html


def validation_curves(
    curves: Mapping[str, Sequence[tuple[int, float]]],
    floors: Mapping[str, float] | None = None,
    *,
    measure: str = "validation loss, nats a token",
    width: float = WIDTH,
) -> Plot:
    """Loss against updates for each student; each curve's lowest point is ringed.

    Args:
        curves: for each name, (update, nats a token). The losses of different objectives have different floors.
        floors: for each name, a value below which a loss cannot come, such as the teacher's entropy for cross-entropy:
            a line right across.
        measure: name and unit of the values.
        width: of the figure, in inches.

    Raises:
        ValueError: no curve, an empty one, or more of them than there are styles.

    >>> print(validation_curves({"s": [(10, 1.25)]}, {"entropy": 1.0}).alt_text)
    Validation loss, nats a token, against updates. s: lowest 1.250 at update 10, last 1.250; entropy: floor 1.000.
    """
    _check_names("curves", curves)
    with _plot("updates", measure, width) as (plot, axes):
        words = []
        for (name, curve), (colour, marker, line) in zip(curves.items(), STYLES, strict=False):
            steps, losses = zip(*curve, strict=True)
            axes.plot(steps, losses, color=colour, marker=marker, linestyle=line, markersize=4, label=name)
            best = min(range(len(losses)), key=losses.__getitem__)
            ring = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": colour}
            axes.plot(steps[best], losses[best], marker="o", linestyle="none", **ring)
            words.append(f"{name}: lowest {losses[best]:.3f} at update {steps[best]}, last {losses[-1]:.3f}")
        for name, floor in (floors or {}).items():
            _line_across(axes, floor, f"{name} {floor:.3g}")
            words.append(f"{name}: floor {floor:.3f}")
        axes.set_ylim(bottom=0)
        _legend(plot, list(curves))
        plot.alt_text = f"{_capital(measure)}, against updates. {'; '.join(words)}."
    return plot


def quality_against_size(systems: Mapping[str, Mapping[str, Any]], *, width: float = WIDTH) -> Plot:
    """BLEU with its 95% interval against the number of parameters.

    Args:
        systems: for each name, a mapping with parameters, bleu and bleu_interval.
        width: of the figure, in inches.

    Raises:
        ValueError: no system, or more of them than there are styles.

    >>> teacher = {"parameters": 600_000, "bleu": 30.0, "bleu_interval": [28.5, 31.5]}
    >>> print(quality_against_size({"teacher": teacher}).alt_text)
    BLEU against parameters: teacher 30.0 (95% interval 28.5 to 31.5) with 600,000 parameters.
    """
    return _quality_against(systems, "parameters", "parameters", width)


def quality_against_speed(systems: Mapping[str, Mapping[str, Any]], *, width: float = WIDTH) -> Plot:
    """BLEU with its 95% interval against target tokens a second.

    Arguments and errors as for `quality_against_size`, with tokens_per_second for parameters.

    >>> student = {"tokens_per_second": 39000.4, "bleu": 30.0, "bleu_interval": [28.5, 31.5]}
    >>> print(quality_against_speed({"student": student}).alt_text)
    BLEU against tokens a second: student 30.0 (95% interval 28.5 to 31.5) with 39,000 tokens a second.
    """
    return _quality_against(systems, "tokens_per_second", "tokens a second", width)


def distributions(
    words: Sequence[str],
    probabilities: Mapping[str, Sequence[float]],
    *,
    at_most: int = 8,
    width: float = WIDTH,
) -> Plot:
    """Next-word distributions side by side: teacher and student, or one at several temperatures.

    Args:
        words: of the vocabulary, as they are shown.
        probabilities: for each name, one for each word. The words shown are the most probable of the first name, in its
            order, and what all others hold together.
        at_most: so many words are shown.
        width: of the figure, in inches.

    Raises:
        ValueError: no distribution, more of them than there are styles, or one of another length than the words.

    >>> print(distributions(["Sie", "du", "man"], {"teacher": [0.5, 0.3, 0.2]}, at_most=2).alt_text)
    Probability of the next word. teacher: Sie 0.500, du 0.300, all others 0.200.
    """
    _check_series("probabilities", probabilities, len(words))
    first = next(iter(probabilities.values()))
    shown = sorted(range(len(words)), key=lambda i: -first[i])[:at_most]
    labels = [words[i] for i in shown] + (["all others"] if len(words) > at_most else [])
    with _plot("probability", "", width, height=0.8 + 0.24 * len(labels) * len(probabilities)) as (
        plot,
        axes,
    ):
        said = []
        for number, (name, values) in enumerate(probabilities.items()):
            bars = [float(values[i]) for i in shown]
            if len(words) > at_most:
                bars.append(max(1.0 - math.fsum(bars), 0.0))
            thickness = 0.8 / len(probabilities)
            places = [i + (number + 0.5) * thickness - 0.4 for i in range(len(bars))]
            axes.barh(places, bars, thickness, label=name, **_bar(number))
            said.append(f"{name}: " + ", ".join(f"{w} {b:.3f}" for w, b in zip(labels, bars, strict=True)))
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()  # the most probable on top; words are read from left to right
        _legend(plot, list(probabilities))
        plot.alt_text = f"Probability of the next word. {'; '.join(said)}."
    return plot


def divergence_along_target(
    tokens: Sequence[str],
    divergences: Mapping[str, Sequence[float]],
    *,
    measure: str = "KL(teacher || student), nats",
    width: float = WIDTH,
) -> Plot:
    """Where in a sentence a student differs from its teacher: a value for each target token.

    Args:
        tokens: of the target, in order.
        divergences: for each name, a value for each token.
        measure: name and unit of the values.
        width: of the figure, in inches.

    Raises:
        ValueError: no series, more of them than there are styles, or one of another length than the tokens.

    >>> print(divergence_along_target(["Wo", "ist"], {"student": [0.02, 0.5]}).alt_text)
    KL(teacher || student), nats, along the target. student: Wo 0.020, ist 0.500, mean 0.260.
    """
    _check_series("divergences", divergences, len(tokens))
    with _plot("target tokens", measure, width) as (plot, axes):
        for (name, values), (colour, marker, line) in zip(divergences.items(), STYLES, strict=False):
            axes.plot(range(len(tokens)), values, color=colour, marker=marker, linestyle=line, label=name)
        _name_places(plot, axes, tokens)
        axes.set_ylim(bottom=0)
        _legend(plot, list(divergences))
        plot.alt_text = f"{_capital(measure)}, along the target. {_along(tokens, divergences)}."
    return plot


def entropy_along_target(
    tokens: Sequence[str],
    entropies: Mapping[str, Sequence[float]],
    *,
    most: float | None = None,
    width: float = WIDTH,
) -> Plot:
    """How undecided the distribution before each target token is.

    Args:
        tokens: of the target, in order.
        entropies: for each name, nats for each token.
        most: the entropy of the uniform distribution, log(vocabulary): a line right across.
        width: of the figure, in inches.

    Raises:
        ValueError: no series, more of them than there are styles, or one of another length than the tokens.

    >>> print(entropy_along_target(["Wo", "ist"], {"teacher": [0.02, 0.5]}, most=6.0).alt_text)
    Entropy along the target, nats. teacher: Wo 0.020, ist 0.500, mean 0.260; uniform distribution: 6.000.
    """
    _check_series("entropies", entropies, len(tokens))
    with _plot("target tokens", "entropy, nats", width) as (plot, axes):
        thickness = 0.8 / len(entropies)
        for number, (name, values) in enumerate(entropies.items()):
            places = [i + (number + 0.5) * thickness - 0.4 for i in range(len(tokens))]
            axes.bar(places, values, thickness, label=name, **_bar(number))
        _name_places(plot, axes, tokens)
        words = _along(tokens, entropies)
        if most is not None:
            _line_across(axes, most, f"uniform {most:.3g}")
            words += f"; uniform distribution: {most:.3f}"
        _legend(plot, list(entropies))
        plot.alt_text = f"Entropy along the target, nats. {words}."
    return plot


def reliability(bins: Mapping[str, Sequence[tuple[float, float, int]]], *, width: float = WIDTH) -> Plot:
    """Reliability diagram: how often a model is right against how sure it is. On the diagonal it is calibrated.

    Args:
        bins: for each name, (mean confidence, accuracy, tokens) of each bin; empty bins are left out. The more tokens a
            bin holds, the larger its marker.
        width: of the figure, in inches.

    Raises:
        ValueError: no model, or more of them than there are styles.

    The text alternative gives the expected calibration error, SUM tokens |confidence - accuracy| / SUM tokens (Guo et
    al. 2017).

    >>> print(reliability({"student": [(0.5, 0.4, 10), (0.9, 0.9, 30)]}).alt_text)
    Accuracy against confidence. student: 0.40 at 0.50, 0.90 at 0.90, expected calibration error 0.025.
    """
    _check_names("bins", bins)
    with _plot("confidence", "accuracy", width, height=0.9 * width) as (plot, axes):
        axes.plot([0, 1], [0, 1], color="#666666", linewidth=1.2, linestyle=(0, (2, 2)), label="calibrated")
        words = []
        for (name, found), (colour, marker, line) in zip(bins.items(), STYLES, strict=False):
            kept = [(c, a, n) for c, a, n in found if n > 0]
            confidence, accuracy, tokens = zip(*kept, strict=True)
            axes.plot(
                confidence, accuracy, color=colour, marker=marker, linestyle=line, markersize=3, label=name
            )
            areas = [12 + 90 * n / max(tokens) for n in tokens]
            axes.scatter(confidence, accuracy, areas, color=colour, marker=marker)
            error = math.fsum(n * abs(c - a) for c, a, n in kept) / sum(tokens)
            points = ", ".join(f"{a:.2f} at {c:.2f}" for c, a, _ in kept)
            words.append(f"{name}: {points}, expected calibration error {error:.3f}")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_aspect("equal")
        _legend(plot, [*bins, "calibrated"])
        plot.alt_text = f"Accuracy against confidence. {'; '.join(words)}."
    return plot


def _quality_against(systems: Mapping[str, Mapping[str, Any]], field: str, unit: str, width: float) -> Plot:
    _check_names("systems", systems)
    with _plot(f"{unit} (log scale)", "BLEU", width) as (plot, axes):
        words = []
        for (name, system), (colour, marker, _) in zip(systems.items(), STYLES, strict=False):
            low, high = system["bleu_interval"]
            x, y = system[field], system["bleu"]
            error = [[max(y - low, 0.0)], [max(high - y, 0.0)]]
            axes.errorbar(
                x, y, yerr=error, color=colour, marker=marker, linestyle="none", capsize=3, markersize=8,
                markerfacecolor="none", markeredgewidth=1.6,  # systems of one size lie on one another
                label=f"{name} {y:.1f}",
            )  # fmt: skip
            words.append(f"{name} {y:.1f} (95% interval {low:.1f} to {high:.1f}) with {x:,.0f} {unit}")
        axes.set_xscale("log")
        axes.margins(x=0.2, y=0.15)
        _plain_log_ticks(axes, [float(system[field]) for system in systems.values()])
        _legend(plot, [f"{name} 00.0" for name in systems], always=True)
        plot.alt_text = f"BLEU against {unit}: {'; '.join(words)}."
    return plot


@contextmanager
def _plot(x: str, y: str, width: float, height: float | None = None) -> Iterator[tuple[Plot, Any]]:
    """A figure with one pair of axes; all its text is made while the sizes hold."""
    with matplotlib.rc_context(_SIZES):
        plot: Plot = Plot(figsize=(width, height or 0.75 * width), layout="constrained", facecolor="white")
        axes = plot.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        yield plot, axes


def _legend(plot: Plot, names: Sequence[str], *, always: bool = False) -> None:
    """Names above the axes, where they hide nothing, in two columns if they are short; the figure grows by it."""
    if len(names) < 2 and not always:
        return
    width, height = plot.get_size_inches()
    letters = sum(sorted(map(len, names))[-2:])
    columns = 2 if letters * 0.075 + 1.3 <= width else 1  # a letter at 9 points; the handles and gaps
    plot.set_size_inches(width, height + 0.18 * math.ceil(len(names) / columns))
    plot.legend(loc="outside upper left", frameon=False, ncols=columns, handlelength=2.8, columnspacing=1.0)


def _line_across(axes: Any, height: float, words: str) -> None:
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


def _bar(number: int) -> dict[str, Any]:
    colour = STYLES[number][0]
    filled = colour if not HATCHES[number] else "white"
    return {"facecolor": filled, "edgecolor": colour, "hatch": HATCHES[number], "linewidth": 1.0}


def _name_places(plot: Plot, axes: Any, tokens: Sequence[str]) -> None:
    """Tokens under their places; upright where they are many, and then the figure grows by the longest."""
    upright = sum(map(len, tokens)) > 30
    axes.set_xticks(range(len(tokens)), tokens, rotation=90 if upright else 0)
    if upright:
        width, height = plot.get_size_inches()
        plot.set_size_inches(width, height + 0.08 * max(map(len, tokens)))
    axes.set_xlim(-0.6, len(tokens) - 0.4)


def _plain_log_ticks(axes: Any, values: Sequence[float]) -> None:
    """1, 2, 5 times powers of ten, as people write them, and more where the span has no power of ten in it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    span = max(values) / min(values)
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if span < 5 else (1.0, 2.0, 5.0) if span < 100 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _along(tokens: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    words = []
    for name, values in series.items():
        each = ", ".join(f"{token} {value:.3f}" for token, value in zip(tokens, values, strict=True))
        words.append(f"{name}: {each}, mean {math.fsum(values) / len(tokens):.3f}")
    return "; ".join(words)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _check_names(argument: str, series: Mapping[str, Any]) -> None:
    if not 1 <= len(series) <= len(STYLES):
        raise ValueError(
            f"{argument}: got {len(series)} series, expected 1 to {len(STYLES)}: no more look different without colour"
        )
    for name, values in series.items():
        if not len(values):
            raise ValueError(f"{argument}: {name!r} is empty, expected values")


def _check_series(argument: str, series: Mapping[str, Sequence[float]], length: int) -> None:
    _check_names(argument, series)
    for name, values in series.items():
        if len(values) != length:
            raise ValueError(
                f"{argument}: {name!r} has {len(values)} values, expected {length}, one for each word"
            )
