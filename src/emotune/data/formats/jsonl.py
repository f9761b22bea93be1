"""JSON: one object per line, or an array of objects; `text` with `labels`, `label` or 0/1 keys."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from emotune.data.formats.base import MOST, Content, FileFormat, Reader, ReadOptions, Row
from emotune.data.formats.cells import shown
from emotune.data.formats.columns import Grid, find_column, read_columns, recognise_columns
from emotune.errors import DataError, Place

_SUFFIXES = (".jsonl", ".ndjson", ".json")
_BLANKS = re.compile(r"[ \t\r\n]*")
_HALVES = re.compile(r"\\u[dD][89a-fA-F]")
_HINT = 'Each row looks like {"text": "so glad", "labels": ["joy"]}.'


class _Refused(ValueError):
    """Valid JSON that a label file may not contain."""


def recognise(content: Content, options: ReadOptions) -> FileFormat | None:
    if options.format is None:
        lines = content.sample if content.is_text else []
        objects = sum(line.startswith("{") and line.rstrip().endswith("}") for line in lines)
        looks = objects >= MOST * len(lines) or "".join(lines[:2]).replace(" ", "").startswith("[{")
        called = content.name.casefold().endswith(_SUFFIXES)
        if not lines or not (looks or called):
            return None
    shape = "a JSON array of objects" if _is_array(content) else "JSON lines"
    return recognise_columns(_grid(content), options, FileFormat("jsonl", shape))


def _is_array(content: Content) -> bool:
    return content.sample[0].lstrip().startswith("[")


def _grid(content: Content, label_column: str | None = None) -> Grid:
    """The keys of all objects as columns, None in the row of an object without the key.

    `rows` raises DataError for an object without the key `label_column`: a misspelt one would mean no labels.
    """
    columns: dict[str, None] = {}
    for line, found in _objects(content):
        if not columns.keys() >= found.keys():
            columns.update(dict.fromkeys(found))
            folded = [c.casefold() for c in columns]
            if len(set(folded)) < len(folded):
                twice = next(c for c in columns if folded.count(c.casefold()) > 1)
                raise DataError(f"the key {twice!r} has two spellings", place=Place(content.path, line))
    names = list(columns)
    if not names:
        raise DataError("there are no objects with keys", place=Place(content.path, 1))
    label = find_column(label_column, names)

    def rows() -> Iterator[tuple[int, Sequence[Any]]]:
        for line, found in _objects(content):
            if label is not None and label not in found:
                message = f"there is no key {label!r}, which other rows have"
                hint = "A text without labels has an empty list, or null."
                raise DataError(message, place=Place(content.path, line), hint=hint)
            yield line, [found.get(name) for name in names]

    return Grid(content.path, names, 1, rows)


def _objects(content: Content) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object with its line."""
    for line, value in _array_items(content) if _is_array(content) else _line_items(content):
        if not isinstance(value, dict):
            place = Place(content.path, line)
            raise DataError(f"a row is a JSON object, this is {shown(value)}", place=place, hint=_HINT)
        yield line, value


def _line_items(content: Content) -> Iterator[tuple[int, Any]]:
    for number, line in content.lines():
        line = line.strip()
        value, end = _decoded(content, number, line, 0)
        if end < len(line):
            message = f"something follows the object: {shown(line[end:].lstrip())}"
            raise DataError(message, place=Place(content.path, number))
        yield number, value


def _array_items(content: Content) -> Iterator[tuple[int, Any]]:
    """The items of an array with their lines. One by one, so that an error has its line."""
    text = content.stream().read()
    at, line = _skip_blanks(text, text.index("[") + 1), 1
    line += text.count("\n", 0, at)
    more = at < len(text) and text[at] != "]"
    while more:
        value, end = _decoded(content, line, text, at)
        yield line, value
        after = _skip_blanks(text, end)
        more = text[after : after + 1] == ","
        after = _skip_blanks(text, after + 1) if more else after
        line += text.count("\n", at, after)
        at = after
    if text[at : at + 1] != "]" or text[at + 1 :].strip():
        found = f"{shown(text[at : at + 20])} is here" if at < len(text) else "the file ends"
        line = min(line, text.rstrip().count("\n") + 1)
        raise DataError(f"{found} where the array continues or ends", place=Place(content.path, line), hint=_HINT)


def _skip_blanks(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return at if match is None else match.end()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Refused(f"the key {shown(next(n for n in names if names.count(n) > 1))} occurs twice")
    return found


def _constant(name: str) -> Any:
    raise _Refused(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _decoded(content: Content, line: int, text: str, at: int) -> tuple[Any, int]:
    """The JSON value at `at`, in this line of the file, and where it ends; raises DataError for an invalid one."""
    try:
        value, end = _DECODER.raw_decode(text, at)
        if _HALVES.search(text, at, end):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value, end
    except UnicodeEncodeError as error:
        half = ord(error.object[error.start])
        raise DataError(f"\\u{half:04x} is half of a character", place=Place(content.path, line)) from None
    except _Refused as error:
        raise DataError(str(error), place=Place(content.path, line)) from None
    except json.JSONDecodeError as error:
        line += text.count("\n", at, error.pos)
        reason = error.msg + (f" in column {error.pos + 1}" if error.lineno == 1 else "")
    except ValueError:
        reason = "a number too long"
    except RecursionError:
        reason = "it is nested too deeply"
    raise DataError(f"not valid JSON: {reason}", place=Place(content.path, line), hint=_HINT)


def read(content: Content, file_format: FileFormat) -> Iterator[Row]:
    return read_columns(_grid(content, file_format.label_column), file_format)


READER = Reader("jsonl", recognise, read)
