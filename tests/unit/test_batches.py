"""Decoder inputs, padding, and the batches of a whole run."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlab.text.batches import BatchSchedule, Example, by_length, collate, shift_right

# -- the decoder's inputs --

labels_of_any_shape = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.lists(st.sampled_from([-100, 0, 1, 2, 9]), min_size=width, max_size=width), min_size=1, max_size=3
    )
)


@settings(deadline=None)
@given(rows=labels_of_any_shape, start=st.integers(0, 9), pad=st.integers(0, 9))
def test_shift_right_is_marians(rows: list[list[int]], start: int, pad: int) -> None:
    marian = pytest.importorskip("transformers.models.marian.modeling_marian")
    labels = torch.tensor(rows)
    before = labels.clone()
    shifted = shift_right(labels, decoder_start_token_id=start, pad_token_id=pad)
    assert torch.equal(shifted, marian.shift_tokens_right(labels, pad, start))
    assert torch.equal(labels, before), "the labels themselves stay as they are"
    assert shifted.dtype == labels.dtype


def test_shift_right_begins_with_the_start_token_not_eos() -> None:
    """Mistake 13: labels shifted with eos in front (as BART does) give Marian an input that it never had."""
    labels = torch.tensor([[7, 8, 1], [1, -5, -5]], dtype=torch.int32)
    shifted = shift_right(labels, decoder_start_token_id=3, pad_token_id=0, ignore_index=-5)
    assert shifted.tolist() == [[3, 7, 8], [3, 1, 0]]
    assert shifted.dtype == torch.int32
    assert shift_right(torch.tensor([[-100, -100]]), decoder_start_token_id=3, pad_token_id=0).tolist() == [
        [3, 0]
    ]


@pytest.mark.parametrize(
    ("labels", "changes", "expected"),
    [
        (torch.tensor([1, 2]), {}, r"labels: got shape \[2\], expected \[batch, length\]"),
        (torch.zeros(2, 0, dtype=torch.int64), {}, r"labels: got shape \[2, 0\]"),
        (torch.ones(1, 2), {}, r"labels: got dtype torch\.float32, expected torch\.int64"),
        (torch.tensor([[1, -1]]), {}, r"labels: got -1, expected token ids >= 0 or ignore_index=-100"),
        (torch.tensor([[1, -100]]), {"ignore_index": -1}, r"labels: got -100, .*ignore_index=-1"),
        (
            torch.tensor([[1]]),
            {"decoder_start_token_id": None},
            "decoder_start_token_id: got None, expected a token",
        ),
        (torch.tensor([[1]]), {"pad_token_id": -100}, "pad_token_id: got -100, expected a token"),
    ],
)
def test_shift_right_refuses(labels: torch.Tensor, changes: dict[str, int], expected: str) -> None:
    arguments = {"decoder_start_token_id": 0, "pad_token_id": 0} | changes
    with pytest.raises(ValueError, match=expected):
        shift_right(labels, **arguments)


# -- padding --

EXAMPLES = [Example([5, 6, 7, 1], [8, 1]), Example([5, 1], [8, 9, 1])]


def test_collate_pads_each_side_in_its_own_way() -> None:
    batch = collate(EXAMPLES, pad_token_id=0, decoder_start_token_id=2)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 7, 1], [5, 1, 0, 0]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 0, 0]],
        "labels": [[8, 1, -100], [8, 9, 1]],
        "decoder_input_ids": [[2, 8, 1], [2, 8, 9]],
    }
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_the_mask_comes_from_the_length_even_where_a_token_is_pad() -> None:
    batch = collate([Example([0, 5, 1], [0, 1])], pad_token_id=0, decoder_start_token_id=0)
    assert batch["attention_mask"].tolist() == [[1, 1, 1]]
    assert batch["labels"].tolist() == [[0, 1]]


def test_collate_takes_another_ignore_index() -> None:
    batch = collate(EXAMPLES, pad_token_id=3, decoder_start_token_id=3, ignore_index=-7)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 1], [5, 1, 3, 3]]
    assert batch["labels"].tolist() == [[8, 1, -7], [8, 9, 1]]
    assert batch["decoder_input_ids"].tolist() == [[3, 8, 1], [3, 8, 9]]


def test_a_marian_model_gives_the_same_logits_padded_and_alone() -> None:
    """No decoder mask is needed; position 0, where start = pad, takes part like any other (mistake 13)."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    size = {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
    }
    feed = {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 16}
    ids = {"vocab_size": 10, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    model = transformers.MarianMTModel(transformers.MarianConfig(d_model=8, **size, **feed, **ids)).eval()
    ours = {"pad_token_id": 0, "decoder_start_token_id": 0}
    with torch.no_grad():
        together = model(**collate(EXAMPLES, **ours)).logits
        for row, example in enumerate(EXAMPLES):
            alone = collate([example], **ours)
            length = len(example.target_ids)
            torch.testing.assert_close(together[row, :length], model(**alone).logits[0])
            # Marian's own shift, from the labels alone, agrees.
            del alone["decoder_input_ids"]
            torch.testing.assert_close(together[row, :length], model(**alone).logits[0])


def test_collate_refuses_nothing_and_empty_sides() -> None:
    with pytest.raises(ValueError, match="examples: got none"):
        collate([], pad_token_id=0, decoder_start_token_id=0)
    for empty in (Example([], [1]), Example([1], [])):
        with pytest.raises(ValueError, match=r"examples: number 1 is .*expected ids on both sides"):
            collate([EXAMPLES[0], empty], pad_token_id=0, decoder_start_token_id=0)


# -- batches --


def some_lengths(count: int, seed: int = 0, longest: int = 40) -> list[tuple[int, int]]:
    source = random.Random(seed)
    lengths = []
    for _ in range(count):
        length = source.randint(3, longest)
        lengths.append((length, max(1, min(longest, length + source.randint(-2, 3)))))
    return lengths


def padded_size(batch: list[int], lengths: list[tuple[int, int]]) -> int:
    return len(batch) * max(max(lengths[i]) for i in batch)


def epochs_of(schedule: BatchSchedule) -> list[list[list[int]]]:
    per_epoch = schedule.batches_per_epoch
    batches = [schedule[i] for i in range(len(schedule))]
    return [batches[i : i + per_epoch] for i in range(0, len(batches), per_epoch)]


@settings(deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=40),
    tokens_per_batch=st.integers(12, 60),
    updates=st.integers(1, 60),
    seed=st.integers(0, 3),
)
def test_every_epoch_holds_every_example_once_in_batches_that_fit(
    lengths: list[tuple[int, int]], tokens_per_batch: int, updates: int, seed: int
) -> None:
    schedule = BatchSchedule(lengths, tokens_per_batch=tokens_per_batch, updates=updates, seed=seed)
    *whole, last = epochs_of(schedule)
    assert len(schedule) == sum(map(len, [*whole, last])) == updates
    for epoch in whole:
        assert sorted(i for batch in epoch for i in batch) == list(range(len(lengths)))
    seen = [i for batch in last for i in batch]
    assert len(seen) == len(set(seen))
    assert all(
        batch and padded_size(batch, lengths) <= tokens_per_batch
        for epoch in [*whole, last]
        for batch in epoch
    )
    assert schedule.epochs == pytest.approx(len(whole) + len(last) / schedule.batches_per_epoch)
    targets = [sum(lengths[i][1] for i in schedule[number]) for number in range(updates)]
    assert [schedule.real_tokens(number) for number in range(updates)] == targets
    assert schedule.tokens == sum(targets)


