"""Search: what is drawn, how wide the beam is, and that the model is asked as it is when it is measured."""

from __future__ import annotations

import pytest
import torch

from kdlab.generation import Search, generate, search_batch, translate
from kdlab.students import Architecture, new_model
from tests.unit.small_text import small_text

EOS = 1


@pytest.fixture(scope="module")
def text():
    return small_text()


@pytest.fixture
def model(text):
    """Untrained, with dropout."""
    return new_model(Architecture(16, 1, 1, 32, heads=2, dropout=0.3), text.tokenizer, 0)


def in_order(model, sources, search):
    found = {}
    for batch in generate(model, sources, search):
        found |= batch
    return [found[index] for index in range(len(sources))]


def test_samples_come_from_the_whole_vocabulary(model):
    """Untrained, it gives all 400 tokens about the same probability; transformers' own default is the best 50."""
    drawn = search_batch(model, [[5, 1]] * 300, Search(sample=True))
    assert len({ids[0] for ids in drawn}) > 100


def test_a_low_temperature_is_greedy(model, text):
    model.final_logits_bias.normal_(std=2.0, generator=torch.Generator().manual_seed(0))
    sources = [example.source_ids for example in text.examples[:5]]
    greedy = search_batch(model, sources, Search())
    assert search_batch(model, sources, Search(sample=True, temperature=1e-3)) == greedy
    assert search_batch(model, sources, Search(sample=True)) != greedy


def test_another_batch_draws_other_samples(model):
    first, second = in_order(model, [[5, 6, 1]] * 2, Search(sample=True, tokens_per_batch=3))
    assert first != second


def test_the_beam_is_as_wide_as_it_says(model, text):
    torch.nn.init.normal_(model.lm_head.weight, std=0.2, generator=torch.Generator().manual_seed(0))
    sources = [example.source_ids[-8:] for example in text.examples[:3]]
    for width in (2, 4):
        for source, found in zip(
            sources, in_order(model, sources, Search(width, tokens_per_batch=1)), strict=True
        ):
            limit = 2 * len(source) + 11
            (row,) = model.eval().generate(torch.tensor([source]), num_beams=width, max_length=limit)
            assert found == row[1 : len(found) + 1].tolist()
    beams = [in_order(model, sources, Search(width)) for width in (1, 2, 4)]
    assert beams[0] != beams[1] != beams[2]


def test_each_translation_of_a_batch_ends_at_its_own_eos(model):
    """The batch's padding after it is none of the translation's; without one, it goes to the limit."""
    model.final_logits_bias[0, EOS] = 3.0
    drawn = search_batch(model, [[5, 6, 1]] * 60, Search(sample=True))
    limit = 2 * 3 + 10
    assert all((ids.index(EOS) if EOS in ids else limit) + (EOS in ids) == len(ids) for ids in drawn)
    assert len({len(ids) for ids in drawn}) > 5


def test_no_dropout_while_it_translates(model, text):
    sources = [example.source_ids for example in text.examples[:5]]
    still = search_batch(model.eval(), sources, Search())
    assert search_batch(model.train(), sources, Search()) == still


def test_no_special_token_stands_in_a_line(model, text):
    model.final_logits_bias[0, EOS] = 100.0
    assert translate(model, text.tokenizer, ["Where is the hotel?"], Search()) == [""]
