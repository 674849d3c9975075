"""What the user of `kdlab distill` chooses, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from kdlab.loading import Kind, kind_of
from kdlab.losses import DistillationLoss
from kdlab.on_policy import OnPolicy
from kdlab.profiles import Profile
from kdlab.sequences import Targets
from kdlab.students import decoder_only

# What the user may choose in the place of the profile's own.
FROM_PROFILE = ("level", "divergence", "temperature", "ce_weight", "targets", "filters", "init", "lmbda")


@dataclass(frozen=True)
class Settings:
    """What the user of `kdlab distill` chooses.

    >>> from kdlab.profiles import PROFILES
    >>> settings = Settings(divergence="generalized_jsd", beta=0.1, updates=50)
    >>> profile = settings.applied_to(PROFILES["phrasebook", "ci"])
    >>> profile.student_recipe.updates, profile.student_recipe.learning_rate
    (50, 0.005)
    >>> settings.loss(profile).options["beta"]
    0.1
    """

    data: str = "phrasebook"
    pair: str = "en-de"
    profile: str = "auto"
    seed: int = 0
    teacher: str | None = None
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

    def applied_to(self, profile: Profile) -> Profile:
        """The profile with all that the user names in the place of its own, and sizes of the architecture named."""
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
        return profile

    def loss(self, profile: Profile) -> DistillationLoss:
        """How the student's distribution is compared with the teacher's."""
        of_divergence = {name: getattr(self, name) for name in ("beta", "skew", "alpha")}
        return DistillationLoss(
            profile.divergence,
            profile.ce_weight,
            temperature=profile.temperature,
            **{name: value for name, value in of_divergence.items() if value is not None},
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
    own = kind_of(settings.teacher.removeprefix("hub:"))
    if chosen not in (None, own):
        raise ValueError(
            f"architecture: got {chosen!r}, expected {own!r}, which the teacher {settings.teacher!r} is"
        )
    return replace(settings, architecture=own)


def on_policy(profile: Profile) -> OnPolicy | None:
    """When the student's own samples are the targets; not before the learning rate has reached its peak.

    >>> from kdlab.profiles import PROFILES
    >>> profile = replace(PROFILES["phrasebook", "ci"], lmbda=0.5, level="word")
    >>> on_policy(profile).start == profile.student_recipe.warmup, on_policy(PROFILES["phrasebook", "ci"])
    (True, None)
    """
    if profile.lmbda == 0:
        return None
    if profile.level == "sequence":
        raise ValueError(
            f"lmbda: got {profile.lmbda} with the level 'sequence', expected 'word' or 'both', where the teacher "
            "scores what the student writes"
        )
    if profile.ce_weight > 0:
        raise ValueError(
            f"ce_weight: got {profile.ce_weight} with lmbda, expected 0: the student's samples are no references"
        )
    return OnPolicy(profile.lmbda, start=profile.student_recipe.warmup)
