"""Sequence level: the teacher's own translations become the student's targets.

Loss = - SUM_y Pr^t(y | c, z) log Pr_theta^s(y | c', z) runs over every sentence there is. With
y_hat = argmax_y Pr^t(y | c, z), found by beam search, it becomes - log Pr_theta^s(y_hat | c', z) (Kim and Rush 2016).
More candidates a source come nearer to the sum, or leave a choice: of the one that is most like the reference.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from kdlab import processes
from kdlab.evaluation import sequence_scores
from kdlab.files import fingerprint
from kdlab.filters import DEFAULT_FILTERS, FILTERS, Filters
from kdlab.generation import Search, generate_candidates
from kdlab.progress import progress_bar
from kdlab.text.batches import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Targets = Literal["best", "all", "nearest"]
FORMAT = 2  # of the file of translations; 1 had no header


@dataclass(frozen=True)
class Candidate:
    """One translation of a source.

    Attributes:
        target_ids: end in eos, unless the length limit cut them.
        log_probability: log Pr^t(y | x), at most 0, in nats; None where it is its source's only one, which nothing
            is compared with: to score it would take another pass of the teacher.
    """

    target_ids: list[int]
    log_probability: float | None = None

    def length_normalised(self, length_penalty: float = 1.0) -> float:
        """log Pr^t(y | x) / length ** length_penalty, what a beam is ranked by; the length counts eos.

        >>> Candidate([5, 6, 7, 1], log_probability=-2.0).length_normalised()
        -0.5
        """
        if self.log_probability is None:
            raise ValueError(
                "log_probability: got None, expected a candidate among several, which are scored"
            )
        return float(self.log_probability / len(self.target_ids) ** length_penalty)


@dataclass(frozen=True)
class PseudoTargets:
    """The teacher's translations of a list of sources, those that are targets to learn from.

    Attributes:
        examples: source and pseudo-target, in the order of the sources.
        kept: for each example, the index of its source.
        log_probabilities: for each example, log Pr^t(y | x) in nats; None as in `Candidate`.
        dropped: how many candidates each of `kdlab.filters.FILTERS` caught, the first that did.
        left_out: how many sources are without a target, since all their candidates are dropped.
        seconds: what it cost to make the candidates, over all runs that it took.
    """

    examples: list[Example]
    kept: list[int]
    log_probabilities: list[float | None]
    dropped: dict[str, int]
    left_out: int
    seconds: float


def pseudo_targets(
    teacher: PreTrainedModel,
    sources: Sequence[list[int]],
    search: Search,
    file: Path,
    description: str = "teacher translates",
    *,
    targets: Targets = "best",
    references: Sequence[str] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    filters: Filters = DEFAULT_FILTERS,
) -> PseudoTargets:
    """Let the teacher translate every source, going on where an earlier call was stopped, and choose targets.

    Args:
        teacher: an encoder-decoder or decoder-only model, on its device.
        sources: token ids that end in eos; to a decoder-only teacher they are prompts.
        search: beam, greedy or sampling, and how many candidates a source.
        file: where all candidates are kept, one JSON line for each batch after a header that names the search and
            the sources. It belongs to this teacher (weights and generation_config): the caller names it so. A last
            line that a kill has cut is made again. `targets` and `filters` may change from call to call. Several
            processes share the batches, and each writes a part of its own beside the file.
        description: for the progress bar.
        targets: which of the candidates that pass the filters become examples:
            "best" - the one with the highest length-normalised log-probability, as a beam is ranked;
            "all" - every one, an example of its own, all alike: with samples at temperature 1, a Monte Carlo estimate
            of the sum above; with a beam, the n-best of Kim and Rush 2016 without their weights;
            "nearest" - the one with the highest sentence BLEU (sacrebleu, smoothed) against the reference, and of
            equals the more probable: Kim and Rush's sequence-level interpolation.
        references: a translation of each source, for "nearest".
        tokenizer: gives back the text of a candidate, for "nearest".
        filters: which candidates are dropped.

    Raises:
        ValueError: not one candidate passes the filters; a file made from another search, from other sources or by
            another version; `targets` without what it needs.

    Every candidate is kept with the index of its source, so the order in which batches come does not matter. Where a
    source has several, their log-probabilities are `kdlab.evaluation.sequence_scores`, exact, from the teacher's whole
    distribution at temperature 1. (transformers gives the same for a beam, but keeps the logits of all steps for it.)

    >>> import tempfile
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["der Bus ist rot"], vocabulary_size=300)
    >>> teacher = new_model(Architecture(8, 1, 1, 8, heads=1), tokenizer, seed=0)
    >>> teacher.final_logits_bias[0, tokenizer.eos_token_id] = 4  # untrained, it ends a sentence by chance
    >>> search, file = Search(sample=True, candidates=8), Path(tempfile.mkdtemp()) / "translations.jsonl"
    >>> made = pseudo_targets(teacher, [[5, 6, 7, 1], [8, 9, 1]], search, file, targets="all")
    >>> len(made.examples) + sum(made.dropped.values())
    16
    """
    _check(len(sources), search, targets, references, tokenizer)
    done, seconds = _translate(teacher, sources, search, file, description)
    config = teacher.generation_config
    length_penalty = 1.0 if config.length_penalty is None else config.length_penalty
    similarity = sentence_bleu(tokenizer) if tokenizer is not None and targets == "nearest" else None
    chosen: list[tuple[int, Candidate]] = []
    dropped = dict.fromkeys(FILTERS, 0)
    with progress_bar(len(sources), "nearest to the reference", "sentences", disable=not similarity) as bar:
        for index, source in enumerate(sources):
            caught = [
                filters.caught(source, candidate.target_ids, config.eos_token_id) for candidate in done[index]
            ]
            passed = [candidate for candidate, name in zip(done[index], caught, strict=True) if name is None]
            for name in filter(None, caught):
                dropped[name] += 1
            # Sorting keeps the order of equals: of the search first, then of the probabilities.
            if search.candidates > 1:
                passed.sort(key=lambda candidate: -candidate.length_normalised(length_penalty))
            if similarity and references is not None:
                reference = references[index]
                passed.sort(key=lambda candidate: -similarity(candidate.target_ids, reference))
            chosen += [(index, candidate) for candidate in (passed if targets == "all" else passed[:1])]
            bar.update()
    if sources and not chosen:
        raise ValueError(
            f"teacher: none of its {len(sources) * search.candidates} translations can be learnt from (dropped: "
            f"{', '.join(f'{name} {count}' for name, count in dropped.items() if count)}), expected a model that has "
            "learnt to translate: more text, more updates, or a teacher from a folder"
        )
    kept = [index for index, _ in chosen]
    return PseudoTargets(
        [Example(list(sources[index]), candidate.target_ids) for index, candidate in chosen],
        kept,
        [candidate.log_probability for _, candidate in chosen],
        dropped,
        len(sources) - len(set(kept)),
        seconds,
    )


def sentence_bleu(tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[int], str], float]:
    """A function of target ids and a reference text: BLEU of the one sentence, 0 to 100, by sacrebleu.

    Smoothed (sacrebleu's "exp"), over the orders that the sentence is long enough for, 13a tokens, cased.

    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["der Bus ist rot"], vocabulary_size=300)
    >>> bleu = sentence_bleu(tokenizer)
    >>> round(bleu(tokenizer("der Bus ist rot")["input_ids"], "der Bus ist rot"))
    100
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(effective_order=True)

    def similarity(target_ids: Sequence[int], reference: str) -> float:
        text = str(tokenizer.decode(list(target_ids), skip_special_tokens=True)).strip()
        return float(metric.sentence_score(text, [reference]).score)

    return similarity


