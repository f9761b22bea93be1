"""Checks of an ONNX file before any library opens it: a small reader of protobuf, without the onnx package.

The graph must be complete in one file, use only the operators of ONNX Runtime itself, and have the input and the output
that `emotune.models.onnx` uses. Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from emotune.artifact.safety.files import readable
from emotune.errors import ModelError, Place

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_MAX_NODES, _MAX_NAME = 200_000, 200
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}  # wire types of 64 and 32 bits
_FLOAT, _INT64 = 1, 7
_LENGTHS = "lengths"
# field numbers
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTIONS = 7, 8, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_NODE_NAME, _NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 3, 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE = (22, 23)
_TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 13, 14
_VALUE_NAME, _VALUE_TYPE = 1, 2
_DEFAULT = 0  # of data_location: in the file


@dataclass(frozen=True)
class _Field:
    """A field of a message: its number, and its value as a number or as a span of bytes in the file."""

    number: int
    value: int = 0
    start: int = 0
    size: int = -1  # -1: not a span


@dataclass
class _Value:
    """An input or output: its name, element type, and dimensions (None: any size)."""

    name: str = ""
    kind: int = 0
    shape: list[int | None] = field(default_factory=list)


def require_safe_graph(path: Path, num_labels: int) -> None:
    """Raise ModelError for an ONNX file that is cut short, refers to other files or operators, or has another shape."""
    place = Place(path)
    try:
        with readable(path), path.open("rb") as file:
            _check_model(file, path.stat().st_size, num_labels)
    except _InvalidError as error:
        raise ModelError(str(error), place=place) from None


def is_packed(path: Path) -> bool:
    """Whether a graph that was checked takes rows of several lengths: it has the input `lengths`."""
    with path.open("rb") as file:
        graph = next(part for part in _skipping(file, path.stat().st_size) if part.number == _MODEL_GRAPH)
        file.seek(graph.start)
        inputs = (part for part in _skipping(file, graph.start + graph.size) if part.number == _GRAPH_INPUT)
        return any(_value(_message(file, part)).name == _LENGTHS for part in inputs)


class _InvalidError(ValueError):
    pass


def _check_model(file: BinaryIO, size: int, num_labels: int) -> None:
    graphs = 0
    for part in _fields(file, size):
        if part.number == _MODEL_FUNCTIONS:
            raise _InvalidError("the graph defines functions of its own, which are not allowed")
        if part.number == _MODEL_OPSET and part.size >= 0:
            _require_known_domain(file, part)
        elif part.number == _MODEL_GRAPH and part.size >= 0:
            graphs += 1
            _check_graph(file, part, num_labels)
        _skip(file, part)
    if graphs != 1:
        raise _InvalidError(f"not a valid ONNX file: {graphs or 'no'} graphs in it")


def _require_known_domain(file: BinaryIO, opset: _Field) -> None:
    content = _message(file, opset)
    domain = "".join([_text(content, part) for part in _parts(content) if part.number == 1 and part.size >= 0][-1:])
    if domain not in DOMAINS:
        allowed = ", ".join(filter(None, DOMAINS))
        raise _InvalidError(f"the graph has custom operators (domain {domain!r}); allowed are those of {allowed}")


def _check_graph(file: BinaryIO, graph: _Field, num_labels: int) -> None:
    inputs: list[_Value] = []
    outputs: list[_Value] = []
    nodes, initializers = 0, set[str]()
    file.seek(graph.start)
    for part in _fields(file, graph.start + graph.size):
        if part.number == _GRAPH_NODE:
            nodes += 1
            if nodes > _MAX_NODES:
                raise _InvalidError(f"the graph has more than {_MAX_NODES:,} nodes")
            _check_node(_message(file, part))
        elif part.number == _GRAPH_INITIALIZER:
            initializers.add(_check_tensor(file, part))
        elif part.number == _GRAPH_SPARSE:
            raise _InvalidError("the graph has sparse weights, which are not allowed")
        elif part.number == _GRAPH_INPUT:
            inputs.append(_value(_message(file, part)))
        elif part.number == _GRAPH_OUTPUT:
            outputs.append(_value(_message(file, part)))
        _skip(file, part)
    _check_signature([value for value in inputs if value.name not in initializers], outputs, num_labels)


def _check_signature(inputs: list[_Value], outputs: list[_Value], num_labels: int) -> None:
    found = ", ".join(value.name for value in inputs) or "none"
    forms = ([("input_ids", _INT64, 2)], [("input_ids", _INT64, 1), (_LENGTHS, _INT64, 1)])
    if [(value.name, value.kind, len(value.shape)) for value in inputs] not in forms:
        expected = "input_ids of (rows, tokens), or input_ids of (tokens) and lengths of (rows), all int64"
        raise _InvalidError(f"the graph has the inputs {found}; expected is {expected}")
    found = ", ".join(value.name for value in outputs) or "none"
    if [value.name for value in outputs] != ["logits"] or outputs[0].kind != _FLOAT or len(outputs[0].shape) != 2:
        raise _InvalidError(f"the graph has the outputs {found}; expected is logits, float32 of (rows, labels)")
    if outputs[0].shape[1] != num_labels:
        number = "an unknown number of" if outputs[0].shape[1] is None else outputs[0].shape[1]
        raise _InvalidError(f"the graph computes {number} logits, but decision.json has {num_labels} labels")


def _check_node(node: bytes) -> None:
    kind, name, domain = "", "", ""
    attributes = []
    for part in (part for part in _parts(node) if part.size >= 0):
        if part.number == _NODE_TYPE:
            kind = _text(node, part)
        elif part.number == _NODE_NAME:
            name = _text(node, part)
        elif part.number == _NODE_DOMAIN:
            domain = _text(node, part)
        elif part.number == _NODE_ATTRIBUTE:
            attributes.append(node[part.start : part.start + part.size])
    if domain not in DOMAINS:
        raise _InvalidError(f"the node {name!r} has the custom operator {domain}:{kind}, which is not allowed")
    for attribute in attributes:
        for part in _parts(attribute):
            if part.number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                raise _InvalidError(f"the node {name!r} ({kind}) has a graph of its own, such as a loop; not allowed")
            if part.number in _ATTRIBUTE_SPARSE:
                raise _InvalidError(f"the node {name!r} ({kind}) has sparse weights, which are not allowed")
            if part.number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS) and part.size >= 0:
                _check_tensor(BytesIO(attribute), part)


def _check_tensor(file: BinaryIO, tensor: _Field) -> str:
    """Return the name of a tensor; raises _InvalidError for one whose numbers are in another file."""
    file.seek(tensor.start)
    name, external = "", False
    for part in _fields(file, tensor.start + tensor.size):
        if part.number == _TENSOR_NAME and part.size >= 0:
            name = _message(file, part)[:_MAX_NAME].decode("utf-8", "replace")
        external |= part.number == _TENSOR_EXTERNAL or (part.number == _TENSOR_LOCATION and part.value != _DEFAULT)
        _skip(file, part)
    if external:
        raise _InvalidError(f"the weights {name!r} are in another file (external data); a model has one file")
    return name


def _value(content: bytes) -> _Value:
    """Read a ValueInfoProto: name, type.tensor_type.(elem_type, shape.dim.dim_value)."""
    value = _Value()
    for part in _parts(content):
        if part.number == _VALUE_NAME and part.size >= 0:
            value.name = _text(content, part)
        elif part.number == _VALUE_TYPE:
            for tensor in _inner(content, part, 1):
                value.kind = next((p.value for p in _parts(tensor) if p.number == 1), 0)
                for shape in (tensor[p.start : p.start + p.size] for p in _parts(tensor) if p.number == 2):
                    sizes = (shape[p.start : p.start + p.size] for p in _parts(shape) if p.number == 1)
                    value.shape = [next((p.value for p in _parts(size) if p.number == 1), None) for size in sizes]
    return value


def _inner(content: bytes, part: _Field, number: int) -> list[bytes]:
    message = content[part.start : part.start + part.size]
    return [message[p.start : p.start + p.size] for p in _parts(message) if p.number == number and p.size >= 0]


# Protobuf: a message is a sequence of keys (field number and wire type) with values


def _parts(content: bytes) -> list[_Field]:
    return list(_skipping(BytesIO(content), len(content)))


def _skipping(file: BinaryIO, end: int) -> Iterator[_Field]:
    for part in _fields(file, end):
        yield part
        _skip(file, part)


def _fields(file: BinaryIO, end: int) -> Iterator[_Field]:
    """Yield the fields up to a position; the caller moves the file behind each span (`_skip`)."""
    while (position := file.tell()) < end:
        key = _varint(file)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            yield _Field(number, value=_varint(file))
        elif wire == _BYTES:
            size = _varint(file)
            start = file.tell()
            if size > end - start:
                raise _InvalidError(
                    f"not a valid ONNX file, or cut short: {size:,} bytes at {position:,} are not there"
                )
            yield _Field(number, start=start, size=size)
        elif wire in _FIXED and file.tell() + _FIXED[wire] <= end:
            file.seek(_FIXED[wire], 1)
            yield _Field(number)
        else:
            raise _InvalidError(f"not a valid ONNX file, or cut short: no field at byte {position:,}")


def _skip(file: BinaryIO, part: _Field) -> None:
    if part.size >= 0:
        file.seek(part.start + part.size)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _InvalidError("not a valid ONNX file, or cut short: a number has no end")


def _message(file: BinaryIO, part: _Field) -> bytes:
    if part.size < 0:
        raise _InvalidError(f"not a valid ONNX file: field {part.number} has the wrong type")
    file.seek(part.start)
    return file.read(part.size)


def _text(content: bytes, part: _Field) -> str:
    return content[part.start : part.start + min(max(part.size, 0), _MAX_NAME)].decode("utf-8", "replace")
