"""What a check says: one sentence, whatever a student's function does, and nothing that frightens."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import kdlab
from kdlab.classroom import checks, explanation, mistakes
from kdlab.classroom.checks import Tolerance, fresh
from kdlab.classroom.comparison import difference
from kdlab.classroom.inputs import NUMBERS
from kdlab.classroom.recognition import Call, Mistake, indistinct, mistake
from kdlab.distributions import entropy, log_probabilities

Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What a check prints, and that the graded one raises its first line, or nothing where the answer is right."""

    def run(check: Callable[..., None], name: str, *args: Any, **options: Any) -> str:
        check(name, *args, **options)
        printed = capsys.readouterr().out.rstrip("\n")
        if printed.startswith(f"{name}: right"):
            check(name, *args, **options, graded=True)
        else:
            expected = NotImplementedError if printed == f"{name}: not written yet" else AssertionError
            with pytest.raises(expected) as error:
                check(name, *args, **options, graded=True)
            assert str(error.value) == printed.splitlines()[0]
        assert capsys.readouterr().out == ""
        return printed

    return run


def mine(logits: Tensor) -> Tensor:
    return torch.special.entr(logits.softmax(-1)).sum(-1)


def unwritten(logits: Tensor) -> Tensor:
    raise NotImplementedError


def stops(logits: Tensor) -> Tensor:
    return logits.no_such_method()


def stops_in_torch(logits: Tensor) -> Tensor:
    return torch.matmul(logits, torch.zeros(1, 1))


def stops_in_a_library(logits: Tensor) -> Tensor:
    return functional.dropout(logits, 7.0)


def uses_padding(logits: Tensor) -> Tensor:
    return logits.gather(-1, torch.full((*logits.shape[:-1], 1), -100))


def leaves(logits: Tensor) -> Tensor:
    raise SystemExit(3)


def own_assertion(logits: Tensor) -> Tensor:
    raise AssertionError("7 axes")


def cheats(logits: Tensor) -> Tensor:
    return kdlab.distributions.entropy(logits)


def cheats_quietly(logits: Tensor) -> Tensor:
    return sum([kdlab.distributions.log_probabilities(logits).exp()])


ANSWERS = {
    mine: "right, shape [2, 3], in nats",
    unwritten: "not written yet",
    cheats: "not right yet: write this one yourself: kdlab.distributions.entropy",
    cheats_quietly: "not right yet: write this one yourself: kdlab.distributions.log_probabilities",
    leaves: "not right yet: line {line}, `raise SystemExit(3)`, stopped: SystemExit: 3",
    stops: "not right yet: line {line}, `return logits.no_such_method()`, stopped: AttributeError: 'Tensor' object "
    "has no attribute 'no_such_method'",
    stops_in_torch: "not right yet: line {line}, `return torch.matmul(logits, torch.zeros(1, 1))`, stopped: "
    "RuntimeError: mat1 and mat2 shapes cannot be multiplied (6x5 and 1x1)",
    stops_in_a_library: "not right yet: line {line}, `return functional.dropout(logits, 7.0)`, stopped: ValueError: "
    "dropout probability has to be between 0 and 1, but got 7.0",
    uses_padding: "not right yet: line {line}, `return logits.gather(-1, torch.full((*logits.shape[:-1], 1), -100))`, "
    "stopped: -100 was used as an index: it marks padding and is no token",
    own_assertion: 'not right yet: line {line}, `raise AssertionError("7 axes")`, stopped: AssertionError: 7 axes',
}


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda one: one.__name__)
def test_what_is_said_of_a_function(answer: Callable[..., Any], said: Said) -> None:
    line = answer.__code__.co_firstlineno + 1
    found = said(
        checks.function,
        "entropy",
        answer,
        entropy,
        fresh("logits"),
        unit="nats",
        forbid=["kdlab.distributions.log_probabilities"],
    )
    assert found == f"entropy: {ANSWERS[answer].format(line=line)}"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda logits: None, "the answer is None: is there a `return`?"),
        (lambda logits: "2.3", "the answer is a str, expected a tensor of shape [2, 3]"),
        (lambda logits: 2.3, "the answer is a float, expected a tensor of shape [2, 3]"),
        (
            lambda logits: mine(logits).tolist(),
            "the answer is a list of 2, expected a tensor of shape [2, 3]",
        ),
        (lambda logits: (mine(logits), 1), "the answer is a tuple of 2, expected a tensor of shape [2, 3]"),
        (lambda logits: mine(logits).numpy(), "the answer is a ndarray, expected a tensor of shape [2, 3]"),
        (lambda logits: mine(logits).flatten(), "the shape is [6], expected [2, 3]"),
        (lambda logits: mine(logits) + 0j, "the dtype is torch.complex64, expected torch.float32"),
        (
            lambda logits, labels: logits,
            "your function takes (logits, labels), but it is called with (logits)",
        ),
        (lambda: 1, "your function takes (), but it is called with (logits)"),
        (3, "got an int, expected your function, without brackets after its name"),
        (None, "got None, expected your function, without brackets after its name"),
    ],
)
def test_what_is_said_of_the_kind_of_answer(answer: Any, sentence: str, said: Said) -> None:
    found = said(checks.function, "entropy", answer, entropy, fresh("logits"))
    assert found.splitlines()[0] == f"entropy: not right yet: {sentence}"


