"""One Teacher protocol: a batch goes in, Pr^t(. | c, z) at each of its target positions comes out.

The losses and the `Distiller` take any object of this kind. What is behind it - a model that runs now, a grammar
that knows the truth - is the teacher's own business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kdlab.cache import TeacherCache
from kdlab.cache_folder import CacheFolder
from kdlab.distributions import TopK, log_probabilities
from kdlab.files import fingerprint, fingerprint_of_weights
from kdlab.linear_head import HiddenLogits, LinearHead
from kdlab.model_io import Batch, batch_alignment, target_labels, target_logits

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kdlab.text.phrasebook import Phrasebook


class Teacher(Protocol):
    """Gives the teacher's distribution for a batch, row by row beside the student's logits."""

    def __call__(self, batch: Batch) -> Tensor | TopK:
        """Logits (or log-probabilities) [batch, targets, vocabulary] without grad, or a `TopK` of them.

        `batch` is one that `kdlab.text.batches.collate` makes for encoder-decoder models, or
        `kdlab.text.causal.collate_causal` for decoder-only ones; it may hold example_ids [batch]. Row i of the answer
        goes with label i of `kdlab.model_io.target_labels(batch)`. The tensor is the caller's own, to write over.
        """
        ...


@runtime_checkable
class HiddenTeacher(Protocol):
    """A Teacher that may give its last hidden states in place of its logits, to a fused loss."""

    def __call__(self, batch: Batch) -> Tensor | TopK:
        """See `Teacher`."""
        ...

    def linear_head(self) -> LinearHead:
        """What makes logits of them. Raises ValueError, which says why, where that is not possible."""
        ...

    def hidden_logits(self, batch: Batch) -> HiddenLogits:
        """The same rows as a call gives, without grad, before they are multiplied by the head's weight."""
        ...


class LiveTeacher:
    """A model that is asked at every step: frozen, in eval mode, under no_grad, and kept so.

    Args:
        model: an encoder-decoder or decoder-only model whose output has `.logits`. Its parameters stop requiring
            grad.

    Raises:
        ValueError: from `check_apart`, if the student shares a parameter with it: to freeze one would freeze the
            other, and an optimizer step would move the teacher. When called: a batch of the other kind of model.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> from kdlab.text.batches import Example, collate
    >>> model = MarianMTModel(marian_config(Architecture(8, 1, 1, 8), vocabulary=20))
    >>> batch = collate([Example([5, 1], [7, 8, 1])], pad_token_id=0, decoder_start_token_id=0)
    >>> logits = LiveTeacher(model)(batch)
    >>> logits.shape, logits.requires_grad, model.training
    (torch.Size([1, 3, 20]), False, False)
    """

    def __init__(self, model: nn.Module):
        self.model = model.eval().requires_grad_(False)
        self._head: LinearHead | None = None

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

    def fingerprint(self) -> str:
        """Of the weights."""
        return fingerprint_of_weights(self.model)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        return target_logits(self._model_in_eval_mode(), batch)

    def linear_head(self) -> LinearHead:
        """See `HiddenTeacher`."""
        refuse_own_call(self, LiveTeacher)
        if self._head is None:
            self._head = LinearHead.of(self._model_in_eval_mode())
        return self._head

    @torch.no_grad()
    def hidden_logits(self, batch: Batch) -> HiddenLogits:
        """See `HiddenTeacher`."""
        return self.linear_head().hidden_logits(self._model_in_eval_mode(), batch)

    def _model_in_eval_mode(self) -> nn.Module:
        # Somebody may have called .train() on a parent module since: dropout in the teacher is a silent fault.
        if self.model.training:
            self.model.eval()
        return self.model


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
        ValueError: when called: a decoder-only batch; a source the grammar does not have, or a prefix to which it
            gives probability 0, where no distribution is defined.

    >>> from kdlab.text.batches import Example, collate
    >>> from kdlab.text.phrasebook import Phrasebook
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> phrasebook = Phrasebook("small")
    >>> (pair,) = phrasebook.sample(1, seed=0)
    >>> tokenizer = train_tokenizer([pair.source, pair.target], vocabulary_size=300)
    >>> teacher = PhrasebookTeacher(phrasebook, tokenizer)
    >>> round(math.fsum(probability for _, probability in teacher.translations(pair.source)), 6)
    1.0
    >>> example = Example(tokenizer(pair.source)["input_ids"], tokenizer(pair.target)["input_ids"])
    >>> batch = collate([example], pad_token_id=0, decoder_start_token_id=0)
    >>> path = teacher(batch).gather(-1, batch["labels"][..., None]).sum()  # log Pr(y | x), token by token
    >>> abs(path.item() - math.log(phrasebook.translations(pair.source)[pair.target])) < 1e-4
    True
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
        if batch_alignment(batch) == "causal":
            raise ValueError(
                "batch: got one without decoder_input_ids, expected an encoder-decoder batch, whose input_ids are a "
                "sentence of the phrasebook"
            )
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


