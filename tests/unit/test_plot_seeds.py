"""The figure of several seeds: its numbers in words, whiskers to the outermost seeds, styles that differ."""

from __future__ import annotations

import pytest

from kdlab.plot_seeds import curves_over_seeds

CURVES = {
    "baseline": [[(10, 2.0), (20, 1.5)], [(10, 2.4), (20, 1.7)], [(10, 1.9), (20, 1.9)]],
    "student": [[(10, 1.0), (20, 0.5)], [(10, 1.2), (20, 0.3)], [(10, 1.1), (20, 0.4)]],
}


def test_the_text_alternative_has_the_means_and_the_reach():
    plot = curves_over_seeds(CURVES, {"truth": 0.25}, measure="loss, nats")
    assert plot.alt_text == (
        "Loss, nats, against updates. baseline, 3 seeds: at 20 mean 1.700 (1.500 to 1.900), lowest mean 1.700 at 20; "
        "student, 3 seeds: at 20 mean 0.400 (0.300 to 0.500), lowest mean 0.400 at 20; truth: 0.250."
    )


def test_whiskers_reach_the_outermost_seeds_and_lines_differ():
    (axes,) = curves_over_seeds(CURVES).axes
    for number, (name, seeds) in enumerate(CURVES.items()):
        line, _, (whiskers,) = axes.containers[number]
        assert axes.containers[number].get_label() == name
        ends = [sorted(y for _, y in segment) for segment in whiskers.get_segments()]
        assert ends == [
            pytest.approx([min(c[i][1] for c in seeds), max(c[i][1] for c in seeds)]) for i in (0, 1)
        ]
        assert line.get_ydata() == pytest.approx([sum(c[i][1] for c in seeds) / 3 for i in (0, 1)])
    looks = {(c[0].get_marker(), str(c[0].get_linestyle())) for c in axes.containers}
    assert len(looks) == 2


def test_seeds_looked_at_after_other_updates_are_refused():
    with pytest.raises(
        ValueError, match=r"curves: 'a' has a seed at updates \[10, 30\], expected \[10, 20\]"
    ):
        curves_over_seeds({"a": [[(10, 1.0), (20, 1.0)], [(10, 1.0), (30, 1.0)]]})


def test_nothing_to_show_is_refused():
    with pytest.raises(ValueError, match="curves: got 0 series"):
        curves_over_seeds({})
