"""The encoder and the decoder's step of a MarianMTModel as ONNX graphs, written operator by operator.

Traced by torch, the same graphs take seconds to make, carry a hundred kilobytes of the tracer's notes, and compute the
keys and values of the source again at every token. What a graph takes and gives stands in `kdlab.export_onnx`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdlab.export import output_bias

if TYPE_CHECKING:
    from transformers import MarianMTModel

OPSET = 17  # the first with LayerNormalization
NO_ATTENTION = -1e9  # added where the source is padding
_MASK = ("attention_mask", "int64", ["batch", "source"])


class Graph:
    """Nodes and weights as they are added; every operator returns the name of its output.

    >>> graph = Graph()
    >>> hidden = graph.add("Add", "input", graph.constant("bias", np.ones(2)))
    >>> graph.item(hidden, 0), [node.op_type for node in graph.nodes], sorted(graph.weights)
    ('gather_1', ['Add', 'Gather'], ['bias', 'index_0'])
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """One node of the graph; its output gets a name of its own, or `output`."""
        from onnx import helper

        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, name: str, value: Any) -> str:
        """A weight (float32) or a shape, an axis, an index (int64). The same name must mean the same value."""
        from onnx import numpy_helper

        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(_array(value), name)
        return name

    def integers(self, *values: int) -> str:
        """Small constants, each list of them stored once."""
        return self.constant("_".join(["integers", *map(str, values)]), np.array(values, dtype=np.int64))

    def item(self, tensor: str, index: int) -> str:
        """tensor[index], along the first axis, which goes."""
        return self.add("Gather", tensor, self.constant(f"index_{index}", np.int64(index)), axis=0)

    def save(self, path: Path, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Check the graph and write it."""
        import onnx
        from onnx import TensorProto, helper

        kinds = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}
        asked, given = (
            [helper.make_tensor_value_info(name, kinds[kind], shape) for name, kind, shape in side]
            for side in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, path.stem, asked, given, list(self.weights.values()))
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, producer_name="kdlab", opset_imports=[opset], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(path))


def write_encoder(model: MarianMTModel, path: Path) -> None:
    """Once a sentence: source -> keys and values of every decoder layer.

    >>> import tempfile
    >>> import onnx
    >>> from transformers import MarianMTModel
    >>> from kdlab.students import Architecture, marian_config
    >>> model = MarianMTModel(marian_config(Architecture(8, 1, 1, 8), vocabulary=20))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_encoder(model, Path(folder) / "encoder.onnx")
    ...     graph = onnx.load(Path(folder) / "encoder.onnx").graph
    >>> [value.name for value in graph.input], [value.name for value in graph.output]
    (['input_ids', 'attention_mask'], ['memory'])
    """
    config, encoder, graph = model.config, model.model.encoder, Graph()
    embedded = graph.add("Gather", graph.constant("embedding", model.lm_head.weight), "input_ids")
    length = graph.add("Shape", "input_ids", start=1, end=2)
    table = graph.constant("positions", encoder.embed_positions.weight)
    positions = graph.add("Slice", table, graph.integers(0), length, graph.integers(0))
    hidden = graph.add("Add", _scaled(graph, embedded, config), positions)
    padding = _padding(graph)
    for number, layer in enumerate(encoder.layers):
        name = f"layer_{number}"
        states = _project(graph, hidden, f"{name}.attention", layer.self_attn, "qkv")
        query, keys, values = (graph.item(states, index) for index in range(3))
        found = _attend(graph, query, keys, values, padding, f"{name}.attention", layer.self_attn)
        hidden = _add_and_norm(graph, hidden, found, f"{name}.attention", layer.self_attn_layer_norm)
        hidden = _feed_forward(graph, hidden, name, layer, config.activation_function)
    memory = [
        graph.add(
            "Unsqueeze",
            _project(graph, hidden, f"decoder_layer_{number}.source", layer.encoder_attn, "kv"),
            graph.integers(0),
        )
        for number, layer in enumerate(model.model.decoder.layers)
    ]
    graph.add("Concat", *memory, output="memory", axis=0)
    ids = ("input_ids", "int64", ["batch", "source"])
    graph.save(path, [ids, _MASK], [_state("memory", "source", config)])


def write_decoder(model: MarianMTModel, path: Path) -> None:
    """Once a token: the last token and all keys and values -> logits of the next.

    >>> import tempfile
    >>> import onnx
    >>> from kdlab.students import Architecture, new_model
    >>> from kdlab.text.tokenizers import train_tokenizer
    >>> model = new_model(Architecture(8, 1, 1, 8), train_tokenizer(["a b c"], 300), seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_decoder(model, Path(folder) / "decoder.onnx")
    ...     graph = onnx.load(Path(folder) / "decoder.onnx").graph
    >>> [value.name for value in graph.input], [value.name for value in graph.output]
    (['input_ids', 'attention_mask', 'memory', 'past'], ['logits', 'present'])
    """
    config, decoder, graph = model.config, model.model.decoder, Graph()
    # [d_model, vocabulary]: a token's embedding is a column, and the logits are one product with the same weight.
    table = graph.constant("embedding", model.lm_head.weight.T)
    columns = graph.add("Gather", table, "input_ids", axis=1)
    embedded = graph.add("Transpose", columns, perm=[1, 2, 0])
    so_far = graph.add("Shape", "past", start=4, end=5)
    position = graph.add("Gather", graph.constant("positions", decoder.embed_positions.weight), so_far)
    hidden = graph.add("Add", _scaled(graph, embedded, config), position)
    padding, present = _padding(graph), []
    for number, layer in enumerate(decoder.layers):
        name = f"layer_{number}"
        own, source = layer.self_attn, layer.encoder_attn
        new = _project(graph, hidden, f"{name}.attention", own, "kv")
        state = graph.add("Concat", graph.item("past", number), new, axis=3)
        present.append(graph.add("Unsqueeze", state, graph.integers(0)))
        hidden = _read(graph, hidden, state, None, f"{name}.attention", own, layer.self_attn_layer_norm)
        memory = graph.item("memory", number)
        hidden = _read(
            graph, hidden, memory, padding, f"{name}.source", source, layer.encoder_attn_layer_norm
        )
        hidden = _feed_forward(graph, hidden, name, layer, config.activation_function)
    graph.add("Concat", *present, output="present", axis=0)
    products = graph.add("MatMul", graph.add("Squeeze", hidden, graph.integers(1)), table)
    graph.add("Add", products, graph.constant("bias", output_bias(model)), output="logits")
    ids = ("input_ids", "int64", ["batch", 1])
    states = [_state("memory", "source", config), _state("past", "past", config)]
    logits = ("logits", "float32", ["batch", config.vocab_size])
    graph.save(path, [ids, _MASK, *states], [logits, _state("present", "present", config)])


def _read(
    graph: Graph, hidden: str, state: str, padding: str | None, name: str, attention: Any, norm: Any
) -> str:
    """A decoder layer's attention to keys and values [2, batch, heads, length, size], and the norm after it."""
    query = graph.item(_project(graph, hidden, name, attention, "q"), 0)
    keys, values = graph.item(state, 0), graph.item(state, 1)
    found = _attend(graph, query, keys, values, padding, name, attention)
    return _add_and_norm(graph, hidden, found, name, norm)


def _project(graph: Graph, hidden: str, name: str, attention: Any, wanted: str) -> str:
    """Queries, keys or values, as one product: [batch, length, d] -> [len(wanted), batch, heads, length, size]."""
    layers = [getattr(attention, f"{letter}_proj") for letter in wanted]
    weight = np.concatenate([_array(layer.weight) for layer in layers])
    bias = np.concatenate([_array(layer.bias) for layer in layers])
    flat = _linear(graph, hidden, f"{name}.{wanted}", weight, bias)
    shape = graph.integers(0, 0, len(wanted), attention.num_heads, attention.head_dim)  # 0 keeps a length
    return graph.add("Transpose", graph.add("Reshape", flat, shape), perm=[2, 0, 3, 1, 4])


def _attend(
    graph: Graph,
    query: str,
    keys: str,
    values: str,
    padding: str | None,
    name: str,
    attention: Any,
) -> str:
    """Scaled dot-product attention (Vaswani et al. 2017), all [batch, heads, length, size], and what comes out."""
    size = graph.constant("one_over_sqrt_size", np.float32(attention.scaling))
    turned = graph.add("Transpose", keys, perm=[0, 1, 3, 2])
    scores = graph.add("MatMul", graph.add("Mul", query, size), turned)
    if padding is not None:
        scores = graph.add("Add", scores, padding)
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), values)
    together = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
    flat = graph.add("Reshape", together, graph.integers(0, 0, attention.embed_dim))
    return _linear(graph, flat, f"{name}.out", attention.out_proj.weight, attention.out_proj.bias)


