"""Whether a training step's loss is made from hidden states, and that loss.

By itself the Distiller does so wherever it can: there is no size below which it does not pay. On one core of a CPU a
whole step took 0.85 to 0.99 of the time of the step from logits and 0.17 to 0.79 of its memory, for vocabularies of
1,200 to 32,000 and batches of 4 and 75 sentences (results/fused_step.json; not measured on a GPU).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kdlab.fused import fused_linear_distillation_loss
from kdlab.linear_head import HiddenLogits, LinearHead
from kdlab.losses import DistillationLoss
from kdlab.model_io import Batch, target_labels
from kdlab.teachers import HiddenTeacher, Teacher


@dataclass(frozen=True)
class FusedStep:
    """The distillation loss of a student and a teacher whose logits never exist at once. Made by `of`.

    >>> from kdlab.students import Architecture, marian_config
    >>> from kdlab.teachers import LiveTeacher
    >>> from transformers import MarianMTModel
    >>> config = marian_config(Architecture(8, 1, 1, 8), vocabulary=20)
    >>> student, teacher = MarianMTModel(config), LiveTeacher(MarianMTModel(config))
    >>> FusedStep.of(student, teacher, DistillationLoss(temperature=2.0)).head.vocabulary
    20
    >>> FusedStep.of(student, lambda batch: batch["logits"], DistillationLoss())
    Traceback (most recent call last):
    ValueError: teacher: got a function, expected one that gives hidden states, such as LiveTeacher
    """

    head: LinearHead  # the student's
    teacher: HiddenTeacher
    options: dict[str, Any]  # of the loss

    @classmethod
    def of(cls, student: nn.Module, teacher: Teacher | None, loss: nn.Module) -> FusedStep:
        """For these three.

        Raises:
            ValueError: they need logits, and why.
        """
        if type(loss) is not DistillationLoss:
            raise ValueError(f"loss: got a {type(loss).__name__}, expected a DistillationLoss")
        if not isinstance(teacher, HiddenTeacher):
            raise ValueError(
                f"teacher: got a {type(teacher).__name__}, expected one that gives hidden states, such as LiveTeacher"
            )
        if student._forward_hooks or student._forward_pre_hooks:
            raise ValueError("student: got one with forward hooks, expected none: they would see no logits")
        theirs, was_training = teacher.linear_head(), student.training
        try:
            # In eval mode a dropout before the last layer would not show.
            head = LinearHead.of(student.train())
        finally:
            student.train(was_training)
        if head.vocabulary != theirs.vocabulary and loss.options.get("vocabulary", "same") == "same":
            raise ValueError(
                f"teacher: got a vocabulary of {theirs.vocabulary}, expected the student's {head.vocabulary}"
            )
        options = {name: value for name, value in loss.options.items() if name != "overwrite_teacher"}
        return cls(head, teacher, options)

    def student(self, model: nn.Module, batch: Batch) -> HiddenLogits:
        """What the student gives for a batch, with grad."""
        return self.head.hidden_logits(model, batch)

    def loss(
        self,
        student: HiddenLogits,
        teacher: HiddenLogits,
        batch: Batch,
        num_items_in_batch: Tensor | int | None,
    ) -> Tensor:
        """See `fused_linear_distillation_loss`."""
        return fused_linear_distillation_loss(
            student.hidden,
            student.weight,
            teacher.hidden,
            teacher.weight,
            target_labels(batch),
            student.bias,
            teacher.bias,
            student_scale=student.scale,
            teacher_scale=teacher.scale,
            student_soft_cap=student.soft_cap,
            teacher_soft_cap=teacher.soft_cap,
            **{"num_items_in_batch": num_items_in_batch, **self.options},
        )
