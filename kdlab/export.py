"""A trained model for another runtime: CTranslate2 or ONNX, as float32 or int8, checked against the model itself.

An exported folder holds the runtime's files, the tokenizer and `export.json`, and is whole or not there. It runs
through `kdlab.exported.load_exported` or `kdlab translate`.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kdlab.files import process_part, read_json, write_json

if TYPE_CHECKING:
    from transformers import MarianMTModel, PreTrainedModel, PreTrainedTokenizerBase

RECORD = "export.json"
# What must be installed to export and, a part of it, to run.
PACKAGES = {"ctranslate2": ("ctranslate2",), "onnx": ("onnx", "onnxruntime")}
ACTIVATIONS = ("relu", "silu", "swish")  # the last two are one
# The bias of a token that no translation holds; finite, so that no arithmetic makes NaN of it.
SUPPRESSED = -1e4
# float32 in another order of summation: differences of logits up to 20 are some 1e-5.
TOLERANCE = 1e-3


def export_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    to: str,
    out: str | Path,
    *,
    int8: bool = False,
) -> dict[str, Any]:
    """Write `model` for another runtime into the folder `out`.

    The exported float32 model runs on random token ids before anything is written; if it differs from `model`, the
    export is refused. int8 quantises the weights of the one that passed, and its distance is written down.

    Args:
        model: a MarianMTModel as `kdlab.students.new_model` makes it, trained. It is not changed.
        tokenizer: its tokenizer.
        to: "ctranslate2" or "onnx".
        out: a new or an empty folder, or an older export, which is replaced.
        int8: 8-bit integer weights. The arithmetic on them is the runtime's.

    Returns:
        What `export.json` holds: the runtime, the token ids and sizes that a decoder needs, `bytes` (of the runtime's
        files), `difference` and `difference_float32`: the largest between log-probabilities (CTranslate2) or logits
        (ONNX) of the export and the model, on random token ids.

    Raises:
        ValueError for an unknown `to`, a missing package (it says which extra to install), a model of another
        kind, an `out` that holds other things, and an export that differs from the model.

    >>> export_model(..., ..., "tflite", "phone")
    Traceback (most recent call last):
    ValueError: to: got 'tflite', expected 'ctranslate2' or 'onnx'
    """
    require_packages(to)
    marian = _reference(check_kind(model, tokenizer))
    out = Path(out).resolve()
    check_out(out)
    with _whole_or_nothing(out) as part:
        if to == "ctranslate2":
            from kdlab.export_ctranslate2 import write_ctranslate2 as write
        else:
            from kdlab.export_onnx import write_onnx as write
        differences = write(marian, tokenizer, part, int8=int8)
        size = sum(path.stat().st_size for path in part.iterdir())
        tokenizer.save_pretrained(part)
        record = {**_record(marian, to, int8), "bytes": size, **differences}
        write_json(part / RECORD, record)
    return record


def require_packages(to: str) -> None:
    """Refuse a runtime that is unknown, or whose packages are not installed.

    >>> require_packages("tflite")
    Traceback (most recent call last):
    ValueError: to: got 'tflite', expected 'ctranslate2' or 'onnx'
    """
    if to not in PACKAGES:
        raise ValueError(f"to: got {to!r}, expected {' or '.join(map(repr, PACKAGES))}")
    missing = [name for name in PACKAGES[to] if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"to: got {to!r}, which needs {', '.join(missing)}, not installed here; expected the extra `deploy`: "
            "pip install 'kdlab[deploy]'"
        )


def check_kind(model: Any, tokenizer: Any) -> MarianMTModel:
    """Return the model, or refuse what the exports, written for those of `new_model`, would get wrong in silence.

    >>> check_kind(torch.nn.Linear(1, 1), tokenizer=None)
    Traceback (most recent call last):
    ValueError: model: got a Linear, expected a MarianMTModel, such as new_model makes with an encoder
    """
    from transformers import MarianMTModel

    if not isinstance(model, MarianMTModel):
        raise ValueError(
            f"model: got a {type(model).__name__}, expected a MarianMTModel, such as new_model makes with an encoder"
        )
    config, generation = model.config, model.generation_config
    pad = config.pad_token_id
    tied = (
        model.lm_head.weight
        is model.model.decoder.embed_tokens.weight
        is model.model.encoder.embed_tokens.weight
    )
    for name, got, wanted in (
        ("one embedding for source, target and output", tied, True),
        ("decoder_start_token_id", config.decoder_start_token_id, pad),
        ("generation_config.decoder_start_token_id", generation.decoder_start_token_id, pad),
        ("generation_config.suppress_tokens", generation.suppress_tokens, [pad]),
        ("forced_eos_token_id", generation.forced_eos_token_id, None),
        ("eos_token_id", generation.eos_token_id, tokenizer.eos_token_id),
        ("vocab_size", config.vocab_size, len(tokenizer)),
    ):
        if got != wanted:
            raise ValueError(
                f"model: got {name} {got!r}, expected {wanted!r}, as in the models that new_model makes"
            )
    if config.activation_function not in ACTIVATIONS:
        raise ValueError(
            f"model: got activation_function {config.activation_function!r}, expected one of {', '.join(ACTIVATIONS)}"
        )
    return model


def check_out(out: Path) -> None:
    """Refuse a folder that holds other things than an export."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: got {out}, which is a file, expected a folder")
    if out.is_dir() and any(out.iterdir()) and not is_exported(out):
        raise ValueError(f"out: got {out}, which holds other things, expected a new or an empty folder")