def test_a_wrong_value_is_shown_with_both_tensors_and_a_small_input(said: Said) -> None:
    found = said(checks.function, "entropy", lambda z: mine(z) + 0.25, entropy, fresh("logits", shape=(2, 3)))
    sentence, answer, expected, given = found.splitlines()[0], *found.split("\n", 1)[1].split("\n", 2)
    assert sentence.startswith("entropy: not right yet: 2 of 2 values differ, the first at [0]: got ")
    assert answer.startswith("your answer = tensor([")
    assert expected.startswith("expected = tensor([")
    assert given.startswith("logits = tensor([[")
    large = said(
        checks.function, "entropy", lambda z: mine(z) + 0.25, entropy, fresh("logits", shape=(9, 9, 3))
    )
    assert len(large.splitlines()) == 1


def test_a_parameter_may_have_any_name_or_be_given_by_name_only(said: Said) -> None:
    def by_name(z: Tensor, *, temperature: float) -> Tensor:
        return (z / temperature).log_softmax(-1)

    inputs = fresh("logits", "temperature")
    answers = [
        by_name,
        lambda x, t=1.0: by_name(x, temperature=t),
        lambda *a: by_name(a[0], temperature=a[1]),
    ]
    for answer in answers:
        found = said(checks.function, "log_softmax", answer, log_probabilities, inputs)
        assert found == "log_softmax: right, shape [2, 3, 5]"
    assert said(checks.function, "exp", torch.exp, lambda logits: logits.exp(), fresh("logits")) == (
        "exp: right, shape [2, 3, 5]"
    )


EXAMPLE = {"logits": torch.tensor([[0.0, 1.0, 2.0]])}


def known_by_heart(logits: Tensor) -> Tensor:
    return torch.tensor([0.8323957])


def only_three_entries(logits: Tensor) -> Tensor:
    return mine(logits.reshape(1, 3))


def test_an_answer_written_for_the_example_is_found_out(said: Said) -> None:
    assert said(checks.function, "entropy", known_by_heart, entropy, EXAMPLE) == "entropy: right, shape [1]"
    found = said(checks.function, "entropy", known_by_heart, entropy, EXAMPLE, fresh("logits", shape=(1, 3)))
    assert found.splitlines()[0] == f"entropy: not right yet: {explanation.HARD_CODED}"
    found = said(
        checks.function, "entropy", known_by_heart, entropy, fresh("logits"), EXAMPLE
    )  # in any order
    assert found.splitlines()[0] == f"entropy: not right yet: {explanation.HARD_CODED}"
    found = said(checks.function, "entropy", only_three_entries, entropy, EXAMPLE, fresh("logits"))
    assert found.startswith("entropy: not right yet: right on the visible example; on another, line ")
    assert (
        said(checks.function, "entropy", mine, entropy, EXAMPLE, fresh("logits"))
        == "entropy: right, shape [1]"
    )


def test_a_mistake_that_the_example_cannot_show_is_named_on_fresh_input(said: Said) -> None:
    """At temperature 1 nothing is missing; at two temperatures it is."""
    example = {**EXAMPLE, "temperature": 1.0}
    known = [mistakes.temperature_inverted, mistakes.temperature_ignored]
    inputs = (example, fresh("logits", "temperature"))
    found = said(
        checks.function, "t", lambda z, t: z.log_softmax(-1), log_probabilities, *inputs, mistakes=known
    )
    assert found == "t: not right yet: the temperature has no effect"


