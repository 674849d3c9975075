"""Parallel text: what is read, and what is refused, with file and line."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kdlab.text.parallel import Corpus, ParallelText, read_corpus


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


SETS = {
    "train.en": "one\ntwo\nthree\n",
    "train.de": "eins\nzwei\ndrei\n",
    "val.en.gz": "four\n",
    "val.de.gz": "vier\n",
    "test_2016_flickr.en": "five\n",
    "test_2016_flickr.de": "fünf\n",
    "test.en": "six",
    "test.de": "sechs",
}


def test_a_folder_is_read_with_all_its_sets(tmp_path: Path) -> None:
    extra = {"unlabelled.en.gz": "seven\neight\n", "README.md": "no set\n", "train.fr": "un\n"}
    corpus = read_corpus(str(write(tmp_path / "tiny", SETS | extra)))
    assert corpus == Corpus(
        name="tiny",
        pair=("en", "de"),
        train=ParallelText(["one", "two", "three"], ["eins", "zwei", "drei"]),
        validation=ParallelText(["four"], ["vier"]),
        test_sets={
            "test": ParallelText(["six"], ["sechs"]),
            "test_2016_flickr": ParallelText(["five"], ["fünf"]),
        },
        unlabelled=["seven", "eight"],
    )
    assert list(corpus.test_sets) == ["test", "test_2016_flickr"]


def test_the_pair_says_which_side_is_the_source(tmp_path: Path) -> None:
    corpus = read_corpus(str(write(tmp_path, SETS | {"unlabelled.en": "seven\n"})), "de-en")
    assert corpus.train.sources == ["eins", "zwei", "drei"]
    assert corpus.train.targets == ["one", "two", "three"]
    assert corpus.unlabelled == []


@pytest.mark.parametrize("name", ["validation", "valid", "dev"])
def test_other_names_of_the_validation_set(tmp_path: Path, name: str) -> None:
    files = {key.replace("val", name): text for key, text in SETS.items()}
    assert read_corpus(str(write(tmp_path, files))).validation.sources == ["four"]


def test_only_a_newline_ends_a_line_and_surrounding_space_goes(tmp_path: Path) -> None:
    source = "\ufeff one\u2028still one \r\ntwo\x0b\x85\x1cb\rtwo\u2029\n\tthree\xa0\n"
    corpus = read_corpus(str(write(tmp_path, SETS | {"train.en": source})))
    assert corpus.train.sources == ["one\u2028still one", "two\x0b\x85\x1cb\rtwo", "three"]


def test_unlabelled_lines_lose_repeats_and_every_known_source(tmp_path: Path) -> None:
    unlabelled = "nine\none\nfour\nnine\nfive\nsix\neins\nten\n"
    corpus = read_corpus(str(write(tmp_path, SETS | {"unlabelled.en": unlabelled})))
    assert corpus.unlabelled == ["nine", "eins", "ten"]
    assert corpus.unlabelled_removed == 5


BROKEN: dict[str, tuple[dict[str, str | bytes], list[str]]] = {
    "misaligned": (
        {"train.de": "eins\nzwei\n"},
        ["train.en has 3 lines", "train.de has 2", "same number"],
    ),
    "bad UTF-8": (
        {"train.de": b"eins\nz\xffei\ndrei\n"},
        ["train.de:2:", "0xff at byte 1 ", "byte 6 of the file"],
    ),
    "bad UTF-8 in gzip": ({"val.de.gz": b"vier\n\xc3"}, ["val.de.gz:2:", "0xc3", "expected UTF-8"]),
    "empty line": ({"train.de": "eins\n\ndrei\n"}, ["train.de:2:", "empty line"]),
    "white line": ({"train.en": "one\ntwo\n \u2003 \n"}, ["train.en:3:", "empty line"]),
    "empty line at the end": ({"train.en": "one\ntwo\nthree\n\n"}, ["train.en:4:", "empty line"]),
    "empty unlabelled line": ({"unlabelled.en": "a\n\nb\n"}, ["unlabelled.en:2:", "empty line"]),
    "empty file": ({"test.de": ""}, ["test.de", "file is empty"]),
    "both plain and gzip": ({"train.en.gz": "one\n"}, ["train.en and", "train.en.gz", "expected one"]),
    "TSV and two files": ({"train.tsv": "one\teins\n"}, ["train.tsv", "train.en", "TSV file or"]),
    "two validation sets": ({"dev.tsv": "a\tb\n"}, ["val and dev", "expected one validation set"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_text_is_named_with_file_and_line(tmp_path: Path, case: str) -> None:
    files, expected = BROKEN[case]
    write(tmp_path, SETS | files)
    with pytest.raises(ValueError, match=r"expected") as caught:
        read_corpus(str(tmp_path))
    for part in expected:
        assert part in str(caught.value)


def test_a_truncated_gzip_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, SETS)
    whole = (tmp_path / "val.de.gz").read_bytes()
    for broken in (whole[:-6], b"not gzip at all", whole[:10] + b"\xff" + whole[11:]):
        (tmp_path / "val.de.gz").write_bytes(broken)
        with pytest.raises(ValueError, match=r"val\.de\.gz: not a whole gzip file"):
            read_corpus(str(tmp_path))


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        (["train.de"], r"train\.en has no other side: expected .*train\.de or .*train\.de\.gz"),
        (["test_2016_flickr.en"], r"expected .*test_2016_flickr\.en"),
        (["train.en", "train.de"], r"no train set for en-de.*found test, test_2016_flickr, val"),
        (["val.en.gz", "val.de.gz"], r"no validation set .*expected one named 'val'"),
        ([name for name in SETS if name.startswith("test")], r"no test set .*found train, val"),
        ([name for name in SETS if "train" not in name], r"no validation set .*found train$"),
        (list(SETS), r"no train set .*found no set at all"),
    ],
)
def test_a_missing_side_or_set_is_named(tmp_path: Path, gone: list[str], expected: str) -> None:
    write(tmp_path, {name: text for name, text in SETS.items() if name not in gone})
    with pytest.raises(FileNotFoundError, match=expected):
        read_corpus(str(tmp_path))


def test_data_that_is_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"nowhere.*folder of parallel text.*\.tsv.*hub:NAME.*phrasebook"
    ):
        read_corpus(str(tmp_path / "nowhere"))
    (tmp_path / "pairs.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match=r"pairs\.csv.*expected a folder, a file \.tsv"):
        read_corpus(str(tmp_path / "pairs.csv"))


@pytest.mark.parametrize("pair", ["en", "en-", "-de", "en-en", "en-de-fr", ""])
def test_a_pair_is_two_languages(tmp_path: Path, pair: str) -> None:
    with pytest.raises(ValueError, match=r"pair: got .*expected two languages"):
        read_corpus(str(write(tmp_path, SETS)), pair)


def test_test_sets_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    """The order is part of the fingerprint; that of file names is another ("test-a.tsv" < "test.tsv")."""
    files = {"train.tsv": "a\tb", "val.tsv": "c\td", "test.tsv": "e\tf", "test-a.tsv": "g\th"}
    assert list(read_corpus(str(write(tmp_path, files))).test_sets) == ["test", "test-a"]


# -- TSV --


def test_a_folder_of_tsv_files_reads_as_one_of_pairs_of_files(tmp_path: Path) -> None:
    tables = {
        "train.tsv.gz": "one\teins\ntwo\tzwei\nthree\tdrei\n",
        "val.tsv": "four\tvier\n",
        "test.tsv": "six\tsechs\n",
        "test_2016_flickr.tsv": "five \t fünf\r\n",
    }
    as_tables = read_corpus(str(write(tmp_path / "tables", tables)))
    as_files = read_corpus(str(write(tmp_path / "files", SETS)))
    assert as_tables.fingerprint() == as_files.fingerprint()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("alone", r"train\.tsv:2: got 1 columns, expected 2"),
        ("a\tb\tc", r"train\.tsv:2: got 3 columns, expected 2"),
        ("a\t ", r"train\.tsv:2: second column: got an empty line"),
        ("\tb", r"train\.tsv:2: first column: got an empty line"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, expected: str) -> None:
    (tmp_path / "train.tsv").write_text(f"one\teins\n{row}\nthree\tdrei\n")
    with pytest.raises(ValueError, match=expected):
        read_corpus(str(tmp_path / "train.tsv"))


def pairs_of(text: ParallelText) -> list[tuple[str, str]]:
    return list(zip(text.sources, text.targets, strict=True))


def test_a_tsv_file_is_split_by_seed_and_source(tmp_path: Path) -> None:
    pairs = [(f"source {i % 150}", f"target {i}") for i in range(200)]  # 50 sources come twice
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    corpus = read_corpus(str(path))
    parts = [corpus.train, corpus.validation, corpus.test_sets["test"]]
    assert corpus.name == "pairs"
    assert sorted(pair for part in parts for pair in pairs_of(part)) == sorted(pairs)
    for part in parts:
        assert pairs_of(part) == [pair for pair in pairs if pair in set(pairs_of(part))], "order is kept"
    held_out = [len(corpus.validation), len(corpus.test_sets["test"])]
    assert all(size in (20, 21) for size in held_out)  # a tenth, and at most one more of a repeated source
    sources = [set(part.sources) for part in parts]
    assert sum(map(len, sources)) == len(set.union(*sources)) == 150
    assert read_corpus(str(path)).fingerprint() == corpus.fingerprint()
    assert read_corpus(str(path), split_seed=1).fingerprint() != corpus.fingerprint()


def test_a_large_tsv_file_holds_out_a_thousand_whatever_the_order_of_its_rows(tmp_path: Path) -> None:
    rows = [f"source {i}\ttarget {i}\n" for i in range(12_000)]
    (tmp_path / "a.tsv").write_text("".join(rows))
    corpus = read_corpus(str(tmp_path / "a.tsv"))
    assert [len(corpus.train), len(corpus.validation), len(corpus.test_sets["test"])] == [10_000, 1000, 1000]
    (tmp_path / "b.tsv").write_text("".join(reversed(rows)))
    again = read_corpus(str(tmp_path / "b.tsv"))
    assert set(again.test_sets["test"].sources) == set(corpus.test_sets["test"].sources)


@pytest.mark.parametrize(("sources", "fits"), [(2, False), (3, True)])
def test_three_sources_are_the_fewest_to_split(tmp_path: Path, sources: int, fits: bool) -> None:
    path = tmp_path / "few.tsv"
    path.write_text("".join(f"source {i % sources}\ttarget {i}\n" for i in range(90)))
    if fits:
        corpus = read_corpus(str(path))
        assert [len(t) for t in (corpus.train, corpus.validation, corpus.test_sets["test"])] == [30, 30, 30]
    else:
        with pytest.raises(ValueError, match=r"few\.tsv: got 2 different sources, expected at least 3"):
            read_corpus(str(path))


@pytest.mark.parametrize("seed", range(6))
def test_no_set_is_left_empty_however_the_sources_fall(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "uneven.tsv"
    path.write_text("rare\tx\nother\ty\n" + "often\tz\n" * 88)
    corpus = read_corpus(path, split_seed=seed)
    assert sorted(len(t) for t in (corpus.train, corpus.validation, corpus.test_sets["test"])) == [1, 1, 88]


# -- fingerprint and head --


def tiny(**changes: object) -> Corpus:
    text = ParallelText(["a", "b"], ["x", "y"])
    corpus = Corpus("tiny", ("en", "de"), text, text, {"test": text}, ["c", "d"])
    return replace(corpus, **changes)  # type: ignore[arg-type]


def test_the_fingerprint_changes_with_any_text_order_or_name() -> None:
    text = ParallelText(["a", "b"], ["x", "y"])
    others = [
        tiny(pair=("de", "en")),
        tiny(train=ParallelText(["a", "b"], ["x", "z"])),
        tiny(train=ParallelText(["b", "a"], ["y", "x"])),
        tiny(train=ParallelText(["x", "y"], ["a", "b"])),
        tiny(train=ParallelText(["a\nb"], ["x\ny"])),
        tiny(validation=ParallelText(["a"], ["x"])),
        tiny(test_sets={"test_2016": text}),
        tiny(test_sets={"test": text, "test_2016": text}),
        tiny(unlabelled=["d", "c"]),
        tiny(unlabelled=["cd"]),
        tiny(unlabelled=[]),
    ]
    assert len({corpus.fingerprint() for corpus in [tiny(), *others]}) == len(others) + 1
    assert tiny(name="elsewhere").fingerprint() == tiny().fingerprint()


def test_the_fingerprint_is_the_same_in_another_process(tmp_path: Path) -> None:
    write(tmp_path, SETS)
    code = (
        "import sys; from kdlab.text.parallel import read_corpus\n"
        "print(read_corpus(sys.argv[1]).fingerprint())"
    )
    root = Path(__file__).parents[2]
    run = [sys.executable, "-c", code, str(tmp_path)]
    seen = {
        subprocess.run(
            run, cwd=root, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {read_corpus(str(tmp_path)).fingerprint() + "\n"}


def test_the_fingerprint_does_not_change_between_versions() -> None:
    """A teacher kept under a fingerprint would be lost if the way to make one changed unnoticed."""
    sets = "".join(f'["{name}", ["a", "b"], ["x", "y"]]' for name in ("train", "validation", "test"))
    content = f'["en", "de"]{sets}["c", "d"]'
    assert tiny().fingerprint() == hashlib.sha256(content.encode()).hexdigest()


def test_head_cuts_every_set() -> None:
    many = ParallelText([f"s{i}" for i in range(9)], [f"t{i}" for i in range(9)])
    corpus = Corpus("many", ("en", "de"), many, many, {"test": many}, [f"u{i}" for i in range(20)], 7).head(2)
    first = ParallelText(["s0", "s1"], ["t0", "t1"])
    assert corpus == Corpus(
        "many", ("en", "de"), first, first, {"test": first}, [f"u{i}" for i in range(8)], 7
    )
    with pytest.raises(ValueError, match="pairs: got 0, expected at least 1"):
        corpus.head(0)


def test_sides_of_different_length_are_no_parallel_text() -> None:
    with pytest.raises(ValueError, match="targets: got 1"):
        ParallelText(["a", "b"], ["x"])


# -- the hub, through the same loader: `datasets` reads a folder of jsonl files as it reads a repository --


@pytest.fixture
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = pytest.importorskip("datasets").config
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def write_jsonl(folder: Path, splits: dict[str, list[dict[str, object]]]) -> str:
    write(
        folder,
        {f"{name}.jsonl": "".join(json.dumps(row) + "\n" for row in rows) for name, rows in splits.items()},
    )
    return f"hub:{folder}"


@pytest.mark.parametrize("style", ["translation", "columns"])
def test_a_hub_data_set(datasets_cache: Path, style: str) -> None:
    def row(en: str, de: str) -> dict[str, object]:
        sides: dict[str, object] = {"de": de, "en": en}
        return {"translation": sides, "id": 1} if style == "translation" else sides | {"id": 1}

    data = write_jsonl(
        datasets_cache / style,
        {
            "train": [row(" one", "eins\n"), row("two", "zwei\r\nzwei")],
            "validation": [row("four", "vier")],
            "test": [row("six", "sechs")],
        },
    )
    corpus = read_corpus(data)
    assert pairs_of(corpus.train) == [("one", "eins"), ("two", "zwei  zwei")]
    assert pairs_of(corpus.validation) == [("four", "vier")]
    assert {name: pairs_of(text) for name, text in corpus.test_sets.items()} == {"test": [("six", "sechs")]}


def test_a_hub_data_set_with_train_alone_is_split(datasets_cache: Path) -> None:
    rows: list[dict[str, object]] = [{"en": f"s{i}", "de": f"t{i}"} for i in range(50)]
    corpus = read_corpus(write_jsonl(datasets_cache / "alone", {"train": rows}))
    assert [len(t) for t in (corpus.train, corpus.validation, corpus.test_sets["test"])] == [40, 5, 5]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"en": "two", "de": None}, r"split train, row 1: got None, expected text in 'de'"),
        ({"en": "", "de": "zwei"}, r"split train, row 1, en: got an empty line"),
    ],
)
def test_a_bad_hub_row_is_named(datasets_cache: Path, row: dict[str, object], expected: str) -> None:
    good: dict[str, object] = {"en": "one", "de": "eins"}
    data = write_jsonl(datasets_cache / "bad", {"train": [good, row, good], "test": [good]})
    with pytest.raises(ValueError, match=expected):
        read_corpus(data)


def test_hub_columns_of_other_languages_are_named(datasets_cache: Path) -> None:
    data = write_jsonl(datasets_cache / "other", {"train": [{"en": "one", "fr": "un"}]})
    with pytest.raises(ValueError, match=r"got columns \['en', 'fr'\], expected 'translation' or 'de'"):
        read_corpus(data)


def test_without_a_network_the_hub_names_the_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def unreachable(*_: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    expected = (
        r"hub:some/corpus could not be read \(Couldn't reach.*folder of parallel text.*\.tsv file.*phrasebook"
    )
    with pytest.raises(ValueError, match=expected):
        read_corpus("hub:some/corpus")


def test_a_hub_name_may_end_in_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *given: asked.append(given) or {})
    for data in ("hub:some/corpus", "hub:some/corpus:de-en"):
        with pytest.raises(FileNotFoundError, match="no train set"):
            read_corpus(data)
    assert asked == [("some/corpus", None), ("some/corpus", "de-en")]
