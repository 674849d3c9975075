"""What notebook 02's checks compare with: a choice by size, layers copied from a model, the roles of two models.

The models are any torch modules with the names that transformers gives Marian's parts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Sizes = Mapping[str, tuple[int, int]]


def choose_student(sizes: Sizes, megabytes: float, bits: int) -> str | None:
    """Of the students that fit into a budget, the one with the most parameters in its layers; None where none fits.

    Args:
        sizes: name -> (all parameters, those in the layers). All are stored; on those in the layers quality depends.
        megabytes: of 10^6 bytes. A student that fills them exactly fits.
        bits: that each parameter takes.

    >>> sizes = {"wide": (300_000, 100_000), "deep": (250_000, 150_000), "large": (900_000, 500_000)}
    >>> choose_student(sizes, 0.3, 8), choose_student(sizes, 0.3, 16)
    ('deep', None)
    """
    fitting = {
        name: layers
        for name, (parameters, layers) in sizes.items()
        if parameters * bits <= megabytes * 8_000_000
    }
    return max(fitting, key=fitting.__getitem__, default=None)


def draw_sizes(seed: int) -> dict[str, Any]:
    """Input for `choose_student` on which the usual mistakes choose differently, the names in another order each time.

    >>> drawn = draw_sizes(1)
    >>> sorted(drawn["sizes"]), choose_student(**drawn)
    (['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H'], 'D')
    """
    rng = random.Random(seed)
    megabytes, bits = rng.choice([(0.5, 16), (1.5, 16), (1.0, 32), (2.5, 32)])
    most = int(megabytes * 8_000_000) // bits  # parameters that fit, exactly

    def near(share: float) -> int:
        return int(most * share * rng.uniform(0.99, 1.0))

    sizes = [
        (near(0.3), near(0.2)),  # the smallest
        (near(0.95), near(0.4)),  # the most parameters, and many of them in its embedding
        (near(0.7), near(0.62))
        if seed % 2
        else (most, near(0.65)),  # the right one, which may fill the budget
        (near(0.6), near(0.5)),
        (int(most * 1.03), near(0.8)),  # would fit if a megabyte were 2^20 bytes
        (near(1.3), near(0.85)),  # its layers alone would fit
        (near(bits / 8), near(0.9 * bits / 8)),  # would fit if each parameter took 8 bits
        (near(9.0), near(8.0)),
    ]
    named = dict(zip("ABCDEFGH", rng.sample(sizes, len(sizes)), strict=True))
    return {"sizes": named, "megabytes": megabytes, "bits": bits}


def judge_copied_layers(teacher: Any, student: Any) -> Callable[[], str | None]:
    """Look at two models before and after a student's function was to copy every other layer of the teacher.

    Args:
        teacher: with as many different layers on each side as it likes, none like the student's.
        student: with half as many, rounded up, and fresh weights.

    >>> part = lambda layers: nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2) for _ in range(layers)])})
    >>> model = lambda layers: nn.ModuleDict({"model": nn.ModuleDict(
    ...     {"encoder": part(layers), "decoder": part(layers), "shared": nn.Embedding(3, 2)})})
    >>> judge = judge_copied_layers(*(nn.ModuleDict({"model": model(n).model}) for n in (4, 2)))
    >>> judge()
    "the student's encoder is as it was: no layer has arrived"
    """
    before, begun = _weights(teacher), _weights(student)
    matrices = {id(parameter) for parameter in student.parameters()}

    def judge() -> str | None:
        if not _equal(_weights(teacher), before):
            return "the teacher has changed: copy from it, not into it"
        shared = _shared(teacher, student)
        if shared:
            return f"{shared} is the teacher's own, not a copy: training the student would change the teacher as well"
        for side in ("encoder", "decoder"):
            sentence = _judge_side(side, teacher, student, begun)
            if sentence:
                return sentence
        if not torch.equal(student.model.shared.weight, teacher.model.shared.weight):
            return "the layers are right, but the embedding is not the teacher's: without it they read noise"
        if {id(parameter) for parameter in student.parameters()} != matrices:
            return "the student has got new parameters: copy values into those that it has"
        return None

    return judge


def _judge_side(side: str, teacher: Any, student: Any, begun: Mapping[str, Tensor]) -> str | None:
    theirs, mine = getattr(teacher.model, side).layers, getattr(student.model, side).layers
    wanted = list(range(0, len(theirs), 2))
    if len(mine) != len(wanted):
        return f"the student's {side} has {len(mine)} layers now, and began with {len(wanted)}"
    found = [_origin(layer, theirs) for layer in mine]
    if found == wanted:
        return None
    prefix = f"model.{side}.layers."
    now = {name: tensor for name, tensor in _weights(student).items() if name.startswith(prefix)}
    if _equal(now, {name: begun[name] for name in now}):
        return f"the student's {side} is as it was: no layer has arrived"
    if None in found:
        number = found.index(None)
        return f"layer {number} of the student's {side} is, as a whole, none of the teacher's layers"
    if found == list(range(len(mine))):
        return f"these are the first layers of the {side}, not every other one"
    if found[0] == 1:
        return f"the {side}'s layers 1, 3, ... were copied: begin with layer 0"
    return f"the student's {side} has the teacher's layers {found}, and not every other one in their order"


def _origin(layer: nn.Module, layers: nn.ModuleList) -> int | None:
    weights = _weights(layer)
    return next((i for i, other in enumerate(layers) if _equal(weights, _weights(other))), None)


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.named_parameters()}


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _shared(teacher: nn.Module, student: nn.Module) -> str | None:
    """The first parameter of the student that lies in the teacher's memory."""
    theirs = {parameter.untyped_storage().data_ptr() for parameter in teacher.parameters()}
    return next(
        (n for n, one in student.named_parameters() if one.untyped_storage().data_ptr() in theirs), None
    )