def test_a_mistake_is_named_only_if_it_explains_every_wrong_answer(said: Said) -> None:
    def by_chance(logits: Tensor) -> Tensor:
        return mine(logits) / math.log(2) if logits.shape == (1, 3) else mine(logits) + 1

    inputs = (EXAMPLE, fresh("logits"))
    found = said(checks.function, "entropy", by_chance, entropy, *inputs, mistakes=[mistakes.log_base_2])
    assert found.startswith("entropy: not right yet: got ") or "1 of 1 values differs" in found


def test_a_mistake_is_named_though_the_answer_overflows_elsewhere(said: Said) -> None:
    def careless(logits: Tensor) -> Tensor:
        p = logits.softmax(-1)
        return -(p * p.log2()).sum(-1)

    inputs = (fresh("logits"), fresh("logits", minus_infinity=True))
    found = said(checks.function, "entropy", careless, entropy, *inputs, mistakes=[mistakes.log_base_2])
    assert found == "entropy: not right yet: log base 2, not natural"


def test_of_two_that_explain_it_the_one_that_knows_where_it_is_right_is_named(said: Said) -> None:
    """Doubling and adding are the same at 1; where the answer is right, only `above_0` says so."""

    @mistake("doubled")
    def doubled(call: Call) -> Any:
        yield 2 * call.right()

    @mistake("one added above 0")
    def above_0(call: Call) -> Any:
        yield call.right() + (1 if call["x"] > 0 else 0)

    inputs = [{"x": 1.0}, {"x": -3.0}]
    found = said(
        checks.function,
        "f",
        lambda x: x + 1 if x > 0 else x,
        lambda x: x,
        *inputs,
        mistakes=[doubled, above_0],
    )
    assert found == "f: not right yet: one added above 0"


def test_an_input_changed_in_place_is_said_even_if_the_answer_is_right(said: Said) -> None:
    def in_place(logits: Tensor) -> Tensor:
        result = mine(logits)
        logits.zero_()
        return result

    original = {"logits": torch.ones(2, 3)}
    for more in ({}, {"gradient_to": ["logits"]}):
        found = said(checks.function, "entropy", in_place, entropy, original, **more)
        assert found == "entropy: not right yet: your function changed its input in place"
    assert torch.equal(original["logits"], torch.ones(2, 3))


def test_half_precision_input(said: Said) -> None:
    inputs = fresh("logits", dtype=torch.float16)
    for answer in (mine, lambda z: mine(z.bfloat16()).float()):
        found = said(checks.function, "entropy", answer, entropy, inputs)
        assert found == "entropy: not right yet: float16 arithmetic: compute in float32"
    assert said(checks.function, "entropy", lambda z: mine(z.float()), entropy, inputs).startswith(
        "entropy: right"
    )


def loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return kdlab.forward_kl(student_logits, teacher_logits)


def own_loss(s: Tensor, t: Tensor) -> Tensor:
    return (t.softmax(-1) * (t.log_softmax(-1) - s.log_softmax(-1))).sum(-1).mean()


def test_gradients_are_compared_where_asked(said: Said) -> None:
    answers = {
        "right": lambda s, t: own_loss(s, t.detach()),
        explanation.NOT_DETACHED: own_loss,
        explanation.CUT_OFF.format(name="student_logits"): lambda s, t: own_loss(s.detach(), t.detach()),
        "a number": lambda s, t: own_loss(s, t).item(),
        "doubled": lambda s, t: 2 * own_loss(s, t.detach()) - own_loss(s, t).detach(),
    }
    found = {
        name: said(
            checks.function,
            "kl",
            answer,
            loss,
            fresh("student_logits", "teacher_logits"),
            gradient_to=["student_logits"],
        ).splitlines()[0]
        for name, answer in answers.items()
    }
    assert found.pop("right") == "kl: right"
    cut = explanation.CUT_OFF.format(name="student_logits")
    assert found.pop("a number") == f"kl: not right yet: {cut}"
    assert found.pop("doubled").startswith(
        "kl: not right yet: the value is right, its gradient with respect to student_logits is not: 30 of 30"
    )
    assert found == {name: f"kl: not right yet: {name}" for name in found}


