"""On-policy with decoder-only students: the prompt stays, its completion is drawn as the student alone would; against
enumeration, and against each sequence on its own without padding."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from kdlab.generation import Search, search_batch
from kdlab.losses import DistillationLoss
from kdlab.on_policy import OnPolicy
from kdlab.teachers import LiveTeacher
from kdlab.text.batches import Example
from kdlab.text.causal import collate_causal
from tests.unit.reference import DEFAULTS, divergence, label
from tests.unit.tiny_models import EXAMPLES, VOCABULARY, decoder_only, distiller

EOS = 1
FAMILIES = pytest.mark.parametrize("family", ["Llama", "GPT2"])


def prompts(examples=EXAMPLES):
    return [example.source_ids for example in examples]


def completions(batch):
    """Token ids of each row's labels."""
    return [[token for token in row if token != -100] for row in batch["labels"].tolist()]


def rows_before(model, prompt, completion):
    """Logits [completion, vocabulary] of the sequence alone, without padding or cache: of the row before each token."""
    ids = torch.tensor([[*prompt, *completion]])
    return model(input_ids=ids).logits[0, len(prompt) - 1 : -1]


def lively(model):
    """With dropout, in train mode."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    model.config.attention_dropout = 0.5
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    return model.train()


def with_bias_to_eos(model, bias):
    """As often at its end as the sign of `bias` says."""
    model.lm_head = nn.Linear(model.lm_head.in_features, VOCABULARY, dtype=torch.float64)
    with torch.no_grad():
        model.lm_head.weight.normal_(generator=torch.Generator().manual_seed(0))
        model.lm_head.bias.zero_()[EOS] = bias
    return model


# --- what is drawn ------------------------------------------------------------------------------------------

DRAWS = 6000
STARTS = [
    [2, 3, 4, 3, 4],
    [2],
    [4, 0, 3],
]  # of different lengths; 0, the pad token, is a token like any other


@FAMILIES
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_completions_come_as_often_as_the_student_s_distribution_says(family, temperature):
    """A row's padding, its neighbours, dropout and the student's own settings change nothing."""
    student = lively(decoder_only(family, vocab_size=5))
    student.generation_config.update(top_k=1, top_p=0.5, repetition_penalty=3.0, temperature=0.3)
    batch = collate_causal([Example(start, [3, EOS]) for start in STARTS * DRAWS], pad_token_id=0)
    on_policy = OnPolicy(temperature=temperature, max_length=2, tokens_per_batch=100_000)
    (made,) = on_policy.replace(student, [batch], seed=0, update=0)
    assert student.training
    student.eval()
    drawn = completions(made)
    ends = [[EOS], *([a, b] for a in (0, 2, 3, 4) for b in range(5))]
    for place, start in enumerate(STARTS):
        found = [tuple(row) for row in drawn[place :: len(STARTS)]]
        total = 0.0
        for completion in ends:
            log_q = (rows_before(student, start, completion) / temperature).log_softmax(-1)
            probability = log_q[range(len(completion)), completion].sum().exp().item()
            error = (probability * (1 - probability) / DRAWS) ** 0.5
            assert abs(found.count(tuple(completion)) / DRAWS - probability) < 5 * error + 1e-3 / DRAWS
            total += probability
        assert total == pytest.approx(1.0)
        assert len(found) == DRAWS


@FAMILIES
def test_rows_of_different_length_go_on_as_each_would_alone(family):
    """At a temperature near 0 a completion is the most probable token after token, at positions of its own."""
    student = decoder_only(family)
    with torch.no_grad():  # what comes next depends on what was read, and where
        for name, parameter in student.base_model.named_parameters():
            parameter.mul_(0 if name.endswith("bias") else 3)
    on_policy = OnPolicy(temperature=1e-4, max_length=12)
    (made,) = on_policy.replace(student, [collate_causal(EXAMPLES, pad_token_id=0)], seed=0, update=0)
    greedy = []
    for prompt in prompts():
        ids = list(prompt)
        while len(ids) < len(prompt) + 12 and (len(ids) == len(prompt) or ids[-1] != EOS):
            ids.append(student(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item())
        greedy.append(ids[len(prompt) :])
    assert completions(made) == greedy
    assert len({tuple(ids) for ids in greedy}) == len(EXAMPLES)


def test_it_samples_with_its_cache_without_grad_and_trains_on(monkeypatch):
    student = lively(decoder_only())
    student.gradient_checkpointing_enable()
    student.config.use_cache = False  # as the Trainer sets it
    own, forward, seen = student.generation_config, type(student).forward, []

    def spy(self, *args, **kwargs):
        seen.append((self.training, torch.is_grad_enabled(), kwargs["input_ids"].shape[1]))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(student), "forward", spy)
    state = torch.get_rng_state()
    batches = [collate_causal(part, pad_token_id=0) for part in (EXAMPLES[:1], EXAMPLES[1:])]
    made = OnPolicy(max_length=9).replace(student, batches, seed=0, update=0)
    assert torch.equal(torch.get_rng_state(), state)
    longest = max(len(row) for batch in made for row in completions(batch))
    # One call for both micro-batches: the prompts at once, then token by token.
    assert seen == [(False, False, 7)] + [(False, False, 1)] * (longest - 1)
    assert student.training
    assert all(module.training for module in student.modules())
    assert student.generation_config is own


def test_draws_follow_seed_update_and_process_and_nothing_else():
    student, batch = decoder_only(), collate_causal([EXAMPLES[0]] * 6, pad_token_id=0)

    def draw(update=0, seed=0, process=0):
        (made,) = OnPolicy(max_length=9).replace(student, [batch], seed=seed, update=update, process=process)
        return completions(made)

    first = draw()
    torch.manual_seed(123)
    assert draw() == first
    others = [draw(update=1), draw(seed=1), draw(process=1)]
    assert all(one != other for one, other in itertools.combinations([first, *others], 2))
    assert len({tuple(row) for row in first}) > 3  # rows do not share their noise


# --- what becomes of it -------------------------------------------------------------------------------------


def test_batches_are_those_of_collate_causal_with_the_prompts_as_they_were():
    before = collate_causal(EXAMPLES, pad_token_id=0, example_ids=range(4))
    batch = copy.deepcopy(before)
    (made,) = OnPolicy(max_length=5).replace(decoder_only(), [batch], seed=0, update=0)
    assert all(torch.equal(batch[name], before[name]) for name in before)
    drawn = completions(made)
    assert drawn != [example.target_ids for example in EXAMPLES]
    expected = [Example(prompt, ids) for prompt, ids in zip(prompts(), drawn, strict=True)]
    expected = collate_causal(expected, pad_token_id=0)
    assert made.keys() == expected.keys() == {"input_ids", "attention_mask", "labels"}
    assert all(torch.equal(made[name], expected[name]) for name in expected)


def test_another_s_padding_on_the_left_gives_the_same():
    student, batch = decoder_only("GPT2"), collate_causal(EXAMPLES, pad_token_id=0)
    shifts = (batch["attention_mask"] == 0).sum(1).tolist()
    left = {
        name: torch.stack([row.roll(by) for row, by in zip(batch[name], shifts, strict=True)])
        for name in batch
    }
    left["position_ids"] = (left["attention_mask"].cumsum(-1) - 1).clamp_min(0)
    (one,), (other,) = (OnPolicy().replace(student, [b], seed=0, update=0) for b in (batch, left))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("eos", [EOS, [EOS, 5]], ids=["one", "two"])
@pytest.mark.parametrize("pad", [0, EOS, None], ids=["pad", "pad-is-eos", "no-pad"])
def test_a_completion_ends_with_its_eos_and_nothing_counts_after_it(eos, pad):
    student = with_bias_to_eos(decoder_only(), 2.0)
    student.config.pad_token_id = student.generation_config.pad_token_id = pad
    student.generation_config.eos_token_id = eos
    ends = {eos} if eos == EOS else set(eos)
    batch = collate_causal(EXAMPLES * 20, pad_token_id=0)
    (made,) = OnPolicy(max_length=12).replace(student, [batch], seed=0, update=0)
    drawn = completions(made)
    for row in drawn:
        assert not ends & set(row[:-1])
        assert row[-1] in ends or len(row) == 12
    assert {row[-1] for row in drawn} >= ends
    assert {len(row) for row in drawn} >= {1, 2, 3, 12}
    widths = [len(prompt) + len(row) for prompt, row in zip(prompts(EXAMPLES * 20), drawn, strict=True)]
    assert made["attention_mask"].sum(1).tolist() == widths


def test_a_completion_without_an_end_goes_as_far_as_the_model_has_positions():
    student = with_bias_to_eos(decoder_only("GPT2", n_positions=9), -1e4)
    (made,) = OnPolicy().replace(student, [collate_causal(EXAMPLES, pad_token_id=0)], seed=0, update=0)
    assert {len(row) for row in completions(made)} == {2}  # the longest prompt has 7 tokens
    assert made["input_ids"].shape == (4, 9)
    whole = collate_causal([Example([2] * 9, [EOS])], pad_token_id=0)
    with pytest.raises(ValueError, match=r"sources: got a prompt of 9 tokens, expected less than .* 9 pos"):
        OnPolicy().replace(student, [whole], seed=0, update=0)


@pytest.mark.parametrize("kind", ["decoder-only", "encoder-decoder"])
def test_a_row_to_no_account_stays_so(kind):
    """As the runs of several processes have them, where a batch has too few rows."""
    if kind == "decoder-only":
        student, batch = decoder_only(), collate_causal(EXAMPLES, pad_token_id=0)
    else:
        from tests.unit.test_on_policy import batch_of, data, model_of

        student, batch = model_of(), batch_of(data([5, 3, 8, 4]))
    batch["labels"][2] = -100
    (made,) = OnPolicy(max_length=6).replace(student, [batch], seed=0, update=0)
    assert [bool(row) for row in completions(made)] == [True, True, False, True]


def test_a_first_token_that_counts_is_a_prompt():
    """Another's collator: every token is a label, and nothing predicts the first."""
    batch = collate_causal([Example([2], [5, 6, EOS])], pad_token_id=0)
    expected = OnPolicy().replace(decoder_only(), [batch], seed=0, update=0)[0]
    whole = {**batch, "labels": batch["input_ids"]}
    (made,) = OnPolicy().replace(decoder_only(), [whole], seed=0, update=0)
    assert all(torch.equal(made[name], expected[name]) for name in expected)


