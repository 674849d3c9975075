"""Figures about students of several sizes: data in, a `Plot` out, as in `kdlab.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdlab.plot_style import STYLES, WIDTH, Plot, check_names, legend, new_plot, plain_log_ticks


def agreement_against_size(
    students: Mapping[str, tuple[int, Sequence[float]]], *, teacher: int | None = None, width: float = WIDTH
) -> Plot:
    """How often each student's best token is the teacher's, against its number of parameters.

    Args:
        students: name -> (parameters, agreement from 0 to 1 of each of its seeds). The mark is their mean, the bar
            goes from the lowest to the highest.
        teacher: its number of parameters: a line upright.
        width: of the figure, in inches.

    Raises:
        ValueError: no student, one without a seed, or more of them than there are styles.

    >>> print(agreement_against_size({"narrow": (30_000, [0.5, 0.75])}).alt_text)
    Agreement with the teacher against parameters: narrow 62.5% (50.0% to 75.0%) with 30,000 parameters.
    """
    check_names("students", {name: agreements for name, (_, agreements) in students.items()})
    with new_plot("parameters (log scale)", "agreement with the teacher, %", width) as (plot, axes):
        words, labels = [], []
        for (name, (parameters, agreements)), (colour, marker, _) in zip(
            students.items(), STYLES, strict=False
        ):
            low, high = 100 * min(agreements), 100 * max(agreements)
            mean = 100 * sum(agreements) / len(agreements)
            labels.append(f"{name} {mean:.1f}%")
            error = [[mean - low], [high - mean]] if len(agreements) > 1 else None
            axes.errorbar(
                parameters, mean, yerr=error, color=colour, marker=marker, linestyle="none", capsize=3,
                markersize=8, markerfacecolor="none", markeredgewidth=1.6, label=labels[-1],
            )  # fmt: skip
            spread = f" ({low:.1f}% to {high:.1f}%)" if len(agreements) > 1 else ""
            words.append(f"{name} {mean:.1f}%{spread} with {parameters:,} parameters")
        sizes = [float(parameters) for parameters, _ in students.values()]
        if teacher is not None:
            axes.axvline(teacher, color="#666666", linewidth=1.2, linestyle=(0, (2, 2)))
            axes.annotate(
                "teacher", (teacher, 0), xycoords=("data", "axes fraction"), xytext=(-3, 4),
                textcoords="offset points", ha="right", rotation=90,
            )  # fmt: skip
            sizes.append(float(teacher))
        axes.set_xscale("log")
        axes.set_ylim(0, 105)
        axes.margins(x=0.15)
        plain_log_ticks(axes, sizes)
        legend(plot, labels, always=True)
        last = "" if teacher is None else f" The teacher has {teacher:,}."
        plot.alt_text = f"Agreement with the teacher against parameters: {'; '.join(words)}.{last}"
    return plot
