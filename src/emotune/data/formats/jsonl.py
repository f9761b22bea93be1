"""JSON: one object per line, an array of objects, or one under a key; `text` with `labels`, `label` or 0/1 keys."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from emotune.data.formats.annotations import Tool, is_task, tool_of
from emotune.data.formats.base import MOST, Content, Element, FileFormat, LeftOut, Reader, ReadOptions, Row
from emotune.data.formats.cells import shown
from emotune.data.formats.columns import TEXT_COLUMNS, Grid, find_column, read_columns, recognise_columns
from emotune.data.formats.label_ids import NameList, Schema, names_by_id
from emotune.errors import DataError, Place

_SUFFIXES = (".jsonl", ".ndjson", ".json")
_BLANKS = re.compile(r"[ \t\r\n]*")
_HALVES = re.compile(r"\\u[dD][89a-fA-F]")
_SHOWN = 200
_NAMES_KEYS = {"labels", "label_names", "names", "classes", "class_names", "categories", "id2label", "label2id"}
_CONVERSION = 'Write an object for each row; in pandas: df.to_json("data.jsonl", orient="records", lines=True)'
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
    config, whole = options.config, _whole_object(content)
    key = None if whole is None else _key_of_rows(content, whole)
    tool = tool_of((found for _, found in _objects(content)), config.label_column)
    kind = "a JSON array of objects" if _is_array(content) else "JSON lines"
    shape = kind if key is None else f"JSON rows under the key {key!r}"
    if tool is None:
        grid = grid_of(content)
        schema = _names_beside(content, whole or {}, options) if key is not None else {}
        grid = replace(grid, schema={c: schema.get(c, schema.get("", ())) for c in grid.columns})
        return recognise_columns(grid, options, FileFormat("jsonl", shape))
    chosen = {"text_column": config.text_column or tool.text_column}
    if not config.label_columns:
        chosen["label_column"] = config.label_column or tool.label_column
    options = replace(options, config=config.model_copy(update=chosen))
    grid = grid_of(content, tool=tool)
    found = recognise_columns(grid, options, FileFormat("jsonl", f"{tool.name}'s JSON", notes=tool.notes))
    one_each = not found.label_columns and _has_one_each(grid, str(found.label_column), tool)
    return replace(found, several=False, lists=False) if one_each else found


def _names_beside(content: Content, whole: Mapping[str, Any], options: ReadOptions) -> dict[str, Schema]:
    """The names of label ids that stand beside the rows, by column; those of any column under an empty name.

    These are the hub's `features`, and lists or dictionaries of names such as `labels` and `id2label`.
    """
    found: dict[str, Schema] = {}
    for feature in whole.get("features") or () if isinstance(whole.get("features"), list) else ():
        kind = feature.get("type") if isinstance(feature, dict) else None
        kind = kind.get("feature", kind) if isinstance(kind, dict) else None
        if isinstance(kind, dict) and _all_are(str, kind.get("names")):
            found[str(feature.get("name"))] = tuple(kind["names"])
    for key in (key for key in whole if key.casefold() in _NAMES_KEYS):
        value = whole[key]
        if _all_are(dict, value):
            value = {str(one.get("name", one.get("label"))): one.get("id", i) for i, one in enumerate(value)}
        try:
            pairs = list(names_by_id(value, content.path))
        except DataError:
            continue
        names = NameList(pairs) if isinstance(value, list) else dict(pairs)
        if isinstance(value, list) and options.config.first_id:
            names = NameList((i + options.config.first_id, name) for i, name in pairs)
        if len(set(names.values())) == len(pairs) == len(names):
            found.setdefault("", names)
    return found


def _has_one_each(grid: Grid, label_column: str, tool: Tool) -> bool:
    """Whether each row has a list of one label; where a row may be blank, of at most one."""
    at = grid.columns.index(label_column)
    values = (row[at] for _, row in grid.rows())
    least = 0 if tool.may_be_blank else 1
    return all(isinstance(value, list) and least <= len(value) <= 1 for value in values)


def _is_array(content: Content) -> bool:
    return content.sample[0].lstrip().startswith("[")


def grid_of(content: Content, label_column: str | None = None, tool: Tool | None = None) -> Grid:
    """The keys of all objects as columns, None in the row of an object without the key.

    `rows` raises DataError for an object without the key `label_column`: a misspelt one would mean no labels.
    """
    columns: dict[str, None] = {}
    for line, found in _rows_used(content, tool):
        if not columns.keys() >= found.keys():
            columns.update(dict.fromkeys(found))
            folded = [c.casefold() for c in columns]
            if len(set(folded)) < len(folded):
                twice = next(c for c in columns if folded.count(c.casefold()) > 1)
                hint = "Write it in one way in all rows."
                raise DataError(f"the key {twice!r} has two spellings", place=Place(content.path, line), hint=hint)
    names = list(columns)
    if not names:
        raise DataError("there are no objects with keys", place=Place(content.path, 1), hint=_HINT)
    label = find_column(label_column, names)

    def rows() -> Iterator[tuple[int, Sequence[Any]]]:
        for line, found in _rows_used(content, tool):
            if label is not None and label not in found:
                message = f"there is no key {label!r}, which other rows have"
                hint = "A text without labels has an empty list, or null."
                raise DataError(message, place=Place(content.path, line), hint=hint)
            yield line, [found.get(name) for name in names]

    return Grid(content.path, names, 1, rows, kind="keys")


def _rows_used(content: Content, tool: Tool | None) -> Iterator[tuple[int, dict[str, Any]]]:
    return ((line, row) for line, row in _rows(content, tool) if isinstance(row, dict))


def _rows(content: Content, tool: Tool | None) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Each row as a plain object, or the reason why it is left out, with its line."""
    for line, found in _objects(content):
        if tool is None:
            yield line, found
            continue
        try:
            yield from ((line, row) for row in tool.rows(found))
        except ValueError as error:
            hint = "Correct the row, or remove it."
            raise DataError(str(error), place=Place(content.path, line), hint=hint) from None


