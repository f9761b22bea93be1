"""Named columns of any kind of file: the choice of the text and label columns, and the rows that they give."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from emotune.data.formats import raters
from emotune.data.formats.base import FileFormat, NoLabelsError, ReadOptions, Row
from emotune.data.formats.cells import (
    KNOWN_NAMES,
    NameReader,
    flag,
    is_flag,
    is_list,
    items_of,
    joining,
    names_if_ids,
    shares_of,
    shown,
)
from emotune.data.split_files import class_names
from emotune.errors import DataError, Place, did_you_mean
from emotune.labels import POSITIVE

TEXT_COLUMNS = ("text", "texts", "sentence", "content", "comment", "tweet", "message", "review", "utterance", "body")
LABEL_COLUMNS: tuple[str, ...] = ("label_name", "label_text", "label", "labels", "emotion", "emotions")
LABEL_COLUMNS += ("class", "category", "sentiment", "target")
# The first that exists is the id. None of them is a label; pandas writes row numbers under the last three.
ID_COLUMNS = ("id", "comment_id", "text_id", "tweet_id", "uid", "index", "unnamed: 0", "")
# 0/1 columns that describe the row, not an emotion in it
_ASIDE = ("is_", "has_", "was_", "contains_", "example_", "num_", "n_")
_ASIDES = {"retweet", "reply", "verified", "deleted", "edited", "nsfw", "spam", "split", "fold", "valid", "test"}
_SAMPLE = 10_000
_SHOWN = 200


@dataclass(frozen=True)
class Grid:
    """Rows of named columns.

    line      the line of the header
    rows      yields the line and the values of each row, from the start at each call
    schema    the names of the label ids in a column, where the file itself has them
    kind      what names the columns: a header, the keys of JSON objects, or the schema of a file
    """

    path: Path
    columns: list[str]
    line: int
    rows: Callable[[], Iterator[tuple[int, Sequence[Any]]]]
    schema: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kind: Literal["header", "keys", "schema"] = "header"

    @property
    def lacks(self) -> str:
        """The beginning of the error for a column that is missing."""
        return {"header": "the header has no column", "keys": "there is no key"}.get(self.kind, "there is no column")

    def find(self, usual: Sequence[str]) -> str | None:
        """The first column with one of these names, in their order."""
        found = (find_column(name, self.columns) for name in usual)
        return next((column for column in found if column is not None), None)

    def configured(self, name: str, option: str) -> str:
        """The column that the configuration names; raises DataError when there is none."""
        found = find_column(name, self.columns)
        if found is None:
            hint = f"{did_you_mean(name, self.columns)} Set it with --set data.{option}=NAME"
            raise DataError(f"{self.lacks} {name!r}", place=Place(self.path, self.line), hint=hint)
        return found


def find_column(name: str | None, columns: Sequence[str]) -> str | None:
    """The column of this name, whatever its case."""
    folded = None if name is None else name.strip().casefold()
    return next((c for c in columns if c.casefold() == folded), None)


def recognise_columns(grid: Grid, options: ReadOptions, file_format: FileFormat) -> FileFormat:
    """The format with its columns chosen, as configured or else detected.

    Raises DataError when there is no text column or no label.
    """
    config, names = options.config, options.label_names
    configured = config.text_column
    text_column = grid.configured(configured, "text_column") if configured else grid.find(TEXT_COLUMNS)
    if text_column is None:
        message = f"{grid.lacks} 'text' or a similar name, only {', '.join(grid.columns)[:_SHOWN]}"
        hint = "Name the column of the texts: --set data.text_column=NAME"
        hint += "; or data.format=headerless" if grid.kind == "header" else ""
        raise DataError(message, place=Place(grid.path, grid.line), hint=hint)
    file_format = replace(file_format, text_column=text_column, id_column=grid.find(ID_COLUMNS))
    if config.label_columns:
        flags = tuple(grid.configured(c, "label_columns") for c in config.label_columns)
        file_format = replace(file_format, label_columns=flags)
    elif config.label_column:
        file_format = _label_column(grid, options, file_format, grid.configured(config.label_column, "label_column"))
    else:
        label_column = grid.find(LABEL_COLUMNS)
        flags, notes = _flag_columns(grid, text_column, names)
        # two columns named like emotions, or one like a known label, are the labels although there is a label column
        emotions = [flag for flag in flags if flag.casefold() in KNOWN_NAMES]
        if label_column is None or (len(emotions) > 1 if names is None else flags):
            file_format = replace(file_format, label_columns=_complete(flags, grid, names), notes=notes)
        else:
            file_format = _label_column(grid, options, file_format, label_column)
    return raters.recognise(grid.columns, options, file_format)


def _flag_columns(
    grid: Grid, text_column: str, label_names: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns that are labels, and notes about them.

    These are the columns named like a known label. When none are known, they are the columns in which most of the
    first rows are 0 or 1, or any of the rows for a column named like an emotion. The reader refuses other cells there.
    """
    if label_names is not None:
        wanted = {n.casefold() for n in label_names}
        return tuple(c for c in grid.columns if c.casefold() in wanted and c != text_column), ()
    no_labels = {*ID_COLUMNS, *raters.RATER_COLUMNS, *raters.UNCLEAR_COLUMNS, text_column.casefold()}
    at = [(i, c) for i, c in enumerate(grid.columns) if c.casefold() not in no_labels]
    rows = [row for _, row in islice(grid.rows(), _SAMPLE)]
    counts = {column: sum(is_flag(row[i]) for row in rows) for i, column in at}
    flags = [c for c, n in counts.items() if n > len(rows) / 2 or (n and c.casefold() in KNOWN_NAMES)]
    unknown = [c for c in flags if c.casefold() not in KNOWN_NAMES]
    if len(flags) - len(unknown) < 2:
        return tuple(flags), ()
    # among columns of emotions, those that describe the row are left out
    aside = [c for c in unknown if c.casefold().startswith(_ASIDE) or c.casefold() in _ASIDES]
    others = [c for c in unknown if c not in aside]
    notes = []
    if aside:
        notes.append(f"0/1 columns left out because they name no emotion: {', '.join(aside)} (see data.label_columns)")
    if others:
        listed = ", ".join(others)
        notes.append(f"used as labels although they are no known emotions: {listed} (see data.label_columns)")
    return tuple(c for c in flags if c not in aside), tuple(notes)


