"""Making ONNX graphs of trained models, in one of the two forms that `emotune.models.onnx` describes.

BERT classifiers become packed graphs: all tokens of a batch go through the linear layers without padding, and only the
attention sees rows. Other transformers are traced by `torch.onnx`, for rows of one length. Where the head reads only
the first token, the last layer computes no other. ONNX Runtime's fusions for transformers are not applied: on one core
they made MiniLM slower (16 texts of 16 tokens in 28.3 instead of 24.8 ms, one in 3.85 instead of 3.69).
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from emotune.artifact.opening import FoundModel
from emotune.artifact.safety.directory import TOKENIZER
from emotune.data.tokens import TextEncoder
from emotune.errors import ModelError, Place, UsageError
from emotune.models import bert, bilstm, cpu_shortcuts, features
from emotune.models import encoder as encoders
from emotune.models.embedding import Embedder
from emotune.models.onnx import INPUT, LENGTHS, OUTPUT

_OPSET, _IR = 20, 10
_CONTRIB = "com.microsoft"  # operators that ONNX Runtime has built in
# added to the score of what is beyond the end of a row: its weight of 1e-26 changes no sum in fp32. From -86 on, the
# exponential has denormal numbers, and a softmax takes 4 to 10 times as long
_UNSEEN = -60.0
_ROWS, _TOKENS = 3, 8  # of the example that is traced; 1 would be taken for a constant
_MOST_BYTES = 2**31 - 1  # of a protobuf file
# the gates of an LSTM in torch: input, forget, cell, output; in ONNX: input, output, forget, cell
_GATES = (0, 3, 1, 2)


@dataclass(frozen=True)
class Exported:
    """A graph, the tokenizer of its texts, and the maximum number of tokens of a window."""

    graph: onnx.ModelProto
    encoder: TextEncoder
    max_tokens: int

    @property
    def packed(self) -> bool:
        """Whether its rows may have several lengths."""
        return any(value.name == LENGTHS for value in self.graph.graph.input)


def make_graph(found: FoundModel, *, one_length: bool = False) -> Exported:
    """Return the fp32 graph of a model of kind encoder, bilstm or features.

    one_length: no packed graph, so that other software can run it.

    Raises ModelError for an architecture that cannot be traced, UsageError for another kind of model.
    """
    directory = found.directory
    if found.kind == "features":
        model = features.load(directory, "cpu")
        graph = _traced(_Features(model), None, directory)
        return Exported(graph, model.embedder.encoder, model.embedder.max_tokens)
    if found.kind == "bilstm":
        network = bilstm.load(directory)
        encoder = _text_encoder(found, network)
        return Exported(_bilstm_graph(network), encoder, encoder.max_tokens)
    if found.kind == "encoder":
        network = encoders.load(directory)
        encoder = _text_encoder(found, network)
        parameters = None if one_length else bert.read(directory)
        if parameters is not None:
            return Exported(_bert_graph(*parameters), encoder, encoder.max_tokens)
        network.set_attn_implementation("eager")
        return Exported(_traced(_Classifier(network), network, directory), encoder, encoder.max_tokens)
    raise UsageError(f"a model of kind {found.kind} has no ONNX graph")


def _text_encoder(found: FoundModel, network: Any) -> TextEncoder:
    if found.manifest is None or found.manifest.max_tokens is None:
        return encoders.text_encoder(found.directory, network)
    return TextEncoder.from_file(found.directory / TOKENIZER, found.manifest.max_tokens, 0)


def serialized(graph: onnx.ModelProto) -> bytes:
    """Return the content of `model.onnx`; raises UsageError for a graph that one file cannot hold."""
    if graph.ByteSize() > _MOST_BYTES:
        raise UsageError(f"the graph has {graph.ByteSize() / 2**30:.1f} GiB; an ONNX file holds 2 GiB at most")
    content: bytes = graph.SerializeToString()
    return content


# Traced by torch


class _Classifier(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor) -> Tensor:
        """Shapes: (rows, tokens) → (rows, labels)."""
        logits: Tensor = self.network(input_ids=input_ids).logits
        return logits


class _Features(nn.Module):
    """A frozen encoder, its pooling, and the linear head."""

    weights: Tensor
    bias: Tensor

    def __init__(self, model: features.FeaturesModel) -> None:
        super().__init__()
        self.embedder: Embedder = model.embedder
        self.network = model.embedder.network
        self.register_buffer("weights", torch.from_numpy(model.linear.weights))
        self.register_buffer("bias", torch.from_numpy(model.linear.bias))

    def forward(self, input_ids: Tensor) -> Tensor:
        """Shapes: (rows, tokens) → (rows, labels)."""
        return self.embedder.pooled(input_ids, torch.ones_like(input_ids)) @ self.weights + self.bias


def _traced(module: nn.Module, network: Any, place: Path) -> onnx.ModelProto:
    """Trace a module; `network`: the classifier in it whose last layer may be cut to the first token, else None."""
    example = torch.zeros((_ROWS, _TOKENS), dtype=torch.int64)
    shapes = {INPUT: {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}}
    try:
        with _quiet(), _first_token_only(network), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                opset_version=_OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=shapes,
                verbose=False,
            )
        assert program is not None
        return _clean(program.model_proto)
    except Exception as error:  # the exporter raises what the architecture's code raises
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"torch.onnx cannot trace this architecture: {reason}", place=Place(place)) from error


@contextmanager
def _first_token_only(network: Any) -> Iterator[None]:
    if network is None:
        yield
        return
    with cpu_shortcuts.first_token_only(network):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which warns of libraries and of its own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what the exporter notes about its origin, such as paths of source files on this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    del graph.value_info[:]
    graph.name, model.producer_name, model.producer_version = "emotune", "emotune", ""
    return model


# Built by hand


class _Builder:
    """Nodes and constants of a graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray[Any, Any]] = {}

    def node(self, kind: str, inputs: list[str], *outputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its first output."""
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]

    def constant(self, name: str, value: Any) -> str:
        """Add a constant, unless there is one of this name, and return the name."""
        array = value.detach().float().numpy() if isinstance(value, Tensor) else value
        self._constants.setdefault(name, np.ascontiguousarray(array))
        return name

    def integers(self, *values: int) -> str:
        """Return a constant of shape (n,)."""
        return self.constant("_".join(["integers", *map(str, values)]), np.array(values, np.int64))

    def integer(self, value: int) -> str:
        """Return a constant without dimensions."""
        return self.constant(f"integer_{value}", np.array(value, np.int64))

    def model(self, inputs: Mapping[str, list[str]], num_labels: int, *more_domains: str) -> onnx.ModelProto:
        """Return the graph with these inputs of integers, by their shapes, and the output `logits`."""
        graph = helper.make_graph(
            self.nodes,
            "emotune",
            [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", num_labels])],
            [numpy_helper.from_array(value, name) for name, value in self._constants.items()],
        )
        opsets = [helper.make_opsetid("", _OPSET), *(helper.make_opsetid(domain, 1) for domain in more_domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="emotune")


def _bilstm_graph(network: Any) -> onnx.ModelProto:
    """Return the graph of a BiLSTM; the exporter of torch fixes the number of rows of an LSTM."""
    build = _Builder()
    node, constant = build.node, build.constant
    layers, hidden = network.encoder.layers, network.config.hidden_size
    words = constant("words", network.get_input_embeddings().weight)
    states = node("Transpose", [node("Gather", [words, INPUT], "embedded")], "by_token", perm=[1, 0, 2])
    join = build.integers(0, 0, 2 * hidden)
    for i, layer in enumerate(layers):
        inputs = [states, *(constant(f"{part}_{i}", _lstm_weights(layer, part)) for part in ("W", "R", "B"))]
        node("LSTM", inputs, f"states_{i}", f"last_{i}", hidden_size=hidden, direction="bidirectional")
        turned = node("Transpose", [f"states_{i}"], f"turned_{i}", perm=[0, 2, 1, 3])
        states = node("Reshape", [turned, join], f"joined_{i}")
    if network.config.pooling == "max":
        pooled = node("ReduceMax", [states, build.integers(0)], "pooled", keepdims=0)
    else:
        del build.nodes[-2:]  # the last layer's states of each direction at its end are one output of the LSTM
        turned = node("Transpose", [f"last_{len(layers) - 1}"], "turned", perm=[1, 0, 2])
        pooled = node("Reshape", [turned, build.integers(0, 2 * hidden)], "pooled")
    head = network.classifier
    node("Gemm", [pooled, constant("head", head.weight), constant("bias", head.bias)], OUTPUT, transB=1)
    return build.model({INPUT: ["rows", "tokens"]}, len(head.bias))


def _lstm_weights(layer: nn.LSTM, part: str) -> np.ndarray[Any, Any]:
    """Return the weights of both directions as ONNX has them, shape (2, …)."""
    names = {"W": ["weight_ih_l0"], "R": ["weight_hh_l0"], "B": ["bias_ih_l0", "bias_hh_l0"]}[part]

    def ordered(name: str) -> np.ndarray[Any, Any]:
        gates = np.split(getattr(layer, name).detach().numpy(), 4)
        return np.concatenate([gates[i] for i in _GATES])

    directions = [np.concatenate([ordered(name + suffix) for name in names]) for suffix in ("", "_reverse")]
    return np.stack(directions)


@dataclass(frozen=True)
class _Rows:
    """Names of tensors that tell where the tokens of a batch are; `longest`: the tokens of the longest row.

    starts: the first token of each row, shape (rows,); positions: of each token in its row, shape (tokens,).
    unseen: added to the scores of attention, shape (rows, 1, 1, longest), and `unseen_square` for each token, shape
    (rows, 1, longest, longest). into: the token at each position of the rows, shape (longest, rows), beyond the end of
    a row its first; back: the values of the heads that are the parts of tokens, shape (tokens, heads).
    """

    starts: str
    positions: str
    unseen: str
    unseen_square: str
    into: str
    back: str


def _rows(build: _Builder, heads: int) -> _Rows:
    """Add the nodes that find the tokens of rows."""
    node, zero, last = build.node, build.integer(0), build.integers(-1)
    longest = node("ReduceMax", [LENGTHS], "longest", keepdims=0)
    place = node("Range", [zero, longest, build.integer(1)], "place")
    inside = node("Less", [place, node("Unsqueeze", [LENGTHS, last], "lengths_column")], "inside")
    starts = node("CumSum", [LENGTHS, zero], "starts", exclusive=1)
    kept = node("Mul", [place, node("Cast", [inside], "inside_integer", to=TensorProto.INT64)], "place_inside")
    token = node("Add", [node("Unsqueeze", [starts, last], "starts_column"), kept], "token")
    node("Split", [node("NonZero", [inside], "found")], "found_row", "found_position", axis=0, num_outputs=2)
    row, positions = (
        node("Squeeze", [name, build.integers(0)], output)
        for name, output in (("found_row", "row"), ("found_position", "position"))
    )
    outside = node("Cast", [node("Not", [inside], "outside")], "outside_float", to=TensorProto.FLOAT)
    by_row = node("Mul", [outside, build.constant("unseen_score", np.float32(_UNSEEN))], "unseen_row")
    unseen = node("Unsqueeze", [by_row, build.integers(1, 2)], "unseen")
    size = node("Unsqueeze", [longest, build.integers(0)], "size")
    square = node("Concat", [build.integers(1, 1), size, build.integers(1)], "square", axis=0)
    wide = node("Unsqueeze", [positions, last], "position_column")
    row_heads = node("Unsqueeze", [node("Mul", [row, build.integer(heads)], "row_first"), last], "row_column")
    head = build.constant("head_numbers", np.arange(heads, dtype=np.int64))
    first = node("Mul", [node("Add", [row_heads, head], "row_head"), longest], "row_start")
    return _Rows(
        starts,
        positions,
        unseen,
        node("Expand", [unseen, square], "unseen_square"),  # a sum of large equal parts is faster than one of rows
        node("Transpose", [token], "into", perm=[1, 0]),
        node("Add", [first, wide], "back"),
    )


def _bert_graph(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> onnx.ModelProto:
    """Return the packed graph of a BERT classifier (`emotune.models.bert`), whose head reads the first token."""
    build = _Builder()
    node, constant, integers = build.node, build.constant, build.integers
    hidden, heads, layers = (config[key] for key in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    size = hidden // heads
    rows = _rows(build, heads)

    def linear(name: str, x: str, scale: float = 1) -> str:
        weight = constant(f"{name}.weight", weights[f"{name}.weight"].float().T * scale)
        product = node("MatMul", [x, weight], f"{name}.product")
        return node("Add", [product, constant(f"{name}.bias", weights[f"{name}.bias"].float() * scale)], name)

    def normalized(name: str, x: str, y: str) -> str:
        parts = [constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        total = node("Add", [x, y], f"{name}.sum")
        return node("LayerNormalization", [total, *parts], name, axis=-1, epsilon=config["layer_norm_eps"])

    def in_heads(x: str) -> str:
        """Shapes: (tokens, hidden) → (longest, rows, heads, size)."""
        by_position = node("Gather", [x, rows.into], f"{x}.rows", axis=0)
        return node("Reshape", [by_position, integers(0, 0, heads, size)], f"{x}.heads")

    table, places = "bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight"
    types = weights["bert.embeddings.token_type_embeddings.weight"].float()[0]
    words = node("Gather", [constant(table, weights[table]), INPUT], "words")
    positions = node("Gather", [constant(places, weights[places].float() + types), rows.positions], "positions")
    x = normalized("bert.embeddings.LayerNorm", words, positions)
    for i in range(layers):
        layer = f"bert.encoder.layer.{i}"
        attention, first_only = f"{layer}.attention.self", i == layers - 1
        asking = node("Gather", [x, rows.starts], "first", axis=0) if first_only else x
        query = linear(f"{attention}.query", asking, size**-0.5)
        if first_only:
            # twice: the product of one row with a matrix depends on the number of columns in the last bit
            once = node("Reshape", [query, integers(1, -1, heads, size)], f"{query}.once")
            query = node("Concat", [once, once], f"{query}.heads", axis=0)
        else:
            query = in_heads(query)
        key, value = (in_heads(linear(f"{attention}.{part}", x)) for part in ("key", "value"))
        # products of each row and head, which are the dimensions after the first
        by_head: dict[str, Any] = {"domain": _CONTRIB, "transBatchB": 1}
        scores = node("FusedMatMul", [query, key], f"{attention}.scores", transBatchA=1, transB=1, **by_head)
        seen = node("Add", [scores, rows.unseen if first_only else rows.unseen_square], f"{attention}.seen")
        weighed = node("Softmax", [seen], f"{attention}.softmax", axis=-1)
        found = node("FusedMatMul", [weighed, value], f"{attention}.found", **by_head)
        if first_only:
            found = node("Slice", [found, integers(0), integers(1), integers(2)], f"{attention}.once")
        else:
            parts = node("Reshape", [found, integers(-1, size)], f"{attention}.parts")
            found = node("Gather", [parts, rows.back], f"{attention}.by_token", axis=0)
        context = node("Reshape", [found, integers(-1, hidden)], attention)
        output = f"{layer}.attention.output"
        attended = normalized(f"{output}.LayerNorm", linear(f"{output}.dense", context), asking)
        inner = node("Gelu", [linear(f"{layer}.intermediate.dense", attended)], f"{layer}.intermediate")
        x = normalized(f"{layer}.output.LayerNorm", linear(f"{layer}.output.dense", inner), attended)
    pooled = node("Tanh", [linear("bert.pooler.dense", x)], "pooled")
    head = [constant(f"classifier.{part}", weights[f"classifier.{part}"]) for part in ("weight", "bias")]
    node("Gemm", [pooled, *head], OUTPUT, transB=1)
    return build.model({INPUT: ["tokens"], LENGTHS: ["rows"]}, len(weights["classifier.bias"]), _CONTRIB)
