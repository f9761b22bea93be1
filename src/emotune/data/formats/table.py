"""CSV and TSV, with a header or without one: a text column, and 0/1 columns or one column of labels.

Without a header the columns are called 1, 2, …, and the text and label columns are found by their content.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from emotune.data.formats.base import LABEL_ID, MOST, FileFormat, Reader, ReadOptions, Row, delimiter_name
from emotune.data.formats.cells import is_flag, is_list
from emotune.data.formats.columns import LABEL_COLUMNS, TEXT_COLUMNS, Grid, read_columns, recognise_columns
from emotune.data.formats.files import Content
from emotune.errors import DataError, Place

_DELIMITERS = ",\t;|"
_QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')
_LARGEST_CELL = 1 << 30
_SAMPLE = 1000
_FEW_LABELS = 8


def recognise(content: Content, options: ReadOptions) -> FileFormat | None:
    if not options.names_columns and options.format is None and not content.is_text:
        return None
    grid, delimiter = best_grid(content, options.delimiter)
    meant = options.format == "table" or (options.names_columns and options.format is None)
    if meant or _has_text(grid) or (len(grid.columns) > 1 and _has_labels(grid)):
        return format_of(content, grid, delimiter, options)
    return None


def format_of(content: Content, grid: Grid, delimiter: str, options: ReadOptions) -> FileFormat:
    """The format of a file that is certainly a table with a header."""
    if not grid.columns:
        read_header(content, delimiter)  # raises the DataError that `best_grid` passed over
    twice = [name for name, n in Counter(c.casefold() for c in grid.columns if c).items() if n > 1]
    if twice:
        message = f"the header names a column twice: {', '.join(twice)}"
        raise DataError(message, place=Place(content.path, grid.line))
    shape = f"{delimiter_name(delimiter)}-separated table"
    return recognise_columns(grid, options, FileFormat("table", shape, delimiter=delimiter))


def best_grid(content: Content, delimiter: str | None) -> tuple[Grid, str]:
    """The table, cut by the delimiter that gives a text column, else a label column, else the most columns."""
    candidates = []
    for by in delimiter or _DELIMITERS:
        try:
            line, columns = read_header(content, by)
        except DataError:  # a quotation mark that opens a text, in a file without a header
            line, columns = 1, []
        candidates.append((_grid(content, by, line, columns), by))
    return max(candidates, key=lambda c: (_has_text(c[0]), _has_labels(c[0]), len(c[0].columns)))


def _has_text(grid: Grid) -> bool:
    return grid.find(TEXT_COLUMNS) is not None


def _has_labels(grid: Grid) -> bool:
    return grid.find(LABEL_COLUMNS) is not None


def _grid(content: Content, delimiter: str, line: int, columns: list[str]) -> Grid:
    def rows() -> Iterator[tuple[int, list[str]]]:
        below = islice(_cells(content, delimiter), 1, None)
        return _same_width(content.path, below, len(columns), line, "the header has")

    return Grid(content.path, columns, line, rows)


def read_header(content: Content, delimiter: str) -> tuple[int, list[str]]:
    """Line and column names of a table's header; raises DataError when there is none, or its quoting is broken."""
    for line, cells in _cells(content, delimiter):
        return line, [name.strip() for name in cells]
    raise DataError("there is no header: all cells are blank", place=Place(content.path, 1))


def _same_width(
    path: Path, rows: Iterator[tuple[int, list[str]]], width: int, header: int, whose: str
) -> Iterator[tuple[int, list[str]]]:
    """The rows; raises DataError for a row of another width, and when there are none."""
    line = 0
    for line, row in rows:
        if len(row) != width:
            raise DataError(
                f"the row has {len(row)} columns, {whose} {width}",
                place=Place(path, line),
                hint=None if len(row) < width else "Put a cell that contains the delimiter in quotation marks.",
            )
        yield line, row
    if not line:
        raise DataError("there are no rows below the header", place=Place(path, header))


def _cells(content: Content, delimiter: str) -> Iterator[tuple[int, list[str]]]:
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
                hint='Write a cell with quotation marks in it as "so ""quoted"" it is".',
            ) from None
        if any(cell.strip() for cell in cells):
            yield start, cells
        start = reader.line_num + 1