def draw_roles(seed: int) -> tuple[dict[str, Any], Callable[[], str | None]]:
    """Two models whose roles are not set yet, and a judge of whether they are: a case for `checks.changes`.

    The student comes as a copy of a frozen teacher would: frozen, and in eval mode. It may have some parameters that
    are not frozen, and the teacher some that are.

    >>> models, judge = draw_roles(seed=1)
    >>> judge()
    'the teacher is not frozen: 8 of its 8 parameters still require a gradient'
    """
    rng = random.Random(seed)
    teacher, student = (_small_model(rng.randint(2, 4)) for _ in range(2))
    teacher.train()
    student.eval()
    for model, frozen in ((teacher, False), (student, True)):
        for number, parameter in enumerate(model.parameters()):
            # With an even seed one matrix is already as it should be, so that looking at one alone is no proof.
            parameter.requires_grad_(not frozen if number or seed % 2 else frozen)
    weights = {"teacher": _weights(teacher), "student": _weights(student)}

    def judge() -> str | None:
        for name, model in (("teacher", teacher), ("student", student)):
            if not _equal(_weights(model), weights[name]):
                return f"the {name}'s weights have changed: only its role should"
        return _judge_teacher(teacher) or _judge_student(student)

    return {"teacher": teacher, "student": student}, judge


def _small_model(layers: int) -> nn.Module:
    blocks = [nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3)) for _ in range(layers)]
    return nn.Sequential(*blocks)


def _judge_teacher(teacher: nn.Module) -> str | None:
    parameters = list(teacher.parameters())
    free = sum(parameter.requires_grad for parameter in parameters)
    if free and vars(teacher).get("requires_grad") is False:
        return (
            "teacher.requires_grad = False makes a new attribute, and the teacher's parameters do not notice"
        )
    if free:
        return (
            f"the teacher is not frozen: {free} of its {len(parameters)} parameters still require a gradient"
        )
    if any(module.training for module in teacher.modules()):
        return "the teacher is still in train mode: its dropout makes every answer a little random"
    return None


def _judge_student(student: nn.Module) -> str | None:
    parameters = list(student.parameters())
    frozen = sum(not parameter.requires_grad for parameter in parameters)
    if frozen:
        return f"the student cannot learn: {frozen} of its {len(parameters)} parameters do not require a gradient"
    if not all(module.training for module in student.modules()):
        return "the student is in eval mode: it should be trained, with its dropout"
    return None
