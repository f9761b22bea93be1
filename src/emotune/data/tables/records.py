"""The records of tables of any size, how the user says that a table is read, and the choice of the text column."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from emotune.data.formats.columns import TEXT_COLUMNS, find_column
from emotune.errors import DataError, Place, UsageError, did_you_mean

CSV, TSV, JSONL, TXT, PARQUET = "csv", "tsv", "jsonl", "txt", "parquet"
FORMATS = (CSV, TSV, JSONL, TXT, PARQUET)
_SPELT = {"\\t": "\t", "tab": "\t"}
_LISTED = 20
_HINT = "Name the column of the texts: --text-column NAME"


@dataclass(frozen=True)
class TableOptions:
    """How the user says that a table is read; None: as it is found.

    format: one of FORMATS. text_column: its name; its number, from 1, in a table without a header. encoding: that of
    the text without a byte order mark. header: whether the first row of a delimited file has the names of the columns.
    """

    format: str | None = None
    text_column: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    header: bool = True

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise UsageError(f"the format of a table is one of {', '.join(FORMATS)}, not {self.format!r}")
        if self.delimiter is not None and (len(self.sign) != 1 or self.sign in '"\r\n' or not self.sign.isascii()):
            raise UsageError(f"a delimiter is one character (or tab), not {self.delimiter!r}")

    @property
    def sign(self) -> str:
        """The delimiter as a character."""
        return _SPELT.get(self.delimiter or "", self.delimiter or "")


@dataclass(frozen=True)
class SetAside:
    """A record that cannot be predicted: its line, why, and the record, or the start of a long one."""

    line: int
    reason: str
    record: bytes


@dataclass(frozen=True)
class Records:
    """The records of a block whose text can be predicted, and those that are set aside.

    raw: each record as it stands in the file, in UTF-8, without its line break; none for Parquet. values: each as a
    list of cells, as the object of its JSON, or as its text; of Parquet, an Arrow table. wide: the lines of records of
    very many lines. covered: the lines of the block that belong to these records or are blank; of Parquet, the rows.
    """

    texts: list[str]
    lines: list[int]
    raw: list[bytes]
    values: Any
    aside: list[SetAside] = field(default_factory=list)
    wide: list[int] = field(default_factory=list)
    covered: int = 0

    def __len__(self) -> int:
        return len(self.texts)


def text_position(
    columns: Sequence[str],
    wanted: str | None,
    place: Place,
    texts: Sequence[str] | None = None,
    what: str = "the columns are",
) -> int:
    """Return the position of the text column: the named one, else one with a usual name, else the only one.

    texts: the columns that have texts; None if all may. Raises DataError with the columns.
    """
    listed = ", ".join(map(repr, columns[:_LISTED])) + (", …" if len(columns) > _LISTED else "")
    if wanted is not None:
        found = find_column(wanted, columns)
        if found is None:
            message = f"there is no column {wanted!r}; {what} {listed}"
            raise DataError(message, place=place, hint=did_you_mean(wanted, columns))
    else:
        usual = (find_column(name, columns) for name in TEXT_COLUMNS)
        found = next((name for name in usual if name is not None), None)
        only = columns if texts is None else texts
        if found is None and len(only) == 1:
            found = only[0]
        if found is None:
            hint = f"{_HINT}; if there is no header, its number, such as 1" if texts is None else _HINT
            raise DataError(f"no column is named text or similar; {what} {listed}", place=place, hint=hint)
    if columns.count(found) > 1:
        message = f"{columns.count(found)} columns are named {found!r}"
        raise DataError(message, place=place, hint="Rename one of them, or name another: --text-column NAME")
    return columns.index(found)
