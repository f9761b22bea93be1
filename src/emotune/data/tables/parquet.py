"""Parquet tables of any size (extra `parquet`): the line of a place is the number of the row, from 1."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emotune.data.formats.parquet import libraries, reported
from emotune.data.tables.records import Records, SetAside
from emotune.data.tables.stream import STDIN, Block
from emotune.errors import DataError, MissingInputError, Place, UsageError
from emotune.hub import file_digest

_ROWS = 4096  # of a block


class Rows:
    """The rows of a Parquet file in blocks. texts: the columns of strings.

    Raises MissingInputError for a missing file, DataError for an invalid one, EmotuneError without pyarrow.
    """

    def __init__(self, path: Path) -> None:
        if path == Path(STDIN):
            raise UsageError("Parquet cannot be read from stdin", hint="Give the file: --input FILE.parquet")
        self._path = path
        self._arrow, parquet = libraries(path)
        try:
            self.size = path.stat().st_size
            self._digest = file_digest(path)
        except FileNotFoundError:
            raise MissingInputError(f"no such file: {path}") from None
        except OSError as error:
            raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(path)) from error
        if not self.size:
            raise DataError("the file is empty", place=Place(path), hint="Download or save it again.")
        with reported(path, self._arrow):
            self._file = parquet.ParquetFile(path, page_checksum_verification=True)
            schema = self._file.schema_arrow
        self.columns = tuple(schema.names)
        self.texts = [field.name for field in schema if is_text(self._arrow.types, field.type)]

    def require_text(self, position: int) -> None:
        """Raise DataError unless a column has strings."""
        name = self.columns[position]
        if name not in self.texts:
            kind = self._file.schema_arrow.field(position).type
            message = f"the column {name!r} is of type {kind}, not of texts"
            raise DataError(message, place=Place(self._path), hint="Name the column of the texts: --text-column NAME")

    def blocks(self) -> Iterator[Block]:
        """Yield the rows, once; raises DataError with the row where the file is damaged."""
        number, row, rows = 0, 1, self._file.metadata.num_rows
        batches = self._file.iter_batches(_ROWS, use_threads=False)
        while True:
            with reported(self._path, self._arrow, row=row):
                batch = next(batches, None)
            if batch is None:
                break
            position = self.size * min(row - 1 + batch.num_rows, rows) // max(rows, 1)
            yield Block(number, packed(batch, self._arrow), row, position, self._digest)
            number, row = number + 1, row + batch.num_rows
        if row - 1 != rows:
            message = f"not a valid Parquet file: it has {row - 1:,} rows, its metadata says {rows:,}"
            raise DataError(message, place=Place(self._path, max(row - 1, 1)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def is_text(types: Any, kind: Any) -> bool:
    """Whether values of an Arrow type are strings."""
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def packed(batch: Any, arrow: Any) -> bytes:
    """Return a record batch in Arrow's IPC format."""
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def unpacked(content: bytes) -> Any:
    """Return the Arrow table in Arrow's IPC format."""
    import pyarrow

    return pyarrow.ipc.open_stream(content).read_all()


def records(block: Block, text: int) -> Records:
    """Return the records of a block; `values` is the Arrow table of those whose text can be predicted."""
    table = unpacked(block.content)
    texts, kept, aside = [], [], []
    for i, value in enumerate(_strings(table.column(text))):
        if isinstance(value, str):
            texts.append(value)
            kept.append(i)
        else:
            fault = "the text is null" if value is None else f"byte 0x{value[0]:02x} is not UTF-8"
            aside.append(SetAside(block.line + i, fault, _shown(table, i, text)))
    if aside:
        table = table.take(kept)
    return Records(texts, [block.line + i for i in kept], [], table, aside)


def _shown(table: Any, row: int, text: int) -> bytes:
    """Return the other cells of a row, for people."""
    names = (name for i, name in enumerate(table.column_names) if i != text)
    cells = {name: str(table.column(name)[row]) for name in names if table.column_names.count(name) == 1}
    return json.dumps(cells, ensure_ascii=False).encode("utf-8", "replace")


def _strings(column: Any) -> list[Any]:
    """Return the values: texts, None, or the bytes of what is not UTF-8."""
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        return [_string(value) for value in column]


def _string(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return error.object[error.start :]
