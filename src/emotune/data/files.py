"""Text files as they lie on the disk: bytes → text → numbered lines, or the cells of a table."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emotune.errors import DataError, MissingInputError, Place

_KINDS = {
    b"\x89PNG": "a PNG image",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "a gzip archive",
}
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_LOOKED_AT = 4096
_QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')
_LARGEST_CELL = 1 << 30


@dataclass(frozen=True)
class Table:
    """A table with a header: the column names and their line, and line (from 1) and cells of each row."""

    columns: list[str]
    line: int
    rows: list[tuple[int, list[str]]]


def read_text(path: Path) -> str:
    """The whole file as text, without a byte order mark.

    A file that breaks its lines with carriage returns alone comes back with line feeds. Raises MissingInputError for a
    file that cannot be opened, DataError for an empty, binary or non-UTF-8 file, with the line where it shows.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise MissingInputError(f"no such file: {path}") from None
    except OSError as error:
        raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(path)) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_text(path, raw, error.start) from None
    if "\0" in text:
        raise _not_text(path, raw, raw.index(b"\0"))
    if not text.strip():
        raise DataError("the file is empty", place=Place(path))
    return text if "\n" in text else text.replace("\r", "\n")


def _not_text(path: Path, raw: bytes, at: int) -> DataError:
    """What to say of a file whose byte `at` is not text."""
    kind = next((kind for magic, kind in _KINDS.items() if raw.startswith(magic)), None)
    if kind is None and _is_utf16(raw):
        return DataError("this is UTF-16 text", place=Place(path), hint="Save the file as UTF-8.")
    if kind is not None or _is_binary(raw):
        message = f"this is {kind or 'a binary file'}, not a text file"
        return DataError(message, place=Place(path), hint="Export the data as CSV or TSV, in UTF-8.")
    place = Place(path, raw.count(b"\n", 0, at) + 1)
    if raw[at] == 0:
        return DataError("a NUL byte stands in this line", place=place, hint="Text holds none: remove it.")
    return DataError(f"byte 0x{raw[at]:02x} is not UTF-8", place=place, hint="Save the file as UTF-8.")


def _is_utf16(raw: bytes) -> bool:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    fewer, more = sorted(raw[i:_LOOKED_AT:2].count(0) for i in (0, 1))
    return fewer == 0 and more > 0.4 * len(raw[:_LOOKED_AT:2])


def _is_binary(raw: bytes) -> bool:
    looked_at = raw[:_LOOKED_AT]
    controls = len(looked_at) - len(looked_at.translate(None, _CONTROLS))
    return controls > max(8, 0.02 * len(looked_at))


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.removesuffix("\r")


def read_header(path: Path, text: str, delimiter: str) -> tuple[int, list[str]]:
    """Line and column names of a table's header; raises DataError when there is none, or its quoting is broken."""
    for line, cells in _cells(path, text, delimiter):
        return line, [name.strip() for name in cells]
    raise DataError("there is no header: all cells are blank", place=Place(path, 1))


def read_table(path: Path, text: str, delimiter: str) -> Table:
    """All rows of a table with a header; blank lines are passed over.

    Raises DataError, with the line, for broken quoting, a column named twice, a row of another width than the header,
    and a table without rows.
    """
    line, columns = read_header(path, text, delimiter)
    twice = [name for name, n in Counter(c.casefold() for c in columns if c).items() if n > 1]
    if twice:
        raise DataError(f"the header names a column twice: {', '.join(twice)}", place=Place(path, line))
    rows = list(_cells(path, text, delimiter))[1:]
    for number, row in rows:
        if len(row) != len(columns):
            raise DataError(
                f"the row has {len(row)} columns, the header has {len(columns)}",
                place=Place(path, number),
                hint=None if len(row) < len(columns) else "A cell that holds the delimiter stands in quotation marks.",
            )
    if not rows:
        raise DataError("there are no rows below the header", place=Place(path, line))
    return Table(columns, line, rows)


def _cells(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row, with the line where it starts."""
    quoted = delimiter != "\t" or _tabs_are_quoted(text)
    csv.field_size_limit(_LARGEST_CELL)
    reader = csv.reader(
        io.StringIO(text, newline=""),
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
                place=Place(path, start),
                hint='A cell with quotation marks in it is written "so ""quoted"" it is".',
            ) from None
        if any(cell.strip() for cell in cells):
            yield start, cells
        start = reader.line_num + 1


def _tabs_are_quoted(text: str) -> bool:
    """Whether a TSV quotes its cells as CSV does; many do not, and hold single quotation marks.

    Where no cell breaks its line, each tells by itself; else the file as a whole must be well-formed.
    """
    if '"' not in text:
        return False
    lines = [line.split("\t") for _, line in numbered_lines(text)]
    if all(len(cells) == len(lines[0]) for cells in lines):
        return all(_QUOTED_CELL.fullmatch(c) for cells in lines for c in cells if c.startswith('"'))
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True):
            pass
    except csv.Error:
        return False
    return True
