"""While an exercise is tested, kdlab's answer to it cannot be called under any name, and afterwards it can."""

from __future__ import annotations

import functools

import pytest
import torch

import kdlab
from kdlab import forward_kl as imported_by_the_student
from kdlab.calibration import calibration
from kdlab.classroom.forbidden import forbidden, full_name
from kdlab.divergences import ChiSquare, ForwardKL, LogPair
from kdlab.losses import DistillationLoss

LOGITS = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
UNDER_ANY_NAME = {
    "the package": lambda *a: kdlab.forward_kl(*a),
    "its module": lambda *a: kdlab.losses.forward_kl(*a),
    "imported by name": lambda *a: imported_by_the_student(*a),
    "in a list": [imported_by_the_student][0],
    "a partial": functools.partial(imported_by_the_student, temperature=2.0),
    "with options": lambda *a: kdlab.forward_kl(*a, reduction="none"),
}


@pytest.mark.parametrize("name", ["kdlab.losses.forward_kl", "kdlab.forward_kl"])
@pytest.mark.parametrize("how", UNDER_ANY_NAME)
def test_it_raises_under_every_name_and_comes_back(name: str, how: str) -> None:
    call = UNDER_ANY_NAME[how]
    before = call(*LOGITS)
    with forbidden(name), pytest.raises(AssertionError, match=f"^write this one yourself: {name}$"):
        call(*LOGITS)
    torch.testing.assert_close(call(*LOGITS), before)


def test_other_functions_go_on_unless_they_call_it() -> None:
    with forbidden("kdlab.losses.forward_kl"):
        assert kdlab.reverse_kl(*LOGITS) > 0
    with forbidden("kdlab.losses.distillation_loss"), pytest.raises(AssertionError, match="yourself"):
        kdlab.reverse_kl(*LOGITS)


def test_a_module_stands_for_all_that_is_written_in_it() -> None:
    with forbidden("kdlab.losses"):
        for one in (kdlab.reverse_kl, kdlab.distillation_loss, DistillationLoss):
            with pytest.raises(AssertionError, match=r"^write this one yourself: kdlab\.losses\."):
                one()
        torch.zeros(2).softmax(-1)
        kdlab.distributions.entropy(torch.zeros(2))  # which kdlab.losses imports from nowhere else
        kdlab.distributions.wide_dtype(torch.zeros(2))  # and which it imports
    assert kdlab.reverse_kl(*LOGITS) > 0


def test_it_comes_back_whatever_happens() -> None:
    names = (
        "kdlab.losses.forward_kl",
        "kdlab.forward_kl",
        "kdlab.distributions.entropy",
    )  # one of them twice
    with pytest.raises(KeyboardInterrupt), forbidden(*names):
        raise KeyboardInterrupt
    assert kdlab.forward_kl(*LOGITS) > 0
    expected = r"names: got 'kdlab\.nothing', expected something that exists"
    with pytest.raises(ValueError, match=expected), forbidden(*names, "kdlab.nothing"):
        raise RuntimeError("the block must not run")
    assert kdlab.forward_kl(*LOGITS) > 0


@pytest.mark.parametrize("kind", [DistillationLoss, ForwardKL, ChiSquare, LogPair])
def test_a_class_cannot_be_made(kind: type) -> None:
    own = vars(kind).get("__init__")
    with (
        forbidden(f"{kind.__module__}.{kind.__name__}"),
        pytest.raises(AssertionError, match="write this one"),
    ):
        kind()
    assert vars(kind).get("__init__") is own


def test_a_class_is_forbidden_and_not_what_it_inherits_from(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type("Inherits", (torch.nn.Module,), {})
    monkeypatch.setattr(kdlab.losses, "Inherits", kind, raising=False)
    with forbidden("kdlab.losses.Inherits"):
        torch.nn.Module()
        with pytest.raises(AssertionError, match="write this one yourself"):
            kind()
    kind()
    assert "__init__" not in vars(kind)


def test_a_decorated_function_carries_variables_and_is_forbidden_all_the_same() -> None:
    assert calibration.__code__.co_freevars
    with (
        forbidden("kdlab.calibration.calibration"),
        pytest.raises(AssertionError, match=r"yourself: kdlab\.calibration\.calibration"),
    ):
        calibration()


def test_the_name_of_a_function_of_kdlab() -> None:
    assert full_name(kdlab.forward_kl) == "kdlab.losses.forward_kl"
    assert full_name(calibration) == "kdlab.calibration.calibration"
    assert [full_name(one) for one in (lambda: 0, torch.exp, functools.partial(kdlab.forward_kl))] == [
        None
    ] * 3


def test_what_cannot_be_forbidden_is_refused() -> None:
    expected = r"names: got 'math\.exp', a builtin_function_or_method, expected"
    with pytest.raises(ValueError, match=expected), forbidden("math.exp"):
        pass