def _tabs_are_quoted(content: Content) -> bool:
    """Whether a TSV quotes its cells as CSV does; many do not, and have single quotation marks in their texts.

    When no cell contains a line break, each cell shows it; else the whole file must be valid CSV.
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


def read(content: Content, file_format: FileFormat) -> Iterator[Row]:
    line, columns = read_header(content, file_format.delimiter)
    return read_columns(_grid(content, file_format.delimiter, line, columns), file_format)


READER = Reader("table", recognise, read)


# Without a header


@dataclass(frozen=True)
class _Guess:
    """The text column, and the label column or the 0/1 columns in the order of the label names."""

    text: str
    label: str | None = None
    flags: tuple[str, ...] = ()


def recognise_headerless(content: Content, options: ReadOptions) -> FileFormat | None:
    meant = options.format == "headerless"
    if not meant and not content.is_text:
        return None
    for delimiter in options.delimiter or _DELIMITERS:
        rows = _sample(content, delimiter)
        guess = _guess(rows, options) if rows else None
        if guess is not None:
            return _headerless_format(content, delimiter, len(rows[0]), guess, options)
    if meant:
        raise DataError(
            "cannot tell the text column from the label column",
            place=Place(content.path, 1),
            hint="Name them: --set data.text_column=1 --set data.label_column=2",
        )
    return None


def _sample(content: Content, delimiter: str) -> list[list[str]]:
    """The first rows, when nearly all have as many columns as the first, and at least two; else none."""
    rows: list[list[str]] = []
    try:
        rows.extend(row for _, row in islice(_cells(content, delimiter), _SAMPLE))
    except DataError:
        if len(rows) < _FEW_LABELS:
            return []
    if not rows or len(rows[0]) < 2 or sum(len(row) == len(rows[0]) for row in rows) < MOST * len(rows):
        return []
    return [row for row in rows if len(row) == len(rows[0])]


def _guess(rows: Sequence[Sequence[str]], options: ReadOptions) -> _Guess | None:
    """The content of the columns 1, 2, …; None when it cannot be told."""
    columns = {str(i): [row[i - 1].strip() for row in rows] for i in range(1, len(rows[0]) + 1)}
    config = options.config
    text = config.text_column or max(columns, key=lambda c: (not _are_lists(columns[c]), sum(map(len, columns[c]))))
    if text not in columns:
        return None
    texts = columns.pop(text)
    if not config.text_column and sum(len(cell.split()) > 1 for cell in texts) < len(texts) / 2:
        return None
    if config.label_columns:
        return _Guess(text, flags=tuple(config.label_columns)) if columns.keys() >= set(config.label_columns) else None
    if config.label_column in columns:
        return _Guess(text, config.label_column)
    flags = tuple(c for c, cells in columns.items() if all(map(is_flag, cells)))
    if flags and len(flags) == len(options.label_names or ()):
        return _Guess(text, flags=flags)
    found = [c for c, cells in columns.items() if _are_labels(cells)]
    return _Guess(text, found[-1]) if found else None


def _are_lists(cells: Sequence[str]) -> bool:
    return all(is_list(cell) for cell in cells if cell)


def _are_labels(cells: Sequence[str]) -> bool:
    """Whether a column has labels, in its first row too: lists, ids, or short names that occur in other rows."""
    filled = [cell for cell in cells if cell]
    if not filled or not cells[0]:
        return False
    if _are_lists(filled):
        return True
    count = Counter(filled)
    if len(count) > max(_FEW_LABELS, len(cells) // 2) or len(count) < min(2, len(cells)):
        return False
    if all(map(LABEL_ID.fullmatch, filled)):
        return len(count) < len(filled)
    return count[cells[0]] > 1 and all(len(cell) <= 40 and len(cell.split()) <= 3 for cell in filled)


def _headerless_format(content: Content, delimiter: str, width: int, guess: _Guess, options: ReadOptions) -> FileFormat:
    shape = f"{delimiter_name(delimiter)}-separated table without a header"
    start = FileFormat("headerless", shape, delimiter=delimiter)
    if guess.flags:
        names = dict(enumerate(_names_in_order(content, guess.flags, options)))
        return replace(start, text_column=guess.text, label_columns=guess.flags, id_names=names)
    named = {"text_column": guess.text, "label_column": guess.label, "label_columns": None}
    config = options.config.model_copy(update=named)
    return recognise_columns(_headerless_grid(content, delimiter, width), replace(options, config=config), start)


def _names_in_order(content: Content, flags: Sequence[str], options: ReadOptions) -> Sequence[str]:
    """The labels of 0/1 columns without a header: the configured ones, else the numbers of the columns.

    Raises DataError when only a model's labels are known: their order is not that of the columns.
    """
    if len(options.config.labels or ()) == len(flags):
        return options.config.labels or ()
    if len(options.label_names or ()) == len(flags) and not options.config.label_columns:
        raise DataError(
            f"{len(flags)} columns of 0/1 without a header: the labels of the columns are not known",
            place=Place(content.path, 1),
            hint="Name them in the order of the columns: --set data.labels=[A,B,…]",
        )
    return flags


def _headerless_grid(content: Content, delimiter: str, width: int) -> Grid:
    def rows() -> Iterator[tuple[int, list[str]]]:
        return _same_width(content.path, _cells(content, delimiter), width, 1, "the first has")

    return Grid(content.path, [str(i) for i in range(1, width + 1)], 1, rows)


def read_headerless(content: Content, file_format: FileFormat) -> Iterator[Row]:
    width = next((len(row) for _, row in _cells(content, file_format.delimiter)), 0)
    by_column: dict[str, str] = {}
    if file_format.label_columns:
        by_column = dict(zip(file_format.label_columns, file_format.id_names.values(), strict=True))
    for row in read_columns(_headerless_grid(content, file_format.delimiter, width), file_format):
        yield replace(row, names=tuple(by_column[c] for c in row.names)) if by_column else row


HEADERLESS = Reader("headerless", recognise_headerless, read_headerless)
