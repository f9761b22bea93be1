"""Parquet (extra `parquet`): the columns of a table; a place in such a file is the number of the row, from 1."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from emotune.data.formats.base import Family, Layout, ReadOptions, Row
from emotune.data.formats.cells import class_label_names
from emotune.data.formats.columns import Grid, read_columns, recognise_columns
from emotune.data.formats.files import Content
from emotune.data.formats.written import columns_of, values_of
from emotune.errors import DataError, EmotuneError, Place
from emotune.labels import LabelSet, Task

_MAGIC = b"PAR1"
_BATCH = 4096
_HINT = "Fetch or write the file anew."


def recognise(content: Content, asked: ReadOptions) -> Layout | None:
    if asked.format != "parquet" and not _is_parquet(content):
        return None
    layout = Layout("parquet", "Parquet")
    return recognise_columns(_grid(content), asked, layout)


def _is_parquet(content: Content) -> bool:
    """Whether the bytes are Parquet, cut short or not; a text may begin with the same letters."""
    raw = content.raw
    called = content.path.name.casefold().removesuffix(".gz").endswith(".parquet")
    return called or (raw.startswith(_MAGIC) and (raw.endswith(_MAGIC) or not content.is_text))


def _grid(content: Content) -> Grid:
    arrow, parquet = _libraries(content.path)
    with _reported(content.path, arrow):
        schema = parquet.ParquetFile(arrow.BufferReader(content.raw)).schema_arrow
        types = {name: schema.field(i).type for i, name in enumerate(schema.names) if schema.names.count(name) == 1}
        columns = [name for name, kind in types.items() if _is_read(arrow, kind)]
        described = _described(schema.metadata or {})
    names = {column: class_label_names(described.get(column)) for column in columns}
    return Grid(content.path, columns, 1, lambda: _rows(content, columns), {c: n for c, n in names.items() if n})


def _rows(content: Content, columns: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
    arrow, parquet = _libraries(content.path)
    number = 0
    with _reported(content.path, arrow):
        file = parquet.ParquetFile(arrow.BufferReader(content.raw), page_checksum_verification=True)
        batches, promised = file.iter_batches(_BATCH, columns=list(columns)), file.metadata.num_rows
    while True:
        with _reported(content.path, arrow, number + 1):
            batch = next(batches, None)
            values = [] if batch is None else [batch.column(name).to_pylist() for name in columns]
        if batch is None:
            break
        for row in zip(*values, strict=True):
            number += 1
            yield number, row
    if number != promised:
        message = f"not a sound Parquet file: it holds {number:,} rows and says that there are {promised:,}"
        raise DataError(message, place=Place(content.path, max(number, 1)), hint=_HINT)
    if not number:
        raise DataError("there are no rows", place=Place(content.path, 1))


def _libraries(path: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise EmotuneError(
            "reading and writing Parquet needs pyarrow, which is not installed",
            place=Place(path),
            hint="pip install 'emotune[parquet]'",
        ) from None
    return pyarrow, parquet


class _reported:  # noqa: N801 - used as a statement
    """While entered, what the library says of a broken file is an error of ours."""

    def __init__(self, path: Path, arrow: Any, row: int = 1) -> None:
        self._place, self._arrow = Place(path, row), arrow

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> None:
        # Arrow's own errors, its OSErrors, texts that are not UTF-8, and sizes out of this world
        known = (self._arrow.ArrowException, OSError, UnicodeDecodeError, ValueError, MemoryError, OverflowError)
        if isinstance(error, known):
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise DataError(f"not a sound Parquet file: {reason}", place=self._place, hint=_HINT) from None


def _is_read(arrow: Any, kind: Any) -> bool:
    """Whether a column is of a kind that a text, a label or a 0/1 can have."""
    types = arrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
        if types.is_floating(kind):  # vectors, which may be long
            return False
    checks = (
        types.is_string,
        types.is_large_string,
        types.is_integer,
        types.is_boolean,
        types.is_floating,
        types.is_null,
    )
    return any(check(kind) for check in checks)


def _described(metadata: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    """What Hugging Face `datasets` wrote of the columns; nothing where it wrote nothing that can be read."""
    try:
        found = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read(content: Content, layout: Layout) -> Iterator[Row]:
    return read_columns(_grid(content), layout)


def write(file: BinaryIO, rows: Iterable[Row], layout: Layout) -> None:
    arrow, parquet = _libraries(Path("parquet"))
    values = [values_of(row, layout) for row in rows]
    if any(isinstance(value, dict) for row in values for value in row):
        raise DataError("this layout has no room for soft targets")
    columns = columns_of(layout)
    kinds = [_kind(arrow, layout, name) for name in columns]
    try:
        arrays = [arrow.array([row[i] for row in values], type=kind) for i, kind in enumerate(kinds)]
    except (arrow.ArrowException, UnicodeEncodeError) as error:
        raise DataError(f"Parquet cannot carry it: {error}") from None
    parquet.write_table(arrow.table(arrays, names=columns), file, write_page_checksum=True)


def _kind(arrow: Any, layout: Layout, column: str) -> Any:
    if column in layout.label_columns:
        return arrow.int8()
    if column != layout.label_column:
        return arrow.string()
    one = arrow.int64() if layout.id_names else arrow.string()
    return arrow.list_(one) if layout.lists else one


def plain(labels: LabelSet) -> Layout:
    several = labels.task is Task.MULTI_LABEL
    start = Layout("parquet", "Parquet", several=several, text_column="text", id_column="id")
    return replace(start, label_column="labels" if several else "label", lists=several)


FAMILY = Family("parquet", recognise, read, write, plain)
