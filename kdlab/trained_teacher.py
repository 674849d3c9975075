"""The teacher that a user names, or one trained on the data and kept in the user's cache."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock

import kdlab
from kdlab import processes
from kdlab.files import cache_folder, fingerprint, write_json
from kdlab.loading import load_model
from kdlab.profiles import Profile
from kdlab.settings import Settings
from kdlab.students import new_model
from kdlab.task import Task
from kdlab.text.batches import encode_pairs
from kdlab.text.tokenizers import load_tokenizer, train_tokenizer
from kdlab.training import TrainingData, finished, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEACHER_SEED = 0  # one teacher for all seeds of the students, so that their spread is the students' own


def get_teacher(
    settings: Settings, profile: Profile, task: Task, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Any]]:
    """The (first) teacher that the user names, or one trained on the data and kept in the user's cache.

    >>> import tempfile
    >>> from kdlab.profiles import PROFILES
    >>> from kdlab.students import Architecture
    >>> from kdlab.text.parallel import Corpus, ParallelText
    >>> text = ParallelText(["a b"], ["x y"])
    >>> task = Task(Corpus("letters", ("en", "de"), text, text, {"test": text}, []), text)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tokenizer = train_tokenizer(["a b", "x y"], 300)
    ...     _ = new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0).save_pretrained(folder)
    ...     _ = tokenizer.save_pretrained(folder)
    ...     settings = Settings(teacher=folder)  # one that is there is trained no more
    ...     model, *_ = get_teacher(settings, PROFILES["text", "ci"], task, torch.device("cpu"))
    >>> model.config.d_model, model.training
    (8, False)
    """
    if settings.teacher is not None:
        name = settings.teacher[0].removeprefix("hub:")
        return load_model(name, device), load_tokenizer(name), {}
    folder = teacher_folder(profile, task)
    folder.mkdir(parents=True, exist_ok=True)
    # A second run waits and then finds it finished. The processes of one run train it together: the main one locks.
    with FileLock(folder / "lock") if processes.is_main() else nullcontext():
        processes.wait_for_all()
        if finished(folder) is None:
            if processes.is_main():
                write_json(folder / "identity.json", _teacher_identity(profile, task))
            train_teacher(profile, task, folder)
        processes.wait_for_all()
    return load_model(str(folder), device), load_tokenizer(str(folder)), finished(folder) or {}


def further_teachers(
    settings: Settings, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> list[PreTrainedModel]:
    """The teachers that the user names after the first, whose tokenizer is `tokenizer`.

    Raises:
        ValueError: one with another vocabulary.

    >>> import tempfile
    >>> from kdlab.students import Architecture
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tokenizer = train_tokenizer(["a b", "x y"], 300)
    ...     _ = new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0).save_pretrained(folder)
    ...     _ = tokenizer.save_pretrained(folder)
    ...     settings = Settings(teacher=[folder, folder])
    ...     models = further_teachers(settings, tokenizer, torch.device("cpu"))
    >>> [model.config.d_model for model in models], further_teachers(Settings(), tokenizer, torch.device("cpu"))
    ([8], [])
    """
    models = []
    for name in (settings.teacher or ())[1:]:
        if load_tokenizer(name).get_vocab() != tokenizer.get_vocab():
            raise ValueError(
                f"teacher: got {name!r} with another vocabulary than the first, expected the same one: the mean is "
                "taken entry by entry"
            )
        models.append(load_model(name.removeprefix("hub:"), device))
    return models


def teacher_folder(profile: Profile, task: Task) -> Path:
    """Where in the user's cache the teacher of this profile and text is, or will be.

    >>> from kdlab.profiles import PROFILES
    >>> from kdlab.text.parallel import Corpus, ParallelText
    >>> text = ParallelText(["no one"], ["niemand"])
    >>> task = Task(Corpus("never trained", ("en", "de"), text, text, {"test": text}, []), text)
    >>> folder = teacher_folder(PROFILES["text", "ci"], task)
    >>> folder.parent.name, folder.exists()
    ('teachers', False)
    """
    return cache_folder() / "teachers" / fingerprint(_teacher_identity(profile, task))


def _teacher_identity(profile: Profile, task: Task) -> dict[str, Any]:
    """All that a trained teacher depends on."""
    return {
        "version": kdlab.__version__,
        "text": fingerprint([task.teacher_text.sources, task.teacher_text.targets]),
        "validation": fingerprint([task.corpus.validation.sources, task.corpus.validation.targets]),
        "vocabulary": profile.vocabulary,
        "architecture": asdict(profile.teacher),
        "recipe": asdict(profile.teacher_recipe),
        "seed": TEACHER_SEED,
    }


def train_teacher(profile: Profile, task: Task, folder: Path) -> None:
    """Tokenizer and teacher, from scratch.

    >>> import tempfile
    >>> from dataclasses import replace
    >>> from kdlab.profiles import PROFILES
    >>> from kdlab.students import Architecture
    >>> from kdlab.text.parallel import Corpus, ParallelText
    >>> text = ParallelText(["a b"], ["x y"])
    >>> task = Task(Corpus("letters", ("en", "de"), text, text, {"test": text}, []), text)
    >>> profile = PROFILES["text", "ci"]
    >>> recipe = replace(profile.teacher_recipe, updates=2, warmup=0)
    >>> profile = replace(profile, vocabulary=300, teacher=Architecture(8, 1, 1, 8), teacher_recipe=recipe)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     train_teacher(profile, task, Path(folder))
    ...     finished(Path(folder))["updates"]
    2
    """
    text = task.teacher_text
    tokenizer = train_tokenizer([*text.sources, *text.targets], profile.vocabulary)
    pairs = [encode_pairs(tokenizer, part) for part in (text, task.corpus.validation)]
    train(
        new_model(profile.teacher, tokenizer, TEACHER_SEED),
        tokenizer,
        TrainingData(*pairs),
        profile.teacher_recipe,
        folder,
        seed=TEACHER_SEED,
        label_smoothing=profile.teacher_recipe.label_smoothing,
        description="teacher",
    )
