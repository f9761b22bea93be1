"""CSV and TSV, with a header or without one: a text column, and 0/1 columns or one column of labels.

Without a header the columns are called 1, 2, …, and the text and label columns are found by their content.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from emotune.config.schema import DataConfig
from emotune.data.formats.base import (
    LABEL_ID,
    MOST,
    REPEATED_HEADER,
    Content,
    FileFormat,
    LeftOut,
    Reader,
    ReadOptions,
    Row,
    delimiter_name,
)
from emotune.data.formats.cells import KNOWN_NAMES, is_flag, is_list
from emotune.data.formats.columns import (
    LABEL_COLUMNS,
    TEXT_COLUMNS,
    Grid,
    flag_format,
    read_columns,
    recognise_columns,
)
from emotune.data.formats.label_ids import names_of_ids
from emotune.errors import DataError, Place

DELIMITERS = ",\t;|"
_QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')
_LARGEST_CELL = 1 << 30
_SAMPLE = 1000
_FEW_LABELS = 8


def recognise(content: Content, options: ReadOptions) -> FileFormat | None:
    if not options.names_columns and options.format is None and not content.is_text:
        return None
    grid, delimiter = best_grid(content, options.delimiter)
    if options.format is None and _are_numbers(options.config, grid.columns):
        return recognise_headerless(content, replace(options, config=_headerless(options.config)))
    meant = options.format == "table" or (options.names_columns and options.format is None)
    has_text, has_labels = _has(grid)
    if meant or has_text or (len(grid.columns) > 1 and has_labels):
        return format_of(content, grid, delimiter, options)
    return None


def _are_numbers(config: DataConfig, header: Sequence[str]) -> bool:
    """Whether the configuration names columns by number, as those of a file without a header."""
    named = [config.text_column, config.label_column, *(config.label_columns or ())]
    numbers = [name for name in named if name is not None]
    return bool(numbers) and all(name.isdecimal() for name in numbers) and numbers[0] not in header


def _headerless(config: DataConfig) -> DataConfig:
    return config.model_copy(update={"format": "headerless"})


def format_of(content: Content, grid: Grid, delimiter: str, options: ReadOptions) -> FileFormat:
    """The format of a file that is certainly a table with a header."""
    if not grid.columns:
        read_header(content, delimiter)  # raises the DataError that `best_grid` passed over
    require_different_names(grid)
    shape = f"{delimiter_name(delimiter)}-separated table"
    return recognise_columns(grid, options, FileFormat("table", shape, delimiter=delimiter))


def require_different_names(grid: Grid) -> None:
    """Raise DataError for a header that has a name twice, whatever its case."""
    twice = [name for name, n in Counter(c.casefold() for c in grid.columns if c).items() if n > 1]
    if twice:
        message = f"the header names a column twice: {', '.join(twice)}"
        raise DataError(message, place=Place(grid.path, grid.line), hint="Rename or remove one of them.")


def best_grid(content: Content, delimiter: str | None) -> tuple[Grid, str]:
    """The table, cut by the delimiter that gives a text column, else a label column, else the most columns."""
    candidates = []
    for by in delimiter or DELIMITERS:
        try:
            line, columns = read_header(content, by)
        except DataError:  # a quotation mark that opens a text, in a file without a header
            line, columns = 1, []
        candidates.append((_grid(content, by, columns, line), by))
    return max(candidates, key=lambda c: (*_has(c[0]), len(c[0].columns)))


def _has(grid: Grid) -> tuple[bool, bool]:
    """Whether columns are named like a text, and like labels."""
    return grid.find(TEXT_COLUMNS) is not None, grid.find(LABEL_COLUMNS) is not None


def _grid(
    content: Content, delimiter: str, columns: list[str], header: int | None = None, repeated: list[int] | None = None
) -> Grid:
    """The rows below the header, or all when `header`, its line, is None.

    Rows equal to the header, whatever their case, are left out; their lines are appended to `repeated`. `rows` raises
    DataError for a row of another width, and when there are none.
    """

    def rows() -> Iterator[tuple[int, list[str]]]:
        line, width = 0, len(columns)
        found = _cells(content, delimiter)
        names = None if header is None else _bare(next(found, (0, []))[1])
        for number, row in found:
            if names is not None and _bare(row[:1]) == names[:1] and _bare(row) == names:
                if repeated is not None:
                    repeated.append(number)
                continue
            line = number
            if len(row) < width and header is not None and not any(columns[len(row) :]):
                row += [""] * (width - len(row))  # the header ends in a delimiter
            if len(row) != width:
                message = f"the row has {len(row)} columns, the {'first' if header is None else 'header'} has {width}"
                hint = "Put a cell that contains the delimiter in quotation marks."
                hint = "Add the cells that are missing, or remove the row." if len(row) < width else hint
                raise DataError(message, place=Place(content.path, line), hint=hint)
            yield line, row
        if not line:
            hint = "Add rows, or give another file."
            raise DataError("there are no rows below the header", place=Place(content.path, header or 1), hint=hint)

    return Grid(content.path, columns, header or 1, rows)


def _bare(row: Sequence[str]) -> list[str]:
    """The names of a header without what differs in the header of another file that was appended to this one."""
    return [name.strip('\ufeff" \t').casefold() for name in row]


def read_header(content: Content, delimiter: str) -> tuple[int, list[str]]:
    """Line and column names of a table's header; raises DataError when there is none, or its quoting is broken."""
    for line, cells in _cells(content, delimiter):
        return line, [name.strip() for name in cells]
    raise DataError("there is no header: all cells are blank", place=Place(content.path, 1))