def is_exported(folder: Path) -> bool:
    """Whether `export_model` wrote the folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     before = is_exported(Path(folder))
    ...     write_json(Path(folder) / RECORD, {"runtime": "onnx"})
    ...     before, is_exported(Path(folder))
    (False, True)
    """
    return "runtime" in (read_json(folder / RECORD) or {})


def output_bias(model: MarianMTModel) -> torch.Tensor:
    """What is added to the logits: the model's own bias, and `SUPPRESSED` for the tokens that no translation holds.

    Shape [vocabulary].

    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> model = new_model(Architecture(8, 1, 1, 8), train_tokenizer(["a b c"], 300), seed=0)
    >>> bias = output_bias(model)
    >>> bias[model.config.pad_token_id].item() == SUPPRESSED, bias[1:].abs().max().item()
    (True, 0.0)
    """
    bias = model.final_logits_bias.detach().reshape(-1).clone()
    bias[model.generation_config.suppress_tokens] = SUPPRESSED
    return bias


def decoder_facts(model: MarianMTModel) -> dict[str, Any]:
    """Token ids and sizes that whoever runs an export needs to know.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> facts = decoder_facts(MarianMTModel(marian_config(Architecture(8, 1, 1, 8, heads=2), vocabulary=20)))
    >>> facts["vocabulary"], facts["heads"], facts["head_size"], facts["eos_token_id"]
    (20, 2, 4, 1)
    """
    config = model.config
    return {
        "decoder_start_token_id": config.decoder_start_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        "vocabulary": config.vocab_size,
        "positions": config.max_position_embeddings,
        "decoder_layers": config.decoder_layers,
        "heads": config.decoder_attention_heads,
        "head_size": config.d_model // config.decoder_attention_heads,
    }


def probe(model: MarianMTModel, rows: int = 4, length: int = 12) -> tuple[list[list[int]], list[list[int]]]:
    """Sources of many lengths and targets of one, as random token ids, to compare an export with the model on.

    Sources end in eos; targets do not. The same for every model of one size.

    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> model = MarianMTModel(marian_config(Architecture(8, 1, 1, 8), vocabulary=20))
    >>> sources, targets = probe(model, rows=3, length=4)
    >>> [len(ids) for ids in sources], [ids[-1] for ids in sources], [len(ids) for ids in targets]
    ([2, 4, 6], [1, 1, 1], [4, 4, 4])
    """
    generator = torch.Generator().manual_seed(0)
    usual = [
        token
        for token in range(model.config.vocab_size)
        if token not in (model.config.pad_token_id, model.config.eos_token_id)
    ]

    def draw(tokens: int) -> list[int]:
        return [usual[i] for i in torch.randint(len(usual), (tokens,), generator=generator).tolist()]

    eos: Any = model.config.eos_token_id
    sources = [[*draw(1 + row * length // 2), eos] for row in range(rows)]
    return sources, [draw(length) for _ in range(rows)]


@torch.no_grad()
def reference_logits(
    model: MarianMTModel, sources: list[list[int]], targets: list[list[int]]
) -> torch.Tensor:
    """The model's logits after the start token and each target token, [rows, length + 1, vocabulary].

    The suppressed tokens get their bias here too. Every source runs alone, without padding.

    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> model = new_model(Architecture(8, 1, 1, 8), train_tokenizer(["a b c"], 300), seed=0).eval()
    >>> logits = reference_logits(model, *probe(model, rows=2, length=4))
    >>> logits.shape, bool((logits[..., 0] < -9e3).all())  # pad, which no translation holds
    (torch.Size([2, 5, 259]), True)
    """
    start = model.config.decoder_start_token_id
    rows = [
        model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[start, *target]])).logits[0]
        for source, target in zip(sources, targets, strict=True)
    ]
    return torch.stack(rows) + (output_bias(model) - model.final_logits_bias.reshape(-1))


def check_difference(difference: float, to: str) -> None:
    """Refuse a float32 export that is not the model."""
    if not difference <= TOLERANCE:  # NaN does not pass either
        raise ValueError(
            f"model: its {to} export differs from it by {difference:.2g}, expected at most {TOLERANCE:g}; nothing was "
            "written. This is a defect of the export or of the installed runtime"
        )


def _reference(model: MarianMTModel) -> MarianMTModel:
    """A copy on the CPU, in float32 and eval mode, with attention in plain operations."""
    own: Any = copy.deepcopy(model)
    own.set_attn_implementation("eager")
    return own.to(device="cpu", dtype=torch.float32).eval()  # type: ignore[no-any-return]


def _record(model: MarianMTModel, to: str, int8: bool) -> dict[str, Any]:
    """What runs the folder needs to know, and what a reader wants to."""
    from importlib.metadata import version

    from kdlab import __version__

    return {
        "runtime": to,
        "int8": int8,
        **decoder_facts(model),
        "versions": {"kdlab": __version__, **{name: version(name) for name in ("torch", *PACKAGES[to])}},
    }


@contextmanager
def _whole_or_nothing(out: Path) -> Iterator[Path]:
    """A folder beside `out` to write into, which takes its place at the end, or goes if anything fails."""
    part = process_part(out)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        before = part.with_name(f"{part.name}.before")
        if out.exists():
            out.replace(before)  # renamed, not removed: a kill in between leaves no half of it under its name
        part.replace(out)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)