def test_a_row_without_a_prompt_is_refused():
    """Padding on the left, and the first token after it is to be learnt."""
    batch = {
        "input_ids": torch.tensor([[0, 5, 6, EOS]]),
        "attention_mask": torch.tensor([[0, 1, 1, 1]]),
        "labels": torch.tensor([[-100, 5, 6, EOS]]),
    }
    with pytest.raises(ValueError, match="batch: row 0 counts its first token, expected a prompt before it"):
        OnPolicy().replace(decoder_only(), [batch], seed=0, update=0)
    with pytest.raises(ValueError, match="prompts: number 1 is empty, expected its start token"):
        search_batch(decoder_only(), [[5], []], Search())


# --- its loss -----------------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize(("name", "parameters"), DEFAULTS, ids=label)
def test_the_loss_is_the_mean_divergence_over_the_tokens_of_the_student_s_completions(
    family, name, parameters, tmp_path
):
    student, teacher = decoder_only(family), decoder_only(family, 1)
    trainer = distiller(
        student, tmp_path, teacher=LiveTeacher(teacher), loss=DistillationLoss(name, **parameters),
        on_policy=OnPolicy(lmbda=1.0, max_length=6),
    )  # fmt: skip
    parts = [collate_causal(part, pad_token_id=0) for part in (EXAMPLES[:1], EXAMPLES[1:])]
    batches, items = trainer.get_batch_samples(iter(parts), 2, torch.device("cpu"))
    drawn = [row for batch in batches for row in completions(batch)]
    assert int(items) == sum(len(row) for row in drawn)
    with torch.no_grad():
        found = sum(trainer.compute_loss(student, batch, num_items_in_batch=items) for batch in batches)
        rows = [
            torch.cat([rows_before(model, *row) for row in zip(prompts(), drawn, strict=True)])
            for model in (student, teacher)
        ]
    expected = divergence(name, *rows, **parameters).mean().item()
    assert expected > 0.01
    assert found.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("fused", [False, True])