def _check(
    sources: int, search: Search, targets: str, references: Sequence[str] | None, tokenizer: object
) -> None:
    """Refuse a choice that cannot be made, before the teacher translates for hours."""
    if targets not in get_args(Targets):
        raise ValueError(f"targets: got {targets!r}, expected one of {', '.join(get_args(Targets))}")
    if targets != "best" and search.candidates == 1:
        raise ValueError(
            f"candidates: got 1 with targets={targets!r}, expected at least 2 to choose from: Search(candidates=...)"
        )
    if targets == "nearest" and (references is None or len(references) != sources):
        found = "None" if references is None else str(len(references))
        raise ValueError(
            f"references: got {found}, expected {sources}, one for each source, for targets='nearest'"
        )
    if targets == "nearest" and tokenizer is None:
        raise ValueError("tokenizer: got None, expected the one that gives back texts, for targets='nearest'")


def _translate(
    teacher: PreTrainedModel, sources: Sequence[list[int]], search: Search, file: Path, description: str
) -> tuple[dict[int, list[Candidate]], float]:
    """All candidates of each source, from the file as far as it goes, and the seconds that they took."""
    header = {
        "format": FORMAT,
        "search": asdict(search),
        "sources": fingerprint([list(ids) for ids in sources]),
    }
    share = processes.rank(), processes.count()
    own = file if share[1] == 1 else file.with_name(f"{file.stem}.{share[0]}of{share[1]}{file.suffix}")
    done, seconds = _read_parts(file, header, own)
    processes.wait_for_all()  # all have read before one of them writes
    if len(done) < len(sources):
        file.parent.mkdir(parents=True, exist_ok=True)
        with own.open("a", encoding="utf-8") as lines:
            if not lines.tell():
                lines.write(json.dumps(header) + "\n")
            start = time.perf_counter()
            for batch in generate_candidates(
                teacher, sources, search, description, done=set(done), share=share
            ):
                scored = _score(teacher if search.candidates > 1 else None, sources, batch)
                spent, start = time.perf_counter() - start, time.perf_counter()
                record = {"seconds": round(spent, 3), "targets": [[i, found] for i, found in scored.items()]}
                lines.write(json.dumps(record) + "\n")
                lines.flush()
                done |= _candidates(record)
                seconds += spent
        if share[1] > 1:
            processes.wait_for_all()
            done, seconds = _read_parts(file, header, own)
    return done, seconds