def _feed_forward(graph: Graph, hidden: str, name: str, layer: Any, activation: str) -> str:
    inner = _linear(graph, hidden, f"{name}.fc1", layer.fc1.weight, layer.fc1.bias)
    inner = _activate(graph, inner, activation)
    outer = _linear(graph, inner, f"{name}.fc2", layer.fc2.weight, layer.fc2.bias)
    return _add_and_norm(graph, hidden, outer, f"{name}.final", layer.final_layer_norm)


def _activate(graph: Graph, inner: str, activation: str) -> str:
    if activation == "relu":
        return graph.add("Relu", inner)
    return graph.add("Mul", inner, graph.add("Sigmoid", inner))  # silu, also called swish


def _linear(graph: Graph, hidden: str, name: str, weight: Any, bias: Any) -> str:
    # MatMul and Add, not Gemm: the quantiser turns these into integer products.
    products = graph.add("MatMul", hidden, graph.constant(f"{name}.weight", weight.T))
    return graph.add("Add", products, graph.constant(f"{name}.bias", bias))


def _add_and_norm(graph: Graph, hidden: str, found: str, name: str, norm: Any) -> str:
    return graph.add(
        "LayerNormalization",
        graph.add("Add", hidden, found),
        graph.constant(f"{name}.norm.weight", norm.weight),
        graph.constant(f"{name}.norm.bias", norm.bias),
        axis=-1,
        epsilon=norm.eps,
    )


def _scaled(graph: Graph, embedded: str, config: Any) -> str:
    if not config.scale_embedding:
        return embedded
    return graph.add("Mul", embedded, graph.constant("sqrt_d_model", np.float32(math.sqrt(config.d_model))))


def _padding(graph: Graph) -> str:
    """[batch, 1, 1, source]: 0 at a token, `NO_ATTENTION` at padding."""
    from onnx import TensorProto

    tokens = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    empty = graph.add("Sub", graph.constant("one", np.float32(1)), tokens)
    scores = graph.add("Mul", empty, graph.constant("no_attention", np.float32(NO_ATTENTION)))
    return graph.add("Unsqueeze", scores, graph.integers(1, 2))


def _state(name: str, length: str, config: Any) -> tuple[str, str, list[Any]]:
    """Keys and values of all decoder layers."""
    heads = config.decoder_attention_heads
    return name, "float32", [config.decoder_layers, 2, "batch", heads, length, config.d_model // heads]


def _array(value: Any) -> Any:
    """A tensor of any float type becomes float32; what numpy made stays as it is."""
    if isinstance(value, np.ndarray | np.generic):
        return np.ascontiguousarray(value) if value.ndim else np.asarray(value)
    return np.ascontiguousarray(value.detach().float().numpy())
