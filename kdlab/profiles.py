"""How large the models are and how long they train: one profile for each kind of data and machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from kdlab.generation import Search
from kdlab.sequences import Targets
from kdlab.students import Architecture


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        updates: optimizer steps.
        tokens_per_batch: padded tokens in a batch: sentences times the longer of the longest source and target, or
            times the longest prompt with its target in a decoder-only model, which so sees fewer sentences.
        learning_rate: peak, after a linear warm-up over `warmup` updates; a cosine leads back to 0.
        label_smoothing: where cross-entropy on the references is trained.
        evaluations: how often the validation loss is taken, and a checkpoint kept.
    """

    updates: int
    tokens_per_batch: int
    learning_rate: float
    warmup: int
    label_smoothing: float = 0.1
    evaluations: int = 20


@dataclass(frozen=True)
class PhrasebookSizes:
    """How many sentences are drawn from the grammar. The teacher's may repeat a source, the others do not."""

    teacher: int
    labelled: int
    unlabelled: int
    validation: int
    test: int
    grammar: str = "full"


@dataclass(frozen=True)
class Profile:
    """Everything that a run of `kdlab distill` takes from its profile.

    Attributes:
        vocabulary: entries of the tokenizer.
        teacher, teacher_recipe, student, student_recipe: sizes and training; all students share one recipe.
        labelled_dropout, labelled_rate: dropout and peak learning rate of the students that learn from the labelled
            sources alone, with and without the teacher, where these are so few that what suits the student with D'
            does not suit them: a comparison is fair when each side is tuned.
        labelled_smoothing: of the teacher's distribution for those of them that are distilled at word level; the
            student alone has the recipe's `label_smoothing`.
        pseudo_targets, targets: how the teacher's translations are made that a student learns from, and which of
            several it takes, see `kdlab.sequences.pseudo_targets`.
        filters: which of them are dropped, one of `kdlab.filters.FILTER_SETS`.
        translation: how every model translates when it is measured.
        level: word, sequence or both.
        keep_references: at level both, labelled sources keep their references as targets, and the teacher translates
            those alone that have none.
        divergence, temperature: between teacher and student, at word level.
        ce_weight: of the references, at word level.
        init: fresh, copied or projected: what a distilled student starts with, see `Experiment.new_student`.
        lmbda: share of the updates whose targets the student writes itself, see `kdlab.on_policy.OnPolicy`.

    >>> phrasebook = PROFILES["phrasebook", "cpu"]
    >>> phrasebook.level, phrasebook.learns_from_references
    ('both', True)
    >>> replace(phrasebook, level="sequence").learns_from_references
    False
    """

    vocabulary: int
    teacher: Architecture
    teacher_recipe: Recipe
    student: Architecture
    student_recipe: Recipe
    pseudo_targets: Search
    translation: Search
    level: str
    keep_references: bool = False
    divergence: str = "forward_kl"
    temperature: float = 1.0
    ce_weight: float = 0.0
    targets: Targets = "best"
    filters: str = "default"
    init: str = "fresh"
    lmbda: float = 0.0
    labelled_dropout: float | None = None
    labelled_rate: float | None = None
    labelled_smoothing: float = 0.0
    phrasebook: PhrasebookSizes | None = None

    @property
    def learns_from_references(self) -> bool:
        """Whether labelled sources keep their references as a distilled student's targets."""
        return keeps_references(self.level, keep=self.keep_references)


def keeps_references(level: str, *, keep: bool) -> bool:
    """`Profile.learns_from_references`, for a run's record, which holds a level and a profile's fields.

    >>> [keeps_references(level, keep=True) for level in ("word", "both", "sequence")]
    [True, True, False]
    """
    return level == "word" or (level == "both" and keep)