def test_batches_are_full_and_hold_examples_of_one_length() -> None:
    lengths = some_lengths(2000)
    schedule = BatchSchedule(lengths, tokens_per_batch=400, updates=10_000, seed=0)
    [epoch, *_] = epochs_of(schedule)
    real = sum(max(pair) for pair in lengths)
    padded = sum(padded_size(batch, lengths) for batch in epoch)
    assert real / padded > 0.95
    assert padded / (len(epoch) * 400) > 0.9


def test_epochs_differ_in_order_and_in_who_stands_together() -> None:
    lengths = [(5, 5)] * 40
    first, second = epochs_of(BatchSchedule(lengths, tokens_per_batch=50, updates=8, seed=3))
    assert sorted(map(sorted, first)) != sorted(map(sorted, second))
    # And where length leaves no choice of company, the order of the batches still changes.
    one_each = [(length, length) for length in range(26, 51)]
    schedule = BatchSchedule(one_each, tokens_per_batch=50, updates=50, seed=3)
    first, second = epochs_of(schedule)
    assert sorted(first) == sorted(second) == [[i] for i in range(25)]
    assert first != second
    assert first not in (sorted(first), sorted(first, reverse=True))


def test_the_seed_decides_and_nothing_else() -> None:
    lengths = some_lengths(300)

    def make(seed: int) -> BatchSchedule:
        return BatchSchedule(lengths, tokens_per_batch=200, updates=120, seed=seed)

    plan = [make(7)[i] for i in range(120)]
    assert [make(8)[i] for i in range(120)] != plan
    # In any order, from a copy (as a worker process gets one), from the end, after other generators ran.
    random.seed(1)
    torch.manual_seed(1)
    shuffled = make(7)
    order = random.Random(0).sample(range(120), 120)
    assert {i: shuffled[i] for i in order} == dict(enumerate(plan))
    copy = pickle.loads(pickle.dumps(shuffled))
    assert [copy[i] for i in range(120)] == plan
    assert [make(7)[i] for i in range(-120, 0)] == plan
    assert list(make(7)) == plan
    # More updates begin with the same ones.
    longer = BatchSchedule(lengths, tokens_per_batch=200, updates=300, seed=7)
    assert [longer[i] for i in range(120)] == plan


