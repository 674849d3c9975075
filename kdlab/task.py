"""The text of an experiment: a folder, a data set of the hub, or sentences of the phrasebook."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdlab.profiles import PhrasebookSizes
from kdlab.settings import Settings
from kdlab.text.parallel import Corpus, ParallelText, read_corpus
from kdlab.text.phrasebook import Phrasebook

DATA_SEED = 0


@dataclass
class Task:
    """The text of an experiment, and what is known beyond it."""

    corpus: Corpus
    teacher_text: ParallelText
    phrasebook: Phrasebook | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def load_task(settings: Settings, sizes: PhrasebookSizes | None) -> Task:
    """Read or draw the text.

    >>> sizes = PhrasebookSizes(teacher=3, labelled=2, unlabelled=4, validation=1, test=1, grammar="small")
    >>> task = load_task(Settings(data="phrasebook"), sizes)
    >>> len(task.teacher_text), len(task.corpus.train), len(task.corpus.unlabelled)
    (3, 2, 4)
    """
    if settings.data == "phrasebook":
        assert sizes is not None  # every phrasebook profile has them
        return phrasebook_task(sizes)
    corpus = read_corpus(settings.data, settings.pair)
    if settings.pairs is not None:
        corpus = corpus.head(settings.pairs)
    return Task(corpus, corpus.train)


def phrasebook_task(sizes: PhrasebookSizes) -> Task:
    """Sentences of the grammar: pairs for the teacher, a few labelled ones, many sources without references.

    No test or validation source stands in any text that is trained on. The teacher's pairs come as the grammar makes
    them, some sources often: if all were different, a template with few sentences would be used up by the other
    parts, and the teacher would never see it.

    >>> sizes = PhrasebookSizes(teacher=20, labelled=2, unlabelled=4, validation=1, test=1, grammar="small")
    >>> task = phrasebook_task(sizes)
    >>> set(task.corpus.test_sets["test"].sources) & set(task.teacher_text.sources)
    set()
    """
    phrasebook = Phrasebook("small" if sizes.grammar == "small" else "full")
    counts = [sizes.test, sizes.validation, sizes.labelled]
    pairs = iter(phrasebook.sample(sum(counts), DATA_SEED))
    test, validation, labelled = (ParallelText.of([next(pairs) for _ in range(count)]) for count in counts)
    held_out = [*test.sources, *validation.sources]
    unlabelled = phrasebook.sample(sizes.unlabelled, DATA_SEED + 1, exclude=[*held_out, *labelled.sources])
    teacher = phrasebook.sample(sizes.teacher, DATA_SEED + 2, exclude=held_out, repeats=True)
    corpus = Corpus(
        "phrasebook", ("en", "de"), labelled, validation, {"test": test}, ParallelText.of(unlabelled).sources
    )
    return Task(corpus, ParallelText.of(teacher), phrasebook)
