"""Parallel text from a folder, a TSV file or the Hugging Face hub, checked line by line.

Line N of the source is the translation of line N of the target, so one lost line spoils every pair after it.
That is why nothing here is skipped or mended in silence: whatever does not fit is an error with its file and
line.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdlab.text.phrasebook import Pair

logger = logging.getLogger(__name__)

VALIDATION_NAMES = ("val", "validation", "valid", "dev")
HELD_OUT_PAIRS = (
    1000  # validation and test set cut from text without splits, each: this many, or a tenth if fewer
)


@dataclass(frozen=True)
class ParallelText:
    """Sentences and their translations: `targets[i]` translates `sources[i]`."""

    sources: list[str]
    targets: list[str]

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.targets):
            raise ValueError(
                f"targets: got {len(self.targets)} lines, expected {len(self.sources)}, as many as sources"
            )

    def __len__(self) -> int:
        return len(self.sources)

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> ParallelText:
        """The phrasebook's pairs as a text.

        >>> from kdlab.text.phrasebook import Phrasebook
        >>> len(ParallelText.of(Phrasebook("small").sample(3, seed=0)))
        3
        """
        kept = list(pairs)
        return cls([pair.source for pair in kept], [pair.target for pair in kept])


@dataclass(frozen=True)
class Corpus:
    """All the text of one experiment. `unlabelled`: more sources, without translations; distillation's D'.

    `unlabelled_removed` counts the lines that were taken out of it: repeats, and sources of the sets above.
    """

    name: str
    pair: tuple[str, str]
    train: ParallelText
    validation: ParallelText
    test_sets: dict[str, ParallelText]
    unlabelled: list[str]
    unlabelled_removed: int = 0

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the languages, the names of the sets and all text in its order.

        Two corpora have the same one if, and only if, models trained on them see the same text: it does not
        depend on the machine, the run, where the text lies, or the corpus's own `name`.
        """
        digest = hashlib.sha256(json.dumps(self.pair).encode())
        for name, text in (("train", self.train), ("validation", self.validation), *self.test_sets.items()):
            digest.update(json.dumps([name, text.sources, text.targets]).encode())
        digest.update(json.dumps(self.unlabelled).encode())
        return digest.hexdigest()

    def head(self, pairs: int) -> Corpus:
        """The same corpus cut down for quick runs: the first `pairs` of every set, 4 * `pairs` unlabelled.

        >>> text = ParallelText(["a", "b"], ["x", "y"])
        >>> Corpus("letters", ("en", "de"), text, text, {"test": text}, []).head(1).train
        ParallelText(sources=['a'], targets=['x'])
        """
        if pairs < 1:
            raise ValueError(f"pairs: got {pairs}, expected at least 1")

        def cut(text: ParallelText) -> ParallelText:
            return ParallelText(text.sources[:pairs], text.targets[:pairs])

        return replace(
            self,
            train=cut(self.train),
            validation=cut(self.validation),
            test_sets={name: cut(text) for name, text in self.test_sets.items()},
            unlabelled=self.unlabelled[: 4 * pairs],
        )


