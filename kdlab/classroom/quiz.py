"""Quizzes without JavaScript: `answer = "B"`, then an explanation for each choice, the chosen one first.

In the author's script stand the choices with their explanations, as `show`'s last argument; the builder calls
`encode`, and only what it returns stands in the release. The key is a salted hash there and the explanations
are compressed, so nobody reads the answer by looking at the cell. It is no secret: with four choices and this
file, who wants to knows it in a minute. That is enough where the points are for thinking about it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CODE = re.compile(r"`([^`]+)`")


def encode(name: str, right: str, explanations: Mapping[str, str]) -> str:
    """The stored form of a quiz: one line of letters and digits, the same each time for the same quiz.

    Args:
        name: of the quiz. It is part of the hash, so `show` must be given the same.
        right: the right choice.
        explanations: choice, a capital letter -> why it is right or wrong. `code` and $mathematics$ are kept.

    Raises:
        ValueError: fewer than two choices, one that is no capital letter, no explanation, or a key that is
            no choice.

    >>> stored = encode("inputs", "B", {"A": "It sees less.", "B": "c' may be simpler than c."})
    >>> stored.isascii(), "simpler" in stored, '"B"' in stored
    (True, False, False)
    """
    if len(explanations) < 2:
        raise ValueError(
            f"explanations: got {len(explanations)}, expected one for each of at least 2 choices"
        )
    for choice, text in explanations.items():
        if not re.fullmatch("[A-Z]", choice) or not text.strip():
            raise ValueError(
                f"explanations: got {choice!r}: {text!r}, expected a capital letter and a reason"
            )
    if right not in explanations:
        raise ValueError(f"right: got {right!r}, expected one of {', '.join(explanations)}")
    # No random salt: a release is the same byte for byte whenever it is built.
    salt = hashlib.sha256(json.dumps([name, dict(explanations)]).encode()).hexdigest()[:16]
    content = {"salt": salt, "key": _hash(name, right, salt), "choices": dict(explanations)}
    packed = zlib.compress(json.dumps(content, ensure_ascii=False).encode(), 9)
    return base64.urlsafe_b64encode(packed).decode()


def show(name: str, answer: Any, stored: str, *, graded: bool = False) -> None:
    """Say whether the answer is right and explain every choice; or, graded, raise if it is not.

    Args:
        answer: a choice, "B"; None before it is answered.
        stored: what `encode` returned.
        graded: show nothing, name no right choice, and raise where the answer is not right.

    Raises:
        AssertionError: graded, and not right. NotImplementedError: graded, and not answered yet.
        ValueError: `stored` is not that of this quiz.

    >>> stored = encode("inputs", "B", {"A": "It sees less.", "B": "c' may be simpler than c."})
    >>> show("inputs", "B", stored)
    inputs
    Your answer, B, is right. c' may be simpler than c.
    A is not right. It sees less.
    >>> show("inputs", None, stored)
    inputs: not answered yet. Set answer to one of "A", "B".
    """
    quiz = _decode(name, stored)
    choice = _choice(answer, quiz)
    if graded:
        _require(quiz, choice, answer)
    elif choice is None:
        print(f"{name}: {_request(answer, quiz)}")
    else:
        _display(Explained(quiz.name, choice, quiz.right, quiz.choices))


@dataclass(frozen=True)
class Explained:
    """An answered quiz, as a page or as plain text: right or wrong is said in words, never by a colour.

    >>> explained = Explained("inputs", "A", "B", {"A": "`z` is gone.", "B": "1 < 2."})
    >>> print(explained._repr_html_())
    <section aria-label="Quiz: inputs"><p><strong>Your answer, A, is not right.</strong> <code>z</code> is gone.</p>
    <p>The other choices:</p><ul><li><strong>B is right.</strong> 1 &lt; 2.</li></ul></section>
    """

    name: str
    chosen: str
    right: str
    choices: Mapping[str, str]

    def __repr__(self) -> str:
        others = [f"{self._verdict(choice)} {text}" for choice, text in self._others().items()]
        return "\n".join([self.name, f"{self._first()} {self.choices[self.chosen]}", *others])

    def _repr_html_(self) -> str:
        others = "".join(
            f"<li><strong>{self._verdict(choice)}</strong> {_as_html(text)}</li>"
            for choice, text in self._others().items()
        )
        first = f"<p><strong>{self._first()}</strong> {_as_html(self.choices[self.chosen])}</p>"
        label = html.escape(self.name, quote=True)
        return f'<section aria-label="Quiz: {label}">{first}\n<p>The other choices:</p><ul>{others}</ul></section>'

    def _first(self) -> str:
        return f"Your answer, {self.chosen}, is {'right' if self.chosen == self.right else 'not right'}."

    def _verdict(self, choice: str) -> str:
        return f"{choice} is {'right' if choice == self.right else 'not right'}."

    def _others(self) -> dict[str, str]:
        return {choice: text for choice, text in self.choices.items() if choice != self.chosen}


@dataclass(frozen=True)
class _Quiz:
    name: str
    right: str
    choices: Mapping[str, str]


def _hash(name: str, choice: str, salt: str) -> str:
    return hashlib.sha256(f"{name}|{choice}|{salt}".encode()).hexdigest()


def _decode(name: str, stored: str) -> _Quiz:
    try:
        content = json.loads(zlib.decompress(base64.urlsafe_b64decode(stored)))
        choices = content["choices"]
        (right,) = (one for one in choices if _hash(name, one, content["salt"]) == content["key"])
    except (ValueError, KeyError, TypeError, zlib.error):
        raise ValueError(
            f"stored: got a form that is not that of the quiz {name!r}, expected encode's"
        ) from None
    return _Quiz(name, right, choices)


def _choice(answer: Any, quiz: _Quiz) -> str | None:
    """The choice that is meant; "b" and " B " are B."""
    letter = answer.strip().upper() if isinstance(answer, str) else None
    return letter if letter in quiz.choices else None


def _is_unanswered(answer: Any) -> bool:
    return answer is None or answer is ... or (isinstance(answer, str) and answer.strip(" .?_") == "")


def _request(answer: Any, quiz: _Quiz) -> str:
    """What to do where there is no answer, or one that is no choice."""
    choices = ", ".join(f'"{choice}"' for choice in quiz.choices)
    if _is_unanswered(answer):
        return f"not answered yet. Set answer to one of {choices}."
    if isinstance(answer, str):
        return f"{answer.strip()[:20]!r} is no choice. Set answer to one of {choices}."
    return f"answer is of type {type(answer).__name__}. Set it to one letter in quotation marks, one of {choices}."


def _require(quiz: _Quiz, choice: str | None, answer: Any) -> None:
    if _is_unanswered(answer):
        raise NotImplementedError(f"{quiz.name}: not answered yet")
    if choice is None:
        raise AssertionError(f"{quiz.name}: {_request(answer, quiz)}")
    if choice != quiz.right:
        raise AssertionError(f"{quiz.name}: {choice} is not right")


def _display(explained: Explained) -> None:
    """As a page in a notebook, as text elsewhere. A notebook has imported IPython already; nobody else waits for it."""
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(explained)
        return
    from IPython.display import display

    display(explained)  # type: ignore[no-untyped-call]


def _as_html(text: str) -> str:
    return CODE.sub(r"<code>\1</code>", html.escape(text, quote=False))
