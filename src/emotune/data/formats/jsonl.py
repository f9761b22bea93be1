"""JSON: one object a line, or a file that is an array of objects; `text` and `labels`, `label`, or 0/1 keys."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from emotune.data.formats.base import MOST, Family, Layout, ReadOptions, Row
from emotune.data.formats.cells import shown
from emotune.data.formats.columns import Grid, find_column, read_columns, recognise_columns
from emotune.data.formats.files import Content
from emotune.data.formats.written import text_object
from emotune.errors import DataError, Place
from emotune.labels import LabelSet, Task

_SUFFIXES = (".jsonl", ".ndjson", ".json")
_LINES, _ARRAY = "JSON lines", "a JSON array of objects"
_BLANKS = " \t\r\n"
_HALVES = re.compile(r"\\u[dD][89a-fA-F]")


class _Refused(ValueError):
    """What valid JSON may hold and a label file may not."""


def recognise(content: Content, asked: ReadOptions) -> Layout | None:
    looks = content.is_text and (_is_called_json(content) or _looks_like_json(content.sample))
    if asked.format is None and not looks:
        return None
    shape = _ARRAY if _is_array(content) else _LINES
    layout = Layout("jsonl", shape)
    return recognise_columns(_grid(content, layout), asked, layout)


def _is_called_json(content: Content) -> bool:
    return content.path.name.casefold().removesuffix(".gz").endswith(_SUFFIXES)


def _looks_like_json(lines: Sequence[str]) -> bool:
    objects = sum(line.startswith("{") and line.rstrip().endswith("}") for line in lines)
    return objects >= MOST * len(lines) or "".join(lines[:2]).replace(" ", "").startswith("[{")


def _is_array(content: Content) -> bool:
    return content.sample[0].lstrip().startswith("[")


def _grid(content: Content, layout: Layout) -> Grid:
    """The keys of all objects as columns; a key that an object lacks is None in its row.

    The key of the labels is one that every object has, once the layout says which it is: raises DataError, for else a
    misspelt one would make a text without labels.
    """
    columns: dict[str, None] = {}
    for line, found in _objects(content, layout):
        if not columns.keys() >= found.keys():
            columns.update(dict.fromkeys(found))
            _require_different(list(columns), Place(content.path, line))
    names = list(columns)
    if not names:
        raise DataError("there are no objects with keys", place=Place(content.path, 1))

    label = None if layout.label_column is None else find_column(layout.label_column, (), names)

    def rows() -> Iterator[tuple[int, Sequence[Any]]]:
        for line, found in _objects(content, layout):
            if label is not None and label not in found:
                message = f"there is no key {label!r}, which other rows have"
                raise DataError(message, place=Place(content.path, line), hint=_UNLABELLED)
            yield line, [found.get(name) for name in names]

    return Grid(content.path, names, 1, rows)


def _require_different(columns: Sequence[str], place: Place) -> None:
    folded = [c.casefold() for c in columns]
    if len(set(folded)) < len(folded):
        twice = next(c for c in columns if folded.count(c.casefold()) > 1)
        raise DataError(f"the key {twice!r} stands in two spellings", place=place)


def _objects(content: Content, layout: Layout) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object with its line."""
    found = _array_items(content) if layout.shape == _ARRAY else _line_items(content)
    for line, value in found:
        if not isinstance(value, dict):
            place = Place(content.path, line)
            raise DataError(f"a row is a JSON object, this is {shown(value)}", place=place, hint=_HINT)
        yield line, value


_UNLABELLED = "A text without any label says so: an empty list, or null."
_HINT = 'Each row looks like {"text": "so glad", "labels": ["joy"]}.'


def _line_items(content: Content) -> Iterator[tuple[int, Any]]:
    decoder = _decoder()
    for number, line in content.lines():
        line = line.strip()
        try:
            value, end = decoder.raw_decode(line)
            if end < len(line):
                raise _Refused(f"something follows the object: {shown(line[end:].lstrip())}")
            _require_whole(value, line)
        except (ValueError, RecursionError) as error:
            raise _not_json(content, number, error) from None
        yield number, value


def _array_items(content: Content) -> Iterator[tuple[int, Any]]:
    decoder = _decoder()
    text = content.stream().read()
    at, line = _next(text, text.index("[") + 1), 1
    line += text.count("\n", 0, at)
    more = at < len(text) and text[at] != "]"
    while more:
        try:
            value, end = decoder.raw_decode(text, at)
            _require_whole(value, text[at:end])
        except (ValueError, RecursionError) as error:
            position = getattr(error, "pos", at)
            raise _not_json(content, line + text.count("\n", at, position), error) from None
        yield line, value
        behind = _next(text, end)
        line += text.count("\n", at, behind)
        more = text[behind : behind + 1] == ","
        at = _next(text, behind + 1) if more else behind
        line += text.count("\n", behind, at)
    if text[at : at + 1] != "]" or text[at + 1 :].strip():
        found = f"{shown(text[at : at + 20])} stands" if at < len(text) else "the file ends"
        line = min(line, text.rstrip().count("\n") + 1)
        raise DataError(f"{found} where the array goes on or ends", place=Place(content.path, line), hint=_HINT)


def _next(text: str, at: int) -> int:
    """The next position that holds no blank."""
    while at < len(text) and text[at] in _BLANKS:
        at += 1
    return at


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Refused(f"the key {shown(next(n for n in names if names.count(n) > 1))} stands here twice")
    return found


def _require_whole(value: Any, source: str) -> None:
    """Raise unless all characters of a value are whole; `source` is what it was read from."""
    if not _HALVES.search(source):
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise _Refused(f"\\u{ord(error.object[error.start]):04x} is half of a character") from None


def _constant(name: str) -> Any:
    raise _Refused(f"{name} is no JSON number")


def _not_json(content: Content, line: int, error: Exception) -> DataError:
    place = Place(content.path, line)
    if isinstance(error, _Refused):
        return DataError(str(error), place=place)
    reason = (
        "it is nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", "a number too long")
    )
    column = f" in column {error.pos + 1}" if isinstance(error, json.JSONDecodeError) and error.lineno == 1 else ""
    return DataError(f"not valid JSON: {reason}{column}", place=place, hint=_HINT)


def read(content: Content, layout: Layout) -> Iterator[Row]:
    layout = replace(layout, shape=_ARRAY if _is_array(content) else _LINES)
    return read_columns(_grid(content, layout), layout)


def write(file: BinaryIO, rows: Iterable[Row], layout: Layout) -> None:
    array = layout.shape == _ARRAY
    file.write(b"[\n" if array else b"")
    for i, row in enumerate(rows):
        file.write(b",\n" if array and i else b"")
        file.write(json.dumps(text_object(row, layout), ensure_ascii=False).encode("utf-8"))
        file.write(b"" if array else b"\n")
    file.write(b"\n]\n" if array else b"")


def plain(labels: LabelSet) -> Layout:
    several = labels.task is Task.MULTI_LABEL
    start = Layout("jsonl", _LINES, several=several, text_column="text", id_column="id")
    return replace(start, label_column="labels" if several else "label", lists=several)


FAMILY = Family("jsonl", recognise, read, write, plain)
