"""Reading of small JSON files: bounded in bytes, values and depth, without repeated keys or infinite numbers."""

import json
import math
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from emotune.errors import ModelError, Place

Model = TypeVar("Model", bound=BaseModel)
_MAX_BYTES = 8 << 20
_MAX_VALUES = 400_000
# the largest that emotune writes, with a million terms, has 14 MB
_VOCABULARY_BYTES, _VOCABULARY_VALUES = 32 << 20, 2_000_000


def read_json(
    path: Path, *, max_bytes: int = _MAX_BYTES, max_values: int = _MAX_VALUES, repeats: bool = False
) -> dict[str, Any]:
    """Read the JSON object in a file; raises ModelError with the place for other content or a file too large.

    repeats: allow repeated keys; the last value counts.
    """
    try:
        if not path.is_file():
            raise ModelError("there is no such file", place=Place(path))
        if path.stat().st_size > max_bytes:
            message = f"this JSON file is far too large: {path.stat().st_size:,} bytes, allowed are {max_bytes:,}"
            raise ModelError(message, place=Place(path))
        content = parse_json(path.read_bytes(), max_values=max_values, repeats=repeats)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"not valid JSON: {error}", place=Place(path)) from error
    except OSError as error:
        raise ModelError(f"cannot read it: {error.strerror}", place=Place(path)) from error
    if not isinstance(content, dict):
        raise ModelError("not a JSON object", place=Place(path))
    return content


def read_vocabulary(path: Path) -> dict[str, Any]:
    """Read a vocabulary as `read_json` does, with larger bounds."""
    return read_json(path, max_bytes=_VOCABULARY_BYTES, max_values=_VOCABULARY_VALUES)


def validated(model: type[Model], content: Any, place: Place, hint: str | None = None) -> Model:
    """Return a file's content as a pydantic model; raises ModelError with the first wrong key."""
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
