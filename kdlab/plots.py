"""Every figure of the course and of the reports: data in, a `Plot` out, which knows its text alternative.

They can be read without colour: each series has its own marker, line and hatch, and its name beside it. Text is of 9
points or more in a figure of 4 inches, the width of a phone. Nothing of pyplot's global state is touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kdlab.calibration import expected_calibration_error
from kdlab.plot_style import (
    STYLES,
    WIDTH,
    Plot,
    along,
    bar,
    capital,
    check_names,
    check_series,
    legend,
    line_across,
    name_places,
    new_plot,
    plain_log_ticks,
)


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
    check_names("curves", curves)
    with new_plot("updates", measure, width) as (plot, axes):
        words = []
        for (name, curve), (colour, marker, line) in zip(curves.items(), STYLES, strict=False):
            steps, losses = zip(*curve, strict=True)
            axes.plot(steps, losses, color=colour, marker=marker, linestyle=line, markersize=4, label=name)
            best = min(range(len(losses)), key=losses.__getitem__)
            ring = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": colour}
            axes.plot(steps[best], losses[best], marker="o", linestyle="none", **ring)
            words.append(f"{name}: lowest {losses[best]:.3f} at update {steps[best]}, last {losses[-1]:.3f}")
        for name, floor in (floors or {}).items():
            line_across(axes, floor, f"{name} {floor:.3g}")
            words.append(f"{name}: floor {floor:.3f}")
        axes.set_ylim(bottom=0)
        legend(plot, list(curves))
        plot.alt_text = f"{capital(measure)}, against updates. {'; '.join(words)}."
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
    check_series("probabilities", probabilities, len(words))
    first = next(iter(probabilities.values()))
    shown = sorted(range(len(words)), key=lambda i: -first[i])[:at_most]
    labels = [words[i] for i in shown] + (["all others"] if len(words) > at_most else [])
    with new_plot("probability", "", width, height=0.8 + 0.24 * len(labels) * len(probabilities)) as (
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
            axes.barh(places, bars, thickness, label=name, **bar(number))
            said.append(f"{name}: " + ", ".join(f"{w} {b:.3f}" for w, b in zip(labels, bars, strict=True)))
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()  # the most probable on top; words are read from left to right
        legend(plot, list(probabilities))
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
    check_series("divergences", divergences, len(tokens))
    with new_plot("target tokens", measure, width) as (plot, axes):
        for (name, values), (colour, marker, line) in zip(divergences.items(), STYLES, strict=False):
            axes.plot(range(len(tokens)), values, color=colour, marker=marker, linestyle=line, label=name)
        name_places(plot, axes, tokens)
        axes.set_ylim(bottom=0)
        legend(plot, list(divergences))
        plot.alt_text = f"{capital(measure)}, along the target. {along(tokens, divergences)}."
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
    check_series("entropies", entropies, len(tokens))
    with new_plot("target tokens", "entropy, nats", width) as (plot, axes):
        thickness = 0.8 / len(entropies)
        for number, (name, values) in enumerate(entropies.items()):
            places = [i + (number + 0.5) * thickness - 0.4 for i in range(len(tokens))]
            axes.bar(places, values, thickness, label=name, **bar(number))
        name_places(plot, axes, tokens)
        words = along(tokens, entropies)
        if most is not None:
            line_across(axes, most, f"uniform {most:.3g}")
            words += f"; uniform distribution: {most:.3f}"
        legend(plot, list(entropies))
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

    `kdlab.calibration` makes the bins; the text alternative gives their expected calibration error.

    >>> print(reliability({"student": [(0.5, 0.4, 10), (0.9, 0.9, 30)]}).alt_text)
    Accuracy against confidence. student: 0.40 at 0.50, 0.90 at 0.90, expected calibration error 0.025.
    """
    check_names("bins", bins)
    with new_plot("confidence", "accuracy", width, height=0.9 * width) as (plot, axes):
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
            points = ", ".join(f"{a:.2f} at {c:.2f}" for c, a, _ in kept)
            words.append(
                f"{name}: {points}, expected calibration error {expected_calibration_error(kept):.3f}"
            )
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_aspect("equal")
        legend(plot, [*bins, "calibrated"])
        plot.alt_text = f"Accuracy against confidence. {'; '.join(words)}."
    return plot


def _quality_against(systems: Mapping[str, Mapping[str, Any]], field: str, unit: str, width: float) -> Plot:
    check_names("systems", systems)
    with new_plot(f"{unit} (log scale)", "BLEU", width) as (plot, axes):
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
        plain_log_ticks(axes, [float(system[field]) for system in systems.values()])
        legend(plot, [f"{name} 00.0" for name in systems], always=True)
        plot.alt_text = f"BLEU against {unit}: {'; '.join(words)}."
    return plot
