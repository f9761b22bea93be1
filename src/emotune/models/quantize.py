"""Compression of ONNX graphs to 8 bits, for ONNX Runtime on the CPU. Neither profile lets a text depend on its batch.

`compact` stores the weights as int8 and computes in fp32. `fast` also multiplies in int8. Dynamic quantization of ONNX
Runtime has one scale for a whole batch, so a text's score depends on the texts beside it. Here the scale is a constant
after a layer normalization or attention, where the range hardly varies, and one per token elsewhere. Channels with
large values are scaled down before rounding, and their weights up (SmoothQuant, https://arxiv.org/abs/2211.10438). The
rounding errors of weights compensate each other on typical texts (GPTQ, https://arxiv.org/abs/2210.17323).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Profile = Literal["compact", "fast"]
Floats = npt.NDArray[np.float32]
_CONTRIB = "com.microsoft"  # operators that ONNX Runtime has built in
_MIN_SIZE = 1024  # elements of a constant that is worth the operators to compress it
_MOST = 127.0  # of an int8
_SMOOTHING = 0.9  # 1: all channels get the same range; 0: all rows of the weights do
_DAMPING = 0.05  # of the mean square of a channel: what few samples cannot show keeps ordinary rounding
_BLOCK = 128  # rows of weights whose errors are passed on together
_FLOOR = 1e-6  # of a scale: a token whose values are all 0 has one too
_GELU_MIN = 0.17  # no value of a GELU is less than -0.17
_GELU_ZERO = 16  # its code: 239 of 255 codes are for positive values
_KEEP_VALUES = {"Slice", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Gather", "Flatten"}
_RECURRENT = {"LSTM", "GRU", "RNN"}
# one scale serves all tokens of a layer normalization, and of attention, which takes means of values
_STEADY = {"LayerNormalization", "MatMul", "FusedMatMul"}


@dataclass(frozen=True)
class _Linear:
    """A product with constant weights, shape (in, out), and the bias of shape (out,) that is added to it."""

    input: str
    output: str
    weights: Floats
    bias: Floats | None


@dataclass(frozen=True)
class _Measured:
    """The values of a tensor on the samples: the least and the largest of each channel, shape (in,).

    `moment`: sums of the products of two channels, shape (in, in).
    """

    low: Floats
    high: Floats
    moment: npt.NDArray[np.float64]

    @classmethod
    def of(cls, values: Floats) -> "_Measured":
        """Measure values of shape (tokens, in)."""
        return cls(values.min(axis=0), values.max(axis=0), (values.T @ values).astype(np.float64))

    def joined(self, other: "_Measured") -> "_Measured":
        """Return the measurement of both."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return _Measured(low, high, self.moment + other.moment)


@dataclass(frozen=True)
class _Codes:
    """The uint8 input of linear layers: `(codes - zero) * scale`, times `row_scale` if there is one.

    `factors`: the values were divided by one factor per channel before, shape (in,).
    """

    tensor: str
    scale: str
    zero: str
    row_scale: str | None = None
    factors: Floats | None = None


def compressed(
    model: onnx.ModelProto, profile: Profile, samples: Iterable[Mapping[str, npt.NDArray[np.int64]]] = ()
) -> onnx.ModelProto:
    """Return a graph whose weights and tables are int8. Its inputs and outputs stay as they are.

    Embedding tables have one scale per row, weights one per output channel. The layer that computes an output of the
    graph, biases, and constants with few elements stay fp32. `fast` leaves recurrent layers as they are.

    samples: token ids of typical texts, the inputs of each run by name. The inputs of layers are measured on them.
    Without samples the graph is less accurate, and `fast` is slower: it quantizes all per token.
    """
    source = _Source(model)
    inputs = sorted({layer.input for layer in source.linears.values()})
    measured = _measured(model, inputs, samples)
    return (_Compact if profile == "compact" else _Fast)(source, measured).rewritten()


