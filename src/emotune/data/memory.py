"""Labelled texts in memory, such as data frames, as JSON lines in the cache, where a run finds them again."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

from emotune.atomic import write_file, writing
from emotune.data.published import cache_directory
from emotune.data.split_files import SPLIT_NAMES
from emotune.errors import DataError

FOLDER = "memory"
_DIGITS = 32  # of the sha256 that names a folder
_ALONE = "data"  # the file of a table without a split
# what gives the rows of a table: polars, pyarrow, pandas
_METHODS: tuple[tuple[str, tuple[str, ...]], ...] = (("to_dicts", ()), ("to_pylist", ()), ("to_dict", ("records",)))
_TABLES = (
    "a path, a frame of pandas or Polars, an Arrow table, a list of rows as dictionaries, a pair of texts and labels, "
    "or a dictionary of such tables for train, valid and test"
)


def stored(data: Any) -> str:
    """Write labelled texts to the cache, under the digest of their content, and return the path of the file.

    data: a frame of pandas or Polars, a pyarrow Table, an iterable of rows as mappings, or a pair of texts and labels
    (of each text a name, or a list of names). A mapping of splits (train, valid, test) to these becomes a folder.
    Columns are recognised as in a file; a missing value (None, NaN) is null.

    Raises TypeError for anything else, DataError for no rows, for a mapping that is not of splits and for texts without
    labels, and OutputError for a cache that cannot be written.
    """
    if isinstance(data, Mapping):
        files: dict[str, str] = {}
        for name, table in data.items():
            if _split(name) in files:
                raise DataError(f"two splits are {_split(name)!r}: {', '.join(map(str, data))}", hint="Leave one out.")
            files[_split(name)] = _lines(table)
    else:
        files = {_ALONE: _lines(data)}
    if not any(files.values()):
        raise DataError("the data has no rows", hint="A generator can be read once; make a list of it to use it again.")
    digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:_DIGITS]
    folder = cache_directory() / FOLDER / digest
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, content in files.items():
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            write_file(path, content)
    return str(folder if isinstance(data, Mapping) else folder / f"{_ALONE}.jsonl")


def _split(name: Any) -> str:
    if name not in SPLIT_NAMES:
        raise DataError(f"{name!r} is not the name of a split", hint=f"Data is {_TABLES}.")
    return SPLIT_NAMES[name]


def _lines(table: Any) -> str:
    rows = [json.dumps({str(key): _plain(value) for key, value in row.items()}) for row in _rows(table)]
    return "".join(f"{row}\n" for row in rows)


def _rows(table: Any) -> Iterator[Mapping[Any, Any]]:
    if isinstance(table, tuple) and len(table) == 2 and not isinstance(table[0], Mapping):
        yield from _paired(*table)
        return
    for method, arguments in _METHODS if hasattr(table, "columns") else ():
        if hasattr(table, method):
            table = getattr(table, method)(*arguments)
            break
    if not isinstance(table, Iterable) or isinstance(table, str | bytes):
        raise TypeError(f"data is a {type(table).__name__}, not {_TABLES}")
    for number, row in enumerate(table):
        if not isinstance(row, Mapping):
            raise TypeError(f"row {number} of the data is a {type(row).__name__}, not a dictionary; data is {_TABLES}")
        yield row


def _paired(texts: Any, labels: Any) -> Iterator[dict[str, Any]]:
    for name, column in (("texts", texts), ("labels", labels)):
        if not isinstance(column, Iterable) or isinstance(column, str | bytes):
            raise TypeError(f"of a pair of texts and labels, the {name} are a {type(column).__name__}, not a list")
    none = object()
    for number, (text, label) in enumerate(zip_longest(texts, labels, fillvalue=none)):
        if text is none or label is none:
            raise DataError(f"texts and labels differ in number: only one of them has an item {number}")
        value = _plain(label)
        yield {"text": text, "labels" if isinstance(value, list) else "label": value}


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it; a missing value is null."""
    if hasattr(value, "tolist"):  # of numpy
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
        return None
    return value if isinstance(value, str | bool | int | float) else str(value)
