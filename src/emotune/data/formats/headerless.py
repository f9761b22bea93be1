"""A table without a header: a column of texts and one of labels, found by looking; they are called 1, 2, …"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO

from emotune.data.formats.base import LABEL_ID, MOST, Family, Layout, ReadOptions, Row, delimiter_name
from emotune.data.formats.cells import is_flag, is_list
from emotune.data.formats.columns import Grid, read_columns, recognise_columns
from emotune.data.formats.files import Content
from emotune.data.formats.table import DELIMITERS, cells_in, same_width, write_cells
from emotune.data.formats.written import cells_of
from emotune.errors import DataError, Place
from emotune.labels import LabelSet, Task

_SAMPLE = 1000
_FEW_LABELS = 8
_HINT = "Say which is which: --set data.text_column=1 --set data.label_column=2"


@dataclass(frozen=True)
class _Guess:
    """The column of texts, and either that of labels or the 0/1 columns in the order of the label names."""

    text: str
    label: str | None = None
    flags: tuple[str, ...] = ()


def recognise(content: Content, asked: ReadOptions) -> Layout | None:
    meant = asked.format == "headerless"
    if not meant and not content.is_text:
        return None
    for delimiter in asked.delimiter or DELIMITERS:
        rows = _sample(content, delimiter)
        if not rows:
            continue
        guess = _guess(rows, asked)
        if guess is not None:
            return _layout(content, delimiter, len(rows[0]), guess, asked)
    if meant:
        message = "cannot tell the column of texts from that of labels"
        raise DataError(message, place=Place(content.path, 1), hint=_HINT)
    return None


def _sample(content: Content, delimiter: str) -> list[list[str]]:
    """The first rows, when nearly all have the columns of the first, two or more; else none."""
    rows: list[list[str]] = []
    try:
        rows.extend(row for _, row in islice(cells_in(content, delimiter), _SAMPLE))
    except DataError:
        if len(rows) < _FEW_LABELS:
            return []
    if not rows or len(rows[0]) < 2 or sum(len(row) == len(rows[0]) for row in rows) < MOST * len(rows):
        return []
    return [row for row in rows if len(row) == len(rows[0])]


def _guess(rows: Sequence[Sequence[str]], asked: ReadOptions) -> _Guess | None:
    """What the columns, called 1, 2, …, hold; None when that does not show."""
    columns = {str(i): [row[i - 1].strip() for row in rows] for i in range(1, len(rows[0]) + 1)}
    config = asked.config
    text = config.text_column or max(columns, key=lambda c: (not _are_lists(columns[c]), sum(map(len, columns[c]))))
    if text not in columns:
        return None
    texts = columns.pop(text)
    if not config.text_column and sum(len(cell.split()) > 1 for cell in texts) < len(texts) / 2:
        return None
    if config.label_columns:
        return _Guess(text, flags=tuple(config.label_columns)) if columns.keys() >= set(config.label_columns) else None
    if config.label_column in columns:
        return _Guess(text, config.label_column)
    flags = tuple(c for c, cells in columns.items() if all(map(is_flag, cells)))
    if flags and len(flags) == len(asked.label_names or ()):
        return _Guess(text, flags=flags)
    found = [c for c, cells in columns.items() if _are_labels(cells)]
    return _Guess(text, found[-1]) if found else None


def _are_lists(cells: Sequence[str]) -> bool:
    return all(is_list(cell) for cell in cells if cell)


def _are_labels(cells: Sequence[str]) -> bool:
    """Whether a column holds labels, in its first row too: lists, ids, or short names that stand in other rows."""
    filled = [cell for cell in cells if cell]
    if not filled or not cells[0]:
        return False
    if _are_lists(filled):
        return True
    count = Counter(filled)
    if len(count) > max(_FEW_LABELS, len(cells) // 2) or len(count) < min(2, len(cells)):
        return False
    if all(map(LABEL_ID.fullmatch, filled)):
        return len(count) < len(filled)
    return count[cells[0]] > 1 and all(len(cell) <= 40 and len(cell.split()) <= 3 for cell in filled)


def _layout(content: Content, delimiter: str, width: int, guess: _Guess, asked: ReadOptions) -> Layout:
    shape = f"{delimiter_name(delimiter)}-separated table without a header"
    start = Layout("headerless", shape, delimiter=delimiter)
    if guess.flags:
        names = dict(enumerate(_names_in_order(content, guess.flags, asked)))
        return replace(start, text_column=guess.text, label_columns=guess.flags, id_names=names)
    named = {"text_column": guess.text, "label_column": guess.label, "label_columns": None}
    config = asked.config.model_copy(update=named)
    return recognise_columns(_grid(content, delimiter, width), replace(asked, config=config), start)


def _names_in_order(content: Content, flags: Sequence[str], asked: ReadOptions) -> Sequence[str]:
    """What 0/1 columns without a header are called: as configured, else by number.

    Raises DataError when only a model's labels are known, for their order says nothing of the columns.
    """
    if len(asked.config.labels or ()) == len(flags):
        return asked.config.labels or ()
    if len(asked.label_names or ()) == len(flags) and not asked.config.label_columns:
        raise DataError(
            f"{len(flags)} columns of 0/1 without a header: which label each stands for is not known",
            place=Place(content.path, 1),
            hint="Name them in the order of the columns: --set data.labels=[A,B,…]",
        )
    return flags


def _grid(content: Content, delimiter: str, width: int) -> Grid:
    columns = [str(i) for i in range(1, width + 1)]
    return Grid(
        content.path,
        columns,
        1,
        lambda: same_width(content.path, cells_in(content, delimiter), width, 1, "the first has"),
    )


def read(content: Content, layout: Layout) -> Iterator[Row]:
    width = next((len(row) for _, row in cells_in(content, layout.delimiter)), 0)
    by_column = _names_of_columns(layout)
    for row in read_columns(_grid(content, layout.delimiter, width), layout):
        yield replace(row, names=tuple(by_column[c] for c in row.names)) if by_column else row


def _names_of_columns(layout: Layout) -> dict[str, str]:
    """What the 0/1 columns stand for; nothing where one column holds the labels."""
    return dict(zip(layout.label_columns, layout.id_names.values(), strict=True)) if layout.label_columns else {}


def write(file: BinaryIO, rows: Iterable[Row], layout: Layout) -> None:
    columns = {name: column for column, name in _names_of_columns(layout).items()}
    if columns:
        rows = (replace(row, names=tuple(columns[name] for name in row.names)) for row in rows)
    write_cells(file, (cells_of(row, layout) for row in rows), layout.delimiter)


def plain(labels: LabelSet) -> Layout:
    several = labels.task is Task.MULTI_LABEL
    start = Layout("headerless", "comma-separated table without a header", several, ",", text_column="1")
    return replace(start, label_column="2", lists=several)


FAMILY = Family("headerless", recognise, read, write, plain)
