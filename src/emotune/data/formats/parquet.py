"""Parquet (extra `parquet`): the columns of a table. The line of a place is the number of the row, from 1."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emotune.data.formats.base import Content, FileFormat, Reader, ReadOptions, Row
from emotune.data.formats.columns import LABEL_COLUMNS, Grid, read_columns, recognise_columns
from emotune.errors import DataError, Place, missing_library

_MAGIC = b"PAR1"
_BATCH = 4096
_HINT = "Download or write the file again."


def recognise(content: Content, options: ReadOptions) -> FileFormat | None:
    if options.format is None and not content.name.casefold().endswith(".parquet"):
        # a file that is cut short has no magic at its end; a text may begin with the same letters
        raw = content.raw
        if not raw.startswith(_MAGIC) or (content.is_text and not raw.endswith(_MAGIC)):
            return None
    return recognise_columns(grid_of(content), options, FileFormat("parquet", "Parquet"))


def grid_of(content: Content) -> Grid:
    arrow, parquet = libraries(content.path)
    with reported(content.path, arrow):
        schema = parquet.ParquetFile(arrow.BufferReader(content.raw)).schema_arrow
        columns, names = columns_of(schema, arrow)
    return Grid(content.path, columns, 1, lambda: _rows(content, columns), names, "schema")


def columns_of(schema: Any, arrow: Any) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The columns of an Arrow schema that may hold texts or labels, and the names of the label ids in each."""
    types = {name: schema.field(i).type for i, name in enumerate(schema.names) if schema.names.count(name) == 1}
    columns = [name for name, kind in types.items() if _is_read(arrow.types, kind, name)]
    try:  # the features of the columns as Hugging Face `datasets` writes them
        described = dict(json.loads(schema.metadata[b"huggingface"])["info"]["features"])
    except (KeyError, TypeError, ValueError, RecursionError):
        described = {}
    return columns, {column: _class_label_names(described.get(column)) for column in columns}


def _rows(content: Content, columns: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
    arrow, parquet = libraries(content.path)
    number = 0
    with reported(content.path, arrow):
        file = parquet.ParquetFile(arrow.BufferReader(content.raw), page_checksum_verification=True)
        batches, promised = file.iter_batches(_BATCH, columns=list(columns)), file.metadata.num_rows
    for number, row in rows_of(batches, columns, content.path, arrow):
        yield number, row
    if number != promised:
        message = f"not a valid Parquet file: it has {number:,} rows, its metadata says {promised:,}"
        raise DataError(message, place=Place(content.path, max(number, 1)), hint=_HINT)
    require_rows(content.path, number)


def rows_of(
    batches: Iterator[Any], columns: Sequence[str], path: Path, arrow: Any, kind: str = "Parquet"
) -> Iterator[tuple[int, Sequence[Any]]]:
    """Yield the rows of batches with their numbers from 1; raises DataError for a batch that is not valid."""
    number = 0
    while True:
        with reported(path, arrow, kind, number + 1):
            batch = next(batches, None)
            values = [] if batch is None else [batch.column(name).to_pylist() for name in columns]
        if batch is None:
            return
        for row in zip(*values, strict=True):
            number += 1
            yield number, row


def require_rows(path: Path, number: int) -> None:
    """Raise DataError for a file without rows."""
    if not number:
        raise DataError("there are no rows", place=Place(path, 1), hint="Give another file.")


def libraries(path: Path, kind: str = "Parquet") -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`; raises EmotuneError with the extra that installs them."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise missing_library(f"reading {kind}", error.name, "parquet", Place(path)) from None
    return pyarrow, parquet


@contextmanager
def reported(path: Path, arrow: Any, kind: str = "Parquet", row: int = 1) -> Iterator[None]:
    """Turn the errors of the library about an invalid file into DataError."""
    try:
        yield
    # besides Arrow's own: its OSErrors, texts that are not UTF-8, and impossible sizes
    except (arrow.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"not a valid {kind} file: {reason}", place=Place(path, row), hint=_HINT) from None


def _is_read(types: Any, kind: Any, name: str) -> bool:
    """Whether a column is of a kind that a text, a label or a 0/1 can have."""
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
        if types.is_floating(kind) and name.casefold() not in LABEL_COLUMNS:  # embeddings, which may be long
            return False
    names = ("string", "large_string", "integer", "boolean", "floating", "null")
    return any(getattr(types, f"is_{name}")(kind) for name in names)


def _class_label_names(feature: Any) -> tuple[str, ...]:
    """The names in a column's feature: a ClassLabel, or a list of them."""
    while isinstance(feature, Mapping) and "feature" in feature:
        feature = feature["feature"]
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    names = feature.get("names") if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" else None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def read(content: Content, file_format: FileFormat) -> Iterator[Row]:
    return read_columns(grid_of(content), file_format)


READER = Reader("parquet", recognise, read)
