"""One Teacher protocol: a batch goes in, Pr^t(. | c, z) at each of its target positions comes out.

The losses and the `Distiller` take any object of this kind. What is behind it - a model that runs now, a grammar
that knows the truth - is the teacher's own business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from kdlab.distributions import TopK

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kdlab.text.phrasebook import Phrasebook

Batch = Mapping[str, Tensor]


class Teacher(Protocol):
    """Gives the teacher's distribution for a batch, row by row beside the student's logits."""

    def __call__(self, batch: Batch) -> Tensor | TopK:
        """Logits (or log-probabilities) [batch, target length, vocabulary] without grad, or a `TopK` of them.

        `batch` holds input_ids, attention_mask [batch, source length], labels and decoder_input_ids
        [batch, target length], as `kdlab.text.batches.collate` makes it. The tensor is the caller's own, to write
        over.
        """
        ...


class LiveTeacher:
    """A model that is asked at every step: frozen, in eval mode, under no_grad, and kept so.

    Args:
        model: an encoder-decoder model whose output has `.logits`. Its parameters stop requiring grad.

    Raises:
        ValueError: from `check_apart`, if the student shares a parameter with it: to freeze one would freeze the
            other, and an optimizer step would move the teacher.
    """

    def __init__(self, model: nn.Module):
        self.model = model.eval().requires_grad_(False)

    def check_apart(self, student: nn.Module) -> None:
        """Refuse a student that shares parameters with the teacher."""
        mine = {id(parameter) for parameter in self.model.parameters()}
        shared = [name for name, parameter in student.named_parameters() if id(parameter) in mine]
        if shared:
            raise ValueError(
                f"student: got a model that shares {len(shared)} parameters with the teacher (such as {shared[0]}), "
                "expected a model of its own: copy the modules (copy.deepcopy) before training"
            )

    def to(self, device: torch.device) -> LiveTeacher:
        """Move the model, once the device of the student is known."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        # Somebody may have called .train() on a parent module since: dropout in the teacher is a silent fault.
        if self.model.training:
            self.model.eval()
        logits: Tensor = self.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            decoder_input_ids=batch["decoder_input_ids"],
            use_cache=False,
        ).logits
        return logits


class PhrasebookTeacher:
    """The true Pr(. | x, y_<i) of the phrasebook's grammar, as a teacher like any other.

    A sentence's translations and their probabilities are known exactly. With the tokenizer's own (canonical) way
    to cut each translation, the next-token distribution after a prefix is the share of probability that each
    continuation of that prefix holds.

    Args:
        phrasebook: the grammar.
        tokenizer: cuts source and target; it must give back a sentence that it cut.
        vocabulary: number of entries of the student's logits; default: the tokenizer's.

    Raises:
        ValueError: when called: a source the grammar does not have, or a prefix to which it gives probability 0,
            where no distribution is defined.
    """

    def __init__(
        self,
        phrasebook: Phrasebook,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: int | None = None,
    ):
        self.phrasebook, self.tokenizer = phrasebook, tokenizer
        self.vocabulary = len(tokenizer) if vocabulary is None else vocabulary
        self._known: dict[str, list[tuple[list[int], float]]] = {}

    def translations(self, source: str) -> list[tuple[list[int], float]]:
        """Every translation of `source` as token ids that end in eos, with its probability."""
        if source not in self._known:
            texts = self.phrasebook.translations(source)
            ids = self.tokenizer(text_target=list(texts))["input_ids"]
            self._known[source] = list(zip(ids, texts.values(), strict=True))
        return self._known[source]

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        labels = batch["labels"].cpu()
        sources = self.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
        probabilities = torch.zeros(*labels.shape, self.vocabulary)
        for row, (source, target) in enumerate(zip(sources, labels.tolist(), strict=True)):
            self._fill(probabilities[row], source, [token for token in target if token >= 0])
        # Padding rows say nothing; give them a distribution all the same, so that no row is all -inf.
        probabilities[labels < 0] = 1 / self.vocabulary
        return probabilities.log().to(batch["labels"].device)

    def _fill(self, probabilities: Tensor, source: str, target: list[int]) -> None:
        """Write the next-token distribution after each prefix of `target` into [target length, vocabulary]."""
        alive = self.translations(source)
        for position, token in enumerate(target):
            if not alive:
                prefix = self.tokenizer.decode(target[:position])
                raise ValueError(
                    f"labels: got the prefix {prefix!r} for {source!r}, to which the phrasebook gives probability "
                    "0; expected a prefix of one of its translations"
                )
            mass = math.fsum(probability for _, probability in alive)
            for ids, probability in alive:
                probabilities[position, ids[position]] += probability / mass
            alive = [
                (ids, probability)
                for ids, probability in alive
                if ids[position] == token and len(ids) > position + 1
            ]


def place_teacher(teacher: Teacher, student: nn.Module, device: torch.device) -> None:
    """Bring a teacher that is a model to the student's device, and refuse one that is part of the student."""
    check: Callable[[nn.Module], None] | None = getattr(teacher, "check_apart", None)
    if check is not None:
        check(student)
    move: Callable[[torch.device], Any] | None = getattr(teacher, "to", None)
    if move is not None:
        move(device)
