"""`kdlab distill --architecture decoder-only`: a whole small run, and its figures against the models' own logits, a
sequence at a time and without padding."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2LMHeadModel, MarianMTModel

from kdlab import diagnose
from kdlab.calibration import calibration
from kdlab.cli import main
from kdlab.counts import count, sketch
from kdlab.evaluation import distance_to_teacher, sequence_scores
from kdlab.experiment import Experiment
from kdlab.export import check_kind
from kdlab.filters import FILTER_SETS
from kdlab.generation import Search
from kdlab.profiles import PROFILES, PhrasebookSizes, Recipe
from kdlab.sequences import pseudo_targets
from kdlab.settings import Settings, with_architecture
from kdlab.students import Architecture, decoder_only, gpt2_config, marian_config, new_model
from kdlab.task import phrasebook_task
from kdlab.teachers import LiveTeacher, PhrasebookTeacher
from kdlab.text.batches import Example, encode_pairs
from kdlab.text.tokenizers import load_tokenizer
from kdlab.training import TrainingData, train
from kdlab.truth import kl_to_truth
from tests.unit.small_text import small_text
from tests.unit.test_decoder_only import alone, by_hand
from tests.unit.tiny_models import EXAMPLES
from tests.unit.tiny_models import decoder_only as tiny

SYSTEMS = ("teacher", "baseline", "distilled_same_inputs", "distilled")
KEYS = {
    "parameters", "bleu", "chrf", "kl_to_teacher", "agreement", "calibration", "kl_to_truth", "mode_coverage",
    "tokens_per_second", "latency_ms", "bytes_on_disk", "train_seconds", "test_sets", "training",
}  # fmt: skip
SIZES = PhrasebookSizes(teacher=60, labelled=20, unlabelled=20, validation=10, test=6, grammar="small")
PROFILE = replace(
    PROFILES["phrasebook", "ci"],
    vocabulary=300,
    phrasebook=SIZES,
    teacher=Architecture(16, 1, 1, 32, heads=2),
    teacher_recipe=Recipe(updates=40, tokens_per_batch=600, learning_rate=1e-2, warmup=4, evaluations=1),
    student=Architecture(8, 1, 1, 16, heads=2, dropout=0.0),
    student_recipe=Recipe(updates=12, tokens_per_batch=600, learning_rate=1e-2, warmup=4, evaluations=2),
    translation=Search(num_beams=2),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run on a tiny phrasebook, of which only the architecture is told."""
    folder = tmp_path_factory.mktemp("decoder_only")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES, ("phrasebook", "ci"), PROFILE)
        patch.setenv("KDLAB_CACHE", str(folder / "cache"))
        flags = ["--profile", "ci", "--architecture", "decoder-only", "--out", str(folder / "out")]
        assert main(["distill", *flags]) == 0
        yield folder / "out"


def folder_of(run, name):
    return next((run.parent / "cache" / "teachers").glob("*/")) if name == "teacher" else run / name


def read(run):
    return json.loads((run / "report.json").read_text())


@torch.no_grad()
def kl_by_hand(run, name, text):
    """KL(teacher || student) in nats a token of the target."""
    models = [
        AutoModelForCausalLM.from_pretrained(folder_of(run, which)).double() for which in (name, "teacher")
    ]
    return by_hand(*models, encode_pairs(load_tokenizer(str(run / name)), text)).item()


def test_the_report_holds_every_figure_of_every_system(run):
    report = read(run)
    for name in SYSTEMS:
        assert set(report[name]) >= KEYS
        assert 0 < report[name]["calibration"]["error"] < 1
        assert 0 < report[name]["kl_to_truth"]["nats_a_token"] < math.inf
        config = json.loads((folder_of(run, name) / "config.json").read_text())
        assert config["architectures"] == ["GPT2LMHeadModel"]
        width, layers = (16, 2) if name == "teacher" else (8, 2)
        assert (config["n_embd"], config["n_layer"]) == (width, layers)
    assert report["teacher"]["kl_to_teacher"] == pytest.approx(0.0, abs=1e-6)
    assert report["settings"]["architecture"] == "decoder-only"
    assert "--architecture decoder-only" in report["command"]
    assert {"gap_closed", "gap_closed_by", "pseudo_targets", "translations"} <= set(report)
    assert "student alone" in (run / "report.html").read_text()


