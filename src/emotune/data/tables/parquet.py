"""Parquet tables of any size (extra `parquet`): the line of a place is the number of the row, from 1."""

import json
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from emotune.data.formats.parquet import libraries, reported
from emotune.data.tables.records import Records, SetAside
from emotune.data.tables.stream import STDIN, Block
from emotune.errors import DataError, MissingInputError, Place, UsageError, missing_library
from emotune.hub import file_digest

ROWS = 4096  # of a block
_ROW_GROUP = 1 << 16  # rows that are written together


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
        except FileNotFoundError:
            raise MissingInputError(f"no such file: {path}") from None
        except OSError as error:
            raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(path)) from error
        if not self.size:
            raise DataError("the file is empty", place=Place(path), hint="Download or save it again.")
        with reported(path, self._arrow):
            file = path.open("rb")
            try:
                self._file = parquet.ParquetFile(file, page_checksum_verification=True)
                schema = self._file.schema_arrow
            except BaseException:
                file.close()
                raise
        self.columns, self.schema = tuple(schema.names), bytes(schema.serialize())
        self.texts = [field.name for field in schema if is_text(self._arrow.types, field.type)]

    def require_text(self, position: int) -> None:
        """Raise DataError unless a column has strings."""
        name = self.columns[position]
        if name not in self.texts:
            kind = self._file.schema_arrow.field(position).type
            message = f"the column {name!r} is of type {kind}, not of texts"
            raise DataError(message, place=Place(self._path), hint="Name the column of the texts: --text-column NAME")

    def blocks(self, number_of_rows: int) -> Iterator[Block]:
        """Yield the rows in blocks of this number, once; raises DataError with the row where the file is damaged."""
        number, row, rows = 0, 1, self._file.metadata.num_rows
        digest = file_digest(self._path)
        batches = self._file.iter_batches(number_of_rows, use_threads=False)
        while True:
            with reported(self._path, self._arrow, row=row):
                batch = next(batches, None)
            if batch is None:
                break
            position = self.size * min(row - 1 + batch.num_rows, rows) // max(rows, 1)
            yield Block(number, packed(batch, self._arrow), row, position, digest, lines=batch.num_rows)
            number, row = number + 1, row + batch.num_rows
        if row - 1 != rows:
            message = f"not a valid Parquet file: it has {row - 1:,} rows, its metadata says {rows:,}"
            raise DataError(message, place=Place(self._path, max(row - 1, 1)))

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)


def require_library() -> None:
    """Raise EmotuneError unless Parquet can be written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise missing_library("writing Parquet", error.name, "parquet") from None


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


def values(column: Any) -> list[Any]:
    """Return the values of a column; what is not UTF-8 becomes a replacement character."""
    return [value.decode("utf-8", "replace") if type(value) is bytes else value for value in _strings(column)]


def empty(schema: bytes) -> Any:
    """Return the Arrow table without rows of a schema, in its own format."""
    import pyarrow

    return pyarrow.ipc.read_schema(pyarrow.py_buffer(schema)).empty_table()


def extended(table: Any, columns: Mapping[str, Any]) -> bytes:
    """Return an Arrow table with more columns, of which the first has lists of labels, in Arrow's IPC format."""
    import pyarrow

    for name, found in columns.items():
        table = table.append_column(name, _array(found, name == next(iter(columns)), pyarrow))
    # the features that Hugging Face `datasets` writes do not have the new columns
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"huggingface"}
    table = table.replace_schema_metadata(metadata)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def made(cells: Mapping[str, Sequence[str | None]], columns: Mapping[str, Any]) -> bytes:
    """Return a table of strings with more columns, in Arrow's IPC format."""
    import pyarrow

    arrays = {name: pyarrow.array(found, pyarrow.string()) for name, found in cells.items()}
    return extended(pyarrow.table(arrays), columns)


def _array(found: Any, are_lists: bool, arrow: Any) -> Any:
    """Return labels, lists of labels or scores as an Arrow array; NaN becomes null."""
    if not isinstance(found, list):
        return arrow.array(found, arrow.float32(), from_pandas=True)
    return arrow.array(found, arrow.list_(arrow.string()) if are_lists else arrow.string())


def joined(tables: bytes) -> bytes:
    """Return tables in Arrow's IPC format, one after the other, as a Parquet file."""
    target = BytesIO()
    _join(BytesIO(tables), len(tables), target)
    return target.getvalue()


def join(parts: Path, target: BinaryIO) -> None:
    """Write tables in Arrow's IPC format, one after the other in a file, as one Parquet file."""
    with parts.open("rb") as file:
        _join(file, parts.stat().st_size, target)


def _join(file: BinaryIO, size: int, target: BinaryIO) -> None:
    import pyarrow
    from pyarrow import parquet

    writer = None
    held: list[Any] = []
    while file.tell() < size:
        with pyarrow.ipc.open_stream(file) as reader:
            held.append(reader.read_all())
        writer = writer or parquet.ParquetWriter(target, held[0].schema)
        if sum(map(len, held)) >= _ROW_GROUP:
            writer.write_table(pyarrow.concat_tables(held))
            held.clear()
    if writer is not None:
        if held:
            writer.write_table(pyarrow.concat_tables(held))
        writer.close()


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
        import pyarrow

        table = table.take(pyarrow.array(kept, pyarrow.int64()))
    return Records(texts, [block.line + i for i in kept], [], table, aside, covered=len(texts) + len(aside))


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
