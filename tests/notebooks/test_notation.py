"""The syllabus's formulas are taken, others are not."""

from __future__ import annotations

import pytest

from kdlab.classroom.notation import formulas, undefined

# The table of the syllabus, in LaTeX.
SYLLABUS = [
    r"P_t = \mathrm{Pr}^t(\cdot \mid c, z)",
    r"P_\theta^s = \mathrm{Pr}_\theta^s(\cdot \mid c', z')",
    r"\mathrm{Loss}(\mathrm{Pr}^t(\cdot \mid \cdot), \mathrm{Pr}_\theta^s(\cdot \mid \cdot), x)",
    r"\hat{\theta} = \arg\min_\theta \sum_{x' \in D'} \mathrm{Loss}(\mathrm{Pr}^t, \mathrm{Pr}_\theta^s, x')",
    r"L_{\mathrm{ResD}}(z_t, z_s) = L_R(z_t, z_s)",
    r"\mathrm{Loss} = \mathrm{KL}(P_t \| P_\theta^s)",
    r"\mathrm{Loss} = - \sum_y \mathrm{Pr}^t(y \mid c, z) \log \mathrm{Pr}_\theta^s(y \mid c', z')",
    r"\hat y = \arg\max_{y} \mathrm{Pr}^t(y \mid c, z)",
    r"\mathrm{CE}(P_t, P_\theta^s) = H(P_t) + \mathrm{KL}(P_t \| P_\theta^s)",
    r"\max_\theta \sum \log \mathrm{Pr}_\theta^s(y \mid x) - \lambda\, \mathrm{Loss}_{\mathrm{kd}}",
    r"\frac{\partial}{\partial z_s} \mathrm{KL} = p_s - p_t",
    r"I(C; Y \mid C', z')",
    r"\sum_{i=1}^{n} \log \mathrm{Pr}^t(y_i \mid c, z, y_{<i})",
    r"T^2",
]


@pytest.mark.parametrize("formula", SYLLABUS)
def test_the_syllabus_s_formulas_are_taken(formula):
    assert undefined(formula) == []


@pytest.mark.parametrize(
    ("formula", "unknown"),
    [
        (r"P", ["P"]),
        (r"P_s", ["P_s"]),
        (r"P_T", ["P_T"]),
        (r"p_\theta", [r"p_\theta"]),
        (r"D_{\mathrm{KL}}(P_t \| P_\theta^s)", [r"D_{\mathrm{KL}}"]),
        (r"\mathcal{L}", [r"\mathcal", "L"]),
        (r"\mathrm{KLD}", [r"\mathrm{KLD}"]),
        (r"\leftarrow", [r"\leftarrow"]),
        (r"\tau", [r"\tau"]),
        (r"θ", ["θ"]),
        (r"KL", ["K", "L"]),
        (r"y_t", ["_t"]),
    ],
)
def test_what_the_course_does_not_define_is_told(formula, unknown):
    assert undefined(formula) == unknown


@pytest.mark.parametrize(
    ("spelling", "other"),
    [(r"P_{t}", r"P_t"), (r"P_{\theta} ^ {s}", r"P_\theta^s"), (r"\hat\theta", r"\hat{\theta}")],
)
def test_spellings_of_one_symbol_are_one(spelling, other):
    assert undefined(spelling) == undefined(other) == []


def test_formulas_are_found_outside_code():
    text = "$a$ costs \\$3 or \\$4, `$b$`, $$c\n+ d$$\n\n```\n$e$\n```\nand 5$ or 6$ more, ``x ` $f$``, $g$."
    assert formulas(text) == ["a", "c\n+ d", "g"]
