"""What a label cell says: one name, several joined ones, a list, ids, or 0 and 1."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from emotune.data.formats.base import LABEL_ID, Layout, ReadOptions
from emotune.data.formats.files import read_content, read_text
from emotune.errors import DataError, MissingInputError, Place
from emotune.labels import KNOWN

# as written by people, by pandas (True), and as JSON and Parquet hold them
FLAGS: Mapping[Any, bool] = {
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
_MOST_KEPT = 100_000


def shown(value: Any) -> str:
    """A cell's value as an error message quotes it."""
    return repr(value if not isinstance(value, str) else value[:_SHOWN])[: _SHOWN + 20]


def flag(value: Any, place: Place) -> bool:
    """What a cell of a 0/1 column says; raises DataError for anything else."""
    try:
        found = FLAGS[value.strip() if isinstance(value, str) else value]
    except (KeyError, TypeError):
        raise DataError(
            "nothing stands here, neither 0 nor 1" if value is None else f"{shown(value)} is neither 0 nor 1",
            place=place,
            hint="If this column is no label, name those that are: --set data.label_columns=[A,B,…]",
        ) from None
    return found


def is_flag(value: Any) -> bool:
    """Whether a cell is 0 or 1."""
    return (
        (value.strip() if isinstance(value, str) else value) in FLAGS if not isinstance(value, list | dict) else False
    )


def pieces(cell: str, delimiter: str | None) -> tuple[str, ...]:
    """The names or ids in a label cell; one at most when there is no delimiter."""
    parts = [cell] if not delimiter else cell.split(delimiter)
    return tuple(p for p in (part.strip() for part in parts) if p)


def is_list(cell: str) -> bool:
    """Whether a label cell is a list as JSON, Python or NumPy writes it."""
    return cell.startswith("[") and cell.endswith("]")


def parse_list(cell: str) -> tuple[str, ...]:
    """The items of a flat list of names or ids: `["a", "b"]`, `['a', 'b']`, `[2, 14]`, `[2 14]`, `['a' 'b']`.

    Nothing is evaluated. Raises ValueError, saying what is wrong.
    """
    if len(cell) > _LONGEST_LIST:
        raise ValueError(f"a list of {len(cell):,} characters is not one of labels")
    if not is_list(cell):
        raise ValueError("it is not a list")
    inner, at, after_item = cell[1:-1].rstrip(), 0, False
    found: list[str] = []
    kinds = set()
    while at < len(inner):
        match = _ITEM.match(inner, at)
        if match is None or (match[1] and not after_item) or match[3] in _NO_NAMES:
            raise _no_list(inner[at:])
        start, at, after_item = at, match.end(), not match[1]
        if match[1]:
            continue
        kinds.add(match.lastindex)
        if len(kinds) > 1 or inner[at : at + 1] in ("'", '"', "["):
            raise _no_list(inner[start:])
        found.append(_unquoted(match[2]) if match[2] else match[3])
    return tuple(name for name in (item.strip() for item in found) if name)


def _no_list(rest: str) -> ValueError:
    return ValueError(f"it is no list of names or ids, from {shown(rest.lstrip())} on")


def _unquoted(quoted: str) -> str:
    """A string literal without its quotation marks and escapes."""
    if quoted[0] == '"':
        try:
            return str(json.loads(quoted, strict=False))
        except ValueError:
            pass  # Python's "\x41" and the like
    return _ESCAPED.sub(_character, quoted[1:-1])


def _character(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2] or escape[3]
    if code:
        return chr(int(code, 16)) if int(code, 16) < 0x110000 else escape[0]
    return _ESCAPES.get(escape[4], escape[4])


def label_delimiter(cells: Set[str], known: Set[str]) -> str | None:
    """What joins several names in one cell: a mark that cuts a cell into names that are known or stand elsewhere too.

    A blank must leave known names or ids, since names such as `very sad` have blanks of their own.
    """
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


def joining(cells: Set[str], asked: ReadOptions) -> str | None:
    """What joins several names in one of these cells: as configured, else by looking; None for nothing."""
    if asked.config.label_delimiter is not None:
        return asked.config.label_delimiter or None
    known = KNOWN_NAMES if asked.label_names is None else {n.casefold() for n in asked.label_names}
    return label_delimiter(cells, known)


