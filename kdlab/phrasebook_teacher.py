"""The small phrasebook's teacher, as the course's notebooks meet it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdlab.profiles import PROFILES
from kdlab.settings import Settings
from kdlab.task import load_task
from kdlab.teachers import LiveTeacher, PhrasebookTeacher, Teacher
from kdlab.text.phrasebook import Phrasebook
from kdlab.text.tokenizers import train_tokenizer
from kdlab.trained_teacher import get_teacher, trained_teacher

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def phrasebook_teacher(*, may_train: bool) -> tuple[Phrasebook, PreTrainedTokenizerBase, Teacher]:
    """The grammar, the tokenizer and the teacher of the profile `ci`, on the CPU.

    The teacher is the trained one from the user's cache. Where it is not there, it is trained, which takes minutes;
    or, where it may not be, the exact `PhrasebookTeacher` takes its place, with another tokenizer of the same size.

    >>> phrasebook, tokenizer, teacher = phrasebook_teacher(may_train=False)
    >>> round(sum(phrasebook.translations("Do you know whether you can go shopping today?").values()), 6)
    1.0
    """
    from transformers.utils.logging import disable_progress_bar

    profile = PROFILES["phrasebook", "ci"]
    settings = Settings(data="phrasebook", profile="ci")
    task = load_task(settings, profile.phrasebook)
    assert task.phrasebook is not None  # it is the phrasebook's task
    if may_train or trained_teacher(profile, task) is not None:
        disable_progress_bar()  # of loading: a second of noise in a notebook
        model, tokenizer, _ = get_teacher(settings, profile, task, torch.device("cpu"))
        return task.phrasebook, tokenizer, LiveTeacher(model)
    text = task.teacher_text
    tokenizer = train_tokenizer([*text.sources[:3000], *text.targets[:3000]], profile.vocabulary)
    return task.phrasebook, tokenizer, PhrasebookTeacher(task.phrasebook, tokenizer)
