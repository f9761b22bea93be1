"""Named columns, whatever file they come from: which holds the text, which the labels, and the rows that they make."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from emotune.data.formats import raters
from emotune.data.formats.base import Layout, ReadOptions, Row
from emotune.data.formats.cells import (
    FLAGS,
    KNOWN_NAMES,
    NameReader,
    flag,
    is_flag,
    is_list,
    items_of,
    joining,
    names_if_ids,
    pieces,
    shown,
)
from emotune.data.split_files import class_names
from emotune.errors import DataError, Place, did_you_mean
from emotune.labels import POSITIVE

TEXT_COLUMNS = ("text", "texts", "sentence", "content", "comment", "tweet", "message", "review", "utterance", "body")
LABEL_COLUMNS = (
    "label_name",
    "label_text",
    "label",
    "labels",
    "emotion",
    "emotions",
    "class",
    "category",
    "sentiment",
    "target",
)
# The first that is there is the id. None of them is a label; pandas writes row numbers under the last three.
ID_COLUMNS = ("id", "comment_id", "text_id", "tweet_id", "uid", "index", "unnamed: 0", "")
# What 0/1 columns beside labels say of a row, not of what is felt in it.
_ASIDE = ("is_", "has_", "was_", "contains_", "example_", "num_", "n_")
_ASIDES = {"retweet", "reply", "verified", "deleted", "edited", "nsfw", "spam", "split", "fold", "valid", "test"}
_SAMPLE = 10_000
_SHOWN = 200
Rows = Callable[[], Iterator[tuple[int, Sequence[Any]]]]


@dataclass(frozen=True)
class Grid:
    """Rows of named columns: line and values of each, anew at each call of `rows`. `line` is that of the header.

    `schema`: the names of the ids in a column, where the file says them itself.
    """

    path: Path
    columns: list[str]
    line: int
    rows: Rows
    schema: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def has(self, usual: Sequence[str]) -> bool:
        """Whether a column has one of these names."""
        return find_column(None, usual, self.columns) is not None

    def asked(self, name: str, option: str) -> str:
        """The column of that name, which the configuration gives and the header must have."""
        found = find_column(name, (), self.columns)
        if found is None:
            hint = f"{did_you_mean(name, self.columns)} Set it with --set data.{option}=NAME"
            raise DataError(f"the header has no column {name!r}", place=Place(self.path, self.line), hint=hint)
        return found


def find_column(wanted: str | None, usual: Sequence[str], columns: Sequence[str]) -> str | None:
    """The column of the wanted name, or the first that has a usual name; without regard to case."""
    by_name = {c.casefold(): c for c in columns}
    names = [wanted.strip().casefold()] if wanted is not None else usual
    return next((by_name[n] for n in names if n in by_name), None)


def recognise_columns(grid: Grid, asked: ReadOptions, layout: Layout) -> Layout:
    """The layout with its columns chosen, by what the configuration says and else by looking.

    Raises DataError when there is no column of texts, or none of labels.
    """
    config, names = asked.config, asked.label_names
    layout = replace(
        layout, text_column=_text_column(grid, asked), id_column=find_column(None, ID_COLUMNS, grid.columns)
    )
    if config.label_columns:
        flags = tuple(grid.asked(c, "label_columns") for c in config.label_columns)
        return raters.recognise(grid, asked, replace(layout, label_columns=flags))
    label_column = find_column(None, LABEL_COLUMNS, grid.columns)
    if config.label_column:
        label_column = grid.asked(config.label_column, "label_column")
    else:
        flags, notes = _flag_columns(grid, str(layout.text_column), names)
        if label_column is None or _are_named_like_labels(flags, names):
            layout = replace(layout, label_columns=_complete(flags, grid, names), notes=notes)
            return raters.recognise(grid, asked, layout)
    return raters.recognise(grid, asked, _label_column(grid, asked, replace(layout, label_column=label_column)))


def _text_column(grid: Grid, asked: ReadOptions) -> str:
    if asked.config.text_column:
        return grid.asked(asked.config.text_column, "text_column")
    found = find_column(None, TEXT_COLUMNS, grid.columns)
    if found is None:
        listed = ", ".join(grid.columns)[:_SHOWN]
        raise DataError(
            f"the header has no column 'text' or a like name; its columns: {listed}",
            place=Place(grid.path, grid.line),
            hint="Name the column that holds the texts: --set data.text_column=NAME; or data.format=headerless",
        )
    return found


def _flag_columns(
    grid: Grid, text_column: str, label_names: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns that are labels of their own, and what to say about them.

    Those called like a given name, else those that are mostly 0 and 1 in the first rows (of those called like an
    emotion, any); a cell of another kind in such a column is for the reader to refuse.
    """
    if label_names is not None:
        wanted = {n.casefold() for n in label_names}
        return tuple(c for c in grid.columns if c.casefold() in wanted and c != text_column), ()
    no_labels = {*ID_COLUMNS, *raters.RATER_COLUMNS, *raters.UNCLEAR_COLUMNS, text_column.casefold()}
    counts, rows = dict.fromkeys((c for c in grid.columns if c.casefold() not in no_labels), 0), 0
    at = [(grid.columns.index(c), c) for c in counts]
    for _, row in islice(grid.rows(), _SAMPLE):
        rows += 1
        for i, column in at:
            counts[column] += is_flag(row[i])
    return _without_asides([c for c, n in counts.items() if n > rows / 2 or (n and c.casefold() in KNOWN_NAMES)])


