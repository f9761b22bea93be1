"""Arrays and JSON of models that are no networks, written into a folder that is being made, and read with suspicion."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from emotune.artifact.safety.weights import read_header, require_finite
from emotune.errors import ModelError, Place

_READ = ("F32", "F64")


def write_json(path: Path, content: Any) -> None:
    """Write JSON; raises ValueError for numbers that are not finite."""
    path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays by name."""
    path.write_bytes(save(dict(arrays)))  # save_file would let nobody else read it


def read_arrays(path: Path, shapes: Mapping[str, tuple[int | None, ...]]) -> dict[str, npt.NDArray[Any]]:
    """The arrays in a safetensors file, which are those named, of finite numbers; None stands for any size.

    Raises ModelError, naming the array, for a file that holds anything else.
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
        if not fits or tensor.dtype not in _READ:
            expected = " × ".join("any" if size is None else f"{size:,}" for size in wanted)
            message = f"{name} is {tensor.dtype} of shape {list(tensor.shape)}; expected is F32 or F64 of {expected}"
            raise ModelError(message, place=Place(path))
    require_finite(path, found)
    return {name: np.asarray(array) for name, array in load_file(path).items()}
