"""Reading of JSON and safetensors files from anybody: bounded in size, and free of infinite numbers.

JSON is bounded in bytes, values and depth, and has no repeated keys. The header of a safetensors file has a bounded
size and describes the file. The format: 8 bytes with the length of the header, a JSON object with the dtype, shape and
offsets of each tensor, then the tensors without gaps (https://huggingface.co/docs/safetensors).
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from emotune.errors import ModelError, Place

if TYPE_CHECKING:
    from pydantic import BaseModel

Model = TypeVar("Model", bound="BaseModel")
_MAX_BYTES = 8 << 20
_MAX_VALUES = 400_000
# the largest that emotune writes, with a million terms, has 14 MB
_VOCABULARY_BYTES, _VOCABULARY_VALUES = 32 << 20, 2_000_000
_MAX_HEADER = 16 << 20
_MAX_TENSORS = 50_000
_MAX_DIMENSIONS = 8
_CHUNK = 4 << 20
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "BOOL": 1} | {
    f"U{bits}": bits // 8 for bits in (8, 16, 32, 64)
}
# the exponent bits: if all are set, the number is infinite or NaN
_EXPONENTS: dict[str, tuple[type[np.unsignedinteger[Any]], int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
_OTHER_FORMATS = {
    b"version https://git-lfs": "it is a Git LFS pointer, not the file itself; fetch that with: git lfs pull",
    b"PK\x03\x04": "it is a zip archive, as torch.save writes around a pickle",
    b"\x80": "it looks like a pickle, which is never read",
    b"\x1f\x8b": "it is a gzip archive",
    b"\x89HDF": "it is an HDF5 file",
    b"<": "it looks like a web page",
}


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn an OSError into a ModelError, at the file that the error names or else at `path`."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"cannot read it: {error.strerror}", place=Place(Path(error.filename or path))) from error


def read_json(
    path: Path, *, max_bytes: int = _MAX_BYTES, max_values: int = _MAX_VALUES, repeats: bool = False
) -> dict[str, Any]:
    """Read the JSON object in a file; raises ModelError with the place for other content or a file too large.

    repeats: allow repeated keys; the last value counts.
    """
    with readable(path):
        if not path.is_file():
            raise ModelError("there is no such file", place=Place(path))
        size = path.stat().st_size
        if size > max_bytes:
            message = f"this JSON file is far too large: {size:,} bytes, allowed are {max_bytes:,}"
            raise ModelError(message, place=Place(path))
        text = path.read_bytes()
    try:
        content = parse_json(text, max_values=max_values, repeats=repeats)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"not valid JSON: {error}", place=Place(path)) from error
    if not isinstance(content, dict):
        raise ModelError("not a JSON object", place=Place(path))
    return content


def read_vocabulary(path: Path) -> dict[str, Any]:
    """Read a vocabulary as `read_json` does, with larger bounds."""
    return read_json(path, max_bytes=_VOCABULARY_BYTES, max_values=_VOCABULARY_VALUES)


def validated(model: type[Model], content: Any, place: Place, hint: str | None = None) -> Model:
    """Return a file's content as a pydantic model; raises ModelError with the first wrong key."""
    from pydantic import ValidationError

    try:
        return model.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "it"
        raise ModelError(f"{where[:60]}: {problem['msg'][:100]}", place=place, hint=hint) from None


def parse_json(text: bytes, *, max_values: int = _MAX_VALUES, repeats: bool = False) -> Any:
    """Return the value of a JSON text; raises ValueError or RecursionError for invalid JSON or too many values."""
    # counted before parsing: an empty list takes 2 bytes in the file and 64 in memory
    values = sum(map(text.count, (b",", b"[", b"{")))
    if values > max_values:
        raise ValueError(f"far too large: about {values:,} values, allowed are {max_values:,}")
    pairs = None if repeats else _without_repeats
    return json.loads(text, object_pairs_hook=pairs, parse_constant=_refused, parse_float=_finite)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} occurs twice")
    return found


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"a number is too large: {text[:40]}")
    return number


def items(content: Any, skip: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every key of a JSON value with its value, at every depth; nothing below the keys in `skip`."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield key, value
            if key not in skip:
                yield from items(value, skip)
    elif isinstance(content, list):
        for value in content:
            yield from items(value, skip)


@dataclass(frozen=True)
class Tensor:
    """A tensor as the header describes it; `start` and `end` are byte positions in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name; raises ModelError if header and file do not fit each other."""
    try:
        with readable(path), path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(8)
            length = int.from_bytes(head, "little")
            if len(head) < 8 or length > size - 8:
                start = head + file.read(16)
                known = (what for magic, what in _OTHER_FORMATS.items() if start.startswith(magic))
                raise ValueError(next(known, "the header is longer than the file"))
            if length > _MAX_HEADER:
                raise ValueError(f"a header of {length:,} bytes, allowed are {_MAX_HEADER:,}")
            return _tensors(file.read(length), 8 + length, size)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"not a valid safetensors file: {error}", place=Place(path)) from error