def _without_asides(flags: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Among known emotions, 0/1 columns that say something of the row are left out, other unknown ones are named."""
    unknown = [c for c in flags if c.casefold() not in KNOWN_NAMES]
    if len(flags) - len(unknown) < 2:
        return tuple(flags), ()
    aside = [c for c in unknown if c.casefold().startswith(_ASIDE) or c.casefold() in _ASIDES]
    others = [c for c in unknown if c not in aside]
    notes = []
    if aside:
        notes.append(f"0/1 columns left out, for they name no emotion: {', '.join(aside)} (see data.label_columns)")
    if others:
        notes.append(f"taken as labels although not known as emotions: {', '.join(others)} (see data.label_columns)")
    return tuple(c for c in flags if c not in aside), tuple(notes)


def _are_named_like_labels(flags: Sequence[str], label_names: Sequence[str] | None) -> bool:
    """Whether 0/1 columns are the labels although there is a column of names too."""
    if label_names is not None:
        return bool(flags)
    return sum(flag.casefold() in KNOWN_NAMES for flag in flags) > 1


def _complete(flags: Sequence[str], grid: Grid, label_names: Sequence[str] | None) -> tuple[str, ...]:
    """The 0/1 columns; raises DataError when there are none, or a given label has none."""
    place = Place(grid.path, grid.line)
    if not flags:
        raise DataError(
            f"no labels: neither 0/1 columns nor a column named 'label' among {', '.join(grid.columns)[:_SHOWN]}",
            place=place,
            hint="Name it: --set data.label_column=NAME, or --set data.label_columns=[A,B,…]",
        )
    there = {flag.casefold() for flag in flags}
    missing = [name for name in label_names or () if name.casefold() not in there]
    if missing:
        raise DataError(
            f"the header has no column for {len(missing)} of the labels: {', '.join(missing)[:_SHOWN]}",
            place=place,
            hint="To take them for absent in every text, name the others: --set data.label_columns=[A,B,…]",
        )
    return tuple(flags)


def _label_column(grid: Grid, asked: ReadOptions, layout: Layout) -> Layout:
    """The layout of a file with one column of labels: joined names, a list, one name, shares, or ids of these."""
    column = str(layout.label_column)
    at = grid.columns.index(column)
    cells: Counter[str] = Counter()
    items: Counter[str] = Counter()
    listed = False
    for line, row in grid.rows():
        value = row[at]
        if isinstance(value, str):
            cells[value.strip()] += 1
        elif isinstance(value, list | dict):
            listed = True
            items.update(
                list(value) if isinstance(value, dict) else items_of(value, layout, Place(grid.path, line, column))
            )
        else:
            items.update(items_of(value, layout, Place(grid.path, line, column)))
    del cells[""]
    if asked.config.label_delimiter is None and any(map(is_list, cells)):
        layout = replace(layout, lists=True)
    else:
        layout = replace(layout, label_delimiter=joining(cells.keys(), asked))
    for cell, number in cells.items():
        found = _listed(cell) if layout.lists else pieces(cell, layout.label_delimiter)
        items.update(dict.fromkeys(found, number))
    several = layout.lists or listed or bool(layout.label_delimiter)
    schema = grid.schema.get(column) or class_names(grid.path.parent, column)
    names = names_if_ids(grid.path, items, asked, schema)
    return replace(layout, several=several, lists=layout.lists or listed, id_names=names)


def _listed(cell: str) -> tuple[str, ...]:
    try:
        return items_of(cell, Layout("", "", lists=True), Place(Path()))
    except DataError:
        return ()  # for the reader to refuse, with its line


def read_columns(grid: Grid, layout: Layout) -> Iterator[Row]:
    """The rows of a grid, of raters each a `Vote`; raises DataError with the line of the first that does not fit."""
    rows = _flag_rows(grid, layout) if layout.label_columns else _named_rows(grid, layout)
    if layout.raters is None:
        return (row for _, row in rows)
    return raters.votes(grid, rows, layout)


def _position(grid: Grid, name: str) -> int:
    found = find_column(name, (), grid.columns)
    if found is None:
        message = f"the header has no column {name!r}, which the other files have"
        raise DataError(message, place=Place(grid.path, grid.line))
    return grid.columns.index(found)


def _optional(grid: Grid, name: str | None) -> int | None:
    found = None if name is None else find_column(name, (), grid.columns)
    return None if found is None else grid.columns.index(found)


def _flag_rows(grid: Grid, layout: Layout) -> Iterator[tuple[Sequence[Any], Row]]:
    """Rows of 0/1 columns: their cells, and what they say."""
    at_text, at_id = _position(grid, str(layout.text_column)), _optional(grid, layout.id_column)
    at_flags = [(_position(grid, c), c) for c in layout.label_columns]
    kept: dict[tuple[Any, ...], tuple[str, ...]] = {}
    for line, row in grid.rows():
        values = tuple(row[i] for i, _ in at_flags)
        try:
            names = kept.get(values)
        except TypeError:
            names = None
        if names is None:
            names = tuple(
                c for value, (_, c) in zip(values, at_flags, strict=True) if flag(value, Place(grid.path, line, c))
            )
            if all(value in FLAGS for value in values):
                kept[values] = names
        yield row, Row(_text(row[at_text], grid, line, layout), names, line, _id(at_id, row))


def _named_rows(grid: Grid, layout: Layout) -> Iterator[tuple[Sequence[Any], Row]]:
    """Rows of one column of labels: their cells, and what they say."""
    at_text, at_id = _position(grid, str(layout.text_column)), _optional(grid, layout.id_column)
    at_label = _position(grid, str(layout.label_column))
    reader = NameReader(layout)
    for line, row in grid.rows():
        value, place = row[at_label], Place(grid.path, line, layout.label_column)
        text, key = _text(row[at_text], grid, line, layout), _id(at_id, row)
        if isinstance(value, dict):
            shares = raters.shares(value, place)
            names = tuple(name for name, share in shares if share >= POSITIVE)
            yield row, Row(text, names, line, key, shares)
        else:
            yield row, Row(text, reader.names(value, place), line, key)


def _text(value: Any, grid: Grid, line: int, layout: Layout) -> str:
    if isinstance(value, str):
        return value
    message = "there is no text" if value is None else f"the text is {shown(value)}, which is no text"
    raise DataError(message, place=Place(grid.path, line, layout.text_column))


def _id(at: int | None, row: Sequence[Any]) -> str | None:
    return None if at is None or row[at] is None else str(row[at])