def test_a_gradient_that_is_missing_on_fresh_input_alone_is_no_answer_by_heart(said: Said) -> None:
    def cut_off(s: Tensor, t: Tensor) -> Tensor:
        return own_loss(s if s.dim() == 1 else s.detach(), t.detach())

    draw = fresh("student_logits", "teacher_logits")
    example = {name: value[0, 0] for name, value in draw(1).items()}
    found = said(checks.function, "kl", cut_off, loss, example, draw, gradient_to=["student_logits"])
    assert found.splitlines()[0] == f"kl: not right yet: {explanation.CUT_OFF.format(name='student_logits')}"


# --- formulas for gradients


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    s, t = (z / temperature for z in (student_logits, teacher_logits))
    return (s.softmax(-1) * (s.log_softmax(-1) - t.log_softmax(-1))).sum(-1)


def reverse_kl_gradient(s: Tensor, t: Tensor, T: float) -> Tensor:
    q, log_ratio = (s / T).softmax(-1), (s / T).log_softmax(-1) - (t / T).log_softmax(-1)
    return q * (log_ratio - (q * log_ratio).sum(-1, keepdim=True)) / T


GRADIENTS = {
    "right": (reverse_kl_gradient, "right, shape [2, 3, 5]"),
    "float32": (lambda s, t, T: reverse_kl_gradient(s.float(), t.float(), T), "right, shape [2, 3, 5]"),
    "sign": (lambda *a: -reverse_kl_gradient(*a), "not right yet: the sign is the other way round"),
    "1/T": (lambda s, t, T: T * reverse_kl_gradient(s, t, T), "not right yet: 1/T is missing"),
    "swapped": (
        lambda s, t, T: reverse_kl_gradient(t, s, T),
        "not right yet: p and q have changed places",
    ),
}


@pytest.mark.parametrize("case", GRADIENTS)
def test_a_formula_is_compared_with_autograd(case: str, said: Said) -> None:
    answer, sentence = GRADIENTS[case]
    known = [mistakes.sign_flipped, mistakes.inverse_temperature_missing, mistakes.p_and_q_swapped]
    inputs = fresh("student_logits", "teacher_logits", "temperature")
    assert said(checks.gradient, "d", answer, reverse_kl, inputs, mistakes=known) == f"d: {sentence}"
    call = Call(lambda **a: reverse_kl_gradient(*a.values()), inputs(3))
    assert indistinct(call, known) == []


def test_a_formula_is_compared_in_float64(said: Said) -> None:
    seen = []

    def answer(s: Tensor, t: Tensor, T: float) -> Tensor:
        seen.append((s.dtype, t.dtype))
        return reverse_kl_gradient(s, t, T)

    inputs = fresh("student_logits", "teacher_logits", "temperature")
    said(checks.gradient, "d", answer, reverse_kl, inputs, inputs(1))
    assert set(seen) == {(torch.float64, torch.float64)}


def test_a_formula_that_is_wrong_at_one_place_is_told_where(said: Said) -> None:
    def wrong_at_the_end(s: Tensor, t: Tensor) -> Tensor:
        found = s.softmax(-1) - t.softmax(-1)
        found[..., -1] = 0
        return found

    def kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return kdlab.forward_kl(student_logits, teacher_logits, reduction="sum")

    inputs = fresh("student_logits", "teacher_logits", shape=(2, 4))
    found = said(checks.gradient, "d", wrong_at_the_end, kl, inputs)
    assert found.startswith("d: not right yet: 2 of 8 values differ, the first at [0, 3]: got 0, expected ")
    assert said(checks.gradient, "d", lambda s, t: s.softmax(-1) - t.softmax(-1), kl, inputs).startswith(
        "d: right"
    )


# --- single values