def _cells(content: Content, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row that is not blank, with the line where it starts; raises DataError for broken quoting."""
    quoted = delimiter != "\t" or _tabs_are_quoted(content)
    csv.field_size_limit(_LARGEST_CELL)
    reader = csv.reader(
        content.stream(), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=quoted
    )
    start = 1 + content.skipped
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield start, cells
            start = reader.line_num + 1 + content.skipped
    except csv.Error as error:
        unclosed = "unexpected end" in str(error)
        message = "a quotation mark opens here and is never closed" if unclosed else f"not valid CSV: {error}"
        hint = 'Write a cell with quotation marks in it as "so ""quoted"" it is".'
        raise DataError(message, place=Place(content.path, start), hint=hint) from None


def _tabs_are_quoted(content: Content) -> bool:
    """Whether a TSV quotes its cells as CSV does; many do not, and have single quotation marks in their texts.

    When no cell contains a line break, each cell shows it; else the whole file must be valid CSV.
    """
    if not content.has(b'"'):
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


def read(content: Content, file_format: FileFormat) -> Iterator[Row | LeftOut]:
    line, columns = read_header(content, file_format.delimiter)
    repeated: list[int] = []
    yield from read_columns(_grid(content, file_format.delimiter, columns, line, repeated), file_format)
    yield from (LeftOut(number, REPEATED_HEADER) for number in repeated)


READER = Reader("table", recognise, read)


# Without a header


def recognise_headerless(content: Content, options: ReadOptions) -> FileFormat | None:
    meant = options.format == "headerless"
    if not meant and not content.is_text:
        return None
    for by in options.delimiter or DELIMITERS:
        columns = _sample(content, by)
        found = _choose_columns(content, columns, options) if columns else None
        if found is None:
            continue
        text, labels, flags = found
        file_format = FileFormat("headerless", f"{delimiter_name(by)}-separated table without a header", delimiter=by)
        if flags:
            names = dict(enumerate(_names_in_order(content, labels, options)))
            file_format = replace(file_format, text_column=text, id_names=names)
            return flag_format(_grid(content, by, list(columns)), labels, options, file_format)
        named = {"text_column": text, "label_column": labels[0], "label_columns": None}
        options = replace(options, config=options.config.model_copy(update=named))
        return recognise_columns(_grid(content, by, list(columns)), options, file_format)
    if meant:
        hint = "Name them: --set data.text_column=1 --set data.label_column=2"
        raise DataError("cannot tell the text column from the label column", place=Place(content.path, 1), hint=hint)
    return None


def _sample(content: Content, delimiter: str) -> dict[str, list[str]]:
    """The columns 1, 2, … of the first rows, when nearly all rows have as many, and at least two; else none."""
    rows: list[list[str]] = []
    try:
        rows.extend(row for _, row in islice(_cells(content, delimiter), _SAMPLE))
    except DataError:
        if len(rows) < _FEW_LABELS:
            return {}
    width = len(rows[0]) if rows else 0
    same = [row for row in rows if len(row) == width]
    if width < 2 or len(same) < MOST * len(rows):
        return {}
    return {str(i): [row[i - 1].strip() for row in same] for i in range(1, width + 1)}


def _choose_columns(
    content: Content, columns: Mapping[str, Sequence[str]], options: ReadOptions
) -> tuple[str, tuple[str, ...], bool] | None:
    """The text column, the label columns, and whether these are 0/1; None when they cannot be told.

    Raises DataError with the settings when several columns may be the labels.
    """
    config = options.config
    text = config.text_column or max(columns, key=lambda c: (not _are_lists(columns[c]), sum(map(len, columns[c]))))
    if text not in columns:
        return None
    if not config.text_column and sum(len(cell.split()) > 1 for cell in columns[text]) < len(columns[text]) / 2:
        return None
    others = {c: cells for c, cells in columns.items() if c != text}
    if config.label_columns:
        return (text, tuple(config.label_columns), True) if others.keys() >= set(config.label_columns) else None
    if config.label_column in others:
        return text, (config.label_column,), False
    flags = tuple(c for c, cells in others.items() if all(map(is_flag, cells)))
    if flags and len(flags) in (len(options.label_names or ()), len(_names_beside(content, options))):
        return text, flags, True
    found = [c for c, cells in others.items() if (len(flags) > 1 and c in flags) or _are_labels(cells)]
    if len(found) > 1:
        known = KNOWN_NAMES if options.label_names is None else {name.casefold() for name in options.label_names}
        found = [c for c in found if 2 * sum(cell.casefold() in known for cell in others[c]) > len(others[c])] or found
    if len(found) > 1:
        raise _undecided(content, text, found, flags)
    return (text, (found[0],), False) if found else None


def _undecided(content: Content, text: str, found: Sequence[str], flags: Sequence[str]) -> DataError:
    """The error for a file without a header in which several columns look like labels."""
    message = f"there is no header, and several columns look like labels: columns {', '.join(found)}"
    settings = f"--set data.format=headerless --set data.text_column={text}"
    hint = f"Name the columns: {settings} --set data.label_column={found[0]}"
    if len(flags) > 1:
        listed = ",".join(flags)
        hint += f"; for 0/1 columns: {settings} --set data.label_columns=[{listed}] --set data.labels=[A,B,…]"
    return DataError(message, place=Place(content.path, 1), hint=hint)


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


def _names_beside(content: Content, options: ReadOptions) -> list[str]:
    """The names of the label ids that the configuration or a file beside the data gives, by id."""
    names = names_of_ids(content.path, replace(options, ids={}))
    return [names[i] for i in sorted(names)]


def _names_in_order(content: Content, flags: Sequence[str], options: ReadOptions) -> Sequence[str]:
    """The labels of 0/1 columns without a header: the configured ones, those beside the data, or the columns' numbers.

    Raises DataError when only a model's labels are known: their order is not that of the columns.
    """
    beside = _names_beside(content, options)
    if len(beside) == len(flags):
        return beside
    if len(options.label_names or ()) == len(flags) and not options.config.label_columns:
        message = f"{len(flags)} columns of 0/1 without a header: the labels of the columns are not known"
        hint = "Name them in the order of the columns: --set data.labels=[A,B,…]"
        raise DataError(message, place=Place(content.path, 1), hint=hint)
    return flags


def read_headerless(content: Content, file_format: FileFormat) -> Iterator[Row]:
    width = next((len(row) for _, row in _cells(content, file_format.delimiter)), 0)
    by_column: dict[str, str] = {}
    if file_format.label_columns:
        by_column = dict(zip(file_format.label_columns, file_format.id_names.values(), strict=True))
    columns = [str(i) for i in range(1, width + 1)]
    for row in read_columns(_grid(content, file_format.delimiter, columns), file_format):
        if by_column:
            shares = None if row.shares is None else tuple((by_column[c], share) for c, share in row.shares)
            row = replace(row, names=tuple(by_column[c] for c in row.names), shares=shares)
        yield row


HEADERLESS = Reader("headerless", recognise_headerless, read_headerless)
