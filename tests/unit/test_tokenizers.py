"""The shared BPE tokenizer: lossless, reproducible, saved and loaded as transformers does."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, MarianConfig, PreTrainedTokenizerFast

from kdlab.text.tokenizers import encode_sources, encode_targets, load_tokenizer, train_tokenizer

LINES = [
    "Where is the station?",
    "The bus to the old station is late.",
    "A man in a blue shirt is standing on a ladder.",
    "Wo ist der Bahnhof?",
    "Der Bus zum alten Bahnhof hat Verspätung.",
    "Ein Mann in einem blauen Hemd steht auf einer Leiter.",
] * 3
TEXTS = [
    "Where is the station?",
    "Äpfel, Öl und Übermut: heiße Straße, süß!",
    "She said: \"It's 12,50 € (or 3.14) — isn't it?\"",
    "„Grüß Gott“, sagte er \u201aleise\u2018 um 18:05 Uhr…",
    "two  spaces , and a space before the comma ; 100%",
    "don't can't I'm we 've ' quoted '",
    "e-mail: a_b@c.de/x?y=1&z=#2 <b>bold</b> ▁ Ġ",
    "日本語 Ελληνικά русский עברית 👍🏽 \u2028 tab\tend",
    "a </s> is read as plain text, and so are <pad> and <unk>",
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(LINES, vocabulary_size=400)


def test_special_tokens_have_fixed_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "</s>", "<unk>"]
    assert tokenizer.bos_token_id is None
    assert len(tokenizer) <= 400


def test_source_and_target_end_in_eos_and_have_no_start(tokenizer: PreTrainedTokenizerFast) -> None:
    for encode in (encode_sources, encode_targets):
        for ids in encode(tokenizer, [*TEXTS, ""], 200):
            assert [i for i in ids if i < 3] == [1]
            assert ids[-1] == 1
    assert encode_targets(tokenizer, [""], 200) == [[1]]
    assert encode_sources(tokenizer, [], 200) == encode_targets(tokenizer, [], 200) == []


@pytest.mark.parametrize("text", TEXTS)
def test_decoding_gives_the_text_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = encode_targets(tokenizer, [text], 500)[0]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30))
def test_decoding_gives_any_normalised_text_back(text: str) -> None:
    tokenizer = ANY
    normalised = unicodedata.normalize("NFC", text).strip()
    ids = tokenizer(normalised)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == normalised
    assert tokenizer(text)["input_ids"] == ids


ANY = train_tokenizer(LINES, vocabulary_size=400)


def test_one_text_has_one_tokenisation(tokenizer: PreTrainedTokenizerFast) -> None:
    """However it came to be written: composed or not, with space around it or not, alone or in a batch."""
    composed, apart = "Verspätung", "Verspa\u0308tung"
    assert composed != apart
    first = encode_sources(tokenizer, [composed], 50)
    assert first == encode_sources(tokenizer, [apart], 50) == encode_sources(tokenizer, [f" {composed} "], 50)
    together = encode_sources(tokenizer, [TEXTS[1], composed, TEXTS[2]], 500)
    assert together[1] == first[0]


def test_a_word_has_the_same_pieces_first_as_later(tokenizer: PreTrainedTokenizerFast) -> None:
    alone = tokenizer("station")["input_ids"][:-1]
    assert tokenizer("station station")["input_ids"] == [*alone, *alone, 1]
    assert len(alone) == 1, "a word seen often enough is one piece"


def test_truncation_keeps_eos_and_the_first_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    text = TEXTS[1]
    whole = encode_sources(tokenizer, [text], 500)[0]
    for encode in (encode_sources, encode_targets):
        for length in (2, 3, len(whole) - 1, len(whole), len(whole) + 1):
            expected = whole if length >= len(whole) else [*whole[: length - 1], 1]
            assert encode(tokenizer, [text], length) == [expected]
        assert encode(tokenizer, [text], 500) == [whole], "an earlier limit must not stick"
        with pytest.raises(ValueError, match="max_length: got 1, expected at least 2"):
            encode(tokenizer, [text], 1)


def test_the_same_lines_give_the_same_bytes(tmp_path: Path) -> None:
    """In other processes too, with another hash seed and number of threads."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_tokenizers import LINES; from kdlab.text.tokenizers import train_tokenizer\n"
        "train_tokenizer(iter(LINES), vocabulary_size=350).save_pretrained(sys.argv[2])"
    )
    here = Path(__file__).parent
    seen = set()
    for seed in ("1", "2"):
        out = tmp_path / seed
        env = {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": seed, "PYTHONPATH": str(here.parents[1])}
        subprocess.run([sys.executable, "-c", code, str(here), str(out)], env=env, check=True)
        seen.add((out / "tokenizer.json").read_bytes())
    train_tokenizer(LINES, vocabulary_size=350).save_pretrained(tmp_path / "here")
    assert seen == {(tmp_path / "here" / "tokenizer.json").read_bytes()}


def test_saved_and_loaded_beside_a_marian_model(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """The folder says `marian`, whose usual tokenizer is another class: ours must come back all the same."""
    tokenizer.save_pretrained(tmp_path)
    MarianConfig(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    for loaded in (load_tokenizer(str(tmp_path)), AutoTokenizer.from_pretrained(tmp_path)):
        assert isinstance(loaded, PreTrainedTokenizerFast)
        assert len(loaded) == len(tokenizer)
        ids = encode_targets(loaded, TEXTS, 500)
        assert ids == encode_targets(tokenizer, TEXTS, 500)
        assert loaded.batch_decode(ids, skip_special_tokens=True) == TEXTS


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no tokenizer could be loaded from .*expected a folder written by save_pre"
    ):
        load_tokenizer(str(tmp_path))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="vocabulary_size: got 258, expected at least 259"):
        train_tokenizer(LINES, vocabulary_size=258)
    assert len(train_tokenizer(LINES, vocabulary_size=259)) == 259
    for lines in ([], ["", " "]):
        with pytest.raises(ValueError, match=f"lines: got {len(lines)} lines without any text"):
            train_tokenizer(lines)


class TwoSided(PreTrainedTokenizerFast):
    """Like Marian's from the hub: one model for the source, another for the target (here: upper case)."""

    target = False

    def _switch_to_target_mode(self) -> None:
        self.target = True

    def _switch_to_input_mode(self) -> None:
        self.target = False

    def _encode_plus(self, text, *args, **kwargs):  # type: ignore[no-untyped-def]
        return super()._encode_plus([t.upper() if self.target else t for t in text], *args, **kwargs)


def test_targets_are_tokenised_by_the_target_side(tokenizer: PreTrainedTokenizerFast) -> None:
    """Mistake 13: German cut by the English model."""
    both = TwoSided(
        tokenizer_object=tokenizer.backend_tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    assert both.batch_decode(encode_sources(both, ["der Bus"], 50), skip_special_tokens=True) == ["der Bus"]
    assert both.batch_decode(encode_targets(both, ["der Bus"], 50), skip_special_tokens=True) == ["DER BUS"]
    assert both.batch_decode(encode_sources(both, ["der Bus"], 50), skip_special_tokens=True) == ["der Bus"]


def test_a_tokenizer_that_adds_no_eos_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = None
    without = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")
    for encode in (encode_sources, encode_targets):
        with pytest.raises(
            ValueError, match=r"tokenizer: .*expected every sentence to end in its eos token \(id 1\)"
        ):
            encode(without, ["der Bus"], 50)