class NameReader:
    """Label names out of cells of one layout. Cells repeat: each is taken apart once."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._kept: dict[Any, tuple[str, ...]] = {}

    def names(self, value: Any, place: Place) -> tuple[str, ...]:
        """The label names of a cell; raises DataError for one that holds none of this kind."""
        key = tuple(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value
        try:
            found = self._kept.get(key)
        except TypeError:  # a list of something else
            key, found = None, None
        if found is None or isinstance(value, bool | float):
            found = tuple(self._named(items_of(value, self._layout, place), place))
            if key is not None:
                if len(self._kept) > _MOST_KEPT:
                    self._kept.clear()
                self._kept[key] = found
        return found

    def _named(self, items: tuple[str, ...], place: Place) -> Iterator[str]:
        by_id = self._layout.id_names
        for item in items:
            if not by_id:
                yield item
            elif not LABEL_ID.fullmatch(item) or int(item) not in by_id:
                raise DataError(
                    f"label id {shown(item)} is not one of {_range(by_id)}",
                    place=place,
                    hint="Correct it, or say what the ids mean: --set data.labels_file=PATH",
                )
            else:
                yield by_id[int(item)]


def _range(by_id: Mapping[int, str]) -> str:
    low, high = min(by_id), max(by_id)
    if high - low + 1 == len(by_id):
        return f"{low} to {high}"
    return ", ".join(map(str, sorted(by_id)))[:_SHOWN]


def items_of(value: Any, layout: Layout, place: Place) -> tuple[str, ...]:
    """The names or ids of a cell, as text, or of a value of a JSON or Parquet file."""
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(name for v in value for name in [_item(v, place).strip()] if name)
    if not isinstance(value, str):
        return (_item(value, place),)
    cell = value.strip()
    if not layout.lists:
        return pieces(cell, layout.label_delimiter)
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


_HINT = "Name the file that holds the label names: --set data.labels_file=PATH"


def names_if_ids(path: Path, cells: Counter[str], asked: ReadOptions, schema: Sequence[str] = ()) -> dict[int, str]:
    """The names of label ids when most cells are ids that have names; nothing when they are names themselves.

    A cell of another kind among ids is for the reader to refuse, with its line.
    """
    ids = {cell for cell in cells if LABEL_ID.fullmatch(cell)}
    if 2 * sum(cells[cell] for cell in ids) <= cells.total() or not ids.isdisjoint(asked.label_names or ()):
        return {}
    return names_of_ids(path, asked, schema)


def names_of_ids(path: Path, asked: ReadOptions, schema: Sequence[str] = ()) -> dict[int, str]:
    """The names of label ids, nothing when nobody has them.

    The first that is there: `data.labels`, `data.labels_file`, `labels.txt` or a JSON dictionary beside the data, the
    `schema` of the file, the ids of the data which the caller's labels come from. The order of a model's labels names
    nothing. Raises DataError for a file of names that cannot be read, MissingInputError for one that is not there.
    """
    config = asked.config
    if config.labels:
        return dict(enumerate(config.labels))
    source = Path(config.labels_file).expanduser() if config.labels_file else _beside(path.parent)
    if source is not None:
        return _read(source)
    return dict(enumerate(schema)) if schema else dict(asked.ids)


def require_names(path: Path, asked: ReadOptions) -> dict[int, str]:
    """As `names_of_ids`; raises MissingInputError when nobody has them."""
    names = names_of_ids(path, asked)
    if not names:
        raise MissingInputError(
            f"the label ids need names: no file {path.parent / 'labels.txt'}",
            hint="Put the label names, one a line in id order, there or in --set data.labels_file=PATH",
        )
    return names


def _beside(folder: Path) -> Path | None:
    """`labels.txt`, `labels.json`, or the one JSON file called like a dictionary."""
    for name in ("labels.txt", "labels.json"):
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.glob("*.json") if "dict" in p.stem.casefold())
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise DataError(f"several files may name the label ids: {names}", place=Place(folder), hint=_HINT)
    return found[0] if found else None


def _read(source: Path) -> dict[int, str]:
    text = read_text(source)
    names = _from_json(source, text) if _is_json(source, text) else _from_lines(source)
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        raise DataError(f"the label {twice[0]!r} stands here twice", place=Place(source))
    return names


def _is_json(source: Path, text: str) -> bool:
    return source.suffix.casefold() == ".json" or text.lstrip().startswith("{")


def _from_lines(source: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, line in read_content(source).lines():
        if line.strip() in names.values():
            raise DataError(f"the label {line.strip()!r} stands here twice", place=Place(source, number))
        names[len(names)] = line.strip()
    return names


def _from_json(source: Path, text: str) -> dict[int, str]:
    """`{"name": id}`, `{"id": "name"}` or `["name", …]`."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise DataError(f"not valid JSON: {getattr(error, 'msg', error)}", place=Place(source, line)) from None
    if isinstance(found, list) and found and all(isinstance(name, str) for name in found):
        return dict(enumerate(found))
    pairs = list(_pairs(found)) if isinstance(found, dict) else []
    if not pairs or None in pairs:
        raise DataError(
            "this is no dictionary of label ids",
            place=Place(source, 1),
            hint='Label ids are named as {"anger": 0, "joy": 1}, {"0": "anger", "1": "joy"} or ["anger", "joy"].',
        )
    known = [pair for pair in pairs if pair is not None]
    names = dict(known)
    if len(names) < len(known):
        twice = next(i for i in names if sum(i == other for other, _ in known) > 1)
        raise DataError(f"two labels have the id {twice}", place=Place(source, 1))
    return names


def _pairs(found: Mapping[str, Any]) -> Iterable[tuple[int, str] | None]:
    """Id and name of each entry; None for one that is neither way round."""
    for key, value in found.items():
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9:
            yield value, key
        elif isinstance(value, str) and LABEL_ID.fullmatch(key):
            yield int(key), value
        else:
            yield None


def class_label_names(feature: Any) -> tuple[str, ...]:
    """The names in a column's feature as Hugging Face `datasets` describes it: a ClassLabel, or a list of them."""
    while isinstance(feature, Mapping) and "feature" in feature:
        feature = feature["feature"]
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    names = feature.get("names") if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" else None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
