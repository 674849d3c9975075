"""What the user of `kdlab distill` chooses, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from kdlab.loading import Kind, kind_of
from kdlab.losses import DistillationLoss
from kdlab.on_policy import OnPolicy
from kdlab.profiles import Profile
from kdlab.sequences import Targets
from kdlab.students import decoder_only
from kdlab.weak_to_strong import ConfidenceLoss

CacheForm: TypeAlias = Literal["top-k", "hidden"]

# What the user may choose in the place of the profile's own.
FROM_PROFILE = ("level", "divergence", "temperature", "ce_weight", "targets", "filters", "init", "lmbda")


@dataclass(frozen=True)
class Settings:
    """What the user of `kdlab distill` chooses.

    `teacher` names one model or several, of which the first translates and all are asked for their distributions.

    >>> from kdlab.profiles import PROFILES
    >>> settings = Settings(divergence="generalized_jsd", beta=0.1, updates=50)
    >>> profile = settings.applied_to(PROFILES["phrasebook", "ci"])
    >>> profile.student_recipe.updates, profile.student_recipe.learning_rate
    (50, 0.005)
    >>> settings.loss(profile).options["beta"]
    0.1
    >>> Settings(teacher="hub:one").teacher, Settings(teacher=["one", "two"]).teacher
    (('hub:one',), ('one', 'two'))
    """

    data: str = "phrasebook"
    pair: str = "en-de"
    profile: str = "auto"
    seed: int = 0
    teacher: tuple[str, ...] | None = None
    architecture: Kind | None = None
    level: str | None = None
    pairs: int | None = None
    updates: int | None = None
    divergence: str | None = None
    beta: float | None = None
    skew: float | None = None
    alpha: float | None = None
    temperature: float | None = None
    ce_weight: float | None = None
    candidates: int | None = None
    targets: Targets | None = None
    filters: str | None = None
    init: str | None = None
    lmbda: float | None = None
    weak_to_strong: bool = False
    confidence: float | None = None
    cache_teacher: CacheForm | None = None

    def __post_init__(self) -> None:
        # A report has a list for a tuple, and one of an older version the name of its one teacher.
        if self.teacher is not None:
            names = (self.teacher,) if isinstance(self.teacher, str) else tuple(self.teacher)
            object.__setattr__(self, "teacher", names)
        if isinstance(self.cache_teacher, bool):  # as older reports have it
            object.__setattr__(self, "cache_teacher", "top-k" if self.cache_teacher else None)

    def applied_to(self, profile: Profile) -> Profile:
        """The profile with all that the user names in the place of its own, and sizes of the architecture named."""
        if self.weak_to_strong:
            profile = with_smaller_teacher(profile)
        own = {name: getattr(self, name) for name in FROM_PROFILE}
        profile = replace(profile, **{name: value for name, value in own.items() if value is not None})
        if self.architecture not in (None, *get_args(Kind)):
            raise ValueError(
                f"architecture: got {self.architecture!r}, expected one of {', '.join(get_args(Kind))}"
            )
        if self.architecture == "decoder-only":
            profile = replace(
                profile, teacher=decoder_only(profile.teacher), student=decoder_only(profile.student)
            )
        if self.updates is not None:
            profile = replace(profile, student_recipe=replace(profile.student_recipe, updates=self.updates))
        if self.candidates is not None:
            search = profile.pseudo_targets
            beams = 1 if search.sample else max(search.num_beams, self.candidates)
            search = replace(search, candidates=self.candidates, num_beams=beams)
            profile = replace(profile, pseudo_targets=search)
        if profile.targets != "best" and profile.pseudo_targets.candidates == 1:
            raise ValueError(
                f"targets: got {profile.targets!r}, expected candidates to choose from, at least 2"
            )
        self._check_teacher(profile)
        return profile

    def _check_teacher(self, profile: Profile) -> None:
        """Refuse what cannot go with several teachers, with a cached one or with one that is smaller."""
        if self.teacher is not None and len(self.teacher) > 1:
            why = "where the mean of their distributions is learnt: they cannot translate together"
            _check_level(profile, "teacher", f"{len(self.teacher)} models", why)
        if self.cache_teacher is not None:
            self._check_cache()
            _check_level(
                profile, "cache_teacher", self.cache_teacher, "where the student learns what a cache can hold"
            )
            if profile.lmbda > 0:
                raise ValueError(
                    f"lmbda: got {profile.lmbda} with cache_teacher, expected 0: a cache holds the distributions along "
                    "the data's targets alone"
                )
        if self.weak_to_strong:
            _check_weak_to_strong(profile)
        elif self.confidence is not None:
            raise ValueError(
                f"confidence: got {self.confidence} without weak_to_strong, expected both: students hold to their own "
                "opinion against a weaker teacher's"
            )

    def _check_cache(self) -> None:
        if self.cache_teacher not in get_args(CacheForm):
            raise ValueError(
                f"cache_teacher: got {self.cache_teacher!r}, expected one of {', '.join(get_args(CacheForm))}"
            )
        if self.cache_teacher == "hidden" and self.teacher is not None and len(self.teacher) > 1:
            raise ValueError(
                f"cache_teacher: got 'hidden' with {len(self.teacher)} teachers, expected one: the mean of several is "
                "made of their distributions, not of their hidden states (top-k keeps these)"
            )

    def loss(self, profile: Profile) -> DistillationLoss | ConfidenceLoss:
        """How the student's distribution is compared with the teacher's."""
        of_divergence = {name: getattr(self, name) for name in ("beta", "skew", "alpha")}
        loss = DistillationLoss(
            profile.divergence,
            profile.ce_weight,
            temperature=profile.temperature,
            **{name: value for name, value in of_divergence.items() if value is not None},
        )
        if not self.weak_to_strong:
            return loss
        weight = 0.5 if self.confidence is None else self.confidence
        if not 0 <= weight <= 1:
            raise ValueError(f"confidence: got {weight}, expected 0 to 1")
        return ConfidenceLoss(loss, weight, warmup_updates=profile.student_recipe.warmup)


def with_smaller_teacher(profile: Profile) -> Profile:
    """The profile for weak-to-strong: teacher and students change sizes, and no reference is a student's target.

    The learning rate goes with the size; how long a model trains, and on what, goes with its part.

    >>> from kdlab.profiles import PROFILES
    >>> usual, swapped = PROFILES["text", "gpu"], with_smaller_teacher(PROFILES["text", "gpu"])
    >>> swapped.teacher == usual.student, swapped.student == usual.teacher
    (True, True)
    >>> swapped.student_recipe.learning_rate, swapped.student_recipe.updates
    (0.001, 20000)
    """
    small, large = profile.student_recipe.learning_rate, profile.teacher_recipe.learning_rate
    return replace(
        profile,
        teacher=profile.student,
        teacher_recipe=replace(profile.teacher_recipe, learning_rate=small),
        student=profile.teacher,
        student_recipe=replace(profile.student_recipe, learning_rate=large),
        labelled_rate=None,  # the small model's
        keep_references=False,
    )


def _check_weak_to_strong(profile: Profile) -> None:
    """Refuse what a teacher that is smaller cannot give, and references to learn from."""
    _check_level(profile, "weak_to_strong", True, "where there is a distribution to hold an opinion against")
    if profile.init != "fresh":
        raise ValueError(
            f"init: got {profile.init!r} with weak_to_strong, expected 'fresh': the teacher is the smaller model"
        )
    if profile.level == "word" and profile.ce_weight > 0:
        raise ValueError(
            f"ce_weight: got {profile.ce_weight} with weak_to_strong at the level 'word', expected 0: no reference is "
            "learnt from"
        )
    if profile.targets == "nearest":
        raise ValueError(
            "targets: got 'nearest' with weak_to_strong, expected 'best' or 'all': no reference helps to choose"
        )


def with_architecture(settings: Settings) -> Settings:
    """The settings with their `architecture` said: that of the teacher which the user names, else encoder-decoder.

    Raises:
        ValueError: an architecture that is not the teacher's; a teacher that is not there.

    >>> with_architecture(Settings()).architecture
    'encoder-decoder'
    """
    chosen = settings.architecture
    if settings.teacher is None:
        return replace(settings, architecture=chosen or "encoder-decoder")
    for name in settings.teacher:
        own = kind_of(name.removeprefix("hub:"))
        if chosen not in (None, own):
            raise ValueError(f"architecture: got {chosen!r}, expected {own!r}, which the teacher {name!r} is")
        chosen = own
    return replace(settings, architecture=chosen)


def on_policy(profile: Profile) -> OnPolicy | None:
    """When the student's own samples are the targets; not before the learning rate has reached its peak.

    >>> from kdlab.profiles import PROFILES
    >>> profile = replace(PROFILES["phrasebook", "ci"], lmbda=0.5, level="word")
    >>> on_policy(profile).start == profile.student_recipe.warmup, on_policy(PROFILES["phrasebook", "ci"])
    (True, None)
    """
    if profile.lmbda == 0:
        return None
    _check_level(profile, "lmbda", profile.lmbda, "where the teacher scores what the student writes")
    if profile.ce_weight > 0:
        raise ValueError(
            f"ce_weight: got {profile.ce_weight} with lmbda, expected 0: the student's samples are no references"
        )
    return OnPolicy(profile.lmbda, start=profile.student_recipe.warmup)


def _check_level(profile: Profile, name: str, value: object, why: str) -> None:
    """Refuse the sequence level, where no student learns from a distribution."""
    if profile.level == "sequence":
        raise ValueError(f"{name}: got {value} with the level 'sequence', expected 'word' or 'both', {why}")