def test_only_the_rows_before_the_completion_s_tokens_learn(fused, tmp_path):
    student = decoder_only()
    trainer = distiller(
        student, tmp_path, teacher=LiveTeacher(decoder_only(seed=1)), fused=fused,
        on_policy=OnPolicy(lmbda=1.0, max_length=6),
    )  # fmt: skip
    batch = collate_causal(EXAMPLES, pad_token_id=0)
    (made,), items = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
    kept = []
    student.base_model.register_forward_hook(lambda m, i, output: kept.append(output.last_hidden_state))
    loss = trainer.compute_loss(student, made, num_items_in_batch=items)
    (slope,) = torch.autograd.grad(loss, kept[-1:])
    for rows, prompt, row in zip(slope, prompts(), completions(made), strict=True):
        first = len(prompt) - 1
        expected = [first <= place < first + len(row) for place in range(len(rows))]
        assert [bool(values.any()) for values in rows] == expected


def trained(folder, *, stop=None, resume=None):
    """A student after six updates, some of them on its own samples; with dropout, and momentum to be kept."""
    student = lively(decoder_only("GPT2"))
    options = {"max_steps": stop or 6, "save_strategy": "steps", "save_steps": 3, "optim": "adamw_torch"}
    batches = [[0, 1], [2], [3, 0], [1, 2, 3], [0], [2, 3]]
    trainer = distiller(
        student, folder, teacher=LiveTeacher(decoder_only("GPT2", 1)), batches=batches, args=options,
        on_policy=OnPolicy(lmbda=0.6, max_length=6),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


def test_a_run_that_resumes_ends_with_the_same_weights(tmp_path):
    turns = [OnPolicy(lmbda=0.6).samples_at(42, update) for update in range(6)]
    assert {True, False} == set(turns[:3]) == set(turns[3:])
    whole = trained(tmp_path / "whole")
    trained(tmp_path / "cut", stop=3)
    assert torch.equal(trained(tmp_path / "cut", resume=str(tmp_path / "cut" / "checkpoint-3")), whole)


def test_training_brings_the_student_to_its_teacher_where_it_goes_itself(tmp_path):
    student, teacher = decoder_only(), LiveTeacher(decoder_only(seed=1))
    trainer = distiller(
        student, tmp_path, teacher=teacher, batches=[[0, 1, 2, 3] * 8] * 60, loss=DistillationLoss("reverse_kl"),
        on_policy=OnPolicy(lmbda=1.0, max_length=4), args={"max_steps": 60},
    )  # fmt: skip

    def distance():
        batch = collate_causal(EXAMPLES * 50, pad_token_id=0)
        batches, items = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
        with torch.no_grad():
            return trainer.compute_loss(student.eval(), batches[0], num_items_in_batch=items).item()

    before = distance()
    trainer.train()
    assert distance() < 0.5 * before