@pytest.mark.parametrize(
    ("answer", "expected", "sentence"),
    [
        (3, 3, "right"),
        (torch.tensor(3), 3, "right"),
        (lambda: 3, 3, "right"),
        (0.1 + 0.2, 0.3, "right"),
        ("copied", "copied", "right"),
        ([1, 2], (1, 2), "right"),
        ({"a": torch.ones(2)}, {"a": torch.ones(2)}, "right"),
        (torch.tensor([math.inf, math.nan]), torch.tensor([math.inf, math.nan]), "right, shape [2]"),
        (torch.tensor([1, 0]), torch.tensor([True, False]), "right, shape [2]"),
        (None, None, "right"),
        (4, 3, "not right yet: got 4"),
        (3.5, 3, "not right yet: got 3.5"),
        (True, 1, "not right yet: the answer is a bool, expected an int"),
        (1, True, "not right yet: the answer is an int, expected a bool"),
        ("fresh", "copied", "not right yet: got 'fresh'"),
        (None, 3, "not right yet: the answer is None: is there a `return`?"),
        (math.nan, 0.5, "not right yet: got NaN"),
        ((1, 2, 3), (1, 2), "not right yet: the answer is a tuple of 3, expected a tuple of 2"),
        ((1, 3), (1, 2), "not right yet: part 2 of the answer: got 3"),
        ({"a": 1}, {"a": 1, "b": 2}, "not right yet: the key 'b' is missing"),
        ({"a": 1, "b": 2}, {"a": 1}, "not right yet: the key 'b' is not asked for"),
        ({"a": 1}, {"a": 2}, "not right yet: 'a': got 1"),
        (torch.tensor([0.5]), torch.tensor([True]), "not right yet: the dtype is torch.float32, expected torch.bool"),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), "not right yet: 1 of 2 values differs, the first at [1]: got 2"),
        (torch.tensor([100001]), torch.tensor([100000]), "not right yet: 1 of 1 values differs, the first at [0]: got "
         "100001"),
        ({"a", "b"}, {"b", "a"}, "right"),
        (["a", "b", "a"], frozenset("ab"), "right"),
        ({"a"}, {"a", "b", "c"}, "not right yet: 2 are missing"),
        ({"a", "d"}, {"a", "b"}, "not right yet: 1 is missing, 1 does not belong"),
        (["a", "d", ["e"]], {"a"}, "not right yet: 2 do not belong"),
        ("ab", {"a", "b"}, "not right yet: the answer is a str, expected a set"),
        ({"k": {"a"}}, {"k": {"b"}}, "not right yet: 'k': 1 is missing, 1 does not belong"),
        (lambda: missing_name, 3, "not written yet"),  # noqa: F821
        (lambda: 1 / 0, 3, "not right yet: line {line}, "),
    ],
)  # fmt: skip
def test_what_is_said_of_a_value(answer: Any, expected: Any, sentence: str, said: Said) -> None:
    found = said(checks.equal, "value", answer, expected).splitlines()[0]
    if "{line}" in sentence:
        assert found.endswith("stopped: ZeroDivisionError: division by zero")
    else:
        assert found == f"value: {sentence}"


def test_the_right_value_is_not_given_away(said: Said) -> None:
    secrets = (
        4711,
        47.11,
        "4711",
        {"a": 4711},
        (1, 4711),
        torch.tensor([4711.0, 1.0]),
        {"4711", "x"},
        [["4711"]],
    )
    wrongs = (7, 0.7, "7", {"a": 7}, (1, 7), torch.tensor([7.0, 1.0]), {"7", "x"}, [["7"]])
    for secret, wrong in zip(secrets, wrongs, strict=True):
        assert "not right yet" in said(checks.equal, "n", wrong, secret)
        assert "47" not in said(checks.equal, "n", wrong, secret)


def test_mistakes_of_a_value(said: Said) -> None:
    known = {"right all the same": 1000, "the embeddings are counted twice": 1200, "biases are missing": 990}
    assert said(checks.equal, "n", 1000, 1000, mistakes=known, unit="parameters") == "n: right, in parameters"
    assert said(checks.equal, "n", 990, 1000, mistakes=known) == "n: not right yet: biases are missing"
    assert said(checks.equal, "n", 7, 1000, mistakes=known) == "n: not right yet: got 7"


def test_tolerance() -> None:
    assert difference(1.001, 1.0) == "got 1.001, expected 1"
    assert difference(1.001, 1.0, Tolerance(relative=0.01)) is None


def test_what_float32_loses_of_thousands_is_no_mistake() -> None:
    """A seed that hypothesis found: z - logsumexp(z), right and rounded, was refused."""
    logits = torch.tensor([4000.0, 3991.8, 0.0])
    found, expected = logits - logits.logsumexp(-1), logits.double().log_softmax(-1).float()
    assert 1e-5 < (found - expected).abs().max() < 1e-3
    assert difference(found, expected) is None
    assert difference(found + 0.01, expected) is not None


# --- functions that change what they are given


