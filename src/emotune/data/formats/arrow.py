"""Arrow files, of which Feather files and those of `save_to_disk` are kinds (extra `parquet`).

The line of a place is the number of the row, from 1.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from emotune.data.formats.base import Content, FileFormat, Reader, ReadOptions, Row
from emotune.data.formats.columns import Grid, read_columns, recognise_columns
from emotune.data.formats.parquet import columns_of, libraries, reported, require_rows, rows_of
from emotune.errors import DataError, Place

_MAGIC = b"ARROW1"
_SUFFIXES = (".arrow", ".feather")
_STREAM = b"\xff\xff\xff\xff"
_END_OF_STREAM = b"\0\0\0\0"
_KIND = "Arrow"


def recognise(content: Content, options: ReadOptions) -> FileFormat | None:
    if options.format is None and not content.name.casefold().endswith(_SUFFIXES):
        raw = content.raw
        if not raw.startswith((_MAGIC, _STREAM)) or content.is_text:
            return None
    return recognise_columns(grid_of(content), options, FileFormat("arrow", _KIND))


def grid_of(content: Content) -> Grid:
    with _opened(content) as file:
        columns, names = columns_of(file.schema, libraries(content.path, _KIND)[0])
    return Grid(content.path, columns, 1, lambda: _rows(content, columns), names, "schema")


@contextmanager
def _opened(content: Content) -> Iterator[Any]:
    arrow, _ = libraries(content.path, _KIND)
    with reported(content.path, arrow, _KIND):
        source = arrow.BufferReader(content.raw)
        file = arrow.ipc.open_file(source) if content.raw.startswith(_MAGIC) else arrow.ipc.open_stream(source)
    yield file


def _rows(content: Content, columns: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
    arrow, _ = libraries(content.path, _KIND)
    in_order = content.raw.startswith(_MAGIC)
    number = 0
    with _opened(content) as file:
        batches = (file.get_batch(i) for i in range(file.num_record_batches)) if in_order else iter(file)
        for number, row in rows_of(map(_valid, batches), columns, content.path, arrow, _KIND):
            yield number, row
    if not in_order and not content.raw.endswith(_END_OF_STREAM):
        raise DataError(
            "the Arrow file is cut short", place=Place(content.path, max(number, 1)), hint="Write it again."
        )
    require_rows(content.path, number)


def _valid(batch: Any) -> Any:
    batch.validate(full=True)  # a file may point outside its own bytes
    return batch


def read(content: Content, file_format: FileFormat) -> Iterator[Row]:
    return read_columns(grid_of(content), file_format)


READER = Reader("arrow", recognise, read)
