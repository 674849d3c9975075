"""Where a teacher comes from: what it is found again by, and what it is trained on."""

from __future__ import annotations

from dataclasses import replace

from kdlab import trained_teacher
from kdlab.settings import Settings
from kdlab.students import Architecture, count_parameters, new_model
from kdlab.task import load_task
from kdlab.text.parallel import ParallelText
from kdlab.trained_teacher import get_teacher, train_teacher
from tests.unit.test_measure import CPU, PROFILE


def test_a_teacher_is_found_again_only_for_the_same_text_sizes_and_training(monkeypatch, tmp_path):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(trained_teacher, "load_model", lambda name, device: name)
    monkeypatch.setattr(trained_teacher, "load_tokenizer", lambda name: name)
    trained = []

    def train_teacher(profile, task, folder):
        trained.append(str(folder))
        (folder / "training.json").write_text('{"train_seconds": 3.0}')

    monkeypatch.setattr(trained_teacher, "train_teacher", train_teacher)
    settings = Settings(profile="ci")
    task = load_task(replace(settings, data="phrasebook"), PROFILE.phrasebook)
    text, validation = task.teacher_text, task.corpus.validation
    fewer = replace(task.corpus, validation=ParallelText(validation.sources[:3], validation.targets[:3]))
    other = ParallelText([*text.sources[:-1], "Hello!"], text.targets)
    targets = ParallelText(text.sources, [*text.targets[:-1], "Hallo!"])
    recipe = replace(PROFILE.teacher_recipe, learning_rate=1e-4)
    cases = [
        (PROFILE, task),
        (replace(PROFILE, vocabulary=900), task),
        (replace(PROFILE, teacher=Architecture(32, 1, 1, 32)), task),
        (replace(PROFILE, teacher_recipe=recipe), task),
        (PROFILE, replace(task, teacher_text=other)),
        (PROFILE, replace(task, teacher_text=targets)),
        (PROFILE, replace(task, corpus=fewer)),
    ]
    for profile, case in cases:
        assert get_teacher(settings, profile, case, CPU) == (trained[-1], trained[-1], {"train_seconds": 3.0})
    monkeypatch.setattr("kdlab.__version__", "99")
    get_teacher(settings, PROFILE, task, CPU)
    assert len(set(trained)) == len(trained) == 8
    student = replace(PROFILE, student=Architecture(64, 1, 1, 32), ce_weight=0.5)
    assert get_teacher(replace(settings, seed=5), student, task, CPU)[0] == trained[-1]
    assert len(trained) == 8


def test_the_teacher_learns_to_translate_the_source_into_the_target(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(
        trained_teacher, "train", lambda *arguments, **options: given.append((arguments, options))
    )
    task = load_task(Settings(), PROFILE.phrasebook)
    train_teacher(PROFILE, task, tmp_path)
    ((model, tokenizer, data, recipe, folder), options) = given[0]
    for examples, text in ((data.train, task.teacher_text), (data.validation, task.corpus.validation)):
        assert (
            tokenizer.batch_decode([e.source_ids for e in examples], skip_special_tokens=True) == text.sources
        )
        assert (
            tokenizer.batch_decode([e.target_ids for e in examples], skip_special_tokens=True) == text.targets
        )
    assert (recipe, folder, options["label_smoothing"]) == (PROFILE.teacher_recipe, tmp_path, 0.0)
    assert count_parameters(model) == count_parameters(new_model(PROFILE.teacher, tokenizer, 0))
    assert options.get("teacher") is None
