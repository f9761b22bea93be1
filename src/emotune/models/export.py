"""Making ONNX graphs of trained models: input `input_ids` (rows, tokens), output `logits` (rows, labels).

The rows of a batch have the same length, so the graphs have no attention mask and no padding. Transformers are traced
by `torch.onnx`; where the head reads only the first token, the last layer computes no other. ONNX Runtime's fusions for
transformers are not applied: on one core they made MiniLM slower (16 texts of 16 tokens in 28.3 instead of 24.8 ms, one
in 3.85 instead of 3.69).
"""

import logging
import warnings
from collections.abc import Iterator
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
from emotune.models import bilstm, cpu_shortcuts, features
from emotune.models import encoder as encoders
from emotune.models.embedding import Embedder
from emotune.models.onnx import INPUT, OUTPUT

_OPSET, _IR = 20, 10
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


def make_graph(found: FoundModel) -> Exported:
    """Return the fp32 graph of a model of kind encoder, bilstm or features.

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
        network.set_attn_implementation("eager")
        encoder = _text_encoder(found, network)
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


def _bilstm_graph(network: Any) -> onnx.ModelProto:
    """Return the graph of a BiLSTM; the exporter of torch fixes the number of rows of an LSTM."""
    weights: dict[str, np.ndarray[Any, Any]] = {}
    nodes: list[onnx.NodeProto] = []

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def weight(name: str, value: Any) -> str:
        weights[name] = np.ascontiguousarray(value.detach().numpy() if isinstance(value, Tensor) else value)
        return name

    layers, hidden = network.encoder.layers, network.config.hidden_size
    words = weight("words", network.get_input_embeddings().weight)
    states = node(
        "Transpose",
        [
            node("Gather", [words, INPUT], "embedded"),
        ],
        "by_token",
        perm=[1, 0, 2],
    )
    join = weight("join", np.array([0, 0, 2 * hidden], np.int64))
    for i, layer in enumerate(layers):
        inputs = [states, *(weight(f"{part}_{i}", _lstm_weights(layer, part)) for part in ("W", "R", "B"))]
        outputs = [f"states_{i}", f"last_{i}"]
        nodes.append(
            helper.make_node("LSTM", inputs, outputs, name=f"lstm_{i}", hidden_size=hidden, direction="bidirectional")
        )
        turned = node("Transpose", [f"states_{i}"], f"turned_{i}", perm=[0, 2, 1, 3])
        states = node("Reshape", [turned, join], f"joined_{i}")
    if network.config.pooling == "max":
        pooled = node("ReduceMax", [states, weight("axes", np.array([0], np.int64))], "pooled", keepdims=0)
    else:
        del nodes[-2:]  # the last layer's states of each direction at its end are one output of the LSTM
        turned = node("Transpose", [f"last_{len(layers) - 1}"], "turned", perm=[1, 0, 2])
        pooled = node("Reshape", [turned, weight("flat", np.array([0, 2 * hidden], np.int64))], "pooled")
    head = network.classifier
    node("Gemm", [pooled, weight("head", head.weight), weight("bias", head.bias)], OUTPUT, transB=1)
    graph = helper.make_graph(
        nodes,
        "emotune",
        [helper.make_tensor_value_info(INPUT, TensorProto.INT64, ["rows", "tokens"])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", len(head.bias)])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="emotune")


def _lstm_weights(layer: nn.LSTM, part: str) -> np.ndarray[Any, Any]:
    """Return the weights of both directions as ONNX has them, shape (2, …)."""
    names = {"W": ["weight_ih_l0"], "R": ["weight_hh_l0"], "B": ["bias_ih_l0", "bias_hh_l0"]}[part]

    def ordered(name: str) -> np.ndarray[Any, Any]:
        gates = np.split(getattr(layer, name).detach().numpy(), 4)
        return np.concatenate([gates[i] for i in _GATES])

    directions = [np.concatenate([ordered(name + suffix) for name in names]) for suffix in ("", "_reverse")]
    return np.stack(directions)
