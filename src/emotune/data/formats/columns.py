"""Named columns of any kind of file: the choice of the text and label columns, and the rows that they give."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from emotune.data.formats import raters
from emotune.data.formats.base import FileFormat, NoLabelsError, ReadOptions, Row
from emotune.data.formats.cells import (
    BINARY,
    FORMS,
    GRADED,
    KNOWN_NAMES,
    SOFT,
    WITH_BLANKS,
    NameReader,
    flag,
    flags_in,
    form_of,
    grade,
    hidden,
    is_flag_of_any_form,
    label_format,
    number_of,
    own_name,
    shares_of,
    shown,
    unwrapped,
)
from emotune.data.formats.label_ids import Schema
from emotune.data.split_files import class_names
from emotune.errors import DataError, Place, did_you_mean
from emotune.labels import POSITIVE

TEXT_COLUMNS = ("text", "texts", "sentence", "content", "comment", "tweet", "message", "review", "utterance", "body")
LABEL_COLUMNS: tuple[str, ...] = ("label_name", "label_text", "label", "labels", "emotion", "emotions")
LABEL_COLUMNS += ("class", "category", "sentiment", "target")
# The first that exists is the id. None of them is a label; pandas writes row numbers under the last three.
ID_COLUMNS = ("id", "comment_id", "text_id", "tweet_id", "uid", "index", "unnamed: 0", "")
# 0/1 columns that describe the row, not an emotion in it
_WORDS = re.compile(r"[^\W\d_]+|[0-9]+")
_RANKS_ALONE = {"primary", "secondary", "tertiary"}
_RANKS = _RANKS_ALONE | {"first", "second", "third", "main", "other"}
_ASIDE = ("is_", "has_", "was_", "contains_", "example_", "num_", "n_")
_ASIDES = {"retweet", "reply", "verified", "deleted", "edited", "nsfw", "spam", "split", "fold", "valid", "test"}
# the names of a row's labels, and its shares where it has soft targets
_Labels = tuple[tuple[str, ...], tuple[tuple[str, float], ...] | None]
_SAMPLE = 10_000
_SHOWN = 200
_EXAMPLES = 3


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
    schema: Mapping[str, Schema] = field(default_factory=dict)
    kind: Literal["header", "keys", "schema"] = "header"

    @property
    def lacks(self) -> str:
        """The beginning of the error for a column that is missing."""
        return {"header": "the header has no column", "keys": "there is no key"}.get(self.kind, "there is no column")

    def find(self, usual: Sequence[str]) -> str | None:
        """The first column with one of these names, in their order."""
        first = {column.casefold(): column for column in reversed(self.columns)}
        return next((first[name] for name in usual if name in first), None)

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
        if config.values == "auto" and len(flags) > 1 and _have_names(grid, flags):
            file_format = _label_column(grid, options, replace(file_format, more=flags[1:]), flags[0])
        else:
            file_format = flag_format(grid, flags, options, file_format)
    elif config.label_column:
        file_format = _label_column(grid, options, file_format, grid.configured(config.label_column, "label_column"))
    else:
        label_column = grid.find(LABEL_COLUMNS)
        _require_one_column(grid)
        found = _flag_columns(grid, options, file_format)
        flags = found.label_columns
        # two columns named like emotions, or one like a known label, are the labels although there is a label column
        emotions = [flag for flag in flags if flag.casefold() in KNOWN_NAMES]
        if label_column is None or (len(emotions) > 1 if names is None else flags):
            file_format = _complete(grid, names, found)
        else:
            file_format = _label_column(grid, options, file_format, label_column)
    return raters.recognise(grid.columns, options, file_format)


def _rank(column: str) -> str | None:
    """What a numbered column such as `label2` or `second_emotion` has, in one word; None for another column."""
    words = _WORDS.findall(column.casefold())
    rest = [word for word in words if not word.isdecimal() and word not in _RANKS]
    if not rest:
        return "label" if words and words[0] in _RANKS_ALONE else None
    return rest[0] if len(rest) == 1 < len(words) and rest[0] in LABEL_COLUMNS else None


def _have_names(grid: Grid, columns: Sequence[str]) -> bool:
    """Whether each of these columns has names of labels in its cells, not 0/1 or what stands for them."""
    numbered = all(map(_rank, columns[1:]))
    for cells in _counts(grid, columns).values():
        filled = {cell: n for cell, n in cells.items() if hidden(cell) is None}
        names = {cell: n for cell, n in filled.items() if isinstance(cell, str) and not is_flag_of_any_form(cell)}
        known = {cell: n for cell, n in names.items() if cell.strip().casefold() in KNOWN_NAMES}
        if 2 * sum((names if numbered else known).values()) <= sum(filled.values()):
            return False
    return True


def _require_one_column(grid: Grid) -> None:
    """Raise DataError when several numbered columns have names of labels: a choice that only the user can make."""
    for kind in LABEL_COLUMNS:
        columns = [c for c in grid.columns if _rank(c) == kind or c.casefold() == kind]
        if len(columns) > 1 and _have_names(grid, columns):
            message = f"several columns have labels: {', '.join(columns)[:_SHOWN]}"
            hint = f"If a text has the labels of all: --set data.label_columns=[{','.join(columns)}]; "
            hint += f"if one column counts: --set data.label_column={columns[0]}"
            raise DataError(message, place=Place(grid.path, grid.line), hint=hint)


def _counts(grid: Grid, columns: Sequence[str]) -> dict[str, Counter[Any]]:
    """How often each value occurs in the first rows of these columns; lists and objects are left out."""
    at = [grid.columns.index(column) for column in columns]
    counts: list[Counter[Any]] = [Counter() for _ in at]
    for _, row in islice(grid.rows(), _SAMPLE):
        for i, count in zip(at, counts, strict=True):
            if not isinstance(row[i], list | dict):
                count[own_name(row[i], grid.columns[i])] += 1
    return dict(zip(columns, counts, strict=True))


def flag_format(grid: Grid, flags: Sequence[str], options: ReadOptions, file_format: FileFormat) -> FileFormat:
    """The format with these columns as labels, and the form of their cells, as configured or else detected."""
    return _with_flags(_counts(grid, flags), options, file_format)


def _with_flags(counts: Mapping[str, Counter[Any]], options: ReadOptions, file_format: FileFormat) -> FileFormat:
    """`flag_format` with the columns that are counted."""
    values, flags = options.config.values, tuple(counts)
    form = form_of(counts.values()) if values == "auto" else values
    return replace(file_format, label_columns=flags, values=form, positive=options.config.positive_from or 0.0)


def _flag_columns(grid: Grid, options: ReadOptions, file_format: FileFormat) -> FileFormat:
    """The format with the columns that are labels, and notes about them; without such columns when there are none.

    These are the columns named like a known label. When none are known, they are the columns in which most of the
    first rows are 0 or 1 (or yes or no, …), or any of the rows for a column named like an emotion. The reader refuses
    other cells there.
    """
    text_column, label_names = str(file_format.text_column), options.label_names
    if label_names is not None:
        wanted = {n.casefold() for n in label_names}
        flags = [c for c in grid.columns if c.casefold() in wanted and c != text_column]
        return flag_format(grid, flags, options, file_format)
    no_labels = {*ID_COLUMNS, *raters.RATER_COLUMNS, *raters.UNCLEAR_COLUMNS, text_column.casefold()}
    counts = _counts(grid, [c for c in grid.columns if c.casefold() not in no_labels])
    flags = _filled_with_flags(counts, options)
    unknown = [c for c in flags if not _is_emotion(c)]
    if len(flags) - len(unknown) < 2:
        return _with_flags({c: counts[c] for c in flags}, options, file_format)
    # among columns of emotions, those that describe the row are left out
    aside = [c for c in unknown if c.casefold().startswith(_ASIDE) or c.casefold() in _ASIDES]
    others = [c for c in unknown if c not in aside]
    notes = []
    if aside:
        notes.append(f"0/1 columns left out because they name no emotion: {', '.join(aside)} (see data.label_columns)")
    if others:
        listed = ", ".join(others)
        notes.append(f"used as labels although they are no known emotions: {listed} (see data.label_columns)")
    found = replace(file_format, notes=tuple(notes))
    return _with_flags({c: counts[c] for c in flags if c not in aside}, options, found)


def _is_emotion(column: str) -> bool:
    return column.casefold() in KNOWN_NAMES


def _filled_with_flags(counts: Mapping[str, Counter[Any]], options: ReadOptions) -> list[str]:
    """The columns whose cells have one form: that which gives the most emotions, then the most columns."""
    values = options.config.values
    if values != "auto":
        shares = {c: sum(n for v, n in count.items() if _is_share(v, values)) for c, count in counts.items()}
        most = {c for c, n in shares.items() if values == SOFT and n > counts[c].total() / 2}
        return [c for c, n in shares.items() if c in most or (n and _is_emotion(c))]
    forms = [_with_form(counts, form) for form in FORMS]
    best = max(forms, key=lambda flags: (sum(map(_is_emotion, flags)), len(flags)))
    # beside labels, every column that is named like an emotion is one too: the reader refuses another form there
    return [c for c in counts if c in best or (best and _is_emotion(c))]


def _with_form(counts: Mapping[str, Counter[Any]], form: str) -> list[str]:
    """The columns with cells of a form: emotions with any such cell, others with most, both positive and negative.

    Blanks in a column of another kind mean nothing: where they are negative, a column has no other cells.
    """
    flags = {c: flags_in(count, form) for c, count in counts.items()}
    if form in WITH_BLANKS:
        whole = [c for c, found in flags.items() if found.total() == counts[c].total()]
        named = [c for c in flags if _is_emotion(c) and (flags[c][True] or c in whole)]
        found = [c for c in counts if c in named or (c in whole and len(flags[c]) > 1)]
        return found if any(flags[c][True] for c in found) else []
    enough = {c for c, found in flags.items() if found.total() > counts[c].total() / 2}
    both = {c for c in enough if form == BINARY or len(flags[c]) > 1}
    return [c for c in counts if c in both or (_is_emotion(c) and flags[c].total())]


def _is_number(value: Any) -> bool:
    return number_of(value) is not None


def _is_share(value: Any, values: str) -> bool:
    number = number_of(value)
    return number is not None and (values == GRADED or 0 <= number <= 1)


def _complete(grid: Grid, label_names: Sequence[str] | None, found: FileFormat) -> FileFormat:
    """The format with 0/1 columns; raises DataError when there are none, or a known label has none."""
    place = Place(grid.path, grid.line)
    if not found.label_columns:
        _require_known_forms(grid, found)
        why = f"neither 0/1 columns nor a column named 'label' among {', '.join(grid.columns)[:_SHOWN]}"
        hint = "If it has: --set data.label_column=NAME, or --set data.label_columns=[A,B,…]."
        raise NoLabelsError(why, place, hint + _hint_of_numbers(grid, found))
    there = {flag.casefold() for flag in found.label_columns}
    missing = [name for name in label_names or () if name.casefold() not in there]
    if missing:
        message = f"{grid.lacks} for {len(missing)} of the labels: {', '.join(missing)[:_SHOWN]}"
        hint = "If no text has them, name the other labels: --set data.label_columns=[A,B,…]"
        raise DataError(message, place=place, hint=hint)
    return found


def _require_known_forms(grid: Grid, found: FileFormat) -> None:
    """Raise DataError for columns named like emotions whose cells are words of no form of `FORMS`."""
    columns = [c for c in grid.columns if _is_emotion(c) and c != found.text_column]
    at = [grid.columns.index(c) for c in columns] if len(columns) > 1 else []
    for line, row in grid.rows() if at else ():
        i = next((i for i in at if hidden(row[i]) is None), None)
        if i is None:
            continue
        if not isinstance(row[i], str) or _is_number(row[i]):
            return
        message = f"{shown(row[i])} is neither 0 nor 1, in a column that is named like an emotion"
        hint = f"Write the cells of all label columns in one of these ways: {', '.join(FORMS)}."
        raise DataError(message, place=Place(grid.path, line, grid.columns[i]), hint=hint)


def _hint_of_numbers(grid: Grid, file_format: FileFormat) -> str:
    """The settings for columns of shares or grades, when there are columns of numbers."""
    columns = [c for c in grid.columns if c not in (file_format.text_column, file_format.id_column)]
    numeric = {c: count for c, count in _counts(grid, columns).items() if any(map(_is_number, count))}
    named = f"--set data.label_columns=[{','.join(numeric)[:_SHOWN]}]"
    if not numeric:
        return ""
    if file_format.values in (SOFT, GRADED):
        return f" Columns with numbers: {named}."
    hint = f" Grades, positive from N on: {named} --set data.values=graded --set data.positive_from=N."
    if all(_is_share(value, SOFT) for count in numeric.values() for value in count if _is_number(value)):
        hint = f" Shares from 0 to 1: {named} --set data.values=soft.{hint}"
    return hint


def _label_column(grid: Grid, options: ReadOptions, file_format: FileFormat, column: str) -> FileFormat:
    """The format of a file with one label column."""
    file_format = replace(file_format, label_column=column)
    at, first = [grid.columns.index(c) for c in (column, *file_format.more)], grid.line
    cells: Counter[Any] = Counter()
    keys: Counter[str] = Counter()
    for line, row in grid.rows():
        value = _cell(row, at)
        first = first if cells or keys else line
        if isinstance(value, dict):
            keys.update(list(value))
            continue
        value = value.strip() if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
        try:
            cells[value] += 1
        except TypeError:  # a list of objects: the reader refuses it, with its line
            continue
    place = Place(grid.path, first, column)
    schema = grid.schema.get(column) or class_names(grid.path.parent, column)
    return label_format(cells, file_format, options, place, schema or (), keys)


def _cell(row: Sequence[Any], at: Sequence[int]) -> Any:
    """The label cell of a row; of several columns, the list of their cells that are not blank."""
    if len(at) == 1:
        return unwrapped(row[at[0]])
    return [row[i] for i in at if row[i] is not None and str(row[i]).strip()]


def read_columns(grid: Grid, file_format: FileFormat) -> Iterator[Row]:
    """The rows of a grid, each a `Vote` in a file of raters; raises DataError with the line of the first fault."""
    wanted = [*file_format.label_columns, *filter(None, [file_format.label_column]), *file_format.more]
    has_text = find_column(file_format.text_column, grid.columns) is not None
    if has_text and all(find_column(name, grid.columns) is None for name in wanted):
        listed = ", ".join(map(repr, wanted))[:_SHOWN]
        raise NoLabelsError(f"{grid.lacks} {listed}, which the other files have", Place(grid.path, grid.line))
    _require_labels(grid, wanted)
    rows = _rows(grid, file_format)
    if file_format.raters is None:
        return (row for _, row in rows)
    return raters.votes(grid.path, grid.columns, rows, file_format)


def _require_labels(grid: Grid, columns: Sequence[str]) -> None:
    """Raise NoLabelsError when the label cells of all rows are blank, null, or what hides labels, such as -1.

    Zeros, and empty lists, are texts without an emotion.
    """
    at = [grid.columns.index(c) for c in (find_column(name, grid.columns) for name in columns) if c is not None]
    found: dict[str, None] = {}
    for _, row in grid.rows():
        cells = [hidden(row[i]) for i in at]
        if None in cells or not cells:
            return
        found |= dict.fromkeys(filter(None, cells))
    what = f"column {columns[0]!r}" if len(columns) == 1 else f"columns {_listed(columns)}"
    raise NoLabelsError(f"all cells of {what} are {' or '.join(found)}", Place(grid.path))


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(repr, columns[:_EXAMPLES])) + (", …" if len(columns) > _EXAMPLES else "")


def _rows(grid: Grid, file_format: FileFormat) -> Iterator[tuple[Sequence[Any], Row]]:
    """The cells of each row, and the row."""
    at_text = _position(grid, str(file_format.text_column))
    id_column = find_column(file_format.id_column, grid.columns)
    at_id = None if id_column is None else grid.columns.index(id_column)
    at_flags = [(_position(grid, c), c) for c in file_format.label_columns]
    at_label = [] if at_flags else [_position(grid, str(c)) for c in (file_format.label_column, *file_format.more)]
    reader = NameReader(file_format)
    known: dict[tuple[str, ...], _Labels] = {}  # rows of flags repeat: equal ones are read once
    for line, row in grid.rows():
        text, key = row[at_text], None if at_id is None or row[at_id] in (None, "") else str(row[at_id])
        if not isinstance(text, str):
            message = "there is no text" if text is None else f"the text is {shown(text)}, not a string"
            hint = "Write a text, or remove the row. If another column has the texts: --set data.text_column=NAME"
            raise DataError(message, place=Place(grid.path, line, file_format.text_column), hint=hint)
        if at_flags:
            flags = tuple("" if row[i] is None else str(row[i]) for i, _ in at_flags)
            if flags not in known:
                known[flags] = _flagged([(c, row[i], Place(grid.path, line, c)) for i, c in at_flags], file_format)
            names, shares = known[flags]
        else:
            place = Place(grid.path, line, file_format.label_column)
            found = reader.read(_cell(row, at_label), place)
            names, shares = _shared(shares_of(found, place)) if isinstance(found, Mapping) else (found, None)
        yield row, Row(text, names, line, key, shares)


def _flagged(cells: Sequence[tuple[str, Any, Place]], file_format: FileFormat) -> _Labels:
    """The labels of a row by the cells of its label columns, each with its column and place."""
    values = file_format.values
    if values in FORMS:
        return tuple(column for column, value, place in cells if flag(value, place, values)), None
    grades = [(column, grade(value, values, place)) for column, value, place in cells]
    if values == GRADED:
        return tuple(column for column, number in grades if number >= file_format.positive), None
    return _shared(tuple((column, share) for column, share in grades if share))


def _shared(shares: tuple[tuple[str, float], ...]) -> _Labels:
    return tuple(name for name, share in shares if share >= POSITIVE), shares


def _position(grid: Grid, name: str) -> int:
    found = find_column(name, grid.columns)
    if found is None:
        message = f"{grid.lacks} {name!r}, which the other files have"
        raise DataError(message, place=Place(grid.path, grid.line))
    return grid.columns.index(found)