def _read_parts(file: Path, header: dict[str, Any], own: Path) -> tuple[dict[int, list[Candidate]], float]:
    """What the file and its parts hold, which several processes have written, a part each."""
    done: dict[int, list[Candidate]] = {}
    seconds = 0.0
    for part in {file, own, *file.parent.glob(f"{file.stem}.*of*{file.suffix}")}:
        found, spent = _read(part, header, mend=part == own)
        done |= found
        seconds += spent
    return done, seconds


def _score(
    teacher: PreTrainedModel | None, sources: Sequence[list[int]], batch: dict[int, list[list[int]]]
) -> dict[int, list[tuple[list[int], float | None]]]:
    """The candidates of a batch with their log-probabilities; None where no teacher is to give them."""
    rows = [Example(sources[index], ids) for index, found in batch.items() for ids in found]
    scores = iter([None] * len(rows) if teacher is None else sequence_scores(teacher, rows))
    return {index: [(ids, next(scores)) for ids in found] for index, found in batch.items()}


def _candidates(record: dict[str, Any]) -> dict[int, list[Candidate]]:
    """What a line of the file holds."""
    return {index: [Candidate(ids, score) for ids, score in found] for index, found in record["targets"]}


def _read(file: Path, header: dict[str, Any], *, mend: bool) -> tuple[dict[int, list[Candidate]], float]:
    """What a file holds already; `mend` cuts a torn last line off, so that the next one starts on its own."""
    done: dict[int, list[Candidate]] = {}
    seconds, whole = 0.0, 0
    if not file.exists():
        return done, seconds
    with file.open("rb") as lines:
        first = lines.readline()
        _check_header(file, first, header)
        whole = len(first) if first.endswith(b"\n") else 0
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            done |= _candidates(record)
            seconds += record["seconds"]
            whole += len(line)
    if mend:
        os.truncate(file, whole)
    return done, seconds


def _check_header(file: Path, first: bytes, header: dict[str, Any]) -> None:
    """Refuse a file that is not this one's, and leave it as it is. A header that a kill has cut is no other's."""
    expected = json.dumps(header).encode()
    if expected.startswith(first) or first == expected + b"\n":
        return
    try:
        found = json.loads(first)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "format" not in found:
        raise ValueError(f"file: got {file}, which has no header, expected one of format {FORMAT}: delete it")
    other = ", ".join(
        f"{key} {found.get(key)}, not {header[key]}" for key in header if found.get(key) != header[key]
    )
    raise ValueError(
        f"file: got {file}, made with {other}; expected this call's own: delete it, or name another"
    )