_PHRASEBOOK_CPU = Profile(
    vocabulary=1200,
    teacher=Architecture(d_model=128, encoder_layers=2, decoder_layers=2, ffn=512),
    teacher_recipe=Recipe(
        updates=1500, tokens_per_batch=1000, learning_rate=2.5e-3, warmup=200, label_smoothing=0.0
    ),
    student=Architecture(d_model=48, encoder_layers=1, decoder_layers=1, ffn=192, dropout=0.0),
    student_recipe=Recipe(
        updates=1600, tokens_per_batch=750, learning_rate=8e-3, warmup=200, label_smoothing=0.1
    ),
    pseudo_targets=Search(sample=True),
    translation=Search(num_beams=4),
    level="both",
    # On 400 samples of the teacher one seed of three ended as a language model that ignores its source (BLEU 9).
    keep_references=True,
    # Of 0, 0.1, 0.2, 0.3 the lowest validation loss of the student alone: at 0 it overfits within 300 updates.
    labelled_dropout=0.3,
    labelled_rate=5e-3,  # at 8e-3 one seed of three stays at BLEU 10
    # Without it one seed of three ends as a language model that ignores its source (BLEU 4).
    labelled_smoothing=0.1,
    phrasebook=PhrasebookSizes(teacher=50_000, labelled=400, unlabelled=30_000, validation=400, test=500),
)
_TEXT_CPU = Profile(
    vocabulary=4000,
    teacher=Architecture(d_model=128, encoder_layers=3, decoder_layers=3, ffn=512),
    teacher_recipe=Recipe(updates=4000, tokens_per_batch=1500, learning_rate=2.5e-3, warmup=400),
    student=Architecture(d_model=64, encoder_layers=1, decoder_layers=1, ffn=256, dropout=0.1),
    student_recipe=Recipe(updates=8000, tokens_per_batch=1500, learning_rate=4e-3, warmup=400),
    pseudo_targets=Search(num_beams=4),
    translation=Search(num_beams=5),
    level="sequence",
)
PROFILES: dict[tuple[str, str], Profile] = {
    ("phrasebook", "cpu"): _PHRASEBOOK_CPU,
    ("phrasebook", "ci"): replace(
        _PHRASEBOOK_CPU,
        vocabulary=800,
        teacher_recipe=replace(_PHRASEBOOK_CPU.teacher_recipe, updates=700),
        student_recipe=replace(
            _PHRASEBOOK_CPU.student_recipe, updates=800, learning_rate=5e-3, warmup=100, evaluations=8
        ),
        labelled_dropout=0.1,  # with 0.3, 800 updates are too few for the student alone
        phrasebook=PhrasebookSizes(
            teacher=40_000, labelled=400, unlabelled=12_000, validation=200, test=200, grammar="small"
        ),
    ),
    ("text", "cpu"): _TEXT_CPU,
    ("text", "ci"): replace(
        _TEXT_CPU,
        vocabulary=1000,
        teacher=Architecture(d_model=64, encoder_layers=2, decoder_layers=2, ffn=256),
        teacher_recipe=Recipe(
            # One evaluation, at the end: on a few hundred pairs the lowest validation loss comes before the model
            # has learnt to end a sentence.
            updates=400,
            tokens_per_batch=1000,
            learning_rate=5e-3,
            warmup=50,
            label_smoothing=0.0,
            evaluations=1,
        ),
        student=Architecture(d_model=32, encoder_layers=1, decoder_layers=1, ffn=128),
        student_recipe=Recipe(
            updates=200, tokens_per_batch=1000, learning_rate=4e-3, warmup=20, evaluations=2
        ),
        pseudo_targets=Search(),
        translation=Search(num_beams=2),
    ),
    ("text", "gpu"): replace(
        _TEXT_CPU,
        vocabulary=8000,
        teacher=Architecture(d_model=256, encoder_layers=6, decoder_layers=6, ffn=1024, dropout=0.2),
        teacher_recipe=Recipe(updates=8000, tokens_per_batch=8000, learning_rate=1e-3, warmup=1000),
        student_recipe=Recipe(updates=20_000, tokens_per_batch=8000, learning_rate=4e-3, warmup=1000),
        pseudo_targets=Search(num_beams=5, tokens_per_batch=65_536),
    ),
}
PROFILES["phrasebook", "gpu"] = _PHRASEBOOK_CPU
NAMES = ("ci", "cpu", "gpu")


def choose_profile(name: str, data: str) -> tuple[str, Profile]:
    """The profile called `name` for this data; "auto" is "gpu" where there is one, else "cpu".

    >>> name, profile = choose_profile("ci", "phrasebook")
    >>> name, profile.vocabulary, profile.phrasebook.grammar
    ('ci', 800, 'small')
    """
    if name == "auto":
        name = "gpu" if torch.cuda.is_available() else "cpu"
    if name not in NAMES:
        raise ValueError(f"profile: got {name!r}, expected one of {', '.join(NAMES)} or auto")
    return name, PROFILES["phrasebook" if data == "phrasebook" else "text", name]