def test_losses_and_distances_are_those_of_the_logits(run):
    """The distilled student's validation loss is its distance to the live teacher, prompt and padding left out."""
    report, corpus = read(run), phrasebook_task(SIZES).corpus
    training = report["distilled"]["training"]
    best = dict(training["validation_curve"])[training["best_update"]]
    assert best == pytest.approx(kl_by_hand(run, "distilled", corpus.validation), rel=1e-4)
    for name in SYSTEMS[1:]:
        expected = kl_by_hand(run, name, corpus.test_sets["test"])
        assert report[name]["kl_to_teacher"] == pytest.approx(expected, rel=1e-4)
        assert expected > 0.01


def test_translate_says_what_was_measured(run, capsys):
    kept = read(run)["translations"]
    for name in ("teacher", "distilled"):
        model = str(folder_of(run, name))
        assert main(["translate", "--model", model, "--beams", "2", *kept["source"]]) == 0
        assert capsys.readouterr().out == "".join(f"{line}\n" for line in kept[name])


def test_it_is_diagnosed_from_its_models(run):
    """A dozen updates are too few, and no fault; the distance is the one that its validation found."""
    found = diagnose(run)
    assert (found.faults, found.cause) == ([], "undertrained")
    training = read(run)["distilled"]["training"]
    best = dict(training["validation_curve"])[training["best_update"]]
    assert found["cross_entropy_floor"].evidence["kl_to_teacher"] == pytest.approx(best, rel=1e-4)


# --- the figures on models whose logits are far from uniform ------------------------------------------------


def test_scores_distance_and_calibration():
    student, teacher = tiny(seed=0), tiny(seed=1)
    with torch.no_grad():
        rows = [(alone(student, e), alone(teacher, e), torch.tensor(e.target_ids)) for e in EXAMPLES]
    scores = [log_q.gather(1, target[:, None]).sum().item() for log_q, _, target in rows]
    assert sequence_scores(student, EXAMPLES) == pytest.approx(scores, rel=1e-10)
    log_q, log_p, target = (torch.cat(parts) for parts in zip(*rows, strict=True))
    found = distance_to_teacher(student, LiveTeacher(teacher), EXAMPLES)
    assert found["kl_to_teacher"] == pytest.approx(
        (log_p.exp() * (log_p - log_q)).sum(-1).mean().item(), rel=1e-10
    )
    same = log_q.argmax(-1) == log_p.argmax(-1)
    assert found["agreement"] == pytest.approx(same.double().mean().item())
    sure, token = log_q.exp().max(-1)
    one_bin = abs(sure.mean() - (token == target).double().mean()).item()
    assert calibration(student, EXAMPLES, bins=1)["error"] == pytest.approx(one_bin, rel=1e-6)


def test_kl_to_the_truth():
    text = small_text(pairs=20)
    model = new_model(Architecture(16, 0, 1, 32, heads=2), text.tokenizer, 0).double().eval()
    truth = PhrasebookTeacher(text.phrasebook, text.tokenizer)
    sources, expected = [pair.source for pair in text.pairs[:3]], 0.0
    for source, example in zip(sources, text.examples[:3], strict=True):
        for target, p in truth.translations(source):
            with torch.no_grad():
                log_q = alone(model, Example(example.source_ids, target))
            expected += p * (math.log(p) - log_q[range(len(target)), target].sum().item())
    found = kl_to_truth(model, truth, sources)["nats_a_sentence"]
    assert found == pytest.approx(expected / 3, rel=1e-6)


def test_pseudo_targets_of_a_decoder_only_teacher(tmp_path):
    teacher, sources = tiny(), [example.source_ids for example in EXAMPLES]
    search = Search(sample=True, candidates=8)
    made = pseudo_targets(
        teacher, sources, search, tmp_path / "file.jsonl", targets="all", filters=FILTER_SETS["none"]
    )
    assert len(made.examples) > 4
    for index, example, score in zip(made.kept, made.examples, made.log_probabilities, strict=True):
        assert example.source_ids == sources[index]
        assert example.target_ids[-1] == 1
        with torch.no_grad():
            log_p = alone(teacher, example)[range(len(example.target_ids)), example.target_ids]
        assert score == pytest.approx(log_p.sum().item(), rel=1e-10)