def test_another_process_lays_out_the_same_batches() -> None:
    code = (
        "from kdlab.text.batches import BatchSchedule\n"
        "lengths = [(i % 7 + 1, i % 5 + 1) for i in range(60)]\n"
        "print(list(BatchSchedule(lengths, tokens_per_batch=20, updates=50, seed=4)))"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    lengths = [(i % 7 + 1, i % 5 + 1) for i in range(60)]
    assert run.stdout == f"{list(BatchSchedule(lengths, tokens_per_batch=20, updates=50, seed=4))}\n"


def test_a_data_loader_reads_it() -> None:
    lengths = some_lengths(100)
    schedule = BatchSchedule(lengths, tokens_per_batch=100, updates=60, seed=0)
    loader = torch.utils.data.DataLoader(
        schedule, batch_size=1, shuffle=False, collate_fn=lambda items: items[0]
    )
    batches = list(loader)
    assert batches == [schedule[i] for i in range(60)]
    assert all(type(i) is int for batch in batches for i in batch)


def test_a_long_run_over_much_text_is_laid_out_quickly() -> None:
    lengths = some_lengths(150_000)
    start = time.process_time()
    schedule = BatchSchedule(lengths, tokens_per_batch=1500, updates=12_000, seed=0)
    rows = sum(len(schedule[i]) for i in range(12_000))
    assert time.process_time() - start < 2
    assert rows == pytest.approx(150_000 * schedule.epochs, rel=0.01)


def test_evaluation_batches_are_long_ones_first() -> None:
    lengths = some_lengths(500)
    batches = by_length(lengths, 300)
    order = [i for batch in batches for i in batch]
    assert sorted(order) == list(range(500))
    longest = [max(lengths[i]) for i in order]
    assert longest == sorted(longest, reverse=True)
    assert all(padded_size(batch, lengths) <= 300 for batch in batches)
    for batch, following in pairwise(batches):
        assert padded_size([*batch, following[0]], lengths) > 300, "a batch is closed only when it is full"
    assert by_length(lengths, 300) == batches
    assert by_length([], 300) == []


def test_bad_arguments_are_named() -> None:
    def make(
        lengths: object = ((3, 4), (9, 2)), tokens_per_batch: int = 20, updates: int = 5, seed: int = 0
    ) -> None:
        BatchSchedule(lengths, tokens_per_batch=tokens_per_batch, updates=updates, seed=seed)  # type: ignore[arg-type]

    with pytest.raises(
        ValueError, match="tokens_per_batch: got 8, expected at least 9, the length of the longest"
    ):
        make(tokens_per_batch=8)
    with pytest.raises(ValueError, match="tokens_per_batch: got 8, expected at least 9"):
        by_length([(3, 4), (9, 2)], 8)
    with pytest.raises(ValueError, match="tokens_per_batch: got 0, expected at least 1"):
        make(tokens_per_batch=0)
    with pytest.raises(ValueError, match="updates: got 0, expected at least 1"):
        make(updates=0)
    with pytest.raises(ValueError, match="seed: got -1, expected 0 or more"):
        make(seed=-1)
    with pytest.raises(ValueError, match="lengths: got no examples"):
        make(lengths=[])
    with pytest.raises(ValueError, match=r"lengths: example 1 has \[0, 2\], expected 1 or more tokens"):
        make(lengths=[(1, 1), (0, 2)])
    with pytest.raises(
        ValueError, match=r"lengths: got shape \(1, 3\), expected \(source length, target length\)"
    ):
        make(lengths=[(1, 2, 3)])
    schedule = BatchSchedule([(3, 4)], tokens_per_batch=20, updates=5, seed=0)
    for index in (5, -6):
        with pytest.raises(IndexError, match=f"index: got {index}, expected one of 5 updates"):
            schedule[index]