def _objects(content: Content) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object with its line."""
    for line, value in _items(content):
        if isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict) and "cats" in value[1]:
            value = {"text": value[0], **value[1]}  # spaCy's pairs
        if isinstance(value, dict) and "row_idx" in value and isinstance(value.get("row"), dict):
            if value.get("truncated_cells"):
                listed, place = shown(value["truncated_cells"]), Place(content.path, line)
                hint = "Download the data set's Parquet files instead."
                raise DataError(f"the viewer of the hub cut cells of this row short: {listed}", place=place, hint=hint)
            value = value["row"]  # an export of the hub's viewer
        if not isinstance(value, dict):
            place = Place(content.path, line)
            raise DataError(f"a row is a JSON object, this is {shown(value)}", place=place, hint=_HINT)
        for key, cell in value.items():
            if isinstance(cell, dict) and cell.keys() == {"choices"}:  # as Label Studio's JSON-MIN has them
                value = value | {key: cell["choices"]}
        yield line, value


def _items(content: Content) -> Iterator[tuple[int, Any]]:
    if _is_array(content):
        text = content.stream().read()
        return _array_items(content, text, text.index("["))
    whole = _whole_object(content)
    if whole is None:
        return _line_items(content)
    key = _key_of_rows(content, whole)
    text = content.stream().read()
    if key is None:
        return iter([(text.count("\n", 0, text.index("{")) + 1, whole)])
    at = text.index("{") + 1
    for name in whole:  # the keys in their order, each with its value, as they stand
        at = _skip_blanks(text, _JSON.raw_decode(text, _skip_blanks(text, at))[1])
        at = _skip_blanks(text, at + 1)
        if name == key:
            break
        at = _skip_blanks(text, _JSON.raw_decode(text, at)[1]) + 1
    return _array_items(content, text, at)


def _whole_object(content: Content) -> dict[str, Any] | None:
    """The object that is the whole file; None for lines of objects, an array, or another value."""
    first = content.sample[0].strip()
    if first.startswith("[") or (len(content.sample) > 1 and _is_complete(first)):
        return None
    text = content.stream().read()
    start = _skip_blanks(text, 0)
    value, end = _decoded(content, text.count("\n", 0, start) + 1, text, start)
    return value if isinstance(value, dict) and not text[end:].strip() else None


def _is_complete(line: str) -> bool:
    try:
        return _DECODER.raw_decode(line)[1] == len(line)
    except (ValueError, RecursionError):
        return False


def _key_of_rows(content: Content, whole: dict[str, Any]) -> str | None:
    """The key with the rows in the object that is the whole file; None for a single row.

    Raises DataError for an object that holds a table in another way.
    """
    if any(isinstance(value, str) and key.casefold() in TEXT_COLUMNS for key, value in whole.items()) or is_task(whole):
        return None
    keys = [key for key, value in whole.items() if _all_are(dict, value)]
    keys = [key for key in keys if _has_text(whole[key][0])] or keys
    if len(keys) == 1:
        return keys[0]
    place = Place(content.path, 1)
    if keys:
        listed = ", ".join(keys)[:_SHOWN]
        hint = "Write each list to a file of its own, such as train.json and test.json."
        raise DataError(f"there are rows under several keys: {listed}", place=place, hint=hint)
    orient = _orient(whole)
    if orient is not None:
        message = f"this is one object with a whole table in it ({orient}), not an object for each row"
        raise DataError(message, place=place, hint=_CONVERSION)
    return None


def _has_text(row: Mapping[str, Any]) -> bool:
    """Whether an object is a row with a text, also as the hub's viewer and annotation tools have them."""
    inner = [value for key, value in row.items() if key in ("row", "data") and isinstance(value, dict)]
    return any(key.casefold() in TEXT_COLUMNS for one in (row, *inner) for key in one)


