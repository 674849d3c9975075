"""Run an exported folder: CTranslate2, or ONNX with a greedy search written here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.export import RECORD, is_exported, require_packages
from kdlab.export_onnx import DECODER, ENCODER
from kdlab.files import read_json
from kdlab.generation import Runtime, Search, cut_after_eos, length_limit
from kdlab.text.batches import pad_sources

if TYPE_CHECKING:
    from numpy.typing import NDArray


def load_exported(folder: str | Path, threads: int = 0) -> Runtime:
    """A model that `export_model` wrote, ready for `kdlab.generation.translate`; its tokenizer lies in the folder too.

    Args:
        folder: where `export_model` wrote it.
        threads: how many a batch is spread over; 0 leaves it to the runtime.

    Raises: ValueError if the folder is no export, or its runtime is not installed.

    >>> load_exported("nowhere")
    Traceback (most recent call last):
    ValueError: folder: got nowhere, which holds no export, expected one that `kdlab export` wrote
    """
    folder = Path(folder)
    if not is_exported(folder):
        raise ValueError(
            f"folder: got {folder}, which holds no export, expected one that `kdlab export` wrote"
        )
    record = read_json(folder / RECORD) or {}
    require_packages(record["runtime"])
    kind = OnnxModel if record["runtime"] == "onnx" else CTranslate2Model
    return kind(folder, record, threads)


# CTranslate2's beam search ends when PATIENCE * num_beams translations have ended, transformers' when no longer one can
# win any more. Of 1,000 sentences (Multi30k, a trained teacher, 4 beams) 962 are the same at 1, its default, 995 at 2.
PATIENCE = 2.0


class CTranslate2Model:
    """Greedy and beam search by CTranslate2, on the CPU; its beam search differs a little from transformers'.

    >>> import tempfile
    >>> from kdlab.export import export_model
    >>> from kdlab.generation import search_batch
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a b c"], 300)
    >>> model = new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record = export_model(model, tokenizer, "ctranslate2", f"{folder}/export", int8=False)
    ...     found = CTranslate2Model(Path(folder) / "export", record).search_batch([[5, 1]], Search())
    >>> found == search_batch(model, [[5, 1]], Search())
    True
    """

    def __init__(self, folder: Path, record: dict[str, Any], threads: int = 0):
        import ctranslate2

        self.record = record
        self.tokens = json.loads((folder / "shared_vocabulary.json").read_text(encoding="utf-8"))
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        self.translator = ctranslate2.Translator(str(folder), device="cpu", intra_threads=threads)

    def search_batch(self, sources: Sequence[Sequence[int]], search: Search) -> list[list[int]]:
        """Target ids of each source, as `kdlab.generation.search_batch`."""
        _refuse_sampling(search)
        results = self.translator.translate_batch(
            [[self.tokens[token] for token in ids] for ids in sources],
            beam_size=search.num_beams,
            max_decoding_length=_limit(sources, self.record),
            min_decoding_length=0,  # its default of 1 forbids the empty translation, which transformers allows
            max_input_length=0,
            patience=PATIENCE,
            return_end_token=True,
        )
        # For a source of eos alone the runtime returns nothing at all: an empty translation, which is ended.
        eos = [self.record["eos_token_id"]]
        return [[self.ids[token] for token in result.hypotheses[0]] or eos for result in results]


class OnnxModel:
    """Greedy search over the two graphs that `kdlab.export_onnx` describes, by onnxruntime on the CPU.

    >>> import tempfile
    >>> from kdlab.export import export_model
    >>> from kdlab.generation import search_batch
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a b c"], 300)
    >>> model = new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record = export_model(model, tokenizer, "onnx", f"{folder}/export", int8=False)
    ...     found = OnnxModel(Path(folder) / "export", record).search_batch([[5, 1]], Search())
    >>> found == search_batch(model, [[5, 1]], Search())
    True
    """

    def __init__(self, folder: Path, record: dict[str, Any], threads: int = 0):
        self.record = record
        self.encoder = _onnx_session(folder / ENCODER, threads)
        self.decoder = _onnx_session(folder / DECODER, threads)

    def search_batch(self, sources: Sequence[Sequence[int]], search: Search) -> list[list[int]]:
        """Target ids of each source, as `kdlab.generation.search_batch`."""
        _refuse_sampling(search)
        if search.num_beams != 1:
            raise ValueError(
                f"num_beams: got {search.num_beams}, expected 1: an ONNX export is decoded greedily"
            )
        start, eos, pad = (self.record[f"{name}_token_id"] for name in ("decoder_start", "eos", "pad"))
        state = self.encode(sources)
        token = np.full((len(sources), 1), start, dtype=np.int64)
        chosen: list[NDArray[np.int64]] = []
        ended = np.zeros(len(sources), dtype=bool)
        while len(chosen) < _limit(sources, self.record) and not ended.all():
            logits = self.step(token, state)
            token = np.where(ended, pad, logits.argmax(-1))[:, None]
            ended |= token[:, 0] == eos
            chosen.append(token)
        return [cut_after_eos(row, eos) for row in np.concatenate(chosen, axis=1).tolist()]

    def encode(self, sources: Sequence[Sequence[int]]) -> dict[str, NDArray[Any]]:
        """What the decoder needs of the sources, before its first step."""
        input_ids, mask = (padded.numpy() for padded in pad_sources(sources, self.record["pad_token_id"]))
        (memory,) = self.encoder.run(None, {"input_ids": input_ids, "attention_mask": mask})
        layers, heads, size = (self.record[name] for name in ("decoder_layers", "heads", "head_size"))
        past = np.zeros((layers, 2, len(sources), heads, 0, size), dtype=np.float32)
        return {"attention_mask": mask, "memory": memory, "past": past}

    def step(self, token: NDArray[np.int64], state: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Logits [batch, vocabulary] after one more token [batch, 1]; `state` moves on."""
        logits, state["past"] = self.decoder.run(None, {"input_ids": token, **state})
        return logits  # type: ignore[no-any-return]


def _onnx_session(path: Path, threads: int = 0) -> Any:
    """An onnxruntime session on the CPU, quiet."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors alone
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _refuse_sampling(search: Search) -> None:
    if search.sample:
        raise ValueError("sample: got True, expected False: an exported model searches, it does not sample")


def _limit(sources: Sequence[Sequence[int]], record: dict[str, Any]) -> int:
    return length_limit(max(map(len, sources)), record["positions"])
