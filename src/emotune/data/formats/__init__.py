"""The readers of label files, one for each format, and the functions that choose and call them.

To add a format: a `Reader` in a module of this folder, its line in `READERS`, its name in `DataConfig.format`, a test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emotune.config.schema import DataConfig
from emotune.data.formats import jsonl, lines, parquet, raters, table
from emotune.data.formats.base import Content, FileFormat, Reader, ReadOptions, Row, read_content
from emotune.data.formats.label_ids import require_first_id
from emotune.errors import ConfigError, DataError, Place

# The first reader that recognises a file reads it. The most specific formats come first.
_SPECIFIC = (parquet.READER, jsonl.READER, lines.FASTTEXT, lines.GOEMOTIONS_TSV)
_IN_ORDER = (*_SPECIFIC, table.READER, lines.TEXT_LABEL, table.HEADERLESS)
READERS: dict[str, Reader] = {reader.name: reader for reader in _IN_ORDER}
_EXAMPLES = 3


@dataclass(frozen=True)
class Reading:
    """The rows of files of one format: those that are used, and those that are left out, by file."""

    format: FileFormat
    rows: dict[Path, list[Row]]
    left_out: dict[Path, list[Row]]

    def all_rows(self) -> list[Row]:
        """The used rows of all files."""
        return [row for rows in self.rows.values() for row in rows]

    def without_unlabelled(self) -> "Reading":
        """The reading without the rows that have no label."""
        rows: dict[Path, list[Row]] = {}
        left_out = {path: list(self.left_out.get(path, ())) for path in self.rows}
        for path, there in self.rows.items():
            rows[path] = [row for row in there if row.names or row.shares]
            left_out[path] += [row for row in there if not row.names and not row.shares]
        if not any(rows.values()):
            hint = "Keep them: --set data.unlabelled=keep"
            raise DataError("no row has a label", place=Place(next(iter(rows))), hint=hint)
        return Reading(self.format, rows, left_out)

    def notes(self) -> list[str]:
        """What the user should know about merged and left-out rows; empty when there are none."""
        if self.format.raters is None:
            number = sum(map(len, self.left_out.values()))
            return [f"left out without a label: {number:,} ({self._places_left_out(number)})"] if number else []
        used, out = self.all_rows(), [row for rows in self.left_out.values() for row in rows]
        texts = len(used) + len(out)
        note = f"{sum(row.merged for row in (*used, *out)):,} rows of raters are {texts:,} texts"
        if not out:
            return [note]
        shown = self._places_left_out(len(out))
        why = "that no rater could judge" if self.format.soft else "without a label that two raters chose"
        if not self.format.several and not self.format.soft:
            why += ", more than any other label,"
        remedy = " (data.raters=soft keeps them)" if not self.format.soft and len(out) > texts / 2 else ""
        return [f"{note}; {len(out):,} of them {why} are left out ({shown}){remedy}"]

    def _places_left_out(self, number: int) -> str:
        places = [f"{path.name}:{row.line}" for path, rows in self.left_out.items() for row in rows[:_EXAMPLES]]
        return ", ".join(places[:_EXAMPLES]) + (", …" if number > _EXAMPLES else "")


def detect(content: Content, options: ReadOptions) -> FileFormat:
    """The format of a file, as configured or else detected; raises DataError when no format fits."""
    _ = options.delimiter  # raises ConfigError for an invalid one
    for reader in READERS.values() if options.format is None else [READERS[options.format]]:
        found = reader.recognise(content, options)
        if found is not None:
            return found
    _ = content.sample  # raises DataError for a file that is not text
    grid, delimiter = table.best_grid(content, options.delimiter)
    if len(grid.columns) > 1:
        return table.format_of(content, grid, delimiter, options)  # raises DataError for the missing column
    hint = f"Known formats: {', '.join(READERS)}. Name one: --set data.format=…"
    raise DataError("cannot tell the format of this file", place=Place(content.path, 1), hint=hint)


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
        formats = [detect(read_content(path), options) for path in paths]
        file_format = next((found for found in formats if found.several), formats[0])
    rows: dict[Path, list[Row]] = {}
    for path in paths:
        content = read_content(path)
        file_format = file_format or detect(content, options)
        rows[path] = list(READERS[file_format.reader].read(content, file_format))
    assert file_format is not None, "there is at least one file"
    if config.values != "auto" and not file_format.label_columns:
        message = f"data.values={config.values} is for columns with one label each; here a column has the labels"
        raise ConfigError(message, hint="Name the columns: --set data.label_columns=[A,B,…]; or leave data.values out.")
    if detected:
        published = file_format.reader == lines.GOEMOTIONS_TSV.name
        require_first_id(rows, file_format.id_names, options, published=published)
    reading = Reading(file_format, rows, {}) if file_format.raters is None else _merged(rows, file_format, config)
    return reading.without_unlabelled() if config.unlabelled == "drop" else reading


def _merged(votes: Mapping[Path, list[Row]], file_format: FileFormat, config: DataConfig) -> Reading:
    """The rows of raters, merged to one row for each text; unchanged when no text has two raters."""
    one_each = config.task == "multi_class" or (config.task == "auto" and not file_format.several)
    found = raters.merged(votes, soft=file_format.soft, one_each=one_each)
    if found is None:
        return Reading(replace(file_format, raters=None, unclear=None, soft=False), dict(votes), {})
    rows = {path: [row for row in there if row.names or row.shares] for path, there in found.items()}
    if not any(rows.values()):
        why = "no rater could judge any text" if file_format.soft else "no text has a label that two raters chose"
        hint = "Shares of raters as soft targets: --set data.raters=soft"
        raise DataError(why, place=Place(next(iter(votes))), hint=hint)
    left_out = {path: [row for row in there if not row.names and not row.shares] for path, there in found.items()}
    return Reading(file_format, rows, left_out)