class _Source:
    """The graph to compress, with the nodes that write and read each tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.outputs = {output.name for output in model.graph.output}
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._writers = {name: node for node in model.graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self.linears = self._find_linears()

    def constant(self, name: str) -> Floats | None:
        """Return the value of a constant; None for another tensor, or one that is not fp32."""
        tensor = self._tensors.get(name)
        if tensor is None or tensor.data_type != TensorProto.FLOAT:
            return None
        value: Floats = numpy_helper.to_array(tensor)
        return value

    def origin(self, name: str) -> str:
        """Return the type of the operator that computes the values of a tensor, empty for an input or a constant."""
        node = self._writers.get(name)
        while node is not None and node.op_type in _KEEP_VALUES:
            node = self._writers.get(node.input[0])
        return node.op_type if node is not None else ""

    def table(self, node: onnx.NodeProto) -> Floats | None:
        """Return the embedding table that a node looks up, shape (ids, size), if only such nodes read it."""
        value = self.constant(node.input[0]) if node.op_type == "Gather" else None
        if value is None or value.ndim != 2 or value.size < _MIN_SIZE:
            return None
        return value if all(_looks_up(reader, node.input[0]) for reader in self._readers[node.input[0]]) else None

    def _find_linears(self) -> dict[str, _Linear]:
        """Return the layers to compress, by the output of the node that reads the weights."""
        found: dict[str, _Linear] = {}
        for node in self.model.graph.node:
            layer = self._linear(node)
            if layer is not None and layer.weights.size >= _MIN_SIZE and layer.output not in self.outputs:
                found[node.output[0]] = layer
        return found

    def _linear(self, node: onnx.NodeProto) -> _Linear | None:
        if node.op_type not in ("MatMul", "Gemm") or node.domain:
            return None
        settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        weights = self.constant(node.input[1])
        if weights is None or weights.ndim != 2 or settings.get("transA", 0):
            return None
        if any(settings.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
            return None
        weights = weights.T if settings.get("transB", 0) else weights
        if len(node.input) > 2 and node.input[2]:
            bias = self._bias(node.input[2], weights.shape[1])
            return None if bias is None else _Linear(node.input[0], node.output[0], weights, bias)
        return self._with_added_bias(_Linear(node.input[0], node.output[0], weights, None))

    def _with_added_bias(self, layer: _Linear) -> _Linear:
        readers = self._readers.get(layer.output, [])
        if len(readers) != 1 or readers[0].op_type != "Add" or layer.output in self.outputs:
            return layer
        other = [name for name in readers[0].input if name != layer.output]
        bias = self._bias(other[0], layer.weights.shape[1]) if other else None
        return layer if bias is None else _Linear(layer.input, readers[0].output[0], layer.weights, bias)

    def _bias(self, name: str, size: int) -> Floats | None:
        value = self.constant(name)
        return value if value is not None and value.shape == (size,) else None


class _Rewriter:
    """Writes a graph anew, node by node."""

    def __init__(self, source: _Source, measured: Mapping[str, _Measured]) -> None:
        self._source = source
        self._measured = measured
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def rewritten(self) -> onnx.ModelProto:
        """Return the new graph, with the constants that it reads."""
        for node in self._source.model.graph.node:
            table = self._source.table(node)
            if table is not None:
                self._write_lookup(node, table)
            elif not self.write(node):
                self._nodes.append(node)
        model = onnx.ModelProto()
        model.CopyFrom(self._source.model)
        del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
        model.graph.node.extend(self._nodes)
        read = {name for node in self._nodes for name in node.input}
        kept = (tensor for tensor in self._source.model.graph.initializer if tensor.name in read)
        model.graph.initializer.extend([*kept, *self._constants.values()])
        if any(node.domain == _CONTRIB for node in self._nodes) and _CONTRIB not in {
            opset.domain for opset in model.opset_import
        }:
            model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
        return model

    def write(self, node: onnx.NodeProto) -> bool:
        """Write the replacement of a node; return whether there is one."""
        raise NotImplementedError

    def node(self, kind: str, inputs: Sequence[str], output: str, **settings: Any) -> str:
        """Add a node with one output, and return the output's name."""
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **settings))
        return output

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """Add a constant, unless there is one of this name, and return the name."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _write_lookup(self, node: onnx.NodeProto, table: Floats) -> None:
        """Look up int8 rows and their scales."""
        name, ids, output = node.input[0], node.input[1], node.output[0]
        rows, scales = _rounded(table, axis=1)
        codes = self.node("Gather", [self.constant(f"{name}.int8", rows), ids], f"{output}.int8")
        scale = self.node("Gather", [self.constant(f"{name}.scale", scales), ids], f"{output}.scale")
        self.node("Mul", [self.node("Cast", [codes], f"{output}.cast", to=TensorProto.FLOAT), scale], output)


class _Compact(_Rewriter):
    """Stores weights as int8. ONNX Runtime computes the fp32 weights once, when it loads the graph."""

    def write(self, node: onnx.NodeProto) -> bool:
        """Replace the weights among the inputs of a node."""
        layer = self._source.linears.get(node.output[0])
        stored: dict[int, str] = {}
        if layer is not None:
            measured = self._measured.get(layer.input)
            codes, scales = _rounded_product(layer.weights, None if measured is None else measured.moment)
            if any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
                codes, scales = codes.T, scales.T
            stored[1] = self._stored(node.input[1], codes, scales)
        elif node.op_type in _RECURRENT:
            for position in (1, 2):
                value = self._source.constant(node.input[position])
                if value is not None and value.size >= _MIN_SIZE:
                    stored[position] = self._stored(node.input[position], *_rounded(value, axis=-1))
        if not stored:
            return False
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for position, name in stored.items():
            new.input[position] = name
        self._nodes.append(new)
        return True

    def _stored(self, name: str, codes: npt.NDArray[np.int8], scales: Floats) -> str:
        output = f"{name}.float"
        if f"{name}.int8" not in self._constants:
            cast = self.node("Cast", [self.constant(f"{name}.int8", codes)], f"{name}.cast", to=TensorProto.FLOAT)
            self.node("Mul", [cast, self.constant(f"{name}.scale", scales)], output)
        return output


class _Fast(_Rewriter):
    """Multiplies in int8: activations are uint8 and weights int8, which all processors with VNNI multiply fastest."""

    def __init__(self, source: _Source, measured: Mapping[str, _Measured]) -> None:
        super().__init__(source, measured)
        self._codes: dict[str, _Codes] = {}
        self._written: set[str] = set()

    def write(self, node: onnx.NodeProto) -> bool:
        """Replace a linear layer, and drop the node that added its bias."""
        layer = self._source.linears.get(node.output[0])
        if layer is None:
            return node.output[0] in self._written
        if layer.input not in self._codes:
            self._codes[layer.input] = self._quantized(layer.input)
        self._write_product(layer, self._codes[layer.input])
        self._written.add(layer.output)
        return True

    def _write_product(self, layer: _Linear, codes: _Codes) -> None:
        name, output = f"{layer.output}.weights", layer.output
        measured = self._measured.get(layer.input)
        moment = None if measured is None else measured.moment
        rows = layer.weights
        if codes.factors is not None and moment is not None:
            rows, moment = rows * codes.factors[:, None], moment / np.outer(codes.factors, codes.factors)
        weights, scales = _rounded_product(rows, moment)
        inputs = [codes.tensor, self.constant(name, weights), codes.scale]
        inputs += [self.constant(f"{name}.scale", scales[0]), codes.zero]
        bias = None if layer.bias is None else self.constant(f"{name}.bias", layer.bias)
        if codes.row_scale is None:
            inputs += [] if bias is None else ["", bias]
            self.node("MatMulIntegerToFloat", inputs, output, domain=_CONTRIB)
            return
        product = self.node("MatMulIntegerToFloat", inputs, f"{output}.product", domain=_CONTRIB)
        scaled = self.node("Mul", [product, codes.row_scale], output if bias is None else f"{output}.scaled")
        if bias is not None:
            self.node("Add", [scaled, bias], output)

    def _quantized(self, name: str) -> _Codes:
        """Quantize the input of linear layers, once for all of them."""
        origin = self._source.origin(name)
        if name in self._measured and origin in _STEADY:
            return self._quantized_in_range(name, self._measured[name])
        if origin == "Gelu":
            return self._quantized_by_token(name, _GELU_ZERO, 255 - _GELU_ZERO)
        return self._quantized_by_token(name, 128, 127)

    def _quantized_in_range(self, name: str, found: _Measured) -> _Codes:
        """Quantize with one scale for all tokens, after division of each channel by its factor."""
        layers = [layer for layer in self._source.linears.values() if layer.input == name]
        largest = np.max([np.abs(layer.weights).max(axis=1) for layer in layers], axis=0)
        values = np.maximum(np.maximum(-found.low, found.high), _FLOOR)
        factors = (values**_SMOOTHING / np.maximum(largest, _FLOOR) ** (1 - _SMOOTHING)).astype(np.float32)
        low, high = min((found.low / factors).min(), 0.0), max((found.high / factors).max(), _FLOOR)
        scale = (high - low) / 255
        inverse = self.constant(f"{name}.inverse", 1 / factors)
        smooth = self.node("Mul", [name, inverse], f"{name}.smooth")
        return self._rounded_codes(name, smooth, scale, round(-low / scale), factors=factors)

    def _quantized_by_token(self, name: str, zero: int, steps: int) -> _Codes:
        """Quantize with the largest value of each token; `zero`: the code of 0, `steps`: codes from there to it."""
        symmetric = zero == 128
        size = self.node("Abs", [name], f"{name}.size") if symmetric else name
        last = self.constant("emotune.last_axis", np.array([-1], np.int64))
        largest = self.node("ReduceMax", [size, last], f"{name}.largest", keepdims=1)
        floor = _FLOOR if symmetric else _GELU_MIN * steps / zero
        least = self.constant(f"emotune.floor_{zero}", np.float32(floor))
        scale = self.node("Max", [largest, least], f"{name}.row_scale")
        inverse = self.node("Reciprocal", [scale], f"{name}.inverse")
        relative = self.node("Mul", [name, inverse], f"{name}.relative")
        return self._rounded_codes(name, relative, 1 / steps, zero, row_scale=scale)

    def _rounded_codes(self, name: str, values: str, scale: float, zero: int, **more: Any) -> _Codes:
        step = self.constant(f"{name}.step", np.float32(scale))
        origin = self.constant(f"{name}.zero", np.uint8(zero))
        codes = self.node("QuantizeLinear", [values, step, origin], f"{name}.uint8")
        return _Codes(codes, step, origin, **more)


def _looks_up(node: onnx.NodeProto, table: str) -> bool:
    """Whether a node takes rows of a table by their number."""
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return node.op_type == "Gather" and axis == 0 and node.input[0] == table


def _rounded(values: Floats, axis: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return int8 values, and the scales along the other axes; `axis` stays with size 1."""
    largest = np.abs(values).max(axis=axis, keepdims=True)
    scales = np.where(largest > 0, largest, 1) / _MOST
    return np.rint(values / scales).astype(np.int8), scales.astype(np.float32)