def _tensors(header: bytes, offset: int, size: int) -> dict[str, Tensor]:
    """Return the tensors of a header, whose byte positions count from `offset`; raises ValueError."""
    content = parse_json(header, max_values=_MAX_TENSORS * (_MAX_DIMENSIONS + 6))
    if not isinstance(content, dict):
        raise ValueError("the header is not a JSON object")
    content.pop("__metadata__", None)
    if not 0 < len(content) <= _MAX_TENSORS:
        raise ValueError(f"{len(content):,} tensors, allowed are 1 to {_MAX_TENSORS:,}")
    tensors: dict[str, Tensor] = {}
    for name, entry in content.items():
        found = entry if isinstance(entry, dict) else {}
        dtype, shape, places = found.get("dtype"), _counts(found.get("shape")), _counts(found.get("data_offsets"))
        if not isinstance(dtype, str) or shape is None or places is None or len(places) != 2:
            raise ValueError(f"tensor {name[:80]!r} has no dtype, shape and data_offsets")
        if dtype not in _BYTES:
            raise ValueError(f"tensor {name[:80]!r} has type {dtype[:20]!r}; supported are {', '.join(_BYTES)}")
        if len(shape) > _MAX_DIMENSIONS or math.prod(shape) * _BYTES[dtype] != places[1] - places[0]:
            raise ValueError(f"tensor {name[:80]!r}: a shape of {shape[:_MAX_DIMENSIONS]} does not fit its bytes")
        tensors[name] = Tensor(dtype, tuple(shape), offset + places[0], offset + places[1])
    end = offset
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != end:
            raise ValueError(f"tensor {name[:80]!r} overlaps another, or leaves a gap before it")
        end = tensor.end
    if end != size:
        raise ValueError(f"the tensors end at byte {end:,} of {size:,}")
    return tensors


def _counts(value: Any) -> list[int] | None:
    """Return the value if it is a list of non-negative integers; else None."""
    valid = isinstance(value, list) and all(type(number) is int and 0 <= number < 1 << 48 for number in value)
    return value if valid else None


def require_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise ModelError, naming the tensor, for an infinite or NaN weight."""
    with path.open("rb") as file:
        for name, tensor in tensors.items():
            if tensor.dtype not in _EXPONENTS:
                continue
            kind, exponent = _EXPONENTS[tensor.dtype]
            mask = kind(exponent)
            file.seek(tensor.start)
            for start in range(tensor.start, tensor.end, _CHUNK):
                # read, not memory-mapped: only one chunk is in memory
                bits: npt.NDArray[Any] = np.frombuffer(file.read(min(_CHUNK, tensor.end - start)), dtype=kind)
                if ((bits & mask) == mask).any():
                    message = f"the weights {name[:80]!r} have infinite or NaN values"
                    raise ModelError(message, place=Place(path))


_FLOATS = ("F32", "F64")


def read_arrays(
    path: Path, shapes: Mapping[str, tuple[int | None, ...]], types: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Read the named arrays of finite numbers; None in a shape means any size.

    types: the types of an array, as safetensors names them; F32 or F64 for an array without an entry.
    Raises ModelError, naming the array, for a file with other content.
    """
    if not path.is_file():
        raise ModelError("there is no such file", place=Place(path))
    found = read_header(path)
    if found.keys() != shapes.keys():
        names = ", ".join(sorted(found))[:100]
        raise ModelError(f"it holds {names}; expected are {', '.join(sorted(shapes))}", place=Place(path))
    for name, wanted in shapes.items():
        tensor = found[name]
        fits = len(tensor.shape) == len(wanted) and all(
            size is None or size == actual for size, actual in zip(wanted, tensor.shape, strict=True)
        )
        allowed = (types or {}).get(name, _FLOATS)
        if not fits or tensor.dtype not in allowed:
            expected = f"{' or '.join(allowed)} of {' × '.join('any' if n is None else f'{n:,}' for n in wanted)}"
            message = f"{name} is {tensor.dtype} of shape {list(tensor.shape)}; expected is {expected}"
            raise ModelError(message, place=Place(path))
    require_finite(path, found)
    return dict(load_file(path))
