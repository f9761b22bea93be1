"""Label cells: one name, several joined names, a list, ids, 0 and 1, or shares. Also the names of label ids."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from emotune.data.formats.base import LABEL_ID, FileFormat, ReadOptions, read_content
from emotune.errors import DataError, Place
from emotune.labels import KNOWN

# as people, pandas (True), JSON and Parquet write them
_FLAGS: Mapping[Any, bool] = {
    **dict.fromkeys(("0", "0.0", "False", "false", "FALSE", 0), False),
    **dict.fromkeys(("1", "1.0", "True", "true", "TRUE", 1), True),
}
KNOWN_NAMES = frozenset(name for labels in KNOWN.values() for name in labels.names)
_LONGEST_LIST = 20_000
_ITEM = re.compile(r"""\s*(?:(,)|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(\w[^\s,'"\[\]]*|-?\w+))""", re.DOTALL)
_NO_NAMES = ("None", "null", "nan", "NaN")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\n": ""}
_ESCAPED = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_SHOWN = 60


def shown(value: Any) -> str:
    """A cell's value as an error message quotes it."""
    return repr(value if not isinstance(value, str) else value[:_SHOWN])[: _SHOWN + 20]


def flag(value: Any, place: Place) -> bool:
    """The value of a 0/1 cell; raises DataError for anything else."""
    if is_flag(value):
        return _FLAGS[value.strip() if isinstance(value, str) else value]
    found = "the cell is empty," if value is None else f"{shown(value)} is"
    hint = "If this column is no label, name those that are: --set data.label_columns=[A,B,…]"
    raise DataError(f"{found} neither 0 nor 1", place=place, hint=hint)


def is_flag(value: Any) -> bool:
    """Whether a cell is 0 or 1."""
    if isinstance(value, list | dict):
        return False
    return (value.strip() if isinstance(value, str) else value) in _FLAGS


def pieces(cell: str, delimiter: str | None) -> tuple[str, ...]:
    """The names or ids in a label cell; at most one when there is no delimiter."""
    parts = [cell] if not delimiter else cell.split(delimiter)
    return tuple(p for p in (part.strip() for part in parts) if p)


def is_list(cell: str) -> bool:
    """Whether a label cell is a list as JSON, Python or NumPy writes it."""
    return cell.startswith("[") and cell.endswith("]")


def parse_list(cell: str) -> tuple[str, ...]:
    """The items of a flat list of names or ids: `["a", "b"]`, `['a', 'b']`, `[2, 14]`, `[2 14]`, `['a' 'b']`.

    Nothing is evaluated. Raises ValueError with the reason.
    """
    if len(cell) > _LONGEST_LIST:
        raise ValueError(f"a list of {len(cell):,} characters is too long for a list of labels")
    if not is_list(cell):
        raise ValueError("it is not a list")
    inner, at, after_item = cell[1:-1].rstrip(), 0, False
    found: list[str] = []
    kinds = set()
    while at < len(inner):
        match = _ITEM.match(inner, at)
        if match is None or (match[1] and not after_item) or match[3] in _NO_NAMES:
            break
        after_item = not match[1]
        if after_item:
            kinds.add(match.lastindex)
            if len(kinds) > 1 or inner[match.end() : match.end() + 1] in ("'", '"', "["):
                break
            found.append(_unquoted(match[2]) if match[2] else match[3])
        at = match.end()
    if at < len(inner):
        raise ValueError(f"it is not a list of names or ids, from {shown(inner[at:].lstrip())} on")
    return tuple(name for name in (item.strip() for item in found) if name)


def _unquoted(quoted: str) -> str:
    """A string literal of JSON or Python without its quotation marks and escapes."""

    def character(escape: re.Match[str]) -> str:
        code = escape[1] or escape[2] or escape[3]
        if code:
            return chr(int(code, 16)) if int(code, 16) < 0x110000 else escape[0]
        return _ESCAPES.get(escape[4], escape[4])

    if quoted[0] == '"':
        try:
            return str(json.loads(quoted, strict=False))
        except ValueError:
            pass  # Python's "\x41" and the like
    return _ESCAPED.sub(character, quoted[1:-1])


def joining(cells: Set[str], options: ReadOptions) -> str | None:
    """The delimiter between several names in one of these cells, as configured or else detected; None without one.

    Detected is a delimiter that cuts a cell into names that are known or occur in other cells too. A blank must leave
    known names or ids, since names such as `very sad` contain blanks.
    """
    if options.config.label_delimiter is not None:
        return options.config.label_delimiter or None
    known = KNOWN_NAMES if options.label_names is None else {n.casefold() for n in options.label_names}
    if all(cell.casefold() in known for cell in cells):
        return None
    for delimiter in ("|", ";", ",", " "):
        if not any(delimiter in cell for cell in cells):
            continue
        cut = [pieces(cell, delimiter) for cell in cells]
        count = Counter(piece for found in cut for piece in set(found))
        sure = {p for p in count if delimiter in "|;" or p.casefold() in known or LABEL_ID.fullmatch(p)}
        if delimiter == ",":
            sure |= {p for p, n in count.items() if n > 1}
        if any(len(found) > 1 and sure.issuperset(found) for found in cut):
            return delimiter
    return None


class NameReader:
    """Reads the label names of cells of one format. Text cells repeat: each is parsed once."""

    def __init__(self, file_format: FileFormat) -> None:
        self._format = file_format
        self._known: dict[str, tuple[str, ...]] = {}

    def names(self, value: Any, place: Place) -> tuple[str, ...]:
        """The label names of a cell; raises DataError for a cell of another kind."""
        if isinstance(value, str) and value in self._known:
            return self._known[value]
        found, by_id = items_of(value, self._format, place), self._format.id_names
        for item in found if by_id else ():
            if not LABEL_ID.fullmatch(item) or int(item) not in by_id:
                low, high = min(by_id), max(by_id)
                ids = f"{low} to {high}"
                if high - low >= len(by_id):
                    ids = ", ".join(map(str, sorted(by_id)))[:_SHOWN]
                hint = "Correct it, or give the names of the ids: --set data.labels_file=PATH"
                raise DataError(f"label id {shown(item)} is not one of {ids}", place=place, hint=hint)
        if by_id:
            found = tuple(by_id[int(item)] for item in found)
        if isinstance(value, str):
            self._known[value] = found
        return found


def items_of(value: Any, file_format: FileFormat, place: Place) -> tuple[str, ...]:
    """The names or ids, as text, of a cell or of a value in a JSON or Parquet file."""
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(name for v in value for name in [_item(v, place).strip()] if name)
    if not isinstance(value, str):
        return (_item(value, place),)
    cell = value.strip()
    if not file_format.lists:
        return pieces(cell, file_format.label_delimiter)
    try:
        return parse_list(cell) if cell else ()
    except ValueError as error:
        raise DataError(f"{shown(cell)}: {error}", place=place) from None


def _item(value: Any, place: Place) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return str(value)
    raise DataError(f"a label is a name or an id, not {shown(value)}", place=place)


def shares_of(value: Mapping[str, Any], place: Place) -> tuple[tuple[str, float], ...]:
    """The soft targets of a JSON object of names and shares; raises DataError unless each is a number from 0 to 1."""
    for name, share in value.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            message = f"the share of {name[:_SHOWN]!r} is a number from 0 to 1, not {str(share)[:_SHOWN]}"
            raise DataError(message, place=place)
    return tuple((name, float(share)) for name, share in value.items() if share)


# The names of label ids


def names_if_ids(
    path: Path, cells: Counter[str], options: ReadOptions, schema: Sequence[str] = ()
) -> Mapping[int, str]:
    """The names of the label ids when most cells are ids that have names; empty when the cells are names.

    A cell of another kind among ids is refused by the reader, with its line.
    """
    ids = {cell for cell in cells if LABEL_ID.fullmatch(cell)}
    if 2 * sum(cells[cell] for cell in ids) <= cells.total() or not ids.isdisjoint(options.label_names or ()):
        return {}
    return names_of_ids(path, options, schema)


def names_of_ids(path: Path, options: ReadOptions, schema: Sequence[str] = ()) -> Mapping[int, str]:
    """The names of the label ids in a file; empty when nothing gives them.

    The first of these counts: `data.labels`; `data.labels_file`; `labels.txt` or a JSON dictionary beside the data; the
    `schema` in the file; the ids of the data that the caller's labels come from. The order of a model's labels does
    not define ids. Raises DataError for an invalid file of names, MissingInputError for one that does not exist.
    """
    config = options.config
    if config.labels:
        return dict(enumerate(config.labels))
    if config.labels_file:
        return _read_names(Path(config.labels_file).expanduser(), config.encoding)
    folder = path.parent
    for name in ("labels.txt", "labels.json"):
        if (folder / name).is_file():
            return _read_names(folder / name, config.encoding)
    found = sorted(p for p in folder.glob("*.json") if "dict" in p.stem.casefold())
    if len(found) > 1:
        hint = "Name the file of the label names: --set data.labels_file=PATH"
        listed = ", ".join(p.name for p in found)
        raise DataError(f"several files may name the label ids: {listed}", place=Place(folder), hint=hint)
    if found:
        return _read_names(found[0], config.encoding)
    return dict(enumerate(schema)) if schema else options.ids


def _read_names(source: Path, encoding: str | None) -> Mapping[int, str]:
    content = read_content(source, encoding)
    text = content.stream().read()
    if source.suffix.casefold() == ".json" or text.lstrip().startswith("{"):
        entries: list[tuple[int, str, int | None]] = [(i, name, None) for i, name in _json_names(source, text)]
    else:
        entries = [(i, line.strip(), number) for i, (number, line) in enumerate(content.lines())]
    names: dict[int, str] = {}
    seen: set[str] = set()
    for number, name, line in entries:
        if name in seen:
            raise DataError(f"the label {name!r} occurs twice", place=Place(source, line))
        if number in names:
            raise DataError(f"two labels have the id {number}", place=Place(source, 1))
        seen.add(name)
        names[number] = name
    return names


def _json_names(source: Path, text: str) -> Iterator[tuple[int, str]]:
    """Id and name of each entry of `{"name": id}`, `{"id": "name"}` or `["name", …]`."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise DataError(f"not valid JSON: {getattr(error, 'msg', error)}", place=Place(source, line)) from None
    pairs: list[tuple[Any, Any]] = list(found.items()) if isinstance(found, dict) else []
    if isinstance(found, list):
        pairs = [(name, i) for i, name in enumerate(found)]
    for key, value in pairs or [(None, None)]:
        if isinstance(key, str) and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
            yield value, key
        elif isinstance(value, str) and LABEL_ID.fullmatch(key):
            yield int(key), value
        else:
            hint = 'Label ids are named as {"anger": 0, "joy": 1}, {"0": "anger", "1": "joy"} or ["anger", "joy"].'
            raise DataError("this is not a dictionary of label ids", place=Place(source, 1), hint=hint)
