"""How a label file is laid out, and what its cells say.

Three layouts: `goemotions` (text, tab, comma-joined label ids, …; no header, no quoting), `text_label` (`text;label`;
no header, the last delimiter counts) and `table` (CSV or TSV with a header; 0/1 columns, or one column of names).
"""

from collections.abc import Sequence
from dataclasses import dataclass

FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True}
_DELIMITER_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "blank"}


@dataclass(frozen=True)
class Layout:
    """How a label file is laid out; columns by name.

    `ids_are_names_of`: the label names in id order, when the file holds ids; else it holds names.
    """

    format: str
    delimiter: str
    text_column: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    label_columns: tuple[str, ...] = ()
    label_delimiter: str | None = None
    ids_are_names_of: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line that says how the file is read."""
        by = _DELIMITER_NAMES.get(self.delimiter, repr(self.delimiter))
        if self.format == "goemotions":
            return f"GoEmotions TSV: text, tab, comma-joined ids of {len(self.ids_are_names_of)} labels"
        what = "label id" if self.ids_are_names_of else "label"
        if self.format == "text_label":
            return f"one text and one {what} a line, {by} between them, no header"
        kind = f"{by}-separated table, text in column {self.text_column!r}"
        if self.label_columns:
            return f"{kind}, {len(self.label_columns)} columns of 0/1"
        joined = f", several joined by {self.label_delimiter!r}" if self.label_delimiter else ""
        return f"{kind}, {what}s in column {self.label_column!r}{joined}"


def find_column(wanted: str | None, usual: Sequence[str], columns: Sequence[str]) -> str | None:
    """The column of the wanted name, or the first that has a usual name; without regard to case."""
    by_name = {c.casefold(): c for c in columns}
    names = [wanted.strip().casefold()] if wanted is not None else usual
    return next((by_name[n] for n in names if n in by_name), None)


def pieces(cell: str, delimiter: str | None) -> tuple[str, ...]:
    """The names or ids in a label cell; one at most when there is no delimiter.

    A list as Python writes it, `['joy', 'love']`, loses its brackets and quotation marks.
    """
    cell, around = cell.strip(), None
    if delimiter and is_list(cell):
        cell, around = cell[1:-1], " \t\r\n'\""
    parts = [cell] if not delimiter else cell.split(delimiter)
    return tuple(p for p in (part.strip(around) for part in parts) if p)


def is_list(cell: str) -> bool:
    """Whether a label cell is a list as Python writes it."""
    return cell.startswith("[") and cell.endswith("]")
