"""The small phrasebook's teacher, as the course's notebooks meet it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from kdlab.files import cache_folder
from kdlab.loading import load_model
from kdlab.profiles import PROFILES
from kdlab.settings import Settings
from kdlab.task import load_task
from kdlab.teachers import LiveTeacher, PhrasebookTeacher, Teacher
from kdlab.text.phrasebook import Phrasebook
from kdlab.text.tokenizers import load_tokenizer, train_tokenizer
from kdlab.trained_teacher import get_teacher
from kdlab.training import finished

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The name of `teacher_folder` for this profile, which otherwise is known after seconds, once all the text is drawn. A
# test compares.
FOLDER = "a9ff3dff0e378d82"
_TOKENIZER_SENTENCES = 3000


def phrasebook_teacher(*, may_train: bool) -> tuple[Phrasebook, PreTrainedTokenizerBase, Teacher]:
    """The grammar, the tokenizer and the teacher of the profile `ci`, on the CPU.

    The teacher is the trained one from the user's cache, which is only read. Where it is not there, it is trained,
    which takes minutes; or, where it may not be, the exact `PhrasebookTeacher` takes its place, with another tokenizer
    of the same size.

    >>> phrasebook, tokenizer, teacher = phrasebook_teacher(may_train=False)
    >>> round(sum(phrasebook.translations("Do you know whether you can go shopping today?").values()), 6)
    1.0
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of loading: a second of noise in a notebook
    profile, settings, device = PROFILES["phrasebook", "ci"], Settings(), torch.device("cpu")
    sizes = profile.phrasebook
    assert sizes is not None  # every phrasebook profile has them
    phrasebook = Phrasebook("small" if sizes.grammar == "small" else "full")
    folder = cache_folder() / "teachers" / FOLDER
    if finished(folder) is not None:
        return phrasebook, load_tokenizer(str(folder)), LiveTeacher(load_model(str(folder), device))
    if may_train:
        model, tokenizer, _ = get_teacher(settings, profile, load_task(settings, sizes), device)
        return phrasebook, tokenizer, LiveTeacher(model)
    text = load_task(settings, replace(sizes, teacher=_TOKENIZER_SENTENCES, unlabelled=0)).teacher_text
    tokenizer = train_tokenizer([*text.sources, *text.targets], profile.vocabulary)
    return phrasebook, tokenizer, PhrasebookTeacher(phrasebook, tokenizer)
