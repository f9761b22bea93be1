"""What every layout of label files shares: how one is described, recognised, read and written."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from emotune.config.schema import DataConfig
from emotune.data.formats.files import Content
from emotune.data.formats.rows import Row
from emotune.errors import ConfigError
from emotune.labels import LabelSet

MOST = 0.9  # the share of the looked-at lines that must fit a layout for the others to be called broken
_SPELT_DELIMITERS = {"\\t": "\t", "tab": "\t"}
_DELIMITER_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "blank"}


@dataclass(frozen=True)
class Layout:
    """How a label file is laid out; columns by name. `shape` says it in words, without the columns.

    `id_names`: the names of label ids, when the file holds ids; else it holds names. `lists`: a label cell is a list.
    `raters`: the column that tells the raters of one text apart; `soft`: their shares are the targets.
    `notes`: what a reader of the data should know about the choice of columns.
    """

    format: str
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
        """One line that says how the file is read."""
        if self.text_column is None:
            return "; ".join((self.shape, *self.notes))
        said = f"{self.shape}, text in column {self.text_column!r}"
        if self.label_columns:
            said += f", {len(self.label_columns)} columns of 0/1"
        else:
            what = "label ids" if self.id_names else "labels"
            joined = f", several joined by {self.label_delimiter!r}" if self.label_delimiter else ""
            said += f", {'lists of ' if self.lists else ''}{what} in column {self.label_column!r}{joined}"
        if self.raters:
            agreed = "labels are those that two raters or more chose"
            if not self.several:
                agreed = "the label is that which most raters chose, and two at least"
            rule = "targets are the share of raters" if self.soft else agreed
            said += f", one row a rater (column {self.raters!r}): {rule}"
        return "; ".join((said, *self.notes))


@dataclass(frozen=True)
class ReadOptions:
    """What the caller says of a file before it is looked at.

    `label_names`: the names that are known (of a model, or from the configuration); None for none. Their order says
    nothing of ids. `ids`: the names that ids have in the data which the caller's labels come from.
    """

    config: DataConfig
    label_names: tuple[str, ...] | None = None
    ids: Mapping[int, str] = field(default_factory=dict)

    @property
    def format(self) -> str | None:
        """The configured layout; None where it is to be found by looking."""
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
    def columns(self) -> bool:
        """Whether a column is named, so that the file must have columns."""
        return bool(self.config.text_column or self.config.label_column or self.config.label_columns)


Recognise = Callable[[Content, ReadOptions], Layout | None]
Read = Callable[[Content, Layout], Iterator[Row]]
Write = Callable[[BinaryIO, Iterable[Row], Layout], None]
Plain = Callable[[LabelSet], Layout]


@dataclass(frozen=True)
class Family:
    """A kind of layout.

    name         as `data.format` calls it
    recognise    the layout of a file, None when it is of another kind. Raises DataError for a file that is surely of
                 this kind, or that the configuration calls so, and that cannot be read
    read         its rows; raises DataError with the line of the first that does not fit
    write        rows in a layout that was recognised, or that `plain` made
    plain        the layout in which rows of a label set are written; raises DataError for a task that has no room in it
    """

    name: str
    recognise: Recognise
    read: Read
    write: Write
    plain: Plain


def delimiter_name(delimiter: str) -> str:
    """What a delimiter is called."""
    return _DELIMITER_NAMES.get(delimiter, repr(delimiter))
