"""A figure of runs that were repeated with several seeds: the mean, and how far the seeds lie apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kdlab.plot_style import STYLES, WIDTH, Plot, capital, check_names, legend, new_plot

Curve = Sequence[tuple[int, float]]


def curves_over_seeds(
    curves: Mapping[str, Sequence[Curve]],
    floors: Mapping[str, float] | None = None,
    *,
    measure: str = "validation loss, nats a token",
    width: float = WIDTH,
) -> Plot:
    """A value against updates: for each system the mean of its seeds, with a whisker from the lowest to the highest.

    Args:
        curves: for each name, the curves of its seeds, (update, value), all at the same updates.
        floors: for each name, a value that no curve is expected below: a line right across.
        measure: name and unit of the values.
        width: of the figure, in inches.

    Raises:
        ValueError: no system, more of them than there are styles, or seeds that were looked at after other updates.

    >>> print(curves_over_seeds({"student": [[(10, 1.0), (20, 0.5)], [(10, 2.0), (20, 0.7)]]}).alt_text)
    Validation loss, nats a token, against updates. student, 2 seeds: at 20 mean 0.600 (0.500 to 0.700), lowest mean \
0.600 at 20.
    """
    check_names("curves", curves)
    with new_plot("updates", measure, width) as (plot, axes):
        words = []
        for number, ((name, seeds), (colour, marker, line)) in enumerate(
            zip(curves.items(), STYLES, strict=False)
        ):
            updates, values = _together(name, seeds)
            means = [math.fsum(row) / len(row) for row in values]
            reach = [
                [m - min(row) for m, row in zip(means, values, strict=True)],
                [max(row) - m for m, row in zip(means, values, strict=True)],
            ]
            # A little to the side of one another, so that whiskers at one update do not hide each other.
            shift = (number - (len(curves) - 1) / 2) * 0.008 * max(updates)
            axes.errorbar(
                [update + shift for update in updates], means, yerr=reach, color=colour, marker=marker,
                linestyle=line, markersize=4, capsize=2.5, elinewidth=1.0, label=name,
            )  # fmt: skip
            best = min(range(len(means)), key=means.__getitem__)
            words.append(
                f"{name}, {len(seeds)} seeds: at {updates[-1]} mean {means[-1]:.3f} ({min(values[-1]):.3f} to "
                f"{max(values[-1]):.3f}), lowest mean {means[best]:.3f} at {updates[best]}"
            )
        for name, floor in (floors or {}).items():
            # Named in the legend: a floor may be near 0, where words under it would stand on the axis.
            axes.axhline(floor, color="#666666", linewidth=1.2, linestyle=(0, (2, 2)), label=name)
            words.append(f"{name}: {floor:.3f}")
        axes.set_ylim(bottom=0)
        legend(plot, [*curves, *(floors or {})])
        plot.alt_text = f"{capital(measure)}, against updates. {'; '.join(words)}."
    return plot


def _together(name: str, seeds: Sequence[Curve]) -> tuple[list[int], list[list[float]]]:
    """The updates, and for each of them the values of all seeds."""
    updates = [update for update, _ in seeds[0]]
    for curve in seeds:
        found = [update for update, _ in curve]
        if found != updates:
            raise ValueError(
                f"curves: {name!r} has a seed at updates {found}, expected {updates} as the first"
            )
    return updates, [[curve[i][1] for curve in seeds] for i in range(len(updates))]
