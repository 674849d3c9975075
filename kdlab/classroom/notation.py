r"""The course's notation: what may stand in a formula, and what it means. Anything else is refused.

A formula is read from left to right as a row of the pieces below, each spelt as it stands here. So `P_t` is known and
`P` and `P_s` are not. An index that only counts may follow any piece: `y_i`, `y_{<i}`, `x_1`, `\theta^2`.
"""

from __future__ import annotations

import re
from functools import cache

# The syllabus's table of formulas, and what its exercises name beside it.
SYMBOLS = {
    r"\mathrm{Pr}^t": "the teacher's distribution",
    r"\mathrm{Pr}_\theta^s": "the student's distribution",
    r"P_t": "the teacher's distribution, short",
    r"P_\theta^s": "the student's distribution, short",
    r"p_t": "the teacher's probabilities for one token",
    r"p_s": "the student's probabilities for one token",
    r"z_t": "the teacher's logits",
    r"z_s": "the student's logits",
    r"c": "context",
    r"z": "user input",
    r"c'": "the student's context, which may be simplified",
    r"z'": "the student's user input",
    r"x": "input: context and user input",
    r"x'": "an input of D'",
    r"y": "output: a token or a sequence",
    r"v": "a token of the vocabulary",
    r"\hat{y}": "the teacher's most probable output",
    r"D'": "the inputs of the training, without references",
    r"\theta": "the student's parameters",
    r"\hat{\theta}": "the parameters that the training finds",
    r"\mathrm{Loss}": "the general loss",
    r"\mathrm{Loss}_{\mathrm{kd}}": "the loss of distillation, where another stands beside it",
    r"L_{\mathrm{ResD}}": "the response-based loss",
    r"L_R": "a divergence between what the logits say",
    r"\mathrm{KL}": "Kullback-Leibler divergence, in nats",
    r"\mathrm{CE}": "cross-entropy, in nats",
    r"\mathrm{JSD}": "Jensen-Shannon divergence, in nats",
    r"\mathrm{TV}": "total variation",
    r"H": "entropy, in nats",
    r"I": "mutual information, in nats",
    r"C": "context, drawn at random",
    r"C'": "the student's context, drawn at random",
    r"Y": "output, drawn at random",
    r"T": "temperature",
    r"V": "the vocabulary",
    r"m": "the mixture of teacher and student in the generalised JSD",
    r"\lambda": "weight of the loss of distillation",
    r"\alpha": "parameter of the alpha divergence and of the skewed KLs",
    r"\beta": "weight in the generalised JSD",
    r"i": "index",
    r"j": "index",
    r"n": "index, or how many",
    r"d": "differential",
}

# What every textbook has. An operator takes its range below it: `\sum_{x' \in D'}`.
# Spelt for MathJax 3, JupyterLab's: it has no \argmin, and sets the t of a displayed \Pr^t above the Pr.
OPERATORS = {r"\arg", r"\exp", r"\lim", r"\log", r"\max", r"\min", r"\prod", r"\sum"}
MACROS = {
    r"\,", r"\;", r"\!", r"\:", r"\{", r"\}", r"\|", r"\\", r"\approx", r"\cdot", r"\dots", r"\frac", r"\ge", r"\in",
    r"\infty", r"\ldots", r"\le", r"\left", r"\mid", r"\ne", r"\operatorname{softmax}", r"\partial", r"\qquad",
    r"\quad", r"\right", r"\sqrt", r"\times", r"\to",
}  # fmt: skip
CHARACTERS = set("0123456789+-=<>/*.,:;()[]{}|!&")
_INDEX = r"[_^](?:[0-9ijn]|\{[0-9ijn<>=+\-, ]+\})"

_CODE = re.compile(r"^(```|~~~).*?^\1|(`+).*?\2", re.DOTALL | re.MULTILINE)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(?!\s)([^$]+?)(?<!\s)\$(?!\d)", re.DOTALL)
_MARK = r"(?:[_^](?:\{(?:[^{}]|\{[^{}]*\})*\}|\\[A-Za-z]+|[^{}])|')"
_UNKNOWN = re.compile(
    rf"{_MARK}+|(?:\\(?:mathrm|operatorname|text)\{{[^{{}}]*\}}|\\[A-Za-z]+|\\?.){_MARK}*", re.DOTALL
)


def formulas(markdown: str) -> list[str]:
    r"""What stands between `$` and `$`, or `$$` and `$$`, outside code; `\$` is a dollar.

    >>> formulas(r"The entropy $H(P_t)$ costs \$5, not `$x$`.")
    ['H(P_t)']
    """
    text = _CODE.sub("", markdown).replace(r"\$", "")
    return [display or inline for display, inline in _FORMULA.findall(text)]


def undefined(formula: str) -> list[str]:
    r"""What a formula holds that the course does not define.

    >>> undefined(r"\mathrm{KL}(P_t \| P_\theta^s) = \sum_{i=1}^{n} y_i")
    []
    >>> undefined(r"D_{\mathrm{KL}}(p_t \| q) + P_s + \gamma")
    ['D_{\\mathrm{KL}}', 'q', 'P_s', '\\gamma']
    """
    rest = _in_one_spelling(formula)
    found = []
    while rest:
        piece = _pieces().match(rest)
        if piece:
            rest = rest[piece.end() :].lstrip()
        else:
            unknown = _UNKNOWN.match(rest)
            assert unknown  # its `.` takes any character
            found.append(unknown[0])
            rest = rest[unknown.end() :].lstrip()
    return found


def _in_one_spelling(formula: str) -> str:
    r"""`P_{t}` as `P_t`, `\hat y` as `\hat{y}`, and no space around `_`, `^` and `'`."""
    tight = re.sub(r"\s*([_^'])\s*", r"\1", formula.strip())
    tight = re.sub(r"([_^])\{(\w|\\[A-Za-z]+)\}", r"\1\2", tight)
    return re.sub(r"\\hat\s*([A-Za-z]|\\[A-Za-z]+)", r"\\hat{\1}", tight)


@cache
def _pieces() -> re.Pattern[str]:
    r"""One piece, the longest first; a macro ends where its letters end."""
    words = sorted({*SYMBOLS, *OPERATORS, *MACROS, *CHARACTERS}, key=len, reverse=True)
    known = (
        re.escape(word) + (r"(?![A-Za-z])" if re.search(r"\\[A-Za-z]+$", word) else "") for word in words
    )
    below = "|".join(map(re.escape, OPERATORS))
    return re.compile(rf"(?:{below})[_^]|{_INDEX}|{'|'.join(known)}")
