"""Who learns from what: the comparison stands on it. Training itself is replaced by a record of what it was given."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from kdlab import experiment
from kdlab.experiment import Experiment
from kdlab.hidden_cache import CachedHiddenTeacher
from kdlab.profiles import PROFILES, PhrasebookSizes
from kdlab.settings import Settings
from kdlab.smoothed_teacher import SmoothedTeacher
from kdlab.students import Architecture, new_model
from kdlab.task import phrasebook_task
from kdlab.teachers import CachedTeacher, EnsembleTeacher, LiveTeacher
from kdlab.text.batches import Example, collate
from kdlab.text.phrasebook import Phrasebook
from kdlab.text.tokenizers import train_tokenizer
from tests.unit.test_pseudo_targets import SOURCES, Teacher

SIZES = PhrasebookSizes(teacher=300, labelled=20, unlabelled=50, validation=10, test=10, grammar="small")
PSEUDO = [7, 8, 1]


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """Runs an experiment of a level on a tiny phrasebook; gives back what each student was trained with."""

    def run(
        level: str, *, keep_references: bool = False, teachers: int = 1, **chosen
    ) -> dict[str, SimpleNamespace]:
        given = {}

        def train(model, tokenizer, data, recipe, folder, **options):
            made = SimpleNamespace(model=model, tokenizer=tokenizer, data=data, recipe=recipe, **options)
            given[folder.name] = made

        def pseudo_targets(teacher, sources, search, file, description, **_):
            examples = [Example(source, PSEUDO) for source in sources]
            return SimpleNamespace(examples=examples, seconds=1.0, left_out=0, dropped={})

        profile = replace(
            PROFILES["phrasebook", "ci"],
            phrasebook=SIZES,
            student=Architecture(16, 1, 1, 32, dropout=0.0),
            labelled_dropout=0.25,
            labelled_rate=1e-4,
            labelled_smoothing=0.2,
            ce_weight=0.25,
            keep_references=keep_references,
        )
        monkeypatch.setitem(PROFILES, ("phrasebook", "ci"), profile)
        monkeypatch.setattr(experiment, "train", train)
        monkeypatch.setattr(experiment, "pseudo_targets", pseudo_targets)
        monkeypatch.setattr(Experiment, "report", lambda self, students: {"students": students})
        run = Experiment(Settings(profile="ci", level=level, seed=5, **chosen), tmp_path)
        text = run.task.teacher_text
        tokenizer = train_tokenizer([*text.sources, *text.targets], 400)
        teacher = new_model(Architecture(16, 1, 1, 32), tokenizer, 0)
        monkeypatch.setattr(experiment, "get_teacher", lambda *_: (teacher, tokenizer, {}))
        more = [new_model(Architecture(16, 1, 1, 32), tokenizer, seed) for seed in range(1, teachers)]
        monkeypatch.setattr(experiment, "further_teachers", lambda *_: more)
        assert run.run() == {"students": ["baseline", "distilled_same_inputs", "distilled"]}
        return given

    return run


@pytest.mark.parametrize("level", ["word", "sequence", "both"])
def test_who_learns_from_what(runs, level: str) -> None:
    given = runs(level)
    baseline, same, distilled = (given[name] for name in ("baseline", "distilled_same_inputs", "distilled"))
    sources = [example.source_ids for example in baseline.data.train]
    assert [example.source_ids for example in same.data.train] == sources
    assert [example.source_ids for example in distilled.data.train[:20]] == sources
    assert (len(sources), len(distilled.data.train)) == (20, 70)
    pseudo = [example.target_ids == PSEUDO for example in same.data.train]
    assert not any(example.target_ids == PSEUDO for example in baseline.data.train)
    assert all(pseudo) == (level != "word")
    assert all(example.target_ids == PSEUDO for example in distilled.data.train[20:])
    if level == "sequence":
        assert same.teacher is distilled.teacher is None
    else:
        assert isinstance(distilled.teacher, LiveTeacher)
        assert isinstance(same.teacher, SmoothedTeacher)  # few inputs, as for the student alone
        assert same.teacher.smoothing == 0.2
    assert same.label_smoothing == distilled.label_smoothing == 0
    assert baseline.teacher is None
    assert baseline.label_smoothing > 0


@pytest.mark.parametrize("level", ["word", "sequence", "both"])
def test_references_are_kept_where_the_teacher_scores_them(runs, level: str) -> None:
    """At sequence level nothing of the teacher would be left."""
    given = runs(level, keep_references=True)
    kept = level != "sequence"
    for examples in (given["distilled_same_inputs"].data.train, given["distilled"].data.validation):
        assert {example.target_ids == PSEUDO for example in examples} == {not kept}
    assert {example.target_ids == PSEUDO for example in given["distilled"].data.train[:20]} == {not kept}
    assert all(example.target_ids == PSEUDO for example in given["distilled"].data.train[20:])


def test_equal_compute_and_a_dropout_for_few_inputs(runs) -> None:
    given = runs("both")
    same = {(replace(student.recipe, learning_rate=0.0), student.seed) for student in given.values()}
    assert len(same) == 1
    tuned = {
        name: (student.model.config.dropout, student.recipe.learning_rate) for name, student in given.items()
    }
    rate = PROFILES["phrasebook", "ci"].student_recipe.learning_rate
    assert tuned == {
        "baseline": (0.25, 1e-4),
        "distilled_same_inputs": (0.25, 1e-4),
        "distilled": (0.0, rate),
    }


@pytest.mark.parametrize("level", ["word", "both"])
def test_each_student_s_best_checkpoint_is_chosen_on_what_it_learns(runs, level: str) -> None:
    """Validation on the same sources: the student alone's on references, another's on the teacher's translations."""
    given = runs(level)
    sources = [example.source_ids for example in given["baseline"].data.validation]
    for name, student in given.items():
        validation = student.data.validation
        assert [example.source_ids for example in validation] == sources
        pseudo = [example.target_ids == PSEUDO for example in validation]
        assert pseudo == [name != "baseline" and level == "both"] * 10


