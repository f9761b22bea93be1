"""The types that all readers of label files share."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from emotune.config.schema import DataConfig
from emotune.data.formats.files import Content
from emotune.errors import ConfigError

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
            text += f", {len(self.label_columns)} columns of 0/1"
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
