"""CSV and TSV with a header: 0/1 columns, or one column of labels."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from emotune.data.formats.base import Family, Layout, ReadOptions, Row, delimiter_name
from emotune.data.formats.columns import LABEL_COLUMNS, TEXT_COLUMNS, Grid, read_columns, recognise_columns
from emotune.data.formats.files import Content
from emotune.data.formats.written import cells_of, columns_of
from emotune.errors import DataError, Place
from emotune.labels import LabelSet, Task

DELIMITERS = ",\t;|"
_QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')
_LARGEST_CELL = 1 << 30


def recognise(content: Content, asked: ReadOptions) -> Layout | None:
    if not asked.columns and asked.format is None and not content.is_text:
        return None
    grid, delimiter = best_grid(content, asked.delimiter)
    meant = asked.format == "table" or (asked.columns and asked.format is None)
    if meant or grid.has(TEXT_COLUMNS) or (len(grid.columns) > 1 and grid.has(LABEL_COLUMNS)):
        return layout_of(content, grid, delimiter, asked)
    return None


def layout_of(content: Content, grid: Grid, delimiter: str, asked: ReadOptions) -> Layout:
    """The layout of a table that is surely one."""
    if not grid.columns:
        read_header(content, delimiter)  # raises, since it could not be read before
    shape = f"{delimiter_name(delimiter)}-separated table"
    twice = [name for name, n in Counter(c.casefold() for c in grid.columns if c).items() if n > 1]
    if twice:
        message = f"the header names a column twice: {', '.join(twice)}"
        raise DataError(message, place=Place(content.path, grid.line))
    return recognise_columns(grid, asked, Layout("table", shape, delimiter=delimiter))


def best_grid(content: Content, delimiter: str | None) -> tuple[Grid, str]:
    """The table cut by the delimiter that gives a text column, else a label column, else the most columns."""
    candidates = []
    for by in delimiter or DELIMITERS:
        try:
            line, columns = read_header(content, by)
        except DataError:  # a quotation mark that opens a text, in a file without a header
            line, columns = 1, []
        candidates.append((_grid(content, by, line, columns), by))
    return max(candidates, key=lambda c: (c[0].has(TEXT_COLUMNS), c[0].has(LABEL_COLUMNS), len(c[0].columns)))


def _grid(content: Content, delimiter: str, line: int, columns: list[str]) -> Grid:
    return Grid(content.path, columns, line, lambda: _rows_below(content, delimiter, line, columns))


def read_header(content: Content, delimiter: str) -> tuple[int, list[str]]:
    """Line and column names of a table's header; raises DataError when there is none, or its quoting is broken."""
    for line, cells in cells_in(content, delimiter):
        return line, [name.strip() for name in cells]
    raise DataError("there is no header: all cells are blank", place=Place(content.path, 1))


def _rows_below(
    content: Content, delimiter: str, header: int, columns: Sequence[str]
) -> Iterator[tuple[int, Sequence[str]]]:
    """The rows of a table; raises DataError, with the line, for broken quoting, another width, and none at all."""
    rows = cells_in(content, delimiter)
    next(rows, None)
    return same_width(content.path, rows, len(columns), header, "the header has")


def same_width(
    path: Path, rows: Iterator[tuple[int, list[str]]], width: int, header: int, whose: str
) -> Iterator[tuple[int, list[str]]]:
    """The rows; raises DataError for one of another width, and when there are none."""
    line = 0
    for line, row in rows:
        if len(row) != width:
            raise DataError(
                f"the row has {len(row)} columns, {whose} {width}",
                place=Place(path, line),
                hint=None if len(row) < width else "A cell that holds the delimiter stands in quotation marks.",
            )
        yield line, row
    if not line:
        raise DataError("there are no rows below the header", place=Place(path, header))


def cells_in(content: Content, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row that is not blank, with the line where it starts; raises DataError for broken quoting."""
    quoted = delimiter != "\t" or _tabs_are_quoted(content)
    csv.field_size_limit(_LARGEST_CELL)
    reader = csv.reader(
        content.stream(),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=quoted,
    )
    start = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            unclosed = "unexpected end" in str(error)
            raise DataError(
                "a quotation mark opens here and is never closed" if unclosed else f"not valid CSV: {error}",
                place=Place(content.path, start),
                hint='A cell with quotation marks in it is written "so ""quoted"" it is".',
            ) from None
        if any(cell.strip() for cell in cells):
            yield start, cells
        start = reader.line_num + 1


def _tabs_are_quoted(content: Content) -> bool:
    """Whether a TSV quotes its cells as CSV does; many do not, and hold single quotation marks.

    Where no cell breaks its line, each tells by itself; else the file as a whole must be well-formed.
    """
    if b'"' not in content.raw:
        return False
    widths = {line.count("\t") for _, line in content.lines()}
    if len(widths) == 1:
        cells = (c for _, line in content.lines() if '"' in line for c in line.split("\t"))
        return all(_QUOTED_CELL.fullmatch(c) for c in cells if c.startswith('"'))
    try:
        for _ in csv.reader(content.stream(), delimiter="\t", strict=True):
            pass
    except csv.Error:
        return False
    return True


def read(content: Content, layout: Layout) -> Iterator[Row]:
    line, columns = read_header(content, layout.delimiter)
    return read_columns(_grid(content, layout.delimiter, line, columns), layout)


def write(file: BinaryIO, rows: Iterable[Row], layout: Layout) -> None:
    write_cells(file, [columns_of(layout), *(cells_of(row, layout) for row in rows)], layout.delimiter)


def write_cells(file: BinaryIO, rows: Iterable[Sequence[str]], delimiter: str) -> None:
    """Rows as CSV in UTF-8, quoted where needed, lines ended as RFC 4180 has it (else a lone \\r goes unquoted)."""
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    csv.writer(text, delimiter=delimiter).writerows(rows)
    text.detach()


def plain(labels: LabelSet) -> Layout:
    several = labels.task is Task.MULTI_LABEL
    layout = Layout(
        "table", "comma-separated table", several=several, delimiter=",", text_column="text", id_column="id"
    )
    return replace(layout, label_columns=labels.names) if several else replace(layout, label_column="label")


FAMILY = Family("table", recognise, read, write, plain)
