"""Figures that compare a few methods: over several seeds and measures, or along a temperature. See `plots`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kdlab.plot_style import (
    STYLES,
    WIDTH,
    Plot,
    bar,
    capital,
    check_names,
    check_series,
    legend,
    new_plot,
    short,
)


def methods_by_measure(
    values: Mapping[str, Mapping[str, Sequence[float]]], *, unit: str = "nats", width: float = WIDTH
) -> Plot:
    """Several methods under several measures: a bar for the mean of the seeds, and a dot for each of them.

    Args:
        values: measure -> method -> a value for each seed. Every measure has the same methods.
        unit: of the values, as it stands beside the axis.
        width: of the figure, in inches.

    Raises:
        ValueError: no measure, no method or no seed, measures with different methods, or more methods than styles.

    >>> found = {"all places": {"a": [1.0, 2.0], "b": [1.0]}, "tokens": {"a": [0.5, 0.5], "b": [3.0]}}
    >>> print(methods_by_measure(found).alt_text)  # the mean, and from the lowest to the highest
    Nats. all places: a 1.50 (1.00 to 2.00), b 1.00; tokens: a 0.50, b 3.00.
    """
    if not values:
        raise ValueError("values: got no measure, expected at least one")
    methods = list(next(iter(values.values())))
    for measure, by_method in values.items():
        check_names(f"values[{measure!r}]", by_method)
        if list(by_method) != methods:
            raise ValueError(
                f"values: {measure!r} has {list(by_method)}, expected {methods} as the others have"
            )
    thickness = 0.8 / len(methods)
    with new_plot("", unit, width) as (plot, axes):
        words: dict[str, list[str]] = {measure: [] for measure in values}
        for number, method in enumerate(methods):
            places = [i + (number + 0.5) * thickness - 0.4 for i in range(len(values))]
            seeds = [by_method[method] for by_method in values.values()]
            means = [math.fsum(found) / len(found) for found in seeds]
            axes.bar(places, means, 0.9 * thickness, label=method, **bar(number))
            for measure, place, mean, found in zip(values, places, means, seeds, strict=True):
                ring = {"markerfacecolor": "white", "markeredgecolor": "#000000", "markersize": 5}
                axes.plot([place] * len(found), found, marker="o", linestyle="none", **ring)
                spread = f" ({min(found):.2f} to {max(found):.2f})" if min(found) < max(found) else ""
                words[measure].append(f"{method} {mean:.2f}{spread}")
        axes.set_xticks(range(len(values)), list(values))
        legend(plot, methods, always=True)
        said = "; ".join(f"{measure}: {', '.join(parts)}" for measure, parts in words.items())
        plot.alt_text = f"{capital(unit)}. {said}."
    return plot


def along_temperature(
    temperatures: Sequence[float],
    values: Mapping[str, Sequence[float]],
    *,
    measure: str = "size of the gradient",
    width: float = WIDTH,
) -> Plot:
    """Something against the temperature, both on a logarithmic scale: a power of T is a straight line.

    Args:
        temperatures: > 0, in order.
        values: for each name, a positive value for each temperature.
        measure: name and unit of the values.
        width: of the figure, in inches.

    Raises:
        ValueError: no series, more of them than there are styles, or one of another length than the temperatures.

    >>> print(along_temperature([1, 2], {"plain": [1.0, 0.25], "times T^2": [1.0, 1.0]}).alt_text)
    Size of the gradient, against temperature. plain: 1 at 1, 0.25 at 2; times T^2: 1 at 1, 1 at 2.
    """
    from matplotlib.ticker import FuncFormatter, NullLocator

    check_series("values", values, len(temperatures))
    with new_plot("temperature T (log scale)", f"{measure} (log scale)", width) as (plot, axes):
        words = []
        for (name, series), (colour, marker, line) in zip(values.items(), STYLES, strict=False):
            axes.plot(temperatures, series, color=colour, marker=marker, linestyle=line, label=name)
            points = ", ".join(f"{v:.2g} at {short(t)}" for t, v in zip(temperatures, series, strict=True))
            words.append(f"{name}: {points}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(list(temperatures))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        legend(plot, list(values))
        plot.alt_text = f"{capital(measure)}, against temperature. {'; '.join(words)}."
    return plot