def _orient(whole: dict[str, Any]) -> str | None:
    """How pandas calls an object that is a table; None for another object."""
    values = list(whole.values())
    if _all_are(list, whole.get("data")) and "columns" in whole:
        return "pandas' orient='split'"
    if _all_are(dict, values) and all(value.keys() == values[0].keys() for value in values):
        is_row = any(key.casefold() in TEXT_COLUMNS for key in values[0])
        return f"pandas' orient={'index' if is_row else 'columns'!r}"
    if len(values) > 1 and _all_are(list, values) and len(set(map(len, values))) == 1:
        return "a list for each column"
    return None


def _all_are(kind: type, values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, kind) for value in values)


def _line_items(content: Content) -> Iterator[tuple[int, Any]]:
    for number, line in content.lines():
        line = line.strip()
        value, end = _decoded(content, number, line, 0)
        if end < len(line):
            message = f"something follows the object: {shown(line[end:].lstrip())}"
            hint = "Write each object on a line of its own."
            raise DataError(message, place=Place(content.path, number), hint=hint)
        yield number, value


def _array_items(content: Content, text: str, start: int) -> Iterator[tuple[int, Any]]:
    """The items of the array at `start` with their lines. One by one, so that an error has its line."""
    alone = text[:start].isspace() or not start
    one_line, number = "\n" not in text.rstrip(), 0
    at = _skip_blanks(text, start + 1)
    line = text.count("\n", 0, at) + 1
    more = at < len(text) and text[at] != "]"
    while more:
        value, end = _decoded(content, line, text, at)
        number += 1
        yield Element(number) if one_line else line, value
        after = _skip_blanks(text, end)
        more = text[after : after + 1] == ","
        after = _skip_blanks(text, after + 1) if more else after
        line += text.count("\n", at, after)
        at = after
    if text[at : at + 1] != "]" or (alone and text[at + 1 :].strip()):
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


_JSON = json.JSONDecoder()
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
        message, hint = f"\\u{half:04x} is half of a character", "Write the whole character, or remove it."
        raise DataError(message, place=Place(content.path, line), hint=hint) from None
    except _Refused as error:
        hint = "Write each key of a row once, and null where there is no number."
        raise DataError(str(error), place=Place(content.path, line), hint=hint) from None
    except json.JSONDecodeError as error:
        line += text.count("\n", at, error.pos)
        reason = error.msg + (f" in column {error.pos + 1}" if error.lineno == 1 else "")
    except ValueError:
        reason = "a number too long"
    except RecursionError:
        reason = "it is nested too deeply"
    raise DataError(f"not valid JSON: {reason}", place=Place(content.path, line), hint=_HINT)


def read(content: Content, file_format: FileFormat) -> Iterator[Row | LeftOut]:
    tool = tool_of((found for _, found in _objects(content)), file_format.label_column)
    yield from read_columns(grid_of(content, file_format.label_column, tool), file_format)
    if tool is not None:
        yield from (LeftOut(line, why) for line, why in _rows(content, tool) if isinstance(why, str))


READER = Reader("jsonl", recognise, read)