def _complete(flags: Sequence[str], grid: Grid, label_names: Sequence[str] | None) -> tuple[str, ...]:
    """The 0/1 columns; raises DataError when there are none, or a known label has none."""
    place = Place(grid.path, grid.line)
    if not flags:
        why = f"neither 0/1 columns nor a column named 'label' among {', '.join(grid.columns)[:_SHOWN]}"
        hint = "If it has: --set data.label_column=NAME, or --set data.label_columns=[A,B,…]."
        raise NoLabelsError(why, place, hint)
    there = {flag.casefold() for flag in flags}
    missing = [name for name in label_names or () if name.casefold() not in there]
    if missing:
        message = f"{grid.lacks} for {len(missing)} of the labels: {', '.join(missing)[:_SHOWN]}"
        hint = "If no text has them, name the other labels: --set data.label_columns=[A,B,…]"
        raise DataError(message, place=place, hint=hint)
    return tuple(flags)


def _label_column(grid: Grid, options: ReadOptions, file_format: FileFormat, column: str) -> FileFormat:
    """The format of a file with one label column: joined names, a list, one name, shares, or ids of these."""
    file_format = replace(file_format, label_column=column)
    at = grid.columns.index(column)
    cells: Counter[str] = Counter()
    items: Counter[str] = Counter()
    listed = False
    for line, row in grid.rows():
        value = row[at]
        if isinstance(value, str):
            cells[value.strip()] += 1
        elif isinstance(value, dict):
            listed = True
            items.update(list(value))
        else:
            listed = listed or isinstance(value, list)
            items.update(items_of(value, file_format, Place(grid.path, line, column)))
    del cells[""]
    if options.config.label_delimiter is None and any(map(is_list, cells)):
        file_format = replace(file_format, lists=True)
    else:
        file_format = replace(file_format, label_delimiter=joining(cells.keys(), options))
    for cell, number in cells.items():
        with suppress(DataError):  # not a list: the reader refuses it, with its line
            items.update(dict.fromkeys(items_of(cell, file_format, Place(grid.path)), number))
    several = file_format.lists or listed or bool(file_format.label_delimiter)
    lists = file_format.lists or (listed and not cells)  # beside lists of JSON, a string is one name
    schema = grid.schema.get(column) or class_names(grid.path.parent, column)
    names = names_if_ids(grid.path, items, options, schema)
    return replace(file_format, several=several, lists=lists, id_names=names)


def read_columns(grid: Grid, file_format: FileFormat) -> Iterator[Row]:
    """The rows of a grid, each a `Vote` in a file of raters; raises DataError with the line of the first fault."""
    wanted = [*file_format.label_columns, *([file_format.label_column] if file_format.label_column else [])]
    has_text = find_column(file_format.text_column, grid.columns) is not None
    if has_text and all(find_column(name, grid.columns) is None for name in wanted):
        listed = ", ".join(map(repr, wanted))[:_SHOWN]
        raise NoLabelsError(f"{grid.lacks} {listed}, which the other files have", Place(grid.path, grid.line))
    rows = _rows(grid, file_format)
    if file_format.raters is None:
        return (row for _, row in rows)
    return raters.votes(grid.path, grid.columns, rows, file_format)


def _rows(grid: Grid, file_format: FileFormat) -> Iterator[tuple[Sequence[Any], Row]]:
    """The cells of each row, and the row."""
    at_text = _position(grid, str(file_format.text_column))
    id_column = find_column(file_format.id_column, grid.columns)
    at_id = None if id_column is None else grid.columns.index(id_column)
    at_flags = [(_position(grid, c), c) for c in file_format.label_columns]
    at_label = None if at_flags else _position(grid, str(file_format.label_column))
    reader = NameReader(file_format)
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # rows of flags repeat: equal ones are read once
    for line, row in grid.rows():
        text, key = row[at_text], None if at_id is None or row[at_id] is None else str(row[at_id])
        if not isinstance(text, str):
            message = "there is no text" if text is None else f"the text is {shown(text)}, not a string"
            raise DataError(message, place=Place(grid.path, line, file_format.text_column))
        shares = None
        if at_label is None:
            flags = tuple(str(row[i]) for i, _ in at_flags)
            if flags not in known:
                known[flags] = tuple(c for i, c in at_flags if flag(row[i], Place(grid.path, line, c)))
            names = known[flags]
        elif isinstance(row[at_label], dict):
            shares = shares_of(row[at_label], Place(grid.path, line, file_format.label_column))
            names = tuple(name for name, share in shares if share >= POSITIVE)
        else:
            names = reader.names(row[at_label], Place(grid.path, line, file_format.label_column))
        yield row, Row(text, names, line, key, shares)


def _position(grid: Grid, name: str) -> int:
    found = find_column(name, grid.columns)
    if found is None:
        message = f"{grid.lacks} {name!r}, which the other files have"
        raise DataError(message, place=Place(grid.path, grid.line))
    return grid.columns.index(found)
