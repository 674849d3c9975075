"""The teacher of the course: found at once, read only, and exact where there is none."""

from __future__ import annotations

import shutil

import pytest

from kdlab import phrasebook_teacher as module
from kdlab.phrasebook_teacher import FOLDER, phrasebook_teacher
from kdlab.profiles import PROFILES
from kdlab.settings import Settings
from kdlab.students import Architecture, new_model
from kdlab.task import load_task
from kdlab.teachers import LiveTeacher, PhrasebookTeacher
from kdlab.text.tokenizers import train_tokenizer
from kdlab.trained_teacher import teacher_folder
from kdlab.training import RECORD


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache whose teacher is a tiny model, without the lock that `kdlab distill` leaves."""
    folder = tmp_path / "teachers" / FOLDER
    tokenizer = train_tokenizer(["a b", "x y"], 300)
    new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / RECORD).write_text("{}")
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path))
    return tmp_path


def state(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_folder_is_that_of_the_profile_s_teacher():
    profile = PROFILES["phrasebook", "ci"]
    name = teacher_folder(profile, load_task(Settings(), profile.phrasebook)).name
    assert name == FOLDER, "write this name into kdlab/phrasebook_teacher.py"


@pytest.mark.parametrize("may_train", [True, False])
def test_a_teacher_that_is_there_is_only_read(cache, may_train, monkeypatch):
    monkeypatch.setattr(module, "load_task", None)  # the text, which takes seconds to draw, is not needed
    before = state(cache)
    phrasebook, tokenizer, teacher = phrasebook_teacher(may_train=may_train)
    assert isinstance(teacher, LiveTeacher)
    assert phrasebook.size == "small"
    assert tokenizer.get_vocab()
    assert state(cache) == before


def test_without_one_and_without_training_the_exact_teacher_answers(cache):
    shutil.rmtree(cache / "teachers")
    _, tokenizer, teacher = phrasebook_teacher(may_train=False)
    assert isinstance(teacher, PhrasebookTeacher)
    assert len(tokenizer) == PROFILES["phrasebook", "ci"].vocabulary
    assert state(cache) == {}


def test_it_is_trained_where_it_may_be(cache, monkeypatch):
    shutil.rmtree(cache / "teachers")
    asked = []

    def trained(settings, profile, task, device):
        asked.append((settings.data, profile, len(task.teacher_text)))
        tokenizer = train_tokenizer(["a b", "x y"], 300)
        return new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0), tokenizer, {}

    monkeypatch.setattr(module, "get_teacher", trained)
    *_, teacher = phrasebook_teacher(may_train=True)
    assert isinstance(teacher, LiveTeacher)
    assert asked == [("phrasebook", PROFILES["phrasebook", "ci"], 40_000)]
