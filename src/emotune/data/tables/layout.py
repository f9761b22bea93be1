"""Text files as tables: the layout of a file, and the records in a block of it.

A record without a text that can be predicted is set aside with its line and the reason; others are not affected.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from io import StringIO
from itertools import islice
from typing import Any

from emotune.data.formats.columns import TEXT_COLUMNS, find_column
from emotune.data.tables.records import JSONL, TSV, TXT, Records, SetAside, TableOptions, text_position
from emotune.data.tables.stream import LARGEST, Block, Cut, Stream, after_last_line, after_last_record
from emotune.errors import DataError, Place

_DELIMITERS = ",\t;|"
_MANY_LINES = 100
_SAMPLED = 1 << 20
_NAMED_DELIMITER = re.compile(rb'"?sep=([\t !#-/:-@\[-`{-~])"?[ \t]*\r?\n', re.IGNORECASE)
_SHOWN = 60
_LINES = 'Each line is an object such as {"text": "so glad"}.'
_KINDS = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}


@dataclass(frozen=True)
class Layout:
    """All that is needed to read the blocks of a table.

    columns: the names, "1", "2", … without a header; of JSON lines, the keys of the first rows. text: the position of
    the text column. head: the lines before the first record; of Parquet, the schema. quoted: whether cells may be so.
    """

    format: str
    columns: tuple[str, ...]
    text: int
    delimiter: str = ""
    quoted: bool = False
    head: bytes = b""
    header: bool = False
    marked: bool = False
    encoding: str = "utf-8"

    @property
    def text_column(self) -> str:
        """The name of the text column."""
        return self.columns[self.text]

    @property
    def cut(self) -> Cut:
        """The function that finds the end of the last whole record in some bytes."""
        return after_last_record(self.delimiter.encode()) if self.quoted else after_last_line

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self) | {"columns": list(self.columns), "head": self.head.decode("latin-1")}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Layout":
        """Read what `to_json` returned."""
        head = content["head"].encode("latin-1")
        return cls(**content | {"columns": tuple(content["columns"]), "head": head})

    def records(self, block: Block) -> Records:
        """Return the records of a block."""
        if block.fault is not None:
            return Records([], [], [], [], [SetAside(block.line, block.fault, block.content)], covered=1)
        reader: dict[str, Callable[[Block], Records]] = {JSONL: self._objects, TXT: self._texts}
        return reader.get(self.format, self._rows)(block)

    def _texts(self, block: Block) -> Records:
        found = Records([], [], [], [])
        lines = _lines_of(block.content)
        texts = _decoded(block.content)
        if texts is not None:
            for i, line in enumerate(lines):
                found.raw.append(line)
                found.lines.append(block.line + i)
            decoded = [text.removesuffix("\r") for text in texts.removesuffix("\n").split("\n")]
            found.texts.extend(decoded)
        else:
            for number, line in enumerate(lines, block.line):
                if fault := self._fault(line):
                    found.aside.append(SetAside(number, fault, line))
                    continue
                found.raw.append(line)
                found.lines.append(number)
                found.texts.append(line.decode())
        return replace(found, values=found.texts, covered=len(lines))

    def _objects(self, block: Block) -> Records:
        found, values, key = Records([], [], [], []), [], self.text_column
        decode, number = _DECODER.decode, block.line - 1
        for number, line in enumerate(_lines_of(block.content), block.line):
            if not line or line.isspace():
                continue
            try:
                value = decode(line.decode())
                text = value[key]
                if type(text) is not str:
                    raise TypeError
                if b"\\u" in line:
                    json.dumps(value, ensure_ascii=False).encode()  # raises for halves of characters
            except Exception as error:  # of many kinds: the next function names them
                found.aside.append(SetAside(number, self._object_fault(line, error), line))
                continue
            values.append(value)
            found.texts.append(text)
            found.raw.append(line.strip())
            found.lines.append(number)
        return replace(found, values=values, covered=number + 1 - block.line)

    def _object_fault(self, line: bytes, error: Exception) -> str:
        """Return why a line has no text."""
        if fault := self._fault(line):
            return fault
        if isinstance(error, json.JSONDecodeError):
            return f"not valid JSON: {error.msg} in column {error.pos + 1}"
        if isinstance(error, _Refused):
            return str(error)
        if isinstance(error, RecursionError):
            return "not valid JSON: it is nested too deeply"
        if isinstance(error, KeyError):
            return f"there is no key {self.text_column!r}"
        if isinstance(error, UnicodeEncodeError):
            return f"\\u{ord(error.object[error.start]):04x} is half of a character"
        if isinstance(error, ValueError):
            return "not valid JSON: a number too long"
        value = _DECODER.decode(line.decode())
        if not isinstance(value, dict):
            return f"this is {_kind(value)}, not an object"
        text = value[self.text_column]
        return "the text is null" if text is None else f"the text is {_kind(text)}, not a string"

    def _rows(self, block: Block) -> Records:
        lines = block.content.removesuffix(b"\n").split(b"\n")
        content = _decoded(block.content)
        rows, ends = [], []
        if content is not None:
            reader = self._reader(StringIO(content, newline="\n"))
            try:
                for row in reader:
                    rows.append(row)
                    ends.append(reader.line_num)
            except csv.Error:
                content = None
        if content is None:
            return self._sorted(block, lines, _rows_with_lines(lines, self._reader))
        width, at = len(self.columns), self.text
        # most blocks: each line is a row of the right width
        if len(rows) == len(lines) and set(map(len, rows)) == {width}:
            texts = [row[at] for row in rows]
            if not (self.header and self.columns[at] in texts):
                raw = _without_returns(lines) if b"\r" in block.content else lines
                return Records(texts, list(range(block.line, block.line + len(rows))), raw, rows, covered=len(rows))
        return self._sorted(block, lines, zip([0, *ends], ends, rows, strict=False))

    def _sorted(
        self, block: Block, lines: Sequence[bytes], rows: Iterable[tuple[int, int, list[str] | str]]
    ) -> Records:
        """Return the rows that have a text, and the others; each with its first line and the line after the last."""
        found, values, covered = Records([], [], [], []), [], 0
        for start, end, row in rows:
            covered += end - start
            record = b"\n".join(lines[start:end]).removesuffix(b"\r")
            number = block.line + start
            if row == []:
                continue
            fault = self._fault(record) or (row if isinstance(row, str) else self._width_fault(row))
            if fault:
                found.aside.append(SetAside(number, fault, record))
                continue
            if end - start > _MANY_LINES:
                found.wide.append(number)
            found.texts.append(row[self.text])
            found.lines.append(number)
            found.raw.append(record)
            values.append(row)
        return replace(found, values=values, covered=covered)

    def _reader(self, lines: Any) -> Any:
        quoting: Any = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        csv.field_size_limit(2 * LARGEST)
        return csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=self.quoted)

    def _width_fault(self, row: Sequence[str]) -> str | None:
        if len(row) != len(self.columns):
            cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
            whose = "the header" if self.header else "the first row"
            return f"the row has {cells}, {whose} has {len(self.columns)}"
        if self.header and tuple(row) == self.columns:
            return "equal to the header"
        return None

    def _fault(self, record: bytes) -> str | None:
        """Return why the bytes of a record are not text; None if they are."""
        try:
            record.decode()
        except UnicodeDecodeError as error:
            if self.encoding == "utf-8":
                return f"byte 0x{record[error.start]:02x} is not UTF-8"
            return f"a byte is not {self.encoding.upper()}"
        return "there is a NUL byte" if b"\0" in record else None


class _Refused(ValueError):
    """Valid for Python, not for JSON."""


def _constant(name: str) -> Any:
    raise _Refused(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_constant)


def recognised(stream: Stream, table_format: str, options: TableOptions) -> Layout:
    """Return the layout of a text file by its first bytes."""
    layout = Layout(table_format, ("text",), 0, marked=stream.marked, encoding=stream.encoding)
    if table_format == TXT:
        return layout
    if table_format == JSONL:
        return _of_objects(stream, layout, options)
    return _of_rows(stream, layout, options)


def _of_objects(stream: Stream, layout: Layout, options: TableOptions) -> Layout:
    sample, place = stream.sample, Place(stream.path, 1)
    if _is_array(sample):
        hint = f"Convert it: jq -c '.[]' {stream.path.name} > lines.jsonl"
        raise DataError("this is a JSON array; JSON lines are read: an object a line", place=place, hint=hint)
    columns: dict[str, None] = {}
    texts: Counter[str] = Counter()
    lines = sample.split(b"\n")
    for line in lines[: max(1, len(lines) - 1)] if len(sample) > _SAMPLED else lines:
        try:
            value = _DECODER.decode(line.decode())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            columns.update(dict.fromkeys(value))
            texts.update(key for key, cell in value.items() if isinstance(cell, str))
    if not columns:
        raise DataError("no line is a JSON object with keys", place=place, hint=_LINES)
    often = sorted(columns, key=lambda key: -texts[key])
    text = often[text_position(often, options.text_column, place, list(texts), what="the keys are")]
    return replace(layout, columns=tuple(columns), text=list(columns).index(text))


def _is_array(sample: bytes) -> bool:
    """Whether the first line begins an array of rows: it is not a row of several that is a list itself."""
    first, _, rest = sample.strip().partition(b"\n")
    if not first.startswith(b"["):
        return False
    try:
        _DECODER.decode(first.decode())
    except (ValueError, RecursionError):
        return True
    return not rest


def _of_rows(stream: Stream, layout: Layout, options: TableOptions) -> Layout:
    sample = stream.sample
    named = _NAMED_DELIMITER.match(sample)
    head = named[0] if named else b""
    by = options.sign or (named[1].decode("ascii") if named else "\t" if layout.format == TSV else "")
    found = [_with_header(sample, head, replace(layout, delimiter=sign)) for sign in by or _DELIMITERS]

    def fits(one: Layout) -> tuple[bool, int]:
        wanted = (options.text_column,) if options.text_column else TEXT_COLUMNS
        return any(find_column(name, one.columns) for name in wanted), len(one.columns)

    best = max(found, key=fits)
    place = Place(stream.path, 1)
    if not fits(best)[0] and any(one.columns == () for one in found) and b'"' in sample:
        hint = 'Write a cell with quotation marks in it as "so ""quoted"" it is".'
        raise DataError("the quotation marks of the first row are not valid", place=place, hint=hint)
    if not best.columns:
        raise DataError("there is no header: all cells are blank", place=place)
    if (fault := best._fault(best.head)) is not None:
        hint = "Name its encoding, such as --encoding cp1252 (Windows, Western Europe)."
        raise DataError(f"{fault} in the header", place=place, hint=hint)
    wanted = options.text_column
    numbered = wanted is not None and wanted.isdecimal() and find_column(wanted, best.columns) is None
    if not options.header or numbered:
        columns = tuple(map(str, range(1, len(best.columns) + 1)))
        best = replace(best, head=head, header=False, columns=columns)
    names = tuple(name.strip() for name in best.columns)
    return replace(best, text=text_position(names, wanted, place))


def _with_header(sample: bytes, head: bytes, layout: Layout) -> Layout:
    """Return the layout with the columns of the first row that is not blank, as if it were the header."""
    lines = sample[len(head) :].split(b"\n")
    tabs_quoted = layout.delimiter != "\t" or _tabs_are_quoted(sample[len(head) :])
    layout = replace(layout, quoted=tabs_quoted, header=True)
    for _, end, row in _rows_with_lines(lines, layout._reader):
        if isinstance(row, str) or not any(cell.strip() for cell in row):
            if isinstance(row, str):
                return replace(layout, columns=())
            continue
        before = b"\n".join(lines[:end]) + (b"\n" if end < len(lines) else b"")
        return replace(layout, columns=tuple(row), head=head + before)
    return replace(layout, columns=())


_OPENING = re.compile(rb'"(?:(?<=[\n\t]")|(?<=\A"))')
_CELL = re.compile(rb'"[^"]*+(?:""[^"]*+)*+(?:"(?=[\t\r\n]|\Z)|\Z)')


def _tabs_are_quoted(sample: bytes) -> bool:
    """Whether a TSV quotes its cells as CSV does; many do not, and have single quotation marks in their texts."""
    opening = _OPENING.search(sample)
    quoted = opening is not None
    while opening is not None:
        cell = _CELL.match(sample, opening.start())
        if cell is None:
            return False
        opening = _OPENING.search(sample, cell.end())
    return quoted


def _rows_with_lines(
    lines: Sequence[bytes], reader: Callable[[Any], Any]
) -> Iterator[tuple[int, int, list[str] | str]]:
    """Yield the first line, the line after the last one, and the cells of each row; or why it cannot be read.

    After a row with broken quotes, the next line is read as if it began a row.
    """
    start = 0
    while start < len(lines):
        texts = (line.decode("utf-8", "surrogateescape") + "\n" for line in islice(lines, start, None))
        rows = reader(texts)
        first = start
        try:
            for row in rows:
                end = first + rows.line_num
                yield start, end, row
                start = end
            return
        except csv.Error as error:
            yield start, start + 1, _quoting_fault(str(error))
            start += 1


def _quoting_fault(error: str) -> str:
    if "unexpected end" in error:
        return f"a quotation mark opens a cell here and does not close it (within {LARGEST >> 20} MiB)"
    if "new-line character" in error:
        return "there is a carriage return in this row, outside of quotation marks"
    return f"not valid CSV: {error}"


def _lines_of(content: bytes) -> list[bytes]:
    """Return the lines without their ends."""
    lines = content.removesuffix(b"\n").split(b"\n")
    return _without_returns(lines) if b"\r" in content else lines


def _without_returns(lines: Sequence[bytes]) -> list[bytes]:
    return [line.removesuffix(b"\r") for line in lines]


def _decoded(content: bytes) -> str | None:
    """Return the text of a block; None if some of it is not text."""
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _kind(value: Any) -> str:
    """Name a JSON value in an error."""
    if value is None:
        return "null"
    shown = json.dumps(value, ensure_ascii=False)
    named = _KINDS.get(type(value), "a string")
    return named if isinstance(value, list | dict) else f"{named}, {shown[:_SHOWN]}"