def read_corpus(data: str | Path, pair: str = "en-de", *, split_seed: int = 0) -> Corpus:
    """Read parallel text. `pair` names the languages, source first. `data` is one of:

    - A folder with `train`, `val` (or `validation`, `valid`, `dev`) and one or more `test*` sets, each as
      `train.en` and `train.de` or as `train.tsv`; `unlabelled.en`, if there, is more source text without
      translations.
    - A `.tsv` file, a row being source, tab, target. It has no sets, so one is held out for validation and
      one for test, 1,000 pairs each, or a tenth where there are fewer than 10,000. A SHA-256 of `split_seed`
      and the source decides who goes where: the same on every machine, and all pairs of one source stay
      together, so no test source is trained on.
    - `hub:NAME` or `hub:NAME:CONFIGURATION`, read by Hugging Face `datasets`: rows {"translation": {"en":
      ..., "de": ...}}, or a column for each language. Splits as the sets above; where there is only `train`,
      it is split as a TSV file is.

    Files are UTF-8, and may end in `.gz`. Lines end at "\\n" alone (a U+2028 within a sentence does not cut
    it); surrounding white space is dropped. Unlabelled lines that repeat, or that are a source in any of the
    sets, are removed.

    Raises: FileNotFoundError if the data, a set or one side of it is missing. ValueError with file and line
    for an empty line, bad UTF-8, sides of different length or a row without two columns; for a hub data set,
    with split and row.

    >>> import tempfile
    >>> sides = {"train.en": "a\\nb\\n", "train.de": "x\\ny\\n", "val.tsv": "c\\tz\\n", "test.tsv": "d\\tw\\n"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, text in sides.items():
    ...         _ = (Path(folder) / name).write_text(text, encoding="utf-8")
    ...     read_corpus(folder).train
    ParallelText(sources=['a', 'b'], targets=['x', 'y'])
    """
    data = str(data)
    languages = _languages(pair)
    path = Path(data)
    unlabelled: list[str] = []
    if data.startswith("hub:"):
        name = data.removeprefix("hub:")
        sets = _read_hub(name, languages)
    elif path.is_dir():
        name = path.resolve().name
        sets, unlabelled = _read_folder(path, languages)
    elif path.is_file() and path.name.removesuffix(".gz").endswith(".tsv"):
        name = path.name.removesuffix(".gz").removesuffix(".tsv")
        sets = {"train": _read_tsv(path)}
    elif path.exists():
        raise ValueError(f"data: got {data!r}, expected a folder, a file .tsv or .tsv.gz, or hub:NAME")
    else:
        raise FileNotFoundError(
            f"data: no {data!r} here, expected a folder of parallel text, a .tsv file, hub:NAME or phrasebook"
        )
    if set(sets) == {"train"} and not path.is_dir():
        sets = _split(sets["train"], split_seed, data)
    return _corpus(name, languages, sets, unlabelled, data)


def _languages(pair: str) -> tuple[str, str]:
    source, dash, target = pair.partition("-")
    if not (dash and source and target) or "-" in target or source == target:
        raise ValueError(f"pair: got {pair!r}, expected two languages, source first, such as 'en-de'")
    return source, target


def _corpus(
    name: str, pair: tuple[str, str], sets: Mapping[str, ParallelText], unlabelled: list[str], data: str
) -> Corpus:
    validations = [key for key in VALIDATION_NAMES if key in sets]
    tests = {key: sets[key] for key in sorted(sets) if key.startswith("test")}
    for title, expected, found in (
        ("train", "'train'", "train" in sets),
        ("validation", "'val'", bool(validations)),
        ("test", "'test' or 'test_...'", bool(tests)),
    ):
        if not found:
            raise FileNotFoundError(
                f"{data}: there is no {title} set for {'-'.join(pair)}, expected one named {expected}; "
                f"found {', '.join(sorted(sets)) or 'no set at all'}"
            )
    if len(validations) > 1:
        raise ValueError(f"{data}: got {' and '.join(validations)}, expected one validation set")
    known = {source for text in sets.values() for source in text.sources}
    kept = [line for line in dict.fromkeys(unlabelled) if line not in known]
    removed = len(unlabelled) - len(kept)
    if removed:
        logger.info("%s: removed %d of %d unlabelled lines: repeats or known", data, removed, len(unlabelled))
    return Corpus(name, pair, sets["train"], sets[validations[0]], tests, kept, removed)


# -- files --


def _read_folder(folder: Path, pair: tuple[str, str]) -> tuple[dict[str, ParallelText], list[str]]:
    source, target = pair
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        stem, _, kind = path.name.removesuffix(".gz").rpartition(".")
        is_set = stem in ("train", *VALIDATION_NAMES) or stem.startswith("test")
        if (is_set and kind in (source, target, "tsv")) or (stem, kind) == ("unlabelled", source):
            sides = files.setdefault(stem, {})
            if kind in sides:
                raise ValueError(
                    f"{folder}: got both {sides[kind].name} and {path.name}, expected one of them"
                )
            sides[kind] = path
    unlabelled = files.pop("unlabelled", None)
    sets = {stem: _read_set(folder / stem, sides, pair) for stem, sides in files.items()}
    return sets, _read_lines(unlabelled[source]) if unlabelled else []


def _read_set(stem: Path, sides: Mapping[str, Path], pair: tuple[str, str]) -> ParallelText:
    if "tsv" in sides:
        if len(sides) > 1:
            names = " and ".join(path.name for path in sides.values())
            raise ValueError(f"{stem.parent}: got {names}, expected a TSV file or one file for each language")
        return _read_tsv(sides["tsv"])
    for here, missing in (pair, pair[::-1]):
        if missing not in sides:
            raise FileNotFoundError(
                f"{sides[here]} has no other side: expected {stem}.{missing} or {stem}.{missing}.gz"
            )
    first, second = (sides[language] for language in pair)
    sources, targets = _read_lines(first), _read_lines(second)
    if len(sources) != len(targets):
        raise ValueError(
            f"{first} has {len(sources)} lines and {second} has {len(targets)}: expected the same number, "
            "line N of one being the translation of line N of the other"
        )
    return ParallelText(sources, targets)


