"""Two ONNX graphs from a MarianMTModel, with a key-value cache, for onnxruntime on a computer, a phone or a page.

`encoder.onnx`, once a sentence: `input_ids` and `attention_mask` [batch, source] (int64; 1 is a token, 0 padding) ->
`memory` [layers, 2, batch, heads, source, size], the keys and values of every decoder layer's attention to the source.

`decoder.onnx`, once a token: `input_ids` [batch, 1], the start token first, `attention_mask` and `memory`, and `past`
[layers, 2, batch, heads, tokens so far, size], of length 0 first -> `logits` [batch, vocabulary] and `present`, the
next `past`. The suppressed tokens have their bias in the logits, so greedy search is the argmax, until eos.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from kdlab.export import check_difference, decoder_facts, probe, reference_logits
from kdlab.onnx_graph import write_decoder, write_encoder
from kdlab.progress import progress_bar

if TYPE_CHECKING:
    from transformers import MarianMTModel, PreTrainedTokenizerBase

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"


def write_onnx(
    model: MarianMTModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, int8: bool
) -> dict[str, float]:
    """Write the two graphs; returns the differences of their logits from the model's.

    Raises: ValueError if the float32 graphs differ from `model`.

    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a b c"], 300)
    >>> model = new_model(Architecture(8, 1, 1, 8), tokenizer, seed=0).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     differences = write_onnx(model, tokenizer, Path(folder), int8=False)
    ...     sorted(path.name for path in Path(folder).iterdir()), differences["difference"] < 1e-4
    (['decoder.onnx', 'encoder.onnx'], True)
    """
    with progress_bar(3 if int8 else 2, "exporting to ONNX", "steps") as bar:
        write_encoder(model, folder / ENCODER)
        write_decoder(model, folder / DECODER)
        bar.update()
        difference = difference_from(model, folder)
        check_difference(difference, "ONNX")
        found = {"difference_float32": difference, "difference": difference}
        bar.update()
        if int8:
            for name in (ENCODER, DECODER):
                _quantise(folder / name)
            found["difference"] = difference_from(model, folder)
            bar.update()
    return found


def difference_from(model: MarianMTModel, folder: Path) -> float:
    """The largest difference between logits of the graphs and of `model`, on one padded batch of random tokens.

    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> tokenizer = train_tokenizer(["a b c"], 300)
    >>> model, other = (new_model(Architecture(8, 1, 1, 8), tokenizer, seed).eval() for seed in (0, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_onnx(model, tokenizer, Path(folder), int8=False)
    ...     difference_from(model, Path(folder)) < 1e-4, difference_from(other, Path(folder)) > 1e-3
    (True, True)
    """
    from kdlab.exported import OnnxModel

    runtime = OnnxModel(folder, decoder_facts(model))
    sources, targets = probe(model)
    state = runtime.encode(sources)
    tokens = np.array([[model.config.decoder_start_token_id, *ids] for ids in targets])
    steps = [runtime.step(tokens[:, [place]], state) for place in range(tokens.shape[1])]
    found = torch.from_numpy(np.stack(steps, axis=1))
    return float((found - reference_logits(model, sources, targets)).abs().max())


def _quantise(path: Path) -> None:
    """8-bit weights in place, by onnxruntime's dynamic quantisation: activations get their scale as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(dir=path.parent) as scratch, _no_advice():
        written = Path(scratch) / path.name
        quantize_dynamic(path, written, weight_type=QuantType.QInt8, per_channel=True)
        written.replace(path)


@contextmanager
def _no_advice() -> Iterator[None]:
    """The quantiser advises a step before it that changes nothing in graphs like ours."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