def test_text_seed_and_loss_are_those_that_were_asked_for(runs) -> None:
    given = runs("word")
    corpus = phrasebook_task(SIZES).corpus
    for student in given.values():
        decode = student.tokenizer.batch_decode
        examples = student.data.train[:20]
        assert decode([e.source_ids for e in examples], skip_special_tokens=True) == corpus.train.sources
        assert (
            decode([e.target_ids for e in examples], skip_special_tokens=True)[0] == corpus.train.targets[0]
        )
        architecture = Architecture(16, 1, 1, 32)
        assert torch.equal(
            student.model.lm_head.weight, new_model(architecture, student.tokenizer, seed=5).lm_head.weight
        )
        assert student.seed == 5
        assert student.loss.options["ce_weight"] == 0.25


@pytest.mark.parametrize("level", ["word", "both"])
def test_a_cache_holds_what_its_student_is_trained_and_validated_on(
    runs, monkeypatch, tmp_path, level: str
) -> None:
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))
    given = runs(level, cache_teacher="top-k", temperature=2.0)
    assert given["baseline"].teacher is None
    for name in ("distilled_same_inputs", "distilled"):
        student = given[name]
        assert isinstance(student.teacher, CachedTeacher)
        cache, examples = student.teacher.cache, student.data.examples
        assert cache.lengths.tolist() == [len(example.target_ids) for example in examples]
        assert cache.temperature == student.loss.options["temperature"] == 2.0
        batch = collate(
            examples[-2:],
            pad_token_id=0,
            decoder_start_token_id=0,
            example_ids=[len(examples) - 2, len(examples) - 1],
        )
        found = student.teacher(batch)
        mass = found.log_probabilities.exp().sum(-1) + found.tail_log_probability.exp()
        assert torch.allclose(mass, torch.ones_like(mass), atol=1e-3)
    # The teacher of few inputs is a smoothed one: its answers are others, and so is its cache.
    same, distilled = (given[name].teacher.cache for name in ("distilled_same_inputs", "distilled"))
    assert same.manifest["teacher"] != distilled.manifest["teacher"]


def test_hidden_states_are_cached_as_they_are_and_smoothed_afterwards(runs, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))
    given = runs("both", cache_teacher="hidden", temperature=2.0)
    same, distilled = (given[name].teacher for name in ("distilled_same_inputs", "distilled"))
    assert isinstance(same, SmoothedTeacher)
    assert same.smoothing == 0.2
    for name, teacher in (("distilled_same_inputs", same.teacher), ("distilled", distilled)):
        assert isinstance(teacher, CachedHiddenTeacher)
        assert len(teacher.cache) == len(given[name].data.examples)
    assert same.teacher.cache.manifest["teacher"] == distilled.cache.manifest["teacher"]


@pytest.mark.parametrize("level", ["word", "both"])
def test_several_teachers_are_one_signal(runs, level: str) -> None:
    given = runs(level, teachers=2)
    same, distilled = (given[name].teacher for name in ("distilled_same_inputs", "distilled"))
    assert isinstance(distilled, EnsembleTeacher)
    assert [type(member) for member in distilled.members] == [LiveTeacher, LiveTeacher]
    assert not torch.equal(*(member.model.lm_head.weight for member in distilled.members))
    assert isinstance(same, SmoothedTeacher)
    assert isinstance(same.teacher, EnsembleTeacher)


