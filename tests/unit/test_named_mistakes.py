"""Right answers are accepted however they are written; each wrong one hears its own sentence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.classroom import checks, mistakes
from kdlab.classroom.recognition import Call, Mistake, indistinct, recognise
from tests.unit.exercises import EXERCISES, Exercise, Function


def sentence(exercise: Exercise, answer: Function, seeds: list[int]) -> str:
    """What a graded check says; "" where the answer is right."""
    try:
        checks.function(
            exercise.name,
            answer,
            exercise.right,
            *exercise.inputs,
            mistakes=exercise.mistakes,
            gradient_to=exercise.gradient_to,
            seeds=seeds,
            graded=True,
        )
    except AssertionError as error:
        return str(error)
    return ""


rights = [(one, answer, name) for one in EXERCISES for name, answer in one.rights.items()]
wrongs = [(one, *answer, name) for one in EXERCISES for name, answer in one.wrongs.items()]


@pytest.mark.parametrize(
    ("exercise", "answer"), [pytest.param(*one[:2], id=f"{one[0].name}-{one[2]}") for one in rights]
)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32))
def test_right_answers_are_accepted(exercise: Exercise, answer: Function, seed: int) -> None:
    assert sentence(exercise, answer, [seed]) == ""


@pytest.mark.parametrize(
    ("exercise", "answer", "expected"),
    [pytest.param(*one[:3], id=f"{one[0].name}-{one[3]}") for one in wrongs],
)
@pytest.mark.parametrize("seed", [1, 12345])
def test_each_wrong_answer_hears_its_own_sentence(
    exercise: Exercise, answer: Function, expected: Mistake | str, seed: int
) -> None:
    wanted = expected.sentence if isinstance(expected, Mistake) else expected
    assert sentence(exercise, answer, [seed, seed + 1]) == f"{exercise.name}: not right yet: {wanted}"


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.name)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_the_right_answer_is_never_accused(exercise: Exercise, seed: int) -> None:
    for draw in exercise.inputs:
        call = Call(exercise.right, draw(seed))
        assert recognise(call.right(), call, exercise.mistakes) == []


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.name)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_fresh_input_tells_any_two_mistakes_apart(exercise: Exercise, seed: int) -> None:
    """Each pair, and each mistake from the right answer, on one of the inputs of a check at least."""
    inputs = [draw(seed + i) for draw in exercise.inputs for i in range(3)]
    alike = [set(indistinct(Call(exercise.right, one), exercise.mistakes)) for one in inputs]
    assert set.intersection(*alike) == set()


def test_every_exercise_has_two_right_answers_and_three_wrong_ones() -> None:
    assert all(len(one.rights) >= 2 and len(one.wrongs) >= 3 for one in EXERCISES)


def test_every_named_mistake_is_made_by_a_wrong_answer() -> None:
    made = {one.sentence for exercise in EXERCISES for one in exercise.mistakes}
    catalogue = {one.sentence for one in vars(mistakes).values() if isinstance(one, Mistake)}
    assert catalogue - made == {mistakes.inverse_temperature_missing.sentence}  # test_checks.py makes it