def _read_tsv(path: Path) -> ParallelText:
    rows = [line.split("\t") for line in _text(path)]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise ValueError(f"{path}:{number}: got {len(row)} columns, expected 2: source, tab, target")
    where = "{}:{}: {} column".format
    sources = _stripped((row[0] for row in rows), lambda number: where(path, number, "first"))
    targets = _stripped((row[1] for row in rows), lambda number: where(path, number, "second"))
    return ParallelText(sources, targets)


def _read_lines(path: Path) -> list[str]:
    return _stripped(_text(path), lambda number: f"{path}:{number}")


def _stripped(lines: Iterable[str], where: Callable[[int], str]) -> list[str]:
    stripped = [line.strip() for line in lines]
    if "" in stripped:
        raise ValueError(f"{where(stripped.index('') + 1)}: got an empty line, expected a sentence")
    return stripped


def _text(path: Path) -> list[str]:
    """The lines of a file, cut at "\\n" only: str.splitlines would cut at U+2028 and others too."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a whole gzip file ({error})") from error
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = error.start - (data.rfind(b"\n", 0, error.start) + 1)
        raise ValueError(
            f"{path}:{line}: got 0x{data[error.start]:02x} at byte {byte} of the line, byte {error.start} of "
            f"the file; expected UTF-8 ({error.reason})"
        ) from error
    if not text:
        raise ValueError(f"{path}: the file is empty, expected a sentence on each line")
    return text.removesuffix("\n").split("\n")


# -- text without sets --


def _split(text: ParallelText, seed: int, data: str) -> dict[str, ParallelText]:
    def rank(source: str) -> str:
        return hashlib.sha256(f"{seed}\t{source}".encode()).hexdigest()

    rows: dict[str, list[int]] = {}
    for row, source in enumerate(text.sources):
        rows.setdefault(source, []).append(row)
    if len(rows) < 3:
        raise ValueError(
            f"{data}: got {len(rows)} different sources, expected at least 3 for train, validation and test"
        )
    ranked = sorted(rows, key=rank)
    wanted = max(1, min(HELD_OUT_PAIRS, len(text) // 10))
    parts: dict[str, list[int]] = {"test": [], "val": [], "train": []}
    for name in ("test", "val"):
        # Always leave a source for each set that is still to be filled.
        while len(parts[name]) < wanted and len(ranked) > 1 + (name == "test"):
            parts[name] += rows[ranked.pop()]
    parts["train"] = [row for source in ranked for row in rows[source]]
    return {
        name: ParallelText([text.sources[i] for i in sorted(part)], [text.targets[i] for i in sorted(part)])
        for name, part in parts.items()
    }


# -- the hub --


def _read_hub(name: str, pair: tuple[str, str]) -> dict[str, ParallelText]:
    repository, _, configuration = name.partition(":")
    try:
        from datasets import load_dataset

        splits: Mapping[str, Any] = load_dataset(repository, configuration or None)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(
            f"data: hub:{name} could not be read ({error}). Two ways need no network: a folder of parallel "
            f"text (train, val, test*, each .{pair[0]} and .{pair[1]}) or a .tsv file; or use phrasebook"
        ) from error
    sets = {}
    for split, rows in splits.items():
        if split == "train" or split in VALIDATION_NAMES or split.startswith("test"):
            where = f"hub:{name}, split {split}"
            sets[split] = ParallelText(*(_column(rows, language, where) for language in pair))
    return sets


def _column(rows: Any, language: str, where: str) -> list[str]:
    columns: list[str] = rows.column_names
    if language in columns:
        cells = rows[language][:]
    elif "translation" in columns:
        cells = [row.get(language) for row in rows["translation"][:]]
    else:
        raise ValueError(f"{where}: got columns {columns}, expected 'translation' or {language!r}")
    for number, cell in enumerate(cells):
        if not isinstance(cell, str):
            raise ValueError(f"{where}, row {number}: got {cell!r}, expected text in {language!r}")
    # A line break within a row would become two lines as soon as the text is written to a file.
    lines = (cell.replace("\r", " ").replace("\n", " ") for cell in cells)
    return _stripped(lines, lambda number: f"{where}, row {number - 1}, {language}")
