"""Rows of a label file in a known layout: texts and label names, each with its line."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emotune.config import DataConfig
from emotune.data.files import numbered_lines, read_table
from emotune.data.layout import FLAGS, Layout, find_column, pieces
from emotune.errors import DataError, Place
from emotune.labels import KNOWN, LabelSet, Task, known_set

LABEL_ID = re.compile(r"[0-9]{1,9}")
_MOST_LABELS = 1000
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read: text and label names, not yet checked against a label set."""

    text: str
    names: tuple[str, ...]
    line: int
    id: str | None = None


def read_rows(path: Path, text: str, layout: Layout) -> list[Row]:
    """All rows of a file in that layout; raises DataError with the line for the first that does not fit."""
    readers = {"goemotions": _goemotions_rows, "text_label": _text_label_rows, "table": _table_rows}
    return list(readers[layout.format](path, text, layout))


def _goemotions_rows(path: Path, text: str, layout: Layout) -> Iterator[Row]:
    for number, line in numbered_lines(text):
        cells = line.split("\t")
        if len(cells) < 2:
            raise DataError("a row has a text, a tab and label ids; there is no tab here", place=Place(path, number))
        names = _names(cells[1], layout, Place(path, number))
        yield Row(cells[0], names, number, cells[2] if len(cells) > 2 else None)


def _text_label_rows(path: Path, text: str, layout: Layout) -> Iterator[Row]:
    for number, line in numbered_lines(text):
        body, found, label = line.rpartition(layout.delimiter)
        if not found or not label.strip():
            message = f"a row has a text, {layout.delimiter!r} and a label; one of them is missing"
            raise DataError(message, place=Place(path, number))
        yield Row(body, _names(label, layout, Place(path, number)), number)


def _table_rows(path: Path, text: str, layout: Layout) -> Iterator[Row]:
    table = read_table(path, text, layout.delimiter)

    def position(name: str) -> int:
        found = find_column(name, (), table.columns)
        if found is None:
            message = f"the header has no column {name!r}, which the other files have"
            raise DataError(message, place=Place(path, table.line))
        return table.columns.index(found)

    at_text = position(str(layout.text_column))
    at_id = None if layout.id_column is None else position(layout.id_column)
    at_label = None if layout.label_column is None else position(layout.label_column)
    at_flags = [(position(c), c) for c in layout.label_columns]
    for line, cells in table.rows:
        if at_label is not None:
            names = _names(cells[at_label], layout, Place(path, line, layout.label_column))
        else:
            names = tuple(c for i, c in at_flags if _flag(cells[i], Place(path, line, c)))
        yield Row(cells[at_text], names, line, None if at_id is None else cells[at_id])


def _names(cell: str, layout: Layout, place: Place) -> tuple[str, ...]:
    """The label names that a cell of names or ids holds."""
    found = pieces(cell, layout.label_delimiter)
    names = layout.ids_are_names_of
    if not names:
        return found
    for piece in found:
        if not LABEL_ID.fullmatch(piece) or int(piece) >= len(names):
            raise DataError(f"label id {piece[:_SHOWN]!r} is not one of 0 to {len(names) - 1}", place=place)
    return tuple(names[int(piece)] for piece in found)


def _flag(cell: str, place: Place) -> bool:
    try:
        return FLAGS[cell.strip()]
    except KeyError:
        raise DataError(
            f"{cell[:_SHOWN]!r} is neither 0 nor 1",
            place=place,
            hint="If this column is no label, name those that are: --set data.label_columns=[A,B,…]",
        ) from None


def label_set(rows: Sequence[Row], layout: Layout, config: DataConfig) -> LabelSet:
    """The label set that the rows speak of, in a stable order, and whether a row may have several labels.

    Raises DataError when there are so many names, or so few, that they cannot be labels.
    """
    names = tuple(config.labels or layout.ids_are_names_of or layout.label_columns) or _names_in(rows)
    if config.task != "auto":
        return LabelSet(names, Task(config.task))
    one_each = not layout.label_columns and layout.label_delimiter is None
    return LabelSet(names, Task.MULTI_CLASS if one_each else Task.MULTI_LABEL)


def _names_in(rows: Sequence[Row]) -> tuple[str, ...]:
    """The names in the rows; those equal up to case are one label, in its commonest spelling.

    A known set keeps its own order, numbers come by size, others by the alphabet.
    """
    spellings: dict[str, str] = {}
    for name, _ in Counter(name for row in rows for name in row.names).most_common():
        spellings.setdefault(name.casefold(), name)
    if len(spellings) > _MOST_LABELS:
        raise DataError(
            f"there are {len(spellings):,} different labels, which look like texts",
            hint="Name the column that holds the labels: --set data.label_column=NAME",
        )
    known = known_set(spellings)
    if known is not None:
        return tuple(spellings[name] for name in KNOWN[known].names)
    if all(LABEL_ID.fullmatch(name) for name in spellings):
        return tuple(sorted(spellings, key=lambda name: (int(name), name)))
    return tuple(sorted(spellings.values()))
