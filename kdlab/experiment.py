"""One distillation experiment: teacher, student alone, distilled student, all measured.

Equal compute: every student trains for the same updates on batches of the same size, with the same schedule, and
keeps the checkpoint with the lowest loss on validation data. The teacher's cost is reported beside, not hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kdlab import processes
from kdlab.cache import TeacherCache
from kdlab.calibration import calibration
from kdlab.evaluation import (
    bytes_on_disk,
    distance_to_teacher,
    gap_closed,
    gap_ends,
    translation_quality,
)
from kdlab.files import cache_folder, fingerprint, fingerprint_of_weights, read_json, write_json
from kdlab.filters import filters_called
from kdlab.generation import translate
from kdlab.hidden_cache import CachedHiddenTeacher, HiddenCache
from kdlab.hidden_shards import KeepHidden
from kdlab.loading import load_model
from kdlab.profiles import choose_profile
from kdlab.projection import projected_student
from kdlab.sequences import PseudoTargets, pseudo_targets
from kdlab.settings import Settings, on_policy, with_architecture
from kdlab.shards import Keep
from kdlab.smoothed_teacher import SmoothedTeacher
from kdlab.speed import generation_speed, translation_latency
from kdlab.student_init import build, copied_student, fresh_student
from kdlab.students import Architecture, count_parameters, new_model
from kdlab.task import load_task
from kdlab.teachers import (
    CachedTeacher,
    EnsembleTeacher,
    LiveTeacher,
    PhrasebookTeacher,
    Teacher,
    live_teacher,
)
from kdlab.text.batches import Example, encode_pairs
from kdlab.text.parallel import ParallelText
from kdlab.text.tokenizers import MAX_LENGTH, encode_sources
from kdlab.trained_teacher import further_teachers, get_teacher
from kdlab.training import TrainingData, finished, train
from kdlab.truth import compare_with_truth
from kdlab.user_cache import cache_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TRUTH_SENTENCES = 200  # of the test set, on which the student is compared with the truth, exactly
SPEED_SENTENCES = 300
LATENCY_SENTENCES = 50  # one by one they take a second or two


class Experiment:
    """Runs, or goes on with, one experiment in a folder. Every finished stage is found again there.

    >>> import tempfile
    >>> sides = {"train.tsv": "a\\tx\\nb\\ty\\n", "val.tsv": "c\\tz\\n", "test.tsv": "d\\tw\\n"}
    >>> with tempfile.TemporaryDirectory() as data:
    ...     for name, text in sides.items():
    ...         _ = (Path(data) / name).write_text(text, encoding="utf-8")
    ...     experiment = Experiment(Settings(data=data, profile="ci", temperature=2.0), Path("runs/an_example"))
    >>> experiment.level, experiment.loss.options["temperature"], experiment.describe_data()["test_sets"]
    ('sequence', 2.0, {'test': 1})
    """

    def __init__(self, settings: Settings, folder: Path):
        self.folder = folder
        self.profile_name, profile = choose_profile(settings.profile, settings.data)
        settings.applied_to(profile)  # refuses what cannot be, before a teacher is looked for
        self.settings = with_architecture(settings)
        self.profile = self.settings.applied_to(profile)
        self.level = self.profile.level
        self.filters = filters_called(self.profile.filters)
        self.on_policy = on_policy(self.profile)
        self.loss = settings.loss(self.profile)  # refuses what cannot be, before the text is read
        self.task = load_task(settings, self.profile.phrasebook)
        self.others: list[PreTrainedModel] = []  # the teachers after the first
        self.caches: dict[str, TeacherCache | HiddenCache] = {}
        self.made: dict[str, dict[str, Any]] = {}  # what became of the teacher's translations
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def run(self) -> dict[str, Any] | None:
        """Every stage in turn; returns the report, in the main process of several."""
        self.teacher, self.tokenizer, self.teacher_record = get_teacher(
            self.settings, self.profile, self.task, self.device
        )
        self.others = further_teachers(self.settings, self.tokenizer, self.device)
        # What the teacher's translations depend on; read once, since hashing a large model's weights takes seconds.
        self.decoder = fingerprint_of_weights(self.teacher), self.teacher.generation_config.to_dict()
        corpus = self.task.corpus
        references = [encode_pairs(self.tokenizer, text) for text in (corpus.train, corpus.validation)]
        self.train_student("baseline", TrainingData(*references), distil=False)
        same = self.distilled_examples("train", corpus.train, references[0])
        validation = self.distilled_examples("validation", corpus.validation, references[1])
        names = ["baseline"]
        if corpus.unlabelled:
            self.train_student("distilled_same_inputs", TrainingData(same, validation), distil=True)
            more = self.translated(
                "unlabelled", encode_sources(self.tokenizer, corpus.unlabelled, MAX_LENGTH)
            )
            same = [*same, *more.examples]
            names.append("distilled_same_inputs")
        self.train_student("distilled", TrainingData(same, validation), distil=True)
        return self.report([*names, "distilled"])

    def distilled_examples(
        self, name: str, text: ParallelText, references: Sequence[Example]
    ) -> Sequence[Example]:
        """What a distilled student reads for the labelled sources: references, or the teacher's translations."""
        if self.profile.learns_from_references:
            return references
        return self.translated(name, [example.source_ids for example in references], text.targets).examples

    def translated(
        self, name: str, sources: Sequence[list[int]], references: Sequence[str] | None = None
    ) -> PseudoTargets:
        """The teacher's translations, from the cache where they are there.

        Without references there is no nearest one: the best is taken. The cache holds all candidates, before the
        filters: other filters ask the teacher nothing anew.
        """
        search = self.profile.pseudo_targets
        key = fingerprint([*self.decoder, asdict(search), sources])
        targets = self.profile.targets
        made = pseudo_targets(
            self.teacher,
            sources,
            search,
            cache_folder() / "pseudo_targets" / f"{key}.jsonl",
            f"teacher translates {name}",
            targets="best" if references is None and targets == "nearest" else targets,
            references=references,
            tokenizer=self.tokenizer,
            filters=self.filters,
        )
        self.made[name] = {
            "sources": len(sources),
            "examples": len(made.examples),
            "left_out": made.left_out,
            "dropped": made.dropped,
        }
        self.task.seconds[f"pseudo_targets_{name}"] = round(made.seconds, 1)
        return made

    def train_student(self, name: str, data: TrainingData, *, distil: bool) -> None:
        """Train the student alone (`distil` false) or from the teacher; a finished one is left as it is."""
        recipe, architecture = self.profile.student_recipe, self.profile.student
        few = name != "distilled"
        if few:
            rate, dropout = self.profile.labelled_rate, self.profile.labelled_dropout
            recipe = recipe if rate is None else replace(recipe, learning_rate=rate)
            architecture = architecture if dropout is None else replace(architecture, dropout=dropout)
        student = self.new_student(architecture, distil=distil)
        if self.settings.weak_to_strong:
            for model in (self.teacher, *self.others):
                check_smaller(model, student)
        live = distil and self.level in ("word", "both")
        smoothing = self.profile.labelled_smoothing if few else 0.0
        teacher = self.signal_for(name, data, student, smoothing) if live else None
        train(
            student,
            self.tokenizer,
            data,
            recipe,
            self.folder / name,
            seed=self.settings.seed,
            teacher=teacher,
            loss=self.loss,
            on_policy=self.on_policy if live else None,
            label_smoothing=0.0 if distil else recipe.label_smoothing,
            description=name.replace("_", " "),
        )

    def signal_for(
        self, name: str, data: TrainingData, student: PreTrainedModel, smoothing: float
    ) -> Teacher:
        """What a student learns from while it trains: a live teacher, or what is kept of its answers."""
        form = self.settings.cache_teacher
        if form is None:
            return self.signal(smoothing)
        if form == "hidden":
            cache = self.cached(name, LiveTeacher(self.teacher), KeepHidden(), data, student)
            teacher = CachedHiddenTeacher(cache)
            return SmoothedTeacher(teacher, smoothing) if smoothing else teacher
        keep = Keep(temperature=self.profile.temperature)
        return CachedTeacher(self.cached(name, self.signal(smoothing), keep, data, student))

    def cached(
        self, name: str, teacher: Any, keep: Keep | KeepHidden, data: TrainingData, student: PreTrainedModel
    ) -> Any:
        """The teacher's answers about all that a student is trained and validated on."""
        self.caches[name], seconds = cache_of(
            teacher,
            self.tokenizer,
            data.examples,
            student.config,
            keep=keep,
            device=self.device,
            description=f"teacher's cache ({name.replace('_', ' ')})",
        )
        self.task.seconds[f"teacher_cache_{name}"] = round(seconds, 1)
        return self.caches[name]

    def signal(self, smoothing: float = 0.0) -> LiveTeacher | EnsembleTeacher | SmoothedTeacher:
        """The teacher's distribution, or the mean of the teachers'."""
        teacher = live_teacher([self.teacher, *self.others])
        return SmoothedTeacher(teacher, smoothing) if smoothing else teacher

    def new_student(self, size: Architecture, *, distil: bool) -> PreTrainedModel:
        """A student before its training. The student alone is always fresh, and of the same size.

        By the profile's `init`, one that is distilled is fresh as well; "copied", which is as wide as the teacher, with
        some of its layers; or "projected", with its embeddings at the student's width.
        """
        init, seed = self.profile.init, self.settings.seed
        if init == "fresh":
            return new_model(size, self.tokenizer, seed)
        if init == "projected":
            make = projected_student if distil else fresh_student
            return make(self.teacher, size, seed)
        student = copied_student(
            self.teacher,
            encoder_layers=size.encoder_layers,
            decoder_layers=size.decoder_layers,
            dropout=size.dropout,
        )
        return student if distil else build(self.teacher, student.config, seed)

    def report(self, students: Sequence[str]) -> dict[str, Any] | None:
        """Measure every system and put the figures together."""
        if not processes.is_main():
            return None
        report: dict[str, Any] = {}
        translations: dict[str, dict[str, list[str]]] = {}
        for name in ("teacher", *students):
            report[name], translations[name] = self.measure(name)
        main = next(iter(self.task.corpus.test_sets))
        floor, ceiling = gap_ends(weak_to_strong=self.settings.weak_to_strong)
        gaps = {
            name: {
                test: gap_closed(
                    translations[name][test],
                    translations[floor][test],
                    translations[ceiling][test],
                    text.targets,
                )
                for test, text in self.task.corpus.test_sets.items()
            }
            for name in students[1:]
        }
        report["gap_closed"] = gaps["distilled"][main]["value"]
        report["gap_closed_by"] = gaps
        report["teacher_seconds"] = self.teacher_record.get("train_seconds", 0.0)
        report["seconds"] = self.task.seconds
        report["pseudo_targets"] = self.made
        report["teacher_cache"] = {
            name: {"examples": len(cache), "tokens": int(cache.lengths.sum()), "bytes": cache.bytes_on_disk}
            for name, cache in self.caches.items()
        }
        report["data"] = self.describe_data()
        report["settings"] = asdict(self.settings) | {
            "profile": self.profile_name,
            "level": self.level,
            "filters": self.profile.filters,
        }
        report["profile"] = asdict(self.profile)
        report["translations"] = {name: sets[main][:10] for name, sets in translations.items()}
        text = self.task.corpus.test_sets[main]
        report["translations"] |= {"source": text.sources[:10], "reference": text.targets[:10]}
        return report

    def describe_data(self) -> dict[str, Any]:
        """Names and sizes, no text."""
        corpus = self.task.corpus
        return {
            "name": corpus.name,
            "fingerprint": corpus.fingerprint(),
            "teacher_pairs": len(self.task.teacher_text),
            "labelled_pairs": len(corpus.train),
            "unlabelled": len(corpus.unlabelled),
            "validation": len(corpus.validation),
            "test_sets": {name: len(text) for name, text in corpus.test_sets.items()},
        }

    def measure(self, name: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """All figures of one system, and its translations of the test sets; kept in the folder for resume."""
        file = self.folder / name / "evaluation.json"
        fresh = read_json(file)
        if fresh is None:
            fresh = self._measure(name)
            write_json(file, fresh)
        return fresh["figures"], fresh["translations"]

    def _measure(self, name: str) -> dict[str, Any]:
        is_teacher = name == "teacher"
        folder = self.teacher_folder if is_teacher else self.folder / name
        model = self.teacher if is_teacher else load_model(str(folder), self.device)
        record = self.teacher_record if is_teacher else finished(folder) or {}
        figures: dict[str, Any] = {"parameters": count_parameters(model)}
        translations, sets = {}, {}
        for test, text in self.task.corpus.test_sets.items():
            label = f"{name.replace('_', ' ')} translates {test}"
            translations[test] = translate(
                model, self.tokenizer, text.sources, self.profile.translation, label
            )
            sets[test] = translation_quality(translations[test], text.targets)
        main, text = next(iter(self.task.corpus.test_sets.items()))
        examples = encode_pairs(self.tokenizer, text)
        figures |= {"bleu": sets[main]["bleu"], "chrf": sets[main]["chrf"], "test_sets": sets}
        figures |= distance_to_teacher(model, self.signal(), examples)
        figures["calibration"] = calibration(model, examples)
        if self.task.phrasebook is not None:
            truth = PhrasebookTeacher(self.task.phrasebook, self.tokenizer)
            figures |= compare_with_truth(model, truth, text.sources[:TRUTH_SENTENCES])
        sources = [example.source_ids for example in examples[:SPEED_SENTENCES]]
        figures["tokens_per_second"] = round(generation_speed(model, sources), 1)
        figures["latency_ms"] = translation_latency(model, sources[:LATENCY_SENTENCES])
        figures["bytes_on_disk"] = bytes_on_disk(folder)
        figures["train_seconds"] = record.get("train_seconds")
        figures["training"] = record
        return {"figures": figures, "translations": translations}

    @property
    def teacher_folder(self) -> Path:
        """Where the teacher's weights lie: a folder, or the hub's cache."""
        from transformers.utils.hub import cached_file

        name = str(self.teacher.config.name_or_path)
        return Path(name) if Path(name).is_dir() else Path(str(cached_file(name, "config.json"))).parent


def check_smaller(teacher: PreTrainedModel, student: PreTrainedModel) -> None:
    """Refuse a teacher that is no smaller than its student, where the weak is to teach the strong.

    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a b"], 300)
    >>> small, large = (new_model(Architecture(size, 1, 1, 8), tokenizer, seed=0) for size in (8, 16))
    >>> check_smaller(small, large)
    >>> check_smaller(large, small)
    Traceback (most recent call last):
    ValueError: weak_to_strong: got a teacher of 8,128 parameters for a student of 3,304, expected a smaller teacher
    """
    sizes = [count_parameters(model) for model in (teacher, student)]
    if sizes[0] >= sizes[1]:
        raise ValueError(
            f"weak_to_strong: got a teacher of {sizes[0]:,} parameters for a student of {sizes[1]:,}, expected a "
            "smaller teacher"
        )
