"""The usual wrong answers of notebook 02: counting a model's parameters, choosing by size, agreement.

As in `mistakes.py`: each yields what it gives on the input of a check.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch

from kdlab.classroom.recognition import Call, Mistake, mistake

# --- the parameters of an encoder-decoder model: the exercise takes `config`, a MarianConfig


def _miscounted(sentence: str, off: Callable[[Any], int]) -> Mistake:
    """A count that is off by so many."""
    return Mistake(sentence, lambda call: [call.right() + off(call["config"])])


def _attentions(config: Any) -> int:
    return int(config.encoder_layers + 2 * config.decoder_layers)


def _norms(config: Any) -> int:
    return int(2 * config.encoder_layers + 3 * config.decoder_layers)


def _attention(config: Any) -> int:
    return int(4 * (config.d_model**2 + config.d_model))


def _biases(config: Any) -> int:
    d = config.d_model
    return int(
        _attentions(config) * 4 * d
        + config.encoder_layers * (config.encoder_ffn_dim + d)
        + config.decoder_layers * (config.decoder_ffn_dim + d)
    )


biases_missing = _miscounted("the biases of the linear layers are missing", lambda c: -_biases(c))
norms_missing = _miscounted("the layer norms are missing", lambda c: -2 * c.d_model * _norms(c))
norms_halved = _miscounted(
    "a layer norm has two numbers for each dimension, not one", lambda c: -c.d_model * _norms(c)
)
embedding_missing = _miscounted("the embedding is missing", lambda c: -c.vocab_size * c.d_model)
cross_attention_missing = _miscounted(
    "a decoder layer has a second attention, which reads the encoder: it is missing",
    lambda c: -c.decoder_layers * _attention(c),
)
positions_counted = _miscounted(
    "the positions are counted: they come from a formula, and nothing in them is trained",
    lambda c: 2 * c.max_position_embeddings * c.d_model,
)


@mistake("the embedding is counted more than once: source, target and output share it")
def embedding_repeated(call: Call) -> Iterator[Any]:
    embedding = call["config"].vocab_size * call["config"].d_model
    yield call.right() + embedding
    yield call.right() + 2 * embedding


@mistake(
    "a decoder layer was counted like an encoder layer: its second attention, and the norm of it, are missing"
)
def decoder_like_encoder(call: Call) -> Iterator[Any]:
    config = call["config"]
    yield call.right() - config.decoder_layers * (_attention(config) + 2 * config.d_model)


@mistake("the encoder's number of layers was taken for the decoder too")
def one_depth(call: Call) -> Iterator[Any]:
    config = copy.copy(call["config"])
    config.decoder_layers = config.encoder_layers
    yield call.right(config=config)


@mistake("an attention has four linear layers: the one of its output is missing")
def output_projection_missing(call: Call) -> Iterator[Any]:
    config = call["config"]
    yield call.right() - _attentions(config) * _attention(config) // 4


@mistake("the heads were multiplied in: they share the matrices, and make no more of them")
def heads_multiplied(call: Call) -> Iterator[Any]:
    config = call["config"]
    more = config.encoder_layers * (config.encoder_attention_heads - 1)
    more += 2 * config.decoder_layers * (config.decoder_attention_heads - 1)
    yield call.right() + more * _attention(config)


@mistake("one layer on each side was counted, whatever the number of layers")
def layers_not_multiplied(call: Call) -> Iterator[Any]:
    config = call["config"]
    parts = _layer(config, config.encoder_ffn_dim, 1), _layer(config, config.decoder_ffn_dim, 2)
    yield call.right() - (config.encoder_layers - 1) * parts[0] - (config.decoder_layers - 1) * parts[1]


@mistake("encoder and decoder have their own width of the feed-forward part, and one was taken for both")
def one_ffn_for_both(call: Call) -> Iterator[Any]:
    config = call["config"]
    more = (2 * config.d_model + 1) * (config.encoder_ffn_dim - config.decoder_ffn_dim)
    yield call.right() + config.decoder_layers * more
    yield call.right() - config.encoder_layers * more


def _layer(config: Any, ffn: int, attentions: int) -> int:
    d = config.d_model
    norms = 2 * d * (attentions + 1)
    return int(attentions * _attention(config) + 2 * d * ffn + ffn + d + norms)


# --- a student within a budget: the exercise takes `sizes`, `megabytes` and `bits`


@mistake("the units do not match: a byte has 8 bits, a megabyte 10^6 bytes")
def bits_taken_for_bytes(call: Call) -> Iterator[Any]:
    yield call.right(bits=8 * call["bits"])
    yield call.right(megabytes=call["megabytes"] / 10**6)
    yield call.right(megabytes=call["megabytes"] / 10**3)


@mistake("every parameter was taken to need one byte, whatever `bits` says")
def bits_ignored(call: Call) -> Iterator[Any]:
    yield call.right(bits=8)


@mistake("a megabyte has 10^6 bytes here, not 2^20")
def binary_megabytes(call: Call) -> Iterator[Any]:
    yield call.right(megabytes=call["megabytes"] * 2**20 / 10**6)


@mistake("a student that fills the budget exactly fits as well")
def exact_fit_refused(call: Call) -> Iterator[Any]:
    yield call.right(megabytes=call["megabytes"] * (1 - 1e-9))


@mistake("this one has the most parameters of all kinds: those in the layers count")
def most_parameters(call: Call) -> Iterator[Any]:
    yield call.right(sizes=_fitting(call, lambda parameters, layers: parameters))


@mistake("this is the smallest that fits: the one with the most parameters in its layers is asked for")
def smallest(call: Call) -> Iterator[Any]:
    yield call.right(sizes=_fitting(call, lambda parameters, layers: -parameters))
    yield call.right(sizes=_fitting(call, lambda parameters, layers: -layers))


@mistake("this one is too large: the embedding takes room as well, so all parameters must fit")
def only_layers_must_fit(call: Call) -> Iterator[Any]:
    yield call.right(sizes={name: (layers, layers) for name, (_, layers) in call["sizes"].items()})


@mistake("this is the largest of all, whatever the budget")
def budget_ignored(call: Call) -> Iterator[Any]:
    yield call.right(megabytes=float("inf"))


def _fitting(call: Call, worth: Callable[[int, int], int]) -> dict[str, tuple[int, int]]:
    """The sizes with another number in place of the parameters in the layers."""
    return {
        name: (parameters, worth(parameters, layers)) for name, (parameters, layers) in call["sizes"].items()
    }


# --- agreement


@mistake("the student is compared with the labels: agreement compares it with the teacher")
def compared_with_labels(call: Call) -> Iterator[Any]:
    for name in ("student_logits", "teacher_logits"):
        yield _share(call, call[name].argmax(-1) == call["labels"])


@mistake("the argmax is over the wrong axis: the vocabulary is the last one")
def argmax_over_wrong_axis(call: Call) -> Iterator[Any]:
    """Over the length; what comes out fits the labels only where the mask is left out."""
    same = call["student_logits"].argmax(1) == call["teacher_logits"].argmax(1)
    yield same.float().mean()


@mistake("these are per cent: a share, from 0 to 1, is asked for")
def in_percent(call: Call) -> Iterator[Any]:
    yield 100 * call.right()


@mistake("this is how often they differ")
def disagreement(call: Call) -> Iterator[Any]:
    yield 1 - call.right()


@mistake("the most probable token must be the same, not its logit or its probability")
def values_compared(call: Call) -> Iterator[Any]:
    yield torch.zeros(())


def _share(call: Call, same: torch.Tensor) -> torch.Tensor:
    return same[call.counted].float().mean()
