"""On-policy distillation: when and how the student samples, and what its samples mean, against enumeration."""

from __future__ import annotations

import copy
import itertools
from types import SimpleNamespace

import pytest
import torch

from kdlab.generation import Search, search_batch
from kdlab.losses import DistillationLoss
from kdlab.on_policy import OnPolicy
from kdlab.students import Architecture, new_model
from kdlab.teachers import CachedTeacher, LiveTeacher
from kdlab.text.batches import Example, collate
from tests.bench.steps import StubTokenizer
from tests.unit.reference import DEFAULTS, label
from tests.unit.test_training import distiller

PAD, EOS = 0, 1
STILL = Architecture(d_model=16, encoder_layers=1, decoder_layers=1, ffn=32, heads=2, dropout=0.0)
LIVELY = Architecture(d_model=16, encoder_layers=1, decoder_layers=1, ffn=32, heads=2, dropout=0.3)


def model_of(vocabulary=30, seed=0, architecture=STILL, spread=8.0):
    """A model with weights `spread` times as large as fresh ones: its distributions are farther from even."""
    model = new_model(architecture, StubTokenizer(vocabulary), seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "positions" not in name:
                parameter.mul_(spread)
    return model


def forced(end):
    """A model that never (`end` False) or always gives eos first."""
    model = model_of()
    model.final_logits_bias[0, EOS] = 1e4 if end else -1e4
    return model


def data(lengths, seed=0):
    """Examples with sources of these lengths and targets of others."""
    random = torch.Generator().manual_seed(seed)

    def draw(length):
        return [*torch.randint(3, 30, (length - 1,), generator=random).tolist(), EOS]

    return [Example(draw(length), draw(2 + length % 5)) for length in lengths]


def batch_of(examples, **options):
    return collate(examples, pad_token_id=PAD, decoder_start_token_id=PAD, **options)


def rows_of(batch):
    """Target ids of each row."""
    return [[token for token in row if token != -100] for row in batch["labels"].tolist()]


# --- when ---------------------------------------------------------------------------------------------------


def test_a_share_of_the_updates_samples_whatever_else_is_asked():
    on_policy = OnPolicy(lmbda=0.3)
    turns = [on_policy.samples_at(7, update) for update in range(4000)]
    assert sum(turns) / 4000 == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 4000) ** 0.5)
    assert [on_policy.samples_at(7, update) for update in reversed(range(4000))] == turns[::-1]
    assert [on_policy.samples_at(8, update) for update in range(4000)] != turns
    # A larger share samples wherever a smaller one does, so runs that differ in lmbda alone can be compared.
    more = [OnPolicy(lmbda=0.6).samples_at(7, update) for update in range(4000)]
    assert all(b for a, b in zip(turns, more, strict=True) if a)


def test_the_ends_of_lmbda_and_the_start():
    assert not any(OnPolicy(lmbda=0).samples_at(0, update) for update in range(200))
    assert all(OnPolicy(lmbda=1).samples_at(0, update) for update in range(200))
    late = [OnPolicy(lmbda=1, start=5).samples_at(0, update) for update in range(10)]
    assert late == [False] * 5 + [True] * 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lmbda", -0.1),
        ("lmbda", 1.1),
        ("lmbda", float("nan")),
        ("temperature", 0.0),
        ("temperature", float("inf")),
        ("max_length", 0),
        ("start", -1),
        ("tokens_per_batch", 0),
    ],
)
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}: got {value}"):
        OnPolicy(**{name: value})


# --- what becomes of a sample -------------------------------------------------------------------------------


def test_samples_stay_with_their_sources_through_batches_by_length():
    """At a temperature near 0 a sample is the greedy translation of its own source."""
    model = model_of(spread=1.0)
    with torch.no_grad():  # what is said depends on what is read
        model.model.decoder.layers[0].encoder_attn.out_proj.weight.mul_(100)
    examples = data([9, 3, 14, 5, 2, 7, 11, 4])
    batches = [batch_of(part) for part in (examples[:3], examples[3:4], examples[4:])]
    before = copy.deepcopy(batches)
    on_policy = OnPolicy(lmbda=1, temperature=1e-4, max_length=6, tokens_per_batch=16)
    made = on_policy.replace(model, batches, seed=0, update=0)
    found = [row for batch in made for row in rows_of(batch)]
    greedy = [search_batch(model, [e.source_ids], Search(), max_length=6)[0] for e in examples]
    assert found == greedy
    assert len({tuple(row) for row in greedy}) > 6  # of eight
    for one, other in zip(made, before, strict=True):
        for name in ("input_ids", "attention_mask"):
            assert torch.equal(one[name], other[name])
    for batch, same in zip(batches, before, strict=True):  # what came in is as it was
        assert all(torch.equal(batch[name], same[name]) for name in same)


