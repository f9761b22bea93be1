"""What every layout of label files shares: how one is described, recognised, read and written."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from emotune.config.schema import DataConfig
from emotune.data.formats.files import Content
from emotune.errors import ConfigError, DataError
from emotune.labels import KNOWN, LabelSet, Task, known_set

LABEL_ID = re.compile(r"[0-9]{1,9}")
_MOST_LABELS = 1000
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read: text and label names, not yet checked against a label set.

    `line`: where it starts, from 1; in a Parquet file the number of the row.
    `shares`: of soft targets, each name with its share (above 0 to 1); `names` are then those of at least a half.
    `merged`: the rows of the file that it was made of, where several raters wrote one each.
    """

    text: str
    names: tuple[str, ...]
    line: int
    id: str | None = None
    shares: tuple[tuple[str, float], ...] | None = None
    merged: int = 1


@dataclass(frozen=True, slots=True)
class Vote(Row):
    """What one rater says of a text; `rater` None: it does not stand there. `unclear`: too unclear to judge."""

    rater: str | None = None
    unclear: bool = False


def label_set(rows: Sequence[Row], layout: "Layout", config: DataConfig) -> LabelSet:
    """The label set that the rows speak of, in a stable order, and whether a row may have several labels.

    Raises DataError when there are so many names, or so few, that they cannot be labels.
    """
    by_id = tuple(layout.id_names[i] for i in sorted(layout.id_names))
    names = tuple(config.labels or by_id or layout.label_columns) or _names_in(rows)
    if config.task != "auto":
        return LabelSet(names, Task(config.task))
    return LabelSet(names, Task.MULTI_LABEL if layout.several else Task.MULTI_CLASS)


def _names_in(rows: Sequence[Row]) -> tuple[str, ...]:
    """The names in the rows; those equal up to case are one label, in its commonest spelling.

    A known set keeps its own order, numbers come by size, others by the alphabet.
    """
    spellings: dict[str, str] = {}
    counted = Counter(row.names if row.shares is None else tuple(name for name, _ in row.shares) for row in rows)
    names: Counter[str] = Counter()
    for found, number in counted.items():
        for name in found:
            names[name] += number
    for name, _ in names.most_common():
        spellings.setdefault(name.casefold(), name)
    longest = max(map(len, spellings), default=0)
    if len(spellings) > _MOST_LABELS or longest > _LONGEST:
        many = len(spellings) > _MOST_LABELS
        what = f"{len(spellings):,} different labels" if many else f"labels of {longest:,} letters"
        raise DataError(
            f"there are {what}, which look like texts",
            hint="Name the column that holds the labels: --set data.label_column=NAME",
        )
    known = known_set(spellings)
    if known is not None:
        return tuple(spellings[name] for name in KNOWN[known].names)
    if all(LABEL_ID.fullmatch(name) for name in spellings):
        return tuple(sorted(spellings, key=lambda name: (int(name), name)))
    return tuple(sorted(spellings.values()))


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