# --- sizes, students and what is refused --------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES.values(), ids=map("-".join, PROFILES))
def test_as_many_weights_as_with_an_encoder(profile):
    """But for the positions, which a formula gives in Marian."""
    for size in (profile.teacher, profile.student):
        with_encoder = count(sketch(MarianMTModel, marian_config(size, profile.vocabulary))).parameters
        without = count(
            sketch(GPT2LMHeadModel, gpt2_config(decoder_only(size), profile.vocabulary))
        ).parameters
        assert without - 512 * size.d_model == pytest.approx(with_encoder, rel=0.002)


@pytest.mark.parametrize("init", ["copied", "projected"])
def test_students_that_start_with_something_of_the_teacher(init, monkeypatch, tmp_path):
    monkeypatch.setitem(PROFILES, ("phrasebook", "ci"), PROFILE)
    run = Experiment(Settings(profile="ci", architecture="decoder-only", init=init, seed=3), tmp_path)
    text = small_text(pairs=20)
    run.tokenizer = text.tokenizer
    run.teacher = new_model(replace(run.profile.teacher, decoder_layers=4), text.tokenizer, 0)
    student, fresh = (run.new_student(run.profile.student, distil=distil) for distil in (True, False))
    theirs, ours = run.teacher.transformer, student.transformer
    if init == "copied":
        for mine, number in zip(ours.h, (0, 3), strict=True):
            assert torch.equal(mine.mlp.c_fc.weight, theirs.h[number].mlp.c_fc.weight)
    # The cosines between the rows of projected embeddings are near those of the teacher's; fresh ones know nothing.
    near, far = (
        torch.corrcoef(torch.stack([cosines(model.transformer), cosines(theirs)]))[0, 1]
        for model in (student, fresh)
    )
    assert near > 0.5 > far.abs() + 0.3
    assert [p.shape for p in student.parameters()] == [p.shape for p in fresh.parameters()]


def cosines(body):
    rows = torch.nn.functional.normalize(body.wte.weight.detach()[3:60], dim=-1)
    return (rows @ rows.T).triu(1).flatten()


def test_a_stopped_run_ends_with_the_same_weights(tmp_path):
    text = small_text(pairs=40)
    data = TrainingData(text.examples[:30], text.examples[30:])
    recipe = Recipe(updates=8, tokens_per_batch=300, learning_rate=1e-2, warmup=2, evaluations=4)

    class Stops:
        def __init__(self, at):
            self.model, self.at = LiveTeacher(new_model(Architecture(16, 0, 1, 32), text.tokenizer, 7)), at

        def __call__(self, batch):
            self.at -= torch.is_grad_enabled()
            if self.at < 0:
                raise KeyboardInterrupt
            return self.model(batch)

    def start(name, updates):
        student = new_model(Architecture(16, 0, 1, 32, dropout=0.1), text.tokenizer, 0)
        train(student, text.tokenizer, data, recipe, tmp_path / name, seed=0, teacher=Stops(updates))

    start("whole", updates=8)
    with pytest.raises(KeyboardInterrupt):
        start("stopped", updates=5)
    start("stopped", updates=4)  # the checkpoint of update 4 was its last
    whole, stopped = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_the_architecture_follows_the_teacher_and_another_is_refused(tmp_path, capsys):
    configs = {
        "encoder-decoder": marian_config(Architecture(8, 1, 1, 8), 20),
        "decoder-only": gpt2_config(Architecture(8, 0, 1, 8), 20),
    }
    for kind, config in configs.items():
        config.save_pretrained(tmp_path / kind)
        settings = Settings(teacher=str(tmp_path / kind))
        assert with_architecture(settings).architecture == kind
        assert with_architecture(replace(settings, architecture=kind)).architecture == kind
        (other,) = configs.keys() - {kind}
        flags = ["--teacher", str(tmp_path / kind), "--architecture", other, "--out", str(tmp_path / "out")]
        assert main(["distill", "--profile", "ci", *flags]) == 2
        assert f"architecture: got '{other}', expected '{kind}', which the teacher" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"^model: nothing could be loaded from 'nowhere', expected"):
        with_architecture(Settings(teacher="nowhere"))
    with pytest.raises(ValueError, match=r"^architecture: got 'encoder-only', expected one of encoder-dec"):
        Experiment(Settings(profile="ci", architecture="encoder-only"), tmp_path)


def test_export_refuses_it():
    text = small_text(pairs=5)
    model = new_model(Architecture(8, 0, 1, 8), text.tokenizer, 0)
    with pytest.raises(ValueError, match=r"^model: got a GPT2LMHeadModel, expected a MarianMTModel, such as"):
        check_kind(model, text.tokenizer)
