"""The parts that all readers share: the content of a label file, its format, its rows, and the options of the caller.

The bytes of a file are kept once and text is decoded line by line: a str with an emoji needs 4 bytes per character.
"""

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

from emotune.config.schema import DataConfig
from emotune.errors import ConfigError, DataError, MissingInputError, Place

GZIP = b"\x1f\x8b"
_KINDS = {
    b"\x89PNG": "a PNG image",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    GZIP: "a gzip archive in a gzip archive",
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
_LOOKED_AT = 4096
_CHUNK = 1 << 20
_LARGEST = 8 << 30
_SAMPLE = 1000


@dataclass(frozen=True)
class Content:
    """The bytes of a file; of a gzipped one, unpacked."""

    path: Path
    raw: bytes

    def stream(self) -> io.TextIOWrapper:
        """The text without a byte order mark, its line breaks unchanged."""
        return io.TextIOWrapper(io.BytesIO(self._text), "utf-8-sig", newline="")

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines that are not blank, with their numbers from 1; only a line feed ends a line."""
        start, number, size = len(_BYTE_ORDER_MARK) * self._text.startswith(_BYTE_ORDER_MARK), 0, len(self._text)
        while start < size:
            end = self._text.find(b"\n", start)
            end = size if end < 0 else end
            line = self._text[start:end].decode("utf-8")
            start, number = end + 1, number + 1
            if line and not line.isspace():
                yield number, line.removesuffix("\r")

    @cached_property
    def sample(self) -> list[str]:
        """The first lines that are not blank."""
        return [line for _, line in islice(self.lines(), _SAMPLE)]

    @cached_property
    def is_text(self) -> bool:
        """Whether the bytes are text; `lines` and `stream` raise the error of those that are not."""
        try:
            return bool(self._text)
        except DataError:
            return False

    @cached_property
    def _text(self) -> bytes:
        """The bytes, checked to be text; in a file without line feeds, carriage returns become line feeds.

        Raises DataError for an empty, binary or non-UTF-8 file, with the line of the fault.
        """
        raw, start, blank = self.raw, 0, True
        while start < len(raw):
            end = raw.find(b"\n", start + _CHUNK) + 1 or len(raw)  # no character crosses the end of a line
            try:
                text = raw[start:end].decode("utf-8")
            except UnicodeDecodeError as error:
                raise _not_text(self.path, raw, start + error.start) from None
            blank = blank and not text.removeprefix("\ufeff").strip()
            start = end
        if b"\0" in raw:
            raise _not_text(self.path, raw, raw.index(b"\0"))
        if blank:
            raise DataError("the file is empty", place=Place(self.path))
        return raw if b"\n" in raw else raw.replace(b"\r", b"\n")


def stem_of(path: Path) -> str:
    """A file's name without its suffix (`suffix_of`)."""
    return path.name[: -len(suffix_of(path)) or None] or path.name


def suffix_of(path: Path) -> str:
    """The suffix of a file's name in lower case, such as `.csv.gz`."""
    name = path.name.casefold()
    packed = ".gz" if name.endswith(".gz") else ""
    return Path(name.removesuffix(".gz")).suffix + packed


def read_content(path: Path) -> Content:
    """The bytes of a file, unpacked when they are gzipped.

    Raises MissingInputError for a file that cannot be opened, DataError for a broken gzip archive.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise MissingInputError(f"no such file: {path}") from None
    except OSError as error:
        raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(path)) from error
    if not raw.startswith(GZIP):
        return Content(path, raw)
    hint = "Download or pack the file again."
    try:
        raw = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(_LARGEST + 1)
    except EOFError:
        raise DataError("the gzip archive is cut short", place=Place(path), hint=hint) from None
    except (OSError, zlib.error) as error:
        raise DataError(f"the gzip archive is broken: {error}", place=Place(path), hint=hint) from None
    if len(raw) > _LARGEST:
        raise DataError(f"unpacked, the gzip archive is larger than {_LARGEST >> 30} GiB", place=Place(path))
    return Content(path, raw)


def _not_text(path: Path, raw: bytes, at: int) -> DataError:
    """The error for a file whose byte `at` is not text."""
    start = raw[:_LOOKED_AT]
    kind = next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), None)
    fewer, more = sorted(start[i::2].count(0) for i in (0, 1))
    utf16 = start.startswith((b"\xff\xfe", b"\xfe\xff")) or (fewer == 0 and more > 0.4 * len(start[::2]))
    if kind is None and utf16:
        return DataError("this is UTF-16 text", place=Place(path), hint="Save the file as UTF-8.")
    controls = len(start) - len(start.translate(None, _CONTROLS))
    if kind is not None or controls > max(8, 0.02 * len(start)):
        message = f"this is {kind or 'a binary file'}, not a text file"
        return DataError(message, place=Place(path), hint="Export the data as CSV or TSV, in UTF-8.")
    place = Place(path, raw.count(b"\n", 0, at) + 1)
    if raw[at] == 0:
        return DataError("there is a NUL byte in this line", place=place, hint="Text has none: remove it.")
    return DataError(f"byte 0x{raw[at]:02x} is not UTF-8", place=place, hint="Save the file as UTF-8.")


# Formats and rows

LABEL_ID = re.compile(r"[0-9]{1,9}")
# A file has a format when this share of the sampled lines fits it. The other lines are then errors.
MOST = 0.9
_SPELT_DELIMITERS = {"\\t": "\t", "tab": "\t"}
_DELIMITER_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "blank"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read: text and label names, not yet checked against a label set.

    line      where the row starts, from 1; in a Parquet file the number of the row
    shares    soft targets: each name with its share (above 0 to 1); `names` are then those with at least a half
    merged    the number of rows in the file that this row was made from: one for each rater
    """

    text: str
    names: tuple[str, ...]
    line: int
    id: str | None = None
    shares: tuple[tuple[str, float], ...] | None = None
    merged: int = 1


@dataclass(frozen=True)
class FileFormat:
    """The format of a label file; columns by name.

    reader      the name of its reader, a value of `data.format`
    shape       the format in words, without the columns
    lists       whether a label cell is a list
    vector      the number of 0/1 values in a label cell, in the order of `id_names`; 0 for other cells
    values      the form of the cells of `label_columns`: one of `cells.FORMS`, `soft` or `graded`
    positive    the grade from which on a label is positive
    id_names    the names of the label ids; empty when the file has names
    raters      the column of the rater, when each row is one rater's
    unclear     the column that marks texts as too unclear to judge
    soft        whether the shares of the raters are the targets
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
    lists: bool = False
    vector: int = 0
    values: str = "0/1"
    positive: float = 0.0
    id_names: Mapping[int, str] = field(default_factory=dict)
    raters: str | None = None
    unclear: str | None = None
    soft: bool = False
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
            text += f", {'lists of ' if self.lists else ''}{labels} in column {self.label_column!r}{joined}"
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
    read         yields the rows; raises DataError with the line of the first row that does not fit
    """

    name: str
    recognise: Callable[[Content, ReadOptions], FileFormat | None]
    read: Callable[[Content, FileFormat], Iterator[Row]]


def delimiter_name(delimiter: str) -> str:
    """The name of a delimiter, for messages."""
    return _DELIMITER_NAMES.get(delimiter, repr(delimiter))