def test_batches_are_those_of_collate_and_ids_of_examples_are_dropped():
    model = model_of()
    examples = data([5, 8, 3])
    (made,) = OnPolicy(max_length=7).replace(
        model, [batch_of(examples, example_ids=[4, 5, 6])], seed=0, update=0
    )
    targets = rows_of(made)
    expected = batch_of([Example(e.source_ids, ids) for e, ids in zip(examples, targets, strict=True)])
    assert made.keys() == expected.keys() == {"input_ids", "attention_mask", "labels", "decoder_input_ids"}
    assert all(torch.equal(made[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match="expected example_ids"):
        CachedTeacher(SimpleNamespace())(made)


def test_an_unfinished_sample_trains_its_last_token_and_gets_no_eos():
    """Not even where the model's own settings force one at the limit, as Marian's do."""
    model = forced(end=False)
    model.generation_config.forced_eos_token_id = EOS
    (made,) = OnPolicy(max_length=5).replace(model, [batch_of(data([4, 9, 6]))], seed=0, update=0)
    assert made["labels"].shape == (3, 5)
    assert (made["labels"] > EOS).all()


def test_an_empty_sample_trains_its_eos():
    (made,) = OnPolicy().replace(forced(end=True), [batch_of(data([4, 9]))], seed=0, update=0)
    assert made["labels"].tolist() == [[EOS], [EOS]]
    assert made["decoder_input_ids"].tolist() == [[PAD], [PAD]]


def test_what_follows_eos_is_masked():
    model = model_of(spread=1.0)
    model.final_logits_bias[0, EOS] = 2.0
    (made,) = OnPolicy(max_length=12).replace(model, [batch_of(data([6] * 60))], seed=0, update=0)
    lengths = {len(row) for row in rows_of(made)}
    assert len(lengths) > 3
    for row, labels in zip(rows_of(made), made["labels"].tolist(), strict=True):
        assert labels == row + [-100] * (len(labels) - len(row))
        assert EOS not in row[:-1]
        assert row[-1] == EOS or len(row) == 12


def test_without_a_limit_of_its_own_a_sample_has_the_library_s():
    (made,) = OnPolicy().replace(forced(end=False), [batch_of(data([4]))], seed=0, update=0)
    assert made["labels"].shape == (1, 18)


# --- how it is drawn ----------------------------------------------------------------------------------------


def test_draws_follow_seed_update_and_process_and_nothing_else():
    model, batch = model_of(spread=1.0), batch_of(data([6] * 8))

    def draw(update=0, seed=0, process=0):
        (made,) = OnPolicy(max_length=9).replace(model, [batch], seed=seed, update=update, process=process)
        return rows_of(made)

    first = draw()
    torch.manual_seed(123)
    assert draw() == first
    others = [draw(update=1), draw(seed=1), draw(process=1)]
    assert all(one != other for one, other in itertools.combinations([first, *others], 2))
    assert len({tuple(row) for row in first}) == 8  # rows do not share their noise


def test_several_calls_of_one_update_draw_differently():
    model, example = model_of(spread=1.0), data([6])[0]
    on_policy = OnPolicy(max_length=9, tokens_per_batch=6)
    (made,) = on_policy.replace(model, [batch_of([example] * 5)], seed=0, update=0)
    assert len({tuple(row) for row in rows_of(made)}) == 5


def test_the_student_samples_without_dropout_or_grad_with_its_cache_and_trains_on(monkeypatch):
    model = model_of(architecture=LIVELY).train()
    model.gradient_checkpointing_enable()
    model.config.use_cache = False  # as the Trainer sets it
    model.generation_config.top_k = 1
    own, forward, seen = model.generation_config, type(model).forward, []

    def spy(self, *args, decoder_input_ids=None, **kwargs):
        seen.append((self.training, torch.is_grad_enabled(), decoder_input_ids.shape[1]))
        return forward(self, *args, decoder_input_ids=decoder_input_ids, **kwargs)

    monkeypatch.setattr(type(model), "forward", spy)
    state = torch.get_rng_state()
    (made,) = OnPolicy(max_length=9).replace(model, [batch_of(data([6] * 8))], seed=0, update=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert set(seen) == {(False, False, 1)}
    assert len(seen) == made["labels"].shape[1]
    assert model.training
    assert model.model.decoder.training
    assert model.generation_config is own
    assert model.generation_config.top_k == 1
    model.eval()
    OnPolicy(max_length=2).replace(model, [batch_of(data([6]))], seed=0, update=0)
    assert not model.training


# --- in expectation -----------------------------------------------------------------------------------------

TOY = Example([3, 4, EOS], [3, EOS])
DRAWS = 20_000


@pytest.fixture(scope="module", params=[1.0, 2.0], ids=["T=1", "T=2"])
def toy(request, tmp_path_factory):
    """A student and a teacher with five tokens, many samples of at most two, and all there can be.

    The student's own settings would bend the draws, if they were heeded.
    """
    student, teacher = model_of(5, seed=0, spread=4.0), model_of(5, seed=1, spread=4.0)
    student.generation_config.update(top_k=1, top_p=0.5, repetition_penalty=3.0, temperature=0.3)
    on_policy = OnPolicy(lmbda=1.0, temperature=request.param, max_length=2)
    trainer = distiller(
        student, [TOY], tmp_path_factory.mktemp("toy"), teacher=LiveTeacher(teacher), on_policy=on_policy,
        batches=[[0]],
    )  # fmt: skip
    (batch,), items = trainer.get_batch_samples(iter([batch_of([TOY] * DRAWS)]), 1, torch.device("cpu"))
    sequences = [[EOS], *([a, b] for a in (2, 3, 4) for b in (EOS, 2, 3, 4))]
    everything = batch_of([Example(TOY.source_ids, ids) for ids in sequences])
    with torch.no_grad():
        logits = trainer.model.eval()(
            **{name: everything[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
        ).logits
    logits[..., PAD] = -torch.inf  # which no translation holds
    log_q = (logits.double() / request.param).log_softmax(-1)
    labels = everything["labels"]
    chosen = log_q.gather(2, labels.clamp_min(0)[..., None])[..., 0].masked_fill(labels < 0, 0.0)
    return SimpleNamespace(
        trainer=trainer, batch=batch, items=items, sequences=sequences, everything=everything,
        probabilities=chosen.sum(1).exp(),
    )  # fmt: skip


def test_samples_come_as_often_as_the_student_s_distribution_says(toy):
    assert toy.probabilities.sum().item() == pytest.approx(1.0)
    assert toy.probabilities.max() < 0.9
    drawn = [tuple(row) for row in rows_of(toy.batch)]
    assert set(drawn) <= {tuple(ids) for ids in toy.sequences}
    for ids, probability in zip(toy.sequences, toy.probabilities.tolist(), strict=True):
        error = abs(drawn.count(tuple(ids)) / DRAWS - probability)
        assert error < 5 * (probability * (1 - probability) / DRAWS) ** 0.5 + 1e-3 / DRAWS


def loss_and_gradient(trainer, batch, items):
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=items)
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
    return loss.item(), gradient.double()


@pytest.mark.parametrize(("divergence", "parameters"), DEFAULTS, ids=label)
def test_the_loss_is_the_expected_divergence_along_the_student_s_own_prefixes(toy, divergence, parameters):
    """E_{y ~ q}[SUM_i D(p_i || q_i)] and its gradient without that of the draw, by enumeration."""
    toy.trainer.loss = DistillationLoss(divergence=divergence, **parameters)
    values, gradients = [], []
    for row in range(len(toy.sequences)):
        one = {name: tensor[row : row + 1] for name, tensor in toy.everything.items()}
        value, gradient = loss_and_gradient(toy.trainer, one, 1)
        values.append(value)
        gradients.append(gradient)
    exact = torch.cat([torch.tensor(values, dtype=torch.float64)[:, None], torch.stack(gradients)], dim=1)
    weights = toy.probabilities[:, None]
    mean = (weights * exact).sum(0)
    error = ((weights * (exact - mean) ** 2).sum(0) / DRAWS).sqrt()
    assert int(toy.items) == sum(len(row) for row in rows_of(toy.batch))
    value, gradient = loss_and_gradient(toy.trainer, toy.batch, toy.items)
    found = torch.cat([torch.tensor([value], dtype=torch.float64), gradient]) * int(toy.items) / DRAWS
    assert ((found - mean).abs() < 5.5 * error + 1e-4 * mean.abs().max()).all()
    # The sampling error is small enough for this to say something.
    assert error[1:].norm() < 0.1 * mean[1:].norm()


def test_training_brings_the_student_to_its_teacher_where_it_goes_itself(tmp_path):
    student, teacher = model_of(5, seed=0, spread=2.0), model_of(5, seed=1, spread=4.0)
    trainer = distiller(
        student, [TOY], tmp_path, teacher=LiveTeacher(teacher), batches=[[0] * 32] * 60, updates=60,
        on_policy=OnPolicy(lmbda=1.0, max_length=4), loss=DistillationLoss("reverse_kl"),
    )  # fmt: skip

    def distance():
        (batch,), items = trainer.get_batch_samples(iter([batch_of([TOY] * 500)]), 1, torch.device("cpu"))
        with torch.no_grad():
            return trainer.compute_loss(student.eval(), batch, num_items_in_batch=items).item()

    before = distance()
    trainer.args.learning_rate = 0.05
    trainer.train()
    assert distance() < 0.3 * before
