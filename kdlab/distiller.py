"""Distiller: transformers' own Seq2SeqTrainer, with a teacher.

Mixed precision, accumulation, checkpoints, resume, logging and several processes are the Trainer's. Only the loss
is ours: it asks the teacher about the same batch, and divides by the tokens of the whole accumulated batch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from kdlab.distributions import at_least_float32
from kdlab.fused_step import FusedStep
from kdlab.linear_head import call_as_forward
from kdlab.losses import DistillationLoss
from kdlab.model_io import aligned, model_inputs, target_labels
from kdlab.on_policy import OnPolicy
from kdlab.progress import progress_bar
from kdlab.teachers import Teacher, place_teacher
from kdlab.weak_to_strong import ConfidenceLoss

logger = logging.getLogger(__name__)


class Distiller(Seq2SeqTrainer):
    """Trains a student on a teacher's distribution, or, without a teacher, on the labels alone.

    Args:
        model: the student, an encoder-decoder or decoder-only model.
        args: transformers' Seq2SeqTrainingArguments.
        teacher: any `Teacher`; None trains on the labels by cross-entropy (the baseline, or sequence level, where
            the labels are the teacher's own translations).
        loss: how the two distributions are compared; default: forward KL at temperature 1.
        on_policy: lets the student's own samples take the place of the data's targets, in a share of the updates.
        label_smoothing: of the cross-entropy without a teacher.
        fused: make the loss from hidden states, so that the [tokens, vocabulary] logits never exist at once. None:
            wherever student, teacher and loss allow it. True: or raise ValueError, which says why not. False: never.
            `fused_step` is what was chosen, None for logits.
        description: for the progress bar.
        **options: whatever Seq2SeqTrainer takes: train_dataset, eval_dataset, data_collator, callbacks ...
            Batches hold input_ids, attention_mask, labels (-100 where a token does not count) and, for an
            encoder-decoder model, decoder_input_ids, as `kdlab.text.batches.collate` makes them. For a decoder-only
            model labels are not shifted, as `kdlab.text.causal.collate_causal` makes them: see `kdlab.model_io`.

    Raises:
        ValueError: a student that shares parameters with its teacher; label smoothing together with a teacher,
            or given to `args`, where a distillation loss would not see it; `fused=True` where it cannot be; what
            cannot go with `on_policy`.

    `evaluate` reports `eval_loss`: the training loss (unsmoothed) of `eval_dataset`, in nats a token over all its
    tokens, not a mean of means over batches.

    >>> import tempfile
    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> from kdlab.teachers import LiveTeacher
    >>> from kdlab.text.batches import Example, collate
    >>> student, teacher = (MarianMTModel(marian_config(Architecture(size, 1, 1, 8), 20)) for size in (8, 16))
    >>> def pad(examples):
    ...     return collate(examples, pad_token_id=0, decoder_start_token_id=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     args = Seq2SeqTrainingArguments(
    ...         folder, max_steps=2, remove_unused_columns=False, report_to=[], save_strategy="no", use_cpu=True
    ...     )
    ...     data = {"train_dataset": [Example([5, 1], [7, 8, 1])] * 16, "data_collator": pad}
    ...     distiller = Distiller(student, args, teacher=LiveTeacher(teacher), description="an example", **data)
    ...     result = distiller.train()
    >>> result.global_step, distiller.fused_step.head.vocabulary  # the loss came from hidden states
    (2, 20)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: Seq2SeqTrainingArguments,
        *,
        teacher: Teacher | None = None,
        loss: DistillationLoss | ConfidenceLoss | None = None,
        on_policy: OnPolicy | None = None,
        label_smoothing: float = 0.0,
        fused: bool | None = None,
        description: str = "training",
        **options: Any,
    ):
        if args.label_smoothing_factor or (teacher is not None and label_smoothing):
            raise ValueError(
                "label_smoothing: got a value that the distillation loss would not use, expected it as the Distiller's "
                "own argument and without a teacher, whose distribution is soft already"
            )
        super().__init__(model=model, args=args, **options)
        self.teacher, self.loss = teacher, loss or DistillationLoss()
        self.label_smoothing, self.on_policy = label_smoothing, on_policy
        if on_policy is not None:
            on_policy.check(model, teacher, self.loss)
        # The loss below divides by num_items_in_batch itself: the Trainer must count it and not divide again.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        if teacher is not None:
            place_teacher(teacher, model, args.device)
        self.fused_step = self._choose(model, fused)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.add_callback(_Bar(description))

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The micro-batches of one update, with the student's own samples as targets where it is their turn."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        update = self.state.global_step
        if isinstance(self.loss, ConfidenceLoss):
            self.loss.update = update
        if self.on_policy is None or not self.on_policy.samples_at(self.args.seed, update):
            return batches, items
        model = self.accelerator.unwrap_model(self.model)
        with self.accelerator.autocast():
            batches = self.on_policy.replace(
                model, batches, seed=self.args.seed, update=update, process=self.accelerator.process_index
            )
        # Counted anew: `items` are the tokens of the targets that were there before.
        return batches, self._get_num_items_in_batch(batches, device)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The loss of one micro-batch, as its share of the whole accumulated batch."""
        outputs = None
        if self.fused_step is not None and not return_outputs:
            loss = self._loss_from_hidden_states(self.fused_step, model, inputs, num_items_in_batch)
        else:
            loss, outputs = self._loss_from_logits(model, inputs, num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # num_items_in_batch counts all processes' tokens, and their gradients are averaged: undo that.
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _loss_from_logits(
        self, model: nn.Module, inputs: dict[str, Tensor | Any], num_items_in_batch: Tensor | int | None
    ) -> tuple[Tensor, Any]:
        # The teacher first: what it needs on its way is free again before the student's activations pile up.
        target = None if self.teacher is None else self.teacher(inputs)
        student = self.accelerator.unwrap_model(model)
        outputs = model(**model_inputs(student, inputs))
        logits, labels = aligned(outputs.logits, inputs)
        if target is not None:
            return self.loss(logits, target, labels, num_items_in_batch, overwrite_teacher=True), outputs
        smoothing = self.label_smoothing if model.training else 0.0
        return _cross_entropy(logits, labels, smoothing, num_items_in_batch), outputs

    def _loss_from_hidden_states(
        self,
        step: FusedStep,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        num_items_in_batch: Tensor | int | None,
    ) -> Tensor:
        teacher = step.teacher.hidden_logits(inputs)
        student = self.accelerator.unwrap_model(model)

        def loss() -> Tensor:
            with self.accelerator.autocast():  # that of the student's forward, whose place this takes
                hidden = step.student(student, inputs)
            return step.loss(hidden, teacher, inputs, num_items_in_batch)

        return call_as_forward(model, student, loss)

    def _choose(self, student: PreTrainedModel, fused: bool | None) -> FusedStep | None:
        """The step from hidden states, or None: from logits."""
        if fused is False or (fused is None and self.teacher is None):
            return None
        try:
            if (
                self.args.n_gpu > 1
                or self.is_fsdp_enabled
                or self.is_deepspeed_enabled
                or self.args.torch_compile
            ):
                raise ValueError(
                    "args: got DataParallel, FSDP, DeepSpeed or torch_compile, expected one process for each device, "
                    "with whole weights"
                )
            return FusedStep.of(student, self.teacher, self.loss)
        except ValueError as reason:
            if fused:
                raise ValueError(f"fused: got True, which cannot be: {reason}") from reason
            logger.info("The loss is made from logits: %s", reason)
            return None

    @torch.no_grad()
    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **_: Any,
    ) -> dict[str, float]:
        """Training loss on `eval_dataset`, in nats a token."""
        model = self.accelerator.unwrap_model(self.model).eval()
        total, tokens = 0.0, 0
        for inputs in self._own_share(self.eval_dataset if eval_dataset is None else eval_dataset):
            inputs = self._prepare_inputs(inputs)
            counted = int((target_labels(inputs) != -100).sum())
            loss = self.compute_loss(model, inputs)
            assert isinstance(loss, Tensor)  # since return_outputs is False
            total, tokens = total + loss.item() * counted, tokens + counted
        sums = torch.tensor([[total, float(tokens)]], dtype=torch.float64, device=self.args.device)
        sums = self.accelerator.gather(sums).sum(0)
        metrics = {f"{metric_key_prefix}_loss": float(sums[0] / sums[1])}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _own_share(self, dataset: Any) -> DataLoader[Any]:
        """Every n-th item of `dataset` for each of n processes. The Trainer's own loader repeats items until all
        processes have equally many, and they would count twice."""
        processes = self.accelerator.num_processes
        own = Subset(dataset, range(self.accelerator.process_index, len(dataset), processes))
        return DataLoader(own, batch_size=self.args.eval_batch_size, collate_fn=self.data_collator)


class _Bar(TrainerCallback):
    """One progress bar with an ETA and the last losses, instead of a line of logs every few steps."""

    def __init__(self, description: str):
        self.description = description
        self.bar: Any = None
        self.losses: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.bar = progress_bar(state.max_steps, self.description, "updates", initial=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.bar is not None:
            self.losses |= {name: f"{logs[name]:.3f}" for name in ("loss", "eval_loss") if name in logs}
            self.bar.set_postfix(self.losses, refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _cross_entropy(
    logits: Tensor, labels: Tensor, label_smoothing: float, num_items_in_batch: Tensor | int | None
) -> Tensor:
    total = functional.cross_entropy(
        at_least_float32(logits).flatten(0, -2),
        labels.flatten(),
        ignore_index=-100,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    if num_items_in_batch is None:
        return total / (labels != -100).sum().clamp_min(1)
    return total / num_items_in_batch
