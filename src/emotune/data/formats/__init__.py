"""The readers of label files, one for each format, and the functions that choose and call them.

To add a format: a `Reader` in a module of this folder, its line in `READERS`, its name in `DataConfig.format`, a test.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emotune.config.schema import DataConfig
from emotune.data.formats import arrow, jsonl, lines, parquet, raters, table, workbook
from emotune.data.formats.base import (
    LABEL_ID,
    REPEATED_HEADER,
    Content,
    FileFormat,
    LeftOut,
    NoLabelsError,
    Reader,
    ReadOptions,
    Row,
    read_content,
    suffix_of,
)
from emotune.data.formats.cells import KNOWN_NAMES, hidden
from emotune.data.formats.label_ids import require_first_id
from emotune.errors import ConfigError, DataError, EmotuneError, Place

# The first reader that recognises a file reads it. The most specific formats come first.
_SPECIFIC = (parquet.READER, arrow.READER, workbook.READER, jsonl.READER, lines.FASTTEXT, lines.GOEMOTIONS_TSV)
_IN_ORDER = (*_SPECIFIC, table.READER, lines.TEXT_LABEL, table.HEADERLESS)
READERS: dict[str, Reader] = {reader.name: reader for reader in _IN_ORDER}
_EXAMPLES = 3
_ONE_FORM = "Write both files in one form."


@dataclass(frozen=True)
class Reading:
    """The rows of files of one format, by file.

    rows        those that are used
    left_out    texts on which raters do not agree
    unused      other rows that are left out
    """

    format: FileFormat
    rows: dict[Path, list[Row]]
    left_out: dict[Path, list[Row]]
    unused: dict[Path, list[LeftOut]]

    def all_rows(self) -> list[Row]:
        """The used rows of all files."""
        return [row for rows in self.rows.values() for row in rows]

    def without_unlabelled(self) -> "Reading":
        """The reading without the rows that have no label; raises NoLabelsError when there are no others."""
        rows = {path: [row for row in there if row.names or row.shares] for path, there in self.rows.items()}
        if not any(rows.values()):
            raise NoLabelsError("all rows are without a label", Place(next(iter(rows))))
        unused = {path: list(self.unused.get(path, ())) for path in rows}
        for path, there in self.rows.items():
            unused[path] += [LeftOut(row.line, "without a label") for row in there if not row.names and not row.shares]
        return replace(self, rows=rows, unused=unused)

    def notes(self, *, headers: bool = True) -> list[str]:
        """What the user should know about merged and left-out rows; empty when there are none.

        headers   whether repeated headers are among them; the findings of a corpus have them too
        """
        return [*self._notes_on_unused(headers), *self._notes_on_raters()]

    def _notes_on_unused(self, headers: bool) -> Iterator[str]:
        by_reason: dict[str, list[str]] = {}
        for path, rows in self.unused.items():
            for row in rows if headers else [row for row in rows if row.why != REPEATED_HEADER]:
                by_reason.setdefault(row.why, []).append(f"{path.name}:{row.line}")
        for why, places in by_reason.items():
            shown = ", ".join(places[:_EXAMPLES]) + (", …" if len(places) > _EXAMPLES else "")
            yield f"left out: {len(places):,} {'row' if len(places) == 1 else 'rows'} {why} ({shown})"

    def _notes_on_raters(self) -> list[str]:
        if self.format.raters is None:
            return []
        used, out = self.all_rows(), [row for rows in self.left_out.values() for row in rows]
        texts = len(used) + len(out)
        note = f"{sum(row.merged for row in (*used, *out)):,} rows of raters are {texts:,} texts"
        if not out:
            return [note]
        places = [f"{path.name}:{row.line}" for path, rows in self.left_out.items() for row in rows[:_EXAMPLES]]
        shown = ", ".join(places[:_EXAMPLES]) + (", …" if len(out) > _EXAMPLES else "")
        why = "that no rater could judge" if self.format.soft else "without a label that two raters chose"
        if not self.format.several and not self.format.soft:
            why += ", more than any other label,"
        remedy = " (data.raters=soft keeps them)" if not self.format.soft and len(out) > texts / 2 else ""
        return [f"{note}; {len(out):,} of them {why} are left out ({shown}){remedy}"]


def detect(content: Content, options: ReadOptions) -> FileFormat:
    """The format of a file, as configured or else detected; raises DataError when no format fits."""
    _ = options.delimiter  # raises ConfigError for an invalid one
    if options.config.delimiter is None and content.is_text and content.delimiter is not None:
        options = replace(options, config=options.config.model_copy(update={"delimiter": content.delimiter}))
    for reader in READERS.values() if options.format is None else [READERS[options.format]]:
        found = reader.recognise(content, options)
        if found is not None:
            return found
    _ = content.sample  # raises DataError for a file that is not text
    grid, delimiter = table.best_grid(content, options.delimiter)
    if len(grid.columns) > 1:
        return table.format_of(content, grid, delimiter, options)  # raises DataError for the missing column
    if any(sign in content.sample[0] for sign in table.DELIMITERS):
        hint = f"Name the format, one of {', '.join(READERS)}: --set data.format=NAME. It says where it cannot read on."
        raise DataError("cannot tell the format of this file", place=Place(content.path, 1), hint=hint)
    hint = "A labelled file is a table, JSON, fastText's lines, or one text and label a line: so glad;joy."
    raise NoLabelsError("each line is a text and nothing else", Place(content.path, 1), hint)


def read_files(
    paths: Sequence[Path],
    config: DataConfig,
    label_names: Sequence[str] | None,
    file_format: FileFormat | None = None,
    ids: Mapping[int, str] | None = None,
) -> Reading:
    """Read a file, or the shards of one, in the given format or else the detected one.

    `label_names` and `ids` are those of `ReadOptions`. Raises MissingInputError and DataError with the place.
    """
    options = ReadOptions(config, tuple(label_names) if label_names else None, ids or {})
    detected = file_format is None
    if file_format is None and len(paths) > 1:
        formats = [detect(read_content(path, config.encoding), options) for path in paths]
        file_format = next((found for found in formats if found.several), formats[0])
    rows: dict[Path, list[Row]] = {}
    unused: dict[Path, list[LeftOut]] = {}
    for path in paths:
        content = read_content(path, config.encoding)
        file_format = file_format or detect(content, options)
        try:
            found = list(READERS[file_format.reader].read(content, file_format))
        except DataError as error:
            raise error if path == paths[0] else of_two_forms(error, [path], config, file_format, paths[0]) from None
        rows[path] = [row for row in found if isinstance(row, Row)]
        unused[path] = [row for row in found if isinstance(row, LeftOut)] if len(rows[path]) < len(found) else []
    assert file_format is not None, "there is at least one file"
    if config.values != "auto" and not file_format.label_columns:
        message = f"data.values={config.values} is for columns with one label each; here a column has the labels"
        raise ConfigError(message, hint="Name the columns: --set data.label_columns=[A,B,…]; or leave data.values out.")
    if not file_format.id_names and not file_format.label_columns:
        _require_ids_or_names(rows, file_format)
    if detected:
        published = file_format.reader == lines.GOEMOTIONS_TSV.name
        require_first_id(rows, file_format.id_names, options, published=published)
    reading = Reading(file_format, rows, {}, unused)
    reading = reading if file_format.raters is None else _merged(reading, config)
    return reading.without_unlabelled() if config.unlabelled == "drop" else reading


def _require_ids_or_names(rows: Mapping[Path, Sequence[Row]], file_format: FileFormat) -> None:
    """Raise DataError when one file has label ids and another has names."""
    first: dict[str, Path] = {}
    for path, there in rows.items() if len(rows) > 1 else ():
        first.setdefault(_kind(file_format, {name for row in there for name in row.names}), path)
    if {"ids", "names"} <= first.keys():
        ids, names = first["ids"], first["names"]
        message = f"the labels are ids in {ids.name} and names in {names.name}"
        raise DataError(message, place=Place(ids, rows[ids][0].line), hint=_ONE_FORM)


def _kind(file_format: FileFormat, names: Iterable[str]) -> str:
    """Whether all labels of a file are `ids`, or all are `names`; else `both`."""
    are_ids = {LABEL_ID.fullmatch(name) is not None for name in names if hidden(name) is None}
    if file_format.id_names:
        return "ids"
    return "both" if len(are_ids) != 1 else "ids" if are_ids.pop() else "names"


def of_two_forms(
    error: DataError,
    paths: Sequence[Path],
    config: DataConfig,
    main: FileFormat,
    first: Path,
    names: Sequence[str] = (),
) -> DataError:
    """The error of a file that is read in the format of `first`; it names both forms where they differ.

    names   the labels of `first`, where they are known
    """
    try:
        own = read_files(paths, config, config.labels)
    except EmotuneError:
        hint = f"{first.name} is a {main.describe()}. {_ONE_FORM}"
        return error if error.hint else DataError(error.message, place=error.place, hint=hint)
    here, there = own.format.describe(), main.describe()
    found = {name for row in own.all_rows() for name in row.names}
    kinds = [_kind(own.format, found), _kind(main, names)]
    hint = f"{error.hint or ''} {_ONE_FORM}".strip()
    if {"names", "ids"} == set(kinds):
        # names for the ids help only a file whose own format counts
        hint = _ONE_FORM if suffix_of(paths[0]) == suffix_of(first) else hint
        message = f"the labels are {kinds[0]} in {paths[0].name} and {kinds[1]} in {first.name}"
    elif here != there:
        message = f"the files differ: {paths[0].name} is a {here}; {first.name} is a {there}"
    else:
        return error
    return DataError(f"{error.message}; {message}", place=error.place, hint=hint)


def has_labels(paths: Sequence[Path], config: DataConfig, file_format: FileFormat) -> bool:
    """Whether files of a format have labels, by the first row that shows it. True for files that cannot be read."""
    try:
        for path in paths:
            next(iter(READERS[file_format.reader].read(read_content(path, config.encoding), file_format)), None)
    except NoLabelsError:
        return False
    except EmotuneError:
        return True
    return True


def require_no_other_labels(paths: Sequence[Path], config: DataConfig, others: Path) -> None:
    """Raise DataError for files with labels in columns that the other files, of which `others` is one, do not have."""
    free = config.model_copy(update={"label_column": None, "label_columns": None})
    try:
        found = detect(read_content(paths[0], config.encoding), ReadOptions(free))
    except EmotuneError:
        return
    columns = [c for c in found.label_columns if c.casefold() in KNOWN_NAMES]
    if found.label_column is not None:
        columns = [] if _has_column(others, found.label_column, free) else [found.label_column]
    if not columns or not has_labels(paths, free, found):
        return
    listed = ", ".join(map(repr, columns))
    message = f"labels are in {listed} here, which {others.name} does not have"
    hint = "Give the labels the same columns in both files; rename a column that has no labels."
    raise DataError(message, place=Place(paths[0], 1), hint=hint)


def _has_column(path: Path, column: str, config: DataConfig) -> bool:
    """Whether a file has a column of this name."""
    named = config.model_copy(update={"label_column": column})
    try:
        return detect(read_content(path, config.encoding), ReadOptions(named)).label_column is not None
    except EmotuneError:
        return False


def _merged(reading: Reading, config: DataConfig) -> Reading:
    """The rows of raters, merged to one row for each text; unchanged when no text has two raters."""
    votes, file_format = reading.rows, reading.format
    one_each = config.task == "multi_class" or (config.task == "auto" and not file_format.several)
    found = raters.merged(votes, soft=file_format.soft, one_each=one_each)
    if found is None:
        return replace(reading, format=replace(file_format, raters=None, unclear=None, soft=False))
    rows = {path: [row for row in there if row.names or row.shares] for path, there in found.items()}
    if not any(rows.values()):
        why = "no rater could judge any text" if file_format.soft else "no text has a label that two raters chose"
        hint = "Shares of raters as soft targets: --set data.raters=soft"
        raise DataError(why, place=Place(next(iter(votes))), hint=hint)
    left_out = {path: [row for row in there if not row.names and not row.shares] for path, there in found.items()}
    return replace(reading, rows=rows, left_out=left_out)