class CachedTeacher:
    """A teacher that has answered already: its distributions are read from a cache, and no model runs.

    Batches may hold any of the cached examples in any order. Each row says by its `example_ids` which one it is;
    `kdlab.training.train` sees to that, with a cache built from `TrainingData.examples`.

    Args:
        cache: opened with what it is expected to be made from.

    Raises:
        ValueError: when called: a batch without example_ids, an id that the cache does not have, or a row whose
            target is not as long as that example's.

    It gives a `TopK` at the cache's temperature, on the device of the batch. Positions of padding hold one certain
    entry, so that no row is empty.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from transformers import MarianMTModel
    >>> from kdlab.cache import build_cache
    >>> from kdlab.shards import Keep
    >>> from kdlab.students import Architecture, marian_config
    >>> from kdlab.text.batches import Example, collate
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer, examples = train_tokenizer(["a b c"], 300), [Example([5, 1], [7, 8, 1]), Example([6, 1], [9, 1])]
    >>> live = LiveTeacher(MarianMTModel(marian_config(Architecture(8, 1, 1, 8), len(tokenizer))))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = build_cache(Path(folder), live, tokenizer, examples, Keep(k=4, min_probability=0.0))
    ...     batch = collate([examples[1]], pad_token_id=0, decoder_start_token_id=0, example_ids=[1])
    ...     known = CachedTeacher(cache)(batch)
    >>> known.indices.shape, torch.equal(known.indices, live(batch).topk(4).indices)
    (torch.Size([1, 2, 4]), True)
    """

    def __init__(self, cache: TeacherCache):
        self.cache = cache

    @torch.no_grad()
    def __call__(self, batch: Batch) -> TopK:
        labels = target_labels(batch)
        example_ids = ids_of_rows(batch)
        tokens = self.cache.read(example_ids)
        inside = places_of_targets(batch, self.cache)
        shape = (*labels.shape, tokens.indices.shape[-1])
        indices = torch.full(shape, -1)
        log_p = torch.full(shape, -math.inf)
        tail = torch.full(labels.shape, -math.inf)
        indices[..., 0], log_p[..., 0] = 0, 0.0
        indices[inside], log_p[inside] = tokens.indices, tokens.log_probabilities
        tail[inside] = tokens.tail_log_probability
        device = labels.device
        return TopK(
            indices.to(device), log_p.to(device), tail.to(device), tokens.vocabulary, tokens.temperature
        )


class EnsembleTeacher:
    """The weighted mean of several teachers' probabilities: p(v) = SUM_i w_i p_i(v), in log space.

    Args:
        members: teachers that give whole distributions over one vocabulary.
        weights: positive, one for each member; they are divided by their sum. None: all alike.

    Raises:
        ValueError: no members, or weights that do not fit. When called: a member that gives a `TopK`, or members
            with vocabularies of different size.

    The mean is taken at temperature 1; a loss at another temperature applies it to the mean, as it would to a single
    teacher's logits.

    >>> one, other = (lambda batch: torch.tensor([0.8, 0.2]).log()), (lambda batch: torch.tensor([0.4, 0.6]).log())
    >>> EnsembleTeacher([one, other], weights=[3, 1])({}).exp()
    tensor([0.7000, 0.3000])
    """

    def __init__(self, members: Sequence[Teacher], weights: Sequence[float] | None = None):
        if not members:
            raise ValueError("members: got none, expected at least one teacher")
        weights = [1.0] * len(members) if weights is None else list(weights)
        if len(weights) != len(members) or not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"weights: got {weights}, expected {len(members)} positive numbers")
        self.members = list(members)
        self.weights = [weight / math.fsum(weights) for weight in weights]

    def check_apart(self, student: nn.Module) -> None:
        """Refuse a student that shares parameters with a member."""
        for member in self.members:
            if_it_can(member, "check_apart", student)

    def to(self, device: torch.device) -> EnsembleTeacher:
        """Move the members that are models."""
        for member in self.members:
            if_it_can(member, "to", device)
        return self

    def fingerprint(self) -> str:
        """Of the members' own and the weights."""
        own = []
        for number, member in enumerate(self.members):
            if not hasattr(member, "fingerprint"):
                raise ValueError(
                    f"members: number {number} is a {type(member).__name__}, expected one that has a fingerprint()"
                )
            own.append(member.fingerprint())
        return fingerprint([self.weights, own])

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        total: Tensor | None = None
        for number, (member, weight) in enumerate(zip(self.members, self.weights, strict=True)):
            logits = member(batch)
            if not isinstance(logits, Tensor):
                raise ValueError(
                    f"members: number {number} gave a top-k signal, expected whole distributions"
                )
            if total is not None and logits.shape != total.shape:
                raise ValueError(
                    f"members: number {number} gave shape {tuple(logits.shape)}, expected {tuple(total.shape)} as "
                    "from the first: all must have the same vocabulary"
                )
            # One after the other, so that two distributions exist at a time and not all of them.
            share = log_probabilities(logits) + math.log(weight)
            total = share if total is None else torch.logaddexp(total, share)
        assert total is not None  # there is at least one member
        return total