def a_list(seed: int) -> tuple[dict[str, Any], Callable[[], str | None]]:
    """To be emptied."""
    numbers = list(range(seed))
    return {"numbers": numbers}, lambda: f"{len(numbers)} are left" if numbers else None


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda numbers: numbers.clear(), "empty: right"),
        (lambda numbers: [], "empty: not right yet: 1 are left"),
        (lambda numbers: numbers.pop(), "empty: not right yet: 1 are left"),
        (lambda numbers: numbers.no_such_method(), "stopped: AttributeError: 'list' object has no attribute"),
        (lambda numbers, more: None, "empty: not right yet: your function takes (numbers, more), but it is called"),
        (unwritten, "empty: not written yet"),
        (3, "empty: not right yet: got an int, expected your function"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_function_that_changes_its_input(answer: Any, sentence: str, said: Said) -> None:
    assert sentence in said(checks.changes, "empty", answer, a_list)


def test_a_function_that_changes_its_input_may_not_call_a_forbidden_one(said: Said) -> None:
    found = said(
        checks.changes,
        "empty",
        lambda x: entropy(torch.zeros(2)),
        a_list,
        forbid=["kdlab.distributions.entropy"],
    )
    assert found == "empty: not right yet: write this one yourself: kdlab.distributions.entropy"


# --- what authors get wrong


def test_an_author_is_told_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="inputs: got none, expected an example"):
        checks.function("entropy", mine, entropy)
    with pytest.raises(ValueError, match=r"names: got 'temprature', expected .*temperature"):
        fresh("logits", "temprature")
    with pytest.raises(ValueError, match="names: got 'beta', expected"):
        fresh("logits", beta=0.5)
    with pytest.raises(
        ValueError, match="mistakes: got one that needs an input 'temperature', expected logits"
    ):
        checks.function(
            "entropy", lambda z: z, entropy, fresh("logits"), mistakes=[mistakes.temperature_ignored]
        )


def test_ctrl_c_stops_a_check() -> None:
    def interrupted(logits: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checks.function("entropy", interrupted, entropy, fresh("logits"))


@pytest.mark.parametrize("seed", range(20))
def test_fresh_input_is_never_where_mistakes_hide(seed: int) -> None:
    drawn = fresh("logits", "labels", "losses", "p", *NUMBERS, shape=(3, 4, 5))(seed)
    kept = (drawn["labels"] != -100).sum(-1).tolist()
    assert sorted(kept) == [2, 3, 4]
    assert drawn["temperature"] != 1
    assert drawn["beta"] not in (0, 0.5, 1)
    assert drawn["ce_weight"] not in (0, 0.5, 1)
    assert drawn["losses"].min() > 0
    torch.testing.assert_close(drawn["p"].sum(-1), torch.ones(3, 4))
    assert drawn["labels"][drawn["labels"] != -100].min() >= 0
    assert drawn["labels"].max() < 5


def test_every_named_mistake_has_a_sentence_of_its_own() -> None:
    catalogue = [one for one in vars(mistakes).values() if isinstance(one, Mistake)]
    assert len(catalogue) > 30
    assert len({one.sentence for one in catalogue}) == len(catalogue)


def test_checks_and_quizzes_are_cheap_to_import() -> None:
    script = (
        "import sys; from kdlab.classroom import checks, mistakes, quiz; "
        "heavy = {'transformers', 'IPython', 'datasets', 'matplotlib', 'pandas', 'accelerate'}; "
        "print(sorted(heavy & set(sys.modules)), [m for m in sys.modules if m == 'kdlab.distiller'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"


def test_a_mistake_that_cannot_be_computed_on_an_input_explains_nothing(capsys):
    """Over the wrong axis, a word that is impossible everywhere makes a row that kdlab refuses."""
    teacher = torch.tensor([[0.0, 1.0, -torch.inf], [0.5, 0.0, -torch.inf]])
    example = {"student_logits": torch.tensor([[0.0, 2.0, 1.0], [1.0, 0.0, 0.0]]), "teacher_logits": teacher}
    right = functools.partial(kdlab.forward_kl, reduction="none")
    wrong = [mistakes.softmax_over_wrong_axis, mistakes.sign_flipped]
    checks.function("kl", lambda s, t: -right(s, t), right, example, mistakes=wrong)
    assert capsys.readouterr().out == "kl: not right yet: the sign is the other way round\n"