def test_a_smaller_teacher_is_given_up_to_the_students_own_confidence(runs) -> None:
    """Sizes and learning rates change places, and no reference is learnt from although the profile keeps them."""
    given = runs("both", keep_references=True, weak_to_strong=True, confidence=0.25)
    profile = PROFILES["phrasebook", "ci"]
    for student in given.values():
        assert student.model.config.d_model == profile.teacher.d_model > profile.student.d_model
        assert student.recipe == replace(
            profile.student_recipe, learning_rate=profile.teacher_recipe.learning_rate
        )
        assert (student.loss.weight, student.loss.warmup_updates) == (0.25, student.recipe.warmup)
        assert student.loss.loss.options["ce_weight"] == 0.25
    for name in ("distilled_same_inputs", "distilled"):
        learnt = [*given[name].data.train, *given[name].data.validation]
        assert all(example.target_ids == PSEUDO for example in learnt)
    assert given["baseline"].teacher is None
    assert not any(example.target_ids == PSEUDO for example in given["baseline"].data.train)


def test_a_teacher_that_is_not_smaller_is_refused(runs, monkeypatch) -> None:
    monkeypatch.setattr("kdlab.settings.with_smaller_teacher", lambda profile: profile)
    with pytest.raises(ValueError, match=r"weak_to_strong: got a teacher of .* for a student of"):
        runs("both", weak_to_strong=True)


def test_pairs_and_updates_cut_a_run_down(tmp_path) -> None:
    for name in ("train", "val", "test"):
        for language in ("en", "de"):
            (tmp_path / f"{name}.{language}").write_text("".join(f"{language} {i}\n" for i in range(9)))
    settings = Settings(data=str(tmp_path), profile="ci", pairs=4, updates=3)
    run = Experiment(settings, tmp_path / "out")
    corpus = run.task.corpus
    assert [len(text) for text in (corpus.train, corpus.validation, corpus.test_sets["test"])] == [4] * 3
    assert run.task.teacher_text == corpus.train
    assert run.profile.student_recipe.updates == 3
    assert run.profile.teacher_recipe == PROFILES["text", "ci"].teacher_recipe


def test_other_filters_choose_anew_from_what_the_teacher_has_translated_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))
    for name in ("train", "val", "test"):
        for language in ("en", "de"):
            (tmp_path / f"{name}.{language}").write_text("a line\n")
    good, loop, empty = [9, 7, 1], [8] * 7 + [1], [1]
    teacher = Teacher([good, loop, empty, [9, 8]])
    kept = {}
    for filters in (None, "none", "default"):
        run = Experiment(Settings(data=str(tmp_path), profile="ci", filters=filters), tmp_path / "out")
        run.teacher, run.tokenizer, run.decoder = teacher, None, ("its weights", {})
        kept[filters] = [example.target_ids for example in run.translated("train", SOURCES).examples]
        dropped = {rule: count for rule, count in run.made["train"]["dropped"].items() if count}
        assert dropped == {"empty": 1, "unfinished": 1} | ({} if filters == "none" else {"repetition": 1})
    assert kept == {None: [good], "none": [good, loop], "default": [good]}
    assert teacher.asked == 1


def test_filters_of_another_name_are_refused_before_the_text_is_read(tmp_path) -> None:
    with pytest.raises(ValueError, match="filters: got 'some', expected one of default, none"):
        Experiment(Settings(data=str(tmp_path / "nowhere"), profile="ci", filters="some"), tmp_path / "out")


def test_no_held_out_source_is_trained_on() -> None:
    task = phrasebook_task(SIZES)
    corpus = task.corpus
    held_out = {*corpus.test_sets["test"].sources, *corpus.validation.sources}
    assert len(held_out) == 20
    for sources in (corpus.train.sources, corpus.unlabelled, task.teacher_text.sources):
        assert not held_out & set(sources)
    assert not set(corpus.train.sources) & set(corpus.unlabelled)
    assert len(set(task.teacher_text.sources)) < 300  # repeats, as the grammar makes them


def test_no_source_is_drawn_twice_where_many_are() -> None:
    """So many that the parts would share some of them if they were drawn without regard to each other."""
    sizes = PhrasebookSizes(
        teacher=4000, labelled=200, unlabelled=3000, validation=200, test=200, grammar="small"
    )
    task = phrasebook_task(sizes)
    corpus = task.corpus
    parts = [corpus.test_sets["test"], corpus.validation, corpus.train]
    sources = [source for part in parts for source in part.sources] + corpus.unlabelled
    assert len(set(sources)) == len(sources) == 3600
    held_out = {*parts[0].sources, *parts[1].sources}
    assert not held_out & set(task.teacher_text.sources)
    # Drawn with another seed and no regard, some would be the same.
    assert held_out & {pair.source for pair in Phrasebook("small").sample(3000, seed=99)}
