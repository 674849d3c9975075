"""Figures that can be read without colour: every series has its own marker and line, and its name beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette: distinct for colour-blind readers, and of different greys.
STYLES = [("#000000", "o", "-"), ("#0072B2", "s", "--"), ("#D55E00", "^", "-."), ("#009E73", "D", ":")]


def validation_curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> tuple[Figure, str]:
    """Validation loss against updates for each student; each curve's lowest point is ringed.

    Args:
        curves: for each name, (update, nats a token). The losses of different objectives have different floors.

    Returns:
        The figure, and its text alternative.
    """
    figure, axes = _figure("updates", "validation loss, nats a token")
    ends = []
    for (name, curve), (colour, marker, line) in zip(curves.items(), STYLES, strict=False):
        steps, losses = zip(*curve, strict=True)
        axes.plot(steps, losses, color=colour, marker=marker, linestyle=line, markersize=4, label=name)
        best = min(range(len(losses)), key=losses.__getitem__)
        axes.plot(
            steps[best], losses[best], "o", markersize=11, markerfacecolor="none", markeredgecolor=colour
        )
        ends.append(f"{name}: lowest {losses[best]:.3f} at update {steps[best]}, last {losses[-1]:.3f}")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure, "Validation loss against updates. " + "; ".join(ends) + "."


def quality_against_size(systems: Mapping[str, Mapping[str, Any]]) -> tuple[Figure, str]:
    """BLEU with its 95% interval against the number of parameters.

    Args:
        systems: for each name, a mapping with parameters, bleu and bleu_interval.

    Returns:
        The figure, and its text alternative.
    """
    figure, axes = _figure("parameters", "BLEU")
    for (name, system), (colour, marker, _) in zip(systems.items(), STYLES, strict=False):
        low, high = system["bleu_interval"]
        x, y = system["parameters"], system["bleu"]
        error = [[max(y - low, 0.0)], [max(high - y, 0.0)]]
        axes.errorbar(x, y, yerr=error, color=colour, marker=marker, capsize=3, markersize=7)
        axes.annotate(f"{name} {y:.1f}", (x, y), xytext=(9, 0), textcoords="offset points", va="center")
    axes.set_xscale("log")
    axes.margins(x=0.35)
    words = [f"{name} {s['bleu']:.1f} with {s['parameters']:,} parameters" for name, s in systems.items()]
    return figure, "BLEU against parameters: " + "; ".join(words) + "."


def _figure(x: str, y: str) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes
