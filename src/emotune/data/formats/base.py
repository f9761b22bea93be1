"""The parts that all readers share: the content of a label file, its format, its rows, and the options of the caller.

The bytes of a file are kept once and text is decoded line by line: a str with an emoji needs 4 bytes per character.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

from emotune.config.schema import DataConfig
from emotune.data.formats.encoding import BYTE_ORDER_MARK, as_utf8, not_text
from emotune.data.formats.packed import unpacked
from emotune.data.split_files import unpacked_name
from emotune.errors import ConfigError, DataError, MissingInputError, Place

_CHUNK = 1 << 20
_SAMPLE = 1000
# Excel's first line `sep=;`, which names the delimiter
_NAMED_DELIMITER = re.compile(rb'(?:\xef\xbb\xbf)?"?sep=([\t !#-/:-@\[-`{-~])"?[ \t]*\r?\n', re.IGNORECASE)


@dataclass(frozen=True)
class Content:
    """The bytes of a file, unpacked.

    name        the file's name without `.gz`; of a zip archive, that of the file in it
    encoding    that of a text file without a byte order mark; None: UTF-8
    """

    path: Path
    raw: bytes
    name: str
    encoding: str | None = None

    def stream(self) -> io.TextIOWrapper:
        """The text without a byte order mark, its line breaks unchanged; it begins after the `skipped` lines."""
        return io.TextIOWrapper(io.BytesIO(self._rows), "utf-8-sig", newline="")

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines that are not blank, with their numbers from 1; only a line feed ends a line."""
        text, number = self._rows, self.skipped
        start, size = len(BYTE_ORDER_MARK) * text.startswith(BYTE_ORDER_MARK), len(text)
        while start < size:
            end = text.find(b"\n", start)
            end = size if end < 0 else end
            line = text[start:end].decode("utf-8")
            start, number = end + 1, number + 1
            if line and not line.isspace():
                yield number, line.removesuffix("\r")

    @property
    def skipped(self) -> int:
        """The number of lines before the rows: 1 when the first names the delimiter (`sep=;`), else 0."""
        return int(self.delimiter is not None)

    @cached_property
    def delimiter(self) -> str | None:
        """The delimiter that the first line names, as in `sep=;`; None without such a line."""
        match = _NAMED_DELIMITER.match(self._text)
        return None if match is None else match[1].decode("ascii")

    @cached_property
    def _rows(self) -> bytes:
        return self._text[self._text.index(b"\n") + 1 :] if self.skipped else self._text

    @cached_property
    def sample(self) -> list[str]:
        """The first lines that are not blank."""
        return [line for _, line in islice(self.lines(), _SAMPLE)]

    def has(self, character: bytes) -> bool:
        """Whether the text contains an ASCII character."""
        return character in self._rows

    @cached_property
    def is_text(self) -> bool:
        """Whether the bytes are text; `lines` and `stream` raise the error of those that are not."""
        try:
            return bool(self._text)
        except DataError:
            return False

    @cached_property
    def _text(self) -> bytes:
        """The text in UTF-8, checked; in a file without line feeds, carriage returns become line feeds.

        Raises DataError for an empty or binary file, and for one of another encoding, with the line of the fault.
        """
        raw, start, blank = as_utf8(self.path, self.raw, self.encoding), 0, True
        while start < len(raw):
            end = raw.find(b"\n", start + _CHUNK) + 1 or len(raw)  # no character crosses the end of a line
            try:
                text = raw[start:end].decode("utf-8")
            except UnicodeDecodeError as error:
                raise not_text(self.path, raw, start + error.start) from None
            blank = blank and not text.removeprefix("\ufeff").strip()
            start = end
        if b"\0" in raw:
            raise not_text(self.path, raw, raw.index(b"\0"))
        if blank:
            raise DataError("the file is empty", place=Place(self.path), hint="Download or save it again.")
        return raw if b"\n" in raw else raw.replace(b"\r", b"\n")


def stem_of(path: Path) -> str:
    """A file's name without its suffix (`suffix_of`)."""
    return path.name[: -len(suffix_of(path)) or None] or path.name


def suffix_of(path: Path) -> str:
    """The suffix of a file's name in lower case, such as `.csv.gz`."""
    name, packed = unpacked_name(path.name.casefold())
    return PurePosixPath(name).suffix + packed


def read_content(path: Path, encoding: str | None = None) -> Content:
    """The bytes of a file, unpacked when they are packed; `encoding`: that of a text file without a byte order mark.

    Raises MissingInputError for a file that cannot be opened, DataError for a broken archive.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise MissingInputError(f"no such file: {path}") from None
    except OSError as error:
        raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(path)) from error
    name, raw = unpacked(path, raw)
    return Content(path, raw, name, encoding)


# Formats and rows

LABEL_ID = re.compile(r"[0-9]{1,9}")
# A file has a format when this share of the sampled lines fits it. The other lines are then errors.
MOST = 0.9
_SPELT_DELIMITERS = {"\\t": "\t", "tab": "\t"}
_DELIMITER_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "blank"}


class Element(int):
    """The number of an object in an array that is one line, in place of a line: `data.json:1, element 3`."""

    def __str__(self) -> str:
        return f"1, element {int(self)}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read: text and label names, not yet checked against a label set.

    line      where the row starts, from 1; in a Parquet file the number of the row, in JSON of one line an `Element`
    shares    soft targets: each name with its share (above 0 to 1); `names` are then those with at least a half
    merged    the number of rows in the file that this row was made from: one for each rater
    """

    text: str
    names: tuple[str, ...]
    line: int
    id: str | None = None
    shares: tuple[tuple[str, float], ...] | None = None
    merged: int = 1


# why a row is left out of a table that was joined from several files
REPEATED_HEADER = "equal to the header"


class NoLabelsError(DataError):
    """A file of texts without labels, such as the test file of a competition."""

    def __init__(self, why: str, place: Place, hint: str = "") -> None:
        remedy = f"{hint} Without labels it can be predicted, not scored or trained on.".strip()
        super().__init__(f"no labels: {why}", place=place, hint=remedy)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row of a file that is not used; `why` follows "3 rows" in a sentence, such as "ignored"."""

    line: int
    why: str


@dataclass(frozen=True)
class FileFormat:
    """The format of a label file; columns by name.

    reader      the name of its reader, a value of `data.format`
    shape       the format in words, without the columns
    more        other columns that have labels of a row as `label_column` has: the second, the third, …
    lists       whether a label cell is a list
    glued       whether the delimiter ends a fastText label also without a blank, since the configuration names it
    vector      the number of 0/1 values in a label cell, in the order of `id_names`; 0 for other cells
    values      the form of the cells of `label_columns`: one of `cells.FORMS`, `soft` or `graded`
    positive    the grade from which on a label is positive
    id_names    the names of the label ids; empty when the file has names
    raters      the column of the rater, when each row is one rater's
    unclear     the column that marks texts as too unclear to judge
    soft        whether the shares of the raters are the targets
    sheet       the sheet of a workbook
    notes       what the user should know about the choice of columns
    """

    reader: str
    shape: str
    several: bool = True
    delimiter: str = ""
    text_column: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    label_columns: tuple[str, ...] = ()
    label_delimiter: str | None = None
    more: tuple[str, ...] = ()
    lists: bool = False
    glued: bool = False
    vector: int = 0
    values: str = "0/1"
    positive: float = 0.0
    id_names: Mapping[int, str] = field(default_factory=dict)
    raters: str | None = None
    unclear: str | None = None
    soft: bool = False
    sheet: str | None = None
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line that tells the user how the file is read."""
        if self.text_column is None:
            return "; ".join((self.shape, *self.notes))
        text = f"{self.shape}, text in column {self.text_column!r}"
        if self.label_columns:
            text += f", {len(self.label_columns)} columns of {self.values}"
            text += f" values, positive from {self.positive:g}" * (self.values == "graded")
        elif self.vector:
            text += f", 0/1 vectors of {self.vector} labels in column {self.label_column!r}"
        else:
            labels = "label ids" if self.id_names else "labels"
            joined = f", several joined by {self.label_delimiter!r}" if self.label_delimiter else ""
            where = ", ".join(map(repr, (self.label_column, *self.more)))
            text += f", {'lists of ' if self.lists else ''}{labels} in column{'s' * bool(self.more)} {where}{joined}"
        if self.raters:
            rule = "labels are those that two raters or more chose"
            if self.soft:
                rule = "targets are the share of raters"
            elif not self.several:
                rule = "the label is the one that most raters, and at least two, chose"
            text += f", one row per rater (column {self.raters!r}): {rule}"
        return "; ".join((text, *self.notes))


@dataclass(frozen=True)
class ReadOptions:
    """What the caller knows about a file before it is read.

    label_names    the known names (of a model, or from the configuration); None when there are none. Their order does
                   not define label ids
    ids            the names of the label ids in the data that `label_names` come from
    """

    config: DataConfig
    label_names: tuple[str, ...] | None = None
    ids: Mapping[int, str] = field(default_factory=dict)

    @property
    def format(self) -> str | None:
        """The configured format; None when it is to be detected."""
        return None if self.config.format == "auto" else self.config.format

    @property
    def delimiter(self) -> str | None:
        """The configured delimiter; raises ConfigError unless it is one character."""
        if self.config.delimiter is None:
            return None
        delimiter = _SPELT_DELIMITERS.get(self.config.delimiter, self.config.delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise ConfigError(f"data.delimiter is one character (or 'tab'), not {self.config.delimiter!r}")
        return delimiter

    @property
    def names_columns(self) -> bool:
        """Whether the configuration names a column, so that the file must have columns."""
        return bool(self.config.text_column or self.config.label_column or self.config.label_columns)


@dataclass(frozen=True)
class Reader:
    """The reader of one kind of label file.

    name         a value of `data.format`
    recognise    returns the format of a file, or None when the file is of another kind. Raises DataError for a file
                 that is certainly of this kind, or that the configuration calls so, and that cannot be read
    read         yields the rows, and those that are left out; raises DataError with the line of the first row that
                 does not fit
    """

    name: str
    recognise: Callable[[Content, ReadOptions], FileFormat | None]
    read: Callable[[Content, FileFormat], Iterator[Row | LeftOut]]


def delimiter_name(delimiter: str) -> str:
    """The name of a delimiter, for messages."""
    return _DELIMITER_NAMES.get(delimiter, repr(delimiter))
