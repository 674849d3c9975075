"""The checks of `diagnose` that look at the loss: cross-entropy on its floor, temperature, reduction."""

from __future__ import annotations

from kdlab.diagnostic_case import (
    Case,
    Finding,
    check,
)


@check
def check_cross_entropy_floor(case: Case) -> Finding:
    """Cross-entropy is H(p) + KL(p || q): it stays at the teacher's entropy when there is nothing left to learn."""
    kind = case.kind
    evidence = {
        "loss": case.value,
        "loss_of_a_student_that_is_the_teacher": case.value_of_teacher,
        "teacher_entropy": case.entropy,
        "kl_to_teacher": case.kl,
    }
    if not kind.has_cross_entropy:
        return Finding(
            "cross_entropy_floor", "clear", evidence, "no cross-entropy in the loss: its floor is 0"
        )
    if 2 * case.value_of_teacher < case.value:  # most of it lies above the floor
        return Finding(
            "cross_entropy_floor", "clear", evidence, "cross-entropy, but most of it lies above its floor"
        )
    return Finding(
        "cross_entropy_floor",
        "explains",
        evidence,
        "most of the loss is what the teacher itself would score: cross-entropy does not fall to 0. Read "
        "KL(teacher || student), which does, or take the floor away",
    )


@check
def check_temperature(case: Case) -> Finding:
    """Both sides at one temperature, and a loss that is read at the temperature at which it is taken."""
    kind = case.kind
    evidence = {
        "loss": case.value,
        "teacher_temperature": kind.temperature,
        "student_temperature": kind.student_temperature,
        "factor": kind.factor,
    }
    if abs(kind.student_temperature - kind.temperature) >= 0.02 * kind.temperature:
        return Finding(
            "temperature",
            "fault",
            evidence,
            "the two softmaxes are taken at different temperatures, so the loss is lowest for a student that is "
            "flatter or sharper than its teacher: divide both logits by the same T",
        )
    if kind.name is None or abs(kind.temperature - 1) < 0.02:
        return Finding("temperature", "clear", evidence)
    plain = case.mean(lambda a: kind.soft_value(a.student, a.log_p, 1.0))
    evidence["the_same_at_temperature_1"] = plain
    if not 0.5 * case.value <= plain <= 2 * case.value:
        return Finding(
            "temperature",
            "explains",
            evidence,
            f"the number is {kind.factor:.3g} times a divergence at T = {kind.temperature:.3g}, and no nats a token at "
            "T = 1: compare runs at the same T, or read the value at T = 1",
        )
    return Finding("temperature", "clear", evidence)


@check
def check_reduction(case: Case) -> Finding:
    """The mean over the tokens that count, once."""
    kind = case.kind
    evidence = {"loss": case.value, "factor": kind.factor if kind.name else kind.ce_factor}
    if kind.factor_name in ("none", "temperature^2", "temperature^1") or not (kind.name or kind.ce_factor):
        return Finding("reduction", "clear", evidence)
    advice = f"the loss is a mean over tokens times a factor ({kind.factor_name})"
    if evidence["factor"] < 1:
        return Finding(
            "reduction",
            "fault",
            evidence,
            f"{advice}: it looks low and its gradient is as small. Divide by the number of tokens once",
        )
    return Finding("reduction", "explains", evidence, f"{advice}: divide by it to read nats a token")