def live_teacher(models: Sequence[nn.Module]) -> LiveTeacher | EnsembleTeacher:
    """A model that is asked, or the mean of several, all alike.

    >>> one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> live_teacher([one]).model is one, [member.model is other for member in live_teacher([one, other]).members]
    (True, [False, True])
    """
    members = [LiveTeacher(model) for model in models]
    return members[0] if len(members) == 1 else EnsembleTeacher(members)


def place_teacher(teacher: Teacher, student: nn.Module, device: torch.device) -> None:
    """Bring a teacher that is a model to the student's device, and refuse one that is part of the student.

    >>> student = nn.Linear(2, 2)
    >>> place_teacher(LiveTeacher(nn.Linear(2, 2)), student, torch.device("cpu"))
    >>> place_teacher(LiveTeacher(student), student, torch.device("cpu"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: student: got a model that shares 2 parameters with the teacher (such as weight), expected ...
    """
    if_it_can(teacher, "check_apart", student)
    if_it_can(teacher, "to", device)


def refuse_own_call(teacher: HiddenTeacher, kind: type) -> None:
    """Refuse a subclass of `kind` that makes its logits in a way of its own: hidden states would pass it by."""
    if type(teacher).__call__ is not kind.__call__:
        raise ValueError(f"teacher: got a {type(teacher).__name__}, which makes logits in a way of its own")


def if_it_can(teacher: Teacher, name: str, argument: Any) -> None:
    """Call a method that only some teachers have.

    >>> if_it_can(lambda batch: batch["logits"], "to", torch.device("cpu"))  # has none: nothing happens
    >>> teacher = LiveTeacher(nn.Linear(2, 2))
    >>> if_it_can(teacher, "to", torch.device("meta"))
    >>> teacher.model.weight.device
    device(type='meta')
    """
    method = getattr(teacher, name, None)
    if method is not None:
        method(argument)


def ids_of_rows(batch: Batch) -> list[int]:
    """Which example of a cache each row is.

    Raises:
        ValueError: a batch that does not say so.

    >>> ids_of_rows({"example_ids": torch.tensor([4, 2])})
    [4, 2]
    """
    if "example_ids" not in batch:
        raise ValueError(
            f"batch: got {', '.join(batch)}, expected example_ids too: give them to kdlab.text.batches.collate"
        )
    found: list[int] = batch["example_ids"].tolist()
    return found


def places_of_targets(batch: Batch, cache: CacheFolder[Any]) -> Tensor:
    """Where the target tokens stand, bool [batch, targets], on the CPU.

    Raises:
        ValueError: a row that is not as long as the example that it says it is.

    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> batch = {
    ...     "example_ids": torch.tensor([4, 0]),
    ...     "labels": torch.tensor([[7, 1, -100], [-100, 8, 1]]),  # one word is not learnt
    ...     "decoder_input_ids": torch.zeros(2, 3),
    ... }
    >>> places_of_targets(batch, SimpleNamespace(lengths=np.array([3, 0, 0, 0, 2])))
    tensor([[ True,  True, False],
            [ True,  True,  True]])
    """
    example_ids = ids_of_rows(batch)
    lengths = torch.from_numpy(cache.lengths[example_ids])
    counted = (target_labels(batch) >= 0).cpu()
    places = torch.arange(counted.shape[1])
    end = (counted * (places + 1)).amax(1)
    # A decoder-only row begins with its prompt, which holds no target.
    start = torch.zeros_like(end) if batch_alignment(batch) == "encoder_decoder" else counted.int().argmax(1)
    end = torch.where(end == 0, lengths, end)  # a row may count for nothing
    wrong = (end - start != lengths).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"labels: got {end[row] - start[row]} target tokens for example {example_ids[row]}, expected "
            f"{lengths[row]} as in the cache: its examples are others, or in another order"
        )
    return (places >= start[:, None]) & (places < end[:, None])