def _rounded_product(weights: Floats, moment: npt.NDArray[np.float64] | None) -> tuple[npt.NDArray[np.int8], Floats]:
    """Round weights of shape (in, out) as `_rounded` does along `in`, for inputs with second moments (in, in).

    The error of each row is passed on to the rows after it, so that the product with typical inputs changes least.
    """
    codes, scales = _rounded(weights, axis=0)
    if moment is None:
        return codes, scales
    size = len(weights)
    damping = max(_DAMPING * float(np.trace(moment)) / size, _FLOOR)
    inverse = np.linalg.inv(moment + damping * np.eye(size))
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    left = weights.astype(np.float64)
    for start in range(0, size, _BLOCK):
        rows = slice(start, min(start + _BLOCK, size))
        errors = np.zeros_like(left[rows])
        for i in range(rows.start, rows.stop):
            codes[i] = np.clip(np.rint(left[i] / scales[0]), -_MOST, _MOST)
            errors[i - start] = (left[i] - codes[i] * scales[0]) / upper[i, i]
            left[i : rows.stop] -= np.outer(upper[i, i : rows.stop], errors[i - start])
        left[rows.stop :] -= upper[rows, rows.stop :].T @ errors
    return codes, scales


def _measured(
    model: onnx.ModelProto, names: Sequence[str], samples: Iterable[Mapping[str, npt.NDArray[np.int64]]]
) -> dict[str, _Measured]:
    """Return what the samples show of tensors, by name; empty without samples."""
    found: dict[str, _Measured] = {}
    if not names:
        return found
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # only fatal errors: the types of the probed tensors have no shapes
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for inputs in samples:
        for name, values in zip(names, session.run(list(names), dict(inputs)), strict=True):
            measured = _Measured.of(values.reshape(-1, values.shape[-1]))
            found[name] = found[name].joined(measured) if name in found else measured
    return found
