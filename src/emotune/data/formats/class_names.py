"""The names of label ids: from the configuration, a file beside the data, the data's own schema, or other data."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emotune.data.formats.base import ReadOptions
from emotune.data.formats.files import read_content, read_text
from emotune.data.formats.rows import LABEL_ID
from emotune.errors import DataError, MissingInputError, Place

_HINT = "Name the file that holds the label names: --set data.labels_file=PATH"
_SHOWN = 60


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
