"""Checks of safetensors files: the header has a bounded size and describes the file; every weight is finite.

The format: 8 bytes with the length of the header, a JSON object with the dtype, shape and offsets of each tensor, then
the tensors without gaps (https://huggingface.co/docs/safetensors).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from emotune.artifact.safety.json_files import parse_json
from emotune.errors import ModelError, Place

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
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(8)
            length = int.from_bytes(head, "little")
            if len(head) < 8 or length > size - 8:
                raise ValueError(_other_format(head + file.read(16)) or "the header is longer than the file")
            if length > _MAX_HEADER:
                raise ValueError(f"a header of {length:,} bytes, allowed are {_MAX_HEADER:,}")
            return _tensors(file.read(length), 8 + length, size)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"not a valid safetensors file: {error}", place=Place(path)) from error
    except OSError as error:
        raise ModelError(f"cannot read it: {error.strerror}", place=Place(path)) from error


def _other_format(start: bytes) -> str | None:
    """Return what the first bytes show the file to be; None if unknown."""
    return next((what for magic, what in _OTHER_FORMATS.items() if start.startswith(magic)), None)


def _tensors(header: bytes, offset: int, size: int) -> dict[str, Tensor]:
    content = parse_json(header, max_values=_MAX_TENSORS * (_MAX_DIMENSIONS + 6))
    if not isinstance(content, dict):
        raise ValueError("the header is not a JSON object")
    content.pop("__metadata__", None)
    if not 0 < len(content) <= _MAX_TENSORS:
        raise ValueError(f"{len(content):,} tensors, allowed are 1 to {_MAX_TENSORS:,}")
    tensors = {name: _tensor(name, entry, offset) for name, entry in content.items()}
    end = offset
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != end:
            raise ValueError(f"tensor {name[:80]!r} overlaps another, or leaves a gap before it")
        end = tensor.end
    if end != size:
        raise ValueError(f"the tensors end at byte {end:,} of {size:,}")
    return tensors


def _tensor(name: str, entry: Any, offset: int) -> Tensor:
    found = entry if isinstance(entry, Mapping) else {}
    dtype, shape, places = found.get("dtype"), _counts(found.get("shape")), _counts(found.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or places is None or len(places) != 2:
        raise ValueError(f"tensor {name[:80]!r} has no dtype, shape and data_offsets")
    if dtype not in _BYTES:
        raise ValueError(f"tensor {name[:80]!r} has type {dtype[:20]!r}; supported are {', '.join(_BYTES)}")
    if len(shape) > _MAX_DIMENSIONS or math.prod(shape) * _BYTES[dtype] != places[1] - places[0]:
        raise ValueError(f"tensor {name[:80]!r}: a shape of {shape[:_MAX_DIMENSIONS]} does not fit its bytes")
    return Tensor(dtype, tuple(shape), offset + places[0], offset + places[1])


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


def read_arrays(path: Path, shapes: Mapping[str, tuple[int | None, ...]]) -> dict[str, npt.NDArray[Any]]:
    """Read the named arrays of finite numbers, F32 or F64; None in a shape means any size.

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
        if not fits or tensor.dtype not in ("F32", "F64"):
            expected = " × ".join("any" if size is None else f"{size:,}" for size in wanted)
            message = f"{name} is {tensor.dtype} of shape {list(tensor.shape)}; expected is F32 or F64 of {expected}"
            raise ModelError(message, place=Place(path))
    require_finite(path, found)
    return dict(load_file(path))
