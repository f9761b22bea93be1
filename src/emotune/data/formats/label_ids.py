"""The names of numeric label ids: where they come from, and the questions that they leave open."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emotune.config.schema import DataConfig
from emotune.data.formats.base import LABEL_ID, ReadOptions, Row, read_content
from emotune.data.formats.literals import quoting_error
from emotune.errors import DataError, Place
from emotune.labels import GOEMOTIONS

_HEADERS = {"label", "labels", "label_name", "emotion", "emotions", "name", "names", "class", "category", "sentiment"}
_HEADERS |= {"id", "ids", "index", "no", "label_id", "class_id", "emotion_id", "value", "code"}
_SIGN = r"(?:\s*[:=,;|]\s*|[.)\]]?\s+(?:-\s+)?)"
# a line with the id before its name, and one with the id after it
_NUMBERED = (
    re.compile(rf"[(\[]?(?P<id>[0-9]{{1,9}}){_SIGN}(?P<name>\S.*)"),
    re.compile(rf"(?P<name>\S.*?){_SIGN}[(\[]?(?P<id>[0-9]{{1,9}})[)\]]?"),
)
_DICTIONARY = 'Label ids are named as {"anger": 0, "joy": 1}, {"0": "anger", "1": "joy"} or ["anger", "joy"].'
FIRST_ID_HINT = "If the ids begin at 1: --set data.first_id=1"


class NameList(dict[int, str]):
    """Names by id that come from a list, whose order alone gives the ids: nothing says that they begin at 0."""


# the names of ids in a data file itself: in order from 0, or by id
Schema = Sequence[str] | Mapping[int, str]


def names_if_ids(path: Path, cells: Counter[str], options: ReadOptions, schema: Schema = ()) -> Mapping[int, str]:
    """The names of the label ids when most cells are ids that have names; empty when the cells are names.

    A cell of another kind among ids is refused by the reader, with its line.
    """
    ids = {cell for cell in cells if LABEL_ID.fullmatch(cell)}
    if 2 * sum(cells[cell] for cell in ids) <= cells.total() or not ids.isdisjoint(options.label_names or ()):
        return {}
    return names_of_ids(path, options, schema)


def names_of_ids(path: Path, options: ReadOptions, schema: Schema = ()) -> Mapping[int, str]:
    """The names of the label ids in a file; empty when nothing gives them.

    The first of these counts: `data.labels`; `data.labels_file`; `labels.txt` or a JSON dictionary beside the data; the
    `schema` in the file; the ids of the data that the caller's labels come from. The order of a model's labels does
    not define ids. Raises DataError for an invalid file of names, MissingInputError for one that does not exist.
    """
    config = options.config
    if config.labels:
        return NameList(enumerate(config.labels, config.first_id or 0))
    if config.labels_file:
        return _read_names(Path(config.labels_file).expanduser(), config)
    folder = path.parent
    for name in ("labels.txt", "labels.json"):
        if (folder / name).is_file():
            return _read_names(folder / name, config)
    found = sorted(p for p in folder.glob("*.json") if "dict" in p.stem.casefold())
    if len(found) > 1:
        hint = "Name the file of the label names: --set data.labels_file=PATH"
        listed = ", ".join(p.name for p in found)
        raise DataError(f"several files may name the label ids: {listed}", place=Place(folder), hint=hint)
    if found:
        return _read_names(found[0], config)
    if isinstance(schema, Mapping):
        return schema
    return dict(enumerate(schema)) if schema else options.ids


def _read_names(source: Path, config: DataConfig) -> Mapping[int, str]:
    """The names of the ids in a file; the names of a list have the ids from `data.first_id` on."""
    content, first_id = read_content(source, config.encoding), config.first_id or 0
    text = content.stream().read()
    names: dict[int, str] = {} if text.lstrip().startswith("{") else NameList()
    listed: list[tuple[int, str, int | None]]
    if source.suffix.casefold() == ".json" or text.lstrip().startswith("{"):
        listed = [(i, name, None) for i, name in _json_names(source, text)]
    else:
        lines = [(number, line.strip()) for number, line in content.lines()]
        _require_plain_list(source, lines)
        numbered = _numbered_names(source, lines)
        names = {} if numbered else names
        listed = numbered or [(i, name, number) for i, (number, name) in enumerate(lines)]
    entries = [(i + first_id * isinstance(names, NameList), name, line) for i, name, line in listed]
    seen: set[str] = set()
    for number, name, line in entries:
        if line is not None and (error := quoting_error(name)):
            hint = "A list of names has one a line, without quotation marks and commas."
            raise DataError(f"the label {name[:60]!r} {error}", place=Place(source, line), hint=hint)
        if name in seen:
            hint = "Give each id another name."
            raise DataError(f"the label {name!r} occurs twice", place=Place(source, line), hint=hint)
        if number in names:
            hint = "Give each name another id."
            raise DataError(f"two labels have the id {number}", place=Place(source, line or 1), hint=hint)
        seen.add(name)
        names[number] = name
    return names


def _require_plain_list(source: Path, lines: Sequence[tuple[int, str]]) -> None:
    """Raise DataError for a header, such as `name` or `id,label`, and for several names on the only line."""
    number, first = lines[0] if lines else (1, "")
    words = re.split(r"[\s,;:=|]+", first.casefold())
    hint = "A list of names has one a line, in the order of the ids, and no header."
    if len(lines) > 1 and _HEADERS.issuperset(words):
        message = f"{first!r} is a header, not a label"
        raise DataError(message, place=Place(source, number), hint=f"{hint} Remove this line.")
    if len(lines) == 1 and (re.search("[,;|\t]", first) or len(words) > 2):
        raise DataError(f"several labels on one line: {first[:60]!r}", place=Place(source, number), hint=hint)


def _numbered_names(source: Path, lines: Sequence[tuple[int, str]]) -> list[tuple[int, str, int | None]]:
    """Id, name and line of each entry of `0 anger`, `0: anger` or `anger 0`; empty for lines of names alone.

    Names such as `1 star`, `2 stars`, `3 stars`, or `level 1`, `level 2`, have numbers that are no ids. Raises
    DataError when most lines have an id, but not all.
    """
    for pattern in _NUMBERED:
        found = [(number, pattern.fullmatch(line)) for number, line in lines]
        entries: list[tuple[int, str, int | None]] = [(int(m["id"]), m["name"], n) for n, m in found if m is not None]
        if 2 * len(entries) <= len(lines) or len({name for _, name, _ in entries}) < len(entries) or len(lines) < 2:
            continue
        other = next((number for number, match in found if match is None), None)
        if other is not None:
            hint = "Write an id and a name in every line, such as: 0 anger; or names alone, in the order of the ids."
            raise DataError(
                "there is no id in this line, and most lines have one", place=Place(source, other), hint=hint
            )
        return entries
    return []


def _json_names(source: Path, text: str) -> Iterator[tuple[int, str]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        message = f"not valid JSON: {getattr(error, 'msg', error)}"
        raise DataError(message, place=Place(source, line), hint=_DICTIONARY) from None
    return names_by_id(found, source)


def names_by_id(found: Any, source: Path) -> Iterator[tuple[int, str]]:
    """Id and name of each entry of `{"name": id}`, `{"id": "name"}` or `["name", …]`; raises DataError for others."""
    pairs: list[tuple[Any, Any]] = list(found.items()) if isinstance(found, dict) else []
    if isinstance(found, list):
        pairs = [(name, i) for i, name in enumerate(found)]
    for key, value in pairs or [(None, None)]:
        if isinstance(key, str) and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
            yield value, key
        elif isinstance(value, str) and isinstance(key, str) and LABEL_ID.fullmatch(key):
            yield int(key), value
        else:
            raise DataError("this is not a dictionary of label ids", place=Place(source, 1), hint=_DICTIONARY)


def require_first_id(
    rows: Mapping[Path, Sequence[Row]], names: Mapping[int, str], options: ReadOptions, *, published: bool
) -> None:
    """Raise DataError when no row has the first name of a list: the ids may begin at 1, and all would be shifted.

    published   whether the file is in the format of GoEmotions, whose ids are known to begin at 0
    """
    known = options.config.first_id is not None or names == options.ids
    if known or not isinstance(names, NameList) or (published and tuple(names.values()) == GOEMOTIONS.names):
        return
    labelled = ((path, row) for path, there in rows.items() for row in there if row.names)
    first = next(labelled, None)
    if first is None or names[0] in first[1].names or any(names[0] in row.names for _, row in labelled):
        return
    path, row = first
    number = next(i for i, name in names.items() if name == row.names[0])
    message = f"no row has label id 0; are the ids from 0, so that {number} is {names[number]!r}, "
    message += f"or from 1, so that it is {names[number - 1]!r}?"
    hint = "From 0: --set data.first_id=0; from 1: --set data.first_id=1"
    raise DataError(message, place=Place(path, row.line), hint=hint)
