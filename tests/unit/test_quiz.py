"""Quizzes: what is stored shows no key, what is shown says right or wrong in words."""

from __future__ import annotations

import base64
import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

from kdlab.classroom import quiz

TEXTS = {
    "A": "A student may see less than its teacher.",
    "B": 'Both see `x`, but c\' < c & "simpler" is allowed.',
    "C": "$z$ is what the user typed; it is never dropped.",
}
STORED = quiz.encode("inputs", "B", TEXTS)


def shown(capsys: pytest.CaptureFixture[str], answer: Any, stored: str = STORED) -> str:
    quiz.show("inputs", answer, stored)
    return capsys.readouterr().out


@pytest.mark.parametrize("answer", ["A", "B", "C"])
def test_the_chosen_explanation_comes_first_and_every_choice_has_one(
    answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    title, first, *others = shown(capsys, answer).splitlines()
    verdict = "right" if answer == "B" else "not right"
    assert title == "inputs"
    assert first == f"Your answer, {answer}, is {verdict}. {TEXTS[answer]}"
    rest = [choice for choice in "ABC" if choice != answer]
    assert others == [f"{one} is {'right' if one == 'B' else 'not right'}. {TEXTS[one]}" for one in rest]


@pytest.mark.parametrize("answer", ["b", " B ", "b\n"])
def test_a_letter_counts_however_it_is_typed(answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Your answer, B, is right." in shown(capsys, answer)
    quiz.show("inputs", answer, STORED, graded=True)


@pytest.mark.parametrize("answer", [None, ..., "", "...", "?"])
def test_nothing_is_explained_before_an_answer(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, answer) == 'inputs: not answered yet. Set answer to one of "A", "B", "C".\n'
    with pytest.raises(NotImplementedError, match=r"^inputs: not answered yet$"):
        quiz.show("inputs", answer, STORED, graded=True)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("D", '\'D\' is no choice. Set answer to one of "A", "B", "C".'),
        ("AB", '\'AB\' is no choice. Set answer to one of "A", "B", "C".'),
        (2, 'answer is of type int. Set it to one letter in quotation marks, one of "A", "B", "C".'),
        (["B"], 'answer is of type list. Set it to one letter in quotation marks, one of "A", "B", "C".'),
    ],
)
def test_what_is_no_choice_gets_a_sentence(
    answer: Any, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(capsys, answer) == f"inputs: {sentence}\n"
    with pytest.raises(AssertionError, match="^" + re.escape(f"inputs: {sentence}")):
        quiz.show("inputs", answer, STORED, graded=True)


def test_a_graded_quiz_says_nothing_of_the_right_choice(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError) as error:
        quiz.show("inputs", "A", STORED, graded=True)
    assert str(error.value) == "inputs: A is not right"
    quiz.show("inputs", "B", STORED, graded=True)
    assert capsys.readouterr().out == ""


def test_the_stored_form_hides_key_and_explanations() -> None:
    assert re.fullmatch(r"[\w=-]+", STORED)
    assert not any(
        word in STORED or word in str(base64.urlsafe_b64decode(STORED)) for word in ("student", "typed")
    )
    other_keys = [quiz.encode("inputs", right, TEXTS) for right in "AC"]
    assert len({STORED, *other_keys}) == 3
    # Even unpacked, the key is a hash of its own in each quiz, not of the letter.
    keys = [quiz._hash(name, "B", salt) for name in ("inputs", "losses") for salt in ("1", "2")]
    assert len(set(keys)) == 4


def test_a_release_is_built_the_same_each_time() -> None:
    assert quiz.encode("inputs", "B", dict(TEXTS)) == STORED


@pytest.mark.parametrize(
    ("right", "texts", "message"),
    [
        ("D", TEXTS, "right: got 'D', expected one of A, B, C"),
        ("A", {"A": "alone"}, "explanations: got 1, expected one for each of at least 2 choices"),
        ("A", {"A": "x", "b": "y"}, "explanations: got 'b': 'y', expected a capital letter and a reason"),
        ("A", {"A": "x", "B": " "}, "explanations: got 'B': ' ', expected a capital letter and a reason"),
    ],
)
def test_an_author_is_told_what_is_wrong(right: str, texts: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        quiz.encode("inputs", right, texts)


@pytest.mark.parametrize(
    "stored", ["", "abc", "not base64 at all", quiz.encode("losses", "B", TEXTS), None, STORED[:-8]]
)
def test_what_is_stored_belongs_to_the_quiz(stored: Any) -> None:
    with pytest.raises(ValueError, match="stored: got a form that is not that of the quiz 'inputs'"):
        quiz.show("inputs", "A", stored)


class Outline(HTMLParser):
    """Open tags and the text, as a screen reader meets them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_gets_a_page_that_can_be_read_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    displayed: list[quiz.Explained] = []
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=displayed.append))
    quiz.show("inputs", "B", STORED)
    page = displayed[0]._repr_html_()
    assert page.startswith('<section aria-label="Quiz: inputs">')
    assert "style" not in page
    assert "script" not in page
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert outline.tags == ["section", "p", "strong", "code", "p", "ul", "li", "strong", "li", "strong"]
    said = ['Your answer, B, is right. Both see x, but c\' < c & "simpler" is allowed.']
    said += ["The other choices:", f"A is not right. {TEXTS['A']}", f"C is not right. {TEXTS['C']}"]
    positions = [outline.text.index(sentence) for sentence in said]
    assert positions == sorted(positions)


def test_outside_a_notebook_it_is_plain_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert shown(capsys, "A").startswith("inputs\nYour answer, A, is not right.")
    assert "IPython" not in sys.modules
