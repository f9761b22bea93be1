"""Safetensors files from anybody: the header is bounded and tells the truth, and every weight is a finite number.

The format: 8 bytes with the length of the header, a JSON object with dtype, shape and place of each tensor, then the
tensors without a gap (https://huggingface.co/docs/safetensors).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.artifact.safety.json_files import parse_object
from emotune.errors import ModelError, Place

_MAX_HEADER = 16 << 20
_MAX_TENSORS = 50_000
_MAX_DIMENSIONS = 8
_CHUNK = 4 << 20
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "BOOL": 1} | {
    f"U{bits}": bits // 8 for bits in (8, 16, 32, 64)
}
# the bits of the exponent: where all are set, the number is infinite or none at all
_EXPONENTS: dict[str, tuple[type[np.unsignedinteger[Any]], int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
_IMPOSTORS = {
    b"version https://git-lfs": "it is a Git LFS pointer, not the file itself; fetch that with: git lfs pull",
    b"PK\x03\x04": "it is a zip archive, as torch.save writes around a pickle",
    b"\x80": "it looks like a pickle, which is never read",
    b"\x1f\x8b": "it is a gzip archive",
    b"\x89HDF": "it is an HDF5 file",
    b"<": "it looks like a web page",
}


@dataclass(frozen=True)
class Tensor:
    """What a header says of one tensor; `start` and `end` are bytes of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name; raises ModelError when header and file do not fit each other."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(8)
            length = int.from_bytes(head, "little")
            if len(head) < 8 or length > size - 8:
                raise ValueError(_impostor(head + file.read(16)) or "the header is longer than the file")
            if length > _MAX_HEADER:
                raise ValueError(f"a header of {length:,} bytes, allowed are {_MAX_HEADER:,}")
            return _tensors(file.read(length), 8 + length, size)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"not sound safetensors: {error}", place=Place(path)) from error
    except OSError as error:
        raise ModelError(f"cannot read it: {error.strerror}", place=Place(path)) from error


def _impostor(start: bytes) -> str | None:
    return next((what for magic, what in _IMPOSTORS.items() if start.startswith(magic)), None)


def _tensors(header: bytes, offset: int, size: int) -> dict[str, Tensor]:
    content = parse_object(header, max_values=_MAX_TENSORS * (_MAX_DIMENSIONS + 6))
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
        raise ValueError(f"tensor {name[:80]!r} is of type {dtype[:20]!r}; read are {', '.join(_BYTES)}")
    if len(shape) > _MAX_DIMENSIONS or math.prod(shape) * _BYTES[dtype] != places[1] - places[0]:
        raise ValueError(f"tensor {name[:80]!r}: a shape of {shape[:_MAX_DIMENSIONS]} does not fit its bytes")
    return Tensor(dtype, tuple(shape), offset + places[0], offset + places[1])


def _counts(value: Any) -> list[int] | None:
    """The value if it is a list of numbers that count something."""
    sound = isinstance(value, list) and all(type(number) is int and 0 <= number < 1 << 48 for number in value)
    return value if sound else None


def require_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise ModelError, naming the tensor, for a weight that is infinite or not a number."""
    with path.open("rb") as file:
        for name, tensor in tensors.items():
            if tensor.dtype not in _EXPONENTS:
                continue
            kind, exponent = _EXPONENTS[tensor.dtype]
            mask = kind(exponent)
            file.seek(tensor.start)
            for start in range(tensor.start, tensor.end, _CHUNK):
                # read and not mapped: a chunk is forgotten when the next one comes
                bits: npt.NDArray[Any] = np.frombuffer(file.read(min(_CHUNK, tensor.end - start)), dtype=kind)
                if ((bits & mask) == mask).any():
                    message = f"the weights {name[:80]!r} hold numbers that are infinite or not numbers (NaN)"
                    raise ModelError(message, place=Place(path))
